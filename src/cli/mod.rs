//! From the command line and the environment to what is to be done. The name that we were called by decides whose command
//! line it is.

mod environment;
mod help;
mod options;
#[cfg(test)]
mod pages;
mod personality;
mod resolve;
mod spec;
mod split_string;
mod values;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

pub use environment::Environment;
use environment::FromVariables;
use help::{Length, help};
use options::AboutOptions;
use spec::{CommandLineSpec, Group, OPERANDS};

use crate::outcome::ExitStatus;
use crate::plan::{ClientPlan, HookPlan, LogPlan, Plan};

#[cfg(test)]
pub(crate) use resolve::{plan_for_tests, plan_of_words_for_tests};

/// What we were called for.
#[derive(Debug)]
pub enum Invocation {
    /// Run a command.
    Run(Box<Plan>),
    /// Print the timeline of these settings.
    Explain(Box<Plan>),
    /// Talk to a running init.
    Client(ClientPlan),
    /// Stand in for an init.
    Hook(Box<HookPlan>),
    /// Copy our own file there.
    CopyTo(PathBuf),
    /// Reap until a signal comes (catatonit's `-P`).
    Pause(LogPlan),
    /// Print a text and exit 0.
    Print(Text),
}

/// A text for whoever called us.
#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    /// What it says.
    pub text: String,
    /// Where it goes.
    pub to: Stream,
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Error,
}

impl Text {
    /// A text for standard output.
    pub const fn out(text: String) -> Self {
        Self { text, to: Stream::Out }
    }
}

/// Why nothing can be done.
#[derive(Debug)]
pub struct Refusal {
    /// The name that the message begins with.
    pub name: &'static str,
    /// What is wrong, where, and what to do.
    pub error: anyhow::Error,
    /// A text to print below it.
    pub help: Option<String>,
    /// What to exit with.
    pub status: ExitStatus,
}

impl Refusal {
    /// The message, for standard error.
    pub fn text(&self) -> String {
        format!("{}: {:#}\n{}", self.name, self.error, self.help.as_deref().unwrap_or_default())
    }
}

/// Reads the words of the command line, our own name first, and the environment.
///
/// # Errors
/// A usage error, for `main` to print; nothing has been started yet.
pub fn read(words: Vec<OsString>, environment: &Environment<'_>) -> Result<Invocation, Refusal> {
    let mut words = VecDeque::from(words);
    let called = words.pop_front().unwrap_or_default();
    if let Some(personality) = personality::called(&called) {
        return personality.read(words, environment);
    }
    let subcommand = words.front().and_then(|first| subcommand(first));
    let (command_line, resolve) = subcommand.unwrap_or((&options::RUN, resolve::run));
    if subcommand.is_some() {
        words.pop_front();
    }
    let answer = match parse(command_line, words, environment) {
        Ok(Parsed::Words(parsed)) => resolve(parsed, environment),
        Ok(Parsed::Text(text)) => Ok(Invocation::Print(text)),
        Err(error) => Err(error),
    };
    answer.map_err(|error| Refusal {
        name: command_line.name,
        error,
        help: None,
        status: ExitStatus::OWN_FAILURE,
    })
}

/// A command line, and what its words ask for.
type Entry = (&'static CommandLineSpec, fn(ParsedWords, &Environment<'_>) -> Result<Invocation>);

const SUBCOMMANDS: [Entry; 7] = [
    (&options::PRE_STOP, resolve::pre_stop),
    (&options::STOP, resolve::stop),
    (&options::CANCEL, resolve::cancel),
    (&options::STATUS, resolve::status),
    (&options::READY, resolve::ready),
    (&options::HOOK, resolve::hook),
    (&options::COPY_TO, resolve::copy_to),
];

/// The subcommands, by the first word.
fn subcommand_names() -> impl Iterator<Item = &'static str> {
    SUBCOMMANDS.iter().filter_map(|(command_line, _)| command_line.name.strip_prefix("grace-init "))
}

/// The subcommand that the first word selects; behind `--` that word is a program.
fn subcommand(word: &OsStr) -> Option<Entry> {
    SUBCOMMANDS.iter().zip(subcommand_names()).find(|(_, name)| word == *name).map(|(entry, _)| *entry)
}

/// grace-init's own command line and those of its subcommands.
fn command_lines() -> impl Iterator<Item = &'static CommandLineSpec> {
    std::iter::once(&options::RUN).chain(SUBCOMMANDS.iter().map(|(command_line, _)| *command_line))
}

/// A command line taken apart.
struct ParsedWords {
    matches: ArgMatches,
    variables: FromVariables,
    /// Whether `--` stands before the operands.
    has_dashes: bool,
}

impl ParsedWords {
    fn operands(&mut self) -> Vec<OsString> {
        self.matches.remove_many(OPERANDS).map(Iterator::collect).unwrap_or_default()
    }
}

/// What a command line asks for.
enum Parsed {
    Words(ParsedWords),
    /// To print this.
    Text(Text),
}

