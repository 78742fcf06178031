//! The shutdown on real processes: whatever the command and its family do, all of it ends, in order, by the deadline.

use std::time::{Duration, Instant};

use nix::libc::{SIGHUP, SIGINT, SIGQUIT, SIGSTOP, SIGTERM, SIGUSR1};

use crate::support::Need::{PidNamespace, Program};
use crate::support::process::{is_dead, send, state, wait_until};
use crate::support::{LIMIT, Running, Subject, behaviours};

/// Far below every grace that is not meant to run out, and far above what a busy machine needs.
const SOON: Duration = Duration::from_secs(15);

fn start(init: Subject, options: &[&str], script: &str) -> Running {
    let run = init.as_pid_one().options(options).shell(script).one_stream().start();
    // Not the readiness of another one of its programs.
    run.wait_for(if script.contains("--name main") { "main ready" } else { "ready" });
    run
}

/// Everything below the init, to be asserted dead afterwards.
fn family(run: &Running) -> Vec<i32> {
    run.descendants()
}

#[track_caller]
fn all_dead(family: &[i32]) {
    wait_until("the whole family is dead", LIMIT, || family.iter().all(|pid| is_dead(*pid)));
}

/// Stops it, and asserts that the family ended with the init at the deadline: not before, and within the reserve.
#[track_caller]
fn killed_at_the_deadline(mut run: Running, status: i32, processes: usize) {
    wait_until("the family is complete", LIMIT, || run.descendants().len() >= processes);
    let family = family(&run);
    let begun = Instant::now();
    run.signal(SIGTERM);
    run.exits_with(status);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(800), "killed after {took:?}");
    assert!(took < SOON, "only killed after {took:?}");
    all_dead(&family);
}

/// A grace with a deadline after 800 ms and a reserve that even a busy machine does not use up.
const SHORT: [&str; 4] = ["--grace", "10800ms", "--reserve", "10s"];

