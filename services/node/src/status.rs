//! The one place that makes errors for callers: a short message outward, a machine-readable reason, and the fields.
//!
//! The details are those of `google.rpc`: `BadRequest` names each field and why, `ErrorInfo` carries a reason from a
//! closed list, `RetryInfo` says that the same call may be tried again. The chain behind an internal failure goes to the
//! log, never to the caller.

use campanile_alert::judge::Fault;
use campanile_bus::count::Uncounted;
use campanile_bus::{PublishError, SubmitError};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Whose reasons these are.
const DOMAIN: &str = "campanile";

/// The longest reason or note of a person, in characters.
const REASON_CHARS_MAX: usize = 1_000;
/// The longest message of an error, in bytes. Errors travel in HTTP/2 headers, of which clients take 16 KiB, and a byte
/// outside ASCII becomes three there; what is longer would arrive as a broken stream without any reason.
const MESSAGE_BYTES_MAX: usize = 1_000;
/// The longest name or problem of one field, in bytes.
const FIELD_BYTES_MAX: usize = 200;
/// How many fields one error names: the first ones.
const FIELDS_MAX: usize = 16;

/// A refusal with a reason from the closed list.
pub fn refuse(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let message = short(message.into(), MESSAGE_BYTES_MAX);
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, []))
}

/// The text, cut where it would be longer than `most` bytes.
fn short(mut text: String, most: usize) -> String {
    if text.len() > most {
        let cut = (0..=most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default();
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// A refusal of one field.
pub fn field(name: &str, problem: impl Into<String>) -> Status {
    let problem = problem.into();
    fields(&[(name.to_owned(), problem.clone())], format!("{name}: {problem}"))
}

/// Checks what a person gives as a reason or a note: the log keeps it for ever.
///
/// # Errors
/// A refusal of the field `name` when it is longer than [`REASON_CHARS_MAX`].
pub fn reason(name: &str, text: &str) -> Result<(), Status> {
    if text.chars().count() > REASON_CHARS_MAX {
        return Err(field(name, "it has more than 1,000 characters"));
    }
    Ok(())
}

/// A refusal of several fields.
pub fn fields(violations: &[(String, String)], message: impl Into<String>) -> Status {
    let mut details = ErrorDetails::with_error_info("INVALID_ALERT", DOMAIN, []);
    for (name, problem) in violations.iter().take(FIELDS_MAX) {
        let (name, problem) = (short(name.clone(), FIELD_BYTES_MAX), short(problem.clone(), FIELD_BYTES_MAX));
        details.add_bad_request_violation(name, problem);
    }
    Status::with_error_details(Code::InvalidArgument, short(message.into(), MESSAGE_BYTES_MAX), details)
}

/// The faults of an alert, each as a field.
pub fn faults(faults: &[Fault]) -> Status {
    let violations: Vec<_> = faults.iter().map(|fault| (fault.path.clone(), fault.reason.clone())).collect();
    let first = faults.first().map(|fault| format!("{}: {}", fault.path, fault.reason)).unwrap_or_default();
    let more = faults.len().saturating_sub(1);
    let message = if more == 0 { first } else { format!("{first} (and {more} more)") };
    fields(&violations, message)
}

/// What the store or a task could not do; the chain goes to the log.
pub fn internal(context: &'static str, error: &dyn std::error::Error) -> Status {
    tracing::error!(context, error = %crate::config::chain(error), "A call failed");
    refuse(Code::Internal, "INTERNAL", format!("{context}; see the node's log"))
}

/// Why an alert was not published.
pub fn submit(error: SubmitError) -> Status {
    match error {
        SubmitError::Refused(Uncounted::Faults(found)) => faults(&found),
        SubmitError::Refused(refusal @ Uncounted::NotPublisher { .. }) => {
            refuse(Code::FailedPrecondition, "NOT_PUBLISHER", refusal.to_string())
        }
        SubmitError::Refused(refusal @ Uncounted::Right(_)) => {
            refuse(Code::PermissionDenied, "NO_RIGHT", refusal.to_string())
        }
        SubmitError::Refused(refusal) => refuse(Code::InvalidArgument, "INVALID_ALERT", refusal.to_string()),
        SubmitError::World(error) => field("exercise_id", error.to_string()),
        SubmitError::Publish(error) => publish(error),
    }
}

/// Why a record was not written.
pub fn publish(error: PublishError) -> Status {
    let (code, reason) = match &error {
        PublishError::Conflict(_) => (Code::AlreadyExists, "CONFLICT"),
        PublishError::NotOwner { .. } => (Code::PermissionDenied, "NOT_OWNER"),
        PublishError::Full => (Code::ResourceExhausted, "DISK_FULL"),
        PublishError::Overloaded => (Code::ResourceExhausted, "OVERLOADED"),
        PublishError::Failed => (Code::Unavailable, "STORE_FAILED"),
        PublishError::NoPast => (Code::Unavailable, "NO_PAST"),
        PublishError::RosterChanged => (Code::Unavailable, "ROSTER_CHANGED"),
        PublishError::TooLarge(_) => (Code::InvalidArgument, "TOO_LARGE"),
    };
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, []);
    if error.is_retryable() {
        details.set_retry_info(Some(std::time::Duration::from_secs(1)));
    }
    Status::with_error_details(code, short(error.to_string(), MESSAGE_BYTES_MAX), details)
}
