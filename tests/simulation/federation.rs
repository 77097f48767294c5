//! The federation that is simulated: certificates made once a process, signing keys from fixed seeds, and a roster of
//! as many departments as a run has.
//!
//! Certificates carry random serial numbers, so nothing of them may reach the trace. Signing keys do reach it, by the
//! hashes of records; so they are the same in every process.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use campanile_alert::{DepartmentId, OriginId, Timestamp};
use campanile_bus::SigningKeys;
use campanile_discovery::keys::SigningKey;
use campanile_discovery::pki::{ClientPlan, DepartmentPlan, Federation, NodePlan, Plan, Validity};
use campanile_discovery::roster::{
    Department, Draft, Error as RosterError, Governance, KeyUse, Origin, OriginKind, Person, RootKeys, SignedRoster,
};
use campanile_discovery::{Identity, PeerIdentity, RosterHandle};

/// When every run begins.
pub(crate) const NOW: &str = "2026-10-13T02:00:00Z";
pub(crate) const FEDERATION: &str = "hk-sim";
/// The departments in the order in which a run takes them: who reports, who closes schools, who opens shelters and has
/// no right to report, and others that listen and may report fires too.
pub(crate) const DEPARTMENTS: [&str; 7] = ["fsd", "edb", "had", "isd", "hko", "td", "ha"];
/// The two whose signatures allow the fire rule to act at once, and the two that are asked where it may not.
pub(crate) const DIRECTORS: [&str; 2] = ["edb-director-1", "edb-director-2"];
pub(crate) const OFFICERS: [&str; 2] = ["edb-officer-1", "edb-officer-2"];

/// What every run shares.
pub(crate) struct Setting {
    identities: BTreeMap<String, Identity>,
    template: SignedRoster,
    governance: SigningKey,
    _dir: tempfile::TempDir,
}

/// The instant at which every run begins.
pub(crate) fn start() -> Timestamp {
    NOW.parse().unwrap()
}

pub(crate) fn origin(department: &str) -> OriginId {
    format!("{department}/node-1").parse().unwrap()
}

fn key(name: &str) -> SigningKey {
    SigningKey::from_seed(&campanile_log::Hash::of(name.as_bytes()).0).unwrap()
}

/// The live key of a department's node: its first, or one that it changed to.
pub(crate) fn live_key(department: &str, generation: u32) -> SigningKey {
    key(&format!("live {department} {generation}"))
}

/// The signing keys of a department's node.
pub(crate) fn keys(department: &str, generation: u32) -> SigningKeys {
    SigningKeys { live: live_key(department, generation), exercise: key(&format!("exercise {department}")) }
}

impl Setting {
    /// The one of this process.
    pub(crate) fn shared() -> &'static Self {
        static SETTING: OnceLock<Setting> = OnceLock::new();
        SETTING.get_or_init(Self::make)
    }

    fn make() -> Self {
        let dir = tempfile::Builder::new().prefix("campanile-simulation-").tempdir().unwrap();
        let local = campanile_cli::local::plan(start()).unwrap();
        let report =
            local.departments.iter().find(|department| department.id.as_str() == "fsd").unwrap().rights.clone();
        let departments = DEPARTMENTS.iter().enumerate().map(|(index, id)| {
            let known = local.departments.iter().find(|department| department.id.as_str() == *id);
            let mut plan = known.cloned().unwrap_or_else(|| DepartmentPlan::new(DepartmentId::try_new(*id).unwrap()));
            plan.nodes = vec![NodePlan { name: "node-1".into(), kind: OriginKind::Node, hosts: Vec::new() }];
            if index > 2 {
                plan.rights.extend(report.clone());
            }
            for right in &mut plan.rights {
                right.statuses = campanile_alert::Status::ALL.to_vec();
            }
            // The persons stand in the roster by their clients; the certificates of these are never used here.
            plan.clients.retain(|client: &ClientPlan| client.person.is_some());
            plan
        });
        let plan = Plan {
            federation: FEDERATION.into(),
            departments: departments.collect(),
            validity: Validity::development(start()),
            governance_keys: 1,
            threshold: 1,
        };
        let federation = Federation::create(dir.path().join("pki"), &plan).unwrap();
        let template =
            SignedRoster::verify(&federation.roster().unwrap(), &federation.root().unwrap(), None, true).unwrap();
        let identities = DEPARTMENTS
            .iter()
            .map(|id| ((*id).to_owned(), Identity::load(&federation.node(&origin(id)).tls).unwrap()))
            .collect();
        Self { identities, template, governance: key("governance"), _dir: dir }
    }

    /// The certificate of a department's node.
    pub(crate) fn identity(&self, department: &str) -> Identity {
        self.identities[department].clone()
    }

    /// Who a node's certificate says it is.
    pub(crate) fn peer(&self, department: &str) -> Option<PeerIdentity> {
        self.identities.get(department).map(|identity| identity.peer().clone())
    }

    /// What the roster says of a department: itself, its node, its persons.
    pub(crate) fn entry(&self, id: &str) -> (Department, Origin, Vec<Person>) {
        let department = self.template.department(&DepartmentId::try_new(id).unwrap()).unwrap().clone();
        let mut listed = self.template.origin(&origin(id)).unwrap().clone();
        let keys = keys(id, 0);
        for known in &mut listed.keys {
            let key = if known.usage == KeyUse::Live { &keys.live } else { &keys.exercise };
            known.id = key.id();
            known.public = key.verifying_key();
        }
        let persons = self.template.persons.iter().filter(|person| person.department == department.id);
        let persons = persons.cloned().collect();
        (department, listed, persons)
    }

    fn governance(&self) -> Governance {
        Governance { threshold: 1, keys: vec![self.governance.verifying_key()] }
    }

    /// The first roster, of these departments.
    pub(crate) fn first_roster(&self, departments: &[&str]) -> SignedRoster {
        let mut draft = Draft::first(FEDERATION, self.governance(), true);
        for id in departments {
            let (department, origin, persons) = self.entry(id);
            draft.add_department(department, vec![origin]).unwrap();
            persons.into_iter().for_each(|person| draft.put_person(person));
        }
        self.signed(draft, None)
    }

    /// The roster that follows another.
    pub(crate) fn sign(&self, draft: Draft, previous: &SignedRoster) -> SignedRoster {
        self.signed(draft, Some(previous))
    }

    fn signed(&self, draft: Draft, previous: Option<&SignedRoster>) -> SignedRoster {
        let mut envelope = draft.finish(start()).unwrap();
        envelope.sign(&self.governance);
        let root = RootKeys::from(&self.governance());
        SignedRoster::verify(&envelope.to_bytes(), &root, previous, true).unwrap()
    }

    /// A node's own view of the rosters, as it is after a start: the one in its configuration and those it has accepted.
    pub(crate) fn open_roster(&self, configured: &[u8], accepted: &[Arc<[u8]>]) -> RosterHandle {
        let root = RootKeys::from(&self.governance());
        let handle = RosterHandle::open(root, true, None, Some(configured)).unwrap();
        for roster in accepted {
            match handle.offer(roster) {
                // One that was handed over during a start stands before what peers sent meanwhile.
                Ok(_) | Err(RosterError::RollBack { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        handle
    }
}
