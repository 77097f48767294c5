//! The command as people meet it: the built binary, its two outputs and its exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod corpus;
mod drill;
mod governance;
mod live;
mod nonsense;
mod packs;
mod reports;
mod rules;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What a run of the binary came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It ended with this code, and says so if not.
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }
}

/// Runs the binary in a folder, with nothing of the caller's own settings.
pub(crate) fn campanile(folder: &Path, args: &[&str]) -> Ran {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_campanile"))
        .args(args)
        .current_dir(folder)
        .env_remove("CAMPANILE_PROFILE")
        .env_remove("CAMPANILE_NODE")
        .env_remove("RUST_LOG")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ran {
        code: output.status.code().expect("an exit code, not a signal"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A file of the shared data, or `None` after saying plainly that the test is left out.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    let required = std::env::var("CAMPANILE_SHARED").is_ok_and(|value| value == "required");
    assert!(!required, "CAMPANILE_SHARED=required, but {} is missing", found.display());
    eprintln!("LEFT OUT: this test needs {}, which is not here", found.display());
    None
}
