//! Reaping, and becoming the parent of orphans.

use std::ptr;

use nix::libc;
use nix::unistd::Pid;

use crate::outcome::Outcome;
use crate::signal::Signal;
use crate::system::Reaped;

/// Reaps one child that has ended.
///
/// By the raw call: nix's reaps a child that a real-time signal killed and then answers EINVAL. Only children that end with
/// SIGCHLD are waited for: a writer of the report has no signal and must not keep us (wait(2), `__WCLONE`), and whatever became
/// our child when its parent died ends with SIGCHLD (kernel/exit.c, `reparent_leader`).
pub fn reap_one() -> Reaped {
    let mut status = 0;
    // SAFETY: the status is ours to write.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    match pid {
        0 => Reaped::NoneEnded,
        1.. => match Signal::from_number(libc::WSTOPSIG(status)) {
            Some(signal) if libc::WIFSTOPPED(status) => Reaped::Traced(Pid::from_raw(pid), signal),
            Some(_) | None => Reaped::Child(Pid::from_raw(pid), outcome(status)),
        },
        // ECHILD; nothing else is possible with these arguments (wait(2), "ERRORS").
        _ => Reaped::NoChildren,
    }
}

/// Lets a stopped tracee go on with the signal that it stopped for. A child that said PTRACE_TRACEME has us for its tracer, and
/// waiting tells of each of its stops (ptrace(2), "PTRACE_TRACEME"; kernel/exit.c, `wait_task_stopped`).
pub(super) fn continue_traced(pid: Pid, signal: Signal) {
    // SIGTRAP is the stop after an exec (ptrace(2), "execve(2) under ptrace"), which was never sent by anybody.
    let signal = if signal.number() == libc::SIGTRAP { 0 } else { signal.number() };
    let signal = usize::try_from(signal).unwrap_or(0);
    // SAFETY: PTRACE_CONT takes no address; the data is the signal's number.
    unsafe { libc::ptrace(libc::PTRACE_CONT, pid.as_raw(), ptr::null_mut::<libc::c_void>(), signal) };
}

fn outcome(status: libc::c_int) -> Outcome {
    let signal = if libc::WIFSIGNALED(status) { Signal::from_number(libc::WTERMSIG(status)) } else { None };
    if let Some(signal) = signal {
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

/// Asks for `signal` when `parent`, which was ours at the very start, dies; true if it has died already, so that no signal will come.
///
/// # Errors
/// As prctl(2) has it; the caller warns and goes on.
pub fn want_parent_death_signal(signal: Signal, parent: Pid) -> nix::Result<bool> {
    // SAFETY: it takes no pointers.
    super::check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number()) })?;
    Ok(nix::unistd::getppid() != parent)
}
