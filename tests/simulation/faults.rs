//! What goes wrong in a run, drawn from its seed: crashes, cuts of the network, slow links, disks that are full, that
//! fail, that are lost or set back to a backup, clocks that jump, and nodes that lie. And what governance changes
//! meanwhile: departments join, keys change and end, rights go and come back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use campanile_log::memory::{Disk, Fault};
use campanile_log::{Lane, LogId, Store as _};
use rand::Rng as _;

use crate::federation::{live_key, origin};
use crate::run::{Connection, Run};

/// What ends a fault.
#[derive(Debug, Clone, Copy)]
enum Undo {
    Restart(usize),
    Repair(usize, usize),
    Quicken(usize, usize),
    SetRight(usize),
    Restore(usize),
    BeHonest(usize),
    ChangeKey(usize),
    EndKey(usize, u32),
}

/// The faults under way.
#[derive(Default)]
pub(crate) struct Faults {
    next_ms: u64,
    undos: Vec<(u64, Undo)>,
    /// A backup of a node's disk, until it is put in its place.
    backup: Option<(usize, Disk)>,
}

impl Faults {
    /// Ends what is over and begins what is due.
    pub(crate) fn turn(&mut self, run: &mut Run) {
        let now_ms = run.now_ms;
        let (due, later): (Vec<_>, Vec<_>) = self.undos.iter().partition(|(at_ms, _)| *at_ms <= now_ms);
        self.undos = later;
        for (_, undo) in due {
            self.end(run, undo);
        }
        for at in 0..run.nodes.len() {
            if run.nodes[at].take_failed() {
                run.crash(at);
                let rest_ms = run.chance.random_range(200..3_000);
                self.undos.push((now_ms + rest_ms, Undo::Restart(at)));
            }
        }
        if now_ms < self.next_ms {
            return;
        }
        if self.next_ms > 0 {
            self.begin(run);
        }
        self.next_ms = now_ms + run.chance.random_range(300..4_000);
    }

    fn begin(&mut self, run: &mut Run) {
        let count = run.nodes.len();
        let (a, b) = (run.chance.random_range(0..count), run.chance.random_range(0..count));
        let lasts_ms = run.chance.random_range(200..9_000);
        let until_ms = run.now_ms + lasts_ms;
        let kind = run.chance.random_range(0..130);
        match kind {
            100..110 => {
                run.note(format_args!("{} spoils what it serves", run.name(a)));
                run.shared.lies.set_teller(&run.name(a), true);
                self.undos.push((until_ms, Undo::BeHonest(a)));
                return;
            }
            110..115 => return self.fork(run),
            115.. => return self.govern(run, a, kind, until_ms),
            0..50 if !run.nodes[a].is_up() => return,
            0..25 => {
                run.crash(a);
                self.undos.push((until_ms, Undo::Restart(a)));
                return;
            }
            25..50 => return self.disk_or_clock(run, a, kind, until_ms),
            _ if a == b => return,
            _ => {}
        }
        let (from, to) = (run.nodes[a].department.clone(), run.nodes[b].department.clone());
        match kind {
            50..65 => {
                run.note(format_args!("cut between {from} and {to}"));
                run.set_link(a, b, Connection::Cut);
                self.undos.push((until_ms, Undo::Repair(a, b)));
            }
            65..77 => {
                run.note(format_args!("cut from {from} to {to}"));
                run.set_link(a, b, Connection::OneWay { from: a, to: b });
                self.undos.push((until_ms, Undo::Repair(a, b)));
            }
            77..88 => {
                run.note(format_args!("everything between {from} and {to} is held"));
                run.set_link(a, b, Connection::Held);
                self.undos.push((until_ms, Undo::Repair(a, b)));
            }
            _ => {
                let latency = Duration::from_millis(run.chance.random_range(50..1_500));
                run.note(format_args!("{} ms between {from} and {to}", latency.as_millis()));
                run.sim.set_link_latency(from.as_str(), to.as_str(), latency);
                self.undos.push((until_ms, Undo::Quicken(a, b)));
            }
        }
    }

    /// The last department begins to tell some of the others another log than the rest; one whose disk was lost cannot be
    /// held to what it once signed.
    fn fork(&mut self, run: &mut Run) {
        let at = run.nodes.len() - 1;
        let name = run.name(at);
        let is_set_back = run.shared.ledger.is_bereft(&name) || self.backup.as_ref().is_some_and(|(of, _)| *of == at);
        if at < 3 || is_set_back || !run.nodes[at].has_joined() || run.shared.lies.forked().is_some() {
            return;
        }
        let told: Vec<usize> = (0..at).filter(|_| run.chance.random_bool(0.5)).collect();
        let victims: BTreeSet<String> = told.into_iter().map(|at| run.name(at)).collect();
        let log = LogId::new(origin(&name).to_string(), Lane::Urgent);
        let tail = run.nodes[at].look().tail(&log).map_or((0, 0), |tail| tail.place());
        run.note(format_args!("{name} tells {victims:?} another log after {tail:?}"));
        let key = live_key(&name, run.nodes[at].generation());
        run.shared.lies.fork(&name, log, (tail.0, tail.1 + 1), key, victims);
    }

