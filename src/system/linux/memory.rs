//! The memory that an idle init holds.

/// Gives free memory back to the kernel: what reading the command line took is never needed again, and the init
/// idles for as long as its container lives.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes an integer.
    unsafe {
        nix::libc::malloc_trim(0)
    };
}
