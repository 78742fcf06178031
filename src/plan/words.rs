//! Splitting text into words as a POSIX shell quotes them (XCU 2.2 and 2.3), without anything else that a shell does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Result, bail};

/// Splits text into words: quotes, backslashes, comments and lines that go on in the next; no variable, no glob, no operator.
///
/// # Errors
/// A quote that is not closed, or a backslash at the end; the caller adds where the text came from.
pub fn split_words(text: &OsStr) -> Result<Vec<OsString>> {
    let mut words = Vec::new();
    // There from its first byte or quote on: '' is a word.
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = text.as_bytes().iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' => words.extend(word.take()),
            b'#' if word.is_none() => {
                bytes.by_ref().find(|byte| *byte == b'\n');
            }
            b'\'' => single_quoted(&mut bytes, word.get_or_insert_default())?,
            b'"' => double_quoted(&mut bytes, word.get_or_insert_default())?,
            b'\\' => match bytes.next() {
                // The line goes on in the next; no word begins or ends by that.
                Some(b'\n') => {}
                Some(literal) => word.get_or_insert_default().push(literal),
                None => bail!("a backslash ends the text"),
            },
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Ok(words.into_iter().map(OsString::from_vec).collect())
}

fn single_quoted(bytes: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Result<()> {
    for byte in bytes {
        match byte {
            b'\'' => return Ok(()),
            plain => word.push(plain),
        }
    }
    bail!("a single quote is not closed")
}

fn double_quoted(bytes: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Result<()> {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return Ok(()),
            b'\\' => match bytes.next() {
                Some(b'\n') => {}
                Some(special @ (b'$' | b'`' | b'"' | b'\\')) => word.push(special),
                Some(plain) => word.extend([b'\\', plain]),
                None => break,
            },
            plain => word.push(plain),
        }
    }
    bail!("a double quote is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Option<Vec<String>> {
        let words = split_words(text.as_ref()).ok()?;
        Some(words.into_iter().map(|word| word.into_string().unwrap()).collect())
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
        }
    }
}
