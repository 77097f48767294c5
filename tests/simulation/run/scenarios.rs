//! Runs that are written out, not drawn: what once went wrong, step by step. Each gives what it found wrong.

use campanile_alert::Clock as _;
use campanile_log::memory::{Disk, Fault};
use campanile_log::{Lane, LogId, Store as _};

use super::{Connection, Run, Through};
use crate::federation::live_key;

const FSD: usize = 0;
const EDB: usize = 1;
const HAD: usize = 2;

/// The log that the scenarios look at.
fn log() -> LogId {
    LogId::new("fsd/node-1", Lane::Urgent)
}

impl Run {
    fn until(&mut self, at_ms: u64) {
        while self.now_ms < at_ms {
            self.step();
        }
    }

    /// A client of fsd reports a fire beside schools.
    fn report(&mut self, identifier: &str) {
        let now = self.nodes[FSD].clock.now();
        self.work.report(identifier, now, self.now_ms);
    }

    /// A client of fsd reports a drill of its own, so that each has closures of its own.
    fn report_beside(&mut self, identifier: &str, drill: usize) {
        let now = self.nodes[FSD].clock.now();
        self.work.report_drill(identifier, &format!("drill-{drill}"), now, self.now_ms);
    }

    fn end(mut self) -> Vec<String> {
        self.work.resume(self.now_ms);
        self.settle();
        let faults = self.shared.ledger.faults();
        if !faults.is_empty() || std::env::var_os("CAMPANILE_SEED").is_some() {
            // Shown when the test fails, or when it is asked for with any seed.
            println!("{}", self.shared.ledger.trace.lines().join("\n"));
        }
        faults
    }

    fn expect(&self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.shared.ledger.fault(otherwise());
        }
    }

    fn epochs(&self, at: usize) -> usize {
        self.nodes[at].look().epochs(&log()).len()
    }
}

/// A department loses its disk after it has written what is for itself alone, and comes back to peers that hold the
/// headers of that: what it writes from then on must follow them.
pub(crate) fn lose_disk_with_private_records() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.has_envelope = true;
    run.until(3_000);
    run.crash(EDB);
    run.replace_disk(EDB, Disk::default());
    run.restart(EDB);
    run.work.resume(run.now_ms);
    run.settle();
    let returned = run.nodes[EDB].look().last_arrival();
    run.expect(returned >= 3, || format!("edb holds {returned} records, two came before and one after the loss"));
    run.shared.ledger.faults()
}

/// A fire that only edb has comes back to fsd, which was set back, in an older epoch; had is in the newer one by then.
pub(crate) fn come_back_behind_those_who_have_gone_on() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.until(1_000);
    run.report("before");
    run.until(2_000);
    let backup = run.nodes[FSD].disk.lock().copy();
    run.set_link(FSD, HAD, Connection::Cut);
    run.set_link(EDB, HAD, Connection::Cut);
    run.report("lost");
    run.until(3_000);
    let held = [EDB, HAD].map(|at| run.nodes[at].look().tail(&log()).map(|tail| tail.seq));
    run.expect(held == [Some(2), Some(1)], || format!("edb and had hold {held:?}, edb alone was to have the second"));
    run.crash(EDB);
    run.crash(FSD);
    run.replace_disk(FSD, backup);
    run.set_link(FSD, HAD, Connection::Good);
    run.set_link(EDB, HAD, Connection::Good);
    run.restart(FSD);
    run.until(12_000);
    run.report("after");
    run.until(14_000);
    let gone_on = run.epochs(HAD);
    run.expect(gone_on == 2, || format!("had holds {gone_on} epochs, so it has not gone on, and this proves nothing"));
    run.restart(EDB);
    run.end()
}

/// edb's disk is gone, and with it what its rules knew: what they had closed is closed still, and once.
pub(crate) fn lose_the_state_of_the_rules() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.has_envelope = true;
    run.until(1_000);
    run.report("before");
    run.until(4_000);
    let closed = crate::closures::count(&run.nodes[EDB].look());
    run.expect(closed > 0, || "nothing was closed, so this proves nothing".into());
    run.crash(EDB);
    run.replace_disk(EDB, Disk::default());
    run.restart(EDB);
    run.until(20_000);
    let after = crate::closures::count(&run.nodes[EDB].look());
    run.expect(after == closed, || format!("edb holds {after} closures after the loss, and {closed} before"));
    let rules = run.nodes[EDB].rules();
    let live = rules.map_or(0, |rules| rules.lock().engine.live().len());
    run.expect(live == closed, || format!("the rules manage {live} closures of {closed}"));
    run.end()
}

