//! What every behaviour test is built on: start an init somewhere, watch it, signal it, leave nothing behind.

pub mod container;
mod frozen_disk;
pub mod kubelet;
mod needs;
pub mod process;
mod recipe;
mod registry;
mod running;
pub mod server;
pub mod shutdown;
mod subject;
mod temporary;
mod terminal;
mod timeline;

pub use frozen_disk::Disk;
pub use needs::Need;
pub use recipe::{Recipe, example_file};
pub(crate) use registry::behaviours;
pub use registry::{Behaviour, run_all};
pub use running::{Ending, Running};
pub use subject::{Face, Stage, Subject, example};
pub use temporary::TemporaryDirectory;
pub use terminal::Terminal;
pub use timeline::{LIMIT, Timeline};

use nix::libc;

/// The signals that a process can catch, by number, without SIGCHLD (which is the init's own business).
pub fn catchable() -> Vec<i32> {
    (1..=31).filter(|n| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD].contains(n)).collect()
}

/// The name under which `signal_reporter` reports a signal.
pub fn name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("SIGRTMIN+{}", signal - libc::SIGRTMIN()), |known| known.as_str().to_owned())
}
