//! The client's end of a connection to an init.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, UnixCredentials, connect, getsockopt, socket,
};
use nix::unistd::{Pid, Uid, geteuid};

use super::names::{PID_1, Place, places};
use crate::plan::Control;

/// How often connecting is tried where the queue of those that connect is full.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// For how long it is tried at one place: it may be full because another user wants us to hang there.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(1);

/// A connection to an init.
#[derive(Debug)]
pub struct Connection(UnixStream);

/// Why there is no connection.
#[derive(Debug)]
pub enum NoConnection {
    /// Nobody listens.
    NoInit,
    /// Somebody listens who does not let us in.
    Denied(PathBuf),
    /// Somebody listens whom we do not trust.
    Untrusted(PathBuf, u32),
    /// Somebody listens and does not take us in.
    Busy(PathBuf),
}

impl Connection {
    /// Connects to the init `pid` or, without one, to that of our container, within `limit`.
    ///
    /// # Errors
    /// When that cannot be done; the client says so and ends.
    pub fn to(control: &Control, pid: Option<Pid>, limit: Option<Duration>) -> Result<Self, NoConnection> {
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut failure = NoConnection::NoInit;
        for place in places(control, pid) {
            if let Some(owner) = place.untrusted_owner() {
                failure = NoConnection::Untrusted(place.path, owner);
                continue;
            }
            let stream = match try_for_a_while(&place.path, until) {
                Ok(stream) => stream,
                Err(Errno::EACCES | Errno::EPERM) => {
                    failure = NoConnection::Denied(place.path);
                    continue;
                }
                Err(Errno::EAGAIN) => {
                    failure = NoConnection::Busy(place.path);
                    continue;
                }
                Err(_) => continue,
            };
            match server(&stream) {
                Some(server) if !is_expected(&server, &place) => {}
                Some(server) if !is_trusted(&server, &place) => {
                    failure = NoConnection::Untrusted(place.path, server.uid());
                }
                Some(_) => return Ok(Self(stream)),
                None => {}
            }
        }
        Err(failure)
    }

    /// The init at the other end.
    pub fn server(&self) -> Option<Pid> {
        server(&self.0).map(|server| Pid::from_raw(server.pid()))
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

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether an init listens for clients at one of our container's usual places.
pub(super) fn an_init_listens() -> bool {
    Connection::to(&Control::Default, None, Some(Duration::ZERO)).is_ok()
}

/// Connects; where too many wait already, tries again for a while.
///
/// connect(2) on a Unix socket would wait for ever for room in the queue, which any listener can keep full.
fn try_for_a_while(path: &Path, until: Option<Instant>) -> Result<UnixStream, Errno> {
    let begun = Instant::now();
    loop {
        let tried = connect_now(path);
        let is_over =
            until.is_some_and(|until| Instant::now() >= until) || begun.elapsed() >= MAX_CONNECT_TIME;
        if is_over || !matches!(tried, Err(Errno::EAGAIN | Errno::EINTR)) {
            return tried;
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
}

/// Connects, or fails with EAGAIN; never waits. The connection does not wait either.
pub(super) fn connect_now(path: &Path) -> Result<UnixStream, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// Who listens at the other end, as the kernel tells.
fn server(stream: &UnixStream) -> Option<UnixCredentials> {
    getsockopt(stream, PeerCredentials).ok()
}

/// Anybody may have put a socket with an init's name into `/tmp`.
fn is_expected(server: &UnixCredentials, place: &Place) -> bool {
    place.pid.is_none_or(|pid| pid.as_raw() == server.pid())
}

/// Our own user and root. Root, who may serve others, trusts PID 1 of its namespace and whom it has named as well.
fn is_trusted(server: &UnixCredentials, place: &Place) -> bool {
    let us = geteuid();
    let user = Uid::from_raw(server.uid());
    user == us || user.is_root() || us.is_root() && (place.is_named || server.pid() == PID_1.as_raw())
}

/// Whether a socket has a listener.
pub(super) fn somebody_listens(path: &Path) -> bool {
    !matches!(connect_now(path), Err(Errno::ECONNREFUSED))
}

/// Whether a read has found nothing yet.
pub fn is_nothing_yet(error: &io::Error) -> bool {
    [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind())
}
