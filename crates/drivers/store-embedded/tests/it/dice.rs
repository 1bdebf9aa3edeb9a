//! Random numbers from a seed that is printed: of the day, or any under `CARACAL_NIGHTLY` or `CARACAL_SEED`.

use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Seeds that are close must not give numbers that are.
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(mixed | 1)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Whether the large sizes are wanted.
pub(crate) fn nightly() -> bool {
    std::env::var_os("CARACAL_NIGHTLY").is_some()
}

/// The seed of this run, told on stderr.
pub(crate) fn seed(what: &str) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let given = std::env::var("CARACAL_SEED")
        .ok()
        .map(|text| text.parse().expect("CARACAL_SEED is a number"));
    let seed = given.unwrap_or(if nightly() {
        u64::from(now.subsec_nanos())
    } else {
        now.as_secs() / 86_400
    });
    eprintln!("{what}: CARACAL_SEED={seed}");
    seed
}
