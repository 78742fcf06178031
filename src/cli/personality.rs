//! Called by another init's name we have its command line, its environment variables and its exit statuses, and nothing else.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::{Result, anyhow};
use clap::error::ErrorKind;
use tracing::level_filters::LevelFilter;

use super::environment::Environment;
use super::help::{Length, help};
use super::options::CLIENT;
use super::resolve::default_rewrites;
use super::spec::{CommandLineSpec, Count, Flag, Group, Many, OPERANDS, One, Operands, group};
use super::values::{self, Rule};
use super::{Invocation, Refusal, Stream, Text, matches, said};
use crate::outcome::{ExitStatus, ZeroCodes};
use crate::plan::{
    Adopt, CommandLine, Control, Leftovers, LogFormat, LogPlan, Place, Placement, Plan, RelayTo, Report,
    ShutdownPlan, StartFailure,
};
use crate::signal::{Rewrite, Rewrites, Signal};

/// dockerd takes the word behind `git.` for `docker info`, and wants the line to begin with `tini version ` (moby,
/// daemon/info_unix.go, `parseInitVersion`); podman's own init says the same of itself.
const TINI_VERSION: &str =
    concat!("tini version 0.19.0 (grace-init ", env!("CARGO_PKG_VERSION"), ") - git.grace-init\n");
/// Both inits exit with it on wrong usage.
const USAGE: ExitStatus = ExitStatus::new(1);

/// Another init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personality {
    /// dumb-init 1.2.5
    DumbInit,
    /// tini 0.19, and those with its command line; the name that messages begin with.
    Tini(&'static str),
}

/// The init that a program's name stands for; `None` is grace-init itself.
pub fn called(name: &OsStr) -> Option<Personality> {
    let name = Path::new(name).file_name()?.to_str()?;
    // As the projects name the files of their releases: dumb-init_1.2.5_x86_64, tini-static-arm64.
    if name == "dumb-init" || name.starts_with("dumb-init_") {
        return Some(Personality::DumbInit);
    }
    if name == "tini" || name.starts_with("tini-") {
        return Some(Personality::Tini("tini"));
    }
    ["docker-init", "podman-init", "catatonit"]
        .into_iter()
        .find(|known| name == *known)
        .map(Personality::Tini)
}

impl Personality {
    /// Reads the words behind the program's name.
    ///
    /// # Errors
    /// A usage error, for `main` to print.
    pub fn read(
        self,
        words: VecDeque<OsString>,
        environment: &Environment<'_>,
    ) -> Result<Invocation, Refusal> {
        match self {
            Self::DumbInit => dumb_init(&words, environment).map_err(|error| {
                let help = Some("See dumb-init --help.\n".to_owned());
                Refusal { name: "dumb-init", error, help, status: USAGE }
            }),
            Self::Tini(name) => tini(name, &words, environment).map_err(|error| {
                let help = error.is::<Misused>().then(|| format!("\n{}", tini_help(name)));
                Refusal { name, error, help, status: USAGE }
            }),
        }
    }
}

group! {
    /// dumb-init's command line.
    DumbInit {
        single_child: Flag = Flag::new("single-child",
            "relay to the command alone, in our own session; the same as DUMB_INIT_SETSID=0")
            .short('c');
        rewrite: Many<Rule> = Many::text("rewrite", "FROM:TO", dumb_init_rule,
            "relay signal number FROM as TO; TO 0 drops it; repeatable")
            .short('r');
        verbose: Flag = Flag::new("verbose", "log what happens; the same as DUMB_INIT_DEBUG=1").short('v');
        help: Flag = Flag::new("help", "print this help").short('h');
        version: Flag = Flag::new("version", "print the version").short('V');
    }
}

static DUMB_INIT: CommandLineSpec = CommandLineSpec {
    name: "dumb-init",
    groups: &[DumbInit::OPTIONS],
    operands: Operands::Command,
    abbreviates: true,
    ..CLIENT
};

group! {
    /// tini's command line, and catatonit's.
    Tini {
        subreaper: Flag = Flag::new("subreaper",
            "adopt orphans when we are not PID 1; the same as TINI_SUBREAPER")
            .only_short('s');
        parent_death_signal: One<Signal> = One::text("parent-death-signal", "SIGNAL", tini_signal,
            "get SIGNAL, such as SIGKILL, when our own parent dies")
            .only_short('p');
        exit_zero: Many<u8> = Many::text("exit-zero", "CODE", values::exit_code,
            "report this exit status of the command as 0; repeatable")
            .only_short('e');
        group: Flag = Flag::new("group",
            "relay to the command's process group; the same as TINI_KILL_PROCESS_GROUP")
            .only_short('g');
        warn: Flag = Flag::new("warn", "warn when an orphan is reaped").only_short('w');
        verbose: Count = Count::new("verbose", "log more; repeatable; TINI_VERBOSITY sets the level to start from [1]")
            .only_short('v');
        pause: Flag = Flag::new("pause", "run no command: reap until SIGTERM or SIGINT (catatonit)").only_short('P');
        license: Flag = Flag::new("license", "print the license").only_short('l');
        catatonits_license: Flag = Flag::new("catatonits-license", "the same").only_short('L');
        help: Flag = Flag::new("help", "print this help").only_short('h');
        version: Flag = Flag::new("version", "print the version, as --version alone does").only_short('V');
    }
}

