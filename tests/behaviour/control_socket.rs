//! The control socket: `pre-stop`, `stop`, `cancel`, `status` and `ready`; and `hook` beside an init that is not ours.
//!
//! Clients enter the init's PID namespace from outside, as an exec of the kubelet does: their parent is not in it.

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::libc::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM};

use crate::support::Need::{PidNamespace, Program, Root};
use crate::support::process::{children, send, state, status_field, wait_until};
use crate::support::{LIMIT, Running, Subject, TemporaryDirectory, behaviours, example};

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
    wait_until("the socket is there", LIMIT, || !run.sockets().is_empty());
    run.sockets().remove(0)
}

/// Runs this Python program inside, so that it is let in, with the socket's path as its argument, until it has said `done`.
fn python(run: &Running, program: &str) -> Child {
    let mut child = Command::new("nsenter")
        .args(["-t", &run.pid().to_string(), "-p", "-m", "--", "python3", "-c", program])
        .arg(socket(run))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    assert_eq!(&word, b"done\n");
    child
}

/// What a Python client begins with: `ask(words)` connects and asks, `blocks(client)` reads to the end.
const CLIENT: &str = "
import socket, sys, time
def connect():
    c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[1]); return c
def ask(words):
    c = connect(); c.sendall(b'grace-init 1 ' + words + b'\\n'); return c
def blocks(c):
    text = b''
    while True:
        more = c.recv(65536)
        if not more: return text.decode().split('\\n\\n')[:-1]
        text += more
def done():
    print('done', flush=True); sys.stdin.read()
";

fn python_client(run: &Running, program: &str) -> Child {
    python(run, &format!("{CLIENT}{program}"))
}

/// Lets go of a Python client.
fn let_go(mut client: Child) -> String {
    drop(client.stdin.take());
    end(client).1
}

/// The numbers of the namespaces of a process that its sockets are named by.
fn namespaces(pid: i32) -> String {
    let number = |kind: &str| std::fs::metadata(format!("/proc/{pid}/ns/{kind}")).unwrap().ino();
    format!("{}.{}", number("pid"), number("mnt"))
}

/// The sockets of inits in the namespaces of this process.
fn sockets_beside(pid: i32) -> Vec<PathBuf> {
    let prefix = format!("grace-init.{}.", namespaces(pid));
    let entries = ["/run", "/dev/shm", "/tmp"].into_iter().flat_map(|place| std::fs::read_dir(place).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_str().is_some_and(|name| name.starts_with(&prefix))).collect()
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

/// A child that is killed at the end of its test, which it may outlive otherwise.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A container that shares its PID namespace: its first process is not PID 1, and its parent is outside.
struct Sharing {
    _runtime: Ended,
    first: i32,
}

impl Sharing {
    fn start(pause: &Running) -> Self {
        // PID 1's cgroup is another one than a container's; here a file tells so.
        let script = "echo 0::/pause > /tmp/pause.$$ && mount --bind /tmp/pause.$$ /proc/1/cgroup && rm /tmp/pause.$$ && exec \"$@\"";
        let mut runtime = Command::new("nsenter")
            .args(["-t", &pause.pid().to_string(), "-p", "-m", "--", "unshare", "-m", "--", "sh", "-c", script, "sh"])
            .args([&ours(), "--report", "none", "--", "sh", "-c", SERVICE])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0; 3];
        runtime.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        let first = children(runtime.id().cast_signed())[0];
        Self { _runtime: Ended(runtime), first }
    }

    fn ask(&self, words: &[&str]) -> (Option<i32>, String) {
        self.ask_beside(self, words)
    }

    /// As [`Self::ask`], in another container.
    fn ask_beside(&self, other: &Self, words: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new("nsenter");
        command.args(["-t", &other.first.to_string(), "-p", "-m", "--", &ours()]).args(words);
        said(&command.stdin(Stdio::null()).output().unwrap())
    }

    /// The command's PID in its namespace.
    fn command_pid(&self) -> String {
        let command = children(self.first)[0];
        let numbers = status_field(command, "NSpid").unwrap();
        numbers.split_whitespace().next_back().unwrap().to_owned()
    }
}

/// The processor time that a process has used, in hundredths of a second.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

