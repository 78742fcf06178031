//! Flink: its job is stopped with a savepoint while its cluster still runs, and resumes from there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::libc::SIGTERM;

use crate::support::Need::{Flink, PidNamespace, Program};
use crate::support::process::wait_until;
use crate::support::server::{listener, port_of};
use crate::support::{Recipe, Running, Subject, TemporaryDirectory, behaviours, example_file};

/// Five virtual machines take their time to start on a busy one.
const PATIENCE: Duration = Duration::from_secs(120);

/// The example as its Dockerfile lays it out, on ports of its own, with its job compiled.
fn lay_out(place: &Path, libraries: &str) {
    let own = place.display().to_string();
    for name in ["Counter.java", "conf/config.yaml", "flink", "cluster", "stop-job"] {
        let from = example_file("flink").join(name);
        let to = place.join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(&from, &to).unwrap();
    }
    // Held until both are found, so that they differ.
    let ports = [listener(), listener()].map(|listener| port_of(&listener).to_string());
    let configuration = place.join("conf/config.yaml");
    let text = std::fs::read_to_string(&configuration).unwrap();
    let text = text.replace("6123", &ports[0]).replace("8081", &ports[1]).replace("/srv", &own);
    std::fs::write(configuration, text).unwrap();
    let run = |program: &str, words: &[&str]| {
        let done = Command::new(program).args(words).current_dir(place).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    run("javac", &["-cp", &format!("{libraries}/lib/*"), "-d", "classes", "Counter.java"]);
    run("jar", &["--create", "--file", "counter.jar", "--main-class", "Counter", "-C", "classes", "."]);
    std::fs::create_dir(place.join("savepoints")).unwrap();
}

fn start(init: Subject, place: &Path, libraries: &str) -> Running {
    let recipe = Recipe::of("flink").replace("/srv", place.to_str().unwrap()).replace("/opt/pyflink", libraries);
    recipe.stage(init.as_pid_one()).one_stream().start()
}

/// The numbers that the job has printed.
fn numbers(run: &Running) -> Vec<u64> {
    let text = run.timeline().text("output");
    text.lines().filter_map(|line| line.split_once("counter: ")?.1.parse().ok()).collect()
}

#[track_caller]
fn count_up(run: &Running, count: usize) {
    wait_until("the job counts", PATIENCE, || {
        assert!(!run.is_over(), "{}", run.timeline().picture());
        numbers(run).len() >= count
    });
}

behaviours! {
    [PidNamespace, Program("javac"), Flink]
    fn a_flink_job_is_stopped_with_a_savepoint_and_resumes_from_it(init) {
        let libraries = std::env::var("FLINK_HOME").unwrap();
        let directory = TemporaryDirectory::new();
        lay_out(directory.path(), &libraries);
        let mut run = start(init, directory.path(), &libraries);
        count_up(&run, 20);
        run.signal(SIGTERM);
        wait_until("the init is over", PATIENCE, || run.is_over());
        run.exits_with(0);
        run.timeline().assert_order(["sent SIGTERM", "Savepoint completed", "counter (FINISHED)", "stopped by SIGTERM"]);
        run.timeline().never_saw("a step failed");
        let last = *numbers(&run).last().unwrap();
        let savepoint = std::fs::read_dir(directory.path().join("savepoints")).unwrap().next().unwrap().unwrap();
        assert!(savepoint.path().join("_metadata").is_file());
        let again = start(init, directory.path(), &libraries);
        count_up(&again, 3);
        again.wait_for("job submitted from a savepoint");
        let resumed = numbers(&again);
        assert_eq!(resumed[0], last + 1, "{resumed:?} after {last}");
    }
}
