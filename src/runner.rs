//! The one loop: reap, read signals, ask the machine, do what it says, sleep until something happens.
//!
//! Once the command was spawned nothing here returns early, panics or waits for anybody: what fails is logged, and
//! the loop goes on.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;

use nix::errno::Errno;
use nix::unistd::{Pid, getpgrp, getpid};
use tracing::{debug, error, info, warn};

use crate::linux::children::{self, Reaped};
use crate::linux::clock::Clock;
use crate::linux::descendants::{Descendant, Descendants};
use crate::linux::entry::Origin;
use crate::linux::signals::{self, Arrival, SignalFd, Target};
use crate::linux::spawn::{self, Failure, Progress, Reached, Started, World};
use crate::linux::{files, tty, wait};
use crate::outcome::{ExitStatus, Outcome};
use crate::plan::{Adopt, Cause, Placement, Plan, RelayTo, Report, Work};
use crate::report::Told;
use crate::shutdown::{Action, Chain, Event, Notice, Phase, Received, Shutdown, StepEnd, StepId};
use crate::signal::{Queued, Sender, Signal};
use crate::time::Deadline;

/// How many children are reaped before signals are looked at: a storm of orphans must not keep a stop request
/// waiting.
const REAPED_A_TURN: usize = 1_024;
/// How many signals are read before children are looked at.
const SIGNALS_A_TURN: usize = 64;

/// Starts the command, stays until it and all that belongs to it has gone, and returns what to exit with.
pub fn run(plan: Plan, origin: &Origin) -> ExitStatus {
    match Runner::start(plan, origin) {
        Ok(mut runner) => runner.stay(),
        Err((error, status)) => {
            error!("{error:#}");
            status
        }
    }
}

struct Runner {
    plan: Plan,
    world: World,
    clock: Clock,
    signals: SignalFd,
    machine: Shutdown,
    main: Main,
    steps: Vec<RunningStep>,
    /// Those that got SIGKILL already, so that each is counted once.
    killed: BTreeSet<Pid>,
    orphans_reaped: u64,
    is_pid_1: bool,
}

/// The command.
struct Main {
    pid: Pid,
    /// There until it executes its program.
    starting: Option<Progress>,
    /// What is to be sent to it as soon as it does. Before that its group may not exist, and its own
    /// dispositions are not in place: the signal would be lost, or hit a half-made child.
    held: Vec<Action>,
    reaped: bool,
}

/// A step that was started.
struct RunningStep {
    id: StepId,
    pid: Pid,
    starting: Option<Progress>,
    ended: bool,
    /// What belonged to it when it was told to end; its children may have become orphans by the time it is killed.
    tree: Vec<Descendant>,
}