/// fsd loses its disk, and its clock goes back: what comes back stands in an epoch above the one it began with.
pub(crate) fn lose_disk_and_time() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.until(1_000);
    run.report("before");
    run.until(2_000);
    run.crash(FSD);
    run.replace_disk(FSD, Disk::default());
    run.nodes[FSD].clock.set_off(-200);
    run.restart(FSD);
    run.until(4_000);
    run.report("after");
    run.until(6_000);
    let held = run.epochs(FSD);
    run.expect(held == 2, || format!("fsd holds {held} epochs, its past and its present"));
    run.end()
}

/// fsd goes from one roster past the next to the one after, and publishes under that; nobody else has either.
pub(crate) fn pass_a_roster_over() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.until(1_000);
    let governance = std::sync::Arc::clone(&run.shared.governance);
    governance.lock().withdraw_or_return("had");
    governance.lock().withdraw_or_return("had");
    run.nodes[FSD].hand_over(&governance.lock().roster());
    run.report("after");
    run.end()
}

/// fsd reports under a roster that edb passes over, between two that are of another mind about its right to; edb judges
/// by the one that the record names. `withdrawn` says whether that one gives no right.
fn pass_the_named_roster_over(withdrawn: bool) -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.until(1_000);
    let governance = std::sync::Arc::clone(&run.shared.governance);
    run.set_link(FSD, EDB, Connection::Cut);
    run.set_link(EDB, HAD, Connection::Cut);
    let change = |department: &str| {
        let mut governance = governance.lock();
        governance.withdraw_or_return(department);
        governance.roster()
    };
    let named = change(if withdrawn { "fsd" } else { "had" });
    run.nodes[FSD].hand_over(&named);
    run.until(2_000);
    let now = run.nodes[FSD].clock.now();
    match withdrawn {
        true => run.work.usurp_at(FSD, crate::workload::PLACES[0], now, run.now_ms),
        false => run.report("under-the-second"),
    }
    run.until(4_000);
    let newest = change("fsd");
    run.nodes[EDB].hand_over(&newest);
    run.until(5_000);
    run.set_link(FSD, EDB, Connection::Good);
    run.set_link(EDB, HAD, Connection::Good);
    run.until(20_000);
    let held = run.nodes[EDB].look().read(&log(), None, usize::MAX, usize::MAX).unwrap();
    let counted: Vec<bool> = held.iter().map(|entry| entry.standing == campanile_log::Standing::Counted).collect();
    run.expect(counted == [!withdrawn], || format!("edb counts {counted:?}"));
    run.end()
}

/// edb gets what fsd says over had alone: it hears fsd as long as fsd runs, and misses it soon after it has gone.
pub(crate) fn hear_over_others() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.until(1_000);
    run.report("before");
    run.until(3_000);
    run.set_link(FSD, EDB, Connection::Cut);
    let unheard = |run: &mut Run, at_ms: u64| {
        run.until(at_ms);
        let told = run.nodes[EDB].ask_unheard();
        run.until(at_ms + 100);
        let told = told.lock().take();
        told.unwrap_or_default().into_keys().map(|department| department.to_string()).collect::<Vec<_>>()
    };
    let (while_it_runs, still) = (unheard(&mut run, 90_000), unheard(&mut run, 110_000));
    run.expect(while_it_runs.is_empty() && still.is_empty(), || format!("edb misses {while_it_runs:?} and {still:?}"));
    run.crash(FSD);
    let gone = unheard(&mut run, 190_000);
    run.expect(gone == ["fsd"], || format!("edb misses {gone:?}, and fsd alone has gone"));
    run.set_link(FSD, EDB, Connection::Good);
    run.restart(FSD);
    run.end()
}

/// The roster that was passed over gives no right, and the newest does.
pub(crate) fn pass_over_a_roster_without_the_right() -> Vec<String> {
    pass_the_named_roster_over(true)
}

/// The roster that was passed over gives the right, and the newest does not.
pub(crate) fn pass_over_a_roster_with_the_right() -> Vec<String> {
    pass_the_named_roster_over(false)
}

