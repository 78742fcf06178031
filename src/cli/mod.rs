//! From words and environment to a request. Which init we are is decided by the name we were called by.

mod table;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use anyhow::{Result, anyhow};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, value_parser};

use crate::outcome::ExitStatus;
use crate::plan::{self, ClientPlan, Given, HookPlan, Options, Plan, Source};
use table::{Face, OptionSpec};

/// What the words ask for.
#[derive(Debug)]
pub enum Request {
    /// Run a command.
    Run(Box<Plan>),
    /// Print the timeline of these settings.
    Explain(Box<Plan>),
    /// Talk to a running init.
    Client(ClientPlan),
    /// Stand in for an init.
    Hook(Box<HookPlan>),
    /// Print a text and exit 0.
    Print(Text),
}

/// A text for the user.
#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    /// What it says.
    pub text: String,
    /// Where it goes.
    pub to: Stream,
}

impl Text {
    /// A text for standard output.
    pub const fn out(text: String) -> Self {
        Self { text, to: Stream::Out }
    }

    /// Prints it; a reader that is gone is no error of ours.
    pub fn print(&self) -> ExitStatus {
        let _ = match self.to {
            Stream::Out => std::io::stdout().write_all(self.text.as_bytes()),
            Stream::Error => std::io::stderr().write_all(self.text.as_bytes()),
        };
        ExitStatus::SUCCESS
    }
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Error,
}

/// Why the words ask for nothing that can be done.
#[derive(Debug)]
pub struct Refusal {
    /// The name that the message begins with.
    pub name: &'static str,
    /// What is wrong, where, and what to do.
    pub error: anyhow::Error,
    /// What to exit with.
    pub status: ExitStatus,
}

impl Refusal {
    /// Prints it and says what to exit with.
    pub fn print(&self) -> ExitStatus {
        let text = format!("{}: {:#}\n", self.name, self.error);
        Text { text, to: Stream::Error }.print();
        self.status
    }
}

/// Reads the words (the program's own name first) and the environment.
///
/// # Errors
/// A usage error, for `main` to print; nothing has been started yet.
pub fn read(words: Vec<OsString>, variable: impl Fn(&str) -> Option<OsString>) -> Result<Request, Refusal> {
    let mut words = VecDeque::from(words);
    let mut face = Face::called(words.pop_front().as_deref().unwrap_or_default());
    if face.name == table::GRACE_INIT.name
        && let Some(first) = words.front()
        && let Some((_, subcommand)) = table::SUBCOMMANDS.iter().find(|(name, _)| first == name)
    {
        face = subcommand;
        words.pop_front();
    }
    answer(face, words, &variable).map_err(|error| Refusal {
        name: face.name,
        error,
        status: face.usage_status,
    })
}

