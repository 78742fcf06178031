//! The shutdown as a pure machine: events and the time go in, actions come out.
//!
//! It makes no system call and has no clock, so every rule is tested without waiting. The deadline is set once,
//! at the first stop request, and nothing moves it later. After each event the timers that are due are worked
//! off, the event first: a command that ended in time is never killed for a timer that came due with it.

mod history;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use history::{History, Killed, MainEnd, Span, StepEnd, StepRecord, StopRequest, Trigger};

use crate::outcome::{ExitStatus, Outcome, ZeroCodes};
use crate::plan::{AfterFailure, Leftovers, Placement, Plan, RelayTo, ShutdownPlan, Step, Work};
use crate::signal::{Queued, Rewrite, Rewrites, Sender, Signal, SignalSet};
use crate::time::{Deadline, Moment};

/// What a step that is told to end has between SIGTERM and SIGKILL.
pub const STEP_KILL_DELAY: Duration = Duration::from_millis(500);
/// A SIGINT this long after another is a person who wants to get on; closer ones are one key or one broadcast.
pub const IMPATIENCE: Duration = Duration::from_millis(500);
/// How long after a stop signal whatever is still suspended is continued. Most commands are gone by then and
/// spare us the search.
pub const CONTINUE_DELAY: Duration = Duration::from_millis(50);
/// How soon the survivors of a SIGKILL are looked for again: some were being forked meanwhile.
pub const KILL_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// A signal that we received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which one.
    pub signal: Signal,
    /// Who sent it.
    pub sender: Sender,
    /// Whether the sender counts as outside the container ([`Sender::is_outside`]): an orchestrator, not one of ours.
    pub from_outside: bool,
    /// What was queued with it.
    pub queued: Option<Queued>,
    /// The terminal sent it to the command as well.
    pub command_has_it: bool,
}

/// What the machine needs to know about where it runs. None of it changes after the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// The kubelet stops us: `KUBERNETES_SERVICE_HOST` is set, or a pod's termination log is mounted.
    pub on_kubernetes: bool,
    /// We are a container's first process.
    pub is_first_process: bool,
    /// We have a controlling terminal.
    pub has_terminal: bool,
    /// The signals that were ignored when we were started, by `nohup` or a shell's `&` for example.
    pub ignored_at_start: SignalSet,
}

/// A step of one of the two chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepId {
    /// Which chain.
    pub chain: Chain,
    /// Its place in the chain, from 0.
    pub index: usize,
    /// Which run of the chain, from 0: a cancelled pre-stop request may be followed by another one while steps of the
    /// first are still ending.
    pub run: u32,
}

impl StepId {
    /// The number that people count it by, from 1.
    pub fn number(self) -> u64 {
        u64::try_from(self.index).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// The phase that it runs in.
    pub const fn phase(self) -> Phase {
        match self.chain {
            Chain::PreStop => Phase::PreStop,
            Chain::PostStop => Phase::PostStop,
        }
    }
}

/// Why a pre-stop request cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotCancel {
    /// There is none.
    NothingAsked,
    /// A stop was asked for, so the command is told to stop, or was.
    StopAsked,
    /// The command has ended.
    CommandEnded,
}

impl fmt::Display for CannotCancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingAsked => "there is no pre-stop request to cancel",
            Self::StopAsked => "a stop was requested; only a pre-stop request can be cancelled",
            Self::CommandEnded => "the command has already ended",
        })
    }
}

/// The two chains of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Before the stop signal.
    PreStop,
    /// After everything has gone.
    PostStop,
}

/// What happened. Events of one turn of the loop are given with the same time, in this order: [`Self::NoChildren`], then
/// the ends of processes, then signals, then requests, [`Self::Tick`] last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A signal came.
    Received(Received),
    /// This process asked for drain and chain by `grace-init pre-stop`. Give one for each request, repeated ones too.
    PreStopAsked(Sender),
    /// This process asked for the whole shutdown by `grace-init stop`.
    StopAsked(Sender),
    /// This process wants its, or another's, `pre-stop` taken back. [`Shutdown::cancellable`] says beforehand whether
    /// this will do anything; where it will not, the event changes nothing.
    CancelAsked(Sender),
    /// The command ended.
    MainEnded(Outcome),
    /// A step's own process ended, or could not be started.
    StepEnded(StepId, StepEnd),
    /// Waiting for children has failed with ECHILD: none is left.
    NoChildren {
        /// What [`Shutdown::starts`] returned before that wait. A step that was started since is not counted in, so the
        /// event is ignored if the number is no longer the same.
        starts: u64,
    },
    /// The answer to [`Action::CountDescendants`].
    Counted {
        /// How many descendants there are.
        descendants: usize,
    },
    /// Time has passed.
    Tick,
}

