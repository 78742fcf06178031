//! What the built-in steps learn of processes, and how they signal them.

use std::ffi::OsString;

use nix::errno::Errno;
use nix::unistd::{Pid, getpid, getppid};

use super::{descendants, process};
use crate::builtin::{Process, Processes};
use crate::signal::Signal;
use crate::system::Descendant;

/// The descendants of `root`, for a step: without itself, and without the one that started it.
pub(super) struct Below {
    pub root: Pid,
}

impl Processes for Below {
    fn below_the_init(&self) -> Option<Vec<Process>> {
        let all = descendants::find(self.root, |pid| pid == getpid() || pid == getppid())?;
        let process = |process: &Descendant| Process {
            pid: process.pid.as_raw(),
            started: process.started,
            comm: process.name.iter().copied().take_while(|byte| *byte != 0).collect(),
            suspended: process.suspended,
        };
        Some(all.iter().map(process).collect())
    }

    fn called(&self, process: &Process) -> Option<OsString> {
        descendants::called_by(&process.pid.to_string())
    }

    fn send(&self, process: &Process, signal: Signal) -> Result<(), String> {
        let pid = Pid::from_raw(process.pid);
        let Ok(held) = process::Process::open(pid) else { return Ok(()) };
        // The number may have passed to another process between the look and the hold.
        if descendants::look_at(pid).is_none_or(|now| now.started != process.started) {
            return Ok(());
        }
        match held.send(signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.desc().to_owned()),
        }
    }
}
