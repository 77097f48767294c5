//! Epoch numbers: 44 bits of milliseconds since 1970, then 20 random bits.
//!
//! Every start of a node opens an epoch above all that it knows, so that a node restored from a backup never gives a
//! position a second content: its clock has moved on, and where it has not the random bits differ.

/// How many low bits are random.
pub const RANDOM_BITS: u32 = 20;

/// The highest epoch that a log accepts: epochs are stored as signed 64-bit numbers.
pub const MAX: u64 = i64::MAX as u64;

/// Returns the epoch to open at `now_ms` (milliseconds since 1970), above `above` (the highest known; 0 if none).
///
/// The low 20 bits of `random` are used. When the clock lies behind `above`, the milliseconds of `above` plus one take
/// its place and the random bits stay, so that two restores under a clock that went back still differ.
pub fn next(now_ms: u64, random: u32, above: u64) -> u64 {
    let random = u64::from(random) & ((1 << RANDOM_BITS) - 1);
    let wanted = now_ms.min(MAX >> RANDOM_BITS) << RANDOM_BITS | random;
    if wanted > above {
        return wanted.max(1);
    }
    let stepped = (above >> RANDOM_BITS).saturating_add(1).min(MAX >> RANDOM_BITS) << RANDOM_BITS | random;
    if stepped > above { stepped } else { above.saturating_add(1) }
}

/// The milliseconds since 1970 at which `epoch` was opened, as its origin's clock had them.
pub fn millisecond(epoch: u64) -> u64 {
    epoch >> RANDOM_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_carries_its_millisecond() {
        let epoch = next(1_790_000_000_000, 0xFFFF_FFFF, 0);
        assert_eq!(millisecond(epoch), 1_790_000_000_000);
        assert_eq!(epoch & 0xF_FFFF, 0xF_FFFF);
    }

    #[test]
    fn epoch_is_above_all_known_when_the_clock_goes_back() {
        let known = next(2_000, 7, 0);
        for now in [0, 1, 1_999, 2_000] {
            assert!(next(now, 3, known) > known, "now {now}");
        }
        assert_ne!(next(0, 3, known), next(0, 4, known));
        assert!(next(0, 0, 0) > 0);
    }
}
