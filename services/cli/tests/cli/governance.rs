//! From keys to a signed roster, as governance and a joining department do it.

use std::path::Path;

use super::campanile;

/// A federation of two departments in `fed`, named as a plan would be by hand.
fn federation(folder: &Path) {
    campanile(folder, &["pki", "init", "fed", "--departments", "fsd,edb"]).ends(0);
}

#[test]
fn what_init_makes_verifies_and_has_a_profile_for_each_client() {
    let folder = tempfile::tempdir().unwrap();
    let made = campanile(folder.path(), &["--json", "pki", "init", "fed", "--departments", "fsd,edb"]).ends(0).json();
    assert_eq!(made["nodes"], serde_json::json!(["fsd/node-1", "edb/node-1"]));
    assert_eq!(made["profiles"].as_array().unwrap().len(), 8);
    let refused = campanile(folder.path(), &["roster", "verify", "fed/roster.json"]).ends(1);
    assert!(refused.stderr.contains("marked development"), "{refused:?}");
    campanile(folder.path(), &["roster", "verify", "fed/roster.json", "--development"]).ends(0);
    let again = campanile(folder.path(), &["pki", "init", "fed"]).ends(2);
    assert!(again.stderr.contains("exists already"), "{again:?}");
    // The client's own files are good; only the node is not there.
    let profile = "fed/edb/clients/officer-1.profile.yaml";
    let findings = campanile(folder.path(), &["--json", "doctor", "--profile", profile]).ends(1).json();
    let failed: Vec<_> = findings.as_array().unwrap().iter().filter(|f| f["state"] == "fail").collect();
    assert_eq!(failed.len(), 1, "{findings}");
    assert_eq!(failed[0]["check"], "node");
}

#[test]
fn a_department_joins_with_keys_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| campanile(folder.path(), args);
    federation(folder.path());
    let asked = run(&[
        "--json",
        "pki",
        "request",
        "own",
        "--department",
        "had",
        "--node",
        "node-1,node-1.had.example",
        "--client",
        "desk-1,publish,read",
        "--out",
        "had.request.json",
    ])
    .ends(0)
    .json();
    std::fs::write(
        folder.path().join("rights.yaml"),
        "- {events: [shelter-open], statuses: [Actual, Exercise], area: {everywhere: true}}\n",
    )
    .unwrap();
    let add = ["roster", "add", "had.request.json", "--rights", "rights.yaml", "--to", "fed/roster.json"];
    let added = run(&[&add[..], &["--out", "next.json"]].concat()).ends(0);
    assert!(added.stdout.contains("department had joins"), "{added:?}");
    assert!(added.stderr.contains(asked["caFingerprint"].as_str().unwrap()), "the fingerprint to compare: {added:?}");
    let verify =
        ["roster", "verify", "next.json", "--root", "fed/root.json", "--previous", "fed/roster.json", "--development"];
    let unsigned = run(&verify).ends(1);
    assert!(unsigned.stderr.contains("0 of the 1 governance signatures"), "{unsigned:?}");
    run(&["roster", "sign", "next.json", "--key", "fed/governance/key-1.key"]).ends(0);
    run(&verify).ends(0);
    let diff = run(&["roster", "diff", "fed/roster.json", "next.json"]).ends(0);
    assert!(diff.stdout.contains("department had joins") && diff.stdout.contains("shelter-open"), "{diff:?}");
    let same = run(&["roster", "diff", "next.json", "next.json"]).ends(0);
    assert_eq!(same.stdout, "");
    // A wrong hand does not make it good.
    run(&[&add[..], &["--out", "other.json"]].concat()).ends(0);
    run(&["roster", "sign", "other.json", "--key", "own/had/nodes/node-1/signing.key"]).ends(0);
    run(&["roster", "verify", "other.json", "--root", "fed/root.json", "--development"]).ends(1);
    // Twice in the roster it cannot be.
    let twice =
        run(&["roster", "add", "had.request.json", "--to", "next.json", "--root", "fed/root.json", "--out", "x.json"]);
    assert!(twice.ends(2).stderr.contains("stands in the roster already"));
    // The finished roster goes to the directory, and a changed one does not.
    std::fs::write(folder.path().join("directory.yaml"), "kind: file\npath: dir\n").unwrap();
    let publish = ["roster", "publish", "next.json", "--root", "fed/root.json", "--directory", "directory.yaml"];
    run(&publish).ends(2);
    run(&[&publish[..], &["--development"]].concat()).ends(0);
    let written = std::fs::read_to_string(folder.path().join("next.json")).unwrap();
    let changed = written.replacen("IiwKICAi", "IiwKICAj", 1);
    assert!(changed != written, "nothing was changed");
    std::fs::write(folder.path().join("next.json"), changed).unwrap();
    run(&verify).ends(1);
}

