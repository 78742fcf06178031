//! `grace-init hook`: a preStop hook for images whose ENTRYPOINT is another program. The same machine as the init's, with
//! a process in the command's place that is not ours to reap.

use std::os::fd::AsFd;
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
use crate::signal::{Sender, Signal};
use crate::system::linux::children::{self, Reaped};
use crate::system::linux::clock::Clock;
use crate::system::linux::descendants::Descendants;
use crate::system::linux::entry::Origin;
use crate::system::linux::process::Process;
use crate::system::linux::signals::{SignalFd, Target, send};
use crate::system::linux::spawn::World;
use crate::system::linux::wait;
use crate::time::{Deadline, Moment};

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

struct Hook {
    plan: HookPlan,
    process: Process,
    gone: bool,
    world: World,
    clock: Clock,
    signals: SignalFd,
    machine: Shutdown,
    steps: Steps,
}

impl Hook {
    fn begin(plan: HookPlan, origin: &Origin) -> Result<Self, (String, ExitStatus)> {
        let clock = Clock::start();
        let pid = plan.pid;
        let process = Process::open(Pid::from_raw(pid)).map_err(|errno| {
            if errno == Errno::ESRCH {
                return (
                    format!("there is no process {pid}: name another with --pid"),
                    ExitStatus::NOT_FOUND,
                );
            }
            (format!("cannot take hold of process {pid}: {}", errno.desc()), ExitStatus::OWN_FAILURE)
        })?;
        if plan.stops && process.may_be_signalled() == Err(Errno::EPERM) {
            let whose = process.user().map_or_else(String::new, |user| format!(" of user {user}"));
            let us = nix::unistd::geteuid();
            let why = format!(
                "process {pid} is in the hands{whose} and cannot be signalled by user {us}: run the hook as that user"
            );
            return Err((why, ExitStatus::OWN_FAILURE));
        }
        let signals = SignalFd::open().map_err(|errno| {
            (format!("cannot receive signals: {}", errno.desc()), ExitStatus::OWN_FAILURE)
        })?;
        if let Err(errno) = children::adopt_orphans() {
            warn!(%errno, "cannot adopt orphans: what a step leaves behind will not be waited for");
        }
        let machine = Shutdown::for_hook(&plan.run.shutdown, clock.now());
        let world = World::of(origin, &plan.run.withheld_variables);
        Ok(Self { plan, process, gone: false, world, clock, signals, machine, steps: Steps::default() })
    }

    fn stay(&mut self) -> ExitStatus {
        let asker = Sender::Process(nix::unistd::getpid().as_raw());
        let mut events =
            vec![if self.plan.stops { Event::StopAsked(asker) } else { Event::PreStopAsked(asker) }];
        loop {
            let mut acted = false;
            for event in events {
                let actions = self.machine.on(event, self.clock.now());
                acted |= !actions.is_empty();
                if let Some(status) = self.perform_all(actions) {
                    return status;
                }
            }
            if !acted {
                self.sleep();
            }
            if let Some(signal) = self.told_to_end() {
                warn!(%signal, "told to end: the rest is left out");
                return Outcome::Killed(signal).status();
            }
            events = self.happened();
        }
    }

    fn sleep(&self) {
        let limit = self.machine.next_due().remaining(self.clock.now());
        let process = Some(self.process.as_fd()).filter(|_| !self.gone);
        wait::until_readable(
            [self.signals.as_fd()].into_iter().chain(process).chain(self.steps.descriptors()),
            limit,
        );
    }

    fn told_to_end(&mut self) -> Option<Signal> {
        let (arrivals, _) = self.signals.take();
        let ends = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
        arrivals.iter().map(|arrival| arrival.signal).find(|signal| ends.contains(signal))
    }

    fn happened(&mut self) -> Vec<Event> {
        let mut events = self.steps.look(&self.world);
        while let Reaped::Child(pid, outcome) = children::reap_one() {
            events.extend(self.steps.reaped(pid, outcome, &self.world));
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
                Action::TermStep(id) => self.steps.term(id),
                Action::KillStep(id) => {
                    for process in self.steps.kill(id) {
                        let _ = send(Target::Process(process.pid), Signal::KILL);
                    }
                }
                Action::SignalStep(id, signal) => {
                    let end = match self.process.send(signal) {
                        Ok(()) => StepEnd::Ended(Outcome::Exited(0)),
                        Err(errno) => StepEnd::NotStarted(format!("cannot send {signal}: {}", errno.desc())),
                    };
                    self.steps.has_ended(id, end);
                }
                Action::Stop(signal) | Action::Relay(signal, _) => {
                    if let Err(errno) = self.process.send(signal) {
                        warn!(%signal, pid = self.plan.pid, "cannot send a signal: {}", errno.desc());
                    }
                }
                Action::Tell(Notice::Entered(Phase::Prepared)) if !self.plan.stops => {
                    return Some(self.verdict());
                }
                Action::Tell(notice) => self.tell(notice),
                Action::KillAll if self.plan.kills => {
                    let _ = self.process.send(Signal::KILL);
                }
                Action::KillAll if self.gone => {}
                Action::KillAll => {
                    warn!(
                        pid = self.plan.pid,
                        "the time is up and the process is still there: it is left to whoever kills it"
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
        let remaining = self.machine.deadline().remaining(self.clock.now());
        let variables = steps::variables(id, self.machine.history(), self.process.pid(), remaining);
        self.steps.start(id, step, &variables, &self.world);
    }

    fn tell(&self, notice: Notice) {
        if let Notice::StepEnded(id, end) = notice {
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
        let now = self.clock.now();
        info!("{}", Summary::of(&self.machine, now, ExitStatus::SUCCESS).hook_summary());
        let failed = self.machine.history().steps_of(Chain::PreStop).any(StepRecord::went_wrong);
        if failed { STEP_FAILED } else { ExitStatus::SUCCESS }
    }

    /// Ends what steps have left running: it would hold the hook's output open, and whoever waits for that would wait for ever.
    fn clear_up(&mut self) {
        if self.steps.is_empty() {
            return;
        }
        let deadline = self.clock.now().after(STEP_KILL_DELAY);
        self.signal_what_is_left(Signal::TERM);
        if self.reap_until(deadline) {
            return;
        }
        self.signal_what_is_left(Signal::KILL);
        self.reap_until(self.clock.now().after(STEP_KILL_DELAY));
    }

    fn signal_what_is_left(&self, signal: Signal) {
        for process in Descendants::find().iter().flat_map(Descendants::iter) {
            let _ = send(Target::Process(process.pid), signal);
        }
    }

    /// True when no child is left.
    fn reap_until(&mut self, deadline: Moment) -> bool {
        let deadline = Deadline::At(deadline);
        loop {
            match children::reap_one() {
                Reaped::NoChildren => return true,
                Reaped::Child(..) => {}
                Reaped::NoneEnded => {
                    let left = deadline.remaining(self.clock.now()).filter(|left| *left > Duration::ZERO);
                    let Some(left) = left else { return false };
                    // SIGCHLD wakes us; what else has come is read along.
                    wait::until_readable([self.signals.as_fd()], Some(left));
                    let _ = self.signals.take();
                }
            }
        }
    }
}
