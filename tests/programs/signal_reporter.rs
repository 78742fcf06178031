//! Reports every signal that it gets, one unbuffered line each.
//!
//! ```text
//! signal_reporter [--name NAME] [--exit-on SIG=STATUS]... [--linger DURATION] [--own-session]
//!                 [--raise SIG]
//! ready pid=7 pgid=7 sid=7
//! signal SIGTERM code=SI_USER pid=0 value=0
//! ```
//! Lines begin with NAME when one is given. No signal ends it but those of `--exit-on` and KILL. With
//! `--linger` a TERM begins a cleanup that takes that long, and then the end. `--own-session` leaves the
//! session before `ready`; `--raise` dies by that signal after it.
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    clippy::print_stderr,
    clippy::exit,
    reason = "a single-threaded test helper made of system calls"
)]

use std::io::Write;
use std::str::FromStr;
use std::time::Duration;

use nix::libc::{self, c_int};
use nix::sys::signal::Signal;

type Failure = Box<dyn std::error::Error>;

#[derive(Default)]
struct Plan {
    name: String,
    exit_on: Vec<(c_int, i32)>,
    linger: Option<Duration>,
    own_session: bool,
    raise: Option<c_int>,
}

fn main() {
    if let Err(failure) = plan().and_then(|plan| report(&plan)) {
        eprintln!("signal_reporter: {failure}");
        std::process::exit(99);
    }
}

fn plan() -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--own-session" {
            plan.own_session = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("no value for {word}"))?;
        match word.as_str() {
            "--name" => plan.name = value + " ",
            "--linger" => plan.linger = Some(duration(&value)?),
            "--raise" => plan.raise = Some(number(&value)?),
            "--exit-on" => {
                let (signal, status) = value.split_once('=').ok_or("--exit-on wants SIG=STATUS")?;
                plan.exit_on.push((number(signal)?, status.parse()?));
            }
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    Ok(plan)
}

fn report(plan: &Plan) -> Result<(), Failure> {
    let mut all = unsafe { std::mem::zeroed() };
    unsafe {
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
    if plan.own_session {
        nix::unistd::setsid()?;
    }
    let (pid, pgid, sid) = unsafe { (libc::getpid(), libc::getpgrp(), libc::getsid(0)) };
    say(plan, &format!("ready pid={pid} pgid={pgid} sid={sid}"));
    if let Some(signal) = plan.raise {
        die_by(signal);
    }
    loop {
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let signal = unsafe { libc::sigwaitinfo(&all, &mut info) };
        if signal < 0 {
            // A stop and its continuation interrupt the wait.
            continue;
        }
        let (sender, value) = unsafe { (info.si_pid(), info.si_value().sival_ptr as isize) };
        // A value travels only with a queued signal; elsewhere the field holds something else.
        let value = if info.si_code == libc::SI_QUEUE { value } else { 0 };
        let code = code_name(info.si_code);
        say(plan, &format!("signal {} code={code} pid={sender} value={value}", name(signal)));
        if let Some((_, status)) = plan.exit_on.iter().find(|(on, _)| *on == signal) {
            std::process::exit(*status);
        }
        if let (libc::SIGTERM, Some(linger)) = (signal, plan.linger) {
            say(plan, "cleanup begins");
            std::thread::sleep(linger);
            say(plan, "cleanup done");
            return Ok(());
        }
    }
}

/// One write for each line, so that the lines of several reporters never mix.
fn say(plan: &Plan, line: &str) {
    let _ = std::io::stdout().write_all(format!("{}{line}\n", plan.name).as_bytes());
}

fn die_by(signal: c_int) -> ! {
    let _ = nix::sys::prctl::set_dumpable(false);
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::kill(libc::getpid(), signal);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
    std::process::exit(99);
}

fn name(signal: c_int) -> String {
    Signal::try_from(signal).map_or_else(
        |_| format!("SIGRTMIN+{}", signal.saturating_sub(libc::SIGRTMIN())),
        |known| known.as_str().to_owned(),
    )
}

fn number(word: &str) -> Result<c_int, Failure> {
    if let Ok(number) = word.parse() {
        return Ok(number);
    }
    Ok(Signal::from_str(&format!("SIG{word}"))? as c_int)
}

fn duration(word: &str) -> Result<Duration, Failure> {
    Ok(match word.strip_suffix("ms") {
        Some(milliseconds) => Duration::from_millis(milliseconds.parse()?),
        None => Duration::from_secs(word.trim_end_matches('s').parse()?),
    })
}

fn code_name(code: c_int) -> String {
    match code {
        libc::SI_USER => "SI_USER".into(),
        libc::SI_QUEUE => "SI_QUEUE".into(),
        libc::SI_KERNEL => "SI_KERNEL".into(),
        libc::SI_TKILL => "SI_TKILL".into(),
        other => other.to_string(),
    }
}
