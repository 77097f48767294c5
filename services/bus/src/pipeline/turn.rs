//! One commit in the making: each piece of work in turn, and what the rules make of it.

use std::sync::Arc;
use std::time::Duration;

use campanile_alert::{Timestamp, World};
use campanile_log::{Accepted, Appended, Batch, Entry, Hash, Key, LogId, Standing};
use tracing::{error, info};

use super::committer::{Answer, Committer};
use super::given::Met;
use super::{
    Checked, DERIVE_PREFIX, DERIVED_MAX, EVALUATED_ROW, EVIDENCE_MAX, PublishError, Published, RETURNED_ROW,
    RULES_BUDGET, Stored, Work, given, identity_of,
};
use crate::count;
use crate::derive::{Arrival, Derived, Event};
use crate::record::{Content, Draft, Kind, Seal};

/// One commit in the making.
pub(super) struct Turn<'c, 'b> {
    pub(super) committer: &'c mut Committer,
    pub(super) batch: &'b mut dyn Batch,
    pub(super) arrivals: &'c mut Vec<Arc<Arrival>>,
    /// Time that the rules have taken in this commit.
    pub(super) rules: Duration,
}

impl Turn<'_, '_> {
    pub(super) fn work(&mut self, work: Work, answers: &mut Vec<Answer>) -> Result<(), campanile_log::Error> {
        match work {
            Work::Publish { draft, identity, judged, reply } => {
                let result = self.publish(*draft, identity, judged)?;
                if crate::mutant("acknowledge-before-fsync") {
                    drop(reply.send(result));
                    return Ok(());
                }
                answers.push(Answer::Publish(reply, result));
            }
            Work::Replica { checked, reply } => {
                let stored = self.replica(*checked)?;
                answers.push(Answer::Replica(reply, stored));
            }
            Work::Rows { rows, reply } => {
                self.rows(rows)?;
                answers.push(Answer::Replica(reply, Stored::Durable));
            }
            Work::Evidence(evidence) => {
                self.batch.evidence((*evidence).clone())?;
                let known = self.committer.evidence.iter().any(|other| other.position == evidence.position);
                if !known && self.committer.evidence.len() < EVIDENCE_MAX {
                    self.committer.evidence.push(*evidence);
                }
            }
            Work::Checkpoint { log, bytes } => self.batch.checkpoint(&log, &bytes)?,
            Work::Sweep => {
                let now = self.committer.parts.clock.now();
                let rows = self.committer.current.lock().sweep(now);
                self.rows(rows)?;
            }
        }
        Ok(())
    }

    fn publish(
        &mut self,
        mut draft: Draft,
        identity: Option<(Key, Hash)>,
        judged: Option<u64>,
    ) -> Result<Result<Published, PublishError>, campanile_log::Error> {
        let roster = self.committer.parts.roster.current();
        if judged.is_some_and(|judged| judged != roster.number) {
            // Receivers judge by the roster that the record names: it has to be the one by which it was let in.
            return Ok(Err(PublishError::RosterChanged));
        }
        if let Content::Alert { alert, .. } = &draft.body.content {
            let current = self.committer.current.lock();
            let world = World::of(draft.status, draft.exercise.as_ref());
            if let Ok(world) = world {
                let department = self.committer.parts.origin.department().clone();
                if let Err(owner) = count::owns_references(&current, &roster, &department, &world, alert) {
                    return Ok(Err(owner));
                }
            }
        }
        self.inherit_urgency(&mut draft);
        match self.append(&draft, identity, roster.number, Timestamp::UNIX_EPOCH)? {
            Some(Appended::New(entry)) => {
                let arrival = self.arrivals.last().cloned();
                let published = Published {
                    log: entry.log.clone(),
                    position: entry.position,
                    duplicate: false,
                    arrival: arrival.clone(),
                };
                if let Some(arrival) = arrival {
                    self.follow(arrival)?;
                }
                Ok(Ok(published))
            }
            Some(Appended::Duplicate(first)) => {
                Ok(Ok(Published { log: first.log, position: first.position, duplicate: true, arrival: None }))
            }
            Some(Appended::Conflict(_)) => {
                let name = match &draft.body.content {
                    Content::Alert { alert, .. } => alert.id().to_string(),
                    _ => "the record".into(),
                };
                Ok(Err(PublishError::Conflict(name)))
            }
            None => Ok(Err(PublishError::TooLarge(crate::record::RECORD_BYTES_MAX + 1))),
        }
    }

