//! `rules rollback`: the pack before it in force again, at once and without the directory.

use crate::connect::Connect;
use crate::failure::{Answer, Verdict};
use crate::out::Out;

/// What `rules rollback` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pack's name
    pack: String,
    /// Why
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

/// Takes a pack back.
///
/// # Errors
/// When the node cannot be reached or refuses.
pub(super) async fn run(args: Args, out: Out) -> Answer {
    let back = args.connect.client().await?.roll_back(&args.pack, &args.reason).await?;
    out.show(&back, |back| {
        vec![match &back.digest {
            Some(digest) => {
                format!("{} {} is in force again; manifest {}", args.pack, super::activate::short(digest), back.serial)
            }
            None => format!("no {} is in force any more; manifest {}", args.pack, back.serial),
        }]
    })?;
    Ok(Verdict::Passed)
}
