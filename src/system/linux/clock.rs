//! The clock that the shutdown runs on.

use std::time::Instant;

use crate::time::Moment;

/// Tells the time since it was made, by CLOCK_MONOTONIC: no change of the wall clock reaches it.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that stands at zero now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The moment that it is now.
    pub fn now(&self) -> Moment {
        Moment::new(self.0.elapsed())
    }
}
