//! The roster: who is in the federation, with which keys, CAs and rights. Governance signs it; nothing else is believed.
//!
//! A roster is a JSON document in a DSSE envelope with one signature per governance key. It has a number, and a link to
//! the one before. [`SignedRoster::verify`] is the only door: the queries here are asked of what came through it.
//! [`RosterHandle`] holds the one in force and the earlier ones that records name; [`Draft`] makes the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use campanile_alert::message::Status;
use campanile_alert::{DepartmentId, OriginId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::keys::{KeyId, VerifyingKey};

mod draft;
mod handle;
mod rights;
mod verify;

pub use draft::{Draft, DraftError, diff};
pub use handle::{Offer, RosterCache, RosterHandle};
pub(crate) use handle::{read_bounded, write_whole};
pub use rights::{ANY_CODE, RightArea, RightRefusal, Rights};
pub use verify::{Error, RootKeys, SignedRoster};

/// The payload type of a roster's envelope.
pub const ROSTER_TYPE: &str = "application/vnd.campanile.roster.v1+json";
/// The longest roster envelope, in bytes.
pub const ROSTER_BYTES_MAX: usize = 4 << 20;
/// The event that stands for every event; it must be written out.
pub const ANY_EVENT: &str = "*";

/// One of an origin's three logs, as far as keys are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// Severe and Extreme alerts, and what refers to them.
    Urgent,
    /// Everything else that is real.
    Routine,
    /// Exercises and tests.
    Exercise,
}

impl Lane {
    /// The use that a key on this lane must be listed for.
    pub fn key_use(self) -> KeyUse {
        match self {
            Self::Urgent | Self::Routine => KeyUse::Live,
            Self::Exercise => KeyUse::Exercise,
        }
    }
}

/// What a signing key is for. A live key never signs an exercise, nor the other way about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyUse {
    /// The lanes urgent and routine, and hints.
    Live,
    /// The lane exercise.
    Exercise,
}

/// The last position that a key is good for in one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyEnd {
    /// The lane.
    pub lane: Lane,
    /// The epoch.
    pub epoch: u64,
    /// The last good sequence number in that epoch; earlier epochs are good whole.
    pub seq: u64,
}

/// A signing key of an origin, with the range of positions it is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginKey {
    /// The key's id; it must be that of `public`.
    pub id: KeyId,
    /// The public key.
    pub public: VerifyingKey,
    /// What it is for.
    #[serde(rename = "use")]
    pub usage: KeyUse,
    /// The first epoch it is good for; absent means from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Where it ends, lane by lane; empty means that it is in use. Once any end is named, a lane without one has
    /// nothing from this key: a stolen key must not live on in a lane that was forgotten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub until: Vec<KeyEnd>,
}

/// What an origin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OriginKind {
    /// A department's node.
    Node,
    /// A node with channels to people.
    Gateway,
}

/// A node or gateway, with its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Its name, for example `edb/node-1`.
    pub id: OriginId,
    /// What it is.
    pub kind: OriginKind,
    /// Its keys, past ones too: old records stay verifiable for ever.
    pub keys: Vec<OriginKey>,
}

/// A right to originate alerts: any of the events, with any of the statuses, inside the area.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Right {
    /// Event codes of the vocabulary, or `"*"` for all, unclassified alerts included.
    pub events: Vec<String>,
    /// CAP statuses.
    pub statuses: Vec<Status>,
    /// Where; `{"everywhere": true}` must be written out.
    pub area: RightArea,
}

/// Leave for another department to update or cancel this one's alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegate {
    /// The department that may.
    pub to: DepartmentId,
    /// For alerts of which events; `"*"` for all.
    pub events: Vec<String>,
}

