//! How long to wait before a child is started again.
//!
//! Pure: the jitter is a parameter, so that every wait can be computed in a test. The first wait after a long
//! life is the shortest one, because a single crash says nothing about the next; each further crash doubles it.

use std::time::Duration;

/// Least uptime after which the crashes before it are forgotten, whatever `restart_max` says.
const SETTLED_AT_LEAST: Duration = Duration::from_secs(10);

/// At most this part of a wait is taken off it by jitter. Less than a half, so that the waits of a crash loop
/// still grow with every step until they reach the cap.
const JITTER: f64 = 0.25;

/// Exponential waits between two bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
}

/// Why two bounds make no [`Backoff`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A wait of nothing would let a crash loop spin.
    #[error("the shortest wait before a restart must not be zero")]
    Zero,
    /// The bounds are the wrong way round.
    #[error("the shortest wait before a restart is longer than the longest")]
    Reversed,
}

impl Backoff {
    /// Checks the bounds.
    pub fn new(min: Duration, max: Duration) -> Result<Self, Invalid> {
        if min.is_zero() {
            return Err(Invalid::Zero);
        }
        if min > max {
            return Err(Invalid::Reversed);
        }
        Ok(Self { min, max })
    }

    /// The wait after so many failures in a row (1 = the first). `jitter` in 0..1 takes up to a quarter off, so that
    /// workers that died together don't come back together; never below the shortest wait, never above the longest.
    pub fn wait(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let base = self.min.saturating_mul(1 << doublings).min(self.max);
        let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
        base.mul_f64(1.0 - JITTER * jitter).clamp(self.min, self.max)
    }

    /// Uptime after which earlier failures no longer count: the longest wait, at least 10 s. Were it shorter than the
    /// longest wait, a child that lives a little less than that would be started again at once each time, and a loop
    /// that spends most of its time working towards the same crash would never show.
    pub fn settled(&self) -> Duration {
        self.max.max(SETTLED_AT_LEAST)
    }

    /// Failures in a row, this one counted.
    pub fn count(&self, before: u32, uptime: Duration) -> u32 {
        if uptime >= self.settled() { 1 } else { before.saturating_add(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_checked() {
        let (zero, one, two) = (Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(Backoff::new(zero, one), Err(Invalid::Zero));
        assert_eq!(Backoff::new(two, one), Err(Invalid::Reversed));
        assert!(Backoff::new(one, one).is_ok());
    }

    #[test]
    fn doubles_up_to_the_cap() {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30)).unwrap();
        let waits: Vec<u128> = (1..=10).map(|n| backoff.wait(n, 0.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
    }

    /// Properties over random bounds: within the bounds, growing until the cap whatever the jitter, no overflow.
    #[test]
    fn holds_for_any_bounds_and_jitter() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            let min = Duration::from_millis(random.u64(1..10_000));
            let max = min + Duration::from_millis(random.u64(0..10_000_000));
            let backoff = Backoff::new(min, max).unwrap();
            let mut before = Duration::ZERO;
            for failures in 0..40 {
                let wait = backoff.wait(failures, random.f64());
                assert!(wait >= min && wait <= max, "{backoff:?} {failures}: {wait:?}");
                let capped = min.saturating_mul(1 << failures.saturating_sub(1).min(31)) >= max;
                assert!(capped || failures < 2 || wait > before, "{backoff:?} {failures}: {before:?} then {wait:?}");
                before = wait;
            }
            assert!(backoff.wait(u32::MAX, 1.0) >= max.mul_f64(0.75).min(max).max(min) - Duration::from_nanos(1));
            assert!([f64::NAN, f64::INFINITY, -1.0, 7.0].iter().all(|j| backoff.wait(3, *j) >= min));
        }
    }

    #[test]
    fn only_a_long_life_clears_the_record() {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30)).unwrap();
        assert_eq!(backoff.count(4, Duration::from_secs(29)), 5);
        assert_eq!(backoff.count(4, Duration::from_secs(30)), 1);
        let short = Backoff::new(Duration::from_millis(1), Duration::from_millis(1)).unwrap();
        assert_eq!(short.settled(), Duration::from_secs(10));
        assert_eq!(short.count(u32::MAX, Duration::ZERO), u32::MAX);
    }
}
