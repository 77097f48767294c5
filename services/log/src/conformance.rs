//! One behaviour suite for every [`Store`]: `conformance_suite!(|| subject)` runs each claim as a test of its own.
//!
//! For tests only. A subject opens its store over the same place again and again, so that each claim can be looked at
//! after a restart too.

use bytes::Bytes;

use crate::{
    Accepted, Appended, Draft, Entry, Error, Evidence, Hash, Key, Lane, LogId, Position, Refusal, Replica, Sealed,
    Slot, Standing, Store, StoreExt as _,
};

/// A backend under test.
pub trait Subject {
    /// Opens the store, as left by the one opened before, which has been dropped.
    fn open(&mut self) -> Box<dyn Store>;
    /// Opens it with so little space that commits of 64 KiB meet [`Error::Full`] before the hundredth.
    fn open_small(&mut self) -> Box<dyn Store>;
}

/// Makes a test of each claim for the subject that `$make` returns.
#[macro_export]
macro_rules! conformance_suite {
    ($make:expr) => {
        $crate::conformance_suite!(@each $make;
            commit_is_all_or_nothing, drafts_are_chained_and_link_their_epochs, drafts_need_an_epoch_above_all_held,
            replicas_follow_their_chain, fork_is_refused_and_kept_as_evidence, epochs_of_replicas_must_link,
            lost_records_come_back_as_an_older_epoch, idempotency_is_permanent, replicas_register_keys,
            arrivals_are_contiguous, headers_come_first_and_bodies_later, state_rows_are_paged_in_key_order,
            reads_are_paged_in_order, store_is_equal_after_it_is_opened_again, full_disk_keeps_nothing_and_reads_go_on,
            chain_verifies, store_opens_once, reads_do_not_wait_for_a_commit);
    };
    (@each $make:expr; $($claim:ident),+) => {
        $(
            #[test]
            fn $claim() {
                let make = $make;
                $crate::conformance::$claim(&mut make());
            }
        )+
    };
}

/// The log of `origin` in `lane`.
pub fn log(origin: &str, lane: Lane) -> LogId {
    LogId::new(origin, lane)
}

/// A draft without a key, whose header holds its place and `text`.
pub fn draft(log: &LogId, text: &str) -> Draft<'static> {
    let (name, text) = (log.clone(), text.to_owned());
    Draft {
        log: log.clone(),
        idempotency: None,
        content: Hash::of(text.as_bytes()),
        seal: Box::new(move |slot| Ok(seal(&name, slot, &text))),
    }
}

/// A draft under the key `key`.
pub fn keyed(log: &LogId, key: &str, text: &str) -> Draft<'static> {
    Draft { idempotency: Some(Key(key.into())), ..draft(log, text) }
}

fn seal(log: &LogId, slot: Slot, text: &str) -> Sealed {
    Sealed {
        header: Bytes::from(format!("{log} {slot:?} {text}")),
        body: Bytes::from(text.to_owned()),
        signatures: Bytes::from_static(b"signature"),
    }
}

/// A replica at a place, whose header holds all of it.
pub fn replica(log: &LogId, epoch: u64, seq: u64, previous: Hash, link: Option<Position>, text: &str) -> Replica {
    let Sealed { header, body, signatures } = seal(log, Slot { epoch, seq, previous, link }, text);
    Replica {
        log: log.clone(),
        epoch,
        seq,
        previous,
        link,
        header,
        body: Some(body),
        signatures,
        standing: Standing::Counted,
        idempotency: None,
    }
}

/// A chain of `count` replicas of one epoch.
pub fn chain(log: &LogId, epoch: u64, count: u64, link: Option<Position>) -> Vec<Replica> {
    let (mut previous, mut all) = (Hash::ZERO, Vec::new());
    for seq in 1..=count {
        let link = link.filter(|_| seq == 1);
        let next = replica(log, epoch, seq, previous, link, &format!("{epoch}/{seq}"));
        previous = Hash::of(&next.header);
        all.push(next);
    }
    all
}

/// The position of a replica.
pub fn position(replica: &Replica) -> Position {
    Position { epoch: replica.epoch, seq: replica.seq, hash: Hash::of(&replica.header) }
}

