//! One step of a chain: a program to run, or something built in for images that have no programs.

use std::ffi::{OsStr, OsString};

use anyhow::{Result, bail};

use super::words::{StepCommand, Word, split_command};
use crate::builtin::{self, Builtin, Parsed};
use crate::signal::Signal;

/// A step of the pre-stop or post-stop chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// As the user wrote it, for the log and the report.
    pub text: String,
    /// What it does.
    pub work: Work,
    /// Its program could not be found at the start.
    pub missing_program: bool,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Runs a program, without a shell.
    Program(StepCommand),
    /// Sends a signal to the command, which takes no process.
    Signal(Signal),
    /// Does something built in, in a process of its own.
    Builtin(Builtin),
}

impl Step {
    /// Reads a step as users write it.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead; the caller adds where the text came from.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let words = split_command(text)?;
        let shown = text.to_string_lossy().into_owned();
        let Some((name, arguments)) = words.split_first() else {
            bail!("expected a command such as \"nginx -s quit\"")
        };
        let literals: Option<Vec<OsString>> = words.iter().map(Word::literal).collect();
        let builtin =
            name.literal().and_then(|name| Some(name.to_string_lossy().strip_prefix('@')?.to_owned()));
        let work = match (builtin, literals) {
            (Some(name), Some(literals)) => {
                match builtin::parse(&name, literals.get(1..).unwrap_or_default())? {
                    Parsed::Signal(signal) => Work::Signal(signal),
                    Parsed::Process(builtin) => Work::Builtin(builtin),
                }
            }
            (Some(builtin), None) => bail!("@{builtin} takes no variables"),
            (None, _) => Work::Program(StepCommand { program: name.clone(), arguments: arguments.to_vec() }),
        };
        Ok(Self { text: shown, work, missing_program: false })
    }

    /// The name or path of its program, where that is known before it starts.
    pub fn program(&self) -> Option<OsString> {
        match &self.work {
            Work::Program(command) => command.program.literal(),
            Work::Signal(_) | Work::Builtin(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(text: &str) -> Result<Step> {
        Step::parse(OsStr::new(text))
    }

    fn error(text: &str) -> String {
        step(text).unwrap_err().to_string()
    }

    #[test]
    fn a_command_is_split_as_a_shell_quotes() {
        let Work::Program(command) = step(r#"redis-cli -a "two words" 'it''s' a\ b"#).unwrap().work else {
            panic!()
        };
        let command = command.expand(&|_| None);
        assert_eq!(command.program, "redis-cli");
        assert_eq!(command.arguments, ["-a", "two words", "its", "a b"]);
    }

    #[test]
    fn the_built_ins_are_read() {
        for entry in builtin::TABLE.iter().filter(|entry| entry.name != "signal") {
            assert!(matches!(step(entry.example).unwrap().work, Work::Builtin(_)), "{}", entry.example);
        }
    }

    #[test]
    fn a_signal_for_the_command_is_read() {
        assert_eq!(step("@signal USR1").unwrap().work, Work::Signal(Signal::USR1));
        assert!(error("@signal").contains("expected @signal SIG"));
        assert!(error("@signal USR1 USR2").contains("expected @signal SIG"));
    }

    #[test]
    fn what_is_wrong_with_a_step_is_said() {
        for (text, part) in [
            ("", "expected a command"),
            ("'open", "not closed"),
            ("a && b", "needs a shell"),
            ("@sleep $TIME", "takes no variables"),
            ("@sleep", "@sleep DUR"),
            ("@sleep soon", "no duration"),
            ("@signal NOPE", "no signal"),
            ("@nothing", "there are @signal @sleep"),
            ("@http PUT http://127.0.0.1/", "GET or POST"),
            ("@http GET https://127.0.0.1/", "expected http://"),
            ("@http GET http://example.com/", "resolves no names"),
            ("@http GET http://localhost:x/", "resolves no names"),
            ("@http GET 'http://127.0.0.1/a b'", "percent-encoded"),
            ("@wait-port-idle 0", "no port"),
            ("@wait-port-idle 65536", "no port"),
            ("@wait-port-idle 80 soon", "no duration"),
            ("@wait-http https://127.0.0.1/", "is no URL of @wait-http"),
            ("@wait-http http://example.com/", "@wait-http resolves no names"),
            ("@stop ''", "is no name of a process"),
            ("@stop nginx soon", "no duration"),
        ] {
            assert!(error(text).contains(part), "{text}: {}", error(text));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            let _ = step(&text);
        }

        #[test]
        fn no_built_in_makes_the_parser_panic(text in "@(sleep|signal|stop|http|wait-http|wait-file|wait-port-idle)( (GET|http://|[a-z0-9:.\\[\\]/?]{0,12})){0,3}") {
            let _ = step(&text);
        }
    }
}
