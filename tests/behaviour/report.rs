//! What is said of a shutdown: the summary, the report, the picture; and that saying it never costs time.

use std::time::Duration;

use nix::libc::SIGTERM;

use crate::support::Need::{PidNamespace, Program};
use crate::support::{Running, Subject, TemporaryDirectory, behaviours};

fn stopped(init: Subject, options: &[&str], script: &str, status: i32) -> Running {
    let mut run = init.as_pid_one().options(options).shell(script).one_stream().start();
    run.wait_for("ready");
    run.signal(SIGTERM);
    run.exits_with(status);
    run
}

const GOOD: &str = "exec $reporter --exit-on TERM=0";
const STUBBORN: &str = "exec $reporter";

behaviours! {
    [PidNamespace]
    fn a_shutdown_is_told_in_one_line(init) {
        let options = ["--drain", "100ms", "-p", "true", "--stop-signal", "QUIT:100ms,TERM"];
        let run = stopped(init, &options, GOOD, 0);
        let line = run.wait_for("stopped by");
        for part in ["SIGTERM from outside the container in ", "drain 1", "pre-stop ", "stop 1", "the command exited with 0", "exit_code=0"] {
            assert!(line.contains(part), "no {part:?} in {line}");
        }
        run.timeline().saw_times("stopped by", 1);
    }

    [PidNamespace]
    fn a_command_that_ends_by_itself_and_leaves_nothing_is_not_talked_about(init) {
        let mut run = init.as_pid_one().shell("exit 3").start();
        run.exits_with(3);
        assert_eq!(run.timeline().text("stderr"), "");
    }

    [PidNamespace, Program("python3")]
    fn a_summary_for_programs_has_its_keys(init) {
        let run = stopped(init, &["--log-format", "json"], GOOD, 0);
        let line = run.wait_for("stopped by");
        let check = "import json,sys; r=json.loads(sys.argv[1]); print(r['level'], r['signal'], r['trigger'], r['exit_code'], \
                     r['elapsed_ms'] >= 0, r['time'][:2], r['time'][-1])";
        let output = std::process::Command::new("python3").args(["-c", check, &line]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "info SIGTERM outside the container 0 True 20 Z\n");
    }

    [PidNamespace]
    fn a_broken_step_is_reported_with_why_and_what_it_cost(init) {
        let directory = TemporaryDirectory::new();
        let file = directory.file("log", 0o666, "the application's own words\n");
        let option = file.to_str().unwrap();
        stopped(init, &["--report", option, "-p", "sh -c 'sleep 0.2; exit 4'"], GOOD, 0);
        let report = std::fs::read_to_string(&file).unwrap();
        let (own, report) = report.split_once('\n').unwrap();
        assert_eq!(own, "the application's own words");
        assert!(report.starts_with("pre-stop step 1 \"sh -c 'sleep 0.2; exit 4'\" exited with 4 after 2"), "{report}");
        assert!(report.contains("|pre-stop 2") && report.contains("exit status 0") && report.len() <= 1024, "{report}");
    }

    [PidNamespace]
    fn what_was_killed_is_reported_first(init) {
        let directory = TemporaryDirectory::new();
        let file = directory.file("log", 0o666, "");
        let options = ["--grace", "10500ms", "--reserve", "10s", "--report", file.to_str().unwrap(), "-p", "false"];
        let run = stopped(init, &options, STUBBORN, 137);
        let report = std::fs::read_to_string(&file).unwrap();
        assert!(report.starts_with("killed 1 process: signal_reporter"), "{report}");
        assert!(report.contains("pre-stop step 1 \"false\"") && report.contains("|kill "), "{report}");
        run.wait_for("killed 1 process");
    }

    [PidNamespace]
    fn a_good_shutdown_is_not_reported_and_no_file_is_made(init) {
        let directory = TemporaryDirectory::new();
        let file = directory.file("log", 0o666, "");
        stopped(init, &["--report", file.to_str().unwrap()], GOOD, 0);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
        let absent = directory.path().join("absent");
        let run = stopped(init, &["--report", absent.to_str().unwrap(), "-p", "false"], GOOD, 0);
        assert!(!absent.exists());
        run.timeline().never_saw("cannot write the report");
    }

    []
    fn a_report_that_cannot_be_written_costs_nothing(init) {
        for place in ["/dev/full", "/proc/version", "/no/such/directory/log", "/"] {
            let mut run = init.outside().options(["--report", place, "-p", "false"]).shell(GOOD).one_stream().start();
            run.wait_for("ready");
            run.signal(SIGTERM);
            run.exits_with(0);
        }
    }

    []
    fn the_settings_are_drawn_without_running_anything(init) {
        let mut run = init.outside().options(["--explain", "--drain", "5s", "--pre-stop", "redis-cli save"]).one_stream().start();
        run.exits_with(0);
        run.timeline().assert_order(["grace 30s = budget 28s + reserve 2s", "|drain", "pre-stop 1: redis-cli save"]);
        let mut run = init.outside().options(["--explain", "--drain", "25s"]).one_stream().start();
        run.exits_with(125);
        run.wait_for("the drain of 25s and the stop window of 9s333ms");
    }

    [PidNamespace]
    fn a_log_that_nobody_reads_does_not_slow_the_shutdown(init) {
        let steps = ["-p", "true", "-p", "false"].repeat(20);
        let options: Vec<&str> = ["-v", "--drain", "200ms"].into_iter().chain(steps).collect();
        // The orphans of the command fill the pipe with a line each before the shutdown begins.
        let script = "$orphans 2000 wait & exec $reporter --exit-on TERM=0";
        let mut run = init.as_pid_one().options(options).shell(script).stderr_unread().start();
        run.wait_for("orphans made=2000");
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(0);
        assert!(run.timeline().between("sent SIGTERM", "init over") < Duration::from_secs(15));
    }
}
