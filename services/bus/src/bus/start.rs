//! What a member looks at before it starts: its keys in the roster, and new epochs for its own logs.

use campanile_alert::{OriginId, Timestamp};
use campanile_log::{Lane, LogId, Store};

use super::{OpenError, Options};
use crate::surroundings::Surroundings;
use crate::verify;

/// Begins an epoch in each of our own logs, above all that are known.
pub(super) fn begin_epochs(
    store: &dyn Store,
    origin: &OriginId,
    now: Timestamp,
    surroundings: &dyn Surroundings,
) -> Result<(), campanile_log::Error> {
    Lane::ALL.iter().try_for_each(|lane| {
        let log = LogId::new(origin.to_string(), *lane);
        begin_epoch(store, &log, now, surroundings)
    })
}

/// Begins an epoch in one of our own logs, above all that are known of it.
pub(crate) fn begin_epoch(
    store: &dyn Store,
    log: &LogId,
    now: Timestamp,
    surroundings: &dyn Surroundings,
) -> Result<(), campanile_log::Error> {
    let now_ms = u64::try_from(now.as_millisecond()).unwrap_or_default();
    let above = store.epochs(log).iter().map(|tail| tail.epoch).max().unwrap_or_default();
    let mut random = [0; 4];
    surroundings.random(&mut random);
    let epoch = campanile_log::epoch::next(now_ms, u32::from_le_bytes(random), above);
    let epoch = if crate::mutant("epoch-not-renewed") { above + 1 } else { epoch };
    store.begin_epoch(log, epoch)
}

/// Looks whether the roster lists this node with its keys, each for its use.
pub(super) fn check_keys(options: &Options) -> Result<(), OpenError> {
    let roster = options.roster.current();
    let listed = roster.origin(&options.origin).ok_or_else(|| {
        OpenError::Roster(format!(
            "roster {} does not list {}; have governance add it, or correct the node's name",
            roster.number, options.origin
        ))
    })?;
    let epoch = campanile_log::epoch::next(u64::try_from(options.clock.now().as_millisecond()).unwrap_or(1), 0, 0);
    for (key, name, lane) in
        [(&options.keys.live, "signing", Lane::Urgent), (&options.keys.exercise, "exercise", Lane::Exercise)]
    {
        // A key for the other use, or one that the roster has ended, would sign what nobody counts.
        if listed.keys.iter().any(|known| known.id == key.id())
            && let Err(refusal) = roster.key(&options.origin, key.id(), verify::key_lane(lane), epoch, 1)
        {
            return Err(OpenError::Roster(format!(
                "{refusal}; put the {name} key in place that the roster lists for it"
            )));
        }
        if !listed.keys.iter().any(|known| known.id == key.id()) {
            return Err(OpenError::Roster(format!(
                "roster {} does not list the {name} key {} of {}; use the key it lists, or have governance add this one",
                roster.number,
                key.id(),
                options.origin
            )));
        }
    }
    Ok(())
}
