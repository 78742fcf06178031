//! Stops as Kubernetes runs them, on the double of the kubelet.

use std::time::Duration;

use nix::libc::{SIGKILL, SIGUSR1};
use serde_json::Value;

use crate::manifests::{VALIDATOR, is_sidecar, manifests_in, pod, read, words};
use crate::support::Need::{PidNamespace, Program};
use crate::support::kubelet::{Container, Deed, Event, Hook, Pod, RunningContainer, RunningPod, Stopped, joined, message_of, undisturbed};
use crate::support::process::{send, wait_until};
use crate::support::shutdown::{Gate, let_pass};
use crate::traces::{self, Trace, What};
use crate::support::{LIMIT, Subject, TemporaryDirectory, Terminal, behaviours, example_file};

/// What ends a replayed container's first process, as the test sends it.
const END: i32 = 40;

/// A hook that runs until its container is gone.
const FOR_EVER: Duration = Duration::from_secs(3_600);
/// How far the recorded times may be from those of a right double.
const TOLERANCE: Duration = Duration::from_millis(300);
/// How long containerd may take to clear a container away: in the recordings up to 0.4 s.
const TEARDOWN: Duration = Duration::from_millis(600);
/// How much later something may be on a busy machine.
const NOISE: Duration = Duration::from_secs(1);

fn signal_number(name: &str) -> i32 {
    let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().expect("a signal");
    signal as i32
}

/// What a container did in a recorded stop.
struct Recorded<'a> {
    name: &'a str,
    is_sidecar: bool,
    /// How long each run of its hook took; as good as for ever where it was overdue.
    hook: Vec<Duration>,
    stop_signal: &'a str,
    end: End,
}

/// How its first process ended.
enum End {
    /// By SIGKILL alone.
    Stubborn,
    /// So long after the stop began.
    At(Duration),
    /// So long after the stop signal.
    AfterSignal(Duration),
}

impl<'a> Recorded<'a> {
    /// Nothing where it had ended before the stop.
    fn of(name: &'a str, is_sidecar: bool, events: &'a [traces::Event]) -> Option<Self> {
        let of_it = || events.iter().filter(move |event| event.container == name);
        let when = |what: &What| of_it().find(|event| event.what == *what).map(|event| event.at);
        let told = of_it().find(|event| matches!(event.what, What::Stops(_)))?.at;
        let hook_over = when(&What::HookEnds);
        let begins = of_it().filter(|event| event.what == What::HookBegins);
        let takes = |begins: &traces::Event| hook_over.map_or(FOR_EVER, |over| over - begins.at);
        let hook: Vec<Duration> = begins.map(takes).collect();
        let signal = of_it().find_map(|event| {
            if let What::Signal(signal) = &event.what { Some((event.at, signal.as_str())) } else { None }
        });
        let ended = when(&What::Ended).expect("a container that ended");
        let end = match signal {
            _ if when(&What::Kill).is_some() => End::Stubborn,
            Some((at, _)) if hook.is_empty() => End::AfterSignal(ended - at),
            // The hook had it end.
            Some(_) => End::At(ended),
            // Before its turn came, and not before its hook was over.
            None => End::At((hook_over.unwrap_or_default() + told) / 2),
        };
        Some(Self { name, is_sidecar, hook, stop_signal: signal.map_or("TERM", |(_, signal)| signal), end })
    }

    fn container(&self, init: Subject, real: impl Fn(Duration) -> Duration) -> Container {
        let stage = init.in_pod().without_init().reporter(&["--exit-on", &format!("{END}=0")]);
        let mut container = Container::new(self.name, stage).stop_signal(signal_number(self.stop_signal));
        if self.is_sidecar {
            container = container.sidecar();
        }
        let sleeps: Vec<String> = self.hook.iter().map(|time| format!("sleep {}", real(*time).as_secs_f64())).collect();
        match sleeps.as_slice() {
            [] => container,
            [only] => container.hook(Hook::exec(["sh", "-c", only])),
            [first, second, ..] => container.hook(Hook::exec(["sh", "-c", &format!("if mkdir /run/again; then {first}; else {second}; fi")])),
        }
    }

    /// Ends its first process when that ended in the recording.
    fn end(&self, pod: &RunningPod, real: impl Fn(Duration) -> Duration) {
        let container = pod.container(self.name);
        match self.end {
            End::Stubborn => return,
            End::At(at) => let_pass(real(at)),
            End::AfterSignal(after) => {
                container.wait_for(&format!("signal SIG{}", self.stop_signal));
                let_pass(real(after));
            }
        }
        container.signal_if_there(END);
    }
}

/// The first stop of a recording, from its beginning.
fn first_stop(trace: &Trace) -> Vec<traces::Event> {
    let mut events = trace.stops().swap_remove(0);
    events.retain(|event| event.what != What::EndsItself);
    // A deletion is at 0, and a probe's failure is not.
    let begin = if trace.case == "delete" { Duration::ZERO } else { events[0].at };
    for event in &mut events {
        event.at -= begin;
    }
    events
}

