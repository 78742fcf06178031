//! Scripts and shells within shells: every process gets to the end of its own cleanup.

use std::path::{Path, PathBuf};

use nix::libc::{SIGINT, SIGTERM};

use crate::support::Face::{DumbInit, Tini};
use crate::support::Need::{PidNamespace, Program};
use crate::support::shutdown::Gate;
use crate::support::{Running, Stage, Subject, TemporaryDirectory, behaviours, example};

/// A worker with a cleanup in the background, a program in the foreground, and no trap.
const SCRIPT: &str = "\
$reporter --name back --linger 2s &
$reporter --name front --exit-on TERM=0 --exit-on INT=0
";

/// Runs a script whose first line names the init and what else is given.
fn shebang(stage: Stage, interpreter: &str, body: &str) -> (Running, TemporaryDirectory) {
    let directory = TemporaryDirectory::new();
    let init = on_path(Path::new(&stage.init_path()));
    let script = directory.file("script", 0o755, &format!("#!{} {interpreter}\n{body}", init.display()));
    let stage = stage.without_init().env("reporter", example("signal_reporter")).env("hide", example("hide"));
    (stage.command([script]).start(), directory)
}

/// The kernel wants a full path in the first line of a script.
fn on_path(program: &Path) -> PathBuf {
    if program.components().count() > 1 {
        return program.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("no {} on the path", program.display()))
}

/// Stops the script once all its processes are there.
fn stop(run: &mut Running, signal: i32) -> i32 {
    run.wait_for("back ready");
    run.wait_for("front ready");
    run.signal(signal);
    run.wait().code()
}

/// The older init ends, and with it the kernel ends the cleanup.
fn cuts_the_cleanup_off(peer: Subject) {
    let (mut run, _directory) = shebang(peer.as_pid_one(), "/bin/sh", SCRIPT);
    stop(&mut run, SIGTERM);
    run.timeline().assert_order(["sent SIGTERM", "init over"]);
    run.timeline().never_saw("back cleanup done");
}

const WRAPPERS: &str = "\
sh -c '
  sh -c \"$reporter --name inner --linger 1500ms; true\" &
  sh -c \"$reporter --name back --linger 500ms; true\" &
  $reporter --name front --linger 1s
  true'
true
";

