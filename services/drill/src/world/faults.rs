//! What goes wrong on the way, and ends again.

use campanile_alert::DepartmentId;

use super::{Act, Error, Federation};
use crate::scenario::Fault;
use crate::transcript::What;

impl Federation<'_> {
    pub(super) fn fault_begins(&mut self, index: usize) -> Result<(), Error> {
        let scenario = self.scenario;
        let Some(fault) = scenario.faults.get(index) else { return Ok(()) };
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        self.lasting.insert(index);
        self.emit(None, What::FaultBegan { fault: number, what: fault.in_words() });
        // A sender that is stuck for a while is over with its last repetition.
        if let Some(lasts) = fault.lasts.or(fault.within) {
            let ends = self.now.saturating_add(lasts.ms());
            self.later(ends, Act::FaultEnds(index));
        }
        if let Some(cut) = &fault.partition {
            self.net.cuts.insert(index, cut.clone());
            self.network_changed();
        }
        if let Some(delay) = &fault.delay {
            self.net.delays.insert(index, delay.clone());
        }
        if let Some(loss) = &fault.loss {
            self.net.losses.insert(index, loss.clone());
        }
        if let Some(reorder) = &fault.reorder {
            self.net.reorders.insert(index, reorder.clone());
        }
        if let Some(inject) = &fault.duplicate {
            let times = i64::from(fault.repeat.unwrap_or(1));
            let within = fault.within.unwrap_or_default().ms();
            for n in 0..times {
                let at = self.now + within * n / times;
                self.later(at, Act::Again { inject: inject.clone() });
            }
        }
        if let Some(skew) = &fault.clock_skew {
            self.skew(&skew.node, skew.by.ms());
        }
        if let Some(id) = fault.crash.as_ref().and_then(|name| self.find(name))
            && let Some(node) = self.nodes.get_mut(&id).filter(|node| node.is_up())
        {
            node.crash()?;
            self.forget_questions(&id);
            self.emit(Some(&id), What::Down);
            self.network_changed();
        }
        if let Some(node) =
            fault.disk_full.as_ref().and_then(|name| self.find(name)).and_then(|id| self.nodes.get_mut(&id))
        {
            node.disk_full = true;
        }
        Ok(())
    }

    pub(super) fn fault_ends(&mut self, index: usize) -> Result<(), Error> {
        let scenario = self.scenario;
        let Some(fault) = scenario.faults.get(index) else { return Ok(()) };
        self.lasting.remove(&index);
        self.net.delays.remove(&index);
        self.net.losses.remove(&index);
        self.net.reorders.remove(&index);
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        self.emit(None, What::FaultEnded { fault: number });
        if self.net.cuts.remove(&index).is_some() {
            self.network_changed();
        }
        if let Some(skew) = &fault.clock_skew {
            self.skew(&skew.node, -skew.by.ms());
        }
        let crashed = fault.crash.as_ref().filter(|name| !self.lasts(|other| other.crash.as_ref() == Some(name)));
        if let Some(id) = crashed.and_then(|name| self.find(name)) {
            self.start_node(&id)?;
            self.emit(Some(&id), What::Up);
            self.network_changed();
            self.look_at_questions(&id);
        }
        let full = fault.disk_full.as_ref().filter(|name| !self.lasts(|other| other.disk_full.as_ref() == Some(name)));
        if let Some(node) = full.and_then(|name| self.find(name)).and_then(|id| self.nodes.get_mut(&id)) {
            node.disk_full = false;
        }
        Ok(())
    }

    /// Whether a fault lasts that is like this: two of a kind may overlap, and the first to end leaves the other be.
    fn lasts(&self, like: impl Fn(&Fault) -> bool) -> bool {
        self.lasting.iter().filter_map(|index| self.scenario.faults.get(*index)).any(like)
    }

    /// A clock goes wrong by so much more, and its alarms are set anew.
    fn skew(&mut self, name: &str, by_ms: i64) {
        let Some(id) = self.find(name) else { return };
        if let Some(node) = self.nodes.get_mut(&id) {
            node.skew_ms = node.skew_ms.saturating_add(by_ms);
            node.tick_at = None;
        }
        self.wake(&id);
    }

    pub(super) fn find(&self, name: &str) -> Option<DepartmentId> {
        self.nodes.keys().find(|id| id.as_str() == name).cloned()
    }
}
