//! What is packed around the program: the manual page and the completions do their work, and everything names one version.

use std::path::Path;
use std::process::Command;

use crate::support::Need::{File, Program};
use crate::support::behaviours;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What a program prints at the top of the project; it must succeed.
#[track_caller]
fn output(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).current_dir(ROOT).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {words:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Command lines, of which the last word is being completed, and what has to be among the offers.
const OFFERS: &[(&str, &[&str])] = &[
    ("grace-init --log-", &["--log-level", "--log-format"]),
    ("grace-init --log-level ", &["error", "debug"]),
    ("grace-init --stop-signal Q", &["QUIT"]),
    ("grace-init sto", &["stop"]),
    ("grace-init stop --unt", &["--until"]),
    ("grace-init stop --until ", &["stopped", "prepared"]),
    ("grace-init ready --ser", &["--serving"]),
    ("grace-init hook --log-format ", &["text", "json"]),
    // The command.
    ("grace-init --grace 5s slee", &["sleep"]),
    ("grace-init -- slee", &["sleep"]),
];
/// And what must not be.
const NO_OFFERS: &[(&str, &str)] = &[
    ("grace-init ready --", "--grace"),
    ("grace-init --", "--serving"),
    ("grace-init sleep ", "stop"),
    ("grace-init --grace 5s sleep --", "--drain"),
];

/// Holds a shell to what it must and must not offer for a line.
#[track_caller]
fn check_offers(complete: impl Fn(&str) -> String) {
    for (line, expected) in OFFERS {
        let offered = complete(line);
        for one in *expected {
            assert!(offered.lines().any(|offer| offer.trim() == *one), "{line:?} is not completed by {one}:\n{offered}");
        }
    }
    for (line, unexpected) in NO_OFFERS {
        let offered = complete(line);
        assert!(!offered.lines().any(|offer| offer.trim() == *unexpected), "{line:?} is completed by {unexpected}");
    }
}

behaviours! {
    [File("/usr/share/bash-completion/bash_completion")]
    fn bash_completes_options_values_and_commands(_init) {
        check_offers(|line| {
            let words = line.split(' ');
            let mut all = vec!["--norc", "tests/completions/complete.bash", ".packaging/completions/grace-init.bash", line];
            all.extend(words);
            output("bash", &all)
        });
        // readline splits at the equals sign.
        let words = ["grace-init", "--log-level", "=", "de"];
        let mut all = vec!["--norc", "tests/completions/complete.bash", ".packaging/completions/grace-init.bash", "grace-init --log-level=de"];
        all.extend(words);
        assert_eq!(output("bash", &all), "debug\n");
    }

    [Program("fish")]
    fn fish_completes_options_values_and_commands(_init) {
        check_offers(|line| output("fish", &["tests/completions/complete.fish", ".packaging/completions/grace-init.fish", line]));
    }

    [Program("zsh")]
    fn zsh_completes_options_values_and_commands(_init) {
        // zsh takes the last of several offers into the line, or all of them into a list; no offer leaves grep with status 1.
        check_offers(|line| {
            let script = format!("timeout 60 zsh -f tests/completions/complete.zsh .packaging/completions '{line}' || :");
            output("sh", &["-c", &script])
        });
    }

    [Program("mandoc")]
    fn the_manual_page_has_no_fault(_init) {
        let found = Command::new("mandoc").args(["-T", "lint", "-W", "warning", ".packaging/grace-init.1"]).current_dir(ROOT).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
        let page = output("mandoc", &["-T", "utf8", ".packaging/grace-init.1"]);
        assert!(page.lines().count() > 150, "{page}");
    }

    []
    fn everything_names_the_version_of_the_package(_init) {
        output(".ci/check-version", &[env!("CARGO_PKG_VERSION")]);
    }

    []
    fn the_crate_holds_the_sources_and_what_packages_install(_init) {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let list = output(&cargo, &["package", "--list", "--allow-dirty", "--locked", "--offline"]);
        let beside = list.lines().filter(|path| !path.starts_with("src/") && *path != ".cargo_vcs_info.json").collect::<Vec<_>>();
        assert_eq!(beside, [
            ".packaging/completions/_grace-init",
            ".packaging/completions/grace-init.bash",
            ".packaging/completions/grace-init.fish",
            ".packaging/grace-init.1",
            "CHANGELOG.md",
            "Cargo.lock",
            "Cargo.toml",
            "Cargo.toml.orig",
            "LICENSE",
            "README.md",
            "SECURITY.md",
            "docs/reference.md",
        ]);
    }

    []
    fn the_workflows_run_the_scripts_and_nothing_else(_init) {
        for workflow in ["ci", "release"] {
            let text = read(&format!(".github/workflows/{workflow}.yml"));
            let runs: Vec<&str> = text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("run: ")).collect();
            assert!(!runs.is_empty(), "{workflow}.yml runs nothing");
            for run in runs {
                let script = run.split(' ').next().unwrap_or_default();
                assert!(script.starts_with(".ci/") && Path::new(ROOT).join(script).exists(), "{workflow}.yml runs {run}");
            }
        }
    }

    []
    fn every_way_to_install_is_in_the_readme_and_is_tried(_init) {
        let readme = read("README.md");
        let install = readme.split("\n## Install\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("README has Install");
        let tried = read(".ci/test-release");
        for way in ["dpkg -i grace-init_", "rpm -i grace-init-", "pip install grace-init", "cargo install --locked grace-init", "COPY --from="] {
            assert!(install.contains(way), "README's Install does not say {way:?}");
            let begin = way.trim_end_matches('-');
            assert!(tried.contains(begin), "no test tries {way:?}");
        }
        let commands = install.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("commands");
        for line in commands.lines() {
            let command = line.split('#').next().unwrap_or_default().trim_end();
            assert!(read("docs/install.md").contains(command), "docs/install.md has no line {command:?}");
        }
    }
}
