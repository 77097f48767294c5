//! The outside ledger: it sees every commit of every node and every answer to a client, and keeps its own accounts.
//!
//! A record is *born* when its origin's disk has it; whoever else stores a record must store one that was born, byte for
//! byte. What is wrong is written down with the letter of the invariant, and ends the run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use campanile_alert::{AlertId, World};
use campanile_bus::record::{self, Content};
use campanile_log::memory::{Disk, MemoryStore};
use campanile_log::{
    Entry, Error, Evidence, Hash, Key, Lane, LogId, Position, Recorded, Standing, StateRows, Store, Work,
};
use parking_lot::Mutex;

use crate::federation::origin;
use crate::governance::Governance;
use crate::lies::Lies;
use crate::node::Node;
use crate::trace::Trace;

/// The place of a record: its log, epoch and number.
type Place = (LogId, u64, u64);

/// The accounts of a run.
pub(crate) struct Ledger {
    pub(crate) trace: Trace,
    books: Mutex<Books>,
    /// What was said on purpose that is not so.
    lies: Arc<Lies>,
    governance: Arc<Mutex<Governance>>,
}

#[derive(Default)]
struct Books {
    born: BTreeMap<Place, Born>,
    places: BTreeMap<Hash, Place>,
    /// Where each alert stands in its department's logs.
    alerts: BTreeMap<(String, String), BTreeSet<Place>>,
    acked: Vec<Acked>,
    /// Departments that have lost records with a disk, and how many answers had been given by then: what these were
    /// about may be missing, and be published anew.
    bereft: BTreeMap<String, usize>,
    /// What others held when a disk was lost: it must come back.
    owed: BTreeMap<String, BTreeSet<(LogId, Position)>>,
    /// The arrivals at each node of records of its own that came back from a peer.
    back: BTreeMap<String, BTreeSet<(u64, Hash)>>,
    faults: Vec<String>,
}

struct Born {
    header: Bytes,
    body: Option<Bytes>,
    signatures: Bytes,
    world: World,
}

/// An answer that a client was given.
#[derive(Debug, Clone)]
pub(crate) struct Acked {
    pub(crate) department: String,
    pub(crate) id: Option<AlertId>,
    pub(crate) log: LogId,
    pub(crate) position: Position,
}

impl Ledger {
    pub(crate) fn new(lies: Arc<Lies>, governance: Arc<Mutex<Governance>>) -> Self {
        Self { trace: Trace::default(), books: Mutex::default(), lies, governance }
    }

