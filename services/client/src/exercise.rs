//! What the controller of a drill asks nodes: to announce an exercise, and to show all of its records as they come.

use std::time::Duration;

use campanile_alert::{Alert, AlertId, Classification, ExerciseId, Status, Timestamp};
use campanile_proto::bus::v1 as bus;
use campanile_proto::convert::{self, Fault};
use campanile_proto::rules::v1 as rules;
use futures::Stream;
use prost::Message as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Streaming};

use crate::client::Client;
use crate::error::{Error, Retry};
use crate::values::{Delivery, Position, missing};

/// How long is waited before a stream is opened again that broke.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How often it is tried before the error is told.
const ATTEMPTS_MAX: u32 = 20;

/// An exercise that the directory announces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AnnouncedExercise {
    /// Which.
    pub exercise: ExerciseId,
    /// Until when.
    pub until: Timestamp,
    /// The client that asked for it.
    pub by: String,
}

/// A record of an exercise, as a node holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExerciseRecord {
    /// Its arrival number at the node: go on after it.
    pub arrival: u64,
    /// Where it stands.
    pub position: Position,
    /// The department that published it.
    pub department: String,
    /// When its author sealed it.
    pub time: Timestamp,
    /// When it came to be on the node's disk; absent when the node did not say.
    pub received: Option<Timestamp>,
    /// The status in its header.
    pub status: Status,
    /// Why it does not count, or is not readable here; absent when all is well.
    pub not_counted: Option<String>,
    /// What it says.
    pub content: ExerciseContent,
}

/// What a record of an exercise says.
#[derive(Debug, Clone, PartialEq)]
pub enum ExerciseContent {
    /// An alert.
    Alert(Box<ExerciseAlert>),
    /// A person's answer.
    Approval {
        /// The rule.
        rule: String,
        /// The proposal.
        pending: String,
        /// The person, by the roster's id.
        person: String,
        /// Yes or no.
        approve: bool,
    },
    /// What a gateway did with a notice.
    Delivery(Delivery),
    /// Anything else, and what only the header is here of.
    Other,
}

/// An alert of an exercise, with what stands around it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExerciseAlert {
    /// The message.
    pub alert: Alert,
    /// What it means in the vocabulary.
    pub classification: Classification,
    /// The alerts that led to it.
    pub causes: Vec<AlertId>,
    /// The rule that issued it; absent when a person did.
    pub rule: Option<String>,
    /// The length of the chain of effects.
    pub depth: u32,
}

impl Client {
    /// Announces an exercise in the node's directory until a time, and gives all that are announced. Role administer.
    ///
    /// # Errors
    /// [`Error`] when it is refused, the directory does not answer, or the node does not.
    pub async fn announce_exercise(
        &self,
        exercise: &ExerciseId,
        until: Timestamp,
    ) -> Result<Vec<AnnouncedExercise>, Error> {
        let request = bus::AnnounceExerciseRequest {
            exercise_id: exercise.to_string(),
            until: Some(convert::timestamp_to_wire(until)),
        };
        let (answer, _) = self
            .repeat("announce exercise", || {
                let (mut admin, request) = (self.admin.clone(), self.request(request.clone()));
                async move { admin.announce_exercise(request).await }
            })
            .await?;
        announced(answer.exercises)
    }