behaviours! {
    [PidNamespace]
    fn a_shebang_scripts_background_cleanup_completes(init) {
        let (mut run, _directory) = shebang(init.as_pid_one(), "/bin/sh", SCRIPT);
        assert_eq!(stop(&mut run, SIGTERM), 128 + SIGTERM);
        run.timeline().assert_order(["sent SIGTERM", "back cleanup begins", "back cleanup done", "init over"]);
    }

    [PidNamespace, Program("dumb-init")]
    fn dumb_init_cuts_that_cleanup_off(_init) {
        cuts_the_cleanup_off(Subject::Peer(DumbInit));
    }

    [PidNamespace, Program("tini")]
    fn tini_cuts_that_cleanup_off(_init) {
        cuts_the_cleanup_off(Subject::Peer(Tini));
    }

    [PidNamespace]
    fn a_shebang_scripts_processes_need_not_wait_for_the_end_of_the_grace(init) {
        let (mut run, _directory) = shebang(init.as_pid_one(), "-S --grace 3h -- /bin/sh -e", SCRIPT);
        assert_eq!(stop(&mut run, SIGTERM), 128 + SIGTERM);
        run.timeline().assert_order(["back cleanup begins", "back cleanup done", "init over"]);
    }

    [PidNamespace]
    fn a_shebang_scripts_first_line_can_hold_a_whole_shutdown(init) {
        let first_line = "-S --grace 3h --drain 300ms --pre-stop 'printf deregistered\\n' --stop-signal INT -- /bin/sh";
        // The shell itself survives the INT, for its program in the foreground ends well.
        let body = "trap : INT\n$reporter --name back --exit-on INT=0 &\n$reporter --name front --exit-on INT=0\nwait\necho script ends\nexit 5\n";
        let (mut run, _directory) = shebang(init.as_pid_one(), first_line, body);
        assert_eq!(stop(&mut run, SIGTERM), 5);
        run.timeline().assert_order(["sent SIGTERM", "deregistered", "front signal SIGINT", "script ends", "init over"]);
    }

    []
    fn a_shebang_scripts_background_cleanup_completes_on_a_desktop_too(init) {
        let (mut run, _directory) = shebang(init.outside(), "/bin/sh", SCRIPT);
        assert_eq!(stop(&mut run, SIGTERM), 128 + SIGTERM);
        run.timeline().assert_order(["sent SIGTERM", "back cleanup begins", "back cleanup done", "init over"]);
    }

    [PidNamespace]
    fn every_hook_of_wrappers_around_wrappers_completes(init) {
        let mut run = init.as_pid_one().shell(WRAPPERS).start();
        run.wait_for("inner ready");
        assert_eq!(stop(&mut run, SIGTERM), 128 + SIGTERM);
        for name in ["inner", "back", "front"] {
            run.timeline().assert_order(["sent SIGTERM", &format!("{name} cleanup begins"), &format!("{name} cleanup done"), "init over"]);
            run.timeline().saw_times(&format!("{name} signal SIGTERM"), 1);
        }
    }

    [PidNamespace]
    fn every_hook_completes_when_the_wrappers_are_told_alone(init) {
        let mut run = init.as_pid_one().single_child().shell(WRAPPERS).start();
        run.wait_for("inner ready");
        assert_eq!(stop(&mut run, SIGTERM), 128 + SIGTERM);
        for name in ["inner", "back", "front"] {
            run.timeline().assert_order(["sent SIGTERM", &format!("{name} cleanup begins"), &format!("{name} cleanup done"), "init over"]);
            run.timeline().saw_times(&format!("{name} signal SIGTERM"), 1);
        }
    }

    [PidNamespace]
    fn every_hook_completes_when_the_programs_have_sessions_of_their_own(init) {
        let script = "\
            sh -c '
              $hide session $reporter --name back --linger 1s &
              sh -c \"$hide session $reporter --name front --linger 500ms; true\"
              true'
            true";
        let stage = init.as_pid_one().env("hide", example("hide"));
        let mut run = stage.shell(script).start();
        assert_eq!(stop(&mut run, SIGTERM), 128 + SIGTERM);
        for name in ["back", "front"] {
            run.timeline().assert_order(["sent SIGTERM", &format!("{name} cleanup begins"), &format!("{name} cleanup done"), "init over"]);
        }
    }

    [PidNamespace]
    fn a_wrapper_with_a_trap_keeps_its_own_order(init) {
        let script = "\
            $reporter --name back --linger 500ms & back=$!
            trap 'echo trap runs; kill -TERM $back; wait $back; echo trap ends; exit 6' TERM
            $reporter --name front --linger 300ms & wait $!";
        let mut run = init.as_pid_one().single_child().shell(script).start();
        assert_eq!(stop(&mut run, SIGTERM), 6);
        run.timeline().assert_order(["sent SIGTERM", "trap runs", "back cleanup done", "trap ends", "front cleanup done", "init over"]);
    }

    [PidNamespace, Program("bash")]
    fn a_pipelines_end_completes(init) {
        let script = "$reporter --name front --exit-on TERM=0 | (trap '' TERM; cat; sleep 0.5; echo pipeline done); true";
        let mut run = init.as_pid_one().command(["bash", "-c", script]).env("reporter", example("signal_reporter")).start();
        run.wait_for("front ready");
        run.signal(SIGTERM);
        assert_eq!(run.wait().code(), 128 + SIGTERM);
        run.timeline().assert_order(["sent SIGTERM", "front signal SIGTERM", "pipeline done", "init over"]);
    }

    [PidNamespace]
    fn a_script_that_ends_by_itself_lets_its_background_finish(init) {
        let gate = Gate::new();
        let body = "$reporter --name back --linger 1s &\nread line < $gate\nexit 3\n";
        let (mut run, _directory) = shebang(init.as_pid_one().gate(&gate), "/bin/sh", body);
        run.wait_for("back ready");
        gate.open();
        assert_eq!(run.wait().code(), 3);
        run.timeline().assert_order(["back cleanup begins", "back cleanup done", "init over"]);
    }

    [PidNamespace]
    fn an_interrupt_ends_a_script_with_its_background(init) {
        // A shell without job control starts its background with INT ignored: only the TERM of the leftovers ends that.
        let script = "$reporter --name back --linger 500ms & exec $reporter --name front --exit-on INT=130";
        let mut run = init.as_pid_one().shell(script).start();
        assert_eq!(stop(&mut run, SIGINT), 130);
        run.timeline().assert_order(["front signal SIGINT", "back signal SIGTERM", "back cleanup done", "init over"]);
    }

    []
    fn a_script_without_an_interpreter_line_takes_100000_arguments(init) {
        let directory = TemporaryDirectory::new();
        let script = directory.file("script", 0o755, "echo $# ${100000}\n");
        let words = std::iter::once(script.into_os_string()).chain((1..=100_000).map(|n| n.to_string().into()));
        let mut run = init.outside().command(words).start();
        run.exits_with(0);
        run.timeline().saw_times("100000 100000", 1);
    }
}
