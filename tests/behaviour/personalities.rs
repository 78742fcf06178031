//! Called by another init's name we take its command line. Each test runs on ours under that name and on the
//! real one, where it is installed.

use nix::libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::support::Face::{Catatonit, DockerInit, DumbInit, Tini};
use crate::support::Need::PidNamespace;
use crate::support::process::{is_dead, send, state, wait_until};
use crate::support::{LIMIT, Subject, behaviours};

/// One run that must end by itself: its status, stdout and stderr.
fn outcome(init: Subject, options: &[&str], script: Option<&str>) -> (i32, String, String) {
    let stage = init.outside().options(options);
    let stage = match script {
        Some(script) => stage.shell(script),
        None => stage,
    };
    let mut run = stage.start();
    let status = run.wait().code();
    (status, run.timeline().text("stdout"), run.timeline().text("stderr"))
}

/// A directory that may not be searched makes "not found" into "not permitted".
const SEARCHABLE: &str = "/usr/local/bin:/usr/bin:/bin";

behaviours! {
    [; DumbInit]
    fn dumb_inits_help_and_version_go_to_stderr(init) {
        for option in ["-h", "--help", "-V", "--version", "--vers", "--hel"] {
            let (status, stdout, stderr) = outcome(init, &[option], None);
            assert_eq!((status, stdout.as_str()), (0, ""), "{option}");
            assert!(!stderr.is_empty(), "{option}");
        }
        let (_, _, help) = outcome(init, &["--help"], None);
        for word in ["--single-child", "--rewrite", "--verbose", "--version", "--help"] {
            assert!(help.contains(word), "{word} is not in the help");
        }
    }

    [; DumbInit]
    fn dumb_inits_usage_errors_give_1(init) {
        let bad: [&[&str]; 4] = [&[], &["-x", "true"], &["--no-such-option", "true"], &["-r"]];
        for words in bad {
            let (status, stdout, stderr) = outcome(init, words, None);
            assert_eq!((status, stdout.as_str()), (1, ""), "{words:?}");
            assert!(!stderr.is_empty(), "{words:?}");
        }
    }

    [; DumbInit]
    fn dumb_inits_bad_rewrites_give_1(init) {
        for rule in ["TERM:QUIT", "15", "0:15", "32:15", "15:32", "-1:15", "15:-1", "15:", ":15", "a:b", ""] {
            let (status, stdout, stderr) = outcome(init, &["-r", rule], Some("echo ran"));
            assert_eq!((status, stdout.as_str()), (1, ""), "{rule:?}: {stderr}");
            assert!(!stderr.is_empty(), "{rule:?}");
        }
    }

    [; DumbInit]
    fn dumb_inits_failed_exec_gives_2(init) {
        for command in ["/no/such/command", "no-such-command", "/"] {
            let mut run = init.outside().command([command]).start();
            run.exits_with(2);
            run.wait_for(command);
        }
    }

    [; DumbInit]
    fn dumb_inits_statuses_are_the_commands(init) {
        for (script, status) in [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
            assert_eq!(outcome(init, &[], Some(script)).0, status, "{script}");
        }
    }

    [; DumbInit]
    fn dumb_inits_options_may_be_joined_and_abbreviated(init) {
        let spellings: [&[&str]; 7] = [
            &["-cv"], &["-vc"], &["--single-child", "--verb"], &["--single", "-v"], &["-c", "-v", "--"],
            &["-vcr15:3"], &["-c", "--verbose", "--rewrite=15:3"],
        ];
        for words in spellings {
            let (status, stdout, stderr) = outcome(init, words, Some("echo ran"));
            assert_eq!((status, stdout.as_str()), (0, "ran\n"), "{words:?}: {stderr}");
            assert!(!stderr.is_empty(), "{words:?} was to be verbose");
        }
    }

    [; DumbInit]
    fn dumb_init_leaves_the_commands_own_options_alone(init) {
        let mut run = init.outside().command(["echo", "-c", "--help", "--", "-r"]).start();
        run.exits_with(0);
        assert_eq!(run.timeline().text("stdout"), "-c --help -- -r\n");
    }

    [PidNamespace; DumbInit]
    fn dumb_init_rewrites_and_drops_by_number(init) {
        let run = init.as_pid_one().options(["-r", "15:3", "--rewrite", "1:0", "--rewrite=2:10"]).reporter(&[]).start();
        run.wait_for("ready");
        for (sent, seen) in [(SIGTERM, "SIGQUIT"), (SIGINT, "SIGUSR1")] {
            run.signal(sent);
            run.wait_for(&format!("signal {seen} "));
        }
        run.signal(SIGHUP);
        run.signal(SIGUSR2);
        run.wait_for("signal SIGUSR2 ");
        run.timeline().saw_times("signal ", 3);
    }

    [; DumbInit]
    fn dumb_inits_last_rewrite_of_a_signal_wins(init) {
        let run = init.outside().options(["-r", "15:3", "-r", "15:10"]).reporter(&[]).start();
        run.wait_for("ready");
        run.signal(SIGTERM);
        run.wait_for("signal SIGUSR1 ");
        run.timeline().saw_times("signal ", 1);
    }

    [; DumbInit]
    fn dumb_init_relays_every_term_and_int(init) {
        let run = init.outside().reporter(&[]).start();
        run.wait_for("ready");
        for count in 1..=3 {
            for signal in [SIGTERM, SIGINT, SIGQUIT] {
                run.signal(signal);
                run.timeline().wait_for_count(&format!("signal {} ", crate::support::name(signal)), count);
            }
        }
    }

    [; DumbInit]
    fn dumb_inits_setsid_can_be_turned_off_by_its_variable(init) {
        let alone = init.outside().without_init().reporter(&[]).start().wait_for("ready");
        let group = |line: &str| line.split_once(" pgid=").unwrap().1.to_owned();
        for (value, own_session) in [("0", false), ("1", true)] {
            let line = init.outside().env("DUMB_INIT_SETSID", value).reporter(&[]).start().wait_for("ready");
            assert_eq!(group(&line) != group(&alone), own_session, "DUMB_INIT_SETSID={value}: {line}");
        }
    }

    [; DumbInit]
    fn dumb_init_tells_what_it_does_with_its_debug_variable(init) {
        let mut run = init.outside().env("DUMB_INIT_DEBUG", "1").reporter(&["--exit-on", "TERM=5"]).start();
        run.wait_for("ready");
        let child = run.child().to_string();
        run.signal(SIGTERM);
        run.exits_with(5);
        let log = run.timeline().text("stderr");
        assert!(log.contains(&child), "{}", run.timeline().picture());
        let mut silent = init.outside().env("DUMB_INIT_DEBUG", "0").shell("true").start();
        silent.exits_with(0);
        assert_eq!(silent.timeline().text("stderr"), "");
    }

    [; DumbInit]
    fn dumb_init_terms_the_group_and_leaves_at_once_when_the_command_exits(init) {
        let script = "$reporter --name back --linger 1000s & $reporter --name front --exit-on USR1=0; exit 6";
        let mut run = init.outside().shell(script).start();
        run.wait_for("back ready");
        run.wait_for("front ready");
        let back = run.descendants().into_iter().find(|&pid| {
            crate::support::process::command_line(pid).ends_with("--name back --linger 1000s")
        }).unwrap();
        run.signal(SIGUSR1);
        // The shell dies of it.
        run.wait_until_over();
        run.wait_for("back cleanup begins");
        assert!(!is_dead(back));
        assert_eq!(run.wait().code(), 128 + SIGUSR1);
    }

    [; DumbInit]
    fn dumb_init_suspends_itself_and_wakes(init) {
        for signal in [nix::libc::SIGTSTP, nix::libc::SIGTTIN, nix::libc::SIGTTOU] {
            let run = init.outside().reporter(&[]).start();
            run.wait_for("ready");
            run.signal(signal);
            wait_until("both are stopped", LIMIT, || {
                [run.pid(), run.child()].iter().all(|&pid| state(pid) == Some('T'))
            });
            send(run.pid(), nix::libc::SIGCONT);
            run.wait_for("signal SIGCONT ");
        }
    }

    [; Tini, DockerInit]
    fn tinis_version_and_help_go_to_stdout(init) {
        for option in ["--version", "-h", "-l"] {
            let (status, stdout, stderr) = outcome(init, &[option], None);
            assert_eq!((status, stderr.as_str()), (0, ""), "{option}");
            assert!(!stdout.is_empty(), "{option}");
        }
    }

    [; Tini, DockerInit]
    fn tinis_usage_errors_give_1(init) {
        let bad: [&[&str]; 6] =
            [&[], &["-x", "true"], &["-p", "NOSUCH", "true"], &["-e", "256", "true"], &["-e", "x", "true"], &["-e"]];
        for words in bad {
            assert_eq!(outcome(init, words, None).0, 1, "{words:?}");
        }
    }

    [; Tini, DockerInit]
    fn tinis_failed_exec_gives_127_or_126(init) {
        assert_eq!(init.outside().env("PATH", SEARCHABLE).subreaper().command(["no-such-command"]).start().wait().code(), 127);
        assert_eq!(init.outside().subreaper().command(["/"]).start().wait().code(), 126);
    }

    [; Tini, DockerInit]
    fn tinis_options_are_taken(init) {
        let spellings: [&[&str]; 7] =
            [&["-s"], &["-sg"], &["-p", "SIGTERM"], &["-pSIGKILL"], &["-w"], &["-vvv"], &["-e", "143", "-e", "1"]];
        for words in spellings {
            let (status, stdout, stderr) = outcome(init, words, Some("echo ran; exit 3"));
            // The real one says some of what it does on stdout.
            assert!(status == 3 && stdout.contains("ran\n"), "{words:?}: {status} {stdout} {stderr}");
        }
        assert_eq!(outcome(init, &["-s", "-e", "143"], Some("kill -TERM $$")).0, 0);
    }

    [PidNamespace; Tini, DockerInit]
    fn tini_signals_the_child_alone_and_with_g_its_group(init) {
        for (stage, group) in [
            (init.as_pid_one(), false),
            (init.as_pid_one().options(["-g"]), true),
            (init.as_pid_one().env("TINI_KILL_PROCESS_GROUP", ""), true),
        ] {
            let run = stage.shell("$reporter --name helper & exec $reporter --name main").start();
            run.wait_for("helper ready");
            run.wait_for("main ready");
            run.signal(SIGUSR1);
            run.wait_for("main signal SIGUSR1 ");
            if group {
                run.wait_for("helper signal SIGUSR1 ");
            } else {
                let helper = run.descendants().into_iter().find(|&pid| pid != run.child()).unwrap();
                send(helper, SIGUSR2);
                run.wait_for("helper signal SIGUSR2 ");
                run.timeline().never_saw("helper signal SIGUSR1 ");
            }
        }
    }

    [; Tini, DockerInit]
    fn tini_adopts_orphans_when_asked_to(init) {
        for stage in [init.outside().options(["-s"]), init.outside().env("TINI_SUBREAPER", "")] {
            let run = stage.shell("($reporter --name orphan &); exec $reporter --name main").start();
            run.wait_for("orphan ready");
            wait_until("the init has two children", LIMIT, || {
                crate::support::process::children(run.pid()).len() == 2
            });
        }
    }

    [; Tini, DockerInit]
    fn tini_leaves_at_once_when_the_command_exits(init) {
        let mut run = init.outside().subreaper()
            .shell("$reporter --name back & $reporter --name front --exit-on USR1=0; exit 6")
            .start();
        run.wait_for("back ready");
        run.wait_for("front ready");
        let front = run.descendants().into_iter().find(|&pid| {
            crate::support::process::command_line(pid).ends_with("--exit-on USR1=0")
        }).unwrap();
        send(front, SIGUSR1);
        run.exits_with(6);
        run.timeline().never_saw("back signal ");
    }

    [; Tini, DockerInit]
    fn tinis_verbosity_variable_is_taken(init) {
        let mut run = init.outside().subreaper().env("TINI_VERBOSITY", "3").shell("exit 0").start();
        run.exits_with(0);
        assert_ne!(run.timeline().text("stderr") + &run.timeline().text("stdout"), "");
        let mut run = init.outside().subreaper().env("TINI_VERBOSITY", "0").shell("exit 0").start();
        run.exits_with(0);
        assert_eq!(run.timeline().text("stderr"), "");
    }

    [; DumbInit]
    fn dumb_inits_rewrites_are_read_as_scanf_reads_them(init) {
        for rule in ["15:2 ", " 15:2", "15:2\n", "15:2x", "15: 2", "+15:+2", "015:2", "15:2:3", "4294967311:2"] {
            let (status, stdout, stderr) = outcome(init, &["-r", rule], Some("echo ran"));
            assert_eq!((status, stdout.as_str()), (0, "ran\n"), "{rule:?}: {stderr}");
        }
        for rule in ["15 :2", "0x15:2", "99999999999999999999:1"] {
            assert_eq!(outcome(init, &["-r", rule], Some("echo ran")).0, 1, "{rule:?}");
        }
    }

    [; DumbInit]
    fn dumb_init_cannot_execute_an_empty_word(init) {
        assert_eq!(init.outside().command([""]).start().wait().code(), 2);
        for words in [&[][..], &["--"]] {
            assert_eq!(outcome(init, words, None).0, 1, "{words:?}");
        }
    }

    [; Tini, DockerInit]
    fn tini_looks_for_options_behind_the_program_and_takes_the_first_dashes_out(init) {
        for (words, said) in [
            (&["-s", "echo", "--", "-w", "a"][..], "-w a\n"),
            (&["-s", "echo", "-w", "a"], "a\n"),
            (&["echo", "a", "-s"], "a\n"),
            (&["-s", "--", "echo", "--", "-w"], "-- -w\n"),
        ] {
            assert_eq!(outcome(init, words, None).1, said, "{words:?}");
        }
        let mut run = init.outside().env("POSIXLY_CORRECT", "1").options(["-s", "echo", "-w", "a"]).start();
        run.exits_with(0);
        assert_eq!(run.timeline().text("stdout"), "-w a\n");
    }

    [; Tini, DockerInit]
    fn a_verbosity_that_is_no_number_keeps_tini_from_nothing(init) {
        for value in ["abc", "", "2x", "-1"] {
            init.outside().subreaper().env("TINI_VERBOSITY", value).shell("exit 3").start().exits_with(3);
        }
        let mut run = init.outside().subreaper().env("TINI_VERBOSITY", "abc").shell("exit 0").start();
        run.exits_with(0);
        assert_eq!(run.timeline().text("stderr"), "");
    }

    [; Tini, DockerInit]
    fn tinis_parent_death_signals_are_full_names(init) {
        for signal in ["SIGHUP", "SIGKILL", "SIGCHLD", "SIGSTOP", "SIGSYS", "SIGTTOU"] {
            assert_eq!(outcome(init, &["-s", "-p", signal], Some("exit 3")).0, 3, "{signal}");
        }
        for signal in ["KILL", "9", "sigterm", "SIGRTMIN", "SIGCLD", "SIGIO", "SIGPWR", "SIGSTKFLT"] {
            assert_eq!(outcome(init, &["-s", "-p", signal], Some("exit 3")).0, 1, "{signal}");
        }
    }

    [; Tini, DockerInit]
    fn wrong_usage_of_tini_shows_its_help(init) {
        for words in [&["--help"][..], &["-x", "true"], &["--version", "true"], &[]] {
            let (status, stdout, stderr) = outcome(init, words, None);
            assert_eq!((status, stdout.as_str()), (1, ""), "{words:?}");
            for option in ["Usage", "-s", "-p", "-e", "-g", "-w", "-v", "-l"] {
                assert!(stderr.contains(option), "{words:?} names no {option}: {stderr}");
            }
        }
    }

    [; Tini]
    fn tini_cannot_find_an_empty_word(init) {
        assert_eq!(init.outside().subreaper().command([""]).start().wait().code(), 127);
    }

    [; Tini, DockerInit]
    fn tinis_version_begins_as_dockerd_wants_it(init) {
        let (status, stdout, _) = outcome(init, &["--version"], None);
        assert!(status == 0 && stdout.starts_with("tini version "), "{stdout}");
    }

    [; Catatonit]
    fn catatonits_version_begins_as_dockerd_wants_it(init) {
        for option in ["-V", "--version"] {
            let (status, stdout, _) = outcome(init, &[option], None);
            assert!(status == 0 && stdout.starts_with("tini version "), "{option}: {stdout}");
        }
    }

    [PidNamespace; Catatonit]
    fn catatonit_pauses_until_a_term_or_an_int(init) {
        for signal in [SIGTERM, SIGINT] {
            let mut run = init.as_pid_one().options(["-P"]).start();
            wait_until("it sleeps", LIMIT, || state(run.pid()) == Some('S'));
            for other in [SIGHUP, SIGUSR1, SIGQUIT] {
                run.signal(other);
            }
            run.signal(signal);
            run.exits_with(0);
        }
    }

    [; Catatonit]
    fn catatonit_runs_a_command_and_adopts_its_orphans(init) {
        assert_eq!(outcome(init, &[], Some("exit 5")).0, 5);
        assert_eq!(outcome(init, &["-g", "sh", "-c"], None).0, 1);
        let run = init.outside().shell("($reporter --name orphan &); exec $reporter --name main").start();
        run.wait_for("orphan ready");
        wait_until("the init has two children", LIMIT, || {
            crate::support::process::children(run.pid()).len() == 2
        });
    }
}
