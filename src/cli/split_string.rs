//! `-S STRING`: the kernel passes everything behind the interpreter of a `#!` line as one word (execve(2), "Interpreter
//! scripts"), so that one word may have to carry all options.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result, anyhow};

use super::spec::{CommandLineSpec, Spec};
use crate::plan::split_words;

/// What one word means to the search for `-S`.
enum Word<'a> {
    /// The options end before it.
    Operand,
    /// It is another option, and the next word may be its value.
    Option { takes_next: bool },
    /// It is `-S`, behind these other short flags, with its string if that is in the same word.
    SplitString { flags: &'a [u8], string: Option<&'a [u8]> },
}

/// Puts the words of each `-S STRING` in its place, as env(1) does.
///
/// # Errors
/// A string that is missing, or has an unclosed quote.
pub fn expand(command_line: &CommandLineSpec, mut words: VecDeque<OsString>) -> Result<VecDeque<OsString>> {
    let mut done = VecDeque::new();
    while let Some(word) = words.pop_front() {
        let string = match classify(command_line, word.as_bytes()) {
            Word::Operand => {
                words.push_front(word);
                break;
            }
            Word::Option { takes_next } => {
                done.push_back(word);
                if takes_next {
                    done.extend(words.pop_front());
                }
                continue;
            }
            Word::SplitString { flags, string } => {
                if !flags.is_empty() {
                    done.push_back(OsString::from_vec([b"-", flags].concat()));
                }
                let next = || words.pop_front().ok_or_else(|| anyhow!("--split-string requires a value"));
                string.map_or_else(next, |string| Ok(OsStr::from_bytes(string).to_owned()))?
            }
        };
        let split = split_words(&string).with_context(|| format!("--split-string {string:?}"))?;
        for word in split.into_iter().rev() {
            words.push_front(word);
        }
    }
    done.append(&mut words);
    Ok(done)
}

/// Looks at a word as getopt(3) would, for `-S` only; clap reads the rest.
fn classify<'a>(command_line: &CommandLineSpec, word: &'a [u8]) -> Word<'a> {
    if let Some(long) = word.strip_prefix(b"--") {
        if long.is_empty() {
            return Word::Operand;
        }
        if long == b"split-string" {
            return Word::SplitString { flags: &[], string: None };
        }
        if let Some(string) = long.strip_prefix(b"split-string=") {
            return Word::SplitString { flags: &[], string: Some(string) };
        }
        let takes_next = takes_value(command_line, |option| option.name.as_bytes() == long);
        return Word::Option { takes_next };
    }
    let Some(letters) = word.strip_prefix(b"-").filter(|letters| !letters.is_empty()) else {
        return Word::Operand;
    };
    for (place, letter) in letters.iter().enumerate() {
        let Some((flags, [_, rest @ ..])) = letters.split_at_checked(place) else { break };
        let in_this_word = Some(rest).filter(|rest| !rest.is_empty());
        if *letter == b'S' {
            return Word::SplitString { flags, string: in_this_word };
        }
        if takes_value(command_line, |option| option.short == Some(char::from(*letter))) {
            return Word::Option { takes_next: in_this_word.is_none() };
        }
    }
    Word::Option { takes_next: false }
}

fn takes_value(command_line: &CommandLineSpec, is: impl Fn(&Spec) -> bool) -> bool {
    command_line.options().any(|option| is(option.spec()) && option.spec().value.is_some())
}