    /// Follows the records of an exercise from an arrival number on, with what is held first. Role read or administer.
    ///
    /// The stream mends itself, and ends with an error when the node was away for too long. What this client cannot read is
    /// passed over.
    pub fn follow_exercise(
        &self,
        exercise: &ExerciseId,
        after: u64,
    ) -> impl Stream<Item = Result<ExerciseRecord, Error>> + Send + use<> {
        let follow = Follow { client: self.clone(), exercise: exercise.to_string(), after, stream: None, failed: 0 };
        futures::stream::unfold(Some(follow), |follow| async move {
            let mut follow = follow?;
            match follow.next().await {
                Ok(record) => Some((Ok(record), Some(follow))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

struct Follow {
    client: Client,
    exercise: String,
    after: u64,
    stream: Option<Streaming<bus::ReadLogResponse>>,
    failed: u32,
}

impl Follow {
    async fn next(&mut self) -> Result<ExerciseRecord, Error> {
        loop {
            let error = match self.message().await {
                Ok(message) => {
                    self.failed = 0;
                    self.after = self.after.max(message.arrival);
                    match read(message, &self.exercise) {
                        Ok(Some(record)) => return Ok(record),
                        Ok(None) => continue,
                        // One record that nobody can read must not hide those after it.
                        Err(error) => {
                            tracing::debug!(%error, arrival = self.after, "Record passed over");
                            continue;
                        }
                    }
                }
                Err(error) => error,
            };
            self.stream = None;
            self.failed += 1;
            if self.failed >= ATTEMPTS_MAX || !error.may_repeat() {
                return Err(Error { attempts: self.failed, ..error });
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn message(&mut self) -> Result<bus::ReadLogResponse, Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let request = bus::ReadLogRequest {
                    lane: bus::Lane::Exercise.into(),
                    after: self.after,
                    follow: true,
                    ..bus::ReadLogRequest::default()
                };
                let mut admin = self.client.admin.clone();
                let stream = self.client.once("follow exercise", admin.read_log(Request::new(request))).await?;
                self.stream.insert(stream)
            }
        };
        match tokio::time::timeout(self.client.settings.timeouts.silence, stream.message()).await {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(Error::new(tonic::Code::Unavailable, Retry::Unknown, "the node ended the stream")),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => Err(Error::late("on the stream")),
        }
    }
}

/// Reads a message of the stream; `None` for a sign of life and for another exercise's record.
fn read(message: bus::ReadLogResponse, exercise: &str) -> Result<Option<ExerciseRecord>, Error> {
    let Some(record) = message.record else { return Ok(None) };
    let undecoded = |what: &str, error: prost::DecodeError| {
        Error::answer(vec![Fault { path: format!("record.{what}"), reason: error.to_string() }])
    };
    let header = bus::RecordHeader::decode(record.header.as_ref()).map_err(|error| undecoded("header", error))?;
    if header.exercise_id.as_deref() != Some(exercise) {
        return Ok(None);
    }
    let body = record.body.as_ref().map(|body| bus::RecordBody::decode(body.as_ref())).transpose();
    let body = body.map_err(|error| undecoded("body", error))?;
    let department = header.origin.split('/').next().unwrap_or_default().to_owned();
    let position = bus::Position {
        origin: header.origin.clone(),
        lane: header.lane,
        epoch: header.epoch,
        seq: header.seq,
        hash: Sha256::digest(&record.header).to_vec().into(),
    };
    let one = |fault: Fault| Error::answer(vec![fault]);
    let status = convert::status_from_wire(header.status)
        .map_err(|error| one(Fault { path: "record.header.status".into(), reason: error.to_string() }))?;
    Ok(Some(ExerciseRecord {
        arrival: message.arrival,
        position: Position::from_wire(Some(position), "position").map_err(one)?,
        department,
        time: convert::timestamp_from_wire(header.time.as_ref(), "time").map_err(one)?,
        received: convert::timestamp_from_wire(message.received.as_ref(), "received").ok(),
        status,
        not_counted: Some(message.not_counted).filter(|reason| !reason.is_empty()),
        content: match body {
            Some(body) => content(body).map_err(Error::answer)?,
            None => ExerciseContent::Other,
        },
    }))
}

fn content(body: bus::RecordBody) -> Result<ExerciseContent, Vec<Fault>> {
    use bus::record_body::Payload;
    Ok(match body.payload {
        Some(Payload::Alert(payload)) => {
            let alert = payload.alert.ok_or_else(|| vec![missing("alert")])?;
            let causes = body.causes.into_iter();
            ExerciseContent::Alert(Box::new(ExerciseAlert {
                alert: convert::alert_from_wire(alert)?,
                classification: convert::classification_from_wire(body.classification.unwrap_or_default()),
                causes: causes.map(|cause| AlertId::new(cause.sender, cause.identifier, cause.sent)).collect(),
                rule: body.rule.map(|rule| rule.id),
                depth: body.depth,
            }))
        }
        Some(Payload::Approval(approval)) => ExerciseContent::Approval {
            approve: approval.decision() == rules::Decision::Approve,
            rule: approval.rule,
            pending: approval.pending_id,
            person: approval.person,
        },
        Some(Payload::DeliveryReport(report)) => ExerciseContent::Delivery(Delivery::from(report)),
        _ => ExerciseContent::Other,
    })
}

pub(crate) fn announced(list: Vec<bus::AnnouncedExercise>) -> Result<Vec<AnnouncedExercise>, Error> {
    let one = |announced: bus::AnnouncedExercise| {
        let wrong = |reason: String| vec![Fault { path: "exercises".into(), reason }];
        Ok(AnnouncedExercise {
            exercise: ExerciseId::try_new(&announced.exercise_id).map_err(|error| wrong(error.to_string()))?,
            until: convert::timestamp_from_wire(announced.until.as_ref(), "until").map_err(|fault| vec![fault])?,
            by: announced.by,
        })
    };
    list.into_iter().map(one).collect::<Result<_, _>>().map_err(Error::answer)
}
