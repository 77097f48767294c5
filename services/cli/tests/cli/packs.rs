//! The verbs of policy staff against a federation that runs: a pack comes into force by two persons, is explained, drawn,
//! tried out, decided again and taken back.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use campanile_cli::local::{Local, Options};
use campanile_discovery::{DirectoryConfig, SystemClock};
use serde_json::Value;

use super::Ran;
use super::live::{fire, ran};

const RULE: &str = "edb.school-closure.fire";

fn packs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/packs")
}

/// A client of edb, told once.
struct Officer<'f> {
    folder: &'f Path,
    node: String,
    name: &'static str,
}

impl Officer<'_> {
    async fn does(&self, words: &[&str]) -> Ran {
        let connection = format!(
            "--node {} --identity pki/edb/clients/{}.pem --roster pki/roster.json --development",
            self.node, self.name
        );
        ran(self.folder, words.iter().copied().chain(connection.split(' ')).map(String::from).collect()).await
    }

    async fn json(&self, words: &[&str]) -> Value {
        self.does(&[&["--json"], words].concat()).await.ends(0).json()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pack_comes_into_force_is_explained_drawn_replayed_and_taken_back() {
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
    let node = local.node("edb").unwrap().address().to_string();
    let officer = |name| Officer { folder: path, node: node.clone(), name };
    let (one, same, two) = (officer("duty-officer-1"), officer("duty-officer-1b"), officer("regional-officer-1"));

    let before = one.json(&["rules", "packs"]).await;
    let fire_pack = |packs: &Value| -> Value {
        let all = packs["packs"].as_array().unwrap();
        all.iter().find(|pack| pack["pack"] == "edb-fire").unwrap().clone()
    };
    let configured = fire_pack(&before);
    assert_eq!(configured["persons"], serde_json::json!([]), "{before}");

    // The data sets beside a pack go to the node with it.
    for file in ["edb-fire.rules.yaml", "harbour-view-sites.json"] {
        let text = std::fs::read_to_string(packs().join(file)).unwrap();
        std::fs::write(path.join(file), text.replace("closed because of a fire", "shut because of a fire")).unwrap();
    }
    let waits = one.json(&["rules", "activate", "edb-fire.rules.yaml"]).await;
    assert_eq!((&waits["active"], &waits["need"]), (&false.into(), &2.into()), "{waits}");
    let id = waits["id"].as_str().unwrap();
    let refused = same.does(&["rules", "approve", id]).await.ends(1);
    assert!(refused.stderr.contains("two certificates of one person are one"), "{refused:?}");
    assert!(one.does(&["rules", "packs"]).await.ends(0).stdout.contains(&format!("rules approve {id}")));
    let active = two.json(&["rules", "approve", id]).await;
    assert_eq!(active["active"], true, "{active}");
    let now = one.json(&["rules", "packs"]).await;
    assert_eq!(fire_pack(&now)["fallbackDigest"], configured["digest"], "{now}");

    let dot = one.does(&["rules", "graph", "--format", "dot"]).await.ends(0).stdout;
    assert!(dot.starts_with("digraph rules {") && dot.contains(RULE), "{dot}");
    assert!(one.does(&["rules", "graph", "--format", "mermaid"]).await.ends(0).stdout.starts_with("flowchart LR"));
    let page = one.does(&["rules", "graph", "--format", "html"]).await.ends(0).stdout;
    assert!(page.contains("<!DOCTYPE html>") && page.contains(RULE), "{page}");
    let yes = one.json(&["rules", "graph", "--why", "fire", "class-suspension"]).await;
    assert_eq!((&yes["possible"], &yes["way"][0]["id"]), (&true.into(), &RULE.into()), "{yes}");
    let no = one.does(&["rules", "graph", "--why", "class-suspension", "fire"]).await.ends(0);
    assert!(no.stdout.starts_with("no: "), "{no:?}");
    one.does(&["rules", "graph", "--why", "no-such-thing", "fire"]).await.ends(2);

    fire(&path.join("fire.xml"));
    let trial = one.json(&["rules", "what-if", "fire.xml", "--from", "fsd"]).await;
    assert!(trial["pending"][0]["textEn"].as_str().unwrap().contains("shut because of a fire"), "{trial}");
    let fsd = local.node("fsd").unwrap().address().to_string();
    let publish = format!(
        "alert publish fire.xml --node {fsd} --identity pki/fsd/clients/dispatch.pem --roster pki/roster.json --development"
    );
    ran(path, publish.split(' ').map(String::from).collect()).await.ends(0);
    let mut pending = Value::Null;
    for _ in 0..100 {
        pending = one.json(&["alert", "pending"]).await;
        if pending.as_array().is_some_and(|list| !list.is_empty()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let explained = one.json(&["rules", "explain", "FIRE-OF-THE-TEST", "--rule", RULE]).await;
    assert_eq!(explained["decisions"][0]["verdict"], "asked", "{explained}");
    let (proposal, shown) = (pending[0]["id"].as_str().unwrap(), pending[0]["shownHash"].as_str().unwrap());
    let wrong = one.does(&["rules", "approve", proposal]).await.ends(2);
    assert!(wrong.stderr.contains("alert approve"), "{wrong:?}");
    for officer in [&one, &two] {
        officer.does(&["alert", "approve", proposal, "--shown", shown]).await.ends(0);
    }
    let mut effects = Value::Null;
    for _ in 0..100 {
        effects = one.json(&["rules", "list"]).await["effects"].clone();
        if effects.as_array().is_some_and(|list| !list.is_empty()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let effect = effects[0]["identifier"].as_str().unwrap();
    let replayed = one.json(&["rules", "replay", effect]).await;
    assert_eq!((&replayed["same"], &replayed["rule"]["packDigest"]), (&true.into(), &active["digest"]), "{replayed}");
    one.does(&["rules", "replay", "FIRE-OF-THE-TEST"]).await.ends(1);
    let why = one.does(&["rules", "explain", effect]).await.ends(0);
    assert!(why.stdout.contains("because of FIRE-OF-THE-TEST"), "{why:?}");
    one.does(&["rules", "explain", "NO-SUCH"]).await.ends(1);

    one.does(&["rules", "shadow", "edb-fire.rules.yaml"]).await.ends(0);
    assert_eq!(one.json(&["rules", "packs"]).await["shadows"][0]["pack"], "edb-fire");
    one.does(&["rules", "shadow", "--end", "edb-fire"]).await.ends(0);
    one.does(&["rules", "shadow", "--end", "edb-fire"]).await.ends(1);

    one.does(&["rules", "rollback", "edb-fire", "--reason", "the wording"]).await.ends(0);
    assert_eq!(fire_pack(&one.json(&["rules", "packs"]).await)["digest"], configured["digest"]);
    one.does(&["rules", "rollback", "no-such-pack", "--reason", "r"]).await.ends(1);
    local.shutdown().await;
}
