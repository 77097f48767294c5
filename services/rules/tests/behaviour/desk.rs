//! A desk to test the engine at: it numbers inputs, keeps the rows as a store would, and remembers what came out.

use std::collections::BTreeMap;

use campanile_alert::vocabulary::{ALARM_LEVEL, EVENT_CODE, SIGNAL};
use campanile_alert::{
    Alert, AlertId, Area, CapVersion, Category, Certainty, Circle, Classification, DateTime, DepartmentId, ExerciseId,
    Info, MessageType, OriginId, Point, References, Scope, Severity, Status, Timestamp, Urgency, ValuePair, World,
    classify::classify, vocabulary,
};
use campanile_rules::{
    Answer, Approval, DataSet, DataSets, Decision, Effect, Engine, Envelope, Format, Input, InputKind, Options,
    Outcome, Pack, Signer, Verdict,
};

pub const FIRE: &str = include_str!("../../packs/edb-fire.rules.yaml");
pub const RULE: &str = "edb.school-closure.fire";

/// Where the fire is.
pub const PLACE: Point = Point { lat: 22.3, lon: 114.1 };

/// Two schools near the fire, two rows of one of them, and one 2 km away.
pub const SCHOOLS: &str = r#"[
{"no":"111111111123","en":"School A","zh":"甲校","lat":22.3010,"lon":114.1000,"session":"AM"},
{"no":"111111111124","en":"School A","zh":"甲校","lat":22.3100,"lon":114.1000,"session":"PM"},
{"no":"222222222223","en":"School B","zh":"乙校","lat":22.2980,"lon":114.1000,"session":"WHOLE DAY"},
{"no":"333333333323","en":"School C","zh":"丙校","lat":22.3200,"lon":114.1000,"session":"WHOLE DAY"}]"#;
pub const A: &str = "1111111111";
pub const B: &str = "2222222222";
pub const C: &str = "3333333333";

#[derive(Debug, Clone)]
pub enum Kind {
    Alert(Box<Alert>, Classification),
    Tick(Timestamp),
    Approval(Approval),
    Pause(String, Option<Timestamp>),
    Resume(String),
    Envelope(Envelope),
}

/// An input that owns what it refers to, as a log would.
#[derive(Debug, Clone)]
pub struct Stored {
    pub hash: [u8; 32],
    pub department: DepartmentId,
    pub world: World,
    pub status: Status,
    pub time: Timestamp,
    pub received: Timestamp,
    pub previous: Option<Timestamp>,
    pub depth: u32,
    pub rules: Vec<String>,
    pub author: Option<String>,
    pub kind: Kind,
}

impl Stored {
    pub fn input(&self) -> Input<'_> {
        Input {
            hash: self.hash,
            origin: OriginId::try_new(self.department.clone(), "node-1").unwrap(),
            department: self.department.clone(),
            world: self.world.clone(),
            status: self.status,
            time: self.time,
            received: self.received,
            previous_time: self.previous,
            depth: self.depth,
            rules: self.rules.clone(),
            author: self.author.clone(),
            kind: match &self.kind {
                Kind::Alert(alert, words) => InputKind::Alert { alert, classification: words },
                Kind::Tick(at) => InputKind::Tick { at: *at },
                Kind::Approval(approval) => InputKind::Approval(approval.clone()),
                Kind::Pause(rule, until) => {
                    InputKind::Pause { rule: rule.clone(), reason: "checking".into(), until: *until, by: "p-9".into() }
                }
                Kind::Resume(rule) => InputKind::Resume { rule: rule.clone(), by: "p-9".into() },
                Kind::Envelope(envelope) => InputKind::Envelope(envelope.clone()),
            },
        }
    }
}

pub struct Desk {
    pub engine: Engine,
    pub rows: BTreeMap<Vec<u8>, Vec<u8>>,
    pub journal: Vec<Stored>,
    pub outcomes: Vec<Outcome>,
    pub now: Timestamp,
    pub own: DepartmentId,
}

pub fn id(text: &str) -> DepartmentId {
    DepartmentId::try_new(text).unwrap()
}

