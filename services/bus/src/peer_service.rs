//! The serving side of replication: any log held here, for any node of the federation.
//!
//! A pull is a long-lived stream. The server writes as soon as a record is durable, as far as the receiver's credit
//! reaches, so an idle link has the latency of a push while the receiver owns its position. A peer that may not read a
//! record gets its header alone. What came back into an older epoch than the receiver's goes first (`older`). A bookmark
//! goes out at least every 5 s, and when all that is held here has been sent. Open streams are judged again at every
//! change of the roster and every bookmark, and end after an hour, so that a revoked certificate does not live on in one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use campanile_alert::{Clock, DepartmentId, OriginId};
use campanile_discovery::identity::PeerKind;
use campanile_discovery::roster::{Error as RosterError, RosterHandle};
use campanile_log::{Entry, Hash, LogId, Position, Store};
use campanile_proto::bus::v1 as wire;
use campanile_proto::bus::v1::peer_service_server::{PeerService, PeerServiceServer};
use campanile_proto::convert;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use crate::checkpoint::Checkpoints;
use crate::pull::Pullers;
use crate::record;
use crate::surroundings::{Surroundings, blocking};
use crate::tails::{End, Tails};
use crate::transport::{MESSAGE_BYTES_MAX, PeerInfo, Standing};

mod older;

pub use older::OLDER_MAX;
use older::{Gap, Sent};

/// The most credit a receiver may give: what may be on its way at once.
pub const CREDIT_BYTES_MAX: u32 = 8 << 20;
/// A sign of life at least this often.
const BOOKMARK_EVERY: Duration = Duration::from_secs(5);
/// A stream ends after this long, and the receiver opens another.
const STREAM_AGE_MAX: Duration = Duration::from_secs(3_600);
/// How long a client may take for its first message.
const START_WITHIN: Duration = Duration::from_secs(5);
/// How many records are read at once.
const PAGE_RECORDS: usize = 128;
/// How many bytes are read at once.
const PAGE_BYTES: usize = 1 << 20;
/// How many messages wait for the connection to take them.
const SENDING_MAX: usize = 16;
/// How many pull streams one node serves at once.
const STREAMS_MAX: usize = 2_048;

/// What serves peers.
#[derive(Clone)]
pub struct Peers {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tails: Arc<Tails>,
    pub(crate) roster: RosterHandle,
    pub(crate) standing: Arc<Standing>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) pullers: Arc<Pullers>,
    pub(crate) streams: Arc<tokio::sync::Semaphore>,
    pub(crate) stop: CancellationToken,
    pub(crate) surroundings: Arc<dyn Surroundings>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}

impl Peers {
    /// The bound on pull streams, for [`Peers`] to be built with.
    pub(crate) fn stream_bound() -> Arc<tokio::sync::Semaphore> {
        Arc::new(tokio::sync::Semaphore::new(STREAMS_MAX))
    }

    /// The service, with the limits of messages set.
    pub fn into_service(self) -> PeerServiceServer<Self> {
        PeerServiceServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn node<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let info = request.extensions().get::<PeerInfo>().ok_or_else(|| Status::internal("no peer identity"))?;
        if info.identity.kind != PeerKind::Node {
            return Err(Status::permission_denied(
                "only nodes of the federation may pull; use AlertService with a client certificate",
            ));
        }
        self.standing.check(&info.identity).map_err(|error| Status::unauthenticated(error.to_string()))?;
        let origin = OriginId::try_new(info.identity.department.clone(), info.identity.name.clone())
            .map_err(|error| Status::permission_denied(error.to_string()))?;
        if self.roster.current().origin(&origin).is_none() {
            return Err(Status::permission_denied(format!("the roster does not list {origin}")));
        }
        Ok(Caller { origin, info: info.clone() })
    }

    /// Runs a read of the store beside the runtime.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, campanile_log::Error> + Send + 'static,
    ) -> Result<T, Status> {
        match blocking(&self.surroundings, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::error!(%error, "The store could not be read");
                Err(Status::internal("the node's store could not be read; see its log"))
            }
            Err(_) => Err(Status::internal("a read was cut short")),
        }
    }

    fn admits(&self, reader: &DepartmentId, entry: &Entry) -> bool {
        let Ok(header) = record::open_header(&entry.header) else { return false };
        let author = header.origin.department();
        header.audience.admits(reader.as_str(), author.as_str()) || self.roster.current().may_read(reader, author)
    }
}

