//! The kubelet's stop path without a kubelet, held against what a real one did.

use std::time::Duration;

use grace_init::kubectl::kubelet::{Ends, Moment, Subject, What as Modelled, stop};

use crate::traces::{Event, Trace, What};

/// How far a recorded moment may be from the modelled one: what the kubelet, the runtime and a busy machine needed.
const TOLERANCE: Duration = Duration::from_millis(300);

/// What the kubelet could not know, taken from the recording: how long the hook took, and when the container ended.
fn subjects(trace: &Trace, events: &[Event], start: Duration) -> Vec<Subject> {
    let subject = |(name, is_sidecar): (String, bool)| {
        let of = |wanted: &dyn Fn(&What) -> bool| {
            events
                .iter()
                .find(|event| event.container == name && wanted(&event.what))
                .map(|event| event.at - start)
        };
        let hook_ends = of(&|what| *what == What::HookEnds);
        let overruns = of(&|what| *what == What::HookOverruns);
        let ended = of(&|what| *what == What::Ended);
        let was_told = of(&|what| matches!(what, What::Signal(_))).is_some();
        let ends = match (of(&|what| *what == What::Kill), ended) {
            (None, Some(ended)) if was_told => Ends::At(ended),
            // The runtime had nobody to send a signal to: the container had ended with its hook, or before.
            (None, Some(_)) => Ends::At(hook_ends.unwrap_or_default()),
            (Some(_), _) | (None, None) => Ends::Never,
        };
        let is_gone = of(&|what| matches!(what, What::Stops(_))).is_none();
        Subject {
            name: name.clone(),
            is_sidecar,
            is_gone,
            hook: hook_ends.or(overruns.map(|_| Duration::MAX)),
            ends,
        }
    };
    trace.containers().into_iter().map(subject).collect()
}

fn modelled(what: &What) -> Option<Modelled> {
    Some(match what {
        What::HookBegins => Modelled::HookBegins,
        What::HookEnds => Modelled::HookEnds,
        What::HookOverruns => Modelled::HookOverruns,
        What::Stops(seconds) => Modelled::Stops { seconds: *seconds },
        What::Signal(_) => Modelled::Signal,
        What::Kill => Modelled::Kill,
        What::Ended | What::EndsItself | What::StartsAgain => return None,
    })
}

/// When the kubelet's own clock for this stop began: a restarted kubelet begins again.
fn start(events: &[Event]) -> Duration {
    let single = events.iter().all(|event| event.container == events[0].container);
    let hook = events.iter().rev().find(|event| single && event.what == What::HookBegins);
    hook.unwrap_or_else(|| events.iter().find(|event| modelled(&event.what).is_some()).unwrap()).at
}

#[test]
fn the_model_gives_the_recorded_order_and_times() {
    let traces = Trace::all();
    assert_eq!(traces.len(), 50);
    let mut compared = 0;
    let mut farthest = Duration::ZERO;
    for trace in &traces {
        for events in trace.stops() {
            let start = start(&events);
            let events: Vec<Event> = events
                .into_iter()
                .filter(|event| event.at >= start && event.what != What::EndsItself)
                .collect();
            let subjects = subjects(trace, &events, start);
            let moments: Vec<Moment> = stop(trace.effective_grace(), &subjects);
            let expected: Vec<(String, Modelled, Duration)> = events
                .iter()
                .filter_map(|event| Some((event.container.clone(), modelled(&event.what)?, event.at - start)))
                .collect();
            for (container, what, at) in &expected {
                let is_it =
                    |moment: &&Moment| subjects[moment.subject].name == *container && moment.what == *what;
                let moment = moments.iter().find(is_it);
                let moment = moment
                    .unwrap_or_else(|| panic!("{}: {container} {what:?} at {at:?}: {moments:?}", trace.name));
                let off = at.abs_diff(moment.at);
                assert!(
                    off <= TOLERANCE,
                    "{}: {container} {what:?} at {at:?}, modelled {:?}",
                    trace.name,
                    moment.at
                );
                farthest = farthest.max(off);
                compared += 1;
            }
            let count = moments.iter().filter(|moment| moment.what != Modelled::Ended).count();
            assert_eq!(count, expected.len(), "{}: {moments:?}", trace.name);
        }
    }
    assert!(compared > 200, "only {compared} moments");
    println!("{compared} moments, the farthest {farthest:?} off");
}
