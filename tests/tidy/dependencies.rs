//! Who may use whom, and what of others may be used at all.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use crate::{none, root};

/// The table of the design: a crate, and whom it may use. What lies behind those it may use too.
const ARROWS: &[(&str, &[&str])] = &[
    ("alert", &[]),
    ("log", &[]),
    ("proto", &["alert"]),
    ("rules", &["alert"]),
    ("discovery", &["alert"]),
    ("bus", &["proto", "log", "discovery", "alert"]),
    ("drill", &["rules", "log", "alert", "client"]),
    ("node", &["bus", "rules"]),
    ("gateway", &["bus"]),
    ("client", &["proto", "discovery"]),
    ("cli", &["client", "rules", "drill", "node", "gateway"]),
    ("tests", &["cli"]),
    ("fuzz", &["cli"]),
    ("mutants", &[]),
];
/// Two versions of these in one program do not understand each other's types, or double what must be watched.
const SINGLE: &[&str] =
    &["axum", "hyper", "prost", "ring", "rustls", "rustls-webpki", "tokio", "tokio-rustls", "tonic"];
/// Crates that must not come in, and why.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-sys", "the one crypto provider is ring"),
    ("openssl-sys", "the one TLS is rustls"),
    ("native-tls", "the one TLS is rustls"),
    ("zstd-sys", "it is 40 s of C in a release build, and gzip is enough"),
    ("chrono", "the one time library is jiff"),
];
/// Licences that a department's lawyer need not read again.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
/// What `alert` and `rules` may not use, since they do no I/O.
const IMPURE: &[&str] = &["tokio", "reqwest", "rusqlite", "rand", "tonic", "hyper", "tempfile", "etcd-client", "axum"];
/// The one registry.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What is built on this kind of machine.
static PACKAGES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let host = run("rustc", &["-vV"]);
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let metadata = run(&cargo, &["metadata", "--format-version", "1", "--locked", "--filter-platform", host]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo metadata gives JSON");
    let built: BTreeSet<&str> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap()).collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.filter(|package| built.contains(package["id"].as_str().unwrap())).cloned().collect()
});

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root()).output().expect("the program runs");
    assert!(output.status.success(), "{program} failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

/// The crates of this workspace by their short name, and their dependencies as (short or full name, is for tests only).
fn ours() -> BTreeMap<&'static str, Vec<(&'static str, bool)>> {
    let mut ours = BTreeMap::new();
    for package in PACKAGES.iter().filter(|package| package["source"].is_null()) {
        let short = name(package).strip_prefix("campanile-").expect("our crates are named campanile-<folder>");
        // Bugs put in on purpose stand behind a feature; the shipped command has none of them, see below.
        let is_mutant =
            |dependency: &&Value| dependency["name"] == "campanile-mutants" && dependency["optional"] == true;
        let uses = package["dependencies"].as_array().unwrap().iter().filter(|one| !is_mutant(one)).map(|dependency| {
            let name = dependency["name"].as_str().unwrap();
            (name.strip_prefix("campanile-").unwrap_or(name), dependency["kind"] == "dev")
        });
        ours.insert(short, uses.collect());
    }
    ours
}

/// Everything that a crate may use, itself included.
fn reach(of: &str) -> BTreeSet<&'static str> {
    let mut reach = BTreeSet::new();
    let mut open: Vec<&str> = vec![of];
    while let Some(next) = open.pop() {
        let (name, uses) = ARROWS
            .iter()
            .find(|(name, _)| *name == next)
            .unwrap_or_else(|| panic!("{next} is in no row of the table; settle whom it may use, and write it there"));
        if reach.insert(*name) {
            open.extend(*uses);
        }
    }
    reach
}

#[test]
fn each_crate_uses_only_whom_it_may() {
    let ours = ours();
    let mut faults = Vec::new();
    for (&user, uses) in &ours {
        let may = reach(user);
        for &(used, is_for_tests) in uses {
            if !ours.contains_key(used) {
                continue;
            }
            // A test may stand on more, but on nothing above everything.
            let allowed = if is_for_tests { used != "cli" && used != "tests" } else { may.contains(used) };
            if !allowed && user != "tests" {
                faults.push(format!("{user} uses {used}"));
            }
        }
    }
    none(&faults, "these arrows are not in the design; move the code, or change the design and the table first");
}

