//! Starting processes: the command, and the steps of a chain.
//!
//! The parent prepares everything; before its exec the child only makes async-signal-safe calls, takes no
//! lock and allocates nothing. How far it got comes through a pipe that exec closes.

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::{Pid, pipe2};

use super::entry::{Origin, set_children_ignored, set_mask};
use super::exec::Exec;
use super::{above_stdio, builtin, control, tty};
use crate::builtin::Builtin;
use crate::plan::{CommandLine, Placement, Work};
use crate::signal::SignalSet;
use crate::system::{ExecState, Stage, StartError, Started};

unsafe extern "C" {
    /// environ(7): what we were given, entry by entry; `std::env` would drop those without `=`.
    static environ: *const *const c_char;
}

/// What a child inherits as we did.
#[derive(Clone, Debug)]
pub(super) struct ChildContext {
    mask: SignalSet,
    children_ignored: bool,
    working_directory: Option<CString>,
    /// Variables that it is not given.
    withheld: Vec<String>,
    /// Where the control socket is, for the variable by which its clients find it.
    socket: Option<PathBuf>,
    /// Whose descendants `@stop` means.
    stops_below: Pid,
}

impl ChildContext {
    /// What `origin` says, the working directory of now, and our environment without the `withheld` variables.
    pub fn of(origin: &Origin, withheld: &[String]) -> Self {
        let directory =
            std::env::current_dir().ok().and_then(|path| CString::new(path.into_os_string().into_vec()).ok());
        Self {
            mask: origin.mask,
            children_ignored: origin.children_ignored,
            working_directory: directory,
            withheld: withheld.to_vec(),
            socket: None,
            stops_below: nix::unistd::getpid(),
        }
    }

    /// Has `@stop` mean the descendants of another process than us.
    pub fn stop_below(&mut self, root: Pid) {
        self.stops_below = root;
    }

    /// Tells children where the control socket is.
    pub fn announce_socket(&mut self, path: Option<&Path>) {
        self.socket = path.map(Path::to_path_buf);
    }

    /// A variable of the environment that children get.
    fn variable(&self, name: &str) -> Option<OsString> {
        if self.withheld.iter().any(|withheld| withheld == name) { None } else { std::env::var_os(name) }
    }

    /// Where a program is that was named by its path: the child stands in the directory that we have left.
    fn path_of(&self, program: &OsStr) -> PathBuf {
        let directory = self.working_directory.as_ref().map(|path| OsStr::from_bytes(path.to_bytes()));
        directory.map_or_else(PathBuf::new, PathBuf::from).join(program)
    }
}

/// The reading end of the pipe that a child's exec closes.
#[derive(Debug)]
pub struct ExecPipe(File);

impl ExecPipe {
    /// Looks how far the child is; never waits.
    pub fn look(&mut self) -> ExecState {
        let mut report = [0_u8; REPORT_SIZE];
        match self.0.read(&mut report) {
            Ok(0) => ExecState::Done,
            Ok(_) => {
                let [stage, errno @ ..] = report;
                let stage = if stage == Stage::Group as u8 { Stage::Group } else { Stage::Exec };
                ExecState::Failed(StartError { stage, errno: Errno::from_raw(i32::from_ne_bytes(errno)) })
            }
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {
                ExecState::Pending
            }
            // A pipe of our own has no other error; to go on is the better guess.
            Err(_) => ExecState::Done,
        }
    }
}

impl AsFd for ExecPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One byte for the stage, then errno.
const REPORT_SIZE: usize = 1 + size_of::<c_int>();

/// Starts the command.
///
/// # Errors
/// When there is no process to be had, or no descriptor; the caller ends the run with it.
pub(super) fn start_command(
    command: &CommandLine,
    placement: Placement,
    context: &ChildContext,
) -> Result<Started<ExecPipe>, StartError> {
    let listen_pid = listen_pid_is_ours().then_some(b"LISTEN_PID=".as_slice());
    let mut prepared = Prepared::new(command, Environment::of_ours(&[], listen_pid, context))?;
    prepared.placement = placement;
    prepared.fork(context, Then::Exec)
}

