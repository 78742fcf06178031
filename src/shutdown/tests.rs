//! Every rule of the shutdown, on a clock that the test turns.

use std::time::Duration;

use super::*;
use crate::outcome::Outcome;
use crate::plan::{GraceSource, Place, Plan};
use crate::signal::{Sender, Signal, SignalSet};
use crate::time::{Deadline, Moment};
use proptest::prelude::*;

/// A machine, its clock, and all that it said to do.
#[derive(Clone)]
struct Run {
    machine: Shutdown,
    now: Moment,
    done: Vec<(Moment, String)>,
    /// What was counted, listed and written to the report.
    noted: Vec<(Moment, String)>,
    told: Vec<Notice>,
}

const fn at(millis: u64) -> Moment {
    Moment::new(Duration::from_millis(millis))
}

fn plan(pairs: &[(&'static str, &str)]) -> Plan {
    crate::cli::plan_for_tests(pairs)
}

/// A grace of 10 s that nobody told: the budget is 8 s.
fn guessed(pairs: &[(&'static str, &str)]) -> Plan {
    let mut pairs = pairs.to_vec();
    pairs.push(("grace", "10s"));
    let mut plan = plan(&pairs);
    plan.shutdown.grace_source = GraceSource::Guessed(Place::Docker);
    plan
}

const NOWHERE: Surroundings = Surroundings {
    on_kubernetes: false,
    is_first_process: false,
    has_terminal: false,
    ignored_at_start: SignalSet::from_bits(0),
};
const KUBERNETES: Surroundings = Surroundings { on_kubernetes: true, is_first_process: true, ..NOWHERE };

/// What an action does, in few words; nothing for what is only said or noted.
fn word(action: &Action) -> Option<String> {
    Some(match action {
        Action::Relay(signal, _) => format!("relay {signal}"),
        Action::SuspendSelf => "suspend".to_owned(),
        Action::Stop(signal) => format!("stop {signal}"),
        Action::SignalStep(id, signal) => format!("{} sends {signal}", name(*id)),
        Action::ContinueSuspended => "continue".to_owned(),
        Action::StartStep(id) => format!("start {}", name(*id)),
        Action::TermStep(id) => format!("term {}", name(*id)),
        Action::KillStep(id) => format!("kill {}", name(*id)),
        Action::LastToGroup(signal) => format!("last {signal}"),
        Action::TermLeftovers { group_has_it: true } => "term leftovers outside the group".to_owned(),
        Action::TermLeftovers { group_has_it: false } => "term leftovers".to_owned(),
        Action::KillAll => "kill all".to_owned(),
        Action::Leave(status) => format!("leave {status}"),
        Action::CountDescendants | Action::ListRunning | Action::AppendToReport(_) | Action::Tell(_) => {
            return None;
        }
    })
}

fn name(id: StepId) -> String {
    match id.chain {
        Chain::PreStop => format!("pre {}", id.number()),
        Chain::PostStop => format!("post {}", id.number()),
    }
}

fn note(action: &Action) -> Option<String> {
    match action {
        Action::CountDescendants => Some("count".to_owned()),
        Action::ListRunning => Some("list".to_owned()),
        Action::AppendToReport(line) => Some(format!("report {line:?}").to_lowercase()),
        Action::Relay(..)
        | Action::SuspendSelf
        | Action::Stop(_)
        | Action::SignalStep(..)
        | Action::ContinueSuspended
        | Action::StartStep(_)
        | Action::TermStep(_)
        | Action::KillStep(_)
        | Action::LastToGroup(_)
        | Action::TermLeftovers { .. }
        | Action::KillAll
        | Action::Tell(_)
        | Action::Leave(_) => None,
    }
}

fn received(signal: Signal, sender: Sender) -> Received {
    Received { signal, sender, from_outside: sender == Sender::Outside, queued: None, command_has_it: false }
}

/// From whoever stops containers.
fn signal(signal: Signal) -> Event {
    Event::Received(received(signal, Sender::Outside))
}

/// From a process in the container.
fn inside(signal: Signal) -> Event {
    Event::Received(received(signal, Sender::Process(7)))
}

fn ctrl_c() -> Event {
    Event::Received(received(Signal::INT, Sender::Kernel))
}

const PRE_STOP: Event = Event::PreStopAsked(Sender::Process(8));
const STOP: Event = Event::StopAsked(Sender::Process(9));
const CANCEL: Event = Event::CancelAsked(Sender::Process(9));

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

const fn post(number: usize, code: u8) -> Event {
    step(Chain::PostStop, number, code)
}

impl Run {
    fn of(pairs: &[(&'static str, &str)]) -> Self {
        Self::with(&plan(pairs), NOWHERE)
    }

    fn on_kubernetes(pairs: &[(&'static str, &str)]) -> Self {
        Self::with(&plan(pairs), KUBERNETES)
    }

    fn with(plan: &Plan, surroundings: Surroundings) -> Self {
        let machine = Shutdown::new(plan, surroundings, at(0));
        Self { machine, now: at(0), done: Vec::new(), noted: Vec::new(), told: Vec::new() }
    }

    /// Turns the clock to `millis`, stopping wherever a timer is due, as the loop does.
    fn until(&mut self, millis: u64) -> &mut Self {
        let mut turns = 0;
        while let Deadline::At(due) = self.machine.next_due()
            && due < at(millis)
        {
            turns += 1;
            assert!(turns < 10_000, "the loop spins in {:?}", self.phase());
            self.now = self.now.max(due);
            self.give(Event::Tick);
            let due = self.machine.next_due();
            assert!(
                !due.reached(self.now),
                "still due at {due:?} in {:?}: the loop would spin",
                self.phase()
            );
        }
        self.now = at(millis);
        self.give(Event::Tick);
        self
    }

    /// Sleeps over all timers to `millis`, as a frozen container does.
    fn frozen_until(&mut self, millis: u64) -> &mut Self {
        self.now = at(millis);
        self.and(Event::Tick)
    }

    /// A turn of the loop with this event: the tick comes last.
    fn give(&mut self, event: Event) -> Vec<String> {
        let mut actions = self.machine.on(event, self.now);
        actions.extend(self.machine.on(Event::Tick, self.now));
        let words: Vec<String> = actions.iter().filter_map(word).collect();
        self.done.extend(words.iter().map(|word| (self.now, word.clone())));
        self.noted.extend(actions.iter().filter_map(note).map(|note| (self.now, note)));
        for action in actions {
            if let Action::Tell(notice) = action {
                self.told.push(notice);
            }
        }
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

    #[track_caller]
    fn when(&self, word: &str) -> Moment {
        let mut all = self.done.iter().chain(&self.noted);
        all.find(|(_, done)| done == word).unwrap_or_else(|| panic!("no {word}: {:?}", self.done)).0
    }

    fn never(&self, word: &str) -> bool {
        self.done.iter().chain(&self.noted).all(|(_, done)| done != word)
    }

    fn phase(&self) -> Phase {
        self.machine.phase()
    }
}

/// A shutdown with everything in it: budget 20 s, drain 2 s, the chain ends at 15 s.
const FULL: [(&str, &str); 10] = [
    ("grace", "22s"),
    ("reserve", "2s"),
    ("drain", "2s"),
    ("pre-stop", "one"),
    ("pre-stop", "two"),
    ("pre-stop-timeout", "4s"),
    ("stop-signal", "QUIT:2s,TERM"),
    ("stop-window", "5s"),
    ("post-stop", "after"),
    ("post-stop", "later"),
];

type Build = fn() -> Run;

/// A machine in each of its states, a second or so after it got there.
fn states() -> Vec<(&'static str, Build)> {
    fn full() -> Run {
        Run::of(&FULL)
    }
    fn kubernetes() -> Run {
        // Without a ladder, so that it is seen which signal stops.
        let pairs: Vec<_> = FULL.into_iter().filter(|(name, _)| *name != "stop-signal").collect();
        Run::on_kubernetes(&pairs)
    }
    fn with(mut run: Run, drive: for<'a> fn(&'a mut Run) -> &'a mut Run) -> Run {
        drive(&mut run);
        run
    }
    fn prepare(run: &mut Run) -> &mut Run {
        run.and(PRE_STOP).until(2_000).and(pre(1, 0)).and(pre(2, 0)).until(3_000)
    }
    vec![
        ("running", full),
        ("draining", || with(full(), |run| run.and(signal(Signal::TERM)).until(1_000))),
        ("draining since Ctrl-C", || with(full(), |run| run.and(ctrl_c()).until(1_000))),
        ("step runs", || with(full(), |run| run.and(signal(Signal::TERM)).until(3_000))),
        ("step ends", || with(full(), |run| run.and(signal(Signal::TERM)).until(6_100))),
        ("step runs, command gone", || {
            with(full(), |run| run.and(signal(Signal::TERM)).until(3_000).and(ended(3)))
        }),
        ("hook drains", || with(full(), |run| run.and(PRE_STOP).until(1_000))),
        ("hook's step runs", || with(full(), |run| run.and(PRE_STOP).until(3_000))),
        ("hook's step runs, stop asked", || with(full(), |run| run.and(PRE_STOP).until(3_000).and(STOP))),
        ("hook's step runs, command gone", || {
            with(full(), |run| run.and(PRE_STOP).until(3_000).and(ended(3)))
        }),
        ("hook's step runs on kubernetes", || with(kubernetes(), |run| run.and(PRE_STOP).until(3_000))),
        ("prepared", || with(full(), prepare)),
        ("prepared on kubernetes", || with(kubernetes(), prepare)),
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
        ("leftovers", || with(full(), |run| run.until(1_000).and(ended(3)).until(2_000))),
        ("leftovers of a stop", || {
            with(full(), |run| prepare(run).and(signal(Signal::TERM)).and(ended(3)).until(4_000))
        }),
        ("killing", || with(full(), |run| run.and(signal(Signal::TERM)).until(20_010))),
        ("post-stop", || {
            with(full(), |run| {
                run.until(1_000).last(ended(3));
                run.until(2_000)
            })
        }),
        ("post-stop, second step", || {
            with(full(), |run| {
                run.until(1_000).last(ended(3));
                run.and(post(1, 0))
            })
        }),
        ("done", || {
            with(full(), |run| {
                run.until(1_000).last(ended(3));
                run.last(post(1, 0));
                run.last(post(2, 0));
                run
            })
        }),
    ]
}

/// Every state with every event: the phase that follows, and what is done.
#[test]
fn every_event_in_every_state() {
    type Give = fn(&mut Run) -> Vec<String>;
    let events: [(&str, Give); 19] = [
        ("TERM", |run| run.give(signal(Signal::TERM))),
        ("TERM from inside", |run| run.give(inside(Signal::TERM))),
        ("Ctrl-C", |run| run.give(ctrl_c())),
        ("Ctrl-C that the command has", |run| {
            let both = Received { command_has_it: true, ..received(Signal::INT, Sender::Kernel) };
            run.give(Event::Received(both))
        }),
        ("HUP", |run| run.give(signal(Signal::HUP))),
        ("TSTP", |run| run.give(signal(Signal::TSTP))),
        ("WINCH by the terminal", |run| run.give(Event::Received(received(Signal::WINCH, Sender::Kernel)))),
        ("command ends", |run| run.give(ended(7))),
        ("last one ends", |run| run.last(ended(7))),
        ("grace-init pre-stop", |run| run.give(PRE_STOP)),
        ("grace-init stop", |run| run.give(STOP)),
        ("grace-init cancel", |run| run.give(CANCEL)),
        ("step 1 ends well", |run| run.give(pre(1, 0))),
        ("step 1 fails", |run| run.give(pre(1, 9))),
        ("post-stop step 1 ends", |run| run.give(post(1, 0))),
        ("last post-stop step ends", |run| run.last(post(2, 0))),
        ("nobody left", Run::alone),
        ("10,000 counted", |run| run.give(Event::Counted { descendants: 10_000 })),
        ("time passes", |run| run.give(Event::Tick)),
    ];
    let mut table = String::new();
    for (state, build) in states() {
        for (name, event) in &events {
            let mut run = build();
            run.noted.clear();
            let mut done = event(&mut run);
            done.extend(run.noted.iter().map(|(_, note)| note.clone()));
            table.push_str(&format!("{state} + {name} = {}: {}\n", run.phase().name(), done.join(", ")));
        }
    }
    if std::env::var_os("WRITE_TABLE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/shutdown/table.txt"), &table).unwrap();
    }
    let expected = include_str!("table.txt");
    for (is, should) in table.lines().zip(expected.lines()) {
        assert_eq!(is, should);
    }
    assert_eq!(table.lines().count(), expected.lines().count());
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
    assert_eq!(run.phase(), Phase::Running);
}

#[test]
fn a_stop_signal_that_the_terminal_sent_to_the_command_too_is_not_sent_twice() {
    let mut run = Run::of(&[]);
    let both = Received { command_has_it: true, ..received(Signal::INT, Sender::Kernel) };
    assert!(run.give(Event::Received(both)).is_empty());
    assert_eq!(run.phase(), Phase::Stopping);
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
    let pairs: Vec<_> = FULL.into_iter().filter(|(name, _)| *name != "pre-stop-timeout").collect();
    let mut run = Run::of(&pairs);
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
fn a_second_ctrl_c_moves_on_and_a_quick_one_does_not() {
    let mut run = Run::of(&FULL);
    run.and(ctrl_c()).until(100);
    assert!(run.give(ctrl_c()).is_empty());
    run.until(600);
    assert_eq!(run.give(ctrl_c()), ["start pre 1"]);
    run.until(1_100);
    assert_eq!(run.give(ctrl_c()), ["term pre 1", "stop SIGQUIT"]);
    run.until(1_601);
    assert_eq!(run.give(ctrl_c()), ["stop SIGTERM"]);
    run.until(2_200);
    assert_eq!(run.give(ctrl_c()), ["kill all"]);
    run.until(2_300).alone();
    run.until(2_800);
    assert_eq!(run.give(ctrl_c()), ["kill all", "leave 137"]);
}

#[test]
fn a_second_interrupt_from_anywhere_else_changes_nothing() {
    for second in [signal(Signal::INT), inside(Signal::INT)] {
        let mut run = Run::of(&FULL);
        run.and(ctrl_c()).until(1_000);
        assert!(run.give(second).is_empty());
        assert_eq!(run.phase(), Phase::Draining);
    }
    // And a Ctrl-C is the first of its kind after an interrupt that came from elsewhere.
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::INT)).until(1_000).and(ctrl_c());
    assert_eq!(run.phase(), Phase::Draining);
}

#[test]
fn ctrl_c_half_a_second_after_the_first_counts_as_the_second() {
    let mut run = Run::of(&FULL);
    run.and(ctrl_c()).until(499).and(ctrl_c());
    assert_eq!(run.phase(), Phase::Draining);
    let mut run = Run::of(&FULL);
    run.and(ctrl_c()).until(500).and(ctrl_c());
    assert_eq!(run.phase(), Phase::PreStop);
}

#[test]
fn a_stop_that_was_asked_for_and_the_term_that_follows_are_one_shutdown() {
    let mut run = Run::of(&[("pre-stop", "one")]);
    assert_eq!(run.give(STOP), ["start pre 1"]);
    assert!(run.give(signal(Signal::TERM)).is_empty());
    assert!(run.give(STOP).is_empty());
    assert!(!run.machine.is_prepared());
    assert_eq!(run.give(pre(1, 0)), ["stop SIGTERM"]);
    assert!(run.machine.is_prepared());
    let mut run = Run::of(&[("pre-stop", "one")]);
    assert_eq!(run.give(signal(Signal::TERM)), ["start pre 1"]);
    assert!(run.give(STOP).is_empty());
}

#[test]
fn the_first_interrupt_after_a_term_moves_nothing() {
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::TERM)).until(1_000);
    assert!(run.give(ctrl_c()).is_empty());
    assert_eq!(run.phase(), Phase::Draining);
}

#[test]
fn other_signals_from_inside_are_relayed_in_every_phase_but_the_last() {
    for (name, build) in states().into_iter().filter(|(name, _)| *name != "done") {
        assert_eq!(build().give(inside(Signal::HUP)), ["relay SIGHUP"], "{name}");
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
        let mut run = Run::with(&plan(name), NOWHERE);
        assert_eq!(run.give(signal(Signal::TERM)), ["relay SIGTERM"], "{name}");
        assert_eq!(run.give(signal(Signal::TERM)), ["relay SIGTERM"], "{name}");
        assert_eq!(run.give(ended(3)), goodbye, "{name}");
    }
    let mut run = Run::with(&plan("dumb-init"), NOWHERE);
    assert_eq!(run.give(signal(Signal::TSTP)), ["relay SIGSTOP", "suspend"]);
    let mut run = Run::with(&plan("tini"), NOWHERE);
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

/// A budget of 8 s, a drain of 1 s, one step, 2 s for the command: the chain ends at 6 s.
const HOOK: [(&str, &str); 5] =
    [("grace", "10s"), ("reserve", "2s"), ("drain", "1s"), ("pre-stop", "one"), ("stop-window", "2s")];

/// A machine that is prepared since 1.5 s.
fn prepared(surroundings: Surroundings) -> Run {
    let mut run = Run::with(&plan(&HOOK), surroundings);
    run.and(PRE_STOP).until(1_500).and(pre(1, 0));
    assert_eq!(run.phase(), Phase::Prepared);
    run
}

#[test]
fn a_pre_stop_request_drains_and_runs_the_chain_and_the_command_serves_on() {
    let mut run = Run::of(&HOOK);
    run.and(PRE_STOP).until(999);
    assert_eq!(run.phase(), Phase::Draining);
    run.until(1_500);
    assert!(!run.machine.is_prepared() && run.machine.is_serving());
    run.and(pre(1, 0)).until(14_999);
    assert_eq!(run.words(), ["start pre 1"]);
    assert!(run.machine.is_prepared() && run.machine.is_serving());
    run.and(signal(Signal::TERM));
    assert!(run.machine.is_prepared() && !run.machine.is_serving());
}

#[test]
fn a_pre_stop_request_without_drain_and_chain_is_prepared_at_once() {
    let mut run = Run::of(&[("grace", "10s")]);
    run.and(PRE_STOP);
    assert_eq!(run.phase(), Phase::Prepared);
    assert!(run.words().is_empty());
}

#[test]
fn the_chain_of_a_pre_stop_request_leaves_the_stop_window() {
    let mut run = Run::on_kubernetes(&HOOK);
    run.and(PRE_STOP).until(6_000);
    assert_eq!(run.words(), ["start pre 1", "term pre 1"]);
    assert_eq!(run.phase(), Phase::Prepared);
    run.and(signal(Signal::TERM)).until(30_000);
    assert_eq!(run.when("stop SIGTERM"), at(6_000));
    assert_eq!(run.when("kill all"), at(8_000));
}

#[test]
fn on_kubernetes_the_deadline_counts_from_the_hook() {
    let mut run = prepared(KUBERNETES);
    run.until(3_000).and(signal(Signal::TERM)).until(60_000);
    assert_eq!(run.when("kill all"), at(8_000));
    assert_eq!(run.when("leave 137"), at(9_750));
}

#[test]
fn elsewhere_the_clock_starts_anew_with_the_stop_request() {
    for (stop, word) in
        [(signal(Signal::TERM), "stop SIGTERM"), (STOP, "stop SIGTERM"), (ctrl_c(), "stop SIGINT")]
    {
        let mut run = prepared(NOWHERE);
        run.until(3_000).and(stop).until(60_000);
        assert_eq!(run.when(word), at(3_000));
        assert_eq!(run.when("kill all"), at(11_000));
        assert_eq!(run.when("leave 137"), at(12_750));
    }
}

#[test]
fn on_kubernetes_a_stop_request_when_prepared_always_has_time() {
    // The kubelet may signal a sidecar at the end of the grace, and gives 2 s more.
    for stop in [signal(Signal::TERM), STOP] {
        let mut run = prepared(KUBERNETES);
        run.until(10_000).and(stop).until(60_000);
        assert_eq!(run.when("kill all"), at(11_600));
        assert_eq!(run.when("leave 137"), at(11_950));
    }
    let mut run = prepared(KUBERNETES);
    run.until(6_400).and(signal(Signal::TERM)).until(60_000);
    assert_eq!((run.when("kill all"), run.when("leave 137")), (at(8_000), at(9_750)));
    let mut run = prepared(KUBERNETES);
    run.until(6_401).and(signal(Signal::TERM)).until(60_000);
    assert_eq!((run.when("kill all"), run.when("leave 137")), (at(8_001), at(8_351)));
}

#[test]
fn on_kubernetes_any_signal_from_outside_stops_what_is_prepared() {
    for number in [Signal::QUIT, Signal::USR1, Signal::WINCH, Signal::HUP, Signal::from_number(37).unwrap()] {
        let mut run = prepared(KUBERNETES);
        assert_eq!(run.give(signal(number)), [format!("stop {number}")]);
    }
    for number in [Signal::CONT, Signal::URG] {
        assert_eq!(prepared(KUBERNETES).give(signal(number)), [format!("relay {number}")]);
    }
    // From inside, from the terminal, elsewhere, or without a hook it is a signal like others.
    assert_eq!(prepared(KUBERNETES).give(inside(Signal::QUIT)), ["relay SIGQUIT"]);
    let resized = Event::Received(received(Signal::WINCH, Sender::Kernel));
    assert_eq!(prepared(KUBERNETES).give(resized), ["relay SIGWINCH"]);
    assert_eq!(prepared(NOWHERE).give(signal(Signal::QUIT)), ["relay SIGQUIT"]);
    assert_eq!(Run::on_kubernetes(&HOOK).give(signal(Signal::QUIT)), ["relay SIGQUIT"]);
    // Nor once the command has been told.
    let mut told = prepared(KUBERNETES);
    told.and(signal(Signal::QUIT));
    assert_eq!(told.give(signal(Signal::USR1)), ["relay SIGUSR1"]);
}

#[test]
fn job_control_signals_from_outside_stop_only_where_there_is_no_terminal() {
    for number in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
        assert_eq!(prepared(KUBERNETES).give(signal(number)), [format!("stop {number}")]);
        let terminal = Surroundings { has_terminal: true, ..KUBERNETES };
        assert_eq!(prepared(terminal).give(signal(number)), ["relay SIGSTOP", "suspend"]);
    }
}

#[test]
fn a_ladder_wins_over_the_signal_that_stops() {
    let mut pairs = HOOK.to_vec();
    pairs.push(("stop-signal", "USR2"));
    let mut run = Run::on_kubernetes(&pairs);
    run.and(PRE_STOP).until(1_500).and(pre(1, 0));
    assert_eq!(run.give(signal(Signal::QUIT)), ["stop SIGUSR2"]);
}

#[test]
fn the_stop_begins_by_itself_5_s_after_the_grace_with_a_clock_of_its_own() {
    for surroundings in [NOWHERE, KUBERNETES] {
        let mut run = prepared(surroundings);
        run.until(60_000);
        assert_eq!(run.when("stop SIGTERM"), at(15_000));
        assert_eq!(run.when("kill all"), at(23_000));
        assert!(run.told.contains(&Notice::NobodyStopped));
        assert_eq!(run.machine.history().stop.unwrap().request, StopRequest::Nobody);
    }
}

#[test]
fn another_pre_stop_request_starts_the_wait_anew() {
    let mut run = prepared(KUBERNETES);
    run.until(14_000).and(PRE_STOP).until(60_000);
    assert_eq!(run.when("stop SIGTERM"), at(29_000));
    // One that joins earlier counts as well.
    let mut run = Run::of(&HOOK);
    run.and(PRE_STOP).until(500).and(PRE_STOP).until(1_500).and(pre(1, 0)).until(60_000);
    assert_eq!(run.when("stop SIGTERM"), at(15_500));
    assert_eq!(run.words().iter().filter(|word| **word == "start pre 1").count(), 1);
}

#[test]
fn a_stop_never_begins_by_itself_without_a_grace_that_was_told() {
    let mut run = Run::of(&[("grace", "none")]);
    run.and(PRE_STOP).until(100_000_000);
    assert_eq!(run.phase(), Phase::Prepared);
    let mut run = Run::with(&guessed(&[]), NOWHERE);
    run.and(PRE_STOP).until(100_000_000);
    assert_eq!(run.phase(), Phase::Prepared);
}

#[test]
fn a_signal_from_outside_cuts_drain_and_chain_of_a_hook() {
    for surroundings in [NOWHERE, KUBERNETES] {
        let mut run = Run::with(&plan(&HOOK), surroundings);
        run.and(PRE_STOP).until(3_000);
        assert_eq!(run.give(signal(Signal::TERM)), ["term pre 1", "stop SIGTERM"]);
        assert_eq!(run.when("report cut"), at(3_000));
        run.until(60_000);
        assert_eq!(run.when("kill pre 1"), at(3_500));
        // What is left on Kubernetes nobody knows, so its deadline stays; elsewhere the grace begins now.
        let kill = if surroundings.on_kubernetes { 8_000 } else { 11_000 };
        assert_eq!(run.when("kill all"), at(kill));
        let history = run.machine.history();
        let cut = Cut {
            request: StopRequest::Signal(Signal::TERM),
            phase: Phase::PreStop,
            after: Duration::from_secs(3),
        };
        assert_eq!(history.cut, Some(cut));
        assert_eq!(history.steps[0].end, Some(StepEnd::Cut));
        let mut run = Run::with(&plan(&HOOK), surroundings);
        run.and(PRE_STOP).until(500);
        assert_eq!(run.give(signal(Signal::TERM)), ["stop SIGTERM"]);
        assert_eq!(run.machine.history().steps[0].end, Some(StepEnd::Skipped));
    }
}

#[test]
fn a_hook_that_joined_a_persons_stop_is_cut_too() {
    let mut run = Run::of(&HOOK);
    run.and(STOP).until(500).and(PRE_STOP).and(inside(Signal::TERM));
    assert_eq!(run.phase(), Phase::Draining);
    assert_eq!(run.give(signal(Signal::TERM)), ["stop SIGTERM"]);
    // Without a hook, or once an orchestrator has signalled, another signal changes nothing.
    let mut run = Run::of(&HOOK);
    run.and(STOP).until(500);
    assert!(run.give(signal(Signal::TERM)).is_empty());
    let mut run = Run::of(&HOOK);
    run.and(signal(Signal::TERM)).until(500).and(PRE_STOP);
    assert!(run.give(signal(Signal::TERM)).is_empty());
}

#[test]
fn any_signal_from_outside_cuts_a_hook_on_kubernetes_only() {
    let mut run = Run::on_kubernetes(&HOOK);
    run.and(PRE_STOP).until(500);
    assert_eq!(run.give(signal(Signal::QUIT)), ["stop SIGQUIT"]);
    let mut run = Run::of(&HOOK);
    run.and(PRE_STOP).until(500);
    assert_eq!(run.give(signal(Signal::QUIT)), ["relay SIGQUIT"]);
    assert_eq!(run.phase(), Phase::Draining);
}

#[test]
fn a_persons_stop_during_a_hook_waits_for_its_end_and_passes_through_prepared() {
    for (stop, surroundings, kill) in
        [(STOP, NOWHERE, 12_000), (inside(Signal::TERM), NOWHERE, 12_000), (STOP, KUBERNETES, 8_000)]
    {
        let mut run = Run::with(&plan(&HOOK), surroundings);
        run.and(PRE_STOP).until(500);
        assert!(run.give(stop).is_empty());
        run.until(4_000);
        assert_eq!(run.give(pre(1, 0)), ["stop SIGTERM"]);
        assert!(run.told.contains(&Notice::Entered(Phase::Prepared)));
        run.until(60_000);
        assert_eq!(run.when("kill all"), at(kill));
    }
}

#[test]
fn a_pre_stop_request_joins_a_stop() {
    let mut run = Run::of(&HOOK);
    run.and(STOP).until(1_500).and(PRE_STOP);
    assert!(!run.machine.is_prepared());
    assert_eq!(run.give(pre(1, 0)), ["stop SIGTERM"]);
    assert!(!run.told.contains(&Notice::Entered(Phase::Prepared)));
    assert!(run.machine.is_prepared());
}

#[test]
fn a_command_that_ends_during_a_hook_lets_the_chain_go_on_and_gets_no_signal() {
    let mut run = Run::of(&HOOK);
    run.and(PRE_STOP).until(500);
    assert_eq!(run.give(ended(0)), ["start pre 1"]);
    assert_eq!(run.give(pre(1, 0)), ["term leftovers"]);
    run.until(60_000);
    assert_eq!(run.when("kill all"), at(8_000));
}

#[test]
fn a_command_that_ends_when_prepared_leaves_leftovers_the_rest_of_the_budget() {
    let mut run = prepared(KUBERNETES);
    run.until(3_000).and(ended(0)).until(60_000);
    assert_eq!(run.when("kill all"), at(8_000));
    // Where that is used up nobody has promised less than their own grace, until the kubelet signals.
    let mut run = prepared(KUBERNETES);
    run.until(9_000).and(ended(0)).until(60_000);
    assert_eq!((run.when("kill all"), run.when("leave 0")), (at(14_000), at(15_750)));
    let mut run = prepared(KUBERNETES);
    run.until(9_000).and(ended(0)).until(9_500).and(signal(Signal::TERM)).until(60_000);
    assert_eq!(run.when("kill all"), at(11_100));
}

#[test]
fn a_pre_stop_request_is_taken_back_while_the_command_was_not_told() {
    for moment in [500, 3_000] {
        let mut run = Run::of(&HOOK);
        run.and(PRE_STOP).until(moment);
        assert_eq!(run.machine.cancellable(), Ok(()));
        run.and(CANCEL);
        assert_eq!(run.phase(), Phase::Running);
        assert_eq!(run.machine.cancellable(), Err(CannotCancel::NothingAsked));
        assert_eq!(run.when("report cancelled"), at(moment));
        let history = run.machine.history();
        assert!(history.trigger.is_none() && history.steps.is_empty());
        run.until(100_000);
        assert_eq!(run.phase(), Phase::Running);
        assert!(run.never("stop SIGTERM"));
    }
    let mut run = prepared(NOWHERE);
    assert!(run.give(CANCEL).is_empty());
    run.until(100_000);
    assert_eq!(run.phase(), Phase::Running);
}

#[test]
fn a_cancelled_step_is_ended_and_the_next_request_runs_the_chain_again() {
    let mut run = Run::of(&HOOK);
    run.and(PRE_STOP).until(1_200);
    assert_eq!(run.give(CANCEL), ["term pre 1"]);
    run.until(1_300).and(PRE_STOP).until(2_300);
    assert_eq!(run.when("kill pre 1"), at(1_700));
    // The end of the first run's step is not the second one's.
    run.and(pre(1, 0));
    assert_eq!(run.phase(), Phase::PreStop);
    let id = StepId { chain: Chain::PreStop, index: 0, run: 1 };
    run.and(Event::StepEnded(id, StepEnd::Ended(Outcome::Exited(0))));
    assert_eq!(run.phase(), Phase::Prepared);
    assert_eq!(run.words().iter().filter(|word| **word == "start pre 1").count(), 2);
}

#[test]
fn only_a_pre_stop_request_can_be_taken_back() {
    let cases: [(fn(&mut Run), CannotCancel); 4] = [
        (|_| {}, CannotCancel::NothingAsked),
        (|run| drop(run.give(STOP)), CannotCancel::StopAsked),
        (|run| drop(run.and(PRE_STOP).give(STOP)), CannotCancel::StopAsked),
        (|run| drop(run.and(PRE_STOP).give(ended(0))), CannotCancel::CommandEnded),
    ];
    for (drive, why) in cases {
        let mut run = Run::of(&HOOK);
        drive(&mut run);
        let phase = run.phase();
        assert_eq!(run.machine.cancellable(), Err(why));
        run.and(CANCEL);
        assert_eq!(run.phase(), phase);
    }
}

#[test]
fn a_guessed_grace_kills_the_command_after_10_minutes_only() {
    let mut run = Run::with(&guessed(&[]), NOWHERE);
    run.and(signal(Signal::TERM)).until(700_000);
    assert_eq!(run.when("stop SIGTERM"), at(0));
    assert_eq!(run.when("kill all"), at(600_000));
    assert_eq!(run.when("leave 137"), at(601_750));
    // At its end it is said what still runs, once.
    assert_eq!(run.when("list"), at(8_000));
    assert_eq!(run.when("report guessover"), at(8_000));
    assert_eq!(run.told.iter().filter(|notice| **notice == Notice::GuessOver).count(), 1);
}

#[test]
fn a_guessed_grace_bounds_the_chain_and_kills_leftovers() {
    let pairs = [("drain", "1s"), ("pre-stop", "one"), ("stop-window", "2s")];
    let mut run = Run::with(&guessed(&pairs), NOWHERE);
    run.and(signal(Signal::TERM)).until(7_000).and(ended(0)).until(100_000);
    assert_eq!(run.when("term pre 1"), at(6_000));
    assert_eq!(run.when("stop SIGTERM"), at(6_000));
    assert_eq!((run.when("kill all"), run.when("leave 0")), (at(8_000), at(9_750)));
    assert!(run.never("list"));
}

#[test]
fn leftovers_of_a_command_that_outlived_a_guessed_grace_have_their_own() {
    let mut run = Run::with(&guessed(&[("leftover-grace", "3s")]), NOWHERE);
    run.and(signal(Signal::TERM)).until(60_000).and(ended(0)).until(100_000);
    assert_eq!(run.when("kill all"), at(63_000));
    let mut run = Run::with(&guessed(&[("leftover-grace", "none")]), NOWHERE);
    run.and(signal(Signal::TERM)).until(60_000).and(ended(0)).until(700_000);
    assert_eq!(run.when("kill all"), at(600_000));
}

#[test]
fn the_stop_request_starts_the_10_minutes_of_a_guessed_grace() {
    for surroundings in [NOWHERE, KUBERNETES] {
        let mut run = Run::with(&guessed(&[]), surroundings);
        run.and(PRE_STOP).until(1_000_000).and(signal(Signal::TERM)).until(2_000_000);
        assert_eq!(run.when("kill all"), at(1_600_000));
        let guess_is_over = if surroundings.on_kubernetes { 1_001_600 } else { 1_008_000 };
        assert_eq!(run.when("list"), at(guess_is_over));
    }
}

#[test]
fn post_stop_steps_have_the_reserve_even_when_a_guessed_grace_is_over() {
    let mut run = Run::with(&guessed(&[("post-stop", "after")]), NOWHERE);
    run.and(signal(Signal::TERM)).until(60_000).last(ended(0));
    run.until(100_000);
    assert_eq!(run.when("start post 1"), at(60_000));
    assert_eq!(run.when("leave 0"), at(62_000));
}

#[test]
fn a_hook_keeps_to_a_guessed_grace_as_if_it_were_told() {
    let plan = guessed(&[("stop-signal", "TERM")]);
    let mut run = Run::with(&plan, NOWHERE);
    run.machine = Shutdown::for_hook(&plan.shutdown, at(0));
    run.and(STOP).until(60_000);
    assert_eq!(run.when("kill all"), at(8_000));
}

#[test]
fn what_was_cut_to_fit_a_guess_is_said_when_the_stop_begins() {
    let mut plan = guessed(&[]);
    plan.shutdown.cut_to_fit = Some("drain cut".to_owned());
    let mut run = Run::with(&plan, NOWHERE);
    assert!(run.told.is_empty());
    run.and(PRE_STOP);
    assert!(run.told.contains(&Notice::CutToFit("drain cut".to_owned())));
}

#[test]
fn a_grace_below_2_s_counts_as_2_s_for_a_signal_on_kubernetes() {
    for (grace, reserve) in [("1s", "200ms"), ("0", "0"), ("1999ms", "399ms")] {
        let mut run = Run::on_kubernetes(&[("grace", grace), ("reserve", reserve)]);
        run.and(signal(Signal::TERM)).until(10_000);
        let kill = run.when("kill all").since_start();
        assert!((1_600..=1_601).contains(&kill.as_millis()), "{grace}: {kill:?}");
        let leave = run.when("leave 137").since_start();
        assert!((1_949..=1_951).contains(&leave.as_millis()), "{grace}: {leave:?}");
    }
    // A request by a client counts as it is, and so does a grace of 2 s, and any elsewhere.
    for (mut run, request, kill) in [
        (Run::on_kubernetes(&[("grace", "1s")]), STOP, 800),
        (Run::on_kubernetes(&[("grace", "2s"), ("reserve", "1s")]), signal(Signal::TERM), 1_000),
        (Run::of(&[("grace", "1s")]), signal(Signal::TERM), 800),
    ] {
        run.and(request).until(10_000);
        assert_eq!(run.when("kill all"), at(kill));
    }
    // A reserve that was given keeps its share.
    let mut run = Run::on_kubernetes(&[("grace", "1s"), ("reserve", "500ms")]);
    run.and(signal(Signal::TERM)).until(10_000);
    assert_eq!((run.when("kill all"), run.when("leave 137")), (at(1_000), at(1_875)));
}

#[test]
fn sigkill_begins_earlier_for_many_descendants() {
    let counted = |descendants, moment| {
        let mut run = Run::of(&[("grace", "10s"), ("stop-window", "2s"), ("pre-stop", "one")]);
        run.and(signal(Signal::TERM)).until(moment).and(Event::Counted { descendants }).until(60_000);
        let ends = (run.when("term pre 1"), run.when("kill all"), run.when("leave 137"));
        (ends.0.since_start().as_millis(), ends.1.since_start().as_millis(), ends.2.since_start().as_millis())
    };
    assert_eq!(counted(0, 0), (6_000, 8_000, 9_750));
    assert_eq!(counted(99, 0), (6_000, 8_000, 9_750));
    assert_eq!(counted(100, 0), (5_990, 7_990, 9_750));
    assert_eq!(counted(10_000, 0), (5_000, 7_000, 9_750));
    // At most half of what is left.
    assert_eq!(counted(1_000_000, 0), (2_000, 4_000, 9_750));
    assert_eq!(counted(1_000_000, 2_000), (3_000, 5_000, 9_750));
}

#[test]
fn leftovers_are_killed_earlier_when_there_are_many() {
    let mut run = Run::of(&[("grace", "10s")]);
    run.and(signal(Signal::TERM)).and(ended(0)).and(Event::Counted { descendants: 20_000 }).until(60_000);
    assert_eq!(run.when("kill all"), at(6_000));
}

#[test]
fn descendants_are_counted_behind_the_first_signal_or_step() {
    let mut run = Run::of(&[]);
    let actions = run.machine.on(signal(Signal::TERM), at(0));
    let acts: Vec<&Action> = actions.iter().filter(|action| !matches!(action, Action::Tell(_))).collect();
    assert_eq!(
        acts,
        [
            &Action::Stop(Signal::TERM),
            &Action::AppendToReport(ReportLine::Stopping),
            &Action::CountDescendants
        ]
    );
    let mut run = prepared(NOWHERE);
    let actions = run.machine.on(signal(Signal::TERM), run.now);
    let place = |wanted: &Action| actions.iter().position(|action| action == wanted);
    assert!(place(&Action::Stop(Signal::TERM)) < place(&Action::CountDescendants));
}

#[test]
fn a_container_that_was_frozen_over_its_deadline_has_the_stop_window_again() {
    let pairs = [("grace", "10s"), ("stop-window", "2s")];
    let mut run = Run::of(&pairs);
    run.and(signal(Signal::TERM)).until(1_000).frozen_until(100_000);
    assert!(run.never("kill all"));
    run.until(200_000);
    assert_eq!((run.when("kill all"), run.when("leave 137")), (at(102_000), at(103_750)));
    // Not on Kubernetes, not over anything else than the deadline, and not when only a little late.
    let mut run = Run::on_kubernetes(&pairs);
    run.and(signal(Signal::TERM)).until(1_000).frozen_until(100_000);
    assert_eq!(run.when("kill all"), at(100_000));
    let mut run = Run::of(&pairs);
    run.and(signal(Signal::TERM)).until(1_000).frozen_until(7_000).until(60_000);
    assert_eq!(run.when("kill all"), at(8_000));
    let mut run = Run::of(&pairs);
    run.and(signal(Signal::TERM)).until(1_000).frozen_until(8_999);
    assert_eq!(run.when("kill all"), at(8_999));
}

#[test]
fn a_rung_and_leftovers_have_their_time_again_after_a_thaw() {
    let mut run = Run::of(&[("grace", "10s"), ("stop-signal", "QUIT:1s,TERM"), ("stop-window", "3s")]);
    run.and(signal(Signal::TERM)).until(500).frozen_until(100_000);
    run.until(200_000);
    assert_eq!((run.when("stop SIGTERM"), run.when("kill all")), (at(101_000), at(103_000)));
    let mut run = Run::of(&[("grace", "10s"), ("stop-window", "3s")]);
    run.and(signal(Signal::TERM)).and(ended(0)).until(500).frozen_until(100_000).until(200_000);
    assert_eq!(run.when("kill all"), at(103_000));
    let mut run = Run::of(&[("leftover-grace", "4s")]);
    run.and(ended(0)).until(500).frozen_until(100_000).until(200_000);
    assert_eq!(run.when("kill all"), at(104_000));
    // The last rung of a ladder waits for the deadline alone.
    let mut run = Run::of(&[("grace", "10s"), ("stop-signal", "TERM:1s"), ("stop-window", "3s")]);
    run.and(signal(Signal::TERM)).until(500).frozen_until(100_000).until(200_000);
    assert_eq!(run.when("kill all"), at(103_000));
}

#[test]
fn a_drain_that_was_frozen_over_the_deadline_is_over() {
    let mut run = Run::of(&HOOK);
    run.and(signal(Signal::TERM)).until(500).frozen_until(100_000).until(200_000);
    assert_eq!(run.when("stop SIGTERM"), at(100_000));
    assert_eq!(run.when("kill all"), at(102_000));
    assert!(run.never("start pre 1"));
}

#[test]
fn what_was_ignored_at_the_start_stops_only_where_it_is_named() {
    let ignored: SignalSet = [Signal::INT, Signal::HUP, Signal::TERM].into_iter().collect();
    let background = Surroundings { ignored_at_start: ignored, ..NOWHERE };
    let mut run = Run::with(&plan(&[]), background);
    assert_eq!(run.give(signal(Signal::INT)), ["relay SIGINT"]);
    assert_eq!(run.phase(), Phase::Running);
    // TERM is not among those that shells ignore.
    assert_eq!(run.give(signal(Signal::TERM)), ["stop SIGTERM"]);
    let named = plan(&[("stop-on", "INT,QUIT,HUP")]);
    for number in [Signal::INT, Signal::QUIT, Signal::HUP] {
        let mut run = Run::with(&named, Surroundings { ignored_at_start: SignalSet::ALL, ..NOWHERE });
        assert_eq!(run.give(signal(number)), [format!("stop {number}")]);
    }
    let first = Surroundings { is_first_process: true, ..background };
    assert_eq!(Run::with(&plan(&[]), first).give(signal(Signal::INT)), ["stop SIGINT"]);
}

#[test]
fn a_stopsignal_that_skips_drain_and_chain_is_said() {
    let ends_after = |pairs: &[(&'static str, &str)], event: Event, millis: u64| {
        let mut run = Run::of(pairs);
        run.until(1_000).and(event).until(1_000 + millis).and(ended(0));
        let skipped = run.machine.history().skipped_by;
        assert_eq!(skipped.is_some(), run.told.contains(&Notice::ShutdownSkipped(Signal::QUIT)));
        skipped
    };
    assert_eq!(ends_after(&HOOK, signal(Signal::QUIT), 2_000), Some(Signal::QUIT));
    assert_eq!(ends_after(&[("drain", "1s")], signal(Signal::QUIT), 0), Some(Signal::QUIT));
    assert_eq!(ends_after(&[("pre-stop", "one")], signal(Signal::QUIT), 0), Some(Signal::QUIT));
    assert_eq!(ends_after(&HOOK, signal(Signal::QUIT), 2_001), None);
    assert_eq!(ends_after(&HOOK, inside(Signal::QUIT), 0), None);
    assert_eq!(ends_after(&HOOK, signal(Signal::URG), 0), None);
    assert_eq!(ends_after(&[], signal(Signal::QUIT), 0), None);
}

#[test]
fn a_stop_request_after_the_commands_own_end_tells_of_the_steps_that_never_ran() {
    let mut run = Run::of(&HOOK);
    run.and(ended(0)).until(1_000).and(STOP);
    let steps = &run.machine.history().steps;
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].end, Some(StepEnd::Skipped));
}

#[test]
fn a_step_that_was_started_since_the_wait_keeps_us_from_believing_that_nobody_is_left() {
    // One turn of the loop: the last child is reaped, which starts a step, and then it is said that none is left.
    let mut run = Run::of(&[("post-stop", "after")]);
    let starts = run.machine.starts();
    run.and(signal(Signal::TERM)).last(ended(0));
    assert_eq!(run.when("start post 1"), at(0));
    assert!(run.give(Event::NoChildren { starts }).is_empty());
    assert!(run.give(post(1, 0)).contains(&"kill all".to_owned()), "what the step left is unknown");
    let mut run = Run::of(&HOOK);
    let starts = run.machine.starts();
    run.and(PRE_STOP).and(ended(0)).and(Event::NoChildren { starts }).until(1_000);
    assert_eq!(run.give(pre(1, 0)), ["term leftovers"]);
}

#[test]
fn the_command_counts_as_killed_only_if_that_ended_it() {
    for (outcome, killed) in
        [(Outcome::Exited(5), 1), (Outcome::Killed(Signal::KILL), 2), (Outcome::Killed(Signal::TERM), 1)]
    {
        let mut run = Run::of(&[("grace", "10s")]);
        run.and(signal(Signal::TERM)).until(8_000);
        run.machine.killed("sh(7)".to_owned(), Victim::Command);
        run.machine.killed("sleep(8)".to_owned(), Victim::Other);
        run.and(Event::MainEnded(outcome));
        assert_eq!(run.machine.history().killed.count(), killed, "{outcome}");
    }
    let mut run = Run::of(&[("grace", "10s")]);
    run.and(signal(Signal::TERM)).and(ended(5));
    run.machine.killed("sh(7)".to_owned(), Victim::Command);
    assert_eq!(run.machine.history().killed.count(), 0);
}

#[test]
fn a_post_stop_step_that_signals_the_command_has_failed_and_the_next_one_runs() {
    let mut run = Run::of(&[("post-stop", "@signal USR1"), ("post-stop", "after")]);
    run.and(signal(Signal::TERM));
    assert_eq!(run.last(ended(0)), ["start post 2"]);
    assert!(run.machine.history().steps[0].went_wrong());
}

#[test]
fn a_failed_signal_step_skips_the_rest_when_asked() {
    let pairs = [("pre-stop", "@signal USR1"), ("pre-stop", "two"), ("pre-stop-failure", "skip")];
    let mut run = Run::of(&pairs);
    run.and(signal(Signal::TERM));
    let failed = StepEnd::NotStarted("cannot send SIGUSR1: Operation not permitted".to_owned());
    let id = StepId { chain: Chain::PreStop, index: 0, run: 0 };
    assert_eq!(run.give(Event::StepEnded(id, failed)), ["stop SIGTERM"]);
    assert_eq!(run.machine.history().steps[1].end, Some(StepEnd::Skipped));
    let mut run = Run::of(&[pairs.as_slice(), &[("drain", "1s")]].concat());
    run.and(signal(Signal::TERM));
    assert_eq!(run.give(ended(0)), ["term leftovers"]);
    assert_eq!(run.machine.history().steps[1].end, Some(StepEnd::Skipped));
}

#[test]
fn a_second_stop_request_in_kill_and_post_stop_changes_nothing() {
    for again in [STOP, signal(Signal::TERM), PRE_STOP] {
        let mut run = Run::of(&FULL);
        run.and(signal(Signal::TERM)).until(20_010);
        assert_eq!(run.phase(), Phase::Killing);
        assert!(run.give(again.clone()).is_empty());
        run.alone();
        assert_eq!(run.phase(), Phase::PostStop);
        assert!(run.give(again).is_empty());
        run.until(60_000);
        assert_eq!(run.when("leave 137"), at(21_750));
    }
}

#[test]
fn running_steps_are_those_that_were_not_killed_yet() {
    let running = |run: &Run| run.machine.running_steps().map(name).collect::<Vec<_>>();
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::TERM)).until(3_000);
    assert_eq!(running(&run), ["pre 1"]);
    run.until(6_100);
    assert_eq!(running(&run), ["pre 1"]);
    run.until(6_600);
    assert_eq!(running(&run), ["pre 2"]);
}

