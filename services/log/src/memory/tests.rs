//! What the store in memory does that the behaviour suite of all stores cannot ask.

use super::*;
use crate::conformance::{self, Subject, draft, log};
use crate::{Lane, StoreExt as _};

struct Memory(Disk);

impl Subject for Memory {
    fn open(&mut self) -> Box<dyn Store> {
        Box::new(MemoryStore::open(&self.0).unwrap())
    }

    fn open_small(&mut self) -> Box<dyn Store> {
        let store = MemoryStore::open(&self.0).unwrap();
        store.fail_commit(5, Fault::Full);
        Box::new(store)
    }
}

crate::conformance_suite!(|| Memory(Disk::default()));

#[test]
fn failed_fsync_poisons_and_its_outcome_shows_after_the_restart() {
    for kept in [true, false] {
        let disk = Disk::default();
        let store = MemoryStore::open(&disk).unwrap();
        let routine = log("fsd/node-1", Lane::Routine);
        store.begin_epoch(&routine, 10).unwrap();
        store.with_batch(|batch| batch.draft(draft(&routine, "one"))).unwrap();
        store.fail_commit(1, Fault::Io { kept });
        let failed = store.with_batch(|batch| batch.draft(draft(&routine, "two"))).unwrap_err();
        assert!(failed.is_fatal(), "{failed}");
        let refused = store.with_batch(|batch| batch.draft(draft(&routine, "three"))).unwrap_err();
        assert!(matches!(refused, Error::Poisoned), "{refused}");
        drop(store);
        let store = MemoryStore::open(&disk).unwrap();
        assert_eq!(store.last_arrival(), if kept { 2 } else { 1 });
        conformance::check_whole(&store);
    }
}

#[test]
fn crash_keeps_what_was_committed_and_nothing_else() {
    let disk = Disk::default();
    let store = MemoryStore::open(&disk).unwrap();
    let routine = log("fsd/node-1", Lane::Routine);
    store.begin_epoch(&routine, 10).unwrap();
    store.with_batch(|batch| batch.draft(draft(&routine, "one"))).unwrap();
    store
        .with_batch(|batch| {
            batch.draft(draft(&routine, "two"))?;
            store_crash_inside(batch)
        })
        .unwrap_err();
    store.crash();
    assert!(matches!(store.with_batch(|_| Ok(())), Err(Error::Poisoned)));
    drop(store);
    assert_eq!(MemoryStore::open(&disk).unwrap().last_arrival(), 1);
}

#[test]
fn what_is_written_and_not_synced_is_taken_back_at_the_next_start() {
    let disk = Disk::default();
    let store = MemoryStore::open(&disk).unwrap();
    let routine = log("fsd/node-1", Lane::Routine);
    store.begin_epoch(&routine, 10).unwrap();
    let write = |name: &str| {
        let row = |batch: &mut dyn Batch| {
            batch.state(b"row", Some(name.as_bytes()))?;
            batch.draft(draft(&routine, name))
        };
        store.with_batch(row).unwrap();
    };
    write("one");
    let (synced, backup) = (store.arrivals(0, 9, usize::MAX).unwrap(), disk.copy());
    write("two");
    // The last commit, as it is before its sync.
    let (entry, state) = {
        let image = disk.0.image.read();
        (image.entries.last().unwrap().clone(), vec![(b"row".to_vec(), Some(b"one".to_vec()))])
    };
    let undo = Undo {
        entries: 1,
        evidence: 0,
        keys: disk
            .0
            .image
            .read()
            .keys
            .iter()
            .filter(|(_, r)| r.position == entry.position)
            .map(|(k, _)| k.clone())
            .collect(),
        hashes: vec![entry.position.hash],
        bodies: Vec::new(),
        state,
        checkpoints: Vec::new(),
    };
    disk.0.unsynced.lock().push(undo);
    drop(store);
    let store = MemoryStore::open(&disk).unwrap();
    assert_eq!(store.arrivals(0, 9, usize::MAX).unwrap(), synced);
    assert_eq!(store.state(b"row").unwrap().unwrap(), b"one");
    assert_eq!(store.tail(&routine).unwrap(), synced[0].position);
    conformance::check_whole(&store);
    assert_eq!(MemoryStore::look(&backup).arrivals(0, 9, usize::MAX).unwrap(), synced);
    assert!(matches!(MemoryStore::look(&disk).with_batch(|_| Ok(())), Err(Error::Poisoned)));
    assert!(matches!(MemoryStore::open(&disk), Err(Error::InUse { .. })));
}

fn store_crash_inside(batch: &mut dyn Batch) -> Result<(), Error> {
    batch.state(b"half", Some(b"done"))?;
    Err(Error::caller("the process ends here"))
}
