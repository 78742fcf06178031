//! What an init asks of the kernel: the trait [`System`].
//!
//! [`linux`] is the real one; it makes every system call and holds every `unsafe`. The loop in [`crate::init`] is generic
//! over the trait, so that tests run it against a simulated kernel (tests/simulation).

mod descendants;
pub mod linux;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;

pub use descendants::{Descendant, Descendants};

use crate::outcome::Outcome;
use crate::plan::{Cause, CommandLine, Control, Placement, Step};
use crate::signal::{Queued, Sender, Signal, SignalSet};
use crate::time::Moment;

/// The kernel, as an init sees it. Nothing here waits but [`System::wait`].
pub trait System {
    /// Tells how far a child is that was started.
    type ExecPipe;
    /// Where clients knock.
    type Listener;
    /// A client that is connected.
    type Client: Client;

    /// The time since the init started, on a clock that nobody sets.
    fn now(&self) -> Moment;
    /// Our own PID.
    fn own_pid(&self) -> Pid;
    /// Our parent's PID; 0 where it is outside our PID namespace.
    fn parent_pid(&self) -> Pid;
    /// Whether we have a controlling terminal.
    fn has_terminal(&self) -> bool;
    /// The signals that were ignored when we were started.
    fn ignored_at_start(&self) -> SignalSet;
    /// Our own process group.
    fn own_group(&self) -> Pid;
    /// Our own session; `None` where it cannot be told.
    fn own_session(&self) -> Option<Pid>;

    /// Makes us the parent of our descendants' orphans, as PID 1 is of all.
    ///
    /// # Errors
    /// As prctl(2) has it; the caller warns and goes on.
    fn adopt_orphans(&mut self) -> Result<(), Errno>;
    /// Gives up our controlling terminal, so that the command's session can take it.
    fn give_up_terminal(&mut self);
    /// Starts the command.
    ///
    /// # Errors
    /// When there is no process or descriptor to be had; the caller ends the run.
    fn start_command(
        &mut self,
        command: &CommandLine,
        placement: Placement,
    ) -> Result<Started<Self::ExecPipe>, StartError>;
    /// Starts a step in a process group of its own, with these variables in its environment.
    ///
    /// # Errors
    /// As for the command; the caller records the step as failed.
    fn start_step(
        &mut self,
        step: &Step,
        variables: &[(&str, OsString)],
    ) -> Result<Started<Self::ExecPipe>, StartError>;
    /// How far a child is.
    fn exec_state(&mut self, pipe: &mut Self::ExecPipe) -> ExecState;
    /// Says, for people, why a program could not be started.
    fn explain(&self, program: &OsStr, error: StartError) -> String;
    /// Asks for `signal` when our parent dies; true if it has died already, so that no signal will come.
    ///
    /// # Errors
    /// As prctl(2) has it; the caller warns and goes on.
    fn want_parent_death_signal(&mut self, signal: Signal) -> Result<bool, Errno>;
    /// Leaves the working directory, which the init would keep busy for as long as it runs.
    fn leave_working_directory(&mut self);
    /// Gives free memory back.
    fn release_memory(&mut self) {}

    /// The signals that wait, SIGCHLD included; true with them when there may be more.
    fn read_signals(&mut self) -> (Vec<Arrival>, bool);
    /// Reaps one child that has ended.
    fn reap(&mut self) -> Reaped;
    /// Lets a stopped tracee go on with the signal that it stopped for.
    fn continue_traced(&mut self, pid: Pid, signal: Signal);
    /// Sends a signal.
    ///
    /// # Errors
    /// ESRCH when nobody is there, EPERM when the target changed its user; the caller logs it and goes on.
    fn send(&mut self, target: Target, signal: Signal) -> Result<(), Errno>;
    /// Sends a signal with the value that was queued with it, in the name of who sent it.
    ///
    /// # Errors
    /// As [`System::send`], and ENOSYS or EINVAL for a group on an older kernel: the caller then signals its members.
    fn queue(&mut self, target: Target, signal: Signal, sender: Sender, queued: Queued) -> Result<(), Errno>;
    /// The process group of a process; `None` when it is gone.
    fn group_of(&self, pid: Pid) -> Option<Pid>;
    /// Suspends ourselves, as a shell's job.
    fn suspend_self(&mut self);
    /// Who descends from us; `None` where `/proc` cannot tell.
    fn descendants(&mut self) -> Option<Descendants>;
    /// Whether that process is an init of our kind, which stops what is below it itself.
    fn is_init_like_us(&self, pid: Pid) -> bool;
    /// Whether that process leads a session with a terminal and ignores SIGTERM, as interactive shells do. False where `/proc`
    /// does not tell.
    fn is_interactive_shell(&self, pid: Pid) -> bool;
    /// Whether the process was started by a step with these variables, or by what such a one started.
    fn has_variables(&self, pid: Pid, variables: &[(&str, OsString)]) -> bool;

