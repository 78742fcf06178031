//! Makes orphans as fast as it can: `orphans N [wait]`.
//!
//! Each is the child of a child that is already gone, and ends at once. Then `orphans made=N` is printed.
//! With `wait` it stays until a TERM comes.
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "a single-threaded test helper made of system calls"
)]

use nix::libc;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(wanted) = words.first().and_then(|word| word.parse::<u32>().ok()) else {
        eprintln!("orphans: the number of orphans is missing");
        std::process::exit(99);
    };
    let mut made: u32 = 0;
    while made < wanted {
        // One fork that makes a bundle is faster than one for each orphan.
        let bundle = wanted.saturating_sub(made).min(100);
        match unsafe { libc::fork() } {
            0 => unsafe {
                for _ in 0..bundle {
                    while !fork_an_orphan() {
                        libc::sched_yield();
                    }
                }
                libc::_exit(0)
            },
            -1 => {
                unsafe { libc::sched_yield() };
            }
            parent => {
                unsafe { libc::waitpid(parent, std::ptr::null_mut(), 0) };
                made = made.saturating_add(bundle);
            }
        }
    }
    println!("orphans made={made}");
    if words.get(1).is_some_and(|word| word == "wait") {
        loop {
            unsafe { libc::pause() };
        }
    }
}

/// The child ends at once; its parent, which never waits, soon does too. False when no process was free.
unsafe fn fork_an_orphan() -> bool {
    match unsafe { libc::fork() } {
        0 => unsafe { libc::_exit(0) },
        pid => pid != -1,
    }
}
