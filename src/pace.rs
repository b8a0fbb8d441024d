//! When the timers of a process go off: together, and each at one wake-up.
//!
//! Tokio keeps a timer that is further away than 64 ms in a slot of 64 ms, wakes up at the beginning of that slot to put it
//! into a finer one, and once more when it is due (`tokio/src/runtime/time/wheel`). A timer that is due just at the
//! beginning of a slot needs no second wake-up. An idle process does little else than to wake up.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Slots of tokio's wheel.
const SLOT: Duration = Duration::from_millis(64);

/// What is done about once a second is done together.
const TICK: Duration = Duration::from_millis(15 * 64);

/// The beginning of the wheel, about.
static BEGAN: OnceLock<Instant> = OnceLock::new();

/// To be called right before the runtime is made. Without, timers are as exact, and cost more.
pub fn begin() {
    BEGAN.get_or_init(Instant::now);
}

/// A moment at most 64 ms before this one at which a timer costs least.
pub fn slot_before(at: Instant) -> Instant {
    before(at, SLOT, *BEGAN.get_or_init(Instant::now))
}

/// A moment less than a second before this one at which others of this process are due as well.
pub fn tick_before(at: Instant) -> Instant {
    before(at, TICK, *BEGAN.get_or_init(Instant::now))
}

fn before(at: Instant, every: Duration, began: Instant) -> Instant {
    let late = at.saturating_duration_since(began).as_nanos() % every.as_nanos();
    at - Duration::from_nanos(u64::try_from(late).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_regularly_is_due_at_beginnings() {
        let began = Instant::now();
        let mut at = began + Duration::from_micros(700);
        for beats in 1..=5 {
            // Each time it is somewhat late.
            at = before(at + Duration::from_secs(1), TICK, began) + Duration::from_micros(300);
            assert_eq!(at - began, TICK * beats + Duration::from_micros(300));
        }
        let at = began + Duration::from_millis(2500);
        assert_eq!(before(at, SLOT, began) - began, Duration::from_millis(2496));
        assert_eq!(before(began, SLOT, began), began);
        assert_eq!(before(began, SLOT, began + SLOT), began, "never later than was asked for");
    }
}