    /// Sleeps until a signal waits, a child gets to its program, a client connects, speaks or can be written to, or the time is
    /// up (`None` is no limit). True when it is a client. It may return early.
    fn wait<'a>(
        &mut self,
        pipes: impl Iterator<Item = &'a Self::ExecPipe>,
        listener: Option<&'a Self::Listener>,
        clients: impl Iterator<Item = Awaited<'a, Self::Client>>,
        limit: Option<Duration>,
    ) -> bool
    where
        Self: 'a;

    /// Whether we are the first process of a container. Ask before [`System::listen`]: an init that listens is somebody's first.
    fn is_first_process(&self) -> bool;
    /// Opens the control socket. Children that are started afterwards find its path in their environment.
    ///
    /// # Errors
    /// When no place for it can be used; the caller goes on without.
    fn listen(&mut self, control: &Control) -> io::Result<Option<Self::Listener>>;
    /// Closes the control socket and tells children no longer of it.
    fn stop_listening(&mut self, listener: Self::Listener);
    /// The next client that waits and may talk to us; `None` when there is none.
    ///
    /// # Errors
    /// EMFILE and the like: the client goes on waiting, and the caller tries again later.
    fn accept(&mut self, listener: &Self::Listener) -> io::Result<Option<Self::Client>>;
    /// How many descriptors we may have open.
    fn max_descriptors(&self) -> usize;

    /// The file in which the kubelet shows a container's last words, if it mounted one for us.
    fn termination_log(&self) -> Option<PathBuf>;
    /// Whether there is such a file.
    fn is_there(&self, path: &Path) -> bool;
    /// Where such a file is in other places; `None` where there is none.
    fn default_report(&self) -> Option<PathBuf>;
    /// Appends a line to the report's file, if it exists. Nobody waits for it.
    fn append_report_line(&mut self, path: &Path, line: &str);
    /// Writes why the command could not be started, if the file is there and empty.
    fn report_failed_start(&mut self, path: &Path, text: &str);
    /// Takes our lines back, if nobody wrote behind them, and appends the report, if there is one. Waits no longer than
    /// `patience`.
    ///
    /// # Errors
    /// TimedOut when the disk hangs; the caller logs it and leaves.
    fn settle_report(&mut self, path: &Path, report: Option<&str>, patience: Duration) -> io::Result<()>;
}

/// The init's end of a connection. Nothing here waits.
pub trait Client {
    /// The PID at the other end.
    fn peer(&self) -> Pid;
    /// Reads what is there, at most what fits.
    fn read(&mut self, buffer: &mut [u8]) -> ReadResult;
    /// Sends what can be sent at once.
    fn write(&mut self, bytes: &[u8]) -> WriteResult;
    /// Says that nothing more comes, so that the client ends.
    fn finish(&mut self);
}

/// A client that is waited for: until it speaks or goes, and until it can be written to if there is something for it.
#[derive(Clone, Copy, Debug)]
pub struct Awaited<'a, C> {
    /// The client.
    pub client: &'a C,
    /// There is something for it.
    pub to_write: bool,
}

/// What there was to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// This many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The client has gone.
    End,
}

/// What could be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// This many bytes.
    Bytes(usize),
    /// Nothing, until the client has read more.
    Full,
    /// The client has gone.
    End,
}

/// A signal as the kernel hands it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Which one.
    pub signal: Signal,
    /// Who sent it.
    pub sender: Sender,
    /// What came with it, if sigqueue(3) sent it.
    pub queued: Option<Queued>,
}

/// Who is to get a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One process.
    Process(Pid),
    /// The process group with this leader.
    Group(Pid),
    /// Every process that we can see and may signal, but ourselves. As root outside a PID namespace of our own that
    /// is the whole machine: only PID 1 may use it.
    Everybody,
}

/// What waiting for children found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// This child has ended and is now reaped.
    Child(Pid, Outcome),
    /// This child asked to be traced by us, and stopped for a signal. It has not ended.
    Traced(Pid, Signal),
    /// Children are left, and none of them has ended.
    NoneEnded,
    /// No child is left.
    NoChildren,
}

/// A process that was forked and may not have reached its program yet.
#[derive(Debug)]
pub struct Started<P> {
    /// The process.
    pub pid: Pid,
    /// Tells how far it got.
    pub pipe: P,
}

/// How far a child got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecState {
    /// It is still on its way.
    Pending,
    /// It executes its program.
    Done,
    /// It could not.
    Failed(StartError),
}

/// What a start failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartError {
    /// What could not be done.
    pub stage: Stage,
    /// Why.
    pub errno: Errno,
}

/// The stages of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Making the process.
    Fork,
    /// Leading a session or a process group.
    Group,
    /// Executing the program.
    Exec,
}

impl From<StartError> for Cause {
    fn from(error: StartError) -> Self {
        match (error.stage, error.errno) {
            (Stage::Fork | Stage::Group, _) => Self::NoProcess,
            (Stage::Exec, Errno::ENOENT) => Self::NotFound,
            (Stage::Exec, Errno::EACCES) => Self::Denied,
            (Stage::Exec, _) => Self::NotExecutable,
        }
    }
}
