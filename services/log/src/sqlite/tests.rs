//! The behaviour suite over SQLite, and what only a database in a directory can meet.

use std::io::{Seek as _, SeekFrom, Write as _};

use tempfile::TempDir;

use super::*;
use crate::conformance::{self, Subject, accept, append, chain, draft, keyed, log};
use crate::{Lane, StoreExt as _};

struct Sqlite(TempDir);

impl Subject for Sqlite {
    fn open(&mut self) -> Box<dyn Store> {
        Box::new(SqliteStore::open(self.0.path(), &Options::default()).unwrap())
    }

    fn open_small(&mut self) -> Box<dyn Store> {
        Box::new(SqliteStore::open(self.0.path(), &Options { bytes_max: Some(1 << 20) }).unwrap())
    }
}

crate::conformance_suite!(|| Sqlite(tempfile::tempdir().unwrap()));

fn open(directory: &TempDir) -> Result<SqliteStore, Error> {
    SqliteStore::open(directory.path(), &Options::default())
}

/// A closed store with 400 records of about 2 KiB, all of them below the mark.
fn filled() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).unwrap();
    let own = log("edb/node-1", Lane::Urgent);
    store.begin_epoch(&own, 5).unwrap();
    for number in 0..400 {
        append(&store, keyed(&own, &number.to_string(), &format!("{number:01000}")));
    }
    drop(store);
    damage(&directory, "UPDATE meta SET value = 400");
    directory
}

/// Runs a statement on the closed database behind the back of the store.
fn damage(directory: &TempDir, sql: &str) {
    Connection::open(directory.path().join("log.db")).unwrap().execute_batch(sql).unwrap();
}

/// Opens and reads everything; the first error, or the number of entries.
fn read_all(directory: &TempDir) -> Result<u64, Error> {
    let store = open(directory)?;
    while store.scrub(64)?.is_some() {}
    for (log, _) in store.logs() {
        store.verify_chain(&log, None)?;
    }
    Ok(store.last_arrival())
}

#[test]
fn directory_in_use_is_refused_with_its_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let _first = open(&directory).unwrap();
    let error = open(&directory).err().unwrap();
    assert!(matches!(error, Error::InUse { .. }));
    assert!(error.to_string().contains("stop that process"), "{error}");
}

#[test]
fn unknown_format_is_refused() {
    let directory = filled();
    damage(&directory, "PRAGMA user_version = 99");
    let error = open(&directory).err().unwrap();
    assert!(matches!(error, Error::Format { found: 99, .. }), "{error}");
}

#[test]
fn file_that_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("log.db"), "not a database".repeat(1000)).unwrap();
    assert!(matches!(open(&directory).err().unwrap(), Error::Corrupt { .. }));
}

#[test]
fn truncated_file_is_an_error() {
    for tenths in [1, 5, 9] {
        let directory = filled();
        let path = directory.path().join("log.db");
        let length = std::fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length * tenths / 10).unwrap();
        let error = read_all(&directory).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. } | Error::Io { .. }), "{tenths}: {error}");
    }
}

#[test]
fn flipped_bytes_of_a_record_are_found_and_never_returned() {
    let whole = filled();
    let path = whole.path().join("log.db");
    let bytes = std::fs::read(&path).unwrap();
    // The text of record 200 stands in its header and in its body.
    let needle = format!("{:01000}", 199);
    let places: Vec<usize> =
        bytes.windows(1000).enumerate().filter(|(_, window)| *window == needle.as_bytes()).map(|(at, _)| at).collect();
    assert!(places.len() >= 2, "{places:?}");
    for place in places {
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(place as u64 + 10)).unwrap();
        file.write_all(b"X").unwrap();
        let error = read_all(&whole).unwrap_err();
        assert!(matches!(&error, Error::Corrupt { place, .. } if place.contains("edb/node-1:urgent 5/200")), "{error}");
        let store = open(&whole).unwrap();
        let own = log("edb/node-1", Lane::Urgent);
        assert!(matches!(store.get(&own, 5, 200), Err(Error::Corrupt { .. })));
        assert!(store.get(&own, 5, 201).unwrap().is_some());
        drop(store);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_all(&whole).unwrap(), 400);
    }
}

#[test]
fn removed_and_swapped_rows_are_found() {
    for sql in [
        "DELETE FROM entries WHERE arrival = 200",
        "DELETE FROM entries WHERE arrival > 200",
        "UPDATE entries SET signatures = x'00' WHERE arrival = 200",
        "UPDATE entries SET standing = 2 WHERE arrival = 200",
        "UPDATE entries SET previous = zeroblob(32) WHERE arrival = 200",
        "UPDATE entries SET hash = 5 WHERE arrival = 200",
    ] {
        let directory = filled();
        damage(&directory, sql);
        let error = read_all(&directory).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{sql}: {error}");
    }
}

fn append_one(store: &SqliteStore) {
    let own = log("edb/node-1", Lane::Urgent);
    store.begin_epoch(&own, 6).unwrap();
    append(store, draft(&own, "more"));
}

