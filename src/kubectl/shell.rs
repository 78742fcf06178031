//! What a shell does with SIGTERM while it is a container's first process and runs a script.
//!
//! The kernel gives PID 1 no default action (signal(7)), so a shell without a trap goes on as if nothing had come, and
//! what it waits for is not told. bash and busybox execute the last plain command of `-c` in their own place; Debian's
//! dash does not.

use std::io::BufReader;
use std::time::Duration;

use brush_parser::ast::{
    AndOr, AndOrList, Command, CommandPrefixOrSuffixItem, CompoundCommand, CompoundList, CompoundListItem,
    Pipeline, SeparatorOperator, SimpleCommand,
};
use brush_parser::{Parser, ParserOptions};

/// What becomes of a SIGTERM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnTerm {
    /// It is handled, or handed to a program that takes the shell's place, or there is nothing to say for sure.
    Fine,
    /// This last command gets it from some shells only.
    DependsOnShell {
        /// The last command's name.
        last: String,
    },
    /// The shell swallows it.
    Swallowed(Why),
}

/// Why a shell swallows SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It ends in a loop.
    Loop,
    /// It ends in a pipeline.
    Pipeline,
    /// It waits for programs that run in the background.
    Waits,
    /// Programs run in the background, and another one in the foreground.
    Background,
}

/// How long a script sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sleeps {
    /// The sum of its sleeps.
    pub total: Duration,
    /// Whether it does nothing else.
    pub nothing_else: bool,
}

/// A script that was read.
#[derive(Clone, Debug)]
pub struct Script(Vec<CompoundListItem>);

impl Script {
    /// Reads a script; `None` for what is not one, or uses what this reader does not know.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser::new(BufReader::new(text.as_bytes()), &ParserOptions::default());
        let program = parser.parse_program().ok()?;
        Some(Self(program.complete_commands.into_iter().flat_map(|list| list.0).collect()))
    }

    /// What becomes of a SIGTERM.
    pub fn on_term(&self) -> OnTerm {
        let simple = self.simple_commands();
        // A shell with any trap wakes up from its wait, and whoever writes traps has thought of it. What it sources or
        // evaluates may hold one.
        let opaque = ["trap", "exec", ".", "source", "eval"];
        if simple.iter().any(|command| opaque.contains(&name(command).as_str())) {
            return OnTerm::Fine;
        }
        let Some(CompoundListItem(last, separator)) = self.0.last() else { return OnTerm::Fine };
        if matches!(separator, SeparatorOperator::Async) {
            return OnTerm::Fine;
        }
        let background = self.0.iter().filter(|item| matches!(item.1, SeparatorOperator::Async)).count();
        let pipeline = last_pipeline(last);
        match pipeline.seq.as_slice() {
            [Command::Simple(command)] => match name(command).as_str() {
                "wait" if background > 0 => OnTerm::Swallowed(Why::Waits),
                "exit" | "true" | "echo" | "wait" | "" => OnTerm::Fine,
                _ if background > 0 => OnTerm::Swallowed(Why::Background),
                _ if simple.len() == 1 => OnTerm::Fine,
                last => OnTerm::DependsOnShell { last: last.to_owned() },
            },
            [Command::Compound(compound, _)] => match compound {
                CompoundCommand::WhileClause(_)
                | CompoundCommand::UntilClause(_)
                | CompoundCommand::ArithmeticForClause(_) => OnTerm::Swallowed(Why::Loop),
                CompoundCommand::Arithmetic(_)
                | CompoundCommand::BraceGroup(_)
                | CompoundCommand::Subshell(_)
                | CompoundCommand::ForClause(_)
                | CompoundCommand::CaseClause(_)
                | CompoundCommand::IfClause(_)
                | CompoundCommand::Coprocess(_) => OnTerm::Fine,
            },
            [_, _, ..] => OnTerm::Swallowed(Why::Pipeline),
            [Command::Function(_) | Command::ExtendedTest(..)] | [] => OnTerm::Fine,
        }
    }

    /// How long it sleeps; `None` if it has no sleep in its main sequence.
    pub fn sleeps(&self) -> Option<Sleeps> {
        let mut found: Option<Sleeps> = None;
        let mut others = false;
        for CompoundListItem(list, separator) in &self.0 {
            if matches!(separator, SeparatorOperator::Async) {
                others = true;
                continue;
            }
            let all =
                std::iter::once(&list.first).chain(list.additional.iter().map_while(|next| match next {
                    AndOr::And(pipeline) => Some(pipeline),
                    AndOr::Or(_) => None,
                }));
            for pipeline in all {
                match pipeline.seq.as_slice() {
                    [Command::Simple(command)] if base_name(&name(command)) == "sleep" => {
                        let slept = arguments(command).first().and_then(|time| sleep_time(time));
                        match slept {
                            Some(time) => {
                                let total = found.map_or(Duration::ZERO, |sleeps| sleeps.total);
                                found =
                                    Some(Sleeps { total: total.saturating_add(time), nothing_else: true });
                            }
                            None => others = true,
                        }
                    }
                    [Command::Simple(command)]
                        if ["echo", "true", ":", "exit"].contains(&name(command).as_str()) => {}
                    _ => others = true,
                }
            }
        }
        found.map(|sleeps| Sleeps { nothing_else: !others, ..sleeps })
    }

    /// The names of the programs that it may run, in its order.
    pub fn programs(&self) -> Vec<String> {
        self.simple_commands().into_iter().map(name).collect()
    }

    fn simple_commands(&self) -> Vec<&SimpleCommand> {
        let mut found = Vec::new();
        self.0.iter().for_each(|item| in_list(&item.0, &mut found));
        found
    }
}