    /// What is about an urgent message is urgent: a Cancel must not wait behind routine work.
    fn inherit_urgency(&self, draft: &mut Draft) {
        let Content::Alert { alert, .. } = &draft.body.content else { return };
        if draft.urgent || alert.referenced().is_empty() {
            return;
        }
        let Ok(world) = World::of(draft.status, draft.exercise.as_ref()) else { return };
        let department = self.committer.parts.origin.department();
        let current = self.committer.current.lock();
        draft.urgent = alert.referenced().iter().any(|id| current.is_urgent(department, &world, id));
    }

    /// Seals and appends one of our own records under a roster, with our time or `not_before`. `None` when it would be too large.
    fn append(
        &mut self,
        draft: &Draft,
        identity: Option<(Key, Hash)>,
        roster: u64,
        not_before: Timestamp,
    ) -> Result<Option<Appended>, campanile_log::Error> {
        let parts = &self.committer.parts;
        let lane = draft.lane();
        let log = LogId::new(parts.origin.to_string(), lane);
        let keys = parts.keys.load();
        let mut salt = [0; 16];
        parts.surroundings.random(&mut salt);
        let now = parts.clock.now().max(not_before);
        let seal = Seal {
            federation: &parts.federation,
            origin: &parts.origin,
            roster,
            time: now,
            key: if lane == campanile_log::Lane::Exercise { &keys.exercise } else { &keys.live },
            salt,
        };
        let (idempotency, content) = match identity {
            Some((key, content)) => (Some(key), content),
            None => (None, Hash::ZERO),
        };
        let mut header = None;
        let appended = self.batch.draft(campanile_log::Draft {
            log: log.clone(),
            idempotency,
            content,
            seal: Box::new(|slot| {
                let (sealed, decoded) = seal.seal(draft, &log, slot);
                let size = sealed.header.len() + sealed.body.len() + sealed.signatures.len();
                if size > crate::record::RECORD_BYTES_MAX {
                    return Err(Box::new(crate::record::Error::TooLarge(size)));
                }
                header = Some(decoded);
                Ok(sealed)
            }),
        });
        let appended = match appended {
            Err(campanile_log::Error::Caller(_)) => return Ok(None),
            other => other?,
        };
        if let (Appended::New(entry), Some(header)) = (&appended, header) {
            let arrival = Arrival {
                entry: entry.clone(),
                header: Arc::new(header),
                body: Some(Arc::new(draft.body.clone())),
                received: now,
                returned: false,
            };
            self.arrivals.push(Arc::new(arrival));
        }
        Ok(Some(appended))
    }

