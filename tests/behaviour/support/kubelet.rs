//! A test double of the kubelet's stop path and of the runtime below it.
//!
//! Containers are processes in namespaces of their own, as `stage` makes them. Hooks all start when the stop begins, from
//! outside of the PID namespace; the whole seconds that one took are taken off the grace; native sidecars wait for their
//! turn, which is taken off too; what is left, 2 s or more, lies between the stop signal and SIGKILL. A hook that overruns is
//! not cancelled. `kubelet::the_double_stops_pods_as_a_real_cluster_did` holds all of this against recorded stops.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::libc::{self, SIGKILL, SIGTERM};

use super::process::{self, wait_until};
use super::shutdown::let_pass;
use super::{LIMIT, Running, Stage, Subject, TemporaryDirectory, example};

/// What the kubelet raises every grace to, in seconds.
const MINIMUM_GRACE: u64 = 2;

/// Something that the kubelet or the runtime did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Since the stop began, in the kubelet's time.
    pub at: Duration,
    pub container: String,
    pub deed: Deed,
}

/// What it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Started the hook.
    Hook,
    /// Saw the hook end well.
    HookOver,
    /// Saw the hook end with a failure.
    HookFailed,
    /// Went on without the hook, which had used up the grace.
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

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// A container of a pod that is still to be started.
pub struct Container {
    name: String,
    stage: Stage,
    is_sidecar: bool,
    hook: Option<Hook>,
    stop_signal: i32,
    message_path: PathBuf,
}

/// A preStop hook.
#[derive(Clone)]
pub enum Hook {
    /// A command that runs in the container.
    Exec(Vec<OsString>),
    /// Nothing that runs in the container: a `sleep:` or an `httpGet:` hook that takes this long.
    Elsewhere(Duration),
}

impl Hook {
    /// An exec hook.
    pub fn exec<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Self {
        Self::Exec(words.into_iter().map(|word| word.as_ref().to_owned()).collect())
    }
}

impl Container {
    /// A main container whose first process is what `stage`, made by [`Subject::in_pod`], runs.
    pub fn new(name: &str, stage: Stage) -> Self {
        Self {
            name: name.to_owned(),
            stage,
            is_sidecar: false,
            hook: None,
            stop_signal: SIGTERM,
            message_path: "/dev/termination-log".into(),
        }
    }

    /// It is an init container with `restartPolicy: Always`.
    pub fn sidecar(mut self) -> Self {
        self.is_sidecar = true;
        self
    }

    /// Its preStop hook.
    pub fn hook(mut self, hook: Hook) -> Self {
        self.hook = Some(hook);
        self
    }

    /// Its preStop hook is a subcommand of the init with these words.
    pub fn init_hook(self, words: &[&str]) -> Self {
        let init = self.stage.init_path();
        self.hook(Hook::exec([init].into_iter().chain(words.iter().map(OsString::from))))
    }

    /// What the image or the pod names as the stop signal.
    pub fn stop_signal(mut self, signal: i32) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Nothing but `/dev/shm` and `/tmp` can be written to of the places for a socket.
    pub fn read_only_run(mut self) -> Self {
        self.stage = self.stage.staged(["--read-only-run"]);
        self
    }

    /// Its terminationMessagePath.
    pub fn message_path(mut self, path: &str) -> Self {
        self.message_path = path.into();
        self
    }
}

/// A pod that is still to be started.
#[derive(Default)]
pub struct Pod {
    containers: Vec<Container>,
    shares_process_namespace: bool,
    second: Option<Duration>,
}

impl Pod {
    /// One without containers.
    pub fn new() -> Self {
        Self::default()
    }

    /// One with a main container.
    pub fn of(container: Container) -> Self {
        Self::new().container(container)
    }

    /// Adds a container; sidecars in the order of their start.
    pub fn container(mut self, container: Container) -> Self {
        self.containers.push(container);
        self
    }

    /// `shareProcessNamespace: true`
    pub fn share_process_namespace(mut self) -> Self {
        self.shares_process_namespace = true;
        self
    }

    /// The kubelet's seconds are this long.
    pub fn second(mut self, length: Duration) -> Self {
        self.second = Some(length);
        self
    }

