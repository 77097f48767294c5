//! The witness of `bench --peers`: NATS JetStream doing the work of a publish, over mutual TLS, on a file that is synced
//! before each acknowledgement (`sync_interval: always`), as Campanile syncs. It signs nothing, judges nothing and has no
//! permanent index.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use tokio::process::{Child, Command};

use super::project::Project;
use super::stats::Sample;

/// Names the server's program where it is not on the PATH.
const PROGRAM: &str = "CAMPANILE_NATS";
const READY_WITHIN: Duration = Duration::from_secs(20);
const SUBJECT: &str = "alerts.fsd";

/// A server of its own, and a connection to it.
pub(super) struct Nats {
    server: Child,
    context: jetstream::Context,
    /// What it says of itself.
    pub(super) version: String,
}

impl Nats {
    /// Starts the server with fsd's certificate, a store beside the bench's own, and one stream.
    pub(super) async fn start(project: &Project) -> Result<Self> {
        let program = std::env::var_os(PROGRAM).map_or_else(|| PathBuf::from("nats-server"), PathBuf::from);
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let (files, ca) = project.tls_files("fsd/node-1")?;
        let config = project.dir.join("nats.conf");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\n\
             jetstream {{ store_dir: \"{store}\", sync_interval: always }}\n\
             tls {{ cert_file: \"{chain}\", key_file: \"{key}\", ca_file: \"{ca}\", verify: true }}\n",
            store = project.dir.join("nats").display(),
            chain = files.chain.display(),
            key = files.key.display(),
            ca = ca.display(),
        );
        std::fs::write(&config, text)?;
        let log = std::fs::File::create(project.dir.join("nats.log"))?;
        let server = Command::new(&program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!("{} cannot be started; install nats-server, or name it in {PROGRAM}", program.display())
            })?;
        let options = || {
            async_nats::ConnectOptions::new()
                .require_tls(true)
                .add_root_certificates(ca.clone())
                .add_client_certificate(files.chain.clone(), files.key.clone())
        };
        let end = Instant::now() + READY_WITHIN;
        let client = loop {
            match options().connect(format!("tls://localhost:{port}")).await {
                Ok(client) => break client,
                Err(error) if Instant::now() >= end => {
                    let log = std::fs::read_to_string(project.dir.join("nats.log")).unwrap_or_default();
                    bail!("nats-server does not answer ({error}): {}", log.lines().last().unwrap_or("it said nothing"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let version = client.server_info().version;
        let context = jetstream::new(client);
        let stream = stream::Config {
            name: "alerts".into(),
            subjects: vec!["alerts.>".into()],
            storage: stream::StorageType::File,
            num_replicas: 1,
            ..stream::Config::default()
        };
        context.create_stream(stream).await.context("the stream cannot be made")?;
        Ok(Self { server, context, version })
    }

    /// Publishes `count` payloads, `at_once` at a time, and takes the time of each until it is acknowledged.
    pub(super) async fn publish(&self, payload: &[u8], count: u32, at_once: u32) -> Result<Sample> {
        let payload = Bytes::copy_from_slice(payload);
        let started = Instant::now();
        let mut tasks = Vec::new();
        for _ in 0..at_once {
            let (context, payload) = (self.context.clone(), payload.clone());
            tasks.push(tokio::spawn(async move {
                let mut latencies = Vec::new();
                for _ in 0..count / at_once {
                    let begun = Instant::now();
                    context.publish(SUBJECT, payload.clone()).await?.await?;
                    latencies.push(begun.elapsed());
                }
                Ok::<_, jetstream::context::PublishError>(latencies)
            }));
        }
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        Ok(Sample::new(latencies, started.elapsed()))
    }

    pub(super) async fn stop(mut self) {
        // It has ended already, or it ends now.
        let _ended = self.server.kill().await;
    }
}
