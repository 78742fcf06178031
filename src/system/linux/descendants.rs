//! Finding descendants by `/proc`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Pid, getpid};

use crate::system::{Descendant, Descendants};

/// Looks through `/proc` for what descends from `root`; `None` when that is missing or belongs to another PID namespace. Those
/// that `is_ours` names work for the init itself.
pub(super) fn find(root: Pid, is_ours: impl Fn(Pid) -> bool) -> Option<Descendants> {
    // A /proc of another PID namespace names strangers by our children's numbers (proc(5), "/proc/self").
    if fs::read_link("/proc/self").ok()?.to_str()?.parse() != Ok(getpid().as_raw()) {
        return None;
    }
    let mut all: Vec<Descendant> = Vec::new();
    for entry in fs::read_dir("/proc").ok()? {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.parse::<u32>().is_ok()) {
            all.extend(read_stat(&entry.path().join("stat")));
        }
    }
    all.retain(|process| !is_ours(process.pid));
    Some(Descendants::of(root, all, hides_processes()))
}

/// Whether `/proc` is mounted so that it hides processes of ours that changed their user, or that must not be dumped
/// (proc(5), "hidepid"; fs/proc/base.c, `has_pid_permissions`: root sees them all).
fn hides_processes() -> bool {
    !nix::unistd::geteuid().is_root()
        && fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| is_mounted_with_hidepid(&mounts))
}

/// Whether the mount at `/proc`, the last one if there are more, has a hidepid option (proc_pid_mountinfo(5): the fifth
/// field is the place, what follows the second one behind `-` are the file system's own options).
fn is_mounted_with_hidepid(mounts: &str) -> bool {
    let mut at_proc = mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/proc"));
    let options = at_proc.next_back().and_then(|line| line.split(" - ").nth(1)?.split(' ').nth(2));
    options
        .unwrap_or_default()
        .split(',')
        .any(|option| option.strip_prefix("hidepid=").is_some_and(|mode| !["0", "off"].contains(&mode)))
}

/// Whether that process is an init of our kind: it executes the same file, by the same name. By another name it is
/// another init, with other manners.
pub(super) fn is_init_like_us(pid: Pid) -> bool {
    let process = pid.to_string();
    let me = executed_file("self");
    me.is_some() && executed_file(&process) == me && called_by(&process) == called_by("self")
}

/// Whether a process was started with all of these variables, or is a copy of one that was: the kernel shows the memory in which
/// its environment was laid down (proc_pid_environ(5)). False for one that is not ours to look at.
pub(super) fn has_variables(pid: Pid, variables: &[(&str, OsString)]) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    variables.iter().all(|(name, value)| {
        environment.split(|byte| *byte == 0).any(|entry| {
            let value_of = entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            value_of == Some(value.as_bytes())
        })
    })
}

/// The process with this number now; `None` when it has gone, or is a zombie.
pub(super) fn look_at(pid: Pid) -> Option<Descendant> {
    read_stat(&Path::new("/proc").join(pid.to_string()).join("stat"))
}

/// Device and inode of what a process of `/proc` executes; `None` when it has gone or is not ours to look at.
fn executed_file(process: &str) -> Option<(u64, u64)> {
    let file = fs::metadata(Path::new("/proc").join(process).join("exe")).ok()?;
    Some((file.dev(), file.ino()))
}

/// The last part of the name by which a process of `/proc` was called.
pub(super) fn called_by(process: &str) -> Option<OsString> {
    let words = fs::read(Path::new("/proc").join(process).join("cmdline")).ok()?;
    let first = words.split(|byte| *byte == 0).next()?;
    Some(Path::new(OsStr::from_bytes(first)).file_name()?.to_owned())
}

/// Reads the fields of `/proc/PID/stat` that we need; `None` for a process that has gone, or is a zombie.
fn read_stat(path: &Path) -> Option<Descendant> {
    let mut bytes = [0_u8; 512];
    let length = fs::File::open(path).ok()?.read(&mut bytes).ok()?;
    parse_stat(bytes.get(..length)?)
}

