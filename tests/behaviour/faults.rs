//! The world does not keep its promises: calls fail, limits are reached, places are missing, clocks jump. The init keeps its own.

use std::path::Path;
use std::time::Duration;

use nix::fcntl::AT_FDCWD;
use nix::libc::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM, SIGUSR1};

use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

use crate::support::Need::{DynamicBuild, File, OpenBuild, PidNamespace, Root};
use crate::support::process::{self, state, wait_until};
use crate::support::shutdown::{Gate, HOURS, let_pass};
use crate::support::{Ending, LIMIT, Running, Stage, Subject, TemporaryDirectory, behaviours, example};

const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// A foreground program, and one in the background that nobody but a search finds: both finish when they are told.
const TWO: &str = "
    $hide session orphan sh -c 'trap \"echo worker: finished; exit 0\" TERM; echo worker: ready; while :; do sleep 0.05; done'
    trap 'echo got USR1' USR1
    trap 'echo front: finished; exit 3' TERM
    echo front: ready
    while :; do sleep 0.05; done";

/// Under these rules of `confine`.
fn confined(stage: Stage, rules: &[&str]) -> Stage {
    let confine = example("confine");
    let words: Vec<&str> = [confine.to_str().unwrap()].iter().chain(rules).chain(&["--"]).copied().collect();
    stage.run_by(&words)
}

/// Runs [`TWO`] through all that an init does: start, relay, drain, step, stop, leftovers, post-stop.
fn whole_life(stage: Stage) -> Running {
    let options = ["--grace", "20s", "--drain", "10ms", "--pre-stop", "echo step 1", "--pre-stop", "@sleep 10ms", "--post-stop", "echo step 3"];
    let mut run = stage.options(options).script(TWO).one_stream().start();
    run.wait_for("worker: ready");
    run.wait_for("front: ready");
    run.signal(SIGUSR1);
    run.wait_for("got USR1");
    run.signal(SIGTERM);
    run.wait_until_over();
    run.leaves_nothing_behind();
    run.exits_with(3);
    run.timeline().assert_order(["got USR1", "sent SIGTERM", "\"echo step 1\"", "front: finished", "worker: finished", "\"echo step 3\""]);
    run
}

/// Starts `true` under these rules, which must fail with this status and this reason.
#[track_caller]
fn does_not_start(init: Subject, rules: &[&str], status: i32, reason: &str) {
    let mut run = confined(init.as_pid_one(), rules).command(["sh", "-c", "echo started"]).one_stream().start();
    run.exits_with(status);
    run.timeline().saw_times(reason, 1);
    run.timeline().never_saw("started");
}

/// A TERM that nobody can be told of: we leave by the end of the grace all the same.
#[track_caller]
fn leaves_in_time(run: &mut Running) -> Ending {
    run.signal(SIGTERM);
    run.wait_until_over();
    run.leaves_nothing_behind();
    let ending = run.wait();
    run.at_most(Duration::from_secs(10), "sent SIGTERM", "init over");
    ending
}

/// Suspends the init in a phase for a while, then lets it go on.
fn suspend(run: &Running, time: Duration) {
    run.signal(SIGSTOP);
    wait_until("the init is suspended", LIMIT, || state(run.pid()) == Some('T'));
    let_pass(time);
    run.signal(SIGCONT);
}

/// The clock that the init and its log see, moved by this many hours; monotonic clocks are left alone.
fn set_clock(file: &Path, hours: i32) {
    std::fs::write(file, format!("{hours:+}h\n")).unwrap();
}

