//! The first moments of the process, before anything of ours or of Rust's runtime has run.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use nix::libc;
use nix::unistd::{Pid, getppid};

use crate::signal::{Signal, SignalSet};

/// What we were given by whoever executed us, which the command is to get in turn.
#[derive(Debug)]
pub struct Origin {
    /// Our arguments, our own name first.
    pub words: Vec<OsString>,
    /// The signal mask.
    pub mask: SignalSet,
    /// SIGCHLD was ignored, so that children were to vanish unseen.
    pub children_ignored: bool,
    /// Those of SIGHUP, SIGINT and SIGQUIT that were ignored: `nohup` and a shell's background jobs are started so.
    pub ignored: SignalSet,
    /// Our parent when we began: whoever is it later may be another, and ours have died meanwhile.
    pub parent: Pid,
}

/// Defines the C `main` of the program, so that Rust's runtime does not start before it.
///
/// That start would set SIGPIPE to be ignored, open `/dev/null` on closed standard descriptors and put handlers
/// on SIGSEGV and SIGBUS (library/std/src/sys/pal/unix/mod.rs, `init`), all of which the command would inherit or lose; and
/// signals would not be blocked yet.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        #[allow(unsafe_code, reason = "the C library looks for this symbol")]
        #[unsafe(no_mangle)]
        extern "C" fn main(argc: std::ffi::c_int, argv: *const *const std::ffi::c_char) -> std::ffi::c_int {
            // SAFETY: these are the arguments of the C `main`.
            let origin = unsafe { $crate::system::linux::entry::Origin::take(argc, argv) };
            let status: $crate::outcome::ExitStatus = $run(origin);
            std::ffi::c_int::from(status.code())
        }
    };
}

impl Origin {
    /// Blocks every signal, then looks at what we were given.
    ///
    /// # Safety
    /// `argc` and `argv` are those of the C `main`.
    pub unsafe fn take(argc: c_int, argv: *const *const c_char) -> Self {
        let parent = getppid();
        let mask = set_mask(SignalSet::ALL);
        let children_ignored = is_ignored(Signal::CHLD);
        let ignored = [Signal::HUP, Signal::INT, Signal::QUIT]
            .into_iter()
            .filter(|signal| is_ignored(*signal))
            .collect();
        if children_ignored {
            // With SIGCHLD ignored the kernel reaps for itself and no exit status is left (wait(2), "NOTES").
            set_children_ignored(false);
        }
        // SAFETY: the caller's promise.
        let words = unsafe { words(argc, argv) };
        Self { words, mask, children_ignored, ignored, parent }
    }
}

impl Origin {
    /// Takes signals again as we were started to, for what is no init.
    pub fn give_back_mask(&self) {
        set_mask(self.mask);
    }
}

/// The variables of our environment, as the kernel gave them.
pub fn variables() -> Vec<(&'static OsStr, &'static OsStr)> {
    let split = |entry: &'static CStr| {
        let entry = entry.to_bytes();
        let end = entry.iter().position(|byte| *byte == b'=')?;
        let (name, value) = entry.split_at_checked(end)?;
        Some((OsStr::from_bytes(name), OsStr::from_bytes(value.get(1..)?)))
    };
    super::spawn::our_entries().filter_map(split).collect()
}

/// Copies the C arguments.
///
/// # Safety
/// As for [`Origin::take`].
unsafe fn words(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    (0..usize::try_from(argc).unwrap_or(0))
        .map(|index| {
            // SAFETY: argv has argc entries.
            let entry = unsafe { argv.add(index) };
            // SAFETY: and each can be read.
            let word = unsafe { *entry };
            // SAFETY: and points to a string that ends in NUL and lives as long as the process.
            let word = unsafe { CStr::from_ptr(word) };
            OsStr::from_bytes(word.to_bytes()).to_owned()
        })
        .collect()
}

/// Sets the signal mask and returns the one before.
///
/// By the raw call, for the C library's own keeps signals 32 and 33 out of every mask: sent from outside they
/// would end us. It cannot fail with these arguments (rt_sigprocmask(2)).
pub(super) fn set_mask(mask: SignalSet) -> SignalSet {
    let new = mask.bits();
    let mut old: u64 = 0;
    // SAFETY: both point to 8 bytes, the size of the kernel's set.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const new,
            &raw mut old,
            size_of::<u64>(),
        );
    }
    SignalSet::from_bits(old)
}

fn is_ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: it only writes the action that is in force.
    let result = unsafe { libc::sigaction(signal.number(), ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed is a valid value, whether it was written or not.
    let action = unsafe { action.assume_init() };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Ignores SIGCHLD, or sets it to its default. Async-signal-safe.
pub(super) fn set_children_ignored(ignored: bool) {
    let action = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither action is a handler.
    unsafe { libc::signal(Signal::CHLD.number(), action) };
}