/// Starts a step that is a program: in a process group of its own, in the command's directory, with nothing on
/// standard input.
///
/// # Errors
/// As [`start_command`]; the caller records the step as failed and goes on.
pub(super) fn start_step(
    work: &Work,
    variables: &[(&str, OsString)],
    context: &ChildContext,
) -> Result<Started<ExecPipe>, StartError> {
    let environment = Environment::of_ours(variables, None, context);
    match work {
        Work::Program(command) => {
            let own =
                |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone());
            let command = command.expand(&|name| own(name).or_else(|| context.variable(name)));
            let mut prepared = Prepared::new(&command, environment)?;
            prepared.is_step = true;
            prepared.fork(context, Then::Exec)
        }
        // The loop sends it itself.
        Work::Signal(_) => Err(failure(Stage::Exec, Errno::EINVAL)),
        // A process of its own that never executes anything.
        Work::Builtin(work) => {
            let nothing = CommandLine { program: OsString::new(), arguments: Vec::new() };
            let mut prepared = Prepared::new(&nothing, environment)?;
            prepared.is_step = true;
            prepared.fork(context, Then::Builtin(work))
        }
    }
}

enum Then<'a> {
    Exec,
    Builtin(&'a Builtin),
}

/// Everything that the child needs, laid out before the fork.
struct Prepared {
    exec: Exec,
    environment: Environment,
    placement: Placement,
    is_step: bool,
    null: Option<OwnedFd>,
}

impl Prepared {
    fn new(command: &CommandLine, environment: Environment) -> Result<Self, StartError> {
        Ok(Self {
            exec: Exec::new(command).map_err(|_| failure(Stage::Exec, Errno::EINVAL))?,
            environment,
            placement: Placement::NewGroup,
            is_step: false,
            null: None,
        })
    }

    fn fork(mut self, context: &ChildContext, then: Then<'_>) -> Result<Started<ExecPipe>, StartError> {
        let (read, write) =
            pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(|errno| failure(Stage::Fork, errno))?;
        let read = above_stdio(read.into_raw_fd()).map_err(|errno| failure(Stage::Fork, errno))?;
        let write = above_stdio(write.into_raw_fd()).map_err(|errno| failure(Stage::Fork, errno))?;
        if self.is_step {
            // Out of the way of 0, for dup2(2) of a descriptor to itself would leave it to be closed by the exec.
            let null = File::open("/dev/null").map(|null| null.into_raw_fd());
            self.null = null.ok().and_then(|null| above_stdio(null).ok());
        }
        // A copy of our memory rather than a loan until the exec, as vfork(2) and posix_spawn(3) give it: that would suspend
        // us for as long as a slow file system takes, deaf to signals and past any deadline, and before Linux 5.16 a
        // core dump of the child would take us with it (fs/coredump.c, `zap_threads`).
        // SAFETY: there is one thread, and the child makes async-signal-safe calls only, or (a built-in) owns its
        // copy of everything.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(failure(Stage::Fork, Errno::last())),
            0 => self.become_child(context, &then, write.as_raw_fd()),
            pid => Ok(Started { pid: Pid::from_raw(pid), pipe: ExecPipe(File::from(read)) }),
        }
    }

    /// The child's side. Async-signal-safe up to the exec: no allocation, no lock, no log.
    fn become_child(&mut self, context: &ChildContext, then: &Then<'_>, report: RawFd) -> ! {
        let failed = match (self.is_step, self.placement) {
            (true, _) => self.stand_as_step(context),
            (false, Placement::NewSession) => {
                // SAFETY: it takes nothing.
                let result = unsafe { libc::setsid() };
                if result >= 0 {
                    tty::take_over();
                }
                result
            }
            (false, Placement::NewGroup) => {
                let result = lead_group();
                if result >= 0 {
                    tty::come_to_the_foreground();
                }
                result
            }
            (false, Placement::OurGroup) => 0,
        };
        if failed < 0 {
            give_up(report, Stage::Group, Errno::last());
        }
        if context.children_ignored {
            set_children_ignored(true);
        }
        self.environment.name_listener();
        set_mask(context.mask);
        match then {
            Then::Builtin(work) => {
                // Ours and the command's descriptors are none of its business, and an open pipe of ours would keep
                // us waiting for a program.
                // SAFETY: it takes no pointers; where it is missing they stay open for the step's short life.
                unsafe {
                    libc::syscall(libc::SYS_close_range, libc::STDERR_FILENO.saturating_add(1), u32::MAX, 0)
                };
                let status = work.run(&builtin::Below { root: context.stops_below });
                exit_now(c_int::from(status.code()))
            }
            Then::Exec => {
                let errno = self.exec.run(self.environment.as_ptr());
                give_up(report, Stage::Exec, errno)
            }
        }
    }

    fn stand_as_step(&self, context: &ChildContext) -> c_int {
        let result = lead_group();
        if let Some(directory) = &context.working_directory {
            // We left it for the root; where it has gone meanwhile the root it is.
            // SAFETY: a NUL-terminated string.
            unsafe { libc::chdir(directory.as_ptr()) };
        }
        if let Some(null) = &self.null {
            // SAFETY: it takes no pointers.
            unsafe { libc::dup2(null.as_raw_fd(), libc::STDIN_FILENO) };
        }
        result
    }
}

