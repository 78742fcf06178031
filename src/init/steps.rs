//! The processes of the steps: starting them, hearing how they end, ending them with all that they started.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};

use nix::unistd::Pid;

use crate::outcome::Outcome;
use crate::plan::{Step, Work};
use crate::shutdown::{Chain, Event, History, StepEnd, StepId};
use crate::signal::Signal;
use crate::system::linux::descendants::{Descendant, Descendants};
use crate::system::linux::signals::{Target, send};
use crate::system::linux::spawn::{self, Failure, Progress, Reached, Started, World};

/// The steps that were started.
#[derive(Debug, Default)]
pub struct Steps {
    started: Vec<RunningStep>,
    /// The ends of those that could not be, to be told on the next turn.
    not_started: Vec<Event>,
}

#[derive(Debug)]
struct RunningStep {
    id: StepId,
    /// What it runs, for the message when that cannot be executed.
    program: OsString,
    pid: Pid,
    starting: Option<Progress>,
    ended: bool,
    /// What belonged to it when it was told to end; its children may have become orphans by the time it is killed.
    tree: Vec<Descendant>,
}

impl RunningStep {
    fn could_not(&self, failure: Failure, world: &World) -> StepEnd {
        StepEnd::NotStarted(spawn::explain(&self.program, failure, world))
    }
}

impl Steps {
    /// Starts a step with these variables in its environment. When it cannot be, the next [`Self::look`] says so.
    pub fn start(&mut self, id: StepId, step: &Step, variables: &[(&str, OsString)], world: &World) {
        let (started, program) = match &step.work {
            // The loop sends it: this is told of as a failure rather than forgotten.
            Work::Signal(signal) => {
                let end = StepEnd::NotStarted(format!("{signal} needs no process"));
                return self.has_ended(id, end);
            }
            Work::Program(command) => {
                let own = |name: &str| {
                    variables.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone())
                };
                let command = command.expand(&|name| own(name).or_else(|| world.variable(name)));
                (spawn::start_step(&command, variables, world), command.program)
            }
            Work::Builtin(work) => (spawn::start_builtin(work, world), OsString::from(&step.text)),
        };
        match started {
            Ok(Started { pid, progress }) => {
                let starting = Some(progress);
                self.started.push(RunningStep { id, program, pid, starting, ended: false, tree: Vec::new() });
            }
            Err(failure) => {
                let end = StepEnd::NotStarted(spawn::explain(&program, failure, world));
                self.not_started.push(Event::StepEnded(id, end));
            }
        }
    }

    /// A step that needed no process is over; the next [`Self::look`] says so.
    pub fn has_ended(&mut self, id: StepId, end: StepEnd) {
        self.not_started.push(Event::StepEnded(id, end));
    }

    /// Whether no step was ever started.
    pub fn is_empty(&self) -> bool {
        self.started.is_empty()
    }

    /// Whether this process is a step's own.
    pub fn owns(&self, pid: Pid) -> bool {
        self.started.iter().any(|step| step.pid == pid && !step.ended)
    }

    /// What to wait for besides SIGCHLD: a step that executes its program now, or cannot.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.started.iter().filter_map(|step| step.starting.as_ref()).map(AsFd::as_fd)
    }

    /// A step's own process was reaped.
    pub fn reaped(&mut self, pid: Pid, outcome: Outcome, world: &World) -> Option<Event> {
        let step = self.started.iter_mut().find(|step| step.pid == pid && !step.ended)?;
        step.ended = true;
        // One that could not execute its program has said so, or says so now.
        let reached = step.starting.take().map(|mut progress| progress.look());
        let end = match reached {
            Some(Reached::Failed(failure)) => step.could_not(failure, world),
            Some(Reached::Program | Reached::Underway) | None => StepEnd::Ended(outcome),
        };
        Some(Event::StepEnded(step.id, end))
    }

    /// Looks which steps execute their programs now; those that cannot have ended.
    pub fn look(&mut self, world: &World) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.not_started);
        for step in &mut self.started {
            match step.starting.as_mut().map(Progress::look) {
                None | Some(Reached::Underway) => {}
                Some(Reached::Program) => step.starting = None,
                Some(Reached::Failed(failure)) => {
                    step.starting = None;
                    step.ended = true;
                    events.push(Event::StepEnded(step.id, step.could_not(failure, world)));
                }
            }
        }
        events
    }

    /// SIGTERM to a step's process group.
    pub fn term(&mut self, id: StepId) {
        let Some(step) = self.started.iter_mut().find(|step| step.id == id) else { return };
        if let Some(all) = Descendants::find() {
            step.tree = all.tree(step.pid);
        }
        // The group is its own and its leader is not reaped: the number is right.
        if !step.ended {
            let _ = send(Target::Group(step.pid), Signal::TERM);
        }
    }

    /// SIGKILL to a step's process group, and what else is left of all that it started, for the caller to kill.
    pub fn kill(&self, id: StepId) -> Vec<Descendant> {
        let Some(step) = self.started.iter().find(|step| step.id == id) else { return Vec::new() };
        let Some(all) = Descendants::find() else {
            self.kill_group(step);
            return Vec::new();
        };
        let mut tree = all.tree(step.pid);
        tree.extend(step.tree.iter().filter(|process| all.has(process)));
        tree.sort_unstable_by_key(|process| process.pid);
        tree.dedup_by_key(|process| process.pid);
        self.kill_group(step);
        tree
    }

    /// SIGKILL to the process group of every step that has not ended: what can be done without `/proc`.
    pub fn kill_groups(&self) {
        self.started.iter().for_each(|step| self.kill_group(step));
    }

    fn kill_group(&self, step: &RunningStep) {
        if !step.ended {
            let _ = send(Target::Group(step.pid), Signal::KILL);
        }
    }
}

