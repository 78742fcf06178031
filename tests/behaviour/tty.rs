//! On a terminal: job control works below us, and each key's signal comes once.

use nix::libc::{SIGHUP, SIGTERM};

use crate::support::Need::{PidNamespace, Program};
use crate::support::process::{state, wait_until};
use crate::support::shutdown::Gate;
use crate::support::{LIMIT, Running, Subject, Terminal, behaviours, example};

/// An interactive bash that runs, as its job, the init with a reporter.
fn as_a_job(init: Subject, option: &str) -> Running {
    let stage = init.outside();
    let path = stage.init_path();
    let run = stage
        .without_init()
        .env("init", path)
        .env("reporter", example("signal_reporter"))
        .env("PS1", "prompt> ")
        .on_terminal(Terminal::new())
        .command(["bash", "--norc", "--noprofile", "-i"])
        .start();
    run.wait_for("prompt>");
    run.terminal().type_in(&format!("\"$init\" {option} -- $reporter\n"));
    run.wait_for("ready pid=");
    run
}

/// Python that starts an interactive bash on a terminal and in a session of its own, and waits for it whatever it is told.
const SHELL_ON_A_TERMINAL: &str = "
import os, pty, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pid, terminal = pty.fork()
if pid == 0:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ[\"PS1\"] = \"prompt> \"
    os.execvp(\"bash\", [\"bash\", \"--norc\", \"--noprofile\", \"-i\"])
seen = b\"\"
while b\"prompt>\" not in seen:
    seen += os.read(terminal, 1000)
print(\"the shell is up\", flush=True)
os.waitpid(pid, 0)
print(\"the shell has ended\", flush=True)
";

/// A bash that has printed its prompt and does not wait yet notices a hang-up only at the next key.
#[track_caller]
fn waits_for_input(bash: i32) {
    wait_until("bash waits for input", LIMIT, || state(bash) == Some('S'));
}

/// The init and its reporter below the bash.
fn job(run: &Running) -> Vec<i32> {
    run.descendants()
}

behaviours! {
    [Program("bash")]
    fn an_interactive_shell_below_us_has_job_control(init) {
        let run = init.outside().group()
            .env("PS1", "prompt> ")
            .on_terminal(Terminal::new())
            .command(["bash", "--norc", "--noprofile", "-i", "-m"])
            .start();
        run.wait_for("prompt>");
        run.terminal().type_in("sleep 1000\n");
        wait_until("a job is in the foreground", LIMIT, || {
            let group = run.terminal().foreground();
            group > 0 && run.descendants().contains(&group) && group != run.child()
        });
        run.terminal().type_in("\x1a");
        run.wait_for("Stopped");
        run.terminal().type_in("jobs; kill %1; exit 3\n");
        run.timeline().never_saw("no job control");
        run.timeline().never_saw("annot set terminal process group");
    }

    []
    fn a_ctrl_c_reaches_the_command_once(init) {
        let run = init.outside().group().on_terminal(Terminal::new()).reporter(&[]).start();
        run.wait_for("ready");
        run.terminal().type_in("\x03");
        run.wait_for("signal SIGINT ");
        run.signal(41);
        run.wait_for("signal SIGRTMIN+7 ");
        run.timeline().saw_times("signal SIGINT ", 1);
    }

    []
    fn a_ctrl_c_is_not_sent_a_second_time_to_a_single_child(init) {
        let run = init.outside().single_child().on_terminal(Terminal::new()).reporter(&[]).start();
        run.wait_for("ready");
        run.terminal().type_in("\x03");
        run.wait_for("signal SIGINT ");
        run.signal(41);
        run.wait_for("signal SIGRTMIN+7 ");
        run.timeline().saw_times("signal SIGINT ", 1);
    }

    []
    fn a_new_window_size_is_reported_once(init) {
        let run = init.outside().group().on_terminal(Terminal::new()).reporter(&[]).start();
        run.wait_for("ready");
        run.terminal().resize(40, 120);
        run.wait_for("signal SIGWINCH ");
        run.signal(41);
        run.wait_for("signal SIGRTMIN+7 ");
        run.timeline().saw_times("signal SIGWINCH ", 1);
    }

    []
    fn a_hang_up_of_the_terminal_reaches_the_command(init) {
        let mut run = init.outside().group().on_terminal(Terminal::new()).reporter(&["--exit-on", "HUP=7"]).start();
        run.wait_for("ready");
        run.close_terminal();
        run.wait_until_over();
        assert!([7, 128 + SIGHUP].contains(&run.wait().code()));
    }

    []
    fn the_hang_up_of_our_own_hand_over_does_not_reach_the_command(init) {
        let run = init.outside().group().on_terminal(Terminal::new()).reporter(&[]).start();
        run.wait_for("ready");
        run.signal(41);
        run.wait_for("signal SIGRTMIN+7 ");
        run.timeline().never_saw("signal SIGHUP ");
        run.timeline().never_saw("signal SIGCONT ");
        // Only the first was the hand-over's.
        run.signal(SIGHUP);
        run.wait_for("signal SIGHUP ");
    }

    []
    fn the_command_is_in_the_foreground_of_the_terminal(init) {
        let run = init.outside().group().on_terminal(Terminal::new()).reporter(&[]).start();
        run.wait_for("ready");
        wait_until("the command is in the foreground", LIMIT, || run.terminal().foreground() == run.child());
    }

    []
    fn a_full_screen_of_output_and_an_exit_status_come_through(init) {
        let mut run = init.outside().group().on_terminal(Terminal::new())
            .shell("seq 2000; test -t 0 && test -t 1 && test -t 2; echo tty=$?; exit 11")
            .start();
        run.wait_for("tty=0");
        run.exits_with(11);
    }

    [Program("bash"), PidNamespace]
    fn an_interactive_shell_ends_at_a_stop_though_it_ignores_sigterm(init) {
        let mut run = init.as_pid_one().group()
            .options(["--grace", "1h"])
            .env("PS1", "prompt> ")
            .on_terminal(Terminal::new())
            .command(["bash", "--norc", "--noprofile", "-i"])
            .start();
        run.wait_for("prompt>");
        waits_for_input(run.child());
        run.signal(SIGTERM);
        // It would have an hour; bash dies of the hang-up.
        run.exits_with(128 + SIGHUP);
    }

    [Program("bash"), Program("python3"), PidNamespace]
    fn an_interactive_shell_that_is_left_behind_ends_without_sigkill(init) {
        let gate = Gate::new();
        let script = format!("python3 -c '{SHELL_ON_A_TERMINAL}' & read line < $gate; exit 3");
        let mut run = init.as_pid_one().options(["--leftover-grace", "1h"]).gate(&gate).shell(&script).start();
        run.wait_for("the shell is up");
        waits_for_input(run.process_with("bash --norc --noprofile"));
        gate.open();
        run.exits_with(3);
        run.timeline().assert_order(["the shell is up", "the shell has ended", "init over"]);
    }

    [Program("python3"), PidNamespace]
    fn a_daemon_that_ignores_sigterm_is_not_hung_up(init) {
        let gate = Gate::new();
        // In a session of its own, but without a terminal.
        let script = "setsid $reporter --name daemon & read line < $gate; exit 3";
        let mut run = init.as_pid_one().options(["--leftover-grace", "300ms"]).gate(&gate).shell(script).start();
        run.wait_for("daemon ready");
        gate.open();
        run.exits_with(3);
        run.timeline().never_saw("daemon signal SIGHUP");
    }

    [Program("bash")]
    fn a_ctrl_z_stops_us_and_the_command_and_fg_wakes_both(init) {
        let run = as_a_job(init, "");
        run.terminal().type_in("\x1a");
        wait_until("init and command are stopped", LIMIT, || {
            let job = job(&run);
            job.len() == 2 && job.iter().all(|&pid| state(pid) == Some('T'))
        });
        run.wait_for("Stopped");
        run.terminal().type_in("fg\n");
        wait_until("init and command go on", LIMIT, || job(&run).iter().all(|&pid| state(pid) == Some('S')));
        run.wait_for("signal SIGCONT ");
    }

    [Program("bash")]
    fn a_ctrl_c_reaches_a_command_that_is_a_shells_job_once(init) {
        for option in ["", "-c"] {
            let option = if init.takes_single_child() { option } else { "" };
            let run = as_a_job(init, option);
            run.terminal().type_in("\x03");
            run.wait_for("signal SIGINT ");
            let init_pid = job(&run)[0];
            crate::support::process::send(init_pid, 41);
            run.wait_for("signal SIGRTMIN+7 ");
            run.timeline().saw_times("signal SIGINT ", 1);
        }
    }

    [Program("bash")]
    fn the_shell_has_its_terminal_back_after_us(init) {
        let run = as_a_job(init, "");
        let init_pid = job(&run)[0];
        let command = job(&run)[1];
        crate::support::process::send(command, nix::libc::SIGKILL);
        wait_until("the init is gone", LIMIT, || state(init_pid).is_none());
        wait_until("the shell is in the foreground", LIMIT, || run.terminal().foreground() == run.pid());
        run.terminal().type_in("echo sta\"\"tus $?\n");
        run.wait_for("status 137");
    }
}
