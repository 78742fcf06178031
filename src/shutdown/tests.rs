//! Every rule of the shutdown, on a clock that the test turns.

use super::*;
use proptest::prelude::*;

/// A machine, its clock, and all that it said to do.
struct Run {
    machine: Shutdown,
    now: Moment,
    done: Vec<(Moment, String)>,
}

const fn at(millis: u64) -> Moment {
    Moment::new(Duration::from_millis(millis))
}

fn plan(pairs: &[(&'static str, &str)]) -> Plan {
    crate::cli::plan_for_tests(pairs)
}

/// Actions in few words; what is only said is left out.
fn word(action: &Action) -> Option<String> {
    let step = |id: &StepId| match id.chain {
        Chain::PreStop => format!("pre {}", id.index + 1),
        Chain::PostStop => format!("post {}", id.index + 1),
    };
    Some(match action {
        Action::Relay(signal, _) => format!("relay {signal}"),
        Action::SuspendSelf => "suspend".to_owned(),
        Action::Stop(signal) => format!("stop {signal}"),
        Action::SignalStep(id, signal) => format!("{} sends {signal}", step(id)),
        Action::CountDescendants => "count".to_owned(),
        Action::ListRunning => "list".to_owned(),
        Action::AppendToReport(line) => format!("report {line:?}"),
        Action::ContinueSuspended => "continue".to_owned(),
        Action::StartStep(id) => format!("start {}", step(id)),
        Action::TermStep(id) => format!("term {}", step(id)),
        Action::KillStep(id) => format!("kill {}", step(id)),
        Action::LastToGroup(signal) => format!("last {signal}"),
        Action::TermLeftovers { group_has_it: true } => "term leftovers outside the group".to_owned(),
        Action::TermLeftovers { group_has_it: false } => "term leftovers".to_owned(),
        Action::KillAll => "kill all".to_owned(),
        Action::Tell(_) => return None,
        Action::Leave(status) => format!("leave {status}"),
    })
}

fn signal(signal: Signal) -> Event {
    Event::Received(Received {
        signal,
        sender: Sender::Outside,
        from_outside: true,
        queued: None,
        command_has_it: false,
    })
}

const fn ended(code: u8) -> Event {
    Event::MainEnded(Outcome::Exited(code))
}

const fn step(chain: Chain, number: usize, code: u8) -> Event {
    let id = StepId { chain, index: number - 1, run: 0 };
    Event::StepEnded(id, StepEnd::Ended(Outcome::Exited(code)))
}

const fn pre(number: usize, code: u8) -> Event {
    step(Chain::PreStop, number, code)
}

impl Run {
    fn of(pairs: &[(&'static str, &str)]) -> Self {
        Self {
            machine: Shutdown::new(&plan(pairs), Surroundings::default(), at(0)),
            now: at(0),
            done: Vec::new(),
        }
    }

    /// Turns the clock to `millis`, stopping wherever a timer is due, as the loop does.
    fn until(&mut self, millis: u64) -> &mut Self {
        while let Deadline::At(due) = self.machine.next_due()
            && due < at(millis)
        {
            self.now = self.now.max(due);
            self.give(Event::Tick);
        }
        self.now = at(millis);
        self.give(Event::Tick);
        self
    }

    /// A turn of the loop with this event: the tick comes last.
    fn give(&mut self, event: Event) -> Vec<String> {
        let mut actions = self.machine.on(event, self.now);
        actions.extend(self.machine.on(Event::Tick, self.now));
        let words: Vec<String> = actions.iter().filter_map(word).collect();
        self.done.extend(words.iter().map(|word| (self.now, word.clone())));
        words
    }

    fn and(&mut self, event: Event) -> &mut Self {
        self.give(event);
        self
    }

    /// The kernel says that no child is left.
    fn alone(&mut self) -> Vec<String> {
        let starts = self.machine.starts();
        self.give(Event::NoChildren { starts })
    }

    /// The last child is reaped, and `event` tells of it.
    fn last(&mut self, event: Event) -> Vec<String> {
        let mut words = self.alone();
        words.extend(self.give(event));
        words
    }

    fn words(&self) -> Vec<&str> {
        self.done.iter().map(|(_, word)| word.as_str()).collect()
    }

    fn when(&self, word: &str) -> Moment {
        self.done
            .iter()
            .find(|(_, done)| done == word)
            .unwrap_or_else(|| panic!("no {word}: {:?}", self.done))
            .0
    }
}

/// A shutdown with everything in it: budget 20 s, drain 2 s, the chain ends at 15 s.
const FULL: [(&str, &str); 9] = [
    ("grace", "22s"),
    ("reserve", "2s"),
    ("drain", "2s"),
    ("pre-stop", "one"),
    ("pre-stop", "two"),
    ("pre-stop-timeout", "4s"),
    ("stop-signal", "QUIT:2s,TERM"),
    ("stop-window", "5s"),
    ("post-stop", "after"),
];

/// A machine in each of its states, a second or so after it got there.
fn states() -> Vec<(&'static str, fn() -> Run)> {
    fn full() -> Run {
        Run::of(&FULL)
    }
    fn with(mut run: Run, drive: for<'a> fn(&'a mut Run) -> &'a mut Run) -> Run {
        drive(&mut run);
        run
    }
    vec![
        ("running", full),
        ("draining", || with(full(), |run| run.and(signal(Signal::TERM)).until(1_000))),
        ("step runs", || with(full(), |run| run.and(signal(Signal::TERM)).until(3_000))),
        ("step ends", || with(full(), |run| run.and(signal(Signal::TERM)).until(6_100))),
        ("step runs, command gone", || {
            with(full(), |run| run.and(signal(Signal::TERM)).until(3_000).and(ended(3)))
        }),
        ("first rung", || {
            with(full(), |run| {
                run.and(signal(Signal::TERM)).until(2_000).and(pre(1, 0)).and(pre(2, 0)).until(3_000)
            })
        }),
        ("last rung", || {
            with(full(), |run| {
                run.and(signal(Signal::TERM)).until(2_000).and(pre(1, 0)).and(pre(2, 0)).until(5_000)
            })
        }),
        ("clearing", || with(full(), |run| run.until(1_000).and(ended(3)).until(2_000))),
        ("killing", || with(full(), |run| run.and(signal(Signal::TERM)).until(20_010))),
        ("post-stop", || {
            with(full(), |run| {
                run.until(1_000).last(ended(3));
                run.until(2_000)
            })
        }),
        ("done", || {
            with(full(), |run| {
                run.until(1_000).last(ended(3));
                run.last(step(Chain::PostStop, 1, 0));
                run
            })
        }),
    ]
}

/// Every state with every event: the phase that follows, and what is done.
#[test]
fn every_event_in_every_state() {
    type Give = fn(&mut Run) -> Vec<String>;
    let events: [(&str, Give); 10] = [
        ("TERM", |run| run.give(signal(Signal::TERM))),
        ("INT", |run| run.give(signal(Signal::INT))),
        ("HUP", |run| run.give(signal(Signal::HUP))),
        ("command ends", |run| run.give(ended(7))),
        ("last one ends", |run| run.last(ended(7))),
        ("grace-init stop", |run| run.give(Event::StopAsked(Sender::Process(9)))),
        ("step 1 ends well", |run| run.give(pre(1, 0))),
        ("step 1 fails", |run| run.give(pre(1, 9))),
        ("nobody left", Run::alone),
        ("time passes", |run| run.give(Event::Tick)),
    ];
    let mut table = String::new();
    for (state, build) in states() {
        for (name, event) in &events {
            let mut run = build();
            let done = event(&mut run);
            table.push_str(&format!(
                "{state} + {name} = {}: {}\n",
                run.machine.phase().name(),
                done.join(", ")
            ));
        }
    }
    let expected = include_str!("table.txt");
    for (is, should) in table.lines().zip(expected.lines()) {
        assert_eq!(is, should);
    }
    assert_eq!(table, expected);
}

#[test]
fn a_bare_stop_signal_is_sent_at_once_and_killed_at_the_deadline() {
    let mut run = Run::of(&[("grace", "10s")]);
    run.and(signal(Signal::TERM)).until(60_000);
    assert_eq!(run.done[0], (at(0), "stop SIGTERM".to_owned()));
    assert_eq!(run.when("kill all"), at(8_000));
    assert_eq!(run.when("leave 137"), at(9_750));
}

#[test]
fn the_stop_signal_is_the_one_received_after_its_rewriting() {
    let mut run = Run::of(&[("rewrite", "TERM:QUIT")]);
    assert_eq!(run.give(signal(Signal::TERM)), ["stop SIGQUIT"]);
    let mut run = Run::of(&[]);
    assert_eq!(run.give(signal(Signal::INT)), ["stop SIGINT"]);
}

#[test]
fn a_dropped_stop_signal_begins_nothing() {
    let mut run = Run::of(&[("rewrite", "TERM:0")]);
    assert!(run.give(signal(Signal::TERM)).is_empty());
    assert_eq!(run.machine.phase(), Phase::Running);
}

#[test]
fn a_stop_signal_that_the_terminal_sent_to_the_command_too_is_not_sent_twice() {
    let mut run = Run::of(&[]);
    let both = Received { command_has_it: true, ..Received::by_the_init(Signal::INT) };
    assert!(run.give(Event::Received(both)).is_empty());
    assert_eq!(run.machine.phase(), Phase::Stopping);
    let suspended = Received { signal: Signal::TSTP, ..both };
    let mut run = Run::of(&[("single-child", "")]);
    assert_eq!(run.give(Event::Received(suspended)), ["suspend"]);
}

#[test]
fn phases_follow_each_other_at_their_times() {
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::TERM)).until(2_500).and(pre(1, 0)).until(3_000).and(pre(2, 0)).until(30_000);
    for (word, moment) in [
        ("start pre 1", 2_000),
        ("start pre 2", 2_500),
        ("stop SIGQUIT", 3_000),
        ("continue", 3_050),
        ("stop SIGTERM", 5_000),
        ("kill all", 20_000),
        ("leave 137", 21_750),
    ] {
        assert_eq!(run.when(word), at(moment), "{word}: {:?}", run.done);
    }
}

#[test]
fn the_chain_never_eats_the_stop_window() {
    let mut run = Run::of(&FULL);
    run.machine.plan.step_timeout = None;
    run.and(signal(Signal::TERM)).until(30_000);
    assert_eq!(run.when("term pre 1"), at(15_000));
    assert_eq!(run.when("stop SIGQUIT"), at(15_000));
    assert_eq!(run.when("kill pre 1"), at(15_500));
    assert!(!run.words().contains(&"start pre 2"));
}

#[test]
fn an_overdue_step_is_ended_then_killed_and_the_chain_goes_on() {
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::TERM)).until(8_000);
    assert_eq!(run.when("term pre 1"), at(6_000));
    assert_eq!(run.when("kill pre 1"), at(6_500));
    assert_eq!(run.when("start pre 2"), at(6_500));
}

