//! What a run has gone through: the raw material of the summary line and the report.

use std::fmt;
use std::time::Duration;

use super::event::{Chain, Phase, StepId};
use crate::outcome::Outcome;
use crate::signal::{Sender, Signal};
use crate::time::Moment;

/// Why the shutdown began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// How it was asked for.
    pub request: StopRequest,
    /// Who asked.
    pub sender: Sender,
    /// When it was read.
    pub at: Moment,
}

/// How a shutdown is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopRequest {
    /// By a signal of `--stop-on`.
    Signal(Signal),
    /// By `grace-init stop`.
    Command,
    /// By `grace-init pre-stop`: drain and chain only.
    PreStop,
    /// By nobody, long after a pre-stop request.
    Nobody,
}

impl StopRequest {
    /// The stop signal where no ladder is given, before it is rewritten.
    pub const fn signal(self) -> Signal {
        match self {
            Self::Signal(signal) => signal,
            Self::Command | Self::PreStop | Self::Nobody => Signal::TERM,
        }
    }
}

impl fmt::Display for StopRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => signal.fmt(f),
            Self::Command => f.write_str("grace-init stop"),
            Self::PreStop => f.write_str("grace-init pre-stop"),
            Self::Nobody => f.write_str("grace-init itself"),
        }
    }
}

/// One phase and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The phase.
    pub phase: Phase,
    /// When it began.
    pub began: Moment,
    /// When it ended; `None` while it lasts.
    pub ended: Option<Moment>,
}

impl Span {
    /// How long it took, or has taken until `now`.
    pub fn took(&self, now: Moment) -> Duration {
        self.ended.unwrap_or(now).since(self.began)
    }
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepEnd {
    /// Its process ended.
    Ended(Outcome),
    /// It could not be started, and why.
    NotStarted(String),
    /// Its time was up.
    Overdue,
    /// It was stopped before its time was up: by a second Ctrl-C, by the orchestrator's signal or with its request.
    Cut,
    /// It was left out.
    Skipped,
}

/// One step and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Which one.
    pub id: StepId,
    /// When it began.
    pub began: Moment,
    /// When it ended; `None` while it runs.
    pub ended: Option<Moment>,
    /// How; `None` while it runs.
    pub end: Option<StepEnd>,
    /// A process of it got SIGKILL.
    pub killed: bool,
}

impl StepRecord {
    /// Whether it ended otherwise than with status 0.
    pub fn went_wrong(&self) -> bool {
        match &self.end {
            Some(StepEnd::Ended(outcome)) => !outcome.succeeded(),
            Some(StepEnd::NotStarted(_) | StepEnd::Overdue | StepEnd::Cut | StepEnd::Skipped) => true,
            None => false,
        }
    }

    /// The word for how it stands, as programs read it.
    pub fn state(&self) -> &'static str {
        match &self.end {
            None => "running",
            Some(StepEnd::Ended(outcome)) if outcome.succeeded() => "succeeded",
            Some(StepEnd::Ended(_)) => "failed",
            Some(StepEnd::NotStarted(_)) => "not-started",
            Some(StepEnd::Overdue) => "overdue",
            Some(StepEnd::Cut) => "cut",
            Some(StepEnd::Skipped) => "skipped",
        }
    }

    /// How long it took, or has taken until `now`.
    pub fn took(&self, now: Moment) -> Duration {
        self.ended.unwrap_or(now).since(self.began)
    }
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MainEnd {
    /// How.
    pub outcome: Outcome,
    /// When.
    pub at: Moment,
    /// In which phase.
    pub phase: Phase,
}

/// A drain or chain that the orchestrator's signal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The signal.
    pub request: StopRequest,
    /// The phase that it ended.
    pub phase: Phase,
    /// How long after the pre-stop request it came.
    pub after: Duration,
}