/// Stops a pod, whose processes do what those of a recorded one did, as that was stopped.
fn replay(trace: &Trace, events: &[traces::Event], init: Subject) -> Stopped {
    let is_long = events.last().is_some_and(|event| event.at > Duration::from_secs(14));
    let second = Duration::from_millis(if is_long { 400 } else { 1000 });
    let real = |time: Duration| time.mul_f64(second.as_secs_f64());
    let names = trace.containers();
    let recorded: Vec<Recorded> =
        names.iter().filter_map(|(name, is_sidecar)| Recorded::of(name, *is_sidecar, events)).collect();
    let pod = Pod::new().second(second);
    let shares = trace.pod["shareProcessNamespace"] == true;
    let pod = if shares { pod.share_process_namespace() } else { pod };
    let pod = recorded.iter().map(|recorded| recorded.container(init, real)).fold(pod, Pod::container).start();
    for recorded in &recorded {
        pod.container(recorded.name).wait_for("ready");
    }
    std::thread::scope(|scope| {
        let mut stopping = pod.delete(trace.effective_grace());
        for recorded in &recorded {
            let pod = &pod;
            scope.spawn(move || recorded.end(pod, real));
        }
        // A restarted kubelet runs the hook again.
        let again = events.iter().filter(|event| event.what == What::HookBegins && event.container == recorded[0].name).nth(1);
        if let Some(again) = again {
            stopping.wait_until(again.at);
            stopping.restart_kubelet(trace.effective_grace());
        }
        stopping.wait()
    })
}

/// What the recording calls that.
fn as_recorded(event: &Event, ours: &Stopped) -> Option<What> {
    Some(match &event.deed {
        Deed::Hook => What::HookBegins,
        // It tells no more of an overdue hook.
        Deed::HookFailed if ours.when(&event.container, &Deed::HookOverdue).is_some() => return None,
        Deed::HookOver | Deed::HookFailed => What::HookEnds,
        Deed::HookOverdue => What::HookOverruns,
        Deed::Stop(seconds) => What::Stops(*seconds),
        Deed::Signal(signal) => What::Signal(signal.clone()),
        Deed::Kill => What::Kill,
        Deed::Gone(_) => What::Ended,
    })
}

/// What differs between a recorded stop and ours.
fn difference(recorded: &[traces::Event], stopped: &Stopped) -> Option<String> {
    let ours = stopped.0.iter().filter_map(|event| {
        Some(traces::Event { at: event.at, container: event.container.clone(), what: as_recorded(event, stopped)? })
    });
    let mut ours: Vec<(usize, traces::Event)> = ours.enumerate().collect();
    let mut places = Vec::new();
    for event in recorded {
        let is_it = |(_, other): &(usize, traces::Event)| other.container == event.container && other.what == event.what;
        let Some(found) = ours.iter().position(is_it) else { return Some(format!("{event:?} did not happen")) };
        let (place, our) = ours.remove(found);
        let early = if event.what == What::Ended { TEARDOWN } else { TOLERANCE };
        if our.at + early < event.at || our.at > event.at + TOLERANCE + NOISE {
            return Some(format!("{event:?} happened at {:?}", our.at));
        }
        places.push((place, event));
    }
    if let Some((_, event)) = ours.first() {
        return Some(format!("{event:?} happened, and not in the recording"));
    }
    let mut pairs = places.iter().enumerate().flat_map(|(number, first)| places[number..].iter().map(move |second| (first, second)));
    let swapped = pairs.find(|(first, second)| second.1.at > first.1.at + TOLERANCE && second.0 < first.0);
    swapped.map(|(first, second)| format!("{:?} happened before {:?}", second.1, first.1))
}

/// What the command of a case does when it is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    /// Ends with 0.
    Obeying,
    /// Goes on.
    Stubborn,
}

use Command::{Obeying, Stubborn};

/// A stop of a pod with one container.
#[derive(Clone, Debug)]
struct Case {
    /// What the kubelet gives it, in seconds.
    grace: u64,
    /// What the init was told.
    told: String,
    command: Command,
    hook: TestHook,
    options: &'static [&'static str],
    stop_signal: &'static str,
    is_probe: bool,
}

/// The preStop hook of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TestHook {
    None,
    /// A subcommand of the init.
    Init(&'static str),
    /// Another program that takes so many seconds.
    Sleep(u64),
    /// Another program, which ends only with its container.
    Overrunning,
}

impl Case {
    /// The init was told the grace that it gets.
    fn new(grace: u64, command: Command, hook: TestHook) -> Self {
        let told = format!("{grace}s");
        Self { grace, told, command, hook, options: &[], stop_signal: "TERM", is_probe: false }
    }

    fn told(self, told: &str) -> Self {
        Self { told: told.to_owned(), ..self }
    }