#[test]
fn an_overdue_step_that_ends_in_time_lets_the_next_begin_and_its_rest_is_killed_all_the_same() {
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::TERM)).until(6_100).and(pre(1, 0)).until(7_000);
    assert_eq!(run.when("start pre 2"), at(6_100));
    assert_eq!(run.when("kill pre 1"), at(6_500));
    let first = &run.machine.history().steps[0];
    assert_eq!(first.end, Some(StepEnd::Overdue));
}

#[test]
fn a_failed_step_skips_the_rest_only_when_asked() {
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::TERM)).until(2_000);
    assert_eq!(run.give(pre(1, 1)), ["start pre 2"]);
    let mut skipping = FULL.to_vec();
    skipping.push(("pre-stop-failure", "skip"));
    let mut run = Run::of(&skipping);
    run.and(signal(Signal::TERM)).until(2_000);
    assert_eq!(run.give(pre(1, 1)), ["stop SIGQUIT"]);
    assert_eq!(run.machine.history().steps[1].end, Some(StepEnd::Skipped));
}

#[test]
fn a_step_that_cannot_start_has_failed_and_the_shutdown_goes_on() {
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::TERM)).until(2_000);
    let id = StepId { chain: Chain::PreStop, index: 0, run: 0 };
    let end = StepEnd::NotStarted("no such file".into());
    assert_eq!(run.give(Event::StepEnded(id, end)), ["start pre 2"]);
}

