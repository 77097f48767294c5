//! Over mutual TLS, with the certificates of a development federation: by the roster, by the own CAs, and from Python.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod node;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use campanile_alert::time::Clock as _;
use campanile_alert::{DepartmentId, OriginId};
use campanile_client::{Client, Code, Credentials, Expect, Options, Publish, Retry, RosterHandle};
use campanile_discovery::pki::{ClientPlan, DepartmentPlan, Federation, NodePlan, Plan, Validity};
use campanile_discovery::roster::{ClientId, OriginKind};
use campanile_discovery::{Acceptor, Identity, IdentityFiles, Role, SystemClock, TlsMaterial, tls};
use campanile_proto::bus::v1::alert_service_server::AlertServiceServer;
use node::{End, Node, Script, alert, cursor, heartbeat};
use tokio::net::TcpListener;
use tonic::Status;

fn department(id: &str) -> DepartmentId {
    DepartmentId::try_new(id).unwrap()
}

/// Two departments, each with a node and a client.
fn federation(dir: &Path) -> Federation {
    let plan = |id: &str| {
        let mut plan = DepartmentPlan::new(department(id));
        plan.nodes.push(NodePlan { name: "node-1".into(), kind: OriginKind::Node, hosts: vec![] });
        let roles = BTreeSet::from([Role::Publish, Role::Read]);
        plan.clients.push(ClientPlan { name: "system".into(), roles, person: None });
        plan
    };
    let plan = Plan {
        federation: "test".into(),
        departments: vec![plan("fsd"), plan("edb")],
        validity: Validity::development(SystemClock.now()),
        governance_keys: 1,
        threshold: 1,
    };
    Federation::create(dir, &plan).expect("a federation")
}

fn roster(federation: &Federation) -> RosterHandle {
    let bytes = federation.roster().unwrap();
    RosterHandle::open(federation.root().unwrap(), true, None, Some(&bytes)).expect("the roster")
}

fn files(federation: &Federation, id: &str) -> IdentityFiles {
    federation.client(&ClientId::try_new(department(id), "system").unwrap())
}

/// The node of `fsd`, on a free loopback port.
async fn serve(federation: &Federation, script: Arc<Script>) -> SocketAddr {
    let origin: OriginId = "fsd/node-1".parse().unwrap();
    let identity = Identity::load(&federation.node(&origin).tls).expect("the node's identity");
    let material = TlsMaterial::new(identity, roster(federation), Arc::new(SystemClock)).expect("the node's material");
    let acceptor = Acceptor::new(material, tls::Timeouts::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (taken, incoming) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, taken) = (acceptor.clone(), taken.clone());
            tokio::spawn(async move {
                if let Ok((stream, _)) = acceptor.accept(tcp).await {
                    let _closed = taken.send(Ok::<_, std::io::Error>(stream)).await;
                }
            });
        }
    });
    let incoming = tokio_stream::wrappers::ReceiverStream::new(incoming);
    let server = tonic::transport::Server::builder().add_service(AlertServiceServer::new(Node(script)));
    tokio::spawn(server.serve_with_incoming(incoming));
    address
}

fn by_roster(federation: &Federation, id: &str) -> Credentials {
    let identity = Identity::load(&files(federation, id)).expect("the client's identity");
    Credentials::roster(identity, roster(federation), Arc::new(SystemClock)).expect("good under the roster")
}

fn by_roots(federation: &Federation, id: &str, ca: &str) -> Credentials {
    let IdentityFiles { chain, key } = files(federation, id);
    let ca = federation.department(&department(ca)).ca_path();
    let read = |path: PathBuf| std::fs::read(path).expect("a PEM file");
    Credentials::roots(read(chain), read(key), read(ca))
}

#[tokio::test]
async fn both_kinds_of_trust_reach_the_expected_node() {
    let dir = tempfile::tempdir().unwrap();
    let federation = federation(dir.path());
    let address = serve(&federation, Arc::default()).await;
    let origin = Expect::Origin("fsd/node-1".parse().unwrap());
    for expect in [Expect::Department(department("fsd")), origin] {
        for credentials in [by_roster(&federation, "fsd"), by_roots(&federation, "fsd", "fsd")] {
            let client = Client::connect(Options::new(address.to_string(), credentials, expect.clone())).await;
            let client = client.expect("connected");
            let answer = client.publish(&Publish::cap_xml(b"<alert/>".to_vec())).await.expect("published");
            assert_eq!(answer.position.seq, 1);
        }
    }
}

