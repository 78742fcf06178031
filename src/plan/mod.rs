//! The one resolved plan of a run: everything that the user decided, checked, in types instead of words.

mod place;
mod step;
mod words;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use place::{GraceSource, Place};
pub use step::{Step, Work};
pub use words::{StepCommand, Word, split_words};

use crate::control::protocol::Until;
use crate::outcome::{ExitStatus, ZeroCodes};
use crate::signal::{Rewrites, Signal, SignalSet};

/// Everything that one run needs to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to run.
    pub command: CommandLine,
    /// Where the command stands among sessions and process groups.
    pub placement: Placement,
    /// Who gets a relayed signal.
    pub relay: RelayTo,
    /// What received signals become.
    pub rewrites: Rewrites,
    /// Whether to adopt the command's orphans when we are not PID 1.
    pub adopt: Adopt,
    /// Whether each orphan that is reaped is worth a warning (tini's `-w`).
    pub warn_of_orphans: bool,
    /// The signal to get when our own parent dies.
    pub parent_death_signal: Option<Signal>,
    /// The statuses to report as 0.
    pub zero_codes: ZeroCodes,
    /// What happens when the command ends, or when we are told to stop.
    pub shutdown: ShutdownPlan,
    /// Where the shutdown report goes.
    pub report: Report,
    /// Where the control socket is.
    pub control: Control,
    /// What is logged, and how.
    pub log: LogPlan,
    /// What to exit with when the command cannot be started.
    pub start_failure: StartFailure,
    /// Where we run, as the environment tells; the pod's termination log may tell of Kubernetes too.
    pub place: Place,
    /// Variables that children are not given: they configure this init, not another one below it.
    pub withheld_variables: Vec<String>,
    /// To be logged as warnings once the log is there.
    pub warnings: Vec<String>,
}

/// Which init a client talks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its PID in our PID namespace; without one it is PID 1, or whoever listens at a socket that is named itself.
    pub pid: Option<i32>,
    /// Where its control socket is.
    pub control: Control,
}

/// What a client is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientPlan {
    /// Ask for drain and chain, as a preStop hook, and wait until they are over.
    PreStop {
        /// Whom.
        target: Target,
    },
    /// Take a [`Self::PreStop`] back.
    Cancel {
        /// Whom.
        target: Target,
    },
    /// Ask for the shutdown and wait for it.
    Stop {
        /// Whom.
        target: Target,
        /// Until when.
        until: Until,
        /// For how long at the most; `None` is no limit.
        timeout: Option<Duration>,
    },
    /// Tell how it stands.
    Status {
        /// Who.
        target: Target,
        /// As JSON.
        json: bool,
    },
    /// Tell whether it is to get traffic.
    Ready {
        /// Who.
        target: Target,
        /// Whether it counts as ready until the command is told to stop.
        serving: bool,
    },
}

/// What a hook is to do.
#[derive(Clone, Debug)]
pub struct HookPlan {
    /// The shutdown's settings.
    pub run: Plan,
    /// The process that stands in the command's place.
    pub pid: i32,
    /// Whether it is stopped from here.
    pub stops: bool,
    /// Whether it is killed from here at the deadline.
    pub kills: bool,
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The program: a path, or a name to be looked up in `PATH`.
    pub program: OsString,
    /// Its arguments, without its own name.
    pub arguments: Vec<OsString>,
}

impl fmt::Display for CommandLine {
    /// Its words with spaces between them, for people: nothing is quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Path::new(&self.program).display().fmt(f)?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", Path::new(argument).display()))
    }
}

impl CommandLine {
    /// A command from its words; `None` when there are none.
    pub fn from_words(words: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut words = words.into_iter();
        Some(Self { program: words.next()?, arguments: words.collect() })
    }
}

/// Where the command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// It leads a session of its own and takes over our terminal.
    NewSession,
    /// It leads a process group of its own in our session, in the terminal's foreground (tini).
    NewGroup,
    /// It stays in our process group (`--single-child`).
    OurGroup,
}

/// Who gets a relayed signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayTo {
    /// The command's whole process group.
    Group,
    /// The command alone.
    MainChild,
}

/// Whether to become a child subreaper (prctl(2)) when we are not PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopt {
    /// Orphans become ours.
    Orphans,
    /// They go to whoever else is there.
    Nothing,
}

/// What to do with the command's other processes once it has ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// Wait for them: TERM, this long (`None`: for ever), then KILL.
    Wait(Option<Duration>),
    /// TERM to the command's group, then leave (dumb-init).
    TermAndLeave,
    /// Leave at once (tini).
    Leave,
}

