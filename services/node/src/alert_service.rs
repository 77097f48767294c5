//! What a department's own systems and officers ask of their node.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use campanile_alert::classify::{self, Classification, MappingTable};
use campanile_alert::message::{MessageType, References, Scope};
use campanile_alert::time::DateTime;
use campanile_alert::{Alert, CapVersion, DepartmentId, ExerciseId, xml};
use campanile_bus::bus::plain_draft;
use campanile_bus::record::{Audience, Content, position_from_wire, position_to_wire};
use campanile_bus::{Arrival, Bus, Published, Submission};
use campanile_discovery::identity::{PeerIdentity, Role};
use campanile_log::{LogId, Position, Standing};
use campanile_proto::bus::v1 as wire;
use campanile_proto::bus::v1::alert_service_server::{AlertService, AlertServiceServer};
use campanile_proto::convert;
use campanile_proto::rules::v1 as rules_wire;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use tracing::{Instrument as _, info, info_span};

use crate::auth::Gate;
use crate::lookup::{self, Found};
use crate::metrics::Metrics;
use crate::rules::RulesView;
use crate::status::{self, field, internal, refuse};

/// The largest message a client may send: a record, and what stands around it.
const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// A sign of life on a watch at least this often.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// How many watches a node serves at once.
const WATCHES_MAX: usize = 1_024;
/// How many records a watch reads at once.
const PAGE: usize = 256;
/// How many departments an audience may name.
const AUDIENCE_MAX: usize = 256;
/// How many logs a cursor may name.
const CURSOR_LOGS_MAX: usize = 4_096;
/// The offset from UTC in which this node writes `sent`: Hong Kong's.
const OFFSET_MINUTES: i32 = 480;

/// The service.
#[derive(Clone)]
pub struct Alerts {
    pub(crate) bus: Bus,
    pub(crate) gate: Arc<Gate>,
    pub(crate) rules: Arc<Mutex<RulesView>>,
    pub(crate) sources: Arc<HashMap<String, MappingTable>>,
    pub(crate) sender: Arc<str>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) watches: Arc<Semaphore>,
}

impl std::fmt::Debug for Alerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alerts").finish_non_exhaustive()
    }
}

impl Alerts {
    /// The bound on watches.
    pub(crate) fn watch_bound() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(WATCHES_MAX))
    }

    /// The service, with the limits of messages set.
    pub fn into_service(self) -> AlertServiceServer<Self> {
        AlertServiceServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX * 2)
    }

    fn submission(&self, request: wire::PublishRequest) -> Result<Submission, Status> {
        let (alert, original) = match request.content {
            None => return Err(field("content", "give an alert or a CAP message in XML")),
            Some(wire::publish_request::Content::Alert(alert)) => {
                let alert = convert::alert_from_wire(alert).map_err(|faults| {
                    let violations: Vec<_> = faults.into_iter().map(|fault| (fault.path, fault.reason)).collect();
                    let first = violations.first().map(|(path, reason)| format!("{path}: {reason}"));
                    status::fields(&violations, first.unwrap_or_default())
                })?;
                (alert, None)
            }
            Some(wire::publish_request::Content::CapXml(bytes)) => {
                let alert = one_message(&bytes)?;
                (alert, Some((bytes, xml::MEDIA_TYPE.to_owned())))
            }
        };
        let classification = classified(&self.sources, &alert, &request.source)?;
        if request.audience_departments.len() > AUDIENCE_MAX {
            return Err(field("audience_departments", format!("it names more than {AUDIENCE_MAX} departments")));
        }
        let exercise = match request.exercise_id.as_deref() {
            None => None,
            Some(id) => Some(ExerciseId::try_new(id).map_err(|error| field("exercise_id", error.to_string()))?),
        };
        for department in &request.audience_departments {
            DepartmentId::try_new(department).map_err(|error| field("audience_departments", error.to_string()))?;
        }
        Ok(Submission {
            alert: Arc::new(alert),
            original,
            classification,
            exercise,
            audience_departments: request.audience_departments,
            traceparent: String::new(),
        })
    }

    /// A CAP message of this node about another: an Ack or a Cancel.
    fn about(&self, found: &Found, msg_type: MessageType, note: &str) -> Result<Submission, Status> {
        let arrival = &found.arrival;
        let (target, body) = lookup::alert_of(arrival)
            .ok_or_else(|| refuse(Code::FailedPrecondition, "NO_BODY", "this node holds the header alone"))?;
        let now = self.bus.clock().now();
        // The whole chain, so that a receiver who missed an Update still ends the right alert.
        let mut references = vec![target.id()];
        if msg_type == MessageType::Cancel {
            references.extend(target.referenced().iter().cloned());
        }
        let seed = format!("{}|{}|{}|{now}", self.bus.origin(), target.id(), msg_type);
        let digest = campanile_log::Hash::of(seed.as_bytes()).to_string();
        let identifier = format!("{}-{}", self.bus.origin().department(), digest.get(..32).unwrap_or_default());
        let alert = Alert {
            version: CapVersion::V1_2,
            identifier,
            sender: self.sender.to_string(),
            sent: DateTime::from_instant(now, OFFSET_MINUTES),
            status: target.status,
            msg_type,
            password: None,
            source: None,
            scope: Some(target.scope.unwrap_or(Scope::Public)),
            restriction: target.restriction.clone(),
            addresses: target.addresses.clone(),
            codes: Vec::new(),
            note: (!note.is_empty()).then(|| note.to_owned()),
            references: Some(References::from_ids(&references)),
            incidents: None,
            infos: Vec::new(),
            signatures: Vec::new(),
        };
        Ok(Submission {
            alert: Arc::new(alert),
            original: None,
            classification: Classification::default(),
            exercise: arrival.header.world.exercise().cloned(),
            audience_departments: arrival.header.audience.departments.clone(),
            traceparent: body.traceparent.clone(),
        })
    }

    async fn submit(&self, submission: Submission) -> Result<Published, Status> {
        let started = Instant::now();
        let alert_id = submission.alert.id();
        let span = info_span!("publish", %alert_id, trace = %submission.traceparent);
        let result = self.bus.publish(submission).instrument(span).await;
        self.metrics.publish_seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.published(match &result {
            Ok(published) if published.duplicate => "duplicate",
            Ok(_) => "stored",
            Err(_) => "refused",
        });
        result.map_err(status::submit)
    }
}

