//! Stops of pods, recorded on a real cluster, in the format that `tests/behaviour/traces/README.md` describes.
//!
//! Depends on nothing but the standard library, so that other tests can include it.

use std::fmt;
use std::path::Path;
use std::time::Duration;

/// One recorded stop.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The file's name without its extension.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Seconds that this stop was given.
    pub grace: u64,
    pub shares_process_namespace: bool,
    /// When the pod was deleted a second time, and with which grace in seconds.
    pub second_deletion: Option<(Duration, u64)>,
    /// When the kubelet, killed in the hook, began the stop again.
    pub kubelet_restart: Option<Duration>,
    pub containers: Vec<Recorded>,
    pub events: Vec<Event>,
}

/// What a container did in a recorded stop.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    pub name: String,
    pub is_sidecar: bool,
    pub hook: Option<RecordedHook>,
    /// Without `SIG`.
    pub stop_signal: String,
    pub end: End,
}

/// What a preStop hook did in a recorded stop.
#[derive(Clone, Debug)]
pub struct RecordedHook {
    /// How long each of its runs took; empty when it runs until its container is gone.
    pub takes: Vec<Duration>,
    pub fails: bool,
}

/// How a container's first process ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// By SIGKILL alone.
    #[default]
    Stubborn,
    /// With this exit status so long after the stop began.
    At(Duration, i32),
    /// With this exit status so long after the stop signal.
    AfterSignal(Duration, i32),
}

/// Something that the kubelet or the runtime did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Since the stop began.
    pub at: Duration,
    pub container: String,
    pub deed: Deed,
}

/// What it did.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// Started the hook.
    Hook,
    /// The hook ended well.
    HookOver,
    /// The hook ended with a failure.
    HookFailed,
    /// The hook used up the grace.
    HookOverdue,
    /// Asked the runtime to stop the container, with so many seconds between signal and SIGKILL.
    Stop(u64),
    /// Sent the stop signal, here without `SIG`.
    Signal(String),
    /// Sent SIGKILL.
    Kill,
    /// Saw the container gone, with this exit status.
    Gone(i32),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ", self.at.as_secs_f64())?;
        let container = &self.container;
        match &self.deed {
            Deed::Hook => write!(f, "hook {container}"),
            Deed::HookOver => write!(f, "hook-over {container}"),
            Deed::HookFailed => write!(f, "hook-failed {container}"),
            Deed::HookOverdue => write!(f, "hook-overdue {container}"),
            Deed::Stop(seconds) => write!(f, "stop {container} {seconds}"),
            Deed::Signal(signal) => write!(f, "signal {container} {signal}"),
            Deed::Kill => write!(f, "kill {container}"),
            Deed::Gone(status) => write!(f, "gone {container} {status}"),
        }
    }
}

/// Every recorded stop in a directory, by name.
///
/// # Panics
/// When a file cannot be read or is not in the format.
pub fn read_all(directory: &Path) -> Vec<Trace> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("read a directory").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "trace"));
    files.sort();
    files.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Trace {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let mut trace = Trace { name, ..Trace::default() };
    let mut in_events = false;
    for (line, number) in text.lines().zip(1..) {
        let understood = if let Some(about) = line.strip_prefix("# ") {
            about.clone_into(&mut trace.about);
            Some(())
        } else if line == "events" {
            in_events = true;
            Some(())
        } else {
            let words: Vec<&str> = line.split_whitespace().collect();
            if in_events {
                event(&words).map(|event| trace.events.push(event))
            } else {
                input(&mut trace, &words)
            }
        };
        assert!(understood.is_some(), "{}:{number}: {line:?} is not understood", path.display());
    }
    trace
}

fn seconds(word: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(word.parse().ok()?).ok()
}

/// Reads a line before `events`.
fn input(trace: &mut Trace, words: &[&str]) -> Option<()> {
    match words {
        ["grace", grace] => trace.grace = grace.parse().ok()?,
        ["share-process-namespace"] => trace.shares_process_namespace = true,
        ["delete-again", at, grace] => trace.second_deletion = Some((seconds(at)?, grace.parse().ok()?)),
        ["kubelet-restart", at] => trace.kubelet_restart = Some(seconds(at)?),
        [kind @ ("container" | "sidecar"), name] => trace.containers.push(Recorded {
            name: (*name).to_owned(),
            is_sidecar: *kind == "sidecar",
            stop_signal: "TERM".to_owned(),
            ..Recorded::default()
        }),
        _ => about_container(trace.containers.last_mut()?, words)?,
    }
    Some(())
}

fn about_container(container: &mut Recorded, words: &[&str]) -> Option<()> {
    match words {
        ["hook", "until-gone"] => {
            container.hook = Some(RecordedHook { takes: Vec::new(), fails: true });
        }
        ["hook", times @ ..] => {
            let fails = times.last() == Some(&"fails");
            let times = times.iter().filter(|word| **word != "fails");
            let takes = times.map(|word| seconds(word)).collect::<Option<_>>()?;
            container.hook = Some(RecordedHook { takes, fails });
        }
        ["stop-signal", signal] => (*signal).clone_into(&mut container.stop_signal),
        ["ends", at, status] => container.end = End::At(seconds(at)?, status.parse().ok()?),
        ["ends", after, "after-signal", status] => {
            container.end = End::AfterSignal(seconds(after)?, status.parse().ok()?);
        }
        ["stubborn"] => container.end = End::Stubborn,
        _ => return None,
    }
    Some(())
}

fn event(words: &[&str]) -> Option<Event> {
    let [at, deed, container, rest @ ..] = words else { return None };
    let deed = match (*deed, rest) {
        ("hook", []) => Deed::Hook,
        ("hook-over", []) => Deed::HookOver,
        ("hook-failed", []) => Deed::HookFailed,
        ("hook-overdue", []) => Deed::HookOverdue,
        ("stop", [seconds]) => Deed::Stop(seconds.parse().ok()?),
        ("signal", [signal]) => Deed::Signal((*signal).to_owned()),
        ("kill", []) => Deed::Kill,
        ("gone", [status]) => Deed::Gone(status.parse().ok()?),
        _ => return None,
    };
    Some(Event { at: seconds(at)?, container: (*container).to_owned(), deed })
}
