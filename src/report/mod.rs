//! What is said of a shutdown: before it as the timeline of its settings, after it as one line and as a report.

mod picture;

use std::fmt::Write;
use std::time::Duration;

use crate::outcome::{ExitStatus, Outcome};
use crate::plan::{Rung, ShutdownPlan, Step};
pub use crate::shutdown::ReportLine;
use crate::shutdown::{Chain, History, Phase, Shutdown, StepEnd, StepRecord};
use crate::signal::Signal;
use crate::time::{Measured, Moment, Written};
use picture::{Segment, draw};

/// What the kubelet keeps of a container's termination message, when the pod has a dozen containers, is little more.
pub const LONGEST_REPORT: usize = 1024;

/// Draws the timeline that these settings give.
pub fn explain(plan: &ShutdownPlan) -> String {
    let mut text = String::new();
    match (plan.grace, plan.budget()) {
        (Some(grace), Some(budget)) => {
            line(
                &mut text,
                format_args!(
                    "grace {} = budget {} + reserve {}",
                    Written(grace),
                    Written(budget),
                    Written(plan.reserve)
                ),
            );
            text.push_str(&draw(&planned(plan, grace, budget)));
            if plan.grace_source.is_guess() {
                line(
                    &mut text,
                    format_args!("the grace is {}; set --grace to the real one", plan.grace_source),
                );
            }
        }
        _ => {
            line(&mut text, format_args!("no deadline: nothing is killed on a stop request"));
            let stages: Vec<String> = [
                (plan.drain > Duration::ZERO).then(|| format!("drain {}", Written(plan.drain))),
                (!plan.pre_stop.is_empty()).then(|| "pre-stop".to_owned()),
                Some("stop".to_owned()),
            ]
            .into_iter()
            .flatten()
            .collect();
            line(&mut text, format_args!("{}", stages.join(" > ")));
        }
    }
    let mark = |step: &Step| if step.missing_program { " (not found)" } else { "" };
    for (number, step) in (1_u32..).zip(&plan.pre_stop) {
        line(&mut text, format_args!("pre-stop {number}: {}{}", step.text, mark(step)));
    }
    if !plan.ladder.is_empty() {
        line(&mut text, format_args!("stop: {}", ladder(&plan.ladder, plan.grace)));
    }
    for (number, step) in (1_u32..).zip(&plan.post_stop) {
        line(&mut text, format_args!("post-stop {number}: {}{}", step.text, mark(step)));
    }
    if let Some(cut) = &plan.cut_to_fit {
        line(&mut text, format_args!("{cut}"));
    }
    text
}

fn ladder(rungs: &[Rung], grace: Option<Duration>) -> String {
    let last = rungs.len().saturating_sub(1);
    let end = if grace.is_some() { "until the deadline" } else { "until it ends" };
    let rung = |(place, rung): (usize, &Rung)| match rung.wait {
        Some(wait) if place < last => format!("{} for {}", rung.signal, Written(wait)),
        Some(_) | None => format!("{} {end}", rung.signal),
    };
    rungs.iter().enumerate().map(rung).collect::<Vec<_>>().join(", then ")
}

fn planned(plan: &ShutdownPlan, grace: Duration, budget: Duration) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut begins = Duration::ZERO;
    let mut add = |label: String, ends: Duration| {
        segments.push(Segment { label, begins, ends });
        begins = ends;
    };
    if plan.drain > Duration::ZERO {
        add("drain".to_owned(), plan.drain);
    }
    if plan.pre_stop.is_empty() {
        add("stop".to_owned(), budget);
    } else {
        let chain_end = budget.saturating_sub(plan.stop_window).max(plan.drain);
        add(format!("pre-stop ≤ {}", Measured(chain_end.saturating_sub(plan.drain))), chain_end);
        add(format!("stop ≥ {}", Measured(budget.saturating_sub(chain_end))), budget);
    }
    // An assumed grace does not kill the command at its end.
    let end = if plan.grace_source.is_guess() { "reserve" } else { "KILL" };
    add(end.to_owned(), grace);
    segments
}

/// The warning of [`crate::shutdown::Notice::GuessOver`].
pub fn guess_is_over(machine: &Shutdown) -> String {
    format!("the assumed grace is over and {} still run", machine.history().running.join(", "))
}

/// The warning of [`crate::shutdown::Notice::ShutdownSkipped`].
pub fn shutdown_was_skipped(_machine: &Shutdown, signal: Signal) -> String {
    format!("{signal} is not in --stop-on: drain and pre-stop were skipped")
}

/// A finished run, to be told about.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    machine: &'a Shutdown,
    history: &'a History,
    now: Moment,
    status: ExitStatus,
}

impl<'a> Summary<'a> {
    /// The run of this machine, which is leaving with `status`.
    pub fn of(machine: &'a Shutdown, now: Moment, status: ExitStatus) -> Self {
        Self { machine, history: machine.history(), now, status }
    }

    /// Whether there was a shutdown to tell of: a stop request, or leftovers of a command that ended by itself.
    pub fn is_worth_a_line(&self) -> bool {
        self.history.trigger.is_some() || self.history.leftovers > 0
    }

    /// How long the shutdown took.
    pub fn elapsed(&self) -> Duration {
        self.now.since(self.began())
    }

    fn began(&self) -> Moment {
        let ended = self.history.main.map(|main| main.at);
        self.history.trigger.map(|trigger| trigger.at).or(ended).unwrap_or(self.now)
    }

