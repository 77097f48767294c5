//! `rules shadow`: a pack evaluated beside those in force, which issues nothing.

use std::path::PathBuf;

use serde::Serialize;

use super::activate::{give, read, short};
use crate::connect::Connect;
use crate::failure::{Answer, Verdict};
use crate::out::Out;

/// What `rules shadow` takes.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// The pack in YAML; its data sets lie beside it
    #[arg(value_name = "FILE", required_unless_present = "end")]
    pack: Option<PathBuf>,
    /// Evaluate the pack of this name no longer
    #[arg(long, value_name = "PACK", conflicts_with = "pack")]
    end: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shadowed {
    pack: String,
    digest: Option<String>,
}

/// Begins or ends a shadow.
///
/// # Errors
/// When a file cannot be read, the pack is refused, or the node cannot be reached or refuses.
pub(super) async fn run(args: Args, out: Out) -> Answer {
    let pack = args.pack.as_deref().map(read).transpose()?;
    let client = args.connect.client().await?;
    let shadowed = match (pack, args.end) {
        (Some(pack), _) => {
            let (pack, digest) = client.shadow(&give(&client, pack).await?).await?;
            Shadowed { pack, digest: Some(digest) }
        }
        (None, end) => {
            let pack = end.unwrap_or_default();
            client.end_shadow(&pack).await?;
            Shadowed { pack, digest: None }
        }
    };
    out.show(&shadowed, |shadowed| {
        vec![match &shadowed.digest {
            Some(digest) => format!(
                "{} {} is in shadow: it is evaluated and issues nothing; `campanile rules packs` counts what it would do",
                shadowed.pack,
                short(digest)
            ),
            None => format!("{} is in shadow no longer", shadowed.pack),
        }]
    })?;
    Ok(Verdict::Passed)
}