fn in_list<'a>(list: &'a AndOrList, found: &mut Vec<&'a SimpleCommand>) {
    in_pipeline(&list.first, found);
    for AndOr::And(pipeline) | AndOr::Or(pipeline) in &list.additional {
        in_pipeline(pipeline, found);
    }
}

fn in_pipeline<'a>(pipeline: &'a Pipeline, found: &mut Vec<&'a SimpleCommand>) {
    for command in &pipeline.seq {
        match command {
            Command::Simple(command) => found.push(command),
            Command::Compound(compound, _) => in_compound(compound, found),
            Command::Function(function) => in_compound(&function.body.0, found),
            Command::ExtendedTest(..) => {}
        }
    }
}

fn in_compound<'a>(compound: &'a CompoundCommand, found: &mut Vec<&'a SimpleCommand>) {
    let mut within = |list: &'a CompoundList| list.0.iter().for_each(|item| in_list(&item.0, found));
    match compound {
        CompoundCommand::Arithmetic(_) | CompoundCommand::Coprocess(_) => {}
        CompoundCommand::ArithmeticForClause(clause) => within(&clause.body.list),
        CompoundCommand::BraceGroup(group) => within(&group.list),
        CompoundCommand::Subshell(subshell) => within(&subshell.list),
        CompoundCommand::ForClause(clause) => within(&clause.body.list),
        CompoundCommand::CaseClause(clause) => {
            clause.cases.iter().filter_map(|case| case.cmd.as_ref()).for_each(within)
        }
        CompoundCommand::IfClause(clause) => {
            within(&clause.condition);
            within(&clause.then);
            clause.elses.iter().flatten().for_each(|other| within(&other.body));
        }
        CompoundCommand::WhileClause(clause) | CompoundCommand::UntilClause(clause) => {
            within(&clause.0);
            within(&clause.1.list);
        }
    }
}

fn last_pipeline(list: &AndOrList) -> &Pipeline {
    match list.additional.last() {
        Some(AndOr::And(pipeline) | AndOr::Or(pipeline)) => pipeline,
        None => &list.first,
    }
}

fn name(command: &SimpleCommand) -> String {
    command.word_or_name.as_ref().map(|word| unquoted(&word.value)).unwrap_or_default()
}

fn arguments(command: &SimpleCommand) -> Vec<String> {
    let items = command.suffix.iter().flat_map(|suffix| &suffix.0);
    items
        .filter_map(|item| match item {
            CommandPrefixOrSuffixItem::Word(word) => Some(unquoted(&word.value)),
            CommandPrefixOrSuffixItem::IoRedirect(_)
            | CommandPrefixOrSuffixItem::AssignmentWord(..)
            | CommandPrefixOrSuffixItem::ProcessSubstitution(..) => None,
        })
        .collect()
}

fn unquoted(word: &str) -> String {
    word.chars().filter(|character| !['"', '\'', '\\'].contains(character)).collect()
}

