//! Where control sockets are, and whose they are by their names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Pid, Uid, geteuid};

use crate::plan::Control;

/// Where the socket may be: `/dev/shm` can be written on a read-only root, though a pod's containers share it.
const DIRECTORIES: [&str; 3] = ["/run", "/dev/shm", "/tmp"];

/// The init of a container that shares its PID namespace with nobody.
pub(super) const PID_1: Pid = Pid::from_raw(1);

/// The variable by which the init's children, and theirs, find its socket.
pub const VARIABLE: &str = "GRACE_INIT_SOCKET";

/// What tells one container's init from another's: the PID namespace, which a pod's containers may share, and the mount
/// namespace, which they never do. A client reads its own as well as the init can.
struct Prefix(String);

impl Prefix {
    fn of_our_container() -> Self {
        let number = |kind: &str| fs::metadata(format!("/proc/self/ns/{kind}")).map_or(0, |file| file.ino());
        Self(format!("grace-init.{}.{}.", number("pid"), number("mnt")))
    }

    fn name(&self, pid: Pid) -> String {
        format!("{}{pid}.sock", self.0)
    }

    /// The PID in a name; `None` when it is no socket's of our container.
    fn pid_in(&self, name: &OsStr) -> Option<Pid> {
        let pid = name.to_str()?.strip_prefix(&self.0)?.strip_suffix(".sock")?;
        pid.parse().ok().filter(|pid| *pid > 0).map(Pid::from_raw)
    }
}

/// Whether a path names a directory for the socket rather than the socket.
fn is_directory(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/") || path.is_dir()
}

/// The paths that the socket of the init `pid` of our container may have, the best first; absolute, for the init leaves the
/// directory that a relative one is meant from.
pub fn paths(control: &Control, pid: Pid) -> Vec<PathBuf> {
    let name = Prefix::of_our_container().name(pid);
    match control {
        Control::None => Vec::new(),
        Control::At(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            vec![if is_directory(&path) { path.join(name) } else { path }]
        }
        Control::Default => DIRECTORIES.iter().map(|directory| Path::new(directory).join(&name)).collect(),
    }
}

/// A place where a client may find its init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The socket's path.
    pub path: PathBuf,
    /// The init that must listen there; `None` is whoever does.
    pub pid: Option<Pid>,
    /// The user named it, by its path or its PID.
    pub is_named: bool,
}

/// The places where a client looks for the init `pid`, or for that of its container; the first that listens is the one.
pub fn places(control: &Control, pid: Option<Pid>) -> Vec<Place> {
    match control {
        Control::None => Vec::new(),
        Control::At(path) if is_directory(path) => found_in(std::slice::from_ref(path), pid, true),
        Control::At(path) => vec![Place { path: path.clone(), pid, is_named: true }],
        Control::Default => {
            let inherited = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
            let inherited = inherited.map(|path| Place { path: path.into(), pid, is_named: true });
            let found = found_in(&DIRECTORIES.map(PathBuf::from), pid, false);
            inherited.into_iter().chain(found).collect()
        }
    }
}

/// The sockets of our container, those of the inits that started first before others.
fn found_in(directories: &[PathBuf], pid: Option<Pid>, is_named: bool) -> Vec<Place> {
    let prefix = Prefix::of_our_container();
    let place = |path, pid| Place { path, pid: Some(pid), is_named };
    if let Some(pid) = pid {
        let name = prefix.name(pid);
        let named = |directory: &PathBuf| Place { is_named: true, ..place(directory.join(&name), pid) };
        return directories.iter().map(named).collect();
    }
    let mut sockets: Vec<(i64, i64, Place)> = Vec::new();
    for entry in directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten() {
        let Some(pid) = prefix.pid_in(&entry.file_name()) else { continue };
        let Ok(file) = fs::symlink_metadata(entry.path()) else { continue };
        if file.file_type().is_socket() {
            sockets.push((file.mtime(), file.mtime_nsec(), place(entry.path(), pid)));
        }
    }
    sockets.sort_by_key(|(seconds, nanoseconds, place)| (*seconds, *nanoseconds, place.pid));
    // PID 1 is there before everybody, and is found in a directory that cannot be listed as well.
    let of_pid_1 = directories.iter().map(|directory| place(directory.join(prefix.name(PID_1)), PID_1));
    let others = sockets.into_iter().map(|(_, _, place)| place).filter(|place| place.pid != Some(PID_1));
    of_pid_1.chain(others).collect()
}

impl Place {
    /// The owner of the socket, where that alone says that we would not trust who listens there. Such a place is not even
    /// tried: its owner may keep it busy to hold us up.
    pub fn untrusted_owner(&self) -> Option<u32> {
        let owner = fs::symlink_metadata(&self.path).ok()?.uid();
        let us = geteuid();
        let is_ours = owner == us.as_raw() || Uid::from_raw(owner).is_root();
        // Root may have to do with an init of any user, and knows PID 1 by its number.
        let may_be_our_init = us.is_root() && self.pid == Some(PID_1);
        (!self.is_named && !is_ours && !may_be_our_init).then_some(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_both_namespaces_and_the_pid() {
        let prefix = Prefix("grace-init.40.41.".to_owned());
        let name = prefix.name(Pid::from_raw(7));
        assert_eq!(name, "grace-init.40.41.7.sock");
        assert_eq!(prefix.pid_in(OsStr::new(&name)), Some(Pid::from_raw(7)));
        for other in [
            "grace-init.40.42.7.sock",
            "grace-init.4.41.7.sock",
            "grace-init.40.41.0.sock",
            "grace-init.40.41.-7.sock",
            "grace-init.40.41.x.sock",
            "grace-init.40.41.7",
        ] {
            assert_eq!(prefix.pid_in(OsStr::new(other)), None, "{other}");
        }
    }

    #[test]
    fn a_path_with_a_slash_at_its_end_is_a_directory() {
        let pid = Pid::from_raw(7);
        let path = |path: &str| paths(&Control::At(path.into()), pid).remove(0);
        assert_eq!(path("/no/such/place"), Path::new("/no/such/place"));
        assert!(path("/no/such/place/").starts_with("/no/such/place"));
        assert!(path("/no/such/place/").to_str().unwrap().ends_with(".7.sock"));
        assert!(path("relative").is_absolute());
    }
}