/// Commits one replica alone.
pub fn accept(store: &dyn Store, replica: &Replica) -> Accepted {
    store.with_batch(|batch| batch.replica(replica.clone())).expect("commit of a replica")
}

/// Commits one draft alone and expects it to be new.
pub fn append(store: &dyn Store, draft: Draft<'_>) -> Entry {
    match store.with_batch(|batch| batch.draft(draft)).expect("commit of a draft") {
        Appended::New(entry) => entry,
        other => panic!("expected a new entry, got {other:?}"),
    }
}

/// Checks that every log verifies, that arrivals are contiguous, and that all reads tell of the same entries.
pub fn check_whole(store: &dyn Store) {
    let all = store.arrivals(0, usize::MAX, usize::MAX).expect("arrivals");
    assert_eq!(all.len() as u64, store.last_arrival());
    for (number, entry) in (1..).zip(&all) {
        assert_eq!(entry.arrival, number);
        let (epoch, seq) = entry.position.place();
        assert_eq!(store.get(&entry.log, epoch, seq).expect("get").as_ref(), Some(entry));
        assert_eq!(store.by_hash(&entry.position.hash).expect("by_hash").as_ref(), Some(entry));
    }
    let mut count = 0;
    for (log, tail) in store.logs() {
        assert_eq!(store.tail(&log), Some(tail));
        assert_eq!(store.epochs(&log).last(), Some(&tail));
        count += store.verify_chain(&log, None).expect("chain");
    }
    assert_eq!(count, store.last_arrival());
    while store.scrub(7).expect("scrub").is_some() {}
}

