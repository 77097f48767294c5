//! The calls about packs: what is in force, activation, the graph, and why a rule did what it did.

use std::collections::HashMap;
use std::sync::Arc;

use campanile_alert::classify::MappingTable;
use campanile_alert::{DepartmentId, ExerciseId, World};
use campanile_bus::{Arrival, SubmitError, count};
use campanile_discovery::identity::Role;
use campanile_log::{Hash, Standing};
use campanile_proto::bus::v1 as bus_wire;
use campanile_proto::convert::{self, timestamp_to_wire};
use campanile_proto::rules::v1 as wire;
use campanile_proto::rules::v1::rules_service_server::{RulesService, RulesServiceServer};
use campanile_rules::{Decision, Engine, Input, InputKind, Verdict};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Request, Response, Status, Streaming};

use super::desk::{Agreed, Desk, Officer, PERSONS_NEEDED};
use super::library::DATA_SET_BYTES_MAX;
use super::packs::Files;
use super::{effects, manifests, replay};
use crate::admin_service::pending_to_wire;
use crate::alert_service::{classified, one_message};
use crate::auth::Gate;
use crate::lookup::{self, Found};
use crate::status::{self, field, internal, reason, refuse};

/// The largest message: a pack, or a piece of a data set.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The longest pack's name that is looked for.
const NAME_BYTES_MAX: usize = 200;
/// How many data sets are taken in at once.
const UPLOADS_MAX: usize = 2;
/// How many pieces a data set may come in: 64 MiB in pieces of a KiB.
const CHUNKS_MAX: usize = 1 << 16;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Rules(Arc<Inner>);

struct Inner {
    desk: Arc<Desk>,
    gate: Arc<Gate>,
    sources: Arc<HashMap<String, MappingTable>>,
    uploads: Arc<Semaphore>,
    /// One replay at a time: each reads the whole store.
    replays: Arc<Semaphore>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").finish_non_exhaustive()
    }
}

impl Rules {
    /// The service over a desk.
    pub fn new(desk: Arc<Desk>, gate: Arc<Gate>, sources: Arc<HashMap<String, MappingTable>>) -> Self {
        let (uploads, replays) = (Arc::new(Semaphore::new(UPLOADS_MAX)), Arc::new(Semaphore::new(1)));
        Self(Arc::new(Inner { desk, gate, sources, uploads, replays }))
    }

    /// The service, with the limits of messages set.
    pub fn into_service(self) -> RulesServiceServer<Self> {
        RulesServiceServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX * 16)
    }

    fn reader<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.0.gate.admit(request, &[Role::Read, Role::Approve, Role::Administer]).map(drop)
    }

    fn officer<T>(&self, request: &Request<T>, any_of: &[Role]) -> Result<Officer, Status> {
        let caller = self.0.gate.admit(request, any_of)?;
        let person = self.0.gate.person(&caller)?;
        Ok(Officer { person, certificate_hash: caller.certificate_hash })
    }

    async fn find(&self, sender: String, identifier: String, sent: String) -> Result<Found, Status> {
        let id = bus_wire::AlertRef { sender, identifier, sent };
        let wanted = convert::wanted_alert_from_wire(Some(id)).map_err(|faults| {
            let violations: Vec<_> = faults.into_iter().map(|fault| (fault.path, fault.reason)).collect();
            let first = violations.first().map(|(path, reason)| format!("{path}: {reason}"));
            status::fields(&violations, first.unwrap_or_default())
        })?;
        lookup::find(self.0.desk.bus(), &wanted).await
    }

    /// Goes through the store beside the runtime; it ends early when the caller has gone.
    async fn replay<T: Send + 'static>(
        &self,
        work: impl FnOnce(&replay::Parts) -> Result<T, replay::Error> + Send + 'static,
    ) -> Result<T, Status> {
        let permit: OwnedSemaphorePermit = Arc::clone(&self.0.replays).try_acquire_owned().map_err(|_| {
            let message = "another replay is under way here, and each reads the whole store; try again when it is done";
            refuse(Code::ResourceExhausted, "REPLAYS", message)
        })?;
        let bus = self.0.desk.bus();
        let stop = bus.stopping().child_token();
        let parts = replay::Parts {
            store: Arc::clone(bus.store()),
            origin: bus.origin().clone(),
            library: Arc::clone(self.0.desk.library()),
            options: self.0.desk.options().clone(),
            roster: bus.roster().clone(),
            stop: stop.clone(),
        };
        let _gone = stop.drop_guard();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&parts)
        });
        let done = done.await.map_err(|error| internal("a replay was cut short", &error))?;
        done.map_err(|error| match error {
            replay::Error::GivenUp(_) => refuse(Code::Aborted, "REPLAY", error.to_string()),
            error => internal("a replay failed", &error),
        })
    }
}

