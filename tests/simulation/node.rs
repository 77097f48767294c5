//! A simulated node: what survives its crash, how it starts, and how a client's wish reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use campanile_alert::{Alert, Clock, DepartmentId, ExerciseId, Timestamp, vocabulary};
use campanile_bus::record::Draft;
use campanile_bus::{Bus, Derive, Options, Published, Submission};
use campanile_discovery::directory::{EtcdConfig, EtcdDirectory};
use campanile_discovery::{Directory, Members, MembersConfig, MemoryHub, RosterHandle, TlsMaterial};
use campanile_log::Store;
use campanile_log::memory::{Disk, Fault, MemoryStore};
use campanile_node::rules::{Files, Library, NodeRules, RulesView};
use campanile_rules::Pack;
use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::mpsc;

use crate::etcd::Etcd;
use crate::federation::{FEDERATION, Setting, keys, origin};
use crate::governance::Governance;
use crate::ledger::{Ledger, Watched};
use crate::lies::Lies;
use crate::surroundings::{SimClock, Simulated, ToEtcd};
use crate::wire;

/// What a client wants of a node.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    Publish {
        alert: Arc<Alert>,
        exercise: Option<ExerciseId>,
    },
    Record(Box<Draft>),
    /// It is to sign with its keys of that generation from now on.
    Keys(u32),
    /// It is to say who is not heard.
    Unheard(Unheard),
    /// It is to say what it has of the directory.
    Found(Found),
}

/// Where a node says who is not heard, and since when.
pub(crate) type Unheard = Arc<Mutex<Option<BTreeMap<DepartmentId, Option<Timestamp>>>>>;

/// Where a node says whether it is registered in the directory, and which nodes it knows to be.
pub(crate) type Found = Arc<Mutex<Option<(bool, BTreeSet<String>)>>>;

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

/// The directory of a run.
pub(crate) enum Book {
    Memory(MemoryHub),
    Etcd(Arc<Etcd>),
}

/// How long a registration outlives its node, and how long a call to etcd may take.
const TTL_S: u32 = 5;
const TIMEOUT_MS: u64 = 1_000;

impl Book {
    /// The way in of a node that begins a life, with chance of its own.
    fn join(&self, chance: StdRng) -> Arc<dyn Directory> {
        match self {
            Self::Memory(hub) => Arc::new(hub.join()),
            Self::Etcd(_) => {
                let config = EtcdConfig { ttl_s: TTL_S, timeout_ms: TIMEOUT_MS, ..EtcdConfig::at("http://etcd:2379") };
                Arc::new(EtcdDirectory::open_within(Arc::new(ToEtcd::new(chance)), config, FEDERATION).unwrap())
            }
        }
    }
}

/// What all nodes of a run share.
pub(crate) struct Shared {
    pub(crate) seed: u64,
    pub(crate) directory: Book,
    pub(crate) lies: Arc<Lies>,
    pub(crate) governance: Arc<Mutex<Governance>>,
    /// The rules of edb and had make a circle.
    pub(crate) has_circle: bool,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) answers: Mutex<Vec<Answer>>,
}

/// A node: its disk and clock, and the way into the process that runs over them.
pub(crate) struct Node {
    pub(crate) department: String,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) disk: Mutex<Disk>,
    /// The roster in its configuration; absent until the department has joined.
    configured: Mutex<Option<Arc<[u8]>>>,
    /// The rosters that it has accepted since.
    accepted: Arc<Mutex<Vec<Arc<[u8]>>>>,
    /// Which of its live keys it signs with.
    generation: Mutex<u32>,
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
    roster: RosterHandle,
    rules: Option<Arc<Mutex<RulesView>>>,
}

