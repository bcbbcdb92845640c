//! When a request is sent again, and after how long.
//!
//! Pure but for the dice: nothing here waits.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::Failure;
use crate::error::Error;
use crate::provider::Event;

/// The first delay; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(500);

/// The longest delay that we choose ourselves.
const LONGEST: Duration = Duration::from_secs(8);

/// The longest delay that an upstream may ask for. Beyond it the failure is the answer, and says how long.
const LONGEST_ASKED: Duration = Duration::from_secs(120);

/// Counts the repetitions of one request.
#[derive(Debug)]
pub struct Retries {
    done: u32,
    max: u32,
}

impl Retries {
    /// At most this many repetitions.
    pub fn new(max: u32) -> Self {
        Retries { done: 0, max }
    }

    /// The delay before the request is sent again, if it is to be.
    pub fn again(&mut self, failure: &Failure) -> Option<Duration> {
        if !failure.repeatable || self.done >= self.max {
            return None;
        }
        let asked = failure.error.data.retry_after_ms.map(Duration::from_millis);
        let delay = match asked {
            Some(asked) if asked > LONGEST_ASKED => return None,
            Some(asked) => asked,
            None => jittered(FIRST.saturating_mul(1 << self.done.min(8)).min(LONGEST)),
        };
        self.done += 1;
        Some(delay)
    }

    /// The announcement of a repetition that [`Retries::again`] has granted.
    pub fn event(&self, failure: &Failure, delay: Duration) -> Event {
        Event::Retry {
            attempt: self.done,
            delay,
            error: failure.error.clone(),
        }
    }

    /// The announcement of a request that goes up at once, and otherwise than the one that failed so. It is not counted:
    /// whoever mends a request does so once.
    pub fn at_once(error: &Error) -> Event {
        Event::Retry {
            attempt: 1,
            delay: Duration::ZERO,
            error: error.clone(),
        }
    }
}

/// Up to a quarter shorter, so that those who failed together do not come back together.
fn jittered(delay: Duration) -> Duration {
    // The standard library's hasher is seeded at random, which is all the randomness that this needs.
    let dice = RandomState::new().hash_one(0) as u32;
    delay.mul_f64(1.0 - 0.25 * f64::from(dice) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn failure(repeatable: bool) -> Failure {
        Failure {
            error: Error::new(Kind::RateLimited, "later"),
            status: Some(429),
            repeatable,
        }
    }

    #[test]
    fn delays_double_up_to_eight_seconds() {
        let mut retries = Retries::new(7);
        for expected in [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0] {
            let delay = retries.again(&failure(true)).unwrap().as_secs_f64();
            assert!((expected * 0.75..=expected).contains(&delay), "{delay} for {expected}");
        }
        assert_eq!(retries.again(&failure(true)), None);
    }

    #[test]
    fn what_may_have_had_an_effect_is_not_repeated() {
        assert_eq!(Retries::new(2).again(&failure(false)), None);
    }

    #[test]
    fn the_upstreams_wish_is_kept_up_to_two_minutes() {
        let asking = |seconds| Failure {
            error: Error::new(Kind::RateLimited, "later").with_retry_after(Duration::from_secs(seconds)),
            ..failure(true)
        };
        assert_eq!(Retries::new(1).again(&asking(120)), Some(Duration::from_secs(120)));
        assert_eq!(Retries::new(1).again(&asking(121)), None);
    }
}
