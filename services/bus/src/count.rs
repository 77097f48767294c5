//! Who may say what: the judgement that decides whether a stored record counts.
//!
//! It is made twice with the same code: by the node that publishes, which refuses, and by every node that receives,
//! which stores the record all the same, marks it "not counted" and goes on. So a stolen node key cannot widen its
//! department's rights, and a record without right cannot stop the log it stands in (S1, R4).

use campanile_alert::classify::{self, Classification};
use campanile_alert::{Alert, DepartmentId, MessageType, Timestamp, Vocabulary, World, judge};
use campanile_discovery::roster::{RightRefusal, Roster};

use crate::current::Current;
use crate::pipeline::PublishError;
use crate::record::{Body, Content, Header, READER_VERSION};

/// Why a record does not count.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Uncounted {
    /// Another node publishes for the department.
    #[error("{publisher} publishes for {department}; send it there")]
    NotPublisher {
        /// The node that does, or a sentence that none is named.
        publisher: String,
        /// The department.
        department: DepartmentId,
    },
    /// The department has no such right.
    #[error(transparent)]
    Right(#[from] RightRefusal),
    /// The alert is not admissible on the bus; every fault with its place.
    #[error("{}", faults_text(.0))]
    Faults(Vec<judge::Fault>),
    /// The codes in the alert say something else than the record around it.
    #[error("the classification of the record contradicts the codes in its alert")]
    Classification,
    /// The record lets others read than the alert says.
    #[error("the audience of the record has another scope than its alert")]
    Scope,
    /// A manifest that speaks for another department.
    #[error("the manifest of {found} stands in a log of {wanted}")]
    Manifest {
        /// Whose it says it is.
        found: String,
        /// Whose log it is.
        wanted: DepartmentId,
    },
    /// The record asks for a newer reader.
    #[error("the record needs reader version {0}; this node reads version 1; upgrade it")]
    ReaderVersion(u32),
}

fn faults_text(faults: &[judge::Fault]) -> String {
    let texts: Vec<String> = faults.iter().take(8).map(ToString::to_string).collect();
    texts.join("; ")
}

/// Judges an alert of `department` at `now`: admissible on the bus, and within the department's rights.
///
/// # Errors
/// [`Uncounted`], with every fault of the alert at once.
pub fn alert(
    roster: &Roster,
    department: &DepartmentId,
    alert: &Alert,
    classification: &Classification,
    vocabulary: &Vocabulary,
    now: Timestamp,
) -> Result<(), Uncounted> {
    let mut faults = judge::cap_valid(alert);
    faults.extend(judge::bus_admissible(alert, classification, vocabulary, now));
    if !faults.is_empty() {
        return Err(Uncounted::Faults(faults));
    }
    let own = classify::classify(alert, vocabulary);
    if own.event.is_some() && own != *classification {
        return Err(Uncounted::Classification);
    }
    // A Cancel, an Ack or an Error without info says nothing of its own; whose message it is about is judged by
    // [`owns_references`].
    if alert.infos.is_empty() {
        return Ok(());
    }
    let areas: Vec<_> = alert.infos.iter().flat_map(|info| info.areas.iter().cloned()).collect();
    Ok(roster.rights(department).allow(classification.event.as_deref(), alert.status, &areas)?)
}

/// Judges a record of another origin by the roster that its header names.
///
/// # Errors
/// [`Uncounted`] when it does not count.
pub fn record(roster: &Roster, header: &Header, body: &Body, vocabulary: &Vocabulary) -> Result<(), Uncounted> {
    if header.reader_version_min > READER_VERSION {
        return Err(Uncounted::ReaderVersion(header.reader_version_min));
    }
    // What a gateway did, and which key signs next, any node of the department may say. Everything else is its
    // publisher's: a gateway must not be able to approve, pause or tick in the name of officers.
    if matches!(body.content, Content::DeliveryReport(_) | Content::KeyChange(_)) {
        return Ok(());
    }
    let department = header.origin.department();
    match roster.publisher(department) {
        Some(publisher) if *publisher == header.origin => {}
        publisher => {
            return Err(Uncounted::NotPublisher {
                publisher: publisher.map_or_else(|| "no node".into(), ToString::to_string),
                department: department.clone(),
            });
        }
    }
    if let Content::Manifest(manifest) = &body.content
        && manifest.department != department.as_str()
    {
        let found = manifest.department.chars().take(64).collect();
        return Err(Uncounted::Manifest { found, wanted: department.clone() });
    }
    let Content::Alert { alert: message, .. } = &body.content else { return Ok(()) };
    if message.scope != Some(header.audience.scope) {
        return Err(Uncounted::Scope);
    }
    // The author's own time, so that every receiver judges alike, however late the record comes.
    alert(roster, department, message, &body.classification, vocabulary, header.time)
}

/// Checks that what an Update or Cancel refers to is the department's own, or delegated to it.
///
/// A message that is not known here may be the department's own; then nothing speaks against it.
///
/// # Errors
/// [`PublishError::NotOwner`] naming the first message of another department.
pub fn owns_references(
    current: &Current,
    roster: &Roster,
    department: &DepartmentId,
    world: &World,
    alert: &Alert,
) -> Result<(), PublishError> {
    if !matches!(alert.msg_type, MessageType::Update | MessageType::Cancel) || crate::mutant("anyone-may-cancel") {
        return Ok(());
    }
    for id in alert.referenced() {
        if current.knows(department, world, id) {
            continue;
        }
        if let Some((owner, event)) = current.owner_of(roster, world, id)
            && !roster.may_amend(&owner, department, event.as_deref())
        {
            return Err(PublishError::NotOwner { reference: id.to_string(), owner });
        }
    }
    Ok(())
}
