//! The processes of the steps: starting them, hearing how they end, ending them with all that they started.

use std::ffi::OsString;

use nix::unistd::Pid;

use crate::outcome::Outcome;
use crate::plan::{Step, Work};
use crate::shutdown::{Chain, Event, History, StepEnd, StepId};
use crate::signal::Signal;
use crate::system::{Descendant, Descendants, ExecState, StartError, Started, System, Target};

/// The variables that a step finds in its environment.
pub(super) type Variables = Vec<(&'static str, OsString)>;

/// The steps that were started.
#[derive(Debug)]
pub(super) struct Steps<S: System> {
    started: Vec<RunningStep<S::ExecPipe>>,
    /// The ends of those that could not be, to be told on the next turn.
    not_started: Vec<Event>,
}

impl<S: System> Default for Steps<S> {
    fn default() -> Self {
        Self { started: Vec::new(), not_started: Vec::new() }
    }
}

#[derive(Debug)]
struct RunningStep<P> {
    id: StepId,
    /// What it runs, for the message when that cannot be executed.
    program: OsString,
    /// What it found in its environment, by which what it started is known again.
    variables: Variables,
    pid: Pid,
    exec: Option<P>,
    /// It is to have SIGTERM as soon as it executes its program: before that its group may not be there.
    term_is_due: bool,
    /// Its own process was reaped, so its number may be another's.
    reaped: bool,
    /// What belonged to it when it was told to end; its children may have become orphans by the time it is killed.
    tree: Vec<Descendant>,
}

impl<S: System> Steps<S> {
    /// Starts a step with these variables in its environment. When it cannot be, the next [`Self::look`] says so.
    pub(super) fn start(&mut self, id: StepId, step: &Step, variables: Variables, system: &mut S) {
        let program = match &step.work {
            Work::Program(command) => command.program.literal(),
            Work::Signal(_) | Work::Builtin(_) => None,
        };
        let program = program.unwrap_or_else(|| OsString::from(&step.text));
        match system.start_step(step, &variables) {
            Ok(Started { pid, pipe }) => self.started.push(RunningStep {
                id,
                program,
                variables,
                pid,
                exec: Some(pipe),
                term_is_due: false,
                reaped: false,
                tree: Vec::new(),
            }),
            Err(error) => {
                let end = could_not(&program, error, system);
                self.has_ended(id, end);
            }
        }
    }

    /// A step without a process is over; the next [`Self::look`] says so.
    pub(super) fn has_ended(&mut self, id: StepId, end: StepEnd) {
        self.not_started.push(Event::StepEnded(id, end));
    }

    /// Whether no step was ever started.
    pub(super) fn is_empty(&self) -> bool {
        self.started.is_empty()
    }

    /// Whether this process is a step's own.
    pub(super) fn owns(&self, pid: Pid) -> bool {
        self.started.iter().any(|step| step.pid == pid && !step.reaped)
    }

    /// The running step that this process is a part of, if it is one: such a one would wait for itself.
    pub(super) fn running_step_of(&self, pid: Pid, system: &mut S) -> Option<StepId> {
        let running: Vec<_> = self.started.iter().filter(|step| !step.reaped).collect();
        if running.is_empty() {
            return None;
        }
        let all = system.descendants().unwrap_or_default();
        let is_part = |step: &&&RunningStep<S::ExecPipe>| {
            step.pid == pid || step.tree_in(&all, system).iter().any(|process| process.pid == pid)
        };
        running.iter().find(is_part).map(|step| step.id)
    }

    /// What to wait for besides SIGCHLD: a step that executes its program now, or cannot.
    pub(super) fn pipes(&self) -> impl Iterator<Item = &S::ExecPipe> {
        self.started.iter().filter_map(|step| step.exec.as_ref())
    }

    /// A step's own process was reaped.
    pub(super) fn reaped(&mut self, pid: Pid, outcome: Outcome, system: &mut S) -> Option<Event> {
        let step = self.started.iter_mut().find(|step| step.pid == pid && !step.reaped)?;
        step.reaped = true;
        // One that could not execute its program has said so, or says so now.
        let state = step.exec.take().map(|mut pipe| system.exec_state(&mut pipe));
        let end = match state {
            Some(ExecState::Failed(error)) => could_not(&step.program, error, system),
            Some(ExecState::Done | ExecState::Pending) | None => StepEnd::Ended(outcome),
        };
        Some(Event::StepEnded(step.id, end))
    }

    /// Looks which steps execute their programs now; those that cannot have ended.
    pub(super) fn look(&mut self, system: &mut S) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.not_started);
        for step in &mut self.started {
            match step.exec.as_mut().map(|pipe| system.exec_state(pipe)) {
                None | Some(ExecState::Pending) => {}
                Some(ExecState::Done) => {
                    step.exec = None;
                    if step.term_is_due && !step.reaped {
                        let _ = system.send(Target::Group(step.pid), Signal::TERM);
                    }
                }
                // Its process is still there, and is reaped in its turn.
                Some(ExecState::Failed(error)) => {
                    step.exec = None;
                    let end = could_not(&step.program, error, system);
                    events.push(Event::StepEnded(step.id, end));
                }
            }
        }
        events
    }

    /// SIGTERM to a step's process group.
    pub(super) fn term(&mut self, id: StepId, system: &mut S) {
        let Some(step) = self.started.iter_mut().find(|step| step.id == id) else { return };
        if let Some(all) = system.descendants() {
            step.tree = step.tree_in(&all, system);
        }
        // The group is its own and its leader is not reaped: the number is right.
        if step.exec.is_some() {
            step.term_is_due = true;
        } else if !step.reaped {
            let _ = system.send(Target::Group(step.pid), Signal::TERM);
        }
    }

    /// SIGKILL to a step's process group, and what else is left of all that it started, for the caller to kill.
    pub(super) fn kill(&mut self, id: StepId, system: &mut S) -> Vec<Descendant> {
        let Some(step) = self.started.iter_mut().find(|step| step.id == id) else { return Vec::new() };
        let Some(all) = system.descendants() else {
            step.kill_group(system);
            return Vec::new();
        };
        let tree = step.tree_in(&all, system);
        step.kill_group(system);
        tree
    }

    /// SIGKILL to the process group of every step that has not ended: what can be done without `/proc`.
    pub(super) fn kill_groups(&self, system: &mut S) {
        self.started.iter().for_each(|step| step.kill_group(system));
    }
}

