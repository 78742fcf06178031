//! In real containers: what `docker` does to an init, and what the init does for what runs in it.

use std::time::Duration;

use crate::support::Need::{ContainerTools, Docker, Root};
use crate::support::container::{Container, Crate, Daemon, static_file};
use crate::support::process::wait_until;
use crate::support::{LIMIT, Subject, TemporaryDirectory, behaviours};

/// A foreground program that leaves with 3 as soon as it is told, and one in the background that needs a second more.
const TWO: &str = "
    (trap 'echo worker: finishing; sleep 1; echo worker: finished; exit 0' TERM; echo worker: ready; while :; do sleep 0.05; done) &
    trap 'echo front: stopped; exit 3' TERM
    echo front: ready
    while :; do sleep 0.05; done";

/// Says which signal has come, each time; ends with 0 at a TERM.
const REPORTER: &str = "
    for name in HUP USR1 USR2 WINCH CONT INT; do trap \"echo got $name\" $name; done
    trap 'echo got TERM; exit 0' TERM
    echo reporter: ready
    while :; do sleep 0.05; done";

/// Starts [`TWO`] and returns when both programs are ready.
fn two(stage: Crate) -> Container {
    let container = stage.shell(TWO).start();
    container.wait_for("worker: ready");
    container.wait_for("front: ready");
    container
}

/// Asserts that a stop lets both programs of [`TWO`] finish, long before Docker loses patience.
#[track_caller]
fn both_finish(container: &mut Container) {
    let taken = container.stop(&["-t", "15"]);
    container.exits_with(3);
    assert!(taken < Duration::from_secs(12), "{taken:?}\n{}", container.timeline().picture());
    container.timeline().saw_times("worker: finished", 1);
}

/// The state of a container's health check.
fn health(container: &Container) -> String {
    container.inspect("{{.State.Health.Status}}")
}