/// A department of the federation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Department {
    /// Its id, for example `fsd`.
    pub id: DepartmentId,
    /// Its name by language tag, for example `en` and `zh-Hant`.
    #[serde(default)]
    pub names: BTreeMap<String, String>,
    /// Its CA certificates in PEM. Two overlap while one replaces the other.
    pub cas: Vec<String>,
    /// The one node that publishes and evaluates rules. Absent: the department only reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<OriginId>,
    /// What it may originate. Empty means nothing.
    #[serde(default)]
    pub rights: Vec<Right>,
    /// Departments whose Restricted and Private records it may read in full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_read: Vec<DepartmentId>,
    /// Who else may update or cancel its alerts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegates: Vec<Delegate>,
}

/// The name of a client certificate: the department and the client's name in it, for example `edb/duty-officer-1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(OriginId);

impl ClientId {
    /// Joins a department and a client name; names follow the rule of node names.
    ///
    /// # Errors
    /// [`campanile_alert::ids::Error`] when the name breaks that rule.
    pub fn try_new(department: DepartmentId, name: &str) -> Result<Self, campanile_alert::ids::Error> {
        OriginId::try_new(department, name).map(Self)
    }

    /// The department whose CA signs the client's certificate.
    pub fn department(&self) -> &DepartmentId {
        self.0.department()
    }

    /// The client's name in its department.
    pub fn name(&self) -> &str {
        self.0.node()
    }
}

impl FromStr for ClientId {
    type Err = campanile_alert::ids::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A person behind roles. Two officers are two of these, however many certificates each has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// A token, for example `edb-officer-1`; no name of a living person stands in a roster.
    pub id: String,
    /// The person's department.
    pub department: DepartmentId,
    /// Roles that rules ask for, for example `edb.duty-officer`.
    pub roles: Vec<String>,
    /// The clients the person works through.
    pub clients: Vec<ClientId>,
}

/// A certificate that counts no more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// The department whose CA issued it.
    pub department: DepartmentId,
    /// Its serial number in lower-case hexadecimal, without leading zeros.
    pub serial: String,
}

/// Whose signatures make a roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Governance {
    /// How many of the keys must sign; at least one.
    pub threshold: usize,
    /// The root keys.
    pub keys: Vec<VerifyingKey>,
}

/// The document that governance signs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// The federation's name; a roster of another one is refused.
    pub federation: String,
    /// From 1 upwards, never used twice.
    pub number: u64,
    /// SHA-256 of the payload of roster `number - 1`, in hexadecimal; absent only in the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// When it was made.
    pub issued: Timestamp,
    /// Made for trying things out; a node accepts it only when started for development.
    pub development: bool,
    /// Whose signatures the next roster needs.
    pub governance: Governance,
    /// The departments.
    pub departments: Vec<Department>,
    /// The nodes and gateways.
    pub origins: Vec<Origin>,
    /// The persons behind roles.
    #[serde(default)]
    pub persons: Vec<Person>,
    /// Certificates that count no more.
    #[serde(default)]
    pub revoked: Vec<Revoked>,
    /// The least record format that a node must read to act; an older one stores and relays only.
    #[serde(default)]
    pub reader_version_min: u32,
}

/// Why a key does not count for a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// The origin is not in the roster.
    #[error("roster {roster} does not list the origin {origin}")]
    UnknownOrigin {
        /// The roster asked.
        roster: u64,
        /// The origin.
        origin: OriginId,
    },
    /// The origin has no such key.
    #[error("roster {roster} lists no key {key} for {origin}")]
    UnknownKey {
        /// The roster asked.
        roster: u64,
        /// The origin.
        origin: OriginId,
        /// The key named.
        key: KeyId,
    },
    /// The key is for the other use.
    #[error("key {key} of {origin} is a {has:?} key and cannot sign in lane {lane:?}")]
    WrongUse {
        /// The origin.
        origin: OriginId,
        /// The key.
        key: KeyId,
        /// What it is for.
        has: KeyUse,
        /// Where it was used.
        lane: Lane,
    },
    /// Before the key's first epoch, or after its last position.
    #[error(
        "key {key} of {origin} is not good at {lane:?} epoch {epoch} seq {seq}; the roster ends or begins it elsewhere"
    )]
    OutOfRange {
        /// The origin.
        origin: OriginId,
        /// The key.
        key: KeyId,
        /// The lane.
        lane: Lane,
        /// The epoch.
        epoch: u64,
        /// The sequence number.
        seq: u64,
    },
}