#[test]
fn a_signal_step_needs_no_process_and_fails_when_the_command_has_gone() {
    let steps = [("pre-stop", "@signal USR1"), ("pre-stop", "@signal USR2"), ("drain", "1s")];
    let mut run = Run::of(&steps);
    run.and(signal(Signal::TERM));
    run.until(1_000);
    assert_eq!(run.words(), ["pre 1 sends SIGUSR1"]);
    assert_eq!(run.give(pre(1, 0)), ["pre 2 sends SIGUSR2"]);
    assert_eq!(run.give(pre(2, 0)), ["stop SIGTERM"]);
    let mut run = Run::of(&steps);
    run.and(signal(Signal::TERM)).and(ended(0));
    assert_eq!(run.words(), ["term leftovers"]);
    assert!(run.machine.history().steps.iter().all(StepRecord::went_wrong));
}

#[test]
fn a_command_that_exits_during_the_drain_ends_it_and_the_chain_still_runs() {
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::TERM)).until(1_000);
    assert_eq!(run.last(ended(0)), ["start pre 1"]);
    run.and(pre(1, 0));
    let id = StepId { chain: Chain::PreStop, index: 1, run: 0 };
    let end = StepEnd::Ended(Outcome::Exited(0));
    assert_eq!(run.last(Event::StepEnded(id, end)), ["start post 1"]);
    assert!(!run.words().iter().any(|word| word.starts_with("stop")));
}

