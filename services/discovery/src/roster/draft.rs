//! Making the next roster: what governance edits before it signs, and the difference in words it reads first.

use campanile_alert::{DepartmentId, OriginId, Timestamp};

use super::{
    Department, Governance, KeyEnd, Origin, OriginKey, Person, ROSTER_TYPE, Revoked, Right, Roster, SignedRoster,
};
use crate::envelope::Envelope;
use crate::keys::KeyId;

/// Why an edit of a draft was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// It is there already.
    #[error("{0} stands in the roster already")]
    There(String),
    /// It is not there.
    #[error("{0} does not stand in the roster")]
    NotThere(String),
    /// The finished draft contradicts itself.
    #[error("the draft is not sound: {}", .0.join("; "))]
    Unsound(Vec<String>),
    /// It has no JSON form.
    #[error("the draft cannot be written: {0}")]
    Write(String),
}

/// A roster being edited. It counts for nothing until enough governance keys have signed [`Draft::finish`]'s envelope.
#[derive(Debug, Clone)]
pub struct Draft {
    roster: Roster,
}

impl Draft {
    /// Begins the first roster of a federation.
    pub fn first(federation: &str, governance: Governance, development: bool) -> Self {
        Self {
            roster: Roster {
                federation: federation.into(),
                number: 1,
                previous: None,
                issued: Timestamp::UNIX_EPOCH,
                development,
                governance,
                departments: Vec::new(),
                origins: Vec::new(),
                persons: Vec::new(),
                revoked: Vec::new(),
                reader_version_min: 0,
            },
        }
    }

    /// Begins the roster that follows `previous`: the next number, linked, with the same content.
    pub fn after(previous: &SignedRoster) -> Self {
        let mut roster = previous.roster().clone();
        roster.number = roster.number.saturating_add(1);
        roster.previous = Some(hex::encode(previous.digest()));
        Self { roster }
    }

    /// The draft as it stands.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The draft as it stands, for edits that have no operation of their own; [`Draft::finish`] checks the whole.
    pub fn roster_mut(&mut self) -> &mut Roster {
        &mut self.roster
    }

    /// Adds a department with its origins.
    ///
    /// # Errors
    /// [`DraftError::There`] when the department or an origin is listed already.
    pub fn add_department(&mut self, department: Department, origins: Vec<Origin>) -> Result<(), DraftError> {
        if self.roster.departments.iter().any(|d| d.id == department.id) {
            return Err(DraftError::There(format!("department {}", department.id)));
        }
        if let Some(twice) = origins.iter().find(|o| self.roster.origins.iter().any(|p| p.id == o.id)) {
            return Err(DraftError::There(format!("origin {}", twice.id)));
        }
        self.roster.departments.push(department);
        self.roster.origins.extend(origins);
        self.roster.sort();
        Ok(())
    }

    /// Takes a department out, with its origins and persons. Its old records stay verifiable by the earlier rosters.
    ///
    /// # Errors
    /// [`DraftError::NotThere`] when it is not listed.
    pub fn remove_department(&mut self, id: &DepartmentId) -> Result<(), DraftError> {
        self.department(id)?;
        self.roster.departments.retain(|d| &d.id != id);
        self.roster.origins.retain(|o| o.id.department() != id);
        self.roster.persons.retain(|p| &p.department != id);
        Ok(())
    }

    /// Replaces what a department may originate.
    ///
    /// # Errors
    /// [`DraftError::NotThere`] when it is not listed.
    pub fn set_rights(&mut self, id: &DepartmentId, rights: Vec<Right>) -> Result<(), DraftError> {
        self.department(id)?.rights = rights;
        Ok(())
    }

    /// Names the node that publishes for a department.
    ///
    /// # Errors
    /// [`DraftError::NotThere`] when the department or the origin is not listed.
    pub fn set_publisher(&mut self, publisher: OriginId) -> Result<(), DraftError> {
        self.origin(&publisher)?;
        let department = publisher.department().clone();
        self.department(&department)?.publisher = Some(publisher);
        Ok(())
    }

    /// Adds a CA beside those a department has, so that certificates of both count while it changes over.
    ///
    /// # Errors
    /// [`DraftError`] when the department is not listed, or has this CA already.
    pub fn add_ca(&mut self, id: &DepartmentId, pem: String) -> Result<(), DraftError> {
        let department = self.department(id)?;
        if department.cas.contains(&pem) {
            return Err(DraftError::There(format!("this CA of {id}")));
        }
        department.cas.push(pem);
        Ok(())
    }

