use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};

/// The master's side of a pseudo-terminal: what a person and their terminal window do.
pub struct Terminal {
    master: File,
    slave: PathBuf,
    closed: Arc<AtomicBool>,
}

/// Reads what appears on the screen, until the terminal is closed.
pub(super) struct Screen {
    master: File,
    closed: Arc<AtomicBool>,
}

impl Read for Screen {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        // A reader that sat in `read` would hold the master open, and the terminal would never hang up.
        while !self.closed.load(Ordering::Acquire) {
            let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::from(20_u8)).is_ok_and(|count| count > 0) {
                return self.master.read(buffer);
            }
        }
        Ok(0)
    }
}

impl Terminal {
    /// Opens one; the slave's side is [`Terminal::path`].
    pub fn new() -> Self {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master: PtyMaster = posix_openpt(flags).expect("open a pseudo-terminal");
        grantpt(&master).expect("grant the pseudo-terminal");
        unlockpt(&master).expect("unlock the pseudo-terminal");
        let slave = ptsname_r(&master).expect("name the pseudo-terminal").into();
        Self { master: File::from(OwnedFd::from(master)), slave, closed: Arc::default() }
    }

    /// The slave's path.
    pub fn path(&self) -> &Path {
        &self.slave
    }

    /// Types these characters; `\x03` is Ctrl-C, `\x1a` is Ctrl-Z.
    pub fn type_in(&self, characters: &str) {
        (&self.master).write_all(characters.as_bytes()).expect("type into the terminal");
    }

    /// Changes the window size, as the mouse does.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open and the kernel only reads the struct.
        let result = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(result, 0, "cannot resize the terminal");
    }

    /// The process group in the foreground, 0 when none is.
    pub fn foreground(&self) -> i32 {
        // SAFETY: the call reads one descriptor, which is open.
        unsafe { libc::tcgetpgrp(self.master.as_raw_fd()) }
    }

    /// For the thread that reads what appears on the screen.
    pub(super) fn screen(&self) -> Screen {
        let master = self.master.try_clone().expect("duplicate the terminal");
        Screen { master, closed: Arc::clone(&self.closed) }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
    }
}