/// Everything that a run has gone through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The phases, the current one last.
    pub spans: Vec<Span>,
    /// The first request, if there was one.
    pub trigger: Option<Trigger>,
    /// The stop request that followed, if the first was a pre-stop request.
    pub stop: Option<Trigger>,
    /// The steps, in the order in which they were started or skipped.
    pub steps: Vec<StepRecord>,
    /// The stop signals that the command got.
    pub stop_signals: Vec<Signal>,
    /// When it got the last of them.
    pub last_told: Option<Moment>,
    /// The orchestrator's signal came before its hook was over.
    pub cut: Option<Cut>,
    /// The command ended on this signal, which is not in `--stop-on`: drain and chain were skipped.
    pub skipped_by: Option<Signal>,
    /// The command still ran at the end of a guessed grace.
    pub guess_is_over: bool,
    /// How many processes survived SIGKILL.
    pub survivors: usize,
    /// The command's end.
    pub main: Option<MainEnd>,
    /// How many processes were there when the command had gone.
    pub leftovers: usize,
    /// The processes that got SIGKILL, by name and PID.
    pub killed: Killed,
    /// What still ran when a guessed grace was over, by name and PID.
    pub running: Vec<String>,
}

impl History {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            spans: vec![Span { phase: Phase::Running, began: now, ended: None }],
            trigger: None,
            stop: None,
            steps: Vec::new(),
            stop_signals: Vec::new(),
            last_told: None,
            cut: None,
            skipped_by: None,
            guess_is_over: false,
            survivors: 0,
            main: None,
            leftovers: 0,
            killed: Killed::default(),
            running: Vec::new(),
        }
    }

    pub(super) fn entered(&mut self, phase: Phase, now: Moment) {
        if let Some(current) = self.spans.last_mut() {
            current.ended = Some(now);
        }
        self.spans.push(Span { phase, began: now, ended: None });
    }

    pub(super) fn step_started(&mut self, id: StepId, now: Moment) {
        self.steps.push(StepRecord { id, began: now, ended: None, end: None, killed: false });
    }

    /// Records the end of a step; false if that is known already (an overdue step that ends at last).
    pub(super) fn step_ended(&mut self, id: StepId, end: StepEnd, now: Moment) -> bool {
        let Some(record) = self.steps.iter_mut().find(|record| record.id == id && record.end.is_none())
        else {
            return false;
        };
        record.ended = Some(now);
        record.end = Some(end);
        true
    }

    pub(super) fn step_skipped(&mut self, id: StepId, now: Moment) {
        self.steps.push(StepRecord {
            id,
            began: now,
            ended: Some(now),
            end: Some(StepEnd::Skipped),
            killed: false,
        });
    }

    /// Records that a process of this step got SIGKILL.
    pub(super) fn step_was_killed(&mut self, id: StepId) {
        if let Some(record) = self.steps.iter_mut().find(|record| record.id == id) {
            record.killed = true;
        }
    }

    pub(super) fn stop_signal_sent(&mut self, signal: Signal, now: Moment) {
        self.stop_signals.push(signal);
        self.last_told = Some(now);
    }

    /// Forgets a request that was taken back.
    pub(super) fn cancelled(&mut self, now: Moment) {
        *self = Self::new(now);
    }

    /// The steps of one chain.
    pub fn steps_of(&self, chain: Chain) -> impl Iterator<Item = &StepRecord> {
        self.steps.iter().filter(move |record| record.id.chain == chain)
    }
}

/// The processes that got SIGKILL: the first few by name, the rest counted, so that ten thousand cost no memory.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Killed {
    names: Vec<String>,
    count: usize,
    /// The command, which may have ended before it was killed.
    command: Option<String>,
}

impl Killed {
    const MAX_NAMES: usize = 6;

    pub(super) fn push(&mut self, process: String) {
        self.count = self.count.saturating_add(1);
        if self.names.len() < Self::MAX_NAMES {
            self.names.push(process);
        }
    }

    /// Adds the command, unless it ended otherwise.
    pub(super) fn command(&mut self, process: String, outcome: Option<Outcome>) {
        self.command = Some(process);
        outcome.into_iter().for_each(|outcome| self.command_ended(outcome));
    }

    /// A command that ended otherwise was not killed by us.
    pub(super) fn command_ended(&mut self, outcome: Outcome) {
        if outcome != Outcome::Killed(Signal::KILL) {
            self.command = None;
        }
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.count.saturating_add(usize::from(self.command.is_some()))
    }

    /// Whether the command is one of them.
    pub fn has_command(&self) -> bool {
        self.command.is_some()
    }

    /// The first few, the command before the others.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.command.iter().chain(&self.names).map(String::as_str).take(Self::MAX_NAMES)
    }
}

impl fmt::Display for Killed {
    /// `java(7), sleep(9) and 12 more`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(", "))?;
        match self.count().saturating_sub(self.names().count()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
