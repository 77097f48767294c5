//! A model of etcd: its service, over a state machine, as a host of the simulated network. It can be crashed, cut off, left
//! without a leader, compacted, set back to a backup, and wiped.
//!
//! It speaks the service side of the client's own protocol, so that nothing of `campanile-discovery` is replaced but the
//! connection.

mod beside;
pub(crate) mod faults;
mod state;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKvServer, PbKvService,
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesRequest,
    PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseServer, PbLeaseService,
    PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse, PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse,
    PbRangeStreamResponse, PbTxnRequest, PbTxnResponse, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse,
    PbWatchServer, PbWatchService,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::{Request, Response, Status, Streaming};
use tower::Service;

use state::{State, revision_of};

/// Its name in the simulated network.
pub(crate) const HOST: &str = "etcd";
/// How long a call without the wish for a leader waits for one, as etcd does.
const PATIENCE: Duration = Duration::from_secs(7);
/// How often leases are looked at.
const LEASE_TICK: Duration = Duration::from_millis(100);
/// How many answers wait for a client.
const ANSWERS_MAX: usize = 64;

type Answers<T> = ReceiverStream<Result<T, Status>>;

/// What survives a crash of it, and the way to change it.
#[derive(Debug)]
pub(crate) struct Etcd {
    durable: Mutex<Durable>,
    /// Tells of each change.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Durable {
    state: State,
    has_leader: bool,
    /// A leader has just been found; only the host itself knows the time of its leases.
    elects: bool,
    backup: Option<State>,
}

impl Etcd {
    pub(crate) fn new() -> Arc<Self> {
        let durable = Durable { state: State::new(1), has_leader: true, elects: false, backup: None };
        Arc::new(Self { durable: Mutex::new(durable), changed: watch::channel(0).0 })
    }

    /// Runs it as a host of the simulated network.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        self.change(|durable| durable.state.elect(Instant::now()));
        crate::wire::serve_etcd(self.service()).await?;
        self.keep_leases().await;
        Ok(())
    }

    /// Ends leases in time, for ever.
    async fn keep_leases(&self) {
        loop {
            tokio::time::sleep(LEASE_TICK).await;
            let now = Instant::now();
            let mut durable = self.durable.lock();
            if std::mem::take(&mut durable.elects) {
                durable.state.elect(now);
            }
            // Without a leader no lease ends.
            if durable.has_leader && durable.state.expire(now) {
                drop(durable);
                self.tell();
            }
        }
    }

    fn service(self: &Arc<Self>) -> Front {
        Front {
            kv: PbKvServer::new(Calls(Arc::clone(self))),
            lease: PbLeaseServer::new(Calls(Arc::clone(self))),
            watch: PbWatchServer::new(Calls(Arc::clone(self))),
        }
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Durable) -> T) -> T {
        let out = change(&mut self.durable.lock());
        self.tell();
        out
    }

    /// Takes the leader away.
    pub(crate) fn lose_leader(&self) {
        self.change(|durable| durable.has_leader = false);
    }

    /// Lets it elect one, unless there is one.
    pub(crate) fn find_leader(&self) {
        self.change(|durable| durable.elects |= !std::mem::replace(&mut durable.has_leader, true));
    }

    /// Forgets all history.
    pub(crate) fn compact(&self) {
        // A compaction that finds nothing new is refused, and changes nothing.
        _ = self.change(|durable| durable.state.compact(durable.state.revision));
    }

    pub(crate) fn back_up(&self) {
        let mut durable = self.durable.lock();
        durable.backup = Some(durable.state.clone());
    }

    /// Puts the backup in its place, while it is down. With `anew` as `etcdctl snapshot restore` does it: another cluster,
    /// which begins with low terms. False when there is none.
    pub(crate) fn rewind(&self, anew: bool) -> bool {
        let mut durable = self.durable.lock();
        let Some(mut backup) = durable.backup.take() else { return false };
        if anew {
            (backup.cluster, backup.term) = (durable.state.cluster + 1, 1);
        }
        durable.state = backup;
        true
    }

    /// Takes everything away, while it is down. With the flags of before it has the same cluster number again.
    pub(crate) fn wipe(&self, anew: bool) {
        let mut durable = self.durable.lock();
        let cluster = durable.state.cluster + u64::from(anew);
        durable.state = State::new(cluster);
    }

    /// Whether somebody leads it; an error for a call that does not want to wait for that.
    fn led(&self, metadata: &tonic::metadata::MetadataMap) -> Result<bool, Status> {
        match (self.durable.lock().has_leader, metadata.contains_key("hasleader")) {
            (true, _) => Ok(true),
            (false, true) => Err(no_leader()),
            (false, false) => Ok(false),
        }
    }
}

