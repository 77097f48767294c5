//! The client itself: one connection to one node, and the calls that clients make about alerts.
//!
//! A call that is safe to repeat (publish, and whatever only reads) is repeated while the error says that it may help;
//! the others are made once, and an error with [`Retry::Unknown`](crate::Retry::Unknown) means: look before you ask
//! again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use campanile_alert::AlertId;
use campanile_proto::bus::v1 as bus;
use campanile_proto::bus::v1::admin_service_client::AdminServiceClient;
use campanile_proto::bus::v1::alert_service_client::AlertServiceClient;
use campanile_proto::convert::{self, WantedAlert};
use campanile_proto::rules::v1 as rules;
use campanile_proto::rules::v1::rules_service_client::RulesServiceClient;
use serde::Serialize;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::backoff::Attempts;
use crate::error::Error;
use crate::options::{MESSAGE_BYTES_MAX, Options, Timeouts};
use crate::publish::{Publish, Published};
use crate::transport;
use crate::values::{AlertDetail, AlertRecord, Delivery, Filter, Position};
use crate::watch::{Start, Watch};

/// A client of one node. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) alerts: AlertServiceClient<Channel>,
    pub(crate) admin: AdminServiceClient<Channel>,
    pub(crate) rules: RulesServiceClient<Channel>,
    pub(crate) settings: Arc<Settings>,
}

/// How patient a client is.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) timeouts: Timeouts,
    pub(crate) calls: Attempts,
    pub(crate) streams: Attempts,
}

/// Which alerts to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// Only these.
    pub filter: Filter,
    /// Those that have ended too.
    pub ended: bool,
    /// How many at most: 1 to 1,000; 0 means 100.
    pub page_size: u32,
    /// Where the last page ended; empty for the first.
    pub page_token: String,
}

/// A page of alerts, newest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// The alerts.
    pub alerts: Vec<AlertRecord>,
    /// Where the next page begins; absent when this was the last.
    pub next: Option<String>,
}

/// An officer's decision about a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The proposal's id.
    pub pending_id: String,
    /// SHA-256 of what was shown; the decision counts only while that stands.
    pub shown_hash: Vec<u8>,
    /// True issues it, false does not.
    pub approve: bool,
    /// Why; may be empty.
    pub reason: String,
}

/// What came of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decided {
    /// The position of the approval.
    pub position: Position,
    /// How many persons have agreed now.
    pub approved: u32,
    /// How many must.
    pub need: u32,
}

