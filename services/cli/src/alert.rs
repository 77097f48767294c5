//! The verbs about alerts: judged and converted offline, published, watched and answered through a node.

use std::path::Path;
use std::str::FromStr;

use campanile_alert::{AlertId, DepartmentId, ExerciseId, Severity, Status, Timestamp};
use campanile_client::{AlertRecord, Client, Decision, Filter, Position, Published, Query, WantedAlert, wanted};

use crate::connect::Connect;
use crate::failure::{Answer, Next as _, Verdict, failure};
use crate::out::Out;

mod check;
mod convert;
mod publish;
mod watch;

/// The most pages that `alert list` asks for.
const PAGES_MAX: usize = 1_000;

/// The verbs about alerts.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Judge files message by message: valid CAP, and with --bus what the bus would say
    Check(check::Args),
    /// Convert a message between CAP XML and JSON
    Convert(convert::Args),
    /// Publish a message, or each message of a feed in order of `sent`
    Publish(publish::Args),
    /// Print alerts as they come
    Watch(watch::Args),
    /// Show an alert with its causes, effects and hand-overs
    Get(Named),
    /// List the alerts in force
    List(List),
    /// Acknowledge an alert
    Ack(Ack),
    /// List what waits for persons
    Pending(Asked),
    /// Approve or reject what a rule proposes
    Approve(Approve),
    /// Cancel an alert of the own department
    Cancel(Cancel),
}

/// An alert by name.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// `sender,identifier,sent`, or the identifier alone
    #[arg(value_parser = wanted_id)]
    id: Wanted,
    #[command(flatten)]
    connect: Connect,
}

/// Only a node.
#[derive(Debug, clap::Args)]
pub struct Asked {
    #[command(flatten)]
    connect: Connect,
}

/// What `alert list` takes.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Those that have ended too
    #[arg(long)]
    ended: bool,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    connect: Connect,
}

/// What `alert ack` takes.
#[derive(Debug, clap::Args)]
pub struct Ack {
    #[command(flatten)]
    named: Named,
    /// A note to go with it
    #[arg(long, default_value = "")]
    note: String,
}

