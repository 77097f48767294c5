//! `roster`: what governance does. A draft is an envelope with too few signatures; `sign` adds one at a time, on as many
//! machines as there are keys, and `publish` hands the finished one to the directory.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use campanile_alert::{Clock as _, DepartmentId, OriginId};
use campanile_discovery::directory::EtcdConfig;
use campanile_discovery::envelope::Envelope;
use campanile_discovery::pki::{KeyRequest, Request, load_signing_key};
use campanile_discovery::roster::{
    Department, Draft, KeyEnd, Lane, ROSTER_BYTES_MAX, ROSTER_TYPE, Revoked, Right, RootKeys, Roster, diff,
};
use campanile_discovery::{DirectoryConfig, MemoryHub, SignedRoster, SystemClock};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::connect::read_root;
use crate::failure::{Answer, Next as _, Verdict, failure};
use crate::files;
use crate::out::Out;

/// The verbs about rosters.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Put a department's request into a draft of the next roster
    Add(Add),
    /// Give a department other rights in a draft of the next roster
    Rights(RightsArgs),
    /// Revoke a certificate in a draft of the next roster
    Revoke(Revoke),
    /// Add a CA to a department, or take one away, in a draft of the next roster
    Ca(CaArgs),
    /// Add a signing key to a node, or end one, in a draft of the next roster
    Key(KeyArgs),
    /// Add governance signatures to a draft
    Sign(Sign),
    /// Say in sentences what changed between two rosters or drafts
    Diff(Diff),
    /// Show a roster or a draft
    Show(Show),
    /// Verify a roster by the root keys, or by the roster before it
    Verify(VerifyArgs),
    /// Hand a finished roster to the directory, from where all nodes take it
    Publish(Publish),
}

/// The roster that a draft follows, and where the draft goes.
#[derive(Debug, clap::Args)]
pub struct Edit {
    /// The roster in force
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// The root keys; absent means root.json beside the roster in force
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// The draft to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What `roster add` takes.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// The department's request, from `pki request`
    request: PathBuf,
    /// The rights it gets, a YAML list; absent means none: it may read only
    #[arg(long, value_name = "FILE")]
    rights: Option<PathBuf>,
    #[command(flatten)]
    edit: Edit,
}

/// What `roster rights` takes.
#[derive(Debug, clap::Args)]
pub struct RightsArgs {
    /// The department
    #[arg(value_parser = crate::alert::department)]
    department: DepartmentId,
    /// Its rights from now on, a YAML list
    #[arg(long, value_name = "FILE")]
    rights: PathBuf,
    #[command(flatten)]
    edit: Edit,
}

/// What `roster revoke` takes.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// The department whose CA issued the certificate
    #[arg(value_parser = crate::alert::department)]
    department: DepartmentId,
    /// Its serial number in hexadecimal digits
    serial: String,
    #[command(flatten)]
    edit: Edit,
}

/// What `roster ca` takes.
#[derive(Debug, clap::Args)]
pub struct CaArgs {
    /// The department
    #[arg(value_parser = crate::alert::department)]
    department: DepartmentId,
    /// The certificate to list beside the others
    #[arg(long, value_name = "FILE", required_unless_present = "remove", conflicts_with = "remove")]
    add: Option<PathBuf>,
    /// The certificate to list no longer
    #[arg(long, value_name = "FILE")]
    remove: Option<PathBuf>,
    #[command(flatten)]
    edit: Edit,
}

/// What `roster key` takes.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    /// The request to list a key, from `pki next`
    #[arg(long, value_name = "FILE", required_unless_present = "end", conflicts_with = "end")]
    add: Option<PathBuf>,
    /// The id of a key to end; it stays listed, for the records that it signed
    #[arg(long, value_name = "KEY", requires = "origin")]
    end: Option<String>,
    /// Whose key ends: `edb/node-1`
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// The last position that it is good for, as `status` shows the end of each log: `edb/node-1:urgent:EPOCH:SEQ`, once
    /// for each lane; absent means that no record which it signed counts
    #[arg(long, value_name = "POSITION", requires = "end")]
    at: Vec<String>,
    #[command(flatten)]
    edit: Edit,
}

