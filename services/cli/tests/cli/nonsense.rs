//! Nonsense for every verb: one clear sentence that says what to do, the right exit code, nothing on stdout, no panic.

use std::path::Path;

use super::{Ran, campanile};

const GARBAGE: &[u8] = b"\x00\xff\xfe\x1b[2J\x80 not anything { [ <";

/// A failure in the house's form.
#[track_caller]
fn told(ran: Ran, code: i32) -> Ran {
    let ran = ran.ends(code);
    assert_eq!(ran.stdout, "", "{ran:?}");
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 1, "one sentence: {ran:?}");
    assert!(lines[0].starts_with("error: ") && lines[0].contains("; "), "with a remedy: {ran:?}");
    assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains("os error 2; os"), "{ran:?}");
    ran
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    put("garbage", GARBAGE);
    put("wrong.json", b"{\"wrong\": [1, 2, 3]}");
    put("list.json", b"[]");
    put("empty", b"");
    put("deep.json", "[".repeat(200_000).as_bytes());
    put("wrong.yaml", b"what: {is: this}\n");
    put("wrong.xml", b"<html><body>502 Bad Gateway</body></html>");
    put("entity.xml", b"<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><alert>&x;</alert>");
    folder
}

/// The verbs that read one file, up to where the file stands.
const READERS: &[(&[&str], &[&str])] = &[
    (&["alert", "convert"], &["--to", "json"]),
    (&["alert", "publish"], &["--node", "127.0.0.1:1"]),
    (&["roster", "diff", "wrong.json"], &[]),
    (&["roster", "show"], &[]),
    (&["roster", "verify"], &[]),
    (&["roster", "add"], &["--to", "wrong.json", "--out", "out.json"]),
    (&["roster", "add", "wrong.json", "--to"], &["--out", "out.json"]),
    (&["roster", "rights", "edb", "--rights"], &["--to", "wrong.json", "--out", "out.json"]),
    (&["roster", "sign", "wrong.json", "--key"], &[]),
    (&["roster", "sign"], &["--key", "wrong.json"]),
    (&["roster", "publish"], &["--etcd", "http://127.0.0.1:1"]),
    (&["pki", "init", "new", "--plan"], &[]),
    (&["pki", "request", "new", "--out", "out.json", "--plan"], &[]),
    (&["log", "verify"], &[]),
    (&["log", "verify", "wrong.json", "--root"], &[]),
    (&["log", "export", "--out", "out.bundle", "--store"], &[]),
    (&["source", "cap", "--file", "wrong.xml", "--mapping"], &["--once"]),
    (&["source", "hko", "--folder", ".", "--config"], &["--once"]),
    (&["status", "--profile"], &[]),
    (&["doctor", "--profile"], &[]),
    (&["up", "--once", "--cap"], &[]),
    (&["rules", "activate"], &["--node", "127.0.0.1:1"]),
    (&["rules", "shadow"], &["--node", "127.0.0.1:1"]),
    (&["rules", "what-if"], &["--node", "127.0.0.1:1"]),
    (&["node", "run", "--config"], &[]),
    (&["gateway", "run", "--config"], &[]),
];

#[test]
fn files_that_are_not_what_they_should_be() {
    let folder = folder();
    let files = [
        "missing",
        "garbage",
        "wrong.json",
        "list.json",
        "empty",
        "deep.json",
        "wrong.yaml",
        "wrong.xml",
        "entity.xml",
        ".",
    ];
    for (before, after) in READERS {
        for file in files {
            let args = [before, &[file][..], after].concat();
            let ran = campanile(folder.path(), &args);
            // An empty list and an empty file configure what has a default for everything.
            let by_default =
                (before[0] == "source" && before[1] == "hko") || before[0] == "status" || before[0] == "doctor";
            if by_default && file == "empty" {
                assert!(ran.code != 101 && !ran.stderr.contains("panicked"), "{args:?}: {ran:?}");
                continue;
            }
            eprintln!("{args:?}: {}", ran.stderr.trim());
            told(ran, 2);
        }
    }
    for left in ["out.json", "out.bundle"] {
        assert!(!folder.path().join(left).exists(), "{left} was written");
    }
}

#[test]
fn checks_judge_nonsense_and_do_not_break() {
    let folder = folder();
    for file in ["garbage", "wrong.json", "empty", "deep.json", "wrong.xml", "entity.xml"] {
        let ran = campanile(folder.path(), &["alert", "check", file]).ends(1);
        assert!(ran.stdout.contains("refused"), "{ran:?}");
        assert!(!ran.stdout.contains("root:"), "{ran:?}");
        let ran = campanile(folder.path(), &["rules", "check", file]).ends(1);
        assert!(ran.stdout.contains("errors"), "{ran:?}");
        let json = campanile(folder.path(), &["--json", "rules", "check", file]).ends(1).json();
        assert_eq!(json["passed"], false);
        let doctor = campanile(folder.path(), &["--json", "doctor", "--config", file]).ends(1).json();
        assert_eq!(doctor[0]["state"], "fail", "{doctor}");
        assert!(doctor[0]["next"].is_string());
    }
    told(campanile(folder.path(), &["alert", "check", "missing"]), 2);
    told(campanile(folder.path(), &["rules", "check", "missing"]), 2);
}