#[test]
fn a_command_that_exits_during_a_step_gets_no_stop_signal() {
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::TERM)).until(3_000).and(ended(3)).and(pre(1, 0)).and(pre(2, 0));
    assert_eq!(run.words().last(), Some(&"term leftovers"));
}

#[test]
fn leftovers_get_what_is_left_of_the_budget() {
    let mut run = Run::of(&[("grace", "10s")]);
    run.and(signal(Signal::TERM)).until(1_000).and(ended(0)).until(20_000);
    assert_eq!(run.when("term leftovers outside the group"), at(1_000));
    assert_eq!(run.when("kill all"), at(8_000));
    assert_eq!(run.words().last(), Some(&"leave 0"));
}

#[test]
fn the_group_gets_a_term_of_its_own_unless_that_was_its_stop_signal() {
    let mut run = Run::of(&[("stop-signal", "QUIT")]);
    run.and(signal(Signal::TERM));
    assert_eq!(run.give(ended(0)), ["term leftovers"]);
    let mut run = Run::of(&[("single-child", "")]);
    run.and(signal(Signal::TERM));
    assert_eq!(run.give(ended(0)), ["term leftovers"]);
}

#[test]
fn we_leave_as_soon_as_nobody_is_left() {
    let mut run = Run::of(&[]);
    run.and(signal(Signal::TERM)).until(100).and(ended(4)).until(200);
    assert_eq!(run.alone(), ["leave 4"]);
}

#[test]
fn leftovers_of_a_command_that_exits_by_itself_have_their_own_grace() {
    let mut run = Run::of(&[("leftover-grace", "3s")]);
    run.until(1_000).and(ended(4)).until(60_000);
    assert_eq!(run.when("term leftovers"), at(1_000));
    assert_eq!(run.when("kill all"), at(4_000));
    assert_eq!(run.when("leave 4"), at(6_000));
}

#[test]
fn a_stop_request_while_leftovers_are_waited_for_only_shortens_that() {
    let mut run = Run::of(&[("leftover-grace", "60s"), ("grace", "10s"), ("pre-stop", "one")]);
    run.and(ended(4)).until(1_000).and(signal(Signal::TERM)).until(30_000);
    assert_eq!(run.when("kill all"), at(9_000));
    let mut run = Run::of(&[("leftover-grace", "2s"), ("grace", "10s")]);
    run.and(ended(4)).until(1_000).and(signal(Signal::TERM)).until(30_000);
    assert_eq!(run.when("kill all"), at(2_000));
}