    /// Starts its containers.
    #[track_caller]
    pub fn start(self) -> RunningPod {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = TemporaryDirectory::new();
        // As the kubelet names it: the init finds its report's file by the last parts of this path.
        let uid = format!(
            "{:08x}-0d1e-4f00-8abc-{:012x}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let pod = directory.path().join("kubelet/pods").join(uid);
        let shm = pod.join("shm");
        make_directory(&shm);
        let pause = self.shares_process_namespace.then(|| {
            Subject::Ours.in_pod().without_init().command(["pause"]).staged(["--pid-namespace"]).start()
        });
        let containers = self.containers.into_iter().zip(0_u32..);
        let containers = containers
            .map(|(container, number)| container.start(&pod, &shm, number, pause.as_ref()))
            .collect();
        let shared = Shared {
            containers,
            stop: Mutex::new(Stop {
                generation: 0,
                began: Instant::now(),
                events: Vec::new(),
                gone: HashSet::new(),
            }),
            changed: Condvar::new(),
            second: self.second.unwrap_or(Duration::from_secs(1)),
        };
        RunningPod { shared: Arc::new(shared), _pause: pause, _directory: directory }
    }
}

impl Container {
    fn start(self, pod: &Path, shm: &Path, number: u32, pause: Option<&Running>) -> RunningContainer {
        let place = pod.join("containers").join(&self.name);
        make_directory(&place);
        let file = |name: &str, content: &str| {
            let path = place.join(name);
            std::fs::write(&path, content).expect("write a file");
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
                .expect("set its mode");
            path
        };
        let message = file(&format!("{:08x}", 0x51de_0000 + number), "");
        let bind = |from: &Path, to: &Path| {
            let mut word = from.as_os_str().to_owned();
            word.push("=");
            word.push(to);
            ["--bind".into(), word]
        };
        let mut stage = self.stage.staged([OsStr::new("--container"), shm.as_os_str()]);
        stage = stage.staged(bind(&message, &self.message_path));
        stage = match pause {
            None => stage.staged(["--pid-namespace"]),
            // A container has a cgroup of its own, which is how its first process knows PID 1 for a stranger.
            Some(pause) => stage
                .staged(["--pid-namespace-of".to_owned(), pause.pid().to_string()])
                .staged(bind(&file("cgroup", "0::/pause\n"), Path::new("/proc/1/cgroup"))),
        };
        let environment = stage.environment();
        let running = stage.start();
        RunningContainer {
            name: self.name,
            is_sidecar: self.is_sidecar,
            hook: self.hook,
            stop_signal: self.stop_signal,
            environment,
            message,
            running,
            clients: Mutex::default(),
        }
    }
}

fn make_directory(path: &Path) {
    std::fs::create_dir_all(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// A pod whose containers run.
pub struct RunningPod {
    shared: Arc<Shared>,
    _pause: Option<Running>,
    _directory: TemporaryDirectory,
}

struct Shared {
    containers: Vec<RunningContainer>,
    stop: Mutex<Stop>,
    /// Something was added to `stop`.
    changed: Condvar,
    second: Duration,
}

struct Stop {
    /// How often the kubelet was started: what an earlier one had begun it does not go on with.
    generation: u32,
    began: Instant,
    events: Vec<Event>,
    gone: HashSet<String>,
}

/// A container that runs.
pub struct RunningContainer {
    name: String,
    is_sidecar: bool,
    hook: Option<Hook>,
    stop_signal: i32,
    environment: Vec<(OsString, Option<OsString>)>,
    message: PathBuf,
    running: Running,
    /// The hooks that run.
    clients: Mutex<Vec<i32>>,
}

impl std::ops::Deref for RunningContainer {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl RunningContainer {
    /// What its termination message says.
    pub fn message(&self) -> String {
        String::from_utf8(std::fs::read(&self.message).expect("read the message"))
            .expect("the message is utf-8")
    }

    /// Runs a command in its namespaces from outside, as `kubectl exec`, probes and hooks do.
    pub fn exec<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        let mut command = Command::new(example("stage"));
        command.args(["--enter", &self.running.pid().to_string(), "--"]).args(words).stdin(Stdio::null());
        for (key, value) in &self.environment {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
    }

    /// The processes of the hooks that run, as seen from here; waits until there is one.
    #[track_caller]
    pub fn hook_processes(&self) -> Vec<i32> {
        let of_hooks = || -> Vec<i32> {
            let clients = self.clients.lock().expect("the hooks");
            clients.iter().flat_map(|&client| process::children(client)).collect()
        };
        wait_until("a hook runs", LIMIT, || !of_hooks().is_empty());
        of_hooks()
    }

    /// The exit status of its first process, which has ended.
    pub fn exit_status(&self) -> i32 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.running.pid())).unwrap_or_default();
        let status: i32 = stat.split_whitespace().last().and_then(|word| word.parse().ok()).unwrap_or(0);
        if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
    }
}

/// A container's mount namespace, by which all that is in the container is known, wherever its parent is: a runtime has the
/// cgroup for that. Held open, so that no other container gets its number.
struct MountNamespace(File);

impl MountNamespace {
    /// Zombies are in no namespace any more.
    fn of(pid: i32) -> Option<Self> {
        File::open(format!("/proc/{pid}/ns/mnt")).ok().map(Self)
    }

