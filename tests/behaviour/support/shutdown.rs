//! What tests of the shutdown need besides: phases, gates, what is left afterwards.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::libc;

use super::process::{self, wait_until};
use super::{LIMIT, Running, Stage, TemporaryDirectory, example};

/// So long that a test in which any of it is waited for never ends.
pub const HOURS: &[&str] = &["--grace", "3h"];

impl Stage {
    /// Logs everything, as JSON, so that [`Running::wait_for_phase`] sees it.
    pub fn observed(self) -> Self {
        self.options(["--log-level", "debug", "--log-format", "json"])
    }

    /// The command is a shell script; besides what [`Stage::shell`] offers, `$hide` and `$forks` are our examples.
    pub fn script(self, text: &str) -> Self {
        self.env("hide", example("hide")).env("forks", example("forks")).shell(text)
    }

    /// The shell of a step or of the command waits at this gate by `read line < $gate`.
    pub fn gate(self, gate: &Gate) -> Self {
        self.env("gate", &gate.path)
    }

    /// Adds `--pre-stop` with these words.
    pub fn step(self, words: &str) -> Self {
        self.options(["--pre-stop", words])
    }

    /// Adds `--pre-stop` with this shell script. The log, which names every step, does not show the script's words, so
    /// that they are seen only when they are said.
    pub fn shell_step(self, script: &str) -> Self {
        self.env("hide", example("hide"))
            .env("reporter", example("signal_reporter"))
            .shell_words("--pre-stop", script)
    }

    /// Adds `--post-stop` with this shell script, in the same way.
    pub fn shell_post_step(self, script: &str) -> Self {
        self.shell_words("--post-stop", script)
    }

    fn shell_words(self, option: &str, script: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let variable = format!("script_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let words = format!("sh -c 'eval \"${variable}\"'");
        self.env(&variable, script).options([option, &words])
    }
}

impl Running {
    /// Waits until the init, started with [`Stage::observed`], says that it is in this phase.
    #[track_caller]
    pub fn wait_for_phase(&self, phase: &str) {
        self.wait_for(&in_phase(phase));
    }

    /// Asserts that the init, started with [`Stage::observed`], never was in this phase.
    #[track_caller]
    pub fn never_in_phase(&self, phase: &str) {
        self.timeline().never_saw(&in_phase(phase));
    }

    /// Presses Ctrl-C once more after a while, which moves the shutdown on; the Ctrl-C before must be older than this call.
    #[track_caller]
    pub fn press_ctrl_c_again(&self) {
        let_pass(Duration::from_millis(600));
        self.terminal().type_in("\x03");
    }

    /// Asserts that all that was started below the init, wherever it hid, is gone now that the init is over.
    #[track_caller]
    pub fn leaves_nothing_behind(&self) {
        assert!(self.is_over(), "the init is not over");
        let stage = process::status_field(self.pid(), "PPid").and_then(|pid| pid.parse().ok());
        let stage: i32 = stage.expect("the stage keeps the init's zombie");
        let left: Vec<i32> =
            process::descendants(stage).into_iter().filter(|&pid| pid != self.pid()).collect();
        // What was killed in the init's last moment may be a zombie that nobody has waited for.
        let alive = left.iter().any(|&pid| !process::is_dead(pid));
        assert!(!alive, "left behind: {left:?}\n{}", self.timeline().picture());
    }

    /// The pid, as seen from here, of the process below the init whose command line contains `words`.
    #[track_caller]
    pub fn process_with(&self, words: &str) -> i32 {
        let mut found = None;
        wait_until(&format!("a process has {words:?}"), LIMIT, || {
            // Its words are also those of the shell that starts it, and that shell is older.
            found = self.descendants().into_iter().rfind(|&pid| process::command_line(pid).contains(words));
            found.is_some()
        });
        found.unwrap_or(0)
    }

    /// Asserts that this much time or more lies between the first lines with these patterns. Lines are seen late, never
    /// early: `first` is to be a note, or the bound loose.
    #[track_caller]
    pub fn at_least(&self, wanted: Duration, first: &str, second: &str) {
        let taken = self.timeline().between(first, second);
        assert!(
            taken >= wanted,
            "{first:?} to {second:?} took only {taken:?}\n{}",
            self.timeline().picture()
        );
    }

    /// Asserts that between the first lines with these patterns lies less than this.
    #[track_caller]
    pub fn at_most(&self, wanted: Duration, first: &str, second: &str) {
        let taken = self.timeline().between(first, second);
        assert!(taken < wanted, "{first:?} to {second:?} took {taken:?}\n{}", self.timeline().picture());
    }
}

fn in_phase(phase: &str) -> String {
    format!("\"phase\":\"{phase}\"")
}

/// Lets time pass that is itself what a test is about.
pub fn let_pass(time: Duration) {
    let begin = Instant::now();
    wait_until("time has passed", LIMIT, || begin.elapsed() >= time);
}

/// A place where a script under test waits until the test lets it go on.
pub struct Gate {
    path: PathBuf,
    _directory: TemporaryDirectory,
}

impl Gate {
    /// A closed one.
    pub fn new() -> Self {
        let directory = TemporaryDirectory::new();
        let path = directory.path().join("gate");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("make a fifo");
        Self { path, _directory: directory }
    }

    /// Lets one script through; returns once it has come there.
    pub fn open(&self) {
        let mut gate = None;
        wait_until("somebody waits at the gate", LIMIT, || {
            gate = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&self.path).ok();
            gate.is_some()
        });
        let mut gate = gate.expect("an open gate");
        // Who comes before this one is closed would go through too, by its end: they find a gate of their own.
        let next = self.path.with_extension("next");
        nix::unistd::mkfifo(&next, nix::sys::stat::Mode::S_IRWXU).expect("make a fifo");
        std::fs::rename(next, &self.path).expect("put the next gate in its place");
        gate.write_all(b"go\n").expect("open the gate");
    }

    /// The fifo.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