/// Reads exactly one CAP message.
pub(crate) fn one_message(bytes: &[u8]) -> Result<Alert, Status> {
    let document =
        xml::read(bytes, &xml::Limits::default()).map_err(|error| field("cap_xml", crate::config::chain(&error)))?;
    if document.kind != xml::Kind::Alert || document.messages.len() != 1 {
        let problem = format!("it is not one CAP alert: {}; publish its messages one by one", document.statement());
        return Err(field("cap_xml", problem));
    }
    let message = document.messages.into_iter().next().ok_or_else(|| field("cap_xml", "it holds no alert"))?;
    message.result.map_err(|faults| status::faults(&faults))
}

fn answer(published: &Published, alert: &Alert, traceparent: String) -> wire::PublishResponse {
    wire::PublishResponse {
        id: Some(convert::alert_id_to_wire(&alert.id())),
        position: Some(position_to_wire(&published.log, &published.position)),
        duplicate: published.duplicate,
        traceparent,
    }
}

#[tonic::async_trait]
impl AlertService for Alerts {
    type WatchStream = ReceiverStream<Result<wire::WatchResponse, Status>>;

    async fn publish(&self, request: Request<wire::PublishRequest>) -> Result<Response<wire::PublishResponse>, Status> {
        let caller = self.gate.admit(&request, &[Role::Publish])?;
        let submission = self.submission(request.into_inner())?;
        let alert = Arc::clone(&submission.alert);
        let traceparent = campanile_bus::bus::traceparent_of(&alert);
        let published = self.submit(submission).await?;
        if !published.duplicate {
            info!(alert_id = %alert.id(), client = %caller.client, "Alert published");
        }
        Ok(Response::new(answer(&published, &alert, traceparent)))
    }

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = self.gate.admit(&request, &[Role::Read])?;
        let permit = Arc::clone(&self.watches)
            .try_acquire_owned()
            .map_err(|_| refuse(Code::ResourceExhausted, "WATCHES", "too many watches are open here"))?;
        let request = request.into_inner();
        let watch = Watch::begin(self.bus.clone(), caller.identity, request).await?;
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            let _permit = permit;
            watch.run(sender).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        self.gate.admit(&request, &[Role::Read])?;
        let wanted = wanted(request.into_inner().id)?;
        let found = lookup::find(&self.bus, &wanted).await?;
        let (effects, deliveries) = lookup::follow(&self.bus, &found.arrival).await?;
        let original = found.arrival.body.as_ref().and_then(|body| match &body.content {
            Content::Alert { original, .. } => original.clone(),
            _ => None,
        });
        let effects = effects.into_iter().map(|effect| lookup::with_state(&self.bus, effect));
        Ok(Response::new(wire::GetResponse {
            alert: lookup::to_wire(&found),
            effects: effects.filter_map(|effect| lookup::to_wire(&effect)).collect(),
            deliveries,
            original,
            record: Some(campanile_bus::record::to_wire(&found.arrival.entry, true)),
        }))
    }

    async fn list(&self, request: Request<wire::ListRequest>) -> Result<Response<wire::ListResponse>, Status> {
        self.gate.admit(&request, &[Role::Read])?;
        let request = request.into_inner();
        let size = match request.page_size {
            0 => 100,
            size @ 1..=1_000 => size as usize,
            _ => return Err(field("page_size", "give 1 to 1,000, or 0 for 100")),
        };
        let before = match request.page_token.as_str() {
            "" => u64::MAX,
            token => token.parse().map_err(|_| field("page_token", "use the token of the last page as it was"))?,
        };
        let filter = lookup::filter(request.filter)?;
        let mut numbers: Vec<u64> = {
            let now = self.bus.clock().now();
            let current = self.bus.current().lock();
            let entries = current.ledger().entries();
            let wanted = entries.filter(|entry| {
                entry.seen && (request.ended || entry.state(now) == campanile_alert::live::State::InForce)
            });
            wanted.filter_map(campanile_bus::current::mark_of).map(|mark| mark.arrival).collect()
        };
        // The projection is written in the commit that is in the making; what is not on the disk yet is not shown.
        let durable = *self.bus.changed().borrow();
        numbers.retain(|number| *number < before && *number <= durable);
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let mut alerts = Vec::new();
        let mut next_page_token = String::new();
        for number in numbers {
            if alerts.len() == size {
                // The page is full and more may follow the last one shown.
                next_page_token = (number + 1).to_string();
                break;
            }
            let arrival = lookup::by_arrival(&self.bus, number).await?;
            if lookup::admits(&filter, &arrival.header.origin, &arrival.header.world, &arrival) {
                alerts.extend(lookup::to_wire(&lookup::with_state(&self.bus, arrival)));
            }
        }
        Ok(Response::new(wire::ListResponse { alerts, next_page_token }))
    }

    async fn acknowledge(
        &self,
        request: Request<wire::AcknowledgeRequest>,
    ) -> Result<Response<wire::AcknowledgeResponse>, Status> {
        self.gate.admit(&request, &[Role::Publish])?;
        let request = request.into_inner();
        status::reason("note", &request.note)?;
        let found = lookup::find(&self.bus, &wanted(request.id)?).await?;
        let submission = self.about(&found, MessageType::Ack, &request.note)?;
        let id = submission.alert.id();
        let published = self.submit(submission).await?;
        Ok(Response::new(wire::AcknowledgeResponse {
            id: Some(convert::alert_id_to_wire(&id)),
            position: Some(position_to_wire(&published.log, &published.position)),
        }))
    }

    async fn approve(&self, request: Request<wire::ApproveRequest>) -> Result<Response<wire::ApproveResponse>, Status> {
        let caller = self.gate.admit(&request, &[Role::Approve])?;
        let person = self.gate.person(&caller)?;
        let request = request.into_inner();
        let pending = self.rules.lock().engine.pending().into_iter().find(|pending| pending.id == request.pending_id);
        let pending = pending.ok_or_else(|| {
            let message = "nothing of that id waits for approval; list what waits, it may have been decided already";
            refuse(Code::NotFound, "NOT_PENDING", message)
        })?;
        if *request.shown_hash != pending.shown {
            let message = "what is proposed has changed since it was shown; look at it again, then decide";
            return Err(refuse(Code::Aborted, "SHOWN_CHANGED", message));
        }
        if request.decision() == rules_wire::Decision::Unspecified {
            return Err(field("decision", "say approve or reject"));
        }
        status::reason("reason", &request.reason)?;
        if !person.roles.iter().any(|role| pending.by.contains(role)) {
            let message = format!("this proposal is for {}; the roster gives you other roles", pending.by.join(" or "));
            return Err(refuse(Code::PermissionDenied, "NO_ROLE", message));
        }
        let approval = rules_wire::Approval {
            rule: pending.rule.clone(),
            pending_id: pending.id.clone(),
            shown_hash: request.shown_hash.to_vec(),
            decision: request.decision,
            person: person.id.clone(),
            certificate_hash: caller.certificate_hash,
            reason: request.reason,
        };
        let (world_status, exercise) = (pending.world.status(), pending.world.exercise().cloned());
        let draft = plain_draft(world_status, exercise, private(), Content::Approval(approval));
        let published = self.bus.record(draft).await.map_err(status::publish)?;
        self.metrics.approvals.inc();
        info!(rule = pending.rule, pending = pending.id, person = person.id, "Decision recorded");
        let mut approved: Vec<&str> = pending.approvals.iter().map(String::as_str).collect();
        approved.push(&person.id);
        approved.sort_unstable();
        approved.dedup();
        Ok(Response::new(wire::ApproveResponse {
            position: Some(position_to_wire(&published.log, &published.position)),
            approved: u32::try_from(approved.len()).unwrap_or(u32::MAX),
            need: u32::try_from(pending.need).unwrap_or(u32::MAX),
        }))
    }

    async fn cancel(&self, request: Request<wire::CancelRequest>) -> Result<Response<wire::CancelResponse>, Status> {
        self.gate.admit(&request, &[Role::Publish, Role::Approve])?;
        let request = request.into_inner();
        if request.reason.trim().is_empty() {
            return Err(field("reason", "say why it is cancelled; the reason goes out with the Cancel"));
        }
        status::reason("reason", &request.reason)?;
        let found = lookup::find(&self.bus, &wanted(request.id)?).await?;
        let submission = self.about(&found, MessageType::Cancel, &request.reason)?;
        let id = submission.alert.id();
        let published = self.submit(submission).await?;
        Ok(Response::new(wire::CancelResponse {
            id: Some(convert::alert_id_to_wire(&id)),
            position: Some(position_to_wire(&published.log, &published.position)),
        }))
    }
}

