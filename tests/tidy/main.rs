//! What the house style asks of the tree itself, and nothing else checks: who may use whom, what may be depended on,
//! and what may lie in a file.
//!
//! A failure names the place and what to do. Each list of exceptions is short, and says why.
#![allow(clippy::print_stderr, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod commands;
mod dependencies;
mod sources;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The top of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace").to_owned()
}

/// The files that are in the repository or about to be, as paths from the top; sorted.
fn files() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("paths in UTF-8");
    let mut files: Vec<String> =
        text.split('\0').filter(|path| !path.is_empty() && root().join(path).is_file()).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    assert!(files.len() > 100, "only {} files; git sees no workspace here", files.len());
    files
}

/// A file as text; absent when it is not UTF-8.
fn text(path: &str) -> Option<String> {
    String::from_utf8(std::fs::read(root().join(path)).expect("a listed file")).ok()
}

/// Fails with all faults at once, since they are mended together.
fn none(faults: &[String], remedy: &str) {
    assert!(faults.is_empty(), "{remedy}\n  {}", faults.join("\n  "));
}
