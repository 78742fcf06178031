//! The command lines of the three faces, as data: what clap splits by, and what the help is written from.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;

use super::{Request, Stream};
use crate::outcome::ExitStatus;
use crate::plan::{self, Options, Plan};

/// One option.
pub(super) struct OptionSpec {
    /// Its long name, and the name by which the plan asks for it.
    pub name: &'static str,
    pub short: Option<char>,
    /// Whether it can be written `--name`.
    pub long: bool,
    /// What its value is called; `None` for a flag.
    pub value: Option<&'static str>,
    /// The environment variables that hold it, the first one found wins.
    pub variables: &'static [&'static str],
    /// Its lines in the help.
    pub help: &'static str,
}

impl OptionSpec {
    /// Whether it can be written on the command line; some are variables only.
    pub fn typed(&self) -> bool {
        self.long || self.short.is_some()
    }
}

/// One of the command lines that we understand.
pub(super) struct Face {
    /// What messages begin with.
    pub name: &'static str,
    /// The names of the program that select it.
    pub called: &'static [&'static str],
    pub options: &'static [&'static [OptionSpec]],
    /// Whether `-S` is one of them.
    pub splits_strings: bool,
    /// Whether a long option may be shortened, as getopt_long(3) allows.
    pub abbreviates: bool,
    pub help: fn() -> String,
    pub help_to: Stream,
    pub version: &'static str,
    pub usage_status: ExitStatus,
    /// Whether a command stands behind the options.
    pub takes_command: bool,
    pub request: fn(&Options) -> Result<Request>,
}

pub(super) static FACES: [Face; 3] = [GRACE_INIT, DUMB_INIT, TINI];

pub(super) const GRACE_INIT: Face = Face {
    name: "grace-init",
    called: &["grace-init"],
    options: GRACE_INIT_OPTIONS,
    splits_strings: true,
    abbreviates: false,
    help: grace_init_help,
    help_to: Stream::Out,
    version: concat!("grace-init ", env!("CARGO_PKG_VERSION")),
    usage_status: ExitStatus::OWN_FAILURE,
    takes_command: true,
    request: run_or_explain,
};

const DUMB_INIT: Face = Face {
    name: "dumb-init",
    called: &["dumb-init"],
    options: &[DUMB_INIT_OPTIONS],
    splits_strings: false,
    abbreviates: true,
    help: || short_help("dumb-init [OPTIONS] [--] COMMAND [ARG]...", &[DUMB_INIT_OPTIONS]),
    help_to: Stream::Error,
    version: concat!("grace-init ", env!("CARGO_PKG_VERSION"), ", called as dumb-init"),
    usage_status: ExitStatus::new(1),
    takes_command: true,
    request: |options| plan::dumb_init(options).map(run),
};

const TINI: Face = Face {
    name: "tini",
    called: &["tini", "tini-static", "docker-init"],
    options: &[TINI_OPTIONS],
    splits_strings: false,
    abbreviates: false,
    help: || short_help("tini [OPTIONS] [--] COMMAND [ARG]...", &[TINI_OPTIONS]),
    help_to: Stream::Out,
    version: concat!("grace-init ", env!("CARGO_PKG_VERSION"), ", called as tini"),
    usage_status: ExitStatus::new(1),
    takes_command: true,
    request: |options| plan::tini(options).map(run),
};