/// What an alert means in the vocabulary: by its own codes, or by the mapping table of its source.
pub(crate) fn classified(
    sources: &HashMap<String, MappingTable>,
    alert: &Alert,
    source: &str,
) -> Result<Classification, Status> {
    if source.is_empty() {
        return Ok(classify::classify(alert, campanile_alert::vocabulary::v1()));
    }
    let table = sources.get(source).ok_or_else(|| {
        let names: Vec<&str> = sources.keys().map(String::as_str).collect();
        field("source", format!("{source:?} is not a source of this node; it knows {names:?}"))
    })?;
    Ok(table.classify(alert))
}

pub(crate) fn private() -> Audience {
    Audience { scope: Scope::Private, departments: Vec::new() }
}

fn wanted(id: Option<wire::AlertRef>) -> Result<convert::WantedAlert, Status> {
    convert::wanted_alert_from_wire(id).map_err(|faults| {
        let violations: Vec<_> = faults.into_iter().map(|fault| (fault.path, fault.reason)).collect();
        let first = violations.first().map(|(path, reason)| format!("{path}: {reason}"));
        status::fields(&violations, first.unwrap_or_default())
    })
}

/// One watch: a walk over the records in order of arrival, without those that the cursor covers.
struct Watch {
    bus: Bus,
    /// The watcher, judged again at every heartbeat.
    identity: Arc<PeerIdentity>,
    filter: wire::Filter,
    /// The last place of each log that the receiver has seen.
    seen: HashMap<LogId, Position>,
    /// The last arrival that was looked at.
    after: u64,
}