#[test]
fn the_shipped_command_holds_no_bug_put_in_on_purpose() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let tree = run(&cargo, &["tree", "--locked", "-p", "campanile-cli", "-e", "normal", "--prefix", "none"]);
    assert!(tree.contains("campanile-log"), "the tree is not that of the command");
    assert!(!tree.contains("campanile-mutants"), "a feature of the command turns mutants on");
}

#[test]
fn the_pure_crates_use_nothing_that_does_io() {
    let mut faults = Vec::new();
    for (user, uses) in ours().into_iter().filter(|(user, _)| matches!(*user, "alert" | "rules")) {
        for (used, is_for_tests) in uses {
            if !is_for_tests && IMPURE.contains(&used) {
                faults.push(format!("{user} uses {used}"));
            }
        }
    }
    none(&faults, "the same inputs must give the same bytes; hand the data in as an argument");
}

#[test]
fn there_is_one_version_of_what_must_be_one() {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in PACKAGES.iter() {
        versions.entry(name(package)).or_default().insert(package["version"].as_str().unwrap());
    }
    let faults: Vec<String> = SINGLE
        .iter()
        .filter_map(|name| {
            let found = versions.get(name)?;
            (found.len() > 1).then(|| format!("{name}: {found:?}"))
        })
        .collect();
    none(&faults, "ask `cargo tree --duplicates` who brings the second one in");
    assert!(versions.contains_key("tonic") && versions.contains_key("rustls"), "the check looks at the wrong tree");
}

#[test]
fn nothing_banned_comes_in() {
    let found = |name: &str| PACKAGES.iter().any(|package| crate::dependencies::name(package) == name);
    let faults: Vec<String> =
        BANNED.iter().filter(|(name, _)| found(name)).map(|(name, why)| format!("{name}: {why}")).collect();
    none(&faults, "ask `cargo tree --invert <name>` who brings it in, and turn that feature off");
}

#[test]
fn every_crate_comes_from_the_one_registry() {
    let faults: Vec<String> = PACKAGES
        .iter()
        .filter(|package| !package["source"].is_null() && package["source"] != REGISTRY)
        .map(|package| format!("{} from {}", name(package), package["source"]))
        .collect();
    none(&faults, "a stranger must be able to build with the public registry alone");
}

#[test]
fn every_licence_is_one_that_is_known() {
    let faults: Vec<String> = PACKAGES
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(is_allowed))
        .map(|package| format!("{} {}: {}", name(package), package["version"], package["license"]))
        .collect();
    none(&faults, "have the licence read, then add it to the list; or use another crate");
}

#[test]
fn a_licence_expression_is_judged_as_a_whole() {
    for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert!(is_allowed(good), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR MIT) AND LGPL-2.1", "", "MIT WITH something"] {
        assert!(!is_allowed(bad), "{bad}");
    }
}

/// Judges an SPDX expression: `OR` offers, `AND` binds more tightly, and old crates write `/` for `OR`.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let allowed = either(&words, &mut at);
    allowed && at == words.len()
}

fn either(words: &[&str], at: &mut usize) -> bool {
    let mut allowed = both(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        allowed |= both(words, at);
    }
    allowed
}

fn both(words: &[&str], at: &mut usize) -> bool {
    let mut allowed = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        allowed &= one(words, at);
    }
    allowed
}

fn one(words: &[&str], at: &mut usize) -> bool {
    let Some(&word) = words.get(*at) else { return false };
    *at += 1;
    if word == "(" {
        let allowed = either(words, at);
        *at += 1;
        return allowed;
    }
    let mut licence = word.to_owned();
    if words.get(*at) == Some(&"WITH") {
        licence = format!("{word} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    LICENCES.contains(&licence.as_str())
}
