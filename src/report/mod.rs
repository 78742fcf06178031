//! What is said of a shutdown: before it as the timeline of its settings, after it as one line and as a report.

mod picture;

use std::fmt::Write;
use std::time::Duration;

use crate::json;
use crate::outcome::ExitStatus;
use crate::plan::{Rung, ShutdownPlan, Step};
pub use crate::shutdown::ReportLine;
use crate::shutdown::{Chain, Cut, History, Phase, Shutdown, StepEnd, StepRecord};
use crate::signal::Signal;
use crate::time::{Measured, Moment, Written};
use picture::{Segment, draw};

/// What the kubelet keeps of a container's termination message, when the pod has a dozen containers, is little more.
pub const MAX_REPORT: usize = 1024;
/// A step's text in a sentence, in characters: the rest of the report needs room too.
const MAX_STEP_TEXT: usize = 120;
/// The record stays one write to a pipe (pipe(7), PIPE_BUF).
const MAX_JSON_STEPS: usize = 12;
const MAX_JSON_TEXT: usize = 60;

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

/// The command still ran when a guessed grace was over: the text of [`crate::shutdown::Notice::GuessOver`].
pub fn guess_is_over(machine: &Shutdown) -> String {
    let plan = machine.plan();
    let running = names(&machine.history().running);
    format!(
        "{running} still running at the end of the grace, which is {}; set --grace to the real one",
        grace_with_source(plan)
    )
}

/// The text of [`crate::shutdown::Notice::ShutdownSkipped`].
pub fn shutdown_was_skipped(machine: &Shutdown, signal: Signal) -> String {
    let short = |signal: Signal| signal.to_string().trim_start_matches("SIG").to_owned();
    let stop_on = machine.plan().stop_on;
    let others = Signal::all().filter(|other| stop_on.contains(*other)).map(short);
    let all: Vec<String> = std::iter::once(short(signal)).chain(others).collect();
    format!(
        "{signal} is not in --stop-on: drain and pre-stop were skipped; set --stop-on {} or the image's STOPSIGNAL to SIGTERM",
        all.join(",")
    )
}

/// A line of [`crate::shutdown::Action::AppendToReport`], with its line feed. `clock` is the time of day, such as
/// `12:00:01`.
pub fn line_on_the_way(machine: &Shutdown, which: ReportLine, now: Moment, clock: &str) -> String {
    let history = machine.history();
    let plan = machine.plan();
    let mut text = String::new();
    match which {
        ReportLine::Stopping => {
            let by = history.trigger.map_or_else(String::new, |trigger| format!(" by {}", trigger.request));
            let grace = match plan.grace {
                Some(_) => format!("grace {}", grace_with_source_if_guessed(plan)),
                None => "no deadline".to_owned(),
            };
            line(&mut text, format_args!("stopping since {clock}{by}, {grace}; {LAST_LINE}"));
        }
        ReportLine::Cut => {
            let cut = history.cut.map_or_else(String::new, |cut| cut_fact(&cut, plan));
            line(&mut text, format_args!("{clock}: {cut}; {LAST_LINE}"));
        }
        ReportLine::GuessOver => {
            let after = history.trigger.map(|trigger| now.since(trigger.at)).unwrap_or_default();
            line(&mut text, format_args!("{clock}: after {} {}", Measured(after), guess_is_over(machine)));
        }
        ReportLine::Cancelled => {
            line(&mut text, format_args!("{clock}: the pre-stop request was cancelled; the command goes on"));
        }
    }
    text
}

/// What the reader of a line has to know that nothing replaced.
const LAST_LINE: &str = "if this is the last line, it was killed before its deadline";

/// `SIGTERM came after 3s of the 10s grace, when the drain still ran: ...`
fn cut_fact(cut: &Cut, plan: &ShutdownPlan) -> String {
    let of = plan
        .grace
        .map_or_else(String::new, |_| format!(" of the {} grace", grace_with_source_if_guessed(plan)));
    format!(
        "{} came after {}{of}, when {} still ran: the real grace is shorter, or the hook was cut off",
        cut.request,
        Measured(cut.after),
        if cut.phase == Phase::Draining { "the drain" } else { "pre-stop" },
    )
}

