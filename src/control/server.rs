//! The init's side of the control socket. Nothing that a client does or leaves undone may cost the shutdown time.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::unistd::Pid;
use tracing::warn;

use crate::control::protocol::{LONGEST_REQUEST, Request, Status, StepStatus, Until};
use crate::plan::CommandLine;
use crate::shutdown::{Chain, Shutdown, StepEnd, StepRecord};
use crate::system::linux::clock::Clock;
use crate::system::linux::control::{Client, Heard, Listener};
use crate::system::linux::wait;
use crate::time::{Deadline, Moment};

/// How many clients are served at once.
const MOST_CLIENTS: usize = 16;
/// How long the init waits at the most for those that asked for the shutdown: its end would be theirs, and a hook
/// that did all it should would be reported as killed.
pub const FAREWELL: Duration = Duration::from_secs(1);

/// The clients.
#[derive(Debug, Default)]
pub struct Clients {
    listener: Option<Listener>,
    talking: Vec<Talk>,
}

#[derive(Debug)]
struct Talk {
    client: Client,
    heard: Vec<u8>,
    /// What it waits for, once it has asked for the shutdown.
    until: Option<Until>,
    answered: bool,
}

/// What an init knows of itself besides its machine.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The init's PID.
    pub init: Pid,
    /// The command's.
    pub main: Pid,
    /// The command.
    pub command: &'a CommandLine,
    /// How many orphans were reaped.
    pub reaped: u64,
    /// Now.
    pub now: Moment,
}

impl Clients {
    /// Serves clients from this listener, or none.
    pub fn of(listener: Option<Listener>) -> Self {
        Self { listener, talking: Vec::new() }
    }

    /// What to wait for. A client that is only waiting itself is among them, for it may go.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listener = self.listener.iter().map(AsFd::as_fd);
        listener.chain(self.talking.iter().map(|talk| talk.client.as_fd()))
    }

    /// Hears what clients say and answers. Returns those that ask for the shutdown now.
    pub fn serve(&mut self, machine: &Shutdown, facts: &Facts<'_>) -> Vec<Pid> {
        self.greet();
        let mut asking = Vec::new();
        self.talking.retain_mut(|talk| match talk.listen() {
            Next::Stay => true,
            Next::Drop => false,
            Next::Answer(Request::Ready | Request::Status) => {
                talk.client.send(&status(machine, facts).encode());
                talk.client.finish();
                false
            }
            Next::Answer(Request::Stop(until)) => {
                talk.until = Some(until);
                asking.push(talk.client.peer());
                true
            }
        });
        asking
    }

    /// Takes in new clients. When it is too full for one, the oldest that has asked for nothing yet goes.
    fn greet(&mut self) {
        let Some(listener) = &self.listener else { return };
        // At most as many as there is room for: a storm of clients must not hold up the loop.
        for _ in 0..MOST_CLIENTS {
            let client = match listener.next_client() {
                Ok(Some(client)) => client,
                Ok(None) => return,
                Err(error) => {
                    warn!(%error, "closing the control socket: clients cannot be taken in");
                    self.listener = None;
                    return;
                }
            };
            if self.talking.len() >= MOST_CLIENTS {
                let Some(silent) = self.talking.iter().position(|talk| talk.until.is_none()) else {
                    continue;
                };
                self.talking.remove(silent);
            }
            self.talking.push(Talk { client, heard: Vec::new(), until: None, answered: false });
        }
    }

    /// Tells those that asked for the shutdown how it goes.
    pub fn tell(&mut self, machine: &Shutdown, facts: &Facts<'_>, over: bool) {
        if self.talking.iter().all(|talk| talk.until.is_none() || talk.answered) {
            return;
        }
        let mut status = status(machine, facts);
        self.talking.retain_mut(|talk| {
            let Some(until) = talk.until.filter(|_| !talk.answered) else { return true };
            let reached = over || (until == Until::Prepared && status.prepared);
            status.answer = reached;
            if !talk.client.send(&status.encode()) {
                return false;
            }
            if reached {
                talk.answered = true;
                talk.client.finish();
            }
            true
        });
    }

    /// Answers everybody and waits for them to go, at most `limit`.
    pub fn farewell(&mut self, machine: &Shutdown, facts: &Facts<'_>, clock: Clock, limit: Duration) {
        self.tell(machine, facts, true);
        self.talking.retain(|talk| talk.until.is_some());
        let deadline = Deadline::At(clock.now().after(limit));
        while !self.talking.is_empty() {
            let left = deadline.remaining(clock.now()).unwrap_or_default();
            if left.is_zero() {
                break;
            }
            wait::until_readable(self.talking.iter().map(|talk| talk.client.as_fd()), Some(left));
            self.talking.retain_mut(|talk| talk.listen() != Next::Drop);
        }
        self.listener = None;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Stay,
    Drop,
    Answer(Request),
}

impl Talk {
    /// Reads what is there, up to the end of one request.
    fn listen(&mut self) -> Next {
        let mut buffer = [0_u8; LONGEST_REQUEST];
        match self.client.read(&mut buffer) {
            Heard::Nothing => Next::Stay,
            Heard::End => Next::Drop,
            // It has said what it wanted; more of it is of no use, and must not fill memory.
            Heard::Bytes(_) if self.until.is_some() => Next::Drop,
            Heard::Bytes(length) => {
                self.heard.extend(buffer.iter().take(length));
                let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') else {
                    return if self.heard.len() < LONGEST_REQUEST { Next::Stay } else { Next::Drop };
                };
                self.heard.get(..end).and_then(Request::decode).map_or(Next::Drop, Next::Answer)
            }
        }
    }
}

/// How things stand.
pub fn status(machine: &Shutdown, facts: &Facts<'_>) -> Status {
    let history = machine.history();
    let now = facts.now;
    Status {
        phase: machine.phase().name().to_owned(),
        ready: history.trigger.is_none() && history.main.is_none(),
        init_pid: facts.init.as_raw(),
        command_pid: facts.main.as_raw(),
        command: facts.command.to_string(),
        uptime: now.since_start(),
        reaped: facts.reaped,
        trigger: history.trigger.map(|trigger| format!("{} from {}", trigger.request, trigger.sender)),
        elapsed: history.trigger.map(|trigger| now.since(trigger.at)),
        remaining: machine.deadline().remaining(now),
        budget: machine.budget(),
        steps: steps(machine, now),
        prepared: machine.is_prepared(),
        all_well: !history.steps_of(Chain::PreStop).any(StepRecord::went_wrong),
        answer: false,
    }
}

/// All steps of both chains, those to come included.
fn steps(machine: &Shutdown, now: Moment) -> Vec<StepStatus> {
    machine
        .all_steps()
        .map(|(id, step)| {
            let record = machine.history().steps.iter().find(|record| record.id == id);
            let state = match record.map(|record| &record.end) {
                None => "waiting",
                Some(None) => "running",
                Some(Some(StepEnd::Ended(outcome))) if outcome.succeeded() => "succeeded",
                Some(Some(StepEnd::Ended(_))) => "failed",
                Some(Some(StepEnd::NotStarted(_))) => "not-started",
                Some(Some(StepEnd::Overdue)) => "overdue",
                Some(Some(StepEnd::Cut)) => "cut",
                Some(Some(StepEnd::Skipped)) => "skipped",
            };
            StepStatus {
                chain: id.phase().name().to_owned(),
                number: id.number(),
                state: state.to_owned(),
                took: record.map(|record| record.took(now)).unwrap_or_default(),
                text: step.text.clone(),
            }
        })
        .collect()
}
