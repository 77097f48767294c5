//! Every command of the operator's guide is run, in the order of the guide, as an operator would type it; and the sample
//! configuration beside it is read by the programs it is for.
#![allow(clippy::print_stderr, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest that the whole guide may take, in seconds.
const GUIDE_S_MAX: u32 = 180;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The folder of the `campanile` program that was built beside this test; absent when there is none.
fn program_folder() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let folder = test.parent()?.parent()?.to_owned();
    if folder.join("campanile").is_file() {
        return Some(folder);
    }
    let is_required = std::env::var("CAMPANILE_TOOLS").is_ok_and(|value| value == "required");
    assert!(
        !is_required,
        "CAMPANILE_TOOLS=required, but there is no campanile in {}; tests/run builds it",
        folder.display()
    );
    None
}

/// The blocks that open with `# test: NAME`, with their names.
fn blocks(guide: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    for part in guide.split("```sh\n").skip(1) {
        let code = part.split("\n```").next().unwrap_or_default();
        if let Some((first, rest)) = code.split_once('\n')
            && let Some(name) = first.strip_prefix("# test: ")
        {
            blocks.push((name.to_owned(), rest.to_owned()));
        }
    }
    blocks
}

#[test]
fn blocks_are_found_by_their_mark() {
    let found = blocks("a\n```sh\n# test: one\nx\ny\n```\n```sh\nnot this\n```\n```sh\n# test: two\nz\n```\n");
    assert_eq!(found, [("one".to_owned(), "x\ny".to_owned()), ("two".to_owned(), "z".to_owned())]);
}

/// Runs blocks in one shell, since later ones use what earlier ones define. What they started dies with it.
fn run(programs: &Path, folder: &Path, blocks: &[(String, String)], members: &[&str]) {
    let mut script = "set -euo pipefail\ntrap 'kill -KILL $(jobs -p) 2>/dev/null || true' EXIT\n".to_owned();
    for (name, code) in blocks {
        script += &format!("echo '== {name}' >&2\n{code}\n");
    }
    script += "trap - EXIT\necho '== done' >&2\n";
    std::fs::write(folder.join("guide.sh"), script).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("timeout")
        .args([&GUIDE_S_MAX.to_string(), "bash", "guide.sh"])
        .current_dir(folder)
        .env("PATH", path)
        .env_remove("CAMPANILE_PROFILE")
        .env_remove("CAMPANILE_NODE")
        .output()
        .expect("timeout and bash run");
    let said = String::from_utf8_lossy(&output.stderr);
    let logs: String = members
        .iter()
        .filter_map(|name| {
            let log = std::fs::read_to_string(folder.join(format!("{name}.log"))).ok()?;
            let lines: Vec<&str> = log.lines().collect();
            Some(format!("-- {name}\n{}\n", lines[lines.len().saturating_sub(15)..].join("\n")))
        })
        .collect();
    assert!(
        output.status.success() && said.trim_end().ends_with("== done"),
        "the guide stopped ({}):\n{said}\n{}\n{logs}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn every_command_of_the_operators_guide_works() {
    let Some(programs) = program_folder() else {
        eprintln!("LEFT OUT: no campanile program beside this test; build it, and the operator's guide is run");
        return;
    };
    let guide = std::fs::read_to_string(deploy().join("OPERATORS.md")).expect("the guide");
    let blocks = blocks(&guide);
    assert!(blocks.len() >= 8, "only {} blocks of the guide are marked as tests", blocks.len());
    let folder = tempfile::tempdir().unwrap();
    run(&programs, folder.path(), &blocks, &["edb", "fsd", "had"]);
}

/// The part of the policy staff's guide that needs a node: it ends with a rule in force, and with its end.
#[test]
fn the_policy_guide_ends_with_a_rule_in_force() {
    let Some(programs) = program_folder() else {
        eprintln!("LEFT OUT: no campanile program beside this test; build it, and the policy staff's guide is run");
        return;
    };
    let operators = std::fs::read_to_string(deploy().join("OPERATORS.md")).expect("the operator's guide");
    let policy = std::fs::read_to_string(deploy().join("../services/rules/README.md")).expect("the guide");
    let folder = tempfile::tempdir().unwrap();
    let pack = policy.split("```yaml\n").find(|part| part.starts_with("# file: library.rules.yaml")).expect("the pack");
    let pack = pack.split("\n```").next().unwrap_or_default();
    std::fs::write(folder.path().join("library.rules.yaml"), pack).unwrap();
    // The node is started as the operator's guide starts one; the port is another, since both guides may run at once.
    let (_, start) = blocks(&operators).into_iter().find(|(name, _)| name == "start").expect("how a node is started");
    let start = start.split("member edb/node-1").next().unwrap_or_default().replace("edb,fsd", "hko,lcsd");
    let start = format!("{start}\nmember lcsd/node-1 127.0.0.1:7449 fed/lcsd/nodes/node-1 > lcsd.yaml\nstart lcsd\n");
    let point = "sed -i 's/127.0.0.1:[0-9]*/127.0.0.1:7449/' fed/lcsd/clients/*.profile.yaml\n";
    let found = blocks(&policy);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["activate", "take-back"]);
    let mut all = vec![("start".to_owned(), start + point)];
    all.extend(found);
    let listed = "campanile rules packs --profile $one | grep -q 'library' && echo still >&2\n";
    all.insert(2, ("in force".to_owned(), listed.to_owned()));
    all.push(("end".to_owned(), "stop lcsd\n".to_owned()));
    run(&programs, folder.path(), &all, &["lcsd"]);
}

