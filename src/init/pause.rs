//! `catatonit -P`, the infrastructure container of a pod: it runs no command, holds the pod's namespaces and reaps.

use std::os::fd::AsFd;

use tracing::{debug, error};

use crate::outcome::ExitStatus;
use crate::signal::Signal;
use crate::system::Reaped;
use crate::system::linux::children;
use crate::system::linux::signals::SignalFd;
use crate::system::linux::wait;

/// Reaps until SIGTERM or SIGINT comes; returns what to exit with.
pub fn run() -> ExitStatus {
    let mut signals = match SignalFd::open() {
        Ok(signals) => signals,
        Err(errno) => {
            error!("cannot receive signals: {}", errno.desc());
            return ExitStatus::new(1);
        }
    };
    let _ = children::adopt_orphans();
    loop {
        let (arrivals, more) = signals.take();
        if arrivals.iter().any(|arrival| [Signal::TERM, Signal::INT].contains(&arrival.signal)) {
            return ExitStatus::SUCCESS;
        }
        while let Reaped::Child(pid, outcome) = children::reap_one() {
            debug!(pid = pid.as_raw(), "reaped an orphan, which {outcome}");
        }
        if !more {
            wait::until_readable([signals.as_fd()], None);
        }
    }
}
