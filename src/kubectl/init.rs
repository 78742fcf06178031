//! What a container's first process and its hooks do, as the init's own command line and plan say it. Nothing else in the
//! plugin reads the init's options.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

use crate::cli::{self, Environment, Invocation};
use crate::plan::{
    AfterFailure, ClientPlan, CommandLine, Control, GraceSource, Plan, Report, ShutdownPlan, Step, Work,
};
use crate::signal::Signal;

use super::image::ImageConfig;
use super::input::Span;
use super::kubelet::Ends;
use super::pod::{At, Container, Handler};
use super::shell::{self, Script, base_name};

/// A stop request in *Prepared* always leaves the command this long on Kubernetes.
const AFTER_PREPARED: Duration = Duration::from_millis(1_600);
/// The subcommands; any other first word is a command to run.
const SUBCOMMANDS: [&str; 7] = ["pre-stop", "stop", "cancel", "status", "ready", "hook", "copy-to"];

/// What runs first in a container.
#[derive(Debug)]
pub enum FirstProcess {
    /// `grace-init`, with its settings.
    Grace(Box<GraceInit>),
    /// `grace-init`, and it refuses to start.
    Refused {
        /// Why.
        reason: String,
        /// Where it is written.
        span: Span,
    },
    /// dumb-init, tini or the like.
    OtherInit {
        /// Its name.
        name: String,
        /// What it runs.
        command: Vec<String>,
    },
    /// A shell with a script on its command line.
    Shell {
        /// The script, if it could be read.
        script: Option<Script>,
        /// Where it is written.
        span: Span,
    },
    /// Another program.
    Program(Vec<At<String>>),
    /// Whatever the image says.
    Unknown,
}

/// A `grace-init` that runs a command.
#[derive(Debug)]
pub struct GraceInit {
    /// Its plan.
    pub plan: Plan,
    /// What it would warn of at the start.
    pub warnings: Vec<String>,
    /// Where it is named.
    pub span: Span,
    /// Whether a value may come from somewhere that the manifest does not show.
    pub may_be_hidden: bool,
}

/// What a client of the init does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// `pre-stop`: drain and chain.
    PreStop,
    /// `stop`: the whole shutdown.
    Stop,
    /// `ready`.
    Ready {
        /// Whether it counts as ready until the command is told to stop.
        serving: bool,
    },
    /// `hook`: drain and chain without an init.
    Hook {
        /// What it waits for before it ends.
        plan: Box<HookTimes>,
        /// Whether it stops a process itself.
        stops: bool,
        /// That process.
        pid: i32,
    },
    /// Any other.
    Other,
    /// It refuses its options.
    Refused(String),
}

/// The times of a `grace-init hook`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookTimes {
    /// How long drain and chain take.
    pub time: Range,
    /// The time until its deadline; `None` is no deadline.
    pub budget: Option<Duration>,
}

/// A time that is known to lie between two bounds; `most` is `None` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Range {
    /// At least this.
    pub least: Duration,
    /// At most this.
    pub most: Option<Duration>,
}

impl Range {
    /// Exactly this.
    pub const fn exactly(time: Duration) -> Self {
        Self { least: time, most: Some(time) }
    }

    /// Whether it is one time.
    pub fn is_exact(self) -> bool {
        self.most == Some(self.least)
    }
}

/// The words that a container starts with, and their places; `None` if only the image knows them.
pub fn words(container: &Container, image: Option<&ImageConfig>) -> Option<Vec<At<String>>> {
    let place = container.image.as_ref().map_or(&container.name.span, |image| &image.span);
    let of_image = |words: &[String]| -> Vec<At<String>> {
        words.iter().map(|word| At { value: word.clone(), span: place.clone() }).collect()
    };
    let mut words = match (&container.command, image) {
        (Some(command), _) => {
            let mut words = command.clone();
            words.extend(container.args.iter().flatten().cloned());
            words
        }
        (None, Some(image)) => {
            let mut words = of_image(&image.entrypoint);
            match container.args.as_ref().filter(|args| !args.is_empty()) {
                Some(args) => words.extend(args.iter().cloned()),
                None => words.extend(of_image(&image.command)),
            }
            words
        }
        (None, None) => return None,
    };
    for word in &mut words {
        word.value = expand(&word.value, container);
    }
    (!words.is_empty()).then_some(words)
}

/// Replaces `$(NAME)` as the kubelet does: by literal values, `$$(` is an escape, unknown names stay as they are.
fn expand(text: &str, container: &Container) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        rest = after;
        if let Some(escaped) = after.strip_prefix('$') {
            done.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|tail| tail.split_once(')')) {
            match container.variable(name) {
                Some(value) => done.push_str(&value.value),
                None => done.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            done.push('$');
        }
    }
    done.push_str(rest);
    done
}

