//! The kubelet's stop path without a kubelet, held against what a real one did.

use std::path::Path;
use std::time::Duration;

use grace_init::kubectl::kubelet::{Ends, Subject, What, stop};

use crate::trace::{Deed, End, Recorded, Trace, read_all};

/// How far a recorded moment may be from the modelled one: what the kubelet, the runtime and a busy machine needed.
const TOLERANCE: Duration = Duration::from_millis(300);

/// A recorded container as the model knows it: how long its hook takes and when it ends. `start` is when this run of the
/// kubelet began.
fn subject(recorded: &Recorded, start: Duration) -> Subject {
    let hook = recorded.hook.as_ref().map(|hook| hook.takes.last().copied().unwrap_or(Duration::MAX));
    let ends = match recorded.end {
        End::Stubborn => Ends::Never,
        End::At(at, _) => Ends::At(at.saturating_sub(start)),
        End::AfterSignal(after, _) => Ends::AfterSignal(after),
    };
    Subject { name: recorded.name.clone(), is_sidecar: recorded.is_sidecar, is_gone: false, hook, ends }
}

fn modelled(deed: &Deed) -> What {
    match deed {
        Deed::Hook => What::HookBegins,
        Deed::HookOver | Deed::HookFailed => What::HookEnds,
        Deed::HookOverdue => What::HookOverruns,
        Deed::Stop(seconds) => What::Stops { seconds: *seconds },
        Deed::Signal(_) => What::Signal,
        Deed::Kill => What::Kill,
        Deed::Gone(_) => What::Ended,
    }
}

/// The moments of one container that the model has, with their times; where a signal found nobody it may be left out.
fn events(trace: &Trace, name: &str, start: Duration) -> Vec<(Duration, What)> {
    let of_container = trace.events.iter().filter(|event| event.container == name && event.at >= start);
    let mut all: Vec<(Duration, What)> =
        of_container.map(|event| (event.at.saturating_sub(start), modelled(&event.deed))).collect();
    // A hook that overran ends with its container, which is no event of the kubelet's stop path.
    if all.iter().any(|(_, what)| *what == What::HookOverruns) {
        all.retain(|(_, what)| *what != What::HookEnds);
    }
    all
}

#[test]
fn the_model_gives_the_recorded_order_and_times() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/behaviour/traces");
    let traces = read_all(&directory);
    assert_eq!(traces.len(), 50);
    let (mut compared, mut farthest) = (0, Duration::ZERO);
    for trace in &traces {
        let start = trace.kubelet_restart.unwrap_or_default();
        let subjects: Vec<Subject> =
            trace.containers.iter().map(|recorded| subject(recorded, start)).collect();
        let moments = stop(trace.grace, &subjects);
        for (index, subject) in subjects.iter().enumerate() {
            let mut recorded = events(trace, &subject.name, start);
            let mut model: Vec<(Duration, What)> = moments
                .iter()
                .filter(|moment| moment.subject == index)
                .map(|moment| (moment.at, moment.what))
                .collect();
            // Of a container that ended before its turn the runtime tells only when it is asked.
            if !recorded.iter().any(|(_, what)| *what == What::Signal) {
                for all in [&mut recorded, &mut model] {
                    all.retain(|(_, what)| !matches!(what, What::Signal | What::Ended));
                }
            }
            let order = |all: &[(Duration, What)]| all.iter().map(|(_, what)| *what).collect::<Vec<What>>();
            assert_eq!(order(&model), order(&recorded), "{}: {}", trace.name, subject.name);
            for ((modelled, what), (at, _)) in model.iter().zip(&recorded) {
                let off = at.abs_diff(*modelled);
                // Reaping the container and telling of it took the runtime longer than the rest.
                let allowed = if *what == What::Ended { TOLERANCE * 2 } else { TOLERANCE };
                assert!(
                    off <= allowed,
                    "{}: {} {what:?} at {at:?}, modelled {modelled:?}",
                    trace.name,
                    subject.name
                );
                if *what != What::Ended {
                    farthest = farthest.max(off);
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 200, "only {compared} moments");
    println!("{compared} moments, the farthest but for ends {farthest:?} off");
}
