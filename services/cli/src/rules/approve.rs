//! `rules approve`: another person's yes to a pack that waits.

use crate::connect::Connect;
use crate::failure::{Answer, failure};
use crate::out::Out;

/// What `rules approve` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The id of the pack that waits, as `rules packs` shows it
    id: String,
    #[command(flatten)]
    connect: Connect,
}

/// Agrees to the pack that waits.
///
/// # Errors
/// When the id is none, or the node cannot be reached or refuses.
pub(super) async fn run(args: Args, out: Out) -> Answer {
    let is_hex = args.id.bytes().all(|b| b.is_ascii_hexdigit());
    match (args.id.len(), is_hex) {
        (64, true) => {}
        // What a rule proposes has an id of 32 digits.
        (32, true) => {
            let what = "this is the id of what a rule proposes, not of a pack";
            return Err(failure(what, "use `campanile alert approve`"));
        }
        _ => return Err(failure("this is no id of a pack that waits", "copy it from `campanile rules packs`")),
    }
    let activated = args.connect.client().await?.approve_pack(&args.id).await?;
    super::activate::show(&activated, out)
}