/// What `roster sign` takes.
#[derive(Debug, clap::Args)]
pub struct Sign {
    /// The draft
    draft: PathBuf,
    /// A governance key; may be repeated
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    /// Where to write it; absent means over the draft
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What `roster diff` takes.
#[derive(Debug, clap::Args)]
pub struct Diff {
    /// The earlier one
    old: PathBuf,
    /// The later one
    new: PathBuf,
}

/// What `roster show` takes.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// A roster or a draft
    file: PathBuf,
}

/// What `roster verify` takes.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The roster
    file: PathBuf,
    /// The root keys; absent means root.json beside the roster
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// The roster before it, which the root keys must have signed
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// Accept a roster that is marked development
    #[arg(long)]
    development: bool,
}

/// What `roster publish` takes.
#[derive(Debug, clap::Args)]
pub struct Publish {
    #[command(flatten)]
    verify: VerifyArgs,
    /// A URL of the directory's etcd; may be repeated
    #[arg(long, value_name = "URL", required_unless_present = "directory", conflicts_with = "directory")]
    etcd: Vec<String>,
    /// The directory as a node's configuration has it under `directory`, a YAML file
    #[arg(long, value_name = "FILE")]
    directory: Option<PathBuf>,
}

/// Does what the verb says.
///
/// # Errors
/// When a file is not what it should be, an edit is refused, or the directory is not available.
pub async fn run(verb: Verb, out: Out) -> Answer {
    match verb {
        Verb::Add(args) => add(&args, out),
        Verb::Rights(args) => {
            let rights = read_rights(&args.rights)?;
            edit(&args.edit, out, |draft| Ok(draft.set_rights(&args.department, rights)?))
        }
        Verb::Revoke(args) => {
            let serial = args.serial.to_ascii_lowercase().trim_start_matches('0').to_owned();
            if serial.is_empty() || !serial.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(failure(
                    "the serial number is not hexadecimal",
                    "copy it from `campanile doctor` or the certificate",
                ));
            }
            edit(&args.edit, out, |draft| {
                draft.revoke(Revoked { department: args.department.clone(), serial });
                Ok(())
            })
        }
        Verb::Ca(args) => ca(&args, out),
        Verb::Key(args) => key(&args, out),
        Verb::Sign(args) => sign(&args, out),
        Verb::Diff(args) => {
            let lines = diff(&read(&args.old)?.1, &read(&args.new)?.1);
            out.show(&lines, Clone::clone)?;
            if lines.is_empty() {
                out.note("nothing changed");
            }
            Ok(Verdict::Passed)
        }
        Verb::Show(args) => show(&args.file, out),
        Verb::Verify(args) => match checked(&args) {
            Ok(roster) => {
                let seen = Seen::of(&roster);
                out.show(&seen, |seen| vec![format!("roster {} of {} is good", seen.number, seen.federation)])?;
                Ok(Verdict::Passed)
            }
            Err(error) if error.downcast_ref::<campanile_discovery::roster::Error>().is_some() => {
                if out.is_json() {
                    out.document(&serde_json::json!({ "refused": format!("{error:#}") }))?;
                }
                out.note(format!("error: {}", crate::failure::sentence(&error, "see `campanile roster show`")));
                Ok(Verdict::Failed)
            }
            Err(error) => Err(error),
        },
        Verb::Publish(args) => publish(&args, out).await,
    }
}

