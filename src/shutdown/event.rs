//! What goes into the machine and what comes out of it.

use std::fmt;

use super::history::{StepEnd, StopRequest, Trigger};
use crate::outcome::{ExitStatus, Outcome};
use crate::signal::{Queued, Sender, Signal, SignalSet};

/// A signal that we received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which one.
    pub signal: Signal,
    /// Who sent it.
    pub sender: Sender,
    /// Whether the sender counts as outside the container ([`Sender::is_outside`]): an orchestrator, not one of ours.
    pub from_outside: bool,
    /// What was queued with it.
    pub queued: Option<Queued>,
    /// The terminal sent it to the command as well.
    pub command_has_it: bool,
}

/// What the machine needs to know about where it runs. None of it changes after the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// The kubelet stops us: `KUBERNETES_SERVICE_HOST` is set, or a pod's termination log is mounted.
    pub on_kubernetes: bool,
    /// We are a container's first process.
    pub is_first_process: bool,
    /// We have a controlling terminal.
    pub has_terminal: bool,
    /// The signals that were ignored when we were started, by `nohup` or a shell's `&` for example.
    pub ignored_at_start: SignalSet,
}

/// A step of one of the two chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepId {
    /// Which chain.
    pub chain: Chain,
    /// Its place in the chain, from 0.
    pub index: usize,
    /// Which run of the chain, from 0: a cancelled pre-stop request may be followed by another one while steps of the
    /// first are still ending.
    pub run: u32,
}

impl StepId {
    /// The number that people count it by, from 1.
    pub fn number(self) -> u64 {
        u64::try_from(self.index).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// The phase that it runs in.
    pub const fn phase(self) -> Phase {
        match self.chain {
            Chain::PreStop => Phase::PreStop,
            Chain::PostStop => Phase::PostStop,
        }
    }
}

/// Why a pre-stop request cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotCancel {
    /// There is none.
    NothingAsked,
    /// A stop was asked for, so the command is told to stop, or was.
    StopAsked,
    /// The command has ended.
    CommandEnded,
}

impl fmt::Display for CannotCancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingAsked => "there is no pre-stop request to cancel",
            Self::StopAsked => "a stop was requested; only a pre-stop request can be cancelled",
            Self::CommandEnded => "the command has already ended",
        })
    }
}

/// What a process was that got SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The command itself.
    Command,
    /// A process of this step.
    Step(StepId),
    /// Any other process of ours.
    Other,
}

/// The two chains of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Before the stop signal.
    PreStop,
    /// After everything has gone.
    PostStop,
}

/// What happened. Events of one turn of the loop are given with the same time, in this order: [`Self::NoChildren`], then
/// the ends of processes, then signals, then requests, [`Self::Tick`] last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A signal came.
    Received(Received),
    /// This process asked for drain and chain by `grace-init pre-stop`. Give one for each request, repeated ones too.
    PreStopAsked(Sender),
    /// This process asked for the whole shutdown by `grace-init stop`.
    StopAsked(Sender),
    /// This process wants its, or another's, `pre-stop` taken back. [`Shutdown::cancellable`] says beforehand whether
    /// this will do anything; where it will not, the event changes nothing.
    CancelAsked(Sender),
    /// The command ended.
    MainEnded(Outcome),
    /// A step's own process ended, or could not be started.
    StepEnded(StepId, StepEnd),
    /// Waiting for children has failed with ECHILD: none is left.
    NoChildren {
        /// What [`Shutdown::starts`] returned before that wait. A step that was started since is not counted in, so the
        /// event is ignored if the number is no longer the same.
        starts: u64,
    },
    /// The answer to [`Action::CountDescendants`].
    Counted {
        /// How many descendants there are.
        descendants: usize,
    },
    /// The turn is over: no child is left if that was said, and the timers that are due are worked off.
    Tick,
}