#[test]
fn the_rest_of_a_chain_is_said_to_be_skipped_only_if_there_is_a_rest() {
    let skipped = |run: &Run| {
        let cut = |notice: &&Notice| matches!(notice, Notice::ChainCut(_));
        run.told.iter().filter(cut).cloned().collect::<Vec<_>>()
    };
    let id = |index| StepId { chain: Chain::PreStop, index, run: 0 };
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::TERM)).until(2_500).and(ctrl_c()).until(3_500).and(ctrl_c());
    assert_eq!(skipped(&run), [Notice::ChainCut(id(1))]);
    let mut run = Run::of(&FULL);
    run.and(signal(Signal::TERM)).until(2_500).and(pre(1, 0)).and(ctrl_c()).until(3_500).and(ctrl_c());
    assert_eq!(run.phase(), Phase::Stopping);
    assert_eq!(skipped(&run), []);
    let skip = [FULL.as_slice(), &[("pre-stop-failure", "skip")]].concat();
    let mut run = Run::of(&skip);
    run.and(signal(Signal::TERM)).until(2_500).and(pre(1, 1));
    assert_eq!(skipped(&run), [Notice::ChainCut(id(1))]);
    let mut run = Run::of(&skip);
    run.and(signal(Signal::TERM)).until(2_500).and(pre(1, 0)).and(pre(2, 1));
    assert_eq!(skipped(&run), []);
}