    fn replica(&mut self, mut checked: Checked) -> Result<Stored, campanile_log::Error> {
        if checked.replica.standing == Standing::Counted
            && let (Some(body), Kind::Alert) = (&checked.body, checked.header.kind)
            && let Content::Alert { alert, .. } = &body.content
        {
            let current = self.committer.current.lock();
            let roster = self.committer.parts.roster.current();
            let department = checked.header.origin.department();
            if let Err(refusal) = count::owns_references(&current, &roster, department, &checked.header.world, alert) {
                checked.replica.standing = Standing::NotCounted { reason: refusal.to_string() };
            }
        }
        if crate::mutant("unentitled-blocks-log") && checked.replica.standing != Standing::Counted {
            return Ok(Stored::Refused(campanile_log::Refusal::Malformed { reason: "it does not count" }));
        }
        let received = self.committer.parts.clock.now();
        let accepted = self.batch.replica(checked.replica)?;
        match accepted {
            Accepted::New(entry) => {
                if self.batch.tail(&entry.log).is_some_and(|tail| tail.place() > entry.position.place()) {
                    info!(log = %entry.log, position = %entry.position, "A lost record has come back; its gap is healed");
                    self.committer.parts.metrics.healed.inc();
                }
                let own = *entry.log.origin == *self.committer.parts.origin.to_string();
                let returned = own && !crate::mutant("rule-fires-on-replay");
                if returned {
                    self.batch.state(RETURNED_ROW, Some(&entry.arrival.to_be_bytes()))?;
                }
                let arrival = Arrival { entry, header: checked.header, body: checked.body, received, returned };
                let arrival = Arc::new(arrival);
                self.arrivals.push(Arc::clone(&arrival));
                self.follow(arrival)?;
                Ok(Stored::Durable)
            }
            // Its turn in the order of arrival has passed: people see it, and the rules do not.
            Accepted::BodyAdded(entry) => {
                let arrival = Arrival { entry, header: checked.header, body: checked.body, received, returned: false };
                self.note(&arrival)?;
                Ok(Stored::Durable)
            }
            Accepted::Held => Ok(Stored::Durable),
            Accepted::Refused(refusal) => Ok(Stored::Refused(refusal)),
        }
    }

    /// Takes a stored record into the current alerts and puts it in line for the rules.
    ///
    /// The line is one for everything, effects included, so the rules see records in stored arrival order whether or
    /// not they are behind.
    fn follow(&mut self, arrival: Arc<Arrival>) -> Result<(), campanile_log::Error> {
        self.note(&arrival)?;
        if self.committer.parts.derive.is_some() {
            self.committer.deferred.push_back(arrival);
            if !crate::mutant("position-apart-from-effects") {
                self.evaluate()?;
            }
        }
        Ok(())
    }

    /// Runs the rules over what is in line, for as long as the budget of this commit lasts.
    pub(super) fn evaluate(&mut self) -> Result<(), campanile_log::Error> {
        while self.rules < RULES_BUDGET {
            let Some(arrival) = self.committer.deferred.pop_front() else { break };
            let started = self.committer.parts.surroundings.instant();
            let derived = self.apply(&arrival)?;
            self.rules += self.committer.parts.surroundings.rules_took(started);
            let own = arrival.header.origin == self.committer.parts.origin;
            let met = match &derived {
                None => own.then_some(Met::Never),
                Some(_) if arrival.returned => Some(Met::Returned),
                Some(_) if own => (arrival.received != arrival.header.time).then_some(Met::Came),
                Some(derived) => derived.decided.then_some(Met::Came),
            };
            if let Some(met) = met {
                let (key, value) = given::row(&arrival, met);
                self.batch.state(&key, Some(&value))?;
            }
            let Some(derived) = derived else { continue };
            for (key, value) in derived.state {
                let key = [DERIVE_PREFIX, &key].concat();
                self.batch.state(&key, value.as_deref())?;
            }
            if derived.drafts.len() > DERIVED_MAX {
                error!(limit = DERIVED_MAX, "One record led to too many effects; the rest are dropped");
            }
            let roster = self.committer.parts.roster.current().number;
            for mut draft in derived.drafts.into_iter().take(DERIVED_MAX) {
                self.inherit_urgency(&mut draft);
                let identity = identity_of(self.committer.parts.origin.department(), &draft);
                // The clock may have been set back since the cause was received by it; nobody would count an effect that
                // is sent after its record.
                let sent = match &draft.body.content {
                    Content::Alert { alert, .. } => alert.sent.instant(),
                    _ => Timestamp::UNIX_EPOCH,
                };
                if let Some(Appended::New(_)) = self.append(&draft, identity, roster, sent)?
                    && let Some(effect) = self.arrivals.last().cloned()
                {
                    if draft.body.content.kind() == Kind::Alert {
                        self.committer.parts.metrics.effects.inc();
                    }
                    self.note(&effect)?;
                    self.committer.deferred.push_back(effect);
                }
            }
        }
        Ok(())
    }

