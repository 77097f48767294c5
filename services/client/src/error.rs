//! What a call came to when it failed: the code, the node's own words, the fields at fault, and whether to try again.

use std::fmt;

use campanile_proto::convert::Fault;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// What trying again would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Nothing was done; the same call may succeed later.
    Retryable,
    /// The same call will fail again.
    Terminal,
    /// The answer was lost: it may have been done or not. Repeat what is safe to repeat, ask about the rest.
    Unknown,
}

/// A field that the node refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field, for example `alert.infos[0].severity`.
    pub field: String,
    /// What is wrong with it, in one sentence.
    pub reason: String,
}

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", Sentence(self))]
pub struct Error {
    /// The gRPC code.
    pub code: Code,
    /// The node's message, or the connection's.
    pub message: String,
    /// The fields at fault; empty when none is.
    pub violations: Vec<Violation>,
    /// The reason from the node's closed list, for example `CONFLICT`; absent when it gave none.
    pub reason: Option<String>,
    /// What trying again would do.
    pub retry: Retry,
    /// How often the call was made before this error was given up on; 1 or more.
    pub attempts: u32,
}

struct Sentence<'a>(&'a Error);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { message, violations, reason, code, .. } = self.0;
        match (message.is_empty(), reason) {
            (false, _) => f.write_str(message)?,
            (true, Some(reason)) => f.write_str(reason)?,
            (true, None) => write!(f, "{code}")?,
        }
        for Violation { field, reason } in violations {
            write!(f, "; {field}: {reason}")?;
        }
        Ok(())
    }
}

impl Error {
    pub(crate) fn new(code: Code, retry: Retry, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), violations: Vec::new(), reason: None, retry, attempts: 1 }
    }

    /// The call was not answered within its time.
    pub(crate) fn late(what: &str) -> Self {
        Self::new(Code::DeadlineExceeded, Retry::Unknown, format!("the node did not answer {what} in time"))
    }

    /// The options cannot make a connection.
    pub(crate) fn options(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, Retry::Terminal, message)
    }

    /// The node answered, but with something that is no answer: an older or newer program, perhaps.
    pub(crate) fn answer(faults: Vec<Fault>) -> Self {
        let violation = |fault: Fault| Violation { field: fault.path, reason: fault.reason };
        let violations = faults.into_iter().map(violation).collect();
        let message = "the node's answer cannot be read; compare the versions of node and client";
        Self { violations, ..Self::new(Code::DataLoss, Retry::Terminal, message) }
    }

    /// Whether the same call may be made again by a caller for whom doing it twice is as good as once.
    pub fn may_repeat(&self) -> bool {
        self.retry != Retry::Terminal
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let violation =
            |v: &tonic_types::FieldViolation| Violation { field: v.field.clone(), reason: v.description.clone() };
        let violations =
            details.bad_request().map_or_else(Vec::new, |bad| bad.field_violations.iter().map(violation).collect());
        let reason = details.error_info().map(|info| info.reason.clone()).filter(|reason| !reason.is_empty());
        let retry = judge(status.code(), reason.is_some());
        Self { code: status.code(), message: words(&status), violations, reason, retry, attempts: 1 }
    }
}

/// The message, with the causes below it that the connection knows and the message leaves out.
fn words(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    // A chain that points at itself must not hang an error message.
    for _ in 0..8 {
        let Some(error) = source else { break };
        let part = error.to_string();
        if !part.is_empty() && !text.contains(&part) {
            text = if text.is_empty() { part } else { format!("{text}: {part}") };
        }
        source = error.source();
    }
    text
}

/// A reason of the node's own shows that the node itself refused, and has done nothing.
fn judge(code: Code, refused_by_node: bool) -> Retry {
    match code {
        Code::Unavailable if refused_by_node => Retry::Retryable,
        Code::ResourceExhausted | Code::Aborted => Retry::Retryable,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal => Retry::Unknown,
        _ => Retry::Terminal,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use tonic_types::{ErrorDetails, FieldViolation};

    #[test]
    fn details_are_read() {
        let field = FieldViolation::new("alert.infos[0].severity", "the severity is not given");
        let mut details = ErrorDetails::with_bad_request(vec![field]);
        details.set_error_info("INVALID_ALERT", "campanile", HashMap::new());
        let status = Status::with_error_details(Code::InvalidArgument, "the alert is refused", details);
        let error = Error::from(status);
        assert_eq!(error.reason.as_deref(), Some("INVALID_ALERT"));
        assert_eq!(error.violations[0].field, "alert.infos[0].severity");
        assert_eq!(error.retry, Retry::Terminal);
        assert_eq!(error.to_string(), "the alert is refused; alert.infos[0].severity: the severity is not given");
    }

    #[test]
    fn a_lost_answer_is_not_a_refusal() {
        assert_eq!(Error::from(Status::unavailable("connection reset")).retry, Retry::Unknown);
        assert_eq!(Error::from(Status::deadline_exceeded("")).retry, Retry::Unknown);
        let details = ErrorDetails::with_error_info("STARTING", "campanile", HashMap::new());
        assert_eq!(Error::from(Status::with_error_details(Code::Unavailable, "", details)).retry, Retry::Retryable);
        assert_eq!(Error::from(Status::resource_exhausted("disk full")).retry, Retry::Retryable);
        for code in [Code::PermissionDenied, Code::AlreadyExists, Code::NotFound, Code::InvalidArgument] {
            assert!(!Error::from(Status::new(code, "")).may_repeat(), "{code:?}");
        }
    }

    #[test]
    fn an_error_without_words_still_says_something() {
        assert!(!Error::from(Status::new(Code::NotFound, "")).to_string().is_empty());
    }
}
