//! Stops as Kubernetes runs them, on the double of the kubelet.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use crate::support::Need::PidNamespace;
use crate::support::kubelet::{Container, Deed, Event, Hook, Pod, RunningPod, Stopped, joined};
use crate::support::shutdown::let_pass;
use crate::support::trace::{End, Recorded, Trace, read_all};
use crate::support::{Subject, behaviours};

/// What ends a replayed container's first process, as the test sends it.
const END: i32 = 40;

/// How far the recorded times may be from those of a right double.
const TOLERANCE: Duration = Duration::from_millis(300);
/// How long containerd may take to notice that a container has gone.
const TEARDOWN: Duration = Duration::from_millis(600);
/// How much later something may be on a busy machine.
const NOISE: Duration = Duration::from_secs(1);

fn signal_number(name: &str) -> i32 {
    let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().expect("a signal");
    signal as i32
}

/// A pod whose processes do what those of a recorded one did.
fn replayed(trace: &Trace, init: Subject, second: Duration) -> RunningPod {
    let mut pod = Pod::new().second(second);
    if trace.shares_process_namespace {
        pod = pod.share_process_namespace();
    }
    for recorded in &trace.containers {
        let mut stage = init.in_pod().without_init();
        stage = match recorded.end {
            End::At(_, status) | End::AfterSignal(_, status) => stage.reporter(&["--exit-on", &format!("{END}={status}")]),
            End::Stubborn => stage.reporter(&[]),
        };
        let mut container = Container::new(&recorded.name, stage).stop_signal(signal_number(&recorded.stop_signal));
        if recorded.is_sidecar {
            container = container.sidecar();
        }
        if let Some(hook) = &recorded.hook {
            // Its second run waits for what the first one has begun.
            let takes = hook.takes.first().map_or(Duration::from_secs(3_600), |time| time.mul_f64(second.as_secs_f64()));
            let mut script = format!("sleep {}", takes.as_secs_f64());
            if let Some(again) = hook.takes.get(1) {
                script = format!("mkdir /run/again || {{ sleep {}; exit 0; }}; {script}", again.mul_f64(second.as_secs_f64()).as_secs_f64());
            }
            script += if hook.fails { "; exit 1" } else { "; exit 0" };
            container = container.hook(Hook::exec(["sh", "-c", &script]));
        }
        pod = pod.container(container);
    }
    let pod = pod.start();
    for recorded in &trace.containers {
        pod.container(&recorded.name).wait_for("ready");
    }
    pod
}

/// Ends the first process of a replayed container when it ended in the recording.
fn end(pod: &RunningPod, recorded: &Recorded, second: Duration) {
    let container = pod.container(&recorded.name);
    let real = |time: Duration| time.mul_f64(second.as_secs_f64());
    match recorded.end {
        End::Stubborn => return,
        End::At(at, _) => let_pass(real(at)),
        End::AfterSignal(after, _) => {
            container.wait_for(&format!("signal SIG{}", recorded.stop_signal));
            let_pass(real(after));
        }
    }
    container.signal_if_there(END);
}

/// Stops a replayed pod as the recorded one was stopped.
fn replay(trace: &Trace, init: Subject) -> Stopped {
    let is_long = trace.events.last().is_some_and(|event| event.at > Duration::from_secs(14));
    let second = Duration::from_millis(if is_long { 400 } else { 1000 });
    let pod = replayed(trace, init, second);
    std::thread::scope(|scope| {
        let mut stopping = pod.delete(trace.grace);
        for recorded in &trace.containers {
            let pod = &pod;
            scope.spawn(move || end(pod, recorded, second));
        }
        // A second deletion changes the pod's object; the kubelet's stop is on its way already.
        if let Some(at) = trace.kubelet_restart {
            stopping.wait_until(at);
            stopping.restart_kubelet(trace.grace);
        }
        stopping.wait()
    })
}

/// What differs between a recorded stop and ours.
fn difference(recorded: &[Event], ours: &Stopped) -> Option<String> {
    // The same deed is done twice when the kubelet was restarted.
    let numbered = |events: &[Event]| {
        let mut seen = HashMap::new();
        let mut number = |event: &Event| {
            let key = (event.container.clone(), event.deed.clone());
            let count = seen.entry(key.clone()).or_insert(0_usize);
            *count += 1;
            (key, *count)
        };
        events.iter().map(|event| (number(event), event.at)).collect::<Vec<_>>()
    };
    let (theirs, ours) = (numbered(recorded), numbered(&ours.0));
    let find = |key: &((String, Deed), usize)| ours.iter().position(|(other, _)| other == key);
    let mut places = Vec::new();
    for (key, at) in &theirs {
        let Some(place) = find(key) else {
            // containerd saw so late that the container had gone already.
            let gone = theirs.iter().find(|((of, _), _)| of.0 == key.0.0 && matches!(of.1, Deed::Gone(_)));
            let is_late = gone.is_some_and(|(_, gone)| gone.saturating_sub(*at) < TOLERANCE);
            if matches!(key.0.1, Deed::Signal(_)) && is_late {
                continue;
            }
            return Some(format!("{:?} was not done", key.0));
        };
        let ours = ours[place].1;
        let early = if matches!(key.0.1, Deed::Gone(_)) { TEARDOWN } else { TOLERANCE };
        if ours + early < *at || ours > *at + TOLERANCE + NOISE {
            return Some(format!("{:?} was done at {ours:?}, in the recording at {at:?}", key.0));
        }
        places.push((place, *at, key));
    }
    if let Some((key, _)) = ours.iter().find(|(key, _)| !theirs.iter().any(|(other, _)| other == key)) {
        return Some(format!("{:?} was done, and not in the recording", key.0));
    }
    let mut pairs = places.iter().enumerate().flat_map(|(number, first)| places[number..].iter().map(move |second| (first, second)));
    let swapped = pairs.find(|(first, second)| second.1 > first.1 + TOLERANCE && second.0 < first.0);
    swapped.map(|(first, second)| format!("{:?} was done before {:?}", second.2.0, first.2.0))
}

behaviours! {
    [PidNamespace]
    fn the_double_stops_pods_as_a_real_cluster_did(init) {
        let traces = read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/behaviour/traces"));
        assert!(traces.len() >= 50, "{}", traces.len());
        let failures: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = traces.iter().map(|trace| scope.spawn(move || {
                // A busy machine can make a hook a second longer.
                let tries = (0..3).map(|_| { let ours = replay(trace, init); (difference(&trace.events, &ours), ours) });
                let mut last = None;
                for (difference, ours) in tries {
                    last = difference.map(|difference| format!("{}: {difference}\n{ours}", trace.name));
                    if last.is_none() { break; }
                }
                last
            })).collect();
            threads.into_iter().filter_map(|thread| joined(thread.join())).collect()
        });
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}
