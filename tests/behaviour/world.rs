//! The command finds the same world under an init as without one.

use std::collections::BTreeMap;
use std::path::Path;

use nix::libc::{SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGUSR1, SIGUSR2};

use crate::support::Need::PidNamespace;
use crate::support::process::wait_until;
use crate::support::{LIMIT, Stage, Subject, TemporaryDirectory, behaviours, example};

/// Every `key value` line of `world`, except what names processes or pipes.
fn seen(stage: Stage) -> BTreeMap<String, String> {
    let directory = TemporaryDirectory::new();
    let out = directory.path().join("out");
    // A pipe has another name in each run.
    let mut run = stage.open(1, &out).command([example("world")]).start();
    run.exits_with(0);
    let text = std::fs::read_to_string(&out).unwrap();
    assert!(text.ends_with("done\n"), "{text}\n{}", run.timeline().picture());
    let text = text.replace(&directory.path().display().to_string(), "DIRECTORY");
    // Our own variable, which the tests set: the command is not given it, and another init hands it on.
    let text = text.replace("GRACE_INIT_REPORT=none\\x00", "");
    let mut world = BTreeMap::new();
    for line in text.lines() {
        let words = if line.starts_with("fd ") { line.match_indices(' ').nth(1) } else { line.match_indices(' ').next() };
        let (key, value) = line.split_at(words.map_or(line.len(), |(at, _)| at));
        let value = if key == "fd 2" { "pipe" } else { value };
        world.insert(key.to_owned(), value.trim().to_owned());
    }
    for key in ["pid", "ppid", "pgid", "sid"] {
        world.remove(key);
    }
    world
}

/// Asserts that the command sees the same with and without the init.
fn same(init: Subject, prepare: impl Fn(Stage) -> Stage) -> BTreeMap<String, String> {
    let without = seen(prepare(init.outside().without_init()));
    let under = seen(prepare(init.outside().group()));
    assert_eq!(without, under, "without (left) and under the init (right)");
    let single = seen(prepare(init.outside().single_child()));
    assert_eq!(without, single, "without (left) and under the init as a single child (right)");
    without
}

behaviours! {
    []
    fn nothing_is_ignored_or_blocked_for_the_command_that_was_not_for_us(init) {
        let world = same(init, |stage| stage);
        assert_eq!((world["ignored"].as_str(), world["blocked"].as_str()), ("", "0000000000000000"));
    }

    []
    fn ignored_signals_stay_ignored_for_the_command(init) {
        let world = same(init, |stage| stage.ignored(SIGPIPE).ignored(SIGUSR1).ignored(SIGINT).ignored(40));
        assert_eq!(world["ignored"], "2,10,13,40");
    }

    []
    fn an_ignored_hang_up_stays_ignored_for_the_command(init) {
        let world = same(init, |stage| stage.ignored(SIGHUP));
        assert_eq!(world["ignored"], "1");
    }

    []
    fn an_ignored_sigchld_stays_ignored_for_the_command(init) {
        let world = same(init, |stage| stage.ignored(SIGCHLD));
        assert_eq!(world["ignored"], "17");
    }

    []
    fn an_ignored_sigchld_does_not_cost_us_the_exit_status(init) {
        init.outside().ignored(SIGCHLD).shell("exit 9").start().exits_with(9);
    }

    []
    fn an_ignored_signal_is_relayed_all_the_same(init) {
        let run = init.outside().ignored(SIGTERM).ignored(SIGHUP).reporter(&[]).start();
        run.wait_for("ready");
        for signal in [SIGTERM, SIGHUP] {
            run.signal(signal);
            run.wait_for(&format!("signal {} ", crate::support::name(signal)));
        }
    }

    []
    fn blocked_signals_stay_blocked_for_the_command(init) {
        let world = same(init, |stage| stage.blocked(SIGUSR2).blocked(SIGCHLD).blocked(SIGTERM).blocked(36));
        assert_eq!(world["blocked"], "0000000800014800");
    }

    []
    fn inherited_descriptors_reach_the_command_and_none_of_ours_do(init) {
        let world = same(init, |stage| stage.open(3, Path::new("/dev/zero")).open(7, Path::new("/dev/full")));
        assert_eq!(world["fd 3"], "/dev/zero cloexec=0");
        assert_eq!(world["fd 7"], "/dev/full cloexec=0");
    }

    []
    fn a_high_inherited_descriptor_reaches_the_command(init) {
        let world = same(init, |stage| stage.open(200, Path::new("/dev/zero")));
        assert_eq!(world["fd 200"], "/dev/zero cloexec=0");
    }

    []
    fn a_closed_stdin_stays_closed(init) {
        let world = same(init, |stage| stage.closed(0));
        assert_eq!(world["fd 0"], "closed");
    }

    []
    fn a_closed_stderr_stays_closed(init) {
        let world = same(init, |stage| stage.closed(2));
        assert!(!world.keys().any(|key| key == "fd 3"), "{world:?}");
    }

    []
    fn closed_standard_streams_do_not_stop_us(init) {
        let directory = TemporaryDirectory::new();
        let out = directory.path().join("out");
        let command = example("world");
        let script = format!("{} > {}", command.display(), out.display());
        init.outside().closed(0).closed(1).closed(2).shell(&script).start().exits_with(0);
        let text = std::fs::read_to_string(&out).unwrap();
        assert!(text.contains("fd 0 closed") && text.contains("fd 2 closed"), "{text}");
    }

    []
    fn the_environment_is_the_same_byte_for_byte(init) {
        use std::os::unix::ffi::OsStrExt;
        let odd = std::ffi::OsStr::from_bytes(b"a=b\nc\xff\x80 d");
        let world = same(init, |stage| stage.env("ODD", odd).env("EMPTY", "").env("LANG", "none"));
        assert!(world["environment"].contains("ODD=a=b\\nc\\xff\\x80 d\\x00"), "{}", world["environment"]);
    }

    []
    fn the_command_keeps_the_working_directory(init) {
        let directory = TemporaryDirectory::new();
        let world = same(init, |stage| stage.directory(directory.path()));
        assert_eq!(world["cwd"], directory.path().display().to_string());
    }

    []
    fn we_leave_the_working_directory_so_that_it_can_be_unmounted(init) {
        let directory = TemporaryDirectory::new();
        let run = init.outside().directory(directory.path()).reporter(&[]).start();
        run.wait_for("ready");
        wait_until("the init is in /", LIMIT, || {
            std::fs::read_link(format!("/proc/{}/cwd", run.pid())).is_ok_and(|cwd| cwd == Path::new("/"))
        });
        assert_eq!(std::fs::read_link(format!("/proc/{}/cwd", run.child())).unwrap(), directory.path());
    }

    [PidNamespace]
    fn a_listen_pid_that_named_us_names_the_command(init) {
        let run = init.as_pid_one().env("LISTEN_PID", "1").env("LISTEN_FDS", "1")
            .shell("echo pid $$ names $LISTEN_PID")
            .start();
        let line = run.wait_for("pid ");
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(words[1], words[3], "{line}");
        assert_ne!(words[1], "1", "{line}");
    }

    [PidNamespace]
    fn a_listen_pid_that_named_another_is_left_alone(init) {
        let run = init.as_pid_one().env("LISTEN_PID", "4711").shell("echo names $LISTEN_PID").start();
        run.wait_for("names 4711");
    }

    []
    fn stdin_reaches_the_command(init) {
        let directory = TemporaryDirectory::new();
        let file = directory.file("input", 0o600, "one line of input\n");
        let run = init.outside().stdin(&file).command(["cat"]).start();
        run.wait_for("one line of input");
    }
}
