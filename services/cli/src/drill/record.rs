//! `drill record`: a window of real logs made into a scenario. Logs are only read; a node may have them open.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use campanile_alert::{AlertId, DateTime, ExerciseId, Timestamp};
use campanile_bus::record::{Body, Content, open_body, open_header};
use campanile_discovery::roster::Roster;
use campanile_drill::record::{Kept, Logged, Plan, RECORDS_MAX, Recorded, record};
use campanile_log::bundle::{self, Item, Report};
use campanile_log::{Entry, Standing};
use campanile_proto::rules::v1::Decision;
use campanile_rules::Pack;
use serde::Serialize;

use crate::alert::{instant, shown};
use crate::failure::{Answer, Next as _, Verdict, failure};
use crate::files;
use crate::log::{open_store, peek, rosters_in};
use crate::out::Out;

/// What the verb takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A bundle of `log export`, or a store's folder; a node may have it open
    #[arg(value_name = "LOGS")]
    place: PathBuf,
    /// From when on: T+0, with the offset that the scenario is written in
    #[arg(long, value_name = "TIME", value_parser = DateTime::parse)]
    from: DateTime,
    /// Until when
    #[arg(long, value_name = "TIME")]
    to: String,
    /// A pack that was in force, to decide again; may be repeated
    #[arg(long = "pack", value_name = "FILE")]
    packs: Vec<PathBuf>,
    /// The drill's name
    #[arg(long)]
    name: String,
    /// The exercise that it is played as; the drill's name when it is not given
    #[arg(long, value_name = "ID", value_parser = |text: &str| ExerciseId::try_new(text))]
    exercise: Option<ExerciseId>,
    /// The scenario to write
    #[arg(long, value_name = "FILE", required_unless_present = "promote")]
    out: Option<PathBuf>,
    /// Keep it as a regression in this folder, as NAME.drill.yaml with its packs named from there
    #[arg(long, value_name = "FOLDER", conflicts_with = "out")]
    promote: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    file: String,
    injects: usize,
    expectations: usize,
    /// Alerts that the vocabulary does not know.
    unclassified: usize,
    /// Changes of what was published before the window.
    earlier: usize,
}

/// Reads the logs and writes the scenario.
pub(super) fn run(args: &Args, out: Out) -> Answer {
    let path = match (&args.out, &args.promote) {
        (Some(path), _) => path.clone(),
        (None, Some(folder)) => folder.join(format!("{}.drill.yaml", args.name)),
        (None, None) => return Err(failure("there is nowhere to write to", "give --out or --promote")),
    };
    let end = instant(&args.to)?;
    let exercise = match &args.exercise {
        Some(exercise) => exercise.clone(),
        None => ExerciseId::try_new(args.name.clone()).next("give one with --exercise")?,
    };
    let start = args.from.clone();
    let mut tape = Tape { from: start.instant(), to: end, ..Tape::default() };
    let report = tape.read(&args.place)?;
    if !report.is_sound() {
        return Err(failure(format!("{} is not sound", shown(&args.place)), "see `campanile log verify`"));
    }
    let packs = packs(&args.packs, path.parent().unwrap_or(Path::new("")))?;
    let envelopes = tape.envelopes();
    let plan = Plan { drill: args.name.clone(), exercise, start, end, packs, envelopes };
    let Recorded { scenario, unclassified, earlier } =
        record(&tape.logged(), &plan).map_err(|error| failure(error, "see `campanile drill record --help`"))?;
    files::write(&path, scenario.to_yaml()?.as_bytes(), false)?;
    let made = Made {
        file: shown(&path),
        injects: scenario.injects.len(),
        expectations: scenario.expect.len(),
        unclassified,
        earlier,
    };
    out.show(&made, |made| {
        vec![format!(
            "{}: {} injects, {} expectations; left out: {} that the vocabulary does not know, {} of before",
            made.file, made.injects, made.expectations, made.unclassified, made.earlier
        )]
    })?;
    Ok(Verdict::Passed)
}

/// The packs by department, as paths from the scenario's folder where that can be said.
fn packs(given: &[PathBuf], folder: &Path) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut packs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in given {
        let text = files::read_text(path)?;
        let beside = |file: String| {
            let bytes = files::read(&path.parent().unwrap_or(Path::new("")).join(&file)).ok()?;
            Some((file, bytes))
        };
        let data = Pack::files_of(&text).into_iter().filter_map(beside).collect();
        let (pack, _) = Pack::parse_with(&text, &data)
            .map_err(|_| failure(format!("{} has errors", shown(path)), "see `campanile rules lint`"))?;
        let own = match path.strip_prefix(folder) {
            Ok(inside) => inside.to_path_buf(),
            Err(_) => std::path::absolute(path).with_context(|| format!("failed to find {}", shown(path)))?,
        };
        packs.entry(pack.owner.to_string()).or_default().push(shown(&own));
    }
    Ok(packs)
}

