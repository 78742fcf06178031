//! What each command line is read as.

use super::*;
use crate::plan::{
    self, AfterFailure, Control, GraceSource, Leftovers, Place, Placement, RelayTo, Report, Target,
};
use crate::signal::{Rewrite, Signal};
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

/// A machine on which only `true` and `a` can be found.
fn read_in(words: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, Refusal> {
    let environment = Environment {
        variables: variables.iter().map(|(name, value)| (OsStr::new(*name), OsStr::new(*value))).collect(),
        is_first_process: true,
        is_program: &|program| ["true", "a", "/bin/sh"].iter().any(|known| program == *known),
        absolute: &|path| Path::new("/srv").join(path),
    };
    read(words.iter().map(OsString::from).collect(), &environment)
}

fn plan_in(words: &[&str], environment: &[(&str, &str)]) -> Plan {
    match read_in(words, environment) {
        Ok(Invocation::Run(plan)) => *plan,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn plan(words: &[&str]) -> Plan {
    plan_in(words, &[])
}

fn refusal(words: &[&str]) -> (String, u8) {
    let refusal = read_in(words, &[]).unwrap_err();
    (format!("{:#}", refusal.error), refusal.status.code())
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn command(plan: &Plan) -> Vec<&str> {
    let command = &plan.command;
    std::iter::once(&command.program).chain(&command.arguments).map(|word| word.to_str().unwrap()).collect()
}

#[test]
fn options_end_at_the_first_word_that_is_none() {
    for (words, expected) in [
        (vec!["grace-init", "a", "-c", "--", "-g"], vec!["a", "-c", "--", "-g"]),
        (vec!["grace-init", "--", "a", "--", "b"], vec!["a", "--", "b"]),
        (vec!["grace-init", "-c", "a", "--help"], vec!["a", "--help"]),
        (vec!["grace-init", "--", "-x"], vec!["-x"]),
        (vec!["dumb-init", "-cv", "a", "-r", "x"], vec!["a", "-r", "x"]),
        (vec!["/sbin/tini", "-g", "--", "a", "-g"], vec!["a", "-g"]),
    ] {
        assert_eq!(command(&plan(&words)), expected, "{words:?}");
    }
}

#[test]
fn the_command_line_wins_over_the_environment() {
    let environment = [("GRACE_INIT_GRACE", "10s"), ("GRACE_INIT_PRE_STOP", "one\ntwo")];
    let plan = plan_in(&["grace-init", "-g20s", "-p", "three", "a"], &environment);
    assert_eq!(plan.shutdown.grace, Some(Duration::from_secs(20)));
    assert_eq!(plan.shutdown.pre_stop.len(), 1);
    let plan = plan_in(&["grace-init", "a"], &environment);
    assert_eq!(plan.shutdown.grace, Some(Duration::from_secs(10)));
    assert_eq!(plan.shutdown.pre_stop.len(), 2);
}

#[test]
fn the_pods_variable_is_read_behind_our_own() {
    let pods = ("TERMINATION_GRACE_PERIOD_SECONDS", "60");
    assert_eq!(plan_in(&["grace-init", "a"], &[pods]).shutdown.grace, Some(Duration::from_secs(60)));
    let both = [pods, ("GRACE_INIT_GRACE", "5s")];
    assert_eq!(plan_in(&["grace-init", "a"], &both).shutdown.grace, Some(Duration::from_secs(5)));
}

#[test]
fn a_shebang_line_is_split() {
    for words in [
        vec!["grace-init", "-S --grace 10s -c /bin/sh -x", "script", "-S", "y"],
        vec!["grace-init", "-S", "--grace '10s' -c /bin/sh -x", "script", "-S", "y"],
        vec!["grace-init", "--split-string=--grace 10s", "-cS/bin/sh -x", "script", "-S", "y"],
        vec!["grace-init", "-g", "10s", "-cS", "/bin/sh -x", "script", "-S", "y"],
    ] {
        let plan = plan(&words);
        assert_eq!(command(&plan), ["/bin/sh", "-x", "script", "-S", "y"], "{words:?}");
        assert_eq!((plan.shutdown.grace, plan.relay), (Some(Duration::from_secs(10)), RelayTo::MainChild));
    }
}

#[test]
fn a_value_that_looks_like_split_string_is_left_alone() {
    assert_eq!(command(&plan(&["grace-init", "-p", "-S x", "a", "b"])), ["a", "b"]);
    assert_eq!(command(&plan(&["grace-init", "-p-Sx", "a", "b"])), ["a", "b"]);
    assert_eq!(command(&plan(&["grace-init", "--", "-S", "b"])), ["-S", "b"]);
}

#[test]
fn usage_errors_say_what_to_do() {
    for (words, part, status) in [
        (vec!["grace-init"], "no command given", 125),
        (vec!["grace-init", ""], "no command given", 125),
        (vec!["grace-init", "--bogus", "a"], "unknown option --bogus", 125),
        (vec!["grace-init", "-c /bin/sh", "script"], "begin it with -S", 125),
        (vec!["grace-init", "--grace"], "--grace requires a value", 125),
        (vec!["grace-init", "--gra", "3s", "a"], "did you mean --grace?", 125),
        (vec!["grace-init", "-S"], "--split-string requires a value", 125),
        (vec!["grace-init", "-S", "'open"], "not closed", 125),
        (vec!["grace-init", "-c=3", "a"], "", 125),
        (vec!["grace-init", "stop", "-S", "x"], "unknown option -S", 125),
        (vec!["grace-init", "stop", "now"], "unexpected argument \"now\"", 125),
        (vec!["grace-init", "-g", "-e", "143", "a"], "tini's -g", 125),
        (vec!["grace-init", "-p", "SIGTERM", "a"], "--parent-death-signal", 125),
        (vec!["dumb-init"], "no command given", 1),
        (vec!["dumb-init", "-r", "TERM:INT", "a"], "two numbers", 1),
        (vec!["dumb-init", "-S", "a"], "unknown option -S", 1),
        (vec!["tini", "-p", "NOPE", "a"], "the name of a signal", 1),
        (vec!["docker-init", "--grace", "3s", "a"], "unknown option --grace", 1),
    ] {
        let (error, code) = refusal(&words);
        assert!(error.contains(part), "{words:?}: {error}");
        assert_eq!(code, status, "{words:?}");
    }
}

#[test]
fn dumb_init_has_its_own_options_and_environment_only() {
    let environment = [("GRACE_INIT_GRACE", "nonsense"), ("DUMB_INIT_SETSID", "0"), ("DUMB_INIT_DEBUG", "1")];
    let plan = plan_in(&["/usr/bin/dumb-init", "--rew=15:3", "--rewrite", "1:0", "a"], &environment);
    assert_eq!((plan.placement, plan.relay), (Placement::OurGroup, RelayTo::MainChild));
    assert_eq!(plan.rewrites.apply(Signal::TERM), Rewrite::To(Signal::QUIT));
    assert_eq!(plan.rewrites.apply(Signal::HUP), Rewrite::Drop);
    assert_eq!(plan.rewrites.apply(Signal::TSTP), Rewrite::To(Signal::TSTP));
    assert_eq!(plan.log.level, tracing::level_filters::LevelFilter::DEBUG);
    assert_eq!((plan.shutdown.grace, plan.shutdown.stop_on.bits()), (None, 0));
}

#[test]
fn tini_has_its_own_options_and_environment_only() {
    let environment = [("TINI_SUBREAPER", ""), ("TINI_KILL_PROCESS_GROUP", ""), ("TINI_VERBOSITY", "3")];
    let with_environment = plan_in(&["tini", "a"], &environment);
    assert_eq!((with_environment.adopt, with_environment.relay), (plan::Adopt::Orphans, RelayTo::Group));
    assert_eq!(with_environment.log.level, tracing::level_filters::LevelFilter::DEBUG);
    let plain = plan(&["tini", "-e", "143", "-p", "SIGTERM", "-w", "a"]);
    assert_eq!((plain.adopt, plain.relay), (plan::Adopt::Nothing, RelayTo::MainChild));
    assert_eq!(plain.parent_death_signal, Some(Signal::TERM));
}

#[test]
fn help_and_version_go_where_each_init_puts_them() {
    for (name, to) in [("grace-init", Stream::Out), ("dumb-init", Stream::Error), ("tini", Stream::Out)] {
        for option in ["-h", "--version"] {
            let Ok(Invocation::Print(text)) = read_in(&[name, option], &[]) else {
                panic!("{name} {option}")
            };
            assert_eq!(text.to, to, "{name} {option}");
        }
    }
}

#[test]
fn each_place_has_a_grace_of_its_own_and_it_is_a_guess() {
    let kubernetes = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
    for (variables, place, seconds) in
        [(&[][..], Place::Docker, 10), (&kubernetes[..], Place::Kubernetes, 30)]
    {
        let plan = plan_in(&["grace-init", "a"], variables);
        assert_eq!(plan.place, place);
        assert_eq!(plan.shutdown.grace, Some(secs(seconds)));
        assert_eq!(plan.shutdown.grace_source, GraceSource::Guessed(place));
    }
}

#[test]
fn a_grace_that_was_told_names_its_source() {
    let pods = ("TERMINATION_GRACE_PERIOD_SECONDS", "60");
    for (words, variables, seconds, source) in [
        (vec!["-g", "5s"], vec![("GRACE_INIT_GRACE", "7s"), pods], 5, GraceSource::CommandLine),
        (vec![], vec![("GRACE_INIT_GRACE", " 7s\n"), pods], 7, GraceSource::Variable("GRACE_INIT_GRACE")),
        (
            vec![],
            vec![("GRACE_INIT_GRACE", ""), pods],
            60,
            GraceSource::Variable("TERMINATION_GRACE_PERIOD_SECONDS"),
        ),
        (
            vec![],
            vec![("GRACE_INIT_GRACE", " \n"), ("TERMINATION_GRACE_PERIOD_SECONDS", "")],
            10,
            GraceSource::Guessed(Place::Docker),
        ),
    ] {
        let words: Vec<&str> = ["grace-init"].into_iter().chain(words).chain(["a"]).collect();
        let shutdown = plan_in(&words, &variables).shutdown;
        assert_eq!(
            (shutdown.grace, shutdown.grace_source),
            (Some(secs(seconds)), source),
            "{words:?} {variables:?}"
        );
    }
}

#[test]
fn another_programs_grace_variable_is_passed_over_with_a_warning() {
    let plan = plan_in(&["grace-init", "a"], &[("TERMINATION_GRACE_PERIOD_SECONDS", "soon")]);
    assert_eq!(plan.shutdown.grace_source, GraceSource::Guessed(Place::Docker));
    assert!(
        plan.warnings.iter().any(|warning| warning.contains("TERMINATION_GRACE_PERIOD_SECONDS \"soon\""))
    );
}

#[test]
fn blanks_around_a_variable_are_nothing() {
    let variables = [
        ("GRACE_INIT_REPORT", "none \n"),
        ("GRACE_INIT_SINGLE_CHILD", " yes\n"),
        ("GRACE_INIT_EXIT_ZERO", "143, 1\n2 "),
    ];
    let plan = plan_in(&["grace-init", "a"], &variables);
    assert_eq!((plan.report, plan.relay), (Report::None, RelayTo::MainChild));
    for code in [143, 1, 2] {
        assert_eq!(plan.zero_codes.apply(ExitStatus::new(code)), ExitStatus::SUCCESS, "{code}");
    }
}

#[test]
fn a_misspelled_variable_is_a_warning_that_names_the_nearest() {
    for (name, nearest) in [
        ("GRACE_INIT_DRAN", "GRACE_INIT_DRAIN"),
        ("GRACE_INIT_PRESTOP", "GRACE_INIT_PRE_STOP"),
        ("GRACE_INIT_STOP_SIGNALS", "GRACE_INIT_STOP_SIGNAL"),
        ("GRACE_INIT_grace", "GRACE_INIT_GRACE"),
    ] {
        let warnings = plan_in(&["grace-init", "a"], &[(name, "x")]).warnings;
        assert!(
            matches!(&warnings[..], [one] if one.contains(name) && one.contains(&format!("{nearest}?"))),
            "{name}: {warnings:?}"
        );
    }
}

#[test]
fn variables_of_others_are_no_misspelled_ones() {
    for name in [
        "GRACE_INIT_SERVICE_HOST",
        "GRACE_INIT_SERVICE_PORT",
        "GRACE_INIT_SERVICE_PORT_HTTP",
        "GRACE_INIT_PORT",
        "GRACE_INIT_PORT_80_TCP",
        "GRACE_INIT_PORT_80_TCP_ADDR",
        "GRACE_INIT_WEB_SERVICE_HOST",
        "GRACE_INIT_WEB_PORT",
        "GRACE_INIT_WEB_PORT_80_TCP_PROTO",
        "GRACE_INIT_SIGNAL",
        "GRACE_INIT_STEP",
        "GRACE_INIT_REMAINING_MS",
        "GRACE_INIT_SOCKET",
        "GRACE_INIT_TIMEOUT",
        "GRACE_INIT_PID",
        "GRACE_INIT",
        "PATH",
    ] {
        assert_eq!(plan_in(&["grace-init", "a"], &[(name, "x")]).warnings, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_bad_variable_is_named_with_its_value_and_the_remedy() {
    for (name, value, message) in [
        (
            "GRACE_INIT_GRACE",
            "10x",
            r#"--grace "10x" (from GRACE_INIT_GRACE): expected a duration such as 10s, or none"#,
        ),
        (
            "GRACE_INIT_SINGLE_CHILD",
            "maybe",
            r#"--single-child "maybe" (from GRACE_INIT_SINGLE_CHILD): expected 1 or 0"#,
        ),
        ("GRACE_INIT_EXPLAIN", "maybe", r#"--explain "maybe" (from GRACE_INIT_EXPLAIN): expected 1 or 0"#),
        ("GRACE_INIT_STOP_ON", "KILL", "(from GRACE_INIT_STOP_ON): expected signals such as"),
    ] {
        let refusal = read_in(&["grace-init", "a"], &[(name, value)]).unwrap_err();
        assert!(refusal.error.to_string().contains(message), "{}", refusal.error);
    }
}

#[test]
fn help_is_printed_whatever_the_variables_say() {
    let answer =
        read_in(&["grace-init", "--help"], &[("GRACE_INIT_GRACE", "10x"), ("GRACE_INIT_EXPLAIN", "maybe")]);
    assert!(matches!(answer, Ok(Invocation::Print(_))), "{answer:?}");
}

#[test]
fn every_option_names_its_value_and_what_to_write_instead() {
    for (name, expected) in [
        ("grace", "a duration such as 10s, or none"),
        ("reserve", "a duration"),
        ("drain", "a duration"),
        ("pre-stop", "not closed"),
        ("pre-stop-timeout", "a duration"),
        ("pre-stop-failure", "continue or skip"),
        ("stop-signal", "a ladder such as"),
        ("stop-window", "a duration"),
        ("stop-on", "signals such as"),
        ("leftover-grace", "a duration such as 10s, or none"),
        ("post-stop", "not closed"),
        ("rewrite", "FROM:TO"),
        ("exit-zero", "from 0 to 255"),
        ("parent-death-signal", "a signal such as"),
        ("log-level", "off, error"),
        ("log-format", "text or json"),
    ] {
        let (error, _) = refusal(&["grace-init", &format!("--{name}"), "'wrong", "a"]);
        assert!(error.starts_with(&format!("--{name} \"'wrong\": ")) && error.contains(expected), "{error}");
    }
    for words in [
        ["--report", ""],
        ["--control", ""],
        ["--pre-stop-timeout", "0"],
        ["--grace", "-1s"],
        ["--drain", "-1"],
    ] {
        let (error, _) = refusal(&["grace-init", words[0], words[1], "a"]);
        assert!(error.starts_with(&format!("{} {:?}: expected", words[0], words[1])), "{error}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused_with_their_numbers() {
    for (line, parts) in [
        ("-d 40s", vec!["the drain of 40s does not fit into 28s", "shorten --drain"]),
        ("-d 26s", vec!["drain of 26s", "2s800ms, its default", "28s"]),
        ("-d 20s --stop-window 9s", vec!["drain of 20s", "window of 9s", "28s"]),
        ("--stop-signal TERM:20s,INT:10s", vec!["ladder of 30s", "28s"]),
        ("--stop-signal TERM:10s,INT:5s --stop-window 1s", vec!["ladder of 15s", "stop window of 1s"]),
        ("--reserve 31s", vec!["reserve of 31s", "grace of 30s"]),
        ("--pre-stop-timeout 31s", vec!["--pre-stop-timeout of 31s", "grace of 30s"]),
        ("-p '@sleep 100s'", vec!["sleep for 1m40s", "18s666ms"]),
        ("-p '@sleep 10s' -p '@sleep 10s'", vec!["sleep for 20s", "18s666ms"]),
        ("-p '@sleep 10s' --pre-stop-timeout 9s", vec!["@sleep 10s", "timeout of 9s"]),
        ("--stop-signal TERM,INT", vec!["every rung but the last", "SIGTERM:10s"]),
        ("--stop-signal STOP", vec!["SIGSTOP", "ends no command"]),
        ("--stop-signal TERM:1s,CONT", vec!["SIGCONT", "ends no command"]),
        ("--stop-signal CHLD", vec!["SIGCHLD", "ends no command"]),
        ("--stop-on KILL", vec!["but not KILL"]),
        ("--stop-on TERM,STOP", vec!["STOP"]),
        ("--stop-on TSTP", vec!["TSTP"]),
        ("--stop-on TTIN", vec!["TTIN"]),
        ("--stop-on TTOU", vec!["TTOU"]),
        ("--stop-on CONT", vec!["CONT"]),
        ("--stop-on CHLD", vec!["CHLD"]),
        ("-r TERM:STOP", vec!["TERM:STOP", "than STOP"]),
    ] {
        let line = format!("grace-init -g 30s {line} a");
        let words = plan::split_words(line.as_ref()).unwrap();
        let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).collect();
        let (error, code) = refusal(&words);
        assert!(parts.iter().all(|part| error.contains(part)), "{line}: {error}");
        assert_eq!(code, 125);
    }
    assert_eq!(
        plan(&["grace-init", "--stop-signal", "TSTP:5s,TERM", "-g", "30s", "a"]).shutdown.ladder.len(),
        2
    );
}

#[test]
fn against_a_guess_nothing_is_refused_and_what_was_cut_is_said() {
    for (line, drain, window, parts) in [
        ("-d 60s", 7_200, 800, vec!["the drain from 1m to 7s200ms"]),
        ("-d 60s --stop-window 5s", 3_000, 5_000, vec!["the drain from 1m to 3s"]),
        ("-d 60s -p true", 3_600, 800, vec!["the drain from 1m to 3s600ms"]),
        (
            "-d 60s --stop-window 8s -p true",
            0,
            8_000,
            vec!["the drain from 1m to 0s", "the pre-stop chain to 0s"],
        ),
        ("--stop-window 20s", 0, 8_000, vec!["the stop window from 20s to 8s"]),
        ("--stop-signal TERM:20s,INT", 0, 8_000, vec!["the stop window from 20s to 8s"]),
        ("--reserve 20s -d 1s", 1_000, 2_666, vec!["the reserve from 20s to 2s"]),
        ("-p '@sleep 20s'", 0, 2_666, vec!["the pre-stop chain to 5s333ms"]),
    ] {
        let line = format!("grace-init {line} a");
        let words = plan::split_words(line.as_ref()).unwrap();
        let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).collect();
        let shutdown = plan(&words).shutdown;
        assert_eq!(shutdown.drain.as_millis(), drain, "{line}");
        assert_eq!(shutdown.stop_window.as_millis(), window, "{line}");
        let said = shutdown.cut_to_fit.unwrap_or_default();
        assert!(parts.iter().all(|part| said.contains(part)) && said.contains("Docker"), "{line}: {said}");
    }
    assert_eq!(plan(&["grace-init", "-d", "5s", "a"]).shutdown.cut_to_fit, None);
}

#[test]
fn the_defaults_are_as_documented() {
    let shutdown = plan(&["grace-init", "-g", "30s", "a"]).shutdown;
    assert_eq!((shutdown.reserve, shutdown.stop_window), (secs(2), Duration::from_secs(28) / 3));
    assert_eq!(shutdown.leftovers, Leftovers::Wait(Some(secs(5))));
    assert_eq!(shutdown.after_failure, AfterFailure::Continue);
    assert!(shutdown.stop_on.contains(Signal::TERM) && shutdown.stop_on.contains(Signal::INT));
    for (grace, reserve) in [("0", 0), ("1s", 200), ("3s", 600), ("10s", 2_000), ("4294967295", 2_000)] {
        let shutdown = plan(&["grace-init", "-g", grace, "a"]).shutdown;
        assert_eq!(shutdown.reserve, Duration::from_millis(reserve), "{grace}");
    }
}

#[test]
fn a_default_stop_window_gives_way_to_the_drain_but_not_to_nothing() {
    for (line, window) in [
        (vec!["-d", "5s"], 9_333),
        (vec!["-d", "20s"], 8_000),
        (vec!["-d", "25s"], 3_000),
        (vec!["-d", "25200ms"], 2_800),
    ] {
        let words: Vec<&str> = ["grace-init", "-g", "30s"].into_iter().chain(line).chain(["a"]).collect();
        assert_eq!(plan(&words).shutdown.stop_window.as_millis(), window, "{words:?}");
    }
    let ladder = plan(&["grace-init", "-g", "30s", "--stop-signal", "TERM:10s,INT:5s", "a"]).shutdown;
    assert_eq!(ladder.stop_window, secs(15));
}

#[test]
fn steps_without_any_time_are_a_warning() {
    let plan = plan(&["grace-init", "-g", "30s", "-d", "20s", "--stop-window", "8s", "-p", "true", "a"]);
    assert!(plan.warnings.iter().any(|warning| warning.contains("leave the pre-stop steps no time")));
}

#[test]
fn without_a_deadline_nothing_is_killed_unless_asked() {
    assert_eq!(plan(&["grace-init", "-g", "none", "a"]).shutdown.leftovers, Leftovers::Wait(None));
    let asked =
        plan(&["grace-init", "-g", "none", "--leftover-grace", "1s", "-p", "@sleep 9h", "a"]).shutdown;
    assert_eq!((asked.budget(), asked.leftovers), (None, Leftovers::Wait(Some(secs(1)))));
}

#[test]
fn paths_are_made_absolute() {
    let plan = plan(&["grace-init", "--report", "rel", "--control", "x/", "a"]);
    assert_eq!((plan.report, plan.control), (Report::File("/srv/rel".into()), Control::At("/srv/x/".into())));
    let Ok(Invocation::Client(client)) = read_in(&["grace-init", "status", "--control", "x"], &[]) else {
        panic!()
    };
    assert_eq!(
        client,
        ClientPlan::Status {
            target: Target { pid: None, control: Control::At("/srv/x".into()) },
            json: false
        }
    );
}

#[test]
fn subcommands_are_read() {
    use crate::control::protocol::Until;
    let target = || Target { pid: None, control: Control::Default };
    for (words, expected) in [
        (vec!["pre-stop"], ClientPlan::PreStop { target: target() }),
        (vec!["cancel"], ClientPlan::Cancel { target: target() }),
        (vec!["stop"], ClientPlan::Stop { target: target(), until: Until::Stopped, timeout: None }),
        (
            vec!["stop", "--until", "prepared", "--timeout=3s"],
            ClientPlan::Stop { target: target(), until: Until::Prepared, timeout: Some(secs(3)) },
        ),
        (vec!["status", "--json"], ClientPlan::Status { target: target(), json: true }),
        (vec!["ready"], ClientPlan::Ready { target: target(), serving: false }),
        (
            vec!["ready", "--serving", "--pid", "7"],
            ClientPlan::Ready { target: Target { pid: Some(7), control: Control::Default }, serving: true },
        ),
    ] {
        let words: Vec<&str> = ["grace-init"].into_iter().chain(words).collect();
        match read_in(&words, &[]) {
            Ok(Invocation::Client(plan)) => assert_eq!(plan, expected, "{words:?}"),
            other => panic!("{words:?}: {other:?}"),
        }
    }
    assert_eq!(command(&plan(&["grace-init", "--", "stop", "now"])), ["stop", "now"]);
    assert!(
        matches!(read_in(&["grace-init", "copy-to", "/x"], &[]), Ok(Invocation::CopyTo(path)) if path == Path::new("/x"))
    );
}

#[test]
fn a_hook_that_kills_stops_first() {
    let error = read_in(&["grace-init", "hook", "--kill"], &[]).unwrap_err();
    assert!(error.error.to_string().contains("--stop-signal"), "{}", error.error);
    let Ok(Invocation::Hook(hook)) = read_in(&["grace-init", "hook", "--kill", "--stop-signal", "QUIT"], &[])
    else {
        panic!()
    };
    assert!(hook.stops && hook.kills && hook.pid == 1);
}

#[test]
fn a_command_that_is_nearly_a_subcommand_gets_a_hint() {
    for (word, subcommand) in [
        ("redy", "ready"),
        ("prestop", "pre-stop"),
        ("pre_stop", "pre-stop"),
        ("cancle", "cancel"),
        ("copyto", "copy-to"),
    ] {
        let (error, code) = refusal(&["grace-init", word, "x"]);
        assert!(error.contains(&format!("did you mean grace-init {subcommand}?")), "{error}");
        assert_eq!(code, 125);
        assert_eq!(command(&plan(&["grace-init", "--", word])), [word]);
    }
    assert_eq!(command(&plan(&["grace-init", "nginx"])), ["nginx"]);
}

#[test]
fn a_step_whose_program_is_missing_is_a_warning_and_is_marked() {
    let plan =
        plan(&["grace-init", "-p", "nosuch x", "-p", "true", "-p", "$X y", "--post-stop", "/no/such", "a"]);
    let marks: Vec<bool> = plan
        .shutdown
        .pre_stop
        .iter()
        .chain(&plan.shutdown.post_stop)
        .map(|step| step.missing_program)
        .collect();
    assert_eq!(marks, [true, false, false, true]);
    assert!(
        plan.warnings[0].contains("\"nosuch\" was not found in PATH")
            && plan.warnings[1].contains("\"/no/such\" was not found:")
    );
}

#[test]
fn children_are_not_given_what_configures_this_init() {
    let variables = [
        ("GRACE_INIT_GRACE", "9s"),
        ("GRACE_INIT_DRAIN", ""),
        ("GRACE_INIT_LOG_LEVEL", "debug"),
        ("GRACE_INIT_LOG_FORMAT", "json"),
        ("GRACE_INIT_TIMEOUT", "3s"),
        ("GRACE_INIT_OTHERS", "x"),
        ("TERMINATION_GRACE_PERIOD_SECONDS", "9"),
        ("HOME", "/"),
    ];
    let plan = plan_in(&["grace-init", "-g", "5s", "a"], &variables);
    assert_eq!(plan.withheld_variables, ["GRACE_INIT_GRACE", "GRACE_INIT_DRAIN"]);
    assert_eq!(plan_in(&["dumb-init", "a"], &variables).withheld_variables, Vec::<String>::new());
}

#[test]
fn tini_takes_options_behind_the_program_and_one_dash_pair_out() {
    for (words, expected) in [
        (vec!["tini", "a", "--", "-b"], vec!["a", "-b"]),
        (vec!["tini", "a", "-w", "b"], vec!["a", "b"]),
        (vec!["tini", "-s", "--", "a", "--", "b"], vec!["a", "--", "b"]),
        (vec!["tini", ""], vec![""]),
    ] {
        assert_eq!(command(&plan(&words)), expected, "{words:?}");
    }
    assert_eq!(command(&plan_in(&["tini", "a", "-w", "b"], &[("POSIXLY_CORRECT", "")])), ["a", "-w", "b"]);
    for (value, level) in [("abc", "error"), ("", "error"), ("2x", "info"), ("-1", "trace"), ("9", "trace")] {
        let plan = plan_in(&["tini", "a"], &[("TINI_VERBOSITY", value)]);
        assert_eq!(plan.log.level.to_string(), level, "{value:?}");
    }
    for signal in ["KILL", "9", "sigterm", "SIGRTMIN", "SIGCLD"] {
        assert_eq!(refusal(&["tini", "-p", signal, "a"]).1, 1, "{signal}");
    }
}

#[test]
fn wrong_usage_of_tini_is_answered_with_its_help() {
    for words in [vec!["tini", "--help"], vec!["tini", "-x", "a"], vec!["docker-init"]] {
        let refusal = read_in(&words, &[]).unwrap_err();
        assert!(
            refusal.help.as_deref().unwrap_or_default().contains(&format!("Usage: {} ", words[0])),
            "{words:?}"
        );
    }
}

#[test]
fn tinis_version_is_what_dockerd_reads() {
    for words in [["docker-init", "--version"], ["tini", "--version"], ["catatonit", "-V"]] {
        let Ok(Invocation::Print(text)) = read_in(&words, &[]) else { panic!("{words:?}") };
        assert!(text.text.starts_with("tini version ") && text.text.contains(" - git."), "{}", text.text);
    }
}

#[test]
fn catatonits_pause_needs_no_command() {
    for words in [vec!["catatonit", "-P"], vec!["catatonit", "-P", "--", "a"]] {
        assert!(matches!(read_in(&words, &[]), Ok(Invocation::Pause(_))), "{words:?}");
    }
}

#[test]
fn the_help_names_every_option_with_its_variable_and_fits_a_terminal() {
    for command_line in command_lines() {
        let (short, long) = (help(command_line, Length::Short), help(command_line, Length::Long));
        for option in command_line.options() {
            let spec = option.spec();
            let spelling = help::spelling(spec);
            assert!(short.contains(&spelling) && long.contains(&spelling), "{spelling}");
            if let Some(variable) = environment::variable_of(spec) {
                assert!(long.contains(&variable) && !short.contains(&format!("{variable}\n")), "{variable}");
            }
        }
        assert!(short.len() <= long.len());
        assert!(long.lines().all(|line| line.chars().count() <= 100), "{long}");
    }
}

/// The options of a command line as a table of docs/reference.md.
fn reference_table(command_line: &CommandLineSpec) -> String {
    let escape = |text: &str| text.replace('|', "\\|");
    let row = |spec: &spec::Spec| {
        let variable = environment::variable_of(spec).map(|name| format!("`{name}`")).unwrap_or_default();
        let details = if spec.details.is_empty() { String::new() } else { format!(". {}", spec.details) };
        let spelling = help::spelling(spec);
        format!(
            "| `{}` | {variable} | {}{} |\n",
            spelling.trim_start(),
            escape(spec.help),
            escape(details.trim_end_matches('.'))
        )
    };
    let rows: String = command_line.options().map(|option| row(option.spec())).collect();
    format!("| option | variable | meaning [default] |\n| --- | --- | --- |\n{rows}")
}

#[test]
fn the_reference_has_the_options_of_every_command_line() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md");
    let reference = std::fs::read_to_string(path).unwrap();
    for command_line in command_lines() {
        let table = reference_table(command_line);
        let heading = format!("## {}\n", command_line.name);
        let section = reference.split_once(&heading).map(|(_, rest)| rest.split("\n## ").next().unwrap());
        let section = section.unwrap_or_else(|| panic!("no heading {heading}"));
        assert!(section.contains(&table), "the table of {heading}in {path} has to be:\n\n{table}");
        assert!(section.contains("\nExit status: "), "{heading}has no exit statuses");
    }
}

#[test]
fn clap_finds_no_fault_with_the_descriptions() {
    for command_line in command_lines() {
        command_line.command().debug_assert();
    }
}

#[test]
fn no_two_options_of_different_meaning_share_a_variable_of_the_init() {
    let own: Vec<String> =
        options::RUN.options().filter_map(|option| environment::variable_of(option.spec())).collect();
    for command_line in [&options::STOP, &options::READY, &options::STATUS] {
        for option in command_line.options().filter(|option| option.spec().name != "control") {
            let variable = environment::variable_of(option.spec());
            assert!(variable.is_none_or(|variable| !own.contains(&variable)), "{}", option.spec().name);
        }
    }
}

proptest! {
    #[test]
    fn no_words_make_the_reader_panic(
        name in "(grace-init|dumb-init|tini)",
        words in proptest::collection::vec("(-{0,2}[a-zS=]{0,3}|--(grace|rewrite|split-string|stop-signal)=?)?[ '\\\\a-z0-9:,]{0,8}", 0..6),
    ) {
        let words: Vec<&str> = std::iter::once(name.as_str()).chain(words.iter().map(String::as_str)).collect();
        let _ = read_in(&words, &[]);
    }
}