#[test]
fn a_repeated_stop_signal_changes_nothing() {
    let mut once = Run::of(&FULL);
    once.and(signal(Signal::TERM)).until(40_000);
    let mut often = Run::of(&FULL);
    often.and(signal(Signal::TERM));
    for moment in (100..20_000).step_by(700) {
        often.until(moment).and(signal(Signal::TERM));
    }
    often.until(40_000);
    assert_eq!(once.done, often.done);
}

#[test]
fn a_second_interrupt_of_a_person_moves_on_and_a_quick_one_does_not() {
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::INT)).until(100);
    assert!(run.give(signal(Signal::INT)).is_empty());
    run.until(600);
    assert_eq!(run.give(signal(Signal::INT)), ["start pre 1"]);
    run.until(1_100);
    assert_eq!(run.give(signal(Signal::INT)), ["term pre 1", "stop SIGQUIT"]);
    run.until(1_601);
    assert_eq!(run.give(signal(Signal::INT)), ["stop SIGTERM"]);
    run.until(2_200);
    assert_eq!(run.give(signal(Signal::INT)), ["kill all"]);
}

#[test]
fn a_stop_that_was_asked_for_and_the_term_that_follows_are_one_shutdown() {
    let mut run = Run::of(&[("pre-stop", "one")]);
    assert_eq!(run.give(Event::StopAsked(Sender::Process(9))), ["start pre 1"]);
    assert!(run.give(signal(Signal::TERM)).is_empty());
    assert!(run.give(Event::StopAsked(Sender::Process(10))).is_empty());
    assert!(!run.machine.is_prepared());
    assert_eq!(run.give(pre(1, 0)), ["stop SIGTERM"]);
    assert!(run.machine.is_prepared());
    let mut run = Run::of(&[("pre-stop", "one")]);
    assert_eq!(run.give(signal(Signal::TERM)), ["start pre 1"]);
    assert!(run.give(Event::StopAsked(Sender::Process(9))).is_empty());
}

#[test]
fn the_first_interrupt_after_a_term_moves_nothing() {
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::TERM)).until(1_000);
    assert!(run.give(signal(Signal::INT)).is_empty());
    assert_eq!(run.machine.phase(), Phase::Draining);
}

#[test]
fn other_signals_are_relayed_in_every_phase_but_the_last() {
    for (name, build) in states() {
        let relayed = build().give(signal(Signal::HUP));
        if name != "done" {
            assert_eq!(relayed, ["relay SIGHUP"], "{name}");
        }
    }
}

#[test]
fn without_a_deadline_nothing_is_ever_killed() {
    let mut run =
        Run::of(&[("grace", "none"), ("drain", "1h"), ("pre-stop", "one"), ("stop-signal", "QUIT:1m,TERM")]);
    run.and(signal(Signal::TERM)).until(100_000_000);
    run.and(pre(1, 0)).until(200_000_000).and(ended(0)).until(300_000_000);
    assert_eq!(
        run.words(),
        [
            "start pre 1",
            "stop SIGQUIT",
            "continue",
            "stop SIGTERM",
            "continue",
            "term leftovers outside the group",
            "continue"
        ]
    );
}