/// What a step finds in its environment.
pub fn variables(
    id: StepId,
    history: &History,
    main: Pid,
    remaining: Option<std::time::Duration>,
) -> Vec<(&'static str, OsString)> {
    let mut variables: Vec<(&'static str, OsString)> =
        vec![("MAINPID", main.to_string().into()), ("GRACE_INIT_STEP", id.number().to_string().into())];
    if let Some(trigger) = history.trigger {
        variables.push(("GRACE_INIT_SIGNAL", trigger.request.signal().to_string().into()));
    }
    if let Some(remaining) = remaining {
        variables.push(("GRACE_INIT_REMAINING_MS", remaining.as_millis().to_string().into()));
    }
    if id.chain == Chain::PostStop
        && let Some(main) = history.main
    {
        let (result, code, status) = service_result(main.outcome, history);
        variables.push(("SERVICE_RESULT", result.into()));
        variables.push(("EXIT_CODE", code.into()));
        variables.push(("EXIT_STATUS", status.into()));
    }
    variables
}

/// `TERM` for SIGTERM.
fn short_name(signal: Signal) -> String {
    let name = signal.to_string();
    name.strip_prefix("SIG").unwrap_or(&name).to_owned()
}

/// As systemd tells its `ExecStopPost=` (systemd.exec(5), "$SERVICE_RESULT").
fn service_result(outcome: Outcome, history: &History) -> (&'static str, &'static str, String) {
    match outcome {
        Outcome::Exited(0) => ("success", "exited", "0".to_owned()),
        Outcome::Exited(code) => ("exit-code", "exited", code.to_string()),
        Outcome::Dumped(signal) => ("core-dump", "dumped", short_name(signal)),
        Outcome::Killed(signal) => {
            let name = short_name(signal);
            let result = if signal == Signal::KILL && history.killed.count() > 0 {
                "timeout"
            } else if history.was_stop_signal(signal) {
                "success"
            } else {
                "signal"
            };
            (result, "killed", name)
        }
    }
}
