//! Handing the terminal over to the command. No terminal, an odd one or a denied ioctl is never fatal.

use nix::libc;
use nix::unistd::{getpid, getsid};
use tracing::debug;

/// Gives up our controlling terminal, so that the command's new session can take it.
///
/// As a session leader we get a SIGHUP and a SIGCONT for it, sent in our own name; [`super::signals::SignalFd`] swallows these.
/// dumb-init ignores the next one of each instead, which takes a real hang-up for its own when none was sent.
pub fn give_up() {
    // SAFETY: it takes no argument.
    let result = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCNOTTY) };
    match super::check(result) {
        Ok(_) => debug!("gave up the controlling terminal"),
        Err(errno) => debug!(%errno, "no controlling terminal to give up"),
    }
}

/// In the child, after setsid(2): makes standard input the controlling terminal. Async-signal-safe.
pub(super) fn take_over() {
    // The argument 0 never steals it from another session (ioctl_tty(2), TIOCSCTTY).
    // SAFETY: it takes an integer.
    unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) };
}

/// In the child, after setpgid(2): makes our own group the terminal's foreground. Async-signal-safe. All signals are
/// still blocked, so that SIGTTOU does not stop us for it (tcsetpgrp(3)).
pub(super) fn come_to_the_foreground() {
    // SAFETY: it takes nothing.
    let me = unsafe { libc::getpid() };
    // SAFETY: it takes no pointers.
    unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, me) };
}

/// Whether we have a controlling terminal (tty(4)).
pub fn is_there() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Whether we lead our session.
pub fn we_lead_the_session() -> bool {
    getsid(None) == Ok(getpid())
}
