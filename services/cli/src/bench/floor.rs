//! The floor: the same steps, bare. mTLS and gRPC as the project uses them; SHA-256, Ed25519, an appended file and one
//! `fdatasync` for all that waits. No parsing, no judgement, no rules, no index.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use campanile_alert::Clock;
use campanile_bus::transport::{self, Channels};
use campanile_discovery::keys::{Signature, SigningKey};
use campanile_discovery::tls::TlsMaterial;
use campanile_discovery::{MemoryHub, SystemClock};
use campanile_log::Hash;
use campanile_proto::bus::v1 as wire;
use campanile_proto::bus::v1::peer_service_client::PeerServiceClient;
use campanile_proto::bus::v1::peer_service_server::{PeerService, PeerServiceServer};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::project::{Project, Spawned, now_ns};
use super::stats::Sample;

const TYPE: &str = "application/vnd.campanile.floor";
/// The file is written in advance this far, so that an append changes no metadata.
const FILE_BYTES: u64 = 256 << 20;
/// How many appends share one sync at the most.
const GROUP_MAX: usize = 256;

/// A floor server.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A member's configuration, for its certificate and keys.
    #[arg(long)]
    config: PathBuf,
    /// The folder of the file.
    #[arg(long)]
    data: PathBuf,
    /// The server to pull from, as origin=host:port.
    #[arg(long)]
    from: Option<String>,
    /// Say on stdout when each record is durable.
    #[arg(long)]
    tell: bool,
}

/// Runs a floor server until it is killed.
///
/// # Errors
/// When it cannot start.
pub async fn run(args: Args) -> Result<()> {
    let config = super::project::read_member(&args.config)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let opened = config.open(&clock, &MemoryHub::new())?;
    let key = Arc::new(opened.keys.live);
    let (records, _) = broadcast::channel(16_384);
    let log = Log::open(&args.data)?;
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    let stop = tokio_util::sync::CancellationToken::new();
    let metrics = Arc::new(campanile_bus::metrics::Metrics::default());
    let incoming = transport::incoming(listener, &opened.material, metrics, stop);
    if let Some(from) = &args.from {
        tokio::spawn(pull(
            from.clone(),
            opened.material.clone(),
            log.clone(),
            Arc::clone(&key),
            records.clone(),
            args.tell,
        ));
    }
    let server = Server { key, log, records };
    super::project::say_ready(address)?;
    transport::server().add_service(PeerServiceServer::new(server)).serve_with_incoming(incoming).await?;
    Ok(())
}

/// The file, and the thread that appends and syncs.
#[derive(Clone)]
struct Log(Arc<LogInner>);

struct LogInner {
    queue: Mutex<Vec<(Vec<Bytes>, oneshot::Sender<()>)>>,
    wake: Condvar,
}

impl Log {
    fn open(dir: &std::path::Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut file =
            File::options().create(true).truncate(true).read(true).write(true).open(dir.join("floor.log"))?;
        let block = vec![0; 1 << 20];
        for _ in 0..FILE_BYTES >> 20 {
            file.write_all(&block)?;
        }
        file.sync_all()?;
        let log = Self(Arc::new(LogInner { queue: Mutex::default(), wake: Condvar::new() }));
        let inner = Arc::clone(&log.0);
        std::thread::Builder::new().name("floor-log".into()).spawn(move || inner.run(&file))?;
        Ok(log)
    }

    async fn append(&self, parts: Vec<Bytes>) {
        let (done, wait) = oneshot::channel();
        self.0.queue.lock().push((parts, done));
        self.0.wake.notify_one();
        // The thread ends only with the process.
        let _ended = wait.await;
    }
}

