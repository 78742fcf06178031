//! The one loop: reap, read signals, ask the machine, do what it says, sleep until something happens.
//!
//! Once the command was spawned nothing here returns early, panics or waits for anybody: what fails is logged, and
//! the loop goes on.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::{Pid, getpgrp, getpid};
use tracing::{debug, error, info, warn};

use super::steps::{self, Steps};
use crate::control::server::{Clients, FAREWELL, Facts};
use crate::outcome::{ExitStatus, Outcome};
use crate::plan::{Adopt, Cause, Control, Placement, Plan, RelayTo, Report};
use crate::report::{self, Summary};
use crate::shutdown::{
    Action, Event, Notice, Phase, Received, Shutdown, StepEnd, StepId, Surroundings, Victim,
};
use crate::signal::{Queued, Sender, Signal, SignalSet};
use crate::system::linux::children::{self, Reaped};
use crate::system::linux::clock::Clock;
use crate::system::linux::control::{Listener, paths};
use crate::system::linux::descendants::{Descendant, Descendants};
use crate::system::linux::entry::Origin;
use crate::system::linux::signals::{self, Arrival, SignalFd, Target};
use crate::system::linux::spawn::{self, Failure, Progress, Reached, Started, World};
use crate::system::linux::{files, memory, tty, wait};
use crate::time::Deadline;

