//! Splitting text into words as a POSIX shell quotes them (XCU 2.2 and 2.3). Commands of steps may also name variables;
//! everything else that a shell would do is refused, so that nobody takes it for done.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Result, bail};

use super::CommandLine;

/// Splits text into words: quotes, backslashes, comments and continued lines. Variables, globs and operators are plain text.
///
/// # Errors
/// An unclosed quote, or a backslash at the end; the caller adds where the text came from.
pub fn split_words(text: &OsStr) -> Result<Vec<OsString>> {
    let words = Splitter { text: text.as_bytes(), command: false, words: Vec::new(), word: None }.split()?;
    Ok(words.into_iter().map(|word| word.expand(&|_| None)).collect())
}

/// Splits a step's command into words, in which `$NAME` and `${NAME}` outside single quotes are variables.
///
/// # Errors
/// As [`split_words`], and for what only a shell can do.
pub(super) fn split_command(text: &OsStr) -> Result<Vec<Word>> {
    Splitter { text: text.as_bytes(), command: true, words: Vec::new(), word: None }.split()
}

/// A word of a step's command.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Word(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Variable(String),
}

impl Word {
    fn push(&mut self, byte: u8) {
        match self.0.last_mut() {
            Some(Piece::Text(text)) => text.push(byte),
            Some(Piece::Variable(_)) | None => self.0.push(Piece::Text(vec![byte])),
        }
    }

    /// The word, if it holds no variable.
    pub fn literal(&self) -> Option<OsString> {
        let has_variable = self.0.iter().any(|piece| matches!(piece, Piece::Variable(_)));
        (!has_variable).then(|| self.expand(&|_| None))
    }

    /// The word with each variable's value in its place. It stays one word, whatever the values hold; an unknown variable
    /// is empty.
    pub fn expand(&self, variable: &dyn Fn(&str) -> Option<OsString>) -> OsString {
        let mut bytes = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => bytes.extend_from_slice(text),
                Piece::Variable(name) => bytes.extend(variable(name).unwrap_or_default().into_vec()),
            }
        }
        OsString::from_vec(bytes)
    }
}

/// The command of a step, its variables not yet replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepCommand {
    /// The program: a path, or a name to be looked up in `PATH`.
    pub program: Word,
    /// Its arguments, without its own name.
    pub arguments: Vec<Word>,
}

impl StepCommand {
    /// What to run, with the values that the variables have when the step starts.
    pub fn expand(&self, variable: &dyn Fn(&str) -> Option<OsString>) -> CommandLine {
        CommandLine {
            program: self.program.expand(variable),
            arguments: self.arguments.iter().map(|word| word.expand(variable)).collect(),
        }
    }
}

struct Splitter<'a> {
    text: &'a [u8],
    /// Whether variables are replaced and a shell's operators refused.
    command: bool,
    words: Vec<Word>,
    /// There from its first byte or quote on: '' is a word.
    word: Option<Word>,
}

