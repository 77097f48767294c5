//! Variants: what they change exists, and so does what must fail.

use super::Check;
use crate::places::Step::{Element, Field};
use crate::scenario::Change;

impl Check<'_> {
    pub(super) fn variant(&mut self, index: usize) {
        let scenario = self.scenario;
        let Some(variant) = scenario.variants.get(index) else { return };
        let path = [Field("variants"), Element(index)];
        let change = |field| [path[0], path[1], Field("change"), Field(field)];
        let verdict = |field| [path[0], path[1], Field("verdict"), Field(field)];
        if scenario.variants.iter().take(index).any(|before| before.name == variant.name) {
            let message = format!("two variants are named {}", variant.name);
            self.report(&[path[0], path[1], Field("name")], "D004", message, Some("rename one".into()));
        }
        if variant.change == Change::default() {
            let help = Some("change something: `drop-inject: i3`".into());
            self.report(&path, "D018", "the variant changes nothing", help);
        }
        let Change { drop_inject, delay_inject, add_injects, alter, add_faults, drop_faults: _, players, nodes } =
            &variant.change;
        if let Some(id) = drop_inject {
            self.named_inject(&change("drop-inject"), id);
        }
        if let Some(delay) = delay_inject {
            self.named_inject(&change("delay-inject"), &delay.id);
        }
        for (number, inject) in add_injects.iter().enumerate() {
            let path = [path[0], path[1], Field("change"), Field("add-injects"), Element(number)];
            if self.injects.contains_key(inject.id.as_str()) {
                let message = format!("there is an inject {} already", inject.id);
                self.report(&path, "D004", message, Some("rename this one".into()));
            }
            self.one_inject(&path, inject);
        }
        for id in alter.keys() {
            self.named_inject(&change("alter"), id);
        }
        for (number, fault) in add_faults.iter().enumerate() {
            self.fault(&[path[0], path[1], Field("change"), Field("add-faults"), Element(number)], fault);
        }
        for (role, player) in players {
            let path = [path[0], path[1], Field("change"), Field("players"), Field(role)];
            self.player(&path, role);
            self.one_player(&path, role, player);
        }
        for (name, node) in nodes {
            let path = [path[0], path[1], Field("change"), Field("nodes"), Field(name)];
            self.node(&path, name);
            self.named_node(&path, name, node);
        }
        if variant.verdict.fails.is_empty() {
            let help = Some("name the objectives that must fail: `fails: [O1]`".into());
            self.report(&path, "D018", "a variant that nothing fails proves nothing", help);
        }
        for objective in &variant.verdict.fails {
            self.objective(&verdict("fails"), objective);
        }
        let names: Vec<String> = (0..scenario.expect.len()).map(|index| scenario.expectation(index)).collect();
        for missed in variant.verdict.missed.iter().flatten() {
            self.known(&verdict("missed"), "D018", "expectation", missed, names.iter().map(String::as_str));
        }
    }
}