    /// Takes a CA away.
    ///
    /// # Errors
    /// [`DraftError::NotThere`] when the department is not listed or has no such CA.
    pub fn remove_ca(&mut self, id: &DepartmentId, pem: &str) -> Result<(), DraftError> {
        let cas = &mut self.department(id)?.cas;
        let before = cas.len();
        cas.retain(|ca| ca.trim() != pem.trim());
        if cas.len() == before { Err(DraftError::NotThere(format!("this CA of {id}"))) } else { Ok(()) }
    }

    /// Adds a key to an origin.
    ///
    /// # Errors
    /// [`DraftError`] when the origin is not listed, or has this key already.
    pub fn add_key(&mut self, origin: &OriginId, key: OriginKey) -> Result<(), DraftError> {
        let listed = self.origin(origin)?;
        if listed.keys.iter().any(|k| k.public == key.public) {
            return Err(DraftError::There(format!("key {} of {origin}", key.id)));
        }
        listed.keys.push(key);
        Ok(())
    }

    /// Ends a key at positions, lane by lane. It stays listed, since old records are checked with it.
    ///
    /// # Errors
    /// [`DraftError::NotThere`] when the origin or the key is not listed.
    pub fn end_key(&mut self, origin: &OriginId, key: KeyId, until: Vec<KeyEnd>) -> Result<(), DraftError> {
        let listed = self.origin(origin)?.keys.iter_mut().find(|k| k.id == key);
        listed.ok_or_else(|| DraftError::NotThere(format!("key {key} of {origin}")))?.until = until;
        Ok(())
    }

    /// Adds a person, or replaces the one of the same id.
    pub fn put_person(&mut self, person: Person) {
        self.roster.persons.retain(|p| p.id != person.id);
        self.roster.persons.push(person);
    }

    /// Revokes a certificate; twice is once.
    pub fn revoke(&mut self, revoked: Revoked) {
        if !self.roster.revoked.contains(&revoked) {
            self.roster.revoked.push(revoked);
        }
    }

    /// Sets whose signatures the next roster needs.
    pub fn set_governance(&mut self, governance: Governance) {
        self.roster.governance = governance;
    }

    /// Checks the whole, dates it, and gives the unsigned envelope. `Envelope::sign` adds each signature.
    ///
    /// # Errors
    /// [`DraftError::Unsound`] with every contradiction found.
    pub fn finish(mut self, issued: Timestamp) -> Result<Envelope, DraftError> {
        self.roster.issued = issued;
        self.roster.sort();
        let faults = self.roster.faults();
        if !faults.is_empty() {
            return Err(DraftError::Unsound(faults));
        }
        let payload = serde_json::to_vec_pretty(&self.roster).map_err(|e| DraftError::Write(e.to_string()))?;
        Ok(Envelope::new(ROSTER_TYPE, payload))
    }

    fn department(&mut self, id: &DepartmentId) -> Result<&mut Department, DraftError> {
        let found = self.roster.departments.iter_mut().find(|d| &d.id == id);
        found.ok_or_else(|| DraftError::NotThere(format!("department {id}")))
    }

    fn origin(&mut self, id: &OriginId) -> Result<&mut Origin, DraftError> {
        let found = self.roster.origins.iter_mut().find(|o| &o.id == id);
        found.ok_or_else(|| DraftError::NotThere(format!("origin {id}")))
    }
}