/// The name of a program without its folders.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What sleep(1) takes: a number with `s`, `m`, `h` or `d`.
pub fn sleep_time(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, text.chars().last()),
        None => (text, None),
    };
    let factor = match unit {
        Some('m') => 60.0,
        Some('h') => 3_600.0,
        Some('d') => 86_400.0,
        Some(_) | None => 1.0,
    };
    let seconds: f64 = number.parse().ok()?;
    Duration::try_from_secs_f64(seconds * factor).ok()
}

/// The script of `sh -c SCRIPT`, if these words are that.
pub fn inline_script<'a>(words: &[&'a str]) -> Option<&'a str> {
    let (program, rest) = words.split_first()?;
    let rest = match (base_name(program), rest) {
        ("busybox", [applet, rest @ ..]) if is_shell(applet) => rest,
        _ if is_shell(program) => rest,
        _ => return None,
    };
    let mut rest = rest.iter();
    // Options such as `-ec` hold the c; `-o pipefail` takes a word.
    while let Some(option) = rest.next() {
        match option.strip_prefix('-') {
            Some(letters) if !letters.starts_with('-') && letters.contains('c') => {
                return rest.find(|word| **word != "--").copied();
            }
            Some(letters) if letters.ends_with('o') && !letters.starts_with('-') => {
                rest.next();
            }
            Some(_) => {}
            None => return None,
        }
    }
    None
}

fn is_shell(program: &str) -> bool {
    ["sh", "bash", "ash", "dash"].contains(&base_name(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_term(script: &str) -> OnTerm {
        Script::parse(script).unwrap().on_term()
    }

    #[test]
    fn what_takes_the_shells_place_or_traps_is_fine() {
        for script in [
            "app",
            "app --flag \"$X\"",
            "exec app",
            "migrate && exec app",
            "trap 'kill $p' TERM; app & p=$!; wait",
            "if [ -n \"$A\" ]; then exec a; else exec b; fi",
            ". /env; app",
            "set -e\nsource /x\napp\n",
            "A=1 app",
            "echo done",
        ] {
            assert_eq!(on_term(script), OnTerm::Fine, "{script}");
        }
    }

    #[test]
    fn what_a_shell_swallows_is_named() {
        for (script, why) in [
            ("while true; do job; sleep 60; done", Why::Loop),
            ("until job; do sleep 1; done", Why::Loop),
            ("app | tee /log", Why::Pipeline),
            ("a & b & wait", Why::Waits),
            ("a & b", Why::Background),
            ("setup; while :; do sleep 1; done", Why::Loop),
        ] {
            assert_eq!(on_term(script), OnTerm::Swallowed(why), "{script}");
        }
    }

    #[test]
    fn the_last_of_several_commands_depends_on_the_shell() {
        for script in ["migrate && app", "migrate; app", "cd /srv\napp --port 80\n", "export A=1; app"] {
            assert_eq!(on_term(script), OnTerm::DependsOnShell { last: "app".to_owned() }, "{script}");
        }
    }

    #[test]
    fn the_sleeps_of_a_script_are_added_up() {
        for (script, seconds, nothing_else) in [
            ("sleep 5", 5, true),
            ("sleep 5; sleep 2m", 125, true),
            ("sleep 5 && nginx -s quit", 5, false),
            ("echo bye; /bin/sleep 10s", 10, true),
        ] {
            let sleeps = Script::parse(script).unwrap().sleeps().unwrap();
            let expected = Sleeps { total: Duration::from_secs(seconds), nothing_else };
            assert_eq!(sleeps, expected, "{script}");
        }
        assert_eq!(Script::parse("nginx -s quit").unwrap().sleeps(), None);
    }

    #[test]
    fn inline_scripts_are_found() {
        for (words, script) in [
            (vec!["sh", "-c", "a"], Some("a")),
            (vec!["/bin/bash", "-euo", "pipefail", "-c", "a"], Some("a")),
            (vec!["bash", "-o", "pipefail", "-ec", "a"], Some("a")),
            (vec!["busybox", "sh", "-c", "a"], Some("a")),
            (vec!["/bin/bash", "-c", "--", "a"], Some("a")),
            (vec!["sh", "/start.sh"], None),
            (vec!["app", "-c", "x"], None),
        ] {
            assert_eq!(inline_script(&words), script, "{words:?}");
        }
    }
}