behaviours! {
    [PidNamespace]
    fn a_command_that_exits_during_the_drain_ends_it_and_the_chain_still_runs(init) {
        let mut run = start(init, &["--drain", "25s", "--stop-window", "1s", "-p", "echo step"], "exec $reporter --exit-on USR1=5");
        run.signal(SIGTERM);
        run.signal(SIGUSR1);
        run.exits_with(5);
        run.timeline().assert_order(["ready", "signal SIGUSR1", "step"]);
        run.timeline().never_saw("signal SIGTERM");
        assert!(run.timeline().between("sent SIGTERM", "init over") < SOON);
    }

    [PidNamespace]
    fn a_command_that_exits_during_a_step_lets_the_chain_end_and_gets_no_stop_signal(init) {
        let options = ["-p", "sh -c 'echo one be\"\"gins; kill -USR1 $MAINPID; sleep 0.3; echo one en\"\"ds'", "-p", "echo two"];
        let mut run = start(init, &options, "exec $reporter --exit-on USR1=6");
        run.signal(SIGTERM);
        run.exits_with(6);
        run.timeline().assert_order(["one begins", "signal SIGUSR1", "one ends", "two", "init over"]);
        run.timeline().never_saw("signal SIGTERM");
    }

    [PidNamespace]
    fn a_command_that_exits_between_the_rungs_gets_only_the_first(init) {
        let ladder = ["--stop-signal", "QUIT:20s,TERM"];
        let mut run = start(init, &ladder, "exec $reporter --exit-on QUIT=3");
        run.signal(SIGTERM);
        run.exits_with(3);
        run.timeline().never_saw("signal SIGTERM");
        assert!(run.timeline().between("sent SIGTERM", "init over") < SOON);
    }

    [PidNamespace]
    fn the_rungs_of_the_ladder_follow_each_other(init) {
        let ladder = ["--stop-signal", "QUIT:300ms,INT:200ms,TERM"];
        let mut run = start(init, &ladder, "exec $reporter --exit-on TERM=4");
        run.signal(SIGTERM);
        run.exits_with(4);
        run.timeline().assert_order(["signal SIGQUIT", "signal SIGINT", "signal SIGTERM"]);
        assert!(run.timeline().between("signal SIGQUIT", "signal SIGINT") >= Duration::from_millis(250));
    }

    [PidNamespace]
    fn a_command_that_ignores_everything_is_killed_at_the_deadline_and_not_before(init) {
        killed_at_the_deadline(start(init, &SHORT, "exec $reporter"), 137, 1);
    }

    [PidNamespace]
    fn a_step_that_runs_for_ever_does_not_cost_the_command_its_window(init) {
        let options = [&SHORT[..], &["--stop-window", "500ms", "-p", "sh -c 'trap \"\" TERM; while :; do sleep 1; done'"]].concat();
        let mut run = start(init, &options, "exec $reporter --exit-on TERM=0");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().saw_times("a step's time is up", 1);
        assert!(run.timeline().between("sent SIGTERM", "signal SIGTERM") >= Duration::from_millis(290));
    }

    [PidNamespace]
    fn a_command_that_exits_while_a_step_runs_for_ever_still_ends_by_the_deadline(init) {
        let options = [&SHORT[..], &["--stop-window", "300ms", "-p", "sleep 1000"]].concat();
        let mut run = start(init, &options, "exec $reporter --exit-on USR1=7");
        run.signal(SIGTERM);
        run.wait_for("starting a step");
        run.signal(SIGUSR1);
        run.exits_with(7);
        assert!(run.timeline().between("sent SIGTERM", "init over") < SOON);
    }

    [PidNamespace]
    fn a_suspended_command_is_continued_so_that_it_can_act(init) {
        let mut run = start(init, &[], "exec $reporter --exit-on TERM=2");
        let child = run.child();
        send(child, SIGSTOP);
        wait_until("the command is suspended", LIMIT, || state(child) == Some('T'));
        run.signal(SIGTERM);
        run.exits_with(2);
        assert!(run.timeline().between("sent SIGTERM", "init over") < SOON);
    }

    [PidNamespace]
    fn a_family_that_forks_while_it_is_killed_is_killed_whole(init) {
        let forker = "trap '' TERM; (while :; do sleep 1000 & sleep 0.01; done) & $reporter";
        killed_at_the_deadline(start(init, &SHORT, forker), 137, 4);
    }

    [PidNamespace]
    fn leftovers_that_hide_in_sessions_groups_and_behind_dead_parents_are_killed_whole(init) {
        let hidden = "
            $reporter --name hidden --own-session &
            (setsid sh -c 'trap \"\" TERM; (while :; do sleep 1; done) & exit' &)
            bash -mc '$reporter --name grouped &'
            exec $reporter --name main --exit-on TERM=9";
        let run = start(init, &SHORT, hidden);
        run.wait_for("hidden ready");
        run.wait_for("grouped ready");
        killed_at_the_deadline(run, 9, 4);
    }

    []
    fn hidden_leftovers_are_killed_when_we_are_not_pid_1_too(init) {
        let hidden = "$reporter --name hidden --own-session & exec $reporter --name main --exit-on TERM=9";
        let run = init.outside().options(SHORT).shell(hidden).one_stream().start();
        run.wait_for("main ready");
        run.wait_for("hidden ready");
        killed_at_the_deadline(run, 9, 2);
    }

    [PidNamespace]
    fn leftovers_finish_their_own_shutdown_and_we_leave_with_the_last(init) {
        let mut run = start(init, &[], "$reporter --name back --linger 700ms & exec $reporter --name main --exit-on TERM=1");
        run.wait_for("back ready");
        run.signal(SIGTERM);
        run.exits_with(1);
        run.timeline().assert_order(["back cleanup begins", "back cleanup done", "init over"]);
        // The group had it as the stop signal: not a second time as a leftover.
        run.timeline().saw_times("back signal SIGTERM", 1);
        assert!(run.timeline().between("back cleanup done", "init over") < SOON);
    }

    [PidNamespace]
    fn a_repeated_stop_signal_neither_restarts_nor_shortens(init) {
        let options = ["--drain", "600ms", "-p", "echo step"];
        let mut run = start(init, &options, "exec $reporter --linger 300ms");
        for _ in 0..5 {
            run.signal(SIGTERM);
        }
        run.wait_for("cleanup begins");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().saw_times("signal SIGTERM", 1);
        run.timeline().saw_times("step=\"echo step\"", 1);
        assert!(run.timeline().between("sent SIGTERM", "signal SIGTERM") >= Duration::from_millis(550));
        run.timeline().assert_order(["cleanup begins", "cleanup done"]);
    }

    [PidNamespace]
    fn a_second_interrupt_of_a_person_moves_on(init) {
        let options = ["--drain", "25s", "--stop-window", "1s"];
        let mut run = start(init, &options, "exec $reporter --exit-on INT=8");
        let first = Instant::now();
        run.signal(SIGINT);
        wait_until("half a second has passed", LIMIT, || first.elapsed() > Duration::from_millis(600));
        run.timeline().never_saw("signal SIGINT");
        run.signal(SIGINT);
        run.exits_with(8);
        assert!(first.elapsed() < SOON);
    }

    [PidNamespace]
    fn other_signals_are_relayed_in_every_phase(init) {
        let options = ["--drain", "300ms", "-p", "sh -c 'echo step be\"\"gins; sleep 0.3; echo step en\"\"ds'", "--stop-signal", "QUIT:300ms,TERM"];
        let mut run = start(init, &options, "exec $reporter --linger 300ms");
        run.signal(SIGTERM);
        run.signal(SIGHUP);
        run.wait_for("signal SIGHUP");
        run.wait_for("step begins");
        run.signal(SIGUSR1);
        run.wait_for("signal SIGUSR1");
        run.wait_for("signal SIGQUIT");
        run.signal(SIGHUP);
        run.timeline().wait_for_count("signal SIGHUP", 2);
        run.wait_for("signal SIGTERM");
        run.exits_with(0);
        run.timeline().assert_order(["signal SIGHUP", "step begins", "signal SIGUSR1", "step ends", "signal SIGQUIT", "signal SIGTERM"]);
    }

    [PidNamespace]
    fn an_eviction_of_one_to_three_seconds_ends_in_order(init) {
        for (grace, drain) in [("1s", "100ms"), ("2s", "200ms"), ("3s", "300ms")] {
            let options = ["--grace", grace, "--drain", drain, "-p", "echo step"];
            let mut run = start(init, &options, "exec $reporter");
            let family = family(&run);
            run.signal(SIGTERM);
            run.exits_with(137);
            run.timeline().assert_order(["sent SIGTERM", "step", "signal SIGTERM", "the time is up", "init over"]);
            all_dead(&family);
        }
    }

    [PidNamespace]
    fn without_a_deadline_nothing_is_killed(init) {
        let mut run = start(init, &["--grace", "none"], "exec $reporter --exit-on USR1=3");
        run.signal(SIGTERM);
        run.wait_for("signal SIGTERM");
        run.signal(SIGQUIT);
        run.wait_for("signal SIGQUIT");
        assert!(!run.is_over());
        run.signal(SIGUSR1);
        run.exits_with(3);
    }

    [PidNamespace]
    fn a_single_child_stops_its_own_workers_and_they_get_the_signal_only_without_it(init) {
        let script = "$reporter --name worker --exit-on TERM=0 & exec $reporter --name parent --linger 400ms";
        let mut run = start(init, &["-c"], script);
        run.wait_for("worker ready");
        run.wait_for("parent ready");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().assert_order(["parent signal SIGTERM", "parent cleanup done", "worker signal SIGTERM"]);
    }

    [PidNamespace]
    fn what_a_jvm_exits_with_can_count_as_success(init) {
        let mut run = start(init, &["-e", "143"], "exec $reporter --exit-on TERM=143");
        run.signal(SIGTERM);
        run.exits_with(0);
    }

    [PidNamespace]
    fn post_stop_runs_when_everything_has_gone_and_knows_how_it_ended(init) {
        let tell = "sh -c 'echo after $SERVICE_RESULT $EXIT_CODE $EXIT_STATUS $GRACE_INIT_SIGNAL'";
        for (status, told) in [(0, "after success exited 0 SIGTERM"), (3, "after exit-code exited 3 SIGTERM")] {
            let script = format!("$reporter --name back --linger 300ms & exec $reporter --name main --exit-on TERM={status}");
            let mut run = start(init, &["--post-stop", tell], &script);
            run.wait_for("back ready");
            run.signal(SIGTERM);
            run.exits_with(status);
            run.timeline().assert_order(["back cleanup done", told, "init over"]);
        }
        let mut run = init.as_pid_one().options(["--post-stop", tell]).shell("kill -9 $$").one_stream().start();
        run.exits_with(137);
        run.wait_for("after signal killed KILL");
    }

    [PidNamespace, Program("strace")]
    fn a_stop_that_comes_before_the_command_runs_reaches_it(init) {
        let strace = ["strace", "-f", "-o", "/dev/null", "-e", "trace=setsid", "-e", "inject=setsid:delay_enter=400000"];
        let mut run = init.as_pid_one().run_by(&strace).options(["--drain", "100ms"]).blocked(SIGTERM)
            .reporter(&["--exit-on", "TERM=5"]).one_stream().start();
        wait_until("the init has a child that has not executed its program", LIMIT, || run.descendants().len() >= 2);
        let init_pid = run.descendants()[0];
        send(init_pid, SIGTERM);
        run.exits_with(5);
        run.timeline().assert_order(["ready", "signal SIGTERM"]);
    }

    [Program("strace")]
    fn when_no_step_can_be_forked_the_shutdown_goes_on(init) {
        // The first process is the command; there are no others to be had.
        let inject = ["strace", "-o", "/dev/null", "-e", "trace=clone", "-e", "inject=clone:error=EAGAIN:when=2+"];
        let options = ["-p", "echo one", "-p", "@sleep 1s", "--post-stop", "echo two"];
        let mut run = init.outside().run_by(&inject).options(options)
            .shell("exec $reporter --exit-on TERM=5").one_stream().start();
        run.wait_for("ready");
        let init_pid = run.descendants()[0];
        send(init_pid, SIGTERM);
        run.exits_with(5);
        run.timeline().saw_times("a step could not start: no process for", 3);
    }

    [PidNamespace]
    fn a_stop_racing_with_the_commands_own_exit_never_hangs_and_the_status_is_right(init) {
        for _ in 0..100 {
            let mut run = init.as_pid_one().shell("echo ready; exit 6").one_stream().start();
            run.signal_if_there(SIGTERM);
            run.wait_until_over();
            let ending = run.wait();
            let right = [crate::support::Ending::Exited(6), crate::support::Ending::Exited(128 + SIGTERM)];
            assert!(right.contains(&ending), "{ending:?}");
        }
    }
}