/// What `alert approve` takes.
#[derive(Debug, clap::Args)]
pub struct Approve {
    /// The proposal's id, from `alert pending`
    pending: String,
    /// The hash of what was shown, from `alert pending`: the decision counts only while that stands
    #[arg(long, value_name = "HASH")]
    shown: String,
    /// Reject it instead
    #[arg(long)]
    reject: bool,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

/// What `alert cancel` takes.
#[derive(Debug, clap::Args)]
pub struct Cancel {
    #[command(flatten)]
    named: Named,
    /// Why; it goes into the note
    #[arg(long)]
    reason: String,
}

/// Which alerts; what is not given matches all.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which alerts")]
pub struct FilterArgs {
    /// Published by this department; may be repeated
    #[arg(long, value_name = "DEPARTMENT", value_parser = department)]
    from: Vec<DepartmentId>,
    /// Of this event of the vocabulary; may be repeated
    #[arg(long, value_name = "EVENT")]
    event: Vec<String>,
    /// With this CAP status, for example Actual; may be repeated
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Vec<Status>,
    /// With this CAP severity, for example Severe; may be repeated
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    severity: Vec<Severity>,
    /// Of this exercise
    #[arg(long, value_name = "ID", value_parser = exercise)]
    exercise: Option<ExerciseId>,
}

impl FilterArgs {
    fn filter(&self) -> Filter {
        Filter {
            departments: self.from.clone(),
            events: self.event.clone(),
            statuses: self.status.clone(),
            severities: self.severity.clone(),
            exercise: self.exercise.clone(),
        }
    }
}

/// An alert as a person names it.
#[derive(Debug, Clone)]
pub struct Wanted(pub WantedAlert);

/// Reads `sender,identifier,sent`, or the identifier alone.
///
/// # Errors
/// A sentence when it is neither.
pub fn wanted_id(text: &str) -> Result<Wanted, String> {
    if text.contains(',') {
        return AlertId::from_str(text).map(|id| Wanted(wanted(&id))).map_err(|error| error.to_string());
    }
    let bad = |c: char| c.is_whitespace() || matches!(c, '<' | '&');
    if text.is_empty() || text.len() > 1_000 || text.contains(bad) {
        return Err("it is no identifier; write sender,identifier,sent or the identifier alone".into());
    }
    Ok(Wanted(WantedAlert { sender: None, identifier: text.into(), sent: None }))
}

/// Reads a department's id.
///
/// # Errors
/// A sentence when it breaks the rule of names.
pub fn department(text: &str) -> Result<DepartmentId, String> {
    DepartmentId::try_new(text).map_err(|error| error.to_string())
}

/// Reads an exercise's id.
///
/// # Errors
/// A sentence when it breaks the rule of names.
pub fn exercise(text: &str) -> Result<ExerciseId, String> {
    ExerciseId::try_new(text).map_err(|error| error.to_string())
}

fn status(text: &str) -> Result<Status, String> {
    Status::from_cap(text).ok_or_else(|| "write Actual, Exercise, System, Test or Draft".into())
}

fn severity(text: &str) -> Result<Severity, String> {
    Severity::from_cap(text).ok_or_else(|| "write Extreme, Severe, Moderate, Minor or Unknown".into())
}

/// Does what the verb says.
///
/// # Errors
/// When it cannot be done, or the node refuses.
pub async fn run(verb: Verb, out: Out) -> Answer {
    match verb {
        Verb::Check(args) => return check::run(&args, out),
        Verb::Convert(args) => return convert::run(&args, out),
        Verb::Publish(args) => return publish::run(&args, out).await,
        Verb::Watch(args) => return watch::run(&args, out).await,
        Verb::Get(args) => {
            let detail = args.connect.client().await?.get(&args.id.0).await?;
            out.show(&detail, |detail| {
                let mut lines = vec![alert_line(&detail.alert)];
                lines.extend(alert_text(&detail.alert));
                lines.extend(
                    detail.alert.causes.iter().map(|cause| format!("  cause   {} of {}", cause.id, cause.origin)),
                );
                lines.extend(detail.effects.iter().map(|effect| format!("  effect  {}", alert_line(effect))));
                lines.extend(detail.deliveries.iter().map(|delivery| format!("  {}", delivery_line(delivery))));
                lines
            })?;
        }
        Verb::List(args) => list(&args, out).await?,
        Verb::Ack(args) => {
            let client = args.named.connect.client().await?;
            published(&client.acknowledge(&args.named.id.0, &args.note).await?, "acknowledged by", out)?;
        }
        Verb::Pending(args) => pending(&args.connect.client().await?, out).await?,
        Verb::Approve(args) => approve(&args, out).await?,
        Verb::Cancel(args) => {
            let client = args.named.connect.client().await?;
            published(&client.cancel(&args.named.id.0, &args.reason).await?, "cancelled by", out)?;
        }
    }
    Ok(Verdict::Passed)
}

async fn list(args: &List, out: Out) -> anyhow::Result<()> {
    let client = args.connect.client().await?;
    let mut query = Query { filter: args.filter.filter(), ended: args.ended, page_size: 0, page_token: String::new() };
    let mut alerts = Vec::new();
    for _ in 0..PAGES_MAX {
        let left = args.limit.saturating_sub(alerts.len());
        if left == 0 {
            break;
        }
        query.page_size = u32::try_from(left.min(1_000)).unwrap_or(1_000);
        let page = client.list(&query).await?;
        alerts.extend(page.alerts);
        match page.next {
            Some(token) => query.page_token = token,
            None => break,
        }
    }
    alerts.truncate(args.limit);
    out.show(&alerts, |alerts| alerts.iter().map(alert_line).collect())
}

async fn pending(client: &Client, out: Out) -> anyhow::Result<()> {
    let pending = client.rules().await?.pending;
    out.show(&pending, |pending| {
        let lines = |p: &campanile_client::admin::Pending| {
            let mut lines = vec![
                format!("{}  {} proposes {} in {}", p.id, p.rule, p.effect, p.world),
                format!("  why      {}", p.why_en),
                format!("  text     {}", p.text_en),
                format!("  targets  {}", p.target_names.join(", ")),
                format!("  needs    {} of {}; agreed: {}", p.need, p.by.join(", "), p.approved_by.len()),
            ];
            lines.extend(p.deadline.map(|deadline| format!("  until    {deadline}")));
            lines.push(format!("  campanile alert approve {} --shown {}", p.id, p.shown_hash));
            lines
        };
        pending.iter().flat_map(lines).collect()
    })?;
    if pending.is_empty() {
        out.note("nothing waits for persons");
    }
    Ok(())
}

async fn approve(args: &Approve, out: Out) -> anyhow::Result<()> {
    let shown_hash = hex::decode(args.shown.trim())
        .ok()
        .filter(|hash| hash.len() == 32)
        .ok_or_else(|| failure("--shown is not a hash", "copy its 64 digits from `campanile alert pending`"))?;
    let decision =
        Decision { pending_id: args.pending.clone(), shown_hash, approve: !args.reject, reason: args.reason.clone() };
    let decided = args.connect.client().await?.approve(&decision).await?;
    out.show(&decided, |decided| {
        let word = if args.reject { "rejected" } else { "approved" };
        vec![format!("{word} at {}; {} of {} persons have agreed", decided.position, decided.approved, decided.need)]
    })
}

/// Prints where a message stands now.
fn published(published: &Published, word: &str, out: Out) -> anyhow::Result<()> {
    let again = if published.duplicate { ", as before" } else { "" };
    out.show(published, |p| vec![format!("{word} {} at {}{again}", p.id, p.position)])
}

/// An alert in one line: when, who, what, how it stands, its name.
pub fn alert_line(record: &AlertRecord) -> String {
    let alert = &record.alert;
    let event = record.classification.event.as_deref().unwrap_or("unclassified");
    let severity = alert.infos.first().map(|info| info.severity.to_string()).unwrap_or_default();
    let mut line = format!(
        "{}  {:<6} {:<8} {:<8} {event:<18} {severity:<8} {:<10} {}",
        short(record.time),
        record.department,
        alert.msg_type.to_string(),
        alert.status.to_string(),
        state(record),
        alert.id(),
    );
    if let Some(reason) = &record.not_counted {
        line += &format!("  NOT COUNTED: {reason}");
    }
    line
}

/// Its state as one word.
pub fn state(record: &AlertRecord) -> &'static str {
    use campanile_client::AlertState::{AllClear, Cancelled, Expired, InForce, Superseded, Unknown};
    match record.state {
        InForce => "in-force",
        Superseded => "superseded",
        Cancelled => "cancelled",
        Expired => "expired",
        AllClear => "all-clear",
        Unknown => "-",
    }
}