#[test]
fn the_older_inits_only_relay_and_leave() {
    let plan = |name: &str| crate::cli::plan_of_words_for_tests(&[name, "true"]);
    for (name, goodbye) in [("dumb-init", vec!["last SIGTERM", "leave 3"]), ("tini", vec!["leave 3"])] {
        let mut run = Run {
            machine: Shutdown::new(&plan(name), Surroundings::default(), at(0)),
            now: at(0),
            done: Vec::new(),
        };
        assert_eq!(run.give(signal(Signal::TERM)), ["relay SIGTERM"], "{name}");
        assert_eq!(run.give(signal(Signal::TERM)), ["relay SIGTERM"], "{name}");
        assert_eq!(run.give(ended(3)), goodbye, "{name}");
    }
    let mut run = Run {
        machine: Shutdown::new(&plan("dumb-init"), Surroundings::default(), at(0)),
        now: at(0),
        done: Vec::new(),
    };
    assert_eq!(run.give(signal(Signal::TSTP)), ["relay SIGSTOP", "suspend"]);
    let mut run = Run {
        machine: Shutdown::new(&plan("tini"), Surroundings::default(), at(0)),
        now: at(0),
        done: Vec::new(),
    };
    assert_eq!(run.give(signal(Signal::TSTP)), ["relay SIGTSTP"]);
    assert!(run.give(signal(Signal::TTIN)).is_empty());
}

#[test]
fn the_deadline_holds_at_its_edges() {
    let mut zero = Run::of(&[("grace", "0")]);
    zero.and(signal(Signal::TERM));
    assert_eq!(zero.words(), ["stop SIGTERM", "kill all", "kill all", "leave 137"]);

    let mut second = Run::of(&[("grace", "1s"), ("pre-stop", "one")]);
    second.and(signal(Signal::TERM)).until(5_000);
    assert_eq!(second.when("kill all"), at(800));
    assert_eq!(second.when("leave 137"), at(975));
    assert!(second.when("stop SIGTERM") < at(600));

    let mut long = Run::of(&[("grace", "4294967295")]);
    long.and(signal(Signal::TERM)).until(4_294_967_292_999);
    assert!(!long.words().contains(&"kill all"));
    long.until(4_294_967_293_000);
    assert!(long.words().contains(&"kill all"));

    let mut reserved = Run::of(&[("grace", "5s"), ("reserve", "5s"), ("stop-window", "0")]);
    reserved.and(signal(Signal::TERM));
    assert_eq!(reserved.words(), ["stop SIGTERM", "kill all"]);
}

#[test]
fn post_stop_runs_after_everything_has_gone_and_within_the_reserve() {
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::TERM)).until(20_000).and(ended(0)).until(20_100).alone();
    assert_eq!(run.when("start post 1"), at(20_100));
    run.until(30_000);
    assert_eq!(run.when("leave 0"), at(21_750));
}

/// Something that may happen to a shutdown, and how long after the last thing.
#[derive(Clone, Debug)]
enum Happening {
    Wait(u64),
    Signal(i32),
    MainEnds(u8),
    StepEnds(bool),
    NobodyLeft,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => (0..6_000_u64).prop_map(Happening::Wait),
        2 => prop_oneof![Just(15), Just(2), Just(1), Just(20), 34..64_i32].prop_map(Happening::Signal),
        1 => any::<u8>().prop_map(Happening::MainEnds),
        2 => any::<bool>().prop_map(Happening::StepEnds),
        1 => Just(Happening::NobodyLeft),
    ];
    proptest::collection::vec(one, 0..40)
}