impl Client {
    /// Connects to a node, and proves that it is the expected one.
    ///
    /// # Errors
    /// [`Error`] when the options do not make sense, the node cannot be reached, or somebody else answers.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let channel = transport::connect(&options).await?;
        Ok(Self::over(channel, options.timeouts, options.calls, options.streams))
    }

    /// Uses a connection made elsewhere, for example one inside a process.
    pub fn over(channel: Channel, timeouts: Timeouts, calls: Attempts, streams: Attempts) -> Self {
        let alerts = AlertServiceClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let rules = RulesServiceClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let admin = AdminServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self { alerts, admin, rules, settings: Arc::new(Settings { timeouts, calls, streams }) }
    }

    /// Publishes an alert, and answers when it is on the node's disk.
    ///
    /// Where the answer is lost, the same content is sent again: the node knows it and gives the first answer.
    ///
    /// # Errors
    /// [`Error`]: refused with the fields at fault, in conflict with another content of the same identity, or not
    /// answered by the last attempt; then [`Retry::Unknown`](crate::Retry::Unknown) says that it may stand all the same.
    pub async fn publish(&self, what: &Publish) -> Result<Published, Error> {
        let (answer, attempts) = self
            .repeat("publish", || {
                let (mut alerts, request) = (self.alerts.clone(), self.request(what.request()));
                async move { alerts.publish(request).await }
            })
            .await?;
        let published = Published::from_wire(answer.id, answer.position, attempts)?;
        Ok(Published { duplicate: answer.duplicate, traceparent: answer.traceparent, ..published })
    }

    /// Watches alerts; the stream mends itself. Nothing is asked of the node before the first event is awaited.
    pub fn watch(&self, start: Start, filter: &Filter) -> Watch {
        Watch::new(self.clone(), start, filter)
    }

    /// Gets an alert with its causes, effects and hand-overs.
    ///
    /// # Errors
    /// [`Error`], with code `NotFound` when the node does not know it.
    pub async fn get(&self, wanted: &WantedAlert) -> Result<AlertDetail, Error> {
        let request = bus::GetRequest { id: Some(alert_ref(wanted)) };
        let (answer, _) = self
            .repeat("get", || {
                let (mut alerts, request) = (self.alerts.clone(), self.request(request.clone()));
                async move { alerts.get(request).await }
            })
            .await?;
        let effects = answer.effects.into_iter().map(|effect| AlertRecord::from_wire(Some(effect)));
        Ok(AlertDetail {
            alert: AlertRecord::from_wire(answer.alert).map_err(Error::answer)?,
            effects: effects.collect::<Result<_, _>>().map_err(Error::answer)?,
            deliveries: answer.deliveries.into_iter().map(Delivery::from).collect(),
            original: answer.original,
            record: answer.record,
        })
    }

    /// Lists alerts, a page at a time.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered.
    pub async fn list(&self, query: &Query) -> Result<Page, Error> {
        let request = bus::ListRequest {
            filter: Some(query.filter.to_wire()),
            ended: query.ended,
            page_size: query.page_size,
            page_token: query.page_token.clone(),
        };
        let (answer, _) = self
            .repeat("list", || {
                let (mut alerts, request) = (self.alerts.clone(), self.request(request.clone()));
                async move { alerts.list(request).await }
            })
            .await?;
        let alerts = answer.alerts.into_iter().map(|alert| AlertRecord::from_wire(Some(alert)));
        Ok(Page {
            alerts: alerts.collect::<Result<_, _>>().map_err(Error::answer)?,
            next: Some(answer.next_page_token).filter(|token| !token.is_empty()),
        })
    }

    /// Publishes a CAP Ack of an alert.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered; it is asked once.
    pub async fn acknowledge(&self, wanted: &WantedAlert, note: &str) -> Result<Published, Error> {
        let request = bus::AcknowledgeRequest { id: Some(alert_ref(wanted)), note: note.into() };
        let mut alerts = self.alerts.clone();
        let answer = self.once("acknowledge", alerts.acknowledge(self.request(request))).await?;
        Published::from_wire(answer.id, answer.position, 1)
    }

    /// Approves or rejects what a rule proposed.
    ///
    /// # Errors
    /// [`Error`] when it is refused, what was shown no longer stands, or it is not answered; it is asked once.
    pub async fn approve(&self, decision: &Decision) -> Result<Decided, Error> {
        let value = if decision.approve { rules::Decision::Approve } else { rules::Decision::Reject };
        let request = bus::ApproveRequest {
            pending_id: decision.pending_id.clone(),
            shown_hash: decision.shown_hash.clone().into(),
            decision: value.into(),
            reason: decision.reason.clone(),
        };
        let mut alerts = self.alerts.clone();
        let answer = self.once("approve", alerts.approve(self.request(request))).await?;
        let position = Position::from_wire(answer.position, "position").map_err(|fault| Error::answer(vec![fault]))?;
        Ok(Decided { position, approved: answer.approved, need: answer.need })
    }

    /// Publishes a CAP Cancel of an alert of the own department; `reason` is required and goes into its note.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered; it is asked once.
    pub async fn cancel(&self, wanted: &WantedAlert, reason: &str) -> Result<Published, Error> {
        let request = bus::CancelRequest { id: Some(alert_ref(wanted)), reason: reason.into() };
        let mut alerts = self.alerts.clone();
        let answer = self.once("cancel", alerts.cancel(self.request(request))).await?;
        Published::from_wire(answer.id, answer.position, 1)
    }

    /// A request that tells the node how long the answer is awaited.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.settings.timeouts.call);
        request
    }

    /// Makes a call once, under the deadline; the answer's end is awaited, not only its beginning.
    pub(crate) async fn once<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        // The node is told the deadline too; it gets the grace to say so itself.
        let deadline = self.settings.timeouts.call + Duration::from_millis(100);
        match tokio::time::timeout(deadline, call).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Error::late(what)),
        }
    }

    /// Makes a call that is safe to repeat, until it is answered, refused for good, or given up; says how often.
    pub(crate) async fn repeat<T, F>(&self, what: &str, mut call: impl FnMut() -> F) -> Result<(T, u32), Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match self.once(what, call()).await {
                Ok(answer) => return Ok((answer, attempts)),
                Err(error) => Error { attempts, ..error },
            };
            let wait = self.settings.calls.wait(attempts).filter(|_| error.may_repeat());
            let Some(wait) = wait else { return Err(error) };
            tracing::debug!(what, attempts, code = ?error.code, "Call failed and is repeated");
            tokio::time::sleep(wait).await;
        }
    }
}

fn alert_ref(wanted: &WantedAlert) -> bus::AlertRef {
    bus::AlertRef {
        sender: wanted.sender.clone().unwrap_or_default(),
        identifier: wanted.identifier.clone(),
        sent: wanted.sent.clone().unwrap_or_default(),
    }
}

/// Names one alert exactly, for the calls that take a [`WantedAlert`].
pub fn wanted(id: &AlertId) -> WantedAlert {
    let id = convert::alert_id_to_wire(id);
    WantedAlert { sender: Some(id.sender), identifier: id.identifier, sent: Some(id.sent) }
}