static TINI: CommandLineSpec =
    CommandLineSpec { name: "tini", groups: &[Tini::OPTIONS], operands: Operands::MixedCommand, ..CLIENT };

fn tini_help(name: &'static str) -> String {
    help(
        &CommandLineSpec { name, groups: &[Tini::OPTIONS], operands: Operands::MixedCommand, ..CLIENT },
        Length::Short,
    )
}

/// The plan of dumb-init 1.2.5: no deadline, no waiting, silent.
fn dumb_init(words: &VecDeque<OsString>, environment: &Environment<'_>) -> Result<Invocation> {
    let mut matches =
        matches(&mut DUMB_INIT.command(), words.iter()).map_err(|error| said(&DUMB_INIT, &error, None))?;
    let options = DumbInit::take(&mut matches);
    let print = |text| Ok(Invocation::Print(Text { text, to: Stream::Error }));
    if options.help {
        return print(help(&DUMB_INIT, Length::Short));
    }
    if options.version {
        return print(
            concat!("grace-init ", env!("CARGO_PKG_VERSION"), ", called as dumb-init\n").to_owned(),
        );
    }
    let is = |name, value: &str| environment.variable(name).is_some_and(|found| found == value);
    let single_child = options.single_child || is("DUMB_INIT_SETSID", "0");
    let placement = if single_child { Placement::OurGroup } else { Placement::NewSession };
    let mut rewrites = Rewrites::default();
    for rule in options.rewrite {
        rewrites.set(rule.from, rule.to);
    }
    default_rewrites(&mut rewrites, placement);
    let debug = options.verbose || is("DUMB_INIT_DEBUG", "1");
    Ok(Invocation::Run(Box::new(Plan {
        command: command(&mut matches).ok_or_else(|| {
            anyhow!("no command given; put it after the options, for example: dumb-init -- nginx")
        })?,
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
    })))
}

/// dumb-init reads a rule by `sscanf("%d:%d")`: blanks and a sign before each number, and whatever follows is left unread.
fn dumb_init_rule(text: &str) -> Result<Rule, String> {
    let rule = || {
        let (from, rest) = scan_integer(text)?;
        let (to, _) = scan_integer(rest.strip_prefix(':')?)?;
        let from = Signal::from_number(from).filter(|from| from.number() <= MAX_STANDARD)?;
        let to = match to {
            0 => Rewrite::Drop,
            to => Rewrite::To(Signal::from_number(to).filter(|to| to.number() <= MAX_STANDARD)?),
        };
        Some(Rule { from, to })
    };
    rule().ok_or_else(|| "expected FROM:TO, two numbers of signals from 1 to 31; TO 0 drops".to_owned())
}

/// The highest signal that the other inits know.
const MAX_STANDARD: i32 = 31;
/// SIGSTKFLT, SIGIO and SIGPWR.
const UNKNOWN_TO_TINI: [i32; 3] = [16, 29, 30];

/// As scanf(3) reads `%d`, with what follows. Too long a number is cut to 32 bits, as glibc does.
fn scan_integer(text: &str) -> Option<(i32, &str)> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
    let magnitude: i64 = digits.parse().unwrap_or(i64::MAX);
    let [a, b, c, d, ..] = if negative { magnitude.wrapping_neg() } else { magnitude }.to_le_bytes();
    Some((i32::from_le_bytes([a, b, c, d]), rest))
}

/// A command line that tini answers with its help.
#[derive(Debug)]
struct Misused(String);

impl std::fmt::Display for Misused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misused {}

