//! A simulated node: what survives its crash, how it starts, and how a client's wish reaches it.

use std::sync::{Arc, Weak};

use campanile_alert::{Alert, Clock, DepartmentId, ExerciseId, vocabulary};
use campanile_bus::record::Draft;
use campanile_bus::{Bus, Derive, Options, Published, Submission};
use campanile_discovery::{Members, MembersConfig, MemoryHub, TlsMaterial};
use campanile_log::Store;
use campanile_log::memory::{Disk, Fault, MemoryStore};
use campanile_node::rules::{NodeRules, RulesView};
use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::mpsc;

use crate::federation::{FEDERATION, Setting, keys, origin};
use crate::ledger::{Ledger, Watched};
use crate::surroundings::{SimClock, Simulated};
use crate::wire;

/// What a client wants of a node.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    Publish { alert: Arc<Alert>, exercise: Option<ExerciseId> },
    Record(Box<Draft>),
}

/// A wish on its way.
pub(crate) struct Call {
    /// Which intent of the run it is for, and which attempt.
    pub(crate) intent: usize,
    pub(crate) attempt: u32,
    pub(crate) wish: Wish,
}

/// What became of a call.
pub(crate) struct Answer {
    pub(crate) intent: usize,
    pub(crate) attempt: u32,
    pub(crate) result: Result<Published, Refusal>,
}

/// A refusal, and whether the same call may be tried again.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) again: bool,
}

/// What all nodes of a run share.
pub(crate) struct Shared {
    pub(crate) seed: u64,
    pub(crate) roster: Arc<[u8]>,
    pub(crate) hub: MemoryHub,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) answers: Mutex<Vec<Answer>>,
}

/// A node: its disk and clock, and the way into the process that runs over them.
pub(crate) struct Node {
    pub(crate) department: String,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) disk: Mutex<Disk>,
    index: u64,
    starts: Mutex<u64>,
    shared: Arc<Shared>,
    process: Mutex<Option<Process>>,
    has_failed: Mutex<bool>,
}

/// What the run sees of a process. It holds nothing that would outlive it.
struct Process {
    calls: mpsc::Sender<Call>,
    store: Weak<Watched>,
    rules: Option<Arc<Mutex<RulesView>>>,
}

