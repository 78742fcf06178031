//! The steps of the pre-stop chain: their order, their world, their end, and what is built in.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use nix::libc::{SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGUSR1};

use crate::support::Need::PidNamespace;
use crate::support::process::{children, is_dead, send, state, wait_until};
use crate::support::server::{Server, listener, port_of};
use crate::support::shutdown::{Gate, HOURS, let_pass};
use crate::support::{LIMIT, Running, Stage, Subject, TemporaryDirectory, behaviours, example};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The words that run a reporter as a step, without a shell.
fn reporter_step(options: &str) -> String {
    format!("'{}' {options}", example("signal_reporter").display())
}

/// Stops a command that is content with it, and waits for the end.
fn stop(stage: Stage) -> Running {
    let mut run = stage.reporter(&["--exit-on", "TERM=0", "--exit-on", "INT=0"]).start();
    run.wait_for("ready");
    run.signal(SIGTERM);
    run.exits_with(0);
    run.timeline().assert_order(["sent SIGTERM", "signal SIGTERM", "init over"]);
    run
}

/// Says whether the step succeeded: only then the next one runs.
fn succeeds(stage: Stage, step: &str) -> (Running, bool) {
    let stage = stage.options(["--pre-stop-failure", "skip"]).step(step).shell_step("echo next step");
    let run = stop(stage);
    let success = run.timeline().count("next step") == 1;
    (run, success)
}

/// Says whether `@http` takes what this server answers for a success.
fn http(init: Subject, answer: impl FnOnce(TcpStream) + Send + 'static) -> bool {
    let server = Server::new(answer);
    let step = format!("@http GET http://127.0.0.1:{}/quit", server.port());
    let (_run, success) = succeeds(init.as_pid_one().options(HOURS), &step);
    assert!(server.request().starts_with("GET /quit HTTP/1."));
    success
}

/// The value behind `key=` in a line.
fn value(line: &str, key: &str) -> String {
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {key} in {line:?}")).to_owned()
}

/// A connection to a port that still listens: the listener, the port, the client's end, the server's end.
fn connection() -> (TcpListener, u16, TcpStream, TcpStream) {
    let listener = listener();
    let port = port_of(&listener);
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let (server, _) = listener.accept().unwrap();
    (listener, port, client, server)
}

/// The command gets its stop signal only when these ends are closed.
#[track_caller]
fn waits_until_closed<T>(init: Subject, step: &str, ends: T) {
    let stage = init.as_pid_one().observed().options(HOURS).step(step);
    let mut run = stage.reporter(&["--exit-on", "TERM=0"]).start();
    run.wait_for("ready");
    run.signal(SIGTERM);
    run.wait_for_phase("pre-stop");
    // A step that does not wait is over by then, and the command has its stop signal.
    let_pass(ms(300));
    run.timeline().note("closed now");
    drop(ends);
    run.exits_with(0);
    run.timeline().assert_order(["sent SIGTERM", "closed now", "signal SIGTERM", "init over"]);
}