    /// The summary line.
    pub fn summary(&self) -> String {
        let begin = match self.history.trigger {
            Some(trigger) => format!("stopped by {} from {} in", trigger.request, trigger.sender),
            None => "the command ended by itself in".to_owned(),
        };
        self.in_one_line(&begin, Some(self.command_ended()))
    }

    /// The summary line of a hook, which knows nothing of how the command ended.
    pub fn hook_summary(&self) -> String {
        self.in_one_line("the hook took", None)
    }

    /// How long it took, the phases with their times, the outcome, and what went wrong.
    fn in_one_line(&self, begin: &str, outcome: Option<String>) -> String {
        let mut text = format!("{begin} {}", Measured(self.elapsed()));
        for (place, phase) in self.phases().into_iter().enumerate() {
            let separator = if place == 0 { ":" } else { "," };
            let took = self.history.time_in(phase, self.now).unwrap_or_default();
            let _ = write!(text, "{separator} {} {}", phase.name(), Measured(took));
        }
        for fact in outcome.into_iter().chain(self.facts()) {
            let _ = write!(text, "; {fact}");
        }
        text
    }

    fn phases(&self) -> Vec<Phase> {
        let of_the_shutdown = |phase: &Phase| ![Phase::Running, Phase::Done].contains(phase);
        let mut phases: Vec<Phase> = Vec::new();
        for span in &self.history.spans {
            if of_the_shutdown(&span.phase) && !phases.contains(&span.phase) {
                phases.push(span.phase);
            }
        }
        phases
    }

    fn command_ended(&self) -> String {
        match self.history.main {
            Some(main) => format!("the command {}", main.outcome),
            None => "the command could not be ended".to_owned(),
        }
    }

    /// What went wrong, the worst first.
    fn facts(&self) -> Vec<String> {
        let history = self.history;
        let mut facts = Vec::new();
        if history.killed.count() > 0 {
            facts.push(format!("killed {}", history.killed));
        }
        facts.extend(
            history.steps.iter().filter(|record| record.went_wrong()).map(|record| self.step_went(record)),
        );
        if history.leftovers > 0 {
            let noun = if history.leftovers == 1 { "process was" } else { "processes were" };
            facts.push(format!("{} {noun} left by the command", history.leftovers));
        }
        facts
    }

    /// `pre-stop step 2 "redis-cli save" exited with 1 after 12ms`
    fn step_went(&self, record: &StepRecord) -> String {
        let chain = match record.id.chain {
            Chain::PreStop => "pre-stop",
            Chain::PostStop => "post-stop",
        };
        let text = self.machine.step(record.id).map(|step: &Step| step.text.as_str()).unwrap_or_default();
        let number = record.id.index.saturating_add(1);
        let took = Measured(record.took(self.now));
        let went = match &record.end {
            Some(StepEnd::Ended(outcome)) => format!("{outcome} after {took}"),
            Some(StepEnd::NotStarted(reason)) => format!("could not start: {reason}"),
            Some(StepEnd::Overdue) => format!("was stopped after {took}: its time was up"),
            Some(StepEnd::Cut) => format!("was cut short after {took}"),
            Some(StepEnd::Skipped) => "was left out".to_owned(),
            None => format!("still ran after {took}"),
        };
        format!("{chain} step {number} {text:?} {went}")
    }

    /// The command failed in its shutdown: it neither exited with what counts as 0 nor by a signal it was sent.
    fn command_failed(&self) -> bool {
        let Some(main) = self.history.main else { return true };
        let by_our_signal =
            matches!(main.outcome, Outcome::Killed(signal) if self.history.stop_signals.contains(&signal));
        self.history.trigger.is_some() && self.status != ExitStatus::SUCCESS && !by_our_signal
    }

    /// The report, if there is something to report: UTF-8, at most [`LONGEST_REPORT`] bytes, the key fact first.
    pub fn report(&self) -> Option<String> {
        let mut facts = self.facts();
        if self.command_failed() {
            facts.push(self.command_ended());
        }
        let (key_fact, others) = facts.split_first()?;
        let mut text = String::new();
        line(&mut text, format_args!("{key_fact}"));
        if self.is_worth_a_line() {
            let by = self.history.trigger.map_or_else(
                || "the command ended by itself".to_owned(),
                |trigger| format!("stopped by {} from {}", trigger.request, trigger.sender),
            );
            line(&mut text, format_args!("{by}; {}; exit status {}", self.command_ended(), self.status));
        }
        text.push_str(&draw(&self.happened()));
        for fact in others {
            line(&mut text, format_args!("{fact}"));
        }
        Some(cut(text))
    }

    fn happened(&self) -> Vec<Segment> {
        let began = self.began();
        self.history
            .spans
            .iter()
            .filter(|span| ![Phase::Running, Phase::Done].contains(&span.phase))
            .map(|span| Segment {
                label: format!("{} {}", span.phase.name(), Measured(span.took(self.now))),
                begins: span.began.since(began),
                ends: span.ended.unwrap_or(self.now).since(began),
            })
            .collect()
    }
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{what}");
}

/// Cuts a report to its size, between characters.
fn cut(mut text: String) -> String {
    if text.len() > LONGEST_REPORT {
        const MARK: &str = "…\n";
        let mut end = LONGEST_REPORT.saturating_sub(MARK.len());
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}

#[cfg(test)]
mod tests;
