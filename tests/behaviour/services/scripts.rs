//! Scripts that start more than one program.

use std::path::PathBuf;

use nix::libc::SIGTERM;

use crate::support::Need::{PidNamespace, Program};
use crate::support::{Ending, Running, Subject, TemporaryDirectory, behaviours, example_file};

/// README's commands are run as they stand, but for `cargo run`, which would build here.
fn first_example() -> Vec<String> {
    let readme = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let command = readme.lines().find_map(|line| line.strip_prefix("cargo run -- ")).expect("README's first command");
    let mut quoted = command.split('\'');
    let mut words = Vec::new();
    while let Some(plain) = quoted.next() {
        words.extend(plain.split_whitespace().map(str::to_owned));
        words.extend(quoted.next().map(str::to_owned));
    }
    words
}

/// The example's files with the init under test as their interpreter.
struct Scripts {
    directory: TemporaryDirectory,
    init: PathBuf,
}

impl Scripts {
    fn new(init: Subject, example: &str) -> Self {
        let scripts = Self { directory: TemporaryDirectory::new(), init: init.outside().init_path().into() };
        for file in std::fs::read_dir(example_file(example)).unwrap() {
            let file = file.unwrap();
            let text = std::fs::read_to_string(file.path()).unwrap();
            let text = text.replace("/usr/bin/grace-init", scripts.init.to_str().unwrap());
            scripts.directory.file(file.file_name().to_str().unwrap(), 0o755, &text);
        }
        scripts
    }

    /// Runs one of them as PID 1, without an init but the one in its first line, until both programs are ready.
    fn run(&self, init: Subject, script: &str) -> Running {
        let script = self.directory.path().join(script);
        let run = init.as_pid_one().without_init().command([script]).one_stream().start();
        run.wait_for("mail: ready");
        run.wait_for("web: ready");
        run
    }
}

#[track_caller]
fn both_finish(run: &Running) {
    run.timeline().assert_order(["web: finishing", "web: finished", "mail: finished", "stopped by SIGTERM"]);
}

behaviours! {
    [PidNamespace]
    fn the_first_example_shows_what_it_says(init) {
        let words = first_example();
        let end = words.iter().position(|word| word == "--").expect("the end of the options");
        let (options, command) = words.split_at(end);
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let stage = init.as_pid_one().options(options).command(command).directory(&directory);
        let mut run = stage.one_stream().start();
        run.exits_with(0);
        run.timeline().assert_order([
            "foreground: ready",
            "echo deregistering",
            "foreground: finished",
            "background: finished",
            "stopped by SIGTERM",
        ]);
    }

    [PidNamespace]
    fn two_apps_in_one_script_both_finish(init) {
        let scripts = Scripts::new(init, "two-apps-one-script");
        let mut run = scripts.run(init, "start");
        run.signal(SIGTERM);
        run.exits_with(0);
        both_finish(&run);
    }

    [PidNamespace]
    fn two_apps_finish_when_a_script_calls_the_script(init) {
        let scripts = Scripts::new(init, "two-apps-one-script");
        let mut run = scripts.run(init, "from-a-script");
        run.signal(SIGTERM);
        run.exits_with(0);
        both_finish(&run);
        run.timeline().assert_order(["from-a-script: handing over", "web: ready", "mail: finished"]);
        // Each is told once: many programs take a second SIGTERM for the order to give up.
        run.timeline().saw_times("mail: finishing", 1);
        run.timeline().saw_times("web: finishing", 1);
    }

    [PidNamespace, Program("python3")]
    fn two_apps_finish_when_a_python_program_calls_the_script(init) {
        let scripts = Scripts::new(init, "two-apps-one-script");
        let mut run = scripts.run(init, "from-python");
        run.signal(SIGTERM);
        run.exits_with(0);
        both_finish(&run);
        run.timeline().assert_order(["mail: finished", "from-python: start has ended with 0"]);
    }

    [PidNamespace]
    fn two_apps_finish_with_every_trap_that_it_takes_by_hand(init) {
        let scripts = Scripts::new(init, "two-apps-one-script");
        let mut run = scripts.run(init, "start-with-traps");
        run.signal(SIGTERM);
        assert_ne!(run.wait(), Ending::Killed(nix::libc::SIGKILL));
        run.timeline().assert_order(["web: finished", "mail: finished"]);
    }

    [PidNamespace]
    fn two_apps_do_not_finish_with_the_usual_first_try(init) {
        let scripts = Scripts::new(init, "two-apps-one-script");
        let mut run = scripts.run(init, "start-with-a-naive-trap");
        run.signal(SIGTERM);
        // The shell waits for its foreground program, which was not told.
        crate::support::shutdown::let_pass(std::time::Duration::from_millis(500));
        assert!(!run.is_over());
        run.timeline().never_saw("finishing");
        crate::support::process::send(run.process_with("app web"), SIGTERM);
        run.wait();
        run.timeline().never_saw("mail: finished");
    }

    [PidNamespace, Program("bash")]
    fn when_one_of_several_programs_ends_the_others_are_stopped(init) {
        // SIGKILL gives 137 in bash; sh does not know which program it was.
        for (script, status) in [("end-together", 137), ("end-together-sh", 1)] {
            let scripts = Scripts::new(init, "several-programs");
            let mut run = scripts.run(init, script);
            run.timeline().note("web is killed");
            crate::support::process::send(run.process_with("/web"), nix::libc::SIGKILL);
            run.exits_with(status);
            run.timeline().assert_order(["web is killed", "mail: finishing", "mail: finished", "init over"]);
        }
    }

    [PidNamespace, Program("bash")]
    fn several_programs_that_end_together_finish_at_a_stop(init) {
        for script in ["end-together", "end-together-sh"] {
            let scripts = Scripts::new(init, "several-programs");
            let mut run = scripts.run(init, script);
            run.signal(SIGTERM);
            run.exits_with(0);
            for program in ["mail", "web"] {
                run.timeline().saw_times(&format!("{program}: finishing"), 1);
                run.timeline().saw_times(&format!("{program}: finished"), 1);
            }
        }
    }

    [PidNamespace]
    fn several_programs_are_stopped_in_a_given_order(init) {
        let scripts = Scripts::new(init, "several-programs");
        let mut run = scripts.run(init, "stop-in-order");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().assert_order(["web: finishing", "web: finished", "mail: finishing", "mail: finished", "init over"]);
    }
}
