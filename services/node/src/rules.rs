//! The rules of a department on the bus: records become inputs, effects become drafts.
//!
//! The engine is pure; this is where its world meets the log's. An [`Activation`](Content::Activation) record changes
//! which packs are in force, and the engine is another one from that record on; the manifest that says so to the
//! federation commits with it. Rows are kept apart by a first letter:
//!
//! ```text
//!   e  the engine's own            p  a pack in force               m  the newest manifest of a department
//!   s  an envelope's signers       w  a pack that waits             h, q  the engine and the packs in shadow
//!   a  where an alert is about that a gateway may report on
//! ```
//!
//! Read in this order: [`packs`] (what is put in force), [`library`] (what packs read), [`activations`] (how that
//! changes), [`shadow`], [`manifests`] (what the federation knows of it), [`replay`] (a decision made again),
//! [`service`] (the calls) and [`desk`] (activation as officers meet it).

use std::collections::BTreeMap;
use std::sync::Arc;

use campanile_alert::{DepartmentId, Timestamp};
use campanile_bus::record::{Content, Draft, Header};
use campanile_bus::{Derive, Derived, Event};
use campanile_discovery::roster::{Roster, RosterHandle};
use campanile_log::Hash;
use campanile_proto::convert::timestamp_from_wire;
use campanile_proto::rules::v1 as rules_wire;
use campanile_rules::{Answer, Approval, Decision, Engine, Envelope, Input, InputKind, Options, Signer};
use parking_lot::Mutex;
use prost::Message as _;
use serde::{Deserialize, Serialize};

pub mod activations;
pub mod desk;
pub mod effects;
pub mod library;
pub mod manifests;
pub mod packs;
pub mod replay;
pub mod service;
pub mod shadow;
mod silence;

pub use activations::Waiting;
pub use effects::rule_to_wire;
pub use library::Library;
pub use manifests::Manifests;
pub use packs::{Files, InForce, Ready, Unfit};

use shadow::Shadows;
use silence::Areas;

const ENGINE_ROW: u8 = b'e';
const SIGNERS_ROW: u8 = b's';
const PACK_ROW: u8 = b'p';
const WAITING_ROW: u8 = b'w';
const MANIFEST_ROW: u8 = b'm';
const SHADOW_ENGINE_ROW: u8 = b'h';
const SHADOW_ROW: u8 = b'q';
const AREAS_ROW: u8 = b'a';
/// How many persons' signatures of one envelope are kept.
const SIGNERS_MAX: usize = 32;

/// Rows to set or remove, by their keys.
type Rows = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What readers see of the rules. Hold its lock briefly: the pipeline waits for it.
#[derive(Debug)]
pub struct RulesView {
    /// The engine of the packs in force.
    pub engine: Engine,
    /// The last decision about each rule.
    pub decisions: BTreeMap<String, Decision>,
    /// The packs in force, by name.
    pub packs: BTreeMap<String, InForce>,
    /// The packs that wait for a second officer, by the id of what was agreed to.
    pub waiting: BTreeMap<Hash, Waiting>,
    /// The newest manifest of each department, the own one included.
    pub manifests: Manifests,
    /// The packs in shadow.
    pub shadows: Shadows,
    /// Packs of the configuration that were not put in force, and why.
    pub problems: Vec<String>,
    areas: Areas,
}

impl RulesView {
    /// Whether no rule is in force, and none has left anything behind.
    fn is_idle(&self) -> bool {
        self.engine.is_blank() && self.engine.rules().next().is_none()
    }

    /// Has the engine decide about an input; the drafts are its effects.
    fn evaluate(&mut self, input: &Input<'_>, event: &Event<'_>, rows: &mut Rows) -> Vec<Draft> {
        let outcome = match event.arrival.returned {
            true => self.engine.take_back(input, effects::issued(event.body).as_ref()),
            false => self.engine.apply(input),
        };
        for note in outcome.notes {
            tracing::debug!(rule = note.rule, world = %note.world, verdict = ?note.verdict, "{}", note.why.en);
            self.decisions.insert(note.rule.clone(), note);
        }
        for (key, value) in outcome.state {
            rows.push((key_of(ENGINE_ROW, &key), value));
        }
        outcome.effects.into_iter().map(|effect| effects::draft(effect, event.body)).collect()
    }
}

