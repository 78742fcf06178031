//! `grace-init hook`: a preStop hook for images whose ENTRYPOINT is another program. The same machine as the init's, with
//! a process in the command's place that is not ours to reap.

use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;
use tracing::{error, info, warn};

use super::steps::{self, Steps};
use crate::outcome::{ExitStatus, Outcome};
use crate::plan::HookPlan;
use crate::report::Summary;
use crate::shutdown::{
    Action, Chain, Event, Notice, Phase, STEP_KILL_DELAY, Shutdown, StepEnd, StepId, StepRecord,
};
use crate::signal::{Sender, Signal, SignalSet};
use crate::system::linux::Linux;
use crate::system::linux::entry::Origin;
use crate::system::linux::process::{POLL_INTERVAL, Process, handled_or_blocked};
use crate::system::{Descendants, Reaped, System, Target};
use crate::time::{Deadline, Moment};

/// The init of our own PID namespace, which the kernel protects from it.
const PID_1: i32 = 1;
const STEP_FAILED: ExitStatus = ExitStatus::new(1);
/// The process is still there at the deadline (as timeout(1) has it); to kill it is left to the kubelet.
const STILL_THERE: ExitStatus = ExitStatus::new(124);

/// Drains, runs the chain and, with `--stop-signal`, stops the process; returns what to exit with.
pub fn run(plan: HookPlan, origin: &Origin) -> ExitStatus {
    match Hook::begin(plan, origin) {
        Ok(mut hook) => {
            let status = hook.stay();
            hook.clear_up();
            status
        }
        Err((why, status)) => {
            error!("{why}");
            status
        }
    }
}

/// Why a signal will not reach the process, if it will not.
fn dropped_by_kernel(delivered: Option<SignalSet>, signal: Signal) -> Option<String> {
    let is_dropped = delivered.is_some_and(|delivered| !delivered.contains(signal));
    is_dropped.then(|| {
        format!("PID 1 neither handles nor blocks {signal}, so the kernel drops it; choose a signal that PID 1 handles")
    })
}

struct Hook {
    plan: HookPlan,
    /// The signals that the kernel delivers to the process; `None` is all of them, or not known.
    delivered: Option<SignalSet>,
    process: Process,
    gone: bool,
    system: Linux,
    machine: Shutdown,
    steps: Steps<Linux>,
}

impl Hook {
    fn begin(mut plan: HookPlan, origin: &Origin) -> Result<Self, (String, ExitStatus)> {
        let pid = plan.pid;
        if plan.kills && pid == PID_1 {
            let why = "--kill cannot end PID 1: inside its PID namespace the kernel drops SIGKILL for it; leave --kill out, \
                       the container's runtime kills it at the end of the grace";
            return Err((why.to_owned(), ExitStatus::OWN_FAILURE));
        }
        let process = Process::open(Pid::from_raw(pid)).map_err(|errno| {
            if errno == Errno::ESRCH {
                return (format!("no process {pid}; select another with --pid"), ExitStatus::NOT_FOUND);
            }
            (format!("cannot watch process {pid}: {}", errno.desc()), ExitStatus::OWN_FAILURE)
        })?;
        if plan.stops && process.may_be_signalled() == Err(Errno::EPERM) {
            let whose =
                process.user().map_or_else(|| "another user".to_owned(), |user| format!("user {user}"));
            let us = nix::unistd::geteuid();
            let why = format!(
                "process {pid} belongs to {whose} and cannot be signalled by user {us}; run the hook as that user"
            );
            return Err((why, ExitStatus::OWN_FAILURE));
        }
        let delivered = if pid == PID_1 { handled_or_blocked(process.pid()) } else { None };
        if plan.stops {
            plan.run.shutdown.ladder.retain(|rung| match dropped_by_kernel(delivered, rung.signal) {
                Some(why) => {
                    warn!(signal = %rung.signal, "{why}");
                    false
                }
                None => true,
            });
        }
        let mut system = Linux::open(origin, &plan.run.withheld_variables).map_err(|errno| {
            (format!("cannot receive signals: {}", errno.desc()), ExitStatus::OWN_FAILURE)
        })?;
        // We are no ancestor of what runs in the container: its first process is, or whoever was named instead.
        system.stop_below(process.pid());
        if let Err(errno) = system.adopt_orphans() {
            warn!(%errno, "cannot adopt orphans: what a step leaves behind will not be waited for");
        }
        let machine = Shutdown::for_hook(&plan.run.shutdown, system.now());
        Ok(Self { plan, delivered, process, gone: false, system, machine, steps: Steps::default() })
    }

