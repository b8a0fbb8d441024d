//! Whatever is in a queue, and whatever a runner says, is read without a panic, and what can be read can be read again
//! after it went back.
//!
//! Each case is a good message, or frame, changed at random. A failure prints the seed of the case:
//! `FUZZ_SEED=… cargo test --test fuzz` runs that one. `FUZZ_CASES=1000000` runs more of them.

#![allow(clippy::unwrap_used, reason = "a test may panic, outside its #[test] functions too")]

mod frames;
mod messages;
mod mutator;

use fastrand::Rng;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `case` with one seed after the other; returns how many.
pub fn cases(default: u64, case: impl Fn(&mut Rng)) -> u64 {
    let variable = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let (first, count) = match variable("FUZZ_SEED") {
        Some(seed) => (seed, 1),
        None => (fastrand::u64(..), variable("FUZZ_CASES").unwrap_or(default)),
    };
    for number in 0..count {
        let seed = first.wrapping_add(number);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(&mut Rng::with_seed(seed)))) {
            eprintln!("FUZZ_SEED={seed}");
            resume_unwind(panic);
        }
    }
    count
}