fn could_not<S: System>(program: &OsString, error: StartError, system: &S) -> StepEnd {
    StepEnd::NotStarted(system.explain(program, error))
}

impl<P> RunningStep<P> {
    /// What is left of the step and of all that it started.
    ///
    /// Once its own process was reaped its number proves nothing: it may be another's by now. Then only those count that were
    /// seen when it was told to end, what descends from them, and what carries the step's variables: so does what moved out of
    /// its tree by a second fork and a session of its own.
    fn tree_in<S: System>(&self, all: &Descendants, system: &S) -> Vec<Descendant> {
        let mut tree = if self.reaped { Vec::new() } else { all.tree(self.pid) };
        let known = self.tree.iter().filter(|process| all.has(process));
        let us = system.own_pid();
        let orphans = all.iter().filter(|process| process.parent == us);
        let marked = orphans.filter(|process| system.has_variables(process.pid, &self.variables));
        let all_of_it =
            known.chain(marked).flat_map(|process| [vec![*process], all.below(process.pid)].concat());
        tree.extend(all_of_it);
        tree.sort_unstable_by_key(|process| process.pid);
        tree.dedup_by_key(|process| process.pid);
        tree
    }

    fn kill_group<S: System>(&self, system: &mut S) {
        if self.exec.is_some() {
            let _ = system.send(Target::Process(self.pid), Signal::KILL);
        } else if !self.reaped {
            let _ = system.send(Target::Group(self.pid), Signal::KILL);
        }
    }
}

/// What a step finds in its environment.
pub(super) fn variables(
    id: StepId,
    history: &History,
    main: Pid,
    remaining: Option<std::time::Duration>,
) -> Variables {
    let mut variables: Variables =
        vec![("MAINPID", main.to_string().into()), ("GRACE_INIT_STEP", id.number().to_string().into())];
    if let Some(trigger) = history.trigger {
        variables.push(("GRACE_INIT_SIGNAL", trigger.request.signal().to_string().into()));
    }
    if let Some(remaining) = remaining {
        variables.push(("GRACE_INIT_REMAINING_MS", remaining.as_millis().to_string().into()));
    }
    if let Some(main) = history.main.filter(|_| id.chain == Chain::PostStop) {
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
            } else if history.stop_signals.contains(&signal) {
                "success"
            } else {
                "signal"
            };
            (result, "killed", name)
        }
    }
}