behaviours! {
    [Docker, ContainerTools]
    fn a_docker_stop_lets_every_process_finish_and_keeps_the_commands_status(init) {
        both_finish(&mut two(init.in_container()));
    }

    [Docker, ContainerTools]
    fn a_docker_stop_of_three_seconds_is_met_with_the_same_grace(init) {
        let stage = init.in_container().own_options(&["--grace", "3s", "--post-stop", "echo saved"]);
        let mut container = stage.shell("trap 'echo not now' TERM; echo ready; while :; do sleep 0.05; done").start();
        container.wait_for("ready");
        container.stop(&["-t", "3"]);
        container.exits_with(137);
        container.timeline().assert_order(["not now", "saved", "stopped by SIGTERM from outside the container"]);
    }

    [Docker, ContainerTools]
    fn a_docker_stop_that_is_obeyed_is_not_waited_out(init) {
        let mut container = init.in_container().shell(REPORTER).start();
        container.wait_for("ready");
        let taken = container.stop(&["-t", "15"]);
        container.exits_with(0);
        assert!(taken < Duration::from_secs(12), "{taken:?}");
    }

    [Docker, ContainerTools]
    fn signals_of_docker_kill_reach_the_command_once(init) {
        let mut container = init.in_container().shell(REPORTER).start();
        container.wait_for("ready");
        for name in ["HUP", "USR1", "USR2", "WINCH"] {
            container.kill(name);
            container.wait_for(&format!("got {name}"));
        }
        container.kill("TERM");
        container.exits_with(0);
        for name in ["HUP", "USR1", "USR2", "WINCH", "TERM"] {
            container.timeline().saw_times(&format!("got {name}"), 1);
        }
    }

    [Docker, ContainerTools]
    fn a_docker_kill_ends_everything_with_137(init) {
        let mut container = two(init.in_container());
        container.kill("KILL");
        container.exits_with(137);
        container.timeline().never_saw("front: stopped");
    }

    [Docker, ContainerTools]
    fn a_ctrl_c_in_docker_run_reaches_the_command_once(init) {
        let script = "trap 'echo got INT; exit 4' INT; echo ready; while :; do sleep 0.05; done";
        let (mut container, mut client) = init.in_container().shell(script).start_on_terminal();
        container.wait_for("ready");
        client.terminal().type_in("\x03");
        container.exits_with(4);
        client.wait_until_over();
        // The client hands the status on to the shell that called it.
        client.exits_with(4);
        container.timeline().saw_times("got INT", 1);
    }

    [Docker, ContainerTools]
    fn a_closed_terminal_of_docker_run_is_one_hang_up_for_the_command(init) {
        let (mut container, mut client) = init.in_container().shell(REPORTER).start_on_terminal();
        container.wait_for("ready");
        client.close_terminal();
        // Docker closes the container's terminal with its client's.
        wait_until("the command is told", LIMIT, || container.log().contains("got HUP"));
        container.stop(&["-t", "15"]);
        container.exits_with(0);
        client.wait_until_over();
        assert_eq!(container.log().matches("got HUP").count(), 1, "{}", container.log());
    }

    [Docker, ContainerTools]
    fn a_read_only_root_changes_nothing(init) {
        let mut container = two(init.in_container().settings(&["--read-only"]));
        both_finish(&mut container);
    }

    [Docker, ContainerTools]
    fn a_read_only_root_still_has_a_control_socket(init) {
        let container = two(init.in_container().settings(&["--read-only"]));
        container.execute(&["/grace-init", "ready"]).unwrap();
    }

    [Docker, ContainerTools]
    fn no_user_no_capability_and_no_new_privileges_change_nothing(init) {
        let settings = ["--user", "65534", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only"];
        let mut container = two(init.in_container().settings(&settings));
        both_finish(&mut container);
    }

    [Docker, ContainerTools]
    fn an_unprivileged_init_answers_its_own_user(init) {
        let settings = ["--user", "65534", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
        let mut container = two(init.in_container().settings(&settings));
        container.execute(&["/grace-init", "stop", "--until", "prepared"]).unwrap();
        container.exits_with(3);
        container.timeline().saw_times("worker: finished", 1);
        container.timeline().saw_times("stopped by grace-init stop", 1);
    }

    [Docker, ContainerTools]
    fn a_full_container_is_stopped_without_a_process_to_spare(init) {
        let stage = init.in_container().settings(&["--pids-limit", "8"]).own_options(&["-p", "echo deregistering"]);
        let script = "trap 'echo got TERM; exit 3' TERM; for i in 1 2 3 4 5 6; do sleep 1000 & done; echo full; wait; wait";
        let mut container = stage.shell(script).start();
        container.wait_for("full");
        let taken = container.stop(&["-t", "15"]);
        container.exits_with(3);
        assert!(taken < Duration::from_secs(12), "{taken:?}");
        container.timeline().saw_times("got TERM", 1);
        container.timeline().assert_order(["could not start", "stopped by SIGTERM"]);
    }

    [Docker, ContainerTools]
    fn a_command_that_runs_out_of_memory_gives_137_and_its_workers_finish(init) {
        // The shell itself becomes the program that takes all memory. The worker forks nothing until that has gone: what asks for
        // memory before it is free again is killed as well.
        let script = "
            (trap 'echo worker: finishing; sleep 1; echo worker: finished; exit 0' TERM; trap '' USR1; sleep 3600 & echo worker: ready; wait) &
            trap 'exec tail /dev/zero' USR1
            echo command: ready
            while :; do sleep 0.05; done";
        let stage = init.in_container().settings(&["--memory", "32m", "--memory-swap", "32m"]);
        let mut container = stage.shell(script).start();
        container.wait_for("worker: ready");
        container.wait_for("command: ready");
        container.kill("USR1");
        container.exits_with(137);
        container.timeline().assert_order(["worker: finishing", "worker: finished"]);
        assert_eq!(container.inspect("{{.State.OOMKilled}}"), "true");
    }

    [Docker, ContainerTools]
    fn in_the_hosts_pid_namespace_only_our_own_descendants_are_told(init) {
        let host = ["--pid", "host", "--user", "65534"];
        let bystander = Subject::Ours.in_container().without_init().settings(&host)
            .shell("trap 'echo told; exit 9' TERM; echo ready; while :; do sleep 0.05; done").start();
        bystander.wait_for("ready");
        // A process of its own session whose parent has gone: nothing but the subreaper leads to it.
        let worker = "setsid sh -c '(trap \"echo worker: finished; exit 0\" TERM; echo worker: ready; while :; do sleep 0.05; done) & sleep 0.1' & wait; ";
        let mut container = init.in_container().settings(&host).shell(&format!("{worker}{}", REPORTER)).start();
        container.wait_for("worker: ready");
        container.wait_for("reporter: ready");
        container.stop(&["-t", "15"]);
        container.exits_with(0);
        bystander.timeline().never_saw("told");
        assert!(bystander.is_running());
        container.timeline().saw_times("worker: finished", 1);
    }

    [Docker, ContainerTools]
    fn below_dockers_own_init_we_are_not_pid_1_and_every_process_finishes(init) {
        both_finish(&mut two(init.in_container().settings(&["--init"])));
    }

    [Docker, ContainerTools]
    fn two_containers_that_share_their_processes_and_memory_are_stopped_one_by_one(init) {
        let mut first = two(init.in_container().settings(&["--ipc", "shareable"]));
        let namespaces = ["--pid".to_owned(), format!("container:{}", first.name()), "--ipc".to_owned(), format!("container:{}", first.name())];
        let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
        let mut second = two(init.in_container().settings(&namespaces).own_options(&["--control", "/dev/shm"]));
        both_finish(&mut second);
        assert!(first.is_running());
        first.timeline().never_saw("stopped");
        first.timeline().never_saw("finishing");
        both_finish(&mut first);
    }

    [Docker, ContainerTools]
    fn sessions_of_docker_exec_are_left_alone_until_the_end(init) {
        let shared = TemporaryDirectory::new();
        let volume = format!("{}:/shared", shared.path().display());
        let script = "trap 'echo stopping; while [ ! -e /shared/go ]; do sleep 0.05; done; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
        let mut container = init.in_container().settings(&["-v", &volume]).shell(script).start();
        container.wait_for("ready");
        let session = "trap 'echo told > /shared/told' TERM HUP INT; echo > /shared/begun; while :; do echo > /shared/alive; sleep 0.05; done";
        container.execute_in_background(&["sh", "-c", session]);
        wait_until("the session has begun", LIMIT, || shared.path().join("begun").exists());
        let mut stop = container.begin_stop(&["-t", "15"]);
        container.wait_for("stopping");
        for _ in 0..3 {
            let alive = shared.path().join("alive");
            std::fs::remove_file(&alive).unwrap();
            wait_until("the session is alive", LIMIT, || alive.exists());
        }
        container.execute(&["true"]).expect("a new session");
        assert!(!shared.path().join("told").exists());
        std::fs::write(shared.path().join("go"), "").unwrap();
        stop.wait().unwrap();
        container.exits_with(0);
    }

    [Docker, ContainerTools]
    fn a_health_check_by_ready_fails_as_soon_as_the_shutdown_begins(init) {
        let check = ["--health-cmd", "/grace-init ready", "--health-interval", "200ms", "--health-retries", "1"];
        let container = init.in_container().settings(&check).own_options(&["--drain", "10s"]).shell(REPORTER).start();
        wait_until("the container is healthy", LIMIT, || health(&container) == "healthy");
        container.kill("TERM");
        wait_until("the container is unhealthy", LIMIT, || health(&container) == "unhealthy");
        container.timeline().never_saw("got TERM");
        assert!(container.is_running());
    }

    [Docker, ContainerTools, Root]
    fn as_dockers_own_init_the_file_stands_in_for_tini(init) {
        let init = match init {
            Subject::Ours | Subject::OursAs(_) => static_file(),
            Subject::Peer(face) => ["/usr/bin", face.name()].iter().collect(),
        };
        let daemon = Daemon::with_init(&init);
        // Docker calls /sbin/docker-init: by that name it is tini, to the child alone and gone with it.
        let mut container = Subject::Ours.in_container().without_init().on(&daemon).settings(&["--init"]).shell(TWO).start();
        container.wait_for("worker: ready");
        container.wait_for("front: ready");
        container.stop(&["-t", "15"]);
        container.exits_with(3);
        container.timeline().saw_times("front: stopped", 1);
        container.timeline().never_saw("worker: finished");
        container.timeline().never_saw("grace-init");
    }

    [Docker, ContainerTools]
    fn a_hook_drains_and_stops_a_container_whose_first_process_is_not_ours(init) {
        let mut container = init.in_container().without_init().shell(REPORTER).start();
        container.wait_for("reporter: ready");
        let begun = std::time::Instant::now();
        let hook = ["/grace-init", "hook", "--grace", "20s", "--drain", "1s", "--stop-signal", "USR1:1s,TERM"];
        // It ends with the container whose process 1 it has stopped.
        let _ = container.execute(&hook);
        container.exits_with(0);
        assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
        container.timeline().assert_order(["got USR1", "got TERM"]);
    }
}