/// `PID (NAME) STATE PPID PGRP SESSION …`; the name may hold spaces and brackets, so what counts is behind the
/// last bracket (proc_pid_stat(5)).
fn parse_stat(stat: &[u8]) -> Option<Descendant> {
    let bracket = stat.iter().rposition(|byte| *byte == b')')?;
    let (head, tail) = stat.split_at_checked(bracket)?;
    let opening = head.iter().position(|byte| *byte == b'(')?;
    let (pid, comm) = head.split_at_checked(opening)?;
    let pid = std::str::from_utf8(pid).ok()?.trim_end().parse().ok()?;
    let mut name = [0; 16];
    name.iter_mut().zip(comm.iter().skip(1)).take(15).for_each(|(to, from)| *to = *from);
    let mut fields = std::str::from_utf8(tail).ok()?.split_ascii_whitespace().skip(1);
    let state = fields.next()?;
    let mut number = || fields.next()?.parse::<i32>().ok().map(Pid::from_raw);
    let (parent, group, session) = (number()?, number()?, number()?);
    // Behind the session (field 6) tty_nr is field 7, num_threads field 20, and starttime field 22.
    let has_terminal = fields.next()? != "0";
    let threads: u32 = fields.nth(12)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    // A process whose first thread has ended while others go on looks like a zombie, and is none.
    if ["X", "x"].contains(&state) || (state == "Z" && threads <= 1) {
        return None;
    }
    Some(Descendant {
        pid: Pid::from_raw(pid),
        group,
        session,
        has_terminal,
        suspended: ["T", "t"].contains(&state),
        name,
        started,
        parent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_brackets_is_no_trouble() {
        let stat = b"42 (a) Z (b) c) T 7 42 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 0 0";
        let found = parse_stat(stat).unwrap();
        assert_eq!(
            (found.pid.as_raw(), found.parent.as_raw(), found.suspended, found.started),
            (42, 7, true, 12345)
        );
        assert_eq!(found.to_string(), "a) Z (b) c(42)");
    }

    #[test]
    fn a_session_leader_with_a_terminal_is_known_by_its_line() {
        let leads = |session, terminal| {
            let stat =
                format!("42 (a) 1 2) S 7 42 {session} {terminal} 42 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9");
            parse_stat(stat.as_bytes()).unwrap().leads_a_terminal()
        };
        assert_eq!([leads(42, 34816), leads(42, 0), leads(40, 34816)], [true, false, false]);
    }

    #[test]
    fn a_proc_that_hides_processes_is_known_by_its_options() {
        let mount = |options: &str| {
            format!(
                "22 1 0:21 / / rw - ext4 /dev/a rw\n23 22 0:22 / /proc rw,nosuid shared:5 - proc proc {options}\n"
            )
        };
        for (options, hides) in [
            ("rw", false),
            ("rw,hidepid=0", false),
            ("rw,hidepid=1", true),
            ("rw,hidepid=2", true),
            ("rw,gid=7,hidepid=invisible", true),
            ("rw,hidepid=ptraceable", true),
        ] {
            assert_eq!(is_mounted_with_hidepid(&mount(options)), hides, "{options}");
        }
        assert!(!is_mounted_with_hidepid(""));
    }

    #[test]
    fn zombies_and_torn_lines_are_left_out() {
        assert!(parse_stat(b"42 (a) Z 7 42 40 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0").is_none());
        assert!(parse_stat(b"42 (a) Z 7 42 40 0 -1 0 0 0 0 0 0 0 0 0 20 0 2 0 1 0").is_some());
        for torn in [&b""[..], b"42", b"42 (a", b"42 (a)", b"42 (a) S 7", b"x (a) S 7 1 1"] {
            assert!(parse_stat(torn).is_none());
        }
    }
}