impl Splitter<'_> {
    fn split(mut self) -> Result<Vec<Word>> {
        while let Some(byte) = self.next() {
            match byte {
                b' ' | b'\t' | b'\n' => self.words.extend(self.word.take()),
                b'#' if self.word.is_none() => while self.next().is_some_and(|byte| byte != b'\n') {},
                b'\'' => self.single_quoted()?,
                b'"' => self.double_quoted()?,
                b'\\' => match self.next() {
                    // The line goes on in the next; no word begins or ends by that.
                    Some(b'\n') => {}
                    Some(literal) => self.push(literal),
                    None => bail!("a backslash ends the text"),
                },
                b'$' if self.command => self.dollar()?,
                plain if self.command => {
                    self.refuse_syntax(plain)?;
                    self.push(plain);
                }
                plain => self.push(plain),
            }
        }
        self.words.extend(self.word);
        Ok(self.words)
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.text.split_first()?;
        self.text = rest;
        Some(*first)
    }

    fn push(&mut self, byte: u8) {
        self.word.get_or_insert_default().push(byte);
    }

    fn single_quoted(&mut self) -> Result<()> {
        self.word.get_or_insert_default();
        while let Some(byte) = self.next() {
            match byte {
                b'\'' => return Ok(()),
                plain => self.push(plain),
            }
        }
        bail!("a single quote is not closed")
    }

    fn double_quoted(&mut self) -> Result<()> {
        self.word.get_or_insert_default();
        while let Some(byte) = self.next() {
            match byte {
                b'"' => return Ok(()),
                b'\\' => match self.next() {
                    Some(b'\n') => {}
                    Some(special @ (b'$' | b'`' | b'"' | b'\\')) => self.push(special),
                    Some(plain) => {
                        self.push(b'\\');
                        self.push(plain);
                    }
                    None => break,
                },
                b'$' if self.command => self.dollar()?,
                b'`' if self.command => bail!("`...` {NEEDS_A_SHELL}"),
                plain => self.push(plain),
            }
        }
        bail!("a double quote is not closed")
    }

    /// What follows a dollar: a name, another dollar, or plain text where a shell takes it for that as well.
    fn dollar(&mut self) -> Result<()> {
        let name = match self.text {
            [b'$', ..] => {
                self.next();
                self.push(b'$');
                return Ok(());
            }
            [b'{', rest @ ..] => {
                let end = rest.iter().position(|byte| *byte == b'}');
                let name = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                if end.is_none() || name_at(name).len() != name.len() || name.is_empty() {
                    bail!("\"${{{}\" is not ${{NAME}}; write $$ for a dollar sign", name.escape_ascii());
                }
                self.text = rest.get(name.len().saturating_add(1)..).unwrap_or_default();
                name
            }
            [b'(', ..] => bail!("$(...) {NEEDS_A_SHELL}"),
            [special @ (b'0'..=b'9' | b'@' | b'*' | b'#' | b'?' | b'-' | b'!'), ..] => {
                bail!("${} is not a variable here; write $$ for a dollar sign", char::from(*special))
            }
            rest => {
                let name = name_at(rest);
                self.text = rest.get(name.len()..).unwrap_or_default();
                name
            }
        };
        if name.is_empty() {
            self.push(b'$');
        } else {
            let name = String::from_utf8_lossy(name).into_owned();
            self.word.get_or_insert_default().0.push(Piece::Variable(name));
        }
        Ok(())
    }

    /// Refuses a byte outside quotes on which a shell would act. `&` within a word and `?` stand in URLs, and `{`, `[` and
    /// `!` in ordinary arguments; a program that gets them sees what was written.
    fn refuse_syntax(&self, byte: u8) -> Result<()> {
        let starts_word = self.word.is_none();
        let next_ends_word = matches!(self.text, [] | [b' ' | b'\t' | b'\n' | b'&', ..]);
        match byte {
            b'|' | b';' | b'<' | b'>' | b'(' | b')' | b'`' | b'*' => {}
            b'&' if starts_word || next_ends_word => {}
            b'~' if starts_word => {}
            b'=' if self.words.is_empty() && self.is_assignment() => {
                bail!("a variable before the command {NEEDS_A_SHELL}: put it after \"env\"")
            }
            _ => return Ok(()),
        }
        bail!("{:?} {NEEDS_A_SHELL}; quote it if it is part of an argument", char::from(byte))
    }

    /// Whether what was read of the first word is a name, so that a `=` makes it an assignment.
    fn is_assignment(&self) -> bool {
        match self.word.as_ref().map(|word| word.0.as_slice()) {
            Some([Piece::Text(text)]) => name_at(text).len() == text.len(),
            _ => false,
        }
    }
}

const NEEDS_A_SHELL: &str =
    "needs a shell, and this runs without one: use a step for each command, or sh -c '...'";

