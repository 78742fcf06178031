//! The few files that the init touches.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::exec::DEFAULT_PATH;

/// Whether execvp(3) would find a program: by its path, or in `PATH`.
pub fn is_program(program: &OsStr) -> bool {
    // By the mode, without access(2), which an image's seccomp profile may not have for us: this is for warnings only.
    let is_executable = |path: &Path| {
        fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.as_bytes().contains(&b'/') {
        return is_executable(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    !program.is_empty()
        && std::env::split_paths(&path).any(|directory| is_executable(&directory.join(program)))
}

/// The path from the root, as it is meant in our working directory of now.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Copies our own program file to `destination`, or into it if it is a directory; executable for everybody, writable for nobody.
///
/// The file appears under its name at once and whole, also where another copy runs at the same time.
///
/// # Errors
/// What the file system says; nothing is left behind.
pub fn copy_own_file(destination: &Path) -> io::Result<()> {
    let destination =
        if destination.is_dir() { destination.join("grace-init") } else { destination.to_owned() };
    let name = destination.file_name().ok_or_else(|| io::Error::from(ErrorKind::IsADirectory))?;
    // Init containers of several pods may share the volume, and each of them is PID 1.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let temporary = format!(".{}.{}.{now:x}", Path::new(name).display(), std::process::id());
    let temporary = destination.with_file_name(temporary);
    let copied = copy_own_file_as(&temporary).and_then(|()| fs::rename(&temporary, &destination));
    if copied.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    copied
}

fn copy_own_file_as(path: &Path) -> io::Result<()> {
    let mut own = File::open("/proc/self/exe")?;
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(&mut own, &mut copy)?;
    copy.set_permissions(Permissions::from_mode(0o555))?;
    // Before the rename: after a crash the name must not stand for an empty file.
    copy.sync_all()
}
