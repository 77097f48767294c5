//! The rule engine on the bus: records become inputs, effects become drafts.
//!
//! The engine is pure; this is where its world meets the log's. State rows of the engine and of the envelope's signers
//! are kept apart by a first letter. An envelope's signatures come as one record a person; they are gathered here until
//! the engine has them all.

use std::collections::BTreeMap;
use std::sync::Arc;

use campanile_alert::{AlertId, DepartmentId, Scope, Status, Timestamp};
use campanile_bus::bus::is_urgent;
use campanile_bus::record::{Audience, Body, Content, Draft, Header};
use campanile_bus::{Derive, Derived, Event};
use campanile_discovery::roster::{Roster, RosterHandle};
use campanile_proto::bus::v1 as wire;
use campanile_proto::convert::timestamp_from_wire;
use campanile_proto::rules::v1 as rules_wire;
use campanile_rules::{
    Answer, Approval, DataSets, Decision, Effect, Engine, Envelope, Input, InputKind, Issued, Options, Pack, Signer,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

const ENGINE_ROW: u8 = b'e';
const SIGNERS_ROW: u8 = b's';
/// How many persons' signatures of one envelope are kept.
const SIGNERS_MAX: usize = 32;

/// What readers see of the rules: the engine itself and the last decision of each rule.
#[derive(Debug)]
pub struct RulesView {
    /// The engine; hold the lock briefly, the pipeline waits for it.
    pub engine: Engine,
    /// The last decision about each rule.
    pub decisions: BTreeMap<String, Decision>,
}

/// The rules of a department as the pipeline runs them.
pub struct NodeRules {
    department: DepartmentId,
    packs: Vec<Pack>,
    data: DataSets,
    options: Options,
    roster: RosterHandle,
    signers: BTreeMap<String, Signatures>,
    view: Arc<Mutex<RulesView>>,
}

/// The signatures of a rule's envelope that have come so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Signatures {
    digest: [u8; 32],
    signers: Vec<Signer>,
    from: Timestamp,
    to: Timestamp,
}

impl NodeRules {
    /// Puts packs and data sets to work for a department.
    ///
    /// # Errors
    /// [`campanile_rules::Error`] when they cannot be active together.
    pub fn new(
        department: DepartmentId,
        packs: Vec<Pack>,
        data: DataSets,
        options: Options,
        roster: RosterHandle,
    ) -> Result<Self, campanile_rules::Error> {
        let engine = Engine::new(department.clone(), packs.clone(), data.clone(), options.clone())?;
        let view = Arc::new(Mutex::new(RulesView { engine, decisions: BTreeMap::new() }));
        Ok(Self { department, packs, data, options, roster, signers: BTreeMap::new(), view })
    }

    /// The view for the services.
    pub fn view(&self) -> Arc<Mutex<RulesView>> {
        Arc::clone(&self.view)
    }

    fn input<'a>(&mut self, event: &'a Event<'a>, rows: &mut Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Option<Input<'a>> {
        let header = &event.arrival.header;
        let kind = self.kind(event, rows)?;
        Some(Input {
            hash: event.arrival.entry.position.hash.0,
            origin: header.origin.clone(),
            department: header.origin.department().clone(),
            world: header.world.clone(),
            status: header.status,
            time: header.time,
            received: event.arrival.received,
            previous_time: event.previous_time,
            depth: event.body.depth,
            rules: event.body.rule_chain.clone(),
            author: None,
            kind,
        })
    }

