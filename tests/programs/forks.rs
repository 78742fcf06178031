//! Forks while it is being killed; says `forks begin` first. Every process ignores TERM and leads its own session.
//!
//! `forks breed`: one process makes a child every millisecond, two hundred at most; each stays.
//! `forks half`: the first thread has ended and a second goes on, so that the process looks like a zombie and is none.
//! `forks hop MILLISECONDS`: a single process lives that long, starts its successor and is gone; 0 is as fast as it can.
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    clippy::print_stderr,
    clippy::exit,
    reason = "a single-threaded test helper made of system calls"
)]

use std::io::Write;
use std::time::Duration;

use nix::libc;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    let _ = std::io::stdout().write_all(b"forks begin\n");
    match words.first().map(String::as_str) {
        Some("breed") => breed(),
        Some("half") => {
            std::thread::spawn(|| wait_for_ever());
            // Of this thread alone; exit(3) would end them all.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        Some("hop") => {
            let pause = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0);
            hop(Duration::from_millis(pause));
        }
        _ => {
            eprintln!("forks: breed, half or hop");
            std::process::exit(99);
        }
    }
}

fn breed() -> ! {
    let mut made: u32 = 0;
    loop {
        if made < 200 && unsafe { libc::fork() } == 0 {
            unsafe { libc::setsid() };
            wait_for_ever();
        }
        made = made.saturating_add(1);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn hop(pause: Duration) -> ! {
    loop {
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        match unsafe { libc::fork() } {
            0 => unsafe {
                libc::setsid();
            },
            -1 => {}
            _ => unsafe { libc::_exit(0) },
        }
    }
}

fn wait_for_ever() -> ! {
    loop {
        unsafe { libc::pause() };
    }
}