impl Roster {
    /// The department of this id, if it is a member.
    pub fn department(&self, id: &DepartmentId) -> Option<&Department> {
        let at = self.departments.binary_search_by(|d| d.id.cmp(id)).ok()?;
        self.departments.get(at)
    }

    /// The origin of this name, if it is listed.
    pub fn origin(&self, id: &OriginId) -> Option<&Origin> {
        let at = self.origins.binary_search_by(|o| o.id.cmp(id)).ok()?;
        self.origins.get(at)
    }

    /// The one node of the department that publishes; absent when it has none or is unknown.
    pub fn publisher(&self, id: &DepartmentId) -> Option<&OriginId> {
        self.department(id)?.publisher.as_ref()
    }

    /// The key to check a record at a position with.
    ///
    /// # Errors
    /// [`KeyRefusal`] when the origin or key is not listed, is for the other use, or not good at that position.
    pub fn key(
        &self,
        origin: &OriginId,
        id: KeyId,
        lane: Lane,
        epoch: u64,
        seq: u64,
    ) -> Result<&VerifyingKey, KeyRefusal> {
        let key = self.listed(origin, id)?;
        if key.usage != lane.key_use() {
            return Err(KeyRefusal::WrongUse { origin: origin.clone(), key: id, has: key.usage, lane });
        }
        let begun = key.from.is_none_or(|from| epoch >= from);
        let open = key.until.is_empty();
        let before = |end: &KeyEnd| end.lane == lane && (epoch, seq) <= (end.epoch, end.seq);
        match begun && (open || key.until.iter().any(before)) {
            true => Ok(&key.public),
            false => Err(KeyRefusal::OutOfRange { origin: origin.clone(), key: id, lane, epoch, seq }),
        }
    }

    /// The live keys of an origin that have not ended: what its hints are checked with.
    pub fn live_keys(&self, origin: &OriginId) -> impl Iterator<Item = &VerifyingKey> {
        let keys = self.origin(origin).map(|o| o.keys.as_slice()).unwrap_or_default();
        keys.iter().filter(|k| k.usage == KeyUse::Live && k.until.is_empty()).map(|k| &k.public)
    }

    fn listed(&self, origin: &OriginId, id: KeyId) -> Result<&OriginKey, KeyRefusal> {
        let unknown = || KeyRefusal::UnknownOrigin { roster: self.number, origin: origin.clone() };
        let listed = self.origin(origin).ok_or_else(unknown)?;
        listed.keys.iter().find(|k| k.id == id).ok_or_else(|| KeyRefusal::UnknownKey {
            roster: self.number,
            origin: origin.clone(),
            key: id,
        })
    }

    /// What the department may originate; an unknown department may nothing.
    pub fn rights<'r>(&'r self, id: &'r DepartmentId) -> Rights<'r> {
        Rights::new(self.number, id, self.department(id))
    }

    /// Whether `reader` may have the bodies of Restricted and Private records of `owner`.
    pub fn may_read(&self, reader: &DepartmentId, owner: &DepartmentId) -> bool {
        reader == owner || self.department(reader).is_some_and(|d| d.may_read.contains(owner))
    }

    /// Whether `by` may update or cancel an alert that `owner` published, of `event` (absent: unclassified).
    pub fn may_amend(&self, owner: &DepartmentId, by: &DepartmentId, event: Option<&str>) -> bool {
        let names = |events: &[String]| events.iter().any(|e| e == ANY_EVENT || Some(e.as_str()) == event);
        let delegated = |d: &Department| d.delegates.iter().any(|g| &g.to == by && names(&g.events));
        owner == by || self.department(owner).is_some_and(delegated)
    }

