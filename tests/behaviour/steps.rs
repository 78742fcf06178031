//! The steps of the chains: what they are given, how long they have, and how they end with all that they started.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nix::libc::{SIGHUP, SIGTERM};

use crate::support::Need::{PidNamespace, Program};
use crate::support::process::{command_line, wait_until};
use crate::support::{LIMIT, Running, Subject, TemporaryDirectory, behaviours};

/// A shutdown with these steps, as far as its end; the command ends at once.
fn stopped(init: Subject, options: &[&str]) -> Running {
    let mut run = init.as_pid_one().options(options).shell("exec $reporter --exit-on TERM=0").one_stream().start();
    run.wait_for("ready");
    run.signal(SIGTERM);
    run.exits_with(0);
    run
}

/// A server that treats each connection like this; its address.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    address
}

fn answer(mut stream: TcpStream, text: &str) {
    let mut request = [0; 1024];
    let _ = stream.read(&mut request);
    let _ = stream.write_all(text.as_bytes());
}

behaviours! {
    [PidNamespace]
    fn steps_run_in_their_order_before_the_stop_signal(init) {
        let run = stopped(init, &["-p", "echo first", "-p", "echo second >&2", "-p", "sh -c 'echo third >&2'"]);
        run.timeline().assert_order(["starting a step step=\"echo first\"", "number=3", "leaving"].map(|p| if p == "leaving" { "init over" } else { p }));
        run.timeline().assert_order(["first", "second >&2", "signal SIGTERM"]);
        run.timeline().saw_times("third", 2);
    }

    [PidNamespace]
    fn a_step_knows_the_command_the_signal_its_number_and_the_time_left(init) {
        let tell = "sh -c 'echo told: main=$MAINPID signal=$GRACE_INIT_SIGNAL step=$GRACE_INIT_STEP left=$GRACE_INIT_REMAINING_MS'";
        let run = stopped(init, &["-p", "true", "-p", tell]);
        let line = run.wait_for("told: main=2");
        assert!(line.contains("main=2 signal=SIGTERM step=2 left=27"), "{line}");
    }

    [PidNamespace]
    fn a_step_has_the_commands_directory_nothing_on_stdin_and_a_group_of_its_own(init) {
        let directory = TemporaryDirectory::new();
        let tell = "sh -c 'echo in $(pwd); cat; echo group $(ps -o pgid= -p $$) of $$ told'";
        let mut run = init.as_pid_one().directory(directory.path()).options(["-p", tell])
            .shell("exec $reporter --exit-on TERM=0").one_stream().start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.wait_for(&format!("in {}", directory.path().display()));
        let group = run.timeline().wait_for_count(" told", 2).text;
        let numbers: Vec<&str> = group.split_whitespace().filter(|word| word.parse::<i32>().is_ok()).collect();
        assert_eq!(numbers[0], numbers[1], "{group}");
    }

    [PidNamespace]
    fn a_step_that_leaves_a_child_running_does_not_hold_the_chain(init) {
        let run = stopped(init, &["-p", "sh -c 'sleep 1000 & echo one'", "-p", "echo two"]);
        run.timeline().assert_order(["one", "two", "signal SIGTERM", "init over"]);
        assert!(run.timeline().between("sent SIGTERM", "init over") < Duration::from_secs(15));
    }

    [PidNamespace]
    fn an_overdue_step_ends_with_its_whole_tree_half_a_second_after_its_term(init) {
        let tree = "sh -c 'trap \"echo step got it\" TERM; setsid sh -c \"trap : TERM; while :; do sleep 1234; done\" & \
                    while :; do sleep 1235; done'";
        let mut run = init.as_pid_one().options(["--pre-stop-timeout", "300ms", "-p", tree, "-p", "echo next"])
            .shell("exec $reporter --linger 300ms").one_stream().start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_for("signal SIGTERM ");
        let words = |pid: i32| command_line(pid);
        wait_until("nothing of the step is left", LIMIT, || {
            !run.descendants().iter().any(|pid| words(*pid).contains("123"))
        });
        run.exits_with(0);
        run.timeline().assert_order(["step got it", "next", "signal SIGTERM "]);
        assert!(run.timeline().between("step got it", "step=\"echo next\"") >= Duration::from_millis(450));
    }

    [PidNamespace]
    fn after_a_failed_step_the_chain_goes_on_unless_told_to_skip(init) {
        let steps = ["-p", "sh -c 'exit 3'", "-p", "/no/such/program", "-p", "echo last"];
        let run = stopped(init, &steps);
        run.timeline().assert_order(["exited with 3", "\"/no/such/program\" was not found", "last", "signal SIGTERM"]);
        let run = stopped(init, &[&["--pre-stop-failure", "skip"][..], &steps].concat());
        run.timeline().never_saw("starting a step step=\"echo last\"");
        run.wait_for("the chain ends here");
    }

    [PidNamespace]
    fn relaying_and_reaping_go_on_while_a_step_runs(init) {
        let script = "$orphans 100 wait & exec $reporter --exit-on TERM=0";
        let mut run = init.as_pid_one().options(["-p", "sh -c 'echo step be\"\"gins; sleep 0.5; echo step en\"\"ds'", "-p", "@sleep 300ms"])
            .shell(script).one_stream().start();
        run.wait_for("ready");
        run.wait_for("orphans made=100");
        run.signal(SIGTERM);
        run.wait_for("step begins");
        run.signal(SIGHUP);
        run.wait_for("signal SIGHUP");
        run.exits_with(0);
        run.timeline().assert_order(["step begins", "signal SIGHUP", "step ends", "@sleep", "signal SIGTERM"]);
    }

    [PidNamespace]
    fn a_signal_step_reaches_the_command(init) {
        let run = stopped(init, &["-p", "@signal USR1", "-p", "@signal HUP"]);
        run.timeline().assert_order(["signal SIGUSR1", "signal SIGTERM"]);
        run.wait_for("signal SIGHUP");
    }

    [PidNamespace]
    fn a_sleep_step_takes_its_time_without_a_sleep_program(init) {
        let run = stopped(init, &["-p", "@sleep 400ms"]);
        assert!(run.timeline().between("sent SIGTERM", "signal SIGTERM") >= Duration::from_millis(390));
    }

    [PidNamespace]
    fn a_wait_file_step_waits_for_the_file(init) {
        let directory = TemporaryDirectory::new();
        let path = directory.path().join("flag");
        let option = format!("@wait-file {}", path.display());
        let mut run = init.as_pid_one().options(["-p", &option]).shell("exec $reporter --exit-on TERM=0").one_stream().start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_for("@wait-file");
        run.timeline().never_saw("signal SIGTERM ");
        directory.file("flag", 0o600, "");
        run.exits_with(0);
    }

    [PidNamespace]
    fn a_wait_port_idle_step_waits_for_the_last_connection(init) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let accepted = listener.accept().unwrap().0;
        let option = format!("@wait-port-idle {port}");
        let mut run = init.as_pid_one().options(["-p", &option]).shell("exec $reporter --exit-on TERM=0").one_stream().start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_for("@wait-port-idle");
        run.signal(SIGHUP);
        run.wait_for("signal SIGHUP");
        run.timeline().never_saw("signal SIGTERM ");
        drop((client, accepted));
        run.exits_with(0);
    }

    [PidNamespace]
    fn an_http_step_succeeds_with_2xx_only(init) {
        for (text, good) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.0 204 No Content\r\n\r\n", true),
            ("HTTP/1.1 404 Not Found\r\n\r\n", false),
            ("HTTP/1.1 302 Found\r\n\r\n", false),
            ("\u{1}\u{2}garbage\n", false),
            ("", false),
        ] {
            let address = server(move |stream| answer(stream, text));
            let run = stopped(init, &["-p", &format!("@http POST http://{address}/quit")]);
            run.timeline().saw_times("a step failed", usize::from(!good));
        }
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let run = stopped(init, &["-p", &format!("@http GET http://{closed}/")]);
        run.wait_for("a step failed");
    }

    [PidNamespace]
    fn an_http_server_that_never_ends_its_answer_is_bounded_by_the_steps_time(init) {
        let silent = server(std::mem::forget);
        let drops = server(|mut stream| {
            std::thread::spawn(move || {
                while stream.write_all(b"H").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        });
        for address in [silent, drops] {
            let options = ["--pre-stop-timeout", "300ms", "-p", &format!("@http GET http://{address}/")];
            let run = stopped(init, &options);
            run.wait_for("a step's time is up");
            assert!(run.timeline().between("sent SIGTERM", "init over") < Duration::from_secs(15));
        }
    }

    [PidNamespace, Program("python3")]
    fn no_descriptor_of_ours_reaches_a_step(init) {
        let list = "python3 -c 'import os; print(\"open\", [fd for fd in os.listdir(\"/proc/self/fd\") if int(fd) > 2 and os.path.exists(\"/proc/self/fd/\" + fd)])'";
        let run = stopped(init, &["-p", list]);
        let line = run.wait_for("open ");
        assert!(!line.contains("signalfd") && !line.contains("socket"), "{line}");
    }
}