fn no_leader() -> Status {
    Status::unavailable("etcdserver: no leader")
}

/// Its calls.
#[derive(Debug, Clone)]
struct Calls(Arc<Etcd>);

impl Calls {
    /// Does what a call asks, once there is a leader to agree.
    async fn agreed<R, T>(
        &self,
        request: Request<R>,
        call: impl FnOnce(&mut State, R) -> Result<T, Status>,
    ) -> Result<Response<T>, Status> {
        if !self.0.led(request.metadata())? {
            let mut changed = self.0.changed.subscribe();
            let wait = async { while !self.0.durable.lock().has_leader && changed.changed().await.is_ok() {} };
            let timed_out = |_| Status::unavailable("etcdserver: request timed out");
            tokio::time::timeout(PATIENCE, wait).await.map_err(timed_out)?;
        }
        self.0.change(|durable| call(&mut durable.state, request.into_inner())).map(Response::new)
    }
}

#[tonic::async_trait]
impl PbKvService for Calls {
    async fn range(&self, request: Request<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        self.agreed(request, |state, request| state.range(&request)).await
    }

    type RangeStreamStream = Answers<PbRangeStreamResponse>;

    async fn range_stream(&self, _: Request<PbRangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("the model streams no ranges"))
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        self.agreed(request, |state, request| state.put(&request)).await
    }

    async fn delete_range(&self, request: Request<PbDeleteRequest>) -> Result<Response<PbDeleteResponse>, Status> {
        self.agreed(request, |state, request| Ok(state.delete(&request))).await
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        self.agreed(request, |state, request| state.txn(&request)).await
    }

    async fn compact(&self, request: Request<PbCompactionRequest>) -> Result<Response<PbCompactionResponse>, Status> {
        let compact = |state: &mut State, request: PbCompactionRequest| {
            state.compact(request.revision)?;
            Ok(PbCompactionResponse { header: Some(state.header()) })
        };
        self.agreed(request, compact).await
    }
}

#[tonic::async_trait]
impl PbLeaseService for Calls {
    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        let grant = |state: &mut State, request: PbLeaseGrantRequest| {
            let id = state.grant(request.id, request.ttl, Instant::now())?;
            Ok(PbLeaseGrantResponse { header: Some(state.header()), id, ttl: request.ttl, error: String::new() })
        };
        self.agreed(request, grant).await
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        let revoke = |state: &mut State, request: PbLeaseRevokeRequest| {
            let there = state.revoke(request.id);
            let unknown = || Status::not_found("etcdserver: requested lease not found");
            there.then(|| PbLeaseRevokeResponse { header: Some(state.header()) }).ok_or_else(unknown)
        };
        self.agreed(request, revoke).await
    }

    type LeaseKeepAliveStream = Answers<PbLeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        self.0.led(request.metadata())?;
        let wants_leader = request.metadata().contains_key("hasleader");
        let (etcd, mut requests) = (Arc::clone(&self.0), request.into_inner());
        let (to, answers) = mpsc::channel(ANSWERS_MAX);
        tokio::spawn(async move {
            let mut changed = etcd.changed.subscribe();
            loop {
                let request = tokio::select! {
                    biased;
                    request = requests.message() => request,
                    _ = changed.changed() => {
                        if wants_leader && !etcd.durable.lock().has_leader {
                            _ = to.send(Err(no_leader())).await;
                            return;
                        }
                        continue;
                    }
                };
                let Ok(Some(request)) = request else { return };
                let answer = {
                    let mut durable = etcd.durable.lock();
                    let ttl = if durable.has_leader {
                        Ok(durable.state.renew(request.id, Instant::now()))
                    } else {
                        Err(no_leader())
                    };
                    ttl.map(|ttl| PbLeaseKeepAliveResponse {
                        header: Some(durable.state.header()),
                        id: request.id,
                        ttl,
                    })
                };
                if to.send(answer).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        Err(Status::unimplemented("the model tells no times of leases"))
    }

    async fn lease_leases(&self, _: Request<PbLeaseLeasesRequest>) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        Err(Status::unimplemented("the model lists no leases"))
    }
}

