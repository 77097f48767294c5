//! `alert convert`: CAP XML to JSON and back. Nothing is judged but the form; `alert check` judges.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use campanile_alert::xml::{self, Limits};
use campanile_alert::{Alert, Fault};

use crate::failure::{Answer, Next as _, Verdict, failure};
use crate::files;
use crate::out::Out;

/// What `alert convert` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A CAP message or feed in XML, or a message in JSON; `-` is stdin
    file: PathBuf,
    /// To which form
    #[arg(long, value_enum)]
    to: Form,
    /// Only the message at this place in the file, from 1
    #[arg(long, value_name = "N")]
    index: Option<usize>,
}

/// A form of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// CAP XML, in the message's own version of CAP.
    Xml,
    /// JSON.
    Json,
}

/// Converts a message, or to JSON all messages of a feed.
///
/// # Errors
/// When the file cannot be read, or a message in it breaks the form.
pub(super) fn run(args: &Args, out: Out) -> Answer {
    let mut alerts = read_alerts(&args.file)?;
    let found = alerts.len();
    if let Some(index) = args.index {
        let one = index.checked_sub(1).and_then(|at| alerts.into_iter().nth(at));
        let missing = || failure(format!("there is no message {index}"), format!("choose one from 1 to {found}"));
        alerts = vec![one.ok_or_else(missing)?];
    }
    match (args.to, alerts.as_slice()) {
        (_, []) => {
            return Err(failure("the file holds no CAP message", "follow the links of the index to its messages"));
        }
        (Form::Json, [alert]) => out.document(alert)?,
        (Form::Json, alerts) => out.document(&alerts)?,
        (Form::Xml, [alert]) => {
            let mut text = xml::write(alert).into_bytes();
            text.push(b'\n');
            out.bytes(&text)?;
        }
        (Form::Xml, _) => {
            return Err(failure(format!("the file holds {found} messages"), "choose one with --index N"));
        }
    }
    Ok(Verdict::Passed)
}

/// Reads the messages of a file in either form.
///
/// # Errors
/// When the file cannot be read, or a message in it breaks the form.
pub(super) fn read_alerts(path: &Path) -> anyhow::Result<Vec<Alert>> {
    let bytes = files::read(path)?;
    let refused = || format!("{} was refused", path.display());
    if is_json(&bytes) {
        let alert = from_json(&bytes).with_context(refused)?;
        return Ok(vec![alert]);
    }
    let document = xml::read(&bytes, &Limits::default())
        .with_context(refused)
        .next("give a CAP message or feed in XML, or a message in JSON")?;
    let message = |(at, message): (usize, xml::Message)| {
        message.result.map_err(|faults| broken(at + 1, &faults)).with_context(refused)
    };
    document.messages.into_iter().enumerate().map(message).collect()
}

/// Reads one message in JSON.
///
/// # Errors
/// When it is not one.
pub(super) fn from_json(bytes: &[u8]) -> anyhow::Result<Alert> {
    serde_json::from_slice(bytes)
        .context("it is not a message in JSON")
        .next("see what `campanile alert convert --to json` makes of a CAP message")
}

/// Whether bytes begin as JSON does.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|&byte| byte == b'{' || byte == b'[')
}

/// Message `index` breaks the form.
pub(super) fn broken(index: usize, faults: &[Fault]) -> anyhow::Error {
    let first = faults.first().map(ToString::to_string).unwrap_or_default();
    failure(format!("message {index} is not CAP: {first}"), "see `campanile alert check` for all its faults")
}
