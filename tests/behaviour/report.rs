//! What is said of a shutdown: one line, a report where somebody wants it, and nothing that could hold it up.

use std::path::PathBuf;
use std::time::Duration;

use nix::libc::{SIGTERM, SIGUSR1};

use crate::support::Need::{FrozenDisk, PidNamespace, Program};
use crate::support::process::wait_until;
use crate::support::shutdown::{Gate, HOURS};
use crate::support::{Disk, LIMIT, Running, Stage, Subject, TemporaryDirectory, behaviours};

/// What Kubernetes keeps even of a pod with many containers.
const LONGEST: usize = 1024;
const FULL: &str = "dd if=/dev/zero of=/dev/stderr oflag=nonblock bs=4096 count=1000 2>/dev/null >&2; ";

/// A file that is there for the report, with what the application has written to it.
struct Log {
    path: PathBuf,
    _directory: TemporaryDirectory,
}

const BEFORE: &str = "the application's own last words\n";

impl Log {
    fn new() -> Self {
        let directory = TemporaryDirectory::new();
        Self { path: directory.file("termination-log", 0o666, BEFORE), _directory: directory }
    }

    fn stage(&self, stage: Stage) -> Stage {
        stage.options(["--report".as_ref(), self.path.as_os_str()])
    }

    /// What was appended.
    #[track_caller]
    fn report(&self) -> String {
        let text = String::from_utf8(std::fs::read(&self.path).unwrap()).expect("the report is utf-8");
        text.strip_prefix(BEFORE).unwrap_or_else(|| panic!("not appended: {text:?}")).to_owned()
    }
}

/// Stops a command that ends on TERM with `status`.
fn stopped(stage: Stage, status: i32) -> Running {
    let mut run = stage.reporter(&["--exit-on", &format!("TERM={status}")]).start();
    run.wait_for("ready");
    run.signal(SIGTERM);
    run.exits_with(status);
    run
}

/// The lines of stderr that tell of the signal: at `info` that is the summary alone.
fn summaries(run: &Running) -> Vec<String> {
    run.timeline().text("stderr").lines().filter(|line| line.contains("SIGTERM")).map(str::to_owned).collect()
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text:?}");
    }
}

