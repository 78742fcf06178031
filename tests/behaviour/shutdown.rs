//! From the stop request to the end: whatever the command does, all of it ends, in order and in time.

use std::time::Duration;

use nix::libc::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};

use crate::support::Need::PidNamespace;
use crate::support::process::{children, is_dead, send, state, wait_until};
use crate::support::shutdown::{Gate, HOURS, let_pass};
use crate::support::{Ending, LIMIT, Running, Stage, TemporaryDirectory, Terminal, behaviours, example};

/// What a busy machine may add to any time.
const SLACK: Duration = Duration::from_secs(8);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A command that ends at once with 4 on TERM, and somebody who hides from it, called `hidden`.
fn with_hidden(stage: Stage, hideout: &str, manner: &str) -> Running {
    let script =
        format!("$hide {hideout} $reporter --name hidden {manner} & exec $reporter --name front --exit-on TERM=4");
    let run = stage.script(&script).start();
    run.wait_for("hidden ready");
    run.wait_for("front ready");
    run
}

/// Each way to hide, and all of them together.
const HIDEOUTS: [&str; 5] = ["session", "group", "orphan", "orphan session", "orphan group orphan"];

/// The hidden process is told, finishes its work, and only then we leave.
fn hidden_finish_their_work(stage: impl Fn() -> Stage) {
    for hideout in HIDEOUTS {
        let mut run = with_hidden(stage().options(HOURS), hideout, "--linger 300ms");
        run.signal(SIGTERM);
        run.wait_until_over();
        run.leaves_nothing_behind();
        run.exits_with(4);
        let timeline = run.timeline();
        timeline.assert_order(["sent SIGTERM", "front signal SIGTERM", "init over"]);
        timeline.assert_order(["sent SIGTERM", "hidden signal SIGTERM", "hidden cleanup done", "init over"]);
        timeline.saw_times("front signal SIGTERM", 1);
        timeline.saw_times("hidden signal SIGTERM", 1);
    }
}

/// The hidden process does not want to end.
fn hidden_are_killed_at_the_deadline(stage: impl Fn() -> Stage) {
    for hideout in HIDEOUTS {
        let options = ["--grace", "1s", "--reserve", "400ms"];
        let mut run = with_hidden(stage().options(options), hideout, "");
        run.signal(SIGTERM);
        run.wait_until_over();
        run.leaves_nothing_behind();
        run.exits_with(4);
        run.timeline().assert_order(["sent SIGTERM", "hidden signal SIGTERM", "init over"]);
        run.at_least(ms(600), "sent SIGTERM", "init over");
        run.at_most(ms(1000) + SLACK, "sent SIGTERM", "init over");
    }
}

/// Drain, step and a stubborn command within `grace` seconds.
fn ends_in_order_within(stage: Stage, grace: u32) {
    let total = Duration::from_secs(grace.into());
    let words = format!("{grace}s");
    let stage = stage.options(["--grace", &words, "--drain", "100ms"]).shell_step("echo chain runs");
    let mut run = stage.reporter(&[]).start();
    run.wait_for("ready");
    run.signal(SIGTERM);
    run.exits_with(128 + SIGKILL);
    run.timeline().assert_order(["sent SIGTERM", "chain runs", "signal SIGTERM", "init over"]);
    // A fifth is the reserve.
    run.at_least(total * 4 / 5, "sent SIGTERM", "init over");
    run.at_most(total + SLACK, "sent SIGTERM", "init over");
}

/// Sends a signal again and again until the init is over; what restarts a timer on it never ends.
fn pester_until_over(run: &Running, signal: i32) {
    wait_until("the init is over", LIMIT, || {
        run.signal_if_there(signal);
        run.is_over()
    });
}

