//! Sets the stage for an init under test, and clears it afterwards.
//!
//! ```text
//! stage [--pid-namespace | --pid-namespace-of PID] [--container SHM] [--read-only-run] [--bind FILE=PATH]...
//!       [--terminal PATH] [--stdin PATH] [--ignore SIG]... [--block SIG]...
//!       [--open FD=PATH]... [--close FD]... -- PROGRAM [ARG]...
//! stage --pid-namespace -- pause
//! stage --enter PID -- PROGRAM [ARG]...
//! ```
//! PROGRAM runs as PID 1 of a new PID namespace with its own `/proc`, or as an ordinary child. It
//! stays a zombie until our stdin reaches its end; then everything that is left below us is killed
//! and PROGRAM's end, a death by a signal too, becomes ours. So nothing survives the test that holds
//! the other end of our stdin, however that test ends.
//!
//! With `--container` PROGRAM has a mount namespace as a pod's container has one: a `/dev` and a `/run` of its own, and the
//! directory SHM as `/dev/shm`; with `--read-only-run` nothing can be written to that `/run`. `--bind` mounts a file there as well. `pause` is a program of ours that only reaps, as a pod's
//! infrastructure container does. `--enter` runs PROGRAM in the namespaces of process PID, as a runtime's exec does: its
//! parent stays outside, and its end becomes ours.
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    clippy::print_stderr,
    clippy::exit,
    reason = "a single-threaded test helper made of system calls"
)]

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::libc::{self, c_int, pid_t};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

type Failure = Box<dyn std::error::Error>;

#[derive(Default)]
struct Plan {
    pid_namespace: bool,
    pid_namespace_of: Option<pid_t>,
    container: Option<PathBuf>,
    read_only_run: bool,
    bind: Vec<(PathBuf, PathBuf)>,
    enter: Option<pid_t>,
    terminal: Option<PathBuf>,
    stdin: Option<PathBuf>,
    ignore: Vec<c_int>,
    block: Vec<c_int>,
    open: Vec<(c_int, PathBuf)>,
    close: Vec<c_int>,
    command: Vec<CString>,
}

fn main() {
    match plan().and_then(|plan| run(&plan)) {
        Ok(status) => end_like(status),
        Err(failure) => {
            eprintln!("stage: {failure}");
            std::process::exit(99);
        }
    }
}

fn plan() -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        let word = word.to_str().ok_or("an option is not utf-8")?.to_owned();
        match word.as_str() {
            "--" => break,
            "--pid-namespace" => {
                plan.pid_namespace = true;
                continue;
            }
            "--read-only-run" => {
                plan.read_only_run = true;
                continue;
            }
            _ => {}
        }
        let value = words.next().ok_or_else(|| format!("no value for {word}"))?;
        let value = value.to_str().ok_or("a value is not utf-8")?;
        match word.as_str() {
            "--pid-namespace-of" => plan.pid_namespace_of = Some(value.parse()?),
            "--container" => plan.container = Some(value.into()),
            "--bind" => {
                let (file, path) = value.split_once('=').ok_or("--bind wants FILE=PATH")?;
                plan.bind.push((file.into(), path.into()));
            }
            "--enter" => plan.enter = Some(value.parse()?),
            "--terminal" => plan.terminal = Some(value.into()),
            "--stdin" => plan.stdin = Some(value.into()),
            "--ignore" => plan.ignore.push(signal_number(value)?),
            "--block" => plan.block.push(signal_number(value)?),
            "--close" => plan.close.push(value.parse()?),
            "--open" => {
                let (fd, path) = value.split_once('=').ok_or("--open wants FD=PATH")?;
                plan.open.push((fd.parse()?, path.into()));
            }
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    plan.command = words.map(|word| CString::new(word.as_bytes())).collect::<Result<_, _>>()?;
    if plan.command.is_empty() {
        return Err("no program given".into());
    }
    Ok(plan)
}

fn signal_number(word: &str) -> Result<c_int, Failure> {
    if let Ok(number) = word.parse() {
        return Ok(number);
    }
    Ok(Signal::from_str(&format!("SIG{word}"))? as c_int)
}