impl Watch {
    async fn begin(bus: Bus, identity: Arc<PeerIdentity>, request: wire::WatchRequest) -> Result<Self, Status> {
        let filter = lookup::filter(request.filter)?;
        let last = *bus.changed().borrow();
        let store = Arc::clone(bus.store());
        let Some(cursor) = request.after else {
            // From now on: every log counts as seen up to its tail, so that the first cursor covers all that was.
            let seen = if request.from_start { HashMap::new() } else { store.logs().into_iter().collect() };
            return Ok(Self { bus, identity, filter, seen, after: if request.from_start { 0 } else { last } });
        };
        if request.from_start {
            return Err(field("from_start", "give a cursor or from_start, not both"));
        }
        if cursor.positions.len() > CURSOR_LOGS_MAX {
            return Err(field("after", "it names more than 4,096 logs"));
        }
        let mut seen = HashMap::new();
        for position in &cursor.positions {
            let (log, position) = position_from_wire(position).map_err(|error| field("after", error.to_string()))?;
            if seen.insert(log, position).is_some() {
                return Err(field("after", "it names one log twice; use a cursor that a watch has given"));
            }
        }
        let cursor = seen.clone();
        let first = tokio::task::spawn_blocking(move || first_unseen(store.as_ref(), &cursor, last)).await;
        let after = first
            .map_err(|error| internal("a read was cut short", &error))?
            .map_err(|error| internal("the store could not be read", &error))?;
        Ok(Self { bus, identity, filter, seen, after })
    }

