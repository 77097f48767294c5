//! How the packs in force change: what each [`Activation`](campanile_bus::record::Content::Activation) record does.
//!
//! ```text
//!   agree ──► waits, at most a day ──► activate, by another person ──► in force ──► roll back ──► the one before
//!   configure (at a start) ───────────────────────────────────────────────┘
//! ```
//!
//! The directory has been asked before such a record is written (see `desk`); here the two persons are counted once
//! more, by the roster that the record names, so that no other way leads into force.

use std::collections::BTreeMap;
use std::sync::Arc;

use campanile_alert::{Status, Timestamp};
use campanile_bus::Event;
use campanile_bus::bus::plain_draft;
use campanile_bus::record::{Audience, Content, Draft};
use campanile_log::Hash;
use campanile_proto::rules::v1::{Activation, ActivationStep, Manifest};
use campanile_rules::Engine;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::packs::{self, Files, InForce, Row, Unfit, Version};
use super::{Library, MANIFEST_ROW, NodeRules, PACK_ROW, Rows, RulesView, WAITING_ROW, key_of, manifests};
use crate::alert_service::private;

/// How long an officer's yes waits for another's, in hours.
pub const WAITING_HOURS_MAX: i64 = 24;
/// How many packs may wait for a second officer; the one that waits longest makes room.
pub const WAITING_MAX: usize = 16;

/// A pack that one officer agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its name.
    pub pack: String,
    /// Its digest.
    pub digest: Hash,
    /// What it is.
    pub files: Files,
    /// The pack before it is not to be kept.
    pub no_way_back: bool,
    /// The person who agreed, by the roster's id.
    pub person: String,
    /// The first instant at which the second yes comes too late.
    pub until: Timestamp,
}

impl InForce {
    /// Reads what is stored of a pack in force. The one before it may be of an older language: then there is no way
    /// back to it, and the log of the node says so.
    pub(super) fn read(row: Row, library: &Library) -> Result<Self, Unfit> {
        let (ready, _) = row.current.files.read(library)?;
        let before = row.before.as_ref().and_then(|before| match before.files.read(library) {
            Ok((ready, _)) => Some(Arc::new(ready)),
            Err(unfit) => {
                tracing::warn!(digest = %before.digest, "The pack before one in force cannot be brought back: {unfit}");
                None
            }
        });
        Ok(Self { row, ready: Arc::new(ready), before })
    }
}

/// The draft of an act about packs; it goes to the own department alone.
pub(super) fn act(activation: Activation) -> Draft {
    plain_draft(Status::Actual, None, private(), Content::Activation(Box::new(activation)))
}

/// Whether a record to be written puts a pack of that name in force.
pub(super) fn begins(draft: &Draft, name: &str) -> bool {
    matches!(&draft.body.content, Content::Activation(act) if act.pack == name && !act.text.is_empty())
}