#[test]
fn renewal_gives_a_new_certificate_that_still_counts() {
    let folder = tempfile::tempdir().unwrap();
    federation(folder.path());
    let pem = folder.path().join("fed/edb/clients/officer-1.pem");
    let before = std::fs::read(&pem).unwrap();
    campanile(folder.path(), &["pki", "renew", "fed", "--department", "edb", "--client", "officer-1"]).ends(0);
    assert_ne!(std::fs::read(&pem).unwrap(), before);
    campanile(folder.path(), &["pki", "renew", "fed", "--department", "edb", "--node", "node-1"]).ends(0);
    let unknown = campanile(folder.path(), &["pki", "renew", "fed", "--department", "edb", "--client", "nobody"]);
    assert!(unknown.ends(2).stderr.contains("there is no client nobody"));
    let profile = "fed/edb/clients/officer-1.profile.yaml";
    let findings = campanile(folder.path(), &["--json", "doctor", "--profile", profile]).json();
    let certificate = findings.as_array().unwrap().iter().find(|f| f["check"] == "certificate").unwrap().clone();
    assert_eq!(certificate["state"], "ok", "{certificate}");
}

#[test]
fn a_plan_makes_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let readme = include_str!("../../README.md");
    let plan = readme.split("```yaml\n").nth(2).and_then(|rest| rest.split("```").next()).unwrap();
    std::fs::write(folder.path().join("plan.yaml"), plan).unwrap();
    let made = campanile(folder.path(), &["--json", "pki", "init", "fed", "--plan", "plan.yaml"]).ends(0).json();
    assert_eq!(made["nodes"], serde_json::json!(["edb/node-1"]));
    let profile = std::fs::read_to_string(folder.path().join("fed/edb/clients/duty-officer-1.profile.yaml")).unwrap();
    assert!(profile.contains("node-1.edb.example:7443"), "{profile}");
    let shown = campanile(folder.path(), &["roster", "show", "fed/roster.json"]).ends(0);
    assert!(shown.stdout.contains("signed by 2 of its 3 governance keys"), "{shown:?}");
    let config = serde_json::json!({
        "member": {
            "federation": "hongkong", "origin": "edb/node-1", "listen": "127.0.0.1:0", "data": "data",
            "certificate": "fed/edb/nodes/node-1/tls.pem", "certificate-key": "fed/edb/nodes/node-1/tls.key",
            "signing-key": "fed/edb/nodes/node-1/signing.key", "exercise-key": "fed/edb/nodes/node-1/exercise.key",
            "roster": "fed/roster.json", "development": true, "directory": {"kind": "file", "path": "dir"},
            "root": serde_json::from_slice::<serde_json::Value>(
                &std::fs::read(folder.path().join("fed/root.json")).unwrap()
            ).unwrap(),
        },
        "sender": "edb@example",
    });
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let doctor = |config: &serde_json::Value, code| {
        std::fs::write(folder.path().join("node.yaml"), config.to_string()).unwrap();
        campanile(folder.path(), &["--json", "doctor", "--config", "node.yaml"]).ends(code).json()
    };
    let findings = doctor(&config, 0);
    let state = |findings: &serde_json::Value, check: &str| {
        findings.as_array().unwrap().iter().find(|f| f["check"] == check).map(|f| f["state"].clone())
    };
    for check in ["configuration", "certificate", "signing key", "exercise key", "clock"] {
        assert_eq!(state(&findings, check), Some("ok".into()), "{check}: {findings}");
    }
    // The two keys exchanged, and a certificate of somebody else: both are found.
    let mut wrong = config.clone();
    wrong["member"]["signing-key"] = config["member"]["exercise-key"].clone();
    wrong["member"]["certificate"] = "fed/edb/clients/duty-officer-1.pem".into();
    let findings = doctor(&wrong, 1);
    assert_eq!(state(&findings, "signing key"), Some("fail".into()), "{findings}");
    assert_eq!(state(&findings, "certificate"), Some("fail".into()), "{findings}");
}