behaviours! {
    [PidNamespace]
    fn steps_run_one_after_the_other(init) {
        let stage = init.as_pid_one().options(HOURS);
        let stage = stage.shell_step("echo a begins; sleep 0.1; echo a ends");
        let stage = stage.shell_step("echo b begins; sleep 0.1; echo b ends");
        let run = stop(stage.shell_step("echo c begins; sleep 0.1; echo c ends"));
        run.timeline().assert_order([
            "sent SIGTERM", "a begins", "a ends", "b begins", "b ends", "c begins", "c ends", "signal SIGTERM",
        ]);
    }

    [PidNamespace]
    fn steps_given_by_the_environment_run_too(init) {
        let run = stop(init.as_pid_one().options(HOURS).env("GRACE_INIT_PRE_STOP", "echo from there\n  # not this one there\n\necho and there # nor this there"));
        assert_eq!(run.timeline().text("stdout").matches("there\n").count(), 2, "{}", run.timeline().picture());
    }

    [PidNamespace]
    fn a_step_is_run_without_a_shell(init) {
        let run = stop(init.as_pid_one().options(HOURS).step("printf '%s,' \"a b\" '$HOME' 'c  d' '*' 'a|b' \"; c\""));
        assert!(run.timeline().text("stdout").contains("a b,$HOME,c  d,*,a|b,; c,"), "{}", run.timeline().picture());
    }

    [PidNamespace]
    fn a_steps_variables_are_replaced_one_word_each(init) {
        let step = "printf '%s,' $MAINPID ${GRACE_INIT_SIGNAL} \"$two words\" x$two.y $NOTHING $$two $GRACE_INIT_GRACE";
        let stage = init.as_pid_one().env("two", "a  b").env("GRACE_INIT_GRACE", "1h").step(step);
        let run = stop(stage);
        let expected = "2,SIGTERM,a  b words,xa  b.y,,$two,,";
        assert!(run.timeline().text("stdout").contains(expected), "{}", run.timeline().picture());
    }

    [PidNamespace]
    fn a_step_finds_its_facts_in_the_environment(init) {
        let tell = "echo facts main=$MAINPID signal=$GRACE_INIT_SIGNAL step=$GRACE_INIT_STEP left=$GRACE_INIT_REMAINING_MS mine=$mine.";
        let stage = init.as_pid_one().options(["--grace", "100s", "--reserve", "10s", "--drain", "100ms"]).env("mine", "7");
        let mut run = stage.shell_step(tell).shell_step("sleep 0.2").shell_step(tell).reporter(&["--exit-on", "INT=0"]).start();
        let ready = run.wait_for("ready");
        run.signal(SIGINT);
        run.exits_with(0);
        let facts: Vec<String> =
            run.timeline().lines().into_iter().map(|line| line.text).filter(|text| text.starts_with("facts ")).collect();
        assert_eq!(facts.len(), 2, "{}", run.timeline().picture());
        let left = |facts: &str| value(facts, "left").parse::<u64>().unwrap();
        for (number, facts) in ["1", "3"].iter().zip(&facts) {
            assert_eq!(value(facts, "main"), value(&ready, "pid"));
            assert_eq!(value(facts, "signal").trim_start_matches("SIG"), "INT");
            assert_eq!(value(facts, "step"), *number);
            assert_eq!(value(facts, "mine"), "7.");
        }
        assert!(left(&facts[0]) <= 89_900 && left(&facts[0]) > 50_000, "{facts:?}");
        assert!(left(&facts[1]) + 200 <= left(&facts[0]), "{facts:?}");
    }

    [PidNamespace]
    fn without_a_deadline_a_step_is_told_of_none(init) {
        let stage = init.as_pid_one().options(["--grace", "none"]);
        let run = stop(stage.shell_step("echo left=${GRACE_INIT_REMAINING_MS-none}"));
        run.timeline().assert_order(["left=none", "signal SIGTERM"]);
    }

    [PidNamespace]
    fn the_command_sees_nothing_of_the_steps_variables(init) {
        let tell = "echo main=${MAINPID-none} signal=${GRACE_INIT_SIGNAL-none} step=${GRACE_INIT_STEP-none}";
        let mut run = init.as_pid_one().options(HOURS).shell_step("true").shell(tell).start();
        run.exits_with(0);
        run.timeline().saw_times("main=none signal=none step=none", 1);
    }

    [PidNamespace]
    fn a_step_works_where_the_command_does_and_reads_nothing(init) {
        let directory = TemporaryDirectory::new();
        let input = directory.file("input", 0o600, "for the command\n");
        let stage = init.as_pid_one().options(HOURS).directory(directory.path()).stdin(&input);
        let run = stop(stage.shell_step("pwd; cat; echo end of input"));
        let place = directory.path().canonicalize().unwrap();
        run.timeline().assert_order([place.to_str().unwrap(), "end of input", "signal SIGTERM"]);
        run.timeline().never_saw("for the command");
    }

    [PidNamespace]
    fn what_a_step_prints_appears_in_our_output(init) {
        let run = stop(init.as_pid_one().options(HOURS).shell_step("echo for stdout; echo for stderr >&2"));
        let timeline = run.timeline();
        assert!(timeline.text("stdout").contains("for stdout\n"), "{}", timeline.picture());
        assert!(timeline.text("stderr").contains("for stderr\n"), "{}", timeline.picture());
        timeline.assert_order(["sent SIGTERM", "for stdout", "signal SIGTERM"]);
        timeline.assert_order(["sent SIGTERM", "for stderr", "init over"]);
    }

    [PidNamespace]
    fn a_step_leads_a_group_of_its_own(init) {
        let stage = init.as_pid_one().options(HOURS).step(&reporter_step("--name step --raise 9"));
        let mut run = stage.reporter(&["--name", "front", "--exit-on", "TERM=0"]).start();
        let front = run.wait_for("front ready");
        run.signal(SIGTERM);
        run.exits_with(0);
        let step = run.wait_for("step ready");
        assert_eq!(value(&step, "pgid"), value(&step, "pid"));
        assert_ne!(value(&step, "pgid"), value(&front, "pgid"));
    }

    [PidNamespace]
    fn a_step_gets_the_commands_descriptors_and_none_of_ours(init) {
        let world = example("world");
        let step = format!("'{}'", world.display());
        let mut run = init.as_pid_one().options(HOURS).step(&step).command([world]).command(["wait"]).start();
        run.wait_for("done");
        run.signal(SIGTERM);
        run.exits_with(128 + SIGTERM);
        let text = run.timeline().text("stdout");
        let fds = |world: &str| -> Vec<String> {
            world.lines().filter(|line| line.starts_with("fd ")).map(str::to_owned).collect()
        };
        let (command, step) = text.split_once("done\n").unwrap();
        assert!(fds(command).len() >= 3, "{command}");
        assert_eq!(fds(command), fds(step));
    }

    [PidNamespace]
    fn a_step_gets_the_signals_as_we_got_them(init) {
        let stage = init.as_pid_one().options(HOURS).env("world", example("world")).ignored(SIGUSR1).blocked(SIGHUP);
        let run = stop(stage.shell_step("exec $world"));
        // One bit for each signal, the first is signal 1.
        run.timeline().assert_order(["blocked 0000000000000001", "ignored 10", "signal SIGTERM"]);
    }

    [PidNamespace]
    fn a_built_in_step_holds_none_of_our_descriptors(init) {
        let stage = init.as_pid_one().observed().options(HOURS).step("@sleep 1h");
        let mut run = stage.reporter(&["--exit-on", "INT=0"]).start();
        run.wait_for("ready");
        let command = run.child();
        run.signal(SIGINT);
        run.wait_for_phase("pre-stop");
        let mut step = 0;
        wait_until("the step is there", LIMIT, || {
            step = children(run.pid()).into_iter().find(|&pid| pid != command).unwrap_or(0);
            step != 0
        });
        let held = || -> Vec<String> {
            let fds = std::fs::read_dir(format!("/proc/{step}/fd")).into_iter().flatten().flatten();
            fds.filter_map(|fd| Some(std::fs::read_link(fd.path()).ok()?.to_string_lossy().into_owned()))
                .filter(|target| target.contains("signalfd") || target.starts_with("socket:"))
                .collect()
        };
        // It may still be on its way there.
        wait_until("the step has let go of our descriptors", LIMIT, || held().is_empty());
        send(step, SIGKILL);
        run.exits_with(0);
    }

    [PidNamespace]
    fn what_is_relayed_to_the_command_does_not_reach_a_step(init) {
        let gate = Gate::new();
        let stage = init.as_pid_one().options(HOURS).gate(&gate);
        let stage = stage.shell_step("$reporter --name step & read line < $gate; kill -9 $!");
        let mut run = stage.shell("exec $reporter --name front --exit-on TERM=0").start();
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.wait_for("step ready");
        run.signal(SIGHUP);
        run.wait_for("front signal SIGHUP");
        gate.open();
        run.exits_with(0);
        run.timeline().never_saw("step signal");
    }

    [PidNamespace]
    fn a_step_that_leaves_a_daemon_does_not_hold_the_chain(init) {
        let gate = Gate::new();
        let daemon = "$hide orphan session $reporter --name daemon --exit-on TERM=0; echo step ends";
        let stage = init.as_pid_one().options(HOURS).gate(&gate).shell_step(daemon);
        let stage = stage.shell_step("echo next step; read line < $gate");
        let mut run = stage.script("exec $reporter --name front --exit-on TERM=0").start();
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.wait_for("next step");
        run.wait_for("daemon ready");
        gate.open();
        run.exits_with(0);
        // It belongs to all that has to go, and has its own TERM.
        run.timeline().assert_order([
            "sent SIGTERM", "step ends", "next step", "front signal SIGTERM", "daemon signal SIGTERM", "init over",
        ]);
    }

    [PidNamespace]
    fn an_overdue_step_gets_a_term_and_then_is_killed_with_its_whole_tree(init) {
        let stage = init.as_pid_one().options(HOURS).options(["--pre-stop-timeout", "300ms"]);
        let step = "$hide session $reporter --name far & $reporter --name near & exec $reporter --name step";
        let stage = stage.shell_step(step).shell_step("echo next step");
        let mut run = stage.script("exec $reporter --name front --exit-on USR1=3").start();
        run.wait_for("front ready");
        run.signal(SIGTERM);
        for name in ["far", "near", "step"] {
            run.wait_for(&format!("{name} ready"));
        }
        let family: Vec<i32> = ["--name far", "--name near", "--name step"].map(|name| run.process_with(name)).into();
        run.wait_for("next step");
        wait_until("the step's tree is dead", LIMIT, || family.iter().all(|&pid| is_dead(pid)));
        run.wait_for("front signal SIGTERM");
        run.timeline().note("command lives");
        run.signal(SIGUSR1);
        run.exits_with(3);
        run.timeline().assert_order(["step signal SIGTERM", "next step", "front signal SIGTERM", "command lives", "init over"]);
        run.timeline().assert_order(["near signal SIGTERM", "next step"]);
        run.at_least(ms(300), "sent SIGTERM", "step signal SIGTERM");
        run.at_least(ms(800), "sent SIGTERM", "next step");
    }

    [PidNamespace]
    fn what_an_overdue_step_leaves_in_its_tree_is_killed_though_the_step_itself_gave_in(init) {
        let stage = init.as_pid_one().options(HOURS).options(["--pre-stop-timeout", "300ms"]);
        let step = "$hide session $reporter --name far & $reporter --name near & exec sleep 3600";
        let stage = stage.shell_step(step).shell_step("echo next step");
        let mut run = stage.script("exec $reporter --name front --exit-on USR1=3").start();
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.wait_for("far ready");
        run.wait_for("near ready");
        let (far, near) = (run.process_with("--name far"), run.process_with("--name near"));
        run.wait_for("near signal SIGTERM");
        run.wait_for("next step");
        run.wait_for("front signal SIGTERM");
        wait_until("the step's tree is dead", LIMIT, || is_dead(far) && is_dead(near));
        run.timeline().note("command lives");
        run.signal(SIGUSR1);
        run.exits_with(3);
        run.timeline().assert_order(["near signal SIGTERM", "command lives", "init over"]);
    }

    [PidNamespace]
    fn an_overdue_step_that_ends_on_its_term_is_not_waited_for_longer(init) {
        let stage = init.as_pid_one().options(HOURS).options(["--pre-stop-timeout", "300ms"]);
        let step = "trap \"echo step gives in; exit 0\" TERM; while :; do sleep 0.05; done";
        let run = stop(stage.shell_step(step).shell_step("echo next step"));
        run.timeline().assert_order(["sent SIGTERM", "step gives in", "next step", "signal SIGTERM"]);
        run.at_least(ms(300), "sent SIGTERM", "step gives in");
    }

    [PidNamespace]
    fn a_failed_step_does_not_keep_the_others_from_running(init) {
        let stage = init.as_pid_one().options(HOURS);
        let stage = stage.shell_step("echo first; exit 3").shell_step("echo second; kill -9 $$");
        let run = stop(stage.shell_step("echo third"));
        run.timeline().assert_order(["sent SIGTERM", "first", "second", "third", "signal SIGTERM"]);
    }

    [PidNamespace]
    fn a_failed_step_cuts_the_chain_where_that_is_wanted(init) {
        for failing in ["echo first; exit 3", "echo first; kill -9 $$"] {
            let stage = init.as_pid_one().options(HOURS).options(["--pre-stop-failure", "skip"]);
            let run = stop(stage.shell_step(failing).shell_step("echo second").shell_step("echo third"));
            run.timeline().assert_order(["first", "signal SIGTERM"]);
            assert_eq!(run.timeline().text("stdout").matches("second").count(), 0);
            assert_eq!(run.timeline().text("stdout").matches("third").count(), 0);
        }
    }

    [PidNamespace]
    fn an_overdue_step_cuts_the_chain_where_that_is_wanted(init) {
        let options = ["--pre-stop-failure", "skip", "--pre-stop-timeout", "200ms"];
        let stage = init.as_pid_one().options(HOURS).options(options);
        // That it ends well on its TERM makes it no less overdue.
        let step = "trap \"exit 0\" TERM; while :; do sleep 0.05; done";
        let run = stop(stage.shell_step(step).shell_step("echo second runs"));
        run.timeline().never_saw("second runs");
    }

    [PidNamespace]
    fn a_step_that_cannot_start_has_failed_and_the_shutdown_goes_on(init) {
        let directory = TemporaryDirectory::new();
        let plain = directory.file("plain", 0o644, "text");
        let script = directory.file("script", 0o755, "#!/no/such/interpreter\n");
        for broken in ["/no/such/program", "no-such-program", plain.to_str().unwrap(), script.to_str().unwrap()] {
            let stage = init.as_pid_one().options(HOURS);
            let run = stop(stage.step(broken).shell_step("echo second runs"));
            run.timeline().assert_order(["sent SIGTERM", "second runs", "signal SIGTERM"]);
            let (run, success) = succeeds(init.as_pid_one().options(HOURS), broken);
            assert!(!success, "{}", run.timeline().picture());
        }
    }

    [PidNamespace]
    fn relaying_and_reaping_go_on_while_a_step_runs(init) {
        let (step_gate, work_gate) = (Gate::new(), Gate::new());
        let stage = init.as_pid_one().options(HOURS).gate(&step_gate).env("work", work_gate.path());
        let stage = stage.shell_step("echo step begins; read line < $gate; echo step ends");
        let script = "(read line < $work; $orphans 300) & exec $reporter --name front --exit-on TERM=0";
        let mut run = stage.shell(script).start();
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.wait_for("step begins");
        work_gate.open();
        run.wait_for("orphans made=300");
        wait_until("all orphans are reaped", LIMIT, || {
            children(run.pid()).into_iter().all(|pid| state(pid) != Some('Z'))
        });
        for count in 1..=20 {
            run.signal(SIGUSR1);
            run.timeline().wait_for_count("front signal SIGUSR1", count);
        }
        run.timeline().note("relayed");
        step_gate.open();
        run.exits_with(0);
        run.timeline().assert_order(["step begins", "orphans made", "relayed", "step ends", "front signal SIGTERM", "init over"]);
    }

    [PidNamespace]
    fn a_sleep_is_built_in(init) {
        // No program is there to be found.
        let stage = init.as_pid_one().options(HOURS).step("@sleep 400ms").env("PATH", "/nowhere");
        let run = stop(stage);
        run.at_least(ms(400), "sent SIGTERM", "signal SIGTERM");
    }

    [PidNamespace]
    fn a_sleep_is_bounded_as_every_step_is(init) {
        // Only against a grace that is a guess: a told one refuses a sleep that cannot fit.
        let stage = init.as_pid_one().options(["--pre-stop-timeout", "300ms"]);
        let (run, success) = succeeds(stage, "@sleep 1h");
        assert!(!success, "{}", run.timeline().picture());
        run.at_least(ms(300), "sent SIGTERM", "signal SIGTERM");
    }

    [PidNamespace]
    fn waiting_for_a_file_is_built_in(init) {
        let directory = TemporaryDirectory::new();
        let file = directory.path().join("done");
        let step = format!("@wait-file {}", file.display());
        let stage = init.as_pid_one().observed().options(HOURS).step(&step);
        let mut run = stage.reporter(&["--exit-on", "TERM=0"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_for_phase("pre-stop");
        // A step that does not wait is over by then, and the command has its stop signal.
        let_pass(ms(300));
        run.timeline().note("done now");
        std::fs::write(&file, "").unwrap();
        run.exits_with(0);
        run.timeline().assert_order(["sent SIGTERM", "done now", "signal SIGTERM", "init over"]);
    }

    [PidNamespace]
    fn a_file_that_is_there_already_is_not_waited_for(init) {
        let directory = TemporaryDirectory::new();
        let file = directory.file("done", 0o600, "");
        let (run, success) = succeeds(init.as_pid_one().options(HOURS), &format!("@wait-file {}", file.display()));
        assert!(success, "{}", run.timeline().picture());
    }

    [PidNamespace]
    fn a_file_that_never_comes_is_given_up_in_time(init) {
        let stage = init.as_pid_one().options(HOURS).options(["--pre-stop-timeout", "300ms"]);
        let (run, success) = succeeds(stage, "@wait-file /no/such/file");
        assert!(!success, "{}", run.timeline().picture());
        run.at_least(ms(300), "sent SIGTERM", "signal SIGTERM");
    }

    [PidNamespace]
    fn waiting_for_a_ports_last_connection_is_built_in(init) {
        let (_listener, port, client, server) = connection();
        waits_until_closed(init, &format!("@wait-port-idle {port}"), (client, server));
    }

    [PidNamespace]
    fn a_port_that_only_listens_is_idle(init) {
        let listener = listener();
        let step = format!("@wait-port-idle {}", port_of(&listener));
        let (run, success) = succeeds(init.as_pid_one().options(HOURS), &step);
        assert!(success, "{}", run.timeline().picture());
    }

    [PidNamespace]
    fn a_port_that_never_becomes_idle_is_given_up_in_time(init) {
        let (_listener, port, _client, _server) = connection();
        let stage = init.as_pid_one().options(HOURS).options(["--pre-stop-timeout", "300ms"]);
        let (run, success) = succeeds(stage, &format!("@wait-port-idle {port}"));
        assert!(!success, "{}", run.timeline().picture());
    }

    [PidNamespace]
    fn a_port_that_stays_busy_is_waited_for_no_longer_than_its_limit(init) {
        let (_listener, port, _client, _server) = connection();
        let (run, success) = succeeds(init.as_pid_one().options(HOURS), &format!("@wait-port-idle {port} 300ms"));
        assert!(success, "{}", run.timeline().picture());
        run.at_least(ms(300), "sent SIGTERM", "next step");
        run.timeline().assert_order([&format!("@wait-port-idle {port}: not idle after 300ms"), "init over"]);
    }

    [PidNamespace]
    fn a_connection_that_one_end_has_closed_keeps_its_port_busy(init) {
        let (_listener, port, client, server) = connection();
        // The server's end is in CLOSE_WAIT, and may still have an answer to send.
        drop(client);
        waits_until_closed(init, &format!("@wait-port-idle {port} 1h"), server);
    }

    [PidNamespace]
    fn waiting_for_an_http_answer_of_2xx_is_built_in(init) {
        let listener = listener();
        let port = port_of(&listener);
        let server = std::thread::spawn(move || {
            for answer in ["", "HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length > 0) {
                    request.extend(byte);
                }
                assert!(request.starts_with(b"GET /drained HTTP/1."));
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let step = format!("@wait-http http://127.0.0.1:{port}/drained");
        let (run, success) = succeeds(init.as_pid_one().options(HOURS), &step);
        assert!(success, "{}", run.timeline().picture());
        server.join().unwrap();
    }

    [PidNamespace]
    fn an_http_answer_that_never_comes_is_given_up_in_time(init) {
        let port = port_of(&listener());
        let stage = init.as_pid_one().options(HOURS).options(["--pre-stop-timeout", "300ms"]);
        let (run, success) = succeeds(stage, &format!("@wait-http http://127.0.0.1:{port}/"));
        assert!(!success, "{}", run.timeline().picture());
        run.at_least(ms(300), "sent SIGTERM", "signal SIGTERM");
    }

    [PidNamespace]
    fn programs_are_stopped_in_the_order_of_the_chain(init) {
        let stage = init.as_pid_one().options(HOURS).step("@stop front").step("@stop back").shell_step("echo next step");
        let script = "ln -s $reporter front; ln -s $reporter back; \
            ./back --name back --exit-on TERM=0 --linger 200ms & ./front --name front --linger 200ms & \
            exec $reporter --name main --exit-on TERM=0";
        let directory = TemporaryDirectory::new();
        let mut run = stage.directory(directory.path()).script(script).start();
        for name in ["front", "back", "main"] {
            run.wait_for(&format!("{name} ready"));
        }
        let (front, back) = (run.process_with("--name front"), run.process_with("--name back"));
        run.signal(SIGTERM);
        run.wait_for("back signal SIGTERM");
        assert!(is_dead(front));
        run.wait_for("next step");
        assert!(is_dead(back));
        run.exits_with(0);
        run.timeline().assert_order([
            "sent SIGTERM", "front signal SIGTERM", "back signal SIGTERM", "next step", "main signal SIGTERM", "init over",
        ]);
        run.timeline().saw_times("front signal SIGTERM", 1);
    }

    [PidNamespace]
    fn a_program_that_ignores_its_stop_is_killed_where_a_time_is_given(init) {
        let stage = init.as_pid_one().options(HOURS).step("@stop deaf 300ms").shell_step("echo next step");
        let script = "ln -s $reporter deaf; ./deaf --name deaf & exec $reporter --name main --exit-on TERM=0";
        let directory = TemporaryDirectory::new();
        let mut run = stage.directory(directory.path()).script(script).start();
        run.wait_for("deaf ready");
        run.wait_for("main ready");
        let deaf = run.process_with("--name deaf");
        run.signal(SIGTERM);
        run.wait_for("next step");
        assert!(is_dead(deaf));
        run.exits_with(0);
        run.timeline().assert_order(["deaf signal SIGTERM", "next step", "main signal SIGTERM"]);
        run.at_least(ms(300), "deaf signal SIGTERM", "next step");
    }

    [PidNamespace]
    fn stopping_by_our_own_name_ends_neither_the_init_nor_the_step(init) {
        let (run, success) = succeeds(init.as_pid_one().options(HOURS), "@stop grace-init");
        assert!(success, "{}", run.timeline().picture());
    }

    [PidNamespace]
    fn an_http_answer_of_200_is_a_success(init) {
        assert!(http(init, |mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }));
    }

    [PidNamespace]
    fn an_http_answer_of_204_is_a_success_though_the_connection_stays(init) {
        let (keep, kept) = std::sync::mpsc::channel();
        assert!(http(init, move |mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            let _ = keep.send(stream);
        }));
        drop(kept);
    }

    [PidNamespace]
    fn an_http_answer_that_comes_in_pieces_is_understood(init) {
        assert!(http(init, |mut stream| {
            for byte in b"HTTP/1.0 201 Created\r\n\r\n" {
                let _ = stream.write_all(&[*byte]);
            }
        }));
    }

    [PidNamespace]
    fn other_http_answers_are_failures(init) {
        for answer in [
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "HTTP/1.1 500 Internal Server Error\r\n\r\n",
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
        ] {
            assert!(!http(init, move |mut stream| {
                let _ = stream.write_all(answer.as_bytes());
            }), "{answer:?}");
        }
    }

    [PidNamespace]
    fn garbage_in_place_of_an_http_answer_is_a_failure(init) {
        let garbage: [&[u8]; 4] = [b"", b"\r\n\r\n", b"SSH-2.0-server 200\r\n", b"HTTP/1.1 2\xff0\0\x1b[2J\r\n"];
        for answer in garbage {
            assert!(!http(init, move |mut stream| {
                let _ = stream.write_all(answer);
            }), "{answer:?}");
        }
    }

    [PidNamespace]
    fn an_http_answer_without_an_end_is_a_failure(init) {
        assert!(!http(init, |mut stream| while stream.write_all(&[b'x'; 4096]).is_ok() {}));
    }

    [PidNamespace]
    fn an_http_post_has_its_own_form(init) {
        let server = Server::new(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        });
        let step = format!("@http POST http://localhost:{}/quitquitquit?now=1", server.port());
        let (run, success) = succeeds(init.as_pid_one().options(HOURS), &step);
        assert!(success, "{}", run.timeline().picture());
        let request = server.request();
        let lines: Vec<&str> = request.split("\r\n").collect();
        assert_eq!(lines[0], "POST /quitquitquit?now=1 HTTP/1.1");
        let header = |name: &str| lines.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(str::to_owned));
        assert_eq!(header("host: "), Some(format!("localhost:{}", server.port())), "{request:?}");
        assert_eq!(header("content-length: "), Some("0".to_owned()), "{request:?}");
    }

    [PidNamespace]
    fn an_http_answer_in_drops_is_bounded_by_the_steps_time(init) {
        let server = Server::new(|mut stream| {
            while stream.write_all(b"H").is_ok() {
                std::thread::sleep(ms(50));
            }
        });
        let stage = init.as_pid_one().options(HOURS).options(["--pre-stop-timeout", "500ms"]);
        let (run, success) = succeeds(stage, &format!("@http GET http://127.0.0.1:{}/", server.port()));
        assert!(!success, "{}", run.timeline().picture());
        run.at_least(ms(500), "sent SIGTERM", "signal SIGTERM");
    }

    [PidNamespace]
    fn an_http_server_that_never_answers_is_bounded_by_the_steps_time(init) {
        let (keep, kept) = std::sync::mpsc::channel();
        let server = Server::new(move |stream| {
            let _ = keep.send(stream);
        });
        let stage = init.as_pid_one().options(HOURS).options(["--pre-stop-timeout", "500ms"]);
        let (run, success) = succeeds(stage, &format!("@http GET http://127.0.0.1:{}/", server.port()));
        assert!(!success, "{}", run.timeline().picture());
        run.at_least(ms(500), "sent SIGTERM", "signal SIGTERM");
        drop(kept);
    }

    [PidNamespace]
    fn an_http_server_that_never_answers_is_bounded_by_the_grace_alone_too(init) {
        let listener = listener();
        let options = ["--grace", "2s", "--reserve", "500ms", "--stop-window", "1s"];
        let step = format!("@http GET http://127.0.0.1:{}/", port_of(&listener));
        let (run, success) = succeeds(init.as_pid_one().options(options), &step);
        assert!(!success, "{}", run.timeline().picture());
        run.at_least(ms(500), "sent SIGTERM", "signal SIGTERM");
    }

    [PidNamespace]
    fn a_closed_port_is_a_failure_at_once(init) {
        let port = port_of(&listener());
        // With any of these hours waited for, this would not end.
        let (run, success) = succeeds(init.as_pid_one().options(HOURS), &format!("@http GET http://127.0.0.1:{port}/"));
        assert!(!success, "{}", run.timeline().picture());
    }
}
