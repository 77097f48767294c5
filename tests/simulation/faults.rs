//! What goes wrong in a run, drawn from its seed: crashes, cuts of the network, slow links, disks that are full, that
//! fail, that are lost or set back to a backup, and clocks that jump.

use std::time::Duration;

use campanile_log::memory::{Disk, Fault};
use rand::Rng as _;

use crate::run::{Connection, Run};

/// What ends a fault.
#[derive(Debug, Clone, Copy)]
enum Undo {
    Restart(usize),
    Repair(usize, usize),
    Quicken(usize, usize),
    SetRight(usize),
    Restore(usize),
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
        let kind = run.chance.random_range(0..100);
        match kind {
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

    fn disk_or_clock(&mut self, run: &mut Run, at: usize, kind: u32, until_ms: u64) {
        let node = std::sync::Arc::clone(&run.nodes[at]);
        let name = &node.department;
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
