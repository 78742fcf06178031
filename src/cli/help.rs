//! `-h` and `--help`, from the description of the options.

use std::fmt::Write;

use super::environment::variable_of;
use super::spec::{CommandLineSpec, Operands, Spec};
use crate::builtin;

/// The width that texts are wrapped to.
const WIDTH: usize = 100;
/// Where the texts of the options begin.
const COLUMN: usize = 31;

/// How much of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// What one forgets: a line or two for each option.
    Short,
    /// All there is, with the variables.
    Long,
}

/// The help of a command line.
pub fn help(command_line: &CommandLineSpec, length: Length) -> String {
    let mut text = String::new();
    if !command_line.about.is_empty() {
        text.push_str(&wrapped(command_line.about, 0));
        text.push('\n');
    }
    let operands = match command_line.operands {
        Operands::None => "",
        Operands::Command | Operands::MixedCommand => " [--] COMMAND [ARG]...",
        Operands::Destination => " DEST",
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "Usage: {} [OPTIONS]{operands}\n", command_line.name);
    for option in command_line.options() {
        let spec = option.spec();
        let left = format!("  {}", spelling(spec));
        if left.len() >= COLUMN {
            let _ = write!(text, "{left}\n{:COLUMN$}", "");
        } else {
            let _ = write!(text, "{left:COLUMN$}");
        }
        text.push_str(&wrapped(spec.help, COLUMN));
        if length == Length::Long {
            let variable = variable_of(spec).unwrap_or_default();
            for more in [spec.details, &variable].into_iter().filter(|more| !more.is_empty()) {
                let _ = write!(text, "{:COLUMN$}{}", "", wrapped(more, COLUMN));
            }
        }
    }
    let more = if length == Length::Long { command_line.after_long_help } else { "" };
    if !command_line.after_help.is_empty() {
        let _ = write!(text, "\n{}{more}", command_line.after_help);
    }
    if command_line.lists_builtins && length == Length::Long {
        text.push_str("\nBuilt-in commands:\n");
        for entry in builtin::TABLE {
            let left = format!("  {}", entry.usage());
            let _ = write!(text, "{left:COLUMN$}{}", wrapped(entry.doc, COLUMN));
        }
    }
    text
}

/// `-g, --grace DUR`
pub fn spelling(spec: &Spec) -> String {
    let mut text = match (spec.short, spec.is_long) {
        (Some(short), true) => format!("-{short}, --{}", spec.name),
        (Some(short), false) => format!("-{short}"),
        (None, _) => format!("    --{}", spec.name),
    };
    if let Some(value) = spec.value {
        let _ = write!(text, " {value}");
    }
    text
}

/// The text in lines of at most [`WIDTH`], all but the first behind `indent` blanks.
fn wrapped(text: &str, indent: usize) -> String {
    let mut wrapped = String::new();
    let mut column = indent;
    for (place, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if place > 0 && column.saturating_add(length) >= WIDTH {
            let _ = write!(wrapped, "\n{:indent$}", "");
            column = indent;
        } else if place > 0 {
            wrapped.push(' ');
            column = column.saturating_add(1);
        }
        wrapped.push_str(word);
        column = column.saturating_add(length);
    }
    wrapped.push('\n');
    wrapped
}
