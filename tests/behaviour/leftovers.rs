//! When the command is gone, what it started finishes its own shutdown before the init leaves.

use std::time::Duration;

use nix::libc::SIGTERM;

use crate::support::Need::PidNamespace;
use crate::support::{Ending, LIMIT, Running, Subject, TemporaryDirectory, behaviours, example};

/// Runs a script whose first line names the init.
fn shebang(init: Subject, first_line_rest: &str, body: &str, pid_one: bool) -> (Running, TemporaryDirectory) {
    let directory = TemporaryDirectory::new();
    let stage = if pid_one { init.as_pid_one() } else { init.outside() };
    let path = stage.init_path();
    let path = path.to_str().unwrap();
    let path = if path.contains('/') { path.to_owned() } else { format!("/usr/bin/{path}") };
    let script = directory.file("script", 0o755, &format!("#!{path} {first_line_rest}\n{body}"));
    let run = stage.without_init().env("reporter", example("signal_reporter")).command([script]).start();
    (run, directory)
}

const TWO_PROCESSES: &str = "$reporter --name back --linger 1s & \n$reporter --name front --exit-on TERM=4\nexit $?\n";

behaviours! {
    []
    fn a_script_that_names_us_in_its_first_line_has_its_term_reach_both_processes(init) {
        // Outside: with PID 1 the kernel would kill what a peer leaves behind, before it can tell.
        let (run, _directory) = shebang(init, "/bin/sh", TWO_PROCESSES, false);
        run.wait_for("back ready");
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.wait_for("back signal SIGTERM ");
        run.wait_for("front signal SIGTERM ");
    }

    [PidNamespace]
    fn a_background_cleanup_completes_although_the_shell_died_at_once(init) {
        let (mut run, _directory) = shebang(init, "/bin/sh", TWO_PROCESSES, true);
        run.wait_for("back ready");
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.exits_with(128 + SIGTERM);
        run.timeline().assert_order(["sent SIGTERM", "back cleanup begins", "back cleanup done", "init over"]);
    }

    []
    fn a_background_cleanup_completes_outside_too(init) {
        let (mut run, _directory) = shebang(init, "/bin/sh", TWO_PROCESSES, false);
        run.wait_for("back ready");
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.exits_with(128 + SIGTERM);
        run.timeline().assert_order(["sent SIGTERM", "back cleanup begins", "back cleanup done", "init over"]);
    }

    [PidNamespace]
    fn the_shebang_line_can_carry_options(init) {
        let line = "-S --leftover-grace 300ms /bin/sh -e";
        let body = "($reporter --name stubborn &)\nfalse\necho never\n";
        let (mut run, _directory) = shebang(init, line, body, true);
        run.exits_with(1);
        run.timeline().never_saw("never");
    }

    [PidNamespace]
    fn leftovers_get_a_term_when_the_command_exits_by_itself(init) {
        let script = "$reporter --name back --linger 1s & read line < $fifo; exit 6";
        let directory = TemporaryDirectory::new();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut run = init.as_pid_one().env("fifo", &fifo).shell(script).start();
        run.wait_for("back ready");
        std::fs::write(&fifo, "go\n").unwrap();
        run.exits_with(6);
        run.timeline().assert_order(["back signal SIGTERM", "back cleanup done", "init over"]);
    }

    [PidNamespace]
    fn leftovers_in_sessions_of_their_own_get_a_term_too(init) {
        let script = "$reporter --name far --own-session --exit-on TERM=0 & read line < $fifo; exit 6";
        let directory = TemporaryDirectory::new();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut run = init.as_pid_one().env("fifo", &fifo).shell(script).start();
        run.wait_for("far ready");
        std::fs::write(&fifo, "go\n").unwrap();
        run.exits_with(6);
        run.timeline().assert_order(["far signal SIGTERM", "init over"]);
    }

    [PidNamespace]
    fn leftovers_that_ignore_the_term_are_killed_after_their_grace(init) {
        let script = "$reporter --name stubborn & $reporter --name far --own-session & read line < $fifo; exit 6";
        let directory = TemporaryDirectory::new();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let stage = init.as_pid_one().options(["--leftover-grace", "500ms"]);
        let mut run = stage.env("fifo", &fifo).shell(script).start();
        run.wait_for("stubborn ready");
        run.wait_for("far ready");
        run.timeline().note("go");
        std::fs::write(&fifo, "go\n").unwrap();
        run.exits_with(6);
        run.timeline().assert_order(["go", "stubborn signal SIGTERM", "init over"]);
        run.timeline().assert_order(["go", "far signal SIGTERM", "init over"]);
        let taken = run.timeline().between("stubborn signal SIGTERM", "init over");
        assert!(taken >= Duration::from_millis(450), "killed after {taken:?}");
        assert!(taken < LIMIT, "killed after {taken:?}");
    }

    []
    fn leftovers_outside_are_killed_after_their_grace(init) {
        let script = "$reporter --name stubborn & read line < $fifo; exit 6";
        let directory = TemporaryDirectory::new();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let stage = init.outside().options(["--leftover-grace", "300ms"]);
        let mut run = stage.env("fifo", &fifo).shell(script).start();
        run.wait_for("stubborn ready");
        let stubborn = run.descendants().into_iter().find(|&pid| pid != run.child()).unwrap();
        std::fs::write(&fifo, "go\n").unwrap();
        run.wait_until_over();
        // The stage would end it only later.
        assert!(crate::support::process::is_dead(stubborn), "{}", run.timeline().picture());
        assert_eq!(run.wait(), Ending::Exited(6));
    }

    [PidNamespace]
    fn we_leave_at_once_when_nothing_is_left(init) {
        let stage = init.as_pid_one().options(["--leftover-grace", "1000s"]);
        let mut run = stage.shell("(true &); (true &); exit 8").start();
        // With any part of that grace slept out, this would not end.
        run.exits_with(8);
    }

    [PidNamespace]
    fn we_leave_as_soon_as_the_last_leftover_is_gone(init) {
        let stage = init.as_pid_one().options(["--leftover-grace", "1000s"]);
        let mut run = stage.shell("$reporter --name back --linger 300ms & sleep 0.2; exit 8").start();
        run.exits_with(8);
    }

    [PidNamespace]
    fn a_stopped_leftover_is_continued_so_that_it_can_end(init) {
        let stage = init.as_pid_one().options(["--leftover-grace", "1000s"]);
        let script = "$reporter --name back --exit-on TERM=0 & back=$!; read line < $fifo; kill -STOP $back; exit 8";
        let directory = TemporaryDirectory::new();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut run = stage.env("fifo", &fifo).shell(script).start();
        run.wait_for("back ready");
        std::fs::write(&fifo, "go\n").unwrap();
        run.exits_with(8);
        run.timeline().assert_order(["back signal SIGTERM", "init over"]);
    }
}
