//! How a verb ends: it passed, a check failed, or it could not be done, with one sentence that says what to do next.
//!
//! The sentence is the chain of causes joined by colons, then the remedy. Errors of the libraries carry their remedy
//! after a semicolon already; to the others [`Next::next`] adds one.

use std::fmt;

use campanile_client::Code;

/// What a verb that could be done came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is well: exit code 0.
    Passed,
    /// It was done, and what was checked is not right: exit code 1.
    Failed,
}

impl Verdict {
    /// Passed when `sound`.
    pub fn of(sound: bool) -> Self {
        if sound { Self::Passed } else { Self::Failed }
    }
}

/// What a verb gives back.
pub type Answer = anyhow::Result<Verdict>;

/// An error with its remedy.
#[derive(Debug)]
struct Failure {
    what: anyhow::Error,
    next: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&joined(&self.what))
    }
}

impl std::error::Error for Failure {}

/// Adds to an error what its reader should do next.
pub trait Next<T> {
    /// Says what to do next: an instruction without full stop, for example `check the path`.
    ///
    /// # Errors
    /// The error that was there, with the remedy.
    fn next(self, next: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Next<T> for Result<T, E> {
    fn next(self, next: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| Failure { what: error.into(), next: next.into() }.into())
    }
}

/// An error of this program's own, with its remedy.
pub fn failure(what: impl fmt::Display, next: impl Into<String>) -> anyhow::Error {
    Failure { what: anyhow::anyhow!("{what}"), next: next.into() }.into()
}

/// The sentence for people, in one line; `help` is what to do where the error itself does not say.
pub fn sentence(error: &anyhow::Error, help: &str) -> String {
    let what = joined(error);
    let remedy = error.downcast_ref::<Failure>().map(|failure| failure.next.as_str());
    match (remedy, advice(error)) {
        (Some(next), _) => format!("{what}; {next}"),
        (None, _) if what.contains("; ") => what,
        (None, Some(next)) => format!("{what}; {next}"),
        (None, None) => format!("{what}; {help}"),
    }
}

/// Whether the node answered and refused: then the request is what failed, not the surroundings.
pub fn refused_by_node(error: &anyhow::Error) -> bool {
    client_error(error).is_some_and(|error| {
        use Code::{Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied};
        // Options that make no sense have the code of a refusal, but no node has spoken.
        let spoken = error.reason.is_some() || !error.violations.is_empty();
        let refusal = matches!(
            error.code,
            Aborted | AlreadyExists | FailedPrecondition | InvalidArgument | NotFound | PermissionDenied
        );
        refusal && (spoken || error.code != InvalidArgument)
    })
}

fn client_error(error: &anyhow::Error) -> Option<&campanile_client::Error> {
    let in_failure = |failure: &'_ Failure| failure.what.downcast_ref::<campanile_client::Error>().is_some();
    match error.downcast_ref::<Failure>() {
        Some(failure) if in_failure(failure) => failure.what.downcast_ref(),
        _ => error.downcast_ref(),
    }
}

/// What to do about an answer of the node, by its code.
fn advice(error: &anyhow::Error) -> Option<&'static str> {
    Some(match client_error(error)?.code {
        Code::Unavailable => "check that the node runs and that --node names it, and see `campanile doctor`",
        Code::DeadlineExceeded => {
            "see `campanile status`; what was asked may have been done, so look before asking again"
        }
        Code::PermissionDenied => "use a client certificate with the role that is asked for",
        Code::Unauthenticated => "give a client certificate of this node's department with --identity",
        Code::NotFound => "see `campanile alert list --ended` for what the node holds",
        Code::AlreadyExists => "give the changed message a new identifier",
        Code::InvalidArgument => "mend what is named and ask again",
        Code::ResourceExhausted => "wait a little and ask again; `campanile doctor` says whether the disk is full",
        Code::FailedPrecondition | Code::Aborted => "look again at how things stand, and decide anew",
        _ => return None,
    })
}

/// The chain of causes in one line; a cause that the message above already quotes is left out.
fn joined(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let part = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if part.is_empty() || text.contains(&part) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn every_sentence_is_one_line_and_ends_with_what_to_do() {
        let io = || std::io::Error::other("no\nsuch file");
        let plain = Err::<(), _>(io()).context("failed to read x").unwrap_err();
        assert_eq!(sentence(&plain, "see the help"), "failed to read x: no such file; see the help");
        let advised = Err::<(), _>(io()).next("check the path").context("failed to read x").unwrap_err();
        assert_eq!(sentence(&advised, "see the help"), "failed to read x: no such file; check the path");
        let library = anyhow::anyhow!("{{\"a\"}} is no id; write a id");
        assert!(sentence(&library, "see the help").ends_with("write a id"));
        assert_eq!(sentence(&failure("it broke", "mend it"), "see the help"), "it broke; mend it");
    }
}
