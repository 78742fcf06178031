//! Nothing stays a zombie, and an idle init costs nothing.

use std::path::Path;
use std::time::Duration;

use nix::libc::{SIGTERM, SIGUSR1};

use crate::support::Need::PidNamespace;
use crate::support::process::{children, command_line, state, status_field, wait_until};
use crate::support::{LIMIT, Running, Stage, behaviours};

fn zombies(init: i32) -> usize {
    children(init).into_iter().filter(|&pid| state(pid) == Some('Z')).count()
}

/// Once only the command is left below the init, every orphan has been reaped.
fn a_burst_is_reaped(stage: Stage) -> Running {
    let run = stage.shell("exec $orphans 10000 wait").start();
    // Two cores shared with other tests: only a hang takes longer.
    run.wait_for("orphans made=10000");
    wait_until("every orphan is reaped", LIMIT, || children(run.pid()).len() == 1);
    assert_eq!(zombies(run.pid()), 0);
    run
}

behaviours! {
    [PidNamespace]
    fn a_burst_of_orphans_leaves_no_zombie(init) {
        let mut run = a_burst_is_reaped(init.as_pid_one());
        run.signal(SIGTERM);
        run.exits_with(128 + SIGTERM);
    }

    []
    fn a_burst_of_orphans_leaves_no_zombie_outside(init) {
        let mut run = a_burst_is_reaped(init.outside().subreaper());
        run.signal(SIGTERM);
        run.exits_with(128 + SIGTERM);
    }

    [PidNamespace]
    fn reaping_does_not_grow_the_heap(init) {
        let run = a_burst_is_reaped(init.as_pid_one());
        let data = status_field(run.pid(), "VmData").unwrap();
        let kilobytes: u64 = data.split(' ').next().unwrap().parse().unwrap();
        assert!(kilobytes < 4096, "{data}");
    }

    [PidNamespace]
    fn an_orphan_is_not_taken_for_the_command(init) {
        let mut run = init.as_pid_one().shell("(exec setsid sh -c 'exit 3') & wait; (sh -c 'exit 4' &); exit 5").start();
        run.exits_with(5);
    }

    [PidNamespace]
    fn an_orphan_killed_by_a_real_time_signal_is_reaped(init) {
        let run = init.as_pid_one().shell("($reporter --raise 40 &); exec $reporter --name main").start();
        run.wait_for("main ready");
        wait_until("the orphan is reaped", LIMIT, || children(run.pid()).len() == 1);
        run.signal(SIGUSR1);
        run.wait_for("main signal SIGUSR1 ");
    }

    [PidNamespace]
    fn an_idle_init_is_never_woken(init) {
        let run = init.as_pid_one().reporter(&[]).start();
        run.wait_for("ready");
        run.signal(SIGUSR1);
        run.wait_for("signal SIGUSR1 ");
        wait_until("the init sleeps", LIMIT, || state(run.pid()) == Some('S'));
        let switches = || {
            ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"].map(|field| status_field(run.pid(), field))
        };
        let before = switches();
        // Not a synchronisation: the time in which nothing may happen.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(before, switches(), "{}", run.timeline().picture());
    }

    []
    fn we_have_one_thread(init) {
        let run = init.outside().reporter(&[]).start();
        run.wait_for("ready");
        assert_eq!(status_field(run.pid(), "Threads").as_deref(), Some("1"));
    }

    []
    fn every_descriptor_of_ours_is_closed_on_exec(init) {
        let run = init.outside().reporter(&[]).start();
        run.wait_for("ready");
        // What the init inherited is not its own; the stage, its parent, has the same and nothing more.
        let parent = status_field(run.pid(), "PPid").unwrap();
        for entry in std::fs::read_dir(format!("/proc/{}/fdinfo", run.pid())).unwrap() {
            let path = entry.unwrap().path();
            let fd: i32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            if fd > 2 && !Path::new(&format!("/proc/{parent}/fd/{fd}")).is_symlink() {
                let info = std::fs::read_to_string(&path).unwrap_or_default();
                let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0").trim();
                let flags = u32::from_str_radix(flags, 8).unwrap();
                assert!(flags & 0o2_000_000 != 0, "descriptor {fd} of {}: {info}", command_line(run.pid()));
            }
        }
    }

    []
    fn a_parents_death_gives_us_the_signal_that_we_asked_for(init) {
        // The shell is our parent; it dies, and the command hears of it.
        let stage = init.outside();
        let path = stage.init_path();
        let script = "\"$init\" --parent-death-signal USR1 $reporter & read line < $fifo";
        let directory = crate::support::TemporaryDirectory::new();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let run = stage.without_init().env("init", path).env("fifo", &fifo).shell(script).start();
        run.wait_for("ready");
        std::fs::write(&fifo, "go\n").unwrap();
        run.wait_for("signal SIGUSR1 ");
    }
}
