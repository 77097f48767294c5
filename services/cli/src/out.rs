//! What goes where: data to stdout, everything else to stderr; JSON when asked, colour only on a terminal.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use serde::Serialize;

/// The way out for a verb.
#[derive(Debug, Clone, Copy)]
pub struct Out {
    json: bool,
    colour: bool,
}

/// A colour with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Well.
    Good,
    /// Look at it.
    Doubtful,
    /// Wrong.
    Bad,
}

impl Out {
    /// Prints JSON when `json`; colours only for people at a terminal that have not set `NO_COLOR`.
    pub fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json, colour: !json && wanted && std::io::stdout().is_terminal() }
    }

    /// Whether JSON is asked for.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a line of data for people; control characters of foreign texts do not reach the terminal.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn line(&self, text: impl AsRef<str>) -> anyhow::Result<()> {
        self.bytes(format!("{}\n", harmless(text.as_ref())).as_bytes())
    }

    /// Prints bytes as they are: a converted message, a bundle.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).context("failed to write to stdout")
    }

    /// Prints a whole document in JSON.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn document(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(value).context("failed to write JSON")?;
        text.push(b'\n');
        self.bytes(&text)
    }

    /// Prints one item of a stream in JSON: one line each.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn item(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(value).context("failed to write JSON")?;
        text.push(b'\n');
        self.bytes(&text)
    }

    /// Prints a document in JSON, or the lines for people.
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn show<T: Serialize>(&self, value: &T, lines: impl FnOnce(&T) -> Vec<String>) -> anyhow::Result<()> {
        match self.json {
            true => self.document(value),
            false => lines(value).iter().try_for_each(|line| self.line(line)),
        }
    }

    /// Tells people something that is no data: to stderr. A closed stderr is nobody's loss.
    #[allow(clippy::unused_self, reason = "the one way out, so that stderr is written in one place")]
    pub fn note(&self, text: impl AsRef<str>) {
        note(text.as_ref());
    }

    /// A word in the colour of its meaning, when there is colour.
    pub fn mark(&self, word: &str, mark: Mark) -> String {
        let code = match mark {
            Mark::Good => "32",
            Mark::Doubtful => "33",
            Mark::Bad => "31",
        };
        if self.colour { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() }
    }

    /// Prints a line made here, colours included. Foreign text in it must have gone through [`harmless`].
    ///
    /// # Errors
    /// When stdout is closed or full.
    pub fn coloured(&self, text: &str) -> anyhow::Result<()> {
        self.bytes(format!("{text}\n").as_bytes())
    }
}

/// Writes a line to stderr.
pub fn note(text: &str) {
    let done = writeln!(std::io::stderr().lock(), "{}", harmless(text));
    // There is nowhere left to say that stderr is closed.
    drop(done);
}

/// The text without control characters, which could move the cursor or hide what stands above.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Whether the error is that nobody reads stdout any more, as with `| head`.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    };
    error.chain().any(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_command_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\n消"), "a\u{fffd}[2Jb\u{fffd}\n消");
    }
}