    fn number(&self) -> u64 {
        self.0.metadata().expect("look at a namespace").ino()
    }

    fn processes(&self) -> Vec<i32> {
        let wanted = self.number();
        let number = |pid: &str| std::fs::metadata(format!("/proc/{pid}/ns/mnt")).ok().map(|file| file.ino());
        assert_ne!(number("self"), Some(wanted), "that is no container's");
        let entries = std::fs::read_dir("/proc").into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok().filter(|_| number(&name) == Some(wanted))).collect()
    }

    fn kill_all(&self) {
        wait_until("the container is empty", LIMIT, || {
            let left = self.processes();
            for pid in &left {
                // SAFETY: the call takes its arguments by value.
                unsafe { libc::kill(*pid, SIGKILL) };
            }
            left.is_empty()
        });
    }
}

impl RunningPod {
    /// A container by its name.
    #[track_caller]
    pub fn container(&self, name: &str) -> &RunningContainer {
        let mut containers = self.shared.containers.iter();
        containers.find(|container| container.name == name).unwrap_or_else(|| panic!("no container {name}"))
    }

    /// The only container.
    pub fn only(&self) -> &RunningContainer {
        assert_eq!(self.shared.containers.len(), 1);
        &self.shared.containers[0]
    }

    /// Begins a stop of the whole pod, with this grace in seconds.
    pub fn delete(&self, grace: u64) -> Stopping {
        self.shared.begin(true);
        let all = 0..self.shared.containers.len();
        let threads = all.map(|container| self.shared.kill_container(container, grace, true)).collect();
        Stopping { shared: Arc::clone(&self.shared), threads }
    }

    /// Begins a stop of one container, because a probe failed, with this grace in seconds.
    #[track_caller]
    pub fn restart(&self, name: &str, grace: u64) -> Stopping {
        self.shared.begin(true);
        let place = self.shared.containers.iter().position(|container| container.name == name);
        let place = place.unwrap_or_else(|| panic!("no container {name}"));
        let threads = vec![self.shared.kill_container(place, grace, false)];
        Stopping { shared: Arc::clone(&self.shared), threads }
    }
}

/// A stop that is on its way.
pub struct Stopping {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Stopping {
    /// Waits until this much time of the kubelet's has passed since the stop began.
    pub fn wait_until(&self, at: Duration) {
        let began = self.shared.stop.lock().expect("the stop").began;
        let_pass(self.shared.real(at).saturating_sub(began.elapsed()));
    }

    /// The kubelet is killed and comes back: it begins every stop again, with the same grace.
    pub fn restart_kubelet(&mut self, grace: u64) {
        self.shared.begin(false);
        let all = 0..self.shared.containers.len();
        self.threads.extend(all.map(|container| self.shared.kill_container(container, grace, true)));
    }

    /// Waits until the kubelet or the runtime has done this to a container.
    #[track_caller]
    pub fn wait_for(&self, container: &str, deed: &Deed) {
        wait_until(&format!("{deed:?} of {container}"), LIMIT, || {
            let stop = self.shared.stop.lock().expect("the stop");
            stop.events.iter().any(|event| event.container == container && event.deed == *deed)
        });
    }