/// The subcommands: the first word selects one. Behind `--` it is a program's name.
pub(super) static SUBCOMMANDS: [(&str, Face); 4] = [
    (
        "stop",
        Face {
            name: "grace-init stop",
            options: &[TARGET_OPTIONS, STOP_OPTIONS, HELP_OPTIONS],
            help: || {
                format!(
                    "Asks a running init for its shutdown, and waits for it. As a preStop hook it needs no options.\n\n{}\n\
                     Exit status: 0 all went well, 1 a step failed or was overdue, 124 the time is up,\n\
                     125 wrong usage or no permission, 127 no init there.\n",
                    short_help("grace-init stop [OPTIONS]", &[TARGET_OPTIONS, STOP_OPTIONS, HELP_OPTIONS])
                )
            },
            request: |options| plan::stop(options).map(Request::Client),
            ..CLIENT
        },
    ),
    (
        "status",
        Face {
            name: "grace-init status",
            options: &[TARGET_OPTIONS, STATUS_OPTIONS, HELP_OPTIONS],
            help: || {
                format!(
                    "Tells how a running init stands.\n\n{}",
                    short_help(
                        "grace-init status [OPTIONS]",
                        &[TARGET_OPTIONS, STATUS_OPTIONS, HELP_OPTIONS]
                    )
                )
            },
            request: |options| plan::status(options).map(Request::Client),
            ..CLIENT
        },
    ),
    (
        "ready",
        Face {
            name: "grace-init ready",
            options: &[TARGET_OPTIONS, HELP_OPTIONS],
            help: || {
                format!(
                    "Exits with 0 while the command runs, with 1 once a shutdown began, with 127 when no init is there.\n\n{}",
                    short_help("grace-init ready [OPTIONS]", &[TARGET_OPTIONS, HELP_OPTIONS])
                )
            },
            request: |options| plan::ready(options).map(Request::Client),
            ..CLIENT
        },
    ),
    (
        "hook",
        Face {
            name: "grace-init hook",
            options: &[SHUTDOWN_OPTIONS, HOOK_OPTIONS, LOG_OPTIONS, HELP_OPTIONS],
            help: || {
                format!(
                    "A preStop hook for images whose ENTRYPOINT is another program: drain and chain run here, and\n\
                     with --stop-signal the process is stopped from here.\n\n{}\n\
                     Exit status: 0 all went well, 1 a step failed or was overdue, 124 the process is still there\n\
                     at the deadline, 125 wrong usage or no permission, 127 no such process.\n",
                    short_help(
                        "grace-init hook [OPTIONS]",
                        &[SHUTDOWN_OPTIONS, HOOK_OPTIONS, LOG_OPTIONS, HELP_OPTIONS]
                    )
                )
            },
            request: |options| plan::hook(options).map(|hook| Request::Hook(Box::new(hook))),
            ..CLIENT
        },
    ),
];

/// What the subcommands have in common.
const CLIENT: Face = Face { takes_command: false, splits_strings: false, ..GRACE_INIT };

fn run(plan: Plan) -> Request {
    Request::Run(Box::new(plan))
}

fn run_or_explain(options: &Options) -> Result<Request> {
    if !options.explain()? {
        return plan::grace_init(options).map(run);
    }
    let mut options = options.clone();
    if options.command.is_empty() {
        // A timeline can be drawn before there is anything to run.
        options.command.push("COMMAND".into());
    }
    plan::grace_init(&options).map(|plan| Request::Explain(Box::new(plan)))
}

/// `-x, --long VALUE`, `-x` or `--long`, and its variable.
macro_rules! option {
    ($short:expr, $name:literal, $value:expr, [$($variable:literal),*], $help:literal) => {
        OptionSpec { name: $name, short: $short, long: true, value: $value, variables: &[$($variable),*], help: $help }
    };
}

/// What the shutdown is made of; a hook has these too.
const SHUTDOWN_OPTIONS: &[OptionSpec] = &[
    option!(
        Some('g'),
        "grace",
        Some("DUR"),
        ["GRACE_INIT_GRACE", "TERMINATION_GRACE_PERIOD_SECONDS"],
        "the time the orchestrator gives before it kills: the pod's\n\
         terminationGracePeriodSeconds or docker stop -t, as it is;\n\
         none: no deadline [30s]"
    ),
    option!(
        None,
        "reserve",
        Some("DUR"),
        ["GRACE_INIT_RESERVE"],
        "kept back at its end for SIGKILL, reaping, post-stop and the\n\
         report [2s, at most a fifth of the grace]"
    ),
    option!(
        Some('d'),
        "drain",
        Some("DUR"),
        ["GRACE_INIT_DRAIN"],
        "keep serving this long first, so that load balancers notice [0]"
    ),
    option!(
        Some('p'),
        "pre-stop",
        Some("CMD"),
        ["GRACE_INIT_PRE_STOP"],
        "a command to run before the stop signal; repeat for a chain"
    ),
    option!(
        None,
        "pre-stop-timeout",
        Some("DUR"),
        ["GRACE_INIT_PRE_STOP_TIMEOUT"],
        "bound on each step [what the chain has left]"
    ),
    option!(
        None,
        "pre-stop-failure",
        Some("MODE"),
        ["GRACE_INIT_PRE_STOP_FAILURE"],
        "after a failed or overdue step: continue with the next, or\n\
         skip the rest [continue]"
    ),
    option!(
        None,
        "stop-signal",
        Some("LADDER"),
        ["GRACE_INIT_STOP_SIGNAL"],
        "QUIT, or a ladder TERM:10s,INT:5s: each rung waits that long,\n\
         the last until the deadline [the signal received]"
    ),
    option!(
        None,
        "stop-window",
        Some("DUR"),
        ["GRACE_INIT_STOP_WINDOW"],
        "time that the command always keeps between its stop signal\n\
         and SIGKILL [a third of grace less reserve, at most 10s]"
    ),
];