impl Runner {
    fn start(plan: Plan, origin: &Origin) -> Result<Self, (anyhow::Error, ExitStatus)> {
        let own_failure = |what: &'static str, errno: Errno| {
            (anyhow::Error::from(errno).context(what), plan.start_failure.status(Cause::NoProcess))
        };
        let clock = Clock::start();
        let signals = SignalFd::open().map_err(|errno| own_failure("cannot receive signals", errno))?;
        let is_pid_1 = getpid() == Pid::from_raw(1);
        if !is_pid_1
            && plan.adopt == Adopt::Orphans
            && let Err(errno) = children::adopt_orphans()
        {
            warn!(%errno, "cannot adopt orphans: processes that leave the command's tree will not be waited for");
        }
        if !is_pid_1 && plan.adopt == Adopt::Nothing {
            warn!("not PID 1 and not asked to adopt: orphans go to another process, and zombies may stay");
        }
        let world = World::of(origin);
        if plan.placement == Placement::NewSession {
            tty::give_up();
        }
        let started = spawn::start_command(&plan.command, plan.placement, &world)
            .map_err(|failure| could_not_start(&plan, failure))?;
        debug!(pid = started.pid.as_raw(), command = %plan.command.program.display(), "started the command");
        if let Err(error) = std::env::set_current_dir("/") {
            debug!(%error, "cannot leave the working directory, which stays busy");
        }
        let machine = Shutdown::new(&plan, clock.now());
        let Started { pid, progress } = started;
        let mut runner = Self {
            plan,
            world,
            clock,
            signals,
            machine,
            main: Main { pid, starting: Some(progress), held: Vec::new(), reaped: false },
            steps: Vec::new(),
            killed: BTreeSet::new(),
            orphans_reaped: 0,
            is_pid_1,
        };
        runner.watch_our_parent();
        Ok(runner)
    }

    /// After the spawn, so that the command does not lose a parent's death to the time before it existed.
    fn watch_our_parent(&mut self) {
        let Some(signal) = self.plan.parent_death_signal else { return };
        match children::want_parent_death_signal(signal) {
            Ok(false) => {}
            Ok(true) => {
                let received =
                    Received { signal, sender: Sender::Kernel, queued: None, command_has_it: false };
                let actions = self.machine.on(Event::Received(received), self.clock.now());
                let _ = self.perform_all(actions);
            }
            Err(errno) => warn!(%errno, %signal, "cannot get a signal when our parent dies"),
        }
    }

    fn stay(&mut self) -> ExitStatus {
        loop {
            // Signals are read before children are reaped and acted upon after: a signal that a dying child
            // caused finds it gone.
            let arrivals: Vec<Arrival> = self.signals.by_ref().take(SIGNALS_A_TURN).collect();
            let many_signals = arrivals.len() >= SIGNALS_A_TURN;
            let mut acted = many_signals;
            if let Some(status) = self.command_did_not_start() {
                return status;
            }
            let (mut events, more) = self.reap();
            acted |= more;
            events.extend(self.steps_that_did_not_start());
            events.extend(arrivals.iter().filter_map(|arrival| self.received(arrival)));
            events.push(Event::Tick);
            for event in events {
                let actions = self.machine.on(event, self.clock.now());
                acted |= !actions.is_empty();
                if let Some(status) = self.perform_all(actions) {
                    return status;
                }
            }
            // What was done may have made more to do: look again before sleeping.
            if !acted {
                self.sleep();
            }
        }
    }

    fn sleep(&self) {
        use std::os::fd::AsFd;
        let limit = self.machine.next_due().remaining(self.clock.now());
        let starting =
            self.main.starting.iter().chain(self.steps.iter().filter_map(|step| step.starting.as_ref()));
        let descriptors: Vec<_> =
            [self.signals.as_fd()].into_iter().chain(starting.map(AsFd::as_fd)).collect();
        wait::until_readable(&descriptors, limit);
    }

    /// Looks whether the command executes its program now, and sends it what had to wait for that.
    ///
    /// Returns what to leave with when it cannot.
    fn command_did_not_start(&mut self) -> Option<ExitStatus> {
        match self.main.starting.as_mut()?.look() {
            Reached::Underway => None,
            Reached::Program => {
                self.main.starting = None;
                let held = std::mem::take(&mut self.main.held);
                // A held action never leaves.
                self.perform_all(held)
            }
            Reached::Failed(failure) => {
                let (error, status) = could_not_start(&self.plan, failure);
                error!("{error:#}");
                // The child ends by itself; what a stop request has started meanwhile does not.
                if !self.steps.is_empty() {
                    self.kill_all();
                }
                Some(status)
            }
        }
    }

    /// Reaps; true with it when there may be more.
    fn reap(&mut self) -> (Vec<Event>, bool) {
        let mut ended: Vec<(Pid, Outcome)> = Vec::new();
        let mut last = false;
        let mut more = true;
        for _ in 0..REAPED_A_TURN {
            match children::reap_one() {
                Reaped::Child(pid, outcome)
                    if pid == self.main.pid || self.steps.iter().any(|step| step.pid == pid) =>
                {
                    ended.push((pid, outcome));
                }
                Reaped::Child(pid, outcome) => {
                    self.orphans_reaped = self.orphans_reaped.saturating_add(1);
                    if self.plan.warn_of_orphans {
                        warn!(pid = pid.as_raw(), "reaped an orphan, which {outcome}");
                    } else {
                        debug!(pid = pid.as_raw(), "reaped an orphan, which {outcome}");
                    }
                }
                Reaped::NoneEnded => {
                    more = false;
                    break;
                }
                Reaped::NoChildren => {
                    (more, last) = (false, true);
                    break;
                }
            }
        }
        let mut events: Vec<Event> = Vec::new();
        for (pid, outcome) in ended {
            if pid == self.main.pid && !self.main.reaped {
                self.main.reaped = true;
                events.push(Event::MainEnded { outcome, last });
            } else if let Some(step) = self.steps.iter_mut().find(|step| step.pid == pid && !step.ended) {
                step.ended = true;
                // One that could not execute its program has said so, or says so now.
                let failed = step.starting.take().map(|mut progress| progress.look());
                let end = match failed {
                    Some(Reached::Failed(failure)) => {
                        StepEnd::NotStarted(reason(&self.plan, &self.machine, step.id, failure))
                    }
                    Some(Reached::Program | Reached::Underway) | None => StepEnd::Ended(outcome),
                };
                events.push(Event::StepEnded { id: step.id, end, last });
            }
        }
        if last {
            events.push(Event::NoChildren);
        }
        (events, more)
    }

    /// Drops the pipes of the steps that execute their program now.
    fn steps_that_did_not_start(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for step in &mut self.steps {
            match step.starting.as_mut().map(Progress::look) {
                None | Some(Reached::Underway) => {}
                Some(Reached::Program) => step.starting = None,
                Some(Reached::Failed(failure)) => {
                    step.starting = None;
                    step.ended = true;
                    let end = StepEnd::NotStarted(reason(&self.plan, &self.machine, step.id, failure));
                    events.push(Event::StepEnded { id: step.id, end, last: false });
                }
            }
        }
        events
    }

    /// The machine's view of a signal; SIGCHLD has done its work by waking us.
    fn received(&self, arrival: &Arrival) -> Option<Event> {
        let signal = arrival.signal;
        if signal == Signal::CHLD {
            return None;
        }
        debug!(%signal, from = %arrival.sender, "received a signal");
        let command_has_it = arrival.sender == Sender::Kernel && self.terminal_sent_it_to_the_command(signal);
        Some(Event::Received(Received {
            signal,
            sender: arrival.sender,
            queued: arrival.queued,
            command_has_it,
        }))
    }

    /// Whether the kernel sent a terminal's signal to the whole group that both we and the command are in.
    ///
    /// Keys, job control and a new window size go to the group (`kill_pgrp` in drivers/tty). A hang-up goes to the session's
    /// leader alone (drivers/tty/tty_jobctrl.c, `tty_signal_session_leader`), and to the group only when that leader ends.
    fn terminal_sent_it_to_the_command(&self, signal: Signal) -> bool {
        if self.plan.placement != Placement::OurGroup || self.main.reaped {
            return false;
        }
        let for_the_group =
            [Signal::INT, Signal::QUIT, Signal::TSTP, Signal::TTIN, Signal::TTOU, Signal::WINCH];
        let at_the_leaders_end = [Signal::HUP, Signal::CONT];
        let reaches_the_group = for_the_group.contains(&signal)
            || (at_the_leaders_end.contains(&signal) && !tty::we_lead_the_session());
        reaches_the_group && signals::group_of(self.main.pid) == Some(getpgrp())
    }

    /// Does what the machine says; returns the exit status when it says to leave.
    fn perform_all(&mut self, actions: Vec<Action>) -> Option<ExitStatus> {
        for action in actions {
            match action {
                Action::Relay(..) | Action::Stop(_) | Action::SignalCommand(_)
                    if self.main.starting.is_some() =>
                {
                    debug!("held a signal until the command executes its program");
                    self.main.held.push(action);
                }
                Action::Relay(signal, received) => self.relay(signal, &received),
                Action::Stop(signal) => self.signal_target(signal, None),
                Action::SignalCommand(signal) => self.send(Target::Process(self.main.pid), signal),
                Action::SuspendSelf => {
                    debug!("suspending ourselves with the command");
                    signals::suspend_ourselves();
                }
                Action::ContinueSuspended => self.continue_suspended(),
                Action::StartStep(id) => self.start_step(id),
                Action::TermStep(id) => self.term_step(id),
                Action::KillStep(id) => self.kill_step(id),
                Action::LastToGroup(signal) => {
                    // The group's number may be nobody's by now, but nobody else's: PIDs come round last.
                    let _ = signals::send(Target::Group(self.main.pid), signal);
                }
                Action::TermLeftovers { group_has_it } => self.term_leftovers(group_has_it),
                Action::KillAll => self.kill_all(),
                Action::Tell(notice) => self.tell(notice),
                Action::Leave(status) => {
                    self.conclude(status);
                    return Some(status);
                }
            }
        }
        None
    }

    fn relay(&self, signal: Signal, received: &Received) {
        debug!(%signal, "relaying a signal");
        self.signal_target(signal, received.queued.map(|queued| (received.sender, queued)));
    }

    /// Sends to whom relayed signals go; with its value when one was queued.
    fn signal_target(&self, signal: Signal, queued: Option<(Sender, Queued)>) {
        let target = match self.plan.relay {
            RelayTo::Group => Target::Group(self.main.pid),
            RelayTo::MainChild => Target::Process(self.main.pid),
        };
        if self.main.reaped {
            // Its number may be another's now; only members of its group that descend from us prove it is not.
            let members = self.members_of_the_group();
            for member in members {
                self.send(Target::Process(member.pid), signal);
            }
            return;
        }
        let Some((sender, queued)) = queued else { return self.send(target, signal) };
        let sent = signals::queue(target, signal, sender, queued);
        match (sent, target) {
            (Err(Errno::ENOSYS | Errno::EINVAL), Target::Group(_)) => {
                for member in self.members_of_the_group() {
                    let sent = signals::queue(Target::Process(member.pid), signal, sender, queued);
                    report_unsent(sent, signal, target);
                }
            }
            (sent, _) => report_unsent(sent, signal, target),
        }
    }

    fn members_of_the_group(&self) -> Vec<Descendant> {
        match (self.plan.relay, Descendants::find()) {
            (RelayTo::Group, Some(all)) => {
                all.iter().filter(|process| process.group == self.main.pid).copied().collect()
            }
            (RelayTo::Group, None) | (RelayTo::MainChild, _) => Vec::new(),
        }
    }

    fn send(&self, target: Target, signal: Signal) {
        report_unsent(signals::send(target, signal), signal, target);
    }

    fn continue_suspended(&self) {
        let Some(all) = Descendants::find() else {
            let _ = signals::send(Target::Group(self.main.pid), Signal::CONT);
            return;
        };
        for process in all.iter().filter(|process| process.suspended) {
            debug!(pid = process.pid.as_raw(), "continuing a suspended process");
            self.send(Target::Process(process.pid), Signal::CONT);
        }
    }

    fn start_step(&mut self, id: StepId) {
        let Some(step) = self.machine.step(id) else { return };
        info!(step = step.text, number = number(id), phase = phase_of(id).name(), "starting a step");
        let started = match &step.work {
            Work::Program(command) => spawn::start_step(command, &self.variables(id), &self.world),
            Work::Builtin(work) => spawn::start_builtin(work, &self.world),
        };
        match started {
            Ok(Started { pid, progress }) => {
                self.steps.push(RunningStep {
                    id,
                    pid,
                    starting: Some(progress),
                    ended: false,
                    tree: Vec::new(),
                });
            }
            Err(failure) => {
                let end = StepEnd::NotStarted(reason(&self.plan, &self.machine, id, failure));
                let actions = self.machine.on(Event::StepEnded { id, end, last: false }, self.clock.now());
                // One step at a time fails here, so this goes no deeper than the chain is long.
                let _ = self.perform_all(actions);
            }
        }
    }

    /// What a step finds in its environment.
    fn variables(&self, id: StepId) -> Vec<(&'static str, OsString)> {
        let history = self.machine.history();
        let mut variables: Vec<(&'static str, OsString)> = vec![
            ("MAINPID", self.main.pid.to_string().into()),
            ("GRACE_INIT_STEP", number(id).to_string().into()),
        ];
        if let Some(trigger) = history.trigger {
            variables.push(("GRACE_INIT_SIGNAL", trigger.request.signal().to_string().into()));
        }
        if let Some(remaining) = self.machine.deadline().remaining(self.clock.now()) {
            variables.push(("GRACE_INIT_REMAINING_MS", remaining.as_millis().to_string().into()));
        }
        if id.chain == Chain::PostStop
            && let Some(main) = history.main
        {
            // As systemd tells its ExecStopPost= (systemd.exec(5), "$SERVICE_RESULT").
            let (result, code, status) = match main.outcome {
                Outcome::Exited(0) => ("success", "exited", "0".to_owned()),
                Outcome::Exited(code) => ("exit-code", "exited", code.to_string()),
                Outcome::Killed(signal) => {
                    let name = signal.to_string();
                    let name = name.strip_prefix("SIG").unwrap_or(&name).to_owned();
                    let timeout = signal == Signal::KILL && history.killed.count() > 0;
                    let by_us = history.stop_signals.contains(&signal);
                    (
                        if timeout {
                            "timeout"
                        } else if by_us {
                            "success"
                        } else {
                            "signal"
                        },
                        "killed",
                        name,
                    )
                }
            };
            variables.push(("SERVICE_RESULT", result.into()));
            variables.push(("EXIT_CODE", code.into()));
            variables.push(("EXIT_STATUS", status.into()));
        }
        variables
    }

    fn term_step(&mut self, id: StepId) {
        let Some(step) = self.steps.iter_mut().find(|step| step.id == id) else { return };
        if let Some(all) = Descendants::find() {
            step.tree = all.tree(step.pid);
        }
        // The group is its own and its leader is not reaped: the number is right.
        if !step.ended {
            let _ = signals::send(Target::Group(step.pid), Signal::TERM);
        }
    }

    fn kill_step(&mut self, id: StepId) {
        let Some(step) = self.steps.iter().find(|step| step.id == id) else { return };
        if !step.ended {
            let _ = signals::send(Target::Group(step.pid), Signal::KILL);
        }
        let Some(all) = Descendants::find() else { return };
        let mut tree = all.tree(step.pid);
        tree.extend(step.tree.iter().filter(|process| all.has(process)));
        for process in tree {
            self.kill(&process);
        }
    }

    fn term_leftovers(&mut self, group_has_it: bool) {
        let Some(all) = Descendants::find() else {
            if !group_has_it && self.plan.relay == RelayTo::Group {
                let _ = signals::send(Target::Group(self.main.pid), Signal::TERM);
            }
            if self.is_pid_1 {
                let _ = signals::send(Target::Everybody, Signal::TERM);
            }
            return;
        };
        self.machine.found_leftovers(all.count());
        if all.count() > 0 {
            warn!(processes = all.count(), "the command left processes behind: waiting for them");
        }
        for process in all.iter().filter(|process| !group_has_it || process.group != self.main.pid) {
            self.send(Target::Process(process.pid), Signal::TERM);
        }
    }

    /// SIGKILL to every descendant. Groups first: a group is killed in one go, so its members cannot fork away
    /// from it (kernel/fork.c, `copy_process`: a fork with a signal pending is started over).
    fn kill_all(&mut self) {
        if !self.main.reaped && self.plan.placement != Placement::OurGroup && self.main.starting.is_none() {
            let _ = signals::send(Target::Group(self.main.pid), Signal::KILL);
        }
        let Some(all) = Descendants::find() else {
            if !self.main.reaped {
                let _ = signals::send(Target::Process(self.main.pid), Signal::KILL);
            }
            for step in self.steps.iter().filter(|step| !step.ended) {
                let _ = signals::send(Target::Group(step.pid), Signal::KILL);
            }
            if self.is_pid_1 {
                let _ = signals::send(Target::Everybody, Signal::KILL);
            }
            return;
        };
        let our_session = nix::unistd::getsid(None).ok();
        // Only our descendants can be in a session that one of them has made.
        let groups: BTreeSet<Pid> = all
            .iter()
            .filter(|process| Some(process.session) != our_session)
            .map(|process| process.group)
            .collect();
        for group in groups {
            let _ = signals::send(Target::Group(group), Signal::KILL);
        }
        for process in all.iter() {
            self.kill(process);
        }
    }

    fn kill(&mut self, process: &Descendant) {
        if let Err(errno) = signals::send(Target::Process(process.pid), Signal::KILL) {
            if errno != Errno::ESRCH {
                warn!(pid = process.pid.as_raw(), %errno, "cannot kill a process");
            }
            return;
        }
        if self.killed.insert(process.pid) {
            self.machine.killed(process.to_string());
        }
    }

    fn tell(&self, notice: Notice) {
        match notice {
            Notice::NotRelayed(received) => debug!(signal = %received.signal, "not relayed"),
            Notice::Repeated(received) => {
                debug!(signal = %received.signal, "a repeated stop signal changes nothing")
            }
            Notice::StopRequested(trigger) => {
                debug!(signal = %trigger.request, sender = %trigger.sender, "the shutdown begins");
            }
            Notice::Entered(phase) => self.tell_phase(phase),
            Notice::MainEnded(outcome) => {
                debug!(
                    pid = self.main.pid.as_raw(),
                    exit_code = outcome.status().code(),
                    "the command {outcome}"
                );
            }
            Notice::StepEnded(id, end) => self.tell_step(id, &end),
            Notice::ChainCut(id) => {
                warn!(number = number(id), "the chain ends here: later steps are left out")
            }
            Notice::GaveUp => {
                error!("processes are left that SIGKILL did not end in time: leaving all the same")
            }
        }
    }

    fn tell_phase(&self, phase: Phase) {
        let remaining = match self.machine.deadline() {
            Deadline::At(_) => self.machine.deadline().remaining(self.clock.now()),
            Deadline::Never => None,
        };
        let remaining_ms = remaining.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        if phase == Phase::Killing {
            warn!(phase = phase.name(), "the time is up: killing what is left");
        } else {
            debug!(phase = phase.name(), remaining_ms, "a phase begins");
        }
    }

    fn tell_step(&self, id: StepId, end: &StepEnd) {
        let step = self.machine.step(id).map(|step| step.text.as_str()).unwrap_or_default();
        let number = number(id);
        match end {
            StepEnd::Ended(outcome) if outcome.succeeded() => debug!(step, number, "a step succeeded"),
            StepEnd::Ended(outcome) => {
                warn!(step, number, exit_code = outcome.status().code(), "a step failed: it {outcome}");
            }
            StepEnd::NotStarted(reason) => warn!(step, number, "a step could not start: {reason}"),
            StepEnd::Overdue => warn!(step, number, "a step's time is up: it is stopped"),
            StepEnd::Skipped => {}
        }
    }

    /// The last words.
    fn conclude(&self, status: ExitStatus) {
        let told = Told::of(&self.machine, self.clock.now(), status);
        let elapsed_ms = u64::try_from(told.elapsed().as_millis()).unwrap_or(u64::MAX);
        let exit_code = status.code();
        debug!(orphans_reaped = self.orphans_reaped, exit_code, "leaving");
        if told.is_worth_a_line() {
            match self.machine.history().trigger {
                Some(trigger) => {
                    info!(trigger = %trigger.sender, signal = %trigger.request.signal(), elapsed_ms, exit_code, "{}", told.summary());
                }
                None => info!(elapsed_ms, exit_code, "{}", told.summary()),
            }
        }
        let (Report::File(path), Some(report)) = (&self.plan.report, told.report()) else { return };
        match files::append_to_existing(path, &report) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!(%error, path = %path.display(), "cannot write the report"),
        }
    }
}

