//! Who descends from us: wherever it moved its process group or session, a process stays below the one that
//! started it, or below us once that has gone.

use std::collections::BTreeSet;
use std::fmt;

use nix::unistd::Pid;

/// A process that descends from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descendant {
    /// Its PID.
    pub pid: Pid,
    /// Its process group.
    pub group: Pid,
    /// Its session.
    pub session: Pid,
    /// Whether its session has a controlling terminal.
    pub has_terminal: bool,
    /// Whether it is stopped.
    pub suspended: bool,
    /// The first 15 bytes of its program's name, NUL behind them.
    pub name: [u8; 16],
    /// When it started, in clock ticks since the machine did. With the PID this names a process for good.
    pub started: u64,
    /// Its parent.
    pub parent: Pid,
}

impl Descendant {
    /// Whether it leads a session that has a controlling terminal, as an interactive shell does.
    pub fn leads_a_terminal(&self) -> bool {
        self.pid == self.session && self.has_terminal
    }
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
pub struct Descendants {
    all: Vec<Descendant>,
    /// Some may be there that `/proc` does not show.
    hidden: bool,
}

impl Descendants {
    /// Those of `all` that descend from `root`; `hidden` says that others may be there that `/proc` does not show.
    pub fn of(root: Pid, all: Vec<Descendant>, hidden: bool) -> Self {
        Self { all: below(root, all), hidden }
    }

    /// Whether all of them can be seen.
    pub fn is_complete(&self) -> bool {
        !self.hidden
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Descendant> {
        self.all.iter()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Those that nobody but us tells to stop. What is below another init of our kind, a script with us in its first line for
    /// one, is that one's to stop, in its own order; told by both it could take the second signal for a demand to hurry.
    pub fn told_by_us_alone(&self, mut is_init_like_us: impl FnMut(Pid) -> bool) -> Vec<Descendant> {
        let inits = self.all.iter().filter(|process| is_init_like_us(process.pid));
        let theirs: BTreeSet<Pid> =
            inits.flat_map(|init| below(init.pid, self.all.clone())).map(|process| process.pid).collect();
        self.all.iter().filter(|process| !theirs.contains(&process.pid)).copied().collect()
    }

    /// Those that are `root` or descend from it, and those in the process group that it leads or led.
    pub fn tree(&self, root: Pid) -> Vec<Descendant> {
        let mut tree = below(root, self.all.clone());
        tree.extend(self.all.iter().filter(|process| process.pid == root || process.group == root));
        tree.sort_unstable_by_key(|process| process.pid);
        tree.dedup_by_key(|process| process.pid);
        tree
    }

    /// Those that descend from `root`.
    pub fn below(&self, root: Pid) -> Vec<Descendant> {
        below(root, self.all.clone())
    }

    /// Whether that very process is among them.
    pub fn has(&self, process: &Descendant) -> bool {
        self.all.iter().any(|known| known.pid == process.pid && known.started == process.started)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, group: i32) -> Descendant {
        let [pid, parent, group] = [pid, parent, group].map(Pid::from_raw);
        Descendant {
            pid,
            group,
            session: group,
            has_terminal: false,
            suspended: false,
            name: [0; 16],
            started: 0,
            parent,
        }
    }

    fn pids(processes: &[Descendant]) -> Vec<i32> {
        let mut pids: Vec<i32> = processes.iter().map(|process| process.pid.as_raw()).collect();
        pids.sort_unstable();
        pids
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
        let all = Descendants {
            all: vec![process(7, 1, 7), process(8, 7, 8), process(9, 1, 7), process(10, 1, 10)],
            hidden: false,
        };
        assert_eq!(pids(&all.tree(Pid::from_raw(7))), [7, 8, 9]);
    }
}