/// Runs the plan; returns the wait status of its program.
fn run(plan: &Plan) -> Result<c_int, Failure> {
    if let Some(pid) = plan.enter {
        return enter(pid, plan);
    }
    if let Some(pid) = plan.pid_namespace_of {
        enter_user_namespace_of(pid)?;
        setns(namespace_of(pid, "pid")?, CloneFlags::CLONE_NEWPID)?;
        // Our child starts there; we stay outside, so that its parent reads 0. It brings its orphans up itself.
    } else if plan.pid_namespace {
        enter_user_namespace_unless_root()?;
        unshare(CloneFlags::CLONE_NEWPID).map_err(|e| format!("cannot make a pid namespace: {e}"))?;
    } else {
        nix::sys::prctl::set_child_subreaper(true)?;
    }
    let init = match unsafe { libc::fork() } {
        -1 => return Err(std::io::Error::last_os_error().into()),
        0 => {
            let Err(failure) = become_program(plan);
            eprintln!("stage: {failure}");
            std::process::exit(99);
        }
        pid => pid,
    };
    // The test waits for the end of these streams: only the program and its own children may hold them.
    for fd in 1..=2 {
        redirect(fd, "/dev/null", libc::O_WRONLY)?;
    }
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, if signal == libc::SIGCHLD { libc::SIG_DFL } else { libc::SIG_IGN });
        }
    }
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(clear(init))
}

fn enter_user_namespace_unless_root() -> Result<(), Failure> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if user.is_root() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|e| format!("cannot make a user namespace: {e}"))?;
    // Without this the kernel refuses the group map of an unprivileged user.
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    Ok(())
}

/// Runs the program in the namespaces of a process; returns its wait status.
fn enter(pid: pid_t, plan: &Plan) -> Result<c_int, Failure> {
    let directory = std::env::current_dir()?;
    let (pid_namespace, mount_namespace) = (namespace_of(pid, "pid")?, namespace_of(pid, "mnt")?);
    enter_user_namespace_of(pid)?;
    setns(pid_namespace, CloneFlags::CLONE_NEWPID)?;
    setns(mount_namespace, CloneFlags::CLONE_NEWNS)?;
    std::env::set_current_dir(directory)?;
    let program = match unsafe { libc::fork() } {
        -1 => return Err(std::io::Error::last_os_error().into()),
        0 => {
            // Rust's runtime ignores it.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            let Err(failure) = execute(plan);
            eprintln!("stage: {failure}");
            std::process::exit(99);
        }
        pid => pid,
    };
    let mut status = 0;
    while unsafe { libc::waitpid(program, &mut status, 0) } == -1 {}
    Ok(status)
}

fn namespace_of(pid: pid_t, kind: &str) -> Result<File, Failure> {
    let path = format!("/proc/{pid}/ns/{kind}");
    File::open(&path).map_err(|e| format!("cannot open {path}: {e}").into())
}

/// Root is in the one that it needs already.
fn enter_user_namespace_of(pid: pid_t) -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    setns(namespace_of(pid, "user")?, CloneFlags::CLONE_NEWUSER)
}

fn setns(namespace: File, kind: CloneFlags) -> Result<(), Failure> {
    nix::sched::setns(namespace, kind).map_err(|e| format!("cannot enter a namespace: {e}").into())
}

/// Makes the mounts of a container in a mount namespace that is ours alone.
fn mount_container(plan: &Plan) -> Result<(), Failure> {
    let none = None::<&str>;
    if let Some(shm) = &plan.container {
        let devices = ["null", "zero", "full", "random", "urandom"].map(|name| Path::new("/dev").join(name));
        // Opened before a new /dev hides them.
        let old =
            devices.iter().map(|device| Ok(format!("/proc/self/fd/{}", File::open(device)?.into_raw_fd())));
        let old = old.collect::<Result<Vec<_>, Failure>>()?;
        let held_shm = format!("/proc/self/fd/{}", File::open(shm)?.into_raw_fd());
        let terminals = format!("/proc/self/fd/{}", File::open("/dev/pts")?.into_raw_fd());
        for directory in ["/dev", "/run"] {
            mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
                .map_err(|e| format!("cannot mount {directory}: {e}"))?;
        }
        for (device, old) in devices.iter().zip(&old) {
            bind(Path::new(old), device)?;
        }
        for (directory, held) in [("/dev/shm", &held_shm), ("/dev/pts", &terminals)] {
            std::fs::create_dir(directory)?;
            mount(Some(held.as_str()), directory, none, MsFlags::MS_BIND, none)
                .map_err(|e| format!("cannot mount {directory}: {e}"))?;
        }
        for fd in 3..16 {
            unsafe { libc::close(fd) };
        }
    }
    plan.bind.iter().try_for_each(|(file, path)| bind(file, path))?;
    if plan.read_only_run {
        mount(none, "/run", none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)?;
    }
    Ok(())
}

