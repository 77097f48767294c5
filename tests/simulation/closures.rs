//! The accounts of edb's rules: for each fire beside schools, each of these schools is closed once.
//!
//! What must follow is worked out here anew, from the fires that edb holds and the distances to its sites, with another
//! formula than the rules use.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{Alert, MessageType, World};
use campanile_bus::record::{self, Body, Content, Header};
use campanile_log::memory::MemoryStore;
use campanile_log::{Hash, Standing, Store as _};

use crate::workload::FIRE_RULE;

/// The rule's own figures.
const WITHIN_M: f64 = 500.0;
const LEVEL_MIN: u32 = 3;

/// A record as edb holds it.
struct Held {
    header: Header,
    body: Body,
    /// It is edb's own, and has come back from a peer.
    is_back: bool,
}

impl Held {
    fn alert(&self) -> Option<&Alert> {
        match &self.body.content {
            Content::Alert { alert, .. } => Some(alert),
            _ => None,
        }
    }

    fn is_closure(&self) -> bool {
        self.body.rule.as_ref().is_some_and(|rule| rule.id == FIRE_RULE)
    }

    /// The Cancel that an officer of edb has published.
    fn officers_cancel(&self) -> Option<&Alert> {
        let own = self.header.origin.department().as_str() == "edb" && self.body.rule.is_none();
        self.alert().filter(|alert| own && alert.msg_type == MessageType::Cancel)
    }
}

fn held(store: &MemoryStore, back: &BTreeSet<(u64, Hash)>) -> Vec<Held> {
    let entries = store.arrivals(0, usize::MAX, usize::MAX).unwrap().into_iter();
    let counted = entries.filter(|entry| entry.standing == Standing::Counted);
    counted
        .filter_map(|entry| {
            let header = record::open_header(&entry.header).ok()?;
            let body = record::open_body(&header, entry.body.as_ref()?).ok()?;
            let is_back = back.contains(&(entry.arrival, entry.position.hash));
            Some(Held { header, body, is_back })
        })
        .collect()
}

/// How many closures edb has issued.
pub(crate) fn count(store: &MemoryStore) -> usize {
    let is_first = |held: &&Held| held.alert().is_some_and(|alert| alert.msg_type == MessageType::Alert);
    held(store, &BTreeSet::new()).iter().filter(|held| held.is_closure()).filter(is_first).count()
}

/// A site in a world.
pub(crate) type Target = (World, String);

/// What must follow and what may, from the records in the order in which they came.
#[derive(Default)]
struct Expected {
    /// Something beside it burned high enough once.
    may: BTreeSet<Target>,
    /// It burned so when the rule was at work and allowed to act, or burns so still.
    must: BTreeSet<Target>,
    /// The fires by the identity of their first message, and what each concerns now.
    fires: BTreeMap<String, BTreeSet<Target>>,
    /// The first message of each.
    roots: BTreeMap<String, String>,
    /// What a later message has taken the place of; it may come after that.
    superseded: BTreeSet<String>,
    signers: BTreeSet<String>,
    paused: bool,
    /// What rules of edb had issued comes back, and no tick has said yet that all is here: no rule acts until then, and
    /// what burns out meanwhile closes nothing.
    recovering: bool,
}

impl Expected {
    fn take(&mut self, held: &Held, sites: &[(String, f64, f64)]) {
        let own = held.header.origin.department().as_str() == "edb";
        match &held.body.content {
            Content::Alert { .. } if own => self.recovering |= held.is_back && held.body.rule.is_some(),
            Content::Tick(_) if own => {
                self.recovering = false;
                self.act();
            }
            Content::Envelope(envelope) if own => {
                self.signers.insert(envelope.person.clone());
            }
            Content::Pause(pause) if own => {
                self.paused = pause.paused;
                self.act();
            }
            Content::Alert { alert, .. } if held.header.origin.department().as_str() == "fsd" => {
                let id = alert.id().to_string();
                let before = alert.referenced().first().map(ToString::to_string);
                let root = before.map_or_else(|| id.clone(), |id| self.roots.get(&id).cloned().unwrap_or(id));
                self.superseded.extend(alert.referenced().iter().map(ToString::to_string));
                self.roots.insert(id.clone(), root.clone());
                if self.superseded.contains(&id) {
                    return;
                }
                let burns = alert.msg_type != MessageType::Cancel && level(alert) >= LEVEL_MIN;
                let near = if burns { near(alert, sites) } else { BTreeSet::new() };
                let targets: BTreeSet<Target> =
                    near.into_iter().map(|site| (held.header.world.clone(), site)).collect();
                self.may.extend(targets.iter().cloned());
                self.fires.insert(root, targets);
                self.act();
            }
            _ => {}
        }
    }

    /// The rule acts on what burns, where it may act at once.
    fn act(&mut self) {
        if !self.paused && !self.recovering && self.signers.len() >= 2 {
            self.must.extend(self.fires.values().flatten().cloned());
        }
    }
}

