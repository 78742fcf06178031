//! A signal that comes while the command is being made reaches it afterwards. The window is a few
//! microseconds wide; here strace holds the new process in it.

use nix::libc::{SIGHUP, SIGTERM, SIGUSR2};

use crate::support::Need::{PidNamespace, Program};
use crate::support::process::{children, command_line, send, wait_until};
use crate::support::{LIMIT, Running, Stage, behaviours};

/// Starts the stage's init under strace, which delays `call`; returns as soon as the init has a child.
fn in_the_window(stage: Stage, call: &str) -> (Running, i32) {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:delay_enter=700000");
    let strace = ["strace", "-f", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let run = stage.run_by(&strace).reporter(&[]).start();
    // strace forks more than once while it starts; the init is the child that has a child of its own.
    let mut init = 0;
    wait_until("the init has a child", LIMIT, || {
        let found = children(run.pid()).into_iter().find(|&pid| !children(pid).is_empty());
        init = found.unwrap_or(0);
        found.is_some()
    });
    (run, init)
}

fn arrives(stage: Stage, call: &str, signal: i32) {
    // The command starts with these blocked, as the init did: it cannot die of them before it can report.
    let stage = stage.blocked(signal).blocked(SIGUSR2);
    let (run, init) = in_the_window(stage, call);
    run.timeline().note("window open");
    send(init, signal);
    let name = crate::support::name(signal);
    run.wait_for("ready");
    run.wait_for(&format!("signal {name} "));
    run.timeline().assert_order(["window open", "ready", &format!("signal {name} ")]);
    // A second one proves that the first was not merely late, and did not come twice.
    send(init, SIGUSR2);
    run.wait_for("signal SIGUSR2 ");
    run.timeline().saw_times("signal ", 2);
}

behaviours! {
    [Program("strace")]
    fn a_term_that_arrives_before_the_setsid_reaches_the_child(init) {
        arrives(init.outside().group(), "setsid", SIGTERM);
    }

    [Program("strace"), PidNamespace]
    fn a_term_that_arrives_before_the_setsid_reaches_the_child_in_a_namespace(init) {
        arrives(init.as_pid_one().group(), "setsid", SIGTERM);
    }

    [Program("strace")]
    fn a_hang_up_that_arrives_before_the_setsid_reaches_the_child(init) {
        arrives(init.outside().group(), "setsid", SIGHUP);
    }

    [Program("strace")]
    fn a_real_time_signal_that_arrives_before_the_setsid_reaches_the_child(init) {
        arrives(init.outside().group(), "setsid", 40);
    }

    [Program("strace")]
    fn a_term_that_arrives_before_the_exec_reaches_the_command(init) {
        arrives(init.outside().group(), "execve", SIGTERM);
    }

    [PidNamespace]
    fn a_term_sent_as_soon_as_there_is_a_child_reaches_the_command(init) {
        // Without a held window: many tries find many different moments.
        for _ in 0..40 {
            let run = init.as_pid_one().group().reporter(&["--exit-on", "TERM=5"]).start();
            wait_until("the init is itself", LIMIT, || {
                !command_line(run.pid()).contains("--pid-namespace")
                    && !children(run.pid()).is_empty()
            });
            run.signal(SIGTERM);
            let mut run = run;
            let ending = run.wait();
            // Killed in its first instructions it cannot have told us, but the signal did arrive.
            assert!(
                [5, 128 + SIGTERM].contains(&ending.code()),
                "{ending:?}\n{}",
                run.timeline().picture()
            );
        }
    }
}
