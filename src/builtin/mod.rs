//! What a step can do without a program in the image, one file each.
//!
//! [`TABLE`] is the list of them: the parser, its errors, `--help`, the manual page and docs/reference.md read it. A step parses
//! when the init starts and runs in a process of its own, so it may take its time and fail without PID 1 noticing.

pub mod http;
mod signal;
mod sleep;
mod stop;
mod wait_file;
mod wait_http;
pub mod wait_port_idle;

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tracing::error;

use crate::outcome::ExitStatus;
use crate::signal::Signal;
use crate::time::parse_duration;

/// How often what is waited for is looked at again. Nothing tells a process without privileges when a connection ends, and
/// inotify(7) does not see changes on network file systems.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const FAILURE: ExitStatus = ExitStatus::new(1);

/// What each of them says of itself.
trait Described: Sized {
    /// Without the `@`.
    const NAME: &'static str;
    /// As usage lines name them.
    const OPERANDS: &'static str;
    const DOC: &'static str;
    const EXAMPLE: &'static str;

    /// Reads the operands; `None` when there are too few or too many.
    ///
    /// # Errors
    /// What is wrong with one of them.
    fn parse(operands: &[&str]) -> Result<Option<Self>>;
}

/// One that runs in a process of its own.
trait Run: Described {
    /// Does it, and says how it went. Its time limit is the parent's business, which kills it.
    fn run(&self, processes: &dyn Processes) -> ExitStatus;

    /// How long it takes, where the clock alone decides.
    fn time(&self) -> Option<Duration> {
        None
    }
}

/// Defines [`Builtin`] and [`TABLE`]; the order is that of the help.
macro_rules! builtins {
    ($($name:ident: $module:ident),* $(,)?) => {
        /// A built-in that runs in a process of its own.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Builtin {
            $(#[doc = concat!("See `", stringify!($module), ".rs`.")]
            $name($module::$name),)*
        }

        $(impl From<$module::$name> for Parsed {
            fn from(builtin: $module::$name) -> Self {
                Self::Process(Builtin::$name(builtin))
            }
        })*

        impl Builtin {
            /// Does it, and says how it went.
            pub fn run(&self, processes: &dyn Processes) -> ExitStatus {
                match self {
                    $(Self::$name(builtin) => builtin.run(processes),)*
                }
            }

            /// How long it takes, where the clock alone decides.
            pub fn time(&self) -> Option<Duration> {
                match self {
                    $(Self::$name(builtin) => builtin.time(),)*
                }
            }
        }

        /// Every built-in.
        pub static TABLE: &[Entry] = &[Entry::of::<signal::SendSignal>(), $(Entry::of::<$module::$name>()),*];
    };
}

builtins! {
    Sleep: sleep,
    Stop: stop,
    Http: http,
    WaitHttp: wait_http,
    WaitFile: wait_file,
    WaitPortIdle: wait_port_idle,
}

/// What the words of a built-in step mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A signal for the command, which the init sends itself.
    Signal(Signal),
    /// Something for a process of its own.
    Process(Builtin),
}

/// A built-in as the parser and the documentation know it.
pub struct Entry {
    /// Its name without the `@`.
    pub name: &'static str,
    /// Its operands as usage lines name them.
    pub operands: &'static str,
    /// What it does, in one line.
    pub doc: &'static str,
    /// A step that uses it.
    pub example: &'static str,
    parse: fn(&[&str]) -> Result<Option<Parsed>>,
}

impl Entry {
    const fn of<T: Described + Into<Parsed>>() -> Self {
        let parse = |operands: &[&str]| Ok(T::parse(operands)?.map(Into::into));
        Self { name: T::NAME, operands: T::OPERANDS, doc: T::DOC, example: T::EXAMPLE, parse }
    }

    /// `@sleep DUR`
    pub fn usage(&self) -> String {
        format!("@{} {}", self.name, self.operands)
    }
}