    /// What the record says to the rules; nothing when it concerns others.
    fn kind<'a>(&mut self, event: &'a Event<'a>, rows: &mut Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Option<InputKind<'a>> {
        let header = &event.arrival.header;
        let own = *header.origin.department() == self.department;
        match &event.body.content {
            Content::Alert { alert, .. } => {
                Some(InputKind::Alert { alert, classification: &event.body.classification })
            }
            // What officers and timers of other departments decide is theirs.
            _ if !own => None,
            Content::Tick(at) => Some(InputKind::Tick { at: *at }),
            Content::Approval(approval) => {
                let roster = self.roster.at(header.roster).unwrap_or_else(|| self.roster.current());
                Some(InputKind::Approval(Approval {
                    pending: approval.pending_id.clone(),
                    shown: approval.shown_hash.as_slice().try_into().ok()?,
                    roles: roles_of(&roster, &approval.person),
                    person: approval.person.clone(),
                    answer: match approval.decision() {
                        rules_wire::Decision::Approve => Answer::Approve,
                        rules_wire::Decision::Reject => Answer::Reject,
                        rules_wire::Decision::Unspecified => return None,
                    },
                }))
            }
            Content::Pause(pause) if pause.paused => Some(InputKind::Pause {
                rule: pause.rule.clone(),
                reason: pause.reason.clone(),
                until: pause.until.as_ref().and_then(|until| timestamp_from_wire(Some(until), "until").ok()),
                by: pause.person.clone(),
            }),
            Content::Pause(pause) => Some(InputKind::Resume { rule: pause.rule.clone(), by: pause.person.clone() }),
            Content::Envelope(envelope) => self.envelope(header, envelope, rows).map(InputKind::Envelope),
            Content::DeliveryReport(_) | Content::KeyChange(_) | Content::Manifest(_) => None,
        }
    }

    /// Adds one person's signature to those of the same rule text, and gives the envelope as it stands now.
    fn envelope(
        &mut self,
        header: &Header,
        envelope: &rules_wire::Envelope,
        rows: &mut Vec<(Vec<u8>, Option<Vec<u8>>)>,
    ) -> Option<Envelope> {
        let digest: [u8; 32] = envelope.rule_digest.as_slice().try_into().ok()?;
        let from = timestamp_from_wire(envelope.valid_from.as_ref(), "valid_from").ok()?;
        let to = timestamp_from_wire(envelope.valid_to.as_ref(), "valid_to").ok()?;
        let roster = self.roster.at(header.roster).unwrap_or_else(|| self.roster.current());
        let signer = Signer { person: envelope.person.clone(), roles: roles_of(&roster, &envelope.person) };
        let held = self.signers.entry(envelope.rule.clone()).or_insert_with(|| Signatures {
            digest,
            signers: Vec::new(),
            from,
            to,
        });
        if held.digest != digest || held.to <= header.time {
            *held = Signatures { digest, signers: Vec::new(), from, to };
        }
        held.signers.retain(|known| known.person != signer.person);
        if held.signers.len() < SIGNERS_MAX {
            held.signers.push(signer);
        }
        // It holds only while every signature does.
        held.from = held.from.max(from);
        held.to = held.to.min(to);
        let key = [&[SIGNERS_ROW], envelope.rule.as_bytes()].concat();
        rows.push((key, serde_json::to_vec(held).ok()));
        let signers = held.signers.clone();
        Some(Envelope { rule: envelope.rule.clone(), digest, signers, from: held.from, to: held.to })
    }
}

