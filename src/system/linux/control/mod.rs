//! The control socket: where it is, who may use it, and talking through it without ever waiting for the other side.

mod connection;
mod names;

use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{Backlog, MsgFlags, getsockopt, listen, send};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, Uid, geteuid, getpid, getppid};

pub use connection::{Connection, NoConnection, is_nothing_yet};
pub use names::{VARIABLE, paths};

use crate::system::{ReadResult, WriteResult};

/// How many clients may wait to be taken in; the kernel lowers it to its own limit (net.core.somaxconn).
const BACKLOG: i32 = 1024;

/// The listening socket; its file goes when it is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Listens at the first path that can be used.
    ///
    /// # Errors
    /// The last path's; the caller goes on without a socket.
    pub fn open(paths: &[PathBuf]) -> io::Result<Self> {
        let mut last = io::Error::from(ErrorKind::NotFound);
        for path in paths {
            match Self::bind(path) {
                Ok(socket) => return Ok(Self { socket, path: path.clone() }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn bind(path: &Path) -> io::Result<UnixListener> {
        // Only a socket is replaced, and only one that nobody listens at: ours from before a restart.
        if let Ok(file) = fs::symlink_metadata(path) {
            if !file.file_type().is_socket() || connection::somebody_listens(path) {
                return Err(ErrorKind::AddrInUse.into());
            }
            fs::remove_file(path)?;
        }
        // The mode comes with the file, so that there is no moment in which it is open to others.
        let before = umask(Mode::S_IRWXG | Mode::S_IRWXO | Mode::S_IXUSR);
        let bound = UnixListener::bind(path);
        umask(before);
        let mut socket = bound?;
        if is_standard_stream(&socket) {
            socket = socket.try_clone()?;
        }
        socket.set_nonblocking(true)?;
        listen(&socket, Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN))?;
        Ok(socket)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next client that waits and may talk to us; `None` when there is none.
    ///
    /// A client that may not is turned away, and the next one looked at.
    ///
    /// # Errors
    /// EMFILE and the like: the client goes on waiting, and so keeps the socket readable.
    pub fn next_client(&self) -> io::Result<Option<Client>> {
        loop {
            match self.socket.accept() {
                Ok((stream, _)) => {
                    let stream = if is_standard_stream(&stream) { stream.try_clone()? } else { stream };
                    if let Some(peer) = admit(&stream).filter(|_| stream.set_nonblocking(true).is_ok()) {
                        return Ok(Some(Client { stream, peer }));
                    }
                }
                Err(error)
                    if [ErrorKind::Interrupted, ErrorKind::ConnectionAborted].contains(&error.kind()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether the kernel gave out 0, 1 or 2, which were closed when we were started: our log, and what a step writes, would go to
/// a client. A clone of the descriptor is above them (`BorrowedFd::try_clone_to_owned` asks for 3 or more).
fn is_standard_stream(socket: &impl AsRawFd) -> bool {
    socket.as_raw_fd() <= libc::STDERR_FILENO
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The client's PID, if it may talk to us: root or our own user, in our own PID namespace.
///
/// The kernel names the peer as it was when it connected, in our namespace's numbers; one that we cannot see has 0
/// (unix(7), SO_PEERCRED).
fn admit(stream: &UnixStream) -> Option<Pid> {
    let peer = getsockopt(stream, PeerCredentials).ok()?;
    let known_user = peer.uid() == geteuid().as_raw() || Uid::from_raw(peer.uid()).is_root();
    if !known_user || peer.pid() <= 0 {
        return None;
    }
    // A namespace below ours is visible to us but not ours. Where /proc does not let us look, the user decides.
    let namespace = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/pid")).map(|namespace| namespace.ino());
    match (namespace("self"), namespace(&peer.pid().to_string())) {
        (Ok(ours), Ok(theirs)) if ours != theirs && proc_has_our_numbers() => None,
        _ => Some(Pid::from_raw(peer.pid())),
    }
}

/// Whether `/proc` numbers processes as we do. A PID namespace may have been made without mounting it anew; then it is that
/// of our parent's, where our peers' numbers are other processes'.
fn proc_has_our_numbers() -> bool {
    fs::read_link("/proc/self").is_ok_and(|number| number.as_os_str() == getpid().to_string().as_str())
}

/// How many descriptors we may have open.
pub(super) fn max_descriptors() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX))
}

/// Whether we are the first process of a container.
///
/// Without being PID 1 we may be one where containers share a PID namespace. Our parent is not in it then, but neither is that
/// of what `kubectl exec` starts in an ordinary container: such a process shares its cgroup with PID 1, and in a container
/// of ours an init listens already.
pub fn is_first_process() -> bool {
    if getpid() == Pid::from_raw(1) {
        return true;
    }
    let cgroup = |pid: &str| fs::read(format!("/proc/{pid}/cgroup")).ok();
    getppid() == Pid::from_raw(0)
        && matches!((cgroup("1"), cgroup("self")), (Some(first), Some(ours)) if first != ours)
        && !connection::an_init_listens()
}

/// A client that is connected.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    peer: Pid,
}

impl crate::system::Client for Client {
    fn peer(&self) -> Pid {
        self.peer
    }

    fn read(&mut self, buffer: &mut [u8]) -> ReadResult {
        match self.stream.read(buffer) {
            Ok(0) => ReadResult::End,
            Ok(length) => ReadResult::Bytes(length),
            Err(error) if is_nothing_yet(&error) => ReadResult::Nothing,
            Err(_) => ReadResult::End,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> WriteResult {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match send(self.stream.as_raw_fd(), bytes, flags) {
            Ok(sent) => WriteResult::Bytes(sent),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ENOMEM) => WriteResult::Full,
            Err(_) => WriteResult::End,
        }
    }

    fn finish(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
