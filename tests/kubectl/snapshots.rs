//! Each rule has a manifest that triggers it, with the whole text that people see, and one that just does not.

use grace_init::kubectl::rules::RULES;

use crate::support::{assert_snapshot, files, grace, test_path};

/// The options that a manifest's first line asks for.
fn flags(text: &str) -> Vec<String> {
    let line = text.lines().next().and_then(|line| line.strip_prefix("# flags: ")).unwrap_or_default();
    line.split_whitespace().map(str::to_owned).collect()
}

fn check(name: &str) -> (String, u8) {
    let path = test_path(&format!("rules/{name}.yaml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    let flags = flags(&text);
    let path = path.to_str().unwrap();
    let mut words = vec!["check", "--color", "never", "-f", path];
    words.extend(flags.iter().map(String::as_str));
    let outcome = grace(&words);
    assert_eq!(outcome.errors, "", "{name}");
    (outcome.output.replace(path, &format!("{name}.yaml")), outcome.status)
}

#[test]
fn every_rule_is_shown_as_recorded() {
    for rule in RULES {
        let (output, status) = check(&format!("{}-bad", rule.code));
        assert!(output.contains(&format!("[{}]", rule.code)), "{}: {output}", rule.code);
        let errors = output.lines().any(|line| line.starts_with("error["));
        assert_eq!(status, u8::from(errors), "{}: {output}", rule.code);
        assert_snapshot(&test_path(&format!("rules/{}.txt", rule.code)), &output);
    }
}

#[test]
fn no_rule_finds_anything_in_what_is_just_right() {
    for rule in RULES {
        let (output, status) = check(&format!("{}-good", rule.code));
        assert_eq!((output.as_str(), status), ("1 pod, nothing found\n", 0), "{}", rule.code);
    }
}

#[test]
fn every_file_belongs_to_a_rule() {
    for file in files("rules", "") {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(RULES.iter().any(|rule| name.starts_with(rule.code)), "{name}");
    }
}