behaviours! {
    [PidNamespace, Root, Program("nsenter")]
    fn pre_stop_returns_when_drain_and_chain_are_over_and_the_command_serves_on(init) {
        let mut run = service(init, &["--drain", "100ms", "--pre-stop", "echo step"]);
        assert_eq!(ask(&run, &["pre-stop"]), (Some(0), String::new()));
        run.wait_for("step");
        assert!(ask(&run, &["status"]).1.contains("phase      prepared"));
        assert_eq!(ask(&run, &["ready"]).0, Some(1));
        assert_eq!(ask(&run, &["ready", "--serving"]).0, Some(0));
        run.timeline().never_saw("stopping");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().saw_times("step=\"echo step\"", 1);
        run.timeline().saw_times("stopping", 1);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn pre_stop_names_each_step_that_failed(init) {
        let run = service(init, &["--pre-stop", "false", "--pre-stop", "sleep 9", "--pre-stop-timeout", "50ms", "--pre-stop-failure", "skip"]);
        assert_eq!(
            ask(&run, &["pre-stop"]),
            (
                Some(1),
                "grace-init: pre-stop step 1 \"false\" exited with 1\n\
                 grace-init: pre-stop step 2 \"sleep 9\" was skipped\n"
                    .to_owned()
            )
        );
        let run = service(init, &["--pre-stop", "sleep 9", "--pre-stop-timeout", "50ms"]);
        let (status, text) = ask(&run, &["pre-stop"]);
        assert_eq!(status, Some(1));
        assert!(text.contains("\"sleep 9\" ran out of time and was stopped"), "{text}");
    }

    [PidNamespace, Root, Program("nsenter")]
    fn hooks_at_once_and_after_one_another_run_the_chain_once(init) {
        let mut run = service(init, &["--drain", "300ms", "--pre-stop", "echo step"]);
        let hooks = [begin(&run, &["pre-stop"]), begin(&run, &["pre-stop"]), begin(&run, &["pre-stop"])];
        for hook in hooks {
            assert_eq!(end(hook), (Some(0), String::new()));
        }
        // As a kubelet that was restarted runs it again.
        assert_eq!(ask(&run, &["pre-stop"]), (Some(0), String::new()));
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().saw_times("step=\"echo step\"", 1);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_hook_that_is_killed_in_the_middle_changes_nothing(init) {
        let mut run = service(init, &["--drain", "500ms", "--pre-stop", "echo step"]);
        let hook = begin(&run, &["pre-stop"]);
        wait_until("the drain has begun", LIMIT, || ask(&run, &["status"]).1.contains("drain"));
        // What nsenter started is the client.
        let clients = children(hook.id().cast_signed());
        assert_eq!(clients.len(), 1);
        send(clients[0], SIGKILL);
        end(hook);
        assert_eq!(ask(&run, &["pre-stop"]), (Some(0), String::new()));
        assert!(ask(&run, &["status"]).1.contains("phase      prepared"));
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().saw_times("step=\"echo step\"", 1);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_persons_stop_during_a_hook_waits_for_its_chain(init) {
        let mut run = service(init, &["--drain", "500ms", "--pre-stop", "echo step"]);
        let hook = begin(&run, &["pre-stop"]);
        wait_until("the drain has begun", LIMIT, || ask(&run, &["status"]).1.contains("drain"));
        let stop = begin(&run, &["stop"]);
        assert_eq!(end(hook), (Some(0), String::new()));
        assert_eq!(end(stop), (Some(0), String::new()));
        run.exits_with(0);
        run.timeline().assert_order(["step", "stopping", "init over"]);
        run.timeline().saw_times("step=\"echo step\"", 1);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_hook_during_a_stop_joins_it(init) {
        let stubborn = "trap 'echo told' TERM; echo up; while :; do sleep 0.05; done";
        let mut run = init.as_pid_one().options(["--drain", "300ms", "--pre-stop", "echo step", "--grace", "6s"]).shell(stubborn).one_stream().start();
        is_up(&run);
        let stop = begin(&run, &["stop"]);
        wait_until("the drain has begun", LIMIT, || ask(&run, &["status"]).1.contains("drain"));
        assert_eq!(ask(&run, &["pre-stop"]), (Some(0), String::new()));
        run.wait_for("told");
        // Now it is answered at once, for the command does not end before its time is up.
        assert_eq!(ask(&run, &["pre-stop"]), (Some(0), String::new()));
        assert_eq!(ask(&run, &["ready", "--serving"]).0, Some(1));
        assert_eq!(end(stop).0, Some(1));
        run.exits_with(137);
        run.timeline().saw_times("step=\"echo step\"", 1);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_hook_that_the_orchestrators_signal_cuts_says_so(init) {
        let mut run = service(init, &["--drain", "10s", "--pre-stop", "echo step"]);
        let hook = begin(&run, &["pre-stop"]);
        wait_until("the drain has begun", LIMIT, || ask(&run, &["status"]).1.contains("drain"));
        run.signal(SIGTERM);
        let (status, text) = end(hook);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("SIGTERM came ") && text.contains("ended the drain early"), "{text}");
        assert!(text.contains("\"echo step\" was skipped"), "{text}");
        run.exits_with(0);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn cancel_takes_a_pre_stop_back_while_the_command_was_not_told(init) {
        let mut run = service(init, &["--drain", "300ms", "--pre-stop", "echo step"]);
        let (status, text) = ask(&run, &["cancel"]);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("no pre-stop request to cancel"), "{text}");
        // One that still waits is told, and one that is over is forgotten.
        let hook = begin(&run, &["pre-stop"]);
        wait_until("the drain has begun", LIMIT, || ask(&run, &["status"]).1.contains("drain"));
        assert_eq!(ask(&run, &["cancel"]), (Some(0), String::new()));
        let (status, text) = end(hook);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("grace-init cancel"), "{text}");
        assert_eq!(ask(&run, &["ready"]), (Some(0), String::new()));
        assert_eq!(ask(&run, &["pre-stop"]), (Some(0), String::new()));
        assert_eq!(ask(&run, &["cancel"]), (Some(0), String::new()));
        assert_eq!(ask(&run, &["ready"]), (Some(0), String::new()));
        // It begins anew.
        assert_eq!(ask(&run, &["pre-stop"]), (Some(0), String::new()));
        let stop = begin(&run, &["stop"]);
        assert_eq!(end(stop), (Some(0), String::new()));
        run.exits_with(0);
        run.timeline().saw_times("step=\"echo step\"", 2);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_stop_cannot_be_cancelled(init) {
        let run = service(init, &["--drain", "60s", "--grace", "none"]);
        let stop = begin(&run, &["stop"]);
        wait_until("the drain has begun", LIMIT, || ask(&run, &["status"]).1.contains("drain"));
        let (status, text) = ask(&run, &["cancel"]);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("a stop was requested"), "{text}");
        drop(run);
        end(stop);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_stop_that_waits_for_the_very_end_never_ends_with_137(init) {
        for _ in 0..20 {
            let mut run = service(init, &[]);
            assert_eq!(ask(&run, &["stop"]), (Some(0), String::new()));
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
    fn a_stop_with_a_time_of_its_own_gives_up_and_the_shutdown_goes_on(init) {
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
                let hook = begin(&run, &["stop"]);
                run.signal(SIGTERM);
                hook
            } else {
                run.signal(SIGTERM);
                begin(&run, &["stop"])
            };
            let (status, text) = end(hook);
            run.exits_with(0);
            run.timeline().saw_times("step=\"echo step\"", 1);
            run.timeline().saw_times("stopping", 1);
            // One that comes too late is ended with the namespace, or finds nobody; nsenter(1) may not even find the namespace.
            let too_late = matches!(status, Some(127) | None) || text.starts_with("nsenter: ");
            assert!(status == Some(0) || too_late, "round {round}: {status:?} {text}");
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
        assert_eq!(ask(1_234, "stop").0, Some(125));
        // Even where the mode of the file is opened.
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o777)).unwrap();
        let (status, text) = ask(1_234, "stop");
        assert_eq!(status, Some(125), "{text}");
        assert_eq!(ask(0, "ready"), (Some(0), String::new()));
        assert_eq!(ask(NOBODY, "stop"), (Some(0), String::new()));
        run.exits_with(0);
    }

    [PidNamespace, Root, Program("nsenter"), Program("setpriv")]
    fn an_unprivileged_init_is_reached_by_its_own_user(init) {
        let program = TemporaryDirectory::new();
        let copy = copy_for_all(&program);
        let mut run = service_of_nobody(init, &copy, &[]);
        assert_eq!(ask_as(NOBODY, &run, &copy, &["stop"]), (Some(0), String::new()));
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
    fn with_no_descriptor_left_for_a_client_the_socket_stays_and_the_init_does_not_spin(init) {
        // Six of them are the command's, so that half of the limit cannot be reached.
        let words = ["sh", "-c", "ulimit -n 14; exec 3<&0 4<&0 5<&0 6<&0 7<&0 8<&0; exec \"$@\"", "sh"];
        let run = init.as_pid_one().run_by(&words).options(["--drain", "60s", "--grace", "none"]).shell(SERVICE).one_stream().start();
        is_up(&run);
        let waiting = python_client(&run, "all = [ask(b'stop prepared') for _ in range(8)]\nall[0].recv(1)\ndone()");
        let late = begin(&run, &["status"]);
        run.wait_for("cannot accept a client");
        let before = cpu_ticks(run.pid());
        // Three more tries, a second apart.
        wait_until("it waits for its own next try", LIMIT, || state(run.pid()) == Some('S'));
        let_go(waiting);
        let (status, text) = end(late);
        assert_eq!(status, Some(0), "{text}");
        assert!(cpu_ticks(run.pid()) - before < 50, "the init spins");
        assert_eq!(ask(&run, &["status"]).0, Some(0));
    }

    [PidNamespace, Root, Program("nsenter")]
    fn where_descriptors_are_few_the_command_comes_first(init) {
        let words = ["sh", "-c", "ulimit -n 6; exec \"$@\"", "sh"];
        let mut run = init.as_pid_one().run_by(&words).shell(SERVICE).one_stream().start();
        is_up(&run);
        assert_eq!(sockets_beside(run.pid()), Vec::<PathBuf>::new());
        run.signal(SIGTERM);
        run.exits_with(0);
    }

    [PidNamespace, Root, Program("nsenter"), Program("python3")]
    fn many_clients_wait_at_once_and_others_are_still_answered(init) {
        let mut run = service(init, &["--drain", "60s", "--grace", "none"]);
        let waiting = python_client(&run, "
all = [ask(b'stop stopped') for _ in range(300)]
[c.recv(1) for c in all]
done()
for c in all: print('answer' in blocks(c)[-1])
");
        assert_eq!(ask(&run, &["ready", "--serving"]), (Some(0), String::new()));
        assert_eq!(ask(&run, &["ready"]), (Some(1), String::new()));
        assert_eq!(ask(&run, &["status"]).0, Some(0));
        send(run.child(), SIGKILL);
        assert_eq!(let_go(waiting).matches("True").count(), 300);
        run.exits_with(128 + SIGKILL);
    }

    [PidNamespace, Root, Program("nsenter"), Program("python3")]
    fn a_client_beyond_the_limit_is_turned_away_with_the_reason_and_the_socket_stays(init) {
        let words = ["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"];
        let run = init.as_pid_one().run_by(&words).options(["--drain", "60s", "--grace", "none"]).shell(SERVICE).one_stream().start();
        is_up(&run);
        let waiting = python_client(&run, "all = [ask(b'stop prepared') for _ in range(32)]\n[c.recv(1) for c in all]\ndone()");
        let (status, text) = ask(&run, &["status"]);
        assert_eq!(status, Some(125), "{text}");
        assert!(text.contains("32 clients"), "{text}");
        let_go(waiting);
        wait_until("there is room again", LIMIT, || ask(&run, &["status"]).0 == Some(0));
    }

    [PidNamespace, Root, Program("nsenter"), Program("python3")]
    fn clients_that_say_nothing_do_not_keep_others_out(init) {
        let words = ["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"];
        let mut run = init.as_pid_one().run_by(&words).shell(SERVICE).one_stream().start();
        is_up(&run);
        // More than there is room for.
        let mut silent = silent_clients(&run, 40);
        assert_eq!(ask(&run, &["ready"]), (Some(0), String::new()));
        assert_eq!(ask(&run, &["stop"]), (Some(0), String::new()));
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
        assert_eq!(ask(&run, &["stop"]), (Some(0), String::new()));
        run.exits_with(0);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn two_containers_that_share_the_places_do_not_meet(init) {
        let (mut one, two) = (service(init, &[]), service(init, &[]));
        assert_ne!(socket(&one), socket(&two));
        assert_eq!(ask(&one, &["stop"]), (Some(0), String::new()));
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
    fn a_hook_stops_a_process_where_the_kernel_has_no_descriptors_for_processes(_init) {
        for denied in ["pidfd_open", "pidfd_send_signal"] {
            let mut service = Command::new("sh").args(["-c", SERVICE]).stdout(Stdio::piped()).spawn().unwrap();
            let mut up = [0; 3];
            service.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
            let pid = service.id().to_string();
            let rule = format!("deny={denied}:ENOSYS");
            let hook = Command::new(example("confine"))
                .args([&rule, "--", &ours(), "hook", "--pid", &pid, "--stop-signal", "TERM", "-p", "echo step"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            assert_eq!(service.wait().unwrap().code(), Some(0));
            let (status, text) = end(hook);
            assert_eq!(status, Some(0), "{denied}: {text}");
            assert!(text.contains("step\n"), "{text}");
        }
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
    fn in_a_hook_a_program_is_stopped_by_its_name_only_below_the_named_process(_init) {
        let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
        let script = "sleep 60 & echo up; wait; exit 7";
        let mut service = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut up = [0; 3];
        service.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        let pid = service.id().to_string();
        let output = Command::new(ours()).args(["hook", "--pid", &pid, "-p", "@stop sleep"]).output().unwrap();
        assert_eq!(said(&output).0, Some(0), "{output:?}");
        assert_eq!(service.wait().unwrap().code(), Some(7));
        assert_eq!(stranger.try_wait().unwrap(), None);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
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

    [PidNamespace, Root, Program("nsenter")]
    fn a_command_line_of_any_length_leaves_the_socket_open(init) {
        let long = "x".repeat(100_000);
        let words = ["sh", "-c", SERVICE, &long, &long, &long];
        let mut run = init.as_pid_one().options(["--pre-stop", &format!("true {long}")]).command(words).one_stream().start();
        is_up(&run);
        let (status, text) = ask(&run, &["status"]);
        assert_eq!(status, Some(0));
        assert!(text.contains("sh -c trap") && text.len() < 4_096, "{} bytes", text.len());
        assert_eq!(ask(&run, &["ready"]), (Some(0), String::new()));
        assert_eq!(ask(&run, &["stop"]), (Some(0), String::new()));
        run.exits_with(0);
    }

    [PidNamespace, Root, Program("nsenter"), Program("python3")]
    fn a_client_that_reads_slowly_gets_the_answer_all_the_same(init) {
        let long = format!("true {}", "x".repeat(200));
        let options = [["--pre-stop", &long]; 100].concat();
        let mut run = init.as_pid_one().options(options).shell(SERVICE).one_stream().start();
        is_up(&run);
        let slow = python_client(&run, "
c = ask(b'stop stopped')
done()
all = blocks(c)
print('answer yes' in all[-1], all[-1].count('failure'))
");
        run.wait_for("stopping");
        assert_eq!(let_go(slow), "True 0\n");
        run.exits_with(0);
    }

    [PidNamespace, Root, Program("nsenter"), Program("python3")]
    fn a_client_that_never_closes_does_not_make_the_init_overrun_the_grace(init) {
        const GRACE: Duration = Duration::from_secs(4);
        // The fault is 100 ms or so, which a busy machine may add by itself.
        let took = (0..3).map(|_| {
            let script = "trap '' TERM; echo up; while :; do sleep 0.05; done";
            let mut run = init.as_pid_one().options(["--grace", "4s"]).shell(script).one_stream().start();
            is_up(&run);
            let deaf = python_client(&run, "c = ask(b'stop stopped')\ndone()");
            let begun = Instant::now();
            run.signal(SIGTERM);
            run.wait_until_over();
            let took = begun.elapsed();
            run.exits_with(137);
            let_go(deaf);
            took
        });
        let shortest = took.min().unwrap();
        assert!(shortest < GRACE, "{shortest:?}");
    }

    [PidNamespace, Root, Program("nsenter")]
    fn with_closed_standard_streams_the_socket_is_none_of_them(init) {
        let directory = TemporaryDirectory::new();
        let mark = directory.path().join("up");
        let script = format!("touch {}; sleep 60", mark.display());
        let run = init.as_pid_one().closed(0).closed(1).closed(2).options(["--drain", "60s"]).shell(&script).start();
        wait_until("the command runs", LIMIT, || mark.exists());
        let stop = begin(&run, &["stop"]);
        wait_until("the client is taken in", LIMIT, || ask(&run, &["ready"]).0 == Some(1));
        let mut sockets = 0;
        for entry in std::fs::read_dir(format!("/proc/{}/fd", run.pid())).unwrap() {
            let path = entry.unwrap().path();
            let number: i32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            if std::fs::read_link(&path).unwrap().to_str().unwrap().starts_with("socket:") {
                sockets += 1;
                assert!(number > 2, "a socket is descriptor {number}");
            }
        }
        assert!(sockets >= 2, "only {sockets} sockets");
        drop(run);
        end(stop);
    }

    [PidNamespace, Root, Program("nsenter"), Program("script")]
    fn on_a_terminal_stop_shows_the_phases_and_the_time_left(init) {
        let mut run = service(init, &["--drain", "500ms", "--pre-stop", "sleep 0.3"]);
        let client = format!("nsenter -t {} -p -m -- {} stop", run.pid(), ours());
        let output = Command::new("script").args(["-q", "-e", "-c", &client, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
        let (status, text) = said(&output);
        assert_eq!(status, Some(0), "{text}");
        for part in ["  drain", "  pre-stop", "  stop", "[####", " left"] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        run.exits_with(0);
    }

    []
    fn stop_tells_when_the_init_was_killed_instead(init) {
        let directory = TemporaryDirectory::new();
        let place = directory.path().join("socket").to_str().unwrap().to_owned();
        for words in [&["stop"][..], &["stop", "--until", "prepared"], &["pre-stop"]] {
            let run = init.outside().options(["--control", &place, "--drain", "60s", "--grace", "none"]).shell(SERVICE).one_stream().start();
            is_up(&run);
            let client = Command::new(ours()).args(words).args(["--control", &place]).stderr(Stdio::piped()).spawn().unwrap();
            let ready = || Command::new(ours()).args(["ready", "--control", &place]).status().unwrap().code();
            wait_until("the drain has begun", LIMIT, || ready() == Some(1));
            send(run.pid(), SIGKILL);
            let (status, text) = end(client);
            assert_eq!(status, Some(1), "{words:?} {text}");
            assert!(text.contains("the init ended before"), "{text}");
            std::fs::remove_file(&place).unwrap();
        }
    }

    [PidNamespace, Root, Program("nsenter")]
    fn stop_names_each_step_that_failed(init) {
        let options = ["-p", "false", "-p", "/no/such/program", "-p", "sleep 60", "--pre-stop-timeout", "100ms", "-p", "true", "--post-stop", "sh -c 'exit 3'"];
        let mut run = service(init, &options);
        let (status, text) = ask(&run, &["stop"]);
        assert_eq!(status, Some(1), "{text}");
        for part in [
            "pre-stop step 1 \"false\" exited with 1\n",
            "pre-stop step 2 \"/no/such/program\" could not start: ",
            "pre-stop step 3 \"sleep 60\" ran out of time and was stopped\n",
            "post-stop step 1 \"sh -c 'exit 3'\" exited with 3\n",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        assert_eq!(text.lines().count(), 4, "{text}");
        run.exits_with(0);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn stop_names_what_was_killed(init) {
        let script = "trap '' TERM; echo up; while :; do sleep 0.05; done";
        let mut run = init.as_pid_one().options(["--grace", "1s"]).shell(script).one_stream().start();
        is_up(&run);
        let (status, text) = ask(&run, &["stop"]);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("killed ") && text.contains("sh("), "{text}");
        run.exits_with(137);
    }

    [PidNamespace, Root, Program("nsenter")]
    fn stop_after_the_command_has_ended_tells_that_no_step_has_run(init) {
        let left = "trap '' TERM; (echo left; while :; do sleep 0.05; done) & exit 0";
        let mut run = init.as_pid_one().options(["-p", "echo step", "--grace", "5s", "--leftover-grace", "4s"]).shell(left).one_stream().start();
        run.wait_for("left");
        wait_until("the command has ended", LIMIT, || ask(&run, &["status"]).1.contains("leftovers"));
        let (status, text) = ask(&run, &["stop", "--until", "prepared"]);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("pre-stop step 1 \"echo step\" was skipped"), "{text}");
        run.wait();
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_step_that_asks_for_the_stop_is_refused_with_the_reason(init) {
        let init_path = ours();
        for words in ["stop", "pre-stop", "stop --until prepared"] {
            for step in [format!("{init_path} {words}"), format!("sh -c '{init_path} {words}; exit $?'"), format!("sh -c 'setsid {init_path} {words} & wait $!'")] {
                let mut run = service(init, &["--grace", "none", "-p", &step]);
                let (status, text) = ask(&run, &["stop"]);
                assert_eq!(status, Some(1), "{step}: {text}");
                run.exits_with(0);
                run.wait_for("which would wait for itself");
            }
        }
    }

    [PidNamespace, Root, Program("nsenter")]
    fn the_command_may_ask_for_the_stop_itself(init) {
        // The signal that follows is for the whole group.
        let script = format!("trap : TERM; (trap '' TERM; exec {} stop --until prepared); echo prepared $?", ours());
        let mut run = init.as_pid_one().options(["-p", "echo step"]).shell(&script).one_stream().start();
        run.exits_with(0);
        run.timeline().assert_order(["step", "prepared 0"]);
    }

    [PidNamespace, Root, Program("nsenter"), Program("unshare")]
    fn the_command_finds_the_socket_by_a_variable(init) {
        // A mount namespace of its own has another name.
        let script = format!("echo socket $GRACE_INIT_SOCKET; unshare -m {} ready; echo ready $?; while :; do sleep 0.05; done", ours());
        let run = init.as_pid_one().shell(&script).one_stream().start();
        run.wait_for("ready 0");
        let said = run.wait_for("socket ");
        assert_eq!(said.strip_prefix("socket ").unwrap(), socket(&run).to_str().unwrap());
    }

    []
    fn a_relative_path_is_meant_from_where_the_init_was_started(init) {
        let directory = TemporaryDirectory::new();
        let mut run = init.outside().directory(directory.path()).options(["--control", "here"]).shell("echo socket $GRACE_INIT_SOCKET; echo up; exec sleep 60").one_stream().start();
        is_up(&run);
        let path = directory.path().join("here");
        run.wait_for(&format!("socket {}", path.display()));
        let output = Command::new(ours()).args(["ready", "--control", "here"]).current_dir(directory.path()).output().unwrap();
        assert_eq!(said(&output), (Some(0), String::new()));
        run.signal(SIGTERM);
        run.exits_with(128 + SIGTERM);
        assert!(!path.exists());
    }

    [PidNamespace, Root, Program("nsenter")]
    fn control_characters_do_not_reach_the_terminal_through_status(init) {
        let run = init.as_pid_one().options(["-p", "echo a\tb"]).command(["sh", "-c", SERVICE, "a\n\u{1b}[31mX"]).one_stream().start();
        is_up(&run);
        let (status, text) = ask(&run, &["status"]);
        assert_eq!(status, Some(0));
        assert!(text.contains("a\\n\\u{1b}[31mX") && !text.contains(['\u{1b}', '\t']), "{text}");
    }

    [PidNamespace, Root, Program("nsenter")]
    fn an_init_that_does_not_answer_gives_124(init) {
        let run = service(init, &[]);
        send(run.pid(), SIGSTOP);
        let asking = [begin(&run, &["ready"]), begin(&run, &["status"]), begin(&run, &["stop", "--timeout", "100ms"])];
        for client in asking {
            let (status, text) = end(client);
            assert_eq!(status, Some(124), "{text}");
        }
        send(run.pid(), SIGCONT);
    }

    [PidNamespace, Root, Program("nsenter"), Program("python3"), Program("setpriv")]
    fn another_users_socket_of_our_name_holds_nobody_up(init) {
        // It is there first, where the init and its clients look first, and its queue is full.
        let impostor = "
import os, socket, sys
path = '/run/grace-init.%d.%d.1.sock' % (os.stat('/proc/self/ns/pid').st_ino, os.stat('/proc/self/ns/mnt').st_ino)
os.umask(0); os.setuid(65534)
s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen(0)
all = []
while True:
    c = socket.socket(socket.AF_UNIX); c.setblocking(False)
    try: c.connect(path)
    except BlockingIOError: break
    all.append(c)
open('/run/full', 'w').close()
import time; time.sleep(600)
";
        let script = "mount -t tmpfs -o mode=1777 t /run && { python3 -c \"$0\" & } && while ! test -e /run/full; do sleep 0.01; done && exec \"$@\"";
        let mut run = init.as_pid_one().run_by(&["sh", "-c", script, impostor]).shell(SERVICE).one_stream().start();
        is_up(&run);
        let program = TemporaryDirectory::new();
        let copy = copy_for_all(&program);
        let begun = Instant::now();
        for words in [&["ready"][..], &["status"]] {
            let (status, text) = ask_as(0, &run, &copy, words);
            assert_eq!(status, Some(0), "{text}");
        }
        // Neither impostor nor init will have this one in.
        assert_eq!(ask_as(1_234, &run, &copy, &["ready"]).0, Some(125));
        assert_eq!(ask(&run, &["stop", "--timeout", "30s"]), (Some(0), String::new()));
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        run.exits_with(0);
    }

    [PidNamespace, Root, Program("nsenter"), Program("unshare")]
    fn with_the_parents_proc_clients_are_let_in(_init) {
        let directory = TemporaryDirectory::new();
        let place = directory.path().join("socket").to_str().unwrap().to_owned();
        let mut outer = Ended(
            Command::new("unshare")
                .args(["-p", "-f", "--kill-child", "--", &ours(), "--report", "none", "--control", &place, "sh", "-c", SERVICE])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut up = [0; 3];
        outer.0.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        let init = children(outer.0.id().cast_signed())[0].to_string();
        let ask = |words: &[&str]| {
            let mut command = Command::new("nsenter");
            command.args(["-t", &init, "-p", "--", &ours()]).args(words).args(["--control", &place]);
            said(&command.output().unwrap())
        };
        assert_eq!(ask(&["ready"]), (Some(0), String::new()));
        assert_eq!(ask(&["stop"]), (Some(0), String::new()));
        assert_eq!(outer.0.wait().unwrap().code(), Some(0));
    }

    [PidNamespace, Root, Program("nsenter"), Program("unshare")]
    fn containers_that_share_a_pid_namespace_each_have_their_own_init(init) {
        let pause = init.as_pid_one().without_init().command(["sh", "-c", "echo up; exec sleep 600"]).one_stream().start();
        pause.wait_for("up");
        let (one, two) = (Sharing::start(&pause), Sharing::start(&pause));
        for container in [&one, &two] {
            assert_eq!(container.ask(&["ready"]), (Some(0), String::new()));
            let (_, status) = container.ask(&["status"]);
            assert!(status.contains(&format!("(pid {})", container.command_pid())), "{status}");
        }
        assert_eq!(one.ask(&["stop"]), (Some(0), String::new()));
        assert_eq!(one.ask_beside(&two, &["ready"]), (Some(0), String::new()));
        // What is executed in it later is no first process: an init is there.
        let (status, text) = two.ask(&["--", "sh", "-c", "test -z \"$GRACE_INIT_SOCKET\""]);
        assert_eq!(status, Some(0), "{text}");
        // A third container of the pod finds none of theirs.
        assert_eq!(ask(&pause, &["ready"]).0, Some(127));
        assert_eq!(two.ask(&["stop"]), (Some(0), String::new()));
    }

    [PidNamespace, Root, Program("nsenter")]
    fn an_init_that_is_executed_in_a_container_later_has_no_socket(init) {
        let run = service(init, &[]);
        let words = ["sh", "-c", "test -z \"$GRACE_INIT_SOCKET\""];
        let (status, text) = ask(&run, &words);
        assert_eq!(status, Some(0), "{text}");
        let (status, text) = ask(&run, &["--", "printenv", "GRACE_INIT_SOCKET"]);
        assert_eq!(status, Some(1), "{text}");
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_hook_says_at_once_what_the_kernel_does_not_deliver_to_pid_1(init) {
        let pid_1 = init.as_pid_one().without_init().command(["sh", "-c", "echo up; exec sleep 600"]).one_stream().start();
        pid_1.wait_for("up");
        let begun = Instant::now();
        let (status, text) = ask(&pid_1, &["hook", "--stop-signal", "TERM", "--grace", "10m", "-p", "echo step"]);
        assert_eq!(status, Some(124), "{text}");
        assert!(text.contains("PID 1 neither handles nor blocks SIGTERM"), "{text}");
        // The chain has run all the same.
        assert!(text.contains("step\n") && begun.elapsed() < Duration::from_secs(60), "{text}");
        let (status, text) = ask(&pid_1, &["hook", "--stop-signal", "TERM", "--kill"]);
        assert_eq!(status, Some(125), "{text}");
        assert!(text.contains("--kill cannot end PID 1"), "{text}");
        assert!(!pid_1.is_over());
    }

    [PidNamespace, Root, Program("nsenter")]
    fn a_hook_stops_a_pid_1_that_handles_or_blocks_the_signal(init) {
        let blocks = format!("exec {} --control none -- sh -c '{}'", ours(), SERVICE.replace('\'', "\""));
        for script in [SERVICE, &blocks] {
            let mut pid_1 = init.as_pid_one().without_init().command(["sh", "-c", script]).one_stream().start();
            pid_1.wait_for("up");
            // PID 1 takes what is in its namespace with it.
            let hook = begin(&pid_1, &["hook", "--stop-signal", "TERM"]);
            pid_1.exits_with(0);
            let (status, text) = end(hook);
            assert!(matches!(status, Some(0) | None), "{status:?} {text}");
        }
    }

    []
    fn a_hook_says_when_it_skips_steps(_init) {
        let mut service = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = service.id().to_string();
        let words = ["hook", "--pid", &pid, "--pre-stop-failure", "skip", "-p", "false", "-p", "echo never"];
        let (status, text) = said(&Command::new(ours()).args(words).output().unwrap());
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("skipping the remaining steps") && !text.contains("never\n"), "{text}");
        service.kill().unwrap();
        service.wait().unwrap();
    }
}
