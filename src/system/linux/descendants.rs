//! Who descends from us: wherever it moved its process group or session, a process stays below the one that
//! started it, or below us once that has gone.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Pid, getpid};

/// A process that descends from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descendant {
    /// Its PID.
    pub pid: Pid,
    /// Its process group.
    pub group: Pid,
    /// Its session.
    pub session: Pid,
    /// Whether it is stopped.
    pub suspended: bool,
    /// The first 15 bytes of its program's name, NUL behind them.
    name: [u8; 16],
    /// When it started, in clock ticks since the machine did. With the PID this names a process for good.
    pub started: u64,
    parent: Pid,
}

impl fmt::Display for Descendant {
    /// Its name and PID, as people know it: `java(7)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.split(|byte| *byte == 0).next().unwrap_or_default();
        write!(f, "{}({})", String::from_utf8_lossy(name), self.pid)
    }
}

/// The descendants of one moment.
#[derive(Clone, Debug, Default)]
pub struct Descendants(Vec<Descendant>);

impl Descendants {
    /// Looks through `/proc`; `None` when that is missing or belongs to another PID namespace.
    pub fn find() -> Option<Self> {
        let me = getpid();
        // A /proc of another PID namespace names strangers by our children's numbers (proc(5), "/proc/self").
        if fs::read_link("/proc/self").ok()?.to_str()?.parse() != Ok(me.as_raw()) {
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
        Some(Self(below(me, all)))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Descendant> {
        self.0.iter()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Those that nobody but us tells to stop. What is below another init of our kind, a script with us in its first line for
    /// one, is that one's to stop, in its own order; told by both it could take the second signal for a demand to hurry.
    pub fn told_by_us_alone(&self) -> Vec<Descendant> {
        // By another name we are another init, with other manners.
        let (me, name) = (executed_file("self"), called_by("self"));
        let is_like_us = |pid: Pid| {
            let process = pid.to_string();
            me.is_some() && executed_file(&process) == me && called_by(&process) == name
        };
        let inits = self.0.iter().filter(|process| is_like_us(process.pid));
        let theirs: BTreeSet<Pid> =
            inits.flat_map(|init| below(init.pid, self.0.clone())).map(|process| process.pid).collect();
        self.0.iter().filter(|process| !theirs.contains(&process.pid)).copied().collect()
    }

    /// Those that are `root` or descend from it, and those in the process group that it leads or led.
    pub fn tree(&self, root: Pid) -> Vec<Descendant> {
        let mut tree = below(root, self.0.clone());
        tree.extend(self.0.iter().filter(|process| process.pid == root || process.group == root));
        tree.sort_unstable_by_key(|process| process.pid);
        tree.dedup_by_key(|process| process.pid);
        tree
    }

    /// Whether that very process is among them.
    pub fn has(&self, process: &Descendant) -> bool {
        self.0.iter().any(|known| known.pid == process.pid && known.started == process.started)
    }
}

/// Device and inode of what a process of `/proc` executes; `None` when it has gone or is not ours to look at.
fn executed_file(process: &str) -> Option<(u64, u64)> {
    let file = fs::metadata(Path::new("/proc").join(process).join("exe")).ok()?;
    Some((file.dev(), file.ino()))
}

/// The last part of the name by which a process of `/proc` was called.
fn called_by(process: &str) -> Option<OsString> {
    let words = fs::read(Path::new("/proc").join(process).join("cmdline")).ok()?;
    let first = words.split(|byte| *byte == 0).next()?;
    Some(Path::new(OsStr::from_bytes(first)).file_name()?.to_owned())
}

/// Those of `all` that descend from `root`.
fn below(root: Pid, mut all: Vec<Descendant>) -> Vec<Descendant> {
    // Sorted by parent, the children of a process stand together and each is looked up once: n log n.
    all.sort_unstable_by_key(|process| process.parent);
    let mut found: Vec<Descendant> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        let first = all.partition_point(|process| process.parent < parent);
        for child in all.iter().skip(first).take_while(|process| process.parent == parent) {
            found.push(*child);
            // A process whose numbers changed while we read could close a circle.
            if found.len() > all.len() {
                return found;
            }
            parents.push(child.pid);
        }
    }
    found
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
    let pid = str::from_utf8(pid).ok()?.trim_end().parse().ok()?;
    let mut name = [0; 16];
    name.iter_mut().zip(comm.iter().skip(1)).take(15).for_each(|(to, from)| *to = *from);
    let mut fields = str::from_utf8(tail).ok()?.split_ascii_whitespace().skip(1);
    let state = fields.next()?;
    let mut number = || fields.next()?.parse::<i32>().ok().map(Pid::from_raw);
    let (parent, group, session) = (number()?, number()?, number()?);
    // Behind the session (field 6) num_threads is field 20, and starttime field 22.
    let threads: u32 = fields.nth(13)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    // A process whose first thread has ended while others go on looks like a zombie, and is none.
    if ["X", "x"].contains(&state) || (state == "Z" && threads <= 1) {
        return None;
    }
    Some(Descendant {
        pid: Pid::from_raw(pid),
        group,
        session,
        suspended: ["T", "t"].contains(&state),
        name,
        started,
        parent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, group: i32) -> Descendant {
        let [pid, parent, group] = [pid, parent, group].map(Pid::from_raw);
        Descendant { pid, group, session: group, suspended: false, name: [0; 16], started: 0, parent }
    }

    fn pids(processes: &[Descendant]) -> Vec<i32> {
        let mut pids: Vec<i32> = processes.iter().map(|process| process.pid.as_raw()).collect();
        pids.sort_unstable();
        pids
    }

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
    fn zombies_and_torn_lines_are_left_out() {
        assert!(parse_stat(b"42 (a) Z 7 42 40 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0").is_none());
        assert!(parse_stat(b"42 (a) Z 7 42 40 0 -1 0 0 0 0 0 0 0 0 0 20 0 2 0 1 0").is_some());
        for torn in [&b""[..], b"42", b"42 (a", b"42 (a)", b"42 (a) S 7", b"x (a) S 7 1 1"] {
            assert!(parse_stat(torn).is_none());
        }
    }

    #[test]
    fn only_what_is_below_us_is_found() {
        // 1 is us, 50 came from outside with parent 0, 60 is its child.
        let all = vec![
            process(1, 0, 1),
            process(7, 1, 7),
            process(9, 7, 7),
            process(50, 0, 50),
            process(60, 50, 60),
            process(8, 9, 8),
        ];
        assert_eq!(pids(&below(Pid::from_raw(1), all)), [7, 8, 9]);
    }

    #[test]
    fn a_circle_ends() {
        assert!(below(Pid::from_raw(1), vec![process(2, 1, 2), process(1, 2, 1)]).len() <= 3);
    }

    #[test]
    fn a_tree_is_a_process_its_descendants_and_its_group() {
        let all = Descendants(vec![process(7, 1, 7), process(8, 7, 8), process(9, 1, 7), process(10, 1, 10)]);
        assert_eq!(pids(&all.tree(Pid::from_raw(7))), [7, 8, 9]);
    }
}
