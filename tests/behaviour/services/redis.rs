//! Redis: its data is saved by the pre-stop step.

use std::path::Path;
use std::process::Command;

use nix::libc::SIGTERM;

use crate::support::Need::{PidNamespace, Program};
use crate::support::process::wait_until;
use crate::support::{LIMIT, Recipe, Running, Stage, Subject, TemporaryDirectory, behaviours};

fn recipe(directory: &Path) -> Recipe {
    let place = format!("{}/", directory.display());
    Recipe::of("redis").replace("/tmp/", &place).replace("/srv/data", directory.to_str().unwrap())
}

fn serve(stage: Stage, directory: &Path) -> Running {
    let run = stage.one_stream().start();
    wait_until("redis answers", LIMIT, || ask(directory, &["ping"]) == "PONG");
    run
}

/// What redis-cli prints.
fn ask(directory: &Path, words: &[&str]) -> String {
    let answer = Command::new("redis-cli").arg("-s").arg(directory.join("redis.sock")).args(words).output().unwrap();
    String::from_utf8_lossy(&answer.stdout).trim_end().to_owned()
}

/// Sets a value, stops the server, starts it again, and asks for the value.
fn after_a_restart(init: Subject, stage: impl Fn(&Path) -> Stage) -> String {
    let directory = TemporaryDirectory::new();
    let mut run = serve(stage(directory.path()), directory.path());
    assert_eq!(ask(directory.path(), &["set", "answer", "42"]), "OK");
    run.signal(SIGTERM);
    run.exits_with(0);
    let again = serve(recipe(directory.path()).stage(init.as_pid_one()), directory.path());
    let answer = ask(directory.path(), &["get", "answer"]);
    drop(again);
    answer
}

behaviours! {
    [PidNamespace, Program("redis-server"), Program("redis-cli")]
    fn redis_has_its_data_after_a_restart(init) {
        let answer = after_a_restart(init, |directory| recipe(directory).stage(init.as_pid_one()));
        assert_eq!(answer, "42");
    }

    [PidNamespace, Program("redis-server"), Program("redis-cli")]
    fn redis_would_have_lost_its_data_without_the_step(init) {
        let command = |directory: &Path| recipe(directory).command_alone(init.as_pid_one());
        assert_eq!(after_a_restart(init, command), "");
    }

    [PidNamespace, Program("redis-server"), Program("redis-cli")]
    fn redis_that_cannot_save_is_named_in_the_summary_and_the_report(init) {
        let directory = TemporaryDirectory::new();
        let report = directory.file("report", 0o666, "");
        let stage = recipe(directory.path()).stage(init.as_pid_one().options(["--report", report.to_str().unwrap()]));
        let mut run = serve(stage, directory.path());
        assert_eq!(ask(directory.path(), &["set", "answer", "42"]), "OK");
        // A directory in the dump's place: not even root can put a file there.
        std::fs::create_dir(directory.path().join("dump.rdb")).unwrap();
        run.signal(SIGTERM);
        run.exits_with(0);
        let report = std::fs::read_to_string(report).unwrap();
        let summary = run.wait_for("stopped by SIGTERM");
        assert!(report.contains("pre-stop step 1") && report.contains("save"), "{report}");
        assert!(summary.contains("step"), "{summary}");
    }
}
