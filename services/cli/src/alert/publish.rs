//! `alert publish`: one message, or each message of a feed in order of `sent`, with its bytes untouched.

use std::path::PathBuf;

use anyhow::Context as _;
use campanile_alert::classify::MappingTable;
use campanile_alert::xml::{self, Limits};
use campanile_alert::{AlertId, DepartmentId, ExerciseId};
use campanile_client::{Client, Publish, Published};
use serde::Serialize;

use super::convert::{broken, from_json, is_json};
use crate::connect::Connect;
use crate::failure::{Answer, Next as _, Verdict, failure, refused_by_node, sentence};
use crate::files;
use crate::out::Out;

/// What `alert publish` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A CAP message or feed in XML, or a message in JSON; `-` is stdin
    file: PathBuf,
    /// The exercise: required when the status is Exercise
    #[arg(long, value_name = "ID", value_parser = super::exercise)]
    exercise: Option<ExerciseId>,
    /// The source whose mapping table at the node classifies a foreign message, or the table's own file
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// A department that may read it when its scope is Restricted or Private; may be repeated
    #[arg(long, value_name = "DEPARTMENT", value_parser = super::department)]
    audience: Vec<DepartmentId>,
    #[command(flatten)]
    connect: Connect,
}

/// What became of one message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    id: AlertId,
    #[serde(flatten)]
    published: Option<Published>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// Publishes, and says where each message stands.
///
/// # Errors
/// When the file holds no message, the node cannot be reached, or it refuses the only message.
pub(super) async fn run(args: &Args, out: Out) -> Answer {
    let messages = messages(args)?;
    let client = args.connect.client().await?;
    if let [(_, what)] = messages.as_slice() {
        super::published(&client.publish(what).await?, "published", out)?;
        return Ok(Verdict::Passed);
    }
    let mut all = true;
    for (id, what) in messages {
        all &= one(&client, id, &what, out).await?;
    }
    Ok(Verdict::of(all))
}

/// Publishes one of several: a refusal of one does not keep back the others.
async fn one(client: &Client, id: AlertId, what: &Publish, out: Out) -> anyhow::Result<bool> {
    let outcome = match client.publish(what).await.map_err(anyhow::Error::from) {
        Ok(published) => Outcome { id, published: Some(published), refused: None },
        Err(error) if refused_by_node(&error) => {
            Outcome { id, published: None, refused: Some(sentence(&error, "mend it and publish it again")) }
        }
        Err(error) => return Err(error),
    };
    match (&outcome.published, &outcome.refused) {
        _ if out.is_json() => out.item(&outcome)?,
        (Some(published), _) => super::published(published, "published", out)?,
        (None, refused) => out.note(format!("refused {}: {}", outcome.id, refused.as_deref().unwrap_or_default())),
    }
    Ok(outcome.published.is_some())
}

fn messages(args: &Args) -> anyhow::Result<Vec<(AlertId, Publish)>> {
    let bytes = files::read(&args.file)?;
    let refused = || format!("{} was refused", args.file.display());
    if is_json(&bytes) {
        let alert = from_json(&bytes).with_context(refused)?;
        return Ok(vec![(alert.id(), dressed(Publish::alert(&alert), args)?)]);
    }
    let document = xml::read(&bytes, &Limits::default())
        .with_context(refused)
        .next("give a CAP message or feed in XML, or a message in JSON")?;
    let mut messages = Vec::new();
    for (at, message) in document.messages.into_iter().enumerate() {
        let alert = message.result.map_err(|faults| broken(at + 1, &faults)).with_context(refused)?;
        if !message.stands_alone {
            let what = format!("message {} cannot be cut out of its feed with its bytes untouched", at + 1);
            return Err(failure(
                what,
                "ask its source for the message alone, or convert it with `campanile alert convert`",
            ));
        }
        messages.push((alert.sent.instant(), alert.id(), message.original));
    }
    messages.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    if messages.is_empty() {
        return Err(failure(
            format!("{} holds no CAP message", args.file.display()),
            "follow the links of the index to its messages",
        ));
    }
    messages.into_iter().map(|(_, id, bytes)| Ok((id, dressed(Publish::cap_xml(bytes), args)?))).collect()
}

/// Adds what the arguments say.
fn dressed(mut publish: Publish, args: &Args) -> anyhow::Result<Publish> {
    if let Some(exercise) = &args.exercise {
        publish = publish.exercise(exercise);
    }
    if let Some(source) = &args.source {
        publish = publish.source(source_name(source)?);
    }
    Ok(publish.audience(&args.audience))
}

/// The name of the source: as given, or as the mapping table in the given file says.
fn source_name(text: &str) -> anyhow::Result<String> {
    if !text.ends_with(".yaml") {
        return Ok(text.into());
    }
    let table = MappingTable::parse(&files::read_text(text.as_ref())?);
    Ok(table.next("mend the mapping table, or give the name of the source alone")?.source().to_owned())
}
