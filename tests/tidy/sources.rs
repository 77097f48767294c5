//! What may lie in a file, and which files there must be.

use crate::{files, none, root, text};

/// Longer than this, a file of code holds more than one idea.
const LINES_MAX: usize = 700;

/// True for code that only tests run: there a panic is a failed test.
fn is_test_code(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.contains("/examples/")
        || matches!(file, "tests.rs" | "testing.rs" | "conformance.rs" | "model.rs")
}

/// The lines of a file before its own tests, numbered from one.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let tests = text.lines().position(|line| line.trim() == "#[cfg(test)]").filter(|at| {
        // `#[cfg(test)] mod testing;` in the middle of a `lib.rs` ends nothing; a module with a body does.
        text.lines().skip(at + 1).take(3).any(|line| line.starts_with("mod ") && line.ends_with('{'))
    });
    text.lines().take(tests.unwrap_or(usize::MAX)).enumerate().map(|(at, line)| (at + 1, line))
}

fn rust_files() -> Vec<(String, String)> {
    let is_rust = |path: &String| path.ends_with(".rs") && !path.starts_with("tests/tidy/");
    files().into_iter().filter(is_rust).filter_map(|path| text(&path).map(|text| (path, text))).collect()
}

#[test]
fn nothing_is_left_unfinished() {
    // Put together here, so that this file does not find itself.
    let marks = [["todo", "!("].concat(), ["unimplemented", "!("].concat(), ["#[", "ignore"].concat()];
    let mut faults = Vec::new();
    for (path, text) in rust_files() {
        for (at, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) && !line.trim_start().starts_with("//") {
                faults.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    none(&faults, "finish it, or leave it out");
}

#[test]
fn a_panic_outside_tests_says_why_it_cannot_happen() {
    let lints = ["unwrap_used", "expect_used", "clippy::panic", "indexing_slicing"];
    let mut faults = Vec::new();
    for (path, text) in rust_files().into_iter().filter(|(path, _)| !is_test_code(path)) {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in code_lines(&text) {
            let is_allow = line.contains("allow(") && lints.iter().any(|lint| line.contains(lint));
            let before = &lines[number.saturating_sub(4)..number - 1];
            let is_told = before.iter().any(|line| line.contains("cfg(") || line.trim_start().starts_with("// "));
            if is_allow && !is_told && !line.contains("reason") {
                faults.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    none(&faults, "return an error; or write above it why it cannot happen");
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let manifests = files().into_iter().filter(|path| path.ends_with("/Cargo.toml"));
    let faults: Vec<String> =
        manifests.filter(|path| !text(path).unwrap().contains("[lints]\nworkspace = true")).collect();
    none(&faults, "add [lints] workspace = true");
}

#[test]
fn every_manifest_says_what_its_crate_is_for() {
    let manifests = files().into_iter().filter(|path| path.ends_with("/Cargo.toml"));
    let faults: Vec<String> = manifests
        .filter(|path| {
            let text = text(path).unwrap();
            let description = text.lines().find_map(|line| line.strip_prefix("description = "));
            description.is_none_or(|words| words.len() <= 20)
        })
        .collect();
    none(&faults, "write one sentence as `description`");
}

#[test]
fn the_pure_crates_ask_the_machine_for_nothing() {
    let asks = ["std::fs", "std::net", "std::env", "std::process", "SystemTime", "Instant::now", "Timestamp::now"];
    let mut faults = Vec::new();
    for (path, text) in rust_files().into_iter().filter(|(path, _)| !is_test_code(path)) {
        let pure = ["services/alert/src/", "services/rules/src/", "services/drill/src/"];
        // Drills against running nodes are what the rest of their crate is not.
        if !pure.iter().any(|folder| path.starts_with(folder)) || path.starts_with("services/drill/src/live") {
            continue;
        }
        for (number, line) in code_lines(&text) {
            if asks.iter().any(|ask| line.contains(ask)) && !line.trim_start().starts_with("//") {
                faults.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    none(&faults, "the same inputs must give the same bytes; hand it in as an argument");
}

#[test]
fn no_file_holds_more_than_one_idea() {
    let is_code = |path: &String| [".rs", ".py", ".sh", ".proto"].iter().any(|end| path.ends_with(end));
    let faults: Vec<String> = files()
        .into_iter()
        .filter(is_code)
        .filter_map(|path| {
            let lines = text(&path)?.lines().count();
            (lines > LINES_MAX).then(|| format!("{path}: {lines} lines"))
        })
        .collect();
    none(&faults, "split these files by idea; 700 lines are the most");
}

#[test]
fn every_file_of_code_opens_by_saying_what_it_is_for() {
    let faults: Vec<String> = rust_files()
        .into_iter()
        .filter(|(path, text)| {
            let is_inner = path.ends_with("/tests.rs") || path.contains("/tests/") || path.ends_with("/build.rs");
            !is_inner && !text.lines().take(3).any(|line| line.starts_with("//! "))
        })
        .map(|(path, _)| path)
        .collect();
    none(&faults, "open the file with `//!` and a sentence");
}

#[test]
fn every_folder_a_newcomer_opens_has_a_map() {
    let files = files();
    let mut folders: Vec<String> =
        files.iter().filter_map(|path| path.strip_suffix("/Cargo.toml")).map(str::to_owned).collect();
    let top = files.iter().filter_map(|path| path.split_once('/')).map(|(folder, _)| folder);
    folders.extend(top.filter(|folder| !folder.starts_with('.')).map(str::to_owned));
    folders.extend(["gateway/src/channels", "proto/vocabulary", "services/rules/packs"].map(str::to_owned));
    folders.sort();
    folders.dedup();
    let faults: Vec<String> =
        folders.into_iter().filter(|folder| !files.contains(&format!("{folder}/README.md"))).collect();
    none(&faults, "write a short README.md that maps the folder");
}

#[test]
fn the_top_level_is_as_the_design_fixed_it() {
    let known = ["Cargo.toml", "Cargo.lock", "README.md", "LICENSE", "CHANGELOG.md"];
    let folders = ["proto", "services", "gateway", "deploy", "tests"];
    let faults: Vec<String> = files()
        .into_iter()
        .filter(|path| match path.split_once('/') {
            Some((folder, _)) => !folder.starts_with('.') && !folders.contains(&folder),
            None => !path.starts_with('.') && !known.contains(&path.as_str()),
        })
        .collect();
    none(&faults, "the top level is fixed; tool files are dotfiles");
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    // Put together here, so that this file does not find itself. A registry other than the public one is named in a
    // configuration, or in a lock file.
    let marks = [
        ["/ro", "ot/"].concat(),
        ["/wo", "rk/"].concat(),
        ["/ho", "me/"].concat(),
        ["/tmp/", "campanile/"].concat(),
        ["--index", "-url"].concat(),
        ["--extra-index", "-url"].concat(),
        ["--find", "-links"].concat(),
        ["--regis", "try"].concat(),
        ["[sou", "rce."].concat(),
        ["_auth", "Token"].concat(),
    ];
    let mut faults = Vec::new();
    for path in files() {
        let file = path.rsplit('/').next().unwrap_or(&path);
        if matches!(file, ".npmrc" | "pip.conf" | ".pypirc" | ".netrc" | "package-lock.json") {
            faults.push(format!("{path}: no such file belongs here"));
        }
        for (at, line) in text(&path).unwrap_or_default().lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                faults.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    none(&faults, "paths and hosts of one machine do not belong in the repository");
}

#[test]
fn no_private_key_lies_in_the_repository() {
    let mark = ["PRIVATE", " KEY-----"].concat();
    let faults: Vec<String> = files()
        .into_iter()
        .filter(|path| {
            path.ends_with(".key") || text(path).is_some_and(|text| text.contains(&mark) && text.contains("MI"))
        })
        .filter(|path| !path.ends_with(".rs"))
        .collect();
    none(&faults, "make keys when they are needed; take this one out of the history, too");
}

#[test]
fn what_is_to_be_run_can_be_run() {
    use std::os::unix::fs::PermissionsExt as _;
    for path in ["tests/run", ".ci/run", ".cargo/bin/protoc", "deploy/etcd/roles.sh"] {
        let mode = std::fs::metadata(root().join(path)).expect(path).permissions().mode();
        assert!(mode & 0o111 != 0, "{path} is not executable; chmod +x {path}");
    }
}
