//! Reads a scenario and checks it before anything is started: every name against what it names, every time against the
//! clock. All findings are given at once, each with its place and a remedy.

use campanile_rules::{Diagnostic, Gravity, Refusal, unreadable};

use crate::places::{Places, Step};
use crate::scenario::Scenario;

/// The longest scenario, in bytes.
const BYTES_MAX: usize = 4 << 20;

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
        let mut check = Check { scenario: &scenario, places: Places::of(text), found: Vec::new() };
        check.whole();
        let mut found = check.found;
        found.sort();
        match found.iter().all(|finding| finding.gravity == Gravity::Warning) {
            true => Ok((scenario, found)),
            false => Err(Refusal(found)),
        }
    }
}

/// The findings so far, and what they are about.
struct Check<'a> {
    scenario: &'a Scenario,
    places: Places,
    found: Vec<Diagnostic>,
}

impl Check<'_> {
    fn whole(&mut self) {
        for (index, expect) in self.scenario.expect.iter().enumerate() {
            let claims = expect.claims().len();
            if claims != 1 {
                let path = [Step::Field("expect"), Step::Element(index)];
                self.report(&path, "D010", format!("the expectation has {claims} claims"), Some("give it one".into()));
            }
        }
    }

    fn report(&mut self, path: &[Step<'_>], code: &'static str, message: impl Into<String>, help: Option<String>) {
        let (line, column) = self.places.at(path);
        self.found.push(Diagnostic { line, column, code, gravity: Gravity::Error, message: message.into(), help });
    }
}