    fn govern(&mut self, run: &mut Run, at: usize, kind: u32, until_ms: u64) {
        let governance = Arc::clone(&run.shared.governance);
        let mut governance = governance.lock();
        match kind {
            115..120 => return run.admit(&mut governance),
            120..125 => {
                run.note("what fsd may say changes");
                governance.withdraw_or_return("fsd");
            }
            _ => {
                let name = run.name(at);
                let is_changing = |undo: &Undo| matches!(undo, Undo::ChangeKey(_) | Undo::EndKey(..));
                let is_busy = self.undos.iter().any(|(_, undo)| is_changing(undo));
                // Whoever has two logs has signed both with its one key.
                if is_busy || !run.nodes[at].has_joined() || at + 1 == run.nodes.len() && at > 2 {
                    return;
                }
                run.note(format_args!("{name} is given another key"));
                governance.add_key(&name, &live_key(&name, run.nodes[at].generation() + 1));
                self.undos.push((until_ms, Undo::ChangeKey(at)));
            }
        }
        run.nodes[at].hand_over(&governance.roster());
    }

    fn disk_or_clock(&mut self, run: &mut Run, at: usize, kind: u32, until_ms: u64) {
        let node = Arc::clone(&run.nodes[at]);
        let name = &node.department;
        let has_forked = run.shared.lies.forked().is_some_and(|log| *log.origin == *origin(name).to_string());
        let nth = run.chance.random_range(1..4);
        match kind {
            25..31 => {
                run.note(format_args!("the disk of {name} is full at its commit {nth} from now"));
                node.fail_commit(nth, Fault::Full);
            }
            31..37 => {
                let kept = run.chance.random_bool(0.5);
                run.note(format_args!("the disk of {name} fails at its commit {nth} from now, kept: {kept}"));
                node.fail_commit(nth, Fault::Io { kept });
            }
            37..43 => {
                let seconds = run.chance.random_range(-240..=240);
                run.note(format_args!("the clock of {name} jumps by {seconds} s"));
                node.clock.set_off(seconds);
                self.undos.push((until_ms, Undo::SetRight(at)));
            }
            43.. if has_forked => {}
            43..47 if self.backup.is_none() => {
                run.note(format_args!("a backup of {name} is taken"));
                self.backup = Some((at, node.disk.lock().copy()));
                self.undos.push((until_ms, Undo::Restore(at)));
            }
            _ => {
                run.crash(at);
                run.note(format_args!("the disk of {name} is lost"));
                run.replace_disk(at, Disk::default());
                self.undos.push((until_ms, Undo::Restart(at)));
            }
        }
    }

    /// Ends everything.
    pub(crate) fn mend(&mut self, run: &mut Run) {
        run.note("all is mended");
        run.nodes.iter().for_each(|node| node.spare());
        while let Some((_, undo)) = self.undos.pop() {
            self.end(run, undo);
        }
        let governance = Arc::clone(&run.shared.governance);
        run.admit(&mut governance.lock());
        // A roster that was handed to one who lost it is handed out again.
        run.nodes[0].hand_over(&governance.lock().roster());
    }

    fn end(&mut self, run: &mut Run, undo: Undo) {
        match undo {
            Undo::Restore(at) => {
                let Some((of, disk)) = self.backup.take() else { return };
                // A machine that is down is set back and started once.
                let waits = self.undos.iter().any(|(_, undo)| matches!(undo, Undo::Restart(down) if *down == at));
                if !waits {
                    run.crash(of);
                    self.undos.push((run.now_ms + 200, Undo::Restart(at)));
                }
                run.note(format_args!("{} is set back to its backup", run.name(of)));
                run.replace_disk(of, disk);
            }
            Undo::SetRight(at) => {
                run.note(format_args!("the clock of {} is right again", run.name(at)));
                run.nodes[at].clock.set_off(0);
            }
            Undo::BeHonest(at) => {
                run.note(format_args!("{} is honest again", run.name(at)));
                run.shared.lies.set_teller(&run.name(at), false);
            }
            Undo::ChangeKey(at) => {
                let generation = run.nodes[at].generation();
                run.note(format_args!("{} signs with its other key", run.name(at)));
                run.nodes[at].change_key();
                self.undos.push((run.now_ms + 1_000, Undo::EndKey(at, generation)));
            }
            Undo::EndKey(at, generation) => {
                run.note(format_args!("the old key of {} ends", run.name(at)));
                run.end_key(at, generation);
            }
            Undo::Restart(at) => run.restart(at),
            Undo::Repair(a, b) => {
                run.note(format_args!("{} and {} reach each other again", run.name(a), run.name(b)));
                run.set_link(a, b, Connection::Good);
            }
            Undo::Quicken(a, b) => {
                let (a, b) = (run.name(a), run.name(b));
                run.note(format_args!("{a} and {b} are near each other again"));
                run.sim.set_link_latency(a.as_str(), b.as_str(), Duration::from_millis(10));
            }
        }
    }
}
