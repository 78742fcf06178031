//! The one place where the init sleeps.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// Sleeps until a descriptor can be read or the time is up; `None` is no limit. Tells the place of the first that can be read.
///
/// Spurious and early returns are allowed (EINTR, ENOMEM): the caller looks at everything on each turn anyhow.
pub fn until_readable<'a>(
    descriptors: impl IntoIterator<Item = BorrowedFd<'a>>,
    limit: Option<Duration>,
) -> Option<usize> {
    let mut polled: Vec<PollFd<'_>> =
        descriptors.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    // A limit beyond what the kernel takes is as good as a year: the caller asks again.
    const YEAR: Duration = Duration::from_secs(31_536_000);
    let limit = limit.map(|limit| TimeSpec::from_duration(limit.min(YEAR)));
    let _ = ppoll(&mut polled, limit, None);
    polled.iter().position(|fd| fd.any().unwrap_or(false))
}
