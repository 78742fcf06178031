//! From given values to a checked plan. Whatever is wrong is said here, at the start: with the value, where it
//! came from and what to write instead.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tracing::level_filters::LevelFilter;

use super::{
    Adopt, AfterFailure, ClientPlan, CommandLine, Control, GraceSource, HookPlan, Leftovers, LogFormat,
    LogPlan, Place, Placement, Plan, RelayTo, Report, Rung, ShutdownPlan, StartFailure, Step, Target,
};
use crate::control::protocol::Until;
use crate::outcome::ZeroCodes;
use crate::signal::{Rewrite, Rewrites, Signal, SignalSet};
use crate::time::{Written, parse_duration};

/// Where the kubelet, and the container runtimes that follow it, make the end of a container's last words visible.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// What Kubernetes gives a pod that says nothing (`terminationGracePeriodSeconds`).
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
const DEFAULT_RESERVE: Duration = Duration::from_secs(2);
const DEFAULT_LEFTOVER_GRACE: Duration = Duration::from_secs(5);
const LONGEST_DEFAULT_STOP_WINDOW: Duration = Duration::from_secs(10);

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    CommandLine,
    /// This environment variable.
    Variable(&'static str),
}

/// A value as the user gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The value; empty for a flag on the command line.
    pub value: OsString,
    /// Where it came from.
    pub source: Source,
}

/// What was given: the options by name, and the words of the command.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Each given option in its order. Those of the environment are there only where the command line says nothing.
    pub given: Vec<(&'static str, Given)>,
    /// The command's words.
    pub command: Vec<OsString>,
}

