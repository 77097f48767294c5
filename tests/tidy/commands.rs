//! The commands that the documents tell people to type exist.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::{files, none, root, text};

/// The `campanile` program that was built beside this test; absent when there is none.
fn program() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let program = test.parent()?.parent()?.join("campanile");
    if program.is_file() {
        return Some(program);
    }
    let is_required = std::env::var("CAMPANILE_TOOLS").is_ok_and(|value| value == "required");
    assert!(!is_required, "CAMPANILE_TOOLS=required, but {} is missing; tests/run builds it", program.display());
    None
}

/// The lines of the `sh` blocks of a document, continued lines joined.
fn shell_lines(document: &str) -> Vec<String> {
    let (mut lines, mut inside, mut held) = (Vec::new(), false, String::new());
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside && line.trim() == "```sh";
        } else if inside {
            match line.strip_suffix('\\') {
                Some(part) => held.push_str(part),
                None => lines.push(std::mem::take(&mut held) + line),
            }
        }
    }
    lines
}

/// The verbs of each `campanile` command in a line: the words after the program, up to the first that is not a verb.
fn verbs(line: &str) -> Vec<Vec<String>> {
    let is_verb = |word: &&str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !word.starts_with('-')
    };
    let code = line.split(" #").next().unwrap_or(line).replace("cargo run --release --", "campanile");
    let words: Vec<&str> = code.split_whitespace().collect();
    let starts = words.iter().enumerate().filter(|(at, word)| {
        let before = at.checked_sub(1).and_then(|at| words.get(at));
        let is_first = before.is_none_or(|word| matches!(*word, "|" | "&&" | "||" | "then" | "sudo" | "!"));
        is_first && (**word == "campanile" || word.ends_with("/campanile"))
    });
    starts
        .map(|(at, _)| words[at + 1..].iter().copied().take_while(is_verb).take(2).map(str::to_owned).collect())
        .collect()
}

#[test]
fn commands_are_found_in_lines() {
    assert_eq!(verbs("campanile roster add --file x"), [["roster", "add"]]);
    assert_eq!(verbs("cargo run --release -- up"), [["up"]]);
    assert_eq!(verbs("campanile alert list --json | jq .  # campanile no verb"), [["alert", "list"]]);
    assert!(verbs("systemctl restart campanile-node").is_empty());
    assert_eq!(shell_lines("```sh\na \\\n b\n```\n```yaml\nc\n```\n"), ["a  b"]);
}

#[test]
fn every_command_in_the_documents_exists() {
    let Some(program) = program() else {
        eprintln!("LEFT OUT: no campanile program beside this test; build it, and the documents' commands are tried");
        return;
    };
    let mut tried = BTreeSet::new();
    let mut faults = Vec::new();
    for path in files().into_iter().filter(|path| path.ends_with(".md")) {
        for line in shell_lines(&text(&path).unwrap_or_default()) {
            for words in verbs(&line) {
                if tried.insert(words.clone()) {
                    let output = Command::new(&program).args(&words).arg("--help").output().expect("the program runs");
                    if !output.status.success() {
                        faults.push(format!("{path}: campanile {}", words.join(" ")));
                    }
                }
            }
        }
    }
    none(&faults, "these commands do not exist; mend the document or the program");
    assert!(tried.iter().any(|words| words == &["up"]), "the README does not say how to start");
}

#[test]
fn every_path_that_a_map_names_exists() {
    let mut faults = Vec::new();
    for path in ["README.md", "deploy/README.md", "deploy/OPERATORS.md", "tests/README.md"] {
        let folder = root().join(path).parent().map(PathBuf::from).unwrap_or_default();
        for part in text(path).expect(path).split("](").skip(1) {
            let link = part.split(')').next().unwrap_or_default().split('#').next().unwrap_or_default();
            if !link.is_empty() && !link.contains("://") && !folder.join(link).exists() {
                faults.push(format!("{path}: {link}"));
            }
        }
    }
    none(&faults, "these links lead nowhere");
}
