//! What the init says, and that saying it never holds anything up.

use nix::libc::{SIGTERM, SIGUSR1};

use crate::support::Face::DumbInit;
use crate::support::Need::{PidNamespace, Program};
use crate::support::behaviours;

behaviours! {
    [Program("python3")]
    fn the_log_is_valid_json_when_asked_for(init) {
        let options = ["--log-format", "json", "--log-level", "debug"];
        let mut run = init.outside().options(options).shell("exec $reporter --name 'quote\" and \\back' --exit-on TERM=0").start();
        run.wait_for("ready");
        run.signal(SIGUSR1);
        run.wait_for("signal SIGUSR1 ");
        run.signal(SIGTERM);
        run.wait();
        let log = run.timeline().text("stderr");
        assert!(log.lines().count() >= 2, "{}", run.timeline().picture());
        let check = "import json,sys\nfor line in sys.argv[1].splitlines():\n record = json.loads(line)\n \
                     assert all(key in record for key in ('time', 'level', 'msg')), line\n";
        let output = std::process::Command::new("python3").args(["-c", check, &log]).output().unwrap();
        assert!(output.status.success(), "{}\n{log}", String::from_utf8_lossy(&output.stderr));
    }

    []
    fn a_log_record_is_one_line_whatever_is_in_it(init) {
        let mut run = init.outside().command(["no-such\ncommand\r\u{1b}[2J"]).start();
        run.wait();
        let log = run.timeline().text("stderr");
        assert_eq!(log.trim_end().lines().count(), 1, "{log:?}");
        assert!(!log.contains('\u{1b}'), "{log:?}");
    }

    [PidNamespace]
    fn a_full_stderr_that_nobody_reads_blocks_nothing(init) {
        // The command fills the pipe first, as far as it goes without blocking.
        let script = "dd if=/dev/zero of=/dev/stderr oflag=nonblock bs=4096 count=1000 2>/dev/null >&2; \
                      (true &); (true &); exec $reporter --exit-on TERM=5";
        let stage = init.as_pid_one().options(["--log-level", "debug"]);
        let mut run = stage.stderr_unread().shell(script).start();
        run.wait_for("ready");
        for count in 1..=200 {
            crate::support::process::send(run.pid(), SIGUSR1);
            run.timeline().wait_for_count("signal SIGUSR1 ", count);
        }
        run.signal(SIGTERM);
        run.exits_with(5);
    }

    [PidNamespace]
    fn a_closed_stderr_is_harmless(init) {
        let mut run = init.as_pid_one().closed(2).options(["-v"]).reporter(&["--exit-on", "TERM=5"]).start();
        run.wait_for("ready");
        run.signal(SIGUSR1);
        run.wait_for("signal SIGUSR1 ");
        run.signal(SIGTERM);
        run.exits_with(5);
    }

    []
    fn a_stderr_that_is_a_full_disk_is_harmless(init) {
        let full = std::path::Path::new("/dev/full");
        let mut run = init.outside().open(2, full).options(["-v"]).reporter(&["--exit-on", "TERM=5"]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.exits_with(5);
    }

    [; DumbInit]
    fn as_dumb_init_nothing_is_said_by_default(init) {
        let mut run = init.outside().reporter(&["--exit-on", "TERM=5"]).start();
        run.wait_for("ready");
        run.signal(SIGUSR1);
        run.wait_for("signal SIGUSR1 ");
        run.signal(SIGTERM);
        run.exits_with(5);
        assert_eq!(run.timeline().text("stderr"), "");
    }
}
