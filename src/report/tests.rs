use super::*;
use crate::plan::Plan;
use crate::shutdown::{Event, Received, Surroundings};
use crate::signal::{Sender, Signal};

fn plan(pairs: &[(&'static str, &str)]) -> Plan {
    crate::cli::plan_for_tests(pairs)
}

const fn at(millis: u64) -> Moment {
    Moment::new(Duration::from_millis(millis))
}

fn term() -> Event {
    Event::Received(Received {
        signal: Signal::TERM,
        sender: Sender::Outside,
        from_outside: true,
        queued: None,
        command_has_it: false,
    })
}

#[test]
fn the_timeline_shows_where_the_time_goes() {
    let text = explain(
        &plan(&[
            ("grace", "30s"),
            ("drain", "5s"),
            ("pre-stop", "nginx -s quit"),
            ("stop-signal", "TERM:3s,INT"),
        ])
        .shutdown,
    );
    let expected = "\
grace 30s = budget 28s + reserve 2s
0s         5s                          18.666s            28s  30s
|drain     |pre-stop ≤ 13.666s         |stop ≥ 9.333s     |KILL|
pre-stop 1: nginx -s quit
stop: SIGTERM for 3s, then SIGINT until the deadline
";
    assert_eq!(text, expected);
}

#[test]
fn a_timeline_without_a_deadline_says_so() {
    let text = explain(&plan(&[("grace", "none"), ("drain", "5s"), ("pre-stop", "a")]).shutdown);
    assert_eq!(
        text,
        "no deadline: nothing is killed on a stop request\ndrain 5s > pre-stop > stop\npre-stop 1: a\n"
    );
}

#[test]
fn a_good_shutdown_is_one_line_and_no_report() {
    let plan = plan(&[("drain", "2s")]);
    let mut machine = Shutdown::new(&plan, Surroundings::default(), at(0));
    machine.on(term(), at(1_000));
    machine.on(Event::Tick, at(3_000));
    let starts = machine.starts();
    machine.on(Event::NoChildren { starts }, at(3_250));
    machine.on(Event::MainEnded(Outcome::Exited(0)), at(3_250));
    let told = Summary::of(&machine, at(3_250), ExitStatus::SUCCESS);
    assert_eq!(
        told.summary(),
        "stopped by SIGTERM from outside the container in 2.25s: drain 2s, stop 250ms; the command exited with 0"
    );
    assert_eq!(told.report(), None);
}

#[test]
fn the_report_begins_with_the_worst() {
    let plan = plan(&[("pre-stop", "false"), ("grace", "10s")]);
    let mut machine = Shutdown::new(&plan, Surroundings::default(), at(0));
    machine.on(term(), at(0));
    let id = crate::shutdown::StepId { chain: Chain::PreStop, index: 0, run: 0 };
    machine.on(Event::StepEnded(id, StepEnd::Ended(Outcome::Exited(1))), at(20));
    machine.on(Event::Tick, at(20));
    machine.on(Event::Tick, at(7_990));
    machine.on(Event::Tick, at(8_000));
    machine.killed("java(7)".into(), crate::shutdown::Victim::Command);
    machine.on(Event::MainEnded(Outcome::Killed(Signal::KILL)), at(8_010));
    let told = Summary::of(&machine, at(8_010), ExitStatus::KILLED);
    let report = told.report().unwrap();
    let expected = "\
killed java(7)
stopped by SIGTERM from outside the container; the command was ended by SIGKILL; exit status 137
0s           20ms                                                       8s       8.01s
|pre-stop 20ms|stop 7.98s                                                 |kill 10ms|
pre-stop step 1 \"false\" exited with 1 after 20ms
the command was ended by SIGKILL
";
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeeze(&report), squeeze(expected));
}

#[test]
fn a_report_is_never_longer_than_1_kib() {
    let long = "ä".repeat(3_000);
    let plan = plan(&[("pre-stop", &long)]);
    let mut machine = Shutdown::new(&plan, Surroundings::default(), at(0));
    machine.on(term(), at(0));
    let id = crate::shutdown::StepId { chain: Chain::PreStop, index: 0, run: 0 };
    machine.on(Event::StepEnded(id, StepEnd::Overdue), at(20));
    machine.on(Event::MainEnded(Outcome::Exited(0)), at(30));
    let report = Summary::of(&machine, at(30), ExitStatus::SUCCESS).report().unwrap();
    assert!(report.len() <= LONGEST_REPORT && report.starts_with("pre-stop step 1"), "{}", report.len());
}