    /// What was found wrong so far.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.books.lock().faults.clone()
    }

    pub(crate) fn fault(&self, fault: String) {
        self.trace.note("run", format_args!("FAULT {fault}"));
        self.books.lock().faults.push(fault);
    }

    /// A department's disk is gone or set back: what only it had is lost.
    ///
    /// `held` is what others hold of its own logs.
    pub(crate) fn bereave(&self, department: &str, held: BTreeSet<(LogId, Position)>) {
        let mut books = self.books.lock();
        let answered = books.acked.len();
        books.bereft.insert(department.into(), answered);
        books.owed.entry(department.into()).or_default().extend(held);
    }

    /// A disk is gone or set back: what was owed and is on no disk any more can be given back by nobody.
    pub(crate) fn write_off(&self, nodes: &[Arc<Node>]) {
        let stores: Vec<MemoryStore> = nodes.iter().map(|node| node.look()).collect();
        let is_held = |(log, position): &(LogId, Position)| {
            let held = |store: &MemoryStore| store.get(log, position.epoch, position.seq).unwrap();
            stores.iter().filter_map(held).any(|entry| entry.position == *position)
        };
        self.books.lock().owed.values_mut().for_each(|owed| owed.retain(&is_held));
    }

    /// What others held of a lost disk is on its successor.
    pub(crate) fn inspect_returned(&self, nodes: &[Arc<Node>]) {
        let owed = self.books.lock().owed.clone();
        for node in nodes {
            let store = node.look();
            let forked = self.lies.forked();
            let owed = owed.get(&node.department).into_iter().flatten();
            for (log, position) in owed.filter(|(log, _)| forked.as_ref() != Some(log)) {
                let held = store.get(log, position.epoch, position.seq).unwrap();
                if held.is_none_or(|entry| entry.position.hash != position.hash) {
                    self.fault(format!("L1: {log} {position} was held by others and did not come back"));
                }
            }
        }
    }

    /// The arrivals at a node of records of its own that came back from a peer.
    pub(crate) fn back(&self, node: &str) -> BTreeSet<(u64, Hash)> {
        self.books.lock().back.get(node).cloned().unwrap_or_default()
    }

    pub(crate) fn is_bereft(&self, department: &str) -> bool {
        self.books.lock().bereft.contains_key(department)
    }

    /// A node has committed an entry.
    fn stored(&self, node: &str, entry: &Entry) {
        let (log, place) = (&entry.log, entry.position);
        let standing = match &entry.standing {
            Standing::Counted => "counted".to_owned(),
            other => format!("{other:?}"),
        };
        self.trace.note(node, format_args!("stored {log} {place} {standing}"));
        let mut books = self.books.lock();
        let mut faults = books.enter(node, entry, &self.lies);
        drop(books);
        faults.extend(unentitled(node, entry, &self.governance.lock()));
        for fault in faults {
            self.fault(fault);
        }
    }

    /// A client has its answer.
    pub(crate) fn acknowledged(&self, acked: Acked) {
        let mut books = self.books.lock();
        let born = books.born.get(&(acked.log.clone(), acked.position.epoch, acked.position.seq));
        let wrong = match born {
            None => Some(format!("L1: {} {} was acknowledged and is on no disk", acked.log, acked.position)),
            Some(born) if Hash::of(&born.header) != acked.position.hash => {
                Some(format!("L1: {} {} was acknowledged and another record stands there", acked.log, acked.position))
            }
            Some(_) => None,
        };
        let before = books.acked.iter().find(|before| before.id.is_some() && before.id == acked.id);
        let changed =
            before.filter(|before| before.department == acked.department && before.position != acked.position);
        let changed = changed.filter(|before| !books.bereft.contains_key(&before.department));
        let changed = changed.map(|before| {
            format!("D1: {:?} was answered with {} and now with {}", acked.id, before.position, acked.position)
        });
        books.acked.push(acked);
        drop(books);
        for fault in wrong.into_iter().chain(changed) {
            self.fault(fault);
        }
    }

    /// Looks at what a node holds against others: evidence stands against nobody but who has signed two contents.
    pub(crate) fn inspect_evidence(&self, node: &Node) {
        let forked = self.lies.forked();
        let evidence = node.look().evidence().unwrap();
        for evidence in evidence.iter().filter(|evidence| Some(&evidence.log) != forked.as_ref()) {
            self.fault(format!("L3: {} is accused at {} of what it did not do", evidence.log, node.department));
        }
    }

    /// Whether a node holds another branch of a log than its author, and no proof of that.
    pub(crate) fn lacks_proof(&self, node: &Node, author: &Node, log: &LogId) -> bool {
        let (held, true_one) = (node.look(), author.look());
        let is_other = |entry: &Entry| {
            let truth = true_one.get(log, entry.position.epoch, entry.position.seq).unwrap();
            truth.is_some_and(|truth| truth.position.hash != entry.position.hash)
        };
        held.read(log, None, usize::MAX, usize::MAX).unwrap().iter().any(is_other)
            && !held.evidence().unwrap().iter().any(|evidence| evidence.log == *log)
    }

    /// Looks at a node's disk: every log of it is whole, and nothing acknowledged is missing from its own.
    pub(crate) fn inspect(&self, department: &str, disk: &Disk) {
        let store = MemoryStore::look(disk);
        let mut faults = Vec::new();
        for (log, _) in store.logs() {
            if let Err(error) = store.verify_chain(&log, None) {
                faults.push(format!("L2: {log} at {department} is no chain: {error}"));
            }
        }
        let books = self.books.lock();
        let excused = books.bereft.get(department).copied().unwrap_or_default();
        for acked in books.acked.iter().skip(excused).filter(|acked| acked.department == department) {
            let held = store.get(&acked.log, acked.position.epoch, acked.position.seq).unwrap();
            let is_there = held.is_some_and(|entry| entry.position.hash == acked.position.hash);
            if !is_there {
                faults.push(format!("L1: {} {} was acknowledged and is missing", acked.log, acked.position));
            }
        }
        drop(books);
        for fault in faults {
            self.fault(fault);
        }
    }
}

/// S1: what a receiver counts was signed with a key that governance has listed, under a roster that gave the right.
fn unentitled(node: &str, entry: &Entry, governance: &Governance) -> Option<String> {
    let own = *entry.log.origin == *origin(node).to_string();
    if own || entry.standing != Standing::Counted {
        return None;
    }
    let (log, position) = (&entry.log, entry.position);
    let header = record::open_header(&entry.header).ok()?;
    if !governance.knows(&header.key_id) || header.roster > governance.number() {
        return Some(format!("S1: {log} {position} counts at {node}, and no roster lists its key"));
    }
    if governance.may_report(header.roster, header.origin.department().as_str()) {
        return None;
    }
    let body = record::open_body(&header, entry.body.as_ref()?).ok()?;
    let is_fire = body.classification.event.as_deref() == Some("fire");
    let says = matches!(&body.content, Content::Alert { alert, .. } if !alert.infos.is_empty());
    (is_fire && says)
        .then(|| format!("S1: the fire {log} {position} counts at {node}, and its author has no right to it"))
}