/// What one watch of a stream wants.
#[derive(Debug)]
struct Watcher {
    key: Vec<u8>,
    end: Vec<u8>,
    /// The first revision that it has not been told.
    next: i64,
    wants_previous: bool,
}

#[tonic::async_trait]
impl PbWatchService for Calls {
    type WatchStream = Answers<PbWatchResponse>;

    async fn watch(&self, request: Request<Streaming<PbWatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        self.0.led(request.metadata())?;
        let wants_leader = request.metadata().contains_key("hasleader");
        let (to, answers) = mpsc::channel(ANSWERS_MAX);
        let watching = Watching { etcd: Arc::clone(&self.0), to, watchers: BTreeMap::new(), wants_leader };
        tokio::spawn(watching.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// One stream of watches.
struct Watching {
    etcd: Arc<Etcd>,
    to: mpsc::Sender<Result<PbWatchResponse, Status>>,
    watchers: BTreeMap<i64, Watcher>,
    wants_leader: bool,
}

impl Watching {
    async fn run(mut self, mut requests: Streaming<PbWatchRequest>) {
        let mut changed = self.etcd.changed.subscribe();
        let mut last_id = -1;
        loop {
            for answer in self.news() {
                let is_over = answer.is_err();
                if self.to.send(answer).await.is_err() || is_over {
                    return;
                }
            }
            let request = tokio::select! {
                biased;
                request = requests.message() => request,
                _ = changed.changed() => continue,
            };
            let Ok(Some(PbWatchRequest { request_union: Some(request) })) = request else { return };
            let answer = match request {
                PbWatchRequestUnion::CreateRequest(create) => {
                    last_id += 1;
                    let header = self.etcd.durable.lock().state.header();
                    let next = if create.start_revision > 0 { create.start_revision } else { header.revision + 1 };
                    let wants_previous = create.prev_kv;
                    let watcher = Watcher { key: create.key, end: create.range_end, next, wants_previous };
                    self.watchers.insert(last_id, watcher);
                    PbWatchResponse { header: Some(header), watch_id: last_id, created: true, ..Default::default() }
                }
                PbWatchRequestUnion::CancelRequest(cancel) => {
                    self.watchers.remove(&cancel.watch_id);
                    let header = Some(self.etcd.durable.lock().state.header());
                    PbWatchResponse { header, watch_id: cancel.watch_id, canceled: true, ..Default::default() }
                }
                PbWatchRequestUnion::ProgressRequest(_) => {
                    // All were told everything before the request was read.
                    let header = Some(self.etcd.durable.lock().state.header());
                    PbWatchResponse { header, watch_id: -1, ..Default::default() }
                }
            };
            if self.to.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    }

    /// What the watches of this stream have not been told yet.
    fn news(&mut self) -> Vec<Result<PbWatchResponse, Status>> {
        let durable = self.etcd.durable.lock();
        if !durable.has_leader {
            // What was agreed before is told all the same, but nothing new is agreed.
            return if self.wants_leader { vec![Err(no_leader())] } else { Vec::new() };
        }
        let (state, mut news) = (&durable.state, Vec::new());
        self.watchers.retain(|id, watcher| {
            let header = Some(state.header());
            if watcher.next < state.compacted {
                let compact_revision = state.compacted;
                let over = PbWatchResponse { watch_id: *id, canceled: true, compact_revision, ..Default::default() };
                news.push(Ok(PbWatchResponse { header, ..over }));
                return false;
            }
            let mut events = state.changes(&watcher.key, &watcher.end, watcher.next);
            watcher.next = watcher.next.max(state.revision + 1);
            if !watcher.wants_previous {
                events.iter_mut().for_each(|event| event.prev_kv = None);
            }
            if !events.is_empty() {
                debug_assert!(events.is_sorted_by_key(revision_of), "history is in order");
                news.push(Ok(PbWatchResponse { header, watch_id: *id, events, ..Default::default() }));
            }
            true
        });
        news
    }
}

/// The three services behind one address.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    kv: PbKvServer<Calls>,
    lease: PbLeaseServer<Calls>,
    watch: PbWatchServer<Calls>,
}

impl Service<http::Request<Body>> for Front {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path().split('/').nth(1) {
            Some("etcdserverpb.KV") => self.kv.call(request),
            Some("etcdserverpb.Lease") => self.lease.call(request),
            Some("etcdserverpb.Watch") => self.watch.call(request),
            _ => Box::pin(async { Ok(Status::unimplemented("the model has no such service").into_http()) }),
        }
    }
}