/// What is wrong with edb's closures, after everything has come to it and its rules are done.
///
/// `in_force` are the closures that its rules know of, `back` the arrivals of its own records that came from peers.
pub(crate) fn judge(store: &MemoryStore, in_force: &BTreeSet<Target>, back: &BTreeSet<(u64, Hash)>) -> Vec<String> {
    let all = held(store, back);
    let sites = sites();
    let mut expected = Expected::default();
    for held in &all {
        expected.take(held, &sites);
    }
    // Whoever was asked has answered by now.
    expected.must.extend(expected.fires.values().flatten().cloned());
    let mut closed: BTreeMap<Target, Closed> = BTreeMap::new();
    for held in &all {
        if held.is_closure() {
            for site in &held.body.classification.sites {
                closed.entry((held.header.world.clone(), site.clone())).or_default().take(held);
            }
        } else if let Some(alert) = held.officers_cancel() {
            closed.values_mut().for_each(|closed| closed.end(alert));
        }
    }
    let mut faults = Vec::new();
    for (world, site) in expected.must.iter().filter(|target| !closed.contains_key(*target)) {
        faults.push(format!("T1: a fire burns beside {site} of world {world}, and it was never closed"));
    }
    for (target @ (world, site), closed) in &closed {
        if closed.times == 0 || closed.times > 1 + closed.ended {
            faults.push(format!("T1: {site} of world {world} was closed {} times", closed.times));
        }
        if !closed.is_over && !in_force.contains(target) {
            faults.push(format!("T4: {site} of world {world} is closed, and the rules do not know of it"));
        }
        if !expected.may.contains(target) {
            faults.push(format!("T1: {site} of world {world} was closed without a fire beside it"));
        }
    }
    faults
}

/// What became of one site.
#[derive(Default)]
struct Closed {
    /// How many times it was closed by the rules knowing what had come to them.
    times: usize,
    /// How many times an officer has ended that; each time a new fire may close it again.
    ended: usize,
    ids: BTreeSet<String>,
    epoch: u64,
    /// The last message was that it is open again.
    is_over: bool,
}

impl Closed {
    fn take(&mut self, closure: &Held) {
        let Some(alert) = closure.alert() else { return };
        // What only an unreachable node held, when the disk was lost, comes back after the site was closed anew: below.
        let is_late = closure.header.epoch < self.epoch;
        if self.ids.insert(alert.id().to_string()) && alert.msg_type == MessageType::Alert && !is_late {
            self.times += 1;
        }
        self.epoch = self.epoch.max(closure.header.epoch);
        self.is_over = alert.msg_type == MessageType::Cancel;
    }

    /// An officer has cancelled something: perhaps this.
    fn end(&mut self, cancel: &Alert) {
        if cancel.referenced().iter().any(|id| self.ids.contains(&id.to_string())) {
            self.ended += 1;
            self.is_over = true;
        }
    }
}

fn level(alert: &Alert) -> u32 {
    let parameters = alert.infos.iter().flat_map(|info| &info.parameters);
    let level =
        parameters.filter(|pair| pair.value_name == "campanile:alarm-level").find_map(|pair| pair.value.parse().ok());
    level.unwrap_or_default()
}

fn near(alert: &Alert, sites: &[(String, f64, f64)]) -> BTreeSet<String> {
    let circles = alert.infos.iter().flat_map(|info| &info.areas).flat_map(|area| &area.circles);
    let centres: Vec<(f64, f64)> = circles.map(|circle| (circle.centre().lat, circle.centre().lon)).collect();
    let is_near = |(_, lat, lon): &&(String, f64, f64)| {
        centres.iter().any(|centre| {
            let metres = haversine_m(*centre, (*lat, *lon));
            assert!((metres - WITHIN_M).abs() > 10.0, "a site at the edge proves nothing: {metres} m");
            metres < WITHIN_M
        })
    };
    sites.iter().filter(is_near).map(|(site, ..)| site.clone()).collect()
}

fn haversine_m(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (lat_a, lat_b) = (a.0.to_radians(), b.0.to_radians());
    let (half_lat, half_lon) = ((lat_b - lat_a) / 2.0, (b.1 - a.1).to_radians() / 2.0);
    let h = half_lat.sin().powi(2) + lat_a.cos() * lat_b.cos() * half_lon.sin().powi(2);
    2.0 * 6_371_008.8 * h.sqrt().asin()
}

fn sites() -> Vec<(String, f64, f64)> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/rules/packs/harbour-view-sites.json");
    let rows: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let site = |row: &serde_json::Value| {
        let number = row["no"].as_str().unwrap()[..10].to_owned();
        (number, row["lat"].as_f64().unwrap(), row["lon"].as_f64().unwrap())
    };
    rows.as_array().unwrap().iter().map(site).collect()
}
