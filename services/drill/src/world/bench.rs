//! The packs and data sets that the engines of a drill evaluate, read by the caller.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::DepartmentId;
use campanile_rules::trial::load;
use campanile_rules::{DataSets, Engine, Options, Pack, Signer};

use super::Error;
use crate::scenario::{Node, Scenario};

/// What the engine of one node is made of.
#[derive(Debug, Clone, Default)]
pub struct Seat {
    pub(super) packs: Vec<Pack>,
    data: DataSets,
    /// Rules whose envelope is signed at the start.
    pub(super) envelopes: BTreeSet<String>,
}

/// The engines of a drill, by department; only `engine` nodes have one.
#[derive(Debug, Clone, Default)]
pub struct Bench(pub(super) BTreeMap<String, Seat>);

impl Bench {
    /// Reads the packs that a scenario's nodes name, with their data sets, and those of every variant. `read` gives the
    /// bytes of a file by its path from the scenario's file; `None` when it is not there.
    ///
    /// # Errors
    /// A sentence for each pack or data set that cannot be read, or belongs to another department.
    pub fn load(nodes: &BTreeMap<String, Node>, read: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<Self, Vec<String>> {
        let (mut seats, mut wrong) = (BTreeMap::new(), Vec::new());
        for (department, node) in nodes {
            let Node::Engine(engine) = node else { continue };
            let mut seat = Seat { envelopes: engine.envelopes.iter().cloned().collect(), ..Seat::default() };
            for path in &engine.engine {
                match load(path, &engine.data, read) {
                    Ok((pack, _)) if pack.owner.as_str() != department => wrong.push(format!(
                        "{path} belongs to {}, not to {department}; name it at its own department",
                        pack.owner
                    )),
                    Ok((pack, data)) => {
                        seat.data.extend(data);
                        seat.packs.push(pack);
                    }
                    Err(error) => wrong.push(error.to_string()),
                }
            }
            seats.insert(department.clone(), seat);
        }
        if wrong.is_empty() { Ok(Self(seats)) } else { Err(wrong) }
    }

    /// Whether a rule is among those that are evaluated.
    pub fn has_rule(&self, id: &str) -> bool {
        self.rules().any(|rule| rule == id)
    }

    /// The ids of the rules that are evaluated.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        let packs = self.0.values().flat_map(|seat| &seat.packs);
        packs.flat_map(|pack| pack.rules.iter().map(|rule| rule.id.as_str()))
    }

    /// The digests of the packs, by name, in hexadecimal.
    pub fn digests(&self) -> BTreeMap<String, String> {
        let packs = self.0.values().flat_map(|seat| &seat.packs);
        packs.map(|pack| (pack.name.clone(), hex::encode(pack.digest))).collect()
    }

    pub(super) fn seat(&self, department: &str) -> Seat {
        self.0.get(department).cloned().unwrap_or_default()
    }
}

impl Scenario {
    /// All nodes that the scenario or a variant of it names.
    pub fn every_node(&self) -> BTreeMap<String, Node> {
        let changed = self.variants.iter().flat_map(|variant| variant.change.nodes.clone());
        changed.chain(self.cast.nodes.clone()).collect()
    }
}

impl Seat {
    /// An engine without memory; `None` for a node that evaluates nothing.
    pub(super) fn engine(&self, department: &DepartmentId) -> Result<Option<Engine>, Error> {
        if self.packs.is_empty() {
            return Ok(None);
        }
        let options = Options { sender: format!("{department}@campanile.drill") };
        Ok(Some(Engine::new(department.clone(), self.packs.clone(), self.data.clone(), options)?))
    }

    /// Who signs a rule's envelope: as many persons of its role as are needed.
    pub(super) fn signers(&self, rule: &str) -> Option<([u8; 32], Vec<Signer>)> {
        let rule = self.packs.iter().flat_map(|pack| &pack.rules).find(|own| own.id == rule)?;
        let envelope = rule.envelope.as_ref()?;
        let role = envelope.by.first()?.clone();
        let signer = |n| Signer { person: format!("{role}-{n}"), roles: vec![role.clone()] };
        Some((rule.digest, (1..=envelope.need).map(signer).collect()))
    }
}
