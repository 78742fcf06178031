//! The report's file, and who writes to it.
//!
//! A disk may hang, and whoever writes to it then hangs with it (a frozen file system stops even writes with RWF_NOWAIT, in
//! fs/read_write.c, `file_start_write`). So each write is made by a child of ours that PID 1 never waits for longer than it
//! can spare. The child is cloned without an exit signal: waiting for children passes over it, so that it is no reason to
//! stay (wait(2), "__WCLONE").

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::{Pid, pipe2};

use super::{above_stdio, wait};

/// Where the kubelet, and the runtimes that follow it, show the end of a container's last words by default.
const DEFAULT_PLACE: &str = "/dev/termination-log";
/// Writers that hang beyond this number are a disk that hangs: what comes later is not written.
const MAX_WRITERS: usize = 4;

/// The file and what of it is ours.
#[derive(Debug, Default)]
pub(super) struct ReportFile {
    /// Where our lines begin, and where the last of them ended.
    ours: Option<(u64, u64)>,
    /// Our lines.
    text: Vec<u8>,
    writers: Vec<Writer>,
}

/// A child that writes.
#[derive(Debug)]
struct Writer {
    pid: Pid,
    /// Where its text begins in the file and ends, when it has written.
    result: File,
    text: Vec<u8>,
}

/// The bytes in which a writer says where it wrote.
const RESULT_SIZE: usize = 16;

impl ReportFile {
    /// Appends a line; nobody waits for it.
    pub(super) fn append_line(&mut self, path: &Path, text: &str) {
        self.collect();
        if self.writers.len() >= MAX_WRITERS {
            return;
        }
        let job = |text: &[u8]| append(&open(path, false)?, text);
        self.writers.extend(start_writer(text.as_bytes(), job));
    }

    /// Takes our lines back, if nobody wrote behind them, and appends the report. Waits for it no longer than `patience`.
    ///
    /// # Errors
    /// TimedOut when the disk hangs, and what the file system says.
    pub(super) fn settle(&mut self, path: &Path, report: Option<&str>, patience: Duration) -> io::Result<()> {
        let until = Instant::now().checked_add(patience);
        self.wait_for_writers(until)?;
        let (ours, text) = (self.ours, std::mem::take(&mut self.text));
        if ours.is_none() && report.is_none() {
            return Ok(());
        }
        let job = |report: &[u8]| {
            let mut file = open(path, true)?;
            if let Some((begin, end)) = ours {
                take_back(&mut file, begin, end, &text)?;
            }
            append(&file, report)
        };
        self.writers.extend(start_writer(report.unwrap_or_default().as_bytes(), job));
        self.wait_for_writers(until)
    }

    /// Writes why the container could not start, if its file is empty. Waits for it no longer than `patience`.
    pub(super) fn start_failed(&mut self, path: &Path, text: &str, patience: Duration) {
        let job = |text: &[u8]| {
            let file = open(path, false)?;
            if file.metadata()?.len() > 0 { Ok((0, 0)) } else { append(&file, text) }
        };
        self.writers.extend(start_writer(text.as_bytes(), job));
        let _ = self.wait_for_writers(Instant::now().checked_add(patience));
    }

    /// Whether this process writes for us, and is nobody that the container has left behind.
    pub(super) fn is_writer(&self, pid: Pid) -> bool {
        self.writers.iter().any(|writer| writer.pid == pid)
    }

    fn wait_for_writers(&mut self, until: Option<Instant>) -> io::Result<()> {
        loop {
            self.collect();
            let Some(writer) = self.writers.first() else { return Ok(()) };
            let left = until.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default();
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            wait::until_readable([writer.result.as_fd()], Some(left));
        }
    }

    /// Looks which writers have finished.
    fn collect(&mut self) {
        let (ours, text) = (&mut self.ours, &mut self.text);
        self.writers.retain_mut(|writer| {
            let mut bytes = [0_u8; RESULT_SIZE];
            match writer.result.read(&mut bytes) {
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {
                    return true;
                }
                Ok(RESULT_SIZE) => {
                    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
                    let begin = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
                    let end = u64::from_ne_bytes(rest);
                    // What does not begin where our last line ended: somebody wrote between, and that stays.
                    if ours.is_none_or(|(_, last)| last != begin) {
                        *ours = Some((begin, end));
                        text.clear();
                    } else if let Some((first, _)) = *ours {
                        *ours = Some((first, end));
                    }
                    text.append(&mut writer.text);
                }
                // It could not write, and is gone.
                Ok(_) | Err(_) => {}
            }
            reap(writer.pid);
            false
        });
    }
}

