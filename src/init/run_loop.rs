//! The one loop: reap, read signals, ask the machine, do what it says, sleep until something happens.
//!
//! Once the command was spawned nothing here returns early, panics or waits for anybody: what fails is logged, and
//! the loop goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Error;
use nix::errno::Errno;
use nix::unistd::Pid;
use tracing::{debug, error, warn};

use super::steps::Steps;
use crate::control::server::{Clients, FAREWELL, FAREWELL_MARGIN, Facts};
use crate::outcome::{ExitStatus, Outcome};
use crate::plan::{Adopt, Cause, Control, Placement, Plan, Report};
use crate::shutdown::{Action, Event, History, Notice, Received, Shutdown, Surroundings, Victim};
use crate::signal::{Sender, Signal};
use crate::system::{Arrival, Descendant, ExecState, Reaped, StartError, Started, System};
use crate::time::Moment;

/// How many children are reaped before signals are looked at: a storm of orphans must not keep a stop request
/// waiting.
pub(super) const MAX_REAPED_PER_TURN: usize = 1_024;

/// An init with its command.
pub struct Init<S: System> {
    pub(super) plan: Plan,
    pub(super) system: S,
    pub(super) machine: Shutdown,
    pub(super) main: MainChild<S::ExecPipe>,
    pub(super) steps: Steps<S>,
    /// Those that got SIGKILL, by PID and start: a number alone may name two processes one after the other. One that turns out
    /// to have ended by itself leaves it again.
    pub(super) killed: BTreeMap<(Pid, u64), (Descendant, Victim)>,
    /// When everything may be looked through for what to kill again.
    pub(super) next_kill_pass: Moment,
    orphans_reaped: u64,
    /// Where the report goes.
    pub(super) report: Option<PathBuf>,
    clients: Clients<S>,
}

/// The command.
#[derive(Debug)]
pub(super) struct MainChild<P> {
    pub(super) pid: Pid,
    /// There until it executes its program.
    pub(super) exec: Option<P>,
    /// What is to be sent to it as soon as it does. Before that its group may not exist, and its own
    /// dispositions are not in place: the signal would be lost, or hit a half-made child.
    pub(super) held: Vec<Action>,
    pub(super) reaped: bool,
}

/// PID 1 gets every orphan of its namespace, and the kernel ends what it leaves behind.
pub(super) fn is_pid_1<S: System>(system: &S) -> bool {
    system.own_pid() == Pid::from_raw(1)
}

impl<S: System> Init<S> {
    /// Starts the command.
    ///
    /// # Errors
    /// When there is no process to be had for it: what to say, and what to exit with.
    pub fn start(plan: Plan, mut system: S) -> Result<Self, (Error, ExitStatus)> {
        if !is_pid_1(&system) {
            adopt_orphans(&plan, &mut system);
        }
        let is_first_process = system.is_first_process();
        let has_terminal = system.has_terminal();
        if plan.placement == Placement::NewSession {
            system.give_up_terminal();
        }
        // Before the command is started, which is told where the socket is, and before we leave the directory that a relative
        // path is meant from.
        let mut listener = listen(&plan.control, is_first_process, &mut system);
        let mut started = system.start_command(&plan.command, plan.placement);
        // Where descriptors are few the command comes first.
        let is_without_descriptors = started.as_ref().is_err_and(|error| error.errno == Errno::EMFILE);
        if let Some(listener) = listener.take_if(|_| is_without_descriptors) {
            system.stop_listening(listener);
            started = system.start_command(&plan.command, plan.placement);
        }
        let Started { pid, pipe } = started.map_err(|error| could_not_start(&plan, &system, error))?;
        debug!(pid = pid.as_raw(), command = %Path::new(&plan.command.program).display(), "started the command");
        let clients = Clients::of(listener);
        system.leave_working_directory();
        // After the start, which needs none of it.
        let termination_log = if is_first_process { system.termination_log() } else { None };
        let surroundings = Surroundings {
            on_kubernetes: plan.place.is_kubernetes() || termination_log.is_some(),
            is_first_process,
            has_terminal,
            ignored_at_start: system.ignored_at_start(),
        };
        let report = report_path(&plan.report, is_first_process, termination_log, &system);
        let now = system.now();
        let mut init = Self {
            machine: Shutdown::new(&plan, surroundings, now),
            plan,
            system,
            main: MainChild { pid, exec: Some(pipe), held: Vec::new(), reaped: false },
            steps: Steps::default(),
            killed: BTreeMap::new(),
            next_kill_pass: now,
            orphans_reaped: 0,
            report,
            clients,
        };
        init.watch_our_parent();
        Ok(init)
    }

