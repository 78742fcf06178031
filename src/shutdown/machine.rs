//! The states, and what each event does in each of them.
//!
//! Timers that are due are worked off by the tick that ends a turn: a command that ended in time is never killed for a
//! timer that came due with it.

use std::time::Duration;

use super::event::{
    Action, CannotCancel, Chain, Event, Notice, Phase, Received, ReportLine, StepId, Surroundings, Victim,
};
use super::history::{Cut, History, MainEnd, StepEnd, StopRequest, Trigger};
use super::timetable::{GraceKind, Timetable, all_but_an_eighth};
use crate::outcome::{ExitStatus, Outcome, ZeroCodes};
use crate::plan::{AfterFailure, Leftovers, Placement, Plan, RelayTo, ShutdownPlan, Step, Work};
use crate::signal::{Rewrite, Rewrites, Sender, Signal, SignalSet};
use crate::time::{Deadline, Moment};

/// What a step that is told to end has between SIGTERM and SIGKILL.
pub const STEP_KILL_DELAY: Duration = Duration::from_millis(500);
/// A Ctrl-C this long after another is a second one; closer ones are one key that repeats.
const SECOND_INTERRUPT_DELAY: Duration = Duration::from_millis(500);
/// How long after a stop signal whatever is still suspended is continued. Most commands are gone by then and
/// spare us the search.
const CONTINUE_DELAY: Duration = Duration::from_millis(50);
/// How soon the survivors of a SIGKILL are looked for again: some were being forked meanwhile.
const KILL_RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// How long after the end of its grace a pre-stop request is taken to have come from no orchestrator.
const PREPARED_PATIENCE: Duration = Duration::from_secs(5);
/// A command that ends so soon after a signal from outside was stopped by it.
const STOPPED_BY_SIGNAL: Duration = Duration::from_secs(2);
/// A timer that is worked off so late was not late for want of a processor: the container was frozen.
const FROZEN_DELAY: Duration = Duration::from_secs(1);

/// A phase with what it needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Draining {
        until: Moment,
    },
    PreStop {
        step: usize,
        progress: StepProgress,
    },
    /// The stop begins by itself at `until`.
    Prepared {
        until: Deadline,
    },
    /// What is suspended is continued at `resume`.
    Stopping {
        rung: usize,
        until: Deadline,
        resume: Deadline,
    },
    Leftovers {
        until: Deadline,
        resume: Deadline,
    },
    Killing {
        again: Moment,
        leave_by: Deadline,
    },
    PostStop {
        step: usize,
        limit: Deadline,
    },
    Done,
}

/// How far the current pre-stop step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepProgress {
    /// It may run until then.
    Runs { until: Deadline },
    /// It was told to end; the chain goes on when it has, at the latest then.
    Ends { until: Moment },
}

/// What was asked for, and the moments that follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Requests {
    /// The latest pre-stop request.
    pre_stop: Option<Moment>,
    /// The stop request; without one the command is not told.
    stop: Option<StopOrder>,
    times: Timetable,
    /// The latest Ctrl-C.
    last_interrupt: Option<Moment>,
    /// It was said that the guessed grace is over.
    guess_is_over: bool,
}

/// A request to stop the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StopOrder {
    request: StopRequest,
    from_outside: bool,
    /// The terminal sent the requesting signal to the command as well.
    command_has_it: bool,
}

impl StopOrder {
    fn by_signal(received: &Received) -> Self {
        Self {
            request: StopRequest::Signal(received.signal),
            from_outside: received.from_outside,
            command_has_it: received.command_has_it,
        }
    }

    const fn by(request: StopRequest) -> Self {
        Self { request, from_outside: false, command_has_it: false }
    }
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Shutdown {
    plan: ShutdownPlan,
    rewrites: Rewrites,
    zero_codes: ZeroCodes,
    relays_to_group: bool,
    suspends_itself: bool,
    surroundings: Surroundings,
    /// The grace is an assumption, so that the command is killed late.
    grace_is_guessed: bool,
    state: State,
    requests: Option<Requests>,
    main: Option<Outcome>,
    /// Waiting has said that no child is left, and none was started since.
    alone: bool,
    /// How many steps were started.
    starts: u64,
    /// Which run of the pre-stop chain this is: each cancelled request makes it another one.
    run: u32,
    /// The command's group had SIGTERM as its last stop signal.
    group_has_term: bool,
    /// Steps that were told to end, and when what is left of them is killed.
    ending_steps: Vec<(StepId, Moment)>,
    /// The latest signal from outside that was only relayed.
    relayed_from_outside: Option<(Signal, Moment)>,
    history: History,
    actions: Vec<Action>,
}

impl Shutdown {
    /// A machine for this plan, with the command just started.
    pub fn new(plan: &Plan, surroundings: Surroundings, now: Moment) -> Self {
        Self {
            rewrites: plan.rewrites.clone(),
            zero_codes: plan.zero_codes.clone(),
            relays_to_group: plan.relay == RelayTo::Group,
            // tini leaves its own suspension to the shell's process group.
            suspends_itself: plan.placement != Placement::NewGroup,
            surroundings,
            grace_is_guessed: plan.shutdown.grace_source.is_guess(),
            ..Self::for_hook(&plan.shutdown, now)
        }
    }