behaviours! {
    [PidNamespace]
    fn a_command_that_exits_during_the_drain_ends_it_and_the_chain_still_runs(init) {
        let stage = init.as_pid_one().observed().options(HOURS).options(["--drain", "1h"]);
        let stage = stage.shell_step("echo deregistered").shell_step("echo saved");
        let mut run = stage.reporter(&["--exit-on", "USR1=7"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_for_phase("drain");
        run.signal(SIGUSR1);
        run.exits_with(7);
        run.timeline().assert_order(["sent SIGTERM", "sent SIGUSR1", "signal SIGUSR1", "deregistered", "saved", "init over"]);
        run.timeline().never_saw("signal SIGTERM");
    }

    [PidNamespace]
    fn a_command_that_exits_during_a_step_lets_it_and_the_rest_of_the_chain_finish(init) {
        let gate = Gate::new();
        let stage = init.as_pid_one().options(HOURS).gate(&gate);
        let stage = stage.shell_step("echo first begins; read line < $gate; echo first ends").shell_step("echo second");
        let mut run = stage.reporter(&["--exit-on", "USR1=7"]).start();
        run.wait_for("ready");
        let command = run.child();
        run.signal(SIGTERM);
        run.wait_for("first begins");
        run.signal(SIGUSR1);
        run.wait_for("signal SIGUSR1");
        wait_until("the command is reaped", LIMIT, || state(command).is_none());
        run.timeline().note("command gone");
        gate.open();
        run.exits_with(7);
        run.timeline().assert_order(["first begins", "signal SIGUSR1", "command gone", "first ends", "second", "init over"]);
        run.timeline().never_saw("signal SIGTERM");
    }

    [PidNamespace]
    fn a_command_that_exits_while_a_step_runs_for_ever_is_not_waited_for_beyond_the_chain(init) {
        let stage = init.as_pid_one().options(["--grace", "3s", "--reserve", "500ms", "--stop-window", "1500ms"]);
        let stage = stage.shell_step("echo step begins; while :; do sleep 1; done").shell_step("echo never");
        let mut run = stage.reporter(&["--exit-on", "USR1=7"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_for("step begins");
        run.signal(SIGUSR1);
        run.exits_with(7);
        run.timeline().assert_order(["sent SIGTERM", "step begins", "signal SIGUSR1", "init over"]);
        run.timeline().never_saw("never");
        run.at_least(ms(1000), "sent SIGTERM", "init over");
        run.at_most(ms(3000) + SLACK, "sent SIGTERM", "init over");
    }

    [PidNamespace]
    fn a_step_that_runs_for_ever_and_ignores_everything_is_killed_though_the_command_has_gone(init) {
        let stage = init.as_pid_one().options(["--grace", "3s", "--reserve", "500ms", "--stop-window", "1500ms"]);
        let stage = stage.shell_step("exec $reporter --name step");
        let mut run = stage.shell("exec $reporter --name front --exit-on USR1=7").start();
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.wait_for("step ready");
        run.signal(SIGUSR1);
        run.exits_with(7);
        run.timeline().assert_order(["sent SIGTERM", "step ready", "front signal SIGUSR1", "step signal SIGTERM", "init over"]);
        run.at_least(ms(1500), "sent SIGTERM", "init over");
        run.at_most(ms(3000) + SLACK, "sent SIGTERM", "init over");
    }

    [PidNamespace]
    fn a_command_that_exits_between_two_rungs_never_gets_the_second(init) {
        let stage = init.as_pid_one().options(HOURS).options(["--stop-signal", "QUIT:1h,TERM"]);
        let mut run = stage.reporter(&["--exit-on", "USR1=7"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_for("signal SIGQUIT");
        run.signal(SIGUSR1);
        run.exits_with(7);
        run.timeline().assert_order(["sent SIGTERM", "signal SIGQUIT", "signal SIGUSR1", "init over"]);
        run.timeline().never_saw("signal SIGTERM");
    }

    [PidNamespace]
    fn a_ladder_goes_up_rung_by_rung(init) {
        let stage = init.as_pid_one().options(HOURS).options(["--stop-signal", "QUIT:300ms,TERM"]);
        let mut run = stage.reporter(&["--exit-on", "TERM=3"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(3);
        run.timeline().assert_order(["sent SIGTERM", "signal SIGQUIT", "signal SIGTERM", "init over"]);
        run.at_least(ms(300), "sent SIGTERM", "signal SIGTERM");
        run.timeline().saw_times("signal SIGQUIT", 1);
        run.timeline().saw_times("signal SIGTERM", 1);
    }

    [PidNamespace]
    fn the_first_rung_replaces_the_signal_that_was_received(init) {
        let stage = init.as_pid_one().options(HOURS).options(["--stop-signal", "QUIT"]);
        let mut run = stage.reporter(&["--exit-on", "QUIT=3"]).start();
        run.wait_for("ready");
        run.signal(SIGINT);
        run.exits_with(3);
        run.timeline().saw_times("signal SIG", 1);
    }

    [PidNamespace]
    fn the_signal_that_was_received_is_the_stop_signal_by_default(init) {
        let mut run = init.as_pid_one().options(HOURS).reporter(&["--exit-on", "INT=3"]).start();
        run.wait_for("ready");
        run.signal(SIGINT);
        run.exits_with(3);
        run.timeline().saw_times("signal SIG", 1);
    }

    [PidNamespace]
    fn a_command_that_is_done_just_at_the_deadline_ends_one_way_or_the_other(init) {
        for _ in 0..6 {
            let stage = init.as_pid_one().options(["--grace", "500ms", "--reserve", "200ms"]);
            let mut run = stage.reporter(&["--linger", "298ms"]).start();
            run.wait_for("ready");
            run.signal(SIGTERM);
            let ending = run.wait();
            let picture = run.timeline().picture();
            assert!([Ending::Exited(0), Ending::Exited(137)].contains(&ending), "{ending:?}\n{picture}");
            if ending == Ending::Exited(0) {
                run.timeline().assert_order(["sent SIGTERM", "cleanup done", "init over"]);
            }
        }
    }

    [PidNamespace]
    fn a_command_that_ignores_everything_is_killed_at_the_deadline_and_not_before(init) {
        let mut run = init.as_pid_one().options(["--grace", "2s", "--reserve", "500ms"]).reporter(&[]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(137);
        run.timeline().assert_order(["sent SIGTERM", "signal SIGTERM", "init over"]);
        run.timeline().saw_times("signal SIGTERM", 1);
        run.at_least(ms(1500), "sent SIGTERM", "init over");
        run.at_most(ms(2000) + SLACK, "sent SIGTERM", "init over");
    }

    []
    fn a_command_that_ignores_everything_is_killed_outside_too(init) {
        let options = ["--grace", "1s", "--reserve", "500ms"];
        let script = "$reporter --name back & exec $reporter --name front";
        let mut run = init.outside().options(options).shell(script).start();
        run.wait_for("back ready");
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.wait_until_over();
        run.leaves_nothing_behind();
        run.exits_with(137);
        run.at_least(ms(500), "sent SIGTERM", "init over");
    }

    [PidNamespace]
    fn the_deadline_comes_from_the_orchestrators_variable_too(init) {
        let stage = init.as_pid_one().env("TERMINATION_GRACE_PERIOD_SECONDS", "1");
        let mut run = stage.reporter(&[]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(137);
        run.at_least(ms(800), "sent SIGTERM", "init over");
        // The default of 30 s would be beyond everybody's patience.
    }

    [PidNamespace]
    fn a_suspended_command_is_continued_and_can_act(init) {
        let mut run = init.as_pid_one().options(HOURS).reporter(&["--linger", "300ms"]).start();
        run.wait_for("ready");
        let command = run.child();
        send(command, SIGSTOP);
        wait_until("the command is suspended", LIMIT, || state(command) == Some('T'));
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().assert_order(["sent SIGTERM", "signal SIGTERM", "cleanup done", "init over"]);
        run.timeline().saw_times("signal SIGTERM", 1);
    }

    [PidNamespace]
    fn a_suspended_process_that_hides_is_continued_and_can_act(init) {
        let mut run = with_hidden(init.as_pid_one().options(HOURS), "orphan session", "--linger 300ms");
        let hidden = run.process_with("--name hidden");
        send(hidden, SIGSTOP);
        wait_until("the hidden process is suspended", LIMIT, || state(hidden) == Some('T'));
        run.signal(SIGTERM);
        run.exits_with(4);
        run.timeline().assert_order(["front signal SIGTERM", "hidden signal SIGTERM", "hidden cleanup done", "init over"]);
    }

    [PidNamespace]
    fn a_suspended_command_is_not_continued_before_its_stop_signal(init) {
        let gate = Gate::new();
        let stage = init.as_pid_one().options(HOURS).gate(&gate);
        let stage = stage.shell_step("echo step begins; read line < $gate");
        let mut run = stage.reporter(&["--linger", "1ms"]).start();
        run.wait_for("ready");
        let command = run.child();
        send(command, SIGSTOP);
        wait_until("the command is suspended", LIMIT, || state(command) == Some('T'));
        run.signal(SIGTERM);
        run.wait_for("step begins");
        assert_eq!(state(command), Some('T'));
        gate.open();
        run.exits_with(0);
        run.timeline().assert_order(["step begins", "signal SIGTERM", "cleanup done", "init over"]);
    }

    []
    fn a_command_that_forks_while_it_is_killed_leaves_nothing_behind(init) {
        let stage = init.outside().options(["--grace", "1s", "--reserve", "700ms"]);
        let mut run = stage.script("exec $forks breed").start();
        run.wait_for("forks begin");
        run.signal(SIGTERM);
        run.wait_until_over();
        run.leaves_nothing_behind();
        run.exits_with(137);
        run.at_least(ms(300), "sent SIGTERM", "init over");
        run.at_most(ms(1000) + SLACK, "sent SIGTERM", "init over");
    }

    []
    fn a_process_that_is_always_another_one_is_caught(init) {
        let stage = init.outside().options(["--grace", "4s", "--reserve", "3500ms"]);
        let mut run = stage.script("$forks hop 2 & exec $reporter --exit-on TERM=4").start();
        run.wait_for("ready");
        run.wait_for("forks begin");
        run.signal(SIGTERM);
        run.wait_until_over();
        run.leaves_nothing_behind();
        run.exits_with(4);
        run.at_least(ms(500), "sent SIGTERM", "init over");
    }

    [PidNamespace]
    fn a_process_that_outruns_every_kill_does_not_keep_us(init) {
        let stage = init.as_pid_one().options(["--grace", "1s", "--reserve", "500ms"]);
        let mut run = stage.script("$forks hop 0 & exec $reporter --exit-on TERM=4").start();
        run.wait_for("ready");
        run.wait_for("forks begin");
        run.signal(SIGTERM);
        run.wait_until_over();
        run.leaves_nothing_behind();
        run.exits_with(4);
        run.at_most(ms(1000) + SLACK, "sent SIGTERM", "init over");
    }

    [PidNamespace]
    fn processes_that_hide_finish_their_work(init) {
        hidden_finish_their_work(|| init.as_pid_one());
    }

    []
    fn processes_that_hide_finish_their_work_outside_too(init) {
        hidden_finish_their_work(|| init.outside());
    }

    [PidNamespace]
    fn processes_that_hide_are_killed_at_the_deadline(init) {
        hidden_are_killed_at_the_deadline(|| init.as_pid_one());
    }

    []
    fn processes_that_hide_are_killed_at_the_deadline_outside_too(init) {
        hidden_are_killed_at_the_deadline(|| init.outside());
    }

    []
    fn a_process_whose_first_thread_has_ended_is_killed_at_the_deadline(init) {
        let script = "$hide session $forks half & exec $reporter --name front --exit-on TERM=4";
        let mut run = init.outside().options(["--grace", "1s", "--reserve", "500ms"]).script(script).start();
        run.wait_for("front ready");
        run.wait_for("forks begin");
        wait_until("the first thread has ended", LIMIT, || {
            run.descendants().into_iter().any(|pid| state(pid) == Some('Z'))
        });
        run.signal(SIGTERM);
        run.wait_until_over();
        run.leaves_nothing_behind();
        run.exits_with(4);
        run.at_least(ms(500), "sent SIGTERM", "init over");
    }

    []
    fn a_name_that_looks_like_other_facts_hides_nobody(init) {
        let directory = TemporaryDirectory::new();
        for name in ["a) Z 0 0 0 (b", "x) S 1", ") )", "\n", "1 (sh) Z 1 1"] {
            let link = directory.path().join(name);
            std::os::unix::fs::symlink(example("signal_reporter"), &link).unwrap();
            let script = "$hide orphan session \"$odd\" --name hidden --linger 300ms & exec $reporter --name front --exit-on TERM=4";
            let mut run = init.outside().options(HOURS).env("odd", &link).script(script).start();
            run.wait_for("front ready");
            run.wait_for("hidden ready");
            run.signal(SIGTERM);
            run.exits_with(4);
            run.timeline().assert_order(["sent SIGTERM", "hidden signal SIGTERM", "hidden cleanup done", "init over"]);
        }
    }

    [PidNamespace]
    fn a_stop_request_while_leftovers_are_waited_for_sets_the_deadline(init) {
        let gate = Gate::new();
        let options = ["--grace", "1s", "--leftover-grace", "1h"];
        let script = "$reporter --name back & read line < $gate; exit 6";
        let mut run = init.as_pid_one().options(options).gate(&gate).shell(script).start();
        run.wait_for("back ready");
        gate.open();
        run.wait_for("back signal SIGTERM");
        run.signal(SIGTERM);
        run.exits_with(6);
        run.at_least(ms(800), "sent SIGTERM", "init over");
    }

    [PidNamespace]
    fn who_hides_is_told_only_when_the_command_has_gone(init) {
        let script = "$hide session $reporter --name hidden --exit-on TERM=0 & exec $reporter --name front --linger 400ms";
        let mut run = init.as_pid_one().options(HOURS).script(script).start();
        run.wait_for("hidden ready");
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().assert_order(["sent SIGTERM", "front signal SIGTERM", "front cleanup done", "hidden signal SIGTERM", "init over"]);
    }

    [PidNamespace]
    fn the_group_is_not_told_twice(init) {
        let script = "$reporter --name back --exit-on WINCH=0 & exec $reporter --name front --exit-on TERM=4";
        let mut run = init.as_pid_one().observed().options(HOURS).shell(script).start();
        run.wait_for("back ready");
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.wait_for_phase("leftovers");
        // Relayed behind whatever was sent at the beginning of that phase.
        run.signal(SIGHUP);
        run.wait_for("back signal SIGHUP");
        // A TERM that waits is reported before it.
        run.signal(SIGWINCH);
        run.exits_with(4);
        run.timeline().assert_order(["sent SIGTERM", "back signal SIGTERM", "back signal SIGWINCH", "init over"]);
        run.timeline().saw_times("back signal SIGTERM", 1);
    }

    [PidNamespace]
    fn leftovers_get_a_term_although_the_stop_signal_was_another(init) {
        let script = "$reporter --name back --linger 300ms & exec $reporter --name front --exit-on QUIT=4";
        let stage = init.as_pid_one().options(HOURS).options(["--stop-signal", "QUIT"]);
        let mut run = stage.shell(script).start();
        run.wait_for("back ready");
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.exits_with(4);
        run.timeline().assert_order(["back signal SIGQUIT", "back signal SIGTERM", "back cleanup done", "init over"]);
    }

    [PidNamespace]
    fn a_repeated_term_neither_shortens_nor_restarts_anything(init) {
        let stage = init.as_pid_one().options(["--grace", "2s", "--reserve", "400ms", "--drain", "400ms"]);
        let mut run = stage.shell_step("echo chain runs").reporter(&[]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        pester_until_over(&run, SIGTERM);
        run.exits_with(137);
        run.timeline().assert_order(["sent SIGTERM", "chain runs", "signal SIGTERM", "init over"]);
        run.timeline().saw_times("signal SIGTERM", 1);
        run.at_least(ms(400), "sent SIGTERM", "chain runs");
        run.at_least(ms(1600), "sent SIGTERM", "init over");
        run.at_most(ms(2000) + SLACK, "sent SIGTERM", "init over");
    }

    [PidNamespace]
    fn an_int_after_a_term_is_a_repetition_too(init) {
        let mut run = init.as_pid_one().options(HOURS).reporter(&["--exit-on", "USR1=3"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_for("signal SIGTERM");
        run.signal(SIGINT);
        run.signal(SIGHUP);
        run.wait_for("signal SIGHUP");
        run.signal(SIGUSR1);
        run.exits_with(3);
        run.timeline().never_saw("signal SIGINT");
    }

    [PidNamespace]
    fn a_person_who_interrupts_again_moves_on_phase_by_phase(init) {
        let stage = init.outside().single_child().on_terminal(Terminal::new());
        let stage = stage.observed().options(HOURS).options(["--drain", "20m", "--stop-signal", "QUIT:20m,TERM"]);
        let stage = stage.shell_step("echo step begins; exec sleep 3600").shell_step("echo never");
        let mut run = stage.reporter(&[]).start();
        run.wait_for("ready");
        run.terminal().type_in("\x03");
        run.wait_for_phase("drain");
        // From elsewhere it is no second Ctrl-C.
        let_pass(Duration::from_millis(600));
        run.signal(SIGINT);
        run.press_ctrl_c_again();
        run.wait_for("step begins");
        run.press_ctrl_c_again();
        run.wait_for("signal SIGQUIT");
        run.press_ctrl_c_again();
        run.wait_for("signal SIGTERM");
        run.press_ctrl_c_again();
        run.exits_with(137);
        run.timeline().assert_order(["\"phase\":\"drain\"", "step begins", "signal SIGQUIT", "signal SIGTERM", "init over"]);
        run.timeline().never_saw("never");
    }

    [PidNamespace]
    fn an_interrupt_that_is_doubled_by_one_key_moves_nothing_on(init) {
        // Only a machine that was too busy needs another try.
        for _ in 0..10 {
            let stage = init.as_pid_one().observed().options(HOURS).options(["--drain", "1h"]);
            let mut run = stage.reporter(&["--exit-on", "USR1=3"]).start();
            run.wait_for("ready");
            run.timeline().note("key");
            run.signal(SIGINT);
            run.wait_for_phase("drain");
            run.signal(SIGINT);
            run.signal(SIGHUP);
            run.wait_for("signal SIGHUP");
            let was_quick = run.timeline().between("key", "signal SIGHUP") < ms(400);
            let moved = run.timeline().count("signal SIGINT") > 0;
            run.signal(SIGUSR1);
            run.exits_with(3);
            if was_quick {
                assert!(!moved, "{}", run.timeline().picture());
                run.never_in_phase("stop");
                return;
            }
        }
        panic!("the machine is too slow for two signals within 400 ms");
    }

    [PidNamespace]
    fn other_signals_are_relayed_in_every_phase(init) {
        let script = "$reporter --name back --exit-on WINCH=0 & exec $reporter --name front --exit-on USR2=9";
        let gate = Gate::new();
        let stage = init.as_pid_one().observed().gate(&gate).options(HOURS);
        let stage = stage.options(["--drain", "3s", "--stop-signal", "QUIT"]);
        let mut run = stage.shell_step("echo step begins; read line < $gate").shell(script).start();
        let relayed_to = |who: &[&str], count: usize| {
            for (signal, name) in [(SIGHUP, "SIGHUP"), (SIGUSR1, "SIGUSR1")] {
                run.signal(signal);
                for who in who {
                    run.timeline().wait_for_count(&format!("{who} signal {name}"), count);
                }
            }
        };
        let relayed = |count: usize| relayed_to(&["front", "back"], count);
        run.wait_for("back ready");
        run.wait_for("front ready");
        relayed(1);
        run.signal(SIGINT);
        run.wait_for_phase("drain");
        relayed(2);
        run.never_in_phase("pre-stop");
        run.wait_for("step begins");
        relayed(3);
        run.never_in_phase("stop");
        gate.open();
        run.wait_for("back signal SIGQUIT");
        relayed(4);
        run.never_in_phase("leftovers");
        run.signal(SIGUSR2);
        run.wait_for_phase("leftovers");
        relayed_to(&["back"], 5);
        run.signal(SIGWINCH);
        run.exits_with(9);
    }

    [PidNamespace]
    fn one_second_of_grace_still_ends_in_order(init) {
        ends_in_order_within(init.as_pid_one(), 1);
    }

    [PidNamespace]
    fn two_seconds_of_grace_still_end_in_order(init) {
        ends_in_order_within(init.as_pid_one(), 2);
    }

    [PidNamespace]
    fn three_seconds_of_grace_still_end_in_order(init) {
        ends_in_order_within(init.as_pid_one(), 3);
    }

    [PidNamespace]
    fn an_endless_step_leaves_the_command_its_time_even_in_one_second(init) {
        let stage = init.as_pid_one().options(["--grace", "1s", "--drain", "100ms"]);
        let stage = stage.shell_step("echo step begins; exec sleep 3600");
        let mut run = stage.reporter(&["--linger", "1ms"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().assert_order(["sent SIGTERM", "step begins", "signal SIGTERM", "cleanup done", "init over"]);
    }

    [PidNamespace]
    fn the_command_keeps_its_stop_window_whatever_the_steps_do(init) {
        let options = ["--grace", "4s", "--reserve", "500ms", "--stop-window", "2s", "--drain", "100ms"];
        let stage = init.as_pid_one().options(options).shell_step("exec $reporter --name step");
        let mut run = stage.shell("exec $reporter --name front --linger 1s").start();
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().assert_order(["step ready", "front signal SIGTERM", "front cleanup done", "init over"]);
        run.timeline().assert_order(["step ready", "step signal SIGTERM", "front cleanup done"]);
    }

    [PidNamespace]
    fn no_grace_limit_never_kills(init) {
        // A deadline from the variable would come in the middle of the cleanup.
        let stage = init.as_pid_one().env("TERMINATION_GRACE_PERIOD_SECONDS", "1").options(["--grace", "none"]);
        let script = "$reporter --name back --linger 2500ms & exec $reporter --name front --linger 1500ms";
        let mut run = stage.shell(script).start();
        run.wait_for("back ready");
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().assert_order(["sent SIGTERM", "front cleanup done", "back cleanup done", "init over"]);
    }

    [PidNamespace]
    fn a_single_childs_workers_are_told_only_when_it_has_gone(init) {
        let script = "$reporter --name worker --linger 300ms & exec $reporter --name front --linger 300ms";
        let mut run = init.as_pid_one().options(HOURS).options(["-c"]).shell(script).start();
        run.wait_for("worker ready");
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().assert_order([
            "sent SIGTERM", "front signal SIGTERM", "front cleanup done", "worker signal SIGTERM", "worker cleanup done", "init over",
        ]);
        run.timeline().saw_times("worker signal SIGTERM", 1);
    }

    []
    fn a_single_child_that_ignores_everything_is_killed_with_its_workers(init) {
        let script = "$reporter --name worker & exec $reporter --name front";
        let stage = init.outside().options(["--grace", "1s", "--reserve", "400ms", "-c"]);
        let mut run = stage.shell(script).start();
        run.wait_for("worker ready");
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.wait_until_over();
        run.leaves_nothing_behind();
        run.exits_with(137);
        run.timeline().saw_times("front signal SIGTERM", 1);
        run.at_least(ms(600), "sent SIGTERM", "init over");
    }

    [PidNamespace]
    fn a_step_can_send_the_command_a_signal_before_its_stop_signal(init) {
        let script = "$reporter --name back & exec $reporter --name front --exit-on TERM=4";
        let gate = Gate::new();
        let stage = init.as_pid_one().options(["--grace", "1s", "--stop-window", "100ms"]).gate(&gate);
        let mut run = stage.step("@signal USR2").shell_step("echo chain runs").shell(script).start();
        run.wait_for("back ready");
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.exits_with(4);
        run.timeline().assert_order(["sent SIGTERM", "front signal SIGUSR2", "front signal SIGTERM", "init over"]);
        run.timeline().never_saw("back signal SIGUSR2");
    }

    [PidNamespace]
    fn post_stop_steps_run_when_everything_has_gone(init) {
        let script = "$hide orphan session $reporter --name hidden --linger 300ms & exec $reporter --name front --exit-on TERM=3";
        let look = "for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) ;; *) echo left $p; esac; done; echo post one";
        let stage = init.as_pid_one().options(HOURS).shell_post_step(look);
        let mut run = stage.shell_post_step("echo post two").script(script).start();
        run.wait_for("hidden ready");
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.exits_with(3);
        run.timeline().assert_order(["front signal SIGTERM", "hidden cleanup done", "post one", "post two", "init over"]);
        run.timeline().never_saw("left /proc");
    }

    [PidNamespace]
    fn post_stop_steps_know_how_the_command_ended(init) {
        let tell = "echo result=$SERVICE_RESULT code=$EXIT_CODE status=$EXIT_STATUS";
        let told = |run: &mut Running, status: i32, words: &str| {
            run.exits_with(status);
            run.timeline().assert_order([words, "init over"]);
        };
        for (exit_on, status, words) in [
            ("TERM=0", 0, "result=success code=exited status=0"),
            ("TERM=3", 3, "result=exit-code code=exited status=3"),
        ] {
            let mut run = init.as_pid_one().options(HOURS).shell_post_step(tell).reporter(&["--exit-on", exit_on]).start();
            run.wait_for("ready");
            run.signal(SIGTERM);
            told(&mut run, status, words);
        }
        let mut run = init.as_pid_one().options(HOURS).shell_post_step(tell).shell("echo up; exec sleep 3600").start();
        run.wait_for("up");
        run.signal(SIGTERM);
        told(&mut run, 143, "result=success code=killed status=TERM");

        let mut run = init.as_pid_one().shell_post_step(tell).reporter(&["--raise", "6"]).start();
        told(&mut run, 134, "result=signal code=killed status=ABRT");

        let mut run = init.as_pid_one().shell_post_step(tell).shell("exit 5").start();
        told(&mut run, 5, "result=exit-code code=exited status=5");
    }

    [PidNamespace]
    fn post_stop_steps_know_that_the_command_was_killed_at_the_deadline(init) {
        // It may die before it is looked at, so that one try tells little.
        for _ in 0..20 {
            let stage = init.as_pid_one().options(["--grace", "1s", "--reserve", "900ms"]);
            let tell = "echo result=$SERVICE_RESULT code=$EXIT_CODE status=$EXIT_STATUS";
            let mut run = stage.shell_post_step(tell).reporter(&[]).start();
            run.wait_for("ready");
            run.signal(SIGTERM);
            run.exits_with(137);
            run.timeline().assert_order(["sent SIGTERM", "result=timeout code=killed status=KILL", "init over"]);
        }
    }

    [PidNamespace]
    fn a_post_stop_step_that_never_ends_is_bounded_by_the_grace(init) {
        let stage = init.as_pid_one().options(["--grace", "2s"]).shell_post_step("echo post runs; exec sleep 3600");
        let mut run = stage.reporter(&["--exit-on", "TERM=3"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(3);
        run.timeline().assert_order(["signal SIGTERM", "post runs", "init over"]);
        run.at_most(ms(2000) + SLACK, "sent SIGTERM", "init over");
    }

    [PidNamespace]
    fn an_exit_status_is_reported_as_success_after_a_shutdown_too(init) {
        let stage = init.as_pid_one().options(HOURS).options(["-e", "143"]);
        let mut run = stage.shell("echo up; exec sleep 3600").start();
        run.wait_for("up");
        run.signal(SIGTERM);
        run.exits_with(0);
    }

    [PidNamespace]
    fn a_kill_is_reported_as_success_only_when_that_is_wanted(init) {
        let mut run = init.as_pid_one().options(["--grace", "500ms", "-e", "137"]).reporter(&[]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(0);
    }

    [PidNamespace]
    fn only_the_chosen_signals_begin_the_shutdown(init) {
        let stage = init.as_pid_one().options(HOURS).options(["--stop-on", "QUIT,USR2"]).shell_step("echo chain runs");
        let mut run = stage.reporter(&["--exit-on", "USR2=5"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_for("signal SIGTERM");
        run.signal(SIGINT);
        run.wait_for("signal SIGINT");
        run.timeline().never_saw("chain runs");
        run.signal(SIGUSR2);
        run.exits_with(5);
        run.timeline().assert_order(["sent SIGUSR2", "chain runs", "signal SIGUSR2", "init over"]);
        run.timeline().never_saw(&format!("signal {}", crate::support::name(SIGQUIT)));
    }

    [PidNamespace]
    fn the_drain_leaves_the_command_alone_until_it_is_over(init) {
        let stage = init.as_pid_one().options(HOURS).options(["--drain", "700ms"]);
        let mut run = stage.reporter(&["--exit-on", "TERM=0"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.at_least(ms(700), "sent SIGTERM", "signal SIGTERM");
        run.timeline().saw_times("signal SIG", 1);
    }

    [PidNamespace]
    fn a_command_that_ends_itself_during_the_drain_by_a_signal_keeps_its_status(init) {
        let stage = init.as_pid_one().observed().options(HOURS).options(["--drain", "1h"]);
        let mut run = stage.shell("echo up; exec sleep 3600").start();
        run.wait_for("up");
        let command = run.child();
        run.signal(SIGTERM);
        run.wait_for_phase("drain");
        send(command, SIGKILL);
        // Killed by somebody else, and reported as it was.
        run.exits_with(137);
        run.never_in_phase("kill");
    }

    []
    fn strangers_are_left_alone(init) {
        // A shell of `kubectl exec` is no descendant; here a process beside the init, in its session and group.
        let mut stranger = std::process::Command::new("sleep").arg("3600").spawn().unwrap();
        let pid = stranger.id().cast_signed();
        let mut run = init.outside().options(["--grace", "500ms"]).reporter(&[]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_until_over();
        let alive = !is_dead(pid);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert!(alive, "a stranger was killed");
        run.exits_with(137);
    }

    [PidNamespace]
    fn an_idle_shutdown_with_everything_in_it_leaves_at_once(init) {
        let options = ["--drain", "1ms", "--pre-stop-timeout", "1h", "--stop-signal", "INT:1h,TERM:1h", "--leftover-grace", "1h"];
        let stage = init.as_pid_one().options(["--grace", "5h"]).options(options).shell_step("true");
        let mut run = stage.script("(true &); exec $reporter --exit-on INT=0").start();
        run.wait_for("ready");
        wait_until("the orphan is reaped", LIMIT, || children(run.pid()).len() == 1);
        run.signal(SIGTERM);
        run.exits_with(0);
    }

    [PidNamespace]
    fn what_is_below_another_init_is_told_by_that_one_alone(init) {
        let stage = init.as_pid_one().options(["--grace", "2s"]);
        let path = stage.init_path();
        // Its program has a session of its own, so our signal to the group reaches that init alone. The program
        // stays, so that two signals cannot melt into one.
        let script = "\"$init\" -- $reporter --name inner & trap 'exit 0' TERM; while :; do sleep 0.05; done";
        let mut run = stage.env("init", path).script(script).one_stream().start();
        run.wait_for("inner ready");
        run.signal(SIGTERM);
        run.wait();
        run.timeline().saw_times("inner signal SIGTERM", 1);
    }
}
