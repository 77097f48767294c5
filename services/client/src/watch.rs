//! Watching alerts over a stream that mends itself.
//!
//! Every message of the node carries a cursor. When the stream breaks, or the node is silent for too long, the watch
//! waits (doubling, capped, with jitter), opens it again after the last cursor, and goes on. A record that the node
//! sends twice across the break is dropped here. The count of attempts starts anew with each message that comes.

use campanile_alert::Timestamp;
use campanile_proto::bus::v1 as bus;
use campanile_proto::convert::{self, Fault};
use futures::Stream;
use tonic::{Code, Request, Streaming};

use crate::client::Client;
use crate::error::{Error, Retry};
use crate::values::{AlertRecord, Cursor, Filter, Position};

/// Where a watch begins.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Start {
    /// With what comes from when the node has the request on, which is sent by the first [`Watch::next`]: what is
    /// published before that is answered may be missed.
    #[default]
    Now,
    /// At the beginning of all logs.
    Beginning,
    /// After a cursor that an earlier watch gave.
    After(Cursor),
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An alert.
    Alert(Box<AlertRecord>),
    /// An alert that this client cannot read; it is passed over, and the stream goes on.
    Unreadable {
        /// Where it stands, when that much could be read.
        position: Option<Position>,
        /// What is wrong with it.
        faults: Vec<Fault>,
    },
    /// A sign of life, with the node's time when it gives one.
    Heartbeat(Option<Timestamp>),
    /// The stream was broken and is open again.
    Resumed {
        /// No cursor had come before the break, so alerts may have been missed.
        gap: bool,
    },
}

/// A stream of alerts that resumes by itself.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    start: Start,
    filter: bus::Filter,
    cursor: Option<Cursor>,
    stream: Option<Streaming<bus::WatchResponse>>,
    /// Failed attempts since the last message.
    failed: u32,
    /// The stream has been open before.
    opened: bool,
    ended: bool,
    last: Option<bus::Position>,
}

impl Watch {
    pub(crate) fn new(client: Client, start: Start, filter: &Filter) -> Self {
        let cursor = match &start {
            Start::After(cursor) => Some(cursor.clone()),
            Start::Now | Start::Beginning => None,
        };
        let (stream, last) = (None, None);
        Self { client, start, filter: filter.to_wire(), cursor, stream, failed: 0, opened: false, ended: false, last }
    }

    /// From where a new watch would go on after the events given so far; absent when no cursor has come yet.
    ///
    /// Keep it once the event is dealt with: then each alert is seen at least once across restarts.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// The next event. `None` follows the error that ended the watch. May be dropped and called again.
    ///
    /// # Errors
    /// [`Error`] when the node refuses the watch for good, or attempts are used up. The watch has ended then.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        while !self.ended {
            let step = match self.stream {
                Some(_) => self.receive().await.map(Some),
                None => self.open().await,
            };
            match step {
                Ok(Some(event)) => return Some(Ok(event)),
                Ok(None) => {}
                Err(error) => {
                    self.stream = None;
                    if let Err(error) = self.pause(error).await {
                        self.ended = true;
                        return Some(Err(error));
                    }
                }
            }
        }
        None
    }

    /// The same as a [`Stream`].
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, Error>> + Send {
        futures::stream::unfold(self, |mut watch| async move {
            let event = watch.next().await?;
            Some((event, watch))
        })
    }

    async fn open(&mut self) -> Result<Option<Event>, Error> {
        let request = bus::WatchRequest {
            after: self.cursor.as_ref().map(|cursor| cursor.0.clone()),
            from_start: self.cursor.is_none() && self.start == Start::Beginning,
            filter: Some(self.filter.clone()),
        };
        let mut alerts = self.client.alerts.clone();
        // No deadline goes with a stream: it lives until one side ends it.
        let stream = self.client.once("watch", alerts.watch(Request::new(request))).await?;
        self.stream = Some(stream);
        let again = std::mem::replace(&mut self.opened, true);
        let gap = self.cursor.is_none() && self.start == Start::Now;
        Ok(again.then_some(Event::Resumed { gap }))
    }

    async fn receive(&mut self) -> Result<Event, Error> {
        // Dropped or not, what was received is kept: nothing is awaited after the message is taken.
        loop {
            let Some(stream) = &mut self.stream else {
                return Err(Error::new(Code::Unavailable, Retry::Unknown, "the stream is not open"));
            };
            let silence = self.client.settings.timeouts.silence;
            let message = match tokio::time::timeout(silence, stream.message()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => {
                    return Err(Error::new(Code::Unavailable, Retry::Unknown, "the node ended the stream"));
                }
                Ok(Err(status)) => return Err(status.into()),
                Err(_) => return Err(Error::late("on the stream")),
            };
            self.failed = 0;
            if let Some(cursor) = message.cursor {
                self.cursor = Some(Cursor(cursor));
            }
            match message.kind {
                Some(bus::watch_response::Kind::Alert(record)) => {
                    if record.position.is_some() && record.position == self.last {
                        continue;
                    }
                    self.last.clone_from(&record.position);
                    return Ok(read(record));
                }
                Some(bus::watch_response::Kind::Heartbeat(beat)) => {
                    return Ok(Event::Heartbeat(convert::timestamp_from_wire(beat.time.as_ref(), "time").ok()));
                }
                // Something that only a newer node says; its cursor counts all the same.
                None => {}
            }
        }
    }

    /// Waits before the next attempt, or gives the error that ends the watch.
    async fn pause(&mut self, error: Error) -> Result<(), Error> {
        self.failed += 1;
        let error = Error { attempts: self.failed, ..error };
        let wait = self.client.settings.streams.wait(self.failed).filter(|_| error.may_repeat());
        let Some(wait) = wait else { return Err(error) };
        tracing::debug!(failed = self.failed, code = ?error.code, "Watch broke and is opened again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

fn read(record: bus::AlertRecord) -> Event {
    let position = record.position.clone();
    match AlertRecord::from_wire(Some(record)) {
        Ok(record) => Event::Alert(Box::new(record)),
        Err(faults) => Event::Unreadable { position: Position::from_wire(position, "position").ok(), faults },
    }
}
