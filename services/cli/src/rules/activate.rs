//! `rules activate` and `rules packs`: a pack and the data sets beside it, given to a node; what is in force there.
//!
//! The first officer's yes waits for another person's, who gives the same files or names the id with `rules approve`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use campanile_client::Client;
use campanile_client::rules::{Activated, PackFiles, Packs};
use campanile_rules::Pack;

use crate::connect::Connect;
use crate::failure::{Answer, Next as _, Verdict, failure};
use crate::files;
use crate::out::Out;

/// What `rules activate` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pack in YAML; its data sets lie beside it
    #[arg(value_name = "FILE")]
    pack: PathBuf,
    /// Do not keep the pack before it for a rollback
    #[arg(long)]
    no_way_back: bool,
    #[command(flatten)]
    connect: Connect,
}

/// What `rules packs` takes.
#[derive(Debug, clap::Args)]
pub struct PacksArgs {
    #[command(flatten)]
    connect: Connect,
}

/// Agrees that a pack be activated.
///
/// # Errors
/// When a file cannot be read, the pack is refused, or the node cannot be reached or refuses.
pub(super) async fn run(args: Args, out: Out) -> Answer {
    let read = read(&args.pack)?;
    let client = args.connect.client().await?;
    let files = give(&client, read).await?;
    let activated = client.activate(&files, args.no_way_back).await?;
    show(&activated, out)
}

/// Says how far an activation has come.
///
/// # Errors
/// When stdout is closed.
pub(super) fn show(activated: &Activated, out: Out) -> Answer {
    out.show(activated, |activated| {
        let mut lines: Vec<String> = activated.warnings.iter().map(|found| format!("warning: {found}")).collect();
        let persons = activated.persons.join(" and ");
        lines.push(match activated.serial {
            Some(serial) => {
                format!("{} {} is in force by {persons}; manifest {serial}", activated.pack, short(&activated.digest))
            }
            None => format!(
                "{} {} waits for another person; {persons} agreed, {} must: campanile rules approve {}",
                activated.pack,
                short(&activated.digest),
                activated.need,
                activated.id
            ),
        });
        lines
    })?;
    Ok(Verdict::Passed)
}

/// Shows the packs in force, in shadow and waiting.
///
/// # Errors
/// When the node cannot be reached or refuses.
pub(super) async fn packs(args: PacksArgs, out: Out) -> Answer {
    let packs = args.connect.client().await?.packs().await?;
    out.show(&packs, lines)?;
    Ok(Verdict::Passed)
}

fn lines(packs: &Packs) -> Vec<String> {
    let mut lines = Vec::new();
    for pack in &packs.packs {
        let by = match pack.persons.as_slice() {
            [] => "the configuration".into(),
            persons => persons.join(" and "),
        };
        let since = pack.since.map(|since| since.to_string()).unwrap_or_default();
        let back = match &pack.fallback_digest {
            Some(digest) => format!("a rollback brings back {}", short(digest)),
            None => "a rollback would leave none".into(),
        };
        lines.push(format!("in force  {} {} by {by} since {since}; {back}", pack.pack, short(&pack.digest)));
        lines.extend(pack.data_sets.iter().map(|(name, digest)| format!("          reads {name} {}", short(digest))));
    }
    for shadow in &packs.shadows {
        let (pack, digest) = (&shadow.pack, short(&shadow.digest));
        lines.push(format!(
            "shadow    {pack} {digest} by {}: would have issued {} and asked {} times",
            shadow.person, shadow.issued, shadow.asked
        ));
    }
    for waiting in &packs.waiting {
        let until = waiting.deadline.map(|deadline| deadline.to_string()).unwrap_or_default();
        let (pack, digest) = (&waiting.pack, short(&waiting.digest));
        lines.push(format!("waits     {pack} {digest} agreed by {}, until {until}", waiting.person));
        lines.push(format!("          campanile rules approve {}", waiting.id));
    }
    lines.extend(packs.directory_problem.iter().map(|problem| format!("directory {problem}")));
    lines.extend(packs.configuration_problems.iter().map(|problem| format!("problem   {problem}")));
    lines
}

/// The first digits of a digest: enough to tell two versions apart by eye.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// A pack and its data sets, as they lie on the disk.
pub(super) struct OnDisk {
    text: String,
    data: Vec<(String, Vec<u8>)>,
}

/// Reads a pack and the data sets beside it.
///
/// # Errors
/// When a file cannot be read or the pack is refused.
pub(super) fn read(path: &Path) -> anyhow::Result<OnDisk> {
    let text = files::read_text(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let table = |name: String| Ok((name.clone(), files::read(&folder.join(name))?));
    let tables = Pack::files_of(&text).into_iter().map(table).collect::<anyhow::Result<campanile_rules::Files>>()?;
    let (pack, _) = Pack::parse_with(&text, &tables)
        .map_err(anyhow::Error::from)
        .with_context(|| path.display().to_string())
        .next("see every finding with `campanile rules check`")?;
    let data = pack.data.iter().map(|(name, set)| Ok((name.clone(), files::read(&folder.join(&set.file))?)));
    let mut data = data.collect::<anyhow::Result<Vec<_>>>()?;
    data.extend(tables);
    Ok(OnDisk { text, data })
}

/// Gives the data sets to a node, so that the pack can name them.
///
/// # Errors
/// When the node refuses one, or says another digest.
pub(super) async fn give(client: &Client, pack: OnDisk) -> anyhow::Result<PackFiles> {
    let mut data = Vec::new();
    for (name, bytes) in pack.data {
        let own = campanile_log::Hash::of(&bytes);
        let digest = client.put_data_set(bytes).await.with_context(|| format!("file {name}"))?;
        if digest != own.0 {
            let what = format!("the node says that file {name} is {}", campanile_log::Hash(digest));
            return Err(failure(what, "try again; something on the way has changed it"));
        }
        data.push((name, digest));
    }
    Ok(PackFiles { text: pack.text, data })
}
