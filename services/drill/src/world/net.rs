//! What lies between the nodes: who can open a stream to whom, how long it takes, and what gets lost on the way.
//!
//! A node pulls each log from its own tail on, from the origin, or from any holder it can reach when it cannot reach the
//! origin. So what a fault loses, doubles or turns round is healed by the next pull.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use campanile_alert::DepartmentId;
use campanile_log::{LogId, Store as _};

use super::node::{Node, Work};
use super::record::Rec;
use super::{Act, Error, FULL_AGAIN_MS, Federation};
use crate::scenario::{Delay, OneWay, Partition, Share};
use crate::transcript::What;

/// How long a transfer takes: at least, and up to how much more.
const LATENCY_MS: (i64, i64) = (20, 40);

/// How soon a lost transfer is tried again.
const AGAIN_MS: i64 = 1_000;

/// Up to how long a node takes to open a stream again when it can.
const RECONNECT_MS: i64 = 2_000;

/// How long a department may be silent before the node's people are told.
const NOT_HEARD_MS: i64 = 60_000;

/// The faults of the network that are on, by their index.
#[derive(Debug, Default)]
pub(super) struct Net {
    pub(super) cuts: BTreeMap<usize, Partition>,
    pub(super) delays: BTreeMap<usize, Delay>,
    pub(super) losses: BTreeMap<usize, Share>,
    pub(super) reorders: BTreeMap<usize, Share>,
}

impl Net {
    /// Whether `to` can open a stream to `from`, to hear what it has.
    fn open(&self, to: &DepartmentId, from: &DepartmentId) -> bool {
        self.cuts.values().all(|cut| {
            let inside = |node: &DepartmentId| cut.cut.iter().any(|name| name == node.as_str());
            let outside = |node: &DepartmentId| match cut.from.is_empty() {
                true => !inside(node),
                false => cut.from.iter().any(|name| name == node.as_str()),
            };
            let deaf = inside(to) && outside(from);
            let mute = inside(from) && outside(to);
            !match cut.one_way {
                None => deaf || mute,
                Some(OneWay::Deaf) => deaf,
                Some(OneWay::Mute) => mute,
            }
        })
    }

    fn share(faults: &BTreeMap<usize, Share>, to: &DepartmentId, from: &DepartmentId) -> u32 {
        let concerned = faults.values().filter(|share| concerns(&share.nodes, to, from));
        concerned.map(|share| share.share.0).max().unwrap_or(0)
    }
}

fn concerns(nodes: &[String], to: &DepartmentId, from: &DepartmentId) -> bool {
    nodes.is_empty() || nodes.iter().any(|name| name == to.as_str() || name == from.as_str())
}

