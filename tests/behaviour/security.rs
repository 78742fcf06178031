//! Who may see and do what (SECURITY.md), and what the program asks of the kernel.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::libc::{self, SIGTERM};

use crate::support::Need::{ContainerTools, Docker, DynamicBuild, PidNamespace, Program};
use crate::support::container::{Docker as Daemon, static_file};
use crate::support::process::{self, wait_until};
use crate::support::server::Server;
use crate::support::shutdown::HOURS;
use crate::support::{LIMIT, Running, TemporaryDirectory, behaviours, example};

/// What no record, report, status or picture may hold.
const SECRET: &str = "hunter2-of-the-database";

fn profile_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/seccomp.json")
}

/// The calls that the profile in docker/ allows.
fn allowed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(profile_path()).unwrap();
    let profile: serde_json::Value = serde_json::from_str(&text).unwrap();
    let groups = profile["syscalls"].as_array().expect("the profile's calls");
    assert!(groups.iter().all(|group| group["action"] == "SCMP_ACT_ALLOW"));
    let names = groups.iter().flat_map(|group| group["names"].as_array().into_iter().flatten());
    names.filter_map(|name| name.as_str()).map(str::to_owned).collect()
}

/// The calls in a log of `strace -f` that the program made itself: from its own exec on, and those of its children up
/// to theirs.
fn own_calls(log: &str) -> BTreeSet<String> {
    let lines: Vec<(i32, &str)> = log
        .lines()
        .filter_map(|line| {
            let (pid, rest) = line.trim_start().split_once(' ')?;
            Some((pid.parse().ok()?, rest.trim_start()))
        })
        .collect();
    // The exec of the program itself is its caller's.
    let Some(((root, _), lines)) = lines.split_first() else { return BTreeSet::new() };
    let mut born = BTreeSet::from([*root]);
    // A child's calls may stand before the end of the call that made it.
    loop {
        let (calls, children) = calls_of(lines, &born);
        if children.is_subset(&born) {
            return calls;
        }
        born.extend(children);
    }
}

/// The calls of these processes up to their exec, and the children that they made by then.
fn calls_of(lines: &[(i32, &str)], born: &BTreeSet<i32>) -> (BTreeSet<String>, BTreeSet<i32>) {
    let (mut calls, mut children, mut gone) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (pid, line) in lines.iter().filter(|(pid, _)| born.contains(pid)) {
        let resumed = line.strip_prefix("<... ").and_then(|rest| rest.split_once(' '));
        let Some((name, _)) = resumed.or_else(|| line.split_once('(')) else { continue };
        if gone.contains(pid) || name.starts_with(['-', '+']) {
            continue;
        }
        calls.insert(name.to_owned());
        let result = line.rsplit_once(" = ").and_then(|(_, result)| result.split(' ').next()?.parse::<i32>().ok());
        match (name, result) {
            ("clone" | "fork", Some(child)) if child > 0 => drop(children.insert(child)),
            ("execve", Some(0)) => drop(gone.insert(*pid)),
            _ => {}
        }
    }
    (calls, children)
}