impl Node {
    pub(crate) fn new(index: usize, department: &str, clock: SimClock, shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            department: department.into(),
            clock: Arc::new(clock),
            disk: Mutex::default(),
            configured: Mutex::default(),
            accepted: Arc::default(),
            generation: Mutex::default(),
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
        let configured = self.configured.lock().clone();
        // A department that has not joined has no node yet.
        let Some(configured) = configured else { return std::future::pending().await };
        let life = {
            let mut starts = self.starts.lock();
            *starts += 1;
            *starts
        };
        let chance = |of: u64| StdRng::seed_from_u64(of ^ (self.index + 1) << 40 ^ life << 52);
        let (directory, chance) = (shared.directory.join(chance(!shared.seed)), chance(shared.seed));
        let surroundings = Arc::new(Simulated::new(&self.department, chance));
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let inner = MemoryStore::open(&self.disk.lock())?;
        let store = Arc::new(Watched { inner, node: self.department.clone(), ledger: Arc::clone(&shared.ledger) });
        let roster = setting.open_roster(&configured, &self.accepted.lock());
        tokio::spawn(keep_rosters(roster.clone(), Arc::clone(&self.accepted)));
        let material = TlsMaterial::new(setting.identity(&self.department), roster.clone(), Arc::clone(&clock))?;
        let members =
            Members::start(MembersConfig { directory, roster: roster.clone(), cache: None, clock: Arc::clone(&clock) });
        let found = members.clone();
        let rules = rules(&self.department, shared.has_circle, &roster);
        let view = rules.as_ref().map(NodeRules::view);
        let signing = keys(&self.department, *self.generation.lock());
        let bus = Bus::open_within(
            surroundings,
            Options {
                federation: FEDERATION.into(),
                origin: origin(&self.department),
                clock,
                store: Arc::clone(&store) as Arc<dyn Store>,
                roster: roster.clone(),
                material,
                keys: signing,
                members,
                instance: format!("{}-{life}", self.department),
                addresses: vec![self.department.clone()],
                peers: Vec::new(),
                derive: rules.map(|rules| Box::new(rules) as Box<dyn Derive>),
                begin_anew: false,
            },
        )
        .await?;
        wire::serve(bus.peer_service(), self.department.clone(), Arc::clone(&shared.lies)).await?;
        let (calls, mut waiting) = mpsc::channel(1_024);
        *self.process.lock() = Some(Process { calls, store: Arc::downgrade(&store), roster, rules: view });
        drop(store);
        shared.ledger.trace.note(&self.department, format_args!("is up, life {life}"));
        let mut failed = bus.failed();
        loop {
            tokio::select! {
                biased;
                _ = failed.wait_for(|failed| *failed) => break,
                call = waiting.recv() => {
                    let Some(call) = call else { break };
                    match call.wish {
                        Wish::Keys(generation) => bus.set_keys(keys(&self.department, generation)),
                        Wish::Unheard(told) => *told.lock() = Some(bus.unheard()),
                        Wish::Found(told) => *told.lock() = Some(found_of(&found)),
                        _ => _ = tokio::spawn(answer(Arc::clone(shared), bus.clone(), call)),
                    }
                }
            }
        }
        shared.ledger.trace.note(&self.department, "has ended, its disk failed");
        self.gone();
        *self.has_failed.lock() = true;
        // The process is gone when the run looks.
        std::future::pending().await
    }

    /// Gives it its first roster: from now on it can be started.
    pub(crate) fn configure(&self, roster: Arc<[u8]>) {
        *self.configured.lock() = Some(roster);
    }

    pub(crate) fn has_joined(&self) -> bool {
        self.configured.lock().is_some()
    }

    /// An officer of it hands it a roster, running or not.
    pub(crate) fn hand_over(&self, roster: &Arc<[u8]>) {
        self.accepted.lock().push(Arc::clone(roster));
        if let Some(process) = self.process.lock().as_ref() {
            process.roster.offer(roster).unwrap();
        }
    }

    /// The number of the roster in force in the running process.
    pub(crate) fn roster(&self) -> Option<u64> {
        self.process.lock().as_ref().map(|process| process.roster.current().number)
    }

    /// It signs with its next live key from now on, and over every start.
    pub(crate) fn change_key(&self) -> u32 {
        let mut generation = self.generation.lock();
        *generation += 1;
        let call = Call { intent: usize::MAX, attempt: 0, wish: Wish::Keys(*generation) };
        // One that is down takes it with its next start.
        let _is_up = self.call(call);
        *generation
    }

