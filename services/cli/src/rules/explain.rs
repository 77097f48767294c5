//! `rules explain`: one sentence for each rule about an alert or an effect, as it was when the record came.

use campanile_client::rules::{Explained, RuleDecision};

use crate::alert::{Wanted, wanted_id};
use crate::connect::Connect;
use crate::failure::{Answer, Verdict};
use crate::out::Out;

/// What `rules explain` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An alert or an effect: `sender,identifier,sent`, or the identifier alone
    #[arg(value_parser = wanted_id)]
    id: Wanted,
    /// Only this rule
    #[arg(long, default_value = "")]
    rule: String,
    /// Only the rules that were stopped, each with the first condition that stopped it
    #[arg(long)]
    not: bool,
    #[command(flatten)]
    connect: Connect,
}

/// Explains.
///
/// # Errors
/// When the node cannot be reached or refuses.
pub(super) async fn run(args: Args, out: Out) -> Answer {
    let explained = args.connect.client().await?.explain(&args.id.0, &args.rule, args.not).await?;
    out.show(&explained, lines)?;
    Ok(Verdict::Passed)
}

fn lines(explained: &Explained) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(rule) = &explained.rule {
        lines.push(format!("issued by {} because of {}", rule.id, explained.causes.join(", ")));
    }
    lines.extend(explained.decisions.iter().flat_map(sentences));
    if explained.decisions.is_empty() {
        lines.push("no rule of that kind".into());
    }
    lines
}

/// A decision in both languages.
pub(super) fn sentences(decision: &RuleDecision) -> [String; 2] {
    let RuleDecision { rule, world, verdict, why_en, why_zh_hant } = decision;
    [format!("{rule}  {verdict} ({world}): {why_en}"), format!("  {why_zh_hant}")]
}
