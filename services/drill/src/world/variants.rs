//! Variants: the drill with a change that must make it fail, and whether it failed exactly as written.

use std::collections::BTreeSet;

use super::{Bench, Error, Federation, Played};
use crate::scenario::{Change, Inject, Scenario, Variant};
use crate::verdict::VariantVerdict;

/// Plays a checked scenario and each of its variants with one seed; the verdict holds all of them.
///
/// # Errors
/// [`Error`] when it cannot be played at all.
pub fn play_all(
    scenario: &Scenario,
    bench: &Bench,
    read: &dyn Fn(&str) -> Option<Vec<u8>>,
    seed: u64,
) -> Result<Played, Error> {
    let mut base = super::play(scenario, bench, seed)?;
    for variant in &scenario.variants {
        let played = variant.play(scenario, bench, read, seed)?;
        base.verdict.variants.push(variant.compare(&played));
    }
    Ok(base)
}

impl Variant {
    /// Plays the variant. Packs of nodes that it changes are read.
    ///
    /// # Errors
    /// [`Error`] when it cannot be played at all.
    pub fn play(
        &self,
        scenario: &Scenario,
        bench: &Bench,
        read: &dyn Fn(&str) -> Option<Vec<u8>>,
        seed: u64,
    ) -> Result<Played, Error> {
        let changed = scenario.changed(&self.change);
        let mut seats = bench.clone();
        let own = Bench::load(&self.change.nodes, read).map_err(|wrong| Error::Pack(wrong.join("; ")))?;
        for (department, node) in &self.change.nodes {
            seats.0.remove(department);
            if matches!(node, crate::scenario::Node::Engine(_)) {
                seats.0.extend(own.0.get(department).map(|seat| (department.clone(), seat.clone())));
            }
        }
        let digest = hex::encode(scenario.digest());
        Federation::new(&changed, &seats, seed, digest, Some(self.name.clone()))?.run()
    }

    /// Holds a run of the variant against what is written.
    pub fn compare(&self, played: &Played) -> VariantVerdict {
        let (failed, missed) = (played.verdict.failed(), played.verdict.missed());
        let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<String>>();
        let list = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(", ") };
        let mut why = Vec::new();
        if set(&failed) != set(&self.verdict.fails) {
            why.push(format!("{} should fail, {} failed", list(&self.verdict.fails), list(&failed)));
        }
        if let Some(wanted) = self.verdict.missed.as_ref().filter(|wanted| set(wanted) != set(&missed)) {
            why.push(format!("{} should be missed, {} were", list(wanted), list(&missed)));
        }
        VariantVerdict {
            name: self.name.clone(),
            as_written: why.is_empty(),
            wanted: self.verdict.fails.clone(),
            failed,
            missed,
            why: why.join("; "),
            transcript: played.verdict.transcript.clone(),
        }
    }
}

impl Scenario {
    /// The scenario with a change made; its variants are left out.
    #[must_use]
    pub fn changed(&self, change: &Change) -> Self {
        let end = self.end();
        let mut other = self.clone();
        // A variant ends when the drill does, whatever it leaves out.
        other.clock.end = Some(end);
        other.variants.clear();
        if let Some(dropped) = &change.drop_inject {
            let gone = followers(&other.injects, dropped);
            other.injects.retain(|inject| !gone.contains(&inject.id));
            other.faults.retain(|fault| fault.duplicate.as_ref().is_none_or(|inject| !gone.contains(inject)));
        }
        if let Some(delay) = &change.delay_inject {
            for inject in other.injects.iter_mut().filter(|inject| inject.id == delay.id) {
                inject.at = inject.at.map(|at| at + delay.by);
            }
        }
        for inject in &mut other.injects {
            if let (Some(words), Some(old)) = (change.alter.get(&inject.id), &inject.alert) {
                let mut words = words.clone();
                let status = words.status.take().or_else(|| old.status.clone());
                inject.alert = Some(campanile_rules::short::ShortAlert { status, ..words.over(old) });
            }
        }
        other.injects.extend(change.add_injects.iter().cloned());
        if change.drop_faults {
            other.faults.clear();
        }
        other.faults.extend(change.add_faults.iter().cloned());
        other.cast.players.extend(change.players.clone());
        other.cast.nodes.extend(change.nodes.clone());
        other
    }
}

/// An inject and all that update or cancel it.
pub(crate) fn followers(injects: &[Inject], first: &str) -> BTreeSet<String> {
    let mut gone = BTreeSet::from([first.to_owned()]);
    // Each round adds one inject at least, so there are at most as many as injects.
    for _ in 0..injects.len() {
        let before = gone.len();
        let follows = |inject: &&Inject| inject.updates.iter().chain(&inject.cancels).any(|of| gone.contains(of));
        let more: Vec<String> = injects.iter().filter(follows).map(|inject| inject.id.clone()).collect();
        gone.extend(more);
        if gone.len() == before {
            break;
        }
    }
    gone
}