#[tonic::async_trait]
impl RulesService for Rules {
    async fn list_packs(
        &self,
        request: Request<wire::ListPacksRequest>,
    ) -> Result<Response<wire::ListPacksResponse>, Status> {
        self.reader(&request)?;
        let desk = &self.0.desk;
        // What is known by now can be read.
        let _past = desk.bus().ready().await;
        let now = desk.bus().clock().now();
        let view = desk.view().lock();
        let packs = view.packs.iter().map(|(name, pack)| {
            let current = &pack.row.current;
            wire::PackState {
                pack: name.clone(),
                digest: current.digest.0.to_vec(),
                data_sets: current.files.data_to_wire(),
                since: Some(timestamp_to_wire(current.since)),
                persons: current.persons.clone(),
                fallback_digest: pack.before.as_ref().map(|before| before.pack.digest.to_vec()).unwrap_or_default(),
            }
        });
        let shadows = view.shadows.packs().map(|(name, shadow)| wire::ShadowState {
            pack: name.clone(),
            digest: shadow.digest.0.to_vec(),
            since: Some(timestamp_to_wire(shadow.since)),
            person: shadow.person.clone(),
            issued: shadow.issued,
            asked: shadow.asked,
        });
        let waiting = view.waiting.iter().filter(|(_, waiting)| now < waiting.until);
        let waiting = waiting.map(|(id, waiting)| wire::WaitingActivation {
            id: id.to_string(),
            pack: waiting.pack.clone(),
            digest: waiting.digest.0.to_vec(),
            data_sets: waiting.files.data_to_wire(),
            person: waiting.person.clone(),
            deadline: Some(timestamp_to_wire(waiting.until)),
        });
        Ok(Response::new(wire::ListPacksResponse {
            packs: packs.collect(),
            shadows: shadows.collect(),
            waiting: waiting.collect(),
            manifest: view.manifests.get(desk.department()).cloned(),
            directory_problem: desk.problem().unwrap_or_default(),
            configuration_problems: view.problems.clone(),
        }))
    }

    async fn put_data_set(
        &self,
        request: Request<Streaming<wire::PutDataSetRequest>>,
    ) -> Result<Response<wire::PutDataSetResponse>, Status> {
        self.0.gate.admit(&request, &[Role::Approve, Role::Administer])?;
        let _permit = Arc::clone(&self.0.uploads)
            .try_acquire_owned()
            .map_err(|_| refuse(Code::ResourceExhausted, "UPLOADS", "other data sets are coming in; try again"))?;
        let mut pieces = request.into_inner();
        let mut bytes = Vec::new();
        for _ in 0..CHUNKS_MAX {
            let Some(piece) = pieces.message().await? else {
                let library = Arc::clone(self.0.desk.library());
                let kept = tokio::task::spawn_blocking(move || library.put(&bytes)).await;
                let digest = kept
                    .map_err(|error| internal("a write was cut short", &error))?
                    .map_err(|error| internal("the data set could not be kept", &error))?;
                return Ok(Response::new(wire::PutDataSetResponse { digest: digest.0.to_vec() }));
            };
            bytes.extend_from_slice(&piece.chunk);
            if bytes.len() > DATA_SET_BYTES_MAX {
                return Err(field("chunk", "the data set has more than 64 MiB"));
            }
        }
        Err(field("chunk", "the data set comes in more than 65,536 pieces; send larger ones"))
    }

