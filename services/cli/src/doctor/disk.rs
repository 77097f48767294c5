//! The disk under the data folder: room, and how long a durable write takes, since every alert waits for one.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Findings;

/// Below this nothing may be published soon: the store's write-ahead log alone may take 256 MiB.
const FREE_MIB_MIN: u64 = 512;
/// Below this it is time to act.
const FREE_MIB_LOW: u64 = 5 * 1024;
/// A durable write that takes longer makes every alert slow.
const SYNC_SLOW: Duration = Duration::from_millis(20);
/// How many durable writes are timed.
const SYNCS: usize = 9;

/// Looks at the disk under a folder that exists.
pub(super) fn look(folder: &Path, findings: &mut Findings) {
    match free_mib(folder) {
        Ok(free) if free < FREE_MIB_MIN => {
            let next = "free space now: when the disk is full, alerts are refused and only reads go on";
            findings.fail("disk", format!("{free} MiB free under {}", folder.display()), next);
        }
        Ok(free) if free < FREE_MIB_LOW => {
            findings.warn(
                "disk",
                format!("{free} MiB free under {}", folder.display()),
                "free space or enlarge the disk",
            );
        }
        Ok(free) => findings.ok("disk", format!("{free} MiB free under {}", folder.display())),
        Err(error) => findings.warn("disk", format!("its free space cannot be asked: {error}"), "look with `df`"),
    }
    match sync_time(folder) {
        Ok(time) if time > SYNC_SLOW => {
            let next = "use a disk of its own, or one that keeps its cache through a power cut";
            findings.warn(
                "durable write",
                format!("takes {time:.1?} here; each alert waits for one at every hop"),
                next,
            );
        }
        Ok(time) => findings.ok("durable write", format!("takes {time:.1?}")),
        Err(error) => findings.fail(
            "durable write",
            format!("failed in {}: {error}", folder.display()),
            "make the folder writable for the user of the node, and check the disk",
        ),
    }
}

fn free_mib(folder: &Path) -> std::io::Result<u64> {
    let space = rustix::fs::statvfs(folder)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize) >> 20)
}

/// The median time of writing and syncing 4 KiB.
fn sync_time(folder: &Path) -> std::io::Result<Duration> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begin = Instant::now();
        file.write_all(&[0; 4096])?;
        file.as_file().sync_data()?;
        times.push(begin.elapsed());
    }
    times.sort();
    Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
}