fn add(args: &Add, out: Out) -> Answer {
    let bytes = files::read(&args.request)?;
    let request = Request::verify(&bytes)
        .with_context(|| format!("the request {} was refused", args.request.display()))
        .next("have the department make a new one with `campanile pki request`")?;
    let rights = args.rights.as_deref().map(read_rights).transpose()?.unwrap_or_default();
    for fingerprint in fingerprints(&request.department) {
        out.note(format!(
            "CA of {}: {fingerprint}; compare it with the department by another way",
            request.department.id
        ));
    }
    edit(&args.edit, out, |draft| Ok(request.add_to(draft, rights)?))
}

fn ca(args: &CaArgs, out: Out) -> Answer {
    let read = |path: &PathBuf| {
        let pem = files::read_text(path)?;
        CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| failure(format!("{} is no certificate in PEM", path.display()), "give the CA's ca.pem"))?;
        anyhow::Ok(pem)
    };
    let (add, remove) = (args.add.as_ref().map(read).transpose()?, args.remove.as_ref().map(read).transpose()?);
    if let Some(pem) = &add {
        out.note(format!(
            "CA of {}: {}; compare it with the department by another way",
            args.department,
            fingerprint(pem)
        ));
    }
    edit(&args.edit, out, |draft| {
        match (add, remove) {
            (Some(pem), _) => draft.add_ca(&args.department, pem)?,
            (None, pem) => draft.remove_ca(&args.department, &pem.unwrap_or_default())?,
        }
        Ok(())
    })
}

fn key(args: &KeyArgs, out: Out) -> Answer {
    if let Some(path) = &args.add {
        let request = KeyRequest::verify(&files::read(path)?)
            .with_context(|| format!("the request {} was refused", path.display()))
            .next("have the department make a new one with `campanile pki next`")?;
        out.note(format!(
            "key {} of {}; compare it with the department by another way",
            request.key.id, request.origin
        ));
        return edit(&args.edit, out, |draft| Ok(request.add_to(draft)?));
    }
    let origin: OriginId = args.origin.as_deref().unwrap_or_default().parse().next("write --origin edb/node-1")?;
    let id = args.end.as_deref().unwrap_or_default().parse().next("copy the key's id from `campanile roster show`")?;
    let mut until = args.at.iter().map(|text| key_end(&origin, text)).collect::<anyhow::Result<Vec<_>>>()?;
    if until.is_empty() {
        until.push(KeyEnd { lane: Lane::Urgent, epoch: 0, seq: 0 });
    }
    edit(&args.edit, out, |draft| Ok(draft.end_key(&origin, id, until)?))
}

/// `edb/node-1:urgent:1764000000000:17`.
fn key_end(origin: &OriginId, text: &str) -> anyhow::Result<KeyEnd> {
    let parsed = || {
        let mut parts = text.strip_prefix(origin.to_string().as_str())?.strip_prefix(':')?.split(':');
        let lane = match parts.next()? {
            "urgent" => Lane::Urgent,
            "routine" => Lane::Routine,
            "exercise" => Lane::Exercise,
            _ => return None,
        };
        let (epoch, seq) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(KeyEnd { lane, epoch, seq })
    };
    parsed().ok_or_else(|| {
        failure(format!("{text:?} is no position of {origin}"), "copy the end of each log from `campanile status`")
    })
}

/// The roster in a file, verified by the root keys beside it; one made for development is read too.
///
/// # Errors
/// When it cannot be read, or its signatures are not good.
pub(crate) fn verified(path: &Path) -> anyhow::Result<SignedRoster> {
    held(path, None)
}

fn held(path: &Path, keys: Option<&Path>) -> anyhow::Result<SignedRoster> {
    let bytes = files::read(path)?;
    let root = root(keys, path)?;
    SignedRoster::verify(&bytes, &root, None, true)
        .with_context(|| format!("the roster {} was refused", path.display()))
}

