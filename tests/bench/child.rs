//! What the inits under measurement run: this program itself, in a few small parts.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use nix::libc;

/// The time of a clock that all processes share, in nanoseconds.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours to write.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

pub fn run(words: &[String]) -> ExitCode {
    let number = |place: usize| words.get(place).and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
    match words.first().map(String::as_str) {
        Some("relay") => relay(),
        Some("idle") => idle(),
        Some("orphans") => orphans(number(1)),
        Some("tree") => tree(number(1)),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

fn ready() {
    println!("ready");
    std::io::stdout().flush().unwrap();
}

/// Answers each SIGUSR1 with the time at which its handler ran.
fn relay() {
    extern "C" fn handler(_: libc::c_int) {
        let bytes = now().to_ne_bytes();
        // SAFETY: the pointer and the length are those of the array.
        unsafe { libc::write(libc::STDOUT_FILENO, bytes.as_ptr().cast(), bytes.len()) };
    }
    // SAFETY: the handler only makes calls that are safe in one.
    unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
    ready();
    idle_for_ever();
}

/// Dies of SIGTERM at once.
fn idle() {
    ready();
    idle_for_ever();
}

fn idle_for_ever() -> ! {
    loop {
        // SAFETY: it takes nothing.
        unsafe { libc::pause() };
    }
}

/// Makes orphans: each fork's own fork is left behind and exits.
fn orphans(count: usize) {
    let mut left = count;
    while left > 0 {
        let some = left.min(200);
        left -= some;
        // SAFETY: the child only forks and exits.
        let middle = unsafe { libc::fork() };
        if middle == 0 {
            for _ in 0..some {
                // SAFETY: as above.
                if unsafe { libc::fork() } == 0 {
                    // SAFETY: it does not return.
                    unsafe { libc::_exit(0) };
                }
            }
            // SAFETY: it does not return.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: a null pointer asks for no status.
        unsafe { libc::waitpid(middle, std::ptr::null_mut(), 0) };
    }
    ready();
    idle_for_ever();
}

/// Processes that ignore SIGTERM.
fn tree(count: usize) {
    // SAFETY: SIG_IGN is no handler.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    for _ in 0..count {
        // SAFETY: the child only waits.
        if unsafe { libc::fork() } == 0 {
            loop {
                std::thread::sleep(Duration::from_secs(3_600));
            }
        }
    }
    ready();
    idle_for_ever();
}