impl Books {
    fn enter(&mut self, node: &str, entry: &Entry, lies: &Lies) -> Vec<String> {
        let (log, position) = (&entry.log, entry.position);
        let department = log.origin.split('/').next().unwrap_or_default().to_owned();
        let place = (log.clone(), position.epoch, position.seq);
        let own = *log.origin == *origin(node).to_string();
        let mut faults = Vec::new();
        match self.born.get(&place) {
            Some(born) => {
                if own {
                    self.back.entry(node.into()).or_default().insert((entry.arrival, position.hash));
                }
                if born.header != entry.header && lies.is_branch(log, position.place(), &entry.header) {
                    // Nobody can tell which of two records with a good signature came first.
                } else if born.header != entry.header {
                    let letter = if own { "L3" } else { "R1" };
                    faults.push(format!("{letter}: {log} {position} at {node} is not what stands in the origin's log"));
                } else if entry.body.is_some() && entry.body != born.body || entry.signatures != born.signatures {
                    faults.push(format!("R1: body or signatures of {log} {position} at {node} are not the origin's"));
                }
                return faults;
            }
            None if !own => {
                faults.push(format!("R2: {node} holds {log} {position}, which its origin's disk never had"));
                return faults;
            }
            None => {}
        }
        let Ok(header) = record::open_header(&entry.header) else {
            return vec![format!("L2: the header of {log} {position} is not readable")];
        };
        let body = entry.body.as_ref().and_then(|body| record::open_body(&header, body).ok());
        let Some(body) = body else { return vec![format!("L2: the body of {log} {position} is not readable")] };
        for cause in &body.causes {
            let hash: [u8; 32] = cause.record_hash.as_ref().try_into().unwrap_or_default();
            match self.places.get(&Hash(hash)).and_then(|place| self.born.get(place)) {
                None => faults.push(format!("T3: {log} {position} has a cause that no origin's disk had")),
                Some(born) if born.world != header.world => faults.push(format!(
                    "T3: {log} {position} is of world {} and its cause of world {}",
                    header.world, born.world
                )),
                Some(_) => {}
            }
        }
        if (log.lane == Lane::Exercise) != (header.world != World::Actual && header.world != World::System) {
            faults.push(format!("T3: a record of world {} stands in {log}", header.world));
        }
        if let Content::Alert { alert, .. } = &body.content {
            let places = self.alerts.entry((department.clone(), alert.id().to_string())).or_default();
            places.insert(place.clone());
            if places.len() > 1 && !self.bereft.contains_key(&department) {
                faults.push(format!("D1: {} stands {} times in the logs of {department}", alert.id(), places.len()));
            }
        }
        self.places.insert(position.hash, place.clone());
        let (body, signatures) = (entry.body.clone(), entry.signatures.clone());
        self.born.insert(place, Born { header: entry.header.clone(), body, signatures, world: header.world });
        faults
    }
}

/// A store that tells the ledger of every commit.
pub(crate) struct Watched {
    pub(crate) inner: MemoryStore,
    pub(crate) node: String,
    pub(crate) ledger: Arc<Ledger>,
}

impl Store for Watched {
    fn commit(&self, work: &mut Work<'_>) -> Result<(), Error> {
        let before = self.inner.last_arrival();
        let result = self.inner.commit(work);
        if let Err(error) = &result {
            self.ledger.trace.note(&self.node, format_args!("commit failed: {error}"));
        }
        // A commit that failed may be on the disk all the same.
        for entry in self.inner.arrivals(before, usize::MAX, usize::MAX)? {
            self.ledger.stored(&self.node, &entry);
        }
        result
    }

    fn begin_epoch(&self, log: &LogId, epoch: u64) -> Result<(), Error> {
        self.inner.begin_epoch(log, epoch)
    }

    fn tail(&self, log: &LogId) -> Option<Position> {
        self.inner.tail(log)
    }

    fn logs(&self) -> Vec<(LogId, Position)> {
        self.inner.logs()
    }

    fn epochs(&self, log: &LogId) -> Vec<Position> {
        self.inner.epochs(log)
    }

    fn last_arrival(&self) -> u64 {
        self.inner.last_arrival()
    }

    fn read(&self, log: &LogId, after: Option<(u64, u64)>, entries: usize, bytes: usize) -> Result<Vec<Entry>, Error> {
        self.inner.read(log, after, entries, bytes)
    }

    fn arrivals(&self, after: u64, entries: usize, bytes: usize) -> Result<Vec<Entry>, Error> {
        self.inner.arrivals(after, entries, bytes)
    }

    fn get(&self, log: &LogId, epoch: u64, seq: u64) -> Result<Option<Entry>, Error> {
        self.inner.get(log, epoch, seq)
    }

    fn by_hash(&self, hash: &Hash) -> Result<Option<Entry>, Error> {
        self.inner.by_hash(hash)
    }

    fn find(&self, key: &Key) -> Result<Option<Recorded>, Error> {
        self.inner.find(key)
    }

    fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.inner.state(key)
    }

    fn state_prefix(&self, prefix: &[u8], after: Option<&[u8]>, max: usize) -> Result<StateRows, Error> {
        self.inner.state_prefix(prefix, after, max)
    }

    fn evidence(&self) -> Result<Vec<Evidence>, Error> {
        self.inner.evidence()
    }

    fn checkpoint(&self, log: &LogId) -> Result<Option<Bytes>, Error> {
        self.inner.checkpoint(log)
    }

    fn scrub(&self, step: usize) -> Result<Option<u64>, Error> {
        self.inner.scrub(step)
    }

    fn verify_chain(&self, log: &LogId, from: Option<(u64, u64)>) -> Result<u64, Error> {
        self.inner.verify_chain(log, from)
    }
}