#[test]
fn mark_moves_with_checkpoints_so_a_start_verifies_the_rest_only() {
    let directory = filled();
    let store = open(&directory).unwrap();
    append_one(&store);
    let limit = std::time::Instant::now() + Duration::from_secs(10);
    while store.shared.mark.load(Ordering::Acquire) < 401 {
        assert!(std::time::Instant::now() < limit, "no checkpoint within 10 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    store.with_batch(|batch| batch.state(b"any", Some(b"row"))).unwrap();
    drop(store);
    assert_eq!(open(&directory).unwrap().shared.mark.load(Ordering::Acquire), 401);
}

#[test]
fn wal_is_cut_off_when_it_grows() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).unwrap();
    let other = log("fsd/node-1", Lane::Exercise);
    chain(&other, 3, 50, None).iter().for_each(|next| drop(accept(&store, next)));
    assert!(std::fs::metadata(&store.shared.wal).unwrap().len() > 0);
    keeper::empty_wal(&store.writer.lock().as_ref().unwrap().conn, &store.shared);
    assert_eq!(std::fs::metadata(&store.shared.wal).unwrap().len(), 0);
    conformance::check_whole(&store);
}

/// A file that grows costs each commit twice the sync; one that is cut off grows again.
#[test]
fn wal_is_laid_out_and_goes_back_to_its_beginning_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).unwrap();
    let size = |store: &SqliteStore| std::fs::metadata(&store.shared.wal).unwrap().len();
    assert_eq!(size(&store), 16 << 20);
    let (mut before, mut turns, mut most) = (0, 0, 0);
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    for round in 0_u64.. {
        let value = vec![round.to_be_bytes()[7]; 200 << 10];
        store.with_batch(|batch| batch.state(&(round % 5).to_be_bytes(), Some(&value))).unwrap();
        let frames = store.shared.wal_frames.load(Ordering::Acquire);
        turns += usize::from(frames < before);
        (before, most) = (frames, most.max(frames));
        if turns == 3 {
            break;
        }
        assert!(std::time::Instant::now() < limit, "{round} commits without a pause, and the log did not turn round");
    }
    assert!(most * FRAME_BYTES >= 8 << 20, "it turned round after {most} frames already");
    assert!(size(&store) <= WAL_BYTES_MAX, "{}", size(&store));
}

/// A reader that stayed long lets the file grow; nothing but the keeper gives the room back.
#[test]
fn wal_that_grew_is_cut_off_and_laid_out_again_when_the_log_is_quiet() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).unwrap();
    let size = || std::fs::metadata(&store.shared.wal).unwrap().len();
    append_one(&store);
    let reader = Connection::open(directory.path().join("log.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM state;").unwrap();
    for round in 0_u64..90 {
        let value = vec![round.to_be_bytes()[7]; 1 << 20];
        store.with_batch(|batch| batch.state(&(round % 5).to_be_bytes(), Some(&value))).unwrap();
    }
    assert!(size() > 80 << 20, "{}", size());
    reader.execute_batch("COMMIT").unwrap();
    store.with_batch(|batch| batch.state(b"last", Some(b"row"))).unwrap();
    let limit = std::time::Instant::now() + Duration::from_secs(20);
    while size() != 16 << 20 {
        assert!(std::time::Instant::now() < limit, "still {} bytes", size());
        std::thread::sleep(Duration::from_millis(20));
    }
    store.with_batch(|batch| batch.state(b"after", Some(b"row"))).unwrap();
    drop(store);
    let again = open(&directory).unwrap();
    assert_eq!(again.state(b"after").unwrap().as_deref(), Some(b"row".as_slice()));
    assert_eq!(again.state(b"last").unwrap().as_deref(), Some(b"row".as_slice()));
}

/// What is left of an older round behind the newest commit is not read back, and neither are the zeros.
#[test]
fn laid_out_wal_reads_back_what_was_committed_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).unwrap();
    append_one(&store);
    store.with_batch(|batch| batch.state(b"last", Some(b"row"))).unwrap();
    let crashed = tempfile::tempdir().unwrap();
    for file in ["log.db", "log.db-wal"] {
        std::fs::copy(directory.path().join(file), crashed.path().join(file)).unwrap();
    }
    let again = open(&crashed).unwrap();
    assert_eq!((again.logs(), again.last_arrival()), (store.logs(), store.last_arrival()));
    assert_eq!(again.state(b"last").unwrap().as_deref(), Some(b"row".as_slice()));
    conformance::check_whole(&again);
}

#[test]
fn panic_of_the_work_rolls_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.commit(&mut |batch| {
            batch.state(b"half", Some(b"done"))?;
            panic!("on purpose");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(store.state(b"half").unwrap(), None);
    append_one(&store);
    conformance::check_whole(&store);
}

#[test]
fn store_in_use_can_be_read_but_not_written_from_beside() {
    let directory = filled();
    let store = open(&directory).unwrap();
    let beside = SqliteStore::open_read_only(directory.path()).unwrap();
    assert_eq!(beside.logs(), store.logs());
    assert_eq!(beside.verify_chain(&log("edb/node-1", Lane::Urgent), None).unwrap(), 400);
    assert!(beside.with_batch(|batch| batch.state(b"x", None)).is_err());
    append_one(&store);
    let nowhere = tempfile::tempdir().unwrap();
    assert!(SqliteStore::open_read_only(nowhere.path()).is_err());
    assert_eq!(std::fs::read_dir(nowhere.path()).unwrap().count(), 0);
}