/// What changed between two rosters, a sentence each: what governance reads before it signs. Empty when nothing did.
pub fn diff(old: &Roster, new: &Roster) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |line: String| lines.push(line);
    if old.federation != new.federation {
        say(format!("the federation changes from {:?} to {:?}", old.federation, new.federation));
    }
    if old.development != new.development {
        say(format!("the mark development changes from {} to {}", old.development, new.development));
    }
    if old.governance.threshold != new.governance.threshold {
        say(format!(
            "{} governance signatures are needed instead of {}",
            new.governance.threshold, old.governance.threshold
        ));
    }
    for key in new.governance.keys.iter().filter(|k| !old.governance.keys.contains(k)) {
        say(format!("governance key {} comes", key.id()));
    }
    for key in old.governance.keys.iter().filter(|k| !new.governance.keys.contains(k)) {
        say(format!("governance key {} goes", key.id()));
    }
    for d in &new.departments {
        match old.departments.iter().find(|o| o.id == d.id) {
            None => {
                say(format!("department {} joins with {} and {}", d.id, count(d.cas.len(), "CA"), rights(&d.rights)));
            }
            Some(o) => department_diff(o, d, &mut say),
        }
    }
    for d in old.departments.iter().filter(|d| !new.departments.iter().any(|n| n.id == d.id)) {
        say(format!("department {} leaves", d.id));
    }
    for origin in &new.origins {
        let before = old.origins.iter().find(|o| o.id == origin.id);
        if before.is_none() {
            say(format!("{:?} {} comes with {}", origin.kind, origin.id, count(origin.keys.len(), "key")));
            continue;
        }
        if before.is_some_and(|b| b.kind != origin.kind) {
            say(format!("{} becomes a {:?}", origin.id, origin.kind));
        }
        let old_keys = before.map(|o| o.keys.as_slice()).unwrap_or_default();
        for key in &origin.keys {
            match old_keys.iter().find(|k| k.public == key.public) {
                None => say(format!("{} gets the {:?} key {}", origin.id, key.usage, key.id)),
                Some(k) if k != key => say(format!("the range of key {} of {} changes", key.id, origin.id)),
                Some(_) => {}
            }
        }
        for key in old_keys.iter().filter(|k| !origin.keys.iter().any(|n| n.public == k.public)) {
            say(format!("{} loses key {}: its old records can no longer be checked", origin.id, key.id));
        }
    }
    for origin in old.origins.iter().filter(|o| !new.origins.iter().any(|n| n.id == o.id)) {
        say(format!("{:?} {} goes", origin.kind, origin.id));
    }
    for person in new.persons.iter().filter(|p| !old.persons.contains(p)) {
        let verb = if old.persons.iter().any(|o| o.id == person.id) { "changes" } else { "comes" };
        say(format!("person {} {verb}: roles {}", person.id, person.roles.join(", ")));
    }
    for person in old.persons.iter().filter(|p| !new.persons.iter().any(|n| n.id == p.id)) {
        say(format!("person {} goes", person.id));
    }
    for r in new.revoked.iter().filter(|r| !old.revoked.contains(r)) {
        say(format!("certificate {} of {} is revoked", r.serial, r.department));
    }
    for r in old.revoked.iter().filter(|r| !new.revoked.contains(r)) {
        say(format!("certificate {} of {} counts again", r.serial, r.department));
    }
    if old.reader_version_min != new.reader_version_min {
        say(format!("the least reader version changes from {} to {}", old.reader_version_min, new.reader_version_min));
    }
    lines
}

fn department_diff(old: &Department, new: &Department, say: &mut impl FnMut(String)) {
    let id = &new.id;
    if old.names != new.names {
        say(format!("the names of {id} change"));
    }
    let added = new.cas.iter().filter(|c| !old.cas.contains(c)).count();
    let removed = old.cas.iter().filter(|c| !new.cas.contains(c)).count();
    if added > 0 {
        say(format!("{id} gets {}", count(added, "CA")));
    }
    if removed > 0 {
        say(format!("{id} loses {}", count(removed, "CA")));
    }
    let name = |p: &Option<OriginId>| p.as_ref().map_or_else(|| "nobody".to_owned(), OriginId::to_string);
    if old.publisher != new.publisher {
        say(format!("{} publishes for {id} instead of {}", name(&new.publisher), name(&old.publisher)));
    }
    if old.rights != new.rights {
        say(format!("{id} had {}, and gets {}", rights(&old.rights), rights(&new.rights)));
    }
    if old.may_read != new.may_read {
        say(format!("whose restricted records {id} may read changes"));
    }
    if old.delegates != new.delegates {
        say(format!("who may amend the alerts of {id} changes"));
    }
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("one {noun}") } else { format!("{n} {noun}s") }
}

fn rights(rights: &[Right]) -> String {
    if rights.is_empty() {
        return "no rights".into();
    }
    let one = |r: &Right| {
        let place = match &r.area {
            super::RightArea::Everywhere => "everywhere".to_owned(),
            super::RightArea::Within(area) => format!("in {}", area.description),
        };
        let statuses: Vec<String> = r.statuses.iter().map(|s| format!("{s:?}")).collect();
        format!("{} as {} {place}", r.events.join("+"), statuses.join("+"))
    };
    format!("the right to {}", rights.iter().map(one).collect::<Vec<_>>().join("; "))
}