impl NodeRules {
    /// An engine of these packs, and of those that are still to be put in force, that remembers what stands in the rows.
    ///
    /// # Errors
    /// [`Unfit`] when they cannot be active together, or a row cannot be read.
    pub(super) fn engine(
        &self,
        packs: &BTreeMap<String, InForce>,
        rows: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Engine, Unfit> {
        let opening = self.opening.iter().filter(|ready| !packs.contains_key(&ready.pack.name));
        let ready = packs.values().map(|pack| &pack.ready).chain(opening);
        let mut engine = packs::engine(&self.department, &self.options, ready)?;
        engine.restore(rows).map_err(|error| Unfit(error.to_string()))?;
        Ok(engine)
    }

    /// Whether packs of the configuration are still to be put in force.
    pub(super) fn opens(&self, packs: &BTreeMap<String, InForce>) -> bool {
        self.opening.iter().any(|ready| !packs.contains_key(&ready.pack.name))
    }

    /// An act about packs of our own was done, or had no effect.
    pub(super) fn has_acted(&mut self, activation: &Activation) {
        let in_force = Arc::clone(&self.view);
        let packs = &in_force.lock().packs;
        if activation.step() == ActivationStep::Configure {
            // One that is not in force now will not be.
            self.opening.retain(|ready| ready.pack.name != activation.pack || packs.contains_key(&activation.pack));
        } else {
            // Officers act where the beginning is on the disk; what they take away does not come back.
            self.opening.clear();
        }
        self.is_opening = self.opens(packs);
    }

    /// What the configuration wants to be otherwise than it is. Officers' activations stand above it.
    pub(super) fn configure(&self) -> Vec<Draft> {
        let mut view = self.view.lock();
        let (mut wanted, mut acts) = (view.packs.clone(), Vec::new());
        let mut problems = Vec::new();
        for (name, pack) in &view.packs {
            let stands = self.configured.iter().any(|(_, ready)| ready.pack.name == *name);
            if pack.row.current.persons.is_empty() && !stands {
                wanted.remove(name);
                let reason = "the configuration no longer names it".into();
                let step = ActivationStep::Configure.into();
                acts.push(act(Activation { step, pack: name.clone(), reason, ..Activation::default() }));
            }
        }
        for (files, ready) in &self.configured {
            let name = &ready.pack.name;
            let digest = Hash(ready.pack.digest);
            if let Some(known) = view.packs.get(name).map(|known| &known.row.current) {
                if known.digest == digest && known.files.data == files.data {
                    continue;
                }
                if !known.persons.is_empty() {
                    problems.push(format!(
                        "pack {name} of the configuration is passed over: officers activated another version; activate \
                         this one, or take it out of the configuration"
                    ));
                    continue;
                }
            }
            let current = Version { files: files.clone(), digest, since: Timestamp::UNIX_EPOCH, persons: Vec::new() };
            let row = Row { current, before: None };
            let mut with = wanted.clone();
            with.insert(name.clone(), InForce { row, ready: Arc::new(ready.clone()), before: None });
            let mut together = view.manifests.clone();
            together.insert(self.department.clone(), packs::manifest(&self.department, with.values(), 0));
            if let Some(fault) = manifests::faults(together.values()).into_iter().next() {
                problems.push(format!("pack {name} of the configuration is not put in force: {fault}"));
                continue;
            }
            wanted = with;
            acts.push(act(Activation {
                step: ActivationStep::Configure.into(),
                pack: name.clone(),
                pack_digest: digest.0.to_vec(),
                text: files.text.clone(),
                data_sets: files.data_to_wire(),
                ..Activation::default()
            }));
        }
        for problem in &problems {
            tracing::error!("{problem}");
        }
        view.problems = problems;
        acts
    }

    /// Does what the record says, and gives the manifest that follows.
    pub(super) fn activation(&self, event: &Event<'_>, activation: &Activation, rows: &mut Rows) -> Vec<Draft> {
        let header = &event.arrival.header;
        if *header.origin.department() != self.department {
            return Vec::new();
        }
        match self.act_on(event, activation, rows) {
            Ok(manifest) => manifest.into_iter().collect(),
            Err(unfit) => {
                tracing::error!(pack = activation.pack, step = ?activation.step(), "An activation has no effect: {unfit}");
                Vec::new()
            }
        }
    }

    fn act_on(&self, event: &Event<'_>, activation: &Activation, rows: &mut Rows) -> Result<Option<Draft>, Unfit> {
        let time = event.arrival.header.time;
        let mut view = self.view.lock();
        let view = &mut *view;
        let person = || self.person(event, &activation.person);
        match activation.step() {
            ActivationStep::Unspecified => Err(Unfit("it says no step".into())),
            ActivationStep::Agree => self.agree(view, person()?, activation, time, rows).map(|()| None),
            ActivationStep::Activate => {
                let (id, files, ready) = self.named(activation)?;
                let waiting = view.waiting.get(&id).filter(|waiting| time < waiting.until);
                let first = waiting.ok_or_else(|| Unfit("nobody has agreed to it before".into()))?.person.clone();
                let second = person()?;
                if first == second {
                    return Err(Unfit(format!("{second} is one person; another one must agree")));
                }
                view.waiting.remove(&id);
                rows.push((key_of(WAITING_ROW, &id.0), None));
                let before = view.packs.get(&ready.pack.name).filter(|_| !activation.no_way_back);
                let before = before.map(|pack| pack.row.current.clone());
                let digest = Hash(ready.pack.digest);
                let current = Version { files, digest, since: time, persons: vec![first, second] };
                let pack = InForce::read(Row { current, before }, &self.library)?;
                self.put(view, &ready.pack.name, Some(pack), rows).map(Some)
            }
            ActivationStep::Configure if activation.text.is_empty() => {
                self.put(view, &activation.pack, None, rows).map(Some)
            }
            ActivationStep::Configure => {
                let (_, files, ready) = self.named(activation)?;
                let current = Version { files, digest: Hash(ready.pack.digest), since: time, persons: Vec::new() };
                let pack = InForce { row: Row { current, before: None }, ready: Arc::new(ready), before: None };
                self.put(view, &activation.pack, Some(pack), rows).map(Some)
            }
            ActivationStep::RollBack => {
                person()?;
                let pack = view.packs.get(&activation.pack).ok_or_else(|| Unfit("it is not in force".into()))?;
                let back = match (&pack.row.before, &pack.before) {
                    (Some(version), Some(ready)) => {
                        let current = Version { since: time, ..version.clone() };
                        Some(InForce { row: Row { current, before: None }, ready: Arc::clone(ready), before: None })
                    }
                    _ => None,
                };
                self.put(view, &activation.pack, back, rows).map(Some)
            }
            ActivationStep::Shadow => {
                let person = person()?;
                let (_, files, ready) = self.named(activation)?;
                view.shadows.begin(files, ready, person, time, rows)?;
                view.shadows.restart(&self.department, &self.options).map(|()| None)
            }
            ActivationStep::EndShadow => {
                person()?;
                view.shadows.end(&activation.pack, rows);
                view.shadows.restart(&self.department, &self.options).map(|()| None)
            }
        }
    }

    fn agree(
        &self,
        view: &mut RulesView,
        person: String,
        activation: &Activation,
        time: Timestamp,
        rows: &mut Rows,
    ) -> Result<(), Unfit> {
        let (id, files, ready) = self.named(activation)?;
        view.waiting.retain(|id, waiting| {
            let waits = time < waiting.until;
            if !waits {
                rows.push((key_of(WAITING_ROW, &id.0), None));
            }
            waits
        });
        if view.waiting.len() >= WAITING_MAX
            && let Some(oldest) = view.waiting.iter().min_by_key(|(_, waiting)| waiting.until).map(|(id, _)| *id)
        {
            view.waiting.remove(&oldest);
            rows.push((key_of(WAITING_ROW, &oldest.0), None));
        }
        let until = time.checked_add(jiff::SignedDuration::from_hours(WAITING_HOURS_MAX)).unwrap_or(Timestamp::MAX);
        let (pack, digest) = (ready.pack.name, Hash(ready.pack.digest));
        let waiting = Waiting { pack, digest, files, no_way_back: activation.no_way_back, person, until };
        rows.push((key_of(WAITING_ROW, &id.0), serde_json::to_vec(&waiting).ok()));
        view.waiting.insert(id, waiting);
        Ok(())
    }

    /// The pack that a record carries, read.
    fn named(&self, activation: &Activation) -> Result<(Hash, Files, packs::Ready), Unfit> {
        let files = Files::from_wire(&activation.text, &activation.data_sets)?;
        // One of the configuration is read already, and its tables may be large.
        let read = self.configured.iter().find(|(known, _)| *known == files).map(|(_, ready)| ready.clone());
        let ready = read.map_or_else(|| files.read(&self.library).map(|(ready, _)| ready), Ok)?;
        if ready.pack.owner != self.department {
            return Err(Unfit(format!("pack {} belongs to {}", ready.pack.name, ready.pack.owner)));
        }
        Ok((packs::id_of(&ready.pack, &files, activation.no_way_back), files, ready))
    }

    /// The person whom a record names, if the roster of that record knows one of this department.
    fn person(&self, event: &Event<'_>, id: &str) -> Result<String, Unfit> {
        let number = event.arrival.header.roster;
        let roster = self.roster.at(number).unwrap_or_else(|| self.roster.current());
        let known = roster.persons.iter().any(|person| person.id == id && person.department == self.department);
        if known {
            Ok(id.to_owned())
        } else {
            Err(Unfit(format!("the roster names no person {id:?} of the department")))
        }
    }

    /// Puts a pack in force, or none of the name: another engine takes over what the last one remembered.
    fn put(&self, view: &mut RulesView, name: &str, pack: Option<InForce>, rows: &mut Rows) -> Result<Draft, Unfit> {
        let mut packs = view.packs.clone();
        let row = pack.as_ref().and_then(|pack| serde_json::to_vec(&pack.row).ok());
        match pack {
            Some(pack) => packs.insert(name.to_owned(), pack),
            None => packs.remove(name),
        };
        view.engine = self.engine(&packs, view.engine.rows())?;
        view.packs = packs;
        rows.push((key_of(PACK_ROW, name.as_bytes()), row));
        let serial = view.manifests.get(&self.department).map_or(0, |manifest| manifest.serial).saturating_add(1);
        let manifest = packs::manifest(&self.department, view.packs.values(), serial);
        self.store_manifest(view, &manifest, rows);
        tracing::info!(pack = name, serial, "The packs in force have changed");
        Ok(plain_draft(Status::Actual, None, Audience::public(), Content::Manifest(manifest)))
    }

    /// Keeps a department's manifest when it is newer than the one known.
    pub(super) fn keep_manifest(&self, event: &Event<'_>, manifest: &Manifest, rows: &mut Rows) {
        let department = event.arrival.header.origin.department();
        if !manifests::is_sound(manifest) {
            tracing::warn!(%department, "A manifest has names or sizes that cannot be worked with; it is passed over");
            return;
        }
        let mut view = self.view.lock();
        if view.manifests.get(department).is_none_or(|known| known.serial < manifest.serial) {
            rows.push((key_of(MANIFEST_ROW, department.as_str().as_bytes()), Some(manifest.encode_to_vec())));
            view.manifests.insert(department.clone(), manifest.clone());
        }
    }

    fn store_manifest(&self, view: &mut RulesView, manifest: &Manifest, rows: &mut Rows) {
        let key = key_of(MANIFEST_ROW, self.department.as_str().as_bytes());
        rows.push((key, Some(manifest.encode_to_vec())));
        view.manifests.insert(self.department.clone(), manifest.clone());
    }
}
