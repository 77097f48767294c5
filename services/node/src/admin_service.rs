//! What the people who run a node ask it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use campanile_alert::{DepartmentId, ExerciseId, OriginId, Status as CapStatus, Timestamp, World, ids};
use campanile_bus::bus::plain_draft;
use campanile_bus::record::{Content, lane_from_wire, lane_to_wire, position_to_wire};
use campanile_bus::{Arrival, Bus};
use campanile_discovery::identity::{PeerIdentity, Role};
use campanile_discovery::roster::OriginKind;
use campanile_log::{Lane, LogId, Standing};
use campanile_proto::bus::v1 as wire;
use campanile_proto::bus::v1::admin_service_server::{AdminService, AdminServiceServer};
use campanile_proto::convert::{self, timestamp_from_wire, timestamp_to_wire};
use campanile_proto::rules::v1 as rules_wire;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use tracing::info;

use crate::alert_service::private;
use crate::auth::Gate;
use crate::config::Member;
use crate::exercises::{self, Announced};
use crate::rules::{RulesView, rule_to_wire};
use crate::status::{self, field, internal, reason, refuse};

/// How many readings of logs a node serves at once.
const FOLLOWS_MAX: usize = 256;
/// A sign of life on a reading that goes on, at least this often.
const SIGN_EVERY: Duration = Duration::from_secs(5);
/// How long the directory is asked about exercises for a status.
const DIRECTORY_MAX: Duration = Duration::from_secs(1);