    /// The person who works through this client, if one is listed.
    pub fn person_of(&self, client: &ClientId) -> Option<&Person> {
        self.persons.iter().find(|p| p.clients.contains(client))
    }

    /// The persons with a role, for example `edb.duty-officer`.
    pub fn persons_with<'r>(&'r self, role: &'r str) -> impl Iterator<Item = &'r Person> {
        self.persons.iter().filter(move |p| p.roles.iter().any(|r| r == role))
    }

    /// Whether a certificate of the department was revoked. `serial` is lower-case hexadecimal without leading zeros.
    pub fn is_revoked(&self, department: &DepartmentId, serial: &str) -> bool {
        self.revoked.iter().any(|r| &r.department == department && r.serial == serial)
    }

    /// Sorts what is looked up, so that queries may search by halves. The signed bytes stay as they are.
    pub(crate) fn sort(&mut self) {
        self.departments.sort_by(|a, b| a.id.cmp(&b.id));
        self.origins.sort_by(|a, b| a.id.cmp(&b.id));
    }

    /// Every contradiction inside the document, each as a sentence; empty when it is sound.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(text);
        if self.number == 0 {
            fault("the number is 0; rosters count from 1".into());
        }
        if (self.number == 1) != self.previous.is_none() {
            fault("the link to the previous roster must stand in every roster but the first".into());
        }
        let root: BTreeSet<_> = self.governance.keys.iter().collect();
        if root.len() != self.governance.keys.len() {
            fault("a governance key is listed twice".into());
        }
        if self.governance.threshold == 0 || self.governance.threshold > root.len() {
            fault(format!("{} of {} governance signatures cannot be asked for", self.governance.threshold, root.len()));
        }
        for pair in self.departments.windows(2) {
            if let [a, b] = pair
                && a.id >= b.id
            {
                fault(format!("department {} is listed twice or out of order", b.id));
            }
        }
        for pair in self.origins.windows(2) {
            if let [a, b] = pair
                && a.id >= b.id
            {
                fault(format!("origin {} is listed twice or out of order", b.id));
            }
        }
        let mut seen = BTreeMap::new();
        for origin in &self.origins {
            if self.department(origin.id.department()).is_none() {
                fault(format!("origin {} belongs to no listed department", origin.id));
            }
            for key in &origin.keys {
                if key.id != key.public.id() {
                    fault(format!("key {} of {} has another id, {}", key.id, origin.id, key.public.id()));
                }
                if let Some(other) = seen.insert(key.public, &origin.id) {
                    fault(format!("key {} is listed for {other} and again for {}", key.id, origin.id));
                }
                if root.contains(&key.public) {
                    fault(format!("key {} of {} is a governance key as well", key.id, origin.id));
                }
            }
        }
        for department in &self.departments {
            if department.cas.is_empty() {
                fault(format!("department {} has no CA", department.id));
            }
            if let Some(publisher) = &department.publisher
                && (publisher.department() != &department.id || self.origin(publisher).is_none())
            {
                fault(format!("the publisher {publisher} of {} is not a listed origin of it", department.id));
            }
        }
        let mut clients = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for person in &self.persons {
            if !ids.insert(&person.id) {
                fault(format!("person {} is listed twice", person.id));
            }
            if self.department(&person.department).is_none() {
                fault(format!("person {} belongs to no listed department", person.id));
            }
            for client in &person.clients {
                if client.department() != &person.department {
                    fault(format!("client {client} of person {} is of another department", person.id));
                }
                if let Some(other) = clients.insert(client, &person.id) {
                    fault(format!("client {client} belongs to the persons {other} and {}", person.id));
                }
            }
        }
        faults
    }
}