/// The rules of a department as the pipeline runs them.
pub struct NodeRules {
    department: DepartmentId,
    configured: Vec<(Files, Ready)>,
    library: Arc<Library>,
    options: Options,
    roster: RosterHandle,
    signers: BTreeMap<String, Signatures>,
    /// The packs of the configuration that this start puts in force where no other is.
    opening: Vec<Arc<Ready>>,
    /// They are not in force yet: the engine knows them, and has them wait.
    is_opening: bool,
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
    /// Makes the rules of a department, without memory and with no pack in force. `configured` are the packs of the
    /// node's configuration, which [`Derive::opening`] puts in force where nothing else is.
    ///
    /// # Errors
    /// [`Unfit`] when a configured pack is refused, or they cannot be active together.
    pub fn new(
        department: DepartmentId,
        configured: Vec<Files>,
        library: Arc<Library>,
        options: Options,
        roster: RosterHandle,
    ) -> Result<Self, Unfit> {
        let read = |files: Files| files.read(&library).map(|(ready, _)| (files, ready));
        let configured = configured.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let ready: Vec<Arc<Ready>> = configured.iter().map(|(_, ready)| Arc::new(ready.clone())).collect();
        packs::engine(&department, &options, ready.iter())?;
        let engine = packs::engine(&department, &options, std::iter::empty())?;
        let view = RulesView {
            engine,
            decisions: BTreeMap::new(),
            packs: BTreeMap::new(),
            waiting: BTreeMap::new(),
            manifests: Manifests::new(),
            shadows: Shadows::default(),
            problems: Vec::new(),
            areas: Areas::default(),
        };
        let view = Arc::new(Mutex::new(view));
        let (signers, opening) = (BTreeMap::new(), Vec::new());
        Ok(Self { department, configured, library, options, roster, signers, opening, is_opening: false, view })
    }

    /// The view for the services.
    pub fn view(&self) -> Arc<Mutex<RulesView>> {
        Arc::clone(&self.view)
    }

    fn input<'a>(&mut self, event: &'a Event<'a>, rows: &mut Rows) -> Option<Input<'a>> {
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
    fn kind<'a>(&mut self, event: &'a Event<'a>, rows: &mut Rows) -> Option<InputKind<'a>> {
        let header = &event.arrival.header;
        let own = *header.origin.department() == self.department;
        match &event.body.content {
            Content::Alert { alert, .. } => {
                Some(InputKind::Alert { alert, classification: &event.body.classification })
            }
            Content::DeliveryReport(report) => {
                self.view.lock().areas.told(report).map(|areas| InputKind::Notice { areas })
            }
            // What officers and timers of other departments decide is theirs.
            _ if !own => None,
            Content::Tick(tick) => Some(InputKind::Tick { at: tick.at }),
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
            Content::KeyChange(_) | Content::Manifest(_) | Content::Activation(_) | Content::Shadow(_) => None,
        }
    }

    /// Adds one person's signature to those of the same rule text, and gives the envelope as it stands now.
    fn envelope(&mut self, header: &Header, envelope: &rules_wire::Envelope, rows: &mut Rows) -> Option<Envelope> {
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
        rows.push((key_of(SIGNERS_ROW, envelope.rule.as_bytes()), serde_json::to_vec(held).ok()));
        let signers = held.signers.clone();
        Some(Envelope { rule: envelope.rule.clone(), digest, signers, from: held.from, to: held.to })
    }
}

impl Derive for NodeRules {
    fn restore(&mut self, rows: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), String> {
        let mut view = self.view.lock();
        self.signers.clear();
        let mut engine_rows = Vec::new();
        view.packs.clear();
        view.waiting.clear();
        view.manifests.clear();
        view.areas.clear();
        view.shadows = Shadows::default();
        for (key, value) in rows {
            let Some((table, rest)) = key.split_first() else { return Err("a row of the rules has no key".into()) };
            let name = || String::from_utf8_lossy(rest).into_owned();
            match *table {
                ENGINE_ROW => engine_rows.push((rest.to_vec(), value)),
                SIGNERS_ROW => {
                    self.signers.insert(name(), read(&value)?);
                }
                PACK_ROW => {
                    let pack = InForce::read(read(&value)?, &self.library).map_err(|unfit| unfit.to_string())?;
                    view.packs.insert(name(), pack);
                }
                WAITING_ROW => {
                    let id = Hash::try_from(rest).map_err(|error| error.to_string())?;
                    view.waiting.insert(id, read(&value)?);
                }
                MANIFEST_ROW => {
                    let department = DepartmentId::try_new(name()).map_err(|error| error.to_string())?;
                    let manifest = rules_wire::Manifest::decode(value.as_slice()).map_err(|error| error.to_string())?;
                    view.manifests.insert(department, manifest);
                }
                AREAS_ROW => {
                    let hash = Hash::try_from(rest).map_err(|error| error.to_string())?;
                    view.areas.take(hash, read(&value)?);
                }
                SHADOW_ENGINE_ROW => view.shadows.take_row(rest, value),
                SHADOW_ROW => view.shadows.take_pack(name(), read(&value)?, &self.library)?,
                _ => return Err("a row of the rules has an unknown first letter".into()),
            }
        }
        let view = &mut *view;
        // A commit that failed may have been the one that put them in force.
        self.is_opening = self.opens(&view.packs);
        view.engine = self.engine(&view.packs, engine_rows).map_err(|unfit| unfit.to_string())?;
        view.shadows.restart(&self.department, &self.options).map_err(|unfit| unfit.to_string())
    }

