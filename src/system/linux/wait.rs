//! The one place where the init sleeps.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// A descriptor to wait for: until it can be read, and if wanted until it can be written to.
pub struct Wanted<'a> {
    /// The descriptor.
    pub fd: BorrowedFd<'a>,
    /// There is something to write.
    pub to_write: bool,
}

/// Sleeps until a descriptor can be read or the time is up; see [`until_ready`].
pub fn until_readable<'a>(
    descriptors: impl IntoIterator<Item = BorrowedFd<'a>>,
    limit: Option<Duration>,
) -> Option<usize> {
    until_ready(descriptors.into_iter().map(|fd| Wanted { fd, to_write: false }), limit)
}

/// Sleeps until a descriptor is ready or the time is up; `None` is no limit. Tells the place of the first that is ready.
///
/// Spurious and early returns are allowed (EINTR, ENOMEM): the caller looks at everything on each turn anyhow.
pub fn until_ready<'a>(
    descriptors: impl IntoIterator<Item = Wanted<'a>>,
    limit: Option<Duration>,
) -> Option<usize> {
    let events = |to_write| if to_write { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
    let mut polled: Vec<PollFd<'_>> =
        descriptors.into_iter().map(|wanted| PollFd::new(wanted.fd, events(wanted.to_write))).collect();
    // A limit beyond what the kernel takes is as good as a year: the caller asks again.
    const YEAR: Duration = Duration::from_secs(31_536_000);
    let limit = limit.map(|limit| TimeSpec::from_duration(limit.min(YEAR)));
    let _ = ppoll(&mut polled, limit, None);
    polled.iter().position(|fd| fd.any().unwrap_or(false))
}