/// Mounts a file at a path, which is made where it is missing.
fn bind(file: &Path, path: &Path) -> Result<(), Failure> {
    if !path.exists() {
        File::create(path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
    }
    mount(Some(file), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|e| format!("cannot mount {} at {}: {e}", file.display(), path.display()).into())
}

/// Reaps what comes to PID 1 until somebody stops us.
fn pause() -> ! {
    unsafe {
        let mut wanted = std::mem::zeroed();
        libc::sigemptyset(&mut wanted);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT] {
            libc::sigaddset(&mut wanted, signal);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &wanted, std::ptr::null_mut());
        loop {
            match libc::sigwaitinfo(&wanted, std::ptr::null_mut()) {
                libc::SIGTERM | libc::SIGINT => std::process::exit(0),
                _ => while libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 {},
            }
        }
    }
}

fn become_program(plan: &Plan) -> Result<std::convert::Infallible, Failure> {
    if plan.pid_namespace || plan.pid_namespace_of.is_some() {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>)
            .map_err(|e| format!("cannot mount /proc: {e}"))?;
        mount_container(plan)?;
    }
    if let Some(terminal) = &plan.terminal {
        nix::unistd::setsid()?;
        // The first terminal that a session leader opens becomes its controlling one.
        for fd in 0..=2 {
            redirect(fd, terminal, libc::O_RDWR)?;
        }
        take_foreground()?;
    } else {
        let stdin = plan.stdin.clone().unwrap_or_else(|| "/dev/null".into());
        redirect(0, stdin, libc::O_RDONLY)?;
    }
    for (fd, path) in &plan.open {
        redirect(*fd, path, libc::O_RDWR)?;
    }
    for fd in &plan.close {
        unsafe { libc::close(*fd) };
    }
    unsafe {
        // Rust's runtime ignores SIGPIPE, and whoever runs the tests may ignore more.
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        for signal in &plan.ignore {
            libc::signal(*signal, libc::SIG_IGN);
        }
        let mut mask = std::mem::zeroed();
        libc::sigemptyset(&mut mask);
        for signal in &plan.block {
            libc::sigaddset(&mut mask, *signal);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut());
    }
    execute(plan)
}

fn execute(plan: &Plan) -> Result<std::convert::Infallible, Failure> {
    let program = plan.command.first().ok_or("no program given")?;
    if program.as_bytes() == b"pause" {
        pause();
    }
    Err(format!("cannot execute {program:?}: {}", nix::unistd::execvp(program, &plan.command).unwrap_err())
        .into())
}

fn take_foreground() -> Result<(), Failure> {
    let group = unsafe { libc::getpgrp() };
    if unsafe { libc::tcsetpgrp(0, group) } == -1 {
        return Err(format!("no controlling terminal: {}", std::io::Error::last_os_error()).into());
    }
    Ok(())
}

/// Opens `path` as descriptor `fd`, kept across exec.
fn redirect(fd: c_int, path: impl Into<PathBuf>, flags: c_int) -> Result<(), Failure> {
    let path = path.into();
    let name = CString::new(path.as_os_str().as_bytes())?;
    let opened = unsafe { libc::open(name.as_ptr(), flags | libc::O_CREAT, 0o600) };
    if opened == -1 {
        return Err(format!("cannot open {}: {}", path.display(), std::io::Error::last_os_error()).into());
    }
    if opened != fd {
        unsafe {
            libc::dup2(opened, fd);
            libc::close(opened);
        }
    }
    Ok(())
}

/// Kills all descendants until none is left; returns the status of `init`.
fn clear(init: pid_t) -> c_int {
    let mut init_status = 0;
    // Not left to the scan: below a new user namespace the scan may see nothing.
    unsafe { libc::kill(init, libc::SIGKILL) };
    loop {
        for pid in descendants() {
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        // Wait for one, then reap whatever else has ended: a look at /proc for each of ten thousand zombies
        // would take for ever.
        let mut flags = 0;
        loop {
            let mut status = 0;
            match unsafe { libc::waitpid(-1, &mut status, flags) } {
                -1 => return init_status,
                0 => break,
                pid if pid == init => init_status = status,
                _ => {}
            }
            flags = libc::WNOHANG;
        }
    }
}

fn descendants() -> Vec<pid_t> {
    let parents: Vec<(pid_t, pid_t)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut family = vec![unsafe { libc::getpid() }];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next = next.saturating_add(1);
    }
    family.split_off(1)
}

fn end_like(status: c_int) -> ! {
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        // No second core file for a death that is only a copy.
        let _ = nix::sys::prctl::set_dumpable(false);
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::kill(libc::getpid(), signal);
            libc::pause();
        }
    }
    std::process::exit(libc::WEXITSTATUS(status));
}