    /// After the spawn, so that the command does not lose a parent's death to the time before it existed.
    fn watch_our_parent(&mut self) {
        let Some(signal) = self.plan.parent_death_signal else { return };
        match self.system.want_parent_death_signal(signal) {
            Ok(false) => {}
            Ok(true) => {
                let received = Received::by_the_init(signal);
                let actions = self.machine.on(Event::Received(received), self.system.now());
                let _ = self.perform_all(actions);
            }
            Err(errno) => warn!(%errno, %signal, "cannot get a signal when our parent dies"),
        }
    }

    /// Stays until the command and all that belongs to it has gone; returns what to exit with.
    pub fn run(&mut self) -> ExitStatus {
        self.system.release_memory();
        let mut client_ready = false;
        loop {
            match self.turn(client_ready) {
                Turn::Leave(status) => return status,
                // What was done may have made more to do: look again before sleeping.
                Turn::Progressed => {
                    self.tell_clients();
                    client_ready = false;
                }
                Turn::Idle => client_ready = self.sleep(),
            }
        }
    }

    fn turn(&mut self, client_ready: bool) -> Turn {
        // Signals are read before children are reaped and acted upon after: a signal that a dying child
        // caused finds it gone.
        let (arrivals, mut progressed) = self.system.read_signals();
        if let Some(status) = self.look_at_command_exec() {
            return Turn::Leave(status);
        }
        let (mut events, more) = self.reap();
        progressed |= more;
        // It may have failed to execute its program, and been reaped, since we looked.
        let failed = if self.main.reaped { self.look_at_command_exec() } else { None };
        if let Some(status) = failed {
            return Turn::Leave(status);
        }
        events.extend(self.steps.look(&mut self.system));
        for arrival in &arrivals {
            events.extend(self.received(arrival));
        }
        let asked = if client_ready { self.serve_clients() } else { Vec::new() };
        // Those that join a shutdown which is on its way are told of it, though nothing changes.
        progressed |= !asked.is_empty();
        events.extend(asked);
        events.push(Event::Tick);
        // A turn's events share their moment.
        let now = self.system.now();
        for event in events {
            let actions = self.machine.on(event, now);
            progressed |= actions.iter().any(leads_to_more);
            if let Some(status) = self.perform_all(actions) {
                return Turn::Leave(status);
            }
        }
        if progressed { Turn::Progressed } else { Turn::Idle }
    }

    /// Sleeps until something happens; true when it is a client.
    fn sleep(&mut self) -> bool {
        let now = self.system.now();
        let limit = self.machine.next_due().min(self.clients.next_due()).remaining(now);
        let pipes = self.main.exec.iter().chain(self.steps.pipes());
        self.system.wait(pipes, self.clients.listener(now), self.clients.connected(), limit)
    }

    /// Serves the clients; returns what they ask of the shutdown.
    fn serve_clients(&mut self) -> Vec<Event> {
        let facts = facts(&self.plan, &self.system, &self.main, self.orphans_reaped);
        let steps = &self.steps;
        let step_of = |system: &mut S, pid| steps.running_step_of(pid, system);
        self.clients.serve(&mut self.system, &self.machine, &facts, step_of)
    }

    fn tell_clients(&mut self) {
        let facts = facts(&self.plan, &self.system, &self.main, self.orphans_reaped);
        self.clients.tell(&self.machine, &facts);
    }

    /// Lets the clients that asked for the shutdown end before we do, within what is left of the grace.
    pub(super) fn say_farewell(&mut self) {
        let left = self.machine.time_left_to_leave(self.system.now());
        let limit = left.map_or(FAREWELL, |left| left.saturating_sub(FAREWELL_MARGIN).min(FAREWELL));
        let facts = facts(&self.plan, &self.system, &self.main, self.orphans_reaped);
        self.clients.farewell(&mut self.system, &self.machine, &facts, limit);
    }

