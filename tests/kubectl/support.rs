//! Runs the plugin as a user does, without a process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use grace_init::kubectl::cli::{Streams, run};

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status.
    pub status: u8,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

/// Runs `kubectl grace` with these words and this standard input.
pub fn grace_with(words: &[&str], input: &str) -> Outcome {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let mut streams = Streams { input: &mut input.as_bytes(), output: &mut output, errors: &mut errors };
    let words = std::iter::once("kubectl-grace").chain(words.iter().copied()).map(OsString::from);
    let status = run(words, &mut streams);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Outcome { status, output: text(output), errors: text(errors) }
}

/// Runs `kubectl grace` with these words.
pub fn grace(words: &[&str]) -> Outcome {
    grace_with(words, "")
}

/// The codes and levels of the findings in a manifest, in their order.
pub fn findings(manifest: &str, more: &[&str]) -> Vec<String> {
    let words = [&["check", "-f", "-", "-o", "json"], more].concat();
    let outcome = grace_with(&words, manifest);
    let json: serde_json::Value =
        serde_json::from_str(&outcome.output).unwrap_or_else(|e| panic!("{e}: {outcome:?}"));
    assert_eq!(outcome.errors, "", "{manifest}");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    let all = json["findings"].as_array().unwrap();
    all.iter()
        .map(|one| format!("{} {} {}", text(&one["code"]), text(&one["level"]), text(&one["container"])))
        .collect()
}

/// A file or folder of these tests.
pub fn test_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubectl").join(name)
}

/// The files of a folder with this ending, sorted.
pub fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(test_path(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_str().unwrap().ends_with(ending));
    paths.sort();
    paths
}

/// Compares a text with the file that holds what it should be; `UPDATE_SNAPSHOTS=1` writes it instead.
pub fn assert_snapshot(file: &Path, text: &str) {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(file, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        expected == text,
        "{} differs (UPDATE_SNAPSHOTS=1 writes it)\n--- expected\n{expected}\n--- is\n{text}",
        file.display()
    );
}