/// The plan of tini 0.19: relay to the child, or with `-g` to its group; leave when it ends.
fn tini(name: &'static str, words: &VecDeque<OsString>, environment: &Environment<'_>) -> Result<Invocation> {
    let print = |text: &str| Ok(Invocation::Print(Text::out(text.to_owned())));
    if words.len() == 1 && words.front().is_some_and(|word| word == "--version") {
        return print(TINI_VERSION);
    }
    // glibc's getopt(3) looks for options behind the program too, and takes the first -- out.
    let mut command_line = TINI.command();
    if environment.variable("POSIXLY_CORRECT").is_some() {
        command_line = command_line.mut_arg(OPERANDS, |words| words.trailing_var_arg(true));
    }
    let mut matches = matches(&mut command_line, words.iter()).map_err(|error| {
        match (error.kind(), said(&TINI, &error, None)) {
            (ErrorKind::UnknownArgument | ErrorKind::InvalidValue, said) => Misused(said.to_string()).into(),
            (_, said) => said,
        }
    })?;
    let options = Tini::take(&mut matches);
    if options.help {
        return print(&tini_help(name));
    }
    if options.version {
        return print(TINI_VERSION);
    }
    if options.license || options.catatonits_license {
        return print(include_str!("../../LICENSE"));
    }
    let base = environment.variable("TINI_VERBOSITY").map_or(1, |value| to_integer(&value.to_string_lossy()));
    let level = match base.saturating_add(i64::from(options.verbose)) {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::WARN,
        2 => LevelFilter::INFO,
        3 => LevelFilter::DEBUG,
        // tini's own comparison takes a negative one for a high one.
        _ => LevelFilter::TRACE,
    };
    let log = quiet_log(name, level);
    if options.pause {
        return Ok(Invocation::Pause(log));
    }
    let group = options.group || environment.variable("TINI_KILL_PROCESS_GROUP").is_some();
    // catatonit always adopts, and podman's init is catatonit.
    let adopts = options.subreaper
        || environment.variable("TINI_SUBREAPER").is_some()
        || ["catatonit", "podman-init"].contains(&name);
    let mut rewrites = Rewrites::default();
    // They tell a background process to keep off the terminal, which tini has just left to the command.
    rewrites.set(Signal::TTIN, Rewrite::Drop);
    rewrites.set(Signal::TTOU, Rewrite::Drop);
    let mut zero_codes = ZeroCodes::default();
    for code in options.exit_zero {
        zero_codes.add(code);
    }
    Ok(Invocation::Run(Box::new(Plan {
        command: command(&mut matches).ok_or_else(|| {
            Misused(format!("no command given; put it after the options, for example: {name} -- nginx"))
        })?,
        placement: Placement::NewGroup,
        relay: if group { RelayTo::Group } else { RelayTo::MainChild },
        rewrites,
        adopt: if adopts { Adopt::Orphans } else { Adopt::Nothing },
        warn_of_orphans: options.warn,
        parent_death_signal: options.parent_death_signal,
        zero_codes,
        shutdown: ShutdownPlan::relay_only(Leftovers::Leave),
        report: Report::None,
        control: Control::None,
        log,
        start_failure: StartFailure::Tini,
        place: Place::NoContainer,
        withheld_variables: Vec::new(),
        warnings: Vec::new(),
    })))
}

/// tini takes the full names of the standard signals only.
fn tini_signal(text: &str) -> Result<Signal, String> {
    let is_standard = |signal: &Signal| {
        signal.number() <= MAX_STANDARD
            && !UNKNOWN_TO_TINI.contains(&signal.number())
            && signal.to_string() == text
    };
    let signal = Signal::parse(text).filter(is_standard);
    signal.ok_or_else(|| "expected the name of a signal, such as SIGTERM".to_owned())
}

/// As atoi(3) reads it: what is no number is 0.
fn to_integer(text: &str) -> i64 {
    scan_integer(text).map_or(0, |(number, _)| i64::from(number))
}

/// The command, which may be an empty word: that is not found then, as by the other inits.
fn command(matches: &mut clap::ArgMatches) -> Option<CommandLine> {
    CommandLine::from_words(matches.remove_many(OPERANDS)?)
}

fn quiet_log(name: &'static str, level: LevelFilter) -> LogPlan {
    LogPlan { name, level, format: LogFormat::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_names_select_the_same_init() {
        for name in ["dumb-init", "/usr/bin/dumb-init", "dumb-init_1.2.5_x86_64", "dumb-init_1.2.5_aarch64"] {
            assert_eq!(called(name.as_ref()), Some(Personality::DumbInit), "{name}");
        }
        for name in
            ["tini", "/sbin/tini", "tini-static", "tini-amd64", "tini-static-arm64", "tini-muslc-amd64"]
        {
            assert_eq!(called(name.as_ref()), Some(Personality::Tini("tini")), "{name}");
        }
        for name in ["docker-init", "podman-init", "catatonit"] {
            let path = format!("/run/{name}");
            assert_eq!(called(path.as_ref()), Some(Personality::Tini(name)), "{name}");
        }
        for name in ["grace-init", "init", "dumb-initx", "tinix", ""] {
            assert_eq!(called(name.as_ref()), None, "{name}");
        }
    }

    #[test]
    fn dumb_inits_rules_are_read_as_scanf_reads_them() {
        for rule in [
            "15:3",
            "1:0",
            "31:31",
            "15:2 ",
            " 15:2",
            "15:2\n",
            "15:2x",
            "15: 2",
            "+15:+2",
            "015:-0",
            "4294967311:2",
        ] {
            assert!(dumb_init_rule(rule).is_ok(), "{rule}");
        }
        for rule in [
            "TERM:QUIT",
            "0:1",
            "32:1",
            "1:32",
            "1",
            ":",
            "1:",
            "15:-1",
            "15 :2",
            "0x15:2",
            "99999999999999999999:1",
            "",
        ] {
            assert!(dumb_init_rule(rule).is_err(), "{rule}");
        }
    }
}