fn lead_group() -> c_int {
    // SAFETY: it takes no pointers.
    unsafe { libc::setpgid(0, 0) }
}

/// Tells the parent why, and ends. Async-signal-safe.
fn give_up(report: RawFd, stage: Stage, errno: Errno) -> ! {
    let [a, b, c, d] = (errno as i32).to_ne_bytes();
    let bytes: [u8; REPORT_SIZE] = [stage as u8, a, b, c, d];
    // SAFETY: the pointer and the length are those of the array; so few bytes into an empty pipe never block.
    unsafe { libc::write(report, bytes.as_ptr().cast(), bytes.len()) };
    exit_now(c_int::from(crate::outcome::ExitStatus::NOT_FOUND.code()))
}

/// Ends without running anything of the parent's.
fn exit_now(status: c_int) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(status) }
}

fn failure(stage: Stage, errno: Errno) -> StartError {
    StartError { stage, errno }
}

/// The environment of a child: ours, entry by entry, with some entries replaced, added or withheld.
struct Environment {
    /// Keeps the added strings in place.
    _added: Vec<CString>,
    array: Vec<*const c_char>,
    /// Where the child writes its own PID, `LISTEN_PID=` before it.
    listener: Option<Listener>,
}

struct Listener {
    text: Box<[u8; 24]>,
    digits_begin: usize,
}

impl Environment {
    fn of_ours(
        variables: &[(&str, OsString)],
        listener_prefix: Option<&[u8]>,
        context: &ChildContext,
    ) -> Self {
        let socket = context.socket.as_ref().map(|path| (control::VARIABLE, path.clone().into_os_string()));
        let variables: Vec<(&str, OsString)> = variables.iter().cloned().chain(socket).collect();
        let added: Vec<CString> = variables
            .iter()
            .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
            .collect();
        let replaced = |entry: &CStr| {
            let is = |prefix: &[u8]| entry.to_bytes().starts_with(prefix);
            let withheld = context.withheld.iter().map(String::as_str);
            let mut names = variables.iter().map(|(name, _)| *name).chain(withheld);
            names.any(|name| is([name.as_bytes(), b"="].concat().as_slice()))
                || listener_prefix.is_some_and(is)
        };
        let listener = listener_prefix.map(|prefix| {
            let mut text = Box::new([0_u8; 24]);
            text.iter_mut().zip(prefix).for_each(|(to, from)| *to = *from);
            Listener { text, digits_begin: prefix.len() }
        });
        let mut array: Vec<*const c_char> =
            our_entries().filter(|entry| !replaced(entry)).map(CStr::as_ptr).collect();
        array.extend(added.iter().map(|entry| entry.as_ptr()));
        array.extend(listener.iter().map(|listener| listener.text.as_ptr().cast::<c_char>()));
        array.push(ptr::null());
        Self { _added: added, array, listener }
    }

