//! `only-if`: one typed line in the Common Expression Language, for what match fields and tables cannot say.
//!
//! The text is measured before anything parses it (the parser and the interpreter recurse, and an overflow of the stack
//! cannot be caught), then its types are checked against what a rule knows, then it is compiled. So an expression that
//! was accepted has a yes or no for every input, except that arithmetic may overflow; then the rule stops and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

mod interpreter;
mod types;

#[cfg(test)]
use types::Type;
use types::schema;

/// The longest expression, in characters.
pub const CHARACTERS_MAX: usize = 1_000;

/// The deepest an expression may be nested.
pub const DEPTH_MAX: usize = 64;

/// How deep `exists`, `all`, `filter`, `map` may stand in each other.
pub const LOOPS_MAX: usize = 2;

/// The most operators, dots and brackets: what bounds the parser's recursion before there is a tree to measure.
const OPERATORS_MAX: usize = 200;

/// A value that a condition can look at.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A text.
    Text(String),
    /// A list, in order.
    List(Vec<Datum>),
    /// Named values.
    Map(BTreeMap<String, Datum>),
}

impl Datum {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A list of texts.
    pub fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }
}

/// What a condition can look at, by name: `cause`, `target`, `session`, `clock`, `params`.
pub type Facts = BTreeMap<&'static str, Datum>;

/// What came of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It holds.
    Holds,
    /// It does not; the first part that is not so.
    Stops(String),
}

/// An expression language, seen from here.
pub trait Predicate: fmt::Debug + Send + Sync {
    /// Decides.
    ///
    /// # Errors
    /// A sentence when there is no answer, for example because a sum overflows.
    fn decide(&self, facts: &Facts) -> Result<Answer, String>;
}

/// A condition that was accepted.
#[derive(Clone)]
pub struct Condition {
    source: String,
    columns: BTreeSet<String>,
    about: BTreeSet<String>,
    predicate: Arc<dyn Predicate>,
}

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The kind of finding.
    pub code: &'static str,
    /// The column in the expression, in characters from 1; 0 when it is about the whole.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead, when that can be said.
    pub help: Option<String>,
}

impl Condition {
    /// Reads an expression. `params` are the names of the pack's parameters.
    ///
    /// # Errors
    /// [`Refused`] when it is too long or too deep, does not parse, or its types do not fit.
    pub fn parse(source: &str, params: &BTreeSet<String>) -> Result<Self, Refused> {
        measure(source)?;
        let parsed = interpreter::parse(source)?;
        let checked = types::check(&parsed, &schema(params))?;
        let predicate = Arc::new(parsed);
        Ok(Self { source: source.into(), columns: checked.columns, about: checked.about, predicate })
    }

    /// The text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it looks at that variable.
    pub fn looks_at(&self, variable: &str) -> bool {
        self.about.contains(variable)
    }

    /// Whether it looks at no variable at all: it is always yes, or always no.
    pub fn looks_at_nothing(&self) -> bool {
        self.about.is_empty()
    }

    /// The columns of the target that it looks at; one that a target lacks is given as an empty list.
    pub fn columns(&self) -> &BTreeSet<String> {
        &self.columns
    }

    /// Decides.
    ///
    /// # Errors
    /// A sentence when there is no answer.
    pub fn decide(&self, facts: &Facts) -> Result<Answer, String> {
        self.predicate.decide(facts)
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

/// Refuses a text that could hurt the parser, before it is parsed.
fn measure(source: &str) -> Result<(), Refused> {
    let refuse = |column: usize, message: String, help: &str| {
        Err(Refused { code: "E080", column, message, help: Some(help.into()) })
    };
    let length = source.chars().count();
    if length > CHARACTERS_MAX {
        let message = format!("the expression has {length} characters, at most {CHARACTERS_MAX} are read");
        return refuse(0, message, "say part of it with `cause`, `pick` or a table");
    }
    if source.chars().any(|c| c.is_control()) {
        return refuse(0, "the expression has control characters in it".into(), "write it in one line");
    }
    let (mut depth, mut operators, mut quote, mut escaped) = (0_usize, 0_usize, None, false);
    for (index, c) in source.chars().enumerate() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => {
                depth += 1;
                operators += 1;
                if depth > DEPTH_MAX / 2 {
                    let message = format!("brackets are nested more than {} deep", DEPTH_MAX / 2);
                    return refuse(index + 1, message, "split the condition over several rules");
                }
            }
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, '+' | '-' | '*' | '/' | '%' | '!' | '?' | '.' | '<' | '>' | '=' | '&' | '|' | ',') => operators += 1,
            (None, _) => {}
        }
    }
    if operators > OPERATORS_MAX {
        let message = format!("the expression has more than {OPERATORS_MAX} operators and brackets");
        return refuse(0, message, "split the condition over several rules");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
