//! The formats, the exit status, and live objects.

use serde_json::Value;

use crate::support::{grace, grace_with, test_path};

const BAD: &str = "tests/kubectl/rules/GI203-bad.yaml";
const WARNED: &str = "tests/kubectl/rules/GI205-bad.yaml";

fn json(words: &[&str]) -> Value {
    let outcome = grace(words);
    serde_json::from_str(&outcome.output).unwrap_or_else(|e| panic!("{e}: {outcome:?}"))
}

#[test]
fn the_exit_status_says_what_was_found() {
    for (words, status) in [
        (vec!["check", "-f", BAD], 1),
        (vec!["check", "-f", WARNED], 0),
        (vec!["check", "-f", WARNED, "--fail-on", "warning"], 1),
        (vec!["check", "-f", BAD, "--fail-on", "never"], 0),
        (vec!["check", "-f", BAD, "--ignore", "GI203"], 0),
        (vec!["check", "-f", BAD, "--select", "GI1"], 0),
        (vec!["check", "-f", "/nowhere.yaml"], 2),
        (vec!["check", "--bogus"], 2),
        (vec!["check"], 2),
        (vec!["check", "--help"], 0),
        (vec!["explain", "-f", BAD], 0),
        (vec!["rules", "GI204"], 0),
        (vec!["rules", "GI999"], 2),
    ] {
        assert_eq!(grace(&words).status, status, "{words:?}");
    }
}

#[test]
fn unusable_input_is_named_beside_the_findings_of_the_rest() {
    let outcome = grace(&["check", "-f", BAD, "-f", "/nowhere.yaml"]);
    assert!(outcome.output.contains("GI203") && outcome.errors.contains("/nowhere.yaml"), "{outcome:?}");
    let template = grace_with(&["check", "-f", "-"], "kind: Pod\nspec: {{ .Values.spec }}\n");
    assert_eq!(template.status, 2);
    assert!(
        template.errors.starts_with("error: <stdin>:2:7: this is a Helm template"),
        "{}",
        template.errors
    );
}

#[test]
fn json_has_the_place_and_the_path() {
    let log = json(&["check", "-f", BAD, "-o", "json"]);
    let finding = &log["findings"][0];
    assert_eq!(finding["path"], "spec.template.spec.containers[0].lifecycle.preStop");
    assert_eq!((finding["line"].as_u64(), finding["column"].as_u64()), (Some(17), Some(15)));
    assert_eq!((log["pods"].as_u64(), log["errors"].as_u64()), (Some(1), Some(1)));
}

#[test]
fn sarif_has_what_its_readers_need() {
    let log = json(&["check", "-f", BAD, "-o", "sarif"]);
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let result = &run["results"][0];
    let rule =
        &run["tool"]["driver"]["rules"][usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
    assert_eq!((&result["ruleId"], &rule["id"]), (&Value::from("GI203"), &Value::from("GI203")));
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(
        (&place["artifactLocation"]["uri"], &place["region"]["startLine"]),
        (&Value::from(BAD), &Value::from(17))
    );
}

#[test]
fn github_gets_one_annotation_a_finding() {
    let outcome = grace(&["check", "-f", BAD, "-o", "github"]);
    let expected =
        format!("::error file={BAD},line=17,col=15,title=GI203 Deployment/web::the preStop hook takes 30s");
    assert!(outcome.output.starts_with(&expected), "{}", outcome.output);
    assert!(outcome.output.lines().next().unwrap().contains("%0A"));
}

#[test]
fn a_baseline_hides_what_was_there() {
    let folder = std::env::temp_dir().join(format!("kubectl-grace-baseline-{}", std::process::id()));
    let file = folder.to_str().unwrap();
    assert_eq!(grace(&["check", "-f", BAD, "--write-baseline", file]).status, 1);
    assert_eq!(grace(&["check", "-f", BAD, "--baseline", file]).status, 0);
    assert_eq!(grace(&["check", "-f", "tests/kubectl/rules/GI101-bad.yaml", "--baseline", file]).status, 1);
    std::fs::remove_file(folder).unwrap();
}

#[test]
fn explain_draws_an_svg_of_one_pod() {
    let outcome = grace(&["explain", "-f", BAD, "-o", "svg"]);
    assert!(
        outcome.output.starts_with("<svg ") && outcome.output.ends_with("</svg>\n"),
        "{}",
        outcome.output
    );
    assert_eq!(outcome.output.matches("<text").count(), 2 * 4 + 1);
}

#[test]
fn explain_shows_hook_signal_and_kill() {
    let log = json(&["explain", "-f", BAD, "-o", "json"]);
    let moments: Vec<(&str, u64)> = log[0]["moments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|moment| (moment["what"].as_str().unwrap(), moment["latest_ms"].as_u64().unwrap()))
        .collect();
    assert_eq!(moments, [("hook-begins", 0), ("hook-ends", 30_000), ("signal", 30_000), ("kill", 32_000)]);
}

#[test]
fn kinds_that_are_not_known_are_passed_over_unless_asked_for() {
    let file = test_path("corpus/argo-rollout.yaml");
    let file = file.to_str().unwrap();
    assert_eq!(json(&["check", "-f", file, "-o", "json"])["passedOver"], 1);
    assert_eq!(json(&["check", "-f", file, "-o", "json", "--all-kinds"])["findings"][0]["code"], "GI205");
}

#[test]
fn live_objects_come_from_the_users_own_kubectl() {
    let folder = test_path("fake-kubectl");
    let plugin = env!("CARGO_BIN_EXE_kubectl-grace");
    let run = |words: &[&str]| {
        let output =
            std::process::Command::new(plugin).args(words).env("PATH", path_with(&folder)).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, output, errors) = run(&["check", "deployment/web", "-n", "shop", "--context", "test"]);
    assert_eq!((status, errors.as_str()), (Some(0), ""), "{output}");
    assert!(output.contains("the Service web still sends requests"), "{output}");
    let (status, _, errors) = run(&["check", "deployment/gone", "-n", "shop"]);
    assert_eq!(status, Some(2));
    assert!(errors.contains("kubectl: Error from server (NotFound)"), "{errors}");
}

fn path_with(folder: &std::path::Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path))).unwrap()
}

#[test]
fn completions_and_the_man_page_are_written() {
    assert!(grace(&["completion", "bash"]).output.contains("kubectl-grace"));
    assert!(grace(&["man"]).output.contains(".TH"));
}

#[test]
fn the_page_of_rules_is_what_the_table_says() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/check.md");
    let text = std::fs::read_to_string(&page).unwrap_or_default();
    let (before, _) = text.split_once("## GI101").unwrap_or((&text, ""));
    let mut expected = before.to_owned();
    for rule in grace_init::kubectl::rules::RULES {
        let manifest = |kind: &str| {
            let file = test_path(&format!("rules/{}-{kind}.yaml", rule.code));
            std::fs::read_to_string(file).unwrap()
        };
        expected += &format!("## {} {}\n\n", rule.code, rule.name);
        expected += &format!("**{}**: {}.\n\n{}\n\n", rule.level.name(), rule.summary, rule.explanation);
        expected += &format!("Found here:\n\n```yaml\n{}```\n\nNot here:\n\n", manifest("bad"));
        expected += &format!("```yaml\n{}```\n\n", manifest("good"));
    }
    crate::support::assert_snapshot(&page, &(expected.trim_end().to_owned() + "\n"));
}
