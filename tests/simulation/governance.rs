//! What governance does in a run: departments join, keys change and end, rights are withdrawn and given back.
//!
//! A roster is handed to one node, as an officer would; everybody else learns of it from peers. A node keeps those that it
//! has accepted over its crashes, beside its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use campanile_alert::DepartmentId;
use campanile_discovery::keys::{KeyId, SigningKey};
use campanile_discovery::roster::{Draft, KeyEnd, KeyUse, Lane as KeyLane, OriginKey, Right, SignedRoster};
use campanile_log::memory::MemoryStore;
use campanile_log::{Lane, LogId, Store as _};

use crate::federation::{Setting, origin};

/// The rosters of a run.
pub(crate) struct Governance {
    current: SignedRoster,
    /// Who may report fires by each roster.
    reporters: BTreeMap<u64, BTreeSet<String>>,
    /// The rights that were withdrawn, until they are given back.
    withdrawn: BTreeMap<String, Vec<Right>>,
    /// Every key that was ever listed.
    keys: BTreeSet<KeyId>,
    /// Every department that was ever without a right that it had.
    curtailed: BTreeSet<String>,
}

impl Governance {
    /// Begins with a roster of these departments.
    pub(crate) fn new(departments: &[&str]) -> Self {
        let current = Setting::shared().first_roster(departments);
        let mut governance = Self {
            reporters: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            keys: BTreeSet::new(),
            curtailed: BTreeSet::new(),
            current,
        };
        governance.learn();
        governance
    }

    /// The roster in force, as it is handed out.
    pub(crate) fn roster(&self) -> Arc<[u8]> {
        self.current.envelope().into()
    }

    pub(crate) fn number(&self) -> u64 {
        self.current.number
    }

    /// Whether a roster gave a department the right to report fires.
    pub(crate) fn may_report(&self, roster: u64, department: &str) -> bool {
        self.reporters.get(&roster).is_some_and(|reporters| reporters.contains(department))
    }

    /// Whether a key was ever listed.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known.to_string() == key)
    }

    /// Whether a department was ever without a right that it had.
    pub(crate) fn was_curtailed(&self, department: &str) -> bool {
        self.curtailed.contains(department)
    }

    /// A department comes in.
    pub(crate) fn admit(&mut self, id: &str) {
        let (department, origin, persons) = Setting::shared().entry(id);
        self.next(|draft| {
            draft.add_department(department, vec![origin]).unwrap();
            persons.into_iter().for_each(|person| draft.put_person(person));
        });
    }

    /// A department loses all rights, or gets those back that it had.
    pub(crate) fn withdraw_or_return(&mut self, id: &str) {
        let department = DepartmentId::try_new(id).unwrap();
        let back = self.withdrawn.remove(id);
        let rights = match back {
            Some(rights) => rights,
            None => {
                let rights = self.current.department(&department).unwrap().rights.clone();
                self.withdrawn.insert(id.into(), rights);
                self.curtailed.insert(id.into());
                Vec::new()
            }
        };
        self.next(|draft| draft.set_rights(&department, rights).unwrap());
    }

    /// A department is given a second live key.
    pub(crate) fn add_key(&mut self, id: &str, key: &SigningKey) {
        let (public, usage) = (key.verifying_key(), KeyUse::Live);
        let listed = OriginKey { id: key.id(), public, usage, from: None, until: Vec::new() };
        self.next(|draft| draft.add_key(&origin(id), listed).unwrap());
    }

    /// A department's live key ends where its logs end now, with whoever holds most of them: its own disk may be lost.
    pub(crate) fn end_key(&mut self, id: &str, key: KeyId, held: &[MemoryStore]) {
        let own = origin(id);
        let ends = [(Lane::Urgent, KeyLane::Urgent), (Lane::Routine, KeyLane::Routine)].into_iter();
        let ends = ends.filter_map(|(lane, key_lane)| {
            let log = LogId::new(own.to_string(), lane);
            let (epoch, seq) = held.iter().filter_map(|store| store.tail(&log)).map(|tail| tail.place()).max()?;
            Some(KeyEnd { lane: key_lane, epoch, seq })
        });
        let mut ends: Vec<KeyEnd> = ends.collect();
        if ends.is_empty() {
            // An end that nothing reaches: the key has signed nothing yet.
            ends.push(KeyEnd { lane: KeyLane::Urgent, epoch: 1, seq: 1 });
        }
        self.next(|draft| draft.end_key(&own, key, ends).unwrap());
    }

    fn next(&mut self, edit: impl FnOnce(&mut Draft)) {
        let mut draft = Draft::after(&self.current);
        edit(&mut draft);
        self.current = Setting::shared().sign(draft, &self.current);
        self.learn();
    }

    fn learn(&mut self) {
        let may_report =
            |rights: &Vec<Right>| rights.iter().any(|right| right.events.iter().any(|event| event == "fire"));
        let reporters = self.current.departments.iter().filter(|department| may_report(&department.rights));
        self.reporters.insert(self.current.number, reporters.map(|department| department.id.to_string()).collect());
        self.keys.extend(self.current.origins.iter().flat_map(|origin| origin.keys.iter().map(|key| key.id)));
    }
}
