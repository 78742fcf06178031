//! Writing log records to standard error without ever waiting for its reader.
//!
//! O_NONBLOCK is no way: it belongs to the open file, which the command shares, and would change its writes too.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};

/// Standard error, and how it takes a record without blocking.
#[derive(Debug, Default)]
pub struct Stderr(Way);

#[derive(Debug, Default)]
enum Way {
    /// Nothing was written yet.
    #[default]
    Unknown,
    /// It was closed when we were started.
    Closed,
    /// A file: its writes do not wait for a reader.
    Plain,
    /// A socket: MSG_DONTWAIT is for one call only.
    Socket,
    /// A pipe on Linux 6.4 or later: RWF_NOWAIT is for one call only.
    NoWait,
    /// A terminal or an older kernel's pipe, opened once more for ourselves.
    Reopened(File),
    /// A pipe of another user that cannot be opened again: asked first whether it has room. What another process
    /// writes between the question and our write could still fill it; there is no better way here.
    Asked,
}

impl Stderr {
    /// Writes one record in one call.
    ///
    /// # Errors
    /// WouldBlock when it would have to wait, BrokenPipe when nobody reads, NotFound when it is closed: the record is lost.
    pub fn write(&mut self, record: &[u8]) -> io::Result<()> {
        loop {
            match &mut self.0 {
                Way::Unknown => self.0 = Way::find(),
                Way::Closed => return Err(io::ErrorKind::NotFound.into()),
                Way::Plain => return written(plain(record)),
                Way::Socket => return written(send(record)),
                Way::NoWait => match written(write_nowait(record)) {
                    Err(error) if error.raw_os_error().is_some_and(no_such_write) => self.0 = Way::reopen(),
                    result => return result,
                },
                Way::Reopened(file) => return file.write_all(record),
                Way::Asked => {
                    if !has_room() {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    return written(plain(record));
                }
            }
        }
    }
}

impl Way {
    fn find() -> Self {
        let Ok(stat) = fstat(io::stderr()) else { return Self::Closed };
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Self::Plain,
            SFlag::S_IFSOCK => Self::Socket,
            _ => Self::NoWait,
        }
    }

    fn reopen() -> Self {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        match OpenOptions::new().write(true).custom_flags(flags).open("/proc/self/fd/2") {
            Ok(file) => Self::Reopened(file),
            Err(_) => Self::Asked,
        }
    }
}

/// Whether the descriptor, the kernel or a seccomp filter has no pwritev2(2) with that flag.
fn no_such_write(errno: i32) -> bool {
    [libc::EOPNOTSUPP, libc::ENOSYS, libc::EPERM].contains(&errno)
}

fn written(result: isize) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn plain(record: &[u8]) -> isize {
    // SAFETY: the pointer and the length are those of the record.
    unsafe { libc::write(libc::STDERR_FILENO, record.as_ptr().cast(), record.len()) }
}

fn send(record: &[u8]) -> isize {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: as above.
    unsafe { libc::send(libc::STDERR_FILENO, record.as_ptr().cast(), record.len(), flags) }
}

/// pwritev2(2) at the offset -1, which is where write(2) writes.
fn write_nowait(record: &[u8]) -> isize {
    let vector = libc::iovec { iov_base: record.as_ptr().cast_mut().cast(), iov_len: record.len() };
    // SAFETY: one vector, which is the record; it is only read.
    unsafe { libc::pwritev2(libc::STDERR_FILENO, &raw const vector, 1, -1, libc::RWF_NOWAIT) }
}

/// Whether a record of at most PIPE_BUF bytes can be written at once (pipe(7): room is counted in pages).
fn has_room() -> bool {
    let stderr = io::stderr();
    let mut asked = [PollFd::new(std::os::fd::AsFd::as_fd(&stderr), PollFlags::POLLOUT)];
    poll(&mut asked, PollTimeout::ZERO) == Ok(1)
}