/// The settings of the shutdown. Built by [`crate::cli`] only, which has checked that they fit together.
#[derive(Clone, Debug)]
pub struct ShutdownPlan {
    /// The time that the orchestrator gives; `None` is no deadline.
    pub grace: Option<Duration>,
    /// Where that comes from. Against a guess nothing is refused: `drain` and `stop_window` are cut to fit.
    pub grace_source: GraceSource,
    /// What was cut to fit a guessed grace; a warning when a stop begins.
    pub cut_to_fit: Option<String>,
    /// Kept back at the end of the grace for SIGKILL, reaping, post-stop and the report.
    pub reserve: Duration,
    /// How long to go on serving after the stop request.
    pub drain: Duration,
    /// Commands to run before the stop signal, in order.
    pub pre_stop: Vec<Step>,
    /// The bound on each step; `None` is what the chain has left.
    pub step_timeout: Option<Duration>,
    /// What a failed or overdue step does to the rest of the chain.
    pub after_failure: AfterFailure,
    /// The signals that stop the command, in order; empty: the one that was received.
    pub ladder: Vec<Rung>,
    /// What the command keeps between its stop signal and SIGKILL.
    pub stop_window: Duration,
    /// The received signals that begin the shutdown.
    pub stop_on: SignalSet,
    /// Whether `--stop-on` named them; by default INT is not one where we were started with it ignored.
    pub stop_on_given: bool,
    /// What becomes of the command's other processes once it has ended by itself.
    pub leftovers: Leftovers,
    /// Commands to run after everything has gone.
    pub post_stop: Vec<Step>,
}

impl ShutdownPlan {
    /// A shutdown that nothing but the command's own end begins, and that has no steps and no deadline: the
    /// whole of what the older inits do.
    pub fn relay_only(leftovers: Leftovers) -> Self {
        Self {
            grace: None,
            grace_source: GraceSource::None,
            cut_to_fit: None,
            reserve: Duration::ZERO,
            drain: Duration::ZERO,
            pre_stop: Vec::new(),
            step_timeout: None,
            after_failure: AfterFailure::Continue,
            ladder: Vec::new(),
            stop_window: Duration::ZERO,
            stop_on: SignalSet::default(),
            stop_on_given: false,
            leftovers,
            post_stop: Vec::new(),
        }
    }

    /// The time from the stop request to SIGKILL; `None` without a deadline.
    pub fn budget(&self) -> Option<Duration> {
        self.grace.map(|grace| grace.saturating_sub(self.reserve))
    }
}

/// What a failed or overdue step does to the rest of its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// The next step runs.
    Continue,
    /// The rest is left out.
    Skip,
}

/// One rung of the stop ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// What the command gets.
    pub signal: Signal,
    /// How long it has before the next rung; the last rung lasts until the deadline.
    pub wait: Option<Duration>,
}

/// Where the shutdown report goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// To the pod's termination log, or where other runtimes have one, when we are a container's first process.
    Default,
    /// To this file, if it exists.
    File(PathBuf),
    /// Nowhere.
    None,
}

/// Where the control socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// At the first usable of the usual places, when we are PID 1.
    Default,
    /// Here; or, if this is a directory, in it.
    At(PathBuf),
    /// Nowhere.
    None,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// The name that each line begins with.
    pub name: &'static str,
    /// The least important records that are shown.
    pub level: tracing::level_filters::LevelFilter,
    /// For people or for programs.
    pub format: LogFormat,
}

/// The form of a log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object on a line.
    Json,
}

/// Whose exit statuses tell that the command could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFailure {
    /// 127 not found, 126 not executable, 125 for what is no fault of the command.
    Ours,
    /// 127 not found, 126 denied, 1 for everything else.
    Tini,
    /// 2 when it cannot be executed, 1 for everything else.
    DumbInit,
}

/// Why the command could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There was no process, session or group to run it in.
    NoProcess,
    /// It was not found.
    NotFound,
    /// It may not be executed.
    Denied,
    /// It cannot be executed.
    NotExecutable,
}

impl StartFailure {
    /// The status to exit with.
    pub const fn status(self, cause: Cause) -> ExitStatus {
        match (self, cause) {
            (Self::Ours, Cause::NoProcess) => ExitStatus::OWN_FAILURE,
            (Self::Ours | Self::Tini, Cause::NotFound) => ExitStatus::NOT_FOUND,
            (Self::Ours, Cause::Denied | Cause::NotExecutable) | (Self::Tini, Cause::Denied) => {
                ExitStatus::NOT_EXECUTABLE
            }
            (Self::DumbInit, Cause::NotFound | Cause::Denied | Cause::NotExecutable) => ExitStatus::new(2),
            (Self::Tini, Cause::NotExecutable | Cause::NoProcess) | (Self::DumbInit, Cause::NoProcess) => {
                ExitStatus::new(1)
            }
        }
    }
}