    pub(crate) fn generation(&self) -> u32 {
        *self.generation.lock()
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

    /// Asks it who is not heard; what it says is there after the next step.
    pub(crate) fn ask_unheard(&self) -> Unheard {
        let told = Unheard::default();
        let _is_up = self.call(Call { intent: usize::MAX, attempt: 0, wish: Wish::Unheard(Arc::clone(&told)) });
        told
    }

    /// Asks it what it has of the directory; what it says is there after the next step.
    pub(crate) fn ask_found(&self) -> Found {
        let told = Found::default();
        let _is_up = self.call(Call { intent: usize::MAX, attempt: 0, wish: Wish::Found(Arc::clone(&told)) });
        told
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

    /// What its rules work with, for decisions that are made again; absent where it has none.
    pub(crate) fn rules_again(&self) -> Option<(Arc<Library>, campanile_rules::Options, RosterHandle)> {
        let configured = self.configured.lock().clone()?;
        let roster = Setting::shared().open_roster(&configured, &self.accepted.lock());
        let (packs, library) = packs(&self.department, self.shared.has_circle);
        (!packs.is_empty()).then(|| (Arc::new(library), options(&self.department), roster))
    }

    /// What is on its disk, running or not.
    pub(crate) fn look(&self) -> MemoryStore {
        MemoryStore::look(&self.disk.lock())
    }
}

/// Whether a node is registered, and which departments' nodes it knows to be.
fn found_of(members: &Members) -> (bool, BTreeSet<String>) {
    let view = members.view();
    let registered = view.iter().filter(|(_, member)| member.unregistered_since.is_none());
    (members.health().directory.registered, registered.map(|(origin, _)| origin.department().to_string()).collect())
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
        Wish::Keys(_) | Wish::Unheard(_) | Wish::Found(_) => return,
        Wish::Record(draft) => {
            bus.record(*draft).await.map_err(|error| Refusal { reason: error.to_string(), again: error.is_retryable() })
        }
    };
    shared.answers.lock().push(Answer { intent: call.intent, attempt: call.attempt, result });
}

/// Keeps every roster that comes into force; several that come close together show as one change.
async fn keep_rosters(roster: RosterHandle, accepted: Arc<Mutex<Vec<Arc<[u8]>>>>) {
    let mut changed = roster.subscribe();
    let mut kept = roster.current().number;
    while changed.changed().await.is_ok() {
        let newest = roster.current().number;
        let new = (kept + 1..=newest).filter_map(|number| roster.at(number));
        accepted.lock().extend(new.map(|roster| roster.envelope().into()));
        kept = newest;
    }
}

/// Two rules of edb and two of had that lead to each other: what each issues is a cause of the other's.
const CIRCLE: [(&str, &str, &str, &str); 4] = [
    ("edb", "edb.circle.fire", "fire", "class-suspension"),
    ("edb", "edb.circle.shelter", "shelter-open", "class-suspension"),
    ("had", "had.circle.fire", "fire", "shelter-open"),
    ("had", "had.circle.closure", "class-suspension", "shelter-open"),
];

/// A pack of the rules of a department that belong to the circle.
fn circle_of(department: &str) -> Files {
    let rules = CIRCLE.iter().filter(|(owner, ..)| *owner == department).map(|(_, rule, cause, effect)| {
        format!(
            "- rule: {rule}\n  title: {{en: circle, zh-Hant: 圓}}\n  source: [{{text: a simulation}}]\n  cause: {{event: \
             {cause}, from: [fsd, edb, had]}}\n  then: {{issue: {effect}, severity: Severe, area: cause.area, text: \
             t}}\n  approve: {{need: 0, reason: a simulation}}\n  until: {{cause: ends, then: cancel, max: 12h}}\n"
        )
    });
    let text = format!(
        "pack: {department}-circle\nowner: {department}\nvocabulary: alert-v1\ntexts:\n  t:\n    zh-Hant: {{headline: 一, \
         instruction: 二, retract: 三}}\n    en: {{headline: a, instruction: b, retract: c}}\nrules:\n{}",
        rules.collect::<String>()
    );
    Files { text, data: BTreeMap::new() }
}

/// The packs of a department: the shipped one of edb over the shipped sites, and what belongs to the circle.
fn packs(department: &str, has_circle: bool) -> (Vec<Files>, Library) {
    let (mut packs, library) = (Vec::new(), Library::memory());
    if department == "edb" {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/rules/packs/edb-fire.rules.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let (pack, _) = Pack::parse(&text).unwrap();
        let read = |file: &str| std::fs::read(path.parent().unwrap().join(file)).unwrap();
        let put = |(name, reference): (&String, &campanile_rules::DataRef)| {
            (name.clone(), library.put(&read(&reference.file)).unwrap())
        };
        let data = pack.data.iter().map(put).collect();
        packs.push(Files { text, data });
    }
    if has_circle && ["edb", "had"].contains(&department) {
        packs.push(circle_of(department));
    }
    (packs, library)
}

fn options(department: &str) -> campanile_rules::Options {
    campanile_rules::Options { sender: format!("{department}@campanile.test") }
}

/// The rules of a department, if it has packs.
fn rules(department: &str, has_circle: bool, roster: &RosterHandle) -> Option<NodeRules> {
    let (packs, library) = packs(department, has_circle);
    if packs.is_empty() {
        return None;
    }
    let id = DepartmentId::try_new(department).unwrap();
    Some(NodeRules::new(id, packs, Arc::new(library), options(department), roster.clone()).unwrap())
}