/// fsd is set back by a start, and goes on: no position that it had used comes twice.
pub(crate) fn set_back_by_a_start() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.report("before");
    run.until(1_000);
    let backup = run.nodes[FSD].disk.lock().copy();
    run.crash(FSD);
    run.restart(FSD);
    run.report("lost");
    run.until(2_000);
    let lost = run.epochs(FSD);
    run.expect(lost == 2, || format!("fsd has written in {lost} epochs, so nothing of a later one is lost"));
    run.crash(FSD);
    (1..run.nodes.len()).for_each(|other| run.set_link(FSD, other, Connection::Cut));
    run.replace_disk(FSD, backup);
    run.restart(FSD);
    run.until(4_000);
    run.report("after");
    run.until(12_000);
    (1..run.nodes.len()).for_each(|other| run.set_link(FSD, other, Connection::Good));
    run.end()
}

/// The commit of a fire fails, and the power with it: whoever was told that it stands finds it.
pub(crate) fn fail_the_commit_of_a_fire() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.until(1_000);
    run.nodes[FSD].fail_commit(1, Fault::Io { kept: false });
    run.report("failed");
    run.until(2_000);
    run.crash(FSD);
    run.restart(FSD);
    run.end()
}

/// edb crashes again and again while fires come to it: each has its closures, whatever was put off.
pub(crate) fn crash_between_fires_and_their_effects() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.has_envelope = true;
    run.until(1_000);
    for n in 0..24 {
        run.report_beside(&format!("fire-{n}"), n);
        let at_ms = run.now_ms + 40 + 20 * (n as u64 % 5);
        run.until(at_ms);
        run.crash(EDB);
        run.restart(EDB);
        let at_ms = run.now_ms + 400;
        run.until(at_ms);
    }
    run.end()
}

/// fsd's disk is gone, and nobody can be reached: it publishes nothing until it has been told of its past.
pub(crate) fn publish_nothing_before_the_past_is_known() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.until(1_000);
    run.report("before");
    run.until(2_000);
    run.crash(FSD);
    run.replace_disk(FSD, Disk::default());
    (1..run.nodes.len()).for_each(|other| run.set_link(FSD, other, Connection::Cut));
    run.restart(FSD);
    run.report("after");
    run.until(25_000);
    let written = run.nodes[FSD].look().last_arrival();
    run.expect(written == 0, || format!("fsd wrote {written} records without its past"));
    (1..run.nodes.len()).for_each(|other| run.set_link(FSD, other, Connection::Good));
    run.until(40_000);
    let (own, theirs) = (run.epochs(FSD), run.epochs(HAD));
    run.expect(own == 2 && theirs == 2, || {
        format!("fsd holds {own} epochs and had {theirs}, the past and the present")
    });
    run.end()
}

/// fsd loses its disk, and then had its own, which alone held a copy: nobody can give that back.
pub(crate) fn lose_the_only_copy_too() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.until(1_000);
    run.crash(EDB);
    run.report("lost");
    run.until(2_000);
    let copied = run.nodes[HAD].look().tail(&log()).is_some();
    run.expect(copied, || "had holds no copy, so this proves nothing".into());
    for at in [FSD, HAD] {
        run.crash(at);
        run.replace_disk(at, Disk::default());
    }
    [FSD, EDB, HAD].into_iter().for_each(|at| run.restart(at));
    run.end()
}

/// The key of fsd changes while the others are down, and only the nodes of `told` are given the rosters that say so: who
/// starts after that has yet to believe where fsd says that it is.
fn change_a_key_beside_the_others(told: &[usize]) -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.until(1_000);
    [EDB, HAD].into_iter().for_each(|at| run.crash(at));
    let governance = std::sync::Arc::clone(&run.shared.governance);
    governance.lock().add_key("fsd", &live_key("fsd", 1));
    run.nodes[FSD].hand_over(&governance.lock().roster());
    run.nodes[FSD].change_key();
    run.until(2_000);
    run.end_key(FSD, 0);
    run.report("after");
    run.until(3_000);
    [EDB, HAD].into_iter().for_each(|at| run.restart(at));
    run.until(5_000);
    told.iter().for_each(|at| run.nodes[*at].hand_over(&governance.lock().roster()));
    run.end()
}

/// The others have the rosters after they have heard where fsd is, and do not hear that twice.
pub(crate) fn learn_of_a_key_after_what_it_signed() -> Vec<String> {
    change_a_key_beside_the_others(&[EDB])
}