    fn options(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    fn stop_signal(self, stop_signal: &'static str) -> Self {
        Self { stop_signal, ..self }
    }

    /// A probe failed: the stop has the probe's own grace.
    fn by_a_probe(self) -> Self {
        Self { is_probe: true, ..self }
    }

    fn container(&self, init: Subject) -> Container {
        let stage = init.in_pod().options(["--grace", &self.told]).options(self.options);
        let stage = match self.command {
            Obeying => stage.reporter(&["--exit-on", &format!("{}=0", self.stop_signal)]),
            Stubborn => stage.reporter(&[]),
        };
        let container = Container::new("c", stage).stop_signal(signal_number(self.stop_signal));
        match self.hook {
            TestHook::None => container,
            TestHook::Init(subcommand) => container.init_hook(&[subcommand]),
            TestHook::Sleep(seconds) if self.command == Obeying => {
                container.hook(Hook::Elsewhere(Duration::from_secs(seconds)))
            }
            TestHook::Sleep(seconds) => container.hook(Hook::exec(["sleep", &seconds.to_string()])),
            TestHook::Overrunning => container.hook(Hook::exec(["sleep", "3600"])),
        }
    }

    fn run(&self, init: Subject) -> Seen {
        let (pod, stopped) = undisturbed(|| {
            let pod = Pod::of(self.container(init)).start();
            pod.only().wait_for("ready");
            let stopping = if self.is_probe { pod.restart("c", self.grace) } else { pod.delete(self.grace) };
            let stopped = stopping.wait();
            (pod, stopped)
        });
        Seen { pod, stopped }
    }
}

/// A stop that is over.
struct Seen {
    pod: RunningPod,
    stopped: Stopped,
}

impl Seen {
    fn picture(&self) -> String {
        format!("message:\n{}\n{}", self.pod.only().message(), self.pod.only().timeline().picture())
    }

    /// The command got this signal before anybody killed it.
    #[track_caller]
    fn was_told(&self, signal: &str) {
        let timeline = self.pod.only().timeline();
        let told = format!("signal SIG{signal}");
        timeline.saw_times(&told, 1);
        if self.stopped.was_killed("c") {
            timeline.assert_order([told.as_str(), "kubelet: kill c"]);
        }
    }

    /// The command ended as it was told, and nothing went wrong.
    #[track_caller]
    fn ended_well(&self) {
        assert!(!self.stopped.was_killed("c"), "killed by the runtime\n{}", self.picture());
        assert_eq!(self.stopped.status("c"), 0, "{}", self.picture());
        assert_eq!(self.pod.only().message(), "", "{}", self.picture());
    }

    /// The init killed the command and told so before the runtime could kill the init.
    #[track_caller]
    fn was_killed_by_the_init(&self) {
        assert!(!self.stopped.was_killed("c"), "killed by the runtime\n{}", self.picture());
        assert_eq!(self.stopped.status("c"), 137, "{}", self.picture());
        self.has_message("KILLED by grace-init");
    }

    /// Its message begins so, and the page for who deploys tells what that means.
    #[track_caller]
    fn has_message(&self, beginning: &str) {
        let message = self.pod.only().message();
        assert!(message.starts_with(beginning), "{}", self.picture());
        let first = message.lines().next().unwrap_or_default();
        assert!(is_documented(first), "docs/kubernetes.md does not tell of {first:?}");
    }

