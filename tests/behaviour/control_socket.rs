//! The other doors of a running init: `stop`, `status`, `ready`, and `hook` beside an init that is not ours.
//!
//! Clients enter the init's PID namespace from outside, as an exec of the kubelet does: their parent is not in it.

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::libc::{SIGKILL, SIGTERM};

use crate::support::Need::{PidNamespace, Program, Root};
use crate::support::process::{send, state, wait_until};
use crate::support::{LIMIT, Running, Subject, TemporaryDirectory, behaviours};

const NOBODY: u32 = 65_534;
/// What runs a program as that user, with no capability.
const AS_NOBODY: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
/// A command that says when it is there and ends well when it is told to.
const SERVICE: &str = "trap 'echo stopping; exit 0' TERM; echo up; while :; do sleep 0.05; done";

fn ours() -> String {
    let named = std::env::var("INIT_UNDER_TEST").ok();
    named.unwrap_or_else(|| env!("CARGO_BIN_EXE_grace-init").to_owned())
}

/// A command of grace-init, inside the namespace of this init.
fn inside(run: &Running, words: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-t", &run.pid().to_string(), "-p", "-m", "--"]).arg(ours()).args(words);
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end: its status and what it said.
fn ask(run: &Running, words: &[&str]) -> (Option<i32>, String) {
    said(&inside(run, words).output().unwrap())
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn begin(run: &Running, words: &[&str]) -> Child {
    inside(run, words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> (Option<i32>, String) {
    said(&child.wait_with_output().unwrap())
}

/// Starts the service under these options and waits until it is up.
fn service(init: Subject, options: &[&str]) -> Running {
    let run = init.as_pid_one().options(options).shell(SERVICE).one_stream().start();
    is_up(&run);
    run
}

/// Waits until the service is up and the init, which listens when its command runs, has nothing more to do.
fn is_up(run: &Running) {
    run.wait_for("up");
    wait_until("the init sleeps", LIMIT, || state(run.pid()) == Some('S'));
}

/// A copy of the program where every user can execute it; the build directory may be private.
fn copy_for_all(directory: &TemporaryDirectory) -> String {
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let copy = directory.path().join("grace-init").to_str().unwrap().to_owned();
    // By another process, as a sibling test may fork while the file is open for writing, and its exec say ETXTBSY.
    assert!(Command::new("cp").args([&ours(), &copy]).status().unwrap().success());
    copy
}

/// Starts the service under the copy, as a user without any capability.
fn service_of_nobody(init: Subject, copy: &str, options: &[&str]) -> Running {
    let words = [&AS_NOBODY, &[copy][..], options, &["sh", "-c", SERVICE]].concat();
    let run = init.as_pid_one().without_init().command(words).one_stream().start();
    is_up(&run);
    run
}

/// Runs the copy inside, as this user.
fn ask_as(user: u32, run: &Running, copy: &str, words: &[&str]) -> (Option<i32>, String) {
    let user = user.to_string();
    let mut command = Command::new("nsenter");
    command.args(["-t", &run.pid().to_string(), "-p", "-m", "-S", &user, "-G", &user, "--", copy]);
    said(&command.args(words).output().unwrap())
}

/// Where the socket of this init is.
fn socket(run: &Running) -> PathBuf {
    let found = || run.sockets().iter().find(|place| place.exists()).cloned();
    wait_until("the socket is there", LIMIT, || found().is_some());
    found().unwrap()
}

/// Clients that connect, from inside so that they are let in, and say nothing.
fn silent_clients(run: &Running, count: usize) -> Child {
    let silence = "import socket, sys, time
all = []
for _ in range(int(sys.argv[2])):
    try:
        c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[1]); all.append(c)
    except OSError: pass
print('silent', flush=True)
time.sleep(60)";
    let mut silent = Command::new("nsenter")
        .args(["-t", &run.pid().to_string(), "-p", "-m", "--", "python3", "-c", silence])
        .arg(socket(run))
        .arg(count.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0; 6];
    silent.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    silent
}

behaviours! {
    [PidNamespace, Root, Program("nsenter")]
    fn a_hook_needs_no_options_and_returns_when_drain_and_chain_are_over(init) {
        let mut run = service(init, &["--drain", "100ms", "--pre-stop", "echo step"]);
        assert_eq!(ask(&run, &["pre-stop"]), (Some(0), String::new()));
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().assert_order(["step", "stopping", "init over"]);
        run.timeline().saw_times("step=\"echo step\"", 1);
        run.timeline().saw_times("stopping", 1);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_hook_whose_step_failed_says_so_by_its_status(init) {
        let run = service(init, &["--pre-stop", "false"]);
        assert_eq!(ask(&run, &["pre-stop"]).0, Some(1));
        let run = service(init, &["--pre-stop", "sleep 9", "--pre-stop-timeout", "50ms"]);
        assert_eq!(ask(&run, &["pre-stop"]).0, Some(1));
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_hook_that_runs_twice_joins_the_first_and_both_end_well(init) {
        let mut run = service(init, &["--drain", "300ms", "--pre-stop", "echo step"]);
        let hooks = [begin(&run, &["pre-stop"]), begin(&run, &["pre-stop"]), begin(&run, &["stop", "--until", "stopped"])];
        for hook in hooks {
            assert_eq!(end(hook), (Some(0), String::new()));
        }
        run.exits_with(0);
        run.timeline().saw_times("step=\"echo step\"", 1);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_hook_that_waits_for_the_very_end_never_ends_with_137(init) {
        for _ in 0..20 {
            let mut run = service(init, &[]);
            assert_eq!(ask(&run, &["stop", "--until", "stopped"]), (Some(0), String::new()));
            run.exits_with(0);
        }
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_hook_of_a_command_that_ends_during_the_drain_never_ends_with_137(init) {
        for _ in 0..10 {
            let mut run = init.as_pid_one().options(["--drain", "10s"]).shell("echo up; exec sleep 60").start();
            is_up(&run);
            let hook = begin(&run, &["pre-stop"]);
            wait_until("the drain has begun", LIMIT, || ask(&run, &["status"]).1.contains("drain"));
            send(run.child(), SIGTERM);
            assert_eq!(end(hook), (Some(0), String::new()));
            run.exits_with(128 + SIGTERM);
        }
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_hook_with_a_time_of_its_own_gives_up_and_the_shutdown_goes_on(init) {
        let mut run = service(init, &["--drain", "700ms"]);
        let (status, text) = ask(&run, &["stop", "--timeout", "50ms"]);
        assert_eq!(status, Some(124), "{text}");
        assert!(text.contains("the shutdown goes on"), "{text}");
        run.exits_with(0);
    }

    []
    fn a_client_without_an_init_says_so(_init) {
        for words in [&["stop"][..], &["pre-stop"], &["cancel"], &["status"], &["ready"], &["stop", "--pid", "4194303"]] {
            let (status, text) = said(&Command::new(ours()).args(words).output().unwrap());
            assert_eq!(status, Some(127), "{words:?}: {text}");
            assert!(text.contains("--pid"), "{text}");
        }
        for words in [&["stop", "--until", "later"][..], &["stop", "now"], &["ready", "--json"], &["pre-stop", "--timeout", "3s"], &["status", "--pid", "-1"]] {
            let (status, text) = said(&Command::new(ours()).args(words).output().unwrap());
            assert_eq!(status, Some(125), "{words:?}: {text}");
        }
    }

    [PidNamespace]
    fn a_program_of_that_name_runs_behind_two_dashes(init) {
        let directory = TemporaryDirectory::new();
        directory.file("stop", 0o755, "#!/bin/sh\necho a program\n");
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        let mut run = init.as_pid_one().env("PATH", path).options(["--"]).command(["stop"]).start();
        run.wait_for("a program");
        run.exits_with(0);
    }

    [PidNamespace, Root, Program("nsenter"), Program("python3")]
    fn status_and_ready_tell_how_it_stands(init) {
        let run = service(init, &["--drain", "10s", "--pre-stop", "echo 'one step'"]);
        assert_eq!(ask(&run, &["ready"]), (Some(0), String::new()));
        let (status, text) = ask(&run, &["status"]);
        assert_eq!(status, Some(0));
        for part in ["phase      running", "command    sh -c trap", "pre-stop  1 waiting", "echo 'one step'"] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        run.signal(SIGTERM);
        wait_until("it is no longer ready", LIMIT, || ask(&run, &["ready"]).0 == Some(1));
        let (_, text) = ask(&run, &["status"]);
        assert!(text.contains("time left  [") && text.contains("SIGTERM from outside the container"), "{text}");
        let (_, json) = ask(&run, &["status", "--json"]);
        let check = "import json,sys; s=json.loads(sys.argv[1]); \
                     print(s['phase'], s['ready'], s['steps'][0]['text'], 0 < s['remaining_ms'] <= s['budget_ms'])";
        let read = Command::new("python3").args(["-c", check, &json]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&read.stdout), "drain False echo 'one step' True\n", "{json}");
    }

    [PidNamespace, Root, Program("nsenter")]
    fn stop_and_a_term_racing_are_one_shutdown(init) {
        let mut joined = 0;
        for round in 0..200 {
            let mut run = service(init, &["--drain", "60ms", "--pre-stop", "echo step"]);
            let hook = if round % 2 == 0 {
                let hook = begin(&run, &["pre-stop"]);
                run.signal(SIGTERM);
                hook
            } else {
                run.signal(SIGTERM);
                begin(&run, &["pre-stop"])
            };
            let (status, text) = end(hook);
            run.exits_with(0);
            run.timeline().saw_times("step=\"echo step\"", 1);
            run.timeline().saw_times("stopping", 1);
            // One that comes too late is ended with the namespace, or finds nobody.
            assert!(matches!(status, Some(0 | 127) | None), "round {round}: {status:?} {text}");
            joined += usize::from(status == Some(0));
        }
        assert!(joined > 100, "only {joined} of 200 came in time");
    }

    [PidNamespace, Root, Program("nsenter")]
    fn the_socket_is_private_and_goes_with_the_init(init) {
        let mut run = service(init, &[]);
        let path = socket(&run);
        let file = std::fs::symlink_metadata(&path).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        run.signal(SIGTERM);
        run.exits_with(0);
        assert!(!path.exists());
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_stale_socket_is_replaced_and_a_file_of_that_name_is_not(init) {
        let directory = TemporaryDirectory::new();
        let path = directory.path().join("control");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let path = path.to_str().unwrap();
        let run = service(init, &["--control", path]);
        assert_eq!(ask(&run, &["ready", "--control", path]).0, Some(0));
        let file = directory.file("file", 0o600, "precious");
        let mut run = service(init, &["--control", file.to_str().unwrap()]);
        run.wait_for("no control socket");
        run.signal(SIGTERM);
        run.exits_with(0);
        assert_eq!(std::fs::read_to_string(file).unwrap(), "precious");
    }

    []
    fn an_ordinary_process_leaves_no_socket_unless_asked(init) {
        let directory = TemporaryDirectory::new();
        let place = directory.path().to_str().unwrap().to_owned();
        let mut run = init.outside().options(["--control", &place]).shell(SERVICE).one_stream().start();
        is_up(&run);
        let pid = run.pid().to_string();
        let words = ["stop", "--until", "stopped", "--pid", &pid, "--control", &place];
        assert_eq!(said(&Command::new(ours()).args(words).output().unwrap()), (Some(0), String::new()));
        run.exits_with(0);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let run = init.outside().shell(SERVICE).one_stream().start();
        is_up(&run);
        let (status, _) = said(&Command::new(ours()).args(["ready", "--pid", &run.pid().to_string()]).output().unwrap());
        assert_eq!(status, Some(127));
    }

    [PidNamespace, Root]
    fn a_client_of_another_namespace_is_turned_away(init) {
        let run = service(init, &[]);
        let mut client = UnixStream::connect(socket(&run)).unwrap();
        let _ = client.write_all(b"grace-init 1 stop prepared\n");
        let mut answer = String::new();
        let _ = client.read_to_string(&mut answer);
        assert_eq!(answer, "");
        assert!(!run.is_over());
    }

    [PidNamespace, Root, Program("nsenter"), Program("setpriv")]
    fn another_user_is_turned_away_and_root_is_not(init) {
        let (directory, program) = (TemporaryDirectory::new(), TemporaryDirectory::new());
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let place = directory.path().to_str().unwrap();
        let copy = copy_for_all(&program);
        let mut run = service_of_nobody(init, &copy, &["--control", place]);
        let socket = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
        let ask = |user: u32, word: &str| ask_as(user, &run, &copy, &[word, "--control", place]);
        assert_eq!(ask(1_234, "pre-stop").0, Some(125));
        // Even where the mode of the file is opened.
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o777)).unwrap();
        let (status, text) = ask(1_234, "pre-stop");
        assert_eq!(status, Some(125), "{text}");
        assert_eq!(ask(0, "ready"), (Some(0), String::new()));
        assert_eq!(ask(NOBODY, "pre-stop"), (Some(0), String::new()));
        run.exits_with(0);
    }

    [PidNamespace, Root, Program("nsenter"), Program("setpriv")]
    fn an_unprivileged_init_is_reached_by_its_own_user(init) {
        let program = TemporaryDirectory::new();
        let copy = copy_for_all(&program);
        let mut run = service_of_nobody(init, &copy, &[]);
        assert_eq!(ask_as(NOBODY, &run, &copy, &["pre-stop"]), (Some(0), String::new()));
        run.exits_with(0);
    }

    [PidNamespace, Root, Program("nsenter"), Program("python3")]
    fn abusive_clients_cost_nothing(init) {
        let mut run = service(init, &["--pre-stop", "echo step"]);
        // Inside, so that they are let in at all.
        let abuse = "
import socket, sys, time
path = sys.argv[1]
def client():
    c = socket.socket(socket.AF_UNIX); c.connect(path); return c
silent = [client() for _ in range(40)]
half = client(); half.sendall(b'grace-init 1 st')
big = client()
try:
    for _ in range(16): big.sendall(b'x' * 65536)
except OSError: pass
garbage = client()
try:
    garbage.sendall(bytes(range(256)) + b'\\n')
except OSError: pass
deaf = client(); deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1); deaf.sendall(b'grace-init 1 stop stopped\\n')
print('abused', flush=True)
time.sleep(60)
";
        let path = socket(&run);
        let mut abuser = Command::new("nsenter")
            .args(["-t", &run.pid().to_string(), "-p", "-m", "--", "python3", "-c", abuse])
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = [0; 6];
        abuser.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
        let begun = Instant::now();
        run.wait_for("stopping");
        run.exits_with(0);
        // The deaf one is waited for, but not longer than a second or so.
        assert!(begun.elapsed() < Duration::from_secs(10));
        let _ = abuser.kill();
        let _ = abuser.wait();
    }

    [PidNamespace, Root, Program("nsenter"), Program("python3")]
    fn an_init_without_descriptors_to_spare_closes_its_door_and_does_not_spin(init) {
        let words = ["sh", "-c", "ulimit -n 6; exec \"$@\"", "sh"];
        let mut run = init.as_pid_one().run_by(&words).shell(SERVICE).one_stream().start();
        is_up(&run);
        let mut silent = silent_clients(&run, 3);
        run.wait_for("closing the control socket");
        run.signal(SIGTERM);
        run.exits_with(0);
        let _ = silent.kill();
        let _ = silent.wait();
    }

    [PidNamespace, Root, Program("nsenter"), Program("python3")]
    fn clients_that_say_nothing_do_not_keep_others_out(init) {
        let mut run = service(init, &[]);
        let mut silent = silent_clients(&run, 16);
        assert_eq!(ask(&run, &["ready"]), (Some(0), String::new()));
        assert_eq!(ask(&run, &["pre-stop"]), (Some(0), String::new()));
        run.exits_with(0);
        let _ = silent.kill();
        let _ = silent.wait();
    }

    [PidNamespace, Root, Program("nsenter")]
    fn on_a_read_only_root_the_socket_is_in_shared_memory(init) {
        let words = ["sh", "-c", "mount -o remount,bind,ro / && exec \"$@\"", "sh"];
        let mut run = init.as_pid_one().run_by(&words).shell(SERVICE).one_stream().start();
        is_up(&run);
        assert!(!socket(&run).starts_with("/tmp"));
        assert_eq!(ask(&run, &["ready"]), (Some(0), String::new()));
        assert_eq!(ask(&run, &["pre-stop"]), (Some(0), String::new()));
        run.exits_with(0);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn two_containers_that_share_the_places_do_not_meet(init) {
        let (mut one, two) = (service(init, &[]), service(init, &[]));
        assert_ne!(socket(&one), socket(&two));
        assert_eq!(ask(&one, &["pre-stop"]), (Some(0), String::new()));
        one.exits_with(0);
        assert_eq!(ask(&two, &["ready"]), (Some(0), String::new()));
    }

    [PidNamespace, Root, Program("nsenter"), Program("setpriv")]
    fn without_a_writable_place_and_without_capabilities_signals_do_everything(init) {
        let words = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs"];
        let mut run = init.as_pid_one().run_by(&words).options(["--control", "/proc/none", "-p", "echo step"]).shell(SERVICE).one_stream().start();
        is_up(&run);
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().assert_order(["step", "stopping"]);
    }

    []
    fn a_hook_beside_a_foreign_init_runs_the_chain_and_stops_the_process(_init) {
        let mut service = Command::new("sh").args(["-c", SERVICE]).stdout(Stdio::piped()).spawn().unwrap();
        let mut up = [0; 3];
        service.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        let pid = service.id().to_string();
        let words = ["hook", "--pid", &pid, "--stop-signal", "TERM", "-p", "echo step", "-p", "printenv MAINPID"];
        // The test is the parent, so it reaps while the hook waits.
        let hook = Command::new(ours()).args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        assert_eq!(service.wait().unwrap().code(), Some(0));
        let (status, text) = end(hook);
        assert_eq!(status, Some(0), "{text}");
        assert!(text.contains("step\n") && text.contains(&format!("{pid}\n")), "{text}");
    }

    []
    fn a_hook_whose_process_ends_during_the_chain_ends_with_the_chain(_init) {
        let mut service = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = service.id().to_string();
        let begun = Instant::now();
        let words = ["hook", "--pid", &pid, "--stop-signal", "TERM", "-p", "sh -c 'kill $MAINPID; sleep 0.2'", "-p", "echo last"];
        let hook = Command::new(ours()).args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        service.wait().unwrap();
        let (status, text) = end(hook);
        assert_eq!(status, Some(0), "{text}");
        assert!(text.contains("last\n") && begun.elapsed() < Duration::from_secs(15), "{text}");
    }

    []
    fn a_hook_without_a_stop_signal_leaves_the_process_alone(_init) {
        let mut service = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = service.id().to_string();
        let output = Command::new(ours()).args(["hook", "--pid", &pid, "-p", "false"]).output().unwrap();
        assert_eq!(said(&output).0, Some(1));
        let output = Command::new(ours()).args(["hook", "--pid", &pid, "-p", "true"]).output().unwrap();
        assert_eq!(said(&output).0, Some(0));
        assert_eq!(service.try_wait().unwrap(), None);
        service.kill().unwrap();
        service.wait().unwrap();
    }

    []
    fn a_hook_kills_only_when_told_to(_init) {
        let stubborn = || {
            let mut child = Command::new("sh")
                .args(["-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut up = [0; 3];
            child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
            child
        };
        let mut process = stubborn();
        let pid = process.id().to_string();
        let words = ["hook", "--pid", &pid, "--stop-signal", "TERM", "--grace", "500ms"];
        let output = Command::new(ours()).args(words).output().unwrap();
        assert_eq!(said(&output).0, Some(124));
        assert_eq!(process.try_wait().unwrap(), None);
        let hook = Command::new(ours()).args(words).arg("--kill").stderr(Stdio::piped()).spawn().unwrap();
        let ended = std::os::unix::process::ExitStatusExt::signal(&process.wait().unwrap());
        assert_eq!(ended, Some(SIGKILL));
        assert_eq!(end(hook).0, Some(0));
    }

    []
    fn a_hook_is_not_held_by_what_a_step_left_running(_init) {
        let mut service = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = service.id().to_string();
        let begun = Instant::now();
        let words = ["hook", "--pid", &pid, "-p", "sh -c 'sleep 60 & exit 0'"];
        // Its output is read to the end, which a child of a step would hold open.
        let output = Command::new(ours()).args(words).output().unwrap();
        assert_eq!(said(&output).0, Some(0));
        assert!(begun.elapsed() < Duration::from_secs(20));
        service.kill().unwrap();
        service.wait().unwrap();
    }

    [Root, Program("setpriv")]
    fn a_hook_for_another_users_process_is_a_clear_error(_init) {
        let mut service = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = service.id().to_string();
        let program = TemporaryDirectory::new();
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--clear-groups", &copy_for_all(&program), "hook", "--pid", &pid, "--stop-signal", "TERM"])
            .output()
            .unwrap();
        let (status, text) = said(&output);
        assert_eq!(status, Some(125), "{text}");
        assert!(text.contains("user 0") && text.contains("run the hook as that user"), "{text}");
        service.kill().unwrap();
        service.wait().unwrap();
    }

    []
    fn a_socket_that_is_named_itself_needs_no_pid(init) {
        let directory = TemporaryDirectory::new();
        let place = directory.path().join("socket").to_str().unwrap().to_owned();
        let mut run = init.outside().options(["--control", &place]).shell(SERVICE).one_stream().start();
        is_up(&run);
        wait_until("it listens", LIMIT, || Path::new(&place).exists());
        for words in [&["ready"][..], &["status"], &["stop", "--until", "stopped"]] {
            let output = Command::new(ours()).args(words).args(["--control", &place]).output().unwrap();
            assert_eq!(said(&output).0, Some(0), "{words:?}");
        }
        run.wait();
    }

    []
    fn a_hook_without_its_process_says_so(_init) {
        let (status, text) = said(&Command::new(ours()).args(["hook", "--pid", "4194303"]).output().unwrap());
        assert_eq!(status, Some(127), "{text}");
    }
}