macro_rules! claims {
    ($($(#[$doc:meta])* fn $name:ident($subject:ident) $body:block)+) => {
        $($(#[$doc])* pub fn $name<S: Subject>($subject: &mut S) { $body })+
    };
}

claims! {
    /// An error of the work leaves nothing behind: no entry, number, key, state or evidence.
    fn commit_is_all_or_nothing(subject) {
        let store = subject.open();
        let (own, other) = (log("edb/node-1", Lane::Urgent), log("fsd/node-1", Lane::Urgent));
        store.begin_epoch(&own, 5).expect("epoch");
        let failed = store.commit(&mut |batch| {
            assert!(matches!(batch.replica(chain(&other, 3, 1, None).remove(0))?, Accepted::New(_)));
            assert!(matches!(batch.draft(keyed(&own, "k", "a"))?, Appended::New(_)));
            batch.state(b"s", Some(b"v"))?;
            batch.checkpoint(&other, b"c")?;
            assert_eq!(batch.read_state(b"s")?.as_deref(), Some(&b"v"[..]));
            assert_eq!(batch.tail(&own).map(|tail| tail.seq), Some(1));
            Err(Error::caller("changed my mind"))
        });
        assert!(matches!(failed, Err(Error::Caller(_))), "{failed:?}");
        assert_eq!((store.last_arrival(), store.logs().len()), (0, 0));
        assert_eq!(store.find(&Key(b"k".to_vec())).expect("find"), None);
        assert_eq!(store.state(b"s").expect("state"), None);
        assert_eq!(store.checkpoint(&other).expect("checkpoint"), None);
        assert_eq!(append(&*store, keyed(&own, "k", "a")).arrival, 1);
        check_whole(&*store);
    }

    /// Drafts count from 1 in each epoch, chain within it and link the tail before it.
    fn drafts_are_chained_and_link_their_epochs(subject) {
        let own = log("edb/node-1", Lane::Routine);
        let store = subject.open();
        store.begin_epoch(&own, 5).expect("epoch");
        let one = append(&*store, draft(&own, "one"));
        let two = append(&*store, draft(&own, "two"));
        assert_eq!((one.position.place(), one.previous, one.link), ((5, 1), Hash::ZERO, None));
        assert_eq!((two.position.place(), two.previous, two.link), ((5, 2), one.position.hash, None));
        assert_eq!(two.standing, Standing::Counted);
        drop(store);
        let store = subject.open();
        store.begin_epoch(&own, 9).expect("epoch");
        let three = append(&*store, draft(&own, "three"));
        assert_eq!((three.position.place(), three.previous, three.link), ((9, 1), Hash::ZERO, Some(two.position)));
        assert_eq!(store.epochs(&own), vec![two.position, three.position]);
        check_whole(&*store);
    }

    /// No process drafts in an epoch that an earlier one may have used.
    fn drafts_need_an_epoch_above_all_held(subject) {
        let own = log("edb/node-1", Lane::Routine);
        let store = subject.open();
        let none = store.with_batch(|batch| batch.draft(draft(&own, "x")));
        assert!(matches!(none, Err(Error::NoEpoch { .. })), "{none:?}");
        store.begin_epoch(&own, 5).expect("epoch");
        append(&*store, draft(&own, "x"));
        drop(store);
        let store = subject.open();
        let none = store.with_batch(|batch| batch.draft(draft(&own, "y")));
        assert!(matches!(none, Err(Error::NoEpoch { .. })), "{none:?}");
        for epoch in [0, 4, 5, u64::MAX] {
            assert!(store.begin_epoch(&own, epoch).is_err(), "epoch {epoch}");
        }
        // Begun above what is held, but a lost record of a higher epoch comes back before the first draft.
        store.begin_epoch(&own, 6).expect("epoch");
        let tail = store.tail(&own);
        assert!(matches!(accept(&*store, &replica(&own, 7, 1, Hash::ZERO, tail, "lost")), Accepted::New(_)));
        let late = store.with_batch(|batch| batch.draft(draft(&own, "y")));
        assert!(matches!(late, Err(Error::EpochNotAbove { held: 7, .. })), "{late:?}");
        store.begin_epoch(&own, 8).expect("epoch");
        assert_eq!(append(&*store, draft(&own, "y")).link.map(|link| link.epoch), Some(7));
        check_whole(&*store);
    }

    /// A replica is the next of its epoch or it is refused for its reason; the same one twice is held.
    fn replicas_follow_their_chain(subject) {
        let store = subject.open();
        let other = log("fsd/node-1", Lane::Urgent);
        let all = chain(&other, 3, 4, None);
        assert_eq!(accept(&*store, &all[1]), Accepted::Refused(Refusal::Gap { tail: None }));
        assert!(matches!(accept(&*store, &all[0]), Accepted::New(entry) if entry.arrival == 1));
        assert_eq!(accept(&*store, &all[0]), Accepted::Held);
        let tail = position(&all[0]);
        assert_eq!(accept(&*store, &all[2]), Accepted::Refused(Refusal::Gap { tail: Some(tail) }));
        let stray = replica(&other, 3, 2, Hash::of(b"elsewhere"), None, "stray");
        assert_eq!(accept(&*store, &stray), Accepted::Refused(Refusal::BadPrevious { tail }));
        for next in &all[1..] {
            assert!(matches!(accept(&*store, next), Accepted::New(_)));
        }
        for (epoch, seq, previous) in [(0, 1, Hash::ZERO), (3, 0, Hash::ZERO), (u64::MAX, 1, Hash::ZERO), (4, 1, tail.hash)] {
            let bad = accept(&*store, &replica(&other, epoch, seq, previous, None, "bad"));
            assert!(matches!(bad, Accepted::Refused(Refusal::Malformed { .. })), "{bad:?}");
        }
        assert_eq!(store.last_arrival(), 4);
        check_whole(&*store);
    }

    /// A second record at a held position is refused, kept as evidence once, and does not stop the log.
    fn fork_is_refused_and_kept_as_evidence(subject) {
        let store = subject.open();
        let other = log("fsd/node-1", Lane::Urgent);
        let all = chain(&other, 3, 3, None);
        all.iter().take(2).for_each(|next| drop(accept(&*store, next)));
        for seq in [0, 1] {
            let forged = Replica { header: Bytes::from_static(b"forged"), ..all[seq].clone() };
            assert_eq!(accept(&*store, &forged), Accepted::Refused(Refusal::Fork { held: position(&all[seq]) }));
            let evidence = Evidence {
                log: other.clone(),
                position: position(&forged),
                header: forged.header.clone(),
                body: forged.body.clone(),
                signatures: forged.signatures.clone(),
            };
            for _ in 0..2 {
                store.with_batch(|batch| batch.evidence(evidence.clone())).expect("evidence");
            }
            assert_eq!(store.evidence().expect("evidence").get(seq), Some(&evidence));
        }
        assert_eq!(store.evidence().expect("evidence").len(), 2);
        assert!(matches!(accept(&*store, &all[2]), Accepted::New(_)));
        for number in 0..200_u64 {
            let header = Bytes::from(number.to_string());
            let position = Position { epoch: 3, seq: 1, hash: Hash::of(&header) };
            let more = Evidence { log: other.clone(), position, header, body: None, signatures: Bytes::new() };
            store.with_batch(|batch| batch.evidence(more)).expect("evidence");
        }
        assert_eq!(store.evidence().expect("evidence").len(), crate::EVIDENCE_MAX);
        drop(store);
        assert_eq!(subject.open().evidence().expect("evidence").len(), crate::EVIDENCE_MAX);
    }

    /// An epoch names a position held here, tail or earlier, or none when its origin had nothing; whatever is held.
    fn epochs_of_replicas_must_link(subject) {
        let store = subject.open();
        let other = log("fsd/node-1", Lane::Urgent);
        let all = chain(&other, 3, 3, None);
        let linked = replica(&other, 3, 1, Hash::ZERO, Some(position(&all[0])), "linked to nothing held");
        assert!(matches!(accept(&*store, &linked), Accepted::Refused(Refusal::BadLink { tail: None, .. })));
        all.iter().for_each(|next| drop(accept(&*store, next)));
        let tail = position(&all[2]);
        let wrong = Position { hash: Hash::of(b"other"), ..tail };
        let beyond = Position { seq: 4, ..tail };
        for link in [Some(wrong), Some(beyond)] {
            let refused = accept(&*store, &replica(&other, 7, 1, Hash::ZERO, link, "epoch"));
            assert_eq!(refused, Accepted::Refused(Refusal::BadLink { link, tail: Some(tail) }));
        }
        assert_eq!(accept(&*store, &chain(&other, 7, 2, Some(tail))[1]), Accepted::Refused(Refusal::Gap { tail: None }));
        let earlier = replica(&other, 7, 1, Hash::ZERO, Some(position(&all[1])), "links before the tail");
        assert!(matches!(accept(&*store, &earlier), Accepted::New(_)));
        let tail = position(&earlier);
        assert_eq!(store.tail(&other), Some(tail));
        let unknown = Refusal::OlderEpochUnknown { tail };
        for link in [Some(wrong), Some(Position { epoch: 6, ..wrong })] {
            let old = replica(&other, 5, 1, Hash::ZERO, link, "older");
            assert_eq!(accept(&*store, &old), Accepted::Refused(unknown.clone()));
        }
        let old = replica(&other, 5, 2, Hash::of(b"x"), None, "older");
        assert_eq!(accept(&*store, &old), Accepted::Refused(unknown));
        for (epoch, places) in [(5, 2), (9, 2)] {
            for next in chain(&other, epoch, places, None) {
                assert!(matches!(accept(&*store, &next), Accepted::New(_)), "{next:?}");
            }
        }
        assert_eq!(store.tail(&other).map(|tail| tail.place()), Some((9, 2)));
        check_whole(&*store);
    }

    /// A node restored from a backup opens a new epoch, then takes its lost records back, whole epochs included.
    fn lost_records_come_back_as_an_older_epoch(subject) {
        let own = log("edb/node-1", Lane::Urgent);
        let lost = chain(&own, 3, 5, None);
        let later = chain(&own, 4, 2, Some(position(&lost[4])));
        let store = subject.open();
        lost.iter().take(2).for_each(|next| drop(accept(&*store, next)));
        store.begin_epoch(&own, 9).expect("epoch");
        let first = append(&*store, draft(&own, "after the restore"));
        assert_eq!(first.link, Some(position(&lost[1])));
        for next in lost.iter().skip(2).chain(&later) {
            assert!(matches!(accept(&*store, next), Accepted::New(_)), "{next:?}");
        }
        assert_eq!(store.tail(&own), Some(first.position));
        let places: Vec<_> = store.read(&own, None, 100, usize::MAX).expect("read").iter().map(|e| e.position.place()).collect();
        assert_eq!(places, [(3, 1), (3, 2), (3, 3), (3, 4), (3, 5), (4, 1), (4, 2), (9, 1)]);
        assert_eq!(append(&*store, draft(&own, "goes on")).position.place(), (9, 2));
        drop(store);
        check_whole(&*subject.open());
    }

    /// One key has one record and one answer, in one batch, later, and after a restart.
    fn idempotency_is_permanent(subject) {
        let own = log("edb/node-1", Lane::Routine);
        let mut store = subject.open();
        store.begin_epoch(&own, 5).expect("epoch");
        let (first, second, third) = store
            .with_batch(|batch| {
                Ok((batch.draft(keyed(&own, "k", "a"))?, batch.draft(keyed(&own, "k", "a"))?, batch.draft(keyed(&own, "k", "b"))?))
            })
            .expect("commit");
        let Appended::New(entry) = first else { panic!("{first:?}") };
        for round in 0..3 {
            let recorded = store.find(&Key(b"k".to_vec())).expect("find").expect("recorded");
            assert_eq!((recorded.position, &recorded.log), (entry.position, &own));
            assert_eq!(recorded.content, Hash::of(b"a"));
            if round == 0 {
                assert_eq!(second, Appended::Duplicate(recorded.clone()));
                assert_eq!(third, Appended::Conflict(recorded.clone()));
            }
            let again = Draft { seal: Box::new(|_| panic!("sealed twice")), ..keyed(&own, "k", "a") };
            let same = store.with_batch(|batch| batch.draft(again)).expect("commit");
            assert_eq!(same, Appended::Duplicate(recorded.clone()));
            let other = store.with_batch(|batch| batch.draft(keyed(&own, "k", "b"))).expect("commit");
            assert_eq!(other, Appended::Conflict(recorded));
            drop(store);
            store = subject.open();
            store.begin_epoch(&own, 100 + round).expect("epoch");
        }
        assert_eq!(store.last_arrival(), 1);
        assert_eq!(append(&*store, keyed(&own, "k2", "a")).arrival, 2);
    }

    /// Replicas register keys too; the first one wins without an error.
    fn replicas_register_keys(subject) {
        let store = subject.open();
        let (own, other) = (log("edb/node-1", Lane::Routine), log("edb/node-2", Lane::Routine));
        let mut all = chain(&other, 3, 2, None);
        all[0].idempotency = Some((Key(b"k".to_vec()), Hash::of(b"first")));
        all[1].idempotency = Some((Key(b"k".to_vec()), Hash::of(b"second")));
        all.iter().for_each(|next| assert!(matches!(accept(&*store, next), Accepted::New(_))));
        let recorded = store.find(&Key(b"k".to_vec())).expect("find").expect("recorded");
        assert_eq!((recorded.content, recorded.position), (Hash::of(b"first"), position(&all[0])));
        store.begin_epoch(&own, 5).expect("epoch");
        let answer = store.with_batch(|batch| batch.draft(keyed(&own, "k", "first"))).expect("commit");
        assert_eq!(answer, Appended::Duplicate(recorded));
    }

    /// Arrival numbers count over all logs without gaps, also over rolled-back batches.
    fn arrivals_are_contiguous(subject) {
        let store = subject.open();
        let (own, other) = (log("edb/node-1", Lane::Routine), log("fsd/node-1", Lane::Exercise));
        store.begin_epoch(&own, 5).expect("epoch");
        for (number, next) in chain(&other, 3, 10, None).into_iter().enumerate() {
            let failed = store.with_batch(|batch| {
                batch.draft(draft(&own, "dropped"))?;
                Err::<(), _>(Error::caller("no"))
            });
            assert!(failed.is_err());
            store
                .with_batch(|batch| {
                    batch.replica(next)?;
                    batch.draft(draft(&own, &number.to_string()))
                })
                .expect("commit");
        }
        assert_eq!(store.last_arrival(), 20);
        let logs: Vec<_> = store.arrivals(0, 4, usize::MAX).expect("arrivals").into_iter().map(|e| e.log).collect();
        assert_eq!(logs, [other.clone(), own.clone(), other, own]);
        check_whole(&*store);
    }

    /// A header without body has a place; its body is filled in once, under the same arrival number.
    fn headers_come_first_and_bodies_later(subject) {
        let store = subject.open();
        let other = log("fsd/node-1", Lane::Urgent);
        let whole = chain(&other, 3, 2, None);
        let bare = Replica { body: None, ..whole[0].clone() };
        let Accepted::New(entry) = accept(&*store, &bare) else { panic!("not new") };
        assert_eq!((entry.body, entry.standing), (None, Standing::NoBody));
        assert_eq!(accept(&*store, &bare), Accepted::Held);
        assert!(matches!(accept(&*store, &whole[1]), Accepted::New(_)));
        let reason = "no right to this event".to_owned();
        let late = Replica { standing: Standing::NotCounted { reason: reason.clone() }, ..whole[0].clone() };
        let Accepted::BodyAdded(entry) = accept(&*store, &late) else { panic!("no body added") };
        assert_eq!((entry.arrival, entry.body.as_ref()), (1, whole[0].body.as_ref()));
        assert_eq!(accept(&*store, &whole[0]), Accepted::Held);
        drop(store);
        let store = subject.open();
        let held = store.get(&other, 3, 1).expect("get").expect("entry");
        assert_eq!(held.standing, Standing::NotCounted { reason });
        assert_eq!(held.body, whole[0].body);
        check_whole(&*store);
    }

    /// State rows are set, replaced, removed, and listed by prefix.
    fn state_rows_are_paged_in_key_order(subject) {
        let store = subject.open();
        let rows: [&[u8]; 6] = [b"a", b"p", b"p\0", b"p\x01", b"p\xff", b"q"];
        store
            .with_batch(|batch| rows.iter().rev().try_for_each(|key| batch.state(key, Some(key))))
            .expect("commit");
        let keys = |prefix: &[u8], after: Option<&[u8]>, max| -> Vec<Vec<u8>> {
            store.state_prefix(prefix, after, max).expect("rows").into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(b"p", None, 10), &rows[1..5]);
        assert_eq!(keys(b"p", Some(b"p"), 2), &rows[2..4]);
        assert_eq!(keys(b"p", Some(b"a"), 1), &rows[1..2]);
        assert_eq!(keys(b"p\xff", None, 10), &rows[4..5]);
        assert_eq!(keys(b"", None, 10), &rows[..]);
        assert_eq!(keys(b"p", Some(b"q"), 10), Vec::<Vec<u8>>::new());
        store
            .with_batch(|batch| {
                batch.state(b"p", None)?;
                batch.state(b"a", Some(b""))?;
                assert_eq!(batch.read_state(b"p")?, None);
                Ok(())
            })
            .expect("commit");
        assert_eq!(store.state(b"p").expect("state"), None);
        assert_eq!(store.state(b"a").expect("state").as_deref(), Some(&b""[..]));
    }

    /// Pages follow each other in order, within their limits, and never come empty before the end.
    fn reads_are_paged_in_order(subject) {
        let store = subject.open();
        let other = log("fsd/node-1", Lane::Urgent);
        let first = chain(&other, 3, 5, None);
        let second = chain(&other, 7, 5, Some(position(&first[4])));
        first.iter().chain(&second).for_each(|next| drop(accept(&*store, next)));
        let weight = store.get(&other, 3, 2).expect("get").expect("entry").weight();
        for (max_entries, max_bytes) in [(1, usize::MAX), (3, usize::MAX), (100, weight * 2), (100, 1), (100, usize::MAX)] {
            let (mut after, mut places) = (None, Vec::new());
            loop {
                let page = store.read(&other, after, max_entries, max_bytes).expect("read");
                let Some(last) = page.last() else { break };
                assert!(page.len() <= max_entries);
                assert!(page.len() == 1 || page.iter().map(Entry::weight).sum::<usize>() <= max_bytes);
                after = Some(last.position.place());
                places.extend(page.iter().map(|entry| entry.position.place()));
            }
            let expected: Vec<_> = first.iter().chain(&second).map(|next| (next.epoch, next.seq)).collect();
            assert_eq!(places, expected);
        }
        assert!(store.read(&other, None, 0, usize::MAX).expect("read").is_empty());
        assert!(store.read(&log("nobody", Lane::Urgent), None, 10, 10).expect("read").is_empty());
        assert_eq!(store.read(&other, Some((5, 0)), 1, 1).expect("read")[0].position.place(), (7, 1));
    }

    /// What is read is the same after a restart.
    fn store_is_equal_after_it_is_opened_again(subject) {
        let store = subject.open();
        let (own, other) = (log("edb/node-1", Lane::Routine), log("fsd/node-1", Lane::Urgent));
        store.begin_epoch(&own, 5).expect("epoch");
        chain(&other, 3, 20, None).iter().for_each(|next| drop(accept(&*store, next)));
        for number in 0..20 {
            append(&*store, keyed(&own, &number.to_string(), "x"));
        }
        store.with_batch(|batch| batch.checkpoint(&other, b"signed")).expect("checkpoint");
        let before = (store.logs(), store.arrivals(0, 100, usize::MAX).expect("arrivals"), store.last_arrival());
        drop(store);
        let store = subject.open();
        let after = (store.logs(), store.arrivals(0, 100, usize::MAX).expect("arrivals"), store.last_arrival());
        assert_eq!(before, after);
        assert_eq!(after.0.first().map(|(log, _)| log), Some(&other), "urgent comes first");
        assert_eq!(store.checkpoint(&other).expect("checkpoint").as_deref(), Some(&b"signed"[..]));
        check_whole(&*store);
    }

    /// A full disk refuses a commit whole, may be tried again, and does not hinder reads.
    fn full_disk_keeps_nothing_and_reads_go_on(subject) {
        let store = subject.open_small();
        let own = log("edb/node-1", Lane::Routine);
        store.begin_epoch(&own, 5).expect("epoch");
        let text = "x".repeat(64 << 10);
        let (mut kept, mut full) = (0, None);
        for number in 0..100 {
            match store.with_batch(|batch| batch.draft(keyed(&own, &number.to_string(), &text))) {
                Ok(_) => kept += 1,
                Err(error) => {
                    full = Some((number, error));
                    break;
                }
            }
        }
        let (number, error) = full.expect("the disk filled up");
        assert!(matches!(error, Error::Full { .. }), "{error}");
        assert!(error.is_retryable() && !error.is_fatal());
        assert!(kept > 0);
        assert_eq!(store.find(&Key(number.to_string().into_bytes())).expect("find"), None);
        check_whole(&*store);
        drop(store);
        let store = subject.open();
        assert_eq!(store.last_arrival(), kept);
        store.begin_epoch(&own, 6).expect("epoch");
        assert_eq!(append(&*store, keyed(&own, &number.to_string(), &text)).arrival, kept + 1);
        check_whole(&*store);
    }

    /// A chain verifies from any place, and a scrub goes round all entries.
    fn chain_verifies(subject) {
        let store = subject.open();
        let other = log("fsd/node-1", Lane::Urgent);
        chain(&other, 3, 10, None).iter().for_each(|next| drop(accept(&*store, next)));
        assert_eq!(store.verify_chain(&other, None).expect("chain"), 10);
        assert_eq!(store.verify_chain(&other, Some((3, 4))).expect("chain"), 6);
        let steps: Vec<_> = (0..4).map(|_| store.scrub(6).expect("scrub")).collect();
        assert_eq!(steps, [Some(6), Some(10), None, Some(6)]);
    }

    /// Two processes cannot have one store.
    fn store_opens_once(subject) {
        let first = subject.open();
        let second = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| subject.open()));
        assert!(second.is_err(), "opened twice");
        drop(first);
        drop(subject.open());
    }

    /// Reads inside a commit answer at once and see what was committed before it.
    fn reads_do_not_wait_for_a_commit(subject) {
        let store = subject.open();
        let own = log("edb/node-1", Lane::Routine);
        store.begin_epoch(&own, 5).expect("epoch");
        append(&*store, draft(&own, "one"));
        store
            .with_batch(|batch| {
                batch.draft(draft(&own, "two"))?;
                assert_eq!(store.last_arrival(), 1);
                assert_eq!(store.arrivals(0, 10, usize::MAX)?.len(), 1);
                assert_eq!(store.tail(&own).map(|tail| tail.seq), Some(1));
                Ok(())
            })
            .expect("commit");
        assert_eq!(store.arrivals(0, 10, usize::MAX).expect("arrivals").len(), 2);
    }
}
