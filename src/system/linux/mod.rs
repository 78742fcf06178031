//! Every system call, and every `unsafe` of the project: one operation a block, each with its reason.
//!
//! Nothing here knows the shutdown machine; what is decided comes in as arguments.
#![allow(unsafe_code, reason = "system calls that have no safe wrapper, or one that does the wrong thing")]

pub mod builtin;
pub mod children;
pub mod clock;
pub mod control;
pub mod descendants;
pub mod entry;
pub mod files;
pub mod memory;
pub mod process;
pub mod signals;
pub mod spawn;
pub mod stderr;
pub mod tty;
pub mod wait;

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// The result of a system call that returns -1 and sets errno.
fn check(result: libc::c_int) -> nix::Result<libc::c_int> {
    Errno::result(result)
}

/// Takes a new descriptor out of the way of 0, 1 and 2: when we were started with one of these closed, the
/// kernel hands it out next, and the command or our own log would write into it.
fn above_stdio(fd: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: the caller has just got it from the kernel, and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if std::os::fd::AsRawFd::as_raw_fd(&fd) > libc::STDERR_FILENO {
        return Ok(fd);
    }
    let lowest = libc::STDERR_FILENO.saturating_add(1);
    let moved = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
    // SAFETY: as above; the first one is closed when it goes out of scope.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

use nix::libc;
