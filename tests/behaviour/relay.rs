//! Every signal that the init gets reaches the command: once, unchanged, in order, and only whom it should.

use std::collections::BTreeSet;
use std::time::Instant;

use nix::libc::{
    SIGABRT, SIGBUS, SIGCONT, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGQUIT, SIGSEGV, SIGSYS, SIGTERM, SIGTRAP, SIGTSTP,
    SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};

use crate::support::process::{is_dead, send, state, status_field, wait_until};
use crate::support::Need::{PidNamespace, Program, Root};
use crate::support::{LIMIT, Running, Stage, behaviours, catchable, name};

const FAULTS: [i32; 7] = [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP];
const STOPS: [i32; 3] = [SIGTSTP, SIGTTIN, SIGTTOU];

/// Catchable, and neither raised by faults nor used by terminals to suspend.
fn ordinary() -> Vec<i32> {
    catchable().into_iter().filter(|n| !FAULTS.contains(n) && !STOPS.contains(n)).collect()
}

/// These begin the shutdown, in which a further one is not relayed: only one of them in each run.
const STOP_REQUESTS: [i32; 2] = [SIGINT, SIGTERM];

/// Splits signals into what one run may get.
fn runs(signals: &[i32]) -> Vec<Vec<i32>> {
    let (stops, others): (Vec<i32>, Vec<i32>) = signals.iter().partition(|n| STOP_REQUESTS.contains(n));
    let mut runs = vec![others];
    runs.extend(stops.into_iter().map(|stop| vec![stop]));
    runs
}

/// In each run every signal arrives once, and nothing else does.
fn each_arrives_once(stage: impl Fn() -> Stage, signals: &[i32]) {
    for signals in runs(signals) {
        arrive_once(stage(), &signals);
    }
}

/// Sends each, waits for each, and asserts that nothing more came than that.
fn arrive_once(stage: Stage, signals: &[i32]) {
    let run = stage.reporter(&[]).start();
    run.wait_for("ready");
    for &signal in signals {
        run.signal(signal);
        run.wait_for(&format!("signal {} ", name(signal)));
    }
    end(&run);
    for &signal in signals {
        run.timeline().saw_times(&format!("signal {} ", name(signal)), 1);
    }
    let wanted: BTreeSet<_> = signals.iter().map(|&signal| name(signal)).collect();
    for line in run.timeline().text("stdout").lines() {
        if let Some(seen) = line.strip_prefix("signal ") {
            let seen = seen.split(' ').next().unwrap_or_default();
            assert!(wanted.contains(seen) || seen == "SIGRTMIN+7", "saw {seen}\n{}", run.timeline().picture());
        }
    }
}

/// Everything sent before has arrived once this one has: it is the last that the kernel hands out.
fn end(run: &Running) {
    run.signal(41);
    run.wait_for("signal SIGRTMIN+7 ");
}

/// Rewrites each to the next, so that all are still different; sends each and expects its rewriting.
fn each_arrives_rewritten(stage: impl Fn() -> Stage, signals: &[i32]) {
    for signals in runs(signals) {
        let next = signals.iter().cycle().skip(1);
        let rules: Vec<(i32, i32)> = match signals.as_slice() {
            [only] => vec![(*only, SIGUSR1)],
            _ => signals.iter().zip(next).map(|(&from, &to)| (from, to)).collect(),
        };
        arrive_rewritten(stage(), &rules);
    }
}

fn arrive_rewritten(stage: Stage, rules: &[(i32, i32)]) {
    let stage = rules.iter().fold(stage, |stage, &(from, to)| stage.rewrite(from, to));
    let run = stage.reporter(&[]).start();
    run.wait_for("ready");
    for &(from, to) in rules {
        run.signal(from);
        run.wait_for(&format!("signal {} ", name(to)));
    }
    end(&run);
    for &(_, to) in rules {
        run.timeline().saw_times(&format!("signal {} ", name(to)), 1);
    }
}

