//! The verbs, grouped by who uses them.
//!
//! A verb is one variant of [`Command`], one arm of the match in `lib.rs`, one file, and its name in [`GROUPS`]; a verb
//! that stands in no group is listed under the last heading.

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{alert, bench, doctor, drill, feeds, log, node_run, operate, pki, roster, rules, trace, up};

/// Government alerts between departments: publish, watch, approve, and run the nodes that carry them.
#[derive(Debug, Parser)]
#[command(name = "campanile", version, disable_help_subcommand = true)]
pub struct Cli {
    /// Print JSON to stdout: one document, or one line an item where the verb streams.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more on stderr; twice for still more. `RUST_LOG` decides where it is set.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole federation in this process and play a fire through it
    Up(up::Args),
    /// Check, convert, publish, watch and answer alerts
    #[command(subcommand)]
    Alert(alert::Verb),
    /// Show what led to an alert and what came of it, as a tree
    Trace(trace::Args),
    /// Publish other people's warnings: the Observatory's, or a CAP feed
    #[command(subcommand)]
    Source(feeds::Verb),
    /// Check, list, pause and pre-authorise rules
    #[command(subcommand)]
    Rules(rules::Verb),
    /// Check and play drills, and judge them
    #[command(subcommand)]
    Drill(drill::Verb),
    /// Run a department's node
    #[command(subcommand)]
    Node(NodeVerb),
    /// Run a gateway
    #[command(subcommand)]
    Gateway(GatewayVerb),
    /// Say what is wrong with a node or its surroundings, and what to do
    Doctor(doctor::Args),
    /// Show how a node is
    Status(operate::Args),
    /// Show the other nodes as a node sees them
    Peers(operate::Args),
    /// Show how far each log is behind
    Lag(operate::Args),
    /// Verify and export logs
    #[command(subcommand)]
    Log(log::Verb),
    /// Measure this machine beside a bare floor
    Bench(bench::Args),
    /// A process of the bench's own
    #[command(subcommand, hide = true)]
    BenchPart(bench::Part),
    /// Make keys and certificates
    #[command(subcommand)]
    Pki(pki::Verb),
    /// Make, sign, compare and publish rosters
    #[command(subcommand)]
    Roster(roster::Verb),
}

/// The verbs of a node.
#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// Run it until SIGTERM or Ctrl-C; SIGHUP reloads certificates, keys and roster
    Run(node_run::NodeArgs),
}

/// The verbs of a gateway.
#[derive(Debug, Subcommand)]
pub enum GatewayVerb {
    /// Run it until SIGTERM or Ctrl-C; SIGHUP reloads its certificate
    Run(node_run::GatewayArgs),
}

/// The headings of the help, and the verbs under each.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Everyone", &["up"]),
    ("Department systems and officers", &["alert", "trace", "source"]),
    ("Policy staff", &["rules"]),
    ("Drill controllers", &["drill"]),
    ("Node operators", &["node", "gateway", "doctor", "status", "peers", "lag", "log", "bench"]),
    ("Governance", &["pki", "roster"]),
];

/// The command with its verbs listed under the headings.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let mut left: Vec<(String, String)> = command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .map(|verb| (verb.get_name().to_owned(), verb.get_about().map(ToString::to_string).unwrap_or_default()))
        .collect();
    let mut list = String::new();
    let mut group = |heading: &str, verbs: Vec<(String, String)>| {
        if !verbs.is_empty() {
            list += &format!("{heading}:\n");
            verbs.iter().for_each(|(name, about)| list += &format!("  {name:<9} {about}\n"));
            list.push('\n');
        }
    };
    for (heading, names) in GROUPS {
        let (here, others) = left.into_iter().partition(|(name, _)| names.contains(&name.as_str()));
        left = others;
        group(heading, here);
    }
    group("Others", left);
    command.help_template(format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{list}Options:\n{{options}}\n\n\
         Data goes to stdout, everything else to stderr. Exit codes: 0 all is well, 1 a check failed or the node\n\
         refused, 2 the verb could not be done. `campanile <verb> --help` says more."
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_stands_in_the_help_once() {
        let help = command().render_help().to_string();
        for verb in command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let about = verb.get_about().unwrap().to_string();
            assert_eq!(help.matches(&about).count(), 1, "{}: {help}", verb.get_name());
        }
        assert!(!help.contains("Others:"), "{help}");
    }
}
