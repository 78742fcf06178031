//! Celery: a server that stops its own workers, if only it is let.

use std::process::Command;

use nix::libc::SIGTERM;

use crate::support::Need::{File, PidNamespace};
use crate::support::{Recipe, Running, Stage, Subject, TemporaryDirectory, behaviours, example_file};

const CELERY: &str = "/usr/lib/python3/dist-packages/celery/__init__.py";

/// A worker that is in the middle of a task.
fn at_work(init: Subject, directory: &TemporaryDirectory, start: impl Fn(&Recipe, Stage) -> Stage) -> Running {
    let queue = directory.path().to_str().unwrap();
    let place = example_file("celery");
    let recipe = Recipe::of("celery").replace("/srv/queue", queue).replace("/srv", place.to_str().unwrap());
    // Root is warned and then let; Python would leave its cache beside the example.
    let stage = init.as_pid_one().env("C_FORCE_ROOT", "1").env("PYTHONDONTWRITEBYTECODE", "1").directory(directory.path());
    let run = start(&recipe, stage).one_stream().start();
    run.wait_for("ready.");
    let mut call = Command::new("/usr/bin/python3");
    call.args(["-m", "celery", "-A", "tasks", "call", "tasks.bill", "-a", "[7]"]).current_dir(directory.path());
    call.env("PYTHONPATH", place).env("PLACE", queue).env("PYTHONDONTWRITEBYTECODE", "1");
    let called = call.output().unwrap();
    assert!(called.status.success(), "{}", String::from_utf8_lossy(&called.stderr));
    run.wait_for("bill 7 begun");
    run
}

behaviours! {
    [PidNamespace, File(CELERY)]
    fn celerys_workers_finish_their_tasks_when_their_parent_alone_is_told(init) {
        let directory = TemporaryDirectory::new();
        let mut run = at_work(init, &directory, |recipe, stage| recipe.stage(stage));
        run.signal(SIGTERM);
        run.wait_for("bill 7 paid");
        run.exits_with(0);
        run.timeline().assert_order(["sent SIGTERM", "bill 7 paid", "the command exited with 0"]);
    }

    [PidNamespace, File(CELERY)]
    fn celerys_workers_lose_their_tasks_when_the_whole_group_is_told(init) {
        let directory = TemporaryDirectory::new();
        let mut run = at_work(init, &directory, |recipe, stage| recipe.command_alone(stage.options(["--grace", "4s"])));
        run.signal(SIGTERM);
        // It waits for ever for the task that died with its process.
        run.exits_with(137);
        run.timeline().assert_order(["sent SIGTERM", "exited with 'signal 15 (SIGTERM)'", "killing what is left"]);
        run.timeline().never_saw("bill 7 paid");
    }
}
