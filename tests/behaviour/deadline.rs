//! The moments at which things meet: a stop request at the very start, at the command's own end, at the deadline.

use std::time::Duration;

use nix::libc::{SIGTERM, SIGUSR1, SIGUSR2};

use crate::support::Need::{PidNamespace, Program};
use crate::support::process::{children, command_line, send, wait_until};
use crate::support::shutdown::HOURS;
use crate::support::{Ending, LIMIT, Running, Stage, behaviours};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Starts an init that gets a TERM before it is even executed: it inherits it blocked, so that it stays pending.
fn stopped_before_it_is_there(stage: Stage) -> Running {
    let run = stage.blocked(SIGTERM).start();
    run.signal(SIGTERM);
    run
}

/// Waits until the init's first child is there, which may be before that executes its program.
fn wait_for_child(run: &Running) {
    wait_until("the init has a child", LIMIT, || {
        !command_line(run.pid()).contains("--pid-namespace") && !children(run.pid()).is_empty()
    });
}

/// The same for a command that may be gone as soon as it is there.
fn wait_for_child_or_end(run: &Running) {
    wait_until("the init has a child or is over", LIMIT, || {
        let executed = !command_line(run.pid()).contains("--pid-namespace");
        run.is_over() || (executed && !children(run.pid()).is_empty())
    });
}

/// Lets a command that ends by itself with 7, and never by a TERM, end at the moment of the stop request.
fn races(stage: impl Fn() -> Stage, count: u64) {
    for round in 0..count {
        let mut run = stage().reporter(&["--exit-on", "USR1=7"]).start();
        run.wait_for("ready");
        let command = run.child();
        match round % 4 {
            // The command's end and the request reach us in one turn, or in two.
            0 => {
                send(command, SIGUSR1);
                run.signal(SIGTERM);
            }
            1 => {
                run.signal(SIGTERM);
                send(command, SIGUSR1);
            }
            // We relay what ends it.
            2 => {
                run.signal(SIGUSR1);
                run.signal(SIGTERM);
            }
            _ => {
                run.signal(SIGTERM);
                run.signal(SIGUSR1);
            }
        }
        let ending = run.wait();
        assert_eq!(ending, Ending::Exited(7), "round {round}\n{}", run.timeline().picture());
    }
}

