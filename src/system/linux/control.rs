//! The control socket: where it is, who may use it, and talking through it without ever waiting for the other side.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, send, socket,
};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, Uid, geteuid};

use crate::plan::Control;
use crate::system::ReadResult;

/// Where the socket may be: `/dev/shm` is there on a read-only root, though a pod's containers share it.
const DIRECTORIES: [&str; 3] = ["/run", "/dev/shm", "/tmp"];

/// The paths that the socket of the init `pid` of our own PID namespace may have, the best first.
///
/// The name holds the namespace, by which `/dev/shm` and `/tmp` can be shared, and which a client in the container
/// can read as well as we.
pub fn paths(control: &Control, pid: Pid) -> Vec<PathBuf> {
    let namespace = fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino());
    let name = format!("grace-init.{namespace}.{pid}.sock");
    match control {
        Control::None => Vec::new(),
        Control::At(path) if path.is_dir() => vec![path.join(name)],
        Control::At(path) => vec![path.clone()],
        Control::Default => DIRECTORIES.iter().map(|directory| Path::new(directory).join(&name)).collect(),
    }
}

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
            use std::os::unix::fs::FileTypeExt;
            if !file.file_type().is_socket() || somebody_listens(path) {
                return Err(ErrorKind::AddrInUse.into());
            }
            fs::remove_file(path)?;
        }
        // The mode comes with the file, so that there is no moment in which it is open to others.
        let before = umask(Mode::S_IRWXG | Mode::S_IRWXO | Mode::S_IXUSR);
        let bound = UnixListener::bind(path);
        umask(before);
        let socket = bound?;
        socket.set_nonblocking(true)?;
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
    /// EMFILE and the like. The caller closes the socket, for a client that cannot be taken in keeps waking us up.
    pub fn next_client(&self) -> io::Result<Option<Client>> {
        loop {
            match self.socket.accept() {
                Ok((stream, _)) => {
                    if let Some(peer) = admit(&stream)
                        && stream.set_nonblocking(true).is_ok()
                    {
                        return Ok(Some(Client { stream, peer, unsent: Vec::new() }));
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

/// Whether a socket has a listener. Without waiting for it: a full backlog would hold us up for ever.
fn somebody_listens(path: &Path) -> bool {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let Ok(socket) = socket(AddressFamily::Unix, SockType::Stream, flags, None) else { return true };
    let Ok(address) = UnixAddr::new(path) else { return true };
    connect(socket.as_raw_fd(), &address) != Err(Errno::ECONNREFUSED)
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
        (Ok(ours), Ok(theirs)) if ours != theirs => None,
        _ => Some(Pid::from_raw(peer.pid())),
    }
}

/// A client that is connected.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    peer: Pid,
    unsent: Vec<u8>,
}

/// What a client may leave unread before it is dropped; more than all the blocks of one shutdown.
const MAX_UNSENT: usize = 64 * 1024;

impl crate::system::Client for Client {
    fn peer(&self) -> Pid {
        self.peer
    }

    fn read(&mut self, buffer: &mut [u8]) -> ReadResult {
        match self.stream.read(buffer) {
            Ok(0) => ReadResult::End,
            Ok(length) => ReadResult::Bytes(length),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {
                ReadResult::Nothing
            }
            Err(_) => ReadResult::End,
        }
    }

    fn send(&mut self, text: &str) -> bool {
        self.unsent.extend_from_slice(text.as_bytes());
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match send(self.stream.as_raw_fd(), &self.unsent, flags) {
            Ok(sent) => {
                self.unsent.drain(..sent.min(self.unsent.len()));
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => return false,
        }
        self.unsent.len() <= MAX_UNSENT
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

/// The client's end of a connection to an init.
#[derive(Debug)]
pub struct Connection(UnixStream);

impl Connection {
    /// Connects to the init `pid`, or to PID 1, or to whoever listens at a socket that was named itself; `None` when there is
    /// none that listens.
    ///
    /// # Errors
    /// When one is there and does not let us: it belongs to another user.
    pub fn to(control: &Control, pid: Option<Pid>) -> io::Result<Option<Self>> {
        let expected = match (control, pid) {
            (Control::At(path), None) if !path.is_dir() => None,
            (Control::Default | Control::None | Control::At(_), pid) => Some(pid.unwrap_or(PID_1)),
        };
        let mut denied = None;
        for path in paths(control, pid.unwrap_or(PID_1)) {
            match UnixStream::connect(&path) {
                // Anybody may have put a socket of that name into /tmp.
                Ok(stream) if expected.is_none_or(|pid| server(&stream) == Some(pid)) => {
                    stream.set_nonblocking(true)?;
                    return Ok(Some(Self(stream)));
                }
                Err(error) if error.kind() == ErrorKind::PermissionDenied => denied = Some(error),
                Ok(_) | Err(_) => {}
            }
        }
        denied.map_or(Ok(None), Err)
    }

    /// The init at the other end.
    pub fn server(&self) -> Option<Pid> {
        server(&self.0)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When the init has gone.
    pub fn send(&mut self, line: &str) -> io::Result<()> {
        self.0.write_all(line.as_bytes())
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// WouldBlock when nothing is there yet; anything else when the init has gone.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// The process that listens at the other end.
fn server(stream: &UnixStream) -> Option<Pid> {
    getsockopt(stream, PeerCredentials).ok().map(|peer| Pid::from_raw(peer.pid()))
}

/// The init of a container.
const PID_1: Pid = Pid::from_raw(1);

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