impl FirstProcess {
    /// What runs first in a container.
    pub fn of(container: &Container, image: Option<&ImageConfig>) -> Self {
        let Some(words) = words(container, image) else { return Self::Unknown };
        let texts: Vec<&str> = words.iter().map(|word| word.value.as_str()).collect();
        let Some(first) = words.first() else { return Self::Unknown };
        let name = base_name(&first.value);
        if name == "grace-init" {
            return Self::grace(container, image, &words, &first.span);
        }
        if is_other_init(name) {
            let command = match read(&words, container, image) {
                Ok(Invocation::Run(plan)) => command_words(&plan.command),
                Ok(_) | Err(_) => Vec::new(),
            };
            return Self::OtherInit { name: name.to_owned(), command };
        }
        if let Some(script) = shell::inline_script(&texts) {
            let span = words
                .iter()
                .find(|word| word.value == script)
                .map_or(first.span.clone(), |word| word.span.clone());
            return Self::Shell { script: Script::parse(script), span };
        }
        Self::Program(words)
    }

    fn grace(container: &Container, image: Option<&ImageConfig>, words: &[At<String>], span: &Span) -> Self {
        let hidden = RefCell::new(container.has_env_from);
        if container
            .env
            .iter()
            .any(|variable| variable.value.is_none() && variable.name.value.starts_with("GRACE_INIT_"))
        {
            *hidden.borrow_mut() = true;
        }
        // A word such as --grace=$(GRACE) whose value is not here cannot be judged.
        if words.iter().any(|word| word.value.contains("$(")) {
            return Self::Unknown;
        }
        match read(words, container, image) {
            Ok(Invocation::Run(plan)) => Self::Grace(Box::new(GraceInit {
                warnings: plan.warnings.clone(),
                plan: *plan,
                span: span.clone(),
                may_be_hidden: hidden.into_inner(),
            })),
            Ok(_) => Self::Program(words.to_vec()),
            Err(reason) => {
                let variable = container.env.iter().find(|variable| reason.contains(&variable.name.value));
                let word = words.iter().skip(1).find(|word| reason.contains(&format!("{:?}", word.value)));
                let place = variable.and_then(|variable| variable.value.as_ref()).or(word);
                Self::Refused { reason, span: place.map_or(span.clone(), |place| place.span.clone()) }
            }
        }
    }

    /// The init's settings, if it is ours.
    pub fn as_grace(&self) -> Option<&GraceInit> {
        match self {
            Self::Grace(init) => Some(init),
            Self::Refused { .. }
            | Self::OtherInit { .. }
            | Self::Shell { .. }
            | Self::Program(_)
            | Self::Unknown => None,
        }
    }
}

fn is_other_init(name: &str) -> bool {
    let release = name.strip_prefix("dumb-init_").or_else(|| name.strip_prefix("tini-"));
    release.is_some() || ["dumb-init", "tini", "docker-init", "podman-init", "catatonit"].contains(&name)
}

fn command_words(command: &CommandLine) -> Vec<String> {
    let words = std::iter::once(&command.program).chain(&command.arguments);
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

fn read(
    words: &[At<String>],
    container: &Container,
    image: Option<&ImageConfig>,
) -> Result<Invocation, String> {
    let mut variables: Vec<(String, String)> =
        vec![("KUBERNETES_SERVICE_HOST".to_owned(), "10.0.0.1".to_owned())];
    variables.extend(image.into_iter().flat_map(|image| image.environment.iter().cloned()));
    for variable in &container.env {
        variables.retain(|(name, _)| *name != variable.name.value);
        if let Some(value) = &variable.value {
            variables.push((variable.name.value.clone(), expand(&value.value, container)));
        }
    }
    let environment = Environment {
        variables: variables.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value))).collect(),
        is_first_process: true,
        ..Environment::default()
    };
    let words = words.iter().map(|word| OsString::from(&word.value)).collect();
    cli::read(words, &environment).map_err(|refusal| format!("{:#}", refusal.error))
}

/// What a command of hooks and probes asks of the init; `None` if it is not the init's client.
pub fn client(words: &[At<String>], container: &Container, image: Option<&ImageConfig>) -> Option<Client> {
    let (first, rest) = words.split_first()?;
    let subcommand = rest.first()?.value.as_str();
    if base_name(&first.value) != "grace-init" || !SUBCOMMANDS.contains(&subcommand) {
        return None;
    }
    Some(match read(words, container, image) {
        Ok(Invocation::Client(ClientPlan::PreStop { .. })) => Client::PreStop,
        Ok(Invocation::Client(ClientPlan::Stop { .. })) => Client::Stop,
        Ok(Invocation::Client(ClientPlan::Ready { serving, .. })) => Client::Ready { serving },
        Ok(Invocation::Client(ClientPlan::Status { .. } | ClientPlan::Cancel { .. })) => Client::Other,
        Ok(Invocation::Hook(hook)) => {
            let shutdown = &hook.run.shutdown;
            let plan = Box::new(HookTimes { time: drain_and_chain(shutdown), budget: shutdown.budget() });
            Client::Hook { plan, stops: hook.stops, pid: hook.pid }
        }
        Ok(
            Invocation::Run(_)
            | Invocation::Explain(_)
            | Invocation::CopyTo(_)
            | Invocation::Pause(_)
            | Invocation::Print(_),
        ) => Client::Other,
        Err(reason) => Client::Refused(reason),
    })
}

