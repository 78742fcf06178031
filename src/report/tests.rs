use super::*;
use crate::outcome::Outcome;
use crate::plan::{GraceSource, Place, Plan};
use crate::shutdown::{Event, Received, StepId, Surroundings, Victim};
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

/// A machine that lives through some events, each at its time, with the ticks between them.
fn live(plan: &Plan, events: &[(u64, Event)]) -> Shutdown {
    let mut machine = Shutdown::new(plan, Surroundings::default(), at(0));
    for (millis, event) in events {
        while let crate::time::Deadline::At(due) = machine.next_due()
            && due < at(*millis)
        {
            machine.on(Event::Tick, due);
        }
        machine.on(event.clone(), at(*millis));
        machine.on(Event::Tick, at(*millis));
    }
    machine
}

const fn step(index: usize, end: StepEnd) -> Event {
    Event::StepEnded(StepId { chain: Chain::PreStop, index, run: 0 }, end)
}

const fn ended(code: u8) -> Event {
    Event::MainEnded(Outcome::Exited(code))
}

fn nobody() -> Event {
    Event::NoChildren { starts: 0 }
}

fn squeezed(text: &str) -> String {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

const PRE_STOP: Event = Event::PreStopAsked(Sender::Process(8));

#[test]
fn an_ordinary_stop_is_one_line_and_no_report() {
    let plan = plan(&[("grace", "30s"), ("drain", "2s")]);
    let machine = live(&plan, &[(1_000, term()), (3_250, nobody()), (3_250, ended(0))]);
    let summary = Summary::of(&machine, at(3_250), ExitStatus::SUCCESS);
    assert_eq!(
        summary.summary(),
        "stopped by SIGTERM from outside the container in 2.25s of 30s: drain 2s, stop 250ms; the command exited with 0"
    );
    assert!(summary.is_worth_a_line() && !summary.went_wrong());
    assert_eq!(summary.report(), None);
}

#[test]
fn a_guessed_grace_is_named_with_its_place() {
    let mut plan = plan(&[("grace", "10s")]);
    plan.shutdown.grace_source = GraceSource::Guessed(Place::Docker);
    let machine = live(&plan, &[(0, term()), (250, nobody()), (250, ended(0))]);
    let text = Summary::of(&machine, at(250), ExitStatus::SUCCESS).summary();
    assert!(text.contains("in 250ms of 10s (assumed: what Docker usually gives): stop"), "{text}");
}

#[test]
fn the_commands_own_failure_is_told_by_its_status_alone() {
    let plan = plan(&[("grace", "10s")]);
    let machine = live(&plan, &[(0, term()), (250, nobody()), (250, ended(7))]);
    assert_eq!(Summary::of(&machine, at(250), ExitStatus::new(7)).report(), None);
}

#[test]
fn leftovers_that_end_by_themselves_are_a_phase_when_they_took_a_second() {
    let plan = plan(&[("grace", "10s")]);
    let line = |left: u64| {
        let machine = live(&plan, &[(0, term()), (100, ended(0)), (100 + left, nobody())]);
        let summary = Summary::of(&machine, at(100 + left), ExitStatus::SUCCESS);
        assert_eq!(summary.report(), None);
        summary.summary()
    };
    assert!(!line(999).contains("leftovers"), "{}", line(999));
    assert!(line(1_000).contains("stop 100ms, leftovers 1s; the command exited with 0"), "{}", line(1_000));
}

#[test]
fn a_command_that_ends_by_itself_is_worth_a_line_only_with_slow_leftovers() {
    let plan = plan(&[]);
    let worth = |left: u64| {
        let mut machine = live(&plan, &[(100, ended(3)), (100 + left, nobody())]);
        machine.found_leftovers(2);
        let summary = Summary::of(&machine, at(100 + left), ExitStatus::new(3));
        summary.is_worth_a_line().then(|| summary.summary())
    };
    assert_eq!(worth(999), None);
    assert_eq!(
        worth(2_000),
        Some("the command ended by itself: leftovers 2s; the command exited with 3".to_owned())
    );
}

#[test]
fn no_phase_is_longer_than_the_whole() {
    let plan = plan(&[("grace", "10s"), ("leftover-grace", "60s")]);
    let machine = live(&plan, &[(0, ended(0)), (1_000, term()), (3_900, nobody())]);
    let text = Summary::of(&machine, at(3_900), ExitStatus::SUCCESS).summary();
    assert!(text.contains("in 2.9s of 10s: leftovers 2.9s"), "{text}");
}

#[test]
fn the_report_says_who_was_killed_when_why_and_what_to_try() {
    let plan = plan(&[
        ("grace", "10s"),
        ("pre-stop", "true"),
        ("pre-stop", "./hang.sh"),
        ("pre-stop", "./never.sh"),
    ]);
    let mut machine = live(
        &plan,
        &[(0, term()), (1_000, step(0, StepEnd::Ended(Outcome::Exited(0)))), (8_000, Event::Tick)],
    );
    machine.killed("python3(5867)".into(), Victim::Command);
    machine.on(Event::MainEnded(Outcome::Killed(Signal::KILL)), at(8_010));
    let summary = Summary::of(&machine, at(8_010), ExitStatus::KILLED);
    let expected = "\
KILLED by grace-init at 8s of 10s: python3(5867) still ran 2.666s after SIGTERM
pre-stop step 2 \"./hang.sh\" hung and used 4.333s; step 3 did not run
try --pre-stop-timeout 2s, or a longer grace
stopped by SIGTERM from outside the container; the command was ended by SIGKILL; exit status 137
0s 5.333s 8s 8.01s
|pre-stop 5.333s |stop 2.666s |kill 10ms|
";
    assert_eq!(squeezed(&summary.report().unwrap()), expected);
    assert!(summary.went_wrong());
}

#[test]
fn leftovers_that_were_killed_are_told_with_the_time_they_had() {
    let plan = plan(&[("leftover-grace", "3s")]);
    let mut machine = live(&plan, &[(1_000, ended(0)), (4_000, Event::Tick)]);
    machine.killed("sleep(9)".into(), Victim::Other);
    let report = Summary::of(&machine, at(4_010), ExitStatus::SUCCESS).report().unwrap();
    let first = report.lines().next().unwrap();
    assert_eq!(
        first,
        "KILLED by grace-init 3s after the command ended by itself: sleep(9) still ran 3s after SIGTERM"
    );
    assert!(report.contains("try --leftover-grace"), "{report}");
}

#[test]
fn what_to_try_depends_on_who_was_killed() {
    let advice = |victim: Victim| {
        let plan = plan(&[("grace", "10s")]);
        let mut machine = live(&plan, &[(0, term()), (8_000, Event::Tick)]);
        machine.killed("java(7)".into(), victim);
        let report = Summary::of(&machine, at(8_010), ExitStatus::KILLED).report().unwrap();
        report.lines().find(|line| line.starts_with("try ")).unwrap().to_owned()
    };
    assert!(advice(Victim::Command).contains("--stop-signal"));
    assert!(advice(Victim::Other).contains("wait for its processes"));
}

#[test]
fn each_step_that_went_wrong_is_told_with_how() {
    let steps =
        [("grace", "30s"), ("pre-stop", "a"), ("pre-stop", "b"), ("pre-stop", "c"), ("pre-stop", "d")];
    let plan = plan(&steps);
    let machine = live(
        &plan,
        &[
            (0, term()),
            (10, step(0, StepEnd::Ended(Outcome::Exited(9)))),
            (20, step(1, StepEnd::NotStarted("not found".into()))),
            (30, step(2, StepEnd::Ended(Outcome::Dumped(Signal::QUIT)))),
            (40, step(3, StepEnd::Ended(Outcome::Exited(0)))),
            (50, nobody()),
        ],
    );
    let report = Summary::of(&machine, at(50), ExitStatus::SUCCESS).report().unwrap();
    let facts: Vec<&str> = report.lines().take(3).collect();
    assert_eq!(
        facts,
        [
            "pre-stop step 1 \"a\" exited with 9 after 10ms",
            "pre-stop step 2 \"b\" could not start: not found",
            "pre-stop step 3 \"c\" was ended by SIGQUIT (core dumped) after 10ms",
        ]
    );
}

#[test]
fn a_cut_is_told_with_how_much_of_the_grace_was_left() {
    let plan = plan(&[("grace", "30s"), ("drain", "10s"), ("pre-stop", "a")]);
    let machine = live(&plan, &[(0, PRE_STOP), (4_000, term()), (4_500, nobody()), (4_500, ended(0))]);
    let cut = "SIGTERM came after 4s of the 30s grace, when the drain still ran: the real grace is shorter, or the hook was cut off";
    assert_eq!(
        line_on_the_way(&machine, ReportLine::Cut, at(4_000), "12:00:05"),
        format!("12:00:05: {cut}; if this is the last line, it was killed before its deadline\n")
    );
    let report = Summary::of(&machine, at(4_500), ExitStatus::SUCCESS).report().unwrap();
    assert!(report.starts_with(&format!("{cut}\npre-stop step 1 \"a\" did not run\ntry ")), "{report}");
}

#[test]
fn the_first_line_says_since_when_by_what_and_with_which_grace() {
    let first = |pairs: &[(&'static str, &str)], event: Event| {
        let machine = live(&plan(pairs), &[(0, event)]);
        line_on_the_way(&machine, ReportLine::Stopping, at(0), "12:00:01")
    };
    let rest = "if this is the last line, it was killed before its deadline\n";
    assert_eq!(
        first(&[("grace", "30s")], term()),
        format!("stopping since 12:00:01 by SIGTERM, grace 30s; {rest}")
    );
    assert_eq!(
        first(&[("grace", "none")], PRE_STOP),
        format!("stopping since 12:00:01 by grace-init pre-stop, no deadline; {rest}")
    );
}

#[test]
fn a_guess_that_is_over_is_told_with_what_still_runs() {
    let mut plan = plan(&[("grace", "10s")]);
    plan.shutdown.grace_source = GraceSource::Guessed(Place::Docker);
    let mut machine = live(&plan, &[(0, term()), (8_000, Event::Tick)]);
    machine.found_running((1..=8).map(|pid| format!("java({pid})")).collect());
    assert_eq!(
        line_on_the_way(&machine, ReportLine::GuessOver, at(8_000), "12:00:09"),
        "12:00:09: after 8s java(1), java(2), java(3), java(4), java(5), java(6) and 2 more still running at the end of the \
         grace, which is 10s (assumed: what Docker usually gives); set --grace to the real one\n"
    );
    assert!(Summary::of(&machine, at(9_000), ExitStatus::SUCCESS).report().unwrap().contains("set --grace"));
}

#[test]
fn a_skipped_shutdown_is_told_with_the_setting_to_change() {
    let plan = plan(&[("drain", "1s")]);
    let quit = Event::Received(Received {
        signal: Signal::QUIT,
        sender: Sender::Outside,
        from_outside: true,
        queued: None,
        command_has_it: false,
    });
    let machine = live(&plan, &[(0, quit), (10, nobody()), (10, ended(0))]);
    let summary = Summary::of(&machine, at(10), ExitStatus::SUCCESS);
    assert!(summary.is_worth_a_line() && summary.went_wrong());
    let fact = "SIGQUIT is not in --stop-on: drain and pre-stop were skipped; set --stop-on QUIT,INT,TERM or the image's \
                STOPSIGNAL to SIGTERM";
    assert!(summary.report().unwrap().starts_with(fact), "{:?}", summary.report());
}

#[test]
fn the_json_members_are_fields() {
    let plan = plan(&[("grace", "10s"), ("drain", "1s"), ("pre-stop", "false \"x\"")]);
    let mut machine = live(
        &plan,
        &[(0, term()), (1_020, step(0, StepEnd::Ended(Outcome::Exited(1)))), (8_000, Event::Tick)],
    );
    machine.killed("java(7)".into(), Victim::Command);
    machine.found_leftovers(2);
    let members = Summary::of(&machine, at(8_000), ExitStatus::KILLED).json_members();
    let json: serde_json::Value = serde_json::from_str(&format!("{{{members}}}")).unwrap();
    assert_eq!(json["phases"][0], serde_json::json!({"phase": "drain", "ms": 1000}));
    assert_eq!(
        json["steps"][0],
        serde_json::json!({"chain": "pre-stop", "step": 1, "text": "false \"x\"", "state": "failed", "ms": 20})
    );
    assert_eq!(json["killed"], serde_json::json!(["java(7)"]));
    assert_eq!(
        (&json["leftovers"], &json["grace_ms"], &json["grace_from"]),
        (&2.into(), &10_000.into(), &"--grace".into())
    );
}

#[test]
fn control_characters_are_made_visible() {
    let plan = plan(&[("pre-stop", "false 'a\nb\u{1b}[2J'")]);
    let mut machine = live(&plan, &[(0, term()), (10, step(0, StepEnd::Ended(Outcome::Exited(1))))]);
    machine.killed("e\u{1b}vil\n(7)".into(), Victim::Other);
    let summary = Summary::of(&machine, at(20), ExitStatus::SUCCESS);
    let control = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
    assert!(!control(&summary.report().unwrap()) && !summary.summary().contains(char::is_control));
    assert!(summary.report().unwrap().contains("e\\u{1b}vil\\n(7)"), "{:?}", summary.report());
}

#[test]
fn a_report_is_never_longer_than_1_kib() {
    let long = "ä".repeat(3_000);
    let steps: Vec<(&'static str, &str)> = (0..9).map(|_| ("pre-stop", long.as_str())).collect();
    let mut events = vec![(0, term())];
    events.extend((0..9).map(|index| (10, step(index, StepEnd::Ended(Outcome::Exited(1))))));
    events.push((20, ended(0)));
    let machine = live(&plan(&steps), &events);
    let report = Summary::of(&machine, at(30), ExitStatus::SUCCESS).report().unwrap();
    assert!(report.len() <= MAX_REPORT && report.len() > MAX_REPORT - 8, "{}", report.len());
    assert!(report.starts_with("pre-stop step 1") && report.ends_with("…\n"));
}