#[test]
fn a_repeated_stop_signal_is_said_to_be_one_and_another_request_is_not() {
    for build in [
        |run: &mut Run| drop(run.give(signal(Signal::TERM))),
        |run: &mut Run| drop(run.and(PRE_STOP).give(STOP)),
        |run: &mut Run| drop(run.and(ended(0)).give(signal(Signal::TERM))),
    ] {
        let mut run = Run::of(&HOOK);
        build(&mut run);
        let before = run.machine.history().stop;
        run.told.clear();
        run.and(inside(Signal::TERM));
        assert_eq!(run.told, [Notice::Repeated(received(Signal::TERM, Sender::Process(7)))]);
        assert_eq!(run.machine.history().stop, before);
    }
    let mut run = Run::of(&HOOK);
    run.and(PRE_STOP);
    run.told.clear();
    run.and(inside(Signal::TERM));
    let trigger =
        Trigger { request: StopRequest::Signal(Signal::TERM), sender: Sender::Process(7), at: run.now };
    assert_eq!(run.told, [Notice::StopRequested(trigger)]);
    assert_eq!(run.machine.history().stop, Some(trigger));
}

#[test]
fn why_a_request_cannot_be_taken_back_is_said() {
    for (why, part) in [
        (CannotCancel::NothingAsked, "no pre-stop request"),
        (CannotCancel::StopAsked, "a stop was requested"),
        (CannotCancel::CommandEnded, "already ended"),
    ] {
        assert!(why.to_string().contains(part), "{why}");
    }
}