impl LogInner {
    fn run(&self, file: &File) {
        let mut at = 0;
        loop {
            let group: Vec<_> = {
                let mut queue = self.queue.lock();
                while queue.is_empty() {
                    self.wake.wait(&mut queue);
                }
                let take = queue.len().min(GROUP_MAX);
                queue.drain(..take).collect()
            };
            let mut buffer = Vec::new();
            for (parts, _) in &group {
                for part in parts {
                    buffer.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
                    buffer.extend_from_slice(part);
                }
            }
            if at + buffer.len() as u64 > FILE_BYTES {
                at = 0;
            }
            if file.write_all_at(&buffer, at).and_then(|()| file.sync_data()).is_err() {
                return;
            }
            at += buffer.len() as u64;
            for (_, done) in group {
                let _gone = done.send(());
            }
        }
    }
}

struct Server {
    key: Arc<SigningKey>,
    log: Log,
    records: broadcast::Sender<wire::Record>,
}

/// Hashes the body, makes a header of the size of a real one, and signs it.
fn seal(key: &SigningKey, body: Bytes) -> wire::Record {
    let header: Bytes = [Hash::of(&body).0.as_slice(), &[0; 180]].concat().into();
    let signature = key.sign(TYPE, &header);
    let signatures = campanile_bus::record::signatures_to_wire(&[signature]);
    wire::Record { header, body: Some(body), signatures }
}

#[tonic::async_trait]
impl PeerService for Server {
    type PullStream = ReceiverStream<Result<wire::PullResponse, Status>>;

