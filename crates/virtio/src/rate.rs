//! How much per second: a bucket of tokens that fills with time.
//!
//! Pure: the time comes in as a parameter.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A limit, in whatever is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many in a second; at least one.
    pub per_second: u64,
    /// How many at once after a pause. What asks for more at once waits until it is full, and
    /// what it took too much is paid off before the next.
    pub burst: u64,
}

/// A bucket of one limit.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    /// Billionths of a token; below zero while a large request is paid off.
    level: i128,
    at: Option<Duration>,
}

/// Billionths in a token: so many come in a nanosecond for each token in a second.
const UNIT: i128 = 1_000_000_000;

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate) -> Bucket {
        let rate = Rate { per_second: rate.per_second.max(1), burst: rate.burst.max(1) };
        Bucket { rate, level: i128::from(rate.burst) * UNIT, at: None }
    }

    /// How long to wait before so many can be taken; nothing if they can be.
    ///
    /// `now` is a monotonic time; one that goes back counts as standing still.
    pub fn wait(&mut self, now: Duration, tokens: u64) -> Option<Duration> {
        let full = i128::from(self.rate.burst) * UNIT;
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_sub(at));
        let nanoseconds = i128::try_from(passed.as_nanos()).unwrap_or(i128::MAX);
        let came = nanoseconds.saturating_mul(i128::from(self.rate.per_second));
        self.level = self.level.saturating_add(came).min(full);
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
        let missing = (i128::from(tokens) * UNIT).min(full) - self.level;
        if missing <= 0 {
            return None;
        }
        let nanoseconds = u128::try_from(missing).unwrap_or(0);
        let nanoseconds = nanoseconds.div_ceil(u128::from(self.rate.per_second));
        Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }

    /// Takes so many, after [`Bucket::wait`] had nothing to wait for.
    pub fn take(&mut self, tokens: u64) {
        self.level -= i128::from(tokens) * UNIT;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_burst_goes_at_once_and_then_the_rate_counts() {
        let mut bucket = Bucket::new(Rate { per_second: 1000, burst: 100 });
        assert_eq!(bucket.wait(at(5), 100), None);
        bucket.take(100);
        assert_eq!(bucket.wait(at(5), 10), Some(at(10)));
        assert_eq!(bucket.wait(at(14), 10), Some(at(1)));
        assert_eq!(bucket.wait(at(15), 10), None);
        assert_eq!(bucket.wait(at(3), 10), None, "a clock that goes back takes nothing");
    }

    #[test]
    fn more_than_a_burst_waits_for_a_full_bucket_and_is_paid_off() {
        let mut bucket = Bucket::new(Rate { per_second: 10, burst: 10 });
        assert_eq!(bucket.wait(at(0), 40), None);
        bucket.take(40);
        assert_eq!(bucket.wait(at(0), 1), Some(at(3100)));
        assert_eq!(bucket.wait(at(3100), 1), None);
    }

    proptest! {
        /// Whoever waits as long as told gets through, and over a long time no more goes through
        /// than the rate, one burst and one request that was larger than a burst.
        #[test]
        fn never_more_than_the_rate(
            per_second in 1u64..1_000_000, burst in 1u64..100_000,
            asks in proptest::collection::vec(1u64..200_000, 1..60),
        ) {
            let mut bucket = Bucket::new(Rate { per_second, burst });
            let (mut now, mut taken) = (Duration::from_secs(7), 0u128);
            let (start, largest) = (now, *asks.iter().max().unwrap());
            for ask in asks {
                if let Some(wait) = bucket.wait(now, ask) {
                    now += wait;
                    prop_assert_eq!(bucket.wait(now, ask), None);
                }
                bucket.take(ask);
                taken += u128::from(ask);
            }
            let most = (now - start).as_nanos() * u128::from(per_second) / 1_000_000_000
                + u128::from(burst) + u128::from(largest) + 1;
            prop_assert!(taken <= most, "{taken} of {most}");
        }
    }
}