#[test]
fn the_machine_tells_what_is_left_and_what_it_was_set_to() {
    let mut run = Run::of(&FULL);
    assert_eq!(run.machine.budget(), Some(Duration::from_secs(20)));
    assert_eq!((run.machine.time_left_to_leave(run.now), run.machine.deadline()), (None, Deadline::Never));
    run.and(signal(Signal::TERM)).until(1_000);
    assert_eq!(run.machine.time_left_to_leave(run.now), Some(Duration::from_secs(21)));
    assert_eq!(run.machine.deadline(), Deadline::At(at(20_000)));
    let steps: Vec<String> =
        run.machine.all_steps().map(|(id, step)| format!("{} {}", name(id), step.text)).collect();
    assert_eq!(steps, ["pre 1 one", "pre 2 two", "post 1 after", "post 2 later"]);
    let chains: Vec<Chain> = run.machine.all_steps().map(|(id, _)| id.chain).collect();
    assert_eq!(chains, [Chain::PreStop, Chain::PreStop, Chain::PostStop, Chain::PostStop]);
    for (id, step) in run.machine.all_steps() {
        assert_eq!(run.machine.step(id), Some(step));
    }
    run.machine.found_leftovers(3);
    run.machine.found_leftovers(2);
    run.machine.found_survivors(1);
    run.machine.found_running(vec!["java(7)".to_owned()]);
    let history = run.machine.history();
    assert_eq!((history.leftovers, history.survivors, history.running.len()), (3, 1, 1));
}