    fn stay(&mut self) -> ExitStatus {
        let asker = Sender::Process(self.system.own_pid().as_raw());
        let mut events =
            vec![if self.plan.stops { Event::StopAsked(asker) } else { Event::PreStopAsked(asker) }];
        loop {
            let mut acted = false;
            for event in events {
                let actions = self.machine.on(event, self.system.now());
                acted |= !actions.is_empty();
                if let Some(status) = self.perform_all(actions) {
                    return status;
                }
            }
            if !acted {
                self.sleep();
            }
            if let Some(signal) = self.told_to_end() {
                warn!(%signal, "told to end; skipping the rest");
                return Outcome::Killed(signal).status();
            }
            events = self.happened();
        }
    }

    fn sleep(&mut self) {
        let mut limit = self.machine.next_due().remaining(self.system.now());
        let process = self.process.descriptor().filter(|_| !self.gone);
        if process.is_none() && !self.gone {
            limit = Some(limit.map_or(POLL_INTERVAL, |limit| limit.min(POLL_INTERVAL)));
        }
        self.system.wait_beside(self.steps.pipes(), process, limit);
    }

    fn told_to_end(&mut self) -> Option<Signal> {
        let (arrivals, _) = self.system.read_signals();
        let ends = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
        arrivals.iter().map(|arrival| arrival.signal).find(|signal| ends.contains(signal))
    }

    fn happened(&mut self) -> Vec<Event> {
        let mut events = self.steps.look(&mut self.system);
        loop {
            match self.system.reap() {
                Reaped::Child(pid, outcome) => {
                    events.extend(self.steps.reaped(pid, outcome, &mut self.system));
                }
                Reaped::Traced(pid, signal) => self.system.continue_traced(pid, signal),
                Reaped::NoneEnded | Reaped::NoChildren => break,
            }
        }
        if !self.gone && self.process.has_ended() {
            self.gone = true;
            // How it ended is for its own parent to know; nothing of it is ours to wait for.
            events.push(Event::MainEnded(Outcome::Exited(0)));
        }
        events.push(Event::Tick);
        events
    }

    fn perform_all(&mut self, actions: Vec<Action>) -> Option<ExitStatus> {
        for action in actions {
            match action {
                Action::StartStep(id) => self.start_step(id),
                Action::TermStep(id) => self.steps.term(id, &mut self.system),
                Action::KillStep(id) => {
                    for process in self.steps.kill(id, &mut self.system) {
                        let _ = self.system.send(Target::Process(process.pid), Signal::KILL);
                    }
                }
                Action::SignalStep(id, signal) => {
                    let end = match (dropped_by_kernel(self.delivered, signal), self.process.send(signal)) {
                        (Some(why), _) => StepEnd::NotStarted(why),
                        (None, Ok(())) => StepEnd::Ended(Outcome::Exited(0)),
                        (None, Err(errno)) => {
                            StepEnd::NotStarted(format!("cannot send {signal}: {}", errno.desc()))
                        }
                    };
                    self.steps.has_ended(id, end);
                }
                Action::Stop(signal) | Action::Relay(signal, _) => {
                    if let Err(errno) = self.process.send(signal) {
                        warn!(%signal, pid = self.plan.pid, "cannot send a signal: {}", errno.desc());
                    }
                }
                Action::Tell(Notice::Entered(Phase::Prepared | Phase::Stopping)) if !self.plan.stops => {
                    return Some(self.verdict());
                }
                // The kernel drops all that it would be sent, which has been said: there is nothing to wait for.
                Action::Tell(Notice::Entered(Phase::Stopping))
                    if self.plan.run.shutdown.ladder.is_empty() =>
                {
                    self.verdict();
                    return Some(STILL_THERE);
                }
                Action::Tell(notice) => self.tell(notice),
                Action::KillAll if self.plan.kills => {
                    let _ = self.process.send(Signal::KILL);
                }
                Action::KillAll if self.gone => {}
                Action::KillAll => {
                    warn!(
                        pid = self.plan.pid,
                        "the time is up and the process is still there; whoever started the hook has to kill it"
                    );
                    return Some(STILL_THERE);
                }
                // The process has gone, and what it left is not ours.
                Action::TermLeftovers { .. } => return Some(self.verdict()),
                Action::ContinueSuspended
                | Action::LastToGroup(_)
                | Action::SuspendSelf
                | Action::CountDescendants
                | Action::ListRunning
                | Action::AppendToReport(_) => {}
                Action::Leave(_) => return Some(if self.gone { self.verdict() } else { STILL_THERE }),
            }
        }
        None
    }

