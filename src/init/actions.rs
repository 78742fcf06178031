//! Doing what the machine says.

use std::collections::BTreeSet;

use nix::errno::Errno;
use nix::unistd::Pid;
use tracing::{debug, info, warn};

use super::run_loop::{Init, MAX_REAPED_PER_TURN, is_pid_1};
use super::steps;
use crate::outcome::{ExitStatus, Outcome};
use crate::plan::{Placement, RelayTo};
use crate::shutdown::{Action, Chain, Event, Phase, Received, StepEnd, StepId, Victim};
use crate::signal::{Queued, Sender, Signal};
use crate::system::{Descendant, Descendants, Reaped, System, Target};

/// How often what is left is looked for when we leave.
const MAX_LAST_PASSES: usize = 8;

impl<S: System> Init<S> {
    /// Does all of it, in this order; returns the exit status when it says to leave.
    pub(super) fn perform_all(&mut self, actions: Vec<Action>) -> Option<ExitStatus> {
        for action in actions {
            match action {
                Action::Relay(..) | Action::Stop(_) if self.main.exec.is_some() => {
                    debug!("held a signal until the command executes its program");
                    self.main.held.push(action);
                }
                Action::Relay(signal, received) => self.relay(signal, &received),
                Action::Stop(signal) => {
                    self.signal_command(signal, None);
                    if signal == Signal::TERM && !self.main.reaped {
                        self.hang_up_if_interactive(self.main.pid);
                    }
                }
                Action::SignalStep(id, signal) => {
                    let end = self.signal_step(signal);
                    self.steps.has_ended(id, end);
                }
                Action::SuspendSelf => {
                    debug!("suspending ourselves with the command");
                    self.system.suspend_self();
                }
                Action::ContinueSuspended => self.continue_suspended(),
                Action::StartStep(id) => self.start_step(id),
                Action::TermStep(id) => self.steps.term(id, &mut self.system),
                Action::KillStep(id) => {
                    for process in self.steps.kill(id, &mut self.system) {
                        self.kill(&process, false, Victim::Step(id));
                    }
                }
                Action::LastToGroup(signal) => {
                    // The group's number may be nobody's by now, but nobody else's: PIDs come round last.
                    let _ = self.system.send(Target::Group(self.main.pid), signal);
                }
                Action::TermLeftovers { group_has_it } => self.term_leftovers(group_has_it),
                Action::KillAll => self.kill_all_again(),
                Action::CountDescendants => {
                    if let Some(all) = self.system.descendants() {
                        let counted = Event::Counted { descendants: all.count() };
                        let actions = self.machine.on(counted, self.system.now());
                        let _ = self.perform_all(actions);
                    }
                }
                Action::ListRunning => {
                    let all = self.system.descendants().unwrap_or_default();
                    self.machine.found_running(all.iter().map(ToString::to_string).collect());
                }
                Action::AppendToReport(line) => self.append_to_report(line),
                Action::Tell(notice) => self.tell(notice),
                Action::Leave(status) => {
                    self.reap_the_last_killed();
                    self.remember_killed();
                    self.conclude(status);
                    self.say_farewell();
                    return Some(status);
                }
            }
        }
        None
    }

    fn relay(&mut self, signal: Signal, received: &Received) {
        debug!(%signal, "relaying a signal");
        self.signal_command(signal, received.queued.map(|queued| (received.sender, queued)));
    }

    /// Sends to whom relayed signals go; with its value when one was queued.
    fn signal_command(&mut self, signal: Signal, queued: Option<(Sender, Queued)>) {
        let target = match self.plan.relay {
            RelayTo::Group => Target::Group(self.main.pid),
            RelayTo::MainChild => Target::Process(self.main.pid),
        };
        if self.main.reaped {
            // Its number may be another's now; only members of its group that descend from us prove it is not.
            for member in self.members_of_the_group() {
                self.send(Target::Process(member.pid), signal);
            }
            return;
        }
        let Some((sender, queued)) = queued else { return self.send(target, signal) };
        let sent = self.system.queue(target, signal, sender, queued);
        match (sent, target) {
            (Err(Errno::ENOSYS | Errno::EINVAL), Target::Group(_)) => {
                for member in self.members_of_the_group() {
                    let sent = self.system.queue(Target::Process(member.pid), signal, sender, queued);
                    report_unsent(sent, signal, target);
                }
            }
            (sent, _) => report_unsent(sent, signal, target),
        }
    }