/// What the runner is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to the command's group, or with `--single-child` to the command; received as the other.
    Relay(Signal, Received),
    /// Suspend ourselves, as a job does that got a stop from its terminal.
    SuspendSelf,
    /// Send a stop signal to the command's group, or with `--single-child` to the command.
    Stop(Signal),
    /// Continue whatever of ours is suspended, so that it can act on its signals.
    ContinueSuspended,
    /// Start a step.
    StartStep(StepId),
    /// This step sends a signal to the command alone and needs no process. Answer with [`Event::StepEnded`]:
    /// `Ended(Exited(0))` when it was sent or is held until the command executes its program, `NotStarted` with the
    /// reason when it could not be sent.
    SignalStep(StepId, Signal),
    /// SIGTERM to a step's process group.
    TermStep(StepId),
    /// SIGKILL to all that is left of a step and what it started.
    KillStep(StepId),
    /// Send this to the command's group, now that the command has gone; some of it may not descend from us.
    LastToGroup(Signal),
    /// SIGTERM to every descendant that is not in the command's group, and to that too unless it just had it. How many
    /// there are goes to [`Shutdown::found_leftovers`]; it is no reason for a warning.
    TermLeftovers {
        /// The command's group had SIGTERM already.
        group_has_it: bool,
    },
    /// SIGKILL to every descendant.
    KillAll,
    /// Count all descendants and answer with [`Event::Counted`], in the same turn or a later one. Not answering is no
    /// harm where `/proc` cannot be read.
    CountDescendants,
    /// Give the names of what still runs (`java(7)`, the command first) to [`Shutdown::found_running`]. The notice or the
    /// report line that wants them comes behind this.
    ListRunning,
    /// Append one line to the report file, if it exists: `report::line_on_the_way` has its text. It comes after the signals and
    /// steps that it tells of. Whoever writes
    /// - never waits for the disk: a process of its own, or a write that is given up; PID 1 goes on at once;
    /// - opens `O_WRONLY|O_APPEND|O_NOFOLLOW|O_NONBLOCK` without `O_CREAT`, and only a regular file;
    /// - remembers where the first of our lines began and where the last ended. A line that does not begin where our last
    ///   one ended (the application wrote between) starts that record anew;
    /// - truncates nothing while processes of ours are left.
    AppendToReport(ReportLine),
    /// Say something.
    Tell(Notice),
    /// Leave with this status. Last of all actions. Before it leaves the runner logs the summary and settles the report
    /// file: when it is exactly as long as where our last line ended and ends in what we wrote, our lines are cut off;
    /// then the report (`Summary::report`) is appended, if there is one. All of it as in [`Self::AppendToReport`], with
    /// `O_RDWR`, and only when no process of ours is left.
    Leave(ExitStatus),
}

/// The lines that go to the report file while the shutdown is on its way; SIGKILL leaves no time for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportLine {
    /// The shutdown began.
    Stopping,
    /// The orchestrator's signal came while the drain or chain of its hook still ran.
    Cut,
    /// The guessed grace is over and the command still runs.
    GuessOver,
    /// The pre-stop request was taken back.
    Cancelled,
}

/// What is worth saying; the runner logs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A signal was not relayed, because a rule drops it or because the command has it already.
    NotRelayed(Received),
    /// A stop signal was repeated and changes nothing.
    Repeated(Received),
    /// The shutdown begins.
    StopRequested(Trigger),
    /// A phase begins.
    Entered(Phase),
    /// The command ended.
    MainEnded(Outcome),
    /// A step ended.
    StepEnded(StepId, StepEnd),
    /// The rest of the chain is left out, from this step on.
    ChainCut(StepId),
    /// Descendants were still there when the reserve was nearly used.
    GaveUp,
    /// The orchestrator's signal came while the drain or chain of its hook still ran: both are over.
    Cut(StopRequest),
    /// The guessed grace is over and [`super::History::running`] still run.
    GuessOver,
    /// The plan's drain or stop window was cut to fit a guessed grace; this is the plan's warning.
    CutToFit(String),
    /// The pre-stop request was taken back.
    Cancelled(Sender),
    /// No stop request has followed the pre-stop request: the stop begins by itself.
    NobodyStopped,
    /// The command ended on a signal from outside that is not in `--stop-on`, so drain and chain were skipped.
    ShutdownSkipped(Signal),
}

/// A phase of the run, without its data: what people and programs are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The command runs.
    Running,
    /// A stop was requested; the command goes on serving.
    Draining,
    /// The pre-stop chain runs.
    PreStop,
    /// Drain and chain of a pre-stop request are over, and the command serves on until the stop request comes.
    Prepared,
    /// The command has its stop signal.
    Stopping,
    /// The command has gone, its leftovers have SIGTERM.
    Leftovers,
    /// Everything gets SIGKILL.
    Killing,
    /// The post-stop chain runs.
    PostStop,
    /// Nothing is left to do.
    Done,
}

impl Phase {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Draining => "drain",
            Self::PreStop => "pre-stop",
            Self::Prepared => "prepared",
            Self::Stopping => "stop",
            Self::Leftovers => "leftovers",
            Self::Killing => "kill",
            Self::PostStop => "post-stop",
            Self::Done => "done",
        }
    }
}

impl Received {
    /// A signal that the init sends by itself, on behalf of a step for example.
    pub fn by_the_init(signal: Signal) -> Self {
        Self { signal, sender: Sender::Kernel, from_outside: false, queued: None, command_has_it: false }
    }
}
