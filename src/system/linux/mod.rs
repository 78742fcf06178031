//! The real kernel: every system call, and every `unsafe` of the project, one operation a block, each with its reason.
//!
//! Nothing here knows the shutdown machine; what is decided comes in as arguments.
#![allow(unsafe_code, reason = "system calls that have no safe wrapper, or one that does the wrong thing")]

mod builtin;
pub mod children;
pub mod clock;
pub mod control;
pub mod descendants;
pub mod entry;
mod exec;
pub mod files;
pub mod memory;
pub mod process;
mod report;
pub mod signals;
pub mod spawn;
pub mod stderr;
pub mod tty;
pub mod wait;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Pid, getpgrp, getpid, getppid, getsid};

use super::{Arrival, Awaited, Descendants, ExecState, Reaped, StartError, Started, System, Target};
use crate::plan::{CommandLine, Control, Placement, Step};
use crate::signal::{Queued, Sender, Signal, SignalSet};
use crate::time::Moment;
use clock::Clock;
use entry::Origin;
use signals::SignalFd;
use spawn::ChildContext;

/// How long the message of a start that failed may take to be written: a disk that hangs must not keep a container from failing.
const MAX_FAILED_START_WAIT: Duration = Duration::from_millis(500);

/// Writes to the container's termination log why it could not start at all, if we are its first process and nobody wrote there.
pub fn report_unusable(text: &str) {
    if !control::is_first_process() {
        return;
    }
    if let Some(path) = report::termination_log().or_else(report::default_place) {
        report::ReportFile::default().start_failed(&path, text, MAX_FAILED_START_WAIT);
    }
}

/// The kernel that we run on.
#[derive(Debug)]
pub struct Linux {
    clock: Clock,
    signals: SignalFd,
    children: ChildContext,
    report: report::ReportFile,
    own_pid: Pid,
    ignored_at_start: SignalSet,
    first_parent: Pid,
}

impl Linux {
    /// Begins to receive signals, which must be blocked already. Children are not given the `withheld` variables.
    ///
    /// # Errors
    /// As signalfd(2) has it; without it there is no init.
    pub fn open(origin: &Origin, withheld: &[String]) -> nix::Result<Self> {
        let clock = Clock::start();
        let signals = SignalFd::open()?;
        Ok(Self {
            clock,
            signals,
            children: ChildContext::of(origin, withheld),
            report: report::ReportFile::default(),
            own_pid: getpid(),
            ignored_at_start: origin.ignored,
            first_parent: origin.parent,
        })
    }
}

impl Linux {
    /// Has `@stop` mean the descendants of another process than us.
    pub fn stop_below(&mut self, root: Pid) {
        self.children.stop_below(root);
    }

    /// Sleeps as [`System::wait`], and until this descriptor can be read.
    pub fn wait_beside<'a>(
        &'a self,
        pipes: impl Iterator<Item = &'a spawn::ExecPipe>,
        beside: Option<BorrowedFd<'a>>,
        limit: Option<Duration>,
    ) {
        let descriptors = [self.signals.as_fd()].into_iter().chain(beside).chain(pipes.map(AsFd::as_fd));
        wait::until_readable(descriptors, limit);
    }
}

impl System for Linux {
    type ExecPipe = spawn::ExecPipe;
    type Listener = control::Listener;
    type Client = control::Client;

    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn own_pid(&self) -> Pid {
        self.own_pid
    }

    fn parent_pid(&self) -> Pid {
        getppid()
    }

    fn has_terminal(&self) -> bool {
        tty::is_there()
    }

    fn ignored_at_start(&self) -> SignalSet {
        self.ignored_at_start
    }

    fn own_group(&self) -> Pid {
        getpgrp()
    }

    fn own_session(&self) -> Option<Pid> {
        getsid(None).ok()
    }

    fn adopt_orphans(&mut self) -> nix::Result<()> {
        children::adopt_orphans()
    }

    fn give_up_terminal(&mut self) {
        tty::give_up();
    }

    fn start_command(
        &mut self,
        command: &CommandLine,
        placement: Placement,
    ) -> Result<Started<Self::ExecPipe>, StartError> {
        spawn::start_command(command, placement, &self.children)
    }

    fn start_step(
        &mut self,
        step: &Step,
        variables: &[(&str, OsString)],
    ) -> Result<Started<Self::ExecPipe>, StartError> {
        spawn::start_step(&step.work, variables, &self.children)
    }

    fn exec_state(&mut self, pipe: &mut Self::ExecPipe) -> ExecState {
        pipe.look()
    }

    fn explain(&self, program: &OsStr, error: StartError) -> String {
        spawn::explain(program, error, &self.children)
    }

    fn want_parent_death_signal(&mut self, signal: Signal) -> nix::Result<bool> {
        children::want_parent_death_signal(signal, self.first_parent)
    }