    fn as_ptr(&self) -> *const *const c_char {
        self.array.as_ptr()
    }

    /// In the child: writes its PID behind `LISTEN_PID=` (sd_listen_fds(3)). Async-signal-safe.
    fn name_listener(&mut self) {
        let Some(listener) = &mut self.listener else { return };
        // SAFETY: it takes nothing.
        let mut rest = u32::try_from(unsafe { libc::getpid() }).unwrap_or(0);
        let mut digits = [0_u8; 10];
        let mut length: usize = 0;
        for digit in &mut digits {
            *digit = u8::try_from(rest.checked_rem(10).unwrap_or(0)).unwrap_or(0).saturating_add(b'0');
            rest = rest.checked_div(10).unwrap_or(0);
            length = length.saturating_add(1);
            if rest == 0 {
                break;
            }
        }
        let places = listener.text.iter_mut().skip(listener.digits_begin);
        places.zip(digits.iter().take(length).rev()).for_each(|(to, from)| *to = *from);
    }
}

/// The entries of our own environment.
pub(super) fn our_entries() -> impl Iterator<Item = &'static CStr> {
    // SAFETY: nothing in this program changes the environment.
    let mut next = unsafe { environ };
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: not past the null entry that ends the array, for that ends this too.
        let entry = unsafe { *next };
        if entry.is_null() {
            return None;
        }
        // SAFETY: the next entry is there, if only the null one.
        next = unsafe { next.add(1) };
        // SAFETY: a NUL-terminated string that lives as long as the process.
        Some(unsafe { CStr::from_ptr(entry) })
    })
}

fn listen_pid_is_ours() -> bool {
    std::env::var("LISTEN_PID").is_ok_and(|pid| pid == nix::unistd::getpid().to_string())
}

/// Says why a program could not be executed, with what is behind an error that names the wrong file.
pub(super) fn explain(program: &OsStr, error: StartError, context: &ChildContext) -> String {
    let StartError { stage, errno } = error;
    match (stage, errno) {
        (Stage::Fork, _) => format!("cannot fork for {program:?}: {}", errno.desc()),
        (Stage::Group, _) => {
            format!("cannot create a session or process group for {program:?}: {}", errno.desc())
        }
        (Stage::Exec, Errno::ENOENT) => explain_not_found(program, &context.path_of(program)),
        (Stage::Exec, Errno::EACCES) if context.path_of(program).is_dir() => {
            format!("{program:?} is a directory")
        }
        (Stage::Exec, Errno::EACCES) => {
            format!(
                "{program:?} cannot be executed: permission denied: look at its mode, its directories and noexec mounts"
            )
        }
        (Stage::Exec, Errno::ENOEXEC) => {
            format!("{program:?} is no program for this machine: look at its architecture")
        }
        (Stage::Exec, _) => format!("{program:?} cannot be executed: {}", errno.desc()),
    }
}

/// exec says ENOENT of the program when it is a script's interpreter or a dynamic program's loader that is
/// missing (execve(2), "ERRORS").
fn explain_not_found(program: &OsStr, path: &Path) -> String {
    if !program.as_bytes().contains(&b'/') {
        return format!("{program:?} was not found in PATH: name it by its path, or set PATH");
    }
    let mut head = [0_u8; 256];
    let length = match File::open(path).and_then(|mut file| file.read(&mut head)) {
        Ok(length) => length,
        Err(_) => return format!("{program:?} was not found"),
    };
    let head = head.get(..length).unwrap_or_default();
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
        let interpreter = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        let windows = if line.ends_with(b"\r") { ": the script has Windows line ends" } else { "" };
        return format!(
            "the interpreter {:?} of {program:?} was not found{windows}",
            OsStr::from_bytes(interpreter)
        );
    }
    if head.starts_with(b"\x7fELF") {
        return format!(
            "the loader of {program:?} was not found: it is linked dynamically, and its libraries are not in the image"
        );
    }
    format!("{program:?} was not found")
}