const RUN_OPTIONS: &[OptionSpec] = &[
    option!(
        None,
        "stop-on",
        Some("SIGNALS"),
        ["GRACE_INIT_STOP_ON"],
        "received signals that begin the shutdown [TERM,INT]"
    ),
    option!(
        None,
        "leftover-grace",
        Some("DUR"),
        ["GRACE_INIT_LEFTOVER_GRACE"],
        "when the command exits by itself: what its other processes get\n\
         between SIGTERM and SIGKILL; none: no limit [5s]"
    ),
    option!(
        None,
        "post-stop",
        Some("CMD"),
        ["GRACE_INIT_POST_STOP"],
        "a command to run after everything has gone; repeatable"
    ),
    option!(
        Some('c'),
        "single-child",
        None,
        ["GRACE_INIT_SINGLE_CHILD"],
        "relay to the command alone, not to its process group"
    ),
    option!(
        Some('r'),
        "rewrite",
        Some("FROM:TO"),
        ["GRACE_INIT_REWRITE"],
        "relay FROM as TO; TO 0 drops it; repeatable"
    ),
    option!(
        Some('e'),
        "exit-zero",
        Some("CODE"),
        ["GRACE_INIT_EXIT_ZERO"],
        "report this exit status of the command as 0; repeatable"
    ),
    option!(Some('S'), "split-string", Some("STR"), [], "split STR into further arguments, for a #! line"),
    option!(
        None,
        "parent-death-signal",
        Some("SIG"),
        ["GRACE_INIT_PARENT_DEATH_SIGNAL"],
        "get SIG when our own parent dies"
    ),
    option!(
        None,
        "report",
        Some("PATH"),
        ["GRACE_INIT_REPORT"],
        "an existing file for the report of a shutdown that went wrong;\n\
         none [/dev/termination-log]"
    ),
    option!(
        None,
        "control",
        Some("PATH"),
        ["GRACE_INIT_CONTROL"],
        "the control socket, or a directory for it; none [as PID 1: in the\n\
         first of /run, /dev/shm, /tmp that can be written; else none]"
    ),
];

const LOG_OPTIONS: &[OptionSpec] = &[
    option!(
        None,
        "log-level",
        Some("LEVEL"),
        ["GRACE_INIT_LOG_LEVEL"],
        "off, error, warn, info, debug or trace [info]"
    ),
    option!(
        None,
        "log-format",
        Some("FORMAT"),
        ["GRACE_INIT_LOG_FORMAT"],
        "text or json, on standard error [text]"
    ),
    option!(Some('v'), "verbose", None, ["GRACE_INIT_VERBOSE"], "the same as --log-level debug"),
];

const EXPLAIN_OPTIONS: &[OptionSpec] = &[option!(
    None,
    "explain",
    None,
    ["GRACE_INIT_EXPLAIN"],
    "draw the timeline that these settings give, and exit"
)];

const HELP_OPTIONS: &[OptionSpec] = &[
    option!(Some('h'), "help", None, [], "print this help"),
    option!(Some('V'), "version", None, [], "print the version"),
];

const GRACE_INIT_OPTIONS: &[&[OptionSpec]] =
    &[SHUTDOWN_OPTIONS, RUN_OPTIONS, LOG_OPTIONS, EXPLAIN_OPTIONS, HELP_OPTIONS];

/// Which init a client talks to.
const TARGET_OPTIONS: &[OptionSpec] = &[
    option!(None, "pid", Some("N"), [], "the init's PID [1]"),
    option!(
        None,
        "control",
        Some("PATH"),
        ["GRACE_INIT_CONTROL"],
        "its control socket, or the directory of that [the first of\n\
         /run, /dev/shm, /tmp where it is]"
    ),
];

const STOP_OPTIONS: &[OptionSpec] = &[
    option!(
        None,
        "until",
        Some("WHEN"),
        [],
        "return when drain and chain are over (prepared), or when\n\
         everything is (stopped) [prepared]"
    ),
    option!(None, "timeout", Some("DUR"), [], "return 124 after this time; the shutdown goes on [none]"),
];

