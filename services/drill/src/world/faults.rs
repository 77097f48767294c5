//! What goes wrong on the way, and ends again.

use campanile_alert::DepartmentId;

use super::{Act, Error, Federation};
use crate::scenario::{EtcdFault, Fault};
use crate::transcript::What;

impl Federation<'_> {
    pub(super) fn fault_begins(&mut self, index: usize) -> Result<(), Error> {
        let scenario = self.scenario;
        let Some(fault) = scenario.faults.get(index) else { return Ok(()) };
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        self.emit(None, What::FaultBegan { fault: number, what: in_words(fault) });
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
        if let Some(id) = fault.crash.as_ref().and_then(|name| self.find(name)) {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.crash();
            }
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
        if let Some(id) = fault.crash.as_ref().and_then(|name| self.find(name)) {
            self.start_node(&id)?;
            self.emit(Some(&id), What::Up);
            self.network_changed();
            self.look_at_questions(&id);
        }
        if let Some(node) =
            fault.disk_full.as_ref().and_then(|name| self.find(name)).and_then(|id| self.nodes.get_mut(&id))
        {
            node.disk_full = false;
        }
        Ok(())
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

/// A fault in words, for the transcript.
pub(super) fn in_words(fault: &Fault) -> String {
    let mut parts = Vec::new();
    if let Some(cut) = &fault.partition {
        let from = if cut.from.is_empty() { "everybody".into() } else { cut.from.join(", ") };
        let way = cut.one_way.map(|way| format!(", one way: {way:?}").to_lowercase()).unwrap_or_default();
        parts.push(format!("{} cut off from {from}{way}", cut.cut.join(", ")));
    }
    let whom = |nodes: &[String]| if nodes.is_empty() { "all".into() } else { nodes.join(", ") };
    parts.extend(
        fault.delay.iter().map(|delay| format!("transfers of {} take {} longer", whom(&delay.nodes), delay.by)),
    );
    parts.extend(
        fault.loss.iter().map(|loss| format!("{} of the transfers of {} are lost", loss.share, whom(&loss.nodes))),
    );
    let turned = |share: &crate::scenario::Share| {
        format!("{} of the transfers of {} are turned round", share.share, whom(&share.nodes))
    };
    parts.extend(fault.reorder.iter().map(turned));
    parts.extend(fault.duplicate.iter().map(|id| format!("{id} is sent {} times more", fault.repeat.unwrap_or(1))));
    parts.extend(fault.clock_skew.iter().map(|skew| format!("the clock of {} is wrong by {}", skew.node, skew.by)));
    parts.extend(fault.crash.iter().map(|node| format!("{node}'s node crashes")));
    parts.extend(fault.disk_full.iter().map(|node| format!("{node}'s disk is full")));
    parts.extend(fault.etcd.map(|etcd| match etcd {
        EtcdFault::LeaderLoss => "the directory has no leader".into(),
        EtcdFault::Outage => "the directory is away".to_string(),
    }));
    parts.join("; ")
}