/// Someone who writes `redy` for `ready` gets a hint, not a container that cannot start.
fn refuse_misspelled_subcommand(program: &OsStr, environment: &Environment<'_>) -> Result<()> {
    let Some(program_name) = program.to_str() else { return Ok(()) };
    let near = nearest(program_name, subcommand_names()).filter(|name| distance(program_name, name) < 2);
    if let Some(nearest) = near.filter(|_| !(environment.is_program)(program)) {
        bail!("{program_name:?} was not found in PATH; did you mean grace-init {nearest}?");
    }
    Ok(())
}

/// Reads the words, and the variables of the options that they leave out.
fn parse(
    command_line: &'static CommandLineSpec,
    words: VecDeque<OsString>,
    environment: &Environment<'_>,
) -> Result<Parsed> {
    let splits = command_line.options().any(|option| option.spec().name == "split-string");
    let words = if splits { split_string::expand(command_line, words)? } else { words };
    let mut command = command_line.command();
    let mut matches = matches(&mut command, words.iter()).map_err(|error| match words.front() {
        Some(word) if error.kind() == ErrorKind::UnknownArgument && word.as_bytes().contains(&b' ') => {
            anyhow!("unknown option {word:?}; a #! line passes all its words as one: begin it with -S to split them")
        }
        _ => said(command_line, &error, None),
    })?;
    let about = AboutOptions::take(&mut matches);
    let print = |text| Ok(Parsed::Text(Text::out(text)));
    if about.short_help {
        return print(help(command_line, Length::Short));
    }
    if about.help {
        return print(help(command_line, Length::Long));
    }
    if about.version {
        return print(concat!("grace-init ", env!("CARGO_PKG_VERSION"), "\n").to_owned());
    }
    let on_the_line = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
    let variables = environment::read(command_line, &on_the_line, environment)?;
    if !variables.words.is_empty() {
        // Before the others: where those end the options, the operands begin.
        let all = variables.words.iter().chain(&words);
        matches =
            self::matches(&mut command, all).map_err(|error| said(command_line, &error, Some(&variables)))?;
    }
    let operands = matches.try_get_raw(OPERANDS).ok().flatten().map_or(0, Iterator::count);
    let end = words.len().saturating_sub(operands);
    let has_dashes = end.checked_sub(1).and_then(|place| words.get(place)).is_some_and(|word| word == "--");
    Ok(Parsed::Words(ParsedWords { matches, variables, has_dashes }))
}

fn matches<'a>(
    command: &mut Command,
    words: impl Iterator<Item = &'a OsString>,
) -> Result<ArgMatches, clap::Error> {
    command.try_get_matches_from_mut(words)
}

/// Says in our words what clap found wrong, and where the value came from.
#[expect(clippy::wildcard_enum_match_arm, reason = "clap's list is open and mostly about what we do not use")]
fn said(
    command_line: &CommandLineSpec,
    error: &clap::Error,
    variables: Option<&FromVariables>,
) -> anyhow::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let argument = text(ContextKind::InvalidArg);
    // clap names an option together with its value: `--grace <DUR>`.
    let option = argument.split(' ').next().unwrap_or(argument).trim_end_matches('.');
    let source = variables.and_then(|variables| variables.source_of(option));
    let source = source.map(|name| format!(" (from {name})")).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if !argument.starts_with('-') => {
            anyhow!("unexpected argument {argument:?}")
        }
        ErrorKind::UnknownArgument => match misspelled(command_line, argument) {
            Some(meant) => anyhow!("unknown option {argument} (did you mean --{meant}?)"),
            None => {
                anyhow!(
                    "unknown option {argument}; see --help, and put a command that starts with \"-\" after --"
                )
            }
        },
        ErrorKind::ValueValidation => {
            anyhow!("{option} {:?}{source}: {}", text(ContextKind::InvalidValue), text(ContextKind::Custom))
        }
        ErrorKind::InvalidValue => anyhow!("{option} requires a value"),
        ErrorKind::TooManyValues => anyhow!("{option} takes no value"),
        _ => anyhow!("{option}: cannot be read; see --help"),
    }
}

/// The long option that somebody meant.
fn misspelled(command_line: &CommandLineSpec, argument: &str) -> Option<&'static str> {
    let specs = command_line.options().map(|option| option.spec()).filter(|spec| spec.is_long);
    nearest(argument.strip_prefix("--")?, specs.map(|spec| spec.name))
}

/// The candidate that a misspelled or shortened word stands for.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = |name: &str| if name.starts_with(word) { 0 } else { distance(word, name) };
    let (distance, nearest) = candidates.map(|name| (near(name), name)).min()?;
    (distance <= word.len().checked_div(2).unwrap_or(0)).then_some(nearest)
}

/// How many letters have to be changed, added, left out or swapped.
fn distance(one: &str, other: &str) -> usize {
    strsim::osa_distance(one, other)
}

#[cfg(test)]
mod tests;
