//! Reaping, and becoming the parent of orphans.

use nix::libc;
use nix::unistd::Pid;

use crate::outcome::Outcome;
use crate::signal::Signal;

/// What waiting found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// This child has ended and is now reaped.
    Child(Pid, Outcome),
    /// Children are left, and none of them has ended.
    NoneEnded,
    /// No child is left.
    NoChildren,
}

/// Reaps one child that has ended.
///
/// By the raw call: nix's reaps a child that a real-time signal killed and then answers EINVAL. `__WALL` takes
/// children of clone(2) with another exit signal too (wait(2), "Linux notes").
pub fn reap_one() -> Reaped {
    let mut status = 0;
    // SAFETY: the status is ours to write.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    match pid {
        0 => Reaped::NoneEnded,
        1.. => Reaped::Child(Pid::from_raw(pid), outcome(status)),
        // ECHILD; nothing else is possible with these arguments (wait(2), "ERRORS").
        _ => Reaped::NoChildren,
    }
}

fn outcome(status: libc::c_int) -> Outcome {
    if libc::WIFSIGNALED(status)
        && let Some(signal) = Signal::from_number(libc::WTERMSIG(status))
    {
        return if libc::WCOREDUMP(status) { Outcome::Dumped(signal) } else { Outcome::Killed(signal) };
    }
    Outcome::Exited(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
}

/// Makes us the parent of our descendants' orphans, as PID 1 is of all.
///
/// # Errors
/// EINVAL before Linux 3.4, or a seccomp filter's; the caller warns and goes on.
pub fn adopt_orphans() -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// Asks for `signal` when our parent dies; true if it has died already, so that no signal will come.
///
/// # Errors
/// As prctl(2) has it; the caller warns and goes on.
pub fn want_parent_death_signal(signal: Signal) -> nix::Result<bool> {
    let parent = nix::unistd::getppid();
    // SAFETY: it takes no pointers.
    super::check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number()) })?;
    Ok(nix::unistd::getppid() != parent)
}