    async fn activate(
        &self,
        request: Request<wire::ActivateRequest>,
    ) -> Result<Response<wire::ActivateResponse>, Status> {
        let officer = self.officer(&request, &[Role::Approve])?;
        let request = request.into_inner();
        let (files, no_way_back) = match request.what {
            None => return Err(field("what", "give a pack, or the id of one that waits")),
            Some(wire::activate_request::What::Files(given)) => (files(&given)?, request.no_way_back),
            Some(wire::activate_request::What::WaitingId(id)) => {
                let id: Hash = id
                    .parse()
                    .map_err(|_| field("waiting_id", "give the 64 hexadecimal digits that the list of packs shows"))?;
                self.0.desk.waiting(&id)?
            }
        };
        let Agreed { id, pack, digest, persons, warnings, serial } =
            self.0.desk.agree(&officer, files, no_way_back).await?;
        Ok(Response::new(wire::ActivateResponse {
            id: id.to_string(),
            pack,
            digest: digest.0.to_vec(),
            active: serial.is_some(),
            persons,
            need: PERSONS_NEEDED,
            warnings: warnings
                .iter()
                .map(|found| format!("line {}: [{}] {}", found.line, found.code, found.message))
                .collect(),
            serial: serial.unwrap_or_default(),
        }))
    }

    async fn rollback(
        &self,
        request: Request<wire::RollbackRequest>,
    ) -> Result<Response<wire::RollbackResponse>, Status> {
        let officer = self.officer(&request, &[Role::Approve, Role::Administer])?;
        let request = request.into_inner();
        name(&request.pack, "pack")?;
        if request.reason.trim().is_empty() {
            return Err(field("reason", "say why the pack is taken back; the next officer will read it"));
        }
        reason("reason", &request.reason)?;
        let (digest, serial) = self.0.desk.roll_back(&officer, &request.pack, request.reason).await?;
        let digest = digest.map(|digest| digest.0.to_vec()).unwrap_or_default();
        Ok(Response::new(wire::RollbackResponse { digest, serial }))
    }

    async fn shadow(&self, request: Request<wire::ShadowRequest>) -> Result<Response<wire::ShadowResponse>, Status> {
        let officer = self.officer(&request, &[Role::Approve, Role::Administer])?;
        let answer = match request.into_inner().what {
            None => return Err(field("what", "give a pack, or the name of one in shadow")),
            Some(wire::shadow_request::What::Files(given)) => {
                let (pack, digest) = self.0.desk.shadow(&officer, files(&given)?).await?;
                wire::ShadowResponse { pack, digest: digest.0.to_vec() }
            }
            Some(wire::shadow_request::What::End(pack)) => {
                name(&pack, "end")?;
                self.0.desk.end_shadow(&officer, pack.clone()).await?;
                wire::ShadowResponse { pack, digest: Vec::new() }
            }
        };
        Ok(Response::new(answer))
    }

    async fn graph(&self, request: Request<wire::GraphRequest>) -> Result<Response<wire::GraphResponse>, Status> {
        self.reader(&request)?;
        // What is known by now can be read.
        let _past = self.0.desk.bus().ready().await;
        let manifests: Vec<wire::Manifest> = self.0.desk.view().lock().manifests.values().cloned().collect();
        let faults = manifests::faults(manifests.iter());
        Ok(Response::new(wire::GraphResponse { manifests, faults }))
    }

