//! The verbs against a federation that runs: a fire is published, followed, answered, and its log verified.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use campanile_alert::xml::{self, Limits};
use campanile_alert::{Clock as _, DateTime};
use campanile_cli::local::{Local, Options};
use campanile_discovery::{DirectoryConfig, SystemClock};

use super::{Ran, campanile};

pub(super) const FIRE: &[u8] = include_bytes!("../../data/harbour-view-fire.cap.xml");

/// The shipped fire, moved to now.
pub(super) fn fire(path: &Path) -> String {
    let now = SystemClock.now();
    let mut alert = xml::read(FIRE, &Limits::default()).unwrap().messages.remove(0).result.unwrap();
    alert.identifier = "FIRE-OF-THE-TEST".into();
    alert.sent = DateTime::from_instant(now, 480);
    for info in &mut alert.infos {
        info.effective = None;
        info.onset = None;
        info.expires = Some(DateTime::from_instant(now + std::time::Duration::from_secs(3_600), 480));
    }
    std::fs::write(path, xml::write(&alert)).unwrap();
    alert.id().to_string()
}

pub(super) async fn ran(folder: &Path, args: Vec<String>) -> Ran {
    let folder = folder.to_path_buf();
    let run = move || campanile(&folder, &args.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fire_is_published_followed_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let options = Options {
        dir: path.into(),
        directory: DirectoryConfig::Memory,
        without: Vec::new(),
        mqtt: None,
        http: SocketAddr::from(([127, 0, 0, 1], 0)),
        metrics: false,
    };
    let local = Local::start(&options, Arc::new(SystemClock)).await.unwrap();
    let [fsd, edb] = ["fsd", "edb"].map(|department| local.node(department).unwrap().address().to_string());
    let as_client = |department: &str, client: &str, node: &str, args: &[&str]| {
        let connection = format!(
            "--node {node} --identity pki/{department}/clients/{client}.pem --roster pki/roster.json --development"
        );
        let words = args.iter().copied().chain(connection.split(' '));
        ran(path, words.map(String::from).collect())
    };

    let id = fire(&path.join("fire.xml"));
    let published =
        as_client("fsd", "dispatch", &fsd, &["--json", "alert", "publish", "fire.xml"]).await.ends(0).json();
    assert_eq!(published["duplicate"], false);
    let again = as_client("fsd", "dispatch", &fsd, &["--json", "alert", "publish", "fire.xml"]).await.ends(0).json();
    assert_eq!((&again["duplicate"], &again["position"]), (&true.into(), &published["position"]));
    let reader = as_client("fsd", "reader", &fsd, &["alert", "publish", "fire.xml"]).await.ends(1);
    assert!(reader.stderr.contains("role"), "{reader:?}");

    let watched = as_client(
        "edb",
        "duty-officer-1",
        &edb,
        &["--json", "alert", "watch", "--from-start", "--count", "1", "--from", "fsd", "--cursor", "cursor"],
    )
    .await
    .ends(0);
    assert_eq!(watched.json()["alert"]["identifier"], "FIRE-OF-THE-TEST");
    assert!(path.join("cursor").exists());

    // Nobody has signed the envelope, so the closure waits for two persons.
    let mut pending = serde_json::Value::Null;
    for _ in 0..50 {
        pending = as_client("edb", "duty-officer-1", &edb, &["--json", "alert", "pending"]).await.ends(0).json();
        if pending.as_array().is_some_and(|list| !list.is_empty()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let (proposal, shown) = (pending[0]["id"].as_str().unwrap(), pending[0]["shownHash"].as_str().unwrap());
    let stale = ["alert", "approve", proposal, "--shown", &"0".repeat(64)];
    as_client("edb", "duty-officer-1", &edb, &stale).await.ends(1);
    let approve = ["--json", "alert", "approve", proposal, "--shown", shown];
    as_client("edb", "duty-officer-1", &edb, &approve).await.ends(0);
    as_client("edb", "regional-officer-1", &edb, &approve).await.ends(0);

    let mut trace = serde_json::Value::Null;
    for _ in 0..50 {
        trace = as_client("edb", "duty-officer-1", &edb, &["--json", "trace", &id]).await.ends(0).json();
        if trace["roots"][0]["effects"].as_array().is_some_and(|effects| !effects.is_empty()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let effect = &trace["roots"][0]["effects"][0];
    assert_eq!(effect["held"]["event"], "class-suspension", "{trace}");
    let tree = as_client("edb", "duty-officer-1", &edb, &["trace", "FIRE-OF-THE-TEST"]).await.ends(0);
    assert!(tree.stdout.contains("fsd fire") && tree.stdout.contains("─ edb class-suspension"), "{}", tree.stdout);
    let list = as_client("edb", "duty-officer-1", &edb, &["--json", "alert", "list"]).await.ends(0).json();
    assert!(list.as_array().unwrap().len() >= 2, "{list}");
    as_client("edb", "duty-officer-1", &edb, &["alert", "get", &id]).await.ends(0);
    as_client("edb", "duty-officer-1", &edb, &["alert", "get", "NO-SUCH"]).await.ends(1);

    let rule = "edb.school-closure.fire";
    as_client("edb", "duty-officer-1", &edb, &["rules", "pause", rule, "--reason", "a test"]).await.ends(0);
    let rules = as_client("edb", "duty-officer-1", &edb, &["--json", "rules", "list"]).await.ends(0).json();
    assert_eq!(rules["rules"][0]["paused"], true, "{rules}");
    as_client("edb", "duty-officer-1", &edb, &["rules", "resume", rule]).await.ends(0);
    as_client("edb", "duty-officer-1", &edb, &["rules", "pause", "no.such", "--reason", "r"]).await.ends(1);
    for verb in ["status", "peers", "lag"] {
        let ran = as_client("edb", "duty-officer-1", &edb, &[verb]).await.ends(0);
        assert!(!ran.stdout.is_empty(), "{verb}: {ran:?}");
    }
    let doctor = as_client("edb", "duty-officer-1", &edb, &["--json", "doctor"]).await.ends(0).json();
    assert!(doctor.as_array().unwrap().iter().any(|f| f["check"] == "peer fsd/node-1"), "{doctor}");
    let cancel = ["alert", "cancel", &id, "--reason", "the fire is out"];
    as_client("fsd", "dispatch", &fsd, &cancel).await.ends(0);

    bundle(path).await;
    local.shutdown().await;
}

/// The node's log, exported while it runs, verifies offline; changed in one place, it does not.
async fn bundle(path: &Path) {
    let run = |args: &str| ran(path, args.split(' ').map(String::from).collect());
    let export = "log export --store data/edb --roster pki/roster.json --out edb.bundle";
    run(export).await.ends(0);
    run(export).await.ends(2);
    let verified = run("--json log verify edb.bundle --root pki/root.json").await.ends(0).json();
    assert_eq!(
        (&verified["sound"], &verified["signatures"], &verified["vouched"]),
        (&true.into(), &true.into(), &true.into())
    );
    assert!(verified["entries"].as_u64().is_some_and(|n| n >= 4), "{verified}");
    let whole = std::fs::read_to_string(path.join("edb.bundle")).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let changed = |find: &str, change: &dyn Fn(&str) -> String| -> String {
        let at = lines.iter().position(|line| line.contains(find)).unwrap();
        let swap = |(n, line): (usize, &&str)| if n == at { change(line) } else { (*line).to_owned() };
        lines.iter().enumerate().map(swap).map(|line| line + "\n").collect()
    };
    let flip = |part: &'static str| {
        move |line: &str| {
            let (head, tail) = line.split_once(&format!("\"{part}\":\"")).unwrap();
            let first = if tail.starts_with('A') { "B" } else { "A" };
            format!("{head}\"{part}\":\"{first}{}", tail.chars().skip(1).collect::<String>())
        }
    };
    for part in ["header", "body", "signatures"] {
        std::fs::write(path.join("changed.bundle"), changed("{\"entry\"", &flip(part))).unwrap();
        let ran = run("--json log verify changed.bundle --root pki/root.json").await.ends(1).json();
        let place = ran["faults"][0]["place"].as_str().unwrap_or_default();
        assert!(place.contains(":") && place.contains('/'), "{part}: {ran}");
    }
    std::fs::write(path.join("cut.bundle"), lines[..lines.len() - 2].join("\n")).unwrap();
    run("log verify cut.bundle --root pki/root.json").await.ends(1);
    run("log verify data/edb --root pki/root.json").await.ends(0);
    // Another federation's root keys vouch for nothing here.
    run("pki init other --departments edb").await.ends(0);
    let other = run("log verify edb.bundle --root other/root.json").await.ends(1);
    assert!(other.stdout.contains("governance signatures"), "{other:?}");
    run("log verify edb.bundle --chain-only").await.ends(0);
}