/// Begins a draft after the roster in force, changes it, and writes it without signatures.
fn edit(args: &Edit, out: Out, change: impl FnOnce(&mut Draft) -> anyhow::Result<()>) -> Answer {
    let held = held(&args.to, args.root.as_deref())?;
    let mut draft = Draft::after(&held);
    change(&mut draft).next("see `campanile roster show` for what stands in it")?;
    let changes = diff(&held, draft.roster());
    let number = draft.roster().number;
    let envelope = draft.finish(SystemClock.now()).next("mend what is named and try again")?;
    files::write(&args.out, &envelope.to_bytes(), false)?;
    let drafted = Drafted { draft: args.out.clone(), number, changes };
    out.show(&drafted, |drafted| {
        let mut lines = vec![format!("draft of roster {} in {}", drafted.number, drafted.draft.display())];
        lines.extend(drafted.changes.iter().map(|line| format!("  {line}")));
        lines
    })?;
    out.note("it counts for nothing until governance has signed it with `campanile roster sign`");
    Ok(Verdict::Passed)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Drafted {
    draft: PathBuf,
    number: u64,
    changes: Vec<String>,
}

fn sign(args: &Sign, out: Out) -> Answer {
    let (mut envelope, roster) = read(&args.draft)?;
    for path in &args.key {
        let key = load_signing_key(path)
            .with_context(|| format!("the key {} cannot be used", path.display()))
            .next("give a governance key")?;
        let listed = roster.governance.keys.contains(&key.verifying_key());
        if !listed {
            out.note(format!(
                "{} is none of the governance keys in this roster; it counts only if it is one of the roster before",
                path.display()
            ));
        }
        envelope.sign(&key);
    }
    let place = args.out.as_ref().unwrap_or(&args.draft);
    files::write(place, &envelope.to_bytes(), true)?;
    show(place, out)
}

/// What can be said of a roster.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen<'a> {
    federation: &'a str,
    number: u64,
    issued: String,
    development: bool,
    /// Of the signatures needed.
    threshold: usize,
    departments: Vec<String>,
    origins: Vec<String>,
    persons: usize,
    revoked: usize,
}

impl<'a> Seen<'a> {
    fn of(roster: &'a Roster) -> Self {
        Self {
            federation: &roster.federation,
            number: roster.number,
            issued: roster.issued.to_string(),
            development: roster.development,
            threshold: roster.governance.threshold,
            departments: roster.departments.iter().map(|department| department.id.to_string()).collect(),
            origins: roster.origins.iter().map(|origin| origin.id.to_string()).collect(),
            persons: roster.persons.len(),
            revoked: roster.revoked.len(),
        }
    }
}

fn show(path: &Path, out: Out) -> Answer {
    let (envelope, roster) = read(path)?;
    if out.is_json() {
        out.document(&roster)?;
        return Ok(Verdict::Passed);
    }
    let seen = Seen::of(&roster);
    let signed = envelope.signers(&roster.governance.keys).len();
    let mark = if seen.development { ", marked development" } else { "" };
    out.line(format!("roster {} of {}, issued {}{mark}", seen.number, seen.federation, seen.issued))?;
    out.line(format!(
        "signed by {signed} of its {} governance keys; {} are needed",
        roster.governance.keys.len(),
        seen.threshold
    ))?;
    for department in &roster.departments {
        let publisher = department.publisher.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
        let events: Vec<&str> = department.rights.iter().flat_map(|right| &right.events).map(String::as_str).collect();
        let events = if events.is_empty() { "nothing".to_owned() } else { events.join(", ") };
        out.line(format!("{}  published by {publisher}, may originate {events}", department.id))?;
        for fingerprint in fingerprints(department) {
            out.line(format!("  CA   {fingerprint}"))?;
        }
        for origin in roster.origins.iter().filter(|origin| origin.id.department() == &department.id) {
            for key in &origin.keys {
                let ended = if key.until.is_empty() { "" } else { ", ended" };
                out.line(format!("  key  {} {:?} {}{ended}", origin.id, key.usage, key.id))?;
            }
        }
    }
    for person in &roster.persons {
        let clients: Vec<String> = person.clients.iter().map(ToString::to_string).collect();
        out.line(format!("person {}: {} through {}", person.id, person.roles.join(", "), clients.join(", ")))?;
    }
    for revoked in &roster.revoked {
        out.line(format!("revoked {} of {}", revoked.serial, revoked.department))?;
    }
    Ok(Verdict::Passed)
}