impl Federation<'_> {
    fn latency(&mut self, to: &DepartmentId, from: &DepartmentId) -> i64 {
        let mut ms = LATENCY_MS.0 + self.rng.up_to(LATENCY_MS.1);
        let delays: Vec<(i64, i64)> = self
            .net
            .delays
            .values()
            .filter(|delay| concerns(&delay.nodes, to, from))
            .map(|delay| (delay.by.ms(), delay.jitter.unwrap_or_default().ms()))
            .collect();
        for (by, jitter) in delays {
            ms += by.max(0) + self.rng.up_to(jitter.max(0));
        }
        ms
    }

    /// A node has something new in a log: those pull it who hear it there.
    pub(super) fn notify(&mut self, id: &DepartmentId, log: &LogId) {
        let own = log.origin.split_once('/').is_some_and(|(department, _)| department == id.as_str());
        let origin = self.nodes.keys().find(|node| log.origin.split_once('/').is_some_and(|(d, _)| d == node.as_str()));
        let origin = origin.cloned();
        let others: Vec<DepartmentId> = self.nodes.keys().filter(|other| *other != id).cloned().collect();
        for to in others {
            let direct = origin.as_ref().is_some_and(|origin| {
                *origin == to || (self.net.open(&to, origin) && self.nodes.get(origin).is_some_and(Node::is_up))
            });
            if self.net.open(&to, id) && (own || !direct) {
                let at = self.now + self.latency(&to, id);
                self.pull_at(at, to, id.clone(), log.clone());
            }
        }
    }

    fn pull_at(&mut self, at: i64, to: DepartmentId, from: DepartmentId, log: LogId) {
        if self.pulls.insert((to.clone(), from.clone(), log.clone())) {
            self.later(at, Act::Pull { to, from, log });
        }
    }

    pub(super) fn pull(&mut self, to: &DepartmentId, from: &DepartmentId, log: &LogId) -> Result<(), Error> {
        self.pulls.remove(&(to.clone(), from.clone(), log.clone()));
        let (Some(own), Some(other)) = (self.nodes.get(to), self.nodes.get(from)) else { return Ok(()) };
        // Whoever cannot be reached is pulled from again when something changes.
        if !own.is_up() || !other.is_up() || !self.net.open(to, from) {
            return Ok(());
        }
        let entries = own.missing(other, log)?;
        if entries.is_empty() {
            return Ok(());
        }
        let again = |this: &mut Self, after: i64| {
            let at = this.now + after;
            this.pull_at(at, to.clone(), from.clone(), log.clone());
        };
        if own.disk_full {
            again(self, FULL_AGAIN_MS);
            return Ok(());
        }
        let (lost, turned) = (Net::share(&self.net.losses, to, from), Net::share(&self.net.reorders, to, from));
        if lost > 0 && self.rng.chance(lost) {
            again(self, AGAIN_MS);
            return Ok(());
        }
        let mut work = Vec::with_capacity(entries.len());
        for entry in entries {
            let rec = match self.read.get(&entry.position.hash) {
                Some(rec) => Arc::clone(rec),
                None => Arc::new(Rec::read(&entry).ok_or_else(|| Error::Record(entry.log.to_string()))?),
            };
            work.push(Work::Replica(Box::new(entry), rec));
        }
        if turned > 0 && self.rng.chance(turned) {
            work.reverse();
        }
        let (_, gap) = self.commit(to, work)?;
        let more = match (self.nodes.get(to), self.nodes.get(from)) {
            (Some(own), Some(other)) => !own.missing(other, log)?.is_empty(),
            _ => false,
        };
        if gap || more {
            let after = self.latency(to, from);
            again(self, after);
        }
        Ok(())
    }

    /// Whether what `from` says reaches `at`, directly or over others.
    pub(super) fn hears(&self, at: &DepartmentId, from: &DepartmentId) -> bool {
        let up = |id: &DepartmentId| self.nodes.get(id).is_some_and(Node::is_up);
        if self.net.cuts.is_empty() {
            return up(at) && up(from);
        }
        let (mut open, mut seen) = (vec![at], BTreeSet::from([at]));
        while let Some(here) = open.pop() {
            if here == from {
                return up(at) && up(from);
            }
            let next = self.nodes.keys().filter(|next| up(next) && self.net.open(here, next));
            for next in next {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        false
    }

    /// Who can reach whom has changed: streams are opened again, and it is noted who is no longer heard.
    pub(super) fn network_changed(&mut self) {
        let ids: Vec<DepartmentId> = self.nodes.keys().cloned().collect();
        for to in &ids {
            for from in ids.iter().filter(|from| *from != to) {
                if self.net.open(to, from) && self.nodes.get(to).is_some_and(Node::is_up) {
                    let logs = self.nodes.get(from).and_then(Node::store).map(|store| store.logs());
                    let after = self.rng.up_to(RECONNECT_MS);
                    for (log, _) in logs.into_iter().flatten() {
                        let at = self.now + after + self.latency(to, from);
                        self.pull_at(at, to.clone(), from.clone(), log);
                    }
                }
                let pair = (to.clone(), from.clone());
                match (self.hears(to, from), self.deaf.contains_key(&pair)) {
                    (false, false) => {
                        let since = self.now;
                        self.deaf.insert(pair, since);
                        let (at, from) = (to.clone(), from.clone());
                        self.later(since + NOT_HEARD_MS, Act::NotHeard { at, from, since });
                    }
                    (true, true) => {
                        self.deaf.remove(&pair);
                        if self.stale.remove(&pair) {
                            self.emit(Some(to), What::Heard { from: from.clone() });
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// A department has not been heard for long enough that people are told, when there are any.
    pub(super) fn not_heard(&mut self, at: &DepartmentId, from: &DepartmentId, since: i64) {
        let pair = (at.clone(), from.clone());
        let shown_to = self.people_of(at);
        let up = self.nodes.get(at).is_some_and(Node::is_up);
        if self.deaf.get(&pair) != Some(&since) || !up || shown_to.is_empty() || !self.stale.insert(pair) {
            return;
        }
        self.emit(Some(at), What::Stale { from: from.clone(), shown_to: shown_to.clone() });
        self.tell_stale(from, &shown_to);
    }
}
