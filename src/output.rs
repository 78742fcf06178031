//! What is printed for whoever called us, as opposed to the log.

use std::io::{self, ErrorKind, Write};

use crate::cli::{Refusal, Stream, Text};
use crate::outcome::ExitStatus;
use crate::system::linux::stderr::Stderr;

/// Prints a text and returns what to exit with: a full disk is a failure, a reader that has left is not.
///
/// Standard output may wait for its reader, so signals must be able to end us by then. Standard error never waits.
pub fn print(text: &Text) -> ExitStatus {
    match text.to {
        Stream::Out => out(&text.text),
        Stream::Error => {
            error(&text.text);
            ExitStatus::SUCCESS
        }
    }
}

/// Prints to standard output; otherwise as [`print`].
pub fn out(text: &str) -> ExitStatus {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitStatus::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitStatus::SUCCESS,
        Err(why) => {
            error(&format!("grace-init: cannot write to standard output: {why}\n"));
            ExitStatus::OWN_FAILURE
        }
    }
}

/// Prints to standard error, if that takes it at once: nobody has to read there.
pub fn error(text: &str) {
    let _ = Stderr::default().write(text.as_bytes());
}

/// Prints why nothing can be done, and returns what to exit with.
pub fn refuse(refusal: &Refusal) -> ExitStatus {
    error(&refusal.text());
    refusal.status
}

/// Prints why `grace-init copy-to` failed, if it did, and returns what to exit with.
pub fn copied(result: io::Result<()>, destination: &std::path::Path) -> ExitStatus {
    match result {
        Ok(()) => ExitStatus::SUCCESS,
        Err(why) => {
            error(&format!("grace-init copy-to: cannot copy to {}: {why}\n", destination.display()));
            ExitStatus::new(1)
        }
    }
}
