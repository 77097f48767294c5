//! `rules list`, `pause`, `resume` and `envelope`: what a person asks of, and tells, a node about its rules.

use campanile_client::Position;
use campanile_client::admin::{Envelope, Pause, Rules};

use crate::alert::instant;
use crate::connect::Connect;
use crate::failure::{Answer, Verdict};
use crate::out::Out;

/// What `rules list` takes.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    connect: Connect,
}

/// What `rules pause` takes.
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    /// The rule's id
    rule: String,
    /// Why
    #[arg(long)]
    reason: String,
    /// Until when; absent means until `rules resume`
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

/// What `rules resume` takes.
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// The rule's id
    rule: String,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

/// What `rules envelope` takes.
#[derive(Debug, clap::Args)]
pub struct EnvelopeArgs {
    /// The rule's id
    rule: String,
    /// Until when it holds
    #[arg(long, value_name = "TIME")]
    until: String,
    /// From when it holds; absent means from now
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

/// Shows the active rules, what waits for persons, and what lives.
///
/// # Errors
/// When the node cannot be reached or refuses.
pub(super) async fn list(args: ListArgs, out: Out) -> Answer {
    let rules = args.connect.client().await?.rules().await?;
    out.show(&rules, lines)?;
    Ok(Verdict::Passed)
}

/// Stops a rule before its next evaluation.
///
/// # Errors
/// When the node cannot be reached or refuses.
pub(super) async fn pause(args: PauseArgs, out: Out) -> Answer {
    let until = args.until.as_deref().map(instant).transpose()?;
    let pause = Pause { rule: args.rule, paused: true, reason: args.reason, until };
    let position = args.connect.client().await?.pause(&pause).await?;
    done(&position, "paused", &pause.rule, out)
}

/// Lets a paused rule run again.
///
/// # Errors
/// When the node cannot be reached or refuses.
pub(super) async fn resume(args: ResumeArgs, out: Out) -> Answer {
    let pause = Pause { rule: args.rule, paused: false, reason: args.reason, until: None };
    let position = args.connect.client().await?.pause(&pause).await?;
    done(&position, "resumed", &pause.rule, out)
}

/// Signs a rule's pre-authorisation as the caller.
///
/// # Errors
/// When the node cannot be reached or refuses.
pub(super) async fn envelope(args: EnvelopeArgs, out: Out) -> Answer {
    let valid_from = args.from.as_deref().map(instant).transpose()?;
    let envelope = Envelope { rule: args.rule, valid_from, valid_to: instant(&args.until)? };
    let position = args.connect.client().await?.sign_envelope(&envelope).await?;
    done(&position, "pre-authorised", &envelope.rule, out)
}

fn done(position: &Position, word: &str, rule: &str, out: Out) -> Answer {
    out.show(position, |position| vec![format!("{word} {rule} at {position}")])?;
    Ok(Verdict::Passed)
}

fn lines(rules: &Rules) -> Vec<String> {
    let mut lines = Vec::new();
    for state in &rules.rules {
        let (id, pack) = state.rule.as_ref().map_or(("?", "?"), |rule| (rule.id.as_str(), rule.pack.as_str()));
        let paused = if state.paused { format!("PAUSED: {}", state.pause_reason) } else { "runs".into() };
        lines.push(format!("{id}  {} (pack {pack})  {paused}", state.title_en));
        if !state.last_decision_en.is_empty() {
            lines.push(format!("  last: {}", state.last_decision_en));
        }
    }
    for pending in &rules.pending {
        let against = pending.against.as_ref().map_or(String::new(), |event| format!(", against {event} in force"));
        lines.push(format!(
            "pending  {}  {} proposes {} for {}{against}",
            pending.id,
            pending.rule,
            pending.effect,
            pending.target_names.join(", ")
        ));
    }
    for effect in &rules.effects {
        let review = if effect.in_review { ", in review" } else { "" };
        lines.push(format!(
            "lives    {} {} for {} in {}{review}",
            effect.identifier, effect.effect, effect.target, effect.world
        ));
        lines.extend(effect.unheard.iter().map(|unheard| {
            let department = &unheard.department;
            match unheard.since {
                Some(since) => {
                    format!("  stale: {department} not heard since {since}; what it says may not come through")
                }
                None => format!("  stale: {department} not heard since the start; what it says may not come through"),
            }
        }));
    }
    lines
}