impl Node {
    pub(crate) fn new(index: usize, department: &str, clock: SimClock, shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            department: department.into(),
            clock: Arc::new(clock),
            disk: Mutex::default(),
            index: index as u64,
            starts: Mutex::new(0),
            shared: Arc::clone(shared),
            process: Mutex::new(None),
            has_failed: Mutex::new(false),
        })
    }

    /// Runs the node until its disk fails; a crash ends it anywhere.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let (setting, shared) = (Setting::shared(), &self.shared);
        let life = {
            let mut starts = self.starts.lock();
            *starts += 1;
            *starts
        };
        let chance = StdRng::seed_from_u64(shared.seed ^ (self.index + 1) << 40 ^ life << 52);
        let surroundings = Arc::new(Simulated::new(&self.department, chance));
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let inner = MemoryStore::open(&self.disk.lock())?;
        let store = Arc::new(Watched { inner, node: self.department.clone(), ledger: Arc::clone(&shared.ledger) });
        let roster = setting.open_roster(&shared.roster);
        let material = TlsMaterial::new(setting.identity(&self.department), roster.clone(), Arc::clone(&clock))?;
        let members = Members::start(MembersConfig {
            directory: Arc::new(shared.hub.join()),
            roster: roster.clone(),
            cache: None,
            clock: Arc::clone(&clock),
        });
        let rules = (self.department == "edb").then(|| fire_rules(&roster));
        let view = rules.as_ref().map(NodeRules::view);
        let bus = Bus::open_within(
            surroundings,
            Options {
                federation: FEDERATION.into(),
                origin: origin(&self.department),
                clock,
                store: Arc::clone(&store) as Arc<dyn Store>,
                roster,
                material,
                keys: keys(&self.department),
                members,
                instance: format!("{}-{life}", self.department),
                addresses: vec![self.department.clone()],
                peers: Vec::new(),
                derive: rules.map(|rules| Box::new(rules) as Box<dyn Derive>),
                begin_anew: false,
            },
        )
        .await?;
        wire::serve(bus.peer_service()).await?;
        let (calls, mut waiting) = mpsc::channel(1_024);
        *self.process.lock() = Some(Process { calls, store: Arc::downgrade(&store), rules: view });
        drop(store);
        shared.ledger.trace.note(&self.department, format_args!("is up, life {life}"));
        let mut failed = bus.failed();
        loop {
            tokio::select! {
                biased;
                _ = failed.wait_for(|failed| *failed) => break,
                call = waiting.recv() => {
                    let Some(call) = call else { break };
                    tokio::spawn(answer(Arc::clone(shared), bus.clone(), call));
                }
            }
        }
        shared.ledger.trace.note(&self.department, "has ended, its disk failed");
        self.gone();
        *self.has_failed.lock() = true;
        // The process is gone when the run looks.
        std::future::pending().await
    }

    /// Whether the process has ended by itself; asked once.
    pub(crate) fn take_failed(&self) -> bool {
        std::mem::take(&mut *self.has_failed.lock())
    }

    /// Forgets the process, which has ended.
    pub(crate) fn gone(&self) {
        *self.process.lock() = None;
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.lock().is_some()
    }

    /// Sends a wish; false when nobody is there to take it.
    pub(crate) fn call(&self, call: Call) -> bool {
        self.process.lock().as_ref().is_some_and(|process| process.calls.try_send(call).is_ok())
    }

    /// Lets a commit of the running process meet a fault.
    pub(crate) fn fail_commit(&self, nth: u64, fault: Fault) {
        let store = self.process.lock().as_ref().and_then(|process| process.store.upgrade());
        if let Some(store) = store {
            store.inner.fail_commit(nth, fault);
        }
    }

    /// Lets no commit of the running process meet a fault any more.
    pub(crate) fn spare(&self) {
        let store = self.process.lock().as_ref().and_then(|process| process.store.upgrade());
        if let Some(store) = store {
            store.inner.spare_commits();
        }
    }

    /// The rules of the running process.
    pub(crate) fn rules(&self) -> Option<Arc<Mutex<RulesView>>> {
        self.process.lock().as_ref().and_then(|process| process.rules.clone())
    }

    /// What is on its disk, running or not.
    pub(crate) fn look(&self) -> MemoryStore {
        MemoryStore::look(&self.disk.lock())
    }
}

async fn answer(shared: Arc<Shared>, bus: Bus, call: Call) {
    let result = match call.wish {
        Wish::Publish { alert, exercise } => {
            let classification = campanile_alert::classify::classify(&alert, vocabulary::v1());
            let (original, traceparent, audience_departments) = (None, String::new(), Vec::new());
            let submission =
                Submission { alert, original, classification, exercise, audience_departments, traceparent };
            bus.publish(submission).await.map_err(|error| {
                let again = matches!(&error, campanile_bus::SubmitError::Publish(publish) if publish.is_retryable());
                Refusal { reason: error.to_string(), again }
            })
        }
        Wish::Record(draft) => {
            bus.record(*draft).await.map_err(|error| Refusal { reason: error.to_string(), again: error.is_retryable() })
        }
    };
    shared.answers.lock().push(Answer { intent: call.intent, attempt: call.attempt, result });
}

/// The shipped pack of edb over the shipped sites, read once a process.
fn fire_rules(roster: &campanile_discovery::RosterHandle) -> NodeRules {
    let pack = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/rules/packs/edb-fire.rules.yaml");
    let text = std::fs::read_to_string(&pack).unwrap();
    let (pack_read, _) = campanile_rules::Pack::parse(&text).unwrap();
    let mut data = campanile_rules::DataSets::new();
    for (name, reference) in &pack_read.data {
        let bytes = std::fs::read(pack.parent().unwrap().join(&reference.file)).unwrap();
        let format = campanile_rules::Format::of_file(&reference.file).unwrap();
        let set = campanile_rules::DataSet::parse(name, format, &bytes, &reference.rows).unwrap();
        data.insert(name.clone(), set);
    }
    let options = campanile_rules::Options { sender: "edb@campanile.test".into() };
    let department = DepartmentId::try_new("edb").unwrap();
    NodeRules::new(department, vec![pack_read], data, options, roster.clone()).unwrap()
}
