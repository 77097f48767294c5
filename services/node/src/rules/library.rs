//! The data sets that packs read, by digest.
//!
//! ```text
//! <data>/data-sets/<SHA-256 in hex>      the file as it was given; written beside its name, synced, renamed
//! ```
//!
//! A name that is its content's digest never changes its meaning, so a pack in force reads the same rows on every start
//! and in every replay, whatever becomes of the file that it was made from.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use campanile_log::Hash;
use parking_lot::Mutex;

/// The largest data set, in bytes: the sites of a whole territory fit.
pub const DATA_SET_BYTES_MAX: usize = 64 << 20;
/// How many data sets are kept; an operator removes those that no pack reads any more.
const DATA_SETS_MAX: usize = 1_000;

/// Data sets by digest.
#[derive(Debug)]
pub struct Library(Place);

#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    Memory(Mutex<BTreeMap<Hash, Arc<[u8]>>>),
}

impl Library {
    /// Keeps them in a folder, which is made where it is missing.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn folder(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        std::fs::create_dir_all(&path)?;
        Ok(Self(Place::Folder(path)))
    }

    /// Keeps them in memory, for a node without a disk.
    pub fn memory() -> Self {
        Self(Place::Memory(Mutex::default()))
    }

    /// Keeps a data set, and gives its digest. One that is there already stays as it is.
    ///
    /// # Errors
    /// When it is too large, the library is full, or it cannot be written.
    pub fn put(&self, bytes: &[u8]) -> io::Result<Hash> {
        if bytes.len() > DATA_SET_BYTES_MAX {
            return Err(io::Error::other("a data set has at most 64 MiB"));
        }
        let digest = Hash::of(bytes);
        match &self.0 {
            Place::Memory(sets) => {
                sets.lock().insert(digest, bytes.into());
            }
            Place::Folder(_) if self.get(&digest).is_ok() => {}
            Place::Folder(folder) => write(folder, &digest, bytes)?,
        }
        Ok(digest)
    }

    /// Reads a data set, and proves that it is the one of this digest.
    ///
    /// # Errors
    /// When it is not there, damaged, or cannot be read.
    pub fn get(&self, digest: &Hash) -> io::Result<Arc<[u8]>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("there is no data set {digest}"));
        let bytes: Arc<[u8]> = match &self.0 {
            Place::Memory(sets) => return sets.lock().get(digest).cloned().ok_or_else(missing),
            Place::Folder(folder) => {
                let path = folder.join(digest.to_string());
                let length = std::fs::metadata(&path).map_err(|_| missing())?.len();
                if length > DATA_SET_BYTES_MAX as u64 {
                    return Err(io::Error::other(format!("{} is larger than a data set may be", path.display())));
                }
                std::fs::read(&path)?.into()
            }
        };
        if Hash::of(&bytes) != *digest {
            return Err(io::Error::other(format!("the data set {digest} is damaged; give it to the node again")));
        }
        Ok(bytes)
    }
}

fn write(folder: &Path, digest: &Hash, bytes: &[u8]) -> io::Result<()> {
    if std::fs::read_dir(folder)?.take(DATA_SETS_MAX).count() >= DATA_SETS_MAX {
        let message = format!("{} holds {DATA_SETS_MAX} data sets; remove those that no pack reads", folder.display());
        return Err(io::Error::other(message));
    }
    // Two that bring the same bytes at once write two files, and the second name replaces the first.
    let beside = folder.join(format!(".{digest}.{:016x}", rand::random::<u64>()));
    let written = (|| {
        let mut file = std::fs::File::create_new(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, folder.join(digest.to_string()))?;
        std::fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // Half a file is nobody's; that it cannot be removed either changes nothing.
        drop(std::fs::remove_file(&beside));
    }
    written
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_is_found_by_its_digest_over_a_restart_and_a_damaged_one_is_refused() {
        let folder = std::env::temp_dir().join(format!("campanile-library-{:016x}", rand::random::<u64>()));
        let digest = Library::folder(&folder).unwrap().put(b"[1]").unwrap();
        let library = Library::folder(&folder).unwrap();
        assert_eq!(&*library.get(&digest).unwrap(), b"[1]");
        assert_eq!(library.put(b"[1]").unwrap(), digest);
        assert_eq!(library.get(&Hash::ZERO).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(folder.join(digest.to_string()), b"[2]").unwrap();
        assert!(library.get(&digest).unwrap_err().to_string().contains("damaged"));
        library.put(b"[1]").unwrap();
        assert_eq!(&*library.get(&digest).unwrap(), b"[1]", "given again, it is mended");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
