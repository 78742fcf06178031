//! The house itself: where `unsafe` is, and which way the arrows point.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::behaviours;

/// The blocks of each file, each read again for its reason when its number changes.
const UNSAFE: &[(&str, usize)] = &[
    ("system/linux/builtin.rs", 0),
    ("system/linux/children.rs", 3),
    ("system/linux/entry.rs", 9),
    ("system/linux/exec.rs", 5),
    ("system/linux/memory.rs", 1),
    ("system/linux/mod.rs", 2),
    ("system/linux/process.rs", 2),
    ("system/linux/report.rs", 6),
    ("system/linux/signals.rs", 5),
    ("system/linux/spawn.rs", 13),
    ("system/linux/stderr.rs", 3),
    ("system/linux/tty.rs", 4),
];

/// What decides; it makes no system call, so it never names what makes them.
const PURE: &[&str] = &["signal", "time", "outcome", "json", "plan", "control/protocol", "shutdown", "report", "cli"];

/// Every source file, by its path below `src`.
fn sources() -> BTreeMap<String, String> {
    fn collect(root: &Path, place: PathBuf, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    collect(&root, root.clone(), &mut found);
    found
}

/// A file's code without its tests and comments.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

behaviours! {
    []
    fn every_unsafe_block_is_counted(init) {
        let _ = init;
        let known: BTreeMap<&str, usize> = UNSAFE.iter().copied().collect();
        for (name, text) in sources() {
            let count = code(&text).matches("unsafe {").count();
            let expected = known.get(name.as_str()).copied().unwrap_or(0);
            assert_eq!(count, expected, "unsafe blocks in src/{name}");
        }
    }

    []
    fn what_decides_never_names_what_makes_system_calls(init) {
        let _ = init;
        let mut seen = 0;
        for (name, text) in sources() {
            let is_in = |room: &&str| name.strip_prefix(*room).is_some_and(|rest| rest.starts_with(['/', '.']));
            if PURE.iter().any(is_in) {
                seen += 1;
                for word in ["crate::system::linux", "std::process", "Instant::now", "unsafe"] {
                    assert!(!code(&text).contains(word), "src/{name} names {word}");
                }
            }
        }
        assert!(seen >= PURE.len(), "only {seen} files");
    }

    []
    fn what_makes_system_calls_never_names_what_decides(init) {
        let _ = init;
        for (name, text) in sources() {
            if name.starts_with("system/linux/") {
                for word in ["crate::shutdown", "crate::init", "crate::report", "crate::cli"] {
                    assert!(!code(&text).contains(word), "src/{name} names {word}");
                }
            }
        }
    }

    []
    fn what_is_built_in_knows_neither_the_kernel_nor_who_runs_it(init) {
        let _ = init;
        let mut seen = 0;
        for (name, text) in sources().into_iter().filter(|(name, _)| name.starts_with("builtin/")) {
            seen += 1;
            for room in ["system", "plan", "cli", "shutdown", "init", "report", "control"] {
                assert!(!code(&text).contains(&format!("crate::{room}")), "src/{name} names crate::{room}");
            }
        }
        assert!(seen > 6, "only {seen} files");
    }

    []
    fn every_test_that_security_md_names_is_there(init) {
        let _ = init;
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let claims = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
        let mut seen = 0;
        for name in claims.split('`').filter(|name| name.contains("::")) {
            let (theme, test) = name.split_once("::").unwrap();
            let file = root.join("tests/behaviour").join(format!("{theme}.rs"));
            let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let test = test.trim_end_matches('*');
            assert!(text.contains(&format!("fn {test}")), "SECURITY.md names {name}, which is not there");
            seen += 1;
        }
        assert!(seen > 12, "only {seen} tests are named");
    }
}