fn alert_text(record: &AlertRecord) -> Vec<String> {
    let info = |info: &campanile_alert::Info| {
        let language = info.language.as_deref().unwrap_or("en");
        let headline = info.headline.as_deref().unwrap_or(&info.event);
        format!("  {language:<7} {headline}")
    };
    let mut lines: Vec<String> = record.alert.infos.iter().map(info).collect();
    lines.push(format!("  at      {}", at(&record.position)));
    lines.extend(record.rule.iter().map(|rule| format!("  rule    {} of {}", rule.id, rule.pack)));
    lines.extend(record.exercise.iter().map(|id| format!("  drill   {id}")));
    lines
}

/// What a channel did, in one line.
pub fn delivery_line(delivery: &campanile_client::Delivery) -> String {
    let counts = |list: &[(String, u64)]| list.iter().map(|(word, n)| format!("{n} {word}")).collect::<Vec<_>>();
    let mut parts = counts(&delivery.stages);
    parts.extend(counts(&delivery.failures).into_iter().map(|part| format!("failed: {part}")));
    let time = delivery.time.map(|time| format!(" {}", short(time))).unwrap_or_default();
    format!("hand-over{time} {}: {}", delivery.channel, parts.join(", "))
}

fn at(position: &Position) -> String {
    format!("{position} {}", position.hash.chars().take(12).collect::<String>())
}

/// An instant to the millisecond, in UTC.
pub fn short(time: Timestamp) -> String {
    jiff::tz::Offset::UTC.to_datetime(time).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Reads an instant given on the command line.
///
/// # Errors
/// When it is no instant.
pub fn instant(text: &str) -> anyhow::Result<Timestamp> {
    text.parse::<Timestamp>()
        .map_err(|_| anyhow::anyhow!("{:?} is not an instant", text.chars().take(60).collect::<String>()))
        .next("write it as 2026-01-31T08:00:00Z or with an offset such as +08:00")
}

/// What a path of a file is shown as.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_named_whole_or_by_its_identifier() {
        let whole = wanted_id("a@b, X-1 ,2026-01-01T00:00:00+08:00").unwrap().0;
        assert_eq!((whole.sender.as_deref(), whole.identifier.as_str()), (Some("a@b"), "X-1"));
        let bare = wanted_id("X-1").unwrap().0;
        assert_eq!((bare.sender, bare.identifier.as_str()), (None, "X-1"));
        for bad in ["", "a b", "a,b", "a,b,c,d", "<x>"] {
            assert!(wanted_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn instants_are_shown_to_the_millisecond() {
        assert_eq!(short(instant("2026-01-01T08:00:00.1239+08:00").unwrap()), "2026-01-01T00:00:00.123Z");
        assert!(instant("yesterday").is_err());
    }
}