    /// Sends a step's signal to the command alone.
    fn signal_step(&mut self, signal: Signal) -> StepEnd {
        if self.main.exec.is_some() {
            self.main.held.push(Action::Relay(signal, Received::by_the_init(signal)));
            return StepEnd::Ended(Outcome::Exited(0));
        }
        if self.main.reaped {
            return StepEnd::NotStarted("the command has gone".to_owned());
        }
        match self.system.send(Target::Process(self.main.pid), signal) {
            Ok(()) => StepEnd::Ended(Outcome::Exited(0)),
            Err(errno) => StepEnd::NotStarted(format!("cannot send {signal}: {}", errno.desc())),
        }
    }

    fn members_of_the_group(&mut self) -> Vec<Descendant> {
        match self.plan.relay {
            RelayTo::Group => {
                let all = self.system.descendants().unwrap_or_default();
                all.iter().filter(|process| process.group == self.main.pid).copied().collect()
            }
            RelayTo::MainChild => Vec::new(),
        }
    }

    fn send(&mut self, target: Target, signal: Signal) {
        report_unsent(self.system.send(target, signal), signal, target);
    }

    fn continue_suspended(&mut self) {
        let Some(all) = self.system.descendants() else {
            if !self.main.reaped {
                let _ = self.system.send(Target::Group(self.main.pid), Signal::CONT);
            }
            return;
        };
        for process in all.iter().filter(|process| process.suspended) {
            debug!(pid = process.pid.as_raw(), "continuing a suspended process");
            self.send(Target::Process(process.pid), Signal::CONT);
        }
    }

    fn start_step(&mut self, id: StepId) {
        if id.chain == Chain::PostStop {
            self.remember_killed();
        }
        let Some(step) = self.machine.step(id) else { return };
        info!(step = step.text, number = id.number(), phase = id.phase().name(), "starting a step");
        let remaining = self.machine.deadline().remaining(self.system.now());
        let variables = steps::variables(id, self.machine.history(), self.main.pid, remaining);
        self.steps.start(id, step, variables, &mut self.system);
    }

    fn term_leftovers(&mut self, group_has_it: bool) {
        let all = self.system.descendants();
        if !all.as_ref().is_some_and(Descendants::is_complete) && is_pid_1(&self.system) {
            let _ = self.system.send(Target::Everybody, Signal::TERM);
            return;
        }
        let Some(all) = all else { return };
        self.machine.found_leftovers(all.count());
        debug!(processes = all.count(), "the command left processes behind");
        let told = all.told_by_us_alone(|pid| self.system.is_init_like_us(pid));
        // What the command's group forked since it had SIGTERM is its own way of ending, `trap 'upload-logs' TERM` for one, and is
        // left to finish.
        let main_group = self.main.pid;
        for process in told.iter().filter(|process| !group_has_it || process.group != main_group) {
            self.send(Target::Process(process.pid), Signal::TERM);
            if process.leads_a_terminal() {
                self.hang_up_if_interactive(process.pid);
            }
        }
    }

    /// An interactive shell ignores SIGTERM and ends when its terminal hangs up (bash(1), SIGNALS), so that is what it is told.
    /// `nohup` and daemons ignore SIGHUP as well, or lead no session with a terminal.
    fn hang_up_if_interactive(&mut self, pid: Pid) {
        if self.system.is_interactive_shell(pid) {
            debug!(pid = pid.as_raw(), "hanging up an interactive shell");
            self.send(Target::Process(pid), Signal::HUP);
        }
    }