/// What the runner is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to the command's group, or with `--single-child` to the command; received as the other.
    Relay(Signal, Received),
    /// Suspend ourselves, as a job does that got a stop from its terminal.
    SuspendSelf,
    /// Send a stop signal to the command's group, or with `--single-child` to the command.
    Stop(Signal),
    /// Continue whatever of ours is suspended, so that it can act on its signals.
    ContinueSuspended,
    /// Start a step.
    StartStep(StepId),
    /// This step sends a signal to the command alone and needs no process. Answer with [`Event::StepEnded`]:
    /// `Ended(Exited(0))` when it was sent or is held until the command executes its program, `NotStarted` with the
    /// reason when it could not be sent.
    SignalStep(StepId, Signal),
    /// SIGTERM to a step's process group.
    TermStep(StepId),
    /// SIGKILL to all that is left of a step and what it started.
    KillStep(StepId),
    /// Send this to the command's group, now that the command has gone; some of it may not descend from us.
    LastToGroup(Signal),
    /// SIGTERM to every descendant that is not in the command's group, and to that too unless it just had it. How many
    /// there are goes to [`Shutdown::found_leftovers`]; it is no reason for a warning.
    TermLeftovers {
        /// The command's group had SIGTERM already.
        group_has_it: bool,
    },
    /// SIGKILL to every descendant.
    KillAll,
    /// Count all descendants and answer with [`Event::Counted`], in the same turn or a later one. Not answering is no
    /// harm where `/proc` cannot be read.
    CountDescendants,
    /// Give the names of what still runs (`java(7)`, the command first) to [`Shutdown::found_running`]. The notice or the
    /// report line that wants them comes behind this.
    ListRunning,
    /// Append one line to the report file, if it exists: `report::line` has its text. It comes after the signals and
    /// steps that it tells of. Whoever writes
    /// - never waits for the disk: a process of its own, or a write that is given up; PID 1 goes on at once;
    /// - opens `O_WRONLY|O_APPEND|O_NOFOLLOW|O_NONBLOCK` without `O_CREAT`, and only a regular file;
    /// - remembers where the first of our lines began and where the last ended. A line that does not begin where our last
    ///   one ended (the application wrote between) starts that record anew;
    /// - truncates nothing while processes of ours are left.
    AppendToReport(ReportLine),
    /// Say something.
    Tell(Notice),
    /// Leave with this status. Last of all actions. Before it leaves the runner logs the summary and settles the report
    /// file: when it is exactly as long as where our last line ended and ends in what we wrote, our lines are cut off;
    /// then the report is appended, if there is one. All of it as in [`Self::AppendToReport`], with `O_RDWR`.
    Leave(ExitStatus),
}

/// The lines that go to the report file while the shutdown is on its way; SIGKILL leaves no time for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportLine {
    /// The shutdown began.
    Stopping,
    /// The orchestrator's signal came while the drain or chain of its hook still ran.
    Cut,
    /// The guessed grace is over and the command still runs.
    GuessOver,
    /// The pre-stop request was taken back.
    Cancelled,
}

/// What is worth saying; the runner logs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A signal was not relayed, because a rule drops it or because the command has it already.
    NotRelayed(Received),
    /// A stop signal was repeated and changes nothing.
    Repeated(Received),
    /// The shutdown begins.
    StopRequested(Trigger),
    /// A phase begins.
    Entered(Phase),
    /// The command ended.
    MainEnded(Outcome),
    /// A step ended.
    StepEnded(StepId, StepEnd),
    /// The rest of the chain is left out, from this step on.
    ChainCut(StepId),
    /// Descendants were still there when the reserve was nearly used.
    GaveUp,
    /// The orchestrator's signal came while the drain or chain of its hook still ran: both are over.
    Cut(Received),
    /// The guessed grace is over and [`History::running`] still run.
    GuessOver,
    /// The plan's drain or stop window was cut to fit a guessed grace; this is the plan's warning.
    CutToFit(String),
    /// The pre-stop request was taken back.
    Cancelled(Sender),
    /// No stop request has followed the pre-stop request: the stop begins by itself.
    NobodyStopped,
    /// The command ended on a signal from outside that is not in `--stop-on`, so drain and chain were skipped.
    ShutdownSkipped(Signal),
}

