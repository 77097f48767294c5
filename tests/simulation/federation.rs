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
use campanile_discovery::roster::{Draft, Governance, KeyUse, OriginKind, RootKeys, SignedRoster};
use campanile_discovery::{Identity, PeerIdentity, RosterHandle};

/// When every run begins.
pub(crate) const NOW: &str = "2026-10-13T02:00:00Z";
pub(crate) const FEDERATION: &str = "hk-sim";
/// The departments in the order in which a run takes them: who reports, who closes schools, who tells people, and
/// others that only listen.
pub(crate) const DEPARTMENTS: [&str; 7] = ["fsd", "edb", "isd", "had", "hko", "td", "ha"];
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

/// The signing keys of a department's node.
pub(crate) fn keys(department: &str) -> SigningKeys {
    SigningKeys { live: key(&format!("live {department}")), exercise: key(&format!("exercise {department}")) }
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
        let departments = DEPARTMENTS.iter().map(|id| {
            let known = local.departments.iter().find(|department| department.id.as_str() == *id);
            let mut plan = known.cloned().unwrap_or_else(|| DepartmentPlan::new(DepartmentId::try_new(*id).unwrap()));
            plan.nodes = vec![NodePlan { name: "node-1".into(), kind: OriginKind::Node, hosts: Vec::new() }];
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

    /// The roster of the first `count` departments, signed.
    pub(crate) fn roster(&self, count: usize) -> Arc<[u8]> {
        let governance = Governance { threshold: 1, keys: vec![self.governance.verifying_key()] };
        let mut draft = Draft::first(FEDERATION, governance, true);
        for id in DEPARTMENTS.iter().take(count) {
            let id = DepartmentId::try_new(*id).unwrap();
            let department = self.template.department(&id).unwrap().clone();
            let mut listed = self.template.origin(&origin(id.as_str())).unwrap().clone();
            let keys = keys(id.as_str());
            for known in &mut listed.keys {
                let key = if known.usage == KeyUse::Live { &keys.live } else { &keys.exercise };
                known.id = key.id();
                known.public = key.verifying_key();
            }
            draft.add_department(department, vec![listed]).unwrap();
            for person in self.template.persons.iter().filter(|person| person.department == id) {
                draft.put_person(person.clone());
            }
        }
        let mut envelope = draft.finish(start()).unwrap();
        envelope.sign(&self.governance);
        envelope.to_bytes().into()
    }

    /// A node's own view of the rosters, as it is after a start.
    pub(crate) fn open_roster(&self, bytes: &[u8]) -> RosterHandle {
        let governance = Governance { threshold: 1, keys: vec![self.governance.verifying_key()] };
        RosterHandle::open(RootKeys::from(&governance), true, None, Some(bytes)).unwrap()
    }
}