const STATUS_OPTIONS: &[OptionSpec] = &[option!(None, "json", None, [], "for programs: one JSON object")];

const HOOK_OPTIONS: &[OptionSpec] = &[
    option!(None, "pid", Some("N"), [], "the process to stop [1]"),
    option!(None, "kill", None, [], "SIGKILL it at the deadline, and do not leave that to others"),
];

const DUMB_INIT_OPTIONS: &[OptionSpec] = &[
    option!(
        Some('c'),
        "single-child",
        None,
        [],
        "relay to the command alone, in our own session; the same as\n\
         DUMB_INIT_SETSID=0"
    ),
    option!(
        Some('r'),
        "rewrite",
        Some("FROM:TO"),
        [],
        "relay signal number FROM as TO; TO 0 drops it; repeatable"
    ),
    option!(Some('v'), "verbose", None, [], "tell what happens; the same as DUMB_INIT_DEBUG=1"),
    option!(Some('h'), "help", None, [], "print this help"),
    option!(Some('V'), "version", None, [], "print the version"),
    OptionSpec {
        name: "setsid",
        short: None,
        long: false,
        value: None,
        variables: &["DUMB_INIT_SETSID"],
        help: "",
    },
    OptionSpec {
        name: "debug",
        short: None,
        long: false,
        value: None,
        variables: &["DUMB_INIT_DEBUG"],
        help: "",
    },
];

/// An option of one letter; the plan asks for it by that letter.
macro_rules! letter {
    ($short:literal, $name:literal, $value:expr, [$($variable:literal),*], $help:literal) => {
        OptionSpec {
            name: $name, short: Some($short), long: false, value: $value, variables: &[$($variable),*], help: $help
        }
    };
}

const TINI_OPTIONS: &[OptionSpec] = &[
    letter!(
        's',
        "s",
        None,
        ["TINI_SUBREAPER"],
        "adopt orphans when we are not PID 1; the same as TINI_SUBREAPER"
    ),
    letter!('p', "p", Some("SIGNAL"), [], "get SIGNAL when our own parent dies"),
    letter!('e', "e", Some("CODE"), [], "report this exit status of the command as 0; repeatable"),
    letter!(
        'g',
        "g",
        None,
        ["TINI_KILL_PROCESS_GROUP"],
        "relay to the command's process group; the same as\n\
         TINI_KILL_PROCESS_GROUP"
    ),
    letter!('w', "w", None, [], "warn when an orphan is reaped"),
    letter!('v', "v", None, [], "tell more; repeatable; TINI_VERBOSITY sets where it begins [1]"),
    letter!('l', "l", None, [], "print the license"),
    letter!('h', "help", None, [], "print this help"),
    OptionSpec {
        name: "version",
        short: None,
        long: true,
        value: None,
        variables: &[],
        help: "print the version",
    },
    OptionSpec {
        name: "verbosity",
        short: None,
        long: false,
        value: None,
        variables: &["TINI_VERBOSITY"],
        help: "",
    },
];

/// What one word means to the search for `-S`.
pub(super) enum Split<'a> {
    /// The options end before it.
    Ends,
    /// It is another option, and the next word may be its value.
    Option { takes_next: bool },
    /// It is `-S`, behind these other short flags, with its string if that is in the same word.
    String { flags: &'a [u8], string: Option<&'a [u8]> },
}

