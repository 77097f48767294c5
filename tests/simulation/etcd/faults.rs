//! What goes wrong with etcd in a run, drawn from its seed, beside what goes wrong with the nodes.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::run::{Connection, Run};

/// What ends a fault.
#[derive(Debug, Clone, Copy)]
enum Undo {
    Start,
    Elect,
    Repair(usize),
    Quicken(usize),
    /// It is stopped, set back to its backup, and started.
    Rewind {
        anew: bool,
    },
}

/// The faults of etcd under way. Chance of its own, so that those of the nodes stay as they are.
pub(crate) struct EtcdFaults {
    chance: StdRng,
    next_ms: u64,
    undos: Vec<(u64, Undo)>,
}

impl EtcdFaults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { chance: StdRng::seed_from_u64(!seed), next_ms: 0, undos: Vec::new() }
    }

    /// Ends what is over and begins what is due.
    pub(crate) fn turn(&mut self, run: &mut Run) {
        let now_ms = run.now_ms;
        let (due, later): (Vec<_>, Vec<_>) = self.undos.iter().partition(|(at_ms, _)| *at_ms <= now_ms);
        self.undos = later;
        due.into_iter().for_each(|(_, undo)| self.end(run, undo));
        if now_ms < self.next_ms {
            return;
        }
        if self.next_ms > 0 {
            self.begin(run);
        }
        self.next_ms = now_ms + self.chance.random_range(300..3_000);
    }

    fn begin(&mut self, run: &mut Run) {
        let Some(etcd) = run.etcd() else { return };
        let until_ms = run.now_ms + self.chance.random_range(200..9_000);
        let (host, at) = (run.nodes.len(), self.chance.random_range(0..run.nodes.len()));
        let anew = self.chance.random_bool(0.5);
        match self.chance.random_range(0..100) {
            0..15 if self.is_down() => {}
            0..15 => {
                run.note("crash of etcd");
                run.stop(host);
                self.undos.push((until_ms, Undo::Start));
            }
            15..30 => {
                run.note("etcd has no leader");
                etcd.lose_leader();
                self.undos.push((until_ms, Undo::Elect));
            }
            30..50 => {
                run.note("etcd forgets its history");
                etcd.compact();
            }
            50..60 => {
                run.note("a backup of etcd is taken");
                etcd.back_up();
                self.undos.push((until_ms, Undo::Rewind { anew }));
            }
            60..67 if self.is_down() => {}
            60..67 => {
                run.note(format_args!("etcd is wiped, another cluster: {anew}"));
                run.stop(host);
                etcd.wipe(anew);
                self.undos.push((run.now_ms + 200, Undo::Start));
            }
            kind => self.cut(run, kind, at, until_ms),
        }
    }

    fn cut(&mut self, run: &mut Run, kind: u32, at: usize, until_ms: u64) {
        let (host, name) = (run.nodes.len(), run.name(at));
        let connection = match kind {
            67..77 => Connection::Cut,
            77..82 => Connection::OneWay { from: at, to: host },
            82..87 => Connection::OneWay { from: host, to: at },
            87..92 => Connection::Held,
            _ => {
                let latency = Duration::from_millis(self.chance.random_range(50..1_500));
                run.note(format_args!("{} ms between {name} and etcd", latency.as_millis()));
                run.sim.set_link_latency(name.as_str(), super::HOST, latency);
                self.undos.push((until_ms, Undo::Quicken(at)));
                return;
            }
        };
        run.note(format_args!("between {name} and etcd: {connection:?}"));
        run.set_link(at, host, connection);
        self.undos.push((until_ms, Undo::Repair(at)));
    }

    fn is_down(&self) -> bool {
        self.undos.iter().any(|(_, undo)| matches!(undo, Undo::Start))
    }

    /// Ends everything.
    pub(crate) fn mend(&mut self, run: &mut Run) {
        while let Some((_, undo)) = self.undos.pop() {
            self.end(run, undo);
        }
    }

    fn end(&mut self, run: &mut Run, undo: Undo) {
        let Some(etcd) = run.etcd() else { return };
        match undo {
            Undo::Start => {
                run.note("start of etcd");
                run.begin(run.nodes.len());
            }
            Undo::Elect => {
                run.note("etcd has a leader");
                etcd.find_leader();
            }
            Undo::Rewind { anew } => {
                let was_down = self.is_down();
                if !was_down {
                    run.stop(run.nodes.len());
                }
                let is_set_back = etcd.rewind(anew);
                run.note(format_args!("etcd is set back to its backup: {is_set_back}, another cluster: {anew}"));
                if !was_down {
                    run.begin(run.nodes.len());
                }
            }
            Undo::Repair(at) => {
                run.note(format_args!("{} and etcd reach each other again", run.name(at)));
                run.set_link(at, run.nodes.len(), Connection::Good);
            }
            Undo::Quicken(at) => {
                let name = run.name(at);
                run.note(format_args!("{name} and etcd are near each other again"));
                run.sim.set_link_latency(name.as_str(), super::HOST, Duration::from_millis(10));
            }
        }
    }
}
