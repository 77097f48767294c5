//! Every decision comes out again: what the rules of a node issued follows once more from the records that it holds, to
//! the byte.

use std::sync::Arc;

use campanile_bus::pipeline::Again;
use campanile_bus::record::Content;
use campanile_log::Store;
use campanile_node::rules::replay::{self, Parts};

use crate::federation::origin;
use crate::node::Node;

/// How many of a node's effects are decided again, the first ones: each reads all records before it.
const EFFECTS_MAX: usize = 8;

/// What came out otherwise than it was issued.
pub(crate) fn judge(node: &Node) -> Vec<String> {
    let Some((library, options, roster)) = node.rules_again() else { return Vec::new() };
    let (store, own) = (Arc::new(node.look()) as Arc<dyn Store>, origin(&node.department));
    let mut again = Again::new(store.as_ref(), &own);
    let entries = store.arrivals(0, usize::MAX, usize::MAX).unwrap();
    let given = entries.into_iter().filter_map(|entry| again.given(entry).unwrap());
    let issued = given.filter(|given| {
        let is_effect = given.body.rule.is_some() && matches!(given.body.content, Content::Alert { .. });
        given.arrival.header.origin == own && !given.arrival.returned && is_effect
    });
    let issued: Vec<_> = issued.take(EFFECTS_MAX).collect();
    let stop = Default::default();
    let parts = Parts { store, origin: own, library, options, roster, stop };
    let mut faults = Vec::new();
    for effect in issued {
        let replayed = replay::effect(&parts, &effect.arrival).unwrap();
        if replayed.body != effect.arrival.entry.body {
            let (log, position) = (&effect.arrival.entry.log, effect.arrival.entry.position);
            let what = if replayed.body.is_some() { "other bytes" } else { "nothing" };
            faults.push(format!("T1: {log} {position} was issued by a rule, and decided again there comes {what}"));
        }
    }
    faults
}
