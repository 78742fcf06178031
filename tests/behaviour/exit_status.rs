//! The exit status is the command's own, or says why there is no command.

use crate::support::{Need::PidNamespace, TemporaryDirectory, behaviours};

/// A directory that may not be searched makes "not found" into "not permitted".
const SEARCHABLE: &str = "/usr/local/bin:/usr/bin:/bin";

behaviours! {
    [PidNamespace]
    fn the_commands_own_code_is_ours(init) {
        for code in [0, 1, 2, 3, 42, 125, 126, 127, 128, 143, 255] {
            init.as_pid_one().shell(&format!("exit {code}")).start().exits_with(code);
        }
    }

    []
    fn the_commands_own_code_is_ours_outside_too(init) {
        for code in [0, 1, 42, 255] {
            init.outside().shell(&format!("exit {code}")).start().exits_with(code);
        }
    }

    [PidNamespace]
    fn a_command_killed_by_a_signal_gives_128_and_its_number(init) {
        for signal in (1..=31).filter(|signal| ![17, 18, 19, 20, 21, 22, 23, 28].contains(signal)) {
            let raise = ["--raise", &signal.to_string()];
            init.as_pid_one().reporter(&raise).start().exits_with(128 + signal);
        }
    }

    [PidNamespace]
    fn a_command_killed_by_a_real_time_signal_gives_128_and_its_number(init) {
        for signal in 34..=64 {
            let raise = ["--raise", &signal.to_string()];
            init.as_pid_one().reporter(&raise).start().exits_with(128 + signal);
        }
    }

    []
    fn a_command_that_does_not_exist_gives_127_and_names_it(init) {
        for command in ["no-such-command", "/no/such/command"] {
            let mut run = init.outside().env("PATH", SEARCHABLE).command([command]).start();
            run.exits_with(127);
            run.wait_for(command);
        }
    }

    []
    fn a_file_that_is_not_executable_gives_126_and_names_it(init) {
        let directory = TemporaryDirectory::new();
        let file = directory.file("plain.txt", 0o644, "just text\n");
        let mut run = init.outside().command([&file]).start();
        run.exits_with(126);
        run.wait_for("plain.txt");
    }

    []
    fn a_directory_as_the_command_gives_126(init) {
        let directory = TemporaryDirectory::new();
        init.outside().command([directory.path()]).start().exits_with(126);
    }

    []
    fn a_missing_script_interpreter_gives_127_and_is_named(init) {
        let directory = TemporaryDirectory::new();
        let script = directory.file("script", 0o755, "#!/no/such/interpreter -x\necho never\n");
        let mut run = init.outside().command([&script]).start();
        run.exits_with(127);
        run.wait_for("/no/such/interpreter");
        run.timeline().never_saw("never");
    }

    []
    fn a_script_without_a_first_line_for_the_kernel_runs_under_the_shell(init) {
        let directory = TemporaryDirectory::new();
        let script = directory.file("script", 0o755, "echo \"ran with $1\"\nexit 7\n");
        let mut run = init.outside().command([script.as_os_str(), "one".as_ref()]).start();
        run.exits_with(7);
        run.wait_for("ran with one");
    }

    []
    fn a_status_can_be_reported_as_success(init) {
        let script = "exit 143";
        init.outside().options(["-e", "143"]).shell(script).start().exits_with(0);
        init.outside().options(["-e", "1", "-e", "143"]).shell(script).start().exits_with(0);
        init.outside().options(["-e", "1"]).shell(script).start().exits_with(143);
        init.outside().options(["-e", "143"]).shell("kill -TERM $$").start().exits_with(0);
    }

    []
    fn our_own_usage_errors_give_125(init) {
        let bad: [&[&str]; 6] =
            [&[], &["--no-such-option", "true"], &["-Z", "true"], &["-e"], &["-e", "256", "true"], &["-e", "x", "true"]];
        for words in bad {
            let mut run = init.outside().options(words).start();
            run.exits_with(125);
            assert!(!run.timeline().text("stderr").is_empty(), "silent about {words:?}");
        }
    }

    []
    fn nothing_is_run_after_a_usage_error(init) {
        let mut run = init.outside().options(["-r", "TERM:NOSUCH"]).shell("echo ran").start();
        run.wait();
        run.timeline().never_saw("ran");
    }
}
