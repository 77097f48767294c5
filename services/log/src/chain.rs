//! The append rules, the same for every backend: which record may follow what is held.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use crate::{Entry, Error, Hash, LogId, Position, Refusal, Replica, Slot, epoch};

/// The tail of every epoch of every log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tails(BTreeMap<LogId, BTreeMap<u64, Position>>);

impl Tails {
    pub(crate) fn set(&mut self, log: &LogId, tail: Position) {
        match self.0.get_mut(log) {
            Some(epochs) => {
                epochs.insert(tail.epoch, tail);
            }
            None => {
                self.0.insert(log.clone(), BTreeMap::from([(tail.epoch, tail)]));
            }
        }
    }

    pub(crate) fn tail(&self, log: &LogId) -> Option<Position> {
        self.0.get(log)?.last_key_value().map(|(_, tail)| *tail)
    }

    pub(crate) fn epoch(&self, log: &LogId, epoch: u64) -> Option<Position> {
        self.0.get(log)?.get(&epoch).copied()
    }

    pub(crate) fn epochs(&self, log: &LogId) -> Vec<Position> {
        self.0.get(log).map(|epochs| epochs.values().copied().collect()).unwrap_or_default()
    }

    pub(crate) fn logs(&self) -> Vec<(LogId, Position)> {
        self.0
            .iter()
            .filter_map(|(log, epochs)| epochs.last_key_value().map(|(_, tail)| (log.clone(), *tail)))
            .collect()
    }

    fn merge(&mut self, changed: Tails) {
        for (log, epochs) in changed.0 {
            self.0.entry(log).or_default().extend(epochs);
        }
    }
}

/// The tails as a batch sees them: what is committed, and its own changes over it.
pub(crate) struct PendingTails<'a> {
    base: &'a RwLock<Tails>,
    changed: Tails,
}

impl<'a> PendingTails<'a> {
    pub(crate) fn new(base: &'a RwLock<Tails>) -> Self {
        Self { base, changed: Tails::default() }
    }

    pub(crate) fn set(&mut self, log: &LogId, tail: Position) {
        self.changed.set(log, tail);
    }

    pub(crate) fn tail(&self, log: &LogId) -> Option<Position> {
        let base = self.base.read().tail(log);
        match (base, self.changed.tail(log)) {
            (Some(base), Some(changed)) if base.epoch > changed.epoch => Some(base),
            (base, changed) => changed.or(base),
        }
    }

    pub(crate) fn epoch(&self, log: &LogId, epoch: u64) -> Option<Position> {
        self.changed.epoch(log, epoch).or_else(|| self.base.read().epoch(log, epoch))
    }

    /// Makes the changes visible; called once they are durable.
    pub(crate) fn publish(self) {
        self.base.write().merge(self.changed);
    }
}

/// What to do with a replica.
pub(crate) enum Verdict {
    Append(Position),
    Same(Position),
    Refuse(Refusal),
}

/// Judges `replica` by the append rules; `held` gives the hash at a place of its log.
pub(crate) fn judge(
    tails: &PendingTails<'_>,
    replica: &Replica,
    held: &mut dyn FnMut(u64, u64) -> Result<Option<Hash>, Error>,
) -> Result<Verdict, Error> {
    if let Some(reason) = malformed(replica) {
        return Ok(Verdict::Refuse(Refusal::Malformed { reason }));
    }
    let position = Position { epoch: replica.epoch, seq: replica.seq, hash: Hash::of(&replica.header) };
    let Some(tail) = tails.epoch(&replica.log, position.epoch) else {
        return Ok(match opens(tails, replica, held)? {
            None => Verdict::Append(position),
            Some(refusal) => Verdict::Refuse(refusal),
        });
    };
    if position.seq <= tail.seq {
        let hash = if position.seq == tail.seq { Some(tail.hash) } else { held(position.epoch, position.seq)? };
        return match hash {
            Some(hash) if hash == position.hash => Ok(Verdict::Same(position)),
            Some(hash) => Ok(Verdict::Refuse(Refusal::Fork { held: Position { hash, ..position } })),
            None => Err(Error::Corrupt {
                place: format!("{} {position}", replica.log),
                reason: format!("it is missing below the tail {tail}"),
            }),
        };
    }
    Ok(if position.seq > tail.seq + 1 && !crate::mutant("accept-gap") {
        Verdict::Refuse(Refusal::Gap { tail: Some(tail) })
    } else if replica.previous != tail.hash && !crate::mutant("skip-chain-check") && !crate::mutant("accept-gap") {
        Verdict::Refuse(Refusal::BadPrevious { tail })
    } else {
        Verdict::Append(position)
    })
}

