//! Receiving signals through a signalfd and sending them.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::unistd::{Pid, getpid};

use super::process::open_pidfd;
use super::{above_stdio, check};
use crate::signal::{Queued, Sender, Signal, SignalSet};
use crate::system::{Arrival, Target};

/// Where blocked signals are read from.
#[derive(Debug)]
pub struct SignalFd {
    file: std::fs::File,
    own_pid: Pid,
}

impl SignalFd {
    /// A descriptor for every signal; the mask must block them already.
    ///
    /// # Errors
    /// As signalfd(2) has it; without it there is no init, so the caller gives up before the command is started.
    pub fn open() -> nix::Result<Self> {
        let all = SignalSet::ALL.bits();
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // The raw call, because the C library's set has no room for signals 32 and 33.
        // SAFETY: the set is 8 bytes, as its size says, and only read.
        let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const all, size_of::<u64>(), flags) };
        let fd: OwnedFd = above_stdio(check(libc::c_int::try_from(fd).unwrap_or(-1))?)?;
        Ok(Self { file: fd.into(), own_pid: getpid() })
    }
}

/// How many signals are taken at once.
const AT_ONCE: usize = 16;
const INFO_SIZE: usize = size_of::<libc::signalfd_siginfo>();

impl SignalFd {
    /// The signals that wait, SIGCHLD included; true with them when there may be more.
    ///
    /// What we sent ourselves is left out: the SIGPIPE of a log line that nobody reads (write(2), EPIPE), and the
    /// SIGHUP and SIGCONT that the kernel sends in our name when we give up our terminal
    /// (drivers/tty/tty_jobctrl.c, `disassociate_ctty`). Passed on, that SIGHUP would end the command.
    pub fn take(&mut self) -> (Vec<Arrival>, bool) {
        let mut bytes = [0_u8; AT_ONCE * INFO_SIZE];
        let length = (&self.file).read(&mut bytes).unwrap_or(0);
        let (infos, _) = bytes.split_at(length.min(bytes.len()));
        let arrivals =
            infos.chunks_exact(INFO_SIZE).filter_map(|info| self.arrival(info.try_into().ok()?)).collect();
        (arrivals, length == bytes.len())
    }

    fn arrival(&self, bytes: &[u8; INFO_SIZE]) -> Option<Arrival> {
        // SAFETY: the structure is plain integers, any bytes are one, and the size is the same.
        let info: libc::signalfd_siginfo = unsafe { std::mem::transmute_copy(bytes) };
        let signal = Signal::from_number(i32::try_from(info.ssi_signo).ok()?)?;
        let pid = i32::try_from(info.ssi_pid).unwrap_or(0);
        if info.ssi_code == libc::SI_USER && pid == self.own_pid.as_raw() {
            return None;
        }
        // Positive codes are the kernel's own (sigaction(2), "si_code").
        let sender = match pid {
            _ if info.ssi_code > 0 => Sender::Kernel,
            0 => Sender::Outside,
            pid => Sender::Process(pid),
        };
        let queued = Queued { value: info.ssi_ptr, user: info.ssi_uid };
        Some(Arrival { signal, sender, queued: Some(queued).filter(|_| info.ssi_code == libc::SI_QUEUE) })
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Sends a signal.
///
/// By the raw call, for nix's knows no real-time signals.
///
/// # Errors
/// ESRCH when nobody is there, EPERM when the target changed its user; the caller logs it and goes on.
pub fn send(target: Target, signal: Signal) -> nix::Result<()> {
    let pid = match target {
        Target::Process(pid) => pid.as_raw(),
        Target::Group(leader) => leader.as_raw().saturating_neg(),
        Target::Everybody => -1,
    };
    // SAFETY: it takes no pointers.
    check(unsafe { libc::kill(pid, signal.number()) }).map(drop)
}

/// The kernel's `siginfo` of a queued signal (include/uapi/asm-generic/siginfo.h, `_rt`) on 64-bit machines.
#[repr(C)]
struct QueuedInfo {
    signal: i32,
    errno: i32,
    code: i32,
    padding: i32,
    pid: i32,
    user: u32,
    value: u64,
    rest: [u8; 96],
}

const _: () = assert!(size_of::<QueuedInfo>() == size_of::<libc::siginfo_t>() && size_of::<usize>() == 8);

/// PIDFD_SIGNAL_PROCESS_GROUP of include/uapi/linux/pidfd.h, since Linux 6.9.
const TO_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// Sends `signal` with the value that was queued with it, in the name of who sent it.
///
/// A value reaches a whole group only since Linux 6.9.
///
/// # Errors
/// As [`send`], and ENOSYS or EINVAL for a group on an older kernel: the caller then signals its members.
pub fn queue(target: Target, signal: Signal, sender: Sender, queued: Queued) -> nix::Result<()> {
    let pid = match sender {
        Sender::Process(pid) => pid,
        Sender::Kernel | Sender::Outside => 0,
    };
    let info = QueuedInfo {
        signal: signal.number(),
        errno: 0,
        code: libc::SI_QUEUE,
        padding: 0,
        pid,
        user: queued.user,
        value: queued.value,
        rest: [0; 96],
    };
    let info = &raw const info;
    match target {
        Target::Process(pid) => {
            // SAFETY: the structure has the kernel's layout, asserted above, and is only read.
            let result =
                unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, pid.as_raw(), signal.number(), info) };
            check(libc::c_int::try_from(result).unwrap_or(-1)).map(drop)
        }
        Target::Group(leader) => {
            let leader = open_pidfd(leader)?;
            let fd = std::os::fd::AsRawFd::as_raw_fd(&leader);
            // SAFETY: as above.
            let result = unsafe {
                libc::syscall(libc::SYS_pidfd_send_signal, fd, signal.number(), info, TO_PROCESS_GROUP)
            };
            check(libc::c_int::try_from(result).unwrap_or(-1)).map(drop)
        }
        Target::Everybody => Err(nix::errno::Errno::EINVAL),
    }
}

/// Suspends ourselves, as a shell's job.
///
/// Never as PID 1: a SIGSTOP stops nothing there, yet it takes away a SIGCONT that waits to be read
/// (kernel/signal.c, `prepare_signal`), and the command would stay suspended.
pub fn suspend_ourselves() {
    let me = getpid();
    if me != Pid::from_raw(1) {
        let _ = send(Target::Process(me), Signal::STOP);
    }
}

/// The process group of a process; `None` when it is gone.
pub fn group_of(pid: Pid) -> Option<Pid> {
    nix::unistd::getpgid(Some(pid)).ok()
}