fn grace_with_source(plan: &ShutdownPlan) -> String {
    let grace = plan.grace.map_or_else(|| "none".to_owned(), |grace| Written(grace).to_string());
    format!("{grace} ({})", plan.grace_source)
}

fn grace_with_source_if_guessed(plan: &ShutdownPlan) -> String {
    match plan.grace {
        Some(grace) if !plan.grace_source.is_guess() => Written(grace).to_string(),
        Some(_) | None => grace_with_source(plan),
    }
}

/// How many processes are named where there may be many.
const MAX_NAMES: usize = 6;

/// `java(7), sleep(9) and 3 more`
fn names(all: &[String]) -> String {
    if all.is_empty() {
        return "the command".to_owned();
    }
    let mut text = all.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if all.len() > MAX_NAMES {
        let _ = write!(text, " and {} more", all.len().saturating_sub(MAX_NAMES));
    }
    text
}

/// A run at its end, to be told about.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    machine: &'a Shutdown,
    history: &'a History,
    now: Moment,
    status: ExitStatus,
}

/// A phase of what is told, and its part of the time that is told about.
#[derive(Clone, Copy, Debug)]
struct Stage {
    phase: Phase,
    begins: Duration,
    ends: Duration,
}

impl Stage {
    fn took(&self) -> Duration {
        self.ends.saturating_sub(self.begins)
    }
}

/// Leftovers that end sooner are the ordinary end of a command's other processes.
const NOTABLE_LEFTOVERS: Duration = Duration::from_secs(1);

impl<'a> Summary<'a> {
    /// The run of this machine, which is leaving with `status`.
    pub fn of(machine: &'a Shutdown, now: Moment, status: ExitStatus) -> Self {
        Self { machine, history: machine.history(), now, status }
    }

    /// Whether there is something to tell: a request, something that went wrong, or leftovers that took their time.
    pub fn is_worth_a_line(&self) -> bool {
        let slow_leftovers = self.stages().iter().any(|stage| stage.phase == Phase::Leftovers);
        self.history.trigger.is_some() || self.went_wrong() || slow_leftovers
    }

    /// Whether something went wrong that the exit status does not say: then the summary is a warning, and there is a
    /// report.
    pub fn went_wrong(&self) -> bool {
        let history = self.history;
        history.killed.count() > 0
            || history.survivors > 0
            || history.cut.is_some()
            || history.skipped_by.is_some()
            || history.guess_is_over
            || history.steps.iter().any(StepRecord::went_wrong)
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
        let took = Measured(self.elapsed());
        let grace = self.machine.plan();
        let begin = match self.history.trigger {
            Some(trigger) if grace.grace.is_some() => {
                let grace = grace_with_source_if_guessed(grace);
                format!("stopped by {} from {} in {took} of {grace}", trigger.request, trigger.sender)
            }
            Some(trigger) => format!("stopped by {} from {} in {took}", trigger.request, trigger.sender),
            None => "the command ended by itself".to_owned(),
        };
        self.in_one_line(&begin, Some(self.command_ended()))
    }

    /// The summary line of a hook, which knows nothing of how the command ended.
    pub fn hook_summary(&self) -> String {
        self.in_one_line(&format!("the hook took {}", Measured(self.elapsed())), None)
    }

    /// The phases with their times, the outcome, and what went wrong.
    fn in_one_line(&self, begin: &str, outcome: Option<String>) -> String {
        let mut text = begin.to_owned();
        for (place, stage) in self.stages().iter().enumerate() {
            let separator = if place == 0 { ":" } else { "," };
            let _ = write!(text, "{separator} {} {}", stage.phase.name(), Measured(stage.took()));
        }
        for fact in outcome.into_iter().chain(self.facts()) {
            let _ = write!(text, "; {fact}");
        }
        escaped(&text)
    }