fn checked(args: &VerifyArgs) -> anyhow::Result<SignedRoster> {
    let bytes = files::read(&args.file)?;
    let root = root(args.root.as_deref(), &args.file)?;
    let previous = match &args.previous {
        Some(path) => Some(
            SignedRoster::verify(&files::read(path)?, &root, None, args.development)
                .with_context(|| format!("the roster before it, {}, was refused", path.display()))?,
        ),
        None => None,
    };
    SignedRoster::verify(&bytes, &root, previous.as_ref(), args.development)
        .with_context(|| format!("the roster {} was refused", args.file.display()))
}

async fn publish(args: &Publish, out: Out) -> Answer {
    let roster = checked(&args.verify)?;
    let config = match &args.directory {
        Some(path) => serde_saphyr::from_str::<DirectoryConfig>(&files::read_text(path)?)
            .map_err(|error| anyhow::anyhow!("{}", error.without_snippet()))
            .with_context(|| format!("{} does not describe a directory", path.display()))
            .next("copy what stands under `directory` in a node's configuration")?,
        None => DirectoryConfig::Etcd(EtcdConfig::new(args.etcd.clone())),
    };
    if config == DirectoryConfig::Memory {
        return Err(failure("a directory in memory has no other process in it", "give one of kind file or etcd"));
    }
    let directory = config.open(&roster.federation, &MemoryHub::default())?;
    directory.publish_roster(roster.number, roster.envelope()).await.next("check the address, and try again")?;
    let seen = Seen::of(&roster);
    out.show(&seen, |seen| vec![format!("roster {} of {} is in the directory", seen.number, seen.federation)])?;
    Ok(Verdict::Passed)
}

/// Reads a roster or a draft; nothing about it is believed.
fn read(path: &Path) -> anyhow::Result<(Envelope, Roster)> {
    let what = || format!("{} is no roster", path.display());
    let envelope = Envelope::parse(&files::read(path)?, ROSTER_TYPE, ROSTER_BYTES_MAX)
        .with_context(what)
        .next("give a roster, or a draft of `campanile roster add`")?;
    let roster = serde_json::from_slice(envelope.payload())
        .with_context(what)
        .next("give a roster, or a draft of `campanile roster add`")?;
    Ok((envelope, roster))
}

fn root(given: Option<&Path>, roster: &Path) -> anyhow::Result<RootKeys> {
    let beside = roster.with_file_name("root.json");
    read_root(given.unwrap_or(&beside))
}

/// Rights in a file.
#[derive(Deserialize)]
#[serde(transparent)]
struct RightsDoc(Vec<Right>);

fn read_rights(path: &Path) -> anyhow::Result<Vec<Right>> {
    let document: RightsDoc = serde_saphyr::from_str(&files::read_text(path)?)
        .map_err(|error| anyhow::anyhow!("{}", error.without_snippet()))
        .with_context(|| format!("{} holds no rights", path.display()))
        .next("write a list such as [{events: [fire], statuses: [Actual, Exercise], area: {everywhere: true}}]")?;
    Ok(document.0)
}

/// SHA-256 of each CA certificate of a department, as people compare it.
pub fn fingerprints(department: &Department) -> Vec<String> {
    department.cas.iter().map(|pem| fingerprint(pem)).collect()
}

/// SHA-256 of a certificate in PEM, as people compare it.
pub fn fingerprint(pem: &str) -> String {
    match CertificateDer::from_pem_slice(pem.as_bytes()) {
        Ok(der) => hex::encode(Sha256::digest(&der)),
        Err(_) => "not a certificate".to_owned(),
    }
}
