//! A node that does what a script says.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use campanile_alert::{
    Alert, CapVersion, Category, Certainty, DateTime, Info, MessageType, Scope, Severity, Status as CapStatus, Urgency,
};
use campanile_proto::bus::v1::alert_service_server::AlertService;
use campanile_proto::bus::v1::*;
use campanile_proto::convert;
use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

/// How a scripted stream ends after its messages.
#[derive(Clone, Copy)]
pub enum End {
    Close,
    Break,
    Silence,
}

/// One opening of a stream: what comes and how it ends, or why it is refused.
pub type Opening = Result<(Vec<WatchResponse>, End), Status>;

/// What the node does, one entry a call; when the script is over it answers well.
#[derive(Default)]
pub struct Script {
    pub publishes: Mutex<VecDeque<Status>>,
    pub published: Mutex<Vec<PublishRequest>>,
    pub streams: Mutex<VecDeque<Opening>>,
    pub watched: Mutex<Vec<WatchRequest>>,
    pub calls: Mutex<u32>,
    /// Answers to `list` never come.
    pub stall: bool,
}

#[derive(Clone)]
pub struct Node(pub Arc<Script>);

#[tonic::async_trait]
impl AlertService for Node {
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let again = !self.0.published.lock().unwrap().is_empty();
        self.0.published.lock().unwrap().push(request.into_inner());
        if let Some(status) = self.0.publishes.lock().unwrap().pop_front() {
            return Err(status);
        }
        Ok(Response::new(PublishResponse {
            id: Some(convert::alert_id_to_wire(&fire(1).id())),
            position: Some(position(1)),
            duplicate: again,
            traceparent: String::new(),
        }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.0.watched.lock().unwrap().push(request.into_inner());
        let script = self.0.streams.lock().unwrap().pop_front();
        let (messages, end) = script.unwrap_or_else(|| Ok((Vec::new(), End::Silence)))?;
        let messages = futures::stream::iter(messages.into_iter().map(Ok));
        Ok(Response::new(match end {
            End::Close => Box::pin(messages),
            End::Break => Box::pin(messages.chain(futures::stream::iter([Err(Status::unavailable("the node stops"))]))),
            End::Silence => Box::pin(messages.chain(futures::stream::pending())),
        }))
    }

    async fn get(&self, _: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        Ok(Response::new(GetResponse { alert: Some(record(1)), ..GetResponse::default() }))
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        *self.0.calls.lock().unwrap() += 1;
        if self.0.stall {
            futures::future::pending::<()>().await;
        }
        let mut unreadable = record(2);
        unreadable.alert.as_mut().unwrap().status = 0;
        Ok(Response::new(ListResponse { alerts: vec![unreadable], next_page_token: String::new() }))
    }

    async fn acknowledge(&self, _: Request<AcknowledgeRequest>) -> Result<Response<AcknowledgeResponse>, Status> {
        *self.0.calls.lock().unwrap() += 1;
        Err(Status::unavailable("connection lost"))
    }

    async fn approve(&self, _: Request<ApproveRequest>) -> Result<Response<ApproveResponse>, Status> {
        Err(Status::permission_denied("the certificate has no role approve"))
    }

    async fn cancel(&self, _: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        Err(Status::permission_denied("the certificate has no role publish"))
    }
}

pub fn fire(number: u64) -> Alert {
    Alert {
        version: CapVersion::V1_2,
        identifier: format!("fire-{number}"),
        sender: "control@fsd.example".into(),
        sent: DateTime::parse("2026-11-22T08:00:00+08:00").unwrap(),
        status: CapStatus::Actual,
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
            language: None,
            categories: vec![Category::Fire],
            event: "Fire".into(),
            response_types: vec![],
            urgency: Urgency::Immediate,
            severity: Severity::Severe,
            certainty: Certainty::Observed,
            audience: None,
            event_codes: vec![],
            effective: None,
            onset: None,
            expires: None,
            sender_name: None,
            headline: None,
            description: None,
            instruction: None,
            web: None,
            contact: None,
            parameters: vec![],
            resources: vec![],
            areas: vec![],
        }],
        signatures: vec![],
    }
}

pub fn position(seq: u64) -> Position {
    let hash = vec![u8::try_from(seq).unwrap(); 32].into();
    Position { origin: "fsd/node-1".into(), lane: Lane::Urgent.into(), epoch: 7, seq, hash }
}

pub fn record(seq: u64) -> AlertRecord {
    let time = Some(convert::timestamp_to_wire(fire(seq).sent.instant()));
    AlertRecord {
        alert: Some(convert::alert_to_wire(&fire(seq))),
        position: Some(position(seq)),
        department: "fsd".into(),
        time,
        received: time,
        state: AlertState::InForce.into(),
        ..AlertRecord::default()
    }
}

pub fn cursor(seq: u64) -> campanile_proto::bus::v1::Cursor {
    campanile_proto::bus::v1::Cursor { positions: vec![position(seq)] }
}

pub fn alert(seq: u64) -> WatchResponse {
    WatchResponse { kind: Some(watch_response::Kind::Alert(record(seq))), cursor: Some(cursor(seq)) }
}

pub fn heartbeat(seq: u64) -> WatchResponse {
    WatchResponse { kind: Some(watch_response::Kind::Heartbeat(Heartbeat { time: None })), cursor: Some(cursor(seq)) }
}