    /// SIGKILL to whatever has outlived the last one, but not sooner than twice the time that the pass before took: thousands
    /// of processes take the kernel longer to end than us to look for them, and every look slows it down.
    fn kill_all_again(&mut self) {
        let before = self.system.now();
        if self.machine.phase() == Phase::Done {
            // Before we leave: again for what was forked between the look and the signal. What outlives this as well is
            // the kernel's to end when we are PID 1.
            let last_passes = if is_pid_1(&self.system) { 1 } else { MAX_LAST_PASSES };
            let _ = (0..last_passes).any(|_| !self.kill_all());
            return;
        }
        if before < self.next_kill_pass {
            return;
        }
        self.kill_all();
        let after = self.system.now();
        self.next_kill_pass = after.after(after.since(before)).after(after.since(before));
    }

    /// SIGKILL to every descendant. Groups first: a group is killed in one go, so its members cannot fork away
    /// from it (kernel/fork.c, `copy_process`: a fork with a signal pending is started over).
    ///
    /// True when somebody was there who had not had it before.
    pub(super) fn kill_all(&mut self) -> bool {
        // Looked up before the first SIGKILL: what has ended by it could not be named any more.
        let found = self.system.descendants();
        let mut groups: BTreeSet<Pid> = BTreeSet::new();
        if !self.main.reaped && self.plan.placement != Placement::OurGroup && self.main.exec.is_none() {
            groups.insert(self.main.pid);
        }
        let our_session = self.system.own_session();
        // Only our descendants can be in a session that one of them has made.
        let in_theirs =
            found.iter().flat_map(Descendants::iter).filter(|one| Some(one.session) != our_session);
        groups.extend(in_theirs.map(|process| process.group));
        groups.retain(|group| self.system.send(Target::Group(*group), Signal::KILL).is_ok());
        if !found.as_ref().is_some_and(Descendants::is_complete) {
            self.kill_unseen();
        }
        let before = self.killed.len();
        for process in found.iter().flat_map(Descendants::iter) {
            let victim = if process.pid == self.main.pid { Victim::Command } else { Victim::Other };
            self.kill(process, groups.contains(&process.group), victim);
        }
        self.killed.len() > before
    }

    /// What can be killed without `/proc`.
    fn kill_unseen(&mut self) {
        if !self.main.reaped {
            let _ = self.system.send(Target::Process(self.main.pid), Signal::KILL);
        }
        self.steps.kill_groups(&mut self.system);
        if is_pid_1(&self.system) {
            let _ = self.system.send(Target::Everybody, Signal::KILL);
        }
    }

    /// SIGKILL to one process, whose group had it just now or not: one that has gone since then was ended by that.
    fn kill(&mut self, process: &Descendant, group_had_it: bool, victim: Victim) {
        match self.system.send(Target::Process(process.pid), Signal::KILL) {
            Err(Errno::ESRCH) if !group_had_it => {}
            Ok(()) | Err(Errno::ESRCH) => {
                self.killed.entry((process.pid, process.started)).or_insert((*process, victim));
            }
            Err(errno) => warn!(pid = process.pid.as_raw(), %errno, "cannot kill a process"),
        }
    }

    /// SIGKILL to a process that has ended already, and was not reaped yet, succeeds as well.
    pub(super) fn forget_if_it_ended_by_itself(&mut self, pid: Pid, outcome: Outcome) {
        if outcome != Outcome::Killed(Signal::KILL) && !self.killed.is_empty() {
            self.killed.retain(|(killed, _), _| *killed != pid);
        }
    }

    /// Before we leave: who has ended by itself just before the last SIGKILL was not killed.
    fn reap_the_last_killed(&mut self) {
        for _ in 0..MAX_REAPED_PER_TURN {
            if self.killed.is_empty() {
                return;
            }
            let Reaped::Child(pid, outcome) = self.system.reap() else { return };
            self.forget_if_it_ended_by_itself(pid, outcome);
        }
    }

    /// Tells the machine who was killed, once it is known.
    fn remember_killed(&mut self) {
        for (process, victim) in std::mem::take(&mut self.killed).into_values() {
            self.machine.killed(process.to_string(), victim);
        }
    }
}

fn report_unsent(sent: nix::Result<()>, signal: Signal, target: Target) {
    let Err(errno) = sent else { return };
    let (Target::Process(pid) | Target::Group(pid)) = target else { return };
    warn!(%signal, pid = pid.as_raw(), "cannot send a signal: {}", errno.desc());
}
