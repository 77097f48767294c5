//! Exercises that the directory announces: a value each, under `exercise`, that says until when.
//!
//! An announcement gives no right and takes none away. It shows a drill's controller that the nodes which take part look
//! into the directory of the same federation, and tells everybody who looks there that a drill is on. It ends by itself.

use campanile_alert::{ExerciseId, Timestamp};
use campanile_discovery::directory::{Directory, Error, PutOutcome};
use campanile_proto::bus::v1 as wire;
use campanile_proto::convert::timestamp_to_wire;
use serde::{Deserialize, Serialize};

/// The folder of the directory.
const FOLDER: &str = "exercise";
/// How often a write is tried again that others came before.
const ATTEMPTS: u32 = 8;
/// The longest time that an exercise is announced for.
pub const AHEAD_MAX: jiff::SignedDuration = jiff::SignedDuration::from_hours(31 * 24);

/// An announced exercise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Announced {
    /// Which.
    pub exercise: ExerciseId,
    /// Until when.
    pub until: Timestamp,
    /// The client that asked for it.
    pub by: String,
}

impl Announced {
    pub(crate) fn to_wire(&self) -> wire::AnnouncedExercise {
        wire::AnnouncedExercise {
            exercise_id: self.exercise.to_string(),
            until: Some(timestamp_to_wire(self.until)),
            by: self.by.clone(),
        }
    }
}

/// The exercises that are announced at `now`, in the order of their names.
///
/// # Errors
/// When the directory does not answer.
pub async fn announced(directory: &dyn Directory, now: Timestamp) -> Result<Vec<Announced>, Error> {
    let listing = directory.list(FOLDER).await?;
    let read = |bytes: &Vec<u8>| serde_json::from_slice::<Announced>(bytes).ok();
    Ok(listing.values.values().filter_map(read).filter(|announced| announced.until > now).collect())
}

/// Writes an announcement, in place of an earlier one of the same exercise.
///
/// # Errors
/// When the directory does not answer, another exercise has the name, or others write all the time.
pub async fn announce(directory: &dyn Directory, what: &Announced, now: Timestamp) -> Result<(), Error> {
    let name = name_of(&what.exercise);
    let bytes = serde_json::to_vec(what).unwrap_or_default();
    for _ in 0..ATTEMPTS {
        let listing = directory.list(FOLDER).await?;
        let held = listing.values.get(&name).and_then(|bytes| serde_json::from_slice::<Announced>(bytes).ok());
        if let Some(other) = held.filter(|held| held.exercise != what.exercise && held.until > now) {
            let message = format!("exercise {} is announced and its name is too like; take another", other.exercise);
            return Err(Error::Invalid(message));
        }
        if directory.put_unless_changed(FOLDER, listing.revision, &name, &bytes).await? == PutOutcome::Done {
            return Ok(());
        }
    }
    Err(Error::Unavailable { place: FOLDER.into(), reason: "others write there all the time".into() })
}

/// An exercise's name as the directory takes names: lower case, with hyphens.
fn name_of(exercise: &ExerciseId) -> String {
    exercise.as_str().to_ascii_lowercase().replace(['.', '_'], "-")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use campanile_discovery::MemoryHub;

    use super::*;

    fn hv26(until: &str) -> Announced {
        Announced { exercise: "HV26".parse().unwrap(), until: until.parse().unwrap(), by: "edb/duty".into() }
    }

    #[tokio::test]
    async fn an_announcement_ends_by_itself_and_can_be_taken_back() {
        let directory = MemoryHub::new().join();
        let now: Timestamp = "2026-10-13T02:00:00Z".parse().unwrap();
        announce(&directory, &hv26("2026-10-13T03:00:00Z"), now).await.unwrap();
        assert_eq!(announced(&directory, now).await.unwrap(), [hv26("2026-10-13T03:00:00Z")]);
        let later = "2026-10-13T03:00:00Z".parse().unwrap();
        assert!(announced(&directory, later).await.unwrap().is_empty());
        announce(&directory, &hv26("2026-10-13T01:00:00Z"), now).await.unwrap();
        assert!(announced(&directory, now).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn two_exercises_with_names_alike_are_not_confused() {
        let directory = MemoryHub::new().join();
        let now: Timestamp = "2026-10-13T02:00:00Z".parse().unwrap();
        announce(&directory, &hv26("2026-10-13T03:00:00Z"), now).await.unwrap();
        let like = Announced { exercise: "hv26".parse().unwrap(), ..hv26("2026-10-13T03:00:00Z") };
        let refused = announce(&directory, &like, now).await.unwrap_err().to_string();
        assert!(refused.contains("exercise HV26 is announced"), "{refused}");
    }
}
