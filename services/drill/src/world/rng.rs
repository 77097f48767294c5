//! The one source of chance in a virtual run: SplitMix64, seeded, the same on every machine.

/// A seeded generator.
#[derive(Debug, Clone)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `most`.
    pub(super) fn up_to(&mut self, most: i64) -> i64 {
        let most = u64::try_from(most).unwrap_or(0);
        i64::try_from(self.next() % (most + 1)).unwrap_or(0)
    }

    /// Whether something happens that happens so often in a hundred.
    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.next() % 100 < u64::from(percent)
    }
}