/// The others cannot find fsd, which alone has the rosters by which they could; it finds them.
pub(crate) fn keep_the_rosters_from_the_others() -> Vec<String> {
    change_a_key_beside_the_others(&[])
}

/// Others go on publishing while edb's past comes back: its rules do not wait for them to be silent.
pub(crate) fn recover_while_others_publish() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.has_envelope = true;
    run.until(1_000);
    run.report("before");
    run.until(4_000);
    run.crash(EDB);
    run.replace_disk(EDB, Disk::default());
    run.restart(EDB);
    for n in 0..60 {
        run.report_beside(&format!("fire-{n}"), n);
        let at_ms = run.now_ms + 40;
        run.until(at_ms);
    }
    let rules = run.nodes[EDB].rules();
    let waits = rules.is_none_or(|rules| rules.lock().engine.due() == Some(campanile_rules::AT_ONCE));
    run.expect(!waits, || "the rules of edb still wait for their past".into());
    run.end()
}

/// An officer's pause cannot be sent while edb is down, and is given up when the rules are to run again.
pub(crate) fn resume_before_the_pause_was_sent() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.has_envelope = true;
    run.until(1_000);
    run.crash(EDB);
    let now_ms = run.now_ms;
    run.work.pause(now_ms, true);
    run.until(1_100);
    let now_ms = run.now_ms;
    run.work.resume(now_ms);
    run.until(2_000);
    run.restart(EDB);
    run.until(4_000);
    run.report("after");
    run.end()
}

/// The old key of fsd ends while its disk is lost: what others hold of it comes back and counts.
pub(crate) fn end_a_key_while_the_disk_is_lost() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.until(1_000);
    run.report("before");
    let governance = std::sync::Arc::clone(&run.shared.governance);
    governance.lock().add_key("fsd", &live_key("fsd", 1));
    run.nodes[FSD].hand_over(&governance.lock().roster());
    run.until(3_000);
    run.crash(FSD);
    run.replace_disk(FSD, Disk::default());
    run.nodes[FSD].change_key();
    run.end_key(FSD, 0);
    run.restart(FSD);
    run.until(14_000);
    let held = run.nodes[FSD].look().read(&log(), None, usize::MAX, usize::MAX).unwrap();
    let counts = held.first().is_some_and(|entry| entry.standing == campanile_log::Standing::Counted);
    run.expect(counts, || "what came back to fsd does not count".into());
    run.end()
}

/// The right of fsd is withdrawn while a fire waits for the disk that it let in: what is acknowledged counts.
pub(crate) fn withdraw_a_right_before_the_seal() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.until(1_000);
    let governance = std::sync::Arc::clone(&run.shared.governance);
    let mut waits = false;
    for n in 0..200 {
        let before = run.nodes[FSD].look().tail(&log());
        run.report(&format!("fire-{n}"));
        run.step();
        waits = run.nodes[FSD].look().tail(&log()) == before;
        if waits {
            break;
        }
        let at_ms = run.now_ms + 200;
        run.until(at_ms);
    }
    run.expect(waits, || "no fire waited for the disk, so this proves nothing".into());
    governance.lock().withdraw_or_return("fsd");
    run.nodes[FSD].hand_over(&governance.lock().roster());
    let at_ms = run.now_ms + 3_000;
    run.until(at_ms);
    for at in [EDB, HAD] {
        let held = run.nodes[at].look().read(&log(), None, usize::MAX, usize::MAX).unwrap();
        let all = held.iter().all(|entry| entry.standing == campanile_log::Standing::Counted);
        run.expect(all, || format!("{} does not count what fsd acknowledged", run.nodes[at].department));
    }
    run.end()
}

/// A fire begins and ends while edb is away, and edb hears of both while what its rules had issued comes back.
pub(crate) fn burn_out_while_the_past_comes_back() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.has_envelope = true;
    run.until(1_000);
    let backup = run.nodes[EDB].disk.lock().copy();
    run.report("before");
    run.until(3_000);
    let closed = crate::closures::count(&run.nodes[EDB].look());
    run.expect(closed > 0, || "nothing was closed, so nothing comes back and this proves nothing".into());
    run.crash(EDB);
    run.replace_disk(EDB, backup);
    let (now, now_ms) = (run.nodes[FSD].clock.now(), run.now_ms);
    let fire = run.work.report_drill("brief", "drill-1", now, now_ms);
    run.until(4_000);
    let (now, now_ms) = (run.nodes[FSD].clock.now(), run.now_ms);
    run.work.put_out(&fire, now, now_ms);
    run.until(5_000);
    run.restart(EDB);
    run.until(8_000);
    let after = crate::closures::count(&run.nodes[EDB].look());
    run.expect(after == closed, || format!("edb has closed {after} sites and not {closed}, so this proves nothing"));
    run.end()
}