fn none_arrives_when_dropped(stage: Stage, signals: &[i32]) {
    let stage = signals.iter().fold(stage, |stage, &from| stage.rewrite(from, 0));
    let run = stage.reporter(&[]).start();
    run.wait_for("ready");
    for &signal in signals {
        run.signal(signal);
    }
    end(&run);
    run.timeline().saw_times("signal ", 1);
}

/// A helper in the command's group, started first, and then the command itself.
const WITH_HELPER: &str = "$reporter --name helper & exec $reporter --name main";

behaviours! {
    [PidNamespace]
    fn every_ordinary_signal_reaches_the_child_once(init) {
        each_arrives_once(|| init.as_pid_one().group(), &ordinary());
    }

    [PidNamespace]
    fn every_ordinary_signal_reaches_a_single_child_once(init) {
        each_arrives_once(|| init.as_pid_one().single_child(), &ordinary());
    }

    [PidNamespace]
    fn a_fault_signal_sent_from_outside_reaches_the_child_once(init) {
        each_arrives_once(|| init.as_pid_one().group(), &FAULTS);
        each_arrives_once(|| init.as_pid_one().single_child(), &FAULTS);
    }

    []
    fn a_fault_signal_reaches_the_child_when_we_are_an_ordinary_process(init) {
        each_arrives_once(|| init.outside().group(), &FAULTS);
    }

    []
    fn every_ordinary_signal_reaches_the_child_when_we_are_an_ordinary_process(init) {
        each_arrives_once(|| init.outside().group(), &ordinary());
    }

    [PidNamespace]
    fn a_suspending_signal_reaches_a_single_child_unchanged(init) {
        each_arrives_once(|| init.as_pid_one().single_child(), &STOPS);
    }

    [PidNamespace]
    fn every_signal_can_be_rewritten(init) {
        each_arrives_rewritten(|| init.as_pid_one().group(), &catchable());
    }

    [PidNamespace]
    fn every_signal_can_be_rewritten_for_a_single_child(init) {
        each_arrives_rewritten(|| init.as_pid_one().single_child(), &catchable());
    }

    [PidNamespace]
    fn every_signal_can_be_dropped(init) {
        none_arrives_when_dropped(init.as_pid_one().group(), &catchable());
    }

    [PidNamespace]
    fn every_signal_can_be_dropped_for_a_single_child(init) {
        none_arrives_when_dropped(init.as_pid_one().single_child(), &catchable());
    }

    [PidNamespace]
    fn rewriting_takes_names_and_real_time_signals(init) {
        let rules = ["-r", "TERM:QUIT", "--rewrite", "SIGHUP:USR1", "--rewrite=RTMIN+1:RTMIN+2", "-r", "RTMIN+3:0"];
        let run = init.as_pid_one().options(rules).reporter(&[]).start();
        run.wait_for("ready");
        for (sent, seen) in [(SIGTERM, "SIGQUIT"), (SIGHUP, "SIGUSR1"), (35, "SIGRTMIN+2")] {
            run.signal(sent);
            run.wait_for(&format!("signal {seen} "));
        }
        run.signal(37);
        end(&run);
        run.timeline().saw_times("signal ", 4);
    }

    [PidNamespace]
    fn a_rewritten_signal_is_not_rewritten_again(init) {
        let stage = init.as_pid_one().rewrite(SIGTERM, SIGQUIT).rewrite(SIGQUIT, SIGUSR1);
        let run = stage.reporter(&[]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_for("signal SIGQUIT ");
        end(&run);
        run.timeline().never_saw("signal SIGUSR1 ");
    }

    [PidNamespace]
    fn the_whole_group_gets_the_signal(init) {
        let run = init.as_pid_one().group().shell(WITH_HELPER).start();
        run.wait_for("helper ready");
        run.wait_for("main ready");
        for signal in [SIGTERM, SIGHUP, SIGUSR1, SIGWINCH] {
            run.signal(signal);
            run.wait_for(&format!("helper signal {} ", name(signal)));
            run.wait_for(&format!("main signal {} ", name(signal)));
        }
    }

    [PidNamespace]
    fn only_the_direct_child_gets_the_signal_with_single_child(init) {
        let run = init.as_pid_one().single_child().shell(WITH_HELPER).start();
        run.wait_for("helper ready");
        run.wait_for("main ready");
        for signal in [SIGTERM, SIGHUP, SIGUSR1, SIGWINCH] {
            run.signal(signal);
            run.wait_for(&format!("main signal {} ", name(signal)));
        }
        // The helper is awake: what was to come to it would have come before this.
        let helper = run.descendants().into_iter().find(|&pid| pid != run.child()).unwrap();
        send(helper, SIGUSR2);
        run.wait_for("helper signal SIGUSR2 ");
        run.timeline().saw_times("helper signal ", 1);
    }

    [PidNamespace]
    fn the_child_leads_a_session_of_its_own(init) {
        let run = init.as_pid_one().group().reporter(&[]).start();
        let ready = run.wait_for("ready");
        let pid = ready.split_whitespace().find_map(|word| word.strip_prefix("pid=")).unwrap();
        assert!(ready.ends_with(&format!("pgid={pid} sid={pid}")), "{ready}");
    }

    []
    fn a_single_child_stays_in_our_group_and_session(init) {
        let run = init.outside().single_child().reporter(&[]).start();
        let ready = run.wait_for("ready");
        let alone = init.outside().without_init().reporter(&[]).start();
        let alone = alone.wait_for("ready");
        let after_pid = |line: &str| line.split_once(" pgid=").unwrap().1.to_owned();
        assert_eq!(after_pid(&ready), after_pid(&alone));
    }

    [PidNamespace]
    fn a_real_time_signal_keeps_its_value(init) {
        let run = init.as_pid_one().group().reporter(&[]).start();
        run.wait_for("ready");
        for signal in 34..=64 {
            let value = usize::try_from(signal).unwrap() * 1000;
            run.queue(signal, value);
            let line = run.wait_for(&format!("signal {} ", name(signal)));
            assert!(line.contains("code=SI_QUEUE") && line.ends_with(&format!(" value={value}")), "{line}");
        }
    }

    [PidNamespace]
    fn a_real_time_signal_keeps_its_value_for_a_single_child(init) {
        let run = init.as_pid_one().single_child().reporter(&[]).start();
        run.wait_for("ready");
        run.queue(40, 7);
        let line = run.wait_for("signal SIGRTMIN+6 ");
        assert!(line.ends_with(" value=7"), "{line}");
    }

    [PidNamespace]
    fn real_time_signals_without_a_value_all_arrive(init) {
        let run = init.as_pid_one().group().reporter(&[]).start();
        run.wait_for("ready");
        for signal in 34..=64 {
            for count in 1..=3 {
                run.signal(signal);
                run.timeline().wait_for_count(&format!("signal {} ", name(signal)), count);
            }
        }
    }

    [PidNamespace]
    fn queued_real_time_signals_arrive_in_their_order(init) {
        let run = init.as_pid_one().group().reporter(&[]).start();
        run.wait_for("ready");
        for value in 1..=200 {
            run.queue(36, value);
        }
        run.timeline().wait_for_count("signal SIGRTMIN+2 ", 200);
        let values: Vec<usize> = run.timeline().text("stdout").lines()
            .filter_map(|line| line.rsplit_once("value=")?.1.parse().ok())
            .collect();
        assert_eq!(values, (1..=200).collect::<Vec<_>>());
    }

    [PidNamespace]
    fn a_suspending_signal_stops_the_session_and_a_cont_wakes_it(init) {
        for signal in STOPS {
            let run = init.as_pid_one().group().shell(WITH_HELPER).start();
            run.wait_for("helper ready");
            run.wait_for("main ready");
            run.signal(signal);
            wait_until("all of the group is stopped", LIMIT, || {
                run.descendants().iter().all(|&pid| state(pid) == Some('T'))
            });
            run.timeline().never_saw(&format!("signal {} ", name(signal)));
            wait_until("a cont has woken the command", LIMIT, || {
                run.signal(SIGCONT);
                run.timeline().count("main signal SIGCONT ") > 0
            });
            run.wait_for("helper signal SIGCONT ");
            run.signal(SIGTERM);
            run.wait_for("main signal SIGTERM ");
        }
    }

    [PidNamespace]
    fn a_cont_right_after_a_suspension_is_not_lost_by_pid_1(init) {
        // A stop that PID 1 sends to itself has no effect but to drop a pending SIGCONT.
        let run = init.as_pid_one().reporter(&[]).start();
        run.wait_for("ready");
        let child = run.child();
        for count in 1..=2000 {
            run.signal(SIGTSTP);
            // As soon as can be: the pause of `wait_until` would be longer than the moment in question.
            let begin = Instant::now();
            while state(child) != Some('T') && begin.elapsed() < LIMIT / 3 {}
            assert_eq!(state(child), Some('T'), "{}", run.timeline().picture());
            run.signal(SIGCONT);
            run.timeline().wait_for_count("signal SIGCONT ", count);
        }
    }

    []
    fn we_suspend_ourselves_with_the_session_when_we_are_not_pid_1(init) {
        for signal in STOPS {
            let run = init.outside().group().reporter(&[]).start();
            run.wait_for("ready");
            run.signal(signal);
            wait_until("init and child are stopped", LIMIT, || {
                [run.pid(), run.child()].iter().all(|&pid| state(pid) == Some('T'))
            });
            run.signal(SIGCONT);
            run.wait_for("signal SIGCONT ");
            wait_until("the init goes on", LIMIT, || state(run.pid()) == Some('S'));
            run.timeline().saw_times("signal ", 1);
        }
    }

    []
    fn a_suspending_signal_rewritten_to_another_still_suspends_us(init) {
        let run = init.outside().rewrite(SIGTSTP, SIGUSR1).reporter(&[]).start();
        run.wait_for("ready");
        run.signal(SIGTSTP);
        run.wait_for("signal SIGUSR1 ");
        wait_until("the init is stopped", LIMIT, || state(run.pid()) == Some('T'));
        assert_ne!(state(run.child()), Some('T'));
        run.signal(SIGCONT);
        run.wait_for("signal SIGCONT ");
    }

    []
    fn signals_that_came_while_we_were_stopped_arrive_afterwards(init) {
        let run = init.outside().reporter(&[]).start();
        run.wait_for("ready");
        send(run.pid(), nix::libc::SIGSTOP);
        wait_until("the init is stopped", LIMIT, || state(run.pid()) == Some('T'));
        run.signal(SIGTERM);
        run.signal(SIGUSR1);
        run.signal(SIGCONT);
        run.wait_for("signal SIGTERM ");
        run.wait_for("signal SIGUSR1 ");
        run.wait_for("signal SIGCONT ");
    }

    [PidNamespace]
    fn thousands_of_signals_do_not_end_us(init) {
        let mut run = init.as_pid_one().reporter(&["--exit-on", "TERM=3"]).start();
        run.wait_for("ready");
        for _ in 0..5000 {
            send(run.pid(), SIGUSR1);
        }
        run.wait_for("signal SIGUSR1 ");
        run.signal(SIGTERM);
        run.exits_with(3);
    }

    [Root, Program("setpriv")]
    fn a_signal_that_may_not_be_sent_is_never_our_end(init) {
        // As in a pod with all capabilities dropped, whose command changes its user.
        let run = init.outside()
            .run_by(&["setpriv", "--bounding-set", "-kill", "--inh-caps", "-kill"])
            .command(["setpriv", "--reuid", "65534", "--clear-groups", "sleep", "1000"])
            .start();
        let child = run.child();
        wait_until("the command has another user", LIMIT, || {
            status_field(child, "Uid").is_some_and(|users| users.starts_with("65534"))
        });
        run.signal(SIGUSR1);
        run.signal(SIGTERM);
        wait_until("the init has read its signals", LIMIT, || {
            status_field(run.pid(), "ShdPnd").is_some_and(|set| set.trim_start_matches('0').is_empty())
        });
        assert!(!run.is_over(), "{}", run.timeline().picture());
        assert!(!is_dead(child), "{}", run.timeline().picture());
    }
}