    /// The runtime's SIGKILL came first, and what the init wrote when the stop began is there and true.
    #[track_caller]
    fn was_killed_by_the_runtime(&self, case: &Case) {
        assert!(self.stopped.was_killed("c"), "not killed by the runtime\n{}", self.picture());
        let message = self.pod.only().message();
        match case.hook {
            TestHook::Init(_) => assert!(message.starts_with("stopping since"), "{}", self.picture()),
            TestHook::None | TestHook::Sleep(_) | TestHook::Overrunning => self.has_message("stopping since"),
        }
        let begun_by = match case.hook {
            TestHook::Init(subcommand) => format!("by grace-init {subcommand}, "),
            TestHook::None | TestHook::Sleep(_) | TestHook::Overrunning => format!("by SIG{}, ", case.stop_signal),
        };
        for words in [begun_by.as_str(), &format!("grace {}", case.told), "killed before its deadline"] {
            assert!(message.contains(words), "no {words:?}\n{}", self.picture());
        }
    }
}

/// Whether docs/kubernetes.md has a message of this form in its table, with other numbers and names.
fn is_documented(line: &str) -> bool {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kubernetes.md"));
    let messages = page.lines().filter_map(|row| row.strip_prefix("| `")?.split_once('`')).map(|(message, _)| message);
    messages.map(|message| form(message.trim_end_matches("..."))).any(|message| form(line).starts_with(&message))
}

/// A message without its numbers, names, signals and quoted texts.
fn form(message: &str) -> String {
    let outside_quotes: Vec<&str> = message.split('"').step_by(2).collect();
    let is_variable = |word: &str| word.starts_with("SIG") || word.contains(|c: char| c.is_ascii_digit());
    let words = outside_quotes.join("#");
    let words = words.split_whitespace().map(|word| if is_variable(word) { "#" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// Runs all cases at once; a check that fails names its case.
#[track_caller]
fn check_all(init: Subject, cases: &[Case], check: impl Fn(&Case, &Seen) + Sync) {
    let failures: Vec<String> = std::thread::scope(|scope| {
        let check = &check;
        let threads: Vec<_> =
            cases.iter().map(|case| (case, scope.spawn(move || check(case, &case.run(init))))).collect();
        let outcomes = threads.into_iter().map(|(case, thread)| (case, thread.join()));
        let failed = outcomes.filter_map(|(case, outcome)| Some((case, outcome.err()?)));
        failed.map(|(case, panic)| format!("{case:?}: {}", message_of(&*panic))).collect()
    });
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

/// The graces for which time does not get long with a stubborn command.
const SHORT_GRACES: [u64; 5] = [12, 6, 3, 2, 1];

/// A case for each grace and command.
fn with_every_grace(hook: impl Fn(u64) -> TestHook) -> Vec<Case> {
    let obeying = [30, 12, 6, 3, 2, 1].map(|grace| Case::new(grace, Obeying, hook(grace)));
    let stubborn = SHORT_GRACES.map(|grace| Case::new(grace, Stubborn, hook(grace)));
    obeying.into_iter().chain(stubborn).collect()
}

/// Its share of the grace is what the recorded hooks had: 5, 4, 2 and 1 s.
fn sleep_within(grace: u64) -> TestHook {
    TestHook::Sleep((grace / 3).clamp(1, 5))
}

/// What a container of a manifest becomes here: the init as it is there, in front of a command that ends on any stop signal.
fn container_of(init: Subject, container: &Value, stop_signal: &str) -> Container {
    let ours = init.in_pod().init_path();
    let resolved = |word: &String| if word.ends_with("/grace-init") { ours.clone() } else { word.into() };
    let mut stage = init.in_pod();
    let command = words(&container["command"]);
    let [first, options @ .., end] = command.as_slice() else { panic!("no command: {container}") };
    assert!(first.ends_with("/grace-init") && end == "--", "{command:?}");
    stage = stage.options(options);
    for entry in container["env"].as_array().into_iter().flatten() {
        stage = stage.env(entry["name"].as_str().unwrap(), entry["value"].as_str().unwrap());
    }
    let stage = stage.reporter(&["--exit-on", &format!("{stop_signal}=0")]);
    let made = Container::new(container["name"].as_str().unwrap(), stage).stop_signal(signal_number(stop_signal));
    let made = if is_sidecar(container) { made.sidecar() } else { made };
    let hook = &container["lifecycle"]["preStop"];
    match hook["sleep"]["seconds"].as_u64() {
        Some(seconds) => made.hook(Hook::Elsewhere(Duration::from_secs(seconds))),
        None if hook["exec"].is_object() => made.hook(Hook::exec(words(&hook["exec"]["command"]).iter().map(resolved))),
        None => made,
    }
}

/// Stops the pod of a manifest, whose images have this STOPSIGNAL.
#[track_caller]
fn check_manifest(init: Subject, name: &str, pod: &Value, stop_signal: &str) {
    let all = ["initContainers", "containers"].map(|key| pod[key].as_array().into_iter().flatten());
    let all: Vec<&Value> = all.into_iter().flatten().filter(|container| container["command"][1] != "copy-to").collect();
    let made = all.iter().map(|container| container_of(init, container, stop_signal));
    let running = made.fold(Pod::new(), Pod::container).start();
    let names: Vec<&str> = all.iter().filter_map(|container| container["name"].as_str()).collect();
    for container in &names {
        running.container(container).wait_for("ready");
    }
    let stopped = running.delete(pod["terminationGracePeriodSeconds"].as_u64().unwrap()).wait();
    for container in names {
        let seen = running.container(container);
        let picture = format!("{name}, {stop_signal}, {container}:\n{stopped}{}\n{}", seen.message(), seen.timeline().picture());
        assert_eq!(seen.timeline().count(&format!("signal SIG{stop_signal}")), 1, "{picture}");
        assert!(!stopped.was_killed(container), "{picture}");
        assert_eq!((stopped.status(container), seen.message().as_str()), (0, ""), "{picture}");
        assert_eq!(seen.timeline().count("kubelet: hook-failed"), 0, "{picture}");
    }
}

/// Reads `841ms` or `4.77s`.
fn seconds(text: &str) -> Option<f64> {
    match text.strip_suffix("ms") {
        Some(milliseconds) => Some(milliseconds.parse::<f64>().ok()? / 1_000.0),
        None => text.strip_suffix('s')?.parse().ok(),
    }
}

/// Waits until a client sees the init of the only container drain.
#[track_caller]
fn wait_until_draining(pod: &RunningPod, init: Subject) {
    wait_until("the drain has begun", LIMIT, || phase(pod.only(), init).as_deref() == Some("drain"));
}

/// What a client in this container sees of its init.
fn phase(container: &RunningContainer, init: Subject) -> Option<String> {
    let words = [init.in_pod().init_path(), "status".into(), "--json".into()];
    let status = container.exec(words).output().expect("ask for the status");
    let status: Value = serde_json::from_slice(&status.stdout).ok()?;
    Some(status["phase"].as_str()?.to_owned())
}

/// Runs the hook by hand: no stop of the pod is on its way. Its chain succeeds.
#[track_caller]
fn prepare(container: &RunningContainer, init: Subject) {
    let hook = container.exec([init.in_pod().init_path(), "pre-stop".into()]).status();
    assert_eq!(hook.expect("run pre-stop").code(), Some(0), "{}", container.timeline().picture());
}

/// Two containers of a pod, each with a hook that reaches the init of its own container.
#[track_caller]
fn two_containers(init: Subject, pod: Pod, change: impl Fn(Container) -> Container) {
    let container = |name: &'static str, drain: &str, step: &str| {
        let stage = init.in_pod().options(["--grace", "12s", "--drain", drain, "--pre-stop", step]);
        change(Container::new(name, stage.reporter(&["--name", name, "--exit-on", "TERM=0"])).init_hook(&["pre-stop"]))
    };
    let pod = pod.container(container("a", "100ms", "true")).container(container("b", "2s", "false")).start();
    for name in ["a", "b"] {
        pod.container(name).wait_for("ready");
    }
    let stopped = pod.delete(12).wait();
    let picture = || ["a", "b"].map(|name| pod.container(name).timeline().picture()).concat();
    for name in ["a", "b"] {
        pod.container(name).timeline().saw_times("signal SIGTERM", 1);
        assert_eq!(stopped.status(name), 0, "{stopped}{}", picture());
    }
    // Its step fails, and the other's does not.
    assert!(stopped.when("a", &Deed::HookOver).is_some(), "{stopped}{}", picture());
    assert!(stopped.when("b", &Deed::HookFailed).is_some(), "{stopped}{}", picture());
    assert_eq!(pod.container("a").message(), "");
    assert!(pod.container("b").message().contains("false"), "{}", pod.container("b").message());
}

behaviours! {
    [PidNamespace]
    fn the_double_stops_pods_as_a_real_cluster_did(init) {
        let traces = Trace::all();
        assert!(traces.len() >= 50, "{}", traces.len());
        let failures: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = traces.iter().map(|trace| scope.spawn(move || {
                let events = first_stop(trace);
                // A busy machine can make a hook a second longer: then it is tried again.
                let mut differences = (0..3).map(|_| {
                    let ours = replay(trace, &events, init);
                    difference(&events, &ours).map(|difference| format!("{}: {difference}\n{ours}", trace.name))
                });
                let first = differences.next().flatten()?;
                differences.all(|difference| difference.is_some()).then_some(first)
            })).collect();
            threads.into_iter().filter_map(|thread| joined(thread.join())).collect()
        });
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    [PidNamespace]
    fn without_a_hook_the_command_is_told_and_only_the_init_kills_it(init) {
        check_all(init, &with_every_grace(|_| TestHook::None), |case, seen| {
            seen.was_told("TERM");
            match case.command {
                Obeying => seen.ended_well(),
                Stubborn => {
                    seen.was_killed_by_the_init();
                    // The kubelet raises 1 s to 2 s, of which a fifth is kept back.
                    if case.grace == 1 {
                        seen.pod.only().at_least(Duration::from_millis(1_500), "kubelet: signal c", "init over");
                    }
                }
            }
        });
    }

    [PidNamespace]
    fn after_pre_stop_the_command_is_told_and_only_the_init_kills_it(init) {
        let cases = with_every_grace(|_| TestHook::Init("pre-stop")).into_iter();
        let cases: Vec<Case> = cases.map(|case| case.options(&["--drain", "200ms", "--pre-stop", "@sleep 50ms"])).collect();
        check_all(init, &cases, |case, seen| {
            seen.was_told("TERM");
            assert!(seen.stopped.when("c", &Deed::HookOver).is_some(), "the hook failed\n{}", seen.picture());
            seen.pod.only().timeline().assert_order(["kubelet: hook-over c", "kubelet: signal c TERM", "signal SIGTERM"]);
            match case.command {
                Obeying => seen.ended_well(),
                Stubborn => seen.was_killed_by_the_init(),
            }
        });
    }

    [PidNamespace]
    fn stop_as_a_hook_ends_the_container_within_the_hook(init) {
        check_all(init, &with_every_grace(|_| TestHook::Init("stop")), |case, seen| {
            seen.was_told("TERM");
            match case.command {
                Obeying => {
                    assert!(seen.stopped.when("c", &Deed::HookOver).is_some(), "the hook failed\n{}", seen.picture());
                    seen.ended_well();
                }
                Stubborn => seen.was_killed_by_the_init(),
            }
        });
    }

    [PidNamespace]
    fn beside_a_foreign_hook_the_command_is_told_and_the_first_line_of_the_report_is_true(init) {
        let overrunning = [(6, Obeying), (6, Stubborn), (3, Obeying), (3, Stubborn), (2, Obeying), (2, Stubborn), (1, Obeying), (1, Stubborn)];
        let overrunning = overrunning.map(|(grace, command)| Case::new(grace, command, TestHook::Overrunning));
        let cases: Vec<Case> = with_every_grace(sleep_within).into_iter().chain(overrunning).collect();
        check_all(init, &cases, |case, seen| {
            seen.was_told("TERM");
            match (case.command, case.grace) {
                (Obeying, _) => seen.ended_well(),
                // The kubelet gives 2 s after any hook, and the init leaves off before these.
                (Stubborn, 1 | 2) => seen.was_killed_by_the_init(),
                (Stubborn, _) => seen.was_killed_by_the_runtime(case),
            }
        });
    }

    [PidNamespace]
    fn told_the_grace_less_a_foreign_hook_the_init_kills_first(init) {
        let cases = [(6, "4s"), (3, "2s")].map(|(grace, told)| Case::new(grace, Stubborn, sleep_within(grace)).told(told));
        check_all(init, &cases, |_, seen| {
            seen.was_told("TERM");
            seen.was_killed_by_the_init();
        });
    }

    [PidNamespace]
    fn a_shorter_deletion_cuts_drain_and_chain_and_the_command_is_told_at_once(init) {
        let cut: &[&str] = &["--drain", "20s"];
        let chain: &[&str] = &["--pre-stop", "@sleep 8s"];
        let cases: Vec<Case> = [5, 2, 1].into_iter().flat_map(|grace| [cut, chain].map(|options| (grace, options))).flat_map(|(grace, options)| {
            [Obeying, Stubborn].map(|command| Case::new(grace, command, TestHook::Init("pre-stop")).told("30s").options(options))
        }).collect();
        check_all(init, &cases, |case, seen| {
            seen.was_told("TERM");
            let timeline = seen.pod.only().timeline();
            timeline.assert_order(["kubelet: hook-overdue c", "kubelet: signal c TERM", "signal SIGTERM"]);
            let message = seen.pod.only().message();
            match case.command {
                Obeying => {
                    assert_eq!(seen.stopped.status("c"), 0, "{}", seen.picture());
                    seen.has_message("SIGTERM came after");
                }
                Stubborn => assert!(seen.stopped.was_killed("c"), "{}", seen.picture()),
            }
            let told = message.lines().find(|line| line.contains("SIGTERM came after")).unwrap_or_default();
            assert!(told.contains("of the 30s grace") && told.contains("cut off"), "{}", seen.picture());
            let after = told.split_once("came after ").and_then(|(_, rest)| seconds(rest.split_once(' ')?.0));
            let after = after.unwrap_or_else(|| panic!("after how much?\n{}", seen.picture()));
            // It counts from the moment when the hook reached it.
            let wanted = case.grace as f64;
            assert!((wanted - 0.9..wanted + 0.9).contains(&after), "after {after} s\n{}", seen.picture());
        });
    }

    [PidNamespace]
    fn a_shorter_deletion_without_a_hook_is_told_at_once_and_leaves_a_true_first_line(init) {
        let cases = [Obeying, Stubborn].map(|command| Case::new(3, command, TestHook::None).told("30s"));
        check_all(init, &cases, |case, seen| {
            seen.was_told("TERM");
            match case.command {
                Obeying => seen.ended_well(),
                Stubborn => seen.was_killed_by_the_runtime(case),
            }
        });
    }

    [PidNamespace]
    fn a_probes_own_grace_is_a_shorter_stop(init) {
        let cases: Vec<Case> = [TestHook::None, TestHook::Init("pre-stop")].into_iter().flat_map(|hook| {
            [Obeying, Stubborn].map(|command| Case::new(3, command, hook).told("30s").by_a_probe())
        }).collect();
        check_all(init, &cases, |case, seen| {
            seen.was_told("TERM");
            match case.command {
                Obeying => seen.ended_well(),
                Stubborn => seen.was_killed_by_the_runtime(case),
            }
        });
    }

    [PidNamespace]
    fn after_pre_stop_any_stop_signal_of_the_image_is_obeyed(init) {
        let cases = ["QUIT", "USR1", "WINCH", "HUP", "INT"].map(|signal| {
            Case::new(6, Obeying, TestHook::Init("pre-stop")).stop_signal(signal).options(&["--drain", "200ms"])
        });
        check_all(init, &cases, |case, seen| {
            seen.was_told(case.stop_signal);
            seen.ended_well();
        });
    }

    [PidNamespace]
    fn without_a_hook_a_foreign_stop_signal_that_skips_the_drain_is_reported(init) {
        let cases = ["QUIT", "USR1"].map(|signal| {
            Case::new(6, Obeying, TestHook::None).stop_signal(signal).options(&["--drain", "1s", "--pre-stop", "@sleep 10ms"])
        });
        check_all(init, &cases, |case, seen| {
            seen.was_told(case.stop_signal);
            assert_eq!(seen.stopped.status("c"), 0, "{}", seen.picture());
            seen.has_message(&format!("SIG{} is not in --stop-on", case.stop_signal));
        });
    }

    [PidNamespace]
    fn when_the_hooks_client_is_killed_the_command_is_told_at_once(init) {
        let case = Case::new(30, Obeying, TestHook::Init("pre-stop")).options(&["--drain", "20s"]);
        let pod = Pod::of(case.container(init)).start();
        pod.only().wait_for("ready");
        let stopping = pod.delete(case.grace);
        wait_until_draining(&pod, init);
        for process in pod.only().hook_processes() {
            send(process, SIGKILL);
        }
        let seen = Seen { stopped: stopping.wait(), pod };
        assert!(seen.stopped.when("c", &Deed::HookFailed).is_some(), "{}", seen.picture());
        seen.was_told("TERM");
        assert_eq!(seen.stopped.status("c"), 0, "{}", seen.picture());
        assert!(seen.pod.only().message().contains("SIGTERM came after"), "{}", seen.picture());
    }

    [PidNamespace]
    fn a_persons_stop_during_the_hook_leaves_the_drain_to_its_end(init) {
        let case = Case::new(30, Obeying, TestHook::Init("pre-stop")).options(&["--drain", "2s"]);
        let pod = Pod::of(case.container(init)).start();
        pod.only().wait_for("ready");
        let stopping = pod.delete(case.grace);
        wait_until_draining(&pod, init);
        let stop = pod.only().exec([init.in_pod().init_path(), "stop".into()]).status();
        let seen = Seen { stopped: stopping.wait(), pod };
        assert_eq!(stop.expect("run stop").code(), Some(0), "{}", seen.picture());
        seen.pod.only().at_least(Duration::from_millis(1_500), "kubelet: hook c", "signal SIGTERM");
        seen.was_told("TERM");
        seen.ended_well();
    }

    [PidNamespace]
    fn a_pre_stop_request_that_no_signal_follows_stops_5_s_after_the_grace(init) {
        let case = Case::new(2, Obeying, TestHook::None);
        let pod = Pod::of(case.container(init)).start();
        pod.only().wait_for("ready");
        pod.only().timeline().note("asked");
        prepare(pod.only(), init);
        pod.only().wait_for("signal SIGTERM");
        pod.only().at_least(Duration::from_millis(6_500), "asked", "signal SIGTERM");
        pod.only().wait_until_over();
    }

    [PidNamespace]
    fn a_command_that_ends_after_the_hook_takes_its_container_with_it(init) {
        let gate = Gate::new();
        let stage = init.in_pod().options(["--grace", "12s", "--pre-stop", "echo step runs"]).gate(&gate);
        let stage = stage.shell_post_step("echo post-stop runs");
        let pod = Pod::of(Container::new("c", stage.shell("echo ready; read line < $gate; exit 7"))).start();
        let container = pod.only();
        container.wait_for("ready");
        prepare(container, init);
        assert_eq!(phase(container, init).as_deref(), Some("prepared"));
        container.timeline().note("the command may end");
        gate.open();
        container.wait_until_over();
        container.timeline().assert_order(["step runs", "the command may end", "post-stop runs", "init over"]);
        assert_eq!(container.exit_status(), 7, "{}", container.timeline().picture());
        // All of it went well: nothing for whoever is on call.
        assert_eq!(container.message(), "");
    }

    [PidNamespace]
    fn a_window_that_is_resized_after_the_hook_stops_nothing(init) {
        // With `-c` the init is in the terminal's foreground group, so that the kernel signals it as well.
        let stage = init.in_pod().single_child().options(["--grace", "12s"]).on_terminal(Terminal::new());
        let pod = Pod::of(Container::new("c", stage.reporter(&["--exit-on", "USR1=5"]))).start();
        let container = pod.only();
        container.wait_for("ready");
        prepare(container, init);
        container.terminal().resize(40, 120);
        container.wait_for("signal SIGWINCH ");
        assert_eq!(phase(container, init).as_deref(), Some("prepared"));
        // Any signal from outside is the stop, and is what the command is told.
        container.signal(SIGUSR1);
        container.wait_until_over();
        container.timeline().saw_times("signal SIGWINCH ", 1);
        assert_eq!(container.exit_status(), 5, "{}", container.timeline().picture());
    }

    [PidNamespace]
    fn a_hook_that_a_restarted_kubelet_runs_again_joins_the_first(init) {
        let case = Case::new(8, Obeying, TestHook::Init("pre-stop")).options(&["--drain", "2s", "--pre-stop", "touch /run/once"]);
        let pod = Pod::of(case.container(init)).start();
        pod.only().wait_for("ready");
        let mut stopping = pod.delete(case.grace);
        wait_until_draining(&pod, init);
        stopping.restart_kubelet(case.grace);
        let seen = Seen { stopped: stopping.wait(), pod };
        seen.pod.only().timeline().saw_times("kubelet: hook c", 2);
        assert!(seen.stopped.when("c", &Deed::HookOver).is_some(), "{}", seen.picture());
        seen.was_told("TERM");
        seen.ended_well();
    }

    [PidNamespace]
    fn a_sidecar_serves_until_the_main_container_has_ended(init) {
        let main = init.in_pod().options(["--grace", "12s"]).reporter(&["--linger", "2s"]);
        let side = init.in_pod().options(["--grace", "12s", "--drain", "200ms"]).reporter(&["--exit-on", "TERM=0"]);
        let pod = Pod::new()
            .container(Container::new("side", side).sidecar().init_hook(&["pre-stop"]))
            .container(Container::new("main", main).init_hook(&["pre-stop"]))
            .start();
        for name in ["side", "main"] {
            pod.container(name).wait_for("ready");
        }
        let stopping = pod.delete(12);
        stopping.wait_for("side", &Deed::HookOver);
        pod.container("main").wait_for("cleanup begins");
        let serving = pod.container("side").exec([init.in_pod().init_path().to_str().unwrap(), "ready", "--serving"]).status();
        assert!(serving.unwrap().success(), "{}", pod.container("side").timeline().picture());
        pod.container("side").timeline().never_saw("signal SIGTERM");
        let stopped = stopping.wait();
        pod.container("side").timeline().saw_times("signal SIGTERM", 1);
        for name in ["side", "main"] {
            assert_eq!((stopped.status(name), pod.container(name).message().as_str()), (0, ""), "{stopped}");
        }
        assert!(stopped.when("main", &Deed::Gone(0)) <= stopped.when("side", &Deed::Signal("TERM".to_owned())), "{stopped}");
    }

    [PidNamespace]
    fn a_sidecar_that_is_signalled_at_the_very_end_has_its_2_seconds(init) {
        let names = [Obeying, Stubborn];
        std::thread::scope(|scope| {
            let threads = names.map(|command| scope.spawn(move || {
                let (pod, stopped) = undisturbed(|| {
                    // No init: it has the pod's whole grace.
                    let main = init.in_pod().without_init().reporter(&[]);
                    let side = init.in_pod().options(["--grace", "4s", "--drain", "200ms"]);
                    let side = if command == Obeying { side.reporter(&["--exit-on", "TERM=0"]) } else { side.reporter(&[]) };
                    let pod = Pod::new()
                        .container(Container::new("side", side).sidecar().init_hook(&["pre-stop"]))
                        .container(Container::new("main", main))
                        .start();
                    for name in ["side", "main"] {
                        pod.container(name).wait_for("ready");
                    }
                    let stopped = pod.delete(4).wait();
                    (pod, stopped)
                });
                let side = pod.container("side");
                let picture = format!("{stopped}{}\n{}", side.message(), side.timeline().picture());
                assert!(stopped.when("side", &Deed::Stop(2)).is_some(), "{picture}");
                side.timeline().saw_times("signal SIGTERM", 1);
                assert!(!stopped.was_killed("side"), "{picture}");
                match command {
                    Obeying => assert_eq!((stopped.status("side"), side.message().as_str()), (0, ""), "{picture}"),
                    Stubborn => {
                        assert_eq!(stopped.status("side"), 137, "{picture}");
                        assert!(side.message().starts_with("KILLED by grace-init"), "{picture}");
                    }
                }
            }));
            for thread in threads {
                joined(thread.join());
            }
        });
    }

    [PidNamespace]
    fn in_a_shared_process_namespace_each_hook_finds_its_own_init(init) {
        two_containers(init, Pod::new().share_process_namespace(), |container| container);
    }

    [PidNamespace]
    fn with_a_shared_dev_shm_each_hook_finds_its_own_init(init) {
        two_containers(init, Pod::new(), Container::read_only_run);
    }

    [PidNamespace]
    fn with_both_shared_each_hook_finds_its_own_init(init) {
        two_containers(init, Pod::new().share_process_namespace(), Container::read_only_run);
    }

    [PidNamespace]
    fn the_report_is_where_the_pod_wants_its_termination_message(init) {
        let stage = init.in_pod().options(["--grace", "2s"]).reporter(&[]);
        let pod = Pod::of(Container::new("c", stage).message_path("/run/last words")).start();
        pod.only().wait_for("ready");
        let seen = Seen { stopped: pod.delete(2).wait(), pod };
        seen.was_killed_by_the_init();
    }

    [PidNamespace]
    fn a_failed_step_fails_the_hook_and_is_reported(init) {
        let cases = [
            Case::new(6, Obeying, TestHook::Init("pre-stop")).options(&["--pre-stop", "false"]),
            Case::new(6, Obeying, TestHook::Init("pre-stop")).options(&["--pre-stop", "sleep 3600", "--pre-stop-timeout", "300ms"]),
        ];
        check_all(init, &cases, |_, seen| {
            assert!(seen.stopped.when("c", &Deed::HookFailed).is_some(), "{}", seen.picture());
            seen.was_told("TERM");
            assert_eq!(seen.stopped.status("c"), 0, "{}", seen.picture());
            seen.has_message("pre-stop step 1");
        });
    }

    [PidNamespace]
    fn probes_see_a_drain_and_that_it_was_cancelled(init) {
        let case = Case::new(30, Obeying, TestHook::Init("pre-stop")).options(&["--drain", "20s"]);
        let pod = Pod::of(case.container(init)).start();
        pod.only().wait_for("ready");
        let program = init.in_pod().init_path();
        let exec = |words: &[&str]| pod.only().exec([program.clone()].into_iter().chain(words.iter().map(Into::into)));
        let probe = |words: &[&str]| exec(words).status().expect("run a probe").code();
        assert_eq!((probe(&["ready"]), probe(&["ready", "--serving"])), (Some(0), Some(0)));
        let mut client = exec(&["pre-stop"]).spawn().expect("run pre-stop");
        wait_until_draining(&pod, init);
        assert_eq!((probe(&["ready"]), probe(&["ready", "--serving"])), (Some(1), Some(0)));
        assert_eq!(probe(&["cancel"]), Some(0));
        client.wait().expect("wait for pre-stop");
        assert_eq!((probe(&["ready"]), probe(&["ready", "--serving"])), (Some(0), Some(0)));
        pod.only().timeline().never_saw("signal SIGTERM");
    }

    [PidNamespace, Program(VALIDATOR)]
    fn every_manifest_of_the_page_on_kubernetes_stops_well_with_any_stop_signal(init) {
        let directory = TemporaryDirectory::new();
        let mut manifests = manifests_in("docs/kubernetes.md", &directory);
        manifests.push(("sidecar.yaml".to_owned(), example_file("kubernetes/sidecar.yaml")));
        assert!(manifests.len() >= 5, "{manifests:?}");
        std::thread::scope(|scope| {
            let threads: Vec<_> = manifests.iter().flat_map(|(name, path)| {
                let manifest = read(path);
                // Without our hook only a signal of --stop-on begins a drain; here there is none to skip.
                ["TERM", "QUIT", "USR1"].map(|signal| {
                    let manifest = manifest.clone();
                    scope.spawn(move || check_manifest(init, name, pod(&manifest), signal))
                })
            }).collect();
            for thread in threads {
                joined(thread.join());
            }
        });
    }
}