    /// Waits for the end; returns what was done, in order.
    #[track_caller]
    pub fn wait(self) -> Stopped {
        for thread in self.threads {
            joined(thread.join());
        }
        Stopped(std::mem::take(&mut self.shared.stop.lock().expect("the stop").events))
    }
}

/// Stops a pod, again if the machine stood still meanwhile.
#[track_caller]
pub fn undisturbed(stop: impl Fn() -> (RunningPod, Stopped)) -> (RunningPod, Stopped) {
    let mut attempts = (0..3).map(|_| stop()).filter(|(_, stopped)| !stopped.was_disturbed());
    attempts.next().unwrap_or_else(|| panic!("the machine stood still three times"))
}

/// What a thread returned; panics with its message where it panicked.
#[track_caller]
pub fn joined<T>(result: std::thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| panic!("{}", message_of(&*panic)))
}

/// What a panic said.
pub fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

/// What the kubelet and the runtime did, in order.
pub struct Stopped(pub Vec<Event>);

impl Stopped {
    /// When it did this to a container.
    pub fn when(&self, container: &str, deed: &Deed) -> Option<Duration> {
        self.0.iter().find(|event| event.container == container && event.deed == *deed).map(|event| event.at)
    }

    /// Whether the container was killed by the runtime.
    pub fn was_killed(&self, container: &str) -> bool {
        self.when(container, &Deed::Kill).is_some()
    }

    /// Whether a SIGKILL of the runtime's came late: the machine stood still, and what the init would have done before it tells
    /// nothing.
    pub fn was_disturbed(&self) -> bool {
        self.0.iter().filter(|event| event.deed == Deed::Kill).any(|kill| {
            let before = self.0.iter().filter(|event| event.container == kill.container);
            let mut told = before.filter_map(|event| {
                if let Deed::Stop(grace) = event.deed { Some((event.at, grace)) } else { None }
            });
            told.next_back().is_some_and(|(at, grace)| {
                kill.at > at + Duration::from_secs(grace) + Duration::from_millis(150)
            })
        })
    }

    /// The exit status of a container.
    #[track_caller]
    pub fn status(&self, container: &str) -> i32 {
        let of_it = self.0.iter().filter(|event| event.container == container);
        let status = of_it
            .filter_map(|event| if let Deed::Gone(status) = event.deed { Some(status) } else { None })
            .next_back();
        status.unwrap_or_else(|| panic!("{container} is not gone: {self}"))
    }
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|event| writeln!(f, "  {:8.3} {event}", event.at.as_secs_f64()))
    }
}

impl Shared {
    /// How long that much of the kubelet's time really takes.
    fn real(&self, time: Duration) -> Duration {
        time.mul_f64(self.second.as_secs_f64())
    }

    fn seconds(&self, seconds: u64) -> Duration {
        self.real(Duration::from_secs(seconds))
    }

    /// The whole seconds since `begin`.
    fn whole_seconds_since(&self, begin: Instant) -> u64 {
        begin.elapsed().div_duration_f64(self.second) as u64
    }

    fn begin(&self, is_first: bool) {
        let mut stop = self.stop.lock().expect("the stop");
        stop.generation += 1;
        if is_first {
            stop.began = Instant::now();
        }
    }

    fn note(&self, container: &RunningContainer, deed: Deed) {
        let mut stop = self.stop.lock().expect("the stop");
        let at = Duration::from_secs_f64(stop.began.elapsed().div_duration_f64(self.second));
        let event = Event { at, container: container.name.clone(), deed };
        let text = format!("kubelet: {event}");
        if let Deed::Gone(_) = event.deed {
            stop.gone.insert(container.name.clone());
        }
        stop.events.push(event);
        drop(stop);
        self.changed.notify_all();
        container.running.timeline().note(&text);
    }

    fn is_current(&self, generation: u32) -> bool {
        self.stop.lock().expect("the stop").generation == generation
    }

    /// What the kubelet does to stop a container.
    fn kill_container(
        self: &Arc<Self>,
        place: usize,
        grace: u64,
        is_ordered: bool,
    ) -> std::thread::JoinHandle<()> {
        let shared = Arc::clone(self);
        let generation = self.stop.lock().expect("the stop").generation;
        std::thread::spawn(move || {
            let container = &shared.containers[place];
            let mut left = grace;
            let mut hooks = Vec::new();
            if let (Some(hook), true) = (&container.hook, left > 0) {
                let (used, thread) = shared.run_hook(place, hook, left, generation);
                hooks.extend(thread);
                left = left.saturating_sub(used);
            }
            if shared.is_current(generation) {
                if is_ordered && left > 0 {
                    left = left.saturating_sub(shared.wait_for_turn(container, left));
                }
                shared.stop_container(container, left.max(MINIMUM_GRACE));
            }
            for hook in hooks {
                joined(hook.join());
            }
        })
    }

