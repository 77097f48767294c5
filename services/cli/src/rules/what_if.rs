//! `rules what-if`: what an alert would lead to as things stand at a node; nothing is stored or sent.

use std::path::PathBuf;

use campanile_alert::{DepartmentId, ExerciseId};
use campanile_client::rules::{Outcome, Supposed};

use super::explain::sentences;
use crate::alert::{department, exercise};
use crate::connect::Connect;
use crate::failure::{Answer, Verdict};
use crate::files;
use crate::out::Out;

/// What `rules what-if` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The alert in CAP XML; `-` is stdin
    #[arg(value_name = "FILE")]
    alert: PathBuf,
    /// The department that would publish it; absent means the node's own
    #[arg(long, value_name = "DEPARTMENT", value_parser = department)]
    from: Option<DepartmentId>,
    /// The mapping table of a foreign alert
    #[arg(long, value_name = "NAME", default_value = "")]
    source: String,
    /// The exercise it would belong to
    #[arg(long, value_name = "ID", value_parser = exercise)]
    exercise: Option<ExerciseId>,
    #[command(flatten)]
    connect: Connect,
}

/// Tries an alert out.
///
/// # Errors
/// When the file cannot be read, or the node cannot be reached or refuses the alert.
pub(super) async fn run(args: Args, out: Out) -> Answer {
    let supposed = Supposed {
        cap_xml: files::read(&args.alert)?,
        department: args.from.map(|from| from.to_string()).unwrap_or_default(),
        source: args.source,
        exercise_id: args.exercise.map(|id| id.as_str().to_owned()),
    };
    let outcome = args.connect.client().await?.what_if(&supposed).await?;
    out.show(&outcome, lines)?;
    Ok(Verdict::Passed)
}

fn lines(outcome: &Outcome) -> Vec<String> {
    let mut lines: Vec<String> = outcome.decisions.iter().flat_map(sentences).collect();
    for effect in &outcome.effects {
        lines.push(format!(
            "would issue  {} {} for {}: {}",
            effect.message_type, effect.effect_event, effect.target, effect.text_en
        ));
        lines.push(format!("             {}", effect.text_zh_hant));
    }
    for pending in &outcome.pending {
        let (targets, by) = (pending.target_names.join(", "), pending.by.join(", "));
        lines.push(format!("would ask    {} of {by} for {} at {targets}", pending.need, pending.effect));
        lines.push(format!("             {}", pending.why_en));
        lines.push(format!("             {}", pending.why_zh_hant));
    }
    if outcome.effects.is_empty() && outcome.pending.is_empty() {
        lines.push("nothing would be issued, and nobody would be asked".into());
    }
    lines
}