/// Opens the file as the kubelet mounted it, maybe on a read-only root: without O_CREAT; no link is followed, and a FIFO without
/// a reader is an error. Only a regular file is written to.
fn open(path: &Path, also_read: bool) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(also_read).append(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(ErrorKind::InvalidInput.into()) }
}

/// Appends in one write; tells where it begins and ends.
fn append(mut file: &File, text: &[u8]) -> io::Result<(u64, u64)> {
    file.write_all(text)?;
    // With O_APPEND the position is behind what was written, wherever others wrote before (write(2)).
    let end = file.stream_position()?;
    Ok((end.saturating_sub(u64::try_from(text.len()).unwrap_or(0)), end))
}

/// Cuts our lines off where nothing stands behind them and they are as we wrote them.
fn take_back(file: &mut File, begin: u64, end: u64, text: &[u8]) -> io::Result<()> {
    if file.metadata()?.len() != end {
        return Ok(());
    }
    let mut found = vec![0_u8; text.len()];
    file.seek(SeekFrom::Start(begin))?;
    file.read_exact(&mut found)?;
    if found == text { file.set_len(begin) } else { Ok(()) }
}

/// Starts a child that does the job and says where it wrote.
fn start_writer(text: &[u8], job: impl FnOnce(&[u8]) -> io::Result<(u64, u64)>) -> Option<Writer> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok()?;
    let read = above_stdio(read.into_raw_fd()).ok()?;
    let write = above_stdio(write.into_raw_fd()).ok()?;
    // SAFETY: a copy of us, as by fork(2), with no signal at its end; there is one thread, and the child only opens and writes.
    let pid = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    match pid {
        -1 => None,
        0 => {
            // Nothing of ours may stay open in a child that a disk holds.
            // SAFETY: it takes no pointers; the report goes through the one descriptor that stays.
            unsafe { libc::dup2(write.as_raw_fd(), KEPT) };
            // SAFETY: as above.
            unsafe { libc::syscall(libc::SYS_close_range, KEPT.saturating_add(1), u32::MAX, 0) };
            if let Ok((begin, end)) = job(text) {
                let mut bytes = [0_u8; RESULT_SIZE];
                bytes.iter_mut().zip(begin.to_ne_bytes().into_iter().chain(end.to_ne_bytes())).for_each(
                    |(to, from)| {
                        *to = from;
                    },
                );
                // SAFETY: the pointer and the length are those of the array; so few bytes into an empty pipe never block.
                unsafe { libc::write(KEPT, bytes.as_ptr().cast(), bytes.len()) };
            }
            // SAFETY: it does not return, and runs nothing of the parent's.
            unsafe { libc::_exit(0) }
        }
        pid => {
            let pid = Pid::from_raw(i32::try_from(pid).ok()?);
            Some(Writer { pid, result: File::from(read), text: text.to_vec() })
        }
    }
}

/// The descriptor that a writer keeps beside the standard ones.
const KEPT: libc::c_int = libc::STDERR_FILENO + 1;

/// Reaps a writer that has said its last, or closed its pipe by ending.
fn reap(pid: Pid) {
    let mut status = 0;
    // SAFETY: the status is ours to write.
    unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::__WALL) };
}

/// The pod's termination log: the file that the kubelet mounted from the pod's own directory; of several the one at the
/// default place.
pub(super) fn termination_log() -> Option<PathBuf> {
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    let lines = mounts.split(|byte| *byte == b'\n');
    let mut found: Vec<PathBuf> = lines.filter_map(termination_log_in).collect();
    let default = found.iter().position(|path| path == Path::new(DEFAULT_PLACE));
    match default {
        Some(place) => Some(found.swap_remove(place)),
        None => found.pop(),
    }
}

/// The default place, if there is such a file.
pub(super) fn default_place() -> Option<PathBuf> {
    let place = Path::new(DEFAULT_PLACE);
    place.exists().then(|| place.to_owned())
}

/// The mount point of a line of mountinfo whose root is `.../POD-UID/containers/NAME/8 hex digits`, where the kubelet keeps
/// termination messages (proc_pid_mountinfo(5): the fourth field is the root, the fifth the mount point, and `//deleted` ends
/// the root of a file that is gone; pkg/kubelet/kubelet_pods.go, `makeMounts`).
fn termination_log_in(line: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut fields = line.split(|byte| *byte == b' ').skip(3);
    let (root, place) = (unescaped(fields.next()?), unescaped(fields.next()?));
    let root = root.strip_suffix(b"//deleted").unwrap_or(&root);
    let mut parts = root.rsplit(|byte| *byte == b'/');
    let (id, _name, containers, uid) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &[u8], length| text.len() == length && text.iter().all(u8::is_ascii_hexdigit);
    let is_uuid = |text: &[u8]| {
        let groups: Vec<&[u8]> = text.split(|byte| *byte == b'-').collect();
        groups.len() == 5 && groups.iter().zip([8, 4, 4, 4, 12]).all(|(group, length)| is_hex(group, length))
    };
    let fits = is_hex(id, 8) && containers == b"containers" && (is_hex(uid, 32) || is_uuid(uid));
    fits.then(|| PathBuf::from(std::ffi::OsString::from_vec(place)))
}

