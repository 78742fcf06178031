//! Reading the values of options. Each reader says what it expected; where the value came from is added by the caller.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::control::protocol::Until;
use crate::plan::{AfterFailure, LogFormat, Rung, Step};
use crate::signal::{Rewrite, Rewrites, Signal, SignalSet};
use crate::time::parse_duration;

/// What was expected in the value's place.
type Expected = String;

/// A time, or `none` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// At most this long.
    Within(Duration),
    /// No limit.
    Unlimited,
}

impl Limit {
    /// The time, if there is a limit.
    pub const fn time(self) -> Option<Duration> {
        match self {
            Self::Within(time) => Some(time),
            Self::Unlimited => None,
        }
    }
}

/// A path, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionalPath {
    /// This path.
    At(PathBuf),
    /// Nowhere.
    None,
}

/// The rungs of `--stop-signal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder(pub Vec<Rung>);

/// A rule of `--rewrite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The signal that is received.
    pub from: Signal,
    /// What it becomes.
    pub to: Rewrite,
}

fn expected<T>(value: Option<T>, what: &str) -> Result<T, Expected> {
    value.ok_or_else(|| format!("expected {what}"))
}

pub fn duration(text: &str) -> Result<Duration, Expected> {
    expected(parse_duration(text), "a duration such as 10s")
}

pub fn positive_duration(text: &str) -> Result<Duration, Expected> {
    expected(parse_duration(text).filter(|time| !time.is_zero()), "a duration such as 10s, longer than 0")
}

pub fn limit(text: &str) -> Result<Limit, Expected> {
    if text == "none" {
        return Ok(Limit::Unlimited);
    }
    expected(parse_duration(text).map(Limit::Within), "a duration such as 10s, or none")
}

/// `--grace`: whoever comes from tini may mean its `-g`.
pub fn grace(text: &str) -> Result<Limit, Expected> {
    limit(text).map_err(|expected| {
        if text.starts_with('-') {
            format!("{expected} (what tini's -g does is the default here: leave it out)")
        } else {
            expected
        }
    })
}

pub fn signal(text: &str) -> Result<Signal, Expected> {
    expected(Signal::parse(text), "a signal such as TERM, SIGTERM or 15")
}

/// Reads `QUIT` or `TERM:10s,INT:5s`.
pub fn ladder(text: &str) -> Result<Ladder, Expected> {
    let what = "a signal such as QUIT, or a ladder such as TERM:10s,INT";
    let rung = |rung: &str| match rung.split_once(':') {
        Some((signal, wait)) => {
            Some(Rung { signal: Signal::parse(signal)?, wait: Some(parse_duration(wait)?) })
        }
        None => Some(Rung { signal: Signal::parse(rung)?, wait: None }),
    };
    let rungs: Vec<Rung> = expected(text.split(',').map(rung).collect::<Option<_>>(), what)?;
    if let Some(rung) = rungs.iter().rev().skip(1).find(|rung| rung.wait.is_none()) {
        return Err(format!("expected a time such as {}:10s on every rung but the last", rung.signal));
    }
    let stops_nothing = |rung: &&Rung| [Signal::STOP, Signal::CONT, Signal::CHLD].contains(&rung.signal);
    if let Some(rung) = rungs.iter().find(stops_nothing) {
        return Err(format!("{} ends no command: expected {what}", rung.signal));
    }
    Ok(Ladder(rungs))
}

pub fn stop_on(text: &str) -> Result<SignalSet, Expected> {
    let begins_a_stop = |signal: &Signal| {
        let never = [Signal::KILL, Signal::STOP, Signal::CONT, Signal::CHLD];
        !never.contains(signal) && !signal.suspends_a_job()
    };
    let signals = text.split(',').map(|name| Signal::parse(name).filter(begins_a_stop)).collect();
    expected(signals, "signals such as TERM,INT, but not KILL, STOP, TSTP, TTIN, TTOU, CONT or CHLD")
}

pub fn rule(text: &str) -> Result<Rule, Expected> {
    let rule = Rewrites::parse_rule(text.trim()).map(|(from, to)| Rule { from, to });
    let rule = expected(rule, "FROM:TO, two signals such as TERM:QUIT; TO 0 drops")?;
    if rule.to == Rewrite::To(Signal::STOP) {
        return Err(
            "expected another signal than STOP, from which only CONT would wake the command".to_owned()
        );
    }
    Ok(rule)
}

pub fn exit_code(text: &str) -> Result<u8, Expected> {
    expected(text.trim().parse().ok(), "an exit status from 0 to 255")
}

pub fn pid(text: &str) -> Result<i32, Expected> {
    expected(text.parse().ok().filter(|pid| *pid > 0), "the number of a process, such as 1")
}

pub fn after_failure(text: &str) -> Result<AfterFailure, Expected> {
    let mode = match text {
        "continue" => Some(AfterFailure::Continue),
        "skip" => Some(AfterFailure::Skip),
        _ => None,
    };
    expected(mode, "continue or skip")
}

pub fn until(text: &str) -> Result<Until, Expected> {
    expected(Until::parse(text), "stopped or prepared")
}

pub fn log_level(text: &str) -> Result<LevelFilter, Expected> {
    let level = match text {
        "off" => Some(LevelFilter::OFF),
        "error" => Some(LevelFilter::ERROR),
        "warn" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        _ => None,
    };
    expected(level, "off, error, warn, info, debug or trace")
}

pub fn log_format(text: &str) -> Result<LogFormat, Expected> {
    let format = match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    };
    expected(format, "text or json")
}

pub fn optional_path(value: &OsStr) -> Result<OptionalPath, Expected> {
    match value.as_encoded_bytes() {
        b"" => Err("expected a path, or none".to_owned()),
        b"none" => Ok(OptionalPath::None),
        _ => Ok(OptionalPath::At(PathBuf::from(value))),
    }
}

pub fn step(value: &OsStr) -> Result<Step, Expected> {
    // Whoever comes from tini may mean its -p.
    if value.to_str().and_then(Signal::parse).is_some() {
        return Err(
            "expected a command; for a signal when our parent dies use --parent-death-signal".to_owned()
        );
    }
    Step::parse(value).map_err(|error| format!("{error:#}"))
}

/// A flag's variable.
pub fn yes_or_no(text: &str) -> Result<bool, Expected> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("expected 1 or 0".to_owned()),
    }
}

pub fn any(value: &OsStr) -> Result<OsString, Expected> {
    Ok(value.to_owned())
}