#[test]
fn the_sample_of_a_node_is_read() {
    let config = campanile_node::Config::load(&deploy().join("node.sample.yaml")).expect("the sample");
    assert_eq!(config.member.root.keys.len(), 3);
    assert!(config.member.certificate.ends_with("edb/nodes/node-1/tls.pem"), "paths are relative to the file");
    assert!(!config.member.development, "a sample for a real node does not accept development rosters");
}

#[test]
fn the_sample_of_a_gateway_is_read() {
    let config =
        campanile_cli::node_run::GatewayConfig::load(&deploy().join("gateway.sample.yaml")).expect("the sample");
    assert_eq!(config.gateway.channels.len(), 1);
    assert!(config.gateway.exercises.is_some_and(|exercises| exercises.http != config.gateway.http));
}

/// A pack that closes libraries in a typhoon, by rows that a spreadsheet edits.
const LIBRARY: &str = r#"
pack: library
owner: lcsd
vocabulary: alert-v1
areas:
  hk-all:
    name: {en: Hong Kong, zh-Hant: 全港}
    polygon: "22.13,113.82 22.13,114.45 22.57,114.45 22.57,113.82 22.13,113.82"
texts:
  closed:
    zh-Hant: {headline: "全港圖書館閉館", instruction: "請勿前往圖書館。", retract: "全港圖書館重新開放。"}
    en: {headline: "Libraries across Hong Kong are closed", instruction: "Do not go to a library.", retract: "Libraries across Hong Kong are open again."}
rules:
- rule: lcsd.library.closed
  title: {en: Close libraries in a typhoon, zh-Hant: 颱風時圖書館閉館}
  source: [{text: Service notice on arrangements in bad weather}]
  cause: {event: weather-signal, from: [hko], signal: [TC3, TC8, TC9, TC10]}
  table: library.csv
  then: {severity: Minor, area: hk-all, texts: {venue-closed: closed}}
  approve: {need: 0, reason: the notice is published and leaves no discretion}
  until: {cause: ends, linger: 2h, then: cancel, max: 72h}
"#;

#[test]
fn a_node_takes_a_pack_with_the_table_beside_it_and_says_when_the_table_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("library.rules.yaml");
    std::fs::write(&path, LIBRARY).unwrap();
    let mut config = campanile_node::Config::load(&deploy().join("node.sample.yaml")).expect("the sample");
    config.packs = vec![path];
    let library = campanile_node::rules::Library::memory();
    let missing = config.load_packs(&library).expect_err("a pack without its table").to_string();
    assert!(missing.contains("library.csv"), "{missing}");
    std::fs::write(folder.path().join("library.csv"), "signal,issue,kinds\nTC3,none,\nTC8 TC9 TC10,venue-closed,\n")
        .unwrap();
    let packs = config.load_packs(&library).expect("a pack");
    let (ready, warnings) = packs[0].read(&library).expect("what the node keeps of it");
    assert_eq!((ready.pack.name.as_str(), warnings.len()), ("library", 0), "{warnings:?}");
}