/// Reads a built-in step; `name` is without the `@`.
///
/// # Errors
/// What is wrong with it and what to write instead; the caller adds where the text came from.
pub fn parse(name: &str, operands: &[OsString]) -> Result<Parsed> {
    let Some(entry) = TABLE.iter().find(|entry| entry.name == name) else {
        let names: Vec<String> = TABLE.iter().map(|entry| format!("@{}", entry.name)).collect();
        bail!("no built-in @{name}: there are {}", names.join(" "))
    };
    let operands: Vec<&str> = operands
        .iter()
        .map(|operand| operand.to_str().ok_or_else(|| anyhow!("@{name} takes UTF-8 text only")))
        .collect::<Result<_>>()?;
    (entry.parse)(&operands)?.ok_or_else(|| anyhow!("expected {}, such as {}", entry.usage(), entry.example))
}

fn duration(text: &str) -> Result<Duration> {
    parse_duration(text).ok_or_else(|| anyhow!("{text:?} is no duration such as 5s"))
}

/// A process that descends from the init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its PID.
    pub pid: i32,
    /// When it started, in clock ticks. With the PID this names a process for good.
    pub started: u64,
    /// The first 15 bytes of its program's name (`comm` in proc(5)).
    pub comm: Vec<u8>,
    /// Whether it is stopped.
    pub suspended: bool,
}

/// What a built-in asks of the system about processes.
pub trait Processes {
    /// The descendants of the init without the asking process itself, zombies left out; `None` where `/proc` does not tell.
    fn below_the_init(&self) -> Option<Vec<Process>>;

    /// The base name of a process's `argv[0]`; `None` when it has gone or has none.
    fn called(&self, process: &Process) -> Option<OsString>;

    /// Sends a signal; a process that has gone meanwhile is no error.
    ///
    /// # Errors
    /// Why it cannot be sent: the process is another user's.
    fn send(&self, process: &Process, signal: Signal) -> Result<(), String>;
}

impl Process {
    /// Whether it is known by this name: by `comm`, which holds no more than 15 bytes of it, or by its `argv[0]`.
    fn is_named(&self, name: &str, processes: &dyn Processes) -> bool {
        const COMM_LENGTH: usize = 15;
        let name = name.as_bytes();
        self.comm == name.get(..COMM_LENGTH).unwrap_or(name)
            || processes.called(self).is_some_and(|called| called.as_encoded_bytes() == name)
    }
}

/// Looks again and again; an error ends it.
fn wait_until(mut done: impl FnMut() -> Result<bool, String>) -> ExitStatus {
    loop {
        match done() {
            Ok(true) => return ExitStatus::SUCCESS,
            Ok(false) => std::thread::sleep(POLL_INTERVAL),
            Err(reason) => {
                error!("{reason}");
                return FAILURE;
            }
        }
    }
}

/// Reads a whole step for a test.
#[cfg(test)]
fn step(text: &str) -> Result<Parsed> {
    let mut words = text.split(' ');
    let name = words.next().unwrap_or_default().trim_start_matches('@');
    parse(name, &words.map(OsString::from).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_read() {
        for entry in TABLE {
            assert!(step(entry.example).is_ok(), "{}", entry.example);
            assert!(entry.example.starts_with(&format!("@{} ", entry.name)), "{}", entry.example);
        }
    }

    #[test]
    fn too_few_or_too_many_operands_are_refused_with_the_usage() {
        for entry in TABLE {
            for operands in ["", " a b c d"] {
                let error = step(&format!("@{}{operands}", entry.name)).unwrap_err().to_string();
                assert!(error.starts_with(&format!("expected {}", entry.usage())), "{error}");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_all_of_them() {
        let error = step("@nothing").unwrap_err().to_string();
        for entry in TABLE {
            assert!(error.contains(&format!("@{}", entry.name)), "{error}");
        }
    }

    #[test]
    fn the_reference_has_the_table_and_the_readme_names_each() {
        let read =
            |file: &str| std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let mut table = "| step | what it does |\n| --- | --- |\n".to_owned();
        for entry in TABLE {
            table.push_str(&format!("| `{}` | {} |\n", entry.usage().replace('|', "\\|"), entry.doc));
        }
        assert!(read("docs/reference.md").contains(&table), "docs/reference.md has to have:\n\n{table}");
        for entry in TABLE {
            assert!(
                read("README.md").contains(&format!("`@{} ", entry.name)),
                "README.md lacks @{}",
                entry.name
            );
        }
    }
}
