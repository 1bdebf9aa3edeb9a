//! Random numbers from a seed.

use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Seeds that are close must not give numbers that are.
        let mixed = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self((mixed ^ (mixed >> 31)) | 1)
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

    pub(crate) fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }
}

/// Whether the large sizes are wanted.
pub(crate) fn nightly() -> bool {
    std::env::var_os("CARACAL_NIGHTLY").is_some()
}

/// The seed of this run: of the day, any one at night, or `CARACAL_SEED`. It is printed.
pub(crate) fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let given = std::env::var("CARACAL_SEED").ok().map(|t| t.parse().unwrap());
    let seed = given.unwrap_or(if nightly() {
        now.subsec_nanos().into()
    } else {
        now.as_secs() / 86_400
    });
    println!("CARACAL_SEED={seed}");
    seed
}