impl Face {
    /// Its options, in the order of the help.
    pub fn options(&self) -> impl Iterator<Item = &'static OptionSpec> {
        self.options.iter().copied().flatten()
    }

    /// Whether one of the words can be this option. Others may be taken for it too: values, the command's own options.
    pub fn may_name(&self, option: &OptionSpec, words: &VecDeque<OsString>) -> bool {
        let names = |word: &[u8]| match word.strip_prefix(b"--") {
            // A shortened one can be any, and to be refused when it can be two it must know both.
            Some(_) if self.abbreviates => option.long,
            Some(long) => {
                let rest = long.strip_prefix(option.name.as_bytes());
                option.long && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
            }
            None => option.short.is_some_and(|letter| word.iter().any(|byte| char::from(*byte) == letter)),
        };
        words.iter().map(|word| word.as_bytes()).any(|word| word.starts_with(b"-") && names(word))
    }

    /// Looks at one word as getopt(3) would, for `-S` only; clap reads the rest.
    pub fn split_string_in<'a>(&self, word: &'a [u8]) -> Split<'a> {
        if let Some(long) = word.strip_prefix(b"--") {
            if long.is_empty() {
                return Split::Ends;
            }
            if long == b"split-string" {
                return Split::String { flags: &[], string: None };
            }
            if let Some(string) = long.strip_prefix(b"split-string=") {
                return Split::String { flags: &[], string: Some(string) };
            }
            let takes_next = self.options().any(|o| o.name.as_bytes() == long && o.value.is_some());
            return Split::Option { takes_next };
        }
        let Some(letters) = word.strip_prefix(b"-").filter(|letters| !letters.is_empty()) else {
            return Split::Ends;
        };
        for (place, letter) in letters.iter().enumerate() {
            let Some((flags, [_, rest @ ..])) = letters.split_at_checked(place) else { break };
            let in_this_word = Some(rest).filter(|rest| !rest.is_empty());
            if *letter == b'S' {
                return Split::String { flags, string: in_this_word };
            }
            let takes_value = |o: &OptionSpec| o.short == Some(char::from(*letter)) && o.value.is_some();
            if self.options().any(takes_value) {
                return Split::Option { takes_next: in_this_word.is_none() };
            }
        }
        Split::Option { takes_next: false }
    }
}

const HELP_ENDS: &str = "
DUR is 500ms, 10s, 1m30s, or a number of seconds. A signal is TERM, SIGTERM, 15 or RTMIN+1.
CMD is split as a shell quotes words and runs without a shell. Built in: @sleep DUR,
@signal SIG, @http GET|POST URL, @wait-file PATH, @wait-port-idle PORT.
Each long option can be set by a variable: --drain by GRACE_INIT_DRAIN; the command line wins.
A variable of a repeatable option holds one value a line.

Exit status: the command's own, or 128 and the signal that ended it; 125 wrong usage,
126 not executable, 127 not found.

  grace-init -- nginx -g 'daemon off;'
  grace-init --grace 30s --drain 5s --pre-stop 'nginx -s quit' -- nginx -g 'daemon off;'
  #!/usr/bin/grace-init -S --grace 10s /bin/sh
  grace-init stop | status | ready | hook --help
";

fn grace_init_help() -> String {
    let mut help = String::from(
        "Runs COMMAND, relays signals, reaps, and shuts down gracefully: an init for containers.\n\n",
    );
    help.push_str(&short_help("grace-init [OPTIONS] [--] COMMAND [ARG]...", GRACE_INIT_OPTIONS));
    help.push_str(HELP_ENDS);
    help
}

/// The usage line and the table of options.
fn short_help(usage: &str, options: &[&[OptionSpec]]) -> String {
    const COLUMN: usize = 31;
    let mut help = format!("Usage: {usage}\n\n");
    for option in options.iter().copied().flatten().filter(|option| option.typed()) {
        let short = match (option.short, option.long) {
            (Some(letter), true) => format!("-{letter}, "),
            (Some(letter), false) => format!("-{letter}"),
            (None, _) => "    ".to_owned(),
        };
        let long = if option.long { format!("--{}", option.name) } else { String::new() };
        let value = option.value.map(|value| format!(" {value}")).unwrap_or_default();
        let mut left = format!("  {short}{long}{value}");
        if left.len() >= COLUMN {
            left.push('\n');
            left.push_str(&" ".repeat(COLUMN));
        }
        // Writing to a String cannot fail.
        let _ = write!(help, "{left:COLUMN$}");
        let _ = writeln!(help, "{}", option.help.replace('\n', &format!("\n{}", " ".repeat(COLUMN))));
    }
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_long_option_reads_its_variable() {
        for option in GRACE_INIT_OPTIONS.iter().copied().flatten() {
            let variable = format!("GRACE_INIT_{}", option.name.to_uppercase().replace('-', "_"));
            let own = ["help", "version", "split-string"].contains(&option.name);
            assert_eq!(option.variables.contains(&variable.as_str()), !own, "{variable}");
        }
    }

    #[test]
    fn the_help_names_every_option_and_fits_a_terminal() {
        let help = grace_init_help();
        for option in GRACE_INIT_OPTIONS.iter().copied().flatten() {
            assert!(help.contains(&format!("--{}", option.name)), "{}", option.name);
        }
        assert!(help.lines().all(|line| line.len() <= 100), "{help}");
    }
}