/// What fsd lost reaches edb only after edb has told fsd all that it held; had, which gave it to edb, loses it then.
pub(crate) fn come_to_hold_more_after_telling() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.until(1_000);
    run.report("before");
    run.until(2_000);
    let backup = run.nodes[FSD].disk.lock().copy();
    run.set_link(FSD, EDB, Connection::Cut);
    run.set_link(EDB, HAD, Connection::Cut);
    run.report("lost");
    run.until(3_000);
    let held = [EDB, HAD].map(|at| run.nodes[at].look().tail(&log()).map(|tail| tail.seq));
    run.expect(held == [Some(1), Some(2)], || format!("edb and had hold {held:?}, had alone was to have the second"));
    run.crash(FSD);
    run.replace_disk(FSD, backup);
    run.set_link(FSD, HAD, Connection::Cut);
    run.set_link(FSD, EDB, Connection::Good);
    run.restart(FSD);
    run.until(8_000);
    run.set_link(FSD, EDB, Connection::Cut);
    run.set_link(EDB, HAD, Connection::Good);
    run.until(25_000);
    let held = run.nodes[EDB].look().tail(&log()).map(|tail| tail.seq);
    run.expect(held == Some(2), || format!("edb holds {held:?} and not the second, so this proves nothing"));
    run.crash(HAD);
    run.replace_disk(HAD, Disk::default());
    run.set_link(FSD, EDB, Connection::Good);
    run.set_link(FSD, HAD, Connection::Good);
    run.restart(HAD);
    run.end()
}

/// The commits that would put edb's packs in force find the disk full, and a fire comes before one that does not.
pub(crate) fn fail_the_commit_that_puts_packs_in_force() -> Vec<String> {
    let mut run = Run::new(1, 3, false, false);
    run.has_envelope = false;
    run.until(40);
    while run.now_ms < 2_000 {
        run.nodes[EDB].fail_commit(1, Fault::Full);
        run.step();
    }
    run.nodes[EDB].spare();
    run.report("early");
    let own = LogId::new("edb/node-1", Lane::Routine);
    let held = |run: &Run| run.nodes[EDB].look().tail(&log()).is_some();
    while !held(&run) && run.now_ms < 10_000 {
        run.step();
    }
    let begun = run.nodes[EDB].look().tail(&own).is_some();
    run.expect(held(&run) && !begun, || "the packs of edb are in force before the fire, so this proves nothing".into());
    run.end()
}

/// Etcd is gone before the first fire and stays away: those who know each other go on.
pub(crate) fn close_schools_without_etcd() -> Vec<String> {
    let mut run = Run::through(Through::Etcd, 1, 3, false, false);
    let etcd = run.nodes.len();
    run.until(2_000);
    run.stop(etcd);
    run.until(12_000);
    run.report("without");
    run.until(14_000);
    let closed = crate::closures::count(&run.nodes[EDB].look());
    run.expect(closed > 0, || "without etcd no school was closed".into());
    run.begin(etcd);
    run.end()
}

/// Etcd is set back, and writes anew up to where had has watched it, while had cannot reach it. A department joins meanwhile.
pub(crate) fn set_etcd_back_behind_a_watcher() -> Vec<String> {
    let mut run = Run::through(Through::Etcd, 1, 4, true, false);
    let etcd = run.nodes.len();
    run.until(1_000);
    run.etcd().unwrap().back_up();
    run.crash(FSD);
    run.restart(FSD);
    // Its registration goes with its lease, and it registers again.
    run.until(9_000);
    run.set_link(HAD, etcd, Connection::Cut);
    run.stop(etcd);
    run.etcd().unwrap().rewind(false);
    run.begin(etcd);
    let governance = std::sync::Arc::clone(&run.shared.governance);
    run.admit(&mut governance.lock());
    run.until(20_000);
    run.set_link(HAD, etcd, Connection::Good);
    run.end()
}
