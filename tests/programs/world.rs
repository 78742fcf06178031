//! Prints the world that it was given, one `key value` line each, so that two runs can be compared.
//!
//! `world [wait]`: signal masks, open descriptors (target and close-on-exec flag), working directory, environment,
//! process ids and the terminal's foreground group. Ends with `done`; `wait` keeps it until a TERM comes.
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    reason = "a single-threaded test helper made of system calls"
)]

use std::fmt::Write as _;
use std::io::Write as _;

use nix::libc;

/// Taken before Rust's runtime, which ignores SIGPIPE and opens closed standard streams, runs.
static mut AT_START: Start = Start { ignored: [false; 65], streams: [false; 3] };

struct Start {
    ignored: [bool; 65],
    streams: [bool; 3],
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look_before_main;

extern "C" fn look_before_main() {
    let start = &raw mut AT_START;
    for (signal, ignored) in (0..).zip(unsafe { (*start).ignored.iter_mut() }) {
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            *ignored = libc::sigaction(signal, std::ptr::null(), &mut action) == 0
                && action.sa_sigaction == libc::SIG_IGN;
        }
    }
    for (fd, open) in (0..).zip(unsafe { (*start).streams.iter_mut() }) {
        *open = unsafe { libc::fcntl(fd, libc::F_GETFD) } != -1;
    }
}

fn main() {
    let mut out = String::new();
    let start = &raw const AT_START;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status.lines().filter(|line| line.starts_with("SigBlk")) {
        let _ = writeln!(out, "blocked {}", line.split_whitespace().last().unwrap_or_default());
    }
    let ignored = (0..).zip(unsafe { (*start).ignored.iter() }).filter(|(_, ignored)| **ignored);
    let ignored: Vec<String> = ignored.map(|(signal, _): (i32, _)| signal.to_string()).collect();
    let _ = writeln!(out, "ignored {}", ignored.join(","));
    for (fd, open) in (0..).zip(unsafe { (*start).streams.iter() }) {
        let fd: i32 = fd;
        if !open {
            let _ = writeln!(out, "fd {fd} closed");
        }
    }
    for fd in 0..256 {
        let Ok(target) = std::fs::read_link(format!("/proc/self/fd/{fd}")) else { continue };
        let was_open = unsafe { (*start).streams.get(fd as usize).copied() }.unwrap_or(true);
        if was_open {
            let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
            let _ = writeln!(out, "fd {fd} {} cloexec={}", target.display(), flags & libc::FD_CLOEXEC);
        }
    }
    let _ = writeln!(out, "cwd {}", std::env::current_dir().unwrap_or_default().display());
    let environment = std::fs::read("/proc/self/environ").unwrap_or_default();
    let _ = writeln!(out, "environment {}", environment.escape_ascii());
    let (pid, ppid, pgid, sid) =
        unsafe { (libc::getpid(), libc::getppid(), libc::getpgrp(), libc::getsid(0)) };
    let _ = writeln!(out, "pid {pid}\nppid {ppid}\npgid {pgid}\nsid {sid}");
    let foreground = unsafe { libc::tcgetpgrp(0) };
    let _ = writeln!(out, "foreground {foreground}\ndone");
    let _ = std::io::stdout().write_all(out.as_bytes());
    if std::env::args().nth(1).is_some_and(|word| word == "wait") {
        loop {
            unsafe { libc::pause() };
        }
    }
}