/// A phase of the run, without its data: what people and programs are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The command runs.
    Running,
    /// A stop was requested; the command goes on serving.
    Draining,
    /// The pre-stop chain runs.
    PreStop,
    /// Drain and chain of a pre-stop request are over, and the command serves on until the stop request comes.
    Prepared,
    /// The command has its stop signal.
    Stopping,
    /// The command has gone, its leftovers have SIGTERM.
    Leftovers,
    /// Everything gets SIGKILL.
    Killing,
    /// The post-stop chain runs.
    PostStop,
    /// Nothing is left to do.
    Done,
}

impl Phase {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Draining => "drain",
            Self::PreStop => "pre-stop",
            Self::Prepared => "prepared",
            Self::Stopping => "stop",
            Self::Leftovers => "leftovers",
            Self::Killing => "kill",
            Self::PostStop => "post-stop",
            Self::Done => "done",
        }
    }
}

/// A phase with what it needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Draining { until: Moment },
    PreStop { step: usize, progress: StepProgress },
    Stopping { rung: usize, until: Deadline, nudge: Deadline },
    Leftovers { until: Deadline, nudge: Deadline },
    Killing { again: Moment, leave_by: Deadline },
    PostStop { step: usize, limit: Deadline },
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

/// The stop request, and the moments that follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stop {
    request: StopRequest,
    /// The terminal sent the requesting signal to the command as well.
    command_has_it: bool,
    /// When everything that is left gets SIGKILL.
    deadline: Deadline,
    /// When the chain must be over.
    chain_end: Deadline,
    /// When we leave whatever is left.
    leave_by: Deadline,
    last_interrupt: Option<Moment>,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Shutdown {
    plan: ShutdownPlan,
    rewrites: Rewrites,
    zero_codes: ZeroCodes,
    relays_to_group: bool,
    suspends_itself: bool,
    #[expect(dead_code, reason = "the rules that need it come next")]
    surroundings: Surroundings,
    /// How many steps were started.
    starts: u64,
    state: State,
    stop: Option<Stop>,
    main: Option<Outcome>,
    /// Waiting has said that no child is left, and none was started since.
    alone: bool,
    /// The command's group had SIGTERM as its last stop signal.
    group_has_term: bool,
    /// Steps that were told to end, and when what is left of them is killed.
    ending_steps: Vec<(StepId, Moment)>,
    history: History,
    actions: Vec<Action>,
}