    /// What is told as JSON besides: members of an object, without its braces.
    pub fn json_members(&self) -> String {
        let phases = self.stages().into_iter().map(|stage| {
            format!("{{\"phase\":\"{}\",\"ms\":{}}}", stage.phase.name(), stage.took().as_millis())
        });
        let steps = self.history.steps.iter().take(MAX_JSON_STEPS).map(|record| {
            let text: String = self.step_text(record).chars().take(MAX_JSON_TEXT).collect();
            format!(
                "{{\"chain\":\"{}\",\"step\":{},\"text\":{},\"state\":\"{}\",\"ms\":{}}}",
                record.id.phase().name(),
                record.id.number(),
                json::string(&text),
                record.state(),
                record.took(self.now).as_millis()
            )
        });
        let killed = self.history.killed.names().map(json::string);
        let plan = self.machine.plan();
        let grace = plan.grace.map_or_else(|| "null".to_owned(), |grace| grace.as_millis().to_string());
        format!(
            "\"phases\":[{}],\"steps\":[{}],\"killed\":[{}],\"killed_count\":{},\"leftovers\":{},\"grace_ms\":{grace},\"grace_from\":{}",
            phases.collect::<Vec<_>>().join(","),
            steps.collect::<Vec<_>>().join(","),
            killed.collect::<Vec<_>>().join(","),
            self.history.killed.count(),
            self.history.leftovers,
            json::string(&plan.grace_source.to_string())
        )
    }

    /// The phases since the request, or since the command's own end.
    fn stages(&self) -> Vec<Stage> {
        let began = self.began();
        let spans =
            self.history.spans.iter().filter(|span| ![Phase::Running, Phase::Done].contains(&span.phase));
        let stages = spans.map(|span| Stage {
            phase: span.phase,
            begins: span.began.since(began),
            ends: span.ended.unwrap_or(self.now).since(began),
        });
        let notable = |stage: &Stage| stage.phase != Phase::Leftovers || stage.took() >= NOTABLE_LEFTOVERS;
        stages.filter(notable).collect()
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
        let mut facts: Vec<String> = self.killed().into_iter().collect();
        if history.survivors > 0 {
            facts.push(format!("{} processes survived SIGKILL", history.survivors));
        }
        facts.extend(history.cut.map(|cut| cut_fact(&cut, self.machine.plan())));
        facts.extend(history.skipped_by.map(|signal| shutdown_was_skipped(self.machine, signal)));
        if history.guess_is_over {
            facts.push(guess_is_over(self.machine));
        }
        facts.extend(self.steps_that_went_wrong());
        facts
    }

    /// `KILLED by grace-init at 8s of 10s: java(7) still ran 2.7s after SIGTERM`
    fn killed(&self) -> Option<String> {
        let killed = &self.history.killed;
        if killed.count() == 0 {
            return None;
        }
        let span = |phase: Phase| self.history.spans.iter().find(|span| span.phase == phase);
        let Some(at) = span(Phase::Killing).map(|span| span.began) else {
            // What a step left behind, or would not end by.
            return Some(format!("KILLED by grace-init with its step: {killed}"));
        };
        let when = match (self.history.trigger, self.machine.plan().grace) {
            (Some(trigger), Some(_)) => {
                let grace = grace_with_source_if_guessed(self.machine.plan());
                format!("at {} of {grace}", Measured(at.since(trigger.at)))
            }
            (Some(trigger), None) => format!("at {}", Measured(at.since(trigger.at))),
            (None, _) => format!("{} after the command ended by itself", Measured(at.since(self.began()))),
        };
        // Leftovers were told when the command had gone.
        let leftovers = span(Phase::Leftovers).map(|span| (span.began, Signal::TERM));
        let told = self.history.last_told.zip(self.history.stop_signals.last().copied());
        let still = leftovers.or(told).map_or_else(String::new, |(told, signal)| {
            format!(" still ran {} after {signal}", Measured(at.since(told)))
        });
        Some(format!("KILLED by grace-init {when}: {killed}{still}"))
    }

    fn steps_that_went_wrong(&self) -> Vec<String> {
        let mut facts: Vec<String> = Vec::new();
        for record in self.history.steps.iter().filter(|record| record.went_wrong()) {
            match (facts.last_mut(), &record.end) {
                // Why it did not run stands before it.
                (Some(before), Some(StepEnd::Skipped)) if record.id.index > 0 => {
                    let _ = write!(before, "; step {} did not run", record.id.number());
                }
                (
                    _,
                    Some(
                        StepEnd::Ended(_)
                        | StepEnd::NotStarted(_)
                        | StepEnd::Overdue
                        | StepEnd::Cut
                        | StepEnd::Skipped,
                    )
                    | None,
                ) => facts.push(self.step_went(record)),
            }
        }
        facts
    }