/// Reads the octal escapes of blanks and backslashes (`\040`).
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = field.iter().copied().peekable();
    let mut plain = Vec::with_capacity(field.len());
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        let mut value: u8 = 0;
        for _ in 0..3 {
            let digit = bytes.next_if(|byte| (b'0'..=b'7').contains(byte)).unwrap_or(b'0');
            value = value.wrapping_mul(8).wrapping_add(digit.wrapping_sub(b'0'));
        }
        plain.push(value);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0a1b2c3d-1111-2222-3333-444455556666";

    #[test]
    fn the_termination_log_is_known_by_its_mounts_root() {
        let line = |root: &str, place: &str| {
            let line = format!("812 790 8:1 {root} {place} rw,relatime - ext4 /dev/sda1 rw");
            termination_log_in(line.as_bytes()).map(|path| path.display().to_string())
        };
        let root = format!("/var/lib/kubelet/pods/{UID}/containers/web/0f1e2d3c");
        assert_eq!(line(&root, "/dev/termination-log").as_deref(), Some("/dev/termination-log"));
        assert_eq!(
            line(&format!("{root}//deleted"), "/tmp/last\\040words").as_deref(),
            Some("/tmp/last words")
        );
        let static_pod = "/pods/0123456789abcdef0123456789abcdef/containers/web/0f1e2d3c";
        assert_eq!(line(static_pod, "/x").as_deref(), Some("/x"));
        for other in [
            "/",
            "/var/lib/kubelet/pods/web/containers/web/0f1e2d3c",
            &format!("/pods/{UID}/volumes/web/0f1e2d3c"),
            &format!("/pods/{UID}/containers/web/0f1e2d3"),
            &format!("/pods/{UID}/etc-hosts"),
        ] {
            assert_eq!(line(other, "/dev/termination-log"), None, "{other}");
        }
        assert_eq!(termination_log_in(b""), None);
    }

    /// A file, and a report in it.
    fn file(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("report-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        path
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn our_lines_are_taken_back_and_nothing_else() {
        let path = file("back", "app\n");
        let mut report = ReportFile::default();
        report.append_line(&path, "stopping\n");
        report.wait_for_writers(Instant::now().checked_add(PATIENCE)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "app\nstopping\n");
        report.append_line(&path, "cut\n");
        report.settle(&path, None, PATIENCE).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "app\n");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_report_comes_in_their_place() {
        let path = file("place", "");
        let mut report = ReportFile::default();
        report.append_line(&path, "stopping\n");
        report.settle(&path, Some("KILLED\n"), PATIENCE).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "KILLED\n");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_the_application_wrote_behind_them_stays() {
        let path = file("behind", "");
        let mut report = ReportFile::default();
        report.append_line(&path, "stopping\n");
        report.wait_for_writers(Instant::now().checked_add(PATIENCE)).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"app\n").unwrap();
        report.settle(&path, Some("KILLED\n"), PATIENCE).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "stopping\napp\nKILLED\n");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_application_that_wrote_over_them_loses_nothing() {
        let path = file("over", "");
        let mut app = OpenOptions::new().write(true).open(&path).unwrap();
        let mut report = ReportFile::default();
        report.append_line(&path, "stopping\n");
        report.wait_for_writers(Instant::now().checked_add(PATIENCE)).unwrap();
        app.write_all(b"app\n").unwrap();
        report.settle(&path, None, PATIENCE).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "app\nping\n");
        app.set_len(0).unwrap();
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_absent_file_stays_absent() {
        let path = std::env::temp_dir().join(format!("report-{}-absent", std::process::id()));
        let mut report = ReportFile::default();
        report.append_line(&path, "stopping\n");
        report.settle(&path, Some("KILLED\n"), PATIENCE).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_start_that_failed_is_told_in_an_empty_file_only() {
        for (before, after) in [("", "no such command\n"), ("app\n", "app\n")] {
            let path = file("start", before);
            ReportFile::default().start_failed(&path, "no such command\n", PATIENCE);
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
            fs::remove_file(&path).unwrap();
        }
    }
}
