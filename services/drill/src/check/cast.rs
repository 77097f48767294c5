//! Who takes part, and the guards.

use super::Check;
use crate::places::Step::{self, Element, Field};
use crate::scenario::department_of;
use crate::scenario::{Act, Guard, Node, Player};
use campanile_alert::DepartmentId;

impl Check<'_> {
    pub(super) fn cast(&mut self) {
        let cast = &self.scenario.cast;
        if cast.nodes.is_empty() {
            let help = Some("name a department's node and what it does: `fsd: script`".into());
            self.report(&[Field("cast"), Field("nodes")], "D013", "the drill has no nodes", help);
        }
        for (name, node) in &cast.nodes {
            self.named_node(&[Field("cast"), Field("nodes"), Field(name)], name, node);
        }
        for (role, player) in &cast.players {
            self.one_player(&[Field("cast"), Field("players"), Field(role)], role, player);
        }
        for (role, observer) in &cast.observers {
            for (index, node) in observer.watches.iter().enumerate() {
                let path = [Field("cast"), Field("observers"), Field(role), Field("watches"), Element(index)];
                self.node(&path, node);
            }
        }
    }

    pub(super) fn named_node(&mut self, path: &[Step<'_>], name: &str, node: &Node) {
        if let Err(error) = DepartmentId::try_new(name) {
            self.report(path, "D004", error.to_string(), None);
        }
        if let Node::Engine(engine) = node
            && engine.engine.is_empty()
        {
            let help = Some("name its packs, or write `script`".into());
            self.report(path, "D016", format!("{name} evaluates no pack"), help);
        }
        if matches!(node, Node::Kind(crate::scenario::NodeKind::Engine)) {
            let help = Some(format!("write `{name}: {{engine: [PACK.rules.yaml]}}`, paths from this file"));
            self.report(path, "D016", format!("the packs of {name} are not named"), help);
        }
    }

    pub(super) fn one_player(&mut self, path: &[Step<'_>], role: &str, player: &Player) {
        let department = department_of(role);
        if !role.contains('.') {
            let help = Some("write department.role, for example edb.duty-officer".into());
            self.report(path, "D014", format!("`{role}` is no role"), help);
        } else {
            self.node(path, department);
        }
        for (index, reaction) in player.script.iter().enumerate() {
            let here = |field| [path, &[Field("virtual"), Element(index), Field(field)]].concat();
            if reaction.after.ms() < 0 || reaction.jitter.is_some_and(|jitter| jitter.ms() < 0) {
                let help = Some("write a length such as 2m".into());
                self.report(&here("after"), "D011", "nobody reacts before having been asked", help);
            }
            match (reaction.act, &reaction.play) {
                (Act::Play, Some(inject)) => self.named_inject(&here("play"), inject),
                (Act::Play, None) => {
                    let help = Some("name an inject without a time: `play: i9`".into());
                    self.report(&here("do"), "D016", "the reaction plays nothing", help);
                }
                (_, Some(_)) => {
                    self.report(&here("play"), "D016", "only `do: play` plays an inject", Some("take it out".into()));
                }
                _ => {}
            }
            if let Some(inject) = &reaction.inject {
                self.named_inject(&here("inject"), inject);
            }
            if let Some(effect) = &reaction.effect {
                self.event(&here("effect"), effect);
            }
        }
    }

    pub(super) fn guards(&mut self) {
        for (index, guard) in self.scenario.guards.iter().enumerate() {
            let path = [Field("guards"), Element(index)];
            let Guard { gateways, trust, directory, abort } = guard;
            let given = [gateways.is_some(), trust.is_some(), directory.is_some(), abort.is_some()];
            if given.iter().filter(|given| **given).count() != 1 {
                let help = Some("write one of gateways, trust, directory, abort".into());
                self.report(&path, "D016", "a guard says one thing", help);
            }
            let exercise = self.scenario.mode.exercise_id.as_str();
            let mut only = |field: &str, inner: &str, is: &str, want: &str| {
                if is != want {
                    let path = [path[0], path[1], Field(field), Field(inner)];
                    let message = format!("`{is}` is not what a drill may be guarded by");
                    self.report(&path, "D016", message, Some(format!("write {want}")));
                }
            };
            if let Some(gateways) = gateways {
                only("gateways", "bound-to", &gateways.bound_to, "sink");
                only(
                    "gateways",
                    "real-endpoints",
                    gateways.real_endpoints.as_deref().unwrap_or("forbidden"),
                    "forbidden",
                );
            }
            if let Some(trust) = trust {
                only("trust", "exercise-key", &trust.exercise_key, exercise);
                only("trust", "live-key", trust.live_key.as_deref().unwrap_or("absent"), "absent");
            }
            if let Some(directory) = directory {
                only("directory", "", directory, &format!("exercise {exercise}"));
            }
            if let Some(abort) = abort {
                only(
                    "abort",
                    "effect",
                    abort.effect.as_deref().unwrap_or("cancel-all-and-freeze"),
                    "cancel-all-and-freeze",
                );
                let controllers: Vec<&str> = self.scenario.cast.controllers.iter().map(String::as_str).collect();
                for (number, who) in abort.by.iter().enumerate() {
                    let path = [path[0], path[1], Field("abort"), Field("by"), Element(number)];
                    self.known(&path, "D014", "controller", who, controllers.iter().copied());
                }
            }
        }
    }
}