fn settings() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let pieces = (
        prop_oneof![Just(0_u64), Just(1_000), Just(3_000), 5_000..60_000_u64],
        0..3_usize,
        0..2_usize,
        prop_oneof![Just("TERM"), Just("QUIT:100ms,TERM"), Just("INT:50ms,TERM:50ms,QUIT")],
        any::<bool>(),
        any::<bool>(),
        0..5_u64,
    );
    pieces.prop_map(|(grace, pre, post, ladder, skip, single, drain)| {
        let mut pairs: Vec<(&'static str, String)> = vec![("grace", format!("{grace}ms"))];
        if grace > 1_000 {
            pairs.push(("stop-signal", ladder.to_owned()));
            pairs.push(("drain", format!("{}ms", grace * drain / 20)));
        }
        pairs.extend((0..pre).map(|_| ("pre-stop", "step".to_owned())));
        pairs.extend((0..post).map(|_| ("post-stop", "step".to_owned())));
        if skip {
            pairs.push(("pre-stop-failure", "skip".to_owned()));
        }
        if single {
            pairs.push(("single-child", String::new()));
        }
        pairs
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Whatever happens, in whatever order: done by the end of the grace; no SIGKILL before the deadline unless a
    /// person was impatient or the command had ended by itself; no signal to a command that was reaped; the deadline
    /// stands; nothing is done after the end.
    #[test]
    fn any_events_at_any_times_end_in_order(settings in settings(), happenings in happenings()) {
        let pairs: Vec<(&'static str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut run = Run::of(&pairs);
        let grace = run.machine.plan.grace.unwrap();
        let mut main_gone = false;
        let mut interrupts = 0;
        let mut requested: Option<Moment> = None;
        let mut deadline: Option<Deadline> = None;
        let mut running: Option<StepId> = None;
        let check = |run: &Run, requested: Option<Moment>| {
            if let Some(requested) = requested {
                assert!(run.now <= requested.after(grace) || run.machine.phase() == Phase::Done, "{:?}", run.done);
            }
        };
        for happening in happenings {
            let before = run.done.len();
            let gone_before = main_gone;
            match happening {
                Happening::Wait(millis) => {
                    let then = run.now.since_start() + Duration::from_millis(millis);
                    run.until(u64::try_from(then.as_millis()).unwrap());
                }
                Happening::Signal(number) => {
                    let number = Signal::from_number(number).unwrap();
                    if [Signal::TERM, Signal::INT].contains(&number) && requested.is_none() {
                        requested = Some(run.now);
                    }
                    interrupts += usize::from(number == Signal::INT);
                    run.give(signal(number));
                }
                Happening::MainEnds(code) if !main_gone => {
                    main_gone = true;
                    run.give(ended(code));
                }
                Happening::StepEnds(well) => {
                    if let Some(id) = running.take() {
                        let end = StepEnd::Ended(Outcome::Exited(u8::from(!well)));
                        run.give(Event::StepEnded(id, end));
                    }
                }
                // The kernel says so only when it is so.
                Happening::NobodyLeft if main_gone && running.is_none() => {
                    run.alone();
                }
                Happening::MainEnds(_) | Happening::NobodyLeft => {}
            }
            for (_, word) in &run.done[before..] {
                for chain in [Chain::PreStop, Chain::PostStop] {
                    let name = if chain == Chain::PreStop { "start pre " } else { "start post " };
                    if let Some(number) = word.strip_prefix(name) {
                        running = Some(StepId { chain, index: number.parse::<usize>().unwrap() - 1, run: 0 });
                    }
                }
                prop_assert!(!(gone_before && word.starts_with("stop ")), "{:?}", run.done);
            }
            match (deadline, run.machine.deadline()) {
                (None, Deadline::At(set)) => deadline = Some(Deadline::At(set)),
                (Some(first), now) => prop_assert_eq!(first, now),
                (None, Deadline::Never) => {}
            }
            check(&run, requested);
        }
        // A stop request, if there was none, and then all the time in the world.
        if requested.is_none() {
            requested = Some(run.now);
            run.give(signal(Signal::TERM));
        }
        let requested = requested.unwrap();
        let end = requested.after(grace).max(run.now);
        run.until(u64::try_from(end.since_start().as_millis()).unwrap());
        let own_exit_may_wait = main_gone && !run.done.iter().any(|(_, word)| word.starts_with("stop "));
        if !own_exit_may_wait {
            prop_assert_eq!(run.machine.phase(), Phase::Done, "{:?}", run.done);
        }
        run.until(u64::try_from(end.since_start().as_millis()).unwrap() + 120_000);
        prop_assert_eq!(run.machine.phase(), Phase::Done, "{:?}", run.done);
        let leaves = run.done.iter().filter(|(_, word)| word.starts_with("leave")).count();
        prop_assert_eq!(leaves, 1);
        if interrupts < 2 && !own_exit_may_wait
            && let Some((when, _)) = run.done.iter().find(|(_, word)| word == "kill all")
            && !run.done.iter().any(|(_, word)| word.starts_with("start post"))
        {
            let budget = run.machine.plan.budget().unwrap();
            prop_assert!(when.since(requested) >= budget, "{:?}", run.done);
        }
    }
}
