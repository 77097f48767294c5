//! A node of the federation, with its true certificate, that serves whatever the test says as anybody's log.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use campanile_alert::OriginId;
use campanile_bus::record;
use campanile_discovery::{Identity, TlsMaterial};
use campanile_log::LogId;
use campanile_proto::bus::v1 as wire;
use campanile_proto::bus::v1::peer_service_server::{PeerService, PeerServiceServer};
use campanile_tests::cluster::Cluster;

use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// A record to serve, at the place at which the receiver expects it.
pub(crate) type Line = ((u64, u64), wire::Record);

#[derive(Default)]
struct Says {
    logs: Mutex<HashMap<LogId, Vec<Line>>>,
    roster: Mutex<Option<(u64, Bytes)>>,
    pulls: Mutex<HashMap<LogId, usize>>,
    rosters_asked: AtomicUsize,
}

/// The running program; it ends with this value.
pub(crate) struct Liar {
    pub(crate) origin: OriginId,
    address: SocketAddr,
    says: Arc<Says>,
    stop: CancellationToken,
}

impl Liar {
    /// Starts `origin` with the certificate that the cluster's plan made for it; `victim` lends its view of the roster.
    pub(crate) async fn start(cluster: &Cluster, origin: &str, victim: &str) -> Self {
        let origin: OriginId = origin.parse().unwrap();
        let identity = Identity::load(&cluster.federation.node(&origin).tls).unwrap();
        let roster = cluster.bus(victim).unwrap().roster().clone();
        let material = TlsMaterial::new(identity, roster, cluster.time.clock()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let says = Arc::new(Says::default());
        let incoming = campanile_bus::transport::incoming(listener, &material, Arc::default(), stop.clone());
        let service =
            PeerServiceServer::new(Serve(Arc::clone(&says), stop.clone())).max_encoding_message_size(64 << 20);
        let serving = campanile_bus::transport::server()
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        tokio::spawn(serving);
        Self { origin, address, says, stop }
    }

    /// Tells a victim where it is.
    pub(crate) fn lure(&self, cluster: &Cluster, victim: &str) {
        cluster.bus(victim).unwrap().pullers().set_addresses(&self.origin, vec![self.address.to_string()]);
    }

    /// Serves this as a log from now on.
    pub(crate) fn say(&self, log: &LogId, lines: Vec<Line>) {
        self.says.logs.lock().unwrap().insert(log.clone(), lines);
    }

    /// Answers every question for a roster with this one.
    pub(crate) fn roster(&self, number: u64, envelope: impl Into<Bytes>) {
        *self.says.roster.lock().unwrap() = Some((number, envelope.into()));
    }

    /// How often a log was asked for.
    pub(crate) fn pulls(&self, log: &LogId) -> usize {
        self.says.pulls.lock().unwrap().get(log).copied().unwrap_or_default()
    }

    /// How often a roster was asked for.
    pub(crate) fn rosters_asked(&self) -> usize {
        self.says.rosters_asked.load(Ordering::SeqCst)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Serve(Arc<Says>, CancellationToken);

type Responses = Pin<Box<dyn Stream<Item = Result<wire::PullResponse, Status>> + Send>>;

#[tonic::async_trait]
impl PeerService for Serve {
    type PullStream = Responses;

    async fn pull(&self, request: Request<Streaming<wire::PullRequest>>) -> Result<Response<Responses>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|message| message.kind);
        let Some(wire::pull_request::Kind::Start(start)) = first else {
            return Err(Status::invalid_argument("no start"));
        };
        let lane = record::lane_from_wire(start.lane()).ok_or_else(|| Status::invalid_argument("no lane"))?;
        let log = LogId::new(start.origin.as_str(), lane);
        let after = start.after.map_or((0, 0), |position| (position.epoch, position.seq));
        let lines: Vec<Line> = self.0.logs.lock().unwrap().get(&log).cloned().unwrap_or_default();
        *self.0.pulls.lock().unwrap().entry(log).or_default() += 1;
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let stop = self.1.clone();
        tokio::spawn(async move {
            let mut requests = std::pin::pin!(requests.take_while(Result::is_ok));
            let say = |kind| Ok(wire::PullResponse { kind: Some(kind) });
            for (_, record) in lines.into_iter().filter(|(place, _)| *place > after) {
                if sender.send(say(wire::pull_response::Kind::Record(record))).await.is_err() {
                    return;
                }
            }
            loop {
                if sender.send(say(wire::pull_response::Kind::Bookmark(wire::Bookmark::default()))).await.is_err() {
                    return;
                }
                let beat = tokio::time::sleep(Duration::from_secs(1));
                tokio::pin!(beat);
                loop {
                    tokio::select! {
                        () = &mut beat => break,
                        credit = requests.next() => if credit.is_none() { return },
                        // An open stream would outlive the program, which it must not.
                        () = stop.cancelled() => return,
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))))
    }

    async fn get_body(&self, _: Request<wire::GetBodyRequest>) -> Result<Response<wire::GetBodyResponse>, Status> {
        Err(Status::not_found("no body"))
    }

    async fn get_roster(
        &self,
        _: Request<wire::GetRosterRequest>,
    ) -> Result<Response<wire::GetRosterResponse>, Status> {
        self.0.rosters_asked.fetch_add(1, Ordering::SeqCst);
        match self.0.roster.lock().unwrap().clone() {
            Some((number, envelope)) => Ok(Response::new(wire::GetRosterResponse { number, envelope })),
            None => Err(Status::not_found("no roster")),
        }
    }

    async fn poke(&self, _: Request<wire::PokeRequest>) -> Result<Response<wire::PokeResponse>, Status> {
        Ok(Response::new(wire::PokeResponse {}))
    }
}