/// Something that may happen to a shutdown.
#[derive(Clone, Debug)]
enum Happening {
    Wait(u64),
    Freeze(u64),
    Signal(i32, Sender),
    Ask(Event),
    MainEnds(u8),
    StepEnds(bool),
    NobodyLeft,
    Counted(usize),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let senders = prop_oneof![Just(Sender::Outside), Just(Sender::Kernel), Just(Sender::Process(7))];
    let one = prop_oneof![
        6 => (0..6_000_u64).prop_map(Happening::Wait),
        1 => (0..60_000_u64).prop_map(Happening::Freeze),
        4 => (prop_oneof![Just(15), Just(2), Just(1), Just(20), Just(18), 34..64_i32], senders)
            .prop_map(|(number, sender)| Happening::Signal(number, sender)),
        3 => prop_oneof![Just(PRE_STOP), Just(STOP), Just(CANCEL)].prop_map(Happening::Ask),
        1 => any::<u8>().prop_map(Happening::MainEnds),
        3 => any::<bool>().prop_map(Happening::StepEnds),
        2 => Just(Happening::NobodyLeft),
        1 => (0..20_000_usize).prop_map(Happening::Counted),
    ];
    proptest::collection::vec(one, 0..40)
}

fn settings() -> impl Strategy<Value = (Plan, Surroundings)> {
    let pieces = (
        prop_oneof![Just(0_u64), Just(1_000), Just(3_000), 5_000..60_000_u64],
        proptest::collection::vec(prop_oneof![Just("step"), Just("@signal USR1")], 0..3),
        proptest::collection::vec(prop_oneof![Just("step"), Just("@signal USR1")], 0..3),
        prop_oneof![Just("TERM"), Just("QUIT:100ms,TERM"), Just("INT:50ms,TERM:50ms,QUIT")],
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        0..5_u64,
    );
    pieces.prop_map(|(grace, pre, post, ladder, (skip, single, guess, kubernetes, terminal), drain)| {
        let grace_text = format!("{grace}ms");
        let drain_text = format!("{}ms", grace * drain / 20);
        let mut pairs: Vec<(&'static str, &str)> = vec![("grace", &grace_text)];
        if grace > 1_000 {
            pairs.extend([("stop-signal", ladder), ("drain", drain_text.as_str())]);
        }
        pairs.extend(pre.iter().map(|step| ("pre-stop", *step)));
        pairs.extend(post.iter().map(|step| ("post-stop", *step)));
        if skip {
            pairs.push(("pre-stop-failure", "skip"));
        }
        if single {
            pairs.push(("single-child", ""));
        }
        let mut plan = plan(&pairs);
        if guess {
            plan.shutdown.grace_source = GraceSource::Guessed(Place::Docker);
        }
        let first = kubernetes;
        (
            plan,
            Surroundings {
                on_kubernetes: kubernetes,
                is_first_process: first,
                has_terminal: terminal,
                ..NOWHERE
            },
        )
    })
}

/// How many random lives each property lives; `PROPTEST_CASES` sets another number.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

/// What a run of random happenings is held against.
#[derive(Default)]
struct Witness {
    main_gone: bool,
    interrupts: usize,
    frozen: bool,
    cancelled: bool,
    running: Vec<StepId>,
    started: Vec<StepId>,
}

impl Witness {
    /// Makes `happening` happen and looks at what is done for it.
    fn let_happen(&mut self, run: &mut Run, happening: &Happening) {
        let before = run.done.len();
        let gone_before = self.main_gone;
        match happening {
            Happening::Wait(millis) => {
                let then = run.now.since_start() + Duration::from_millis(*millis);
                run.until(u64::try_from(then.as_millis()).unwrap());
            }
            Happening::Freeze(millis) => {
                self.frozen = true;
                let then = run.now.since_start() + Duration::from_millis(*millis);
                run.frozen_until(u64::try_from(then.as_millis()).unwrap());
            }
            Happening::Signal(number, sender) => {
                let signal = Signal::from_number(*number).unwrap();
                self.interrupts += usize::from(signal == Signal::INT && *sender == Sender::Kernel);
                run.give(Event::Received(received(signal, *sender)));
            }
            Happening::Ask(event) => {
                let cancels = *event == CANCEL && run.machine.cancellable().is_ok();
                run.give(event.clone());
                if cancels {
                    self.cancelled = true;
                    assert_eq!(run.phase(), Phase::Running);
                    self.started.clear();
                }
            }
            Happening::MainEnds(code) if !self.main_gone => {
                self.main_gone = true;
                run.give(ended(*code));
            }
            Happening::StepEnds(well) => {
                if let Some(id) = self.running.pop() {
                    run.give(Event::StepEnded(id, StepEnd::Ended(Outcome::Exited(u8::from(!well)))));
                }
            }
            // The kernel says so only when it is so.
            Happening::NobodyLeft if self.main_gone && self.running.is_empty() => {
                run.alone();
            }
            Happening::Counted(descendants) => {
                run.give(Event::Counted { descendants: *descendants });
            }
            Happening::MainEnds(_) | Happening::NobodyLeft => {}
        }
        for (_, word) in run.done.split_off(before) {
            assert!(!(gone_before && word.starts_with("stop ")), "{word} for a command that was reaped");
            run.done.push((run.now, word));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, in whatever order: steps are started once and in order; no signal goes to a command that was
    /// reaped; no timer is left behind, so that the loop never spins; it ends, once, and nothing is done after that.
    #[test]
    fn any_events_at_any_times_end_in_order((plan, surroundings) in settings(), happenings in happenings()) {
        let mut run = Run::with(&plan, surroundings);
        let mut witness = Witness::default();
        for happening in happenings {
            let told = run.told.len();
            witness.let_happen(&mut run, &happening);
            for record in &run.machine.history().steps {
                if !witness.started.contains(&record.id) {
                    witness.started.push(record.id);
                    if record.end.is_none() {
                        witness.running.push(record.id);
                    }
                }
            }
            let ids: Vec<StepId> = run.machine.history().steps.iter().map(|record| record.id).collect();
            for chain in [Chain::PreStop, Chain::PostStop] {
                let places: Vec<usize> =
                    ids.iter().filter(|id| id.chain == chain).map(|id| id.index).collect();
                prop_assert_eq!(&places, &(0..places.len()).collect::<Vec<_>>(), "{:?}", ids);
            }
            if let Deadline::At(due) = run.machine.next_due() {
                prop_assert!(due > run.now, "{:?} is due at {:?} in {:?}", due, run.now, run.phase());
            }
            let entered: Vec<_> = run.told.iter().skip(told).collect();
            if run.phase() == Phase::Done && !entered.contains(&&Notice::Entered(Phase::Done)) {
                prop_assert!(
                    run.told.iter().filter(|notice| **notice == Notice::Entered(Phase::Done)).count() == 1
                );
            }
        }
        // A stop request, if there was none, and then all the time in the world.
        run.give(signal(Signal::TERM));
        let now = u64::try_from(run.now.since_start().as_millis()).unwrap();
        run.until(now + 3_600_000);
        prop_assert_eq!(run.phase(), Phase::Done, "{:?}", run.done);
        let leaves = run.words().iter().filter(|word| word.starts_with("leave")).count();
        prop_assert_eq!(leaves, 1);
        prop_assert!(run.words().last().unwrap().starts_with("leave"), "{:?}", run.done);
    }

    /// With a grace that was told, everything is over by its end, counted from the request that sets the clock, and the
    /// command has all of its time: no SIGKILL before the deadline unless somebody pressed Ctrl-C twice.
    #[test]
    fn a_grace_that_was_told_is_kept_to_both_ends((plan, surroundings) in settings(), happenings in happenings(), by_signal in any::<bool>()) {
        let mut plan = plan;
        plan.shutdown.grace_source = GraceSource::CommandLine;
        let mut run = Run::with(&plan, surroundings);
        let mut witness = Witness::default();
        run.give(if by_signal { signal(Signal::TERM) } else { STOP });
        let begun = run.now;
        let grace = plan.shutdown.grace.unwrap();
        let minimum = by_signal && surroundings.on_kubernetes && grace < Duration::from_secs(2);
        let grace = if minimum { Duration::from_secs(2) } else { grace };
        let mut half = run.machine.deadline();
        for happening in happenings {
            if matches!(happening, Happening::Freeze(_) | Happening::Ask(Event::PreStopAsked(_))) {
                continue;
            }
            if let (Happening::Counted(_), Some(left)) = (&happening, run.machine.deadline().remaining(run.now)) {
                half = half.min(Deadline::At(run.now.after(left / 2)));
            }
            witness.let_happen(&mut run, &happening);
            prop_assert!(run.now <= begun.after(grace) || run.phase() == Phase::Done, "{:?}", run.done);
        }
        let gone = witness.main_gone;
        let end = begun.after(grace).max(run.now);
        run.until(u64::try_from(end.since_start().as_millis()).unwrap());
        prop_assert_eq!(run.phase(), Phase::Done, "{:?}", run.done);
        if witness.interrupts < 2 && !gone
            && let Some((when, _)) = run.done.iter().find(|(_, word)| word == "kill all")
        {
            prop_assert!(Deadline::At(*when).min(half) == half, "{:?} before {:?}: {:?}", when, half, run.done);
        }
    }
}