/// The service.
#[derive(Clone)]
pub struct Admin {
    pub(crate) bus: Bus,
    pub(crate) gate: Arc<Gate>,
    pub(crate) rules: Arc<Mutex<RulesView>>,
    pub(crate) member: Arc<Member>,
    pub(crate) follows: Arc<Semaphore>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    /// The bound on readings of logs.
    pub(crate) fn follow_bound() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(FOLLOWS_MAX))
    }

    /// The service.
    pub fn into_service(self) -> AdminServiceServer<Self> {
        AdminServiceServer::new(self).max_decoding_message_size(64 << 10)
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    type ReadLogStream = ReceiverStream<Result<wire::ReadLogResponse, Status>>;

    async fn get_status(
        &self,
        request: Request<wire::GetStatusRequest>,
    ) -> Result<Response<wire::GetStatusResponse>, Status> {
        self.gate.admit(&request, &[Role::Read, Role::Administer])?;
        let bus = &self.bus;
        let directory = bus.members().directory();
        // A directory that does not answer announces nothing; the status says elsewhere that it is away.
        let announced =
            tokio::time::timeout(DIRECTORY_MAX, exercises::announced(directory.as_ref(), bus.clock().now()));
        let announced = announced.await.ok().and_then(Result::ok).unwrap_or_default();
        let roster = bus.roster().current();
        let store = bus.store();
        let evidence = store.evidence().map_err(|error| internal("the store could not be read", &error))?;
        let health = bus.members().health();
        let not_counted = bus.metrics().not_counted_total();
        Ok(Response::new(wire::GetStatusResponse {
            origin: bus.origin().to_string(),
            federation: bus.federation().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            time: Some(timestamp_to_wire(bus.clock().now())),
            roster: roster.number,
            roster_issued: Some(timestamp_to_wire(roster.issued)),
            certificate_expires: Some(timestamp_to_wire(bus.material().identity().peer().not_after)),
            key_id: bus.keys().live.id().to_string(),
            directory_age: health.directory.contact_age.and_then(|age| age.try_into().ok()),
            directory: directory_kind(&self.member),
            records: store.last_arrival(),
            disk_free_bytes: disk_free(&self.member.data),
            tails: store.logs().iter().map(|(log, tail)| position_to_wire(log, tail)).collect(),
            forks: evidence.iter().map(|other| position_to_wire(&other.log, &other.position)).collect(),
            not_counted,
            exercise_key_id: bus.keys().exercise.id().to_string(),
            exercises: announced.iter().map(Announced::to_wire).collect(),
        }))
    }

    async fn announce_exercise(
        &self,
        request: Request<wire::AnnounceExerciseRequest>,
    ) -> Result<Response<wire::AnnounceExerciseResponse>, Status> {
        let caller = self.gate.admit(&request, &[Role::Administer])?;
        let request = request.into_inner();
        let now = self.bus.clock().now();
        let until =
            timestamp_from_wire(request.until.as_ref(), "until").map_err(|fault| field("until", fault.reason))?;
        if until.duration_since(now) > exercises::AHEAD_MAX {
            return Err(field("until", "an exercise is announced for 31 days at most"));
        }
        let exercise =
            ExerciseId::try_new(&request.exercise_id).map_err(|error| field("exercise_id", error.to_string()))?;
        let announced = Announced { exercise, until, by: caller.client.to_string() };
        let directory = self.bus.members().directory();
        let unavailable = |error: campanile_discovery::directory::Error| {
            refuse(Code::Unavailable, "DIRECTORY", format!("the exercise is not announced: {error}"))
        };
        exercises::announce(directory.as_ref(), &announced, now).await.map_err(unavailable)?;
        info!(exercise = %announced.exercise, until = %announced.until, client = announced.by, "Exercise announced");
        let all = exercises::announced(directory.as_ref(), now).await.map_err(unavailable)?;
        Ok(Response::new(wire::AnnounceExerciseResponse { exercises: all.iter().map(Announced::to_wire).collect() }))
    }

    async fn list_peers(
        &self,
        request: Request<wire::ListPeersRequest>,
    ) -> Result<Response<wire::ListPeersResponse>, Status> {
        self.gate.admit(&request, &[Role::Read, Role::Administer])?;
        let bus = &self.bus;
        let roster = bus.roster().current();
        let views = bus.pullers().views();
        let members = bus.members().view();
        let now = bus.clock().now();
        let others = roster.origins.iter().filter(|origin| origin.id != *bus.origin());
        let peers = others.map(|origin| {
            let mut last_error = String::new();
            let mut connected = false;
            let mut logs = Vec::new();
            for lane in Lane::ALL {
                let log = LogId::new(origin.id.to_string(), lane);
                let view = views.get(&log).cloned().unwrap_or_default();
                connected |= view.served_by.as_ref() == Some(&origin.id);
                if !view.last_error.is_empty() {
                    last_error = view.last_error;
                }
                let age = view.heard.map(|heard| now.duration_since(heard));
                logs.push(wire::LogLag {
                    lane: lane_to_wire(lane).into(),
                    held: bus.store().tail(&log).map(|tail| position_to_wire(&log, &tail)),
                    seen: view.seen.map(|tail| position_to_wire(&log, &tail)),
                    heard_age: age
                        .and_then(|age| std::time::Duration::try_from(age).ok())
                        .and_then(|age| age.try_into().ok()),
                    served_by: view.served_by.map(|by| by.to_string()).unwrap_or_default(),
                });
            }
            wire::Peer {
                origin: origin.id.to_string(),
                addresses: bus.pullers().addresses(&origin.id),
                connected,
                logs,
                registered: members.get(&origin.id).is_some_and(|member| member.unregistered_since.is_none()),
                gateway: origin.kind == OriginKind::Gateway,
                sinks: members
                    .get(&origin.id)
                    .and_then(|member| member.hint.sinks.as_ref())
                    .map(|sinks| wire::ExerciseSinks { exercise_ids: sinks.iter().map(ToString::to_string).collect() }),
                last_error,
            }
        });
        Ok(Response::new(wire::ListPeersResponse { peers: peers.collect() }))
    }

    async fn list_rules(
        &self,
        request: Request<wire::ListRulesRequest>,
    ) -> Result<Response<wire::ListRulesResponse>, Status> {
        self.gate.admit(&request, &[Role::Read, Role::Approve, Role::Administer])?;
        // What is known by now can be read.
        let _past = self.bus.ready().await;
        let unheard = self.bus.unheard();
        Ok(Response::new(rules_to_wire(&self.rules.lock(), &unheard)))
    }

    async fn pause_rule(
        &self,
        request: Request<wire::PauseRuleRequest>,
    ) -> Result<Response<wire::PauseRuleResponse>, Status> {
        let caller = self.gate.admit(&request, &[Role::Approve, Role::Administer])?;
        let person = self.gate.person(&caller)?;
        let mut pause =
            request.into_inner().pause.ok_or_else(|| field("pause", "say which rule to stop or release"))?;
        self.bus.ready().await.map_err(status::publish)?;
        if self.rules.lock().engine.rule(&pause.rule).is_none() {
            return Err(unknown_rule(&pause.rule));
        }
        if pause.paused && pause.reason.trim().is_empty() {
            return Err(field("pause.reason", "say why the rule is stopped; the next officer will read it"));
        }
        reason("pause.reason", &pause.reason)?;
        if let Some(until) = &pause.until {
            let until =
                timestamp_from_wire(Some(until), "until").map_err(|fault| field("pause.until", fault.reason))?;
            if until <= self.bus.clock().now() {
                return Err(field("pause.until", "it lies in the past; give a later time or leave it out"));
            }
        }
        pause.person = person.id.clone();
        pause.certificate_hash = caller.certificate_hash;
        info!(rule = pause.rule, paused = pause.paused, person = person.id, "Rule stopped or released");
        let draft = plain_draft(CapStatus::Actual, None, private(), Content::Pause(pause));
        let published = self.bus.record(draft).await.map_err(status::publish)?;
        let position = Some(position_to_wire(&published.log, &published.position));
        Ok(Response::new(wire::PauseRuleResponse { position }))
    }

    async fn sign_envelope(
        &self,
        request: Request<wire::SignEnvelopeRequest>,
    ) -> Result<Response<wire::SignEnvelopeResponse>, Status> {
        let caller = self.gate.admit(&request, &[Role::Approve])?;
        let person = self.gate.person(&caller)?;
        let request = request.into_inner();
        let now = self.bus.clock().now();
        let valid_to = timestamp_from_wire(request.valid_to.as_ref(), "valid_to")
            .map_err(|fault| field("valid_to", fault.reason))?;
        if valid_to <= now {
            return Err(field("valid_to", "it lies in the past"));
        }
        if let Some(valid_from) = &request.valid_from {
            let valid_from = timestamp_from_wire(Some(valid_from), "valid_from")
                .map_err(|fault| field("valid_from", fault.reason))?;
            if valid_from >= valid_to {
                return Err(field("valid_from", "it is not before valid_to, so the envelope would never hold"));
            }
        }
        self.bus.ready().await.map_err(status::publish)?;
        let digest = self.rules.lock().engine.rule(&request.rule).map(|rule| rule.digest);
        let digest = digest.ok_or_else(|| unknown_rule(&request.rule))?;
        let envelope = rules_wire::Envelope {
            rule: request.rule.clone(),
            rule_digest: digest.to_vec(),
            valid_from: Some(request.valid_from.unwrap_or_else(|| timestamp_to_wire(now))),
            valid_to: request.valid_to,
            person: person.id.clone(),
            certificate_hash: caller.certificate_hash,
        };
        info!(rule = request.rule, person = person.id, "Envelope signed");
        let draft = plain_draft(CapStatus::Actual, None, private(), Content::Envelope(envelope));
        let published = self.bus.record(draft).await.map_err(status::publish)?;
        let position = Some(position_to_wire(&published.log, &published.position));
        Ok(Response::new(wire::SignEnvelopeResponse { position }))
    }

    async fn reload(&self, request: Request<wire::ReloadRequest>) -> Result<Response<wire::ReloadResponse>, Status> {
        self.gate.admit(&request, &[Role::Administer])?;
        let changes = crate::reload::reload(&self.member, &self.bus)
            .map_err(|error| refuse(Code::FailedPrecondition, "RELOAD", error.to_string()))?;
        Ok(Response::new(wire::ReloadResponse { changes }))
    }

    async fn read_log(&self, request: Request<wire::ReadLogRequest>) -> Result<Response<Self::ReadLogStream>, Status> {
        let roles: &[Role] = match request.get_ref().lane() {
            // Whoever takes part in a drill may read all of it.
            wire::Lane::Exercise => &[Role::Read, Role::Administer],
            _ => &[Role::Administer],
        };
        let caller = self.gate.admit(&request, roles)?;
        let permit = Arc::clone(&self.follows)
            .try_acquire_owned()
            .map_err(|_| refuse(Code::ResourceExhausted, "READS", "too many logs are read here at once"))?;
        let request = request.into_inner();
        let lane = match request.lane {
            0 => None,
            lane => Some(convert::lane_from_wire(lane, "lane").map_err(|fault| field("lane", fault.reason))?),
        };
        let lane = lane.and_then(lane_from_wire);
        if !request.origin.is_empty() {
            let _: OriginId = request.origin.parse().map_err(|error: ids::Error| field("origin", error.to_string()))?;
        }
        let bus = self.bus.clone();
        let (sender, receiver) = mpsc::channel(16);
        let read = LogRead { bus, lane, request, identity: caller.identity };
        tokio::spawn(async move {
            let _permit = permit;
            read.run(sender).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// The reading of logs: what is held, and when asked for, what comes.
struct LogRead {
    bus: Bus,
    lane: Option<Lane>,
    request: wire::ReadLogRequest,
    /// The reader, judged again at every sign of life.
    identity: Arc<PeerIdentity>,
}

impl LogRead {
    async fn run(self, sender: mpsc::Sender<Result<wire::ReadLogResponse, Status>>) {
        let mut changed = self.bus.changed();
        let stop = self.bus.stopping();
        let mut sign = tokio::time::interval(SIGN_EVERY);
        let mut after = self.request.after;
        let end = *changed.borrow();
        loop {
            changed.borrow_and_update();
            while self.request.follow || after < end {
                let page = match self.bus.arrivals(after, 256).await {
                    Ok(page) => page,
                    Err(error) => {
                        let _gone = sender.send(Err(internal("the store could not be read", &error))).await;
                        return;
                    }
                };
                let Some(last) = page.last() else { break };
                after = last.entry.arrival;
                for arrival in page.iter().filter(|arrival| self.wants(arrival)) {
                    if sender.send(Ok(logged(arrival))).await.is_err() {
                        return;
                    }
                }
            }
            if !self.request.follow {
                return;
            }
            tokio::select! {
                changed = changed.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
                () = stop.cancelled() => return,
                _ = sign.tick() => {
                    if let Err(error) = self.bus.standing().check(&self.identity) {
                        let refusal = refuse(Code::Unauthenticated, "REVOKED", error.to_string());
                        let _gone = sender.send(Err(refusal)).await;
                        return;
                    }
                    let sign = wire::ReadLogResponse { arrival: after, ..wire::ReadLogResponse::default() };
                    if sender.send(Ok(sign)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn wants(&self, arrival: &Arrival) -> bool {
        let log = &arrival.entry.log;
        (self.request.origin.is_empty() || *log.origin == *self.request.origin)
            && self.lane.is_none_or(|lane| lane == log.lane)
    }
}

fn logged(arrival: &Arrival) -> wire::ReadLogResponse {
    let not_counted = match &arrival.entry.standing {
        Standing::NotCounted { reason } => reason.clone(),
        Standing::NoBody => "this node holds the header alone".into(),
        Standing::Counted => String::new(),
    };
    wire::ReadLogResponse {
        record: Some(campanile_bus::record::to_wire(&arrival.entry, true)),
        arrival: arrival.entry.arrival,
        not_counted,
        received: Some(timestamp_to_wire(arrival.received)),
    }
}

fn unknown_rule(rule: &str) -> Status {
    refuse(Code::NotFound, "NO_RULE", format!("this node has no rule {rule:?}; list the rules for their ids"))
}

fn directory_kind(member: &Member) -> String {
    match member.directory {
        campanile_discovery::DirectoryConfig::Memory => "memory",
        campanile_discovery::DirectoryConfig::File { .. } => "file",
        campanile_discovery::DirectoryConfig::Etcd(_) => "etcd",
    }
    .into()
}

/// Free bytes of the file system that holds `path`, as `df` says; absent where it cannot be asked.
fn disk_free(path: &std::path::Path) -> Option<u64> {
    let output = std::process::Command::new("df").args(["--output=avail", "-B1"]).arg(path).output().ok()?;
    String::from_utf8(output.stdout).ok()?.lines().nth(1)?.trim().parse().ok()
}

fn rules_to_wire(view: &RulesView, unheard: &BTreeMap<DepartmentId, Option<Timestamp>>) -> wire::ListRulesResponse {
    let engine = &view.engine;
    let rules = engine.rules().map(|rule| {
        let pause = engine.pause_of(&rule.id, &World::Actual);
        let decision = view.decisions.get(&rule.id);
        wire::RuleState {
            rule: engine.reference(&rule.id).map(rule_to_wire),
            title_en: rule.title.en.clone(),
            title_zh_hant: rule.title.zh_hant.clone(),
            paused: pause.is_some(),
            pause_reason: pause.map(|(reason, _)| reason.to_owned()).unwrap_or_default(),
            last_decision_en: decision.map(|decision| decision.why.en.clone()).unwrap_or_default(),
            last_decision_zh_hant: decision.map(|decision| decision.why.zh_hant.clone()).unwrap_or_default(),
        }
    });
    let pending = engine.pending().into_iter().map(|pending| pending_to_wire(engine, pending));
    let effects = engine.live().into_iter().map(|live| rules_wire::LiveEffect {
        rule: live.effect.rule.clone(),
        world: live.effect.world.to_string(),
        effect: live.effect.effect.clone(),
        target: live.effect.target.clone(),
        identifier: live.message.identifier().to_string(),
        causes: live.causes.iter().map(|cause| cause.alert.identifier().to_string()).collect(),
        in_review: matches!(live.standing, campanile_rules::Standing::Review(_)),
        max: Some(timestamp_to_wire(live.until)),
        kinds: engine.kinds(&live.effect).into_iter().flatten().collect(),
        unheard: unheard
            .iter()
            .filter(|(department, _)| live.causes.iter().any(|cause| cause.origin.department() == *department))
            .map(|(department, since)| rules_wire::Unheard {
                department: department.to_string(),
                since: since.map(timestamp_to_wire),
            })
            .collect(),
    });
    wire::ListRulesResponse { pending: pending.collect(), effects: effects.collect(), rules: rules.collect() }
}

/// A proposal as callers see it.
pub(crate) fn pending_to_wire(
    engine: &campanile_rules::Engine,
    pending: campanile_rules::Pending,
) -> rules_wire::Pending {
    let text = |language: &str| {
        let found = pending.headlines.iter().find(|(tag, _)| tag == language);
        found.map(|(_, text)| text.clone()).unwrap_or_default()
    };
    rules_wire::Pending {
        target_names: engine.target_names(&pending.rule, &pending.targets),
        text_en: text("en"),
        text_zh_hant: text("zh-Hant"),
        id: pending.id,
        rule: pending.rule,
        world: pending.world.to_string(),
        effect: pending.effect,
        targets: pending.targets,
        need: u32::try_from(pending.need).unwrap_or(u32::MAX),
        by: pending.by,
        approved_by: pending.approvals,
        shown_hash: pending.shown.to_vec(),
        deadline: pending.deadline.map(timestamp_to_wire),
        since: Some(timestamp_to_wire(pending.since)),
        against: pending.against,
        why_en: pending.why.en,
        why_zh_hant: pending.why.zh_hant,
    }
}
