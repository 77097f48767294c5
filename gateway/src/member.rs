//! The gateway's place in the bus: what it reads there, what it keeps there, what it says there.
//!
//! [`Member`] is the whole of what the gateway needs from a bus. [`OnBus`] is the real one; the tests have another that
//! lives in memory and loses what was not durable.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use campanile_alert::{Clock, ExerciseId, OriginId, Status};
use campanile_bus::bus::plain_draft;
use campanile_bus::record::{self, Audience, Content, READER_VERSION};
use campanile_bus::{Arrival, Bus, Haste};
use campanile_log::{Hash, Standing};
use campanile_proto::gateway::v1::DeliveryReport;
use prost::Message as _;
use tokio::sync::watch;

use crate::incoming::{CauseRef, Incoming, Place};

/// A state row: its key below the gateway's own part of the store, and its value; absent removes it.
pub type Row = (Vec<u8>, Option<Vec<u8>>);

/// State rows as they are read: keys without the prefix, and values.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// One stored record, in order of arrival; `incoming` is absent for what the gateway has nothing to do with.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its number in the order of arrival.
    pub arrival: u64,
    /// The alert in it, when it is a counted alert that this version may act on.
    pub incoming: Option<Arc<Incoming>>,
}

/// Why the bus could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store could not be read.
    #[error("the gateway's store did not answer")]
    Store(#[from] campanile_log::Error),
    /// State rows could not be written. May be tried again.
    #[error("the gateway's state was not written")]
    State(#[source] campanile_bus::PublishError),
    /// A record could not be published. May be tried again.
    #[error("failed to publish a delivery report")]
    Report(#[from] campanile_bus::PublishError),
}

/// What the gateway needs from the bus.
#[async_trait]
pub trait Member: Send + Sync + 'static {
    /// The name of this gateway.
    fn origin(&self) -> &OriginId;

    /// The time.
    fn clock(&self) -> &Arc<dyn Clock>;

    /// The number of the last durable arrival, to read and to wait for.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Stored records after an arrival number, in order, at most `max`.
    async fn stored(&self, after: u64, max: usize) -> Result<Vec<Stored>, Error>;

    /// The protobuf bytes of a `campanile.bus.v1.Record`; absent when it is not held.
    fn record(&self, hash: &Hash) -> Result<Option<Bytes>, Error>;

    /// The logs in which two records stand at one position, with the first such position.
    fn forks(&self) -> Result<Vec<Place>, Error>;

    /// The state rows below a prefix, the prefix cut off, in order of their keys.
    fn rows(&self, prefix: &str) -> Result<Rows, Error>;

    /// Writes state rows, all or none, and waits until they are durable.
    async fn put(&self, rows: Vec<Row>, haste: Haste) -> Result<(), Error>;

    /// Publishes a delivery report, in the exercise it belongs to or in the real world.
    async fn report(&self, report: DeliveryReport, exercise: Option<ExerciseId>) -> Result<(), Error>;
}

/// The gateway as a member of a real bus.
#[derive(Debug, Clone)]
pub struct OnBus(Bus);

impl OnBus {
    /// Takes its place in an opened bus.
    pub fn new(bus: Bus) -> Self {
        Self(bus)
    }
}

#[async_trait]
impl Member for OnBus {
    fn origin(&self) -> &OriginId {
        self.0.origin()
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.0.clock()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed()
    }

    async fn stored(&self, after: u64, max: usize) -> Result<Vec<Stored>, Error> {
        let arrivals = self.0.arrivals(after, max).await?;
        let open = |arrival: &Arc<Arrival>| Stored { arrival: arrival.entry.arrival, incoming: open(arrival) };
        Ok(arrivals.iter().map(open).collect())
    }

    fn record(&self, hash: &Hash) -> Result<Option<Bytes>, Error> {
        let entry = self.0.store().by_hash(hash)?;
        Ok(entry.map(|entry| record::to_wire(&entry, true).encode_to_vec().into()))
    }

    fn forks(&self) -> Result<Vec<Place>, Error> {
        let place = |(log, (epoch, seq)): (campanile_log::LogId, (u64, u64))| {
            let origin = log.origin.parse().ok()?;
            Some(Place { origin, lane: log.lane.as_str().to_owned(), epoch, seq })
        };
        Ok(self.0.forks()?.into_iter().filter_map(place).collect())
    }

    fn rows(&self, prefix: &str) -> Result<Rows, Error> {
        Ok(self.0.state_rows(prefix.as_bytes())?)
    }

    async fn put(&self, rows: Vec<Row>, haste: Haste) -> Result<(), Error> {
        self.0.put_state(rows, haste).await.map_err(Error::State)
    }

    async fn report(&self, report: DeliveryReport, exercise: Option<ExerciseId>) -> Result<(), Error> {
        let status = if exercise.is_some() { Status::Exercise } else { Status::Actual };
        let draft = plain_draft(status, exercise, Audience::public(), Content::DeliveryReport(report));
        self.0.record(draft).await?;
        Ok(())
    }
}

/// The alert in a stored record, when there is one to act on.
fn open(arrival: &Arrival) -> Option<Arc<Incoming>> {
    let (header, body, entry) = (&arrival.header, arrival.body.as_ref()?, &arrival.entry);
    if entry.standing != Standing::Counted || header.reader_version_min > READER_VERSION {
        return None;
    }
    let Content::Alert { alert, original, media_type } = &body.content else { return None };
    let cause = |cause: &campanile_proto::bus::v1::Cause| {
        Some(CauseRef {
            record: Hash::try_from(cause.record_hash.as_ref()).ok()?,
            origin: cause.origin.clone(),
            sender: cause.sender.clone(),
            identifier: cause.identifier.clone(),
            sent: cause.sent.clone(),
        })
    };
    Some(Arc::new(Incoming {
        arrival: entry.arrival,
        record: entry.position.hash,
        place: Place {
            origin: header.origin.clone(),
            lane: header.log.lane.as_str().to_owned(),
            epoch: header.epoch,
            seq: header.seq,
        },
        department: header.origin.department().clone(),
        world: header.world.clone(),
        status: header.status,
        urgent: header.urgent,
        alert: Arc::clone(alert),
        original: original.clone().zip(media_type.clone()),
        classification: body.classification.clone(),
        causes: body.causes.iter().filter_map(cause).collect(),
        rule: body.rule.as_ref().map(|rule| rule.id.clone()),
        traceparent: body.traceparent.clone(),
        time: header.time,
        received: arrival.received,
    }))
}
