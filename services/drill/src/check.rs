//! Reads a scenario and checks it before anything is started: every name against what it names, every time against the
//! clock. All findings are given at once, each with its place and a remedy.
//!
//! | code | what |
//! |---|---|
//! | D001 | an unknown field |
//! | D002 | a text that is no scenario, or a value that is none of its kind |
//! | D003 | more than a drill may have |
//! | D004 | a name that is not well formed, or stands twice |
//! | D005 | the mode is not Exercise |
//! | D010 | an expectation or condition without exactly one moment and one claim |
//! | D011 | an impossible time |
//! | D012 | an objective that does not exist, or that nobody judges |
//! | D013 | a node that does not exist |
//! | D014 | a person who does not exist |
//! | D015 | an inject that does not exist |
//! | D016 | an inject, fault or guard that lacks what it needs, or says what it cannot use |
//! | D017 | a word of an alert that is not in the vocabulary |
//! | D018 | a variant that changes nothing, or names what does not exist |
//! | D030 | a pack that cannot be read |
//! | D031 | a rule that no pack of the cast has |
//! | W001 | a text in one language only, where people read both |

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{DepartmentId, Status};
use campanile_rules::{Diagnostic, Gravity, Refusal, nearest, unreadable};

use crate::places::{Places, Step};
use crate::scenario::{Pace, Scenario, TextOrWords, Words};
use crate::time::Offset;
use crate::world::Bench;

mod cast;
mod change;
mod expect;
mod inject;

/// The longest scenario, in bytes.
const BYTES_MAX: usize = 4 << 20;

/// The most of each list.
const LISTS_MAX: [(&str, usize); 5] =
    [("injects", 10_000), ("faults", 1_000), ("expect", 2_000), ("variants", 64), ("nodes", 200)];

/// The codes of an unknown field, and of a text that is no scenario.
const UNREADABLE: [&str; 2] = ["D001", "D002"];

impl Scenario {
    /// Reads and checks a scenario in YAML. Warnings alone do not refuse it; they come beside it.
    ///
    /// # Errors
    /// [`Refusal`] with everything that was found, when there is at least one error.
    pub fn parse(text: &str) -> Result<(Self, Vec<Diagnostic>), Refusal> {
        if text.len() > BYTES_MAX {
            return Err(Refusal(vec![Diagnostic {
                line: 0,
                column: 0,
                code: "D002",
                gravity: Gravity::Error,
                message: format!("the scenario is longer than {BYTES_MAX} bytes"),
                help: Some("split it into several drills".into()),
            }]));
        }
        let scenario: Self =
            serde_saphyr::from_str(text).map_err(|error| Refusal(vec![unreadable(&error, &UNREADABLE)]))?;
        let mut check = Check::new(&scenario, text);
        check.whole();
        let mut found = check.found;
        found.sort();
        match found.iter().all(|finding| finding.gravity == Gravity::Warning) {
            true => Ok((scenario, found)),
            false => Err(Refusal(found)),
        }
    }

    /// What is wrong with a checked scenario beside its packs: rules that none of them has. `text` is what it was read
    /// from, `bench` has the packs of all its nodes.
    pub fn against(&self, text: &str, bench: &Bench) -> Vec<Diagnostic> {
        let mut check = Check::new(self, text);
        check.rules(bench);
        check.found.sort();
        check.found
    }
}

/// The findings so far, and what they are about.
struct Check<'a> {
    scenario: &'a Scenario,
    places: Places,
    found: Vec<Diagnostic>,
    /// What may be named: nodes, and injects with their times.
    nodes: BTreeSet<&'a str>,
    injects: BTreeMap<&'a str, Option<Offset>>,
    end: Offset,
}

use Step::{Element, Field};

impl<'a> Check<'a> {
    fn new(scenario: &'a Scenario, text: &str) -> Self {
        let nodes = scenario.cast.nodes.keys().map(String::as_str).collect();
        let injects = scenario.injects.iter().map(|inject| (inject.id.as_str(), inject.at)).collect();
        let end = scenario.end();
        Self { scenario, places: Places::of(text), found: Vec::new(), nodes, injects, end }
    }

    fn whole(&mut self) {
        let scenario = self.scenario;
        let sizes = [
            scenario.injects.len(),
            scenario.faults.len(),
            scenario.expect.len(),
            scenario.variants.len(),
            scenario.cast.nodes.len(),
        ];
        for ((list, most), size) in LISTS_MAX.into_iter().zip(sizes) {
            if size > most {
                self.report(&[Field(list)], "D003", format!("a drill has at most {most} {list}, not {size}"), None);
                return;
            }
        }
        if DepartmentId::try_new(scenario.drill.as_str()).is_err() {
            let help = "use lower-case letters, digits and hyphens, beginning with a letter, at most 32";
            let message = format!("`{}` is no name of a drill", scenario.drill);
            self.report(&[Field("drill")], "D004", message, Some(help.into()));
        }
        self.both(&[Field("title")], &scenario.title, "the title");
        self.mode();
        self.objectives();
        self.cast();
        self.guards();
        for index in 0..scenario.injects.len() {
            self.inject(index);
        }
        for (index, fault) in scenario.faults.iter().enumerate() {
            self.fault(&[Field("faults"), Element(index)], fault);
        }
        let mut names = BTreeSet::new();
        for (index, expect) in scenario.expect.iter().enumerate() {
            self.expect(index, expect);
            let name = scenario.expectation(index);
            if !names.insert(name.clone()) {
                let path = [Field("expect"), Element(index), Field("id")];
                self.report(&path, "D004", format!("two expectations are named {name}"), Some("rename one".into()));
            }
        }
        if scenario.expect.is_empty() {
            let help = Some("say what must happen, and what must not".into());
            self.report(&[Field("expect")], "D010", "the drill expects nothing", help);
        }
        for index in 0..scenario.variants.len() {
            self.variant(index);
        }
    }

