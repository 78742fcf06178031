use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::process;

/// How long anything may take that should come at once: only a hang reaches it.
pub const LIMIT: Duration = Duration::from_secs(60);

thread_local! {
    static PATIENCE: Cell<Duration> = const { Cell::new(LIMIT) };
}

/// How long this thread's test waits for anything, at most.
pub(super) fn patience() -> Duration {
    PATIENCE.get()
}

/// Runs a test that is expected to fail, and so to wait in vain, with less patience.
pub(super) fn with_little_patience<T>(test: impl FnOnce() -> T) -> T {
    PATIENCE.set(Duration::from_secs(4));
    let result = test();
    PATIENCE.set(LIMIT);
    result
}

/// What was seen, in order: the lines of the process under test, and the test's own notes.
#[derive(Clone)]
pub struct Timeline {
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
    begin: Instant,
    /// Where the process tree of a failure message begins.
    root: i32,
}

#[derive(Default)]
struct Seen {
    lines: Vec<Line>,
    open_streams: usize,
    pipes: Vec<OwnedFd>,
}

impl Seen {
    fn add(&mut self, at: Duration, source: &'static str, text: &str) {
        for piece in text.split_inclusive('\n') {
            let complete = piece.ends_with('\n');
            let piece = piece.trim_end_matches(['\r', '\n']);
            let unfinished = self.lines.iter_mut().rfind(|line| line.source == source && !line.complete);
            if let Some(line) = unfinished {
                line.text.push_str(piece);
                line.complete = complete;
            } else {
                self.lines.push(Line { at, source, text: piece.to_owned(), complete });
            }
        }
    }
}

/// Whether nothing waits to be read in a pipe.
fn is_empty(pipe: &OwnedFd) -> bool {
    let mut waiting: libc::c_int = 0;
    // SAFETY: the call writes an integer.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut waiting) };
    result == -1 || waiting == 0
}

/// One line, when it was seen and where.
#[derive(Clone, Debug)]
pub struct Line {
    /// Since the start of the process under test.
    pub at: Duration,
    /// `stdout`, `stderr`, `output` for both in one, `screen` or `note`.
    pub source: &'static str,
    /// Without its line end.
    pub text: String,
    complete: bool,
}

impl Timeline {
    pub(super) fn new(root: i32) -> Self {
        let shared = Shared { seen: Mutex::default(), changed: Condvar::new(), begin: Instant::now(), root };
        Self { shared: Arc::new(shared) }
    }