/// Runs our static file under strace; its end is its own. The tracer is no parent of it (`-D`).
fn traced(log: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o"]).arg(log).arg(static_file()).args(words);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// The log once strace, which outlives what it traced, has written its end.
fn finished(log: &Path) -> String {
    let mut text = String::new();
    wait_until("strace has written everything", LIMIT, || {
        text = std::fs::read_to_string(log).unwrap_or_default();
        text.lines().any(|line| line.contains("exit_group("))
    });
    text
}

/// Runs a client of the init at this socket.
fn client(program: &Path, words: &[&str], socket: &str) -> Output {
    Command::new(program).args(words).args(["--control", socket]).output().unwrap()
}

/// A stay with everything in it: relays, clients, every kind of step, a kill at the deadline, a report.
fn a_whole_life(directory: &TemporaryDirectory) -> BTreeSet<String> {
    let socket = directory.path().join("socket").display().to_string();
    let report = directory.file("report", 0o666, "").display().to_string();
    let log = directory.path().join("life");
    let script = "trap '' TERM; trap 'echo got HUP' HUP; trap : 35; (setsid sh -c 'trap \"\" TERM; sleep 1000' &); sleep 0.1 & echo ready; while :; do sleep 0.05; done";
    let server = Server::new(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
    });
    let wait_http = format!("@wait-http http://127.0.0.1:{}/", server.port());
    let mut command = traced(&log, &[
        "--control", &socket, "--report", &report, "--grace", "4s", "--drain", "10ms", "-p", "@sleep 10ms", "-p", "@signal HUP",
        "-p", "@http GET http://127.0.0.1:1/", "-p", "@wait-file /", "-p", "@wait-port-idle 1", "-p", "@stop nobody", "-p", &wait_http, "-p", "no-such-program", "-p", "echo step",
        "--post-stop", "true", "--log-format", "json", "--log-level", "debug", "--", "sh", "-c", script,
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    wait_until("it listens", LIMIT, || Path::new(&socket).exists());
    let status = client(&static_file(), &["status", "--json"], &socket);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let pid = i32::try_from(status["init_pid"].as_i64().unwrap()).unwrap();
    assert!(client(&static_file(), &["ready"], &socket).status.success());
    let value = libc::sigval { sival_ptr: std::ptr::null_mut() };
    process::send(pid, libc::SIGHUP);
    // SAFETY: the call takes its arguments by value; the init is our child and not reaped.
    unsafe { libc::sigqueue(pid, libc::SIGRTMIN() + 1, value) };
    process::send(pid, SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(137));
    own_calls(&finished(&log))
}

behaviours! {
    [Program("strace"), ContainerTools]
    fn every_call_that_is_made_is_in_the_seccomp_profile(init) {
        let _ = init;
        let directory = TemporaryDirectory::new();
        let mut calls = a_whole_life(&directory);
        let log = |name: &str| directory.path().join(name);
        for (name, words) in [
            ("version", vec!["--version"]),
            ("nobody", vec!["ready", "--control", "/nowhere/socket"]),
            ("not-found", vec!["--", "no-such-program"]),
            ("hook", vec!["hook", "--pid", "1", "-p", "@sleep 1ms"]),
            ("single", vec!["-c", "--", "true"]),
            ("dies", vec!["--parent-death-signal", "TERM", "--", "true"]),
            // Reading them takes memory that is given back.
            ("many", [[["-e", "7"]; 500].concat(), vec!["--", "true"]].concat()),
        ] {
            let _ = traced(&log(name), &words).output().unwrap();
            calls.extend(own_calls(&finished(&log(name))));
        }
        let allowed = allowed();
        let unknown: Vec<&String> = calls.difference(&allowed).collect();
        assert!(unknown.is_empty(), "not in docker/seccomp.json: {unknown:?}");
        // Nothing is allowed for years after the last call of it has gone.
        let unused: Vec<String> = allowed.difference(&calls).cloned().collect();
        assert_eq!(unused, ELSEWHERE, "in docker/seccomp.json and never seen");
    }

    [Program("strace"), ContainerTools]
    fn no_file_is_opened_before_the_command_but_the_report_the_terminal_and_those_in_proc(init) {
        let _ = init;
        let directory = TemporaryDirectory::new();
        let log = directory.path().join("opens");
        let report = directory.file("report", 0o666, "").display().to_string();
        let words = ["--report", &report, "--", "/bin/true"];
        let status = traced(&log, &words).envs([("LANG", "de_DE.UTF-8"), ("TZ", "Europe/Berlin")]).status().unwrap();
        assert!(status.success());
        let text = finished(&log);
        let mut executed = 0;
        let mut strangers = BTreeSet::new();
        for line in text.lines().take_while(|line| {
            executed += i32::from(line.contains("execve") && line.ends_with(" = 0"));
            // The second is the command's.
            executed < 2
        }) {
            let path = line.split('"').nth(1).unwrap_or_default();
            if line.contains(" open") && !path.starts_with("/proc/") && ![report.as_str(), "/dev/tty"].contains(&path) {
                strangers.insert(path.to_owned());
            }
        }
        assert_eq!(executed, 2, "{text}");
        assert!(strangers.is_empty(), "{strangers:?}");
    }

    [ContainerTools]
    fn an_error_takes_no_backtrace_whatever_the_environment_says(init) {
        let _ = init;
        // What takes one for an error asks this variable first; a panic asks RUST_BACKTRACE alone.
        let name = b"RUST_LIB_BACKTRACE";
        let file = std::fs::read(static_file()).unwrap();
        assert!(!file.windows(name.len()).any(|window| window == name), "the release can take a backtrace of an error");
    }

    [Docker, ContainerTools]
    fn the_init_runs_in_a_container_that_allows_nothing_else(init) {
        let _ = init.in_container();
        let option = format!("seccomp={}", profile_path().display());
        let words = ["run", "--rm", "--security-opt", &option, "--cap-drop", "ALL", "--network", "none"];
        // The command is our own program too, so that nothing but the profile's calls is needed.
        let command = ["grace-init-behaviour", "/grace-init", "--post-stop", "@sleep 10ms", "--", "/grace-init", "--version"];
        // Without new privileges the filter is set as the last thing before the exec, else while runc still changes the user.
        for privileges in [&["--security-opt", "no-new-privileges"][..], &[]] {
            let said = Daemon::default().attempt(words.iter().chain(privileges).chain(&command)).unwrap();
            assert!(said.starts_with("grace-init "), "{said}");
        }
        let refused = ["grace-init-behaviour", "/bin/mkdir", "/tmp/x"];
        Daemon::default().attempt(words.iter().chain(&refused)).expect_err("the profile allows what it does not name");
    }

    [PidNamespace]
    fn no_value_of_the_environment_is_in_the_log_the_report_or_the_status(init) {
        let directory = TemporaryDirectory::new();
        let report = directory.file("report", 0o666, "");
        let stage = init.as_pid_one().env("PASSWORD", SECRET).options(["--log-level", "trace", "--report", report.to_str().unwrap()]);
        let path = stage.init_path();
        let stage = stage.options(HOURS).step("false").step("no-such-program").options(["--post-stop", "false"]);
        let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
        let mut run = stage.env("init", path).shell(script).one_stream().start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(3);
        run.timeline().never_saw(SECRET);
        let report = std::fs::read_to_string(report).unwrap();
        assert!(report.contains("no-such-program") && !report.contains(SECRET), "{report}");
    }

    []
    fn no_value_of_the_environment_is_in_a_status_or_a_picture(init) {
        let directory = TemporaryDirectory::new();
        let socket = directory.path().join("socket").display().to_string();
        let stage = init.outside().env("PASSWORD", SECRET).options(["--control", &socket]);
        let program = PathBuf::from(stage.init_path());
        let run = stage.reporter(&[]).start();
        run.wait_for("ready");
        wait_until("it listens", LIMIT, || Path::new(&socket).exists());
        for words in [&["status"][..], &["status", "--json"]] {
            let output = client(&program, words, &socket);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && said.contains("signal_reporter") && !said.contains(SECRET), "{said}");
        }
        let picture = Command::new(&program).args(["--explain", "-p", "echo", "true"]).env("PASSWORD", SECRET).output().unwrap();
        assert!(picture.status.success() && !String::from_utf8_lossy(&picture.stdout).contains(SECRET));
    }

    []
    fn a_bad_value_in_a_variable_of_ours_is_named_and_others_are_not(init) {
        let mut command = Command::new(init.outside().init_path());
        let output = command.arg("true").env("GRACE_INIT_GRACE", "soon").env("PASSWORD", SECRET).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("\"soon\" (from GRACE_INIT_GRACE)") && !said.contains(SECRET), "{said}");
    }

    // In a static file valgrind cannot put its own allocator in the place of musl's, which reads memory that it never wrote.
    [Program("valgrind"), DynamicBuild]
    fn a_whole_shutdown_is_without_an_error_of_memory(init) {
        let directory = TemporaryDirectory::new();
        let report = directory.file("report", 0o666, "").display().to_string();
        let socket = directory.path().join("socket").display().to_string();
        let log = directory.path().join("valgrind-%p");
        let option = format!("--log-file={}", log.display());
        // Only the init's own process: what it executes is not ours.
        let words = ["valgrind", "--error-exitcode=99", "--child-silent-after-fork=no", "--trace-children=no", &option];
        let stage = init.outside().run_by(&words).options(["--control", &socket, "--report", &report, "--grace", "30s"]);
        let program = PathBuf::from(stage.init_path());
        let stage = stage.step("@sleep 1ms").step("false").step("no-such-program").options(["--post-stop", "true"]);
        let mut run = stage.reporter(&["--exit-on", "TERM=4"]).one_stream().start();
        run.wait_for("ready pid");
        wait_until("the init answers", LIMIT, || client(&program, &["ready"], &socket).status.success());
        assert!(client(&program, &["status"], &socket).status.success());
        run.signal(libc::SIGUSR1);
        run.wait_for("signal SIGUSR1");
        run.signal(SIGTERM);
        run.exits_with(4);
        let mut summaries = 0;
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("valgrind-") {
                let text = std::fs::read_to_string(&path).unwrap();
                for line in text.lines().filter(|line| line.contains("ERROR SUMMARY")) {
                    assert!(line.contains(" 0 errors"), "{text}");
                    summaries += 1;
                }
            }
        }
        assert!(summaries >= 1, "valgrind said nothing");
    }

    []
    fn no_stream_of_a_client_reaches_a_step_or_the_command(init) {
        // What a client holds open is its own: the command and each step see the same descriptors with and without it.
        let directory = TemporaryDirectory::new();
        let socket = directory.path().join("socket").display().to_string();
        let stage = init.outside().options(["--control", &socket]).options(HOURS);
        let step = format!("{} once", example("world").display());
        let mut run = stage.step(&step).reporter(&["--exit-on", "TERM=4"]).one_stream().start();
        run.wait_for("ready");
        wait_until("it listens", LIMIT, || Path::new(&socket).exists());
        let open = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        run.signal(SIGTERM);
        run.exits_with(4);
        drop(open);
        let without = init.outside().without_init().command([example("world")]).start();
        without.wait_for("done");
        assert_eq!(descriptors(&run), descriptors(&without), "{}", run.timeline().picture());
    }
}

/// The numbers of the descriptors that `world` has told of.
fn descriptors(run: &Running) -> BTreeSet<String> {
    let lines = run.timeline().lines();
    lines.iter().filter_map(|line| Some(line.text.strip_prefix("fd ")?.split(' ').next()?.to_owned())).collect()
}

/// What the profile names besides: for arm64, which has no older spelling of a call, for moments that these runs do not meet,
/// such as a suspension, a closed standard stream, a value queued for a single child or a large allocation, and for runc, which is
/// under the filter when it makes its last calls: fstatfs, futex and, unless there are no new privileges, those that change the user.
const ELSEWHERE: &[&str] = &[
    "capget", "capset", "dup3", "faccessat", "fstatfs", "futex", "madvise", "mprotect", "mremap", "newfstatat", "openat", "readlinkat",
    "restart_syscall", "rt_sigqueueinfo", "rt_sigreturn", "setgid", "setgroups", "setuid", "shutdown", "statx", "unlinkat",
];
