//! The few files that the init touches.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// Appends `text` to an existing file, in one write.
///
/// Without O_CREAT: the kubelet's termination log is a file that it mounted, maybe on a read-only root, and where
/// it is absent nobody would read it. O_NONBLOCK, so that a FIFO without a reader is an error and not the end of the shutdown.
///
/// # Errors
/// NotFound where the file is absent; the caller lets that pass and logs anything else.
pub fn append_to_existing(path: &Path, text: &str) -> io::Result<()> {
    let mut file =
        OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    file.write_all(text.as_bytes())
}
