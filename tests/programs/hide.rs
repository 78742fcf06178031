//! Hides a program from an init that knows only its child's group: `hide HIDEOUT... PROGRAM [ARG]...`.
//!
//! `session` and `group` move into a new one; `orphan` forks and leaves, so that the program's parent is gone; `vfork` waits
//! for the program in the kernel, where no signal but SIGKILL reaches.
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
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
            b"vfork" => wait_in_the_kernel(rest),
            _ => break,
        }
        words = rest;
    }
    execvp(words.first().ok_or("no program given")?, words)?;
    Ok(())
}

/// A child with our memory that sleeps instead of executing anything: the kernel holds us until it ends.
fn wait_in_the_kernel(words: &[CString]) {
    extern "C" fn child(words: *mut nix::libc::c_void) -> i32 {
        // A process of its own again, so that this one may fork and execute.
        let words = unsafe { &*words.cast::<&[CString]>() };
        let program = unsafe { nix::libc::fork() };
        if program == 0 {
            let Some(first) = words.first() else { return 99 };
            let _ = execvp(first, words);
            return 99;
        }
        unsafe { nix::libc::waitpid(program, std::ptr::null_mut(), 0) };
        0
    }
    unsafe { nix::libc::signal(nix::libc::SIGTERM, nix::libc::SIG_IGN) };
    let mut stack = vec![0_u128; 16_384];
    let mut words = words;
    let flags = nix::libc::CLONE_VM | nix::libc::CLONE_VFORK | nix::libc::SIGCHLD;
    unsafe {
        let top = stack.as_mut_ptr().add(stack.len());
        nix::libc::clone(child, top.cast(), flags, (&raw mut words).cast());
    }
    std::process::exit(0);
}
