//! A window of real logs made into a scenario: what departments published comes again as injects, what rules made of it
//! is what must come of it again.
//!
//! Kept of an alert: the department, the time from the start, what it does (alert, update, cancel), event, signal, level,
//! certainty, urgency and severity, how long it holds, one point of its area, and the keys of the sites that it names. Kept
//! of an effect: rule, event, target and the messages in order. Kept of an approval: role, rule, answer, time. Everything
//! else is left out: identifiers, senders, persons, contacts, headlines, descriptions, instructions, places in words,
//! links and resources. The status is Exercise, whatever it was.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{
    Alert, AlertId, Classification, DateTime, DepartmentId, ExerciseId, MessageType, Status, Timestamp,
};
use campanile_rules::short::ShortAlert;

use crate::scenario::{
    Act, Cast, ClockPlan, Deadline, EngineNode, Expect, Inject, Match, Mode, Node, NodeKind, Objective, Pace, Player,
    Scenario, Score, SentClaim, TextOrWords, Variant, Via, WantedVerdict, Words,
};
use crate::time::{DRILL_MS_MAX, Length, Offset};

/// How much later than it did an effect may come: clocks and links differ.
const SLACK_MS: i64 = 60_000;
/// The most records of a window.
pub const RECORDS_MAX: usize = 20_000;
/// An area wider than this is everywhere, as far as a point can say.
const WIDE_KM: f64 = 20.0;

/// What the window does not say itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The drill's name.
    pub drill: String,
    /// The exercise that it is played as.
    pub exercise: ExerciseId,
    /// The beginning of the window: T+0.
    pub start: DateTime,
    /// Its end.
    pub end: Timestamp,
    /// The packs of each department whose rules are to decide again: paths from the scenario's file.
    pub packs: BTreeMap<String, Vec<String>>,
    /// The rules of each department whose envelope was signed when the window began.
    pub envelopes: BTreeMap<String, Vec<String>>,
}

/// A record of a log, in the order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// When its author sealed it.
    pub at: Timestamp,
    /// The department of its author.
    pub from: DepartmentId,
    /// What it is.
    pub what: Kept,
}

/// What of a record matters to a scenario.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// An alert that a person or a system published.
    Published(Box<Alert>, Classification),
    /// A message that a rule issued.
    Issued {
        /// The rule.
        rule: String,
        /// The key of its target; empty for none.
        target: String,
        /// The vocabulary's event.
        event: String,
        /// What it does.
        msg_type: MessageType,
    },
    /// A person's answer.
    Answered {
        /// The rule that was asked about.
        rule: String,
        /// The role, `edb.duty-officer`.
        role: String,
        /// Whether it was yes.
        approve: bool,
    },
}

/// What came of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The scenario.
    pub scenario: Scenario,
    /// How many alerts are left out because the vocabulary does not know their event.
    pub unclassified: usize,
    /// How many updates and cancels are left out because what they change was published before the window.
    pub earlier: usize,
}

/// Why a window makes no scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing to play.
    #[error("nothing was published in that window; give another one")]
    Empty,
    /// Too much to play.
    #[error("the window has more than {RECORDS_MAX} records; give a shorter one")]
    TooMany,
    /// Longer than a drill.
    #[error("a drill lasts at most 31 days; give a shorter window")]
    TooLong,
    /// Effects of departments whose packs are not known.
    #[error("rules of {0} issued something; give the packs that were in force with --pack")]
    Packs(String),
}

/// Makes a scenario of a window. `logged` is in the order of time; what lies outside the window is passed over.
///
/// # Errors
/// [`Error`], each with what to do.
pub fn record(logged: &[Logged], plan: &Plan) -> Result<Recorded, Error> {
    let start = plan.start.instant();
    let lasts = plan.end.as_millisecond().saturating_sub(start.as_millisecond());
    if lasts > DRILL_MS_MAX {
        return Err(Error::TooLong);
    }
    let inside: Vec<&Logged> = logged.iter().filter(|one| one.at >= start && one.at < plan.end).collect();
    if inside.len() > RECORDS_MAX {
        return Err(Error::TooMany);
    }
    let mut tape = Tape { start, ..Tape::default() };
    inside.iter().for_each(|one| tape.take(one));
    if tape.injects.is_empty() {
        return Err(Error::Empty);
    }
    let unknown: BTreeSet<&str> =
        tape.deciders.iter().map(String::as_str).filter(|node| !plan.packs.contains_key(*node)).collect();
    if !unknown.is_empty() {
        return Err(Error::Packs(unknown.into_iter().collect::<Vec<_>>().join(", ")));
    }
    let (unclassified, earlier) = (tape.unclassified, tape.earlier);
    Ok(Recorded { scenario: tape.scenario(plan, Offset::from_ms(lasts)), unclassified, earlier })
}