    /// Looks whether the command executes its program now, and sends it what had to wait for that.
    ///
    /// Returns what to leave with when it cannot.
    fn look_at_command_exec(&mut self) -> Option<ExitStatus> {
        match self.system.exec_state(self.main.exec.as_mut()?) {
            ExecState::Pending => None,
            ExecState::Done => {
                self.main.exec = None;
                let held = std::mem::take(&mut self.main.held);
                // A held action never leaves.
                self.perform_all(held)
            }
            ExecState::Failed(start_error) => {
                let (error, status) = could_not_start(&self.plan, &self.system, start_error);
                error!("{error:#}");
                if let Some(path) = &self.report {
                    self.system.report_failed_start(path, &format!("{error:#}\n"));
                }
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
        // A step that is started from here on is not among the children that waiting tells of.
        let starts = self.machine.starts();
        let mut ended: Vec<(Pid, Outcome)> = Vec::new();
        let mut last = false;
        let mut more = true;
        for _ in 0..MAX_REAPED_PER_TURN {
            match self.system.reap() {
                Reaped::Child(pid, outcome) => {
                    self.forget_if_it_ended_by_itself(pid, outcome);
                    if pid == self.main.pid && !self.main.reaped || self.steps.owns(pid) {
                        ended.push((pid, outcome));
                    } else {
                        self.count_orphan(pid, outcome);
                    }
                }
                Reaped::Traced(pid, signal) => {
                    debug!(pid = pid.as_raw(), %signal, "a child that is traced goes on");
                    self.system.continue_traced(pid, signal);
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
                events.extend(self.steps.reaped(pid, outcome, &mut self.system));
            }
        }
        (events, more)
    }

    fn count_orphan(&mut self, pid: Pid, outcome: Outcome) {
        self.orphans_reaped = self.orphans_reaped.saturating_add(1);
        if self.plan.warn_of_orphans {
            warn!(pid = pid.as_raw(), "reaped an orphan, which {outcome}");
        } else {
            debug!(pid = pid.as_raw(), "reaped an orphan, which {outcome}");
        }
    }

    /// The machine's view of a signal; SIGCHLD has done its work by waking us.
    fn received(&mut self, arrival: &Arrival) -> Option<Event> {
        let signal = arrival.signal;
        if signal == Signal::CHLD {
            return None;
        }
        debug!(%signal, from = %arrival.sender, "received a signal");
        let command_has_it = arrival.sender == Sender::Kernel && self.terminal_sent_it_to_the_command(signal);
        let parent_is_visible = self.system.parent_pid().as_raw() != 0;
        let from_outside = arrival.sender.is_outside(parent_is_visible, |pid| self.is_our_descendant(pid));
        Some(Event::Received(Received {
            signal,
            sender: arrival.sender,
            from_outside,
            queued: arrival.queued,
            command_has_it,
        }))
    }

    /// A client may be a process that descends from nobody here.
    fn is_our_descendant(&mut self, pid: i32) -> bool {
        let pid = Pid::from_raw(pid);
        if self.clients.includes(pid) {
            return true;
        }
        let all = self.system.descendants().unwrap_or_default();
        all.iter().any(|process| process.pid == pid)
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
        let we_lead_the_session = self.system.own_session() == Some(self.system.own_pid());
        let reaches_the_group =
            for_the_group.contains(&signal) || (at_the_leaders_end.contains(&signal) && !we_lead_the_session);
        reaches_the_group && self.system.group_of(self.main.pid) == Some(self.system.own_group())
    }

    /// What the run has gone through.
    pub fn history(&self) -> &History {
        self.machine.history()
    }

    /// The kernel that it runs on.
    pub fn system(&mut self) -> &mut S {
        &mut self.system
    }
}

fn facts<'a, S: System>(plan: &'a Plan, system: &S, main: &MainChild<S::ExecPipe>, reaped: u64) -> Facts<'a> {
    Facts { init: system.own_pid(), main: main.pid, command: &plan.command, reaped, now: system.now() }
}

/// What a turn of the loop came to.
enum Turn {
    /// Something was done.
    Progressed,
    /// There was nothing to do.
    Idle,
    /// The run is over.
    Leave(ExitStatus),
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

fn adopt_orphans<S: System>(plan: &Plan, system: &mut S) {
    match plan.adopt {
        Adopt::Orphans => {
            if let Err(errno) = system.adopt_orphans() {
                warn!(%errno, "cannot adopt orphans: processes that leave the command's tree will not be waited for");
            }
        }
        Adopt::Nothing => {
            warn!("not PID 1 and not asked to adopt: orphans go to another process, and zombies may stay");
        }
    }
}

/// The report's file, where there is to be one.
fn report_path<S: System>(
    report: &Report,
    is_first_process: bool,
    termination_log: Option<PathBuf>,
    system: &S,
) -> Option<PathBuf> {
    match report {
        Report::None => None,
        Report::Default if is_first_process => termination_log.or_else(|| system.default_report()),
        Report::Default => None,
        Report::File(path) => {
            if !system.is_there(path) {
                warn!(path = %path.display(), "the file of --report is not there; a report is written to an existing file only");
            }
            Some(path.clone())
        }
    }
}

/// The control socket, where there is to be one.
fn listen<S: System>(control: &Control, is_first_process: bool, system: &mut S) -> Option<S::Listener> {
    if *control == Control::Default && !is_first_process {
        return None;
    }
    match system.listen(control) {
        Ok(listener) => listener,
        Err(error) if *control == Control::Default => {
            warn!(
                %error,
                "cannot create the control socket in /run, /dev/shm or /tmp; grace-init pre-stop and stop will not work, signals will"
            );
            None
        }
        Err(error) => {
            warn!(%error, "no control socket where it was wanted");
            None
        }
    }
}

fn could_not_start<S: System>(plan: &Plan, system: &S, error: StartError) -> (Error, ExitStatus) {
    let why = Error::msg(system.explain(&plan.command.program, error));
    (why.context("cannot start the command"), plan.start_failure.status(Cause::from(error)))
}
