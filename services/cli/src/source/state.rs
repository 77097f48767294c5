//! The state file: one JSON document, replaced whole.
//!
//! It is written beside its place, synced, and renamed over it, and the folder is synced, so a crash leaves the old
//! document or the new one. A document that cannot be read stops the start: beginning anew in silence would publish
//! every standing warning again.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why the state file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or written.
    #[error("the state file {path} cannot be {done}; check the folder, its permissions and the free space")]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        done: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("the state file {path} is not one of this source; move it away to begin anew")]
    Content {
        /// The file.
        path: PathBuf,
        /// What broke.
        #[source]
        source: serde_json::Error,
    },
}

/// Where a source's state is kept.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: Option<PathBuf>,
    last: Vec<u8>,
}

impl StateFile {
    /// Keeps it in a file; the folder must exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), last: Vec::new() }
    }

    /// Keeps it nowhere: for a single run that need not remember.
    pub fn none() -> Self {
        Self { path: None, last: Vec::new() }
    }

    /// Reads it; `None` when there is no file yet.
    ///
    /// # Errors
    /// [`Error`] when it cannot be read or holds something else.
    pub fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let Some(path) = &self.path else { return Ok(None) };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::File { path: path.clone(), done: "read", source }),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Content { path: path.clone(), source })
    }

    /// Replaces it; does nothing when it has not changed since the last save.
    ///
    /// # Errors
    /// [`Error`] when it cannot be written.
    pub fn save<T: Serialize>(&mut self, state: &T) -> Result<(), Error> {
        let Some(path) = &self.path else { return Ok(()) };
        let bytes = serde_json::to_vec(state).map_err(|source| Error::Content { path: path.clone(), source })?;
        if bytes != self.last {
            replace(path, &bytes).map_err(|source| Error::File { path: path.clone(), done: "written", source })?;
            self.last = bytes;
        }
        Ok(())
    }
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_and_a_spoilt_file_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let mut file = StateFile::at(&path);
        assert_eq!(file.load::<Vec<u32>>().unwrap(), None);
        file.save(&vec![1, 2]).unwrap();
        file.save(&vec![3]).unwrap();
        assert_eq!(StateFile::at(&path).load::<Vec<u32>>().unwrap(), Some(vec![3]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no half file is left");
        std::fs::write(&path, "[3").unwrap();
        let error = file.load::<Vec<u32>>().expect_err("half a document").to_string();
        assert!(error.contains("move it away"), "{error}");
        assert!(StateFile::at(folder.path().join("none/state.json")).save(&1).is_err());
    }
}