/// What has been taken in so far.
#[derive(Default)]
struct Tape {
    start: Timestamp,
    injects: Vec<Inject>,
    /// The first inject of the thread that a message belongs to.
    threads: BTreeMap<AlertId, String>,
    /// The messages of each effect by rule, event and target, and when the first came.
    effects: BTreeMap<(String, String, String), (Offset, Vec<MessageType>)>,
    deciders: BTreeSet<String>,
    players: BTreeSet<String>,
    publishers: BTreeSet<String>,
    unclassified: usize,
    earlier: usize,
}

impl Tape {
    fn take(&mut self, one: &Logged) {
        let at = Offset::of(one.at, self.start);
        match &one.what {
            Kept::Published(alert, classification) => self.publish(at, &one.from, alert, classification),
            Kept::Issued { rule, target, event, msg_type } => {
                self.deciders.insert(one.from.to_string());
                let key = (rule.clone(), event.clone(), target.clone());
                self.effects.entry(key).or_insert_with(|| (at, Vec::new())).1.push(*msg_type);
            }
            Kept::Answered { rule, role, approve } => {
                self.players.insert(role.clone());
                self.deciders.insert(one.from.to_string());
                let answer = if *approve { Act::Approve } else { Act::Reject };
                let mut inject = self.inject(at, Via::Approval);
                (inject.to, inject.rule, inject.answer) = (Some(role.clone()), Some(rule.clone()), Some(answer));
                self.injects.push(inject);
            }
        }
    }

    fn publish(&mut self, at: Offset, from: &DepartmentId, alert: &Alert, classification: &Classification) {
        let own = alert.id();
        let of = alert
            .references
            .iter()
            .flat_map(|references| references.ids())
            .find_map(|id| self.threads.get(id))
            .cloned();
        let mut inject = self.inject(at, Via::Alert);
        inject.from = Some(from.to_string());
        match (alert.msg_type, of) {
            (MessageType::Alert, _) | (MessageType::Update, None) if classification.is_unclassified() => {
                self.unclassified += 1;
                return;
            }
            // An update of what came before the window is the beginning of it here.
            (MessageType::Alert | MessageType::Update, None) | (MessageType::Alert, Some(_)) => {
                inject.alert = Some(short(alert, classification));
            }
            (MessageType::Update, Some(first)) => {
                (inject.updates, inject.alert) = (Some(first), Some(short(alert, classification)));
            }
            (MessageType::Cancel, Some(first)) => inject.cancels = Some(first),
            (MessageType::Cancel, None) => {
                self.earlier += 1;
                return;
            }
            // Acknowledgements and errors change nothing.
            _ => return,
        }
        let first = inject.updates.clone().or_else(|| inject.cancels.clone()).unwrap_or_else(|| inject.id.clone());
        self.threads.insert(own, first);
        self.publishers.insert(from.to_string());
        self.injects.push(inject);
    }

    fn inject(&self, at: Offset, via: Via) -> Inject {
        Inject { at: Some(at), id: format!("i{}", self.injects.len() + 1), via, ..Inject::default() }
    }

