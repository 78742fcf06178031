//! Manifests as people really write them, and what is found in them: above all nothing where nothing is wrong.

use std::path::Path;

use crate::support::{files, findings, grace};

#[test]
fn real_manifests_give_the_expected_findings_only() {
    let paths = files("corpus", ".yaml");
    assert!(paths.len() >= 20);
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let expected: Vec<&str> = text
            .lines()
            .map_while(|line| line.strip_prefix("# expect: "))
            .filter(|expected| *expected != "nothing")
            .collect();
        assert_eq!(findings(&text, &[]), expected, "{}", path.display());
    }
}

#[test]
fn nothing_is_found_in_the_repositorys_own_manifests() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let outcome = grace(&["check", "-f", examples.to_str().unwrap(), "--fail-on", "note"]);
    assert_eq!((outcome.status, outcome.errors.as_str()), (0, ""), "{}", outcome.output);
}
