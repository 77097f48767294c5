//! A department that misbehaves: it holds its own keys and certificate and serves what the test puts into its log.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use campanile_alert::{OriginId, Timestamp};
use campanile_bus::record::{self, Draft, Seal};
use campanile_discovery::keys::SigningKey;
use campanile_discovery::{Identity, RosterHandle, TlsMaterial};
use campanile_log::{Hash, Lane, LogId, Slot};
use campanile_proto::bus::v1 as wire;
use campanile_proto::bus::v1::peer_service_server::{PeerService, PeerServiceServer};
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::Cluster;

/// The epoch of everything it writes.
const EPOCH: u64 = 1 << 20;

/// One of its logs, as the test wrote it.
#[derive(Debug, Clone, Default)]
struct Script {
    records: Vec<(u64, Hash, wire::Record)>,
}

type Scripts = HashMap<Lane, Script>;

/// The running program.
#[derive(Debug)]
pub struct Hostile {
    /// Who it is.
    pub origin: OriginId,
    /// Where it listens.
    pub address: SocketAddr,
    /// The key of its live lanes.
    pub live: SigningKey,
    /// The key of its exercises.
    pub exercise: SigningKey,
    federation: String,
    roster: RosterHandle,
    scripts: Arc<watch::Sender<Scripts>>,
    stop: CancellationToken,
}

impl Hostile {
    /// Starts `origin` with the keys that the cluster's plan made for it; `victim` lends its view of the roster.
    ///
    /// # Errors
    /// When keys or certificate cannot be read or no address is free.
    pub async fn start(cluster: &Cluster, origin: &str, victim: &str) -> Result<Self> {
        let origin: OriginId = origin.parse()?;
        let files = cluster.federation.node(&origin);
        let bus = cluster.bus(victim)?;
        let roster = bus.roster().clone();
        let material = TlsMaterial::new(Identity::load(&files.tls)?, roster.clone(), cluster.time.clock())?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let scripts = Arc::new(watch::channel(Scripts::new()).0);
        let incoming = campanile_bus::transport::incoming(listener, &material, Arc::default(), stop.clone());
        let service =
            PeerServiceServer::new(Serve { scripts: Arc::clone(&scripts) }).max_encoding_message_size(8 << 20);
        let serving = campanile_bus::transport::server()
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        tokio::spawn(serving);
        let federation = bus.federation().to_owned();
        let (live, exercise) = (files.signing_key()?, files.exercise_key()?);
        Ok(Self { origin, address, live, exercise, federation, roster, scripts, stop })
    }

    /// Tells a victim where it is.
    ///
    /// # Errors
    /// When the victim does not run here.
    pub fn lure(&self, cluster: &Cluster, victim: &str) -> Result<()> {
        cluster.bus(victim)?.pullers().set_addresses(&self.origin, vec![self.address.to_string()]);
        Ok(())
    }

    /// Where the next record of a lane goes.
    pub fn slot(&self, lane: Lane) -> Slot {
        let scripts = self.scripts.borrow();
        match scripts.get(&lane).and_then(|script| script.records.last()) {
            None => Slot { epoch: EPOCH, seq: 1, previous: Hash::ZERO, link: None },
            Some((seq, hash, _)) => Slot { epoch: EPOCH, seq: seq + 1, previous: *hash, link: None },
        }
    }

    /// Seals a draft for a lane as an honest node would, but with any key.
    pub fn seal(&self, draft: &Draft, lane: Lane, time: Timestamp, key: &SigningKey) -> wire::Record {
        let roster = self.roster.current().number;
        let seal = Seal { federation: &self.federation, origin: &self.origin, roster, time, key, salt: [7; 16] };
        let log = LogId::new(self.origin.to_string(), lane);
        let (sealed, _) = seal.seal(draft, &log, self.slot(lane));
        let signatures = record::open_signatures(&sealed.signatures).unwrap_or_default();
        wire::Record {
            header: sealed.header,
            body: Some(sealed.body),
            signatures: record::signatures_to_wire(&signatures),
        }
    }

    /// Changes the header of a record and signs it again: what no honest node would say, said with the right key.
    ///
    /// # Errors
    /// When the record's own header is not readable.
    pub fn reword(
        &self,
        record: wire::Record,
        key: &SigningKey,
        change: impl FnOnce(&mut wire::RecordHeader),
    ) -> Result<wire::Record> {
        use prost::Message as _;
        let mut header = wire::RecordHeader::decode(record.header.clone())?;
        change(&mut header);
        let header: bytes::Bytes = header.encode_to_vec().into();
        let signature = key.sign(record::PAYLOAD_TYPE, &header);
        Ok(wire::Record { header, signatures: record::signatures_to_wire(&[signature]), ..record })
    }

    /// Puts a record at the end of a lane and serves it.
    pub fn push(&self, lane: Lane, record: wire::Record) -> Hash {
        let hash = Hash::of(&record.header);
        let seq = self.slot(lane).seq;
        self.scripts.send_modify(|scripts| scripts.entry(lane).or_default().records.push((seq, hash, record)));
        hash
    }

    /// Takes the last record of a lane back.
    ///
    /// # Errors
    /// When the lane is empty.
    pub fn pop(&self, lane: Lane) -> Result<wire::Record> {
        let mut last = None;
        self.scripts.send_modify(|scripts| last = scripts.entry(lane).or_default().records.pop());
        Ok(last.context("the lane is empty")?.2)
    }

    /// Ends it.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Serve {
    scripts: Arc<watch::Sender<Scripts>>,
}

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
        let mut after = start.after.map_or(0, |position| position.seq);
        let mut scripts = self.scripts.subscribe();
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            let mut requests = std::pin::pin!(requests.take_while(Result::is_ok));
            loop {
                let script = scripts.borrow_and_update().get(&lane).cloned().unwrap_or_default();
                for (seq, _, record) in &script.records {
                    if *seq <= after {
                        continue;
                    }
                    after = *seq;
                    let kind = Some(wire::pull_response::Kind::Record(record.clone()));
                    if sender.send(Ok(wire::PullResponse { kind })).await.is_err() {
                        return;
                    }
                }
                let beat = tokio::time::sleep(Duration::from_secs(2));
                tokio::select! {
                    changed = scripts.changed() => if changed.is_err() { return },
                    credit = requests.next() => if credit.is_none() { return },
                    () = beat => {
                        let kind = Some(wire::pull_response::Kind::Bookmark(wire::Bookmark::default()));
                        if sender.send(Ok(wire::PullResponse { kind })).await.is_err() {
                            return;
                        }
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
        Err(Status::not_found("no roster"))
    }

    async fn poke(&self, _: Request<wire::PokeRequest>) -> Result<Response<wire::PokeResponse>, Status> {
        Ok(Response::new(wire::PokeResponse {}))
    }
}
