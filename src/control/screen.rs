//! What people see of an init: the table of `status`, and the bar of `stop` on a terminal.

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::time::Duration;

use crate::control::protocol::Status;
use crate::output;
use crate::time::Measured;

/// What a person at a terminal sees of a shutdown.
pub struct Screen {
    is_terminal: bool,
    phase: String,
}

impl Screen {
    /// One that shows nothing.
    pub fn none() -> Self {
        Self { is_terminal: false, phase: String::new() }
    }

    /// Standard output, if it is a terminal.
    pub fn of_stdout() -> Self {
        Self { is_terminal: io::stdout().is_terminal(), ..Self::none() }
    }

    /// A line for each phase that begins.
    pub fn phase(&mut self, status: &Status) {
        if self.is_terminal && self.phase != status.phase {
            self.phase.clone_from(&status.phase);
            let elapsed = Measured(status.elapsed.unwrap_or_default());
            output::out(&format!("\r\x1b[K{elapsed:>8}  {}\n", printable(&status.phase)));
        }
    }

    /// The bar below them, as of `since` after the status was given; true if there is one, which has to be drawn again.
    pub fn bar(&self, status: &Status, since: Duration) -> bool {
        let Some(remaining) = status.remaining.filter(|_| self.is_terminal) else { return false };
        let remaining = remaining.saturating_sub(since);
        let bar = bar(remaining, status.budget.unwrap_or(remaining));
        output::out(&format!("\r\x1b[K{bar} {} left", tenths(remaining)));
        true
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if self.is_terminal {
            output::out("\r\x1b[K");
        }
    }
}

/// A bar that is as full as there is time left.
fn bar(remaining: Duration, whole: Duration) -> String {
    const WIDTH: u128 = 30;
    let full =
        remaining.as_millis().saturating_mul(WIDTH).checked_div(whole.as_millis()).unwrap_or(0).min(WIDTH);
    let full = usize::try_from(full).unwrap_or(0);
    let width = usize::try_from(WIDTH).unwrap_or(0);
    format!("[{}{}]", "#".repeat(full), ".".repeat(width.saturating_sub(full)))
}

/// A time that changes on a screen, in tenths of a second.
fn tenths(time: Duration) -> String {
    let tenths = time.as_millis().checked_div(100).unwrap_or(0);
    format!("{}.{}s", tenths.checked_div(10).unwrap_or(0), tenths.checked_rem(10).unwrap_or(0))
}

/// A text that came from somewhere else, for a terminal: control characters are written out. A program may have put them into
/// its name.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// The status for people.
pub fn table(status: &Status) -> String {
    let mut rows: Vec<(&str, String)> = vec![
        ("phase", printable(&status.phase).into_owned()),
        ("command", format!("{} (pid {})", printable(&status.command), status.command_pid)),
        ("uptime", Measured(status.uptime).to_string()),
    ];
    if let Some(trigger) = &status.trigger {
        let elapsed = Measured(status.elapsed.unwrap_or_default());
        rows.push(("stop", format!("{}, {elapsed} ago", printable(trigger))));
    }
    if let Some(remaining) = status.remaining {
        let whole = status.budget.unwrap_or(remaining);
        rows.push((
            "time left",
            format!("{} {} of {}", bar(remaining, whole), tenths(remaining), Measured(whole)),
        ));
    }
    for (place, step) in status.steps.iter().enumerate() {
        let name = if place == 0 { "steps" } else { "" };
        let took = if step.took.is_zero() { String::new() } else { Measured(step.took).to_string() };
        rows.push((
            name,
            format!(
                "{:9} {} {:11} {took:>7}  {}",
                printable(&step.chain),
                step.number,
                printable(&step.state),
                printable(&step.text)
            ),
        ));
    }
    rows.push(("reaped", format!("{} orphans", status.reaped)));
    rows.iter().map(|(name, value)| format!("{name:9}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::StepStatus;

    #[test]
    fn a_bar_is_as_full_as_there_is_time_left() {
        let seconds = Duration::from_secs;
        assert_eq!(bar(seconds(28), seconds(28)), format!("[{}]", "#".repeat(30)));
        assert_eq!(bar(seconds(14), seconds(28)), format!("[{}{}]", "#".repeat(15), ".".repeat(15)));
        assert_eq!(bar(seconds(0), seconds(0)), format!("[{}]", ".".repeat(30)));
        assert_eq!(bar(seconds(9), seconds(1)), format!("[{}]", "#".repeat(30)));
    }

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(printable("a\n\x1b[31mX\u{fffd}ä"), "a\\n\\u{1b}[31mX\u{fffd}ä");
        assert_eq!(printable("plain"), "plain");
    }

    #[test]
    fn the_table_is_aligned() {
        let step = |number, state: &str, text: &str| StepStatus {
            chain: "pre-stop".into(),
            number,
            state: state.into(),
            took: Duration::from_millis(number * 120),
            text: text.into(),
        };
        let status = Status {
            phase: "pre-stop".into(),
            command: "nginx".into(),
            command_pid: 7,
            uptime: Duration::from_secs(61),
            trigger: Some("SIGTERM from outside the container".into()),
            elapsed: Some(Duration::from_secs(7)),
            remaining: Some(Duration::from_millis(21_000)),
            budget: Some(Duration::from_secs(28)),
            steps: vec![step(1, "succeeded", "nginx -s quit"), step(2, "running", "@sleep 5s")],
            ..Status::default()
        };
        let expected = "\
phase      pre-stop
command    nginx (pid 7)
uptime     1m01s
stop       SIGTERM from outside the container, 7s ago
time left  [######################........] 21.0s of 28s
steps      pre-stop  1 succeeded     120ms  nginx -s quit
           pre-stop  2 running       240ms  @sleep 5s
reaped     0 orphans
";
        assert_eq!(table(&status), expected);
    }
}