    fn step_text(&self, record: &StepRecord) -> &'a str {
        self.machine.step(record.id).map(|step: &Step| step.text.as_str()).unwrap_or_default()
    }

    /// `pre-stop step 2 "redis-cli save" exited with 1 after 12ms`
    fn step_went(&self, record: &StepRecord) -> String {
        let chain = record.id.phase().name();
        let took = Measured(record.took(self.now));
        let went = match &record.end {
            Some(StepEnd::Ended(outcome)) => format!("{outcome} after {took}"),
            Some(StepEnd::NotStarted(reason)) => format!("could not start: {reason}"),
            Some(StepEnd::Overdue) => format!("hung and used {took}"),
            Some(StepEnd::Cut) => format!("was cut short after {took}"),
            Some(StepEnd::Skipped) => "did not run".to_owned(),
            None => format!("still ran after {took}"),
        };
        let text: String = self.step_text(record).chars().take(MAX_STEP_TEXT).collect();
        let killed = if record.killed { " and was killed" } else { "" };
        format!("{chain} step {} \"{text}\" {went}{killed}", record.id.number())
    }

    /// What may help, in the user's own settings.
    fn advice(&self) -> Option<String> {
        let history = self.history;
        let hung: Vec<&StepRecord> =
            history.steps_of(Chain::PreStop).filter(|record| record.end == Some(StepEnd::Overdue)).collect();
        if let Some(worst) = hung.iter().map(|record| record.took(self.now)).max() {
            let half = Duration::from_secs(worst.as_secs().checked_div(2).unwrap_or(0).max(1));
            return Some(format!("--pre-stop-timeout {}, or a longer grace", Written(half)));
        }
        if history.cut.is_some() {
            return Some("a --grace that is the pod's real one, or a shorter drain and chain".to_owned());
        }
        if history.killed.has_command() {
            return Some(
                "a longer grace (the orchestrator's and --grace), or --stop-signal if it wants another signal"
                    .to_owned(),
            );
        }
        if history.killed.count() > 0 && history.trigger.is_none() {
            return Some("--leftover-grace, or let the command wait for its processes".to_owned());
        }
        if history.killed.count() > 0 {
            return Some("a longer grace, or let the command wait for its processes".to_owned());
        }
        None
    }

    /// The report, if something went wrong: UTF-8, at most [`MAX_REPORT`] bytes, the key fact first.
    pub fn report(&self) -> Option<String> {
        let facts = self.facts();
        if facts.is_empty() {
            return None;
        }
        let mut text = String::new();
        for fact in facts {
            line(&mut text, format_args!("{fact}"));
        }
        if let Some(advice) = self.advice() {
            line(&mut text, format_args!("try {advice}"));
        }
        let by = self.history.trigger.map_or_else(
            || "the command ended by itself".to_owned(),
            |trigger| format!("stopped by {} from {}", trigger.request, trigger.sender),
        );
        line(&mut text, format_args!("{by}; {}; exit status {}", self.command_ended(), self.status));
        let segments: Vec<Segment> = self
            .stages()
            .iter()
            .map(|stage| Segment {
                label: format!("{} {}", stage.phase.name(), Measured(stage.took())),
                begins: stage.begins,
                ends: stage.ends,
            })
            .collect();
        text.push_str(&draw(&segments));
        Some(cut_to_size(text))
    }
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.push_str(&escaped(&what.to_string()));
    text.push('\n');
}

/// Text with its control characters made visible: names and steps may hold what a terminal acts upon.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { safe.extend(c.escape_debug()) } else { safe.push(c) }
    }
    safe
}

/// Cuts a report to its size, between characters.
fn cut_to_size(mut text: String) -> String {
    if text.len() > MAX_REPORT {
        const MARK: &str = "…\n";
        let mut end = MAX_REPORT.saturating_sub(MARK.len());
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