behaviours! {
    [PidNamespace]
    fn no_process_for_the_command_gives_125_and_the_reason(init) {
        does_not_start(init, &["deny=fork:EAGAIN"], 125, "cannot fork for \"sh\": Try again");
        does_not_start(init, &["deny=fork:ENOMEM"], 125, "cannot fork for \"sh\": Out of memory");
    }

    [PidNamespace]
    fn no_session_for_the_command_gives_125_and_the_reason(init) {
        let reason = "cannot create a session or process group for \"sh\": Operation not permitted";
        does_not_start(init, &["deny=setsid:EPERM"], 125, reason);
    }

    [PidNamespace]
    fn a_kernel_without_signal_descriptors_gives_125_and_the_reason(init) {
        does_not_start(init, &["deny=signalfd4:ENOSYS"], 125, "cannot receive signals");
    }

    [PidNamespace]
    fn too_few_descriptors_give_125_and_the_reason(init) {
        for limit in ["limit=nofile:4", "limit=nofile:5"] {
            does_not_start(init, &[limit], 125, "cannot fork for \"sh\": Too many open files");
        }
    }

    [PidNamespace]
    fn six_descriptors_are_enough_for_a_command_and_its_stop(init) {
        let mut run = confined(init.as_pid_one(), &["limit=nofile:6"]).reporter(&["--exit-on", "TERM=4"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(4);
    }

    [PidNamespace, Root, OpenBuild]
    fn a_user_who_may_have_no_more_processes_gets_125_and_the_reason(init) {
        // Nobody else's tests may count against it: a user of its own.
        let rules = ["user=61234", "limit=nproc:1"];
        does_not_start(init, &rules, 125, "cannot fork for \"sh\": Try again");
    }

    [PidNamespace, Root, OpenBuild]
    fn steps_that_no_process_is_left_for_have_failed_and_the_shutdown_goes_on(init) {
        // One for the init, one for its command.
        let rules = ["user=61237", "limit=nproc:2"];
        let steps = ["--pre-stop", "echo never", "--pre-stop", "@sleep 1h", "--post-stop", "true"];
        let stage = confined(init.as_pid_one(), &rules).options(steps);
        let mut run = stage.reporter(&["--exit-on", "TERM=4"]).one_stream().start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(4);
        // With the command gone there is room for the last one.
        run.timeline().saw_times("warn: a step could not start", 2);
        run.timeline().assert_order(["a step could not start", "signal SIGTERM", "stopped by SIGTERM"]);
    }

    [PidNamespace, Root]
    fn a_program_that_takes_for_ever_to_be_executed_does_not_keep_us(init) {
        let directory = TemporaryDirectory::new();
        let program = directory.path().join("reporter");
        std::fs::copy(example("signal_reporter"), &program).unwrap();
        // An answer that never comes to the question whether it may be executed: as a file system that has gone.
        let gate = Fanotify::init(InitFlags::FAN_CLASS_CONTENT, EventFFlags::O_RDONLY).unwrap();
        gate.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_EXEC_PERM, AT_FDCWD, Some(&program)).unwrap();
        let mut run = init.as_pid_one().options(["--grace", "2s"]).command([&program]).one_stream().start();
        wait_until("the command is being executed", LIMIT, || state(run.child()) == Some('D'));
        run.signal(SIGTERM);
        run.wait_until_over();
        run.at_most(Duration::from_secs(10), "sent SIGTERM", "init over");
        drop(gate);
        run.exits_with(137);
        run.timeline().saw_times("warn: killing what is left", 1);
    }

    [PidNamespace]
    fn a_denied_call_that_can_be_done_without_changes_nothing(init) {
        let calls = [
            "pidfd_open", "pidfd_send_signal", "rt_sigqueueinfo", "prctl", "close_range", "clone3", "madvise", "pwritev2",
            "socket", "getcwd", "chdir", "ioctl",
        ];
        for call in calls {
            for error in ["EPERM", "ENOSYS"] {
                let rule = format!("deny={call}:{error}");
                let run = whole_life(confined(init.as_pid_one(), &[&rule]));
                run.timeline().note(&rule);
                run.timeline().saw_times("stopped by SIGTERM", 1);
            }
        }
    }

    []
    fn an_ordinary_process_that_may_not_adopt_orphans_says_so_and_goes_on(init) {
        let stage = confined(init.outside(), &["deny=prctl:EPERM"]);
        let mut run = stage.reporter(&["--exit-on", "TERM=4"]).one_stream().start();
        run.wait_for("ready");
        run.wait_for("cannot adopt orphans");
        run.signal(SIGTERM);
        run.exits_with(4);
    }

    [PidNamespace]
    fn a_command_that_cannot_be_told_anything_does_not_keep_us(init) {
        let stage = confined(init.as_pid_one(), &["deny=kill:EPERM"]).options(["--grace", "2s"]);
        let mut run = stage.reporter(&["--exit-on", "TERM=4"]).one_stream().start();
        run.wait_for("ready");
        // What ends it is the kernel, when process 1 of its namespace has gone.
        assert_eq!(leaves_in_time(&mut run), Ending::Exited(137));
        run.wait_for("cannot send a signal");
        run.wait_for("exiting anyway");
        run.timeline().never_saw("signal SIGTERM");
    }

    [PidNamespace, Root, OpenBuild]
    fn a_command_of_another_user_is_out_of_reach_without_the_capability_and_does_not_keep_us(init) {
        let stage = confined(init.as_pid_one(), &["drop=kill"]).options(["--grace", "2s"]);
        let command = [example("confine").to_str().unwrap().to_owned(), "user=61235".into(), "--".into()];
        let reporter = example("signal_reporter").to_str().unwrap().to_owned();
        let mut run = stage.command(command).command([reporter]).one_stream().start();
        run.wait_for("ready");
        assert_eq!(leaves_in_time(&mut run), Ending::Exited(137));
        run.wait_for("cannot send a signal");
        run.timeline().never_saw("signal SIGTERM");
    }

    [PidNamespace, Root, OpenBuild]
    fn a_command_that_becomes_root_by_its_file_is_still_told_by_an_unprivileged_init(init) {
        let directory = TemporaryDirectory::new();
        let program = directory.path().join("reporter");
        std::fs::copy(example("signal_reporter"), &program).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
        let stage = confined(init.as_pid_one(), &["user=61236"]);
        let mut run = stage.command([program.as_os_str(), "--exit-on".as_ref(), "TERM=4".as_ref()]).start();
        run.wait_for("ready");
        let users = process::status_field(run.child(), "Uid").unwrap();
        assert_eq!(users.split_whitespace().collect::<Vec<_>>(), ["61236", "0", "0", "0"]);
        run.signal(SIGTERM);
        run.exits_with(4);
    }

    [PidNamespace, Root]
    fn without_proc_everybody_is_told_and_nobody_is_left(init) {
        whole_life(confined(init.as_pid_one(), &["hide=/proc"]));
    }

    [PidNamespace, Root]
    fn without_proc_what_ignores_everything_is_killed_at_the_deadline(init) {
        let stage = confined(init.as_pid_one(), &["hide=/proc"]).options(["--grace", "2s"]);
        let script = "$hide session orphan sh -c 'trap \"\" TERM; echo worker: ready; while :; do sleep 0.05; done'; trap '' TERM; echo front: ready; while :; do sleep 0.05; done";
        let mut run = stage.script(script).one_stream().start();
        run.wait_for("worker: ready");
        run.wait_for("front: ready");
        assert_eq!(leaves_in_time(&mut run), Ending::Exited(137));
    }

    [PidNamespace, Root, OpenBuild]
    fn a_proc_that_hides_other_users_processes_changes_nothing(init) {
        whole_life(confined(init.as_pid_one(), &["hidepid", "user=61238"]));
    }

    [PidNamespace, Root]
    fn without_any_of_the_usual_places_everything_goes_on(init) {
        // Where the tests themselves were built in one of them, that one stays.
        let mut rules = vec!["hide=/run", "hide=/dev/shm", "hide=/tmp"];
        rules.retain(|rule| !example("confine").starts_with(rule.trim_start_matches("hide=")));
        let run = whole_life(confined(init.as_pid_one(), &rules));
        run.timeline().saw_times("stopped by SIGTERM", 1);
    }

    [PidNamespace, Root]
    fn without_dev_the_command_still_runs_and_stops(init) {
        let stage = confined(init.as_pid_one(), &["hide=/dev"]).options(["--pre-stop", "echo step"]);
        let mut run = stage.reporter(&["--exit-on", "TERM=4"]).one_stream().start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(4);
        run.timeline().assert_order(["\"echo step\"", "signal SIGTERM", "stopped by SIGTERM"]);
    }

    [PidNamespace]
    fn a_working_directory_that_was_removed_is_no_reason_not_to_start(init) {
        whole_life(confined(init.as_pid_one(), &["no-cwd"]));
    }

    [PidNamespace]
    fn children_that_we_were_started_with_are_told_and_waited_for(init) {
        let stage = confined(init.as_pid_one(), &["children=3"]).options(["-v"]);
        let mut run = stage.reporter(&["--exit-on", "TERM=4"]).one_stream().start();
        run.wait_for("ready");
        assert_eq!(process::children(run.pid()).len(), 4);
        run.signal(SIGTERM);
        run.wait_until_over();
        run.leaves_nothing_behind();
        run.exits_with(4);
        run.timeline().assert_order(["signal SIGTERM", "the command left processes behind processes=3", "stopped by SIGTERM"]);
    }

    [PidNamespace]
    fn children_that_we_were_started_with_are_not_taken_for_the_command(init) {
        let stage = confined(init.as_pid_one(), &["children=3"]).options(HOURS);
        let mut run = stage.reporter(&["--exit-on", "TERM=4"]).one_stream().start();
        run.wait_for("ready");
        for child in process::children(run.pid()) {
            if process::command_line(child).contains("children=3") {
                process::send(child, SIGKILL);
            }
        }
        wait_until("they are reaped", LIMIT, || process::children(run.pid()).len() == 1);
        run.signal(SIGTERM);
        run.exits_with(4);
    }

    []
    fn an_init_without_arguments_says_what_is_missing(init) {
        let mut run = confined(init.outside(), &["argv0"]).one_stream().start();
        run.exits_with(125);
        run.timeline().saw_times("no command given", 1);
    }

    []
    fn an_empty_name_of_our_own_is_no_other_inits(init) {
        let mut run = confined(init.outside(), &["argv0=./"]).command(["sh", "-c", "exit 4"]).start();
        run.exits_with(4);
    }

    []
    fn words_that_are_no_text_reach_the_command_as_they_are(init) {
        use std::os::unix::ffi::OsStrExt;
        let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe=\x80");
        let script = "printf '%s|%s|' \"$1\" \"$2\" | od -An -tx1";
        let mut run = init.outside().env("odd", odd).command(["sh".as_ref(), "-c".as_ref(), script.as_ref(), "sh".as_ref(), odd, "".as_ref()]).start();
        run.exits_with(0);
        run.timeline().saw_times("ff fe 3d 80 7c 7c", 1);
    }

    []
    fn an_argument_and_an_environment_at_the_kernels_limit_reach_the_command(init) {
        // MAX_ARG_STRLEN: 32 pages for one string (execve(2)).
        let long = "x".repeat(32 * 4096 - 16);
        let script = "echo ${#1} ${#long}";
        let mut run = init.outside().env("long", &long).command(["sh", "-c", script, "sh", &long]).start();
        run.exits_with(0);
        run.timeline().saw_times(&format!("{0} {0}", long.len()), 1);
    }

    [PidNamespace]
    fn an_init_that_was_suspended_in_any_phase_goes_on_where_it_was(init) {
        let gate = Gate::new();
        let steps = ["--drain", "100ms", "--post-stop", "echo post-stop"];
        let stage = init.as_pid_one().observed().options(HOURS).options(steps).gate(&gate).shell_step("echo step; read line < $gate");
        let mut run = stage.script("
            $hide session orphan sh -c 'trap \"echo worker: told; read line < $gate; exit 0\" TERM; echo worker: ready; while :; do sleep 0.05; done'
            trap 'echo front: told; read line < $gate; exit 4' TERM; echo front: ready; while :; do sleep 0.05; done").one_stream().start();
        run.wait_for("worker: ready");
        run.wait_for("front: ready");
        suspend(&run, Duration::ZERO);
        run.signal(SIGTERM);
        run.wait_for_phase("drain");
        suspend(&run, Duration::from_millis(150));
        for place in ["step", "front: told", "worker: told"] {
            run.wait_for(place);
            suspend(&run, Duration::ZERO);
            gate.open();
        }
        run.exits_with(4);
        run.timeline().assert_order(["front: ready", "step", "front: told", "worker: told", "post-stop"]);
        run.timeline().saw_times("front: told", 1);
    }

    [PidNamespace]
    fn an_init_that_was_suspended_beyond_its_whole_grace_kills_and_leaves_at_once(init) {
        let stage = init.as_pid_one().observed().options(["--grace", "2s", "--pre-stop", "echo late"]);
        let mut run = stage.shell("trap 'echo told' TERM; echo ready; while :; do sleep 0.05; done").one_stream().start();
        run.wait_for("ready");
        run.signal(SIGSTOP);
        wait_until("the init is suspended", LIMIT, || state(run.pid()) == Some('T'));
        run.signal(SIGTERM);
        let_pass(Duration::from_millis(2_500));
        run.signal(SIGCONT);
        // The grace begins when the request can be read: nothing says how long it has waited.
        run.wait_until_over();
        run.leaves_nothing_behind();
        run.exits_with(137);
        run.at_most(Duration::from_secs(10), "sent SIGCONT", "init over");
    }

    [PidNamespace]
    fn an_init_that_was_suspended_from_its_stop_signal_to_beyond_its_grace_kills_and_leaves_at_once(init) {
        let stage = init.as_pid_one().observed().options(["--grace", "2s"]);
        let mut run = stage.shell("trap 'echo told' TERM; echo ready; while :; do sleep 0.05; done").one_stream().start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_for("told");
        suspend(&run, Duration::from_millis(2_500));
        run.wait_until_over();
        run.leaves_nothing_behind();
        run.exits_with(137);
        // The time is up, so nothing is waited for any more, not even the reserve.
        run.at_most(Duration::from_secs(5), "sent SIGCONT", "init over");
    }

    [PidNamespace, DynamicBuild, File(FAKETIME)]
    fn a_clock_that_jumps_by_hours_in_every_phase_moves_no_deadline(init) {
        let directory = TemporaryDirectory::new();
        let clock = directory.path().join("clock");
        set_clock(&clock, 0);
        let gate = Gate::new();
        // Static and foreign programs would not be fooled; ours is the dynamic build.
        let stage = init.as_pid_one().env("LD_PRELOAD", FAKETIME).env("FAKETIME_TIMESTAMP_FILE", &clock);
        let stage = stage.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").gate(&gate);
        let options = ["--grace", "5s", "--drain", "200ms"];
        let stage = stage.observed().options(options).shell_step("echo step; read line < $gate");
        let mut run = stage.shell("trap 'echo told' TERM; echo ready; while :; do sleep 0.05; done").one_stream().start();
        run.wait_for("ready");
        set_clock(&clock, 5);
        run.signal(SIGTERM);
        run.wait_for_phase("drain");
        set_clock(&clock, -7);
        run.wait_for("step");
        set_clock(&clock, 9);
        gate.open();
        run.wait_for("told");
        set_clock(&clock, -11);
        run.exits_with(137);
        run.at_least(Duration::from_millis(3_900), "sent SIGTERM", "init over");
        run.at_most(Duration::from_secs(15), "sent SIGTERM", "init over");
        // The log's own times show that the clock did jump.
        let hours: std::collections::BTreeSet<String> = run.timeline().lines().iter()
            .filter_map(|line| Some(line.text.split_once("\"time\":\"")?.1.get(..13)?.to_owned())).collect();
        assert!(hours.len() >= 4, "{hours:?}");
    }

    [PidNamespace]
    fn a_child_that_is_stuck_in_the_kernel_does_not_keep_us(init) {
        // vfork(2) holds the parent in the kernel until its child ends; what ignores SIGTERM is woken by SIGKILL alone.
        let stage = init.as_pid_one().options(["--grace", "2s"]);
        let words = [example("hide").into_os_string(), "vfork".into(), "sh".into(), "-c".into()];
        let script = "echo stuck; while :; do sleep 0.05; done";
        let mut run = stage.command(words).command([script]).one_stream().start();
        run.wait_for("stuck");
        assert_eq!(state(run.child()), Some('D'));
        assert_eq!(leaves_in_time(&mut run), Ending::Exited(137));
    }

    [PidNamespace]
    fn a_child_that_never_waits_for_its_own_children_does_not_disturb_us(init) {
        // Zombies of a living parent are that parent's: they go when it goes.
        let script = "sh -c 'sleep 0.1 & sleep 0.1 & sleep 0.1 & exec sleep 1000' & trap 'echo told; exit 4' TERM; echo ready; wait; wait";
        let mut run = init.as_pid_one().options(HOURS).shell(script).one_stream().start();
        run.wait_for("ready");
        wait_until("there are three zombies", LIMIT, || {
            run.descendants().into_iter().filter(|&pid| state(pid) == Some('Z')).count() == 3
        });
        run.signal(SIGTERM);
        run.wait_until_over();
        run.leaves_nothing_behind();
        run.exits_with(4);
    }

    [Root, File(FREEZER)]
    fn a_child_that_even_sigkill_does_not_reach_does_not_keep_us(init) {
        let mut run = init.outside().options(["--grace", "2s"]).shell("echo ready; while :; do sleep 0.05; done").one_stream().start();
        run.wait_for("ready");
        let freezer = Freezer::around(run.child());
        run.signal(SIGTERM);
        run.wait_until_over();
        run.at_most(Duration::from_secs(10), "sent SIGTERM", "init over");
        assert!(!process::is_dead(freezer.pid));
        drop(freezer);
        run.exits_with(137);
        run.wait_for("exiting anyway");
    }
}

const FREEZER: &str = "/sys/fs/cgroup/freezer/cgroup.procs";

/// Keeps a process from running, and so from dying, until it is dropped (cgroup v1, freezer-subsystem).
struct Freezer {
    place: std::path::PathBuf,
    pid: i32,
}

impl Freezer {
    fn around(pid: i32) -> Self {
        let place = Path::new(FREEZER).with_file_name(format!("behaviour-{pid}"));
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("cgroup.procs"), pid.to_string()).unwrap();
        std::fs::write(place.join("freezer.state"), "FROZEN").unwrap();
        let frozen = || std::fs::read_to_string(place.join("freezer.state")).is_ok_and(|state| state == "FROZEN\n");
        wait_until("the process is frozen", LIMIT, frozen);
        Self { place, pid }
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = std::fs::write(self.place.join("freezer.state"), "THAWED");
        let mut removed = false;
        // The killed process leaves its group when it has run once more.
        for _ in 0..1_000 {
            removed = removed || std::fs::remove_dir(&self.place).is_ok();
            std::thread::yield_now();
        }
    }
}
