//! Much at once, for long. `GRACE_INIT_TEST_STORM=1` runs the full numbers, which take minutes.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::libc::{self, SIGTERM};

use crate::support::Need::PidNamespace;
use crate::support::process::{self, children, command_line, status_field, wait_until};
use crate::support::shutdown::Gate;
use crate::support::{Running, behaviours, example};

/// Longer than any of it takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// The full number, or a part of it that is worth a minute of nobody's time.
fn scaled(full: usize, part: usize) -> usize {
    if std::env::var_os("GRACE_INIT_TEST_STORM").is_some_and(|value| value == "1") { full } else { part }
}

fn kilobytes(pid: i32, field: &str) -> u64 {
    status_field(pid, field).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// What the init holds: its data's address space and its own pages.
fn memory(run: &Running) -> (u64, u64) {
    (kilobytes(run.pid(), "VmData"), kilobytes(run.pid(), "RssAnon"))
}

/// Waits until only the command is left below the init.
fn all_are_reaped(run: &Running) {
    wait_until("every orphan is reaped", PATIENCE, || children(run.pid()).len() == 1);
}

/// A generator for random moments (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

behaviours! {
    [PidNamespace]
    fn a_million_orphans_leave_the_memory_as_it_was(init) {
        let count = scaled(1_000_000, 50_000);
        let gate = Gate::new();
        let early = count / 10;
        let script = format!("$orphans {early}; read line < $gate; $orphans {}; echo all made; exec sleep 100000", count - early);
        let run = init.as_pid_one().gate(&gate).shell(&script).start();
        run.wait_for(&format!("orphans made={early}"));
        all_are_reaped(&run);
        let before = memory(&run);
        gate.open();
        wait_until("all orphans are made", PATIENCE, || run.timeline().count("all made") == 1);
        all_are_reaped(&run);
        let after = memory(&run);
        run.timeline().note(&format!("after {early}: {before:?} kB, after {count}: {after:?} kB"));
        // The heap grows by M_TOP_PAD (mallopt(3)) when it does for the first time.
        assert!(after.0 <= before.0 + 132, "{}", run.timeline().picture());
        // One page table's worth of pages may come and go.
        assert!(after.1 <= before.1 + 32, "{}", run.timeline().picture());
    }

    [PidNamespace]
    fn no_signal_is_lost_or_overtaken_among_a_hundred_thousand_while_orphans_are_reaped(init) {
        let count = scaled(100_000, 10_000);
        // RLIMIT_SIGPENDING bounds what may wait, here and in the command.
        let at_once = 500;
        let stage = init.as_pid_one().shell("(while :; do $orphans 100 > /dev/null; done) & exec $reporter");
        let run = stage.start();
        run.wait_for("ready");
        let signal = libc::SIGRTMIN() + 5;
        for value in 0..count {
            run_queue(&run, signal, value);
            if value % at_once == at_once - 1 {
                let arrived = || run.timeline().count("signal SIGRTMIN+5 ");
                wait_until("the signals arrive", PATIENCE, || arrived() == value + 1);
            }
        }
        wait_until("all signals arrive", PATIENCE, || run.timeline().count("signal SIGRTMIN+5 ") == count);
        let values: Vec<usize> = run.timeline().lines().iter()
            .filter(|line| line.text.starts_with("signal SIGRTMIN+5 "))
            .filter_map(|line| line.text.rsplit_once("value=")?.1.parse().ok())
            .collect();
        assert!(values.iter().copied().eq(0..count), "in another order, or not each once");
    }

    []
    fn a_stop_at_any_moment_of_a_busy_machine_gives_a_right_status_and_leaves_nobody(init) {
        let cycles = scaled(1_000, 150);
        let marker = format!("storm-{}", std::process::id());
        let stop_the_load = AtomicBool::new(false);
        let seed = u64::from(std::process::id()) << 20 | 1;
        let mut random = Random(seed);
        let path = init.outside().init_path();
        std::thread::scope(|scope| {
            // Also when the test fails: the scope waits for its threads.
            let _load = AtTheEnd(&stop_the_load);
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            for _ in 0..cores {
                scope.spawn(|| while !stop_the_load.load(Ordering::Relaxed) { std::hint::spin_loop(); });
            }
            let mut seen = std::collections::BTreeMap::new();
            for cycle in 0..cycles {
                let mut command = Command::new(&path);
                command.args(["--report", "none", "--"]).arg(example("signal_reporter"));
                command.args(["--name", &marker, "--exit-on", "TERM=4"]);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let mut child = command.spawn().unwrap();
                let moment = Duration::from_micros(random.below(4_000));
                let begun = Instant::now();
                while begun.elapsed() < moment {
                    std::hint::spin_loop();
                }
                // SAFETY: it takes no pointers; the child is not reaped, so the number is its own.
                unsafe { libc::kill(child.id().cast_signed(), SIGTERM) };
                let mut status = None;
                wait_until(&format!("cycle {cycle} (seed {seed}, {moment:?}) ends"), Duration::from_secs(60), || {
                    status = child.try_wait().unwrap();
                    status.is_some()
                });
                let status = status.unwrap();
                // Before it blocks signals a TERM ends the init itself; before the command does, it ends the command.
                let end = match (status.signal(), status.code()) {
                    (Some(SIGTERM), _) => "before the init took over",
                    (_, Some(143)) => "before the command took over",
                    (_, Some(4)) => "the command's own end",
                    _ => panic!("cycle {cycle} (seed {seed}, {moment:?}): {status}"),
                };
                *seen.entry(end).or_insert(0) += 1;
            }
            assert!(seen.len() > 1, "every stop came at the same moment: {seen:?}");
        });
        let survivors: Vec<i32> = process::descendants(1).into_iter().filter(|&pid| command_line(pid).contains(&marker)).collect();
        assert_eq!(survivors, Vec::<i32>::new());
    }
}

/// Sets a flag when it goes out of scope.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Queues a signal, as often as it takes: what waits is bounded (sigqueue(3), EAGAIN).
fn run_queue(run: &Running, signal: i32, value: usize) {
    let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(value) };
    wait_until("there is room for a signal", PATIENCE, || {
        // SAFETY: the call takes its arguments by value.
        unsafe { libc::sigqueue(run.pid(), signal, value) == 0 }
    });
}