    fn scenario(self, plan: &Plan, end: Offset) -> Scenario {
        let text = |en: &str, zh: &str| TextOrWords::Words(Words { en: en.into(), zh_hant: zh.into() });
        let objective = |text, must| Objective { text, capability: None, weight: 1, must };
        let objectives = BTreeMap::from([
            ("same".to_owned(), objective(text("The rules decide as they did", "規則的決定與當時相同"), true)),
            ("inside".to_owned(), objective(text("Nothing leaves the exercise", "演習訊息不外洩"), true)),
        ]);
        let mut nodes: BTreeMap<String, Node> =
            self.publishers.iter().map(|node| (node.clone(), Node::Kind(NodeKind::Script))).collect();
        for (node, packs) in &plan.packs {
            let envelopes = plan.envelopes.get(node).cloned().unwrap_or_default();
            let engine = EngineNode { engine: packs.clone(), envelopes, ..EngineNode::default() };
            nodes.insert(node.clone(), Node::Engine(engine));
        }
        let cast = Cast {
            nodes,
            players: self.players.into_iter().map(|role| (role, Player::default())).collect(),
            ..Cast::default()
        };
        let mut expect = vec![Expect {
            id: Some("inside".into()),
            always: true,
            objective: Some("inside".into()),
            none: Some(Match { status: Some(Status::Actual), ..Match::default() }),
            ..Expect::default()
        }];
        for (number, ((rule, event, target), (at, sent))) in self.effects.iter().enumerate() {
            let target = Some(target.clone()).filter(|target| !target.is_empty());
            let live = Match {
                effect: Some(event.clone()),
                rule: Some(rule.clone()),
                target: target.clone(),
                ..Match::default()
            };
            let own = || Expect { objective: Some("same".into()), ..Expect::default() };
            if sent.first() == Some(&MessageType::Alert) {
                let by = Some(Deadline::At(*at + Length::from_ms(SLACK_MS)));
                expect.push(Expect { id: Some(format!("comes-{}", number + 1)), by, live: Some(live), ..own() });
            }
            let sent = SentClaim { effect: event.clone(), target, is: sent.clone() };
            let by = Some(Deadline::End);
            expect.push(Expect { id: Some(format!("sent-{}", number + 1)), by, sent: Some(sent), ..own() });
        }
        let decided = !self.effects.is_empty();
        let first = self.injects.first().map(|inject| inject.id.clone());
        // Nothing came of it: then nothing may come of it again.
        if !decided {
            for (number, node) in plan.packs.keys().enumerate() {
                let none = Some(Match { from: Some(node.clone()), ..Match::default() });
                let (id, objective) = (Some(format!("quiet-{}", number + 1)), Some("same".to_owned()));
                expect.push(Expect { id, by: Some(Deadline::End), objective, none, ..Expect::default() });
            }
            if plan.packs.is_empty() {
                let live = Some(Match { inject: first.clone(), ..Match::default() });
                let at = self.injects.first().and_then(|inject| inject.at).unwrap_or_default();
                let by = Some(Deadline::At(at + Length::from_ms(SLACK_MS)));
                let (id, objective) = (Some("published".to_owned()), Some("same".to_owned()));
                expect.push(Expect { id, by, objective, live, ..Expect::default() });
            }
        }
        // A drill that cannot fail proves nothing: without what began it, the rules cannot decide as they did.
        let lost = first.filter(|_| decided && self.injects.len() == 1).map(|id| Variant {
            name: "not-published".into(),
            change: crate::scenario::Change { drop_inject: Some(id), ..Default::default() },
            verdict: WantedVerdict { fails: vec!["same".into()], missed: None },
        });
        Scenario {
            drill: plan.drill.clone(),
            title: Words { en: format!("Recorded: {}", plan.drill), zh_hant: format!("記錄：{}", plan.drill) },
            objectives,
            mode: Mode {
                status: Status::Exercise,
                exercise_id: plan.exercise.clone(),
                marker: Words { en: "EXERCISE EXERCISE EXERCISE".into(), zh_hant: "演習 演習 演習".into() },
            },
            clock: ClockPlan {
                start: plan.start.clone(),
                run: Pace::Virtual,
                end: Some(end + Length::from_ms(SLACK_MS)),
                pause_on: Vec::new(),
                seed: 1,
            },
            cast,
            guards: Vec::new(),
            injects: self.injects,
            faults: Vec::new(),
            expect,
            score: Score::default(),
            variants: lost.into_iter().collect(),
            after: None,
        }
    }
}

/// The words of an alert that a scenario keeps.
fn short(alert: &Alert, classification: &Classification) -> ShortAlert {
    let info = alert.infos.first();
    let lasts = info.and_then(|info| info.expires.as_ref()).map(|expires| {
        let ms = expires.instant().as_millisecond() - alert.sent.instant().as_millisecond();
        format!("{}s", ms.max(1000) / 1000)
    });
    ShortAlert {
        event: classification.event.clone(),
        level: classification.level,
        signal: classification.signal.clone(),
        certainty: info.map(|info| info.certainty.to_string()),
        urgency: info.map(|info| info.urgency.to_string()),
        severity: info.map(|info| info.severity.to_string()),
        point: point(alert),
        sites: classification.sites.clone(),
        expires: lasts,
        ..ShortAlert::default()
    }
}

/// One point of the area: the middle of the first circle that is not wide, or of the first polygon.
fn point(alert: &Alert) -> Option<[f64; 2]> {
    let areas = || alert.infos.first().into_iter().flat_map(|info| &info.areas);
    let circle = areas().flat_map(|area| &area.circles).next();
    if let Some(circle) = circle {
        let centre = circle.centre();
        return (circle.radius_km() <= WIDE_KM).then_some([centre.lat, centre.lon]);
    }
    let polygon = areas().flat_map(|area| &area.polygons).next()?;
    let points = polygon.points();
    let number = f64::from(u32::try_from(points.len()).ok().filter(|number| *number > 0)?);
    let sum = points.iter().fold([0.0, 0.0], |[lat, lon], point| [lat + point.lat, lon + point.lon]);
    let [lat, lon] = sum.map(|sum| (sum / number * 1e5).round() / 1e5);
    Some([lat, lon])
}