struct Caller {
    origin: OriginId,
    info: PeerInfo,
}

#[tonic::async_trait]
impl PeerService for Peers {
    type PullStream = ReceiverStream<Result<wire::PullResponse, Status>>;

    async fn pull(&self, request: Request<Streaming<wire::PullRequest>>) -> Result<Response<Self::PullStream>, Status> {
        let caller = self.node(&request)?;
        let permit = Arc::clone(&self.streams)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many pull streams are open here; try again later"))?;
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(START_WITHIN, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the first message did not come within 5 s"))??;
        let start = match first.and_then(|message| message.kind) {
            Some(wire::pull_request::Kind::Start(start)) => start,
            _ => return Err(Status::invalid_argument("the first message must be start")),
        };
        let origin: OriginId = start
            .origin
            .parse()
            .map_err(|error: campanile_alert::ids::Error| Status::invalid_argument(format!("start.origin: {error}")))?;
        let lane = record::lane_from_wire(start.lane())
            .ok_or_else(|| Status::invalid_argument("start.lane: name one of the three lanes"))?;
        let log = LogId::new(origin.to_string(), lane);
        let of_log = |field: &str, position: &wire::Position| {
            let (named, position) = record::position_from_wire(position)
                .map_err(|error| Status::invalid_argument(format!("start.{field}: {error}")))?;
            if named != log {
                return Err(Status::invalid_argument(format!("start.{field}: it is a position of another log")));
            }
            Ok(position)
        };
        let after = start.after.as_ref().map(|position| of_log("after", position)).transpose()?;
        if start.older.len() > OLDER_MAX {
            return Err(Status::invalid_argument(format!("start.older: give at most {OLDER_MAX} positions")));
        }
        let older = start.older.iter().map(|position| of_log("older", position)).collect::<Result<Vec<_>, _>>()?;
        let (sender, receiver) = mpsc::channel(SENDING_MAX);
        let stream = Pull {
            peers: self.clone(),
            caller,
            log,
            after: after.map(|position| position.place()),
            sent: Sent::new(after, &older),
            gaps: VecDeque::new(),
            has_told: false,
            credit: i64::from(start.credit_bytes.min(CREDIT_BYTES_MAX)),
            sender,
        };
        tokio::spawn(async move {
            let _permit = permit;
            stream.run(after.into_iter().chain(older).collect(), requests).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_body(
        &self,
        request: Request<wire::GetBodyRequest>,
    ) -> Result<Response<wire::GetBodyResponse>, Status> {
        let caller = self.node(&request)?;
        let hash: [u8; 32] = request
            .into_inner()
            .record_hash
            .as_ref()
            .try_into()
            .map_err(|_| Status::invalid_argument("record_hash: give the 32 bytes of a record's hash"))?;
        let store = Arc::clone(&self.store);
        let entry = self.read(move || store.by_hash(&Hash(hash))).await?;
        let entry = entry.ok_or_else(|| Status::not_found("no record of that hash is held here"))?;
        if !self.admits(caller.origin.department(), &entry) {
            return Err(Status::permission_denied("your department may not read this record"));
        }
        let body = entry.body.ok_or_else(|| Status::not_found("this node holds the header alone"))?;
        Ok(Response::new(wire::GetBodyResponse { body }))
    }

    async fn get_roster(
        &self,
        request: Request<wire::GetRosterRequest>,
    ) -> Result<Response<wire::GetRosterResponse>, Status> {
        self.node(&request)?;
        let Some(number) = request.into_inner().number else {
            let newest = self.roster.current();
            let envelope = newest.envelope().to_vec().into();
            return Ok(Response::new(wire::GetRosterResponse { number: newest.number, envelope }));
        };
        let roster = self.roster.clone();
        let held = blocking(&self.surroundings, move || roster.envelope(number)).await;
        let held = held.map_err(|_| Status::internal("the disk was not read to the end"))?;
        let envelope = held.ok_or_else(|| Status::not_found(format!("roster {number} is not held here")))?.into();
        Ok(Response::new(wire::GetRosterResponse { number, envelope }))
    }

    async fn poke(&self, request: Request<wire::PokeRequest>) -> Result<Response<wire::PokeResponse>, Status> {
        let caller = self.node(&request)?;
        if let Some(envelope) = request.into_inner().roster {
            let roster = self.roster.clone();
            // Its check and its write to disk are work for another thread.
            match blocking(&self.surroundings, move || roster.offer(&envelope)).await {
                Ok(Ok(_) | Err(RosterError::RollBack { .. })) => {}
                Ok(Err(error)) => return Err(Status::invalid_argument(format!("roster: {error}"))),
                Err(_) => return Err(Status::internal("the check of the roster was cut short")),
            }
        }
        self.pullers.poke(&caller.origin);
        Ok(Response::new(wire::PokeResponse {}))
    }
}

/// One open stream.
struct Pull {
    peers: Peers,
    caller: Caller,
    log: LogId,
    /// The place of the last record sent of the highest epoch so far.
    after: Option<(u64, u64)>,
    /// How far the receiver has come in all epochs.
    sent: Sent,
    /// What it lacks of older ones.
    gaps: VecDeque<Gap>,
    /// It was told that all has been sent.
    has_told: bool,
    credit: i64,
    sender: mpsc::Sender<Result<wire::PullResponse, Status>>,
}

/// The receiver has gone, or the stream has said its last word.
struct Ended;

impl Pull {
    async fn run(mut self, theirs: Vec<Position>, requests: Streaming<wire::PullRequest>) {
        // Every way to end is in order: the receiver reconnects from its own durable tail.
        let _ended = self.serve(theirs, requests).await;
        debug!(log = %self.log, peer = %self.caller.origin, "A pull stream ended");
    }

    async fn serve(&mut self, theirs: Vec<Position>, mut requests: Streaming<wire::PullRequest>) -> Result<(), Ended> {
        if older::is_ahead(self.peers.store.as_ref(), &self.log, &theirs) {
            self.peers.pullers.note_ahead(&self.log, &self.caller.origin);
        }
        self.compare(theirs).await?;
        let mut tail = self.peers.tails.watch(&self.log);
        let mut roster = self.peers.roster.subscribe();
        let mut bookmark = tokio::time::interval(BOOKMARK_EVERY);
        let end = tokio::time::sleep(STREAM_AGE_MAX);
        tokio::pin!(end);
        // Without this a stream would hold the connection open, and with it a node that has ended.
        let stop = self.peers.stop.clone();
        let mut late = None;
        loop {
            let held = *tail.borrow_and_update();
            if late != Some(held.late) {
                late = Some(held.late);
                self.look_back();
            }
            self.send_records().await?;
            if !self.has_told && self.is_complete(held) {
                self.bookmark(&tail).await?;
            }
            // The rarest first, so that none is starved.
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.fail(Status::unavailable("the node is ending")).await,
                () = &mut end => return self.fail(Status::aborted("the stream is an hour old; open another")).await,
                _ = roster.changed() => self.judge_again().await?,
                _ = bookmark.tick() => self.bookmark(&tail).await?,
                message = requests.message() => self.credit(message).await?,
                changed = tail.changed() => changed.map_err(|_| Ended)?,
            }
        }
    }

    /// Sends the other record when one of the receiver's positions holds another one here.
    async fn compare(&mut self, theirs: Vec<Position>) -> Result<(), Ended> {
        let (store, log) = (Arc::clone(&self.peers.store), self.log.clone());
        let held = match self.peers.read(move || older::diverged(store.as_ref(), &log, &theirs)).await {
            Ok(None) => return Ok(()),
            Ok(Some(held)) => held,
            Err(status) => return self.fail(status).await,
        };
        let with_body = self.peers.admits(self.caller.origin.department(), &held);
        let record = record::to_wire(&held, with_body);
        self.send(wire::pull_response::Kind::Diverged(wire::Diverged { record: Some(record) })).await?;
        Err(Ended)
    }

    /// Finds out what the receiver lacks of the epochs below the one it has come to.
    fn look_back(&mut self) {
        if let Some((epoch, _)) = self.after {
            self.gaps = self.sent.gaps_below(epoch, self.peers.store.as_ref(), &self.log);
            self.has_told &= self.gaps.is_empty();
        }
    }

    /// All that is held here has been sent.
    fn is_complete(&self, end: End) -> bool {
        let has_come = |tail: Position| self.after.is_some_and(|after| after >= tail.place());
        self.credit > 0 && self.gaps.is_empty() && end.tail.is_none_or(has_come)
    }

    async fn send_records(&mut self) -> Result<(), Ended> {
        while self.credit > 0 {
            let entries = self.next_page().await?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                if self.credit <= 0 {
                    return Ok(());
                }
                let with_body = self.peers.admits(self.caller.origin.department(), &entry);
                let record = record::to_wire(&entry, with_body);
                // Exactly what the receiver counts and gives back: header and body as sent.
                let sent = record.header.len() + record.body.as_ref().map_or(0, bytes::Bytes::len);
                self.credit -= i64::try_from(sent).unwrap_or(i64::MAX);
                self.note(entry.position.place());
                self.send(wire::pull_response::Kind::Record(record)).await?;
            }
        }
        Ok(())
    }

    fn note(&mut self, place: (u64, u64)) {
        self.sent.note(place);
        match self.gaps.front_mut() {
            Some(gap) if gap.epoch == place.0 => gap.after = place.1,
            _ => self.after = Some(place),
        }
        if self.gaps.front().is_some_and(|gap| gap.after >= gap.until) {
            self.gaps.pop_front();
        }
    }

    async fn next_page(&mut self) -> Result<Vec<Entry>, Ended> {
        while let Some(gap) = self.gaps.front() {
            let (from, until) = ((gap.epoch, gap.after), (gap.epoch, gap.until));
            let mut entries = self.read_page(Some(from)).await?;
            entries.retain(|entry| entry.position.place() <= until);
            if !entries.is_empty() {
                return Ok(entries);
            }
            self.gaps.pop_front();
        }
        if let Some(after) = self.after
            && let Some(entries) = self.peers.tails.recent(&self.log, after, PAGE_RECORDS)
        {
            return Ok(entries);
        }
        self.read_page(self.after).await
    }

    async fn read_page(&mut self, after: Option<(u64, u64)>) -> Result<Vec<Entry>, Ended> {
        let (store, log) = (Arc::clone(&self.peers.store), self.log.clone());
        match self.peers.read(move || store.read(&log, after, PAGE_RECORDS, PAGE_BYTES)).await {
            Ok(entries) => Ok(entries),
            Err(status) => self.fail(status).await.map(|()| Vec::new()),
        }
    }

    async fn credit(&mut self, message: Result<Option<wire::PullRequest>, Status>) -> Result<(), Ended> {
        let Ok(Some(message)) = message else { return Err(Ended) };
        let Some(wire::pull_request::Kind::Credit(credit)) = message.kind else {
            return self.fail(Status::invalid_argument("after start only credit may follow")).await;
        };
        self.credit = (self.credit + i64::from(credit.credit_bytes)).min(i64::from(CREDIT_BYTES_MAX));
        Ok(())
    }

    async fn bookmark(&mut self, end: &watch::Receiver<End>) -> Result<(), Ended> {
        // A certificate ends by itself, without a roster that says so.
        self.judge_again().await?;
        let end = *end.borrow();
        let held = end.tail;
        self.has_told = self.is_complete(end);
        let checkpoint = self.peers.checkpoints.newest(&self.log, held.as_ref());
        let bookmark = wire::Bookmark {
            tail: held.map(|position| record::position_to_wire(&self.log, &position)),
            checkpoint: checkpoint.and_then(|bytes| wire::Checkpoint::decode(bytes).ok()),
            roster: self.peers.roster.current().number,
            time: Some(convert::timestamp_to_wire(self.peers.clock.now())),
            complete: self.has_told,
        };
        self.send(wire::pull_response::Kind::Bookmark(bookmark)).await
    }

    async fn judge_again(&mut self) -> Result<(), Ended> {
        match self.peers.standing.check(&self.caller.info.identity) {
            Ok(()) if self.peers.roster.current().origin(&self.caller.origin).is_some() => Ok(()),
            Ok(()) => self.fail(Status::permission_denied("the roster no longer lists this node")).await,
            Err(error) => self.fail(Status::unauthenticated(error.to_string())).await,
        }
    }

    async fn send(&mut self, kind: wire::pull_response::Kind) -> Result<(), Ended> {
        self.sender.send(Ok(wire::PullResponse { kind: Some(kind) })).await.map_err(|_| Ended)
    }

    async fn fail(&mut self, status: Status) -> Result<(), Ended> {
        let _gone = self.sender.send(Err(status)).await;
        Err(Ended)
    }
}