    /// The stream of records, as soon as each is durable.
    async fn pull(
        &self,
        _request: Request<Streaming<wire::PullRequest>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let mut records = self.records.subscribe();
        let (sender, receiver) = mpsc::channel(1_024);
        tokio::spawn(async move {
            while let Ok(record) = records.recv().await {
                let kind = Some(wire::pull_response::Kind::Record(record));
                if sender.send(Ok(wire::PullResponse { kind })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    /// The publish of the floor: the request's bytes are the payload.
    async fn get_body(
        &self,
        request: Request<wire::GetBodyRequest>,
    ) -> Result<Response<wire::GetBodyResponse>, Status> {
        let record = seal(&self.key, request.into_inner().record_hash);
        let parts = vec![record.header.clone(), record.body.clone().unwrap_or_default()];
        self.log.append(parts).await;
        let body = record.header.slice(..32);
        drop(self.records.send(record));
        Ok(Response::new(wire::GetBodyResponse { body }))
    }

    async fn get_roster(
        &self,
        _request: Request<wire::GetRosterRequest>,
    ) -> Result<Response<wire::GetRosterResponse>, Status> {
        Err(Status::not_found("the floor has no roster"))
    }

    async fn poke(&self, _request: Request<wire::PokeRequest>) -> Result<Response<wire::PokeResponse>, Status> {
        Ok(Response::new(wire::PokeResponse {}))
    }
}

/// Takes records from the server before, verifies, appends, and hands an effect of its own on.
async fn pull(
    from: String,
    material: TlsMaterial,
    log: Log,
    key: Arc<SigningKey>,
    records: broadcast::Sender<wire::Record>,
    tell: bool,
) -> Result<()> {
    let (origin, address) = from.split_once('=').context("give origin=host:port")?;
    let origin = origin.parse()?;
    let roster = material.roster().current();
    let public = roster.live_keys(&origin).next().context("the origin has no key")?;
    let channel = Channels::new(material.clone()).to(&origin, address)?;
    let (sender, receiver) = mpsc::channel(1);
    let mut client = PeerServiceClient::new(channel);
    let mut stream = client.pull(ReceiverStream::new(receiver)).await?.into_inner();
    while let Some(Ok(message)) = stream.next().await {
        let Some(wire::pull_response::Kind::Record(record)) = message.kind else { continue };
        let good = record.signatures.first().is_some_and(|signature| {
            let key_id = public.id();
            public.verify(TYPE, &record.header, &Signature { key_id, value: signature.value.to_vec() }).is_ok()
        });
        let body = record.body.clone().unwrap_or_default();
        if !good || record.header.get(..32) != Some(&Hash::of(&body).0) {
            continue;
        }
        let (log, key, records) = (log.clone(), Arc::clone(&key), records.clone());
        tokio::spawn(async move {
            let id = body.slice(..body.len().min(8));
            let mut parts = vec![record.header.clone(), body.clone()];
            let effect = (!tell).then(|| seal(&key, body));
            if let Some(effect) = &effect {
                parts.extend([effect.header.clone(), effect.body.clone().unwrap_or_default()]);
            }
            log.append(parts).await;
            if let Some(effect) = effect {
                drop(records.send(effect));
            }
            if tell {
                super::project::tell(&hex::encode(id));
            }
        });
    }
    drop(sender);
    Ok(())
}

/// Floor servers as processes.
pub(super) struct Floor {
    servers: Vec<Spawned>,
    client: PeerServiceClient<tonic::transport::Channel>,
    next: std::sync::atomic::AtomicU64,
}

impl Floor {
    /// Starts one server, or a chain of three.
    pub(super) async fn start(project: &Project, servers: usize) -> Result<Self> {
        let members = ["fsd", "edb", "isd"];
        let mut started: Vec<Spawned> = Vec::new();
        for (at, member) in members.iter().take(servers).enumerate() {
            let mut arguments = vec![
                "bench-part".to_owned(),
                "floor".to_owned(),
                "--config".to_owned(),
                project.floor_config(member)?.display().to_string(),
                "--data".to_owned(),
                project.dir.join(format!("floor-{member}-{servers}")).display().to_string(),
            ];
            if let Some(before) = started.last() {
                let origin = Project::origin(members[at - 1]);
                arguments.extend(["--from".to_owned(), format!("{origin}={}", before.ready.address)]);
            }
            if at == 2 {
                arguments.push("--tell".to_owned());
            }
            started.push(Spawned::start(project, &format!("floor-{member}"), &arguments).await?);
        }
        let first = started.first().context("no server was asked for")?.ready.address.to_string();
        let material = project.material("edb/node-1")?;
        let channel = Channels::new(material).to(&"fsd/node-1".parse()?, &first)?;
        let floor = Self { servers: started, client: PeerServiceClient::new(channel), next: 1.into() };
        // The streams between the servers open in their own time.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(floor)
    }

    fn payload(&self, payload: &[u8]) -> (String, Bytes) {
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes();
        (hex::encode(id), [id.as_slice(), payload].concat().into())
    }

    /// Publishes `count` payloads, `at_once` at a time, and takes the time of each.
    pub(super) async fn publish(&self, payload: &[u8], count: u32, at_once: u32) -> Result<Sample> {
        let started = Instant::now();
        let mut tasks = Vec::new();
        for _ in 0..at_once {
            let mut client = self.client.clone();
            let payloads: Vec<_> = (0..count / at_once).map(|_| self.payload(payload).1).collect();
            tasks.push(tokio::spawn(async move {
                let mut latencies = Vec::new();
                for record_hash in payloads {
                    let begun = Instant::now();
                    client.get_body(wire::GetBodyRequest { record_hash }).await?;
                    latencies.push(begun.elapsed());
                }
                Ok::<_, Status>(latencies)
            }));
        }
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        Ok(Sample::new(latencies, started.elapsed()))
    }

    /// Publishes into the chain and waits for each at its end.
    pub(super) async fn chain(&self, payload: &[u8], count: u32, at_once: u32) -> Result<Sample> {
        let last = self.servers.last().context("no server runs")?;
        let client = &self.client;
        super::project::drive(last, count, at_once, |_| {
            let (id, record_hash) = self.payload(payload);
            let mut client = client.clone();
            async move {
                let begun = now_ns();
                client.get_body(wire::GetBodyRequest { record_hash }).await?;
                Ok((id, begun))
            }
        })
        .await
    }

    /// Ends the servers.
    pub(super) async fn stop(self) {
        for server in self.servers {
            server.stop().await;
        }
    }
}
