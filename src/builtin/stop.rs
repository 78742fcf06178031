//! `@stop`: stops programs by their name, so that a chain can stop a script's programs in the order that one wants.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tracing::{error, info};

use super::{Described, FAILURE, POLL_INTERVAL, Process, Processes, Run, duration};
use crate::outcome::ExitStatus;
use crate::signal::Signal;

/// Stops each process of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    name: String,
    /// What is still there after this time is killed.
    kill_after: Option<Duration>,
}

impl Described for Stop {
    const NAME: &'static str = "stop";
    const OPERANDS: &'static str = "NAME [DUR]";
    const DOC: &'static str = "send SIGTERM to each process of that name below the init and wait until they are gone; \
                               after DUR, if given, SIGKILL";
    const EXAMPLE: &'static str = "@stop nginx 10s";

    fn parse(operands: &[&str]) -> Result<Option<Self>> {
        let (name, kill_after) = match operands {
            [name] => (*name, None),
            [name, time] => (*name, Some(duration(time)?)),
            _ => return Ok(None),
        };
        if name.is_empty() || name.contains('/') {
            bail!("{name:?} is no name of a process: expected one without its directory, such as nginx");
        }
        Ok(Some(Self { name: name.to_owned(), kill_after }))
    }
}

impl Run for Stop {
    fn run(&self, processes: &dyn Processes) -> ExitStatus {
        let begun = Instant::now();
        let mut told: Vec<(Process, Signal)> = Vec::new();
        let mut refused: Vec<Process> = Vec::new();
        loop {
            let Some(all) = processes.below_the_init() else {
                error!("@stop {}: /proc does not show the processes of this container", self.name);
                return FAILURE;
            };
            // Each look finds the children that one of them has started meanwhile, too.
            let there = all.into_iter().filter(|process| process.is_named(&self.name, processes));
            let there: Vec<Process> =
                there.filter(|process| !refused.iter().any(|known| known.is_same(process))).collect();
            if there.is_empty() {
                break;
            }
            let is_overdue = self.kill_after.is_some_and(|time| begun.elapsed() >= time);
            let signal = if is_overdue { Signal::KILL } else { Signal::TERM };
            for process in there {
                if told.iter().any(|(known, sent)| known.is_same(&process) && *sent == signal) {
                    continue;
                }
                match tell(&process, signal, processes) {
                    Ok(()) => told.push((process, signal)),
                    Err(reason) => {
                        error!(pid = process.pid, "@stop {}: cannot send {signal}: {reason}", self.name);
                        refused.push(process);
                    }
                }
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        if told.is_empty() && refused.is_empty() {
            info!("@stop {}: no such process is there", self.name);
        }
        if refused.is_empty() { ExitStatus::SUCCESS } else { FAILURE }
    }
}

fn tell(process: &Process, signal: Signal, processes: &dyn Processes) -> Result<(), String> {
    processes.send(process, signal)?;
    // A stopped process handles SIGTERM only once it goes on.
    if process.suspended { processes.send(process, Signal::CONT) } else { Ok(()) }
}

impl Process {
    fn is_same(&self, other: &Self) -> bool {
        self.pid == other.pid && self.started == other.started
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Builtin, Parsed, step};
    use super::*;
    use std::cell::RefCell;
    use std::ffi::OsString;

    /// Processes by `comm` and `argv[0]` that end on SIGTERM, on SIGKILL only, or are another user's.
    struct World {
        alive: RefCell<Vec<(Process, &'static str, Manner)>>,
        sent: RefCell<Vec<(i32, Signal)>>,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Manner {
        Ends,
        EndsOnKill,
        Refuses,
    }

    impl Processes for World {
        fn below_the_init(&self) -> Option<Vec<Process>> {
            Some(self.alive.borrow().iter().map(|(process, ..)| process.clone()).collect())
        }

        fn called(&self, process: &Process) -> Option<OsString> {
            let alive = self.alive.borrow();
            alive.iter().find(|(known, ..)| known == process).map(|(_, called, _)| OsString::from(called))
        }

        fn send(&self, process: &Process, signal: Signal) -> Result<(), String> {
            self.sent.borrow_mut().push((process.pid, signal));
            let mut alive = self.alive.borrow_mut();
            let manner = alive.iter().find(|(known, ..)| known == process).map(|(.., manner)| *manner);
            if manner == Some(Manner::Refuses) {
                return Err("not permitted".to_owned());
            }
            alive.retain(|(known, ..)| {
                known != process || (signal != Signal::KILL && manner == Some(Manner::EndsOnKill))
            });
            Ok(())
        }
    }

    fn run(text: &str, processes: &[(i32, &str, &'static str, Manner)]) -> (ExitStatus, Vec<(i32, Signal)>) {
        let alive = processes.iter().map(|(pid, comm, called, manner)| {
            let process = Process { pid: *pid, started: 7, comm: comm.as_bytes().to_vec(), suspended: false };
            (process, *called, *manner)
        });
        let world = World { alive: RefCell::new(alive.collect()), sent: RefCell::default() };
        let Parsed::Process(stop @ Builtin::Stop(_)) = step(text).unwrap() else { panic!() };
        (stop.run(&world), world.sent.into_inner())
    }

    #[test]
    fn a_process_is_named_by_15_bytes_of_comm_or_by_argv_0() {
        let (status, sent) = run(
            "@stop very-long-worker-name",
            &[
                (2, "very-long-worke", "sh", Manner::Ends),
                (3, "other", "very-long-worker-name", Manner::Ends),
                (4, "very-long", "very-long", Manner::Ends),
                (5, "sh", "very-long-worke", Manner::Ends),
            ],
        );
        assert_eq!(status, ExitStatus::SUCCESS);
        assert_eq!(sent, [(2, Signal::TERM), (3, Signal::TERM)]);
    }

    #[test]
    fn what_is_left_after_its_time_is_killed() {
        let worker = [(2, "worker", "worker", Manner::EndsOnKill), (3, "worker", "worker", Manner::Ends)];
        let (status, sent) = run("@stop worker 60ms", &worker);
        assert_eq!(status, ExitStatus::SUCCESS);
        assert_eq!(sent, [(2, Signal::TERM), (3, Signal::TERM), (2, Signal::KILL)]);
    }

    #[test]
    fn another_users_process_is_a_failure_and_the_others_are_stopped() {
        let (status, sent) = run("@stop a", &[(2, "a", "a", Manner::Refuses), (3, "a", "a", Manner::Ends)]);
        assert_eq!(status, FAILURE);
        assert_eq!(sent, [(2, Signal::TERM), (3, Signal::TERM)]);
    }

    #[test]
    fn where_none_is_there_it_succeeds() {
        assert_eq!(run("@stop a", &[(2, "b", "b", Manner::Ends)]), (ExitStatus::SUCCESS, vec![]));
    }

    #[test]
    fn a_path_is_no_name() {
        assert!(step("@stop /usr/sbin/nginx").unwrap_err().to_string().contains("without its directory"));
    }
}
