//! What is wrong with a pack, where, and how to mend it.

use std::fmt;

use serde::Serialize;

/// Whether a pack may be activated all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gravity {
    /// The pack is refused.
    Error,
    /// It is accepted; someone should look.
    Warning,
}

/// One finding.
///
/// [`crate::lint::CODES`] says what each code means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Diagnostic {
    /// The line, from 1; 0 when the place is not known.
    pub line: u64,
    /// The column in characters, from 1; 0 when the place is not known.
    pub column: u64,
    /// The kind of finding.
    pub code: &'static str,
    /// Whether it is an error.
    pub gravity: Gravity,
    /// What is wrong.
    pub message: String,
    /// What to write instead, when that can be said.
    pub help: Option<String>,
}

impl Diagnostic {
    /// The finding for people: message, place, the line itself with a caret under the spot, and the remedy.
    ///
    /// `file` is the name to show and `text` the pack that was parsed.
    pub fn render(&self, file: &str, text: &str) -> String {
        let gravity = if self.gravity == Gravity::Error { "error" } else { "warning" };
        let mut shown = format!("{gravity}[{}]: {}\n", self.code, self.message);
        if self.line > 0 {
            shown += &format!("  --> {file}:{}:{}\n", self.line, self.column);
            let index = usize::try_from(self.line - 1).unwrap_or(usize::MAX);
            if let Some(line) = text.lines().nth(index) {
                let number = self.line.to_string();
                let margin = " ".repeat(number.len());
                let column = usize::try_from(self.column.saturating_sub(1)).unwrap_or(0);
                let before: String = line.chars().take(column).map(space_as_wide).collect();
                shown += &format!("{margin} |\n{number} | {line}\n{margin} | {before}^\n");
            }
        }
        if let Some(help) = &self.help {
            shown += &format!("  = help: {help}\n");
        }
        shown
    }
}

/// White space as wide as the character on a terminal: Chinese characters take two cells.
fn space_as_wide(c: char) -> &'static str {
    match c {
        '\t' => "\t",
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' => "  ",
        '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{20000}'..='\u{3fffd}' => "  ",
        _ => " ",
    }
}

/// Why a pack was refused: everything that was found, warnings included, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub Vec<Diagnostic>);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.0.iter().filter(|found| found.gravity == Gravity::Error).count();
        write!(f, "there are {errors} errors")?;
        if let Some(first) = self.0.iter().find(|found| found.gravity == Gravity::Error) {
            write!(f, "; the first at line {}: [{}] {}", first.line, first.code, first.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// The finding of a text that YAML or the shape of a document does not allow: `codes` are those of an unknown field and
/// of everything else.
pub fn unreadable(error: &serde_saphyr::Error, codes: &[&'static str; 2]) -> Diagnostic {
    use serde_saphyr::{Error, Location};
    let error = error.without_snippet();
    let at = error.location().unwrap_or(Location::UNKNOWN);
    let [unknown, other] = *codes;
    let (code, message, help) = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let help = nearest(field, expected.iter().copied()).map_or_else(
                || format!("known here are {}", expected.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            (unknown, format!("there is no field `{field}` here"), Some(help))
        }
        Error::SerdeMissingField { field, .. } => (other, format!("the field `{field}` is missing"), None),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("a field");
            (other, format!("`{key}` is given twice"), Some("keep one of them".into()))
        }
        wrong => {
            let text = wrong.to_string();
            (other, text.lines().next().unwrap_or("the YAML does not parse").to_string(), None)
        }
    };
    Diagnostic { line: at.line(), column: at.column(), code, gravity: Gravity::Error, message, help }
}

/// The word nearest to a misspelt one, when it is near enough to be meant.
pub fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = words.map(|candidate| (edits(word, candidate), candidate)).min()?;
    (near.0 <= 1 + word.chars().count() / 4).then_some(near.1)
}

/// The number of inserted, deleted and replaced characters between two words.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (pair, y) in row.windows(2).zip(&b) {
            let &[diagonal, above] = pair else { continue };
            left = (diagonal + usize::from(x != *y)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_spot_after_wide_characters() {
        let found = Diagnostic {
            line: 2,
            column: 8,
            code: "E002",
            gravity: Gravity::Error,
            message: "no such event".into(),
            help: Some("write fire".into()),
        };
        let shown = found.render("p.yaml", "a: 1\n停課: [ fyre ]\n");
        assert_eq!(
            shown,
            "error[E002]: no such event\n  --> p.yaml:2:8\n  |\n2 | 停課: [ fyre ]\n  |          ^\n  = help: write fire\n"
        );
    }

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let words = ["fire", "flood", "landslip"];
        assert_eq!(nearest("fyre", words.into_iter()), Some("fire"));
        assert_eq!(nearest("landslide", words.into_iter()), Some("landslip"));
        assert_eq!(nearest("tsunami", words.into_iter()), None);
    }
}