/// The number that people count a step by.
fn number(id: StepId) -> u64 {
    u64::try_from(id.index).unwrap_or(u64::MAX).saturating_add(1)
}

fn phase_of(id: StepId) -> Phase {
    match id.chain {
        Chain::PreStop => Phase::PreStop,
        Chain::PostStop => Phase::PostStop,
    }
}

fn report_unsent(sent: nix::Result<()>, signal: Signal, target: Target) {
    let Err(errno) = sent else { return };
    let (Target::Process(pid) | Target::Group(pid)) = target else { return };
    warn!(%signal, pid = pid.as_raw(), "cannot send a signal: {}", errno.desc());
}

/// Why a step could not be started.
fn reason(plan: &Plan, machine: &Shutdown, id: StepId, failure: Failure) -> String {
    let program = match machine.step(id).map(|step| &step.work) {
        Some(Work::Program(command)) => &command.program,
        Some(Work::Builtin(_)) | None => &plan.command.program,
    };
    spawn::explain(program, failure)
}

fn could_not_start(plan: &Plan, failure: Failure) -> (anyhow::Error, ExitStatus) {
    let status = plan.start_failure.status(failure.into());
    (
        anyhow::Error::msg(spawn::explain(&plan.command.program, failure))
            .context("cannot start the command"),
        status,
    )
}