behaviours! {
    []
    fn a_stop_request_older_than_the_init_is_drained_like_any_other(init) {
        // Not as PID 1 of a namespace: there the kernel drops what comes before there is a handler.
        let stage = init.outside().options(HOURS).options(["--drain", "500ms"]);
        let mut run = stopped_before_it_is_there(stage.reporter(&["--exit-on", "TERM=5"]));
        run.exits_with(5);
        run.timeline().assert_order(["ready", "signal SIGTERM", "init over"]);
        run.timeline().saw_times("signal SIGTERM", 1);
        run.at_least(ms(500), "sent SIGTERM", "signal SIGTERM");
    }

    []
    fn a_stop_request_older_than_the_init_runs_the_chain(init) {
        let stage = init.outside().options(HOURS).shell_step("echo chain runs");
        let mut run = stopped_before_it_is_there(stage.reporter(&["--exit-on", "TERM=5"]));
        run.exits_with(5);
        run.timeline().assert_order(["sent SIGTERM", "chain runs", "signal SIGTERM", "init over"]);
    }

    [PidNamespace]
    fn a_stop_request_as_soon_as_there_is_a_child_is_drained_like_any_other(init) {
        for _ in 0..20 {
            let stage = init.as_pid_one().options(HOURS).options(["--drain", "50ms"]).shell_step("echo chain runs");
            let mut run = stage.reporter(&["--exit-on", "TERM=5"]).start();
            wait_for_child(&run);
            run.signal(SIGTERM);
            // A machine that is too busy may let the command come to itself only after the drain.
            let ending = run.wait();
            let picture = run.timeline().picture();
            let alive = run.timeline().count("ready") > 0;
            let right = if alive { vec![Ending::Exited(5)] } else { vec![Ending::Exited(5), Ending::Exited(143)] };
            assert!(right.contains(&ending), "{ending:?}\n{picture}");
            run.timeline().assert_order(["sent SIGTERM", "chain runs", "init over"]);
        }
    }

    [Program("strace")]
    fn a_stop_signal_whose_drain_ends_before_the_command_is_executed_reaches_the_command(init) {
        // strace holds every exec for a while; the whole shutdown fits in there.
        let strace = ["strace", "-f", "-o", "/dev/null", "-e", "trace=execve", "-e", "inject=execve:delay_enter=700000"];
        let stage = init.outside().options(HOURS).options(["--drain", "10ms"]).run_by(&strace).blocked(SIGTERM);
        let run = stage.reporter(&[]).start();
        let mut found = 0;
        wait_until("the init has a child", LIMIT, || {
            let ours = |&pid: &i32| command_line(pid).contains("--drain") && !children(pid).is_empty();
            found = children(run.pid()).into_iter().find(ours).unwrap_or(0);
            found != 0
        });
        run.timeline().note("window open");
        send(found, SIGTERM);
        run.wait_for("signal SIGTERM");
        run.timeline().assert_order(["window open", "ready", "signal SIGTERM"]);
        send(found, SIGUSR2);
        run.wait_for("signal SIGUSR2");
        run.timeline().saw_times("signal SIGTERM", 1);
    }

    [PidNamespace]
    fn a_stop_request_at_the_moment_of_the_commands_own_end_never_costs_its_status(init) {
        races(|| init.as_pid_one().options(HOURS), 100);
    }

    [PidNamespace]
    fn a_stop_request_with_drain_and_chain_at_that_moment_never_costs_the_status(init) {
        races(|| init.as_pid_one().options(HOURS).options(["--drain", "1h"]).step("true"), 40);
    }

    []
    fn a_stop_request_at_the_moment_of_the_commands_own_end_outside(init) {
        races(|| init.outside().options(HOURS), 40);
    }

    [PidNamespace]
    fn a_stop_request_anywhere_in_a_short_life_ends_it_in_one_of_two_ways(init) {
        for round in 0..60 {
            let script = format!("i=0; while [ $i -lt {} ]; do i=$((i+1)); done; exit 7", round * 100);
            let mut run = init.as_pid_one().options(HOURS).shell(&script).start();
            wait_for_child_or_end(&run);
            run.signal(SIGTERM);
            let ending = run.wait();
            let picture = run.timeline().picture();
            assert!([Ending::Exited(7), Ending::Exited(143)].contains(&ending), "{ending:?}\n{picture}");
        }
    }

    [PidNamespace]
    fn a_command_that_cannot_start_is_no_reason_to_drain(init) {
        for _ in 0..10 {
            let stage = init.as_pid_one().options(HOURS).options(["--drain", "1h"]).step("sleep 3600");
            let mut run = stage.command(["/no/such/program"]).start();
            wait_for_child_or_end(&run);
            run.signal(SIGTERM);
            run.exits_with(127);
        }
    }

    [PidNamespace]
    fn a_deadline_of_nothing_kills_at_once(init) {
        let mut run = init.as_pid_one().options(["--grace", "0"]).reporter(&[]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(137);
    }

    [PidNamespace]
    fn the_longest_grace_is_no_overflow(init) {
        for grace in ["4294967295", "4294967295s"] {
            let stage = init.as_pid_one().options(["--grace", grace, "--drain", "10ms"]).step("true");
            let mut run = stage.reporter(&["--exit-on", "TERM=3"]).start();
            run.wait_for("ready");
            run.signal(SIGTERM);
            run.exits_with(3);
        }
    }

    [PidNamespace]
    fn a_drain_and_a_window_that_fill_the_budget_leave_the_steps_out(init) {
        let options = ["--grace", "2s", "--reserve", "500ms", "--drain", "500ms", "--stop-window", "1s"];
        let mut run = init.as_pid_one().options(options).shell_step("echo chain runs").reporter(&["--exit-on", "TERM=3"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(3);
        run.timeline().never_saw("chain runs");
        run.at_least(ms(500), "sent SIGTERM", "signal SIGTERM");
    }

    [PidNamespace]
    fn many_processes_that_end_at_the_deadline_together_are_all_gone(init) {
        let script = "i=0; while [ $i -lt 100 ]; do i=$((i+1)); (trap '' TERM; sleep 0.6) & done; exec $reporter --exit-on TERM=3";
        let stage = init.as_pid_one().options(["--grace", "1s", "--reserve", "400ms"]);
        let mut run = stage.shell(script).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_until_over();
        run.leaves_nothing_behind();
        run.exits_with(3);
    }
}