    async fn explain(&self, request: Request<wire::ExplainRequest>) -> Result<Response<wire::ExplainResponse>, Status> {
        self.reader(&request)?;
        let request = request.into_inner();
        let found = self.find(request.sender, request.identifier, request.sent).await?;
        counted(&found)?;
        let (rule, causes) = match found.arrival.body.as_deref() {
            Some(body) if body.rule.is_some() => (body.rule.clone(), body.causes.clone()),
            _ => (None, Vec::new()),
        };
        // Of our own effects: what was decided where they were issued. Of anything else: what it led to here.
        let own = found.arrival.header.origin == *self.0.desk.bus().origin();
        let (trigger, decisions) = if rule.is_some() && own {
            let arrival = Arc::clone(&found.arrival);
            let replayed = self.replay(move |parts| replay::effect(parts, &arrival)).await?;
            (replayed.trigger.ok_or_else(not_evaluated)?, replayed.decisions)
        } else {
            let number = found.arrival.entry.arrival;
            let decided = self.replay(move |parts| replay::at(parts, number)).await?.ok_or_else(not_evaluated)?;
            (decided.trigger, decided.decisions)
        };
        let known = request.rule.is_empty() || decisions.iter().any(|decision| decision.rule == request.rule);
        if !known {
            let message = format!("no rule {:?} was evaluated there; list the rules for their ids", request.rule);
            return Err(refuse(Code::NotFound, "NO_RULE", message));
        }
        let wanted = |decision: &&Decision| {
            (request.rule.is_empty() || decision.rule == request.rule)
                && (!request.not || replay::is_stopped(decision.verdict))
        };
        Ok(Response::new(wire::ExplainResponse {
            trigger: trigger.0.to_vec(),
            rule,
            causes: causes.into_iter().map(|cause| cause.identifier).collect(),
            decisions: decisions.iter().filter(wanted).map(decision_to_wire).collect(),
        }))
    }

    async fn what_if(&self, request: Request<wire::WhatIfRequest>) -> Result<Response<wire::WhatIfResponse>, Status> {
        self.reader(&request)?;
        let request = request.into_inner();
        let desk = &self.0.desk;
        let bus = desk.bus();
        // What is known by now can be read.
        let _past = bus.ready().await;
        let alert = one_message(&request.cap_xml)?;
        let classification = classified(&self.0.sources, &alert, &request.source)?;
        let department = match request.department.as_str() {
            "" => desk.department().clone(),
            name => DepartmentId::try_new(name).map_err(|error| field("department", error.to_string()))?,
        };
        let exercise = match request.exercise_id.as_deref() {
            None => None,
            Some(id) => Some(ExerciseId::try_new(id).map_err(|error| field("exercise_id", error.to_string()))?),
        };
        let world = World::of(alert.status, exercise.as_ref()).map_err(|error| status::submit(error.into()))?;
        let (now, roster) = (bus.clock().now(), bus.roster().current());
        let origin = roster
            .publisher(&department)
            .cloned()
            .ok_or_else(|| field("department", format!("the roster names no node that publishes for {department}")))?;
        // What would be refused leads to nothing, and the reason is the answer.
        count::alert(&roster, &department, &alert, &classification, bus.vocabulary(), now)
            .map_err(|refusal| status::submit(SubmitError::Refused(refusal)))?;
        let mut engine = desk.view().lock().engine.clone();
        let tried = tokio::task::spawn_blocking(move || {
            let input = Input {
                hash: Hash::of(&request.cap_xml).0,
                origin,
                department,
                world,
                status: alert.status,
                time: now,
                received: now,
                previous_time: None,
                depth: 0,
                rules: Vec::new(),
                author: None,
                kind: InputKind::Alert { alert: &alert, classification: &classification },
            };
            try_out(&mut engine, &input)
        });
        tried.await.map(Response::new).map_err(|error| internal("the trial was cut short", &error))
    }

    async fn replay(&self, request: Request<wire::ReplayRequest>) -> Result<Response<wire::ReplayResponse>, Status> {
        self.reader(&request)?;
        let request = request.into_inner();
        let found = self.find(request.sender, request.identifier, request.sent).await?;
        counted(&found)?;
        let arrival = Arc::clone(&found.arrival);
        let rule = arrival.body.as_deref().and_then(|body| body.rule.clone());
        let bus = self.0.desk.bus();
        if rule.is_none() || arrival.header.origin != *bus.origin() {
            let message = "no rule of this node decided that; give an effect that this node's department issued";
            return Err(refuse(Code::FailedPrecondition, "NOT_DECIDED", message));
        }
        let stored = arrival.entry.body.clone().unwrap_or_default();
        let replayed = self.replay(move |parts| replay::effect(parts, &arrival)).await?;
        let same = replayed.body.as_ref() == Some(&stored);
        let difference = match &replayed.body {
            _ if same => String::new(),
            None => {
                "nothing was decided again: the pack may have come into force before this release kept what a replay \
                     needs, or the node's disk was lost since"
                    .into()
            }
            Some(body) => first_difference(&stored, body),
        };
        Ok(Response::new(wire::ReplayResponse {
            same,
            stored_hash: Hash::of(&stored).0.to_vec(),
            replayed_hash: replayed.body.map(|body| Hash::of(&body).0.to_vec()).unwrap_or_default(),
            rule,
            trigger: replayed.trigger.map(|trigger| trigger.0.to_vec()).unwrap_or_default(),
            records: replayed.records,
            difference,
        }))
    }
}

