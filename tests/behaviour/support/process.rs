//! Processes as `/proc` shows them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Pids of the children of `parent`, oldest first.
pub fn children(parent: i32) -> Vec<i32> {
    let mut children: Vec<i32> =
        table().into_iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| pid).collect();
    children.sort_unstable();
    children
}

/// Pids of everything below `root`, parents before their children.
pub fn descendants(root: i32) -> Vec<i32> {
    let table = table();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        let mut children: Vec<i32> =
            table.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid).collect();
        children.sort_unstable();
        family.extend(children);
        next += 1;
    }
    family.split_off(1)
}

/// The one-letter state, as `R`, `S`, `T`, `Z`; `None` when the process is gone.
pub fn state(pid: i32) -> Option<char> {
    Stat::read(pid).map(|stat| stat.state)
}

/// True once the process has ended, even when nobody has reaped it.
pub fn is_dead(pid: i32) -> bool {
    match state(pid) {
        None | Some('X') => true,
        // It looks the same when only the first thread has ended.
        Some('Z') => std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count) <= 1,
        Some(_) => false,
    }
}

/// The command line, its words separated by blanks.
pub fn command_line(pid: i32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ").trim_end().to_owned()
}

/// A field of `/proc/PID/status`.
pub fn status_field(pid: i32, field: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// The process tree below `root`, one line each, for the messages of failed tests.
pub fn tree(root: i32) -> String {
    fn branch(text: &mut String, table: &HashMap<i32, Stat>, pid: i32, depth: usize) {
        let Some(stat) = table.get(&pid) else { return };
        let indent = "  ".repeat(depth);
        let waits_in = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        let _ = writeln!(
            text,
            "  {indent}{pid} {} pgid={} sid={} {waits_in} [{}] {}",
            stat.state,
            stat.group,
            stat.session,
            stat.name,
            command_line(pid)
        );
        let mut children: Vec<_> =
            table.iter().filter(|(_, child)| child.parent == pid).map(|(pid, _)| *pid).collect();
        children.sort_unstable();
        for child in children {
            branch(text, table, child, depth + 1);
        }
    }
    let mut text = String::new();
    branch(&mut text, &table(), root, 0);
    text
}

/// Waits until `condition` holds; panics with the process tree of the tests when it does not within `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let patience = super::timeline::patience();
    let limit = if patience < super::LIMIT { limit.min(patience) } else { limit };
    let begin = Instant::now();
    while !condition() {
        if begin.elapsed() > limit {
            let own = std::process::id().cast_signed();
            panic!("waited {limit:?} in vain until {what}; processes:\n{}", tree(own));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a signal to any process; a negative pid means its group.
#[track_caller]
pub fn send(pid: i32, signal: i32) {
    // SAFETY: the call takes its arguments by value.
    let result = unsafe { nix::libc::kill(pid, signal) };
    assert_eq!(result, 0, "cannot send signal {signal} to {pid}: {}", std::io::Error::last_os_error());
}

struct Stat {
    name: String,
    state: char,
    parent: i32,
    group: i32,
    session: i32,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let mut number = || fields.next()?.parse().ok();
        Some(Self { name: name.to_owned(), state, parent: number()?, group: number()?, session: number()? })
    }
}

fn table() -> HashMap<i32, Stat> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Stat::read(pid)?)))
        .collect()
}