pub fn start() -> Timestamp {
    "2026-11-22T00:00:00Z".parse().unwrap()
}

pub fn exercise() -> World {
    World::Exercise(ExerciseId::try_new("hv26").unwrap())
}

pub fn schools(pack: &Pack) -> DataSets {
    let spec = &pack.data["edb.schools"].rows;
    let set = DataSet::parse("edb.schools", Format::Json, SCHOOLS.as_bytes(), spec).unwrap();
    [("edb.schools".to_string(), set)].into()
}

pub fn engine(text: &str) -> Engine {
    let (pack, _) = Pack::parse(text).unwrap_or_else(|refusal| panic!("{refusal}"));
    let data = schools(&pack);
    Engine::new(id("edb"), vec![pack], data, Options { sender: "edb@campanile.test".into() }).unwrap()
}

impl Desk {
    /// The fire pack with its envelope signed.
    pub fn signed() -> Self {
        let mut desk = Self::asking(FIRE);
        desk.sign(&["p-1", "p-2"]);
        desk
    }

    /// A pack whose envelope is not signed.
    pub fn asking(text: &str) -> Self {
        Self {
            engine: engine(text),
            rows: BTreeMap::new(),
            journal: Vec::new(),
            outcomes: Vec::new(),
            now: start(),
            own: id("edb"),
        }
    }

    pub fn wait(&mut self, minutes: i64) {
        self.now += jiff::SignedDuration::from_mins(minutes);
        // A node writes a tick whenever one is due.
        for _ in 0..1000 {
            match self.engine.due() {
                Some(at) if at <= self.now => {
                    self.put(&self.own.clone(), World::Actual, Kind::Tick(at));
                }
                _ => return,
            }
        }
        panic!("ticks do not end");
    }

    pub fn stored(&self, department: &DepartmentId, world: World, kind: Kind) -> Stored {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&(self.journal.len() as u64).to_be_bytes());
        Stored {
            hash,
            department: department.clone(),
            status: world.status(),
            world,
            time: self.now,
            received: self.now,
            previous: None,
            depth: 0,
            rules: Vec::new(),
            author: None,
            kind,
        }
    }

    pub fn put(&mut self, department: &DepartmentId, world: World, kind: Kind) -> Outcome {
        let stored = self.stored(department, world, kind);
        self.push(stored)
    }

    pub fn push(&mut self, stored: Stored) -> Outcome {
        let outcome = self.engine.apply(&stored.input());
        for (key, value) in &outcome.state {
            match value {
                Some(value) => self.rows.insert(key.clone(), value.clone()),
                None => self.rows.remove(key),
            };
        }
        self.journal.push(stored);
        self.outcomes.push(outcome.clone());
        outcome
    }

    /// An alert of a department in the real world.
    pub fn alert(&mut self, department: &str, alert: &Alert) -> Outcome {
        self.alert_in(department, World::Actual, alert)
    }

    pub fn alert_in(&mut self, department: &str, world: World, alert: &Alert) -> Outcome {
        let kind = Kind::Alert(Box::new(alert.clone()), classify(alert, vocabulary::v1()));
        self.put(&id(department), world, kind)
    }

    pub fn fire(&mut self, name: &str, level: u32) -> Outcome {
        let alert = fire(name, level, self.now);
        self.alert("fsd", &alert)
    }

    pub fn cancel(&mut self, department: &str, of: &[AlertId]) -> Outcome {
        let mut alert = fire(&format!("cancel-{}", self.journal.len()), 3, self.now);
        alert.msg_type = MessageType::Cancel;
        alert.references = Some(References::from_ids(of));
        alert.infos.clear();
        self.alert(department, &alert)
    }

    pub fn sign(&mut self, persons: &[&str]) -> Outcome {
        let digest = self.engine.rule(RULE).unwrap().digest;
        let signers = persons.iter().map(|p| Signer { person: (*p).into(), roles: vec!["edb.directorate".into()] });
        let envelope = Envelope {
            rule: RULE.into(),
            digest,
            signers: signers.collect(),
            from: start(),
            to: start() + jiff::SignedDuration::from_hours(24 * 30),
        };
        self.put(&id("edb"), World::Actual, Kind::Envelope(envelope))
    }

    pub fn answer(&mut self, person: &str, role: &str, answer: Answer) -> Outcome {
        let pending = self.engine.pending().first().cloned().expect("a question");
        let approval = Approval {
            pending: pending.id,
            shown: pending.shown,
            person: person.into(),
            roles: vec![role.into()],
            answer,
        };
        self.put(&id("edb"), pending.world, Kind::Approval(approval))
    }

    pub fn agree(&mut self, person: &str) -> Outcome {
        self.answer(person, "edb.duty-officer", Answer::Approve)
    }

    pub fn live(&self) -> Vec<String> {
        self.engine.live().into_iter().map(|live| live.effect.target).collect()
    }

    pub fn effects(&self) -> Vec<&Effect> {
        self.outcomes.iter().flat_map(|outcome| &outcome.effects).collect()
    }

    /// The message types sent about a target, in order.
    pub fn sent(&self, target: &str) -> Vec<MessageType> {
        let about = self.effects().into_iter().filter(|effect| effect.key.target == target);
        about.map(|effect| effect.alert.msg_type).collect()
    }
}

