//! Fifty stops as a real kubelet and containerd ran them: the pod, and what happened to each of its containers when.
//!
//! A `.trace` file is a comment with what the case is about, `case` with why the pod stopped (and `grace` where the
//! deletion named one), `pod` with the spec as JSON, and then one event a line: seconds since the deletion was sent, the
//! container, and what happened to it.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// A recorded stop.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The file's name without its ending.
    pub name: String,
    /// Why the pod stopped: `delete`, `probe`, `deadline`, or `ends` for one whose main containers ended by themselves.
    pub case: String,
    /// The grace that the deletion named.
    pub grace: Option<u64>,
    /// The pod's spec.
    pub pod: Value,
    /// What happened, in its order.
    pub events: Vec<Event>,
}

/// Something that happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Since the deletion was sent.
    pub at: Duration,
    /// To whom.
    pub container: String,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The kubelet began the preStop hook.
    HookBegins,
    /// The hook was over, well or not.
    HookEnds,
    /// The hook had used up the grace.
    HookOverruns,
    /// The kubelet told the runtime to stop the container within this many seconds.
    Stops(u64),
    /// The runtime sent this signal.
    Signal(String),
    /// The runtime sent SIGKILL.
    Kill,
    /// The runtime was told that the container has ended.
    Ended,
    /// The command ended, and nobody had told it to.
    EndsItself,
    /// The container was started again.
    StartsAgain,
}

impl Trace {
    /// All recorded stops.
    pub fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubectl/traces");
        let mut paths: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "trace"));
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(path).unwrap();
        let mut trace = Self { name, case: String::new(), grace: None, pod: Value::Null, events: Vec::new() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(pod) = line.strip_prefix("pod ") {
                trace.pod = serde_json::from_str(pod).unwrap();
            } else if let Some(case) = line.strip_prefix("case ") {
                let mut words = case.split(' ');
                trace.case = words.next().unwrap().to_owned();
                trace.grace = words.nth(1).map(|grace| grace.parse().unwrap());
            } else {
                trace.events.push(Event::read(line).unwrap_or_else(|| panic!("{}: {line:?}", trace.name)));
            }
        }
        trace
    }

    /// The names of the containers in the pod's order, sidecars first, and whether each is one.
    pub fn containers(&self) -> Vec<(String, bool)> {
        let of = |key: &str| self.pod[key].as_array().cloned().unwrap_or_default();
        let all = [of("initContainers"), of("containers")].concat();
        all.iter()
            .map(|one| (one["name"].as_str().unwrap().to_owned(), one["restartPolicy"] == "Always"))
            .collect()
    }

    /// The stops that it holds: more than one where the container was started again. Each is from its first event on.
    pub fn stops(&self) -> Vec<Vec<Event>> {
        let parts = self.events.split(|event| event.what == What::StartsAgain);
        parts.filter(|events| !events.is_empty()).map(<[Event]>::to_vec).collect()
    }

    /// The grace that the kubelet worked with.
    pub fn effective_grace(&self) -> u64 {
        let own = &self.pod["containers"][0];
        let of_probe = |probe: &str| own[probe]["terminationGracePeriodSeconds"].as_u64();
        let probes = of_probe("livenessProbe").or_else(|| of_probe("startupProbe"));
        let of_probe = if self.case == "probe" { probes } else { None };
        self.grace.or(of_probe).or(self.pod["terminationGracePeriodSeconds"].as_u64()).unwrap()
    }
}

impl Event {
    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (at, container, what) = match words.as_slice() {
            [at, container, what @ ..] => (at, container, what),
            _ => return None,
        };
        let what = match what {
            ["hook-begins"] => What::HookBegins,
            ["hook-ends"] => What::HookEnds,
            ["hook-overruns"] => What::HookOverruns,
            ["stops", seconds] => What::Stops(seconds.parse().ok()?),
            ["signal", name] => What::Signal((*name).to_owned()),
            ["kill"] => What::Kill,
            ["ended"] => What::Ended,
            ["ends-itself"] => What::EndsItself,
            ["starts-again"] => What::StartsAgain,
            _ => return None,
        };
        Some(Self { at: Duration::from_secs_f64(at.parse().ok()?), container: (*container).to_owned(), what })
    }
}
