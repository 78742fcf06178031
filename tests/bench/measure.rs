//! The measurements. Each takes the inits in turn and adds its rows.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::Pid;

use crate::child::now;
use crate::table::Table;
use crate::{Effort, Init};

type Measurement = fn(&[Init], Effort, &mut Table);

pub const ALL: [(&str, Measurement); 8] = [
    ("start", start),
    ("instructions", instructions),
    ("relay", relay),
    ("stop", stop),
    ("reap", reap),
    ("tree", tree),
    ("idle", idle),
    ("size", size),
];

/// This machine, and how much it disagrees with itself: the same work timed many times.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("?", |(_, m)| m);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut times: Vec<f64> = (0..200).map(|_| timed(|| drop(Command::new("/bin/true").status()))).collect();
    times.sort_by(f64::total_cmp);
    let spread = (times[179] - times[19]) / times[100] * 100.0;
    format!(
        "{model}, {cores} cores, Linux {}; noise: 80% of /bin/true runs lie within {spread:.0}% of the median\n",
        kernel.trim()
    )
}

fn timed(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64() * 1e6
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn medians(all: Vec<Vec<f64>>) -> Vec<Option<f64>> {
    all.into_iter().map(|mut values| median(&mut values)).collect()
}

/// An init with a part of this program below it that has said that it is ready.
pub struct Up {
    pub init: Child,
    pub said: BufReader<ChildStdout>,
}

impl Up {
    pub fn start(mut command: Command) -> Self {
        let mut init =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::with_capacity(8, init.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{command:?}");
        Self { init, said }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.init.id()).unwrap()
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: it takes no pointers; the child is not reaped, so the number is its own.
        unsafe { libc::kill(self.pid(), signal) };
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let children = children(self.pid());
        let _ = self.init.kill();
        for child in children {
            // SAFETY: it takes no pointers.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        let _ = self.init.wait();
    }
}

/// The words that run a part of this program.
pub fn part(words: &[&str]) -> Vec<std::ffi::OsString> {
    let me = std::env::current_exe().unwrap();
    [me.into_os_string(), "child".into()].into_iter().chain(words.iter().map(Into::into)).collect()
}

/// As PID 1 of a PID namespace of its own.
fn as_pid_1(init: &Init, words: &[&str]) -> Command {
    let mut command = init.command(part(words));
    // SAFETY: the calls are safe between fork and exec. The process that is forked next is PID 1: one more fork.
    unsafe {
        command.pre_exec(|| {
            unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)?;
            let child = libc::fork();
            if child == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                let none = c"none".as_ptr();
                libc::mount(
                    none,
                    c"/".as_ptr(),
                    std::ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    std::ptr::null(),
                );
                let proc = c"proc".as_ptr();
                libc::mount(proc, c"/proc".as_ptr(), proc, 0, std::ptr::null());
                return Ok(());
            }
            // Between us and PID 1: passes its end on.
            for signal in 1..32 {
                libc::signal(signal, libc::SIG_IGN);
            }
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            // Above all the pipe on which the parent waits for the exec.
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
            libc::close(libc::STDOUT_FILENO);
            let mut status = 0;
            libc::waitpid(child, &raw mut status, 0);
            libc::_exit(libc::WEXITSTATUS(status))
        });
    }
    command
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn children(parent: i32) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid, 4) == Some(parent.into()))
        .collect()
}

/// A numeric field of `/proc/PID/stat`, counted from 1.
fn stat(pid: i32, field: usize) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_whitespace().nth(field - 3)?.parse().ok()
}

/// Without what is no init here: pid1 replaces itself by the command unless it is PID 1.
fn outside(inits: &[Init], values: Vec<Option<f64>>) -> Vec<Option<f64>> {
    inits.iter().zip(values).map(|(init, value)| value.filter(|_| init.name != "pid1")).collect()
}

fn start(inits: &[Init], effort: Effort, table: &mut Table) {
    let mut all = vec![Vec::new(); inits.len()];
    for _ in 0..effort.starts {
        for (init, times) in inits.iter().zip(&mut all) {
            times.push(timed(|| {
                drop(init.command(["/bin/true"]).stdin(Stdio::null()).stderr(Stdio::null()).status())
            }));
        }
    }
    table.add("start and exit of /bin/true", "µs", outside(inits, medians(all)));
}

/// Instructions of the init itself, from its start to its exit: the half of the truth that has no noise.
fn instructions(inits: &[Init], _: Effort, table: &mut Table) {
    let count = |init: &Init| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(&init.path)
            .args(init.options)
            .args(["--", "/bin/true"])
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // The last one is the init; its child stopped being counted when it executed /bin/true.
        let collected = said.lines().rev().find_map(|line| line.split_once("Collected :"))?;
        collected.1.trim().parse::<f64>().ok().map(|count| count / 1e3)
    };
    let counts: Vec<Option<f64>> = inits.iter().map(count).collect();
    if counts.iter().any(Option::is_some) {
        table.add("instructions of that, without the command's", "thousand", counts);
    } else {
        println!("instructions are left out: they need valgrind");
    }
}

/// On one core: which of several the scheduler wakes an init on makes more of a difference than the init, and stays the
/// same for as long as that init runs.
fn relay(inits: &[Init], effort: Effort, table: &mut Table) {
    let all_cores = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let mut one_core = CpuSet::new();
    one_core.set((0..CpuSet::count()).find(|&core| all_cores.is_set(core).unwrap()).unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one_core).unwrap();
    let mut ups: Vec<Up> = inits.iter().map(|init| Up::start(init.command(part(&["relay"])))).collect();
    let mut all = vec![Vec::new(); inits.len()];
    for _ in 0..effort.signals {
        for (up, times) in ups.iter_mut().zip(&mut all) {
            let sent = now();
            up.signal(libc::SIGUSR1);
            let mut handled = [0; 8];
            up.said.read_exact(&mut handled).unwrap();
            times.push((u64::from_ne_bytes(handled) - sent) as f64 / 1e3);
        }
    }
    drop(ups);
    sched_setaffinity(Pid::from_raw(0), &all_cores).unwrap();
    table.add("relay of a signal, on one core", "µs", outside(inits, medians(all)));
}