    /// Starts a hook and waits for it, `grace` seconds at most; returns the whole seconds that it used.
    fn run_hook(
        self: &Arc<Self>,
        place: usize,
        hook: &Hook,
        grace: u64,
        generation: u32,
    ) -> (u64, Option<std::thread::JoinHandle<()>>) {
        let container = &self.containers[place];
        self.note(container, Deed::Hook);
        let begin = Instant::now();
        let (over, ended) = channel();
        let (shared, hook) = (Arc::clone(self), hook.clone());
        let thread = std::thread::spawn(move || {
            let container = &shared.containers[place];
            let ended_well = shared.perform(container, &hook);
            // Of a hook that is overdue the kubelet tells only how it failed.
            let is_overdue = over.send(ended_well).is_err();
            if is_overdue && !ended_well && shared.is_current(generation) {
                shared.note(container, Deed::HookFailed);
            }
        });
        let deed = match ended.recv_timeout(self.seconds(grace)) {
            Ok(true) => Deed::HookOver,
            Ok(false) => Deed::HookFailed,
            Err(_) => Deed::HookOverdue,
        };
        drop(ended);
        if self.is_current(generation) {
            self.note(container, deed);
        }
        (self.whole_seconds_since(begin), Some(thread))
    }

    /// Runs a hook to its end; returns whether it ended well.
    fn perform(&self, container: &RunningContainer, hook: &Hook) -> bool {
        let words = match hook {
            Hook::Elsewhere(time) => {
                std::thread::sleep(self.real(*time));
                return true;
            }
            Hook::Exec(words) => words,
        };
        // What a hook says nobody sees, but for the kubelet's own log where it fails.
        let mut command = container.exec(words);
        let mut child: Child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start a hook");
        let pid = child.id().cast_signed();
        let timeline = container.running.timeline();
        if let Some(stdout) = child.stdout.take() {
            timeline.read_pipe("hook", stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            timeline.read_pipe("hook", stderr);
        }
        container.clients.lock().expect("the hooks").push(pid);
        let ended_well = child.wait().expect("wait for a hook").success();
        container.clients.lock().expect("the hooks").retain(|&client| client != pid);
        ended_well
    }

    /// Waits until a container may be told to stop, `grace` seconds at most; returns the whole seconds that this took.
    fn wait_for_turn(&self, container: &RunningContainer, grace: u64) -> u64 {
        let place = self.containers.iter().position(|other| other.name == container.name);
        let later =
            self.containers.iter().enumerate().filter(|&(number, other)| {
                container.is_sidecar && (!other.is_sidecar || Some(number) > place)
            });
        let before: Vec<&str> = later.map(|(_, other)| other.name.as_str()).collect();
        let (begin, limit) = (Instant::now(), self.seconds(grace));
        let mut stop = self.stop.lock().expect("the stop");
        while !before.iter().all(|name| stop.gone.contains(*name)) {
            let left = limit.saturating_sub(begin.elapsed());
            if left.is_zero() {
                break;
            }
            stop = self.changed.wait_timeout(stop, left).expect("the stop").0;
        }
        drop(stop);
        self.whole_seconds_since(begin)
    }

    /// What the runtime does to stop a container.
    fn stop_container(&self, container: &RunningContainer, grace: u64) {
        let namespace = MountNamespace::of(container.running.pid());
        self.note(container, Deed::Stop(grace));
        if !container.running.is_over() {
            let name = super::name(container.stop_signal);
            self.note(container, Deed::Signal(name.trim_start_matches("SIG").to_owned()));
            container.running.signal_if_there(container.stop_signal);
            if !container.running.ends_within(self.seconds(grace)) {
                self.note(container, Deed::Kill);
                process::send(container.running.pid(), SIGKILL);
            }
        }
        // What is left in a PID namespace that is shared.
        if let Some(namespace) = namespace {
            container.running.wait_until_over();
            namespace.kill_all();
        }
        self.note(container, Deed::Gone(container.exit_status()));
    }
}