fn answer(
    face: &Face,
    words: VecDeque<OsString>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Request> {
    let words = if face.splits_strings { splice_split_strings(face, words)? } else { words };
    let options = given(face, words, variable)?;
    let asked = |name: &str| options.given.iter().any(|(option, _)| *option == name);
    let print = |text: String| Ok(Request::Print(Text { text, to: face.help_to }));
    if asked("help") {
        return print((face.help)());
    }
    if asked("version") {
        return print(format!("{}\n", face.version));
    }
    if asked("l") {
        return print(include_str!("../../LICENSE").to_owned());
    }
    (face.request)(&options)
}

/// Puts the words of each `-S STRING` in its place, as env(1) does: the kernel passes everything behind the
/// interpreter of a `#!` line as one word (execve(2), "Interpreter scripts"), so `-S` may carry it all.
fn splice_split_strings(face: &Face, mut words: VecDeque<OsString>) -> Result<VecDeque<OsString>> {
    let mut done = VecDeque::new();
    while let Some(word) = words.pop_front() {
        let string = match face.split_string_in(word.as_bytes()) {
            table::Split::Ends => {
                words.push_front(word);
                break;
            }
            table::Split::Option { takes_next } => {
                done.push_back(word);
                if takes_next {
                    done.extend(words.pop_front());
                }
                continue;
            }
            table::Split::String { flags, string } => {
                if !flags.is_empty() {
                    done.push_back(OsString::from_vec([b"-", flags].concat()));
                }
                match string {
                    Some(string) => OsStr::from_bytes(string).to_owned(),
                    None => words
                        .pop_front()
                        .ok_or_else(|| anyhow!("--split-string: expected a string behind it"))?,
                }
            }
        };
        for word in plan::split_string(&string)?.into_iter().rev() {
            words.push_front(word);
        }
    }
    done.append(&mut words);
    Ok(done)
}

/// Lets clap take the words apart, and adds the environment where the command line says nothing.
fn given(
    face: &Face,
    words: VecDeque<OsString>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Options> {
    // Only what is on the line: to describe every option to clap would take most of the time and memory that we need
    // before the command is there.
    let described = face.options().map(|option| face.may_name(option, &words)).collect();
    given_by(face, described, words, variable)
}

/// As [`given`], with the options that clap is to know. It refuses any other as unknown.
fn given_by(
    face: &Face,
    described: Vec<bool>,
    words: VecDeque<OsString>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Options> {
    let mut parser = Command::new(face.name)
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(face.abbreviates);
    if face.takes_command {
        let words =
            Arg::new(COMMAND).num_args(1..).trailing_var_arg(true).value_parser(value_parser!(OsString));
        parser = parser.arg(words);
    }
    for (option, _) in face.options().zip(&described).filter(|(_, described)| **described) {
        parser = parser.arg(argument(option));
    }
    let has_space = words.front().is_some_and(|word| word.as_bytes().contains(&b' '));
    let mut matches = parser.try_get_matches_from(words).map_err(|error| refused(&error, has_space))?;
    let mut options = Options::default();
    for (option, described) in face.options().zip(described) {
        let on_the_line: Vec<OsString> = match (described, option.value) {
            (false, _) => Vec::new(),
            (true, Some(_)) => matches.remove_many(option.name).map(Iterator::collect).unwrap_or_default(),
            (true, None) => vec![OsString::new(); usize::from(matches.get_count(option.name))],
        };
        let mut all: Vec<Given> =
            on_the_line.into_iter().map(|value| Given { value, source: Source::CommandLine }).collect();
        if all.is_empty() {
            let found = option
                .variables
                .iter()
                .find_map(|name| Some(Given { value: variable(name)?, source: Source::Variable(name) }));
            all.extend(found);
        }
        options.given.extend(all.into_iter().map(|given| (option.name, given)));
    }
    if face.takes_command {
        options.command = matches.remove_many(COMMAND).map(Iterator::collect).unwrap_or_default();
    }
    Ok(options)
}

/// The id of the command's words; no option can be called so.
const COMMAND: &str = "COMMAND";

fn argument(option: &OptionSpec) -> Arg {
    let mut argument = Arg::new(option.name);
    if let Some(short) = option.short {
        argument = argument.short(short);
    }
    if option.long {
        argument = argument.long(option.name);
    }
    if option.value.is_some() {
        argument
            .action(ArgAction::Append)
            .num_args(1)
            .allow_hyphen_values(true)
            .value_parser(value_parser!(OsString))
    } else {
        argument.action(ArgAction::Count)
    }
}

/// Says in our words what clap found wrong.
#[expect(clippy::wildcard_enum_match_arm, reason = "clap's list is open and mostly about what we do not use")]
fn refused(error: &clap::Error, has_space: bool) -> anyhow::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let argument = text(ContextKind::InvalidArg);
    // clap names an option together with its value: `--grace <grace>`.
    let option = argument.split(' ').next().unwrap_or(argument).trim_end_matches('.');
    match error.kind() {
        ErrorKind::UnknownArgument if has_space => {
            anyhow!(
                "no option {argument}: a #! line passes all its words as one: begin it with -S to split them"
            )
        }
        ErrorKind::UnknownArgument if !argument.starts_with('-') => {
            anyhow!("{argument:?} is one word too many: see --help")
        }
        ErrorKind::UnknownArgument => {
            anyhow!("no option {argument}: see --help; a command that begins with a dash goes behind --")
        }
        ErrorKind::InvalidValue => anyhow!("{option}: expected a value behind it"),
        ErrorKind::TooManyValues => anyhow!("{option}: takes no value"),
        _ => anyhow!("{option}: cannot be read: see --help"),
    }
}

impl Face {
    /// The face for the name that we were called by.
    fn called(name: &OsStr) -> &'static Self {
        let name = Path::new(name).file_name().unwrap_or_default();
        table::FACES
            .iter()
            .find(|face| face.called.iter().any(|known| name == *known))
            .unwrap_or(&table::GRACE_INIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Placement, RelayTo};
    use crate::signal::{Rewrite, Signal};
    use proptest::prelude::*;
    use std::time::Duration;

    fn read_in(words: &[&str], environment: &[(&str, &str)]) -> Result<Request, Refusal> {
        let variable =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        read(words.iter().map(OsString::from).collect(), variable)
    }

    fn plan_in(words: &[&str], environment: &[(&str, &str)]) -> Plan {
        match read_in(words, environment) {
            Ok(Request::Run(plan)) => *plan,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn plan(words: &[&str]) -> Plan {
        plan_in(words, &[])
    }

    fn refusal(words: &[&str]) -> (String, u8) {
        let refusal = read_in(words, &[]).unwrap_err();
        (format!("{:#}", refusal.error), refusal.status.code())
    }

    fn command(plan: &Plan) -> Vec<&str> {
        let command = &plan.command;
        std::iter::once(&command.program)
            .chain(&command.arguments)
            .map(|word| word.to_str().unwrap())
            .collect()
    }

    #[test]
    fn options_end_at_the_first_word_that_is_none() {
        for (words, expected) in [
            (vec!["grace-init", "a", "-c", "--", "-g"], vec!["a", "-c", "--", "-g"]),
            (vec!["grace-init", "--", "a", "--", "b"], vec!["a", "--", "b"]),
            (vec!["grace-init", "-c", "a", "--help"], vec!["a", "--help"]),
            (vec!["grace-init", "--", "-x"], vec!["-x"]),
            (vec!["dumb-init", "-cv", "a", "-r", "x"], vec!["a", "-r", "x"]),
            (vec!["/sbin/tini", "-g", "--", "a", "-g"], vec!["a", "-g"]),
        ] {
            assert_eq!(command(&plan(&words)), expected, "{words:?}");
        }
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let environment = [("GRACE_INIT_GRACE", "10s"), ("GRACE_INIT_PRE_STOP", "one\ntwo")];
        let plan = plan_in(&["grace-init", "-g20s", "-p", "three", "a"], &environment);
        assert_eq!(plan.shutdown.grace, Some(Duration::from_secs(20)));
        assert_eq!(plan.shutdown.pre_stop.len(), 1);
        let plan = plan_in(&["grace-init", "a"], &environment);
        assert_eq!(plan.shutdown.grace, Some(Duration::from_secs(10)));
        assert_eq!(plan.shutdown.pre_stop.len(), 2);
    }

    #[test]
    fn the_pods_variable_is_read_behind_our_own() {
        let pods = ("TERMINATION_GRACE_PERIOD_SECONDS", "60");
        assert_eq!(plan_in(&["grace-init", "a"], &[pods]).shutdown.grace, Some(Duration::from_secs(60)));
        let both = [pods, ("GRACE_INIT_GRACE", "5s")];
        assert_eq!(plan_in(&["grace-init", "a"], &both).shutdown.grace, Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_shebang_line_is_split() {
        for words in [
            vec!["grace-init", "-S --grace 10s -c /bin/sh -x", "script", "-S", "y"],
            vec!["grace-init", "-S", "--grace '10s' -c /bin/sh -x", "script", "-S", "y"],
            vec!["grace-init", "--split-string=--grace 10s", "-cS/bin/sh -x", "script", "-S", "y"],
            vec!["grace-init", "-g", "10s", "-cS", "/bin/sh -x", "script", "-S", "y"],
        ] {
            let plan = plan(&words);
            assert_eq!(command(&plan), ["/bin/sh", "-x", "script", "-S", "y"], "{words:?}");
            assert_eq!(
                (plan.shutdown.grace, plan.relay),
                (Some(Duration::from_secs(10)), RelayTo::MainChild)
            );
        }
    }

    #[test]
    fn a_value_that_looks_like_split_string_is_left_alone() {
        assert_eq!(command(&plan(&["grace-init", "-p", "-S x", "a", "b"])), ["a", "b"]);
        assert_eq!(command(&plan(&["grace-init", "-p-Sx", "a", "b"])), ["a", "b"]);
        assert_eq!(command(&plan(&["grace-init", "--", "-S", "b"])), ["-S", "b"]);
    }

    #[test]
    fn usage_errors_say_what_to_do() {
        for (words, part, status) in [
            (vec!["grace-init"], "no command to run", 125),
            (vec!["grace-init", ""], "no command to run", 125),
            (vec!["grace-init", "--bogus", "a"], "no option --bogus", 125),
            (vec!["grace-init", "-c /bin/sh", "script"], "begin it with -S", 125),
            (vec!["grace-init", "--grace"], "--grace: expected a value", 125),
            (vec!["grace-init", "--gra", "3s", "a"], "no option --gra", 125),
            (vec!["grace-init", "-S"], "expected a string", 125),
            (vec!["grace-init", "-S", "'open"], "not closed", 125),
            (vec!["grace-init", "-c=3", "a"], "", 125),
            (vec!["dumb-init"], "no command to run", 1),
            (vec!["dumb-init", "-r", "TERM:INT", "a"], "two numbers", 1),
            (vec!["dumb-init", "-S", "a"], "no option -S", 1),
            (vec!["tini", "-p", "NOPE", "a"], "a signal such as", 1),
            (vec!["docker-init", "--grace", "3s", "a"], "no option --grace", 1),
        ] {
            let (error, code) = refusal(&words);
            assert!(error.contains(part), "{words:?}: {error}");
            assert_eq!(code, status, "{words:?}");
        }
    }

    #[test]
    fn dumb_init_has_its_own_options_and_environment_only() {
        let environment =
            [("GRACE_INIT_GRACE", "nonsense"), ("DUMB_INIT_SETSID", "0"), ("DUMB_INIT_DEBUG", "1")];
        let plan = plan_in(&["/usr/bin/dumb-init", "--rew=15:3", "--rewrite", "1:0", "a"], &environment);
        assert_eq!((plan.placement, plan.relay), (Placement::OurGroup, RelayTo::MainChild));
        assert_eq!(plan.rewrites.apply(Signal::TERM), Rewrite::To(Signal::QUIT));
        assert_eq!(plan.rewrites.apply(Signal::HUP), Rewrite::Drop);
        assert_eq!(plan.rewrites.apply(Signal::TSTP), Rewrite::To(Signal::TSTP));
        assert_eq!(plan.log.level, tracing::level_filters::LevelFilter::DEBUG);
        assert_eq!((plan.shutdown.grace, plan.shutdown.stop_on.bits()), (None, 0));
    }

    #[test]
    fn tini_has_its_own_options_and_environment_only() {
        let environment = [("TINI_SUBREAPER", ""), ("TINI_KILL_PROCESS_GROUP", ""), ("TINI_VERBOSITY", "3")];
        let with_environment = plan_in(&["tini", "a"], &environment);
        assert_eq!((with_environment.adopt, with_environment.relay), (plan::Adopt::Orphans, RelayTo::Group));
        assert_eq!(with_environment.log.level, tracing::level_filters::LevelFilter::DEBUG);
        let plain = plan(&["tini", "-e", "143", "-p", "SIGTERM", "-w", "a"]);
        assert_eq!((plain.adopt, plain.relay), (plan::Adopt::Nothing, RelayTo::MainChild));
        assert_eq!(plain.parent_death_signal, Some(Signal::TERM));
    }

    #[test]
    fn help_and_version_go_where_each_init_puts_them() {
        for (name, to) in [("grace-init", Stream::Out), ("dumb-init", Stream::Error), ("tini", Stream::Out)] {
            for option in ["-h", "--version"] {
                let Ok(Request::Print(text)) = read_in(&[name, option], &[]) else {
                    panic!("{name} {option}")
                };
                assert_eq!(text.to, to, "{name} {option}");
            }
        }
    }

    proptest! {
        #[test]
        fn options_that_no_word_names_make_no_difference(
            face in 0..table::FACES.len(),
            words in proptest::collection::vec("(-{0,2}[a-zS=-]{0,3}|--(grace|rewrite|reserve|single-child|stop-on|ver|control)=?)?[ a-z0-9-]{0,3}", 0..6),
        ) {
            let face = &table::FACES[face];
            let words: VecDeque<OsString> = words.into_iter().map(OsString::from).collect();
            let all = face.options().map(OptionSpec::typed).collect();
            let told = |given: Result<Options>| given.map_err(|error| format!("{error:#}")).map(|options| format!("{options:?}"));
            prop_assert_eq!(told(given(face, words.clone(), &|_| None)), told(given_by(face, all, words, &|_| None)));
        }

        #[test]
        fn no_words_make_the_reader_panic(
            name in "(grace-init|dumb-init|tini)",
            words in proptest::collection::vec("(-{0,2}[a-zS=]{0,3}|--(grace|rewrite|split-string|stop-signal)=?)?[ '\\\\a-z0-9:,]{0,8}", 0..6),
        ) {
            let words = std::iter::once(name).chain(words).map(OsString::from).collect();
            let _ = read(words, |_| None);
        }
    }
}
