//! The data that is shared beside the project: read from there, never copied into it.

use std::path::PathBuf;

/// A file or folder of the shared data, or `None` after saying plainly that the test is left out.
///
/// # Panics
/// When it is missing and the environment says `CAMPANILE_SHARED=required`.
#[allow(clippy::print_stderr, reason = "whoever runs the tests must see what was left out")]
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    let required = std::env::var("CAMPANILE_SHARED").is_ok_and(|value| value == "required");
    assert!(!required, "CAMPANILE_SHARED=required, but {} is missing", found.display());
    eprintln!("LEFT OUT: this test needs {}, which is not here", found.display());
    None
}