/// Checks every line of the log with these lines of Python, which find it in `records`.
fn check_json(log: &str, check: &str) {
    let program = format!("import json,sys\nrecords = [json.loads(line) for line in sys.argv[1].splitlines()]\n{check}");
    let output = std::process::Command::new("python3").args(["-c", &program, log]).output().unwrap();
    assert!(output.status.success(), "{}\n{log}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a shutdown with a broken step whose report cannot be written.
fn without_a_report(init: Subject, path: &std::ffi::OsStr) {
    let stage = init.as_pid_one().options(HOURS).options(["--report".as_ref(), path]);
    stopped(stage.step("/no/such/program"), 4);
}

behaviours! {
    [PidNamespace]
    fn a_shutdown_is_told_in_one_line(init) {
        let stage = init.as_pid_one().options(HOURS).options(["--drain", "100ms"]).step("@sleep 50ms");
        let run = stopped(stage, 7);
        let summaries = summaries(&run);
        assert_eq!(summaries.len(), 1, "{}", run.timeline().picture());
        has(&summaries[0], &["SIGTERM", "outside", "drain 1", "pre-stop ", "stop ", "exited with 7"]);
        run.timeline().assert_order(["sent SIGTERM", "exited with 7", "init over"]);
    }

    [PidNamespace]
    fn the_summary_names_who_asked_for_it(init) {
        let script = "sh -c 'echo asker $$.; read line < $gate; kill -TERM 1' & exec $reporter --exit-on TERM=0";
        let gate = Gate::new();
        let mut run = init.as_pid_one().options(HOURS).gate(&gate).shell(script).start();
        run.wait_for("ready");
        let asker = run.wait_for("asker");
        let asker = asker.trim_start_matches("asker ").trim_end_matches('.').to_owned();
        gate.open();
        run.exits_with(0);
        let summaries = summaries(&run);
        assert_eq!(summaries.len(), 1, "{}", run.timeline().picture());
        has(&summaries[0], &[&format!("pid {asker}")]);
    }

    [PidNamespace]
    fn a_command_that_ends_by_itself_is_not_worth_a_line(init) {
        let mut run = init.as_pid_one().shell("exit 3").start();
        run.exits_with(3);
        assert_eq!(run.timeline().text("stderr"), "");
    }

    [PidNamespace]
    fn the_summary_can_be_turned_off(init) {
        let run = stopped(init.as_pid_one().options(HOURS).options(["--log-level", "warn"]), 0);
        assert_eq!(run.timeline().text("stderr"), "");
    }

    [PidNamespace]
    fn nginx_is_stopped_by_its_own_command_after_a_drain(init) {
        // As `nginx -s quit` does: another process sends the QUIT.
        let log = Log::new();
        let stage = log.stage(init.as_pid_one().options(["--grace", "30s", "--drain", "2s"]));
        let quit = "kill -QUIT $MAINPID; while kill -0 $MAINPID 2>/dev/null; do sleep 0.05; done";
        let mut run = stage.shell_step(quit).reporter(&["--exit-on", "QUIT=0"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.at_least(Duration::from_secs(2), "sent SIGTERM", "signal SIGQUIT");
        run.timeline().never_saw("signal SIGTERM");
        let summaries = summaries(&run);
        assert_eq!(summaries.len(), 1, "{}", run.timeline().picture());
        has(&summaries[0], &["drain 2", "pre-stop ", "exited with 0"]);
        assert_eq!(log.report(), "");
    }

    [PidNamespace, Program("python3")]
    fn the_summary_in_json_has_its_keys(init) {
        let stage = init.as_pid_one().options(HOURS).options(["--log-format", "json", "--drain", "100ms"]);
        let run = stopped(stage.step("false").step("/no/such/program"), 7);
        check_json(&run.timeline().text("stderr"), r"
assert all(key in record for record in records for key in ('time', 'level', 'msg')), records
last = records[-1]
assert last['level'] == 'warn' and last['signal'] == 'SIGTERM' and last['exit_code'] == 7, last
assert [phase['phase'] for phase in last['phases']] == ['drain', 'pre-stop', 'stop'], last
assert all(phase['ms'] >= 100 for phase in last['phases'][:1]), last
assert [step['state'] for step in last['steps']] == ['failed', 'not-started'], last
assert last['killed'] == [] and last['leftovers'] == 0 and last['grace_from'] == '--grace', last
assert 'outside' in last['trigger'] and last['elapsed_ms'] >= 100, last
steps = [record for record in records if record.get('step') == 'false']
assert any(record['level'] == 'warn' and record['exit_code'] == 1 for record in steps), records
assert any(record.get('phase') == 'pre-stop' for record in steps), records
assert any(record['level'] == 'warn' for record in records if record.get('step') == '/no/such/program'), records
");
    }

    [PidNamespace, Program("python3")]
    fn the_phases_in_json_have_their_keys(init) {
        let stage = init.as_pid_one().observed().options(["--grace", "100s", "--drain", "100ms"]).step("true");
        let run = stopped(stage, 0);
        check_json(&run.timeline().text("stderr"), r"
phases = [record['phase'] for record in records if 'phase' in record]
order = [phase for place, phase in enumerate(phases) if phases.index(phase) == place]
assert order[:3] == ['drain', 'pre-stop', 'stop'], order
left = [record['remaining_ms'] for record in records if 'remaining_ms' in record]
assert len(left) >= 3 and left == sorted(left, reverse=True) and left[0] <= 98000 and left[1] <= 97900, left
");
    }

    [PidNamespace]
    fn a_good_shutdown_leaves_no_report(init) {
        let log = Log::new();
        let stage = log.stage(init.as_pid_one().options(HOURS)).options(["--drain", "50ms"]).step("true");
        stopped(stage, 0);
        assert_eq!(log.report(), "");
    }

    [PidNamespace]
    fn a_command_that_the_stop_signal_ended_is_a_good_shutdown(init) {
        let log = Log::new();
        let mut run = log.stage(init.as_pid_one().options(HOURS)).shell("echo up; exec sleep 3600").start();
        run.wait_for("up");
        run.signal(SIGTERM);
        run.exits_with(143);
        assert_eq!(log.report(), "");
    }

    [PidNamespace]
    fn a_command_that_failed_in_the_shutdown_says_so_by_its_status_alone(init) {
        let log = Log::new();
        stopped(log.stage(init.as_pid_one().options(HOURS)), 7);
        assert_eq!(log.report(), "");
    }

    [PidNamespace]
    fn a_command_that_failed_with_what_counts_as_success_is_not_reported(init) {
        let log = Log::new();
        let stage = log.stage(init.as_pid_one().options(HOURS)).options(["-e", "7"]);
        let mut run = stage.reporter(&["--exit-on", "TERM=7"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(0);
        assert_eq!(log.report(), "");
    }

    [PidNamespace]
    fn a_broken_step_is_reported_with_why_and_what_it_cost(init) {
        let log = Log::new();
        let stage = log.stage(init.as_pid_one().options(HOURS)).options(["--drain", "50ms"]);
        let run = stopped(stage.step("true").step("sh -c 'sleep 0.3; exit 9'").step("true"), 0);
        let report = log.report();
        let first = report.lines().next().unwrap_or_default();
        has(first, &["pre-stop", "2", "sleep 0.3; exit 9", "exited with 9", "3"]);
        has(&report, &["SIGTERM", "drain", "stop", "exited with 0"]);
        has(&summaries(&run)[0], &["sleep 0.3; exit 9", "exited with 9"]);
    }

    [PidNamespace]
    fn a_step_that_cannot_start_is_reported_with_why(init) {
        let log = Log::new();
        let run = stopped(log.stage(init.as_pid_one().options(HOURS)).step("/no/such/program --now"), 0);
        has(log.report().lines().next().unwrap_or_default(), &["/no/such/program --now", "not found"]);
        let warnings = run.timeline().text("stderr");
        has(&warnings, &["warn", "/no/such/program"]);
    }

    [PidNamespace]
    fn an_overdue_step_is_reported_with_what_it_cost(init) {
        let log = Log::new();
        let stage = log.stage(init.as_pid_one().options(HOURS)).options(["--pre-stop-timeout", "300ms"]);
        stopped(stage.step("sleep 3600").step("true"), 0);
        has(log.report().lines().next().unwrap_or_default(), &["sleep 3600", "hung and used 3"]);
    }

    [PidNamespace]
    fn a_step_that_was_left_out_is_reported_behind_the_one_that_failed(init) {
        let log = Log::new();
        let stage = log.stage(init.as_pid_one().options(HOURS)).options(["--pre-stop-failure", "skip"]);
        stopped(stage.step("false").step("echo never"), 0);
        let report = log.report();
        has(report.lines().next().unwrap_or_default(), &["false", "exited with 1"]);
        has(&report, &["step 2 did not run"]);
    }

    [PidNamespace]
    fn a_failed_post_stop_step_is_reported(init) {
        let log = Log::new();
        let stage = log.stage(init.as_pid_one().options(HOURS)).options(["--post-stop", "sh -c 'exit 8'"]);
        stopped(stage, 0);
        has(log.report().lines().next().unwrap_or_default(), &["post-stop", "exit 8", "exited with 8"]);
    }

    [PidNamespace]
    fn a_killed_process_is_named_first(init) {
        // It may die before it is looked at, so that one try tells little.
        for _ in 0..20 {
            let log = Log::new();
            let stage = log.stage(init.as_pid_one().options(["--grace", "1s", "--reserve", "900ms"]));
            let stage = stage.step("/no/such/program");
            let mut run = stage.reporter(&[]).start();
            let ready = run.wait_for("ready");
            let pid = ready.split_whitespace().find_map(|word| word.strip_prefix("pid=")).unwrap().to_owned();
            run.signal(SIGTERM);
            run.exits_with(137);
            let report = log.report();
            has(report.lines().next().unwrap_or_default(), &["KILLED", "signal_reporter", &pid]);
            has(&report, &["137", "/no/such/program"]);
            has(summaries(&run).last().unwrap(), &["signal_reporter", &pid, "KILL"]);
        }
    }

    [PidNamespace]
    fn killed_leftovers_are_reported_although_the_command_ended_by_itself(init) {
        let log = Log::new();
        let gate = Gate::new();
        let stage = log.stage(init.as_pid_one().options(["--leftover-grace", "200ms"])).gate(&gate);
        let mut run = stage.shell("$reporter --name back & read line < $gate; exit 0").start();
        run.wait_for("back ready");
        gate.open();
        run.exits_with(0);
        has(log.report().lines().next().unwrap_or_default(), &["KILLED", "signal_reporter"]);
        let told = run.timeline().text("stderr");
        has(told.lines().last().unwrap_or_default(), &["by itself", "signal_reporter"]);
    }

    [PidNamespace]
    fn many_killed_processes_fit_into_the_report(init) {
        let log = Log::new();
        let stage = log.stage(init.as_pid_one().options(["--grace", "1s", "--reserve", "700ms"]));
        let mut run = stage.script("exec $forks breed").start();
        run.wait_for("forks begin");
        run.signal(SIGTERM);
        run.exits_with(137);
        assert!(log.report().len() <= LONGEST, "{}", log.report().len());
        has(log.report().lines().next().unwrap_or_default(), &["KILLED", "forks"]);
    }

    [PidNamespace]
    fn a_report_is_never_longer_than_1_kib(init) {
        let log = Log::new();
        let long = format!("false {}", "ä€😀".repeat(200));
        let stage = log.stage(init.as_pid_one().options(HOURS));
        stopped(stage.step(&long).step(&long), 0);
        let report = log.report();
        assert!(report.len() <= LONGEST && report.len() > LONGEST / 2, "{} bytes", report.len());
        has(report.lines().next().unwrap_or_default(), &["pre-stop", "1", "false"]);
    }

    [PidNamespace]
    fn a_report_is_one_text_whatever_is_in_it(init) {
        let log = Log::new();
        stopped(log.stage(init.as_pid_one().options(HOURS)).step("false 'a\nb\u{1b}[2J\r'"), 0);
        let report = log.report();
        assert!(!report.contains('\u{1b}') && !report.contains('\r'), "{report:?}");
        has(report.lines().next().unwrap_or_default(), &["exited with 1"]);
    }

    [PidNamespace]
    fn a_report_is_never_put_where_nobody_wants_it(init) {
        let directory = TemporaryDirectory::new();
        let absent = directory.path().join("absent");
        without_a_report(init, absent.as_os_str());
        assert!(!absent.exists());
        // Its own default, too: where it is there, this is a container, and writing to it is right.
        let default = std::path::Path::new("/dev/termination-log");
        let there = default.exists();
        stopped(init.as_pid_one().env("GRACE_INIT_REPORT", "").options(HOURS).step("false"), 0);
        assert_eq!(default.exists(), there);
    }

    [PidNamespace]
    fn an_absent_report_file_is_named_at_the_start(init) {
        let stage = init.as_pid_one().options(HOURS).options(["--report", "/no/such/file"]);
        let run = stopped(stage, 4);
        run.timeline().assert_order(["warn: the file of --report is not there", "stopped by SIGTERM"]);
        run.timeline().saw_times("/no/such/file", 1);
    }

    [PidNamespace]
    fn a_report_that_cannot_be_written_is_harmless(init) {
        let directory = TemporaryDirectory::new();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in ["/proc/version", "/dev/full", "/", "/proc/1/no/such", "/dev/null/below", "none"] {
            without_a_report(init, path.as_ref());
        }
        // Opening a pipe that nobody reads would wait for ever.
        without_a_report(init, pipe.as_os_str());
    }

    []
    fn the_timeline_of_the_settings_is_drawn_and_nothing_runs(init) {
        let options = ["--explain", "-g", "30", "-d", "5s", "-p", "nginx -s quit", "-p", "@sleep 1s", "--stop-signal", "QUIT:3s,TERM"];
        let mut run = init.outside().options(options).options(["--post-stop", "rm /tmp/flag"]).shell("echo ran").start();
        run.exits_with(0);
        let text = run.timeline().text("stdout");
        has(&text, &["grace 30s", "budget 28s", "reserve 2s", "drain", "pre-stop", "stop", "KILL"]);
        has(&text, &["nginx -s quit", "@sleep 1s", "QUIT", "TERM", "rm /tmp/flag"]);
        let lines: Vec<&str> = text.lines().collect();
        let moments = lines.iter().find(|line| line.starts_with("0s")).expect("a line of moments");
        let moments: Vec<&str> = moments.split_whitespace().collect();
        assert_eq!((moments[1], moments[3], moments[4]), ("5s", "28s", "30s"), "{text}");
        run.timeline().never_saw("ran");
        // Where nginx is not installed the picture says so.
        assert_eq!(text.contains("nginx -s quit (not found)"), run.timeline().text("stderr").contains("\"nginx\" was not found"));
    }

    []
    fn the_timeline_without_a_deadline_says_so(init) {
        let mut run = init.outside().options(["--explain", "--grace", "none", "-d", "5s"]).shell("echo ran").start();
        run.exits_with(0);
        has(&run.timeline().text("stdout"), &["no deadline", "drain 5s"]);
        run.timeline().never_saw("ran");
    }

    []
    fn settings_that_cannot_be_kept_are_refused_with_the_numbers(init) {
        for (options, words) in [
            (["--grace=10s", "--drain=9s"], ["9s", "10s", "drain"]),
            (["--grace=10s", "--stop-signal=TERM:20s,INT"], ["20s", "10s", "ladder"]),
            (["--grace=10s", "--reserve=11s"], ["11s", "10s", "reserve"]),
            (["--grace=10s", "--stop-window=9s"], ["9s", "10s", "window"]),
            (["--grace=10s", "--stop-signal=NOSUCH"], ["NOSUCH", "stop-signal", "TERM"]),
            (["--grace=-1", "--drain=0"], ["-1", "grace", "10s"]),
            (["--grace=10s", "--pre-stop=@nosuch"], ["@nosuch", "pre-stop", "@sleep"]),
        ] {
            let mut run = init.outside().options(options).shell("echo ran").start();
            run.exits_with(125);
            has(&run.timeline().text("stderr"), &words);
            run.timeline().never_saw("ran");
        }
    }

    [PidNamespace]
    fn a_full_log_that_nobody_reads_holds_up_no_part_of_the_shutdown(init) {
        let log = Log::new();
        let stage = log.stage(init.as_pid_one().options(HOURS)).options(["-v", "--drain", "100ms"]);
        let stage = stage.step("false").shell_step("echo step runs").step("/no/such/program").shell_post_step("echo post runs");
        let script = format!("{FULL} $reporter --name back --linger 100ms & {FULL} exec $reporter --name front --exit-on TERM=5");
        let mut run = stage.stderr_unread().shell(&script).start();
        run.wait_for("back ready");
        run.wait_for("front ready");
        for count in 1..=100 {
            run.signal(SIGUSR1);
            run.timeline().wait_for_count("front signal SIGUSR1", count);
        }
        run.signal(SIGTERM);
        run.exits_with(5);
        run.timeline().assert_order(["sent SIGTERM", "step runs", "front signal SIGTERM", "back cleanup done", "post runs", "init over"]);
        // Of hours of grace, and of nothing else, it could have waited longer.
        run.at_most(Duration::from_secs(8), "sent SIGTERM", "init over");
        has(&log.report(), &["false", "/no/such/program"]);
    }

    [PidNamespace]
    fn a_full_log_that_nobody_reads_does_not_move_the_deadline(init) {
        let stage = init.as_pid_one().options(["-v", "--grace", "1s", "--drain", "100ms"]).step("false");
        let mut run = stage.stderr_unread().shell(&format!("{FULL} exec $reporter")).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(137);
        run.at_least(Duration::from_millis(800), "sent SIGTERM", "init over");
        run.at_most(Duration::from_secs(9), "sent SIGTERM", "init over");
    }

    [PidNamespace]
    fn a_closed_log_holds_up_no_part_of_the_shutdown(init) {
        let stage = init.as_pid_one().options(HOURS).closed(2).options(["-v"]).step("false").step("/no/such/program");
        stopped(stage, 5);
    }

    [PidNamespace]
    fn a_report_comes_behind_what_a_step_wrote_to_the_same_file(init) {
        let log = Log::new();
        let step = format!("sh -c 'echo from the step >> {}; exit 1'", log.path.display());
        stopped(log.stage(init.as_pid_one().options(HOURS)).step(&step), 0);
        let report = log.report();
        // Our first line may stand before what the step wrote, and then stays there.
        let (before, behind) = report.split_once("from the step\n").unwrap_or_else(|| panic!("{report:?}"));
        assert!(before.is_empty() || before.starts_with("stopping since "), "{report:?}");
        has(behind.lines().next().unwrap_or_default(), &["exited with 1"]);
    }

    [PidNamespace, FrozenDisk]
    fn a_disk_that_hangs_does_not_hold_up_the_shutdown(init) {
        // Frozen before the first line of the report is due, and between that line and the report itself.
        for is_frozen_first in [true, false] {
            let disk = Disk::mount().unwrap();
            let report = disk.file("termination-log", BEFORE);
            let gate = Gate::new();
            let stage = init.as_pid_one().options(["--grace".as_ref(), "20s".as_ref(), "--report".as_ref(), report.as_os_str()]);
            let stage = stage.gate(&gate).shell_step("echo step runs; read line < $gate; exit 1");
            let mut run = stage.reporter(&["--exit-on", "TERM=5"]).start();
            run.wait_for("ready");
            if is_frozen_first {
                disk.freeze().unwrap();
            }
            run.signal(SIGTERM);
            run.wait_for("step runs");
            if !is_frozen_first {
                wait_until("the report has its first line", LIMIT, || {
                    std::fs::read_to_string(&report).is_ok_and(|text| text.contains("stopping since"))
                });
                disk.freeze().unwrap();
            }
            run.timeline().note("the step may end");
            gate.open();
            run.wait_for("exited with 5");
            // Half of the grace: nothing waited for the disk until the deadline.
            run.at_most(Duration::from_secs(10), "the step may end", "exited with 5");
            // The process that writes the report cannot be killed in there, and the kernel ends no PID namespace before its
            // last process (zap_pid_ns_processes): that wait is behind all that we do.
            disk.thaw().unwrap();
            run.exits_with(5);
            run.timeline().assert_order(["sent SIGTERM", "step runs", "signal SIGTERM", "init over"]);
            let summaries = summaries(&run);
            assert_eq!(summaries.len(), 1, "{}", run.timeline().picture());
            has(&summaries[0], &["exited with 5"]);
        }
    }

    []
    fn the_picture_in_readme_is_what_its_command_draws(init) {
        let readme = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
        let (command, rest) = readme.split_once("\n`grace-init ").and_then(|(_, rest)| rest.split_once('`')).unwrap();
        let picture = rest.split("```\n").nth(1).unwrap();
        let words = grace_init::plan::split_words(command.as_ref()).unwrap();
        let mut run = init.outside().options(&words).start();
        run.exits_with(0);
        // What the step runs may be missing on this machine.
        assert_eq!(run.timeline().text("stdout").replace(" (not found)", ""), picture, "of {command}");
    }
}