#[tokio::test]
async fn somebody_else_is_refused_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let federation = federation(dir.path());
    let address = serve(&federation, Arc::default()).await;
    let other = Expect::Origin("fsd/node-2".parse().unwrap());
    let edb = Expect::Department(department("edb"));
    let fsd = Expect::Department(department("fsd"));
    for (credentials, expect) in [
        (by_roster(&federation, "fsd"), edb.clone()),
        (by_roster(&federation, "fsd"), other.clone()),
        (by_roots(&federation, "fsd", "fsd"), edb),
        (by_roots(&federation, "fsd", "fsd"), other),
        (by_roots(&federation, "fsd", "edb"), fsd),
    ] {
        let error = Client::connect(Options::new(address.to_string(), credentials, expect)).await.expect_err("refused");
        assert_eq!((error.code, error.retry), (Code::Unavailable, Retry::Terminal), "{error}");
    }
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let federation = federation(dir.path());
    let fsd = Expect::Department(department("fsd"));
    for endpoint in ["", "localhost", "http://[", "localhost:99999", "a b:1"] {
        let options = Options::new(endpoint, by_roots(&federation, "fsd", "fsd"), fsd.clone());
        assert!(Client::connect(options).await.expect_err("refused").to_string().contains("host:port"), "{endpoint}");
    }
    let empty = Credentials::roots(vec![], vec![], vec![]);
    let error = Client::connect(Options::new("localhost:1", empty, fsd.clone())).await.expect_err("no certificate");
    assert_eq!((error.code, error.retry), (Code::InvalidArgument, Retry::Terminal));
    let nobody = Options::new("127.0.0.1:1", by_roots(&federation, "fsd", "fsd"), fsd);
    assert_eq!(Client::connect(nobody).await.expect_err("nobody there").retry, Retry::Retryable);
}

/// A Python with grpcio-tools: `CAMPANILE_PYTHON`, or the one that `tests/run` installs.
fn python() -> Option<PathBuf> {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    let installed = PathBuf::from(target).join("test-tools/venv/bin/python");
    let python = std::env::var("CAMPANILE_PYTHON").map_or(installed, PathBuf::from);
    let found = Command::new(&python).args(["-c", "import grpc_tools"]).output().is_ok_and(|out| out.status.success());
    if !found {
        let required = std::env::var("CAMPANILE_TOOLS").as_deref() == Ok("required");
        assert!(!required, "CAMPANILE_TOOLS=required, but {} with grpcio-tools is missing", python.display());
        eprintln!("left out: {} with grpcio-tools is missing", python.display());
    }
    found.then_some(python)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_publishes_again_when_the_answer_is_lost_and_resumes_a_broken_watch() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let federation = federation(dir.path());
    let script = Arc::new(Script {
        publishes: Mutex::new([Status::unavailable("connection reset")].into()),
        streams: Mutex::new(
            [
                Ok((vec![alert(1), alert(2)], End::Break)),
                Ok((vec![alert(2), heartbeat(2), alert(3)], End::Close)),
                Ok((vec![alert(4)], End::Silence)),
            ]
            .into(),
        ),
        ..Script::default()
    });
    let address = serve(&federation, script.clone()).await;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python");
    let (generated, cap, kept) = (dir.path().join("generated"), dir.path().join("a.xml"), dir.path().join("cursor"));
    std::fs::write(&cap, "<alert/>").unwrap();
    let made = Command::new(&python).arg(source.join("generate.py")).arg(&generated).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let IdentityFiles { chain, key } = files(&federation, "fsd");
    let run = |arguments: Vec<String>| {
        let mut command = Command::new(&python);
        command.arg(source.join("client.py")).arg("--address").arg(address.to_string());
        command.arg("--ca").arg(federation.department(&department("fsd")).ca_path());
        command.arg("--cert").arg(&chain).arg("--key").arg(&key).args(["--server-name", "localhost"]);
        command.args(arguments).env("CAMPANILE_GENERATED", &generated).env("PYTHONDONTWRITEBYTECODE", "1");
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let text = |path: &Path| path.to_str().unwrap().to_owned();

    let out = run(vec!["publish".into(), "--cap".into(), text(&cap)]).await.unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one JSON line");
    assert_eq!(answer["duplicate"], true);
    assert_eq!(script.published.lock().unwrap().len(), 2);

    let limits = ["--count", "3", "--timeout", "20", "--cursor-file"].map(String::from);
    let mut arguments = vec!["watch".into(), "--from-start".into()];
    arguments.extend(limits.clone());
    arguments.push(text(&kept));
    let out = run(arguments).await.unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let seen = |out: &[u8]| -> Vec<String> {
        let lines = String::from_utf8_lossy(out).into_owned();
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("a JSON line");
        lines.lines().map(|text| line(text)["alert"]["identifier"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(seen(&out.stdout), ["fire-1", "fire-2", "fire-3"]);

    let again = ["watch", "--count", "1", "--timeout", "20", "--cursor-file"].map(String::from);
    let mut arguments = again.to_vec();
    arguments.push(text(&kept));
    let out = run(arguments).await.unwrap();
    assert_eq!(seen(&out.stdout), ["fire-4"], "{}", String::from_utf8_lossy(&out.stderr));
    let asked = script.watched.lock().unwrap();
    assert!(asked[0].from_start);
    assert_eq!(asked[1].after, Some(cursor(2)));
    assert_eq!(asked[2].after, Some(cursor(3)));
}
