//! `kubectl grace inject`: which lines change, and what is refused.

use crate::support::{assert_snapshot, files, findings, grace, grace_with, test_path};

fn deployment(container: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  template:\n    spec:\n      containers:\n{container}"
    )
}

#[test]
fn only_the_lines_that_are_needed_change() {
    for input in files("injection", ".yaml") {
        let path = input.to_str().unwrap();
        let outcome = grace(&["inject", "-f", path, "--dry-run=diff"]);
        assert_eq!((outcome.status, outcome.errors.as_str()), (0, ""), "{path}");
        let diff = outcome.output.replace(path, input.file_name().unwrap().to_str().unwrap());
        assert_snapshot(&input.with_extension("diff"), &diff);
    }
}

#[test]
fn what_it_made_is_clean() {
    for input in files("injection", ".yaml") {
        let once = grace(&["inject", "-f", input.to_str().unwrap()]);
        assert_eq!(findings(&once.output, &[]), Vec::<String>::new(), "{}", once.output);
    }
}

#[test]
fn every_manifest_of_the_corpus_comes_back() {
    for input in files("corpus", ".yaml") {
        let text = std::fs::read_to_string(&input).unwrap();
        let once = grace_with(&["inject", "-f", "-", "--all-kinds"], &text);
        let back = grace_with(&["inject", "-f", "-", "--remove"], &once.output);
        assert_eq!(back.output, text, "{}", input.display());
        let before = findings(&text, &[]).into_iter().filter(|finding| finding.contains(" error ")).count();
        let after =
            findings(&once.output, &[]).into_iter().filter(|finding| finding.contains(" error ")).count();
        assert!(after <= before, "{}", once.output);
    }
}

#[test]
fn a_sleeping_hook_becomes_the_drain() {
    let text = deployment(
        "        - name: web\n          command: [\"/web\"]\n          lifecycle: {preStop: {sleep: {seconds: 7}}}\n",
    );
    let once = grace_with(&["inject", "-f", "-"], &text);
    assert!(once.output.contains("{name: GRACE_INIT_DRAIN, value: \"7s\"}"), "{}", once.output);
    assert!(
        once.output.contains(
            "lifecycle: {preStop: {exec: {command: [\"/grace-init-bin/grace-init\", \"pre-stop\"]}}}"
        )
    );
}

#[test]
fn a_container_without_a_command_needs_its_images_configuration() {
    let text = deployment("        - name: web\n          image: nginx:1\n");
    let refused = grace_with(&["inject", "-f", "-"], &text);
    assert_eq!(refused.status, 2);
    assert!(refused.errors.contains("Deployment/web, container web"), "{}", refused.errors);
    assert_eq!(refused.output, text);
    let config = test_path("images/nginx.json");
    let known = grace_with(&["inject", "-f", "-", "--image-config", config.to_str().unwrap()], &text);
    assert_eq!((known.status, known.errors.as_str()), (0, ""));
    assert!(
        known.output.contains("command: [\"/grace-init-bin/grace-init\", \"--\", \"/docker-entrypoint.sh\"]"),
        "{}",
        known.output
    );
    assert!(known.output.contains("args: [\"nginx\", \"-g\", \"daemon off;\"]"), "{}", known.output);
}

#[test]
fn what_cannot_be_changed_by_lines_is_refused_with_the_reason() {
    for (container, reason) in [
        ("        - {name: web, command: [\"/web\"]}\n", "in braces"),
        ("        - name: web\n          command: &c [\"/web\"]\n", "anchor"),
    ] {
        let text = deployment(container);
        let outcome = grace_with(&["inject", "-f", "-"], &text);
        assert_eq!(outcome.status, 2, "{container}");
        assert!(outcome.errors.contains(reason), "{}", outcome.errors);
        assert_eq!(outcome.output, text);
    }
    let json = r#"{"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "command": ["/c"]}]}}"#;
    let outcome = grace_with(&["inject", "-f", "-"], json);
    assert!(outcome.status == 2 && outcome.errors.contains("as JSON"), "{outcome:?}");
}