    /// A machine for `grace-init hook`: another process stands in the command's place, and no signal begins anything.
    /// Give it [`Event::StopAsked`] if that process is to be stopped, [`Event::PreStopAsked`] if only drain and chain are
    /// to run; then [`Phase::Prepared`] is the end. A guessed grace counts as told: the kubelet is not waited for.
    pub fn for_hook(plan: &ShutdownPlan, now: Moment) -> Self {
        Self {
            plan: plan.clone(),
            rewrites: Rewrites::default(),
            zero_codes: ZeroCodes::default(),
            relays_to_group: false,
            suspends_itself: false,
            surroundings: Surroundings::default(),
            grace_is_guessed: false,
            state: State::Running,
            requests: None,
            main: None,
            alone: false,
            starts: 0,
            run: 0,
            group_has_term: false,
            ending_steps: Vec::new(),
            relayed_from_outside: None,
            history: History::new(now),
            actions: Vec::new(),
        }
    }

    /// The phase that it is in.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Running => Phase::Running,
            State::Draining { .. } => Phase::Draining,
            State::PreStop { .. } => Phase::PreStop,
            State::Prepared { .. } => Phase::Prepared,
            State::Stopping { .. } => Phase::Stopping,
            State::Leftovers { .. } => Phase::Leftovers,
            State::Killing { .. } => Phase::Killing,
            State::PostStop { .. } => Phase::PostStop,
            State::Done => Phase::Done,
        }
    }

    /// What has happened so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The settings.
    pub fn plan(&self) -> &ShutdownPlan {
        &self.plan
    }

    /// The step that `id` means.
    pub fn step(&self, id: StepId) -> Option<&Step> {
        match id.chain {
            Chain::PreStop => self.plan.pre_stop.get(id.index),
            Chain::PostStop => self.plan.post_stop.get(id.index),
        }
    }

    /// The steps of both chains.
    pub fn all_steps(&self) -> impl Iterator<Item = (StepId, &Step)> {
        let ids = |chain, count: usize| (0..count).map(move |index| self.step_id(chain, index));
        let pre_stop = ids(Chain::PreStop, self.plan.pre_stop.len()).zip(&self.plan.pre_stop);
        pre_stop.chain(ids(Chain::PostStop, self.plan.post_stop.len()).zip(&self.plan.post_stop))
    }

    /// The steps whose processes may still run, those that were told to end included. What asks for a stop from below one
    /// of them would wait for itself and must be refused.
    pub fn running_steps(&self) -> impl Iterator<Item = StepId> {
        let current = self.history.steps.iter().filter(|record| record.end.is_none()).map(|record| record.id);
        current.chain(self.ending_steps.iter().map(|(id, _)| *id))
    }

    /// The time from a request to the end of the grace less the reserve, where there is a grace.
    pub fn budget(&self) -> Option<Duration> {
        self.plan.budget()
    }

    /// What is left of our time altogether; `None` where it has no end, or no shutdown was asked for.
    pub fn time_left_to_leave(&self, now: Moment) -> Option<Duration> {
        self.requests?.times.end.remaining(now)
    }

    /// Whether drain and pre-stop chain are over, so that a pre-stop request is to be answered.
    pub fn is_prepared(&self) -> bool {
        match self.state {
            State::Running | State::Draining { .. } | State::PreStop { .. } => false,
            State::Prepared { .. }
            | State::Stopping { .. }
            | State::Leftovers { .. }
            | State::Killing { .. }
            | State::PostStop { .. }
            | State::Done => true,
        }
    }

    /// Whether the command goes on serving: it runs and was not told to stop.
    pub fn is_serving(&self) -> bool {
        let told = match self.state {
            State::Running | State::Draining { .. } | State::PreStop { .. } | State::Prepared { .. } => false,
            State::Stopping { .. }
            | State::Leftovers { .. }
            | State::Killing { .. }
            | State::PostStop { .. }
            | State::Done => true,
        };
        !told && self.main.is_none()
    }

    /// The end of the grace less the reserve, once something was requested: SIGKILL comes then, but for a guessed grace.
    pub fn deadline(&self) -> Deadline {
        self.requests.map_or(Deadline::Never, |requests| requests.times.limit)
    }

    /// How many steps were started so far: what [`Event::NoChildren`] wants.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// Whether [`Event::CancelAsked`] would do something.
    ///
    /// # Errors
    /// Why not, for the client that asks.
    pub fn cancellable(&self) -> Result<(), CannotCancel> {
        match self.requests {
            _ if self.main.is_some() => Err(CannotCancel::CommandEnded),
            None => Err(CannotCancel::NothingAsked),
            Some(requests) if requests.stop.is_some() => Err(CannotCancel::StopAsked),
            Some(_) => Ok(()),
        }
    }

    /// Remembers what runs at the moment of [`Action::ListRunning`].
    pub fn found_running(&mut self, processes: Vec<String>) {
        self.history.running = processes;
    }

    /// Remembers the processes that were still there when the command had gone.
    pub fn found_leftovers(&mut self, count: usize) {
        self.history.leftovers = self.history.leftovers.max(count);
    }

    /// Remembers how many processes SIGKILL has not ended, at [`Notice::GaveUp`]; what is only not reaped yet is none.
    pub fn found_survivors(&mut self, count: usize) {
        self.history.survivors = count;
    }

    /// Remembers a process that got SIGKILL, by name and PID. The command counts only if that is what it ends by: it may
    /// have been a zombie already.
    pub fn killed(&mut self, process: String, victim: Victim) {
        match victim {
            Victim::Command => self.history.killed.command(process, self.main),
            Victim::Other => self.history.killed.push(process),
            Victim::Step(id) => {
                self.history.step_was_killed(id);
                self.history.killed.push(process);
            }
        }
    }

    /// When [`Event::Tick`] is due next.
    pub fn next_due(&self) -> Deadline {
        let times = self.requests.map(|requests| requests.times);
        let of = |moment: fn(&Timetable) -> Deadline| times.as_ref().map_or(Deadline::Never, moment);
        let own = match self.state {
            State::Running | State::Done => Deadline::Never,
            State::Draining { until } => Deadline::At(until).min(of(|times| times.chain_end)),
            State::PreStop { progress, .. } => {
                let step = match progress {
                    StepProgress::Runs { until } => until,
                    StepProgress::Ends { until } => Deadline::At(until),
                };
                step.min(of(|times| times.chain_end))
            }
            State::Prepared { until } => until,
            State::Stopping { until, resume, .. } => {
                let guess = if self.guess_may_end() { of(|times| times.limit) } else { Deadline::Never };
                until.min(resume).min(of(|times| times.kill)).min(guess)
            }
            State::Leftovers { until, resume } => until.min(resume),
            State::Killing { again, leave_by } => Deadline::At(again).min(leave_by),
            State::PostStop { limit, .. } => limit,
        };
        self.ending_steps.iter().fold(own, |due, (_, kill)| due.min(Deadline::At(*kill)))
    }

    /// Takes one event at the time `now` and says what to do.
    pub fn on(&mut self, event: Event, now: Moment) -> Vec<Action> {
        if self.state == State::Done {
            return Vec::new();
        }
        self.look_for_a_thaw(now);
        match event {
            Event::Received(received) => self.received(received, now),
            Event::PreStopAsked(sender) => self.pre_stop_asked(sender, now),
            Event::StopAsked(sender) => {
                let request = StopRequest::Command;
                self.stop_asked(Trigger { request, sender, at: now }, StopOrder::by(request));
            }
            Event::CancelAsked(sender) => self.cancel(sender, now),
            Event::MainEnded(outcome) => self.main_ended(outcome, now),
            Event::StepEnded(id, end) => self.step_ended(id, end, now),
            Event::NoChildren { starts } => self.alone = starts == self.starts,
            Event::Counted { descendants } => self.counted(descendants, now),
            // The last event of a turn: only now are all ends known, and what happened in time is never undone by a timer
            // that came due with it.
            Event::Tick => {
                self.nobody_left(now);
                self.work_off_timers(now);
            }
        }
        std::mem::take(&mut self.actions)
    }

    fn received(&mut self, received: Received, now: Moment) {
        let rewritten = self.rewrites.apply(received.signal);
        if rewritten != Rewrite::Drop && self.is_stop_signal(&received) {
            return self.stop_signal(received, now);
        }
        match rewritten {
            Rewrite::To(signal) if signal != received.signal || !received.command_has_it => {
                if received.from_outside && self.may_stop_a_container(received.signal) {
                    self.relayed_from_outside = Some((received.signal, now));
                }
                self.actions.push(Action::Relay(signal, received));
            }
            Rewrite::To(_) | Rewrite::Drop => self.tell(Notice::NotRelayed(received)),
        }
        if self.suspends_itself && received.signal.suspends_a_job() {
            self.actions.push(Action::SuspendSelf);
        }
    }

    /// Whether a signal asks for the stop, in this phase.
    fn is_stop_signal(&self, received: &Received) -> bool {
        let signal = received.signal;
        // `nohup` and a shell's `&` (POSIX, "Asynchronous Lists") ignore these for what they start.
        let was_ignored = [Signal::HUP, Signal::INT, Signal::QUIT].contains(&signal)
            && self.surroundings.ignored_at_start.contains(signal)
            && !self.surroundings.is_first_process
            && !self.plan.stop_on_given;
        if self.plan.stop_on.contains(signal) && !was_ignored {
            return true;
        }
        // After its hook the kubelet sends the image's STOPSIGNAL or the pod's stopSignal, whatever that is.
        let hook_asked = self.requests.is_some_and(|requests| requests.pre_stop.is_some());
        self.surroundings.on_kubernetes
            && hook_asked
            && self.is_serving()
            && received.from_outside
            && self.may_stop_a_container(signal)
    }

    /// Whether somebody may have meant to stop a container by this signal.
    fn may_stop_a_container(&self, signal: Signal) -> bool {
        let never: SignalSet = [Signal::CHLD, Signal::CONT, Signal::URG].into_iter().collect();
        let by_the_terminal = self.surroundings.has_terminal && signal.suspends_a_job();
        !never.contains(signal) && !by_the_terminal
    }

    fn stop_signal(&mut self, received: Received, now: Moment) {
        let order = StopOrder::by_signal(&received);
        let trigger = Trigger { request: order.request, sender: received.sender, at: now };
        let is_ctrl_c = received.signal == Signal::INT && received.sender == Sender::Kernel;
        let last_interrupt = self.requests.and_then(|requests| requests.last_interrupt);
        let is_second =
            is_ctrl_c && last_interrupt.is_some_and(|last| now.since(last) >= SECOND_INTERRUPT_DELAY);
        if is_second {
            self.move_on(trigger, order);
        } else if !self.stop_asked(trigger, order) {
            self.tell(Notice::Repeated(received));
        }
        if let Some(requests) = self.requests.as_mut().filter(|_| is_ctrl_c) {
            requests.last_interrupt = Some(now);
        }
    }

    /// Takes a stop request; false if there was one already.
    fn stop_asked(&mut self, trigger: Trigger, order: StopOrder) -> bool {
        let now = trigger.at;
        let Some(requests) = &mut self.requests else {
            self.begin(trigger, Some(order));
            return true;
        };
        // An orchestrator signals only when its hook is over, or was cut short.
        let cuts = order.from_outside
            && requests.pre_stop.is_some()
            && !requests.stop.is_some_and(|stop| stop.from_outside);
        match self.state {
            State::Prepared { .. } => self.stop_prepared(trigger, order),
            State::Draining { .. } | State::PreStop { .. } if cuts => self.cut(trigger, order),
            State::Draining { .. } | State::PreStop { .. } if requests.stop.is_none() => {
                requests.stop = Some(order);
                self.stop_follows(trigger);
            }
            // The command ended while it was prepared, or before; what is left to do is bounded anew.
            State::Leftovers { .. } | State::Killing { .. } | State::PostStop { .. }
                if requests.stop.is_none() =>
            {
                requests.stop = Some(order);
                self.stop_follows(trigger);
                self.set_times_for_a_stop(now);
                self.bound_the_rest();
                self.actions.push(Action::CountDescendants);
            }
            State::Running
            | State::Draining { .. }
            | State::PreStop { .. }
            | State::Stopping { .. }
            | State::Leftovers { .. }
            | State::Killing { .. }
            | State::PostStop { .. }
            | State::Done => return false,
        }
        true
    }

    fn pre_stop_asked(&mut self, sender: Sender, now: Moment) {
        let Some(requests) = &mut self.requests else {
            return self.begin(Trigger { request: StopRequest::PreStop, sender, at: now }, None);
        };
        requests.pre_stop = Some(now);
        if let State::Prepared { .. } = self.state {
            self.state = State::Prepared { until: self.prepared_until(now) };
        }
    }

    /// The first request.
    fn begin(&mut self, trigger: Trigger, stop: Option<StopOrder>) {
        let now = trigger.at;
        self.requests = Some(Requests {
            pre_stop: if stop.is_none() { Some(now) } else { None },
            stop,
            times: self.timetable(trigger.request, now),
            last_interrupt: None,
            guess_is_over: false,
        });
        self.history.trigger = Some(trigger);
        self.tell(Notice::StopRequested(trigger));
        if let Some(warning) = self.plan.cut_to_fit.clone() {
            self.tell(Notice::CutToFit(warning));
        }
        match self.state {
            State::Running if self.plan.drain > Duration::ZERO => {
                self.enter(State::Draining { until: now.after(self.plan.drain) }, now);
            }
            State::Running => self.begin_chain(now),
            State::Leftovers { .. } | State::Killing { .. } | State::PostStop { .. } => {
                self.skip_steps_from(self.step_id(Chain::PreStop, 0), now);
                self.bound_the_rest();
            }
            State::Draining { .. }
            | State::PreStop { .. }
            | State::Prepared { .. }
            | State::Stopping { .. }
            | State::Done => {}
        }
        self.actions.push(Action::AppendToReport(ReportLine::Stopping));
        self.actions.push(Action::CountDescendants);
    }

    /// A stop request that follows a pre-stop request.
    fn stop_follows(&mut self, trigger: Trigger) {
        self.history.stop = Some(trigger);
        self.tell(Notice::StopRequested(trigger));
    }

    /// The command had ended by itself when the request came: the rest is bounded by it, and never later than before.
    fn bound_the_rest(&mut self) {
        let Some(Requests { times, .. }) = self.requests else { return };
        match &mut self.state {
            State::Leftovers { until, .. } => *until = until.min(times.limit),
            State::Killing { leave_by, .. } => *leave_by = leave_by.min(times.leave_by),
            State::PostStop { limit, .. } => *limit = limit.min(times.leave_by),
            State::Running
            | State::Draining { .. }
            | State::PreStop { .. }
            | State::Prepared { .. }
            | State::Stopping { .. }
            | State::Done => {}
        }
    }

    fn grace_kind(&self, request: StopRequest) -> GraceKind {
        match request {
            _ if self.grace_is_guessed => GraceKind::Guessed,
            StopRequest::Signal(_) if self.surroundings.on_kubernetes => GraceKind::ToldByKubelet,
            StopRequest::Signal(_) | StopRequest::Command | StopRequest::PreStop | StopRequest::Nobody => {
                GraceKind::Told
            }
        }
    }

    fn timetable(&self, request: StopRequest, now: Moment) -> Timetable {
        Timetable::new(&self.plan, self.grace_kind(request), now)
    }

    /// Sets the clock for a stop request that comes when drain and chain of a pre-stop request are over.
    fn set_times_for_a_stop(&mut self, now: Moment) {
        let Some(mut requests) = self.requests else { return };
        let Some(stop) = requests.stop else { return };
        let kubelet_counts = self.surroundings.on_kubernetes && stop.request != StopRequest::Nobody;
        requests.times = if kubelet_counts {
            requests.times.at_the_kubelets_signal(self.grace_kind(stop.request), now)
        } else {
            // Elsewhere the grace begins with the signal (Compose runs its `pre_stop` before it).
            self.timetable(stop.request, now)
        };
        self.requests = Some(requests);
    }

    /// The stop of a command that is prepared for it.
    fn stop_prepared(&mut self, trigger: Trigger, order: StopOrder) {
        if let Some(requests) = &mut self.requests {
            requests.stop = Some(order);
        }
        self.stop_follows(trigger);
        self.stop_now(trigger.at);
    }

    /// Tells the command to stop after drain and chain of a pre-stop request.
    fn stop_now(&mut self, now: Moment) {
        self.set_times_for_a_stop(now);
        self.start_rung(0, now);
        // Behind the stop signal: counting takes its time.
        self.actions.push(Action::CountDescendants);
    }

    /// The orchestrator's signal came while drain or chain of its hook still ran.
    fn cut(&mut self, trigger: Trigger, order: StopOrder) {
        let now = trigger.at;
        let after = self.history.trigger.map_or(Duration::ZERO, |first| now.since(first.at));
        self.history.cut = Some(Cut { request: order.request, phase: self.phase(), after });
        if let Some(requests) = &mut self.requests {
            requests.stop = Some(order);
        }
        self.stop_follows(trigger);
        self.tell(Notice::Cut(order.request));
        if !self.surroundings.on_kubernetes {
            let times = self.timetable(order.request, now);
            if let Some(requests) = &mut self.requests {
                requests.times = times;
            }
        }
        if let State::PreStop { step, progress } = self.state {
            self.end_chain(step, progress, StepEnd::Cut, now);
        } else {
            self.skip_steps_from(self.step_id(Chain::PreStop, 0), now);
        }
        self.begin_stopping(now);
        self.actions.push(Action::AppendToReport(ReportLine::Cut));
        self.actions.push(Action::CountDescendants);
    }

    /// Takes a pre-stop request back.
    fn cancel(&mut self, sender: Sender, now: Moment) {
        if self.cancellable().is_err() {
            return;
        }
        if let State::PreStop { step, progress: StepProgress::Runs { .. } } = self.state {
            self.end_step(self.step_id(Chain::PreStop, step), StepEnd::Cut, now);
        }
        self.requests = None;
        self.run = self.run.saturating_add(1);
        self.enter(State::Running, now);
        self.history.cancelled(now);
        self.tell(Notice::Cancelled(sender));
        self.actions.push(Action::AppendToReport(ReportLine::Cancelled));
    }

    /// A second Ctrl-C ends the phase.
    fn move_on(&mut self, trigger: Trigger, order: StopOrder) {
        let now = trigger.at;
        match self.state {
            State::Draining { .. } => self.begin_chain(now),
            State::PreStop { step, progress } => {
                self.end_chain(step, progress, StepEnd::Cut, now);
                self.end_of_chain(now);
            }
            State::Prepared { .. } => self.stop_prepared(trigger, order),
            State::Stopping { rung, .. } => self.next_rung(rung, now),
            State::Leftovers { .. } => self.begin_killing(now),
            State::PostStop { step, .. } => self.cut_post_stop(step, StepEnd::Cut, now),
            State::Running | State::Killing { .. } | State::Done => {}
        }
    }

    /// Begins SIGKILL early enough for so many processes.
    fn counted(&mut self, descendants: usize, now: Moment) {
        let Some(requests) = &mut self.requests else { return };
        requests.times = requests.times.ready_for(descendants, now);
        let limit = requests.times.limit;
        if let State::Leftovers { until, .. } = &mut self.state {
            *until = until.min(limit);
        }
    }

    fn main_ended(&mut self, outcome: Outcome, now: Moment) {
        if self.main.is_some() {
            return;
        }
        self.main = Some(outcome);
        self.history.main = Some(MainEnd { outcome, at: now, phase: self.phase() });
        self.history.killed.command_ended(outcome);
        self.tell(Notice::MainEnded(outcome));
        match self.state {
            State::Running => {
                self.look_for_a_skipped_shutdown(now);
                match self.plan.leftovers {
                    Leftovers::Wait(_) => self.begin_leftovers(now),
                    Leftovers::TermAndLeave => {
                        // dumb-init rewrites this one too (`forward_signal`).
                        if let Rewrite::To(signal) = self.rewrites.apply(Signal::TERM) {
                            self.actions.push(Action::LastToGroup(signal));
                        }
                        self.finish(now);
                    }
                    Leftovers::Leave => self.finish(now),
                }
            }
            State::Draining { .. } => self.begin_chain(now),
            State::Prepared { .. } | State::Stopping { .. } => self.begin_leftovers(now),
            State::PreStop { .. }
            | State::Leftovers { .. }
            | State::Killing { .. }
            | State::PostStop { .. }
            | State::Done => {}
        }
    }

    /// An image's STOPSIGNAL that is not in `--stop-on` stops the command without drain and chain.
    fn look_for_a_skipped_shutdown(&mut self, now: Moment) {
        let has_work = self.plan.drain > Duration::ZERO || !self.plan.pre_stop.is_empty();
        let recent = self.relayed_from_outside.filter(|(_, at)| now.since(*at) <= STOPPED_BY_SIGNAL);
        if let Some((signal, _)) = recent.filter(|_| has_work) {
            self.history.skipped_by = Some(signal);
            self.tell(Notice::ShutdownSkipped(signal));
        }
    }

    fn step_ended(&mut self, id: StepId, end: StepEnd, now: Moment) {
        self.record_step(id, end.clone(), now);
        if id.run != self.run {
            return;
        }
        match (self.state, id.chain) {
            (State::PreStop { step, progress }, Chain::PreStop) if step == id.index => {
                let overdue = matches!(progress, StepProgress::Ends { .. });
                let failed = overdue || end != StepEnd::Ended(Outcome::Exited(0));
                self.after_step(step, failed, now);
            }
            (State::PostStop { step, limit }, Chain::PostStop) if step == id.index => {
                self.start_post_stop(step.saturating_add(1), limit, now);
            }
            (
                State::Running
                | State::Draining { .. }
                | State::PreStop { .. }
                | State::Prepared { .. }
                | State::Stopping { .. }
                | State::Leftovers { .. }
                | State::Killing { .. }
                | State::PostStop { .. }
                | State::Done,
                Chain::PreStop | Chain::PostStop,
            ) => {}
        }
    }

    /// Goes on when the last child has gone.
    fn nobody_left(&mut self, now: Moment) {
        if !self.alone {
            return;
        }
        self.ending_steps.clear();
        match self.state {
            State::Leftovers { .. } | State::Killing { .. } => self.begin_post_stop(now),
            State::Running
            | State::Draining { .. }
            | State::PreStop { .. }
            | State::Prepared { .. }
            | State::Stopping { .. }
            | State::PostStop { .. }
            | State::Done => {}
        }
    }

    /// A container that was frozen over its deadline (`docker pause`) had none of the time that was promised, so it gets
    /// the stop window once more. The kubelet's clock is not ours to lengthen.
    fn look_for_a_thaw(&mut self, now: Moment) {
        let Deadline::At(due) = self.next_due() else { return };
        let was_frozen = now.since(due) >= FROZEN_DELAY && !self.surroundings.on_kubernetes;
        let is_over = match self.state {
            State::Draining { .. } | State::PreStop { .. } | State::Stopping { .. } => {
                self.requests.is_some_and(|requests| requests.times.kill.reached(now))
            }
            State::Leftovers { until, .. } => until.reached(now),
            State::Running
            | State::Prepared { .. }
            | State::Killing { .. }
            | State::PostStop { .. }
            | State::Done => false,
        };
        if !was_frozen || !is_over {
            return;
        }
        if let Some(requests) = &mut self.requests {
            requests.times = requests.times.after_a_thaw(now);
        }
        let limit = self.requests.map(|requests| requests.times.limit);
        match self.state {
            State::Stopping { rung, resume, .. } => {
                let until = Deadline::after(now, self.rung_wait(rung));
                self.state = State::Stopping { rung, until, resume };
            }
            State::Leftovers { resume, .. } => {
                let until = limit.unwrap_or_else(|| Deadline::after(now, self.leftover_grace()));
                self.state = State::Leftovers { until, resume };
            }
            State::Running
            | State::Draining { .. }
            | State::PreStop { .. }
            | State::Prepared { .. }
            | State::Killing { .. }
            | State::PostStop { .. }
            | State::Done => {}
        }
    }

    fn work_off_timers(&mut self, now: Moment) {
        let due: Vec<StepId> =
            self.ending_steps.iter().filter(|(_, kill)| now >= *kill).map(|(id, _)| *id).collect();
        self.ending_steps.retain(|(_, kill)| now < *kill);
        self.actions.extend(due.into_iter().map(Action::KillStep));
        // Each turn moves to a later state, rung or step, so this ends.
        while self.work_off_one(now) {}
    }

    /// Works off one due timer of the current state; false when none is due.
    fn work_off_one(&mut self, now: Moment) -> bool {
        let reached = |moment: fn(&Timetable) -> Deadline| {
            self.requests.is_some_and(|requests| moment(&requests.times).reached(now))
        };
        let chain_is_over = reached(|times| times.chain_end);
        let kill_is_due = reached(|times| times.kill);
        let guess_is_over = self.guess_may_end() && reached(|times| times.limit);
        match &mut self.state {
            State::Running | State::Done => return false,
            State::Draining { until } => {
                if now < *until && !chain_is_over {
                    return false;
                }
                self.begin_chain(now);
            }
            State::PreStop { step, progress } => {
                let (step, progress) = (*step, *progress);
                match progress {
                    StepProgress::Runs { .. } | StepProgress::Ends { .. } if chain_is_over => {
                        self.end_chain(step, progress, StepEnd::Overdue, now);
                        self.end_of_chain(now);
                    }
                    StepProgress::Runs { until } if until.reached(now) => {
                        let id = self.step_id(Chain::PreStop, step);
                        let until = self.end_step(id, StepEnd::Overdue, now);
                        self.state = State::PreStop { step, progress: StepProgress::Ends { until } };
                    }
                    StepProgress::Ends { until } if now >= until => self.after_step(step, true, now),
                    StepProgress::Runs { .. } | StepProgress::Ends { .. } => return false,
                }
            }
            State::Prepared { until } => {
                if !until.reached(now) {
                    return false;
                }
                let request = StopRequest::Nobody;
                self.tell(Notice::NobodyStopped);
                self.stop_prepared(
                    Trigger { request, sender: Sender::Kernel, at: now },
                    StopOrder::by(request),
                );
            }
            State::Stopping { rung, until, resume } => {
                let (rung, until) = (*rung, *until);
                if kill_is_due {
                    self.begin_killing(now);
                } else if until.reached(now) {
                    self.next_rung(rung, now);
                } else if resume.reached(now) {
                    *resume = Deadline::Never;
                    self.actions.push(Action::ContinueSuspended);
                } else if guess_is_over {
                    self.tell_that_the_guess_is_over();
                } else {
                    return false;
                }
            }
            State::Leftovers { until, resume } => {
                if until.reached(now) {
                    self.begin_killing(now);
                } else if resume.reached(now) {
                    *resume = Deadline::Never;
                    self.actions.push(Action::ContinueSuspended);
                } else {
                    return false;
                }
            }
            State::Killing { again, leave_by } => {
                if leave_by.reached(now) {
                    self.tell(Notice::GaveUp);
                    self.finish(now);
                } else if now >= *again {
                    *again = now.after(KILL_RETRY_INTERVAL);
                    self.actions.push(Action::KillAll);
                } else {
                    return false;
                }
            }
            State::PostStop { step, limit } => {
                let step = *step;
                if !limit.reached(now) {
                    return false;
                }
                self.cut_post_stop(step, StepEnd::Overdue, now);
            }
        }
        true
    }

    /// Whether the end of a guessed grace is still to be told of.
    fn guess_may_end(&self) -> bool {
        self.grace_is_guessed && self.requests.is_some_and(|requests| !requests.guess_is_over)
    }

    fn tell_that_the_guess_is_over(&mut self) {
        if let Some(requests) = &mut self.requests {
            requests.guess_is_over = true;
        }
        self.history.guess_is_over = true;
        self.actions.push(Action::ListRunning);
        self.tell(Notice::GuessOver);
        self.actions.push(Action::AppendToReport(ReportLine::GuessOver));
    }

    fn begin_chain(&mut self, now: Moment) {
        self.start_pre_stop(0, now);
    }

    /// Starts the pre-stop step `index`, or goes on to the stop when there is none.
    fn start_pre_stop(&mut self, index: usize, now: Moment) {
        let chain_end = self.requests.map_or(Deadline::Never, |requests| requests.times.chain_end);
        let mut index = index;
        loop {
            let id = self.step_id(Chain::PreStop, index);
            let Some(step) = self.plan.pre_stop.get(index) else { return self.end_of_chain(now) };
            if chain_end.reached(now) {
                self.tell(Notice::ChainCut(id));
                self.skip_steps_from(id, now);
                return self.end_of_chain(now);
            }
            let until = Deadline::after(now, self.plan.step_timeout).min(chain_end);
            let signal = match step.work {
                Work::Signal(signal) => Some(signal),
                Work::Builtin(_) | Work::Program(_) => None,
            };
            self.enter(State::PreStop { step: index, progress: StepProgress::Runs { until } }, now);
            if self.start_step(id, signal, now) {
                return;
            }
            index = index.saturating_add(1);
            if self.plan.after_failure == AfterFailure::Skip && index < self.plan.pre_stop.len() {
                return self.skip_the_rest(index, now);
            }
        }
    }

    /// Starts a step; false if it needs the command and that has gone.
    fn start_step(&mut self, id: StepId, signal: Option<Signal>, now: Moment) -> bool {
        self.history.step_started(id, now);
        match signal {
            Some(_) if self.main.is_some() => {
                self.record_step(id, StepEnd::NotStarted("the command has already ended".to_owned()), now);
                return false;
            }
            Some(signal) => self.actions.push(Action::SignalStep(id, signal)),
            None => {
                self.alone = false;
                self.starts = self.starts.saturating_add(1);
                self.actions.push(Action::StartStep(id));
            }
        }
        true
    }

    fn after_step(&mut self, step: usize, failed: bool, now: Moment) {
        let next = step.saturating_add(1);
        if failed && self.plan.after_failure == AfterFailure::Skip && next < self.plan.pre_stop.len() {
            return self.skip_the_rest(next, now);
        }
        self.start_pre_stop(next, now);
    }

    /// Leaves out the steps from `index` on, for one before them has failed.
    fn skip_the_rest(&mut self, index: usize, now: Moment) {
        let id = self.step_id(Chain::PreStop, index);
        self.tell(Notice::ChainCut(id));
        self.skip_steps_from(id, now);
        self.end_of_chain(now);
    }

    /// Tells a step to end and remembers when to kill what is left of it.
    fn end_step(&mut self, id: StepId, end: StepEnd, now: Moment) -> Moment {
        let kill = now.after(STEP_KILL_DELAY);
        self.actions.push(Action::TermStep(id));
        self.ending_steps.push((id, kill));
        self.record_step(id, end, now);
        kill
    }

    /// Ends the chain where it is; the caller goes on.
    fn end_chain(&mut self, step: usize, progress: StepProgress, end: StepEnd, now: Moment) {
        match progress {
            StepProgress::Runs { .. } => {
                self.end_step(self.step_id(Chain::PreStop, step), end, now);
            }
            StepProgress::Ends { .. } => {}
        }
        let next = self.step_id(Chain::PreStop, step.saturating_add(1));
        if next.index < self.plan.pre_stop.len() {
            self.tell(Notice::ChainCut(next));
            self.skip_steps_from(next, now);
        }
    }

    /// Drain and chain are over.
    fn end_of_chain(&mut self, now: Moment) {
        let Some(requests) = self.requests else { return };
        let hook_came_first =
            self.history.trigger.is_some_and(|trigger| trigger.request == StopRequest::PreStop);
        if self.main.is_some() || !hook_came_first {
            return self.begin_stopping(now);
        }
        let asked = requests.pre_stop.unwrap_or(now);
        self.enter(State::Prepared { until: self.prepared_until(asked) }, now);
        if requests.stop.is_some() {
            self.stop_now(now);
        }
    }

    /// When the stop begins by itself after the pre-stop request at `asked`.
    fn prepared_until(&self, asked: Moment) -> Deadline {
        match self.plan.grace {
            Some(grace) if !self.grace_is_guessed => {
                Deadline::At(asked.after(grace).after(PREPARED_PATIENCE))
            }
            Some(_) | None => Deadline::Never,
        }
    }

    fn begin_stopping(&mut self, now: Moment) {
        if self.main.is_some() { self.begin_leftovers(now) } else { self.start_rung(0, now) }
    }

    /// Sends the signal of rung `rung`.
    fn start_rung(&mut self, rung: usize, now: Moment) {
        let Some(requests) = self.requests else { return };
        let Some(stop) = requests.stop else { return };
        let given = self.plan.ladder.get(rung).copied();
        let until = Deadline::after(now, self.rung_wait(rung));
        self.enter(State::Stopping { rung, until, resume: Deadline::At(now.after(CONTINUE_DELAY)) }, now);
        let received = stop.request.signal();
        let signal = match (given, self.rewrites.apply(received)) {
            (Some(given), _) => given.signal,
            // A STOPSIGNAL of TSTP ends what handles it; the STOP that it is relayed as ends nothing.
            (None, Rewrite::To(Signal::STOP)) => received,
            (None, Rewrite::To(signal)) => signal,
            (None, Rewrite::Drop) => return,
        };
        self.group_has_term = signal == Signal::TERM && self.relays_to_group;
        self.history.stop_signal_sent(signal, now);
        if !(stop.command_has_it && stop.request.signal() == signal) {
            self.actions.push(Action::Stop(signal));
        }
    }

    /// How long a rung waits for the next; the last has none.
    fn rung_wait(&self, rung: usize) -> Option<Duration> {
        let last = rung.saturating_add(1) >= self.plan.ladder.len();
        self.plan.ladder.get(rung).and_then(|rung| rung.wait).filter(|_| !last)
    }

    fn next_rung(&mut self, rung: usize, now: Moment) {
        let next = rung.saturating_add(1);
        if next < self.plan.ladder.len() { self.start_rung(next, now) } else { self.begin_killing(now) }
    }

    /// The command has gone: its other processes are next.
    fn begin_leftovers(&mut self, now: Moment) {
        if self.alone {
            return self.begin_post_stop(now);
        }
        let own_grace = Deadline::after(now, self.leftover_grace());
        let until = match self.requests {
            // Nobody promised that the time ends with a guess, or while no stop was asked for.
            Some(Requests { stop, times, .. })
                if times.limit.reached(now) && (self.grace_is_guessed || stop.is_none()) =>
            {
                if self.grace_is_guessed { own_grace.min(times.kill) } else { own_grace }
            }
            Some(requests) => requests.times.limit,
            None => own_grace,
        };
        self.enter(State::Leftovers { until, resume: Deadline::At(now.after(CONTINUE_DELAY)) }, now);
        self.actions.push(Action::TermLeftovers { group_has_it: self.group_has_term });
    }

    /// What leftovers get of their own when nothing else bounds them.
    fn leftover_grace(&self) -> Option<Duration> {
        match self.plan.leftovers {
            Leftovers::Wait(wait) => wait,
            Leftovers::TermAndLeave | Leftovers::Leave => Some(Duration::ZERO),
        }
    }

    fn begin_killing(&mut self, now: Moment) {
        // A person may get here before the deadline; what is reserved counts from now.
        let own_reserve = Deadline::At(now.after(self.plan.reserve));
        let leave_by = match self.requests.map(|_| self.leave_by(now)) {
            Some(Deadline::At(leave_by)) => Deadline::At(leave_by),
            Some(Deadline::Never) | None => own_reserve,
        };
        self.enter(State::Killing { again: now.after(KILL_RETRY_INTERVAL), leave_by }, now);
        self.actions.push(Action::KillAll);
    }

    /// When to leave, whatever is left, once a request was made. A grace that was only guessed and is over leaves
    /// the reserve all the same.
    fn leave_by(&self, now: Moment) -> Deadline {
        let Some(Requests { times, stop, .. }) = self.requests else { return Deadline::Never };
        if times.leave_by.reached(now) && (self.grace_is_guessed || stop.is_none()) {
            return Deadline::At(now.after(all_but_an_eighth(self.plan.reserve)));
        }
        times.leave_by
    }

    fn begin_post_stop(&mut self, now: Moment) {
        let limit = match self.requests {
            Some(_) if self.grace_is_guessed => {
                self.leave_by(now).max(Deadline::At(now.after(self.plan.reserve)))
            }
            Some(_) => self.leave_by(now),
            None => Deadline::after(now, self.plan.budget()),
        };
        self.start_post_stop(0, limit, now);
    }

    fn start_post_stop(&mut self, index: usize, limit: Deadline, now: Moment) {
        let mut index = index;
        loop {
            let id = self.step_id(Chain::PostStop, index);
            let Some(step) = self.plan.post_stop.get(index) else { return self.finish(now) };
            let signal = match step.work {
                Work::Signal(signal) => Some(signal),
                Work::Builtin(_) | Work::Program(_) => None,
            };
            self.enter(State::PostStop { step: index, limit }, now);
            if limit.reached(now) {
                self.tell(Notice::ChainCut(id));
                self.skip_steps_from(id, now);
                return self.finish(now);
            }
            if self.start_step(id, signal, now) {
                return;
            }
            index = index.saturating_add(1);
        }
    }

    fn cut_post_stop(&mut self, step: usize, end: StepEnd, now: Moment) {
        self.record_step(self.step_id(Chain::PostStop, step), end, now);
        self.skip_steps_from(self.step_id(Chain::PostStop, step.saturating_add(1)), now);
        self.finish(now);
    }

    fn finish(&mut self, now: Moment) {
        if !self.alone && matches!(self.plan.leftovers, Leftovers::Wait(_)) {
            // What a post-stop step left behind, and what would not die: a subreaper's children would survive it.
            self.actions.push(Action::KillAll);
        }
        self.ending_steps.clear();
        let status = self.main.map_or(ExitStatus::KILLED, Outcome::status);
        self.enter(State::Done, now);
        self.actions.push(Action::Leave(self.zero_codes.apply(status)));
    }

    fn step_id(&self, chain: Chain, index: usize) -> StepId {
        StepId { chain, index, run: self.run }
    }

    fn record_step(&mut self, id: StepId, end: StepEnd, now: Moment) {
        if self.history.step_ended(id, end.clone(), now) {
            self.tell(Notice::StepEnded(id, end));
        }
    }

    fn skip_steps_from(&mut self, id: StepId, now: Moment) {
        let steps = match id.chain {
            Chain::PreStop => self.plan.pre_stop.len(),
            Chain::PostStop => self.plan.post_stop.len(),
        };
        for index in id.index..steps {
            self.history.step_skipped(StepId { index, ..id }, now);
        }
    }

    fn enter(&mut self, state: State, now: Moment) {
        let before = self.phase();
        self.state = state;
        let phase = self.phase();
        if phase != before {
            self.history.entered(phase, now);
            self.tell(Notice::Entered(phase));
        }
    }

    fn tell(&mut self, notice: Notice) {
        self.actions.push(Action::Tell(notice));
    }
}
