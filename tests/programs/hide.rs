//! Hides a program from an init that knows only its child's group: `hide HIDEOUT... PROGRAM [ARG]...`.
//!
//! `session` and `group` move into a new one; `orphan` forks and leaves, so that the program's parent is gone.
#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    clippy::print_stderr,
    clippy::exit,
    reason = "a single-threaded test helper made of system calls"
)]

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use nix::unistd::{ForkResult, Pid, execvp, fork, setpgid, setsid};

type Failure = Box<dyn std::error::Error>;

fn main() {
    if let Err(failure) = hide() {
        eprintln!("hide: {failure}");
        std::process::exit(99);
    }
}

fn hide() -> Result<(), Failure> {
    let words: Vec<CString> =
        std::env::args_os().skip(1).map(|word| CString::new(word.into_vec())).collect::<Result<_, _>>()?;
    let mut words = words.as_slice();
    while let Some((word, rest)) = words.split_first() {
        match word.to_bytes() {
            b"session" => {
                setsid()?;
            }
            b"group" => setpgid(Pid::from_raw(0), Pid::from_raw(0))?,
            b"orphan" => {
                if let ForkResult::Parent { .. } = unsafe { fork() }? {
                    std::process::exit(0);
                }
            }
            _ => break,
        }
        words = rest;
    }
    execvp(words.first().ok_or("no program given")?, words)?;
    Ok(())
}
