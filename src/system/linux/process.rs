//! Another process, held by a descriptor: its number may pass to somebody else, the descriptor does not.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{above_stdio, check, signals, wait};
use crate::signal::{Signal, SignalSet};
use crate::system::Target;

/// How often a process that cannot be held is looked at.
pub const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A process that is not our child.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    /// Not there where the kernel has no such descriptors: before Linux 5.3, on gVisor, or forbidden by seccomp. Then the number
    /// has to do, which may pass to somebody else when the process has ended.
    descriptor: Option<OwnedFd>,
}

impl Process {
    /// Takes hold of it.
    ///
    /// # Errors
    /// ESRCH when there is none.
    pub fn open(pid: Pid) -> nix::Result<Self> {
        match open_pidfd(pid) {
            Ok(descriptor) => Ok(Self { pid, descriptor: Some(descriptor) }),
            Err(errno @ (Errno::ESRCH | Errno::EINVAL)) => Err(errno),
            Err(_) => match kill(pid, None) {
                Ok(()) | Err(Errno::EPERM) => Ok(Self { pid, descriptor: None }),
                Err(errno) => Err(errno),
            },
        }
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Can be read when the process has ended; `None` where that has to be polled.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(AsFd::as_fd)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// ESRCH when it has ended, EPERM when it is another user's.
    pub fn send(&self, signal: Signal) -> nix::Result<()> {
        match self.send_to_descriptor(signal.number()) {
            Some(result) => result,
            None => signals::send(Target::Process(self.pid), signal),
        }
    }

    /// Whether we may signal it; EPERM says that it is another user's.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn may_be_signalled(&self) -> nix::Result<()> {
        self.send_to_descriptor(0).unwrap_or_else(|| kill(self.pid, None))
    }

    /// `None` where there is no descriptor, or no call that takes it.
    fn send_to_descriptor(&self, number: i32) -> Option<nix::Result<()>> {
        let fd = self.descriptor.as_ref()?.as_raw_fd();
        // SAFETY: a null pointer asks for what kill(2) would send.
        let result = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, fd, number, std::ptr::null::<libc::siginfo_t>(), 0)
        };
        let result = check(libc::c_int::try_from(result).unwrap_or(-1)).map(drop);
        Some(result).filter(|result| *result != Err(Errno::ENOSYS))
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        match self.descriptor() {
            Some(descriptor) => {
                let mut asked = [PollFd::new(descriptor, PollFlags::POLLIN)];
                poll(&mut asked, PollTimeout::ZERO) == Ok(1)
            }
            None => kill(self.pid, None) == Err(Errno::ESRCH),
        }
    }

    /// Waits until it has ended, at most so long.
    pub fn wait(&self, limit: Duration) {
        let begun = Instant::now();
        while !self.has_ended() {
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            let limit = if self.descriptor.is_some() { left } else { left.min(POLL_INTERVAL) };
            wait::until_readable(self.descriptor(), Some(limit));
        }
    }

    /// Whose it is; `None` when `/proc` does not tell.
    pub fn user(&self) -> Option<u32> {
        std::fs::metadata(format!("/proc/{}", self.pid)).ok().map(|process| process.uid())
    }
}

/// The signals that this process handles or blocks; `None` where `/proc` does not tell (gVisor has no such lines).
///
/// To PID 1 of our own namespace the kernel delivers no others, SIGKILL and SIGSTOP included (kernel/signal.c,
/// `sig_task_ignored`).
pub fn handled_or_blocked(pid: Pid) -> Option<SignalSet> {
    handled_or_blocked_in(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn handled_or_blocked_in(status: &str) -> Option<SignalSet> {
    Some(SignalSet::from_bits(signals_in(status, "SigCgt")? | signals_in(status, "SigBlk")?))
}

/// Whether this process ignores the signal; false where `/proc` does not tell.
pub(super) fn ignores(pid: Pid, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    signals_in(&status, "SigIgn").is_some_and(|ignored| SignalSet::from_bits(ignored).contains(signal))
}

/// The mask in this line of a `/proc/PID/status` (proc_pid_status(5)).
fn signals_in(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// A descriptor that stands for the process (pidfd_open(2), since Linux 5.3); it is close-on-exec.
pub(super) fn open_pidfd(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: it takes no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    above_stdio(check(libc::c_int::try_from(fd).unwrap_or(-1))?)
}

/// Whether we are a container's first process, or one that a runtime put into a container later: PID 1, or the child of a
/// process outside our PID namespace.
pub fn may_be_first_of_container() -> bool {
    nix::unistd::getpid() == Pid::from_raw(1) || nix::unistd::getppid() == Pid::from_raw(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_handles_or_blocks_is_read_from_its_status() {
        let status =
            "Name:\tx\nSigBlk:\t0000000000004000\nSigIgn:\t0000000000000002\nSigCgt:\t0000000000000001\n";
        let set = handled_or_blocked_in(status).unwrap();
        assert!(set.contains(Signal::TERM) && set.contains(Signal::HUP) && !set.contains(Signal::INT));
        assert_eq!(handled_or_blocked_in("Name:\tx\nSigCgt:\t0000000000000001\n"), None);
        assert_eq!(handled_or_blocked_in("SigBlk:\t0\nSigCgt:\tx\n"), None);
    }
}