/// How long drain and chain take.
pub fn drain_and_chain(plan: &ShutdownPlan) -> Range {
    let limit = plan.budget().map(|budget| budget.saturating_sub(plan.stop_window));
    let mut least = plan.drain;
    let mut is_known = true;
    for step in &plan.pre_stop {
        match known_time(step) {
            Some(time) => {
                least = least.saturating_add(plan.step_timeout.map_or(time, |bound| time.min(bound)))
            }
            None => is_known = false,
        }
    }
    // A step that fails may end the chain, and with it what a later sleep would have taken.
    if !is_known && plan.after_failure == AfterFailure::Skip {
        least = plan.drain;
    }
    let least = limit.map_or(least, |limit| least.min(limit));
    Range { least, most: if is_known { Some(least) } else { limit } }
}

/// What only the clock decides.
fn known_time(step: &Step) -> Option<Duration> {
    match &step.work {
        Work::Builtin(builtin) => builtin.time(),
        Work::Signal(_) => Some(Duration::ZERO),
        Work::Program(_) => None,
    }
}

impl GraceInit {
    /// The grace that somebody told it; `None` where it is guessed, or there is no deadline.
    pub fn told_grace(&self) -> Option<Duration> {
        match self.plan.shutdown.grace_source {
            GraceSource::Guessed(_) => None,
            GraceSource::CommandLine | GraceSource::Variable(_) | GraceSource::None => {
                self.plan.shutdown.grace
            }
        }
    }

    /// Whether its grace is a guess.
    pub fn is_guessed(&self) -> bool {
        matches!(self.plan.shutdown.grace_source, GraceSource::Guessed(_))
    }

    /// Whether anything happens before the stop signal.
    pub fn has_preparation(&self) -> bool {
        !self.plan.shutdown.drain.is_zero() || !self.plan.shutdown.pre_stop.is_empty()
    }

    /// Whether this signal begins its shutdown.
    pub fn stops_on(&self, signal: Signal) -> bool {
        self.plan.shutdown.stop_on.contains(signal)
    }

    /// The report file, if one is named.
    pub fn report_path(&self) -> Option<&std::path::Path> {
        match &self.plan.report {
            Report::File(path) => Some(path),
            Report::Default | Report::None => None,
        }
    }

    /// The control socket, if one is named.
    pub fn control_path(&self) -> Option<&std::path::Path> {
        match &self.plan.control {
            Control::At(path) => Some(path),
            Control::Default | Control::None => None,
        }
    }

    /// The name of the program that it runs.
    pub fn program(&self) -> String {
        self.plan.command.program.to_string_lossy().into_owned()
    }

    /// When its container has ended at the latest.
    pub fn latest_end(&self, hook: bool) -> Ends {
        match self.plan.shutdown.budget().filter(|_| !self.is_guessed()) {
            None => Ends::Never,
            Some(budget) if hook => Ends::Deadline { from_start: budget, after_signal: AFTER_PREPARED },
            Some(budget) => Ends::AfterSignal(budget),
        }
    }
}

/// How long a hook takes, as far as it can be known; `None` if there is no hook.
pub fn hook_time(container: &Container, first: &FirstProcess, image: Option<&ImageConfig>) -> Option<Range> {
    let unknown = Range::default();
    Some(match &container.hook.as_ref()?.value {
        Handler::Sleep(seconds) => Range::exactly(seconds_of(seconds.value)),
        Handler::Http { .. } | Handler::Other => unknown,
        Handler::Exec(words) => match client(words, container, image) {
            Some(Client::PreStop) => {
                first.as_grace().map_or(unknown, |init| drain_and_chain(&init.plan.shutdown))
            }
            Some(Client::Stop) => first.as_grace().map_or(unknown, |init| Range {
                least: drain_and_chain(&init.plan.shutdown).least,
                most: init.plan.shutdown.budget().filter(|_| !init.is_guessed()),
            }),
            Some(Client::Hook { plan, stops: false, .. }) => plan.time,
            Some(Client::Hook { plan, stops: true, .. }) => {
                Range { least: plan.time.least, most: plan.budget }
            }
            Some(Client::Ready { .. } | Client::Other | Client::Refused(_)) => Range::exactly(Duration::ZERO),
            None => exec_time(words),
        },
    })
}

fn exec_time(words: &[At<String>]) -> Range {
    let texts: Vec<&str> = words.iter().map(|word| word.value.as_str()).collect();
    let texts = match texts.as_slice() {
        [program, rest @ ..] if base_name(program) == "busybox" => rest.to_vec(),
        _ => texts,
    };
    if let [program, time] = texts.as_slice()
        && base_name(program) == "sleep"
    {
        return shell::sleep_time(time).map_or(Range::default(), Range::exactly);
    }
    let sleeps = shell::inline_script(&texts).and_then(Script::parse).and_then(|script| script.sleeps());
    match sleeps {
        Some(sleeps) if sleeps.nothing_else => Range::exactly(sleeps.total),
        Some(sleeps) => Range { least: sleeps.total, most: None },
        None => Range::default(),
    }
}

/// Whole seconds, where less than none is none.
pub fn seconds_of(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