/// What is read of the logs, before it is put in the order of time.
#[derive(Default)]
struct Tape {
    from: Timestamp,
    to: Timestamp,
    /// The roles of persons by their token; of the newest roster.
    roles: (u64, BTreeMap<String, Vec<String>>),
    entries: Vec<(Timestamp, campanile_alert::DepartmentId, Body)>,
    /// Rules with the departments that signed an envelope for them before the window ended.
    envelopes: BTreeSet<(String, String)>,
}

impl Tape {
    fn read(&mut self, place: &Path) -> anyhow::Result<Report> {
        if place.is_dir() {
            let (store, data) = open_store(place)?;
            for (_, bytes) in rosters_in(&data)? {
                self.roster(peek(&bytes)?);
            }
            return Ok(bundle::verify_store(&store, &mut |item| self.item(item))?);
        }
        let file = std::fs::File::open(place)
            .with_context(|| format!("failed to read {}", shown(place)))
            .next("give a bundle of `campanile log export`, or a store's folder")?;
        bundle::verify(&mut BufReader::new(file), &mut |item| self.item(item))
            .with_context(|| format!("failed to read {}", shown(place)))
    }

    fn roster(&mut self, roster: Roster) {
        if roster.number >= self.roles.0 {
            let persons = roster.persons.into_iter().map(|person| (person.id, person.roles));
            self.roles = (roster.number, persons.collect());
        }
    }

    fn item(&mut self, item: Item<'_>) -> Result<(), String> {
        match item {
            Item::Attachment(attachment) if attachment.name.starts_with("roster") => {
                peek(&attachment.data).map(|roster| self.roster(roster)).map_err(|error| format!("{error:#}"))
            }
            Item::Attachment(_) => Ok(()),
            Item::Entry(entry) => self.entry(entry),
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), String> {
        let header = open_header(&entry.header).map_err(|error| error.to_string())?;
        let counts = !matches!(entry.standing, Standing::NotCounted { .. });
        let (true, Some(bytes)) = (counts && header.time < self.to, &entry.body) else { return Ok(()) };
        let body = open_body(&header, bytes).map_err(|error| error.to_string())?;
        if let Content::Envelope(envelope) = &body.content {
            self.envelopes.insert((header.origin.department().to_string(), envelope.rule.clone()));
        }
        if header.time < self.from {
            return Ok(());
        }
        if matches!(body.content, Content::Alert { .. } | Content::Approval(_)) && self.entries.len() <= RECORDS_MAX {
            self.entries.push((header.time, header.origin.department().clone(), body));
        }
        Ok(())
    }

    fn envelopes(&self) -> BTreeMap<String, Vec<String>> {
        let mut envelopes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (department, rule) in &self.envelopes {
            envelopes.entry(department.clone()).or_default().push(rule.clone());
        }
        envelopes
    }

    /// The records in the order of time. A person is known by the role that fits the rule's department.
    fn logged(mut self) -> Vec<Logged> {
        self.entries.sort_by_key(|(at, ..)| *at);
        let mut effects: BTreeMap<AlertId, (String, String)> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut logged = Vec::new();
        for (at, from, body) in self.entries {
            let what = match (body.content, body.rule) {
                (Content::Alert { alert, .. }, Some(rule)) => {
                    let id = alert.id();
                    let of = alert.references.iter().flat_map(|references| references.ids());
                    let before = of.filter_map(|id| effects.get(id)).next().cloned();
                    let site = match &body.classification.sites[..] {
                        [site] => site.clone(),
                        _ => String::new(),
                    };
                    let event = body.classification.event.unwrap_or_default();
                    let (event, target) = before.unwrap_or((event, site));
                    effects.insert(id.clone(), (event.clone(), target.clone()));
                    if !seen.insert(id) {
                        continue;
                    }
                    Kept::Issued { rule: rule.id, target, event, msg_type: alert.msg_type }
                }
                (Content::Alert { alert, .. }, None) => {
                    Kept::Published(Box::new((*alert).clone()), body.classification)
                }
                (Content::Approval(approval), _) => {
                    let roles = self.roles.1.get(&approval.person);
                    let fits = |role: &&String| role.split('.').next() == approval.rule.split('.').next();
                    let role = roles.and_then(|roles| roles.iter().find(fits).or(roles.first())).cloned();
                    Kept::Answered {
                        role: role.unwrap_or_else(|| format!("{from}.officer")),
                        approve: approval.decision() == Decision::Approve,
                        rule: approval.rule,
                    }
                }
                _ => continue,
            };
            logged.push(Logged { at, from, what });
        }
        logged
    }
}
