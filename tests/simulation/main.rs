//! The init's loop, lived thousands of times against a simulated kernel.
//!
//! A life is made of a seed: its command line, its programs, what comes from outside and what fails. One that breaks a rule of
//! `checks.rs` is made as small as it can be and printed with its seed, and
//! `GRACE_INIT_TEST_SEED=n cargo test --test simulation` lives it again. `GRACE_INIT_TEST_LIVES=n` lives as many as one likes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    missing_docs,
    reason = "a test may panic"
)]

mod checks;
mod conformance;
mod kernel;
mod random;
mod scenario;
mod shrink;
mod system;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use grace_init::cli::{self, Environment, Invocation};
use grace_init::init::Init;
use grace_init::plan::Plan;

use checks::Life;
use scenario::Scenario;
use system::{KilledFromOutside, Sim};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

/// The plan of a scenario; `None` where its settings do not fit together.
fn plan(scenario: &Scenario) -> Option<Plan> {
    let words = scenario.words().into_iter().map(Into::into).collect();
    match cli::read(words, &Environment::default()) {
        Ok(Invocation::Run(plan)) => Some(*plan),
        Ok(_) => panic!("{:?} runs nothing", scenario.words()),
        Err(_) => None,
    }
}

/// Lives it; returns what went wrong.
fn live(scenario: &Scenario) -> Vec<String> {
    let Some(plan) = plan(scenario) else { return Vec::new() };
    let Ok(mut init) = Init::start(plan.clone(), Sim::new(scenario)) else { return Vec::new() };
    let status = match catch_unwind(AssertUnwindSafe(|| init.run())) {
        Ok(status) => Some(status),
        Err(panic) if panic.is::<KilledFromOutside>() => None,
        Err(panic) => match panic.downcast::<&str>() {
            Ok(message) => return vec![format!("panicked: {message}")],
            Err(panic) => resume_unwind(panic),
        },
    };
    let history = init.history().clone();
    let mut wrong = Life { plan: &plan, sim: init.system(), history: &history, status }.judge();
    if !wrong.is_empty() {
        wrong.push(init.system().story(&history));
    }
    wrong
}

fn fail(seed: u64, scenario: &Scenario, wrong: &[String]) -> ! {
    // Numbers and names change as it shrinks; what goes wrong stays.
    let kind = |wrong: &[String]| -> String {
        let first = wrong.first().map(String::as_str).unwrap_or_default();
        first.chars().filter(|letter| letter.is_alphabetic() || *letter == ' ').collect()
    };
    let small = shrink::smallest(scenario, |scenario| kind(&live(scenario)) == kind(wrong));
    let mut sim_log = String::new();
    for line in live(&small) {
        sim_log.push_str(&format!("  {line}\n"));
    }
    panic!(
        "seed {seed}: {}\nGRACE_INIT_TEST_SEED={seed} cargo test --test simulation lives it again. As small as can be:\n{small:#?}\n{:?}\n{sim_log}",
        wrong.first().unwrap(),
        small.words(),
    );
}

#[test]
fn no_life_breaks_a_promise() {
    std::panic::set_hook(Box::new(|info| {
        if !info.payload().is::<KilledFromOutside>() {
            eprintln!("{info}");
        }
    }));
    if let Some(seed) = number("GRACE_INIT_TEST_SEED") {
        let scenario = Scenario::random(seed);
        let wrong = live(&scenario);
        if !wrong.is_empty() {
            fail(seed, &scenario, &wrong);
        }
        return;
    }
    let lives = number("GRACE_INIT_TEST_LIVES").unwrap_or(20_000);
    let next = AtomicU64::new(0);
    let lived = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= lives {
                            return;
                        }
                        let scenario = Scenario::random(seed);
                        let wrong = live(&scenario);
                        lived.fetch_add(u64::from(plan(&scenario).is_some()), Ordering::Relaxed);
                        if !wrong.is_empty() {
                            next.store(lives, Ordering::Relaxed);
                            fail(seed, &scenario, &wrong);
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    });
    let lived = lived.into_inner();
    // Settings that do not fit together are refused, and make no life.
    assert!(lived * 2 > lives, "only {lived} of {lives} scenarios made a life");
}