    /// Gives a record to the rules; `None` when it is none of theirs.
    fn apply(&mut self, arrival: &Arrival) -> Result<Option<Derived>, campanile_log::Error> {
        let previous_time = self.time_before(arrival)?;
        let (log, place) = (&arrival.entry.log, arrival.entry.position.place());
        self.committer.times.insert(log.clone(), (place, arrival.header.time));
        let reader = arrival.header.reader_version_min > crate::record::READER_VERSION;
        let held = self.in_doubt(arrival);
        Ok(match (&mut self.committer.parts.derive, &arrival.body) {
            (Some(derive), Some(body)) if arrival.entry.standing == Standing::Counted && !reader && !held => {
                Some(derive.apply(&Event { arrival, body, previous_time }))
            }
            _ => None,
        })
    }

    /// The header time of the record before this one in its log, if that came first. What came here just before it may
    /// be of a newer epoch.
    fn time_before(&self, arrival: &Arrival) -> Result<Option<Timestamp>, campanile_log::Error> {
        let Entry { log, arrival: number, .. } = &arrival.entry;
        let Some(place) = given::place_before(&arrival.entry) else { return Ok(None) };
        if let Some((at, time)) = self.committer.times.get(log)
            && *at == place
        {
            return Ok(Some(*time));
        }
        let here = |other: &&Arc<Arrival>| {
            other.entry.log == *log && other.entry.position.place() == place && other.entry.arrival < *number
        };
        if let Some(before) = self.arrivals.iter().rev().find(here) {
            return Ok(Some(before.header.time));
        }
        given::stored_time_before(self.committer.parts.store.as_ref(), &arrival.entry, place)
    }

    /// True when the record stands in a log that has forked before it: no effect may rest on it by itself.
    fn in_doubt(&self, arrival: &Arrival) -> bool {
        if self.committer.evidence.is_empty() {
            return false;
        }
        let roster = self.committer.parts.roster.current();
        let forks = crate::verify::open_forks(&self.committer.evidence, &roster);
        forks.get(&arrival.entry.log).is_some_and(|first| arrival.entry.position.place() >= *first)
    }

    /// Takes a record into the projection of current alerts.
    fn note(&mut self, arrival: &Arrival) -> Result<(), campanile_log::Error> {
        let roster = self.committer.parts.roster.current();
        let rows = self.committer.current.lock().apply(arrival, &roster);
        self.rows(rows)
    }

    fn rows(&mut self, rows: Vec<crate::current::Row>) -> Result<(), campanile_log::Error> {
        for (key, value) in rows {
            self.batch.state(&key, value.as_deref())?;
        }
        Ok(())
    }

    /// Writes down how far evaluation has come, in the commit that made it so.
    pub(super) fn finish(&mut self) -> Result<(), campanile_log::Error> {
        if self.committer.parts.derive.is_none() {
            return Ok(());
        }
        let stored = match self.arrivals.last() {
            Some(last) => last.entry.arrival,
            None => self.committer.parts.store.last_arrival(),
        };
        let evaluated = match self.committer.deferred.front() {
            Some(first) if !crate::mutant("position-apart-from-effects") => first.entry.arrival.saturating_sub(1),
            _ => stored,
        };
        if self.committer.evaluated == Some(evaluated) {
            return Ok(());
        }
        self.committer.evaluated = Some(evaluated);
        self.batch.state(EVALUATED_ROW, Some(&evaluated.to_be_bytes()))
    }
}
