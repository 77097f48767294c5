//! The newest records in memory (R3): a log with a hole in it is never served, whatever order records come back in.

use std::sync::Arc;

use campanile_bus::Arrival;
use campanile_bus::record::{Seal, open_header};
use campanile_bus::tails::Tails;
use campanile_discovery::keys::SigningKey;
use campanile_log::memory::Disk;
use campanile_log::{Entry, Hash, Lane, LogId, MemoryStore, Position, Slot, Standing};
use campanile_tests::cluster::alerts::Fire;

use crate::setting::NOW;
use crate::words::draft;

fn arrival(number: u64, epoch: u64, seq: u64) -> Arc<Arrival> {
    let log = LogId::new("fsd/node-1", Lane::Urgent);
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let origin = "fsd/node-1".parse().unwrap();
    let time = NOW.parse().unwrap();
    let seal = Seal { federation: "x", origin: &origin, roster: 1, time, key: &key, salt: [7; 16] };
    let previous = if seq == 1 { Hash::ZERO } else { Hash([9; 32]) };
    let draft = draft(&Fire::new(format!("{epoch}-{seq}"), time, (22.3, 114.1)));
    let (sealed, _) = seal.seal(&draft, &log, Slot { epoch, seq, previous, link: None });
    let header = open_header(&sealed.header).unwrap();
    let entry = Entry {
        arrival: number,
        log,
        position: Position { epoch, seq, hash: Hash::of(&sealed.header) },
        previous,
        link: None,
        header: sealed.header,
        body: Some(sealed.body),
        signatures: sealed.signatures,
        standing: Standing::Counted,
    };
    Arc::new(Arrival { entry, header: Arc::new(header), body: None, received: time, returned: false })
}

#[test]
fn r3_memory_serves_no_log_with_a_hole_after_a_lost_epoch_came_back() {
    let store = MemoryStore::open(&Disk::default()).unwrap();
    let tails = Tails::new(&store);
    let log = LogId::new("fsd/node-1", Lane::Urgent);
    let places = |after| {
        let recent = tails.recent(&log, after, 100);
        recent.map(|entries| entries.iter().map(|entry| entry.position.place()).collect::<Vec<_>>())
    };
    tails.advance(&[arrival(1, 10, 1), arrival(2, 10, 2)]);
    tails.advance(&[arrival(3, 30, 1)]);
    assert_eq!(places((10, 1)), Some(vec![(10, 2), (30, 1)]));
    // What a restored disk had lost comes back: an epoch between, after what was written since.
    tails.advance(&[arrival(4, 20, 1), arrival(5, 20, 2)]);
    tails.advance(&[arrival(6, 30, 2)]);
    let after = [(10, 1), (10, 2), (20, 1), (20, 2), (30, 1)];
    for after in after {
        let Some(served) = places(after) else { continue };
        let whole: Vec<_> =
            [(10, 1), (10, 2), (20, 1), (20, 2), (30, 1), (30, 2)].into_iter().filter(|place| *place > after).collect();
        assert_eq!(served, whole, "after {after:?} memory left something out");
    }
    assert_eq!(tails.watch(&log).borrow().tail.map(|tail| tail.place()), Some((30, 2)));
}
