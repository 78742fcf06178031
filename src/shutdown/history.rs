//! What a run has gone through: the raw material of the summary line and the report.

use std::fmt;
use std::time::Duration;

use super::{Chain, Phase, StepId};
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
}

impl StopRequest {
    /// The stop signal where no ladder is given, before it is rewritten.
    pub const fn signal(self) -> Signal {
        match self {
            Self::Signal(signal) => signal,
            Self::Command => Signal::TERM,
        }
    }
}

impl fmt::Display for StopRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => signal.fmt(f),
            Self::Command => f.write_str("grace-init stop"),
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
}

impl StepRecord {
    /// Whether it ended otherwise than with status 0.
    pub fn went_wrong(&self) -> bool {
        match &self.end {
            Some(StepEnd::Ended(outcome)) => !outcome.succeeded(),
            Some(StepEnd::NotStarted(_) | StepEnd::Overdue | StepEnd::Skipped) => true,
            None => false,
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

/// Everything that a run has gone through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The phases, the current one last.
    pub spans: Vec<Span>,
    /// The stop request, if there was one.
    pub trigger: Option<Trigger>,
    /// The steps, in the order in which they were started or skipped.
    pub steps: Vec<StepRecord>,
    /// The stop signals that the command got.
    pub stop_signals: Vec<Signal>,
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
            steps: Vec::new(),
            stop_signals: Vec::new(),
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
        self.steps.push(StepRecord { id, began: now, ended: None, end: None });
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
        self.steps.push(StepRecord { id, began: now, ended: Some(now), end: Some(StepEnd::Skipped) });
    }

    /// The steps of one chain.
    pub fn steps_of(&self, chain: Chain) -> impl Iterator<Item = &StepRecord> {
        self.steps.iter().filter(move |record| record.id.chain == chain)
    }

    /// The time spent in a phase until `now`.
    pub fn time_in(&self, phase: Phase, now: Moment) -> Option<Duration> {
        let mut spans = self.spans.iter().filter(|span| span.phase == phase).peekable();
        spans.peek()?;
        Some(spans.fold(Duration::ZERO, |total, span| total.saturating_add(span.took(now))))
    }
}

/// The processes that got SIGKILL: the first few by name, the rest counted, so that ten thousand cost no memory.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Killed {
    names: Vec<String>,
    count: usize,
}

impl Killed {
    const NAMED: usize = 6;

    pub(super) fn push(&mut self, process: String) {
        self.count = self.count.saturating_add(1);
        if self.names.len() < Self::NAMED {
            self.names.push(process);
        }
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl fmt::Display for Killed {
    /// `2 processes: java(7), sleep(9)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.count == 1 { "process" } else { "processes" };
        write!(f, "{} {noun}: {}", self.count, self.names.join(", "))?;
        if self.count > self.names.len() { f.write_str(", …") } else { Ok(()) }
    }
}