    fn opening(&mut self) -> Vec<Draft> {
        let acts = self.configure();
        let mut view = self.view.lock();
        if !view.packs.is_empty() {
            return acts;
        }
        // A node whose disk was lost may hear of others long before it may write: what it hears concerns these packs.
        let begins = |pack: &&Ready| acts.iter().any(|act| activations::begins(act, &pack.pack.name));
        let ready = self.configured.iter().map(|(_, ready)| ready).filter(begins);
        self.opening = ready.cloned().map(Arc::new).collect();
        match self.engine(&view.packs, view.engine.rows()) {
            Ok(engine) => (view.engine, self.is_opening) = (engine, self.opens(&view.packs)),
            Err(unfit) => {
                tracing::error!("The packs of the configuration cannot wait to be put in force: {unfit}");
                self.opening.clear();
            }
        }
        acts
    }

    fn apply(&mut self, event: &Event<'_>) -> Derived {
        let mut rows = Rows::new();
        let mut drafts = Vec::new();
        let own = *event.arrival.header.origin.department() == self.department;
        match &event.body.content {
            Content::Manifest(manifest) => self.keep_manifest(event, manifest, &mut rows),
            Content::Activation(activation) => {
                drafts.extend(self.activation(event, activation, &mut rows));
                if own && !event.arrival.returned {
                    self.has_acted(activation);
                }
            }
            _ => {}
        }
        let Some(input) = self.input(event, &mut rows) else {
            return Derived { drafts, state: rows, decided: false };
        };
        let mut view = self.view.lock();
        let view = &mut *view;
        let idle = view.is_idle();
        if self.is_opening {
            view.engine.wait_for_tick();
        }
        // Nothing is decided by packs that are not in force yet.
        let waits = self.is_opening && matches!(input.kind, InputKind::Tick { .. });
        view.areas.note(&view.engine, event, &mut rows);
        let heard = silence::heard(event, &input);
        for input in heard.iter().chain([&input]) {
            // What was issued before a loss waits for the packs that are put in force again.
            if (!idle || event.arrival.returned) && !waits {
                drafts.extend(view.evaluate(input, event, &mut rows));
            }
            drafts.extend(view.shadows.apply(input, &mut rows));
        }
        Derived { drafts, state: rows, decided: !idle || event.arrival.returned || !view.shadows.is_empty() }
    }

    fn is_active(&self) -> bool {
        let view = self.view.lock();
        !view.is_idle() || !view.shadows.is_empty()
    }

    fn due(&self) -> Option<Timestamp> {
        let view = self.view.lock();
        let own = view.engine.due().filter(|_| !self.is_opening);
        [own, view.shadows.due()].into_iter().flatten().min()
    }
}

/// A row's key: the letter of its table, then the key in it.
fn key_of(table: u8, key: &[u8]) -> Vec<u8> {
    [&[table], key].concat()
}

fn read<T: serde::de::DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| format!("a row of the rules cannot be read: {error}"))
}

fn roles_of(roster: &Roster, person: &str) -> Vec<String> {
    roster.persons.iter().find(|known| known.id == person).map(|known| known.roles.clone()).unwrap_or_default()
}