/// How many children are reaped before signals are looked at: a storm of orphans must not keep a stop request
/// waiting.
const REAPED_A_TURN: usize = 1_024;

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
    steps: Steps,
    /// Those that got SIGKILL already, so that each is counted once.
    killed: BTreeSet<Pid>,
    orphans_reaped: u64,
    is_pid_1: bool,
    /// Our parent is in our PID namespace, and so is whoever stops us from there.
    parent_is_visible: bool,
    clients: Clients,
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
        let has_terminal = tty::is_there();
        let world = World::of(origin, &plan.withheld_variables);
        if plan.placement == Placement::NewSession {
            tty::give_up();
        }
        let started = spawn::start_command(&plan.command, plan.placement, &world)
            .map_err(|failure| could_not_start(&plan, failure, &world))?;
        debug!(pid = started.pid.as_raw(), command = %plan.command.program.display(), "started the command");
        // After the spawn: where descriptors are few the command comes first. Before we leave the directory that a
        // relative path is meant from.
        let clients = Clients::of(listen(&plan.control, is_pid_1));
        if let Err(error) = std::env::set_current_dir("/") {
            debug!(%error, "cannot leave the working directory, which stays busy");
        }
        let surroundings = Surroundings {
            on_kubernetes: plan.place.is_kubernetes(),
            is_first_process: is_pid_1,
            has_terminal,
            ignored_at_start: SignalSet::default(),
        };
        let machine = Shutdown::new(&plan, surroundings, clock.now());
        let Started { pid, progress } = started;
        let mut runner = Self {
            plan,
            world,
            clock,
            signals,
            machine,
            main: Main { pid, starting: Some(progress), held: Vec::new(), reaped: false },
            steps: Steps::default(),
            killed: BTreeSet::new(),
            orphans_reaped: 0,
            is_pid_1,
            parent_is_visible: nix::unistd::getppid() != Pid::from_raw(0),
            clients,
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
                let received = Received {
                    signal,
                    sender: Sender::Kernel,
                    from_outside: false,
                    queued: None,
                    command_has_it: false,
                };
                let actions = self.machine.on(Event::Received(received), self.clock.now());
                let _ = self.perform_all(actions);
            }
            Err(errno) => warn!(%errno, %signal, "cannot get a signal when our parent dies"),
        }
    }

    fn stay(&mut self) -> ExitStatus {
        memory::give_back();
        let mut at_the_door = false;
        loop {
            // Signals are read before children are reaped and acted upon after: a signal that a dying child
            // caused finds it gone.
            let (arrivals, mut acted) = self.signals.take();
            if let Some(status) = self.command_did_not_start() {
                return status;
            }
            let (mut events, more) = self.reap();
            acted |= more;
            // It may have failed to execute its program, and been reaped, since we looked.
            if self.main.reaped
                && let Some(status) = self.command_did_not_start()
            {
                return status;
            }
            events.extend(self.steps.look(&self.world));
            events.extend(arrivals.iter().filter_map(|arrival| self.received(arrival)));
            let asked = if at_the_door { self.stop_requests() } else { Vec::new() };
            // Those that join a shutdown which is on its way are told of it, though nothing changes.
            acted |= !asked.is_empty();
            events.extend(asked);
            events.push(Event::Tick);
            let now = self.clock.now();
            for event in events {
                let actions = self.machine.on(event, now);
                acted |= actions.iter().any(leads_to_more);
                if let Some(status) = self.perform_all(actions) {
                    return status;
                }
            }
            // What was done may have made more to do: look again before sleeping.
            if acted {
                self.tell_clients();
                at_the_door = false;
            } else {
                at_the_door = self.sleep();
            }
        }
    }

    /// Sleeps until something happens; true when it is a client.
    fn sleep(&self) -> bool {
        let limit = self.machine.next_due().remaining(self.clock.now());
        let ours = [self.signals.as_fd()].into_iter().chain(self.main.starting.iter().map(AsFd::as_fd));
        let descriptors = self.clients.descriptors().chain(ours).chain(self.steps.descriptors());
        let first = wait::until_readable(descriptors, limit);
        first.is_some_and(|place| place < self.clients.descriptors().count())
    }

    /// The clients that ask for the shutdown now.
    fn stop_requests(&mut self) -> Vec<Event> {
        let mut clients = std::mem::take(&mut self.clients);
        let asking = clients.serve(&self.machine, &self.facts());
        self.clients = clients;
        asking.into_iter().map(|peer| Event::StopAsked(Sender::Process(peer.as_raw()))).collect()
    }

    fn tell_clients(&mut self) {
        let mut clients = std::mem::take(&mut self.clients);
        clients.tell(&self.machine, &self.facts(), false);
        self.clients = clients;
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            init: getpid(),
            main: self.main.pid,
            command: &self.plan.command,
            reaped: self.orphans_reaped,
            now: self.clock.now(),
        }
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
                let (error, status) = could_not_start(&self.plan, failure, &self.world);
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
        let starts = self.machine.starts();
        let mut ended: Vec<(Pid, Outcome)> = Vec::new();
        let mut last = false;
        let mut more = true;
        for _ in 0..REAPED_A_TURN {
            match children::reap_one() {
                Reaped::Child(pid, outcome) if pid == self.main.pid || self.steps.owns(pid) => {
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
        if last {
            events.push(Event::NoChildren { starts });
        }
        for (pid, outcome) in ended {
            if pid == self.main.pid && !self.main.reaped {
                self.main.reaped = true;
                events.push(Event::MainEnded(outcome));
            } else {
                events.extend(self.steps.reaped(pid, outcome, &self.world));
            }
        }
        (events, more)
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
            from_outside: arrival.sender.is_outside(self.parent_is_visible, is_our_descendant),
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
                Action::Relay(..) | Action::Stop(_) if self.main.starting.is_some() => {
                    debug!("held a signal until the command executes its program");
                    self.main.held.push(action);
                }
                Action::Relay(signal, received) => self.relay(signal, &received),
                Action::Stop(signal) => self.signal_target(signal, None),
                Action::SignalStep(id, signal) => {
                    let end = self.signal_step(signal);
                    self.steps.has_ended(id, end);
                }
                Action::SuspendSelf => {
                    debug!("suspending ourselves with the command");
                    signals::suspend_ourselves();
                }
                Action::ContinueSuspended => self.continue_suspended(),
                Action::StartStep(id) => self.start_step(id),
                Action::TermStep(id) => self.steps.term(id),
                Action::KillStep(id) => {
                    for process in self.steps.kill(id) {
                        self.kill(&process, Victim::Step(id));
                    }
                }
                Action::LastToGroup(signal) => {
                    // The group's number may be nobody's by now, but nobody else's: PIDs come round last.
                    let _ = signals::send(Target::Group(self.main.pid), signal);
                }
                Action::TermLeftovers { group_has_it } => self.term_leftovers(group_has_it),
                Action::KillAll => self.kill_all(),
                Action::CountDescendants => {
                    let descendants = Descendants::find().map_or(0, |all| all.count());
                    let actions = self.machine.on(Event::Counted { descendants }, self.clock.now());
                    self.perform_all(actions);
                }
                Action::ListRunning => {
                    let all = Descendants::find().unwrap_or_default();
                    self.machine.found_running(all.iter().map(ToString::to_string).collect());
                }
                Action::AppendToReport(line) => self.append_to_report(line),
                Action::Tell(notice) => self.tell(notice),
                Action::Leave(status) => {
                    self.conclude(status);
                    self.say_farewell();
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

    /// Sends a step's signal to the command alone.
    fn signal_step(&mut self, signal: Signal) -> StepEnd {
        if self.main.starting.is_some() {
            self.main.held.push(Action::Relay(signal, Received::by_the_init(signal)));
            return StepEnd::Ended(Outcome::Exited(0));
        }
        match signals::send(Target::Process(self.main.pid), signal) {
            Ok(()) => StepEnd::Ended(Outcome::Exited(0)),
            Err(errno) => StepEnd::NotStarted(format!("cannot send {signal}: {}", errno.desc())),
        }
    }

    fn append_to_report(&self, line: report::ReportLine) {
        let Report::File(path) = &self.plan.report else { return };
        let _ = (path, line);
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
        info!(step = step.text, number = id.number(), phase = id.phase().name(), "starting a step");
        let remaining = self.machine.deadline().remaining(self.clock.now());
        let variables = steps::variables(id, self.machine.history(), self.main.pid, remaining);
        self.steps.start(id, step, &variables, &self.world);
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
        let told = all.told_by_us_alone();
        for process in told.iter().filter(|process| !group_has_it || process.group != self.main.pid) {
            self.send(Target::Process(process.pid), Signal::TERM);
        }
    }

    /// SIGKILL to every descendant. Groups first: a group is killed in one go, so its members cannot fork away
    /// from it (kernel/fork.c, `copy_process`: a fork with a signal pending is started over).
    fn kill_all(&mut self) {
        // Looked up before the first SIGKILL: what has ended by it could not be named any more.
        let found = Descendants::find();
        if !self.main.reaped && self.plan.placement != Placement::OurGroup && self.main.starting.is_none() {
            let _ = signals::send(Target::Group(self.main.pid), Signal::KILL);
        }
        let Some(all) = found else { return self.kill_unseen() };
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
            let victim = if process.pid == self.main.pid { Victim::Command } else { Victim::Other };
            self.kill(process, victim);
        }
    }

    /// What can be killed without `/proc`.
    fn kill_unseen(&self) {
        if !self.main.reaped {
            let _ = signals::send(Target::Process(self.main.pid), Signal::KILL);
        }
        self.steps.kill_groups();
        if self.is_pid_1 {
            let _ = signals::send(Target::Everybody, Signal::KILL);
        }
    }

    fn kill(&mut self, process: &Descendant, victim: Victim) {
        if let Err(errno) = signals::send(Target::Process(process.pid), Signal::KILL) {
            if errno != Errno::ESRCH {
                warn!(pid = process.pid.as_raw(), %errno, "cannot kill a process");
            }
            return;
        }
        if self.killed.insert(process.pid) {
            self.machine.killed(process.to_string(), victim, self.clock.now());
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
                warn!(number = id.number(), "the chain ends here: later steps are left out")
            }
            Notice::GaveUp => error!("some processes survived SIGKILL; exiting anyway"),
            Notice::Cut(request) => warn!(
                signal = %request,
                "a stop signal came before the hook was over; the drain and the chain end here"
            ),
            Notice::GuessOver => warn!("{}", report::guess_is_over(&self.machine)),
            Notice::CutToFit(warning) => warn!("{warning}"),
            Notice::Cancelled(sender) => info!(%sender, "the pre-stop request was cancelled"),
            Notice::NobodyStopped => warn!("no stop signal followed the pre-stop request; stopping now"),
            Notice::ShutdownSkipped(signal) => {
                warn!(%signal, "{}", report::shutdown_was_skipped(&self.machine, signal));
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
        let number = id.number();
        match end {
            StepEnd::Ended(outcome) if outcome.succeeded() => debug!(step, number, "a step succeeded"),
            StepEnd::Ended(outcome) => {
                warn!(step, number, exit_code = outcome.status().code(), "a step failed: it {outcome}");
            }
            StepEnd::NotStarted(reason) => warn!(step, number, "a step could not start: {reason}"),
            StepEnd::Overdue => warn!(step, number, "a step's time is up: it is stopped"),
            StepEnd::Cut => warn!(step, number, "a step was cut short"),
            StepEnd::Skipped => {}
        }
    }

    /// Lets the clients that asked for the shutdown end before we do, within what is left of the grace.
    fn say_farewell(&mut self) {
        let mut clients = std::mem::take(&mut self.clients);
        let limit =
            self.machine.time_left_to_leave(self.clock.now()).map_or(FAREWELL, |left| left.min(FAREWELL));
        clients.farewell(&self.machine, &self.facts(), self.clock, limit);
    }

    /// The last words.
    fn conclude(&self, status: ExitStatus) {
        let told = Summary::of(&self.machine, self.clock.now(), status);
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

/// Whether doing it may leave something to see that no descriptor tells of. What a signal leads to comes as a SIGCHLD.
fn leads_to_more(action: &Action) -> bool {
    match action {
        Action::Relay(..) | Action::Tell(Notice::NotRelayed(_) | Notice::Repeated(_)) => false,
        Action::SuspendSelf
        | Action::Stop(_)
        | Action::SignalStep(..)
        | Action::ContinueSuspended
        | Action::StartStep(_)
        | Action::TermStep(_)
        | Action::KillStep(_)
        | Action::LastToGroup(_)
        | Action::TermLeftovers { .. }
        | Action::KillAll
        | Action::CountDescendants
        | Action::ListRunning
        | Action::AppendToReport(_)
        | Action::Tell(_)
        | Action::Leave(_) => true,
    }
}

/// The control socket, where there is to be one.
fn listen(control: &Control, is_pid_1: bool) -> Option<Listener> {
    if *control == Control::Default && !is_pid_1 {
        return None;
    }
    let paths = paths(control, getpid());
    if paths.is_empty() {
        return None;
    }
    match Listener::open(&paths) {
        Ok(listener) => {
            debug!(path = %listener.path().display(), "listening at the control socket");
            Some(listener)
        }
        Err(error) if *control == Control::Default => {
            debug!(%error, "no control socket: no place for it can be written");
            None
        }
        Err(error) => {
            warn!(%error, "no control socket where it was wanted");
            None
        }
    }
}

fn is_our_descendant(pid: i32) -> bool {
    Descendants::find().is_some_and(|all| all.iter().any(|process| process.pid.as_raw() == pid))
}

fn report_unsent(sent: nix::Result<()>, signal: Signal, target: Target) {
    let Err(errno) = sent else { return };
    let (Target::Process(pid) | Target::Group(pid)) = target else { return };
    warn!(%signal, pid = pid.as_raw(), "cannot send a signal: {}", errno.desc());
}

fn could_not_start(plan: &Plan, failure: Failure, world: &World) -> (anyhow::Error, ExitStatus) {
    let why = anyhow::Error::msg(spawn::explain(&plan.command.program, failure, world));
    (why.context("cannot start the command"), plan.start_failure.status(failure.into()))
}