#[cfg(test)]
impl Options {
    /// These options on the command line, for tests, and a command behind them.
    pub(crate) fn on_the_command_line(pairs: &[(&'static str, &str)]) -> Self {
        let given = pairs
            .iter()
            .map(|(name, value)| (*name, Given { value: value.into(), source: Source::CommandLine }))
            .collect();
        Self { given, command: vec!["true".into()] }
    }
}

impl Options {
    fn many(&self, name: &'static str) -> impl Iterator<Item = &Given> {
        self.given.iter().filter(move |(option, _)| *option == name).map(|(_, given)| given)
    }

    /// The value of an option that is given once; the last one wins, and an empty variable is no value.
    fn one(&self, name: &'static str) -> Option<&Given> {
        self.many(name).last().filter(|given| given.source == Source::CommandLine || !given.value.is_empty())
    }

    /// The values of an option that may be repeated. A variable holds one on each line, a line that begins with `#` is a
    /// comment; where `separator` is given, that parts them as well.
    fn list(&self, name: &'static str, separator: Option<u8>) -> Vec<Given> {
        let parts = |given: &Given| match given.source {
            Source::CommandLine => vec![given.clone()],
            Source::Variable(_) => given
                .value
                .as_bytes()
                .split(|byte| *byte == b'\n' || Some(*byte) == separator)
                .map(<[u8]>::trim_ascii)
                .filter(|part| !part.is_empty() && !part.starts_with(b"#"))
                .map(|part| Given { value: OsString::from_vec(part.to_vec()), source: given.source.clone() })
                .collect(),
        };
        self.many(name).flat_map(parts).collect()
    }

    /// Reads one value with `read`; `expected` says what to write instead.
    fn read<T>(
        &self,
        name: &'static str,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        self.one(name).map(|given| given.read(name, expected, &read)).transpose()
    }

    /// A flag: there on the command line, or a variable that says yes.
    fn flag(&self, name: &'static str) -> Result<bool> {
        let Some(given) = self.one(name) else { return Ok(false) };
        match given.source {
            Source::CommandLine => Ok(true),
            Source::Variable(_) => {
                given.read(name, "1 or 0", |text| match text.to_ascii_lowercase().as_str() {
                    "1" | "true" | "yes" | "on" => Some(true),
                    "0" | "false" | "no" | "off" => Some(false),
                    _ => None,
                })
            }
        }
    }

    fn duration(&self, name: &'static str) -> Result<Option<Duration>> {
        self.read(name, DURATION, parse_duration)
    }

    /// A duration where `none` says that there is no limit.
    fn limit(&self, name: &'static str) -> Result<Option<Option<Duration>>> {
        let expected = "a duration such as 10s, or none";
        self.read(
            name,
            expected,
            |text| if text == "none" { Some(None) } else { parse_duration(text).map(Some) },
        )
    }

    /// Whether the timeline is to be drawn.
    ///
    /// # Errors
    /// A variable that says neither yes nor no.
    pub fn explain(&self) -> Result<bool> {
        self.flag("explain")
    }

    fn steps(&self, name: &'static str) -> Result<Vec<Step>> {
        self.list(name, None)
            .iter()
            .map(|given| Step::parse(&given.value).with_context(|| given.shown(name).to_string()))
            .collect()
    }

    fn command(&self, remedy: &str) -> Result<CommandLine> {
        CommandLine::from_words(self.command.iter().cloned())
            .filter(|command| !command.program.is_empty())
            .ok_or_else(|| anyhow!("no command to run: {remedy}"))
    }
}

impl Given {
    fn read<T>(&self, name: &'static str, expected: &str, read: impl Fn(&str) -> Option<T>) -> Result<T> {
        self.value.to_str().and_then(read).ok_or_else(|| anyhow!("{}: expected {expected}", self.shown(name)))
    }

    /// `--grace "10x" (from GRACE_INIT_GRACE)`
    fn shown(&self, name: &'static str) -> Shown<'_> {
        Shown { given: self, name }
    }
}

struct Shown<'a> {
    given: &'a Given,
    name: &'static str,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // tini's options have one letter only.
        let dashes = if self.name.len() == 1 { "-" } else { "--" };
        write!(f, "{dashes}{} {:?}", self.name, self.given.value)?;
        match self.given.source {
            Source::CommandLine => Ok(()),
            Source::Variable(name) => write!(f, " (from {name})"),
        }
    }
}

const DURATION: &str = "a duration such as 10s";
const SIGNAL: &str = "a signal such as TERM, SIGTERM or 15";
const EXIT_CODE: &str = "an exit status from 0 to 255";
const RULE: &str = "FROM:TO, two signals such as TERM:QUIT; TO 0 drops";

/// The plan of `grace-init` itself.
///
/// # Errors
/// The first thing that is wrong, told in full; `main` prints it and exits 125.
pub fn grace_init(options: &Options) -> Result<Plan> {
    let single_child = options.flag("single-child")?;
    let placement = if single_child { Placement::OurGroup } else { Placement::NewSession };
    let mut rewrites = Rewrites::default();
    for rule in options.list("rewrite", Some(b',')) {
        let (from, to) = rule.read("rewrite", RULE, Rewrites::parse_rule)?;
        rewrites.set(from, to);
    }
    default_rewrites(&mut rewrites, placement);
    Ok(Plan {
        placement,
        relay: if single_child { RelayTo::MainChild } else { RelayTo::Group },
        rewrites,
        adopt: Adopt::Orphans,
        warn_of_orphans: false,
        parent_death_signal: options.read("parent-death-signal", SIGNAL, Signal::parse)?,
        zero_codes: zero_codes(options, "exit-zero")?,
        shutdown: shutdown(options)?,
        report: report(options),
        control: control(options),
        log: LogPlan {
            name: "grace-init",
            level: log_level(options)?,
            format: options
                .read("log-format", "text or json", |text| match text {
                    "text" => Some(LogFormat::Text),
                    "json" => Some(LogFormat::Json),
                    _ => None,
                })?
                .unwrap_or(LogFormat::Text),
        },
        start_failure: StartFailure::Ours,
        place: Place::NoContainer,
        withheld_variables: Vec::new(),
        warnings: Vec::new(),
        command: options
            .command("write it behind the options, such as grace-init -- nginx -g 'daemon off;'")?,
    })
}

/// In a session of its own the command's group is an orphaned one, where the kernel drops the job-control
/// stops (setpgid(2)), so they become the STOP that nothing drops; as dumb-init does in `main`.
fn default_rewrites(rewrites: &mut Rewrites, placement: Placement) {
    if placement == Placement::NewSession {
        for signal in [Signal::TSTP, Signal::TTOU, Signal::TTIN] {
            rewrites.set_default(signal, Rewrite::To(Signal::STOP));
        }
    }
}

fn zero_codes(options: &Options, name: &'static str) -> Result<ZeroCodes> {
    let mut codes = ZeroCodes::default();
    for code in options.list(name, Some(b',')) {
        codes.add(code.read(name, EXIT_CODE, |text| text.parse().ok())?);
    }
    Ok(codes)
}

fn log_level(options: &Options) -> Result<LevelFilter> {
    if options.flag("verbose")? {
        return Ok(LevelFilter::DEBUG);
    }
    let level = options.read("log-level", "off, error, warn, info, debug or trace", |text| match text {
        "off" => Some(LevelFilter::OFF),
        "error" => Some(LevelFilter::ERROR),
        "warn" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        _ => None,
    })?;
    Ok(level.unwrap_or(LevelFilter::INFO))
}

fn report(options: &Options) -> Report {
    match options.one("report") {
        Some(given) if given.value == "none" => Report::None,
        Some(given) => Report::File((&given.value).into()),
        None => Report::File(TERMINATION_LOG.into()),
    }
}

fn control(options: &Options) -> Control {
    match options.one("control") {
        Some(given) if given.value == "none" => Control::None,
        Some(given) => Control::At((&given.value).into()),
        None => Control::Default,
    }
}

fn shutdown(options: &Options) -> Result<ShutdownPlan> {
    let given_grace = options.limit("grace")?;
    let grace = given_grace.unwrap_or(Some(DEFAULT_GRACE));
    let reserve = reserve(options, grace)?;
    let budget = grace.map(|grace| grace.saturating_sub(reserve));
    let drain = options.duration("drain")?.unwrap_or_default();
    let ladder = match options.one("stop-signal") {
        Some(given) => ladder(given)?,
        None => Vec::new(),
    };
    let ladder_time =
        ladder.iter().filter_map(|rung| rung.wait).fold(Duration::ZERO, Duration::saturating_add);
    let given_window = options.duration("stop-window")?;
    let stop_window = match (given_window, budget) {
        (Some(window), _) => window,
        (None, Some(budget)) => {
            let third = budget.checked_div(3).unwrap_or_default();
            third.min(LONGEST_DEFAULT_STOP_WINDOW).max(ladder_time)
        }
        (None, None) => Duration::ZERO,
    };
    if let (Some(grace), Some(budget)) = (grace, budget) {
        let have = format!("the grace of {} less the reserve of {}", Written(grace), Written(reserve));
        if drain.saturating_add(ladder_time) > budget {
            bail!(
                "the drain of {} and the ladder of {} do not fit into {}, {have}: shorten them or lengthen --grace",
                Written(drain),
                Written(ladder_time),
                Written(budget)
            );
        }
        if drain.saturating_add(stop_window) > budget {
            let origin = if given_window.is_some() { "" } else { ", its default," };
            bail!(
                "the drain of {} and the stop window of {}{origin} do not fit into {}, {have}: \
                 shorten --drain or --stop-window, or lengthen --grace",
                Written(drain),
                Written(stop_window),
                Written(budget)
            );
        }
    }
    // Whoever wants no deadline wants nothing killed, unless the leftovers were given a time of their own.
    let leftover_default = if grace.is_none() { None } else { Some(DEFAULT_LEFTOVER_GRACE) };
    let grace_source = match options.one("grace").map(|given| &given.source) {
        Some(Source::CommandLine) => GraceSource::CommandLine,
        Some(Source::Variable(name)) => GraceSource::Variable(name),
        None => GraceSource::Guessed(Place::NoContainer),
    };
    Ok(ShutdownPlan {
        grace,
        grace_source,
        cut_to_fit: None,
        reserve,
        drain,
        pre_stop: options.steps("pre-stop")?,
        step_timeout: options.duration("pre-stop-timeout")?,
        after_failure: options
            .read("pre-stop-failure", "continue or skip", |text| match text {
                "continue" => Some(AfterFailure::Continue),
                "skip" => Some(AfterFailure::Skip),
                _ => None,
            })?
            .unwrap_or(AfterFailure::Continue),
        ladder,
        stop_window,
        stop_on: stop_on(options)?,
        stop_on_given: options.one("stop-on").is_some(),
        leftovers: Leftovers::Wait(options.limit("leftover-grace")?.unwrap_or(leftover_default)),
        post_stop: options.steps("post-stop")?,
    })
}

/// The reserve: as given, or 2 s and at most a fifth of the grace.
fn reserve(options: &Options, grace: Option<Duration>) -> Result<Duration> {
    let given = options.duration("reserve")?;
    match (given, grace) {
        (Some(reserve), Some(grace)) if reserve > grace => bail!(
            "the reserve of {} is longer than the grace of {}: shorten --reserve or lengthen --grace",
            Written(reserve),
            Written(grace)
        ),
        (Some(reserve), _) => Ok(reserve),
        (None, Some(grace)) => Ok(DEFAULT_RESERVE.min(grace.checked_div(5).unwrap_or_default())),
        (None, None) => Ok(DEFAULT_RESERVE),
    }
}

/// Reads `QUIT` or `TERM:10s,INT:5s`.
fn ladder(given: &Given) -> Result<Vec<Rung>> {
    let expected = "a signal such as QUIT, or a ladder such as TERM:10s,INT";
    let rungs: Vec<Rung> = given.read("stop-signal", expected, |text| {
        text.split(',')
            .map(|rung| match rung.split_once(':') {
                Some((signal, wait)) => {
                    Some(Rung { signal: Signal::parse(signal)?, wait: Some(parse_duration(wait)?) })
                }
                None => Some(Rung { signal: Signal::parse(rung)?, wait: None }),
            })
            .collect()
    })?;
    if let Some(rung) = rungs.iter().rev().skip(1).find(|rung| rung.wait.is_none()) {
        bail!(
            "{}: only the last rung may go without a time: expected {}:10s or the like",
            given.shown("stop-signal"),
            rung.signal
        );
    }
    if rungs.iter().any(|rung| rung.signal == Signal::STOP) {
        bail!("{}: SIGSTOP suspends a command and never ends it: {expected}", given.shown("stop-signal"));
    }
    Ok(rungs)
}

fn stop_on(options: &Options) -> Result<SignalSet> {
    let Some(given) = options.one("stop-on") else {
        return Ok([Signal::TERM, Signal::INT].into_iter().collect());
    };
    let expected = "signals such as TERM,INT; KILL, STOP and CHLD cannot be received";
    given.read("stop-on", expected, |text| {
        let receivable = |signal: &Signal| ![Signal::KILL, Signal::STOP, Signal::CHLD].contains(signal);
        text.split(',').map(|name| Signal::parse(name).filter(receivable)).collect()
    })
}

/// Which init a client talks to.
fn target(options: &Options) -> Result<Target> {
    Ok(Target { pid: pid(options)?, control: control(options) })
}

fn pid(options: &Options) -> Result<Option<i32>> {
    let expected = "the number of a process, such as 1";
    options.read("pid", expected, |text| text.parse().ok().filter(|pid| *pid > 0))
}

/// What `grace-init stop` is to do.
///
/// # Errors
/// The first thing that is wrong; `main` prints it and exits 125.
pub fn stop(options: &Options) -> Result<ClientPlan> {
    let until = options.read("until", "prepared or stopped", Until::parse)?.unwrap_or(Until::Prepared);
    Ok(ClientPlan::Stop { target: target(options)?, until, timeout: options.duration("timeout")? })
}

/// What `grace-init status` is to do.
///
/// # Errors
/// As [`stop`].
pub fn status(options: &Options) -> Result<ClientPlan> {
    Ok(ClientPlan::Status { target: target(options)?, json: options.flag("json")? })
}

/// What `grace-init ready` is to do.
///
/// # Errors
/// As [`stop`].
pub fn ready(options: &Options) -> Result<ClientPlan> {
    Ok(ClientPlan::Ready { target: target(options)?, serving: false })
}

/// What `grace-init hook` is to do: the shutdown's settings, with a process that is not ours in the command's place.
///
/// # Errors
/// As [`stop`].
pub fn hook(options: &Options) -> Result<HookPlan> {
    let pid = pid(options)?.unwrap_or(1);
    let stops = options.one("stop-signal").is_some();
    let mut options = options.clone();
    options.command = vec![format!("process {pid}").into()];
    let mut run = grace_init(&options)?;
    // It is begun at once, and by nothing else.
    run.shutdown.stop_on = SignalSet::default();
    Ok(HookPlan { run, pid, stops, kills: options.flag("kill")? })
}

/// The plan of dumb-init 1.2.5: no deadline, no waiting, silent.
///
/// # Errors
/// The first thing that is wrong; `main` prints it and exits 1, as dumb-init does.
pub fn dumb_init(options: &Options) -> Result<Plan> {
    let no_session = options.many("setsid").any(|given| given.value == "0");
    let single_child = options.flag("single-child")? || no_session;
    let placement = if single_child { Placement::OurGroup } else { Placement::NewSession };
    let mut rewrites = Rewrites::default();
    for rule in options.many("rewrite") {
        let expected = "FROM:TO, two numbers of signals from 1 to 31; TO 0 drops";
        let (from, to) = rule.read("rewrite", expected, dumb_init_rule)?;
        rewrites.set(from, to);
    }
    default_rewrites(&mut rewrites, placement);
    let debug = options.flag("verbose")? || options.many("debug").any(|given| given.value == "1");
    Ok(Plan {
        placement,
        relay: if single_child { RelayTo::MainChild } else { RelayTo::Group },
        rewrites,
        adopt: Adopt::Nothing,
        warn_of_orphans: false,
        parent_death_signal: None,
        zero_codes: ZeroCodes::default(),
        shutdown: ShutdownPlan::relay_only(Leftovers::TermAndLeave),
        report: Report::None,
        control: Control::None,
        log: quiet_log("dumb-init", if debug { LevelFilter::DEBUG } else { LevelFilter::ERROR }),
        start_failure: StartFailure::DumbInit,
        place: Place::NoContainer,
        withheld_variables: Vec::new(),
        warnings: Vec::new(),
        command: options.command("write it behind the options, such as dumb-init -- nginx")?,
    })
}

/// dumb-init's rules are two numbers, read by `scanf("%d:%d")`.
fn dumb_init_rule(text: &str) -> Option<(Signal, Rewrite)> {
    let number = |text: &str| text.parse::<i32>().ok().filter(|number| (0..=31).contains(number));
    let (from, to) = text.split_once(':')?;
    let to = number(to)?;
    Some((Signal::from_number(number(from)?)?, Signal::from_number(to).map_or(Rewrite::Drop, Rewrite::To)))
}

/// The plan of tini 0.19: relay to the child, or with `-g` to its group; leave when it ends.
///
/// # Errors
/// The first thing that is wrong; `main` prints it and exits 1, as tini does.
pub fn tini(options: &Options) -> Result<Plan> {
    let group = options.many("g").next().is_some();
    let base =
        options.read("verbosity", "a number from 0 to 3", |text| text.parse::<usize>().ok())?.unwrap_or(1);
    let level = match base.saturating_add(options.many("v").count()) {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::WARN,
        2 => LevelFilter::INFO,
        3 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let mut rewrites = Rewrites::default();
    // They tell a background process to keep off the terminal, which tini has just left to the command.
    rewrites.set(Signal::TTIN, Rewrite::Drop);
    rewrites.set(Signal::TTOU, Rewrite::Drop);
    Ok(Plan {
        placement: Placement::NewGroup,
        relay: if group { RelayTo::Group } else { RelayTo::MainChild },
        rewrites,
        adopt: if options.many("s").next().is_some() { Adopt::Orphans } else { Adopt::Nothing },
        warn_of_orphans: options.many("w").next().is_some(),
        parent_death_signal: options.read("p", SIGNAL, Signal::parse)?,
        zero_codes: zero_codes(options, "e")?,
        shutdown: ShutdownPlan::relay_only(Leftovers::Leave),
        report: Report::None,
        control: Control::None,
        log: quiet_log("tini", level),
        start_failure: StartFailure::Tini,
        place: Place::NoContainer,
        withheld_variables: Vec::new(),
        warnings: Vec::new(),
        command: options.command("write it behind the options, such as tini -- nginx")?,
    })
}

fn quiet_log(name: &'static str, level: LevelFilter) -> LogPlan {
    LogPlan { name, level, format: LogFormat::Text }
}

/// The command line that a `-S` word stands for, or why it is none.
///
/// # Errors
/// A quote that is not closed.
pub(crate) fn split_string(text: &OsStr) -> Result<Vec<OsString>> {
    super::split_words(text).with_context(|| format!("--split-string {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(pairs: &[(&'static str, &str)]) -> Plan {
        grace_init(&Options::on_the_command_line(pairs)).unwrap()
    }

    fn error(pairs: &[(&'static str, &str)]) -> String {
        format!("{:#}", grace_init(&Options::on_the_command_line(pairs)).unwrap_err())
    }

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_defaults_are_those_of_a_pod() {
        let shutdown = plan(&[]).shutdown;
        assert_eq!((shutdown.grace, shutdown.reserve), (Some(secs(30)), secs(2)));
        assert_eq!(shutdown.stop_window, Duration::from_secs(28) / 3);
        assert_eq!(shutdown.leftovers, Leftovers::Wait(Some(secs(5))));
        assert!(shutdown.stop_on.contains(Signal::TERM) && shutdown.stop_on.contains(Signal::INT));
    }

    #[test]
    fn the_reserve_is_at_most_a_fifth_of_the_grace() {
        for (grace, reserve) in [("0", 0), ("1s", 200), ("3s", 600), ("10s", 2_000), ("4294967295", 2_000)] {
            assert_eq!(plan(&[("grace", grace)]).shutdown.reserve, Duration::from_millis(reserve), "{grace}");
        }
    }

    #[test]
    fn without_a_deadline_nothing_is_killed_unless_asked() {
        assert_eq!(plan(&[("grace", "none")]).shutdown.leftovers, Leftovers::Wait(None));
        let asked = plan(&[("grace", "none"), ("leftover-grace", "1s")]).shutdown;
        assert_eq!((asked.budget(), asked.leftovers), (None, Leftovers::Wait(Some(secs(1)))));
    }

    #[test]
    fn a_ladder_widens_the_default_stop_window() {
        let shutdown = plan(&[("stop-signal", "TERM:10s,INT:5s")]).shutdown;
        assert_eq!(shutdown.stop_window, secs(15));
        assert_eq!(shutdown.ladder.len(), 2);
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_their_numbers() {
        for (pairs, parts) in [
            (vec![("drain", "25s")], vec!["drain of 25s", "9s333ms", "28s"]),
            (vec![("drain", "20s"), ("stop-window", "9s")], vec!["drain of 20s", "window of 9s", "28s"]),
            (vec![("stop-signal", "TERM:20s,INT:10s")], vec!["ladder of 30s", "28s"]),
            (vec![("grace", "1s"), ("reserve", "2s")], vec!["reserve of 2s", "grace of 1s"]),
            (vec![("stop-signal", "TERM,INT")], vec!["only the last rung", "SIGTERM:10s"]),
            (vec![("stop-signal", "STOP")], vec!["never ends it"]),
            (vec![("stop-on", "KILL")], vec!["cannot be received"]),
        ] {
            let error = error(&pairs);
            assert!(parts.iter().all(|part| error.contains(part)), "{pairs:?}: {error}");
        }
    }

    #[test]
    fn every_option_names_its_value_and_what_to_write_instead() {
        for (name, expected) in [
            ("grace", "a duration such as 10s, or none"),
            ("reserve", "a duration"),
            ("drain", "a duration"),
            ("pre-stop", "not closed"),
            ("pre-stop-timeout", "a duration"),
            ("pre-stop-failure", "continue or skip"),
            ("stop-signal", "a ladder such as"),
            ("stop-window", "a duration"),
            ("stop-on", "signals such as"),
            ("leftover-grace", "a duration such as 10s, or none"),
            ("post-stop", "not closed"),
            ("rewrite", "FROM:TO"),
            ("exit-zero", "from 0 to 255"),
            ("parent-death-signal", "a signal such as"),
            ("log-level", "off, error"),
            ("log-format", "text or json"),
        ] {
            let error = error(&[(name, "'wrong")]);
            assert!(
                error.starts_with(&format!("--{name} \"'wrong\"")) && error.contains(expected),
                "{error}"
            );
        }
    }

    #[test]
    fn a_bad_variable_is_named() {
        let mut options = Options::on_the_command_line(&[]);
        options
            .given
            .push(("grace", Given { value: "10x".into(), source: Source::Variable("GRACE_INIT_GRACE") }));
        let error = grace_init(&options).unwrap_err().to_string();
        assert_eq!(
            error,
            r#"--grace "10x" (from GRACE_INIT_GRACE): expected a duration such as 10s, or none"#
        );
    }

    #[test]
    fn a_variable_holds_a_chain_one_step_a_line() {
        let mut options = Options::on_the_command_line(&[]);
        let value = "first 'a b'\n\n  second  \n".into();
        options.given.push(("pre-stop", Given { value, source: Source::Variable("GRACE_INIT_PRE_STOP") }));
        let steps = grace_init(&options).unwrap().shutdown.pre_stop;
        assert_eq!(
            steps.iter().map(|step| step.text.as_str()).collect::<Vec<_>>(),
            ["first 'a b'", "second"]
        );
    }

    #[test]
    fn dumb_init_takes_numbers_up_to_31_only() {
        for rule in ["15:3", "1:0", "31:31"] {
            assert!(dumb_init_rule(rule).is_some(), "{rule}");
        }
        for rule in ["TERM:QUIT", "0:1", "32:1", "1:32", "1", ":", "1:", "15:-1"] {
            assert!(dumb_init_rule(rule).is_none(), "{rule}");
        }
    }
}