impl Received {
    /// A signal that the init sends by itself, on behalf of a step for example.
    pub fn by_the_init(signal: Signal) -> Self {
        Self { signal, sender: Sender::Kernel, from_outside: false, queued: None, command_has_it: false }
    }
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
            ..Self::for_hook(&plan.shutdown, now)
        }
    }

    /// A machine for `grace-init hook`: another process stands in the command's place, and no signal begins anything.
    /// Give it [`Event::StopAsked`] if that process is to be stopped, [`Event::PreStopAsked`] if only drain and chain are
    /// to run; then [`Phase::Prepared`] is the end.
    pub fn for_hook(plan: &ShutdownPlan, now: Moment) -> Self {
        Self {
            plan: plan.clone(),
            rewrites: Rewrites::default(),
            zero_codes: ZeroCodes::default(),
            relays_to_group: false,
            suspends_itself: false,
            surroundings: Surroundings::default(),
            starts: 0,
            state: State::Running,
            stop: None,
            main: None,
            alone: false,
            group_has_term: false,
            ending_steps: Vec::new(),
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

    /// The step that `id` means.
    pub fn step(&self, id: StepId) -> Option<&Step> {
        match id.chain {
            Chain::PreStop => self.plan.pre_stop.get(id.index),
            Chain::PostStop => self.plan.post_stop.get(id.index),
        }
    }

    /// The steps of both chains.
    pub fn all_steps(&self) -> impl Iterator<Item = (StepId, &Step)> {
        let of =
            |chain, steps: &'_ [Step]| (0..steps.len()).map(move |index| StepId { chain, index, run: 0 });
        let pre_stop = of(Chain::PreStop, &self.plan.pre_stop).zip(&self.plan.pre_stop);
        pre_stop.chain(of(Chain::PostStop, &self.plan.post_stop).zip(&self.plan.post_stop))
    }

    /// The time from a stop request to SIGKILL, where there is a deadline.
    pub fn budget(&self) -> Option<Duration> {
        self.plan.budget()
    }

    /// What is left of the orchestrator's grace; `None` where it has no end, or no shutdown was asked for.
    pub fn time_left_to_leave(&self, now: Moment) -> Option<Duration> {
        self.stop?.deadline.later(self.plan.reserve).remaining(now)
    }

    /// Whether the drain and the pre-stop chain are over, so that only the stop itself is left.
    pub fn is_prepared(&self) -> bool {
        match self.state {
            State::Running | State::Draining { .. } | State::PreStop { .. } => false,
            State::Stopping { .. }
            | State::Leftovers { .. }
            | State::Killing { .. }
            | State::PostStop { .. }
            | State::Done => true,
        }
    }

    /// When SIGKILL comes, once a stop was requested.
    pub fn deadline(&self) -> Deadline {
        self.stop.map_or(Deadline::Never, |stop| stop.deadline)
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
        Err(CannotCancel::NothingAsked)
    }

    /// Remembers what runs at the moment of [`Action::ListRunning`].
    pub fn found_running(&mut self, processes: Vec<String>) {
        self.history.running = processes;
    }

    /// Remembers the processes that were still there when the command had gone.
    pub fn found_leftovers(&mut self, count: usize) {
        self.history.leftovers = self.history.leftovers.max(count);
    }

    /// Remembers a process that got SIGKILL.
    pub fn killed(&mut self, process: String) {
        self.history.killed.push(process);
    }

    /// When [`Event::Tick`] is due next.
    pub fn next_due(&self) -> Deadline {
        let deadline = self.deadline();
        let own = match self.state {
            State::Running | State::Done => Deadline::Never,
            State::Draining { until } => Deadline::At(until).min(deadline),
            State::PreStop { progress, .. } => {
                let step = match progress {
                    StepProgress::Runs { until } => until,
                    StepProgress::Ends { until } => Deadline::At(until),
                };
                step.min(self.stop.map_or(Deadline::Never, |stop| stop.chain_end))
            }
            State::Stopping { until, nudge, .. } => until.min(nudge).min(deadline),
            State::Leftovers { until, nudge } => until.min(nudge),
            State::Killing { again, leave_by } => Deadline::At(again).min(leave_by),
            State::PostStop { limit, .. } => limit,
        };
        self.ending_steps.iter().fold(own, |due, (_, kill)| due.min(Deadline::At(*kill)))
    }

    /// Takes one event at the time `now` and says what to do.
    pub fn on(&mut self, event: Event, now: Moment) -> Vec<Action> {
        match event {
            Event::Received(received) => self.received(received, now),
            Event::StopAsked(sender) | Event::PreStopAsked(sender) => self.stop_asked(sender, now),
            Event::CancelAsked(_) => {}
            Event::MainEnded(outcome) => self.main_ended(outcome, now),
            Event::StepEnded(id, end) => self.step_ended(id, end, now),
            Event::NoChildren { starts } => self.alone = starts == self.starts,
            Event::Counted { .. } => {}
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
        if self.plan.stop_on.contains(received.signal) && rewritten != Rewrite::Drop {
            return self.stop_signal(received, now);
        }
        match rewritten {
            Rewrite::To(signal) if signal != received.signal || !received.command_has_it => {
                self.actions.push(Action::Relay(signal, received));
            }
            Rewrite::To(_) | Rewrite::Drop => self.tell(Notice::NotRelayed(received)),
        }
        if self.suspends_itself && received.signal.suspends_a_job() {
            self.actions.push(Action::SuspendSelf);
        }
    }

    fn stop_signal(&mut self, received: Received, now: Moment) {
        let Some(stop) = &mut self.stop else {
            let trigger =
                Trigger { request: StopRequest::Signal(received.signal), sender: received.sender, at: now };
            return self.request_stop(trigger, received.command_has_it);
        };
        if received.signal == Signal::INT {
            let impatient = stop.last_interrupt.is_some_and(|last| now.since(last) >= IMPATIENCE);
            stop.last_interrupt = Some(now);
            if impatient {
                return self.move_on(now);
            }
        }
        self.tell(Notice::Repeated(received));
    }

    fn stop_asked(&mut self, sender: Sender, now: Moment) {
        if self.stop.is_none() {
            self.request_stop(Trigger { request: StopRequest::Command, sender, at: now }, false);
        }
    }

    fn request_stop(&mut self, trigger: Trigger, command_has_it: bool) {
        let now = trigger.at;
        let deadline = Deadline::after(now, self.plan.budget());
        // An eighth of the reserve stays for our own exit.
        let for_the_end =
            self.plan.reserve.saturating_sub(self.plan.reserve.checked_div(8).unwrap_or_default());
        let stop = Stop {
            request: trigger.request,
            command_has_it,
            deadline,
            chain_end: deadline.before(self.plan.stop_window),
            leave_by: deadline.later(for_the_end),
            last_interrupt: (trigger.request == StopRequest::Signal(Signal::INT)).then_some(now),
        };
        self.stop = Some(stop);
        self.history.trigger = Some(trigger);
        self.tell(Notice::StopRequested(trigger));
        match &mut self.state {
            State::Running if self.plan.drain > Duration::ZERO => {
                self.enter(State::Draining { until: now.after(self.plan.drain) }, now);
            }
            State::Running => self.begin_chain(now),
            // The command had ended by itself: what is left to do is only bounded anew, and never later.
            State::Leftovers { until, .. } => *until = until.min(stop.deadline),
            State::Killing { leave_by, .. } => *leave_by = leave_by.min(stop.leave_by),
            State::PostStop { limit, .. } => *limit = limit.min(stop.leave_by),
            State::Draining { .. } | State::PreStop { .. } | State::Stopping { .. } | State::Done => {}
        }
    }

    /// A person does not want to wait for the end of this phase.
    fn move_on(&mut self, now: Moment) {
        match self.state {
            State::Draining { .. } => self.begin_chain(now),
            State::PreStop { step, progress } => self.cut_chain(step, progress, now),
            State::Stopping { rung, .. } => self.next_rung(rung, now),
            State::Leftovers { .. } => self.begin_killing(now),
            State::PostStop { step, .. } => self.cut_post_stop(step, now),
            State::Running | State::Killing { .. } | State::Done => {}
        }
    }

    fn main_ended(&mut self, outcome: Outcome, now: Moment) {
        if self.main.is_some() {
            return;
        }
        self.main = Some(outcome);
        self.history.main = Some(MainEnd { outcome, at: now, phase: self.phase() });
        self.tell(Notice::MainEnded(outcome));
        match self.state {
            State::Running => match self.plan.leftovers {
                Leftovers::Wait(_) => self.begin_clearing(now),
                Leftovers::TermAndLeave => {
                    // dumb-init rewrites this one too (`forward_signal`).
                    if let Rewrite::To(signal) = self.rewrites.apply(Signal::TERM) {
                        self.actions.push(Action::LastToGroup(signal));
                    }
                    self.finish(now);
                }
                Leftovers::Leave => self.finish(now),
            },
            State::Draining { .. } => self.begin_chain(now),
            State::Stopping { .. } => self.begin_clearing(now),
            State::PreStop { .. }
            | State::Leftovers { .. }
            | State::Killing { .. }
            | State::PostStop { .. }
            | State::Done => {}
        }
    }

    fn step_ended(&mut self, id: StepId, end: StepEnd, now: Moment) {
        self.record_step(id, end.clone(), now);
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
            | State::Stopping { .. }
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
        let chain_end = self.stop.map_or(Deadline::Never, |stop| stop.chain_end);
        match &mut self.state {
            State::Running | State::Done => return false,
            State::Draining { until } => {
                if now < *until {
                    return false;
                }
                self.begin_chain(now);
            }
            State::PreStop { step, progress } => {
                let (step, progress) = (*step, *progress);
                match progress {
                    StepProgress::Runs { .. } | StepProgress::Ends { .. } if chain_end.reached(now) => {
                        self.cut_chain(step, progress, now);
                    }
                    StepProgress::Runs { until } if until.reached(now) => {
                        let until = self.end_step(StepId { chain: Chain::PreStop, index: step, run: 0 }, now);
                        self.state = State::PreStop { step, progress: StepProgress::Ends { until } };
                    }
                    StepProgress::Ends { until } if now >= until => self.after_step(step, true, now),
                    StepProgress::Runs { .. } | StepProgress::Ends { .. } => return false,
                }
            }
            State::Stopping { rung, until, nudge } => {
                let (rung, until) = (*rung, *until);
                if self.stop.is_some_and(|stop| stop.deadline.reached(now)) {
                    self.begin_killing(now);
                } else if until.reached(now) {
                    self.next_rung(rung, now);
                } else if nudge.reached(now) {
                    *nudge = Deadline::Never;
                    self.actions.push(Action::ContinueSuspended);
                } else {
                    return false;
                }
            }
            State::Leftovers { until, nudge } => {
                if until.reached(now) {
                    self.begin_killing(now);
                } else if nudge.reached(now) {
                    *nudge = Deadline::Never;
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
                self.cut_post_stop(step, now);
            }
        }
        true
    }

    fn begin_chain(&mut self, now: Moment) {
        self.start_pre_stop(0, now);
    }

    /// Starts the pre-stop step `index`, or stops the command when there is none.
    fn start_pre_stop(&mut self, index: usize, now: Moment) {
        let chain_end = self.stop.map_or(Deadline::Never, |stop| stop.chain_end);
        let mut index = index;
        loop {
            let id = StepId { chain: Chain::PreStop, index, run: 0 };
            let Some(step) = self.plan.pre_stop.get(index) else { return self.begin_stopping(now) };
            if chain_end.reached(now) {
                self.tell(Notice::ChainCut(id));
                self.skip_steps_from(id, now);
                return self.begin_stopping(now);
            }
            let until = Deadline::after(now, self.plan.step_timeout).min(chain_end);
            let action = match step.work {
                Work::Signal(signal) => Action::SignalStep(id, signal),
                Work::Builtin(_) | Work::Program(_) => Action::StartStep(id),
            };
            self.enter(State::PreStop { step: index, progress: StepProgress::Runs { until } }, now);
            self.history.step_started(id, now);
            if matches!(action, Action::StartStep(_)) {
                self.alone = false;
                self.starts = self.starts.saturating_add(1);
            }
            let failed = self.main.is_some() && matches!(action, Action::SignalStep(..));
            if !failed {
                return self.actions.push(action);
            }
            self.record_step(id, StepEnd::NotStarted("the command has gone".to_owned()), now);
            index = index.saturating_add(1);
            if failed && self.plan.after_failure == AfterFailure::Skip {
                self.skip_steps_from(StepId { chain: Chain::PreStop, index, run: 0 }, now);
                return self.begin_stopping(now);
            }
        }
    }

    fn after_step(&mut self, step: usize, failed: bool, now: Moment) {
        let next = step.saturating_add(1);
        if failed && self.plan.after_failure == AfterFailure::Skip && next < self.plan.pre_stop.len() {
            let id = StepId { chain: Chain::PreStop, index: next, run: 0 };
            self.tell(Notice::ChainCut(id));
            self.skip_steps_from(id, now);
            return self.begin_stopping(now);
        }
        self.start_pre_stop(next, now);
    }

    /// Tells a step to end and remembers when to kill what is left of it.
    fn end_step(&mut self, id: StepId, now: Moment) -> Moment {
        let kill = now.after(STEP_KILL_DELAY);
        self.actions.push(Action::TermStep(id));
        self.ending_steps.push((id, kill));
        self.record_step(id, StepEnd::Overdue, now);
        kill
    }

    /// Ends the chain where it is.
    fn cut_chain(&mut self, step: usize, progress: StepProgress, now: Moment) {
        match progress {
            StepProgress::Runs { .. } => {
                self.end_step(StepId { chain: Chain::PreStop, index: step, run: 0 }, now);
            }
            StepProgress::Ends { .. } => {}
        }
        let next = StepId { chain: Chain::PreStop, index: step.saturating_add(1), run: 0 };
        if next.index < self.plan.pre_stop.len() {
            self.tell(Notice::ChainCut(next));
            self.skip_steps_from(next, now);
        }
        self.begin_stopping(now);
    }

    fn begin_stopping(&mut self, now: Moment) {
        if self.main.is_some() { self.begin_clearing(now) } else { self.start_rung(0, now) }
    }

    /// Sends the signal of rung `rung`, which is there.
    fn start_rung(&mut self, rung: usize, now: Moment) {
        let Some(stop) = self.stop else { return };
        let last = rung.saturating_add(1) >= self.plan.ladder.len();
        let given = self.plan.ladder.get(rung).copied();
        let wait = given.and_then(|given| given.wait).filter(|_| !last);
        let until = Deadline::after(now, wait).min(stop.deadline);
        self.enter(State::Stopping { rung, until, nudge: Deadline::At(now.after(CONTINUE_DELAY)) }, now);
        let signal = match (given, self.rewrites.apply(stop.request.signal())) {
            (Some(given), _) => given.signal,
            (None, Rewrite::To(signal)) => signal,
            (None, Rewrite::Drop) => return,
        };
        self.group_has_term = signal == Signal::TERM && self.relays_to_group;
        self.history.stop_signals.push(signal);
        if !(stop.command_has_it && stop.request.signal() == signal) {
            self.actions.push(Action::Stop(signal));
        }
    }

    fn next_rung(&mut self, rung: usize, now: Moment) {
        let next = rung.saturating_add(1);
        if next < self.plan.ladder.len() { self.start_rung(next, now) } else { self.begin_killing(now) }
    }

    /// The command has gone: its other processes are next.
    fn begin_clearing(&mut self, now: Moment) {
        if self.alone {
            return self.begin_post_stop(now);
        }
        let until = match (self.stop, self.plan.leftovers) {
            (Some(stop), _) => stop.deadline,
            (None, Leftovers::Wait(wait)) => Deadline::after(now, wait),
            (None, Leftovers::TermAndLeave | Leftovers::Leave) => Deadline::At(now),
        };
        self.enter(State::Leftovers { until, nudge: Deadline::At(now.after(CONTINUE_DELAY)) }, now);
        self.actions.push(Action::TermLeftovers { group_has_it: self.group_has_term });
    }

    fn begin_killing(&mut self, now: Moment) {
        let leave_by = match self.stop.map(|stop| stop.leave_by) {
            Some(Deadline::At(leave_by)) => Deadline::At(leave_by),
            Some(Deadline::Never) | None => Deadline::At(now.after(self.plan.reserve)),
        };
        // A person may get here before the deadline; what is reserved counts from now.
        self.enter(State::Killing { again: now.after(KILL_RETRY_INTERVAL), leave_by }, now);
        self.actions.push(Action::KillAll);
    }

    fn begin_post_stop(&mut self, now: Moment) {
        let limit = match self.stop {
            Some(stop) => stop.leave_by,
            None => Deadline::after(now, self.plan.budget()),
        };
        self.start_post_stop(0, limit, now);
    }

    fn start_post_stop(&mut self, index: usize, limit: Deadline, now: Moment) {
        if index >= self.plan.post_stop.len() {
            return self.finish(now);
        }
        let id = StepId { chain: Chain::PostStop, index, run: 0 };
        self.enter(State::PostStop { step: index, limit }, now);
        if limit.reached(now) {
            self.tell(Notice::ChainCut(id));
            self.skip_steps_from(id, now);
            return self.finish(now);
        }
        self.history.step_started(id, now);
        self.alone = false;
        self.starts = self.starts.saturating_add(1);
        self.actions.push(Action::StartStep(id));
    }

    fn cut_post_stop(&mut self, step: usize, now: Moment) {
        let id = StepId { chain: Chain::PostStop, index: step, run: 0 };
        self.record_step(id, StepEnd::Overdue, now);
        self.skip_steps_from(StepId { index: step.saturating_add(1), ..id }, now);
        self.finish(now);
    }

    fn finish(&mut self, now: Moment) {
        if !self.alone && matches!(self.plan.leftovers, Leftovers::Wait(_)) {
            // What a post-stop step left behind, and what would not die: a subreaper's children would survive it.
            self.actions.push(Action::KillAll);
        }
        let status = self.main.map_or(ExitStatus::KILLED, Outcome::status);
        self.enter(State::Done, now);
        self.actions.push(Action::Leave(self.zero_codes.apply(status)));
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