fn first_difference(stored: &[u8], replayed: &[u8]) -> String {
    let at = stored.iter().zip(replayed).position(|(a, b)| a != b).unwrap_or(stored.len().min(replayed.len()));
    format!("the bodies have {} and {} bytes and differ from byte {at} on", stored.len(), replayed.len())
}

fn try_out(engine: &mut Engine, input: &Input<'_>) -> wire::WhatIfResponse {
    let asked: Vec<String> = engine.pending().into_iter().map(|pending| pending.id).collect();
    let explained = engine.explain(input);
    let outcome = engine.try_out(input);
    let mut decisions: std::collections::BTreeMap<String, Decision> =
        explained.into_iter().map(|decision| (decision.rule.clone(), decision)).collect();
    decisions.extend(outcome.notes.into_iter().map(|decision| (decision.rule.clone(), decision)));
    let effect = |effect: &campanile_rules::Effect| wire::ProposedEffect {
        rule: Some(effects::rule_to_wire(&effect.rule)),
        effect_event: effect.key.effect.clone(),
        target: effect.key.target.clone(),
        message_type: effect.alert.msg_type.to_string(),
        text_en: effects::headline(&effect.alert, "en"),
        text_zh_hant: effects::headline(&effect.alert, "zh-Hant"),
    };
    let pending = engine.pending().into_iter().filter(|pending| !asked.contains(&pending.id));
    wire::WhatIfResponse {
        decisions: decisions.values().map(decision_to_wire).collect(),
        effects: outcome.effects.iter().map(effect).collect(),
        pending: pending.map(|pending| pending_to_wire(engine, pending)).collect(),
    }
}

fn decision_to_wire(decision: &Decision) -> wire::RuleDecision {
    wire::RuleDecision {
        rule: decision.rule.clone(),
        world: decision.world.to_string(),
        verdict: word(decision.verdict),
        why_en: decision.why.en.clone(),
        why_zh_hant: decision.why.zh_hant.clone(),
    }
}

/// The engine's word for a verdict.
fn word(verdict: Verdict) -> String {
    let word = serde_json::to_value(verdict).ok();
    word.and_then(|word| Some(word.as_str()?.to_owned())).unwrap_or_default()
}

/// Refuses what the rules never saw.
fn counted(found: &Found) -> Result<&Arc<Arrival>, Status> {
    match &found.arrival.entry.standing {
        Standing::Counted => Ok(&found.arrival),
        Standing::NotCounted { reason } => {
            let message = format!("the record does not count, so no rule saw it: {reason}");
            Err(refuse(Code::FailedPrecondition, "NOT_COUNTED", message))
        }
        Standing::NoBody => {
            Err(refuse(Code::FailedPrecondition, "NO_BODY", "this node holds the header alone, so no rule saw it"))
        }
    }
}

fn not_evaluated() -> Status {
    let message =
        "no rule was in force here when the record came, or it came before this release kept what a replay needs";
    refuse(Code::FailedPrecondition, "NOT_EVALUATED", message)
}

fn files(given: &wire::PackFiles) -> Result<Files, Status> {
    if given.text.trim().is_empty() {
        return Err(field("files.text", "give the pack in YAML"));
    }
    Files::from_wire(&given.text, &given.data_sets).map_err(|unfit| field("files.data_sets", unfit.to_string()))
}

fn name(text: &str, path: &str) -> Result<(), Status> {
    match text.len() {
        1..=NAME_BYTES_MAX => Ok(()),
        _ => Err(field(path, "give the pack's name, of at most 200 bytes")),
    }
}
