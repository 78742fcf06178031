//! For people: findings as rustc draws them, timelines as a table with bars.

use std::fmt::Write;
use std::time::Duration;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level as Drawn, Renderer, Snippet};

use crate::kubectl::explain::{Entry, Timeline};
use crate::kubectl::input::Source;
use crate::kubectl::kubelet::What;
use crate::kubectl::rules::{Finding, Level};
use crate::time::Measured;

/// How wide and how colourful the output may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether to use colours.
    pub colors: bool,
    /// The width of the terminal, or what is taken for it.
    pub width: usize,
}

/// One finding, with the lines of the manifest.
pub fn finding(finding: &Finding, source: &Source, style: Style) -> String {
    let level = match finding.level {
        Level::Error => Drawn::ERROR,
        Level::Warning => Drawn::WARNING,
        Level::Note => Drawn::NOTE,
    };
    let mut span = finding.span.clone();
    // Only the first line of a long block is marked.
    if let Some(length) = source.text.get(span.clone()).and_then(|text| text.find('\n')) {
        span.end = span.start + length;
    }
    let snippet = Snippet::source(source.text.as_str())
        .path(source.name.as_str())
        .annotation(AnnotationKind::Primary.span(span).label(finding.label.as_str()));
    let about = match &finding.container {
        Some(container) => format!("{}, container {container}", finding.object),
        None => finding.object.clone(),
    };
    let mut group = level.primary_title(finding.title.as_str()).id(finding.rule.code).element(snippet);
    group = group.element(Drawn::NOTE.with_name("in").message(about));
    if !finding.effect.is_empty() {
        group = group.element(Drawn::NOTE.with_name("effect").message(finding.effect.as_str()));
    }
    if !finding.remedy.is_empty() {
        group = group.element(Drawn::HELP.message(finding.remedy.as_str()));
    }
    let renderer = if style.colors { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(style.width);
    format!("{}\n", renderer.render(&[group]))
}

/// `12 pods, 3 errors, 5 warnings`
pub fn summary(pods: usize, passed_over: usize, findings: &[Finding]) -> String {
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    let mut text = plural(pods, "pod");
    for level in [Level::Error, Level::Warning, Level::Note] {
        match count(level) {
            0 => {}
            number => text += &format!(", {}", plural(number, level.name())),
        }
    }
    if findings.is_empty() {
        text += ", nothing found";
    }
    if passed_over > 0 {
        text += &format!(" ({} without a pod passed over)", plural(passed_over, "object"));
    }
    text
}

fn plural(number: usize, name: &str) -> String {
    format!("{number} {name}{}", if number == 1 { "" } else { "s" })
}

/// The timeline of a pod's stop.
pub fn timeline(timeline: &Timeline, style: Style) -> String {
    let mut text = String::new();
    let bold = |text: &str| if style.colors { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
    let title = format!("{}: grace {}", timeline.object, Measured(timeline.grace));
    let _ = writeln!(text, "{}", bold(&title));
    let names = timeline.entries.iter().map(|entry| entry.container.chars().count()).max().unwrap_or(0);
    let fixed = 14 + names + 2 + 28;
    let bar = style.width.saturating_sub(fixed).clamp(0, 50);
    for entry in &timeline.entries {
        let when = when(entry);
        let what = what(entry.what);
        let mut line = format!("  {when:>10}  {:<names$}  {what:<26}", entry.container);
        if bar >= 10 {
            line += &picture(entry, timeline.last_kill, bar, style.colors);
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for (container, phases) in &timeline.inits {
        let _ = writeln!(text, "  grace-init in {container}:");
        for (at, what) in phases {
            let _ = writeln!(text, "  {:>10}  {what}", format!("+{}", Measured(*at)));
        }
    }
    text
}

fn when(entry: &Entry) -> String {
    match entry.latest {
        Some(latest) if latest == entry.earliest => Measured(latest).to_string(),
        Some(latest) => {
            format!("{}..{}", Measured(entry.earliest.min(latest)), Measured(entry.earliest.max(latest)))
        }
        None => format!("{}..", Measured(entry.earliest)),
    }
}

/// What a moment is called.
pub fn what(what: What) -> &'static str {
    match what {
        What::HookBegins => "preStop hook begins",
        What::HookEnds => "preStop hook is over",
        What::HookOverruns => "preStop hook overruns",
        What::Stops { .. } => "runtime is told to stop",
        What::Signal => "stop signal",
        What::Kill => "SIGKILL if still running",
        What::Ended => "has ended",
    }
}

fn picture(entry: &Entry, end: Duration, width: usize, colors: bool) -> String {
    let place = |time: Duration| -> usize {
        let share = time.as_secs_f64() / end.as_secs_f64().max(0.001);
        // At most the width, which is a small number.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the width")]
        let column = (share.clamp(0.0, 1.0) * (width.saturating_sub(1)) as f64) as usize;
        column
    };
    let (from, to) = (place(entry.earliest), place(entry.latest.unwrap_or(end)));
    let mark = match entry.what {
        What::Kill => 'x',
        What::Signal => '!',
        What::HookBegins | What::HookEnds | What::HookOverruns | What::Stops { .. } | What::Ended => '|',
    };
    let line: String = (0..width)
        .map(|column| match column {
            column if column == from.max(to) => mark,
            column if column >= from.min(to) && column < from.max(to) => '-',
            _ => '.',
        })
        .collect();
    if colors && entry.what == What::Kill { format!("\x1b[31m{line}\x1b[0m") } else { line }
}