    async fn run(mut self, sender: mpsc::Sender<Result<wire::WatchResponse, Status>>) {
        let mut changed = self.bus.changed();
        let stop = self.bus.stopping();
        let mut heartbeat = tokio::time::interval(HEARTBEAT_EVERY);
        loop {
            changed.borrow_and_update();
            loop {
                let page = match self.bus.arrivals(self.after, PAGE).await {
                    Ok(page) => page,
                    Err(error) => {
                        let _gone = sender.send(Err(internal("the store could not be read", &error))).await;
                        return;
                    }
                };
                if page.is_empty() {
                    break;
                }
                for arrival in page {
                    self.after = arrival.entry.arrival;
                    if let Some(response) = self.take(&arrival)
                        && sender.send(Ok(response)).await.is_err()
                    {
                        return;
                    }
                }
            }
            tokio::select! {
                changed = changed.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
                () = stop.cancelled() => return,
                _ = heartbeat.tick() => {
                    if let Err(error) = self.bus.standing().check(&self.identity) {
                        let refusal = refuse(Code::Unauthenticated, "REVOKED", error.to_string());
                        let _gone = sender.send(Err(refusal)).await;
                        return;
                    }
                    let time = Some(convert::timestamp_to_wire(self.bus.clock().now()));
                    let kind = wire::watch_response::Kind::Heartbeat(wire::Heartbeat { time });
                    let response = wire::WatchResponse { kind: Some(kind), cursor: Some(self.cursor()) };
                    if sender.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn take(&mut self, arrival: &Arc<Arrival>) -> Option<wire::WatchResponse> {
        let entry = &arrival.entry;
        if self.seen.get(&entry.log).is_some_and(|seen| seen.place() >= entry.position.place()) {
            return None;
        }
        self.seen.insert(entry.log.clone(), entry.position);
        let counted = entry.standing == Standing::Counted;
        if !counted || !lookup::admits(&self.filter, &arrival.header.origin, &arrival.header.world, arrival) {
            return None;
        }
        let record = lookup::to_wire(&lookup::with_state(&self.bus, Arc::clone(arrival)))?;
        let kind = wire::watch_response::Kind::Alert(record);
        Some(wire::WatchResponse { kind: Some(kind), cursor: Some(self.cursor()) })
    }

    fn cursor(&self) -> wire::Cursor {
        let mut positions: Vec<_> = self.seen.iter().map(|(log, place)| position_to_wire(log, place)).collect();
        positions.sort_by(|a, b| (&a.origin, a.lane).cmp(&(&b.origin, b.lane)));
        wire::Cursor { positions }
    }
}

/// The arrival before the first one that the cursor does not cover.
fn first_unseen(
    store: &dyn campanile_log::Store,
    seen: &HashMap<LogId, Position>,
    last: u64,
) -> Result<u64, campanile_log::Error> {
    let mut first = last;
    for (log, tail) in store.logs() {
        let Some(position) = seen.get(&log) else { return Ok(0) };
        if position.place() >= tail.place() {
            continue;
        }
        // A position that is not held here has still to come; what is held after it is unseen all the same.
        match store.get(&log, position.epoch, position.seq)? {
            Some(entry) => first = first.min(entry.arrival),
            None => return Ok(0),
        }
    }
    Ok(first)
}