    fn start_step(&mut self, id: StepId) {
        let Some(step) = self.machine.step(id) else { return };
        info!(step = step.text, number = id.number(), "starting a step");
        let remaining = self.machine.deadline().remaining(self.system.now());
        let variables = steps::variables(id, self.machine.history(), self.process.pid(), remaining);
        self.steps.start(id, step, variables, &mut self.system);
    }

    fn tell(&self, notice: Notice) {
        if let Notice::ChainCut(id) = notice {
            warn!(number = id.number(), "skipping the remaining steps");
        } else if let Notice::StepEnded(id, end) = notice {
            let step = self.machine.step(id).map(|step| step.text.as_str()).unwrap_or_default();
            match end {
                StepEnd::Ended(outcome) if outcome.succeeded() => {}
                StepEnd::Ended(outcome) => warn!(step, number = id.number(), "a step failed: it {outcome}"),
                StepEnd::NotStarted(reason) => {
                    warn!(step, number = id.number(), "a step could not start: {reason}")
                }
                StepEnd::Overdue => warn!(step, number = id.number(), "a step's time is up: it is stopped"),
                StepEnd::Cut => warn!(step, number = id.number(), "a step was cut short"),
                StepEnd::Skipped => {}
            }
        }
    }

    fn verdict(&self) -> ExitStatus {
        let now = self.system.now();
        info!("{}", Summary::of(&self.machine, now, ExitStatus::SUCCESS).hook_summary());
        let failed = self.machine.history().steps_of(Chain::PreStop).any(StepRecord::went_wrong);
        if failed { STEP_FAILED } else { ExitStatus::SUCCESS }
    }

    /// Ends what steps have left running: it would hold the hook's output open, and whoever waits for that would wait for ever.
    fn clear_up(&mut self) {
        if self.steps.is_empty() {
            return;
        }
        let deadline = self.system.now().after(STEP_KILL_DELAY);
        self.signal_what_is_left(Signal::TERM);
        if self.reap_until(deadline) {
            return;
        }
        self.signal_what_is_left(Signal::KILL);
        self.reap_until(self.system.now().after(STEP_KILL_DELAY));
    }

    fn signal_what_is_left(&mut self, signal: Signal) {
        for process in self.system.descendants().iter().flat_map(Descendants::iter) {
            let _ = self.system.send(Target::Process(process.pid), signal);
        }
    }

    /// True when no child is left.
    fn reap_until(&mut self, deadline: Moment) -> bool {
        let deadline = Deadline::At(deadline);
        loop {
            match self.system.reap() {
                Reaped::NoChildren => return true,
                Reaped::Child(..) => {}
                Reaped::Traced(pid, signal) => self.system.continue_traced(pid, signal),
                Reaped::NoneEnded => {
                    let left = deadline.remaining(self.system.now()).filter(|left| *left > Duration::ZERO);
                    let Some(left) = left else { return false };
                    // SIGCHLD wakes us; what else has come is read along.
                    self.system.wait_beside(std::iter::empty(), None, Some(left));
                    let _ = self.system.read_signals();
                }
            }
        }
    }
}