    fn leave_working_directory(&mut self) {
        if let Err(error) = std::env::set_current_dir("/") {
            tracing::debug!(%error, "cannot leave the working directory, which stays busy");
        }
    }

    fn release_memory(&mut self) {
        memory::give_back();
    }

    fn read_signals(&mut self) -> (Vec<Arrival>, bool) {
        self.signals.take()
    }

    fn reap(&mut self) -> Reaped {
        children::reap_one()
    }

    fn continue_traced(&mut self, pid: Pid, signal: Signal) {
        children::continue_traced(pid, signal);
    }

    fn send(&mut self, target: Target, signal: Signal) -> nix::Result<()> {
        signals::send(target, signal)
    }

    fn queue(&mut self, target: Target, signal: Signal, sender: Sender, queued: Queued) -> nix::Result<()> {
        signals::queue(target, signal, sender, queued)
    }

    fn group_of(&self, pid: Pid) -> Option<Pid> {
        signals::group_of(pid)
    }

    fn suspend_self(&mut self) {
        signals::suspend_ourselves();
    }

    fn descendants(&mut self) -> Option<Descendants> {
        descendants::find(self.own_pid, |pid| self.report.is_writer(pid))
    }

    fn is_init_like_us(&self, pid: Pid) -> bool {
        descendants::is_init_like_us(pid)
    }

    fn is_interactive_shell(&self, pid: Pid) -> bool {
        descendants::look_at(pid).is_some_and(|process| process.leads_a_terminal())
            && process::ignores(pid, Signal::TERM)
    }

    fn has_variables(&self, pid: Pid, variables: &[(&str, OsString)]) -> bool {
        descendants::has_variables(pid, variables)
    }

    fn wait<'a>(
        &mut self,
        pipes: impl Iterator<Item = &'a Self::ExecPipe>,
        listener: Option<&'a Self::Listener>,
        clients: impl Iterator<Item = Awaited<'a, Self::Client>>,
        limit: Option<Duration>,
    ) -> bool {
        let mut count: usize = 0;
        let listener = listener.map(|listener| wait::Wanted { fd: listener.as_fd(), to_write: false });
        let clients = clients.map(|one| wait::Wanted { fd: one.client.as_fd(), to_write: one.to_write });
        let clients = listener.into_iter().chain(clients).inspect(|_| count = count.saturating_add(1));
        let others = [self.signals.as_fd()].into_iter().chain(pipes.map(|pipe| pipe.as_fd()));
        let others = others.map(|fd| wait::Wanted { fd, to_write: false });
        let ready = wait::until_ready(clients.chain(others), limit);
        ready.is_some_and(|place| place < count)
    }

    fn listen(&mut self, control: &Control) -> io::Result<Option<Self::Listener>> {
        let paths = control::paths(control, self.own_pid);
        let listener = if paths.is_empty() { None } else { Some(control::Listener::open(&paths)?) };
        self.children.announce_socket(listener.as_ref().map(control::Listener::path));
        Ok(listener)
    }

    fn stop_listening(&mut self, listener: Self::Listener) {
        drop(listener);
        self.children.announce_socket(None);
    }

    fn is_first_process(&self) -> bool {
        control::is_first_process()
    }

    fn accept(&mut self, listener: &Self::Listener) -> io::Result<Option<Self::Client>> {
        listener.next_client()
    }

    fn max_descriptors(&self) -> usize {
        control::max_descriptors()
    }

    fn termination_log(&self) -> Option<PathBuf> {
        report::termination_log()
    }

    fn is_there(&self, path: &Path) -> bool {
        path.exists()
    }

    fn default_report(&self) -> Option<PathBuf> {
        report::default_place()
    }

    fn append_report_line(&mut self, path: &Path, line: &str) {
        self.report.append_line(path, line);
    }

    fn report_failed_start(&mut self, path: &Path, text: &str) {
        self.report.start_failed(path, text, MAX_FAILED_START_WAIT);
    }

    fn settle_report(&mut self, path: &Path, report: Option<&str>, patience: Duration) -> io::Result<()> {
        self.report.settle(path, report, patience)
    }
}

/// The result of a system call that returns -1 and sets errno.
fn check(result: libc::c_int) -> nix::Result<libc::c_int> {
    Errno::result(result)
}

/// Takes a new descriptor out of the way of 0, 1 and 2: when we were started with one of these closed, the
/// kernel hands it out next, and the command or our own log would write into it.
fn above_stdio(fd: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: the caller has just got it from the kernel, and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if std::os::fd::AsRawFd::as_raw_fd(&fd) > libc::STDERR_FILENO {
        return Ok(fd);
    }
    let lowest = libc::STDERR_FILENO.saturating_add(1);
    let moved = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
    // SAFETY: as above; the first one is closed when it goes out of scope.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

use nix::libc;
