//! How an option is described. From the one description come what clap is told, the help, the variable, and the typed field that
//! the value is read into.

use std::ffi::OsStr;

use clap::builder::{TypedValueParser, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

/// What is said of an option.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its long name; where it has none, what clap knows it by.
    pub name: &'static str,
    pub short: Option<char>,
    /// Whether it can be written `--name`.
    pub is_long: bool,
    /// What its value is called; `None` for a flag.
    pub value: Option<&'static str>,
    /// Whether it may be given more than once, each time with another value.
    pub repeats: bool,
    /// Whether a comma separates values as well.
    pub has_commas: bool,
    /// One line for `-h`, with the default in brackets.
    pub help: &'static str,
    /// What `--help` has to add.
    pub details: &'static str,
}

impl Spec {
    const fn new(name: &'static str, value: Option<&'static str>, repeats: bool, help: &'static str) -> Self {
        Self { name, short: None, is_long: true, value, repeats, has_commas: false, help, details: "" }
    }
}

/// An option of any type.
pub trait Describe: Sync {
    fn spec(&self) -> &Spec;
    fn action(&self) -> ArgAction;
    fn parser(&self) -> Option<ValueParser>;
}

/// An option and the type of the field that it is read into.
pub trait Field: Describe {
    type Value;
    fn take(&self, matches: &mut ArgMatches) -> Self::Value;
}

/// Reads a value; the error says what was expected.
pub enum Reader<T> {
    Text(fn(&str) -> Result<T, String>),
    Bytes(fn(&OsStr) -> Result<T, String>),
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Reader<T> {}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Reader<T> {
    type Value = T;

    fn parse_ref(&self, _: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let read = match self {
            Self::Text(read) => match value.to_str() {
                Some(text) => read(text),
                None => Err("expected UTF-8 text".to_owned()),
            },
            Self::Bytes(read) => read(value),
        };
        read.map_err(|expected| invalid(arg, value, expected))
    }
}

/// The error of a value, from which `cli` makes its message.
fn invalid(arg: Option<&Arg>, value: &OsStr, expected: String) -> clap::Error {
    let mut error = clap::Error::new(ErrorKind::ValueValidation);
    let name = arg.map(|arg| match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, short) => format!("-{}", short.unwrap_or_default()),
    });
    error.insert(ContextKind::InvalidArg, ContextValue::String(name.unwrap_or_default()));
    error.insert(ContextKind::InvalidValue, ContextValue::String(value.to_string_lossy().into_owned()));
    error.insert(ContextKind::Custom, ContextValue::String(expected));
    error
}

/// An option that has one value; the last one wins.
pub struct One<T> {
    spec: Spec,
    reader: Reader<T>,
}

/// An option that may be given several times.
pub struct Many<T> {
    spec: Spec,
    reader: Reader<T>,
}

/// An option without a value.
pub struct Flag {
    spec: Spec,
}

/// A flag that says more the more often it is given.
pub struct Count {
    spec: Spec,
}

macro_rules! with_a_value {
    ($kind:ident, $repeats:literal) => {
        impl<T> $kind<T> {
            pub const fn text(
                name: &'static str,
                value: &'static str,
                read: fn(&str) -> Result<T, String>,
                help: &'static str,
            ) -> Self {
                Self { spec: Spec::new(name, Some(value), $repeats, help), reader: Reader::Text(read) }
            }

            pub const fn bytes(
                name: &'static str,
                value: &'static str,
                read: fn(&OsStr) -> Result<T, String>,
                help: &'static str,
            ) -> Self {
                Self { spec: Spec::new(name, Some(value), $repeats, help), reader: Reader::Bytes(read) }
            }
        }
    };
}

with_a_value!(One, false);
with_a_value!(Many, true);

impl Flag {
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { spec: Spec::new(name, None, false, help) }
    }
}

impl Count {
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { spec: Spec::new(name, None, true, help) }
    }
}

macro_rules! details {
    ($kind:ident $(<$value:ident>)?) => {
        impl$(<$value>)? $kind$(<$value>)? {
            /// It has this letter as well.
            pub const fn short(mut self, letter: char) -> Self {
                self.spec.short = Some(letter);
                self
            }

            /// It has this letter and no long name.
            pub const fn only_short(mut self, letter: char) -> Self {
                self.spec.is_long = false;
                self.short(letter)
            }

            /// What `--help` has to add.
            pub const fn details(mut self, details: &'static str) -> Self {
                self.spec.details = details;
                self
            }

            /// A comma separates values as well.
            pub const fn with_commas(mut self) -> Self {
                self.spec.has_commas = true;
                self
            }
        }
    };
}

// Not every kind needs all of these.
#[allow(dead_code, reason = "which kinds use which of them changes with the options")]
mod chained {
    use super::{Count, Flag, Many, One};
    details!(One<T>);
    details!(Many<T>);
    details!(Flag);
    details!(Count);
}

impl<T: Clone + Send + Sync + 'static> Describe for One<T> {
    fn spec(&self) -> &Spec {
        &self.spec
    }
    fn action(&self) -> ArgAction {
        ArgAction::Set
    }
    fn parser(&self) -> Option<ValueParser> {
        Some(ValueParser::new(self.reader))
    }
}