/// The verbs that ask a node, without their connection.
const ASKERS: &[&[&str]] = &[
    &["status"],
    &["peers"],
    &["lag"],
    &["trace", "X-1"],
    &["alert", "get", "X-1"],
    &["alert", "list"],
    &["alert", "watch", "--count", "1"],
    &["alert", "ack", "a@b,X-1,2026-01-01T00:00:00+08:00"],
    &["alert", "cancel", "X-1", "--reason", "r"],
    &["alert", "pending"],
    &["alert", "approve", "p", "--shown", "0000000000000000000000000000000000000000000000000000000000000000"],
    &["rules", "list"],
    &["rules", "pause", "r", "--reason", "r"],
    &["rules", "resume", "r"],
    &["rules", "envelope", "r", "--until", "2027-01-01T00:00:00Z"],
    &["rules", "packs"],
    &["rules", "approve", "0000000000000000000000000000000000000000000000000000000000000000"],
    &["rules", "rollback", "p", "--reason", "r"],
    &["rules", "shadow", "--end", "p"],
    &["rules", "graph"],
    &["rules", "graph", "--why", "fire", "edb"],
    &["rules", "explain", "X-1", "--not"],
    &["rules", "what-if", "wrong.xml"],
    &["rules", "replay", "X-1"],
    &["source", "hko", "--folder", ".", "--once"],
];

fn asked(folder: &Path, verb: &[&str], connection: &[&str]) -> Ran {
    campanile(folder, &[verb, connection].concat())
}

#[test]
fn a_node_that_is_not_named_not_known_or_not_there() {
    let folder = folder();
    campanile(folder.path(), &["pki", "init", "fed", "--departments", "edb"]).ends(0);
    let profile = "fed/edb/clients/officer-1.profile.yaml";
    for verb in ASKERS {
        let nowhere = told(asked(folder.path(), verb, &[]), 2);
        assert!(nowhere.stderr.contains("--node HOST:PORT"), "{nowhere:?}");
        let nobody = told(asked(folder.path(), verb, &["--node", "127.0.0.1:1"]), 2);
        assert!(nobody.stderr.contains("--identity"), "{nobody:?}");
    }
    for verb in [ASKERS[0], ASKERS[5], ASKERS[11]] {
        let away = told(asked(folder.path(), verb, &["--profile", profile, "--node", "127.0.0.1:1"]), 2);
        assert!(away.stderr.contains("failed to reach the node at 127.0.0.1:1"), "{away:?}");
    }
    for wrong in [
        &["--node", "not an address at all"][..],
        &["--department", "EDB"],
        &["--department", "edb/"],
        &["--identity", "garbage"],
        &["--key", "garbage"],
        &["--roster", "garbage"],
        &["--root", "wrong.json"],
    ] {
        told(asked(folder.path(), &["status", "--profile", profile], wrong), 2);
    }
}

#[test]
fn words_that_are_not_words() {
    let folder = folder();
    for args in [
        &["alert", "list", "--status", "Real"][..],
        &["alert", "list", "--severity", "awful"],
        &["alert", "list", "--from", "EDB"],
        &["alert", "list", "--exercise", "a b"],
        &["alert", "get", "a,b"],
        &["alert", "get", ""],
        &["alert", "watch", "--count", "-1"],
        &["alert", "check"],
        &["alert", "check", "x", "--now", "2026-01-01T00:00:00Z"],
        &["alert", "convert", "x", "--to", "pdf"],
        &["pki", "init", "new", "--departments", "Ä"],
        &["pki", "init", "new", "--days", "0"],
        &["source", "hko", "--interval", "0"],
        &["rules", "graph", "--format", "pdf"],
        &["rules", "graph", "--why", "fire"],
        &["rules", "graph", "--why", "a", "b", "--format", "dot"],
        &["rules", "shadow"],
        &["rules", "shadow", "p.yaml", "--end", "p"],
        &["rules", "rollback", "p"],
        &["rules", "explain", "a,b"],
        &["rules", "replay", "a b"],
        &["rules", "what-if", "wrong.xml", "--from", "EDB"],
        &["nonsense"],
        &["--json"],
        &[],
    ] {
        let ran = campanile(folder.path(), args).ends(2);
        assert_eq!(ran.stdout, "", "{args:?}: {ran:?}");
        assert!(
            ran.stderr.contains("Usage") || ran.stderr.contains("--help") || ran.stderr.contains("error:"),
            "{ran:?}"
        );
    }
    for args in [
        &["alert", "check", "wrong.xml", "--bus", "--now", "yesterday"][..],
        &["alert", "approve", "p", "--shown", "xyz"],
        &["rules", "pause", "r", "--reason", "r", "--until", "soon"],
        &["rules", "envelope", "r", "--until", "2026-13-01T00:00:00Z"],
        &["rules", "approve", "not-an-id"],
        &["rules", "approve", "00000000000000000000000000000000"],
        &["roster", "revoke", "edb", "zz", "--to", "x", "--out", "y"],
        &["pki", "init", "new", "--departments", "edb,edb"],
        &["pki", "request", "new", "--department", "edb", "--node", "BAD NAME", "--out", "o.json"],
        &["pki", "request", "new", "--department", "edb", "--node", "n", "--client", "c,king", "--out", "o.json"],
        &["pki", "renew", "nowhere", "--department", "edb", "--node", "node-1"],
        &["up", "--once", "--without", "no-such-pack"],
        &["source", "hko", "--url", "gopher://x", "--once"],
        &["doctor"],
    ] {
        told(campanile(folder.path(), args), 2);
    }
}