pub fn verdicts(outcome: &Outcome) -> Vec<Verdict> {
    outcome.notes.iter().map(|note| note.verdict).collect()
}

pub fn says(outcome: &Outcome, text: &str) -> bool {
    outcome.notes.iter().any(|Decision { why, .. }| why.en.contains(text) && !why.zh_hant.is_empty())
}

pub fn of(name: &str, sent: Timestamp) -> AlertId {
    fire(name, 3, sent).id()
}

/// A fire of that alarm level in a circle of 100 m, in force for six hours.
pub fn fire(name: &str, level: u32, sent: Timestamp) -> Alert {
    let expires = sent + jiff::SignedDuration::from_hours(6);
    Alert {
        version: CapVersion::V1_2,
        identifier: name.into(),
        sender: "control@fsd.test".into(),
        sent: DateTime::from_instant(sent, 480),
        status: Status::Actual,
        msg_type: MessageType::Alert,
        password: None,
        source: None,
        scope: Some(Scope::Public),
        restriction: None,
        addresses: None,
        codes: vec![],
        note: None,
        references: None,
        incidents: None,
        infos: vec![Info {
            language: Some("en".into()),
            categories: vec![Category::Fire],
            event: "Fire".into(),
            response_types: vec![],
            urgency: Urgency::Immediate,
            severity: Severity::Severe,
            certainty: Certainty::Observed,
            audience: None,
            event_codes: vec![ValuePair::new(EVENT_CODE, "fire")],
            effective: None,
            onset: None,
            expires: Some(DateTime::from_instant(expires, 480)),
            sender_name: None,
            headline: None,
            description: None,
            instruction: None,
            web: None,
            contact: None,
            parameters: vec![ValuePair::new(ALARM_LEVEL, level.to_string())],
            resources: vec![],
            areas: vec![Area {
                description: "Harbour View".into(),
                circles: vec![Circle::new(PLACE, 0.1).unwrap()],
                ..Area::default()
            }],
        }],
        signatures: vec![],
    }
}

/// Another event in the same place, with a signal if one is given.
pub fn other(name: &str, event: &str, signal: Option<&str>, sent: Timestamp) -> Alert {
    let mut alert = fire(name, 1, sent);
    let info = &mut alert.infos[0];
    info.areas[0].circles = vec![Circle::new(PLACE, 0.5).unwrap()];
    info.event_codes = vec![ValuePair::new(EVENT_CODE, event)];
    info.parameters = signal.map(|signal| ValuePair::new(SIGNAL, signal)).into_iter().collect();
    alert
}

/// An update of the messages that takes their place.
pub fn update(mut alert: Alert, of: &[AlertId]) -> Alert {
    alert.msg_type = MessageType::Update;
    alert.references = Some(References::from_ids(of));
    alert
}