impl Derive for NodeRules {
    fn restore(&mut self, rows: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), String> {
        let engine = Engine::new(self.department.clone(), self.packs.clone(), self.data.clone(), self.options.clone());
        let mut engine = engine.map_err(|error| crate::config::chain(&error))?;
        let mut own = Vec::new();
        self.signers.clear();
        for (key, value) in rows {
            match key.split_first() {
                Some((&ENGINE_ROW, rest)) => own.push((rest.to_vec(), value)),
                Some((&SIGNERS_ROW, rest)) => {
                    let rule = String::from_utf8_lossy(rest).into_owned();
                    let held = serde_json::from_slice(&value).map_err(|error| error.to_string())?;
                    self.signers.insert(rule, held);
                }
                _ => return Err("a row of the rules has an unknown first letter".into()),
            }
        }
        engine.restore(own).map_err(|error| error.to_string())?;
        self.view.lock().engine = engine;
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Derived {
        let mut rows = Vec::new();
        let Some(input) = self.input(event, &mut rows) else { return Derived { drafts: Vec::new(), state: rows } };
        let mut view = self.view.lock();
        let outcome = if event.arrival.returned {
            view.engine.take_back(&input, issued(event.body).as_ref())
        } else {
            view.engine.apply(&input)
        };
        for note in outcome.notes {
            tracing::debug!(rule = note.rule, world = %note.world, verdict = ?note.verdict, "{}", note.why.en);
            view.decisions.insert(note.rule.clone(), note);
        }
        drop(view);
        rows.extend(outcome.state.into_iter().map(|(key, value)| ([&[ENGINE_ROW], key.as_slice()].concat(), value)));
        let drafts = outcome.effects.into_iter().map(|effect| draft(effect, event.body)).collect();
        Derived { drafts, state: rows }
    }

    fn due(&self) -> Option<Timestamp> {
        self.view.lock().engine.due()
    }
}

/// What a record of ours says of the rule behind it; nothing when a person or system published it.
fn issued(body: &Body) -> Option<Issued> {
    let cause = |cause: &wire::Cause| {
        Some(campanile_rules::Cause {
            alert: AlertId::new(cause.sender.as_str(), cause.identifier.as_str(), cause.sent.as_str()),
            origin: cause.origin.parse().ok()?,
            hash: cause.record_hash.as_ref().try_into().ok()?,
        })
    };
    let rule = body.rule.as_ref()?.id.clone();
    Some(Issued { rule, causes: body.causes.iter().filter_map(cause).collect() })
}

fn roles_of(roster: &Roster, person: &str) -> Vec<String> {
    roster.persons.iter().find(|known| known.id == person).map(|known| known.roles.clone()).unwrap_or_default()
}

fn draft(effect: Effect, trigger: &Body) -> Draft {
    let cause = |cause: &campanile_rules::Cause| wire::Cause {
        record_hash: bytes::Bytes::copy_from_slice(&cause.hash),
        origin: cause.origin.to_string(),
        sender: cause.alert.sender.to_string(),
        identifier: cause.alert.identifier.to_string(),
        sent: cause.alert.sent.to_string(),
    };
    let root = effect.causes.first().map(|cause| &cause.alert);
    let status = effect.alert.status;
    // A Draft goes to persons only.
    let scope = if status == Status::Draft { Scope::Private } else { effect.alert.scope.unwrap_or(Scope::Public) };
    Draft {
        status,
        exercise: effect.key.world.exercise().cloned(),
        urgent: is_urgent(&effect.alert),
        audience: Audience { scope, departments: Vec::new() },
        body: Body {
            classification: effect.classification,
            causes: effect.causes.iter().map(cause).collect(),
            cause_count: u32::try_from(effect.cause_count).unwrap_or(u32::MAX),
            rule: Some(rule_to_wire(&effect.rule)),
            depth: effect.depth,
            rule_chain: effect.rules,
            traceparent: traceparent(trigger, root, &effect.alert.identifier),
            content: Content::Alert { alert: Arc::new(effect.alert), original: None, media_type: None },
        },
    }
}

/// The trace of the record that led to the effect, with a span of the effect's own; a tick has none, so the trace of
/// the root cause is made again from its identity.
fn traceparent(trigger: &Body, root: Option<&AlertId>, identifier: &str) -> String {
    let span = campanile_log::Hash::of(identifier.as_bytes()).to_string();
    let span = span.get(..16).unwrap_or_default();
    let trace = match trigger.traceparent.split('-').nth(1) {
        Some(trace) if trace.len() == 32 => trace.to_owned(),
        _ => {
            let root = root.map(ToString::to_string).unwrap_or_default();
            campanile_log::Hash::of(root.as_bytes()).to_string().chars().take(32).collect()
        }
    };
    format!("00-{trace}-{span}-01")
}

/// A rule reference on the wire.
pub fn rule_to_wire(rule: &campanile_rules::RuleRef) -> rules_wire::RuleRef {
    rules_wire::RuleRef {
        id: rule.id.clone(),
        pack: rule.pack.clone(),
        pack_digest: rule.digest.to_vec(),
        data_sets: rule
            .data
            .iter()
            .map(|(name, digest)| rules_wire::DataSetRef { name: name.clone(), digest: digest.to_vec() })
            .collect(),
    }
}
