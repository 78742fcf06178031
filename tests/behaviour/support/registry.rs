use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use super::timeline::with_little_patience;
use super::{Face, Need, Subject};
use crate::known_differences::{Difference, difference};

/// One test: a named sentence about what an init does.
pub struct Behaviour {
    /// `theme::what_it_does`.
    pub name: &'static str,
    pub needs: &'static [Need],
    /// The faces whose command line it is about; empty when it is about every init.
    pub faces: &'static [Face],
    pub test: fn(Subject),
}

/// Defines tests and, so that none can be forgotten, the list of them.
///
/// `[needs; faces] fn name(subject) { … }`; the faces may be left out.
macro_rules! behaviours {
    ($( $(#[$doc:meta])* [$($need:expr),* $(; $($face:expr),+)?] fn $name:ident($subject:ident) $body:block )+) => {
        $( $(#[$doc])* fn $name($subject: $crate::support::Subject) $body )+

        /// Every test of this file.
        pub fn behaviours() -> Vec<$crate::support::Behaviour> {
            vec![$($crate::support::Behaviour {
                name: stringify!($name),
                needs: &[$($need),*],
                faces: &[$($($face),+)?],
                test: $name,
            }),+]
        }
    };
}
pub(crate) use behaviours;

/// The behaviours of one file.
type Theme = (&'static str, Vec<Behaviour>);

/// Runs the behaviours of all themes: those that every init can have, and those that only ours has.
pub fn run_all(every: Vec<Theme>, only_ours: Vec<Theme>) -> ExitCode {
    let arguments = Arguments::from_args();
    // The message goes into the test's report instead of the middle of other tests' lines.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let message = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        LAST_PANIC.set(format!("{place}: {message}"));
    }));
    let mut trials = Vec::new();
    for (theme, behaviours) in every {
        for behaviour in behaviours {
            for subject in subjects(&behaviour) {
                trials.push(trial(theme, &behaviour, subject));
            }
        }
    }
    let on_a_peer = matches!(Subject::from_environment(), Subject::Peer(_));
    for (theme, behaviours) in only_ours {
        for behaviour in behaviours {
            if on_a_peer {
                let ignored = Trial::test(format!("{theme}::{}", behaviour.name), || Ok(()));
                trials.push(
                    ignored.with_kind("not applicable: only grace-init has it").with_ignored_flag(true),
                );
            } else {
                trials.push(trial(theme, &behaviour, Subject::Ours));
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A test about a face runs on ours under that name and on the real one.
fn subjects(behaviour: &Behaviour) -> Vec<Subject> {
    let chosen = Subject::from_environment();
    if behaviour.faces.is_empty() {
        return vec![chosen];
    }
    let all = behaviour.faces.iter().flat_map(|&face| [Subject::OursAs(face), Subject::Peer(face)]);
    // Few machines have a docker-init, and it is tini.
    let all = all.filter(|&subject| subject != Subject::Peer(Face::DockerInit));
    match chosen {
        Subject::Peer(_) => all.filter(|&subject| subject == chosen).collect(),
        Subject::Ours | Subject::OursAs(_) => all.collect(),
    }
}

fn trial(theme: &str, behaviour: &Behaviour, subject: Subject) -> Trial {
    let (test, name) = (behaviour.test, behaviour.name);
    let full_name = match subject {
        Subject::Ours => format!("{theme}::{name}"),
        Subject::OursAs(_) | Subject::Peer(_) => format!("{theme}::{name} ({subject})"),
    };
    let mut needs = behaviour.needs.to_vec();
    if let Subject::Peer(face) = subject
        && subject != Subject::from_environment()
    {
        needs.push(Need::Program(face.name()));
    }
    let row = difference(name, subject);
    if let Some(Difference::NotApplicable(reason)) = row {
        return Trial::test(full_name, || Ok(()))
            .with_kind(format!("not applicable: {reason}"))
            .with_ignored_flag(true);
    }
    if let Some(reason) = needs.iter().find_map(|need| need.missing()) {
        let all = super::needs::everything_is_wanted();
        let failure = format!("this machine {reason}, and GRACE_INIT_TEST_ALL=1");
        return Trial::test(full_name, move || Err(Failed::from(failure)))
            .with_kind(reason)
            .with_ignored_flag(!all);
    }
    match row {
        Some(Difference::Differs(reason)) => {
            Trial::test(full_name, move || match with_little_patience(|| outcome(test, subject)) {
                Ok(()) => Err(Failed::from("the row in known_differences.rs is stale: the test passes")),
                Err(_) => Ok(()),
            })
            .with_kind(format!("known difference: {reason}"))
        }
        _ => Trial::test(full_name, move || outcome(test, subject)),
    }
}

fn outcome(test: fn(Subject), subject: Subject) -> Result<(), Failed> {
    catch_unwind(AssertUnwindSafe(|| test(subject))).map_err(|_| Failed::from(LAST_PANIC.take()))
}
