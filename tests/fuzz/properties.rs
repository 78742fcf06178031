//! What must hold of everything that comes from outside, whatever its bytes. The fuzz targets beside this file and
//! `tests/properties.rs` call the same functions.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use grace_init::builtin::http::parse_status;
use grace_init::builtin::wait_port_idle::connections;
use grace_init::cli::{self, Environment, Invocation};
use grace_init::control::protocol;
use grace_init::plan::{Plan, Step, split_words};
use grace_init::signal::{Signal, SignalSet};
use grace_init::time::parse_duration;

/// A property, by the name of its fuzz target.
pub type Property = fn(&[u8]);

/// All of them.
pub const ALL: &[(&str, Property)] = &[
    ("command_line", command_line),
    ("environment", environment),
    ("words", words),
    ("ladders", ladders),
    ("durations", durations),
    ("http_answers", http_answers),
    ("control_protocol", control_protocol),
];

fn word(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// A plan that was accepted can be kept.
fn is_sound(plan: &Plan) {
    let settings = &plan.shutdown;
    let Some(budget) = settings.budget() else { return };
    assert!(settings.drain + settings.stop_window <= budget, "{settings:?}");
    if settings.grace_source.is_guess() {
        return;
    }
    let ladder: std::time::Duration = settings.ladder.iter().filter_map(|rung| rung.wait).sum();
    assert!(ladder <= budget, "{settings:?}");
}

/// An environment in which every program is there.
fn environment_of<'a>(variables: Vec<(&'a OsStr, &'a OsStr)>) -> Environment<'a> {
    Environment { variables, is_first_process: true, is_program: &|_| true, absolute: &Path::to_path_buf }
}

fn check(answer: Result<Invocation, cli::Refusal>) {
    match answer {
        Ok(Invocation::Run(plan) | Invocation::Explain(plan)) => is_sound(&plan),
        Ok(Invocation::Hook(hook)) => is_sound(&hook.run),
        Ok(Invocation::Client(_) | Invocation::CopyTo(_) | Invocation::Pause(_) | Invocation::Print(_)) => {}
        Err(refusal) => {
            let said = format!("{:#}", refusal.error);
            assert!(said.lines().count() >= 1 && !said.trim_end().ends_with('.'), "{said:?}");
        }
    }
}

/// NUL-separated words, our own name first, are refused with a reason or give a plan that can be kept.
pub fn command_line(bytes: &[u8]) {
    let words: Vec<OsString> = bytes.split(|byte| *byte == 0).map(word).collect();
    check(cli::read(words, &environment_of(Vec::new())));
}

/// The same of variables: NAME=VALUE, separated by NUL.
pub fn environment(bytes: &[u8]) {
    let entries: Vec<(&OsStr, &OsStr)> = bytes
        .split(|byte| *byte == 0)
        .filter_map(|entry| {
            let end = entry.iter().position(|byte| *byte == b'=')?;
            Some((OsStr::from_bytes(&entry[..end]), OsStr::from_bytes(&entry[end + 1..])))
        })
        .collect();
    for name in ["grace-init", "dumb-init", "tini"] {
        check(cli::read(vec![name.into(), "true".into()], &environment_of(entries.clone())));
    }
}

/// Words that were split, quoted and split again are the same words.
pub fn words(bytes: &[u8]) {
    let _ = Step::parse(&word(bytes));
    let Ok(words) = split_words(&word(bytes)) else { return };
    let quoted: Vec<Vec<u8>> = words
        .iter()
        .map(|word| {
            let inside = word.as_encoded_bytes().iter().flat_map(|byte| match byte {
                b'\'' => br"'\''".to_vec(),
                other => vec![*other],
            });
            [b"'".to_vec(), inside.collect(), b"'".to_vec()].concat()
        })
        .collect();
    assert_eq!(split_words(&word(&quoted.join(&b' '))).ok(), Some(words));
}

/// A ladder that is accepted has its rungs in it, all of signals that can be sent.
pub fn ladders(bytes: &[u8]) {
    let words = vec!["grace-init".into(), "--stop-signal".into(), word(bytes), "true".into()];
    let answer = cli::read(words, &environment_of(Vec::new()));
    if let Ok(Invocation::Run(plan)) = &answer {
        let rungs = plan.shutdown.ladder.len();
        assert_eq!(
            rungs,
            bytes.iter().filter(|byte| **byte == b',').count() + 1,
            "{:?}",
            plan.shutdown.ladder
        );
        assert!(plan.shutdown.ladder.iter().all(|rung| SignalSet::ALL.contains(rung.signal)));
    }
    check(answer);
}

/// Digits alone are seconds; nothing is negative; what is read is no longer than it looks.
pub fn durations(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let read = parse_duration(&text);
    if let Ok(seconds) = text.parse::<u32>()
        && text.bytes().all(|byte| byte.is_ascii_digit())
    {
        assert_eq!(read, Some(std::time::Duration::from_secs(seconds.into())), "{text:?}");
    }
    if read.is_some() {
        assert!(text.starts_with(|c: char| c.is_ascii_digit() || c == '.'), "{text:?}");
    }
    let _ = Signal::parse(&text);
}

/// A status is three digits, between HTTP/1 and a reason.
pub fn http_answers(bytes: &[u8]) {
    if let Some(status) = parse_status(bytes) {
        assert!((100..1_000).contains(&status), "{status} of {bytes:?}");
        assert!(bytes.starts_with(b"HTTP/1."), "{bytes:?}");
    }
    let _ = connections(&String::from_utf8_lossy(bytes), 80);
}

/// What is understood is understood again when it is written down.
pub fn control_protocol(bytes: &[u8]) {
    if let Ok(request) = protocol::Request::decode(bytes) {
        let line = request.encode();
        assert_eq!(protocol::Request::decode(line.trim_end_matches('\n').as_bytes()), Ok(request));
    }
    if let Some(status) = protocol::Status::decode(&String::from_utf8_lossy(bytes)) {
        let json = status.json();
        assert!(json.starts_with('{') && !json.trim_end().contains('\n'), "{json}");
        assert_eq!(protocol::Status::decode(&status.encode()), Some(status));
    }
}
