//! Files in and out: read within a limit, written whole or not at all.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::failure::{Next as _, failure};

/// The longest file that a verb reads whole, in bytes.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// Reads a file, or stdin for `-`.
///
/// # Errors
/// When it cannot be read or is longer than 64 MiB.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = FILE_BYTES_MAX + 1;
    let done = match path.as_os_str() == "-" {
        true => std::io::stdin().lock().take(limit).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    done.with_context(|| format!("failed to read {}", path.display()))
        .next("check that the file exists and that you may read it")?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failure(format!("{} is longer than 64 MiB", path.display()), "check that it is the right file"));
    }
    Ok(bytes)
}

/// Reads a text file.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|_| failure(format!("{} is not UTF-8 text", path.display()), "check that it is the right file"))
}

/// Writes a file whole: beside its place, synced, then renamed. An existing one is replaced only when `replace`.
///
/// # Errors
/// When it is there already and may not be replaced, or the disk fails.
pub fn write(path: &Path, bytes: &[u8], replace: bool) -> anyhow::Result<()> {
    let mut whole = Whole::begin(path, replace)?;
    whole.file.write_all(bytes).with_context(|| format!("failed to write {}", path.display()))?;
    whole.finish()
}

/// A file that appears under its name only when it is finished.
#[derive(Debug)]
pub struct Whole {
    path: PathBuf,
    replace: bool,
    /// Where to write.
    pub file: tempfile::NamedTempFile,
}

impl Whole {
    /// Begins a file.
    ///
    /// # Errors
    /// When it is there already and may not be replaced, or its folder cannot be written to.
    pub fn begin(path: &Path, replace: bool) -> anyhow::Result<Self> {
        if !replace && path.exists() {
            return Err(failure(format!("{} exists already", path.display()), "give another name or move it away"));
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = tempfile::NamedTempFile::new_in(folder)
            .with_context(|| format!("failed to write {}", path.display()))
            .next("check that the folder exists and that you may write to it")?;
        Ok(Self { path: path.into(), replace, file })
    }

    /// Syncs it and gives it its name.
    ///
    /// # Errors
    /// When the disk fails, or somebody else took the name meanwhile.
    pub fn finish(self) -> anyhow::Result<()> {
        let failed = || format!("failed to write {}", self.path.display());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // Temporary files are for their owner alone; what is written here holds no secret.
            let open = std::fs::Permissions::from_mode(0o644);
            self.file.as_file().set_permissions(open).with_context(failed)?;
        }
        self.file.as_file().sync_all().with_context(failed)?;
        let kept = match self.replace {
            true => self.file.persist(&self.path),
            false => self.file.persist_noclobber(&self.path),
        };
        kept.map(drop)
            .map_err(|error| error.error)
            .with_context(|| format!("failed to write {}", self.path.display()))
            .next("check the folder and the free space")
    }
}
