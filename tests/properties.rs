//! The properties of `tests/fuzz/properties.rs` without a fuzzer, on bytes that are made up and on bytes that look like the real
//! ones; and word splitting held against the machine's own shell.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs,
    reason = "a test may panic"
)]

#[path = "fuzz/properties.rs"]
mod properties;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::{Command, Stdio};

use grace_init::plan::{Step, Work};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Bytes that come near to what users and clients write.
fn real_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "(grace-init|dumb-init|tini|true|stop|hook|copy-to)",
        "--?(grace|reserve|drain|pre-stop|stop-signal|stop-window|stop-on|rewrite|exit-zero|S|c|v|g)=?",
        "(GRACE_INIT|DUMB_INIT|TINI)_(GRACE|PRE_STOP|STOP_SIGNAL|SINGLE_CHILD|SETSID|DEBUG|VERBOSITY)=",
        "[$]([{]?[A-Z0-9]{1,4}[}]?|[$(@])",
        "(TERM|SIGQUIT|RTMIN\\+1|15|0|64)(:[0-9]{1,4}(ms|s|m|h)?)?,?",
        "[0-9]{0,20}(ms|s|m|h|\\.5s)?",
        "@(sleep|signal|stop|http GET http://127.0.0.1:1/|wait-http http://127.0.0.1:1/|wait-file|wait-port-idle) ",
        "HTTP/1\\.[01] [0-9]{1,4}( OK)?\r?",
        "grace-init [0-9] (ready|status|stop prepared|stop stopped)",
        "(phase|ready|uptime-ms|step|trigger|remaining-ms) [a-z0-9 %\\\\]{0,9}\n",
        "[ \t\n'\"\\\\,:=\u{0}]",
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
}

#[test]
fn every_property_holds() {
    let mut runner = TestRunner::new(Config { cases: 4_000, failure_persistence: None, ..Config::default() });
    let bytes = prop_oneof![vec(any::<u8>(), 0..120), real_bytes()];
    runner
        .run(&bytes, |bytes| {
            for (_, property) in properties::ALL {
                property(&bytes);
            }
            Ok(())
        })
        .unwrap();
}

/// A text in which the shell does nothing but quoting: no expansion, no operator, no end of a command.
fn quoted_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z0-9_/.,:@%+é-]{1,6}",
        3 => "[ \t]{1,3}",
        2 => "'[^'\u{0}\u{1}]{0,6}'",
        2 => "\"([^\"$`\\\\\u{0}\u{1}]|\\\\[^\u{0}\u{1}]){0,6}\"",
        2 => "\\\\[^\u{0}\u{1}]",
        1 => " #[a-z '\"\\\\]{0,6}\n?",
        1 => "['\"\\\\#]",
    ];
    vec(piece, 0..10)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("the shell would act", |text| is_quoting_alone(text))
}

/// The same with a variable in it, which the shell is told not to split.
fn text_with_variables() -> impl Strategy<Value = String> {
    let variable = prop_oneof![
        "[a-z]{0,2}[$][{]VALUE[}][a-z]{0,2}",
        "\"[a-z ]{0,2}[$]VALUE[ .]?\"",
        "[a-z]\\$VALUE",
        "'[$]VALUE'",
        "\"\\\\[$]VALUE\"",
        "[a-z][$][{]UNKNOWN[}]",
    ];
    (quoted_text(), variable, quoted_text())
        .prop_map(|(before, variable, after)| format!("{before} {variable} {after}"))
        .prop_filter("the shell would act", |text| {
            let mut quoting = text.clone();
            for variable in ["${VALUE}", "$VALUE", "${UNKNOWN}"] {
                quoting = quoting.replace(variable, "x");
            }
            is_quoting_alone(&quoting)
        })
}

