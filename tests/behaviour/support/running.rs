use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::process::{self, wait_until};
use super::timeline::patience;
use super::{LIMIT, TemporaryDirectory, Terminal, Timeline};

/// What the name of a process's control socket begins with, if it has a PID namespace of its own. Its mount namespace is
/// named as well, but not made yet when this is asked.
fn socket_prefix_of(init: i32) -> Option<String> {
    let namespace = |pid: &str| std::fs::metadata(format!("/proc/{pid}/ns/pid")).map(|file| file.ino()).ok();
    let (ours, theirs) = (namespace("self")?, namespace(&init.to_string())?);
    (ours != theirs).then(|| format!("grace-init.{theirs}."))
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Exited(i32),
    Killed(i32),
}

impl Ending {
    /// As a shell writes it: the code, or 128 and the signal's number.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

/// An init that was started. Dropping it kills everything that was started with it.
pub struct Running {
    stage: Child,
    init: i32,
    end_of_init: OwnedFd,
    timeline: Timeline,
    terminal: Option<Terminal>,
    stderr: Option<ChildStderr>,
    /// Where its control socket may stay behind when it is killed. The next namespace may get this one's number, and an init
    /// of another user there would find its place taken.
    socket_prefix: Option<String>,
    _links: TemporaryDirectory,
}

impl Running {
    pub(super) fn new(
        mut stage: Child,
        timeline: Timeline,
        terminal: Option<Terminal>,
        stderr: Option<ChildStderr>,
        links: TemporaryDirectory,
    ) -> Self {
        let id = stage.id().cast_signed();
        wait_until("the stage has started its program", LIMIT, || {
            if let Ok(Some(status)) = stage.try_wait() {
                panic!("the stage failed: {status}\n{}", timeline.picture());
            }
            !process::children(id).is_empty()
        });
        let init = process::children(id)[0];
        // SAFETY: the call makes a descriptor and touches no memory of ours.
        let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, init, 0) };
        let opened = i32::try_from(opened).unwrap_or(-1);
        assert!(opened >= 0, "cannot watch process {init}: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor was just made and belongs to nobody else. The stage keeps its zombie, so
        // that the pid still meant the init.
        let end_of_init = unsafe { OwnedFd::from_raw_fd(opened) };
        let socket_prefix = socket_prefix_of(init);
        Self { stage, init, end_of_init, timeline, terminal, stderr, socket_prefix, _links: links }
    }

    /// The init's pid, as seen from here.
    pub fn pid(&self) -> i32 {
        self.init
    }

    /// The pid of the init's oldest child, as seen from here.
    #[track_caller]
    pub fn child(&self) -> i32 {
        wait_until("the init has a child", LIMIT, || !process::children(self.init).is_empty());
        process::children(self.init)[0]
    }

    /// Pids of everything below the init, as seen from here.
    pub fn descendants(&self) -> Vec<i32> {
        process::descendants(self.init)
    }

    /// The control sockets in its PID namespace, at the usual places.
    pub fn sockets(&self) -> Vec<PathBuf> {
        let Some(prefix) = &self.socket_prefix else { return Vec::new() };
        let entries =
            ["/run", "/dev/shm", "/tmp"].into_iter().flat_map(std::fs::read_dir).flatten().flatten();
        let is_its = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(prefix);
        entries.filter(is_its).map(|entry| entry.path()).collect()
    }

    /// What was seen so far.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Waits for a line that contains `pattern`.
    #[track_caller]
    pub fn wait_for(&self, pattern: &str) -> String {
        self.timeline.wait_for(pattern).text
    }

    /// The terminal that it runs on.
    pub fn terminal(&self) -> &Terminal {
        self.terminal.as_ref().expect("started without a terminal")
    }

    /// Closes the terminal's window.
    pub fn close_terminal(&mut self) {
        self.terminal = None;
        // Only then has the reader let go of it too.
        self.timeline.wait_for_end();
    }

    /// Sends a signal to the init.
    #[track_caller]
    pub fn signal(&self, signal: i32) {
        self.timeline.note(&format!("sent {}", super::name(signal)));
        process::send(self.init, signal);
    }

    /// Sends a signal to the init, which may have ended meanwhile.
    pub fn signal_if_there(&self, signal: i32) {
        // SAFETY: the call takes its arguments by value; the stage keeps the zombie, so the pid is the init's.
        unsafe { libc::kill(self.init, signal) };
    }

    /// Sends a signal with a value to the init.
    #[track_caller]
    pub fn queue(&self, signal: i32, value: usize) {
        self.timeline.note(&format!("queued {} {value}", super::name(signal)));
        let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(value) };
        // SAFETY: the call takes its arguments by value.
        let result = unsafe { libc::sigqueue(self.init, signal, value) };
        assert_eq!(result, 0, "cannot queue signal {signal}: {}", std::io::Error::last_os_error());
    }

    /// Whether the init is over.
    pub fn is_over(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// Waits until the init is over; what it left behind goes on.
    #[track_caller]
    pub fn wait_until_over(&self) {
        assert!(self.ends_within(patience()), "the init does not end\n{}", self.timeline.picture());
        self.timeline.note("init over");
    }

    /// Whether the init is over before this much time has passed.
    pub fn ends_within(&self, limit: Duration) -> bool {
        use std::os::fd::AsFd;
        let milliseconds = u16::try_from(limit.as_millis()).unwrap_or(u16::MAX);
        let mut poll_fd = [PollFd::new(self.end_of_init.as_fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut poll_fd, PollTimeout::from(milliseconds)) {
                Err(nix::errno::Errno::EINTR) => {}
                ready => return ready.expect("wait for the init") > 0,
            }
        }
    }

    /// Waits until the init is over, ends whatever is left, and returns how the init ended.
    #[track_caller]
    pub fn wait(&mut self) -> Ending {
        self.wait_until_over();
        let status = self.clear();
        self.stderr = None;
        if self.terminal.is_none() {
            self.timeline.wait_for_end();
        }
        match (status.code(), status.signal()) {
            (Some(code), _) => Ending::Exited(code),
            (None, signal) => Ending::Killed(signal.unwrap_or(0)),
        }
    }

    /// Asserts that the init ends by itself with this exit status.
    #[track_caller]
    pub fn exits_with(&mut self, status: i32) {
        let ending = self.wait();
        assert_eq!(ending, Ending::Exited(status), "{}", self.timeline.picture());
    }

    /// Lets go of the stage, which then kills everything below it.
    fn clear(&mut self) -> std::process::ExitStatus {
        drop(self.stage.stdin.take());
        let ended = self.stage.wait().expect("wait for the stage");
        for socket in self.sockets() {
            let _ = std::fs::remove_file(socket);
        }
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.clear();
    }
}