    /// Collects what comes from a pipe until its end. A note is put behind all that is in it by then.
    pub(super) fn read_pipe(&self, source: &'static str, mut pipe: impl Read + AsFd + Send + 'static) {
        let held = pipe.as_fd().try_clone_to_owned().expect("hold a pipe");
        self.seen().pipes.push(held);
        self.collect(move |timeline, buffer| {
            let mut readable = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut readable, PollTimeout::NONE);
            // Read under the lock: whoever holds it and finds the pipe empty has everything in the list.
            let mut seen = timeline.seen();
            let length = pipe.read(buffer).unwrap_or(0);
            seen.add(timeline.shared.begin.elapsed(), source, &String::from_utf8_lossy(&buffer[..length]));
            length > 0
        });
    }

    /// Collects what comes from `stream` until its end.
    pub(super) fn read_from(&self, source: &'static str, mut stream: impl Read + Send + 'static) {
        self.collect(move |timeline, buffer| {
            // The master of a terminal reports EIO, not an end, once the last slave is closed.
            let length = stream.read(buffer).unwrap_or(0);
            let at = timeline.shared.begin.elapsed();
            timeline.seen().add(at, source, &String::from_utf8_lossy(&buffer[..length]));
            length > 0
        });
    }

    /// Calls `some`, which collects some more, until it says that there is no more.
    fn collect(&self, mut some: impl FnMut(&Self, &mut [u8]) -> bool + Send + 'static) {
        self.seen().open_streams += 1;
        let timeline = self.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while some(&timeline, &mut buffer) {
                timeline.shared.changed.notify_all();
            }
            timeline.seen().open_streams -= 1;
            timeline.shared.changed.notify_all();
        });
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.seen.lock().expect("the timeline is poisoned")
    }

    /// Notes what the test itself does, behind every line that was written before.
    pub fn note(&self, text: &str) {
        loop {
            let mut seen = self.seen();
            if seen.pipes.iter().all(is_empty) {
                let at = self.shared.begin.elapsed();
                seen.add(at, "note", &format!("{text}\n"));
                break;
            }
            drop(seen);
            std::thread::yield_now();
        }
        self.shared.changed.notify_all();
    }

    /// Waits for the first line that contains `pattern`, past ones too.
    #[track_caller]
    pub fn wait_for(&self, pattern: &str) -> Line {
        self.wait_for_count(pattern, 1)
    }

    /// Waits until `count` lines contain `pattern`; returns the last of these.
    #[track_caller]
    pub fn wait_for_count(&self, pattern: &str, count: usize) -> Line {
        let deadline = Instant::now() + patience();
        let mut seen = self.seen();
        loop {
            let mut matching = seen.lines.iter().filter(|line| line.text.contains(pattern));
            if let Some(line) = matching.nth(count - 1) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = seen.open_streams == 0;
            if left.is_zero() || ended {
                drop(seen);
                let why = if ended { "the output ended" } else { "the time is over" };
                panic!("waited for {count} × {pattern:?}, but {why}\n{}", self.picture());
            }
            seen = self.shared.changed.wait_timeout(seen, left).expect("the timeline is poisoned").0;
        }
    }

    /// Waits for the end of every stream: nobody holds one any more.
    #[track_caller]
    pub fn wait_for_end(&self) {
        let deadline = Instant::now() + patience();
        let mut seen = self.seen();
        while seen.open_streams > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(seen);
                panic!("the output does not end\n{}", self.picture());
            }
            seen = self.shared.changed.wait_timeout(seen, left).expect("the timeline is poisoned").0;
        }
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.seen().lines.clone()
    }

    /// The text of one source so far, its lines ended by `\n`.
    pub fn text(&self, source: &str) -> String {
        self.lines()
            .iter()
            .filter(|line| line.source == source)
            .map(|line| line.text.clone() + "\n")
            .collect()
    }

    /// How many lines contain `pattern`.
    pub fn count(&self, pattern: &str) -> usize {
        self.lines().iter().filter(|line| line.text.contains(pattern)).count()
    }

    /// Asserts that the first lines with these patterns exist and came in this order.
    #[track_caller]
    pub fn assert_order<const N: usize>(&self, patterns: [&str; N]) {
        let lines = self.lines();
        let mut last = None;
        for pattern in patterns {
            let place = lines.iter().position(|line| line.text.contains(pattern));
            assert!(place.is_some(), "never saw {pattern:?}\n{}", self.picture());
            assert!(place > last, "{pattern:?} came too early\n{}", self.picture());
            last = place;
        }
    }

    /// Asserts that no line so far contains `pattern`.
    #[track_caller]
    pub fn never_saw(&self, pattern: &str) {
        assert_eq!(self.count(pattern), 0, "saw {pattern:?}\n{}", self.picture());
    }

    /// Asserts that exactly `count` lines contain `pattern`.
    #[track_caller]
    pub fn saw_times(&self, pattern: &str, count: usize) {
        assert_eq!(self.count(pattern), count, "wanted {count} × {pattern:?}\n{}", self.picture());
    }

    /// The time between the first lines with these patterns.
    #[track_caller]
    pub fn between(&self, first: &str, second: &str) -> Duration {
        self.assert_order([first, second]);
        let at = |pattern: &str| {
            self.lines()
                .iter()
                .find(|line| line.text.contains(pattern))
                .map_or(Duration::ZERO, |line| line.at)
        };
        at(second).saturating_sub(at(first))
    }

    /// Everything seen so far and the processes that are left, for failure messages.
    pub fn picture(&self) -> String {
        let mut text = String::from("seen:\n");
        for line in self.lines() {
            let _ = writeln!(text, "  {:8.3}s {:6} {}", line.at.as_secs_f64(), line.source, line.text);
        }
        let _ = write!(text, "processes:\n{}", process::tree(self.shared.root));
        text
    }
}
