//! The public feeds: what `/feed`, `/alerts.json` and `/events` show.
//!
//! Handing a notice to the feed makes it visible to whoever asks; it says nothing of readers. What has ended leaves the
//! list of alerts in force at once; a Cancel or an all-clear is shown as such for an hour. [`crate::http`] renders it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use campanile_alert::{Alert, Scope, Timestamp};
use campanile_log::Hash;
use parking_lot::RwLock;

use super::{Channel, Endpoint, Health, Outcome};
use crate::board::{END_SHOWN, EndKind};
use crate::http::events::Events;
use crate::http::json;
use crate::incoming::Incoming;
use crate::notice::{EndNotice, Judge, LiveNotice};

/// How many records stay fetchable by their hash, in force or not.
const DOCUMENTS_MAX: usize = 2_000;
/// How many of them are looked at for one that may go, each time one comes.
const LOOKS_MAX: usize = 16;

/// The public feeds.
#[derive(Debug)]
pub struct Feed {
    judge: Judge,
    inside: RwLock<Inside>,
    events: Events,
}

#[derive(Debug)]
struct Inside {
    shown: HashMap<Hash, LiveNotice>,
    ended: HashMap<Hash, EndNotice>,
    documents: HashMap<Hash, Arc<Incoming>>,
    order: VecDeque<Hash>,
    updated: Timestamp,
}

/// The feed at one instant.
#[derive(Debug)]
pub struct Snapshot {
    /// When it last changed.
    pub updated: Timestamp,
    /// What is in force, the newest first.
    pub in_force: Vec<LiveNotice>,
    /// What was cancelled or all-clear in the last hour, the newest first.
    pub ended: Vec<EndNotice>,
}

impl Feed {
    /// An empty feed.
    pub fn new(judge: Judge) -> Self {
        let updated = judge.now();
        let inside = Inside {
            shown: HashMap::new(),
            ended: HashMap::new(),
            documents: HashMap::new(),
            order: VecDeque::new(),
            updated,
        };
        Self { inside: RwLock::new(inside), events: Events::new(updated), judge }
    }

    /// What it shows now. What has expired or is known to have ended is left out, whether or not it was taken off.
    pub fn snapshot(&self) -> Snapshot {
        let now = self.judge.now();
        let inside = self.inside.read();
        let mut updated = inside.updated;
        let mut in_force = Vec::new();
        for notice in inside.shown.values() {
            if self.judge.still_holds(notice) {
                in_force.push(notice.clone());
            } else if let Some(expired) = notice.incoming().alert.expires().filter(|expires| *expires <= now) {
                updated = updated.max(expired);
            }
        }
        let is_shown = |end: &&EndNotice| end.end().at.checked_add(END_SHOWN).is_ok_and(|until| until > now);
        let mut ended: Vec<EndNotice> = inside.ended.values().filter(is_shown).cloned().collect();
        drop(inside);
        in_force.sort_by_key(|notice| std::cmp::Reverse((notice.incoming().time, notice.incoming().record)));
        ended.sort_by_key(|end| std::cmp::Reverse((end.end().at, end.incoming().record)));
        Snapshot { updated, in_force, ended }
    }

    /// A record that was shown here, by its hash.
    pub fn document(&self, record: &Hash) -> Option<Arc<Incoming>> {
        self.inside.read().documents.get(record).cloned()
    }

    /// The stream of changes.
    pub fn events(&self) -> &Events {
        &self.events
    }

    fn show(&self, notice: &LiveNotice) -> bool {
        let mut inside = self.inside.write();
        let record = notice.incoming().record;
        if inside.shown.contains_key(&record) || inside.ended.contains_key(&record) {
            return false;
        }
        inside.keep(notice.incoming());
        inside.shown.insert(record, notice.clone());
        true
    }

    fn end(&self, end: &EndNotice) -> bool {
        let now = self.judge.now();
        let mut inside = self.inside.write();
        let was_shown = inside.shown.remove(&end.incoming().record).is_some();
        if matches!(end.end().kind, EndKind::Cancelled | EndKind::AllClear) {
            inside.ended.retain(|_, old| old.end().at.checked_add(END_SHOWN).is_ok_and(|until| until > now));
            inside.keep(end.incoming());
            // Who may not read the Cancel of a public alert still learns that it ended, not what the Cancel says.
            if let Some(by) = end.end().by.as_ref().filter(|by| by.alert.scope == Some(Scope::Public)) {
                inside.keep(by);
            }
            inside.ended.insert(end.incoming().record, end.clone());
        }
        was_shown
    }

    fn touch(&self) {
        self.inside.write().updated = self.judge.now();
    }
}

impl Inside {
    fn keep(&mut self, incoming: &Arc<Incoming>) {
        if self.documents.insert(incoming.record, Arc::clone(incoming)).is_none() {
            self.order.push_back(incoming.record);
        }
        // What is still shown stays fetchable: it goes to the end of the line instead of out. Only a few are looked at
        // each time, so that many alerts in force do not make each new one slower.
        for _ in 0..self.order.len().min(LOOKS_MAX) {
            if self.documents.len() <= DOCUMENTS_MAX {
                break;
            }
            let Some(oldest) = self.order.pop_front() else { break };
            if self.shown.contains_key(&oldest) {
                self.order.push_back(oldest);
            } else {
                self.documents.remove(&oldest);
            }
        }
    }
}

#[async_trait]
impl Channel for Feed {
    fn name(&self) -> &'static str {
        "feed"
    }

    fn endpoints(&self, _alert: &Alert) -> Vec<Endpoint> {
        vec!["all".into()]
    }

    fn is_in_process(&self) -> bool {
        true
    }

    async fn hand(&self, notice: &LiveNotice, _endpoint: &Endpoint) -> Outcome {
        if self.show(notice) {
            self.touch();
            self.events.send("alert", &json::alert(notice.incoming(), "in-force"));
        }
        Outcome::Handed
    }

    async fn clear(&self, end: &EndNotice, _endpoint: &Endpoint) -> Outcome {
        if self.end(end) {
            self.touch();
            self.events.send("end", &json::end(end));
        }
        Outcome::Handed
    }

    fn restore(&self, notice: &LiveNotice, _endpoints: &[Endpoint]) {
        self.show(notice);
    }

    fn restore_end(&self, end: &EndNotice) {
        self.end(end);
    }

    async fn probe(&self) -> Health {
        Health::Up
    }
}