/// The variable name at the beginning of a text (XBD 3.216); empty if there is none.
fn name_at(text: &[u8]) -> &[u8] {
    if text.first().is_none_or(u8::is_ascii_digit) {
        return &[];
    }
    let end = text.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Option<Vec<String>> {
        let words = split_words(text.as_ref()).ok()?;
        Some(words.into_iter().map(|word| word.into_string().unwrap()).collect())
    }

    fn expand(text: &str) -> Vec<String> {
        let variable = |name: &str| match name {
            "MAINPID" => Some("7".into()),
            "TWO" => Some("a b".into()),
            _ => None,
        };
        let words = split_command(text.as_ref()).unwrap();
        words.iter().map(|word| word.expand(&variable).into_string().unwrap()).collect()
    }

    #[test]
    fn words_are_what_a_shell_makes_of_them() {
        for (text, words) in [
            ("", vec![]),
            ("  a\tb\nc ", vec!["a", "b", "c"]),
            ("'a b' \"c d\" e\\ f", vec!["a b", "c d", "e f"]),
            ("'' \"\"", vec!["", ""]),
            ("a'b'\"c\"d", vec!["abcd"]),
            (r#""\a\$\`\"\\""#, vec![r#"\a$`"\"#]),
            (r"'\a'", vec![r"\a"]),
            ("a # b 'c\nd", vec!["a", "d"]),
            ("a#b \\#c", vec!["a#b", "#c"]),
            ("a \\\n b\\\nc \"d\\\ne\"", vec!["a", "bc", "de"]),
        ] {
            assert_eq!(split(text), Some(words.into_iter().map(str::to_owned).collect()), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_closed_is_refused() {
        for text in ["'a", "\"a", "\"a\\\"", "a\\", "\"\\"] {
            assert_eq!(split(text), None, "{text:?}");
            assert!(split_command(text.as_ref()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn variables_are_replaced_outside_single_quotes() {
        for (text, words) in [
            ("kill -HUP $MAINPID", vec!["kill", "-HUP", "7"]),
            ("a${MAINPID}b \"x$MAINPID.y\"", vec!["a7b", "x7.y"]),
            ("'$MAINPID' \\$MAINPID \"\\$MAINPID\"", vec!["$MAINPID", "$MAINPID", "$MAINPID"]),
            ("$TWO x$UNKNOWN $UNKNOWN", vec!["a b", "x", ""]),
            ("$$MAINPID a$$ \"$$\"", vec!["$MAINPID", "a$", "$"]),
            ("grep 'x$' \"x$\" x$ $/", vec!["grep", "x$", "x$", "x$", "$/"]),
        ] {
            assert_eq!(expand(text), words, "{text:?}");
        }
        assert_eq!(split("$MAINPID"), Some(vec!["$MAINPID".to_owned()]), "-S replaces nothing");
    }

    #[test]
    fn what_only_a_shell_can_do_is_refused() {
        for text in [
            "a | b",
            "a|b",
            "a; b",
            "a;b",
            "a && b",
            "a&&b",
            "a & b",
            "a &",
            "a&",
            "a > f",
            "a 2>&1",
            "a <f",
            "(a)",
            "a `b`",
            "a \"`b`\"",
            "a $(b)",
            "a \"$(b)\"",
            "a ${b:-c}",
            "a ${}",
            "a ${b",
            "a $1",
            "a $?",
            "a $@",
            "rm *",
            "ls ~/x",
            "A=1 b",
        ] {
            assert!(split_command(text.as_ref()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn quoted_operators_are_plain_text() {
        for text in ["grep '|' f", "a \">\"", "a \\; b", "a '$(b)' '`'", "'A=1'", "echo '*' \"~\""] {
            assert!(split_command(text.as_ref()).is_ok(), "{text:?}");
        }
        for text in ["curl http://x/?a=1&b=2", "a --x=y a~ a{b} [ ! env A=1"] {
            assert!(split_command(text.as_ref()).is_ok(), "{text:?}");
        }
    }
}