/// Whether `replica` may open its epoch, of which nothing is held; `None` if it may.
fn opens(
    tails: &PendingTails<'_>,
    replica: &Replica,
    held: &mut dyn FnMut(u64, u64) -> Result<Option<Hash>, Error>,
) -> Result<Option<Refusal>, Error> {
    let highest = tails.tail(&replica.log);
    let older = highest.filter(|tail| replica.epoch < tail.epoch);
    if replica.seq > 1 {
        return Ok(Some(match older {
            Some(tail) => Refusal::OlderEpochUnknown { tail },
            None => Refusal::Gap { tail: None },
        }));
    }
    let fits = match replica.link {
        // Its origin had nothing then: it was new, or its disk was gone and nobody could tell it of its past.
        None => true,
        Some(link) => link.epoch < replica.epoch && held(link.epoch, link.seq)? == Some(link.hash),
    };
    Ok(match (fits, older) {
        (true, _) => None,
        (false, Some(tail)) => Some(Refusal::OlderEpochUnknown { tail }),
        (false, None) => Some(Refusal::BadLink { link: replica.link, tail: highest }),
    })
}

fn malformed(replica: &Replica) -> Option<&'static str> {
    if replica.epoch == 0 || replica.epoch > epoch::MAX {
        return Some("its epoch is 0 or above the highest allowed");
    }
    if replica.seq == 0 || replica.seq > epoch::MAX {
        return Some("its seq is 0 or above the highest allowed");
    }
    if replica.seq == 1 && replica.previous != Hash::ZERO {
        return Some("it is the first of its epoch and yet names a previous record");
    }
    if replica.seq > 1 && replica.link.is_some() {
        return Some("it is not the first of its epoch and yet has a link");
    }
    None
}

/// The place of the next draft of `log` in `epoch`.
pub(crate) fn slot(tails: &PendingTails<'_>, log: &LogId, epoch: u64) -> Result<Slot, Error> {
    if let Some(tail) = tails.epoch(log, epoch) {
        return Ok(Slot { epoch, seq: tail.seq + 1, previous: tail.hash, link: None });
    }
    let link = tails.tail(log);
    check_above(log, epoch, link)?;
    Ok(Slot { epoch, seq: 1, previous: Hash::ZERO, link })
}

/// Refuses an epoch that is not above the tail held.
pub(crate) fn check_above(log: &LogId, epoch: u64, tail: Option<Position>) -> Result<(), Error> {
    if epoch == 0 || epoch > epoch::MAX {
        return Err(Error::Invalid { what: format!("epoch {epoch} of log {log} is 0 or above the highest allowed") });
    }
    match tail {
        Some(tail) if tail.epoch >= epoch => {
            Err(Error::EpochNotAbove { log: log.to_string(), epoch, held: tail.epoch })
        }
        _ => Ok(()),
    }
}

/// Looks positions up while a chain is walked.
pub(crate) trait Held {
    /// The hash at a place, if held.
    fn hash_at(&mut self, log: &LogId, epoch: u64, seq: u64) -> Result<Option<Hash>, Error>;
}

/// Checks entry after entry, in any order in which each log's epochs run upwards, against the chain rules.
#[derive(Default)]
pub(crate) struct Walk {
    /// Where each epoch stands, so that a walk in order needs no look-up. Bounded by the epochs held.
    tips: BTreeMap<(LogId, u64), Position>,
}

impl Walk {
    /// Returns what is wrong with `entry`, if anything. The outer error is the disk.
    pub(crate) fn step(&mut self, entry: &Entry, held: &mut dyn Held) -> Result<Option<String>, Error> {
        let Position { epoch, seq, hash } = entry.position;
        let fault = if Hash::of(&entry.header) != hash {
            Some("the header does not match its hash".to_owned())
        } else if seq == 0 {
            Some("seq 0 does not exist".to_owned())
        } else if seq == 1 {
            self.first(entry, held)?
        } else {
            self.next(entry, held)?
        };
        self.tips.insert((entry.log.clone(), epoch), entry.position);
        Ok(fault)
    }

    fn first(&mut self, entry: &Entry, held: &mut dyn Held) -> Result<Option<String>, Error> {
        if entry.previous != Hash::ZERO {
            return Ok(Some("the first record of its epoch names a previous one".to_owned()));
        }
        let Some(link) = entry.link else { return Ok(None) };
        if link.epoch >= entry.position.epoch {
            return Ok(Some(format!("its link {link} does not point to a lower epoch")));
        }
        Ok(match held.hash_at(&entry.log, link.epoch, link.seq)? {
            Some(hash) if hash == link.hash => None,
            Some(_) => Some(format!("its link {link} names another hash than the one held there")),
            None => Some(format!("its link {link} names a position that is not held")),
        })
    }

    fn next(&mut self, entry: &Entry, held: &mut dyn Held) -> Result<Option<String>, Error> {
        let Position { epoch, seq, .. } = entry.position;
        if entry.link.is_some() {
            return Ok(Some("it has a link but does not open its epoch".to_owned()));
        }
        let tip = self.tips.get(&(entry.log.clone(), epoch)).filter(|tip| tip.seq + 1 == seq).map(|tip| tip.hash);
        let before = match tip {
            Some(hash) => Some(hash),
            None => held.hash_at(&entry.log, epoch, seq - 1)?,
        };
        Ok(match before {
            Some(hash) if hash == entry.previous => None,
            Some(_) => Some("its previous hash is not that of the record before it".to_owned()),
            None => Some(format!("record {} before it is missing", seq - 1)),
        })
    }
}