    fn mode(&mut self) {
        let (mode, clock) = (&self.scenario.mode, &self.scenario.clock);
        if mode.status != Status::Exercise {
            let path = [Field("mode"), Field("status")];
            let help = Some("write Exercise; nothing else is played".into());
            self.report(&path, "D005", format!("a drill is not played with status {}", mode.status), help);
        }
        if mode.marker.en.is_empty() || mode.marker.zh_hant.is_empty() {
            let help = Some("write it in en and zh-Hant".into());
            let message = "the marker of the exercise is missing in one language, whose texts would look real";
            self.report(&[Field("mode"), Field("marker")], "D016", message, help);
        }
        if let Pace::Speed(speed) = clock.run
            && !(1..=1000).contains(&speed)
        {
            let help = Some("write a number from 1 to 1000".into());
            self.report(&[Field("clock"), Field("run")], "D011", format!("a speed of {speed} cannot be played"), help);
        }
    }

    fn objectives(&mut self) {
        let scenario = self.scenario;
        for (id, objective) in &scenario.objectives {
            let path = [Field("objectives"), Field(id)];
            if !(1..=100).contains(&objective.weight) {
                let help = Some("write a number from 1 to 100".into());
                self.report(&[path[0], path[1], Field("weight")], "D012", "the weight is out of range", help);
            }
            if let TextOrWords::Words(words) = &objective.text {
                self.both(&[path[0], path[1], Field("text")], words, "the objective");
            }
            if !scenario.expect.iter().any(|expect| expect.objective.as_deref() == Some(id)) {
                let help = Some(format!("give an expectation `objective: {id}`, or take the objective out"));
                self.report(&path, "D012", format!("nobody judges objective {id}: no expectation names it"), help);
            }
        }
    }

    /// A text that should stand in both languages.
    fn both(&mut self, path: &[Step<'_>], words: &Words, what: &str) {
        let missing = match (words.en.is_empty(), words.zh_hant.is_empty()) {
            (false, false) => return,
            (true, _) => "English",
            (_, true) => "Traditional Chinese",
        };
        let (line, column) = self.places.at(path);
        let message = format!("{what} is missing in {missing}");
        let gravity = Gravity::Warning;
        self.found.push(Diagnostic { line, column, code: "W001", gravity, message, help: None });
    }

    fn report(&mut self, path: &[Step<'_>], code: &'static str, message: impl Into<String>, help: Option<String>) {
        let (line, column) = self.places.at(path);
        self.found.push(Diagnostic { line, column, code, gravity: Gravity::Error, message: message.into(), help });
    }

    /// A name that must be one of a list.
    fn known<'n>(
        &mut self,
        path: &[Step<'_>],
        code: &'static str,
        what: &str,
        name: &str,
        names: impl Iterator<Item = &'n str> + Clone,
    ) {
        if names.clone().any(|known| known == name) {
            return;
        }
        let help = nearest(name, names.clone()).map_or_else(
            || {
                let all: Vec<&str> = names.take(30).collect();
                if all.is_empty() {
                    format!("the drill has no {what}s")
                } else {
                    format!("known are {}", all.join(", "))
                }
            },
            |near| format!("did you mean `{near}`?"),
        );
        self.report(path, code, format!("there is no {what} `{name}`"), Some(help));
    }

    fn node(&mut self, path: &[Step<'_>], name: &str) {
        let nodes: Vec<&str> = self.nodes.iter().copied().collect();
        self.known(path, "D013", "node", name, nodes.into_iter());
    }

    fn player(&mut self, path: &[Step<'_>], role: &str) {
        let players: Vec<&str> = self.scenario.cast.players.keys().map(String::as_str).collect();
        self.known(path, "D014", "player", role, players.into_iter());
    }

    fn named_inject(&mut self, path: &[Step<'_>], id: &str) {
        let injects: Vec<&str> = self.injects.keys().copied().collect();
        self.known(path, "D015", "inject", id, injects.into_iter());
    }

    fn event(&mut self, path: &[Step<'_>], event: &str) {
        let events: Vec<&str> = campanile_alert::vocabulary::v1().events().map(|event| event.code.as_str()).collect();
        self.known(path, "D017", "event", event, events.into_iter());
    }
}