impl<T: Clone + Send + Sync + 'static> Field for One<T> {
    type Value = Option<T>;
    fn take(&self, matches: &mut ArgMatches) -> Option<T> {
        matches.remove_one(self.spec.name)
    }
}

impl<T: Clone + Send + Sync + 'static> Describe for Many<T> {
    fn spec(&self) -> &Spec {
        &self.spec
    }
    fn action(&self) -> ArgAction {
        ArgAction::Append
    }
    fn parser(&self) -> Option<ValueParser> {
        Some(ValueParser::new(self.reader))
    }
}

impl<T: Clone + Send + Sync + 'static> Field for Many<T> {
    type Value = Vec<T>;
    fn take(&self, matches: &mut ArgMatches) -> Vec<T> {
        matches.remove_many(self.spec.name).map(Iterator::collect).unwrap_or_default()
    }
}

impl Describe for Flag {
    fn spec(&self) -> &Spec {
        &self.spec
    }
    fn action(&self) -> ArgAction {
        ArgAction::SetTrue
    }
    fn parser(&self) -> Option<ValueParser> {
        None
    }
}

impl Field for Flag {
    type Value = bool;
    fn take(&self, matches: &mut ArgMatches) -> bool {
        matches.get_flag(self.spec.name)
    }
}

impl Describe for Count {
    fn spec(&self) -> &Spec {
        &self.spec
    }
    fn action(&self) -> ArgAction {
        ArgAction::Count
    }
    fn parser(&self) -> Option<ValueParser> {
        None
    }
}

impl Field for Count {
    type Value = u8;
    fn take(&self, matches: &mut ArgMatches) -> u8 {
        matches.get_count(self.spec.name)
    }
}

/// Options that are told to clap together and read into one struct.
pub trait Group: Sized {
    const OPTIONS: &'static [&'static dyn Describe];
    fn take(matches: &mut ArgMatches) -> Self;
}

/// Declares a group: each line is a field of the struct and the option that it is read from.
macro_rules! group {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $kind:ty = $option:expr;)* }) => {
        $(#[$meta])*
        #[derive(Debug)]
        #[allow(dead_code, reason = "an option may act before its value is read, as --split-string does")]
        pub struct $name {
            $(pub $field: <$kind as $crate::cli::spec::Field>::Value,)*
        }

        impl $crate::cli::spec::Group for $name {
            const OPTIONS: &'static [&'static dyn $crate::cli::spec::Describe] = &[$({
                static OPTION: $kind = $option;
                &OPTION
            }),*];

            fn take(matches: &mut clap::ArgMatches) -> Self {
                use $crate::cli::spec::Field as _;
                Self {
                    $($field: {
                        const OPTION: $kind = $option;
                        OPTION.take(matches)
                    },)*
                }
            }
        }
    };
}
pub(super) use group;

/// A command line: its options, and what the help says around them.
pub struct CommandLineSpec {
    /// What messages begin with.
    pub name: &'static str,
    pub about: &'static str,
    pub groups: &'static [&'static [&'static dyn Describe]],
    pub operands: Operands,
    /// Whether long options may be shortened, as getopt_long(3) allows.
    pub abbreviates: bool,
    /// Whether variables that are none of ours are worth a warning.
    pub warns: bool,
    /// Below the options, in `-h` and `--help`.
    pub after_help: &'static str,
    /// Below that, in `--help` only.
    pub after_long_help: &'static str,
    /// Whether it takes steps, so that `--help` lists what is built in.
    pub lists_builtins: bool,
}

/// What stands behind the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// Nothing.
    None,
    /// A command; the first of its words ends the options.
    Command,
    /// A command, with options before, between and behind its words up to `--`.
    MixedCommand,
    /// A path.
    Destination,
}

/// What clap knows the operands by; no option is called so.
pub const OPERANDS: &str = "OPERANDS";

impl CommandLineSpec {
    /// Its options, in the order of the help.
    pub fn options(&self) -> impl Iterator<Item = &'static dyn Describe> {
        self.groups.iter().copied().flatten().copied()
    }

    /// What clap is told.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.name)
            .no_binary_name(true)
            .disable_help_flag(true)
            .disable_version_flag(true)
            .args_override_self(true)
            .infer_long_args(self.abbreviates);
        for option in self.options() {
            command = command.arg(argument(option));
        }
        let words = || Arg::new(OPERANDS).value_parser(ValueParser::os_string());
        match self.operands {
            Operands::None => command,
            Operands::Command => command.arg(words().num_args(1..).trailing_var_arg(true)),
            Operands::MixedCommand => command.arg(words().num_args(1..).action(ArgAction::Append)),
            Operands::Destination => command.arg(words()),
        }
    }
}

fn argument(option: &'static dyn Describe) -> Arg {
    let spec = option.spec();
    let mut argument = Arg::new(spec.name).action(option.action());
    if spec.is_long {
        argument = argument.long(spec.name);
    }
    if let Some(letter) = spec.short {
        argument = argument.short(letter);
    }
    if let Some(parser) = option.parser() {
        argument = argument.allow_hyphen_values(true).value_parser(parser);
    }
    if spec.has_commas { argument.value_delimiter(',') } else { argument }
}
