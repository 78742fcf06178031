//! The clock that the shutdown runs on.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

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

/// The time since the machine started, in the clock ticks in which `/proc` tells when a process did: 100 a second on every
/// machine (proc_pid_stat(5), "starttime"; include/asm-generic/param.h, `USER_HZ`). Suspended time counts.
pub(super) fn since_boot_in_ticks() -> u64 {
    const TICK: u128 = 10;
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_millis().checked_div(TICK).unwrap_or(0)).unwrap_or(u64::MAX)
}
