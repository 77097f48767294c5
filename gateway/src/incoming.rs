//! An alert as it came in over the bus: the one shape that the rest of the gateway works with.
//!
//! [`crate::member`] builds it from a stored record, in one place. Nothing here judges whether the alert may go out:
//! that is [`crate::notice`]'s.

use std::sync::Arc;

use bytes::Bytes;
use campanile_alert::{Alert, AlertId, Classification, DepartmentId, MessageType, OriginId, Status, Timestamp, World};
use campanile_log::Hash;
use serde::Serialize;

/// The place of a record in its author's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The author, `department/node`.
    pub origin: OriginId,
    /// `urgent`, `routine` or `exercise`.
    pub lane: String,
    /// The epoch.
    pub epoch: u64,
    /// The number in the epoch, from 1.
    pub seq: u64,
}

/// An alert that another follows from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CauseRef {
    /// The record that carried it.
    pub record: Hash,
    /// The author of that record.
    pub origin: String,
    /// CAP `sender` of the alert.
    pub sender: String,
    /// CAP `identifier` of the alert.
    pub identifier: String,
    /// The text of CAP `sent`.
    pub sent: String,
}

/// A counted alert record, decoded.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its number in the order of arrival in this gateway.
    pub arrival: u64,
    /// The record's hash: SHA-256 of its header bytes.
    pub record: Hash,
    /// Where it stands in its log.
    pub place: Place,
    /// Whose it is.
    pub department: DepartmentId,
    /// The world of the record.
    pub world: World,
    /// The status in the record's header.
    pub status: Status,
    /// Severe, Extreme, or about such a one.
    pub urgent: bool,
    /// The message.
    pub alert: Arc<Alert>,
    /// The exact bytes of an imported message and their media type; absent for one made on the bus.
    pub original: Option<(Bytes, String)>,
    /// What it means in the vocabulary.
    pub classification: Classification,
    /// The alerts that led to it, the nearest first.
    pub causes: Vec<CauseRef>,
    /// The rule that issued it; absent when a person or a system did.
    pub rule: Option<String>,
    /// W3C trace context of the root cause; empty when there is none.
    pub traceparent: String,
    /// When its author sealed it.
    pub time: Timestamp,
    /// When it was stored here.
    pub received: Timestamp,
}

impl Incoming {
    /// The identity of the message.
    pub fn id(&self) -> AlertId {
        self.alert.id()
    }

    /// True for Alert and Update: what can be in force. Cancel ends others; Ack and Error concern systems only.
    pub fn can_be_in_force(&self) -> bool {
        matches!(self.alert.msg_type, MessageType::Alert | MessageType::Update)
    }

    /// True when every info says AllClear: the message ends what it updates.
    pub fn is_all_clear(&self) -> bool {
        use campanile_alert::ResponseType::AllClear;
        !self.alert.infos.is_empty() && self.alert.infos.iter().all(|info| info.response_types.contains(&AllClear))
    }
}