/// Whether nothing that a shell acts upon, a line end among it, stands outside of the quotes that keep it from that.
fn is_quoting_alone(text: &str) -> bool {
    let mut quote = None;
    let mut in_a_word = false;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, '\n') => return false,
            (None, c) if "<>|&;(){}*?[]~!$`=".contains(c) => return false,
            (Some('"'), '$' | '`') => return false,
            (None, '#') if !in_a_word => return !characters.any(|c| c == '\n'),
            (None, '\'' | '"') => quote = Some(c),
            // A line that goes on in the next begins no word.
            (None, '\\') => {
                let escaped = characters.next();
                if escaped == Some('\n') {
                    continue;
                }
            }
            (Some('"'), '\\') => drop(characters.next()),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
        in_a_word = quote.is_some() || !matches!(c, ' ' | '\t');
    }
    true
}

/// What `$VALUE` is: one word all the same, here and in a shell that splits at nothing.
const VALUE: &str = "two  *words";

/// The words that the shell makes of each text, all in one process.
fn shell_words(texts: &[&str]) -> Vec<Vec<OsString>> {
    let mut script = format!("IFS=; set -f; VALUE='{VALUE}'\n").into_bytes();
    for text in texts {
        writeln!(script, "set -- {text}\nfor word do printf '%s\\0' \"$word\"; done; printf '\\001\\0'")
            .unwrap();
    }
    let mut shell = Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run sh");
    let mut stdin = shell.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&script));
    let output = shell.wait_with_output().unwrap();
    let written = writer.join().unwrap();
    let done = output.stdout.split(|byte| *byte == 1).count();
    let at = texts.get(done.saturating_sub(1));
    assert!(output.status.success() && written.is_ok(), "the shell gives up near {at:?}: {}", output.status);
    let mut all = vec![Vec::new()];
    for word in output.stdout.split(|byte| *byte == 0) {
        if word == b"\x01" {
            all.push(Vec::new());
        } else {
            all.last_mut().unwrap().push(OsString::from_vec(word.to_vec()));
        }
    }
    // Behind the last mark comes the empty rest.
    all.pop();
    all
}

#[test]
fn words_are_split_as_a_posix_shell_splits_them() {
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let strategy = quoted_text();
    let texts: Vec<String> = (0..10_000).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for text in &texts {
        match grace_init::plan::split_words(text.as_ref()) {
            Ok(words) => taken.push((text.as_str(), words)),
            Err(_) => refused.push(text.as_str()),
        }
    }
    assert!(taken.len() > 4_000 && refused.len() > 1_000, "{} taken, {} refused", taken.len(), refused.len());
    let theirs = shell_words(&taken.iter().map(|(text, _)| *text).collect::<Vec<_>>());
    assert_eq!(theirs.len(), taken.len());
    for ((text, ours), theirs) in taken.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "{text:?}");
    }
    // POSIX leaves a backslash at the very end to the shell; in a quote that is not closed the shell refuses as we do.
    for text in refused.iter().filter(|text| !text.ends_with('\\')).take(1_000) {
        let script = [b"set -- ", text.as_bytes(), b"\n"].concat();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(std::ffi::OsStr::from_bytes(&script)).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(!shell.status().unwrap().success(), "the shell takes {text:?}");
    }
}

#[test]
fn variables_are_replaced_as_a_posix_shell_replaces_them() {
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let strategy = text_with_variables();
    let texts: Vec<String> = (0..4_000).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let value = |name: &str| (name == "VALUE").then(|| VALUE.into());
    let mut taken = Vec::new();
    for text in &texts {
        let Ok(step) = Step::parse(text.as_ref()) else { continue };
        let Work::Program(command) = step.work else { continue };
        let command = command.expand(&value);
        let words: Vec<OsString> = std::iter::once(command.program).chain(command.arguments).collect();
        taken.push((text.as_str(), words));
    }
    assert!(taken.len() > 1_000, "only {} taken", taken.len());
    let theirs = shell_words(&taken.iter().map(|(text, _)| *text).collect::<Vec<_>>());
    assert_eq!(theirs.len(), taken.len());
    for ((text, ours), theirs) in taken.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "{text:?}");
    }
}