fn stop(inits: &[Init], effort: Effort, table: &mut Table) {
    let mut all = vec![Vec::new(); inits.len()];
    for _ in 0..effort.stops {
        for (init, times) in inits.iter().zip(&mut all) {
            let mut up = Up::start(init.command(part(&["idle"])));
            let begun = Instant::now();
            up.signal(libc::SIGTERM);
            up.init.wait().unwrap();
            times.push(begun.elapsed().as_secs_f64() * 1e6);
        }
    }
    table.add("stop: SIGTERM to our exit", "µs", outside(inits, medians(all)));
}

/// CPU that the process has used, in nanoseconds (proc(5), schedstat).
fn cpu(pid: i32) -> f64 {
    let schedstat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    schedstat.split_whitespace().next().unwrap().parse().unwrap()
}

fn reap(inits: &[Init], effort: Effort, table: &mut Table) {
    if !is_root() {
        println!("reaping as PID 1 is left out: it needs root");
        return;
    }
    let count = effort.orphans.to_string();
    let (mut costs, mut zombies) = (Vec::new(), Vec::new());
    for init in inits {
        let up = Up::start(as_pid_1(init, &["orphans", &count]));
        let pid_1 = children(up.pid())[0];
        let states = || {
            let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
            all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
                .filter(|pid| stat(*pid, 4) == Some(pid_1.into()))
                .filter(|pid| {
                    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                    stat.contains(") Z ")
                })
                .count()
        };
        let limit = Instant::now() + Duration::from_secs(20);
        while states() > 0 && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(20));
        }
        costs.push(Some(cpu(pid_1) / 1e3 / effort.orphans as f64));
        zombies.push(Some(states() as f64));
        // SAFETY: it takes no pointers.
        unsafe { libc::kill(pid_1, libc::SIGKILL) };
    }
    table.add(format!("CPU for an orphan, of {count} as PID 1"), "µs", costs);
    table.add_limited("zombies left of them", "", zombies, 0.0);
}

fn tree(inits: &[Init], effort: Effort, table: &mut Table) {
    const BUDGET: Duration = Duration::from_secs(1);
    for count in effort.trees {
        let measure = |init: &Init| {
            if !init.ours {
                return None;
            }
            let mut command = Command::new(&init.path);
            command
                .args(["--grace", "11s", "--reserve", "10s", "--"])
                .args(part(&["tree", &count.to_string()]));
            let mut up = Up::start(command);
            let begun = Instant::now();
            up.signal(libc::SIGTERM);
            up.init.wait().unwrap();
            Some(begun.elapsed().saturating_sub(BUDGET).as_secs_f64() * 1e3)
        };
        let values = inits.iter().map(measure).collect();
        table.add_limited(
            format!("deadline to our exit, {count} processes that ignore SIGTERM"),
            "ms",
            values,
            10_000.0,
        );
    }
}

fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

fn idle(inits: &[Init], effort: Effort, table: &mut Table) {
    let ups: Vec<Up> = inits.iter().map(|init| Up::start(init.command(part(&["idle"])))).collect();
    std::thread::sleep(Duration::from_millis(500));
    let status = |up: &Up| std::fs::read_to_string(format!("/proc/{}/status", up.pid())).unwrap();
    let switches = |up: &Up| field(&status(up), "voluntary_ctxt_switches");
    let before: Vec<f64> = ups.iter().map(switches).collect();
    std::thread::sleep(Duration::from_secs(effort.idle_seconds));
    let woken = ups.iter().zip(before).map(|(up, before)| Some(switches(up) - before)).collect();
    table.add_limited(format!("wake-ups in {} s idle", effort.idle_seconds), "", outside(inits, woken), 0.0);
    let threads = ups.iter().map(|up| Some(field(&status(up), "Threads"))).collect();
    table.add_limited("threads", "", outside(inits, threads), 1.0);
    drop(ups);
    // The kernel begins a stack anywhere within a page: it has one more or less from start to start.
    let rollup = |init: &Init| {
        let up = Up::start(init.command(part(&["idle"])));
        std::thread::sleep(Duration::from_millis(100));
        std::fs::read_to_string(format!("/proc/{}/smaps_rollup", up.pid())).unwrap()
    };
    let rollups: Vec<Vec<String>> = inits.iter().map(|init| (0..9).map(|_| rollup(init)).collect()).collect();
    let medians_of = |name: &str| {
        let values = |all: &Vec<String>| all.iter().map(|one| field(one, name)).collect();
        outside(inits, medians(rollups.iter().map(values).collect()))
    };
    let dirty = medians_of("Private_Dirty");
    table.add_limited("memory of its own while idle (Private_Dirty)", "KiB", dirty, DIRTY_LIMIT);
    // How much of a file a page fault maps is the file system's matter: no limit.
    table.add("memory while idle (RSS)", "KiB", medians_of("Rss"));
}

/// What the static build may have dirtied while idle, in KiB.
const DIRTY_LIMIT: f64 = 64.0;
/// What the static build may weigh, in bytes.
const SIZE_LIMIT: f64 = 800_000.0;

fn size(inits: &[Init], _: Effort, table: &mut Table) {
    let size = |init: &Init| std::fs::metadata(&init.path).ok().map(|file| file.len() as f64);
    table.add_limited("the file", "bytes", inits.iter().map(size).collect(), SIZE_LIMIT);
}
