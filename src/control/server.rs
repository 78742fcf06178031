//! The init's side of the control socket. Nothing that a client does or leaves undone may cost the shutdown time.

use std::time::Duration;

use nix::unistd::Pid;
use tracing::{debug, warn};

use crate::control::protocol::{self, MAX_REQUEST, Request, Status, StepStatus, Until};
use crate::control::session::{Heard, Session};
use crate::plan::CommandLine;
use crate::shutdown::{CannotCancel, Chain, Event, Phase, Shutdown, StepEnd, StepId, StepRecord};
use crate::signal::Sender;
use crate::system::{Awaited, Client, ReadResult, System, WriteResult};
use crate::time::{Deadline, Measured, Moment};

/// How many clients are served at once, where there are descriptors for so many.
pub const MAX_CLIENTS: usize = 1024;
/// How many clients are taken in before the loop looks at everything else again.
const MAX_ACCEPTED_PER_TURN: usize = 64;
/// When to try again after a client could not be taken in: it keeps the listening socket readable, so the loop would spin.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a client may say nothing before another one gets its place, where there is no room for both.
const MAX_SILENCE: Duration = Duration::from_millis(200);
/// How long the init waits at the most for those that asked for the shutdown: its end would be theirs, and a hook
/// that did all it should would be reported as killed.
pub const FAREWELL: Duration = Duration::from_secs(1);
/// What is left of the grace for our own end when we have waited for clients: a busy machine wakes us late.
pub const FAREWELL_MARGIN: Duration = Duration::from_millis(100);

/// How much of a command line is told, in bytes.
const MAX_COMMAND: usize = 1024;
/// How much of a step's text, or of what went wrong, is told, in bytes.
const MAX_TEXT: usize = 240;
/// How many steps are told of, and how many failures.
const MAX_ENTRIES: usize = 32;

/// The clients.
#[derive(Debug)]
pub struct Clients<S: System> {
    listener: Option<S::Listener>,
    connected: Vec<Connected<S::Client>>,
    /// New clients are not taken in sooner.
    accept_again: Option<Moment>,
    /// The last one could not be taken in, which was said.
    lacks_descriptors: bool,
    /// What those that wait were told last, without the times, which always change.
    told: Option<Status>,
}

#[derive(Debug)]
struct Connected<C> {
    client: C,
    session: Session,
    since: Moment,
    /// It has its last block.
    answered: bool,
}

/// What an init knows of itself besides its machine.
#[derive(Clone, Debug)]
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

impl<S: System> Clients<S> {
    /// Serves clients from this listener, or none.
    pub fn of(listener: Option<S::Listener>) -> Self {
        Self { listener, connected: Vec::new(), accept_again: None, lacks_descriptors: false, told: None }
    }

    /// Who listens for new clients, while they can be taken in.
    pub fn listener(&self, now: Moment) -> Option<&S::Listener> {
        self.listener.as_ref().filter(|_| self.accept_again.is_none_or(|again| now >= again))
    }

    /// When new clients can be taken in again.
    pub fn next_due(&self) -> Deadline {
        self.accept_again.map_or(Deadline::Never, Deadline::At)
    }

    /// The clients to wait for. One that only waits itself is among them, for it may go.
    pub fn connected(&self) -> impl Iterator<Item = Awaited<'_, S::Client>> {
        self.connected.iter().map(Connected::awaited)
    }

    /// Whether this process is a client that waits.
    pub fn includes(&self, pid: Pid) -> bool {
        self.connected.iter().any(|connected| connected.client.peer() == pid)
    }

    /// Takes in what clients say and answers questions. Returns what is asked of the shutdown; [`Self::tell`] answers it when
    /// the machine has dealt with it.
    ///
    /// `running_step` says of which running step a process is a part.
    pub fn serve(
        &mut self,
        system: &mut S,
        machine: &Shutdown,
        facts: &Facts<'_>,
        mut running_step: impl FnMut(&mut S, Pid) -> Option<StepId>,
    ) -> Vec<Event> {
        self.accept_all(system, facts.now);
        let mut events = Vec::new();
        let before = self.connected.len();
        self.connected.retain_mut(|connected| {
            let request = match connected.receive() {
                Next::Stay => return connected.flush(),
                Next::Drop => return false,
                Next::Refuse(reason) => return connected.refuse(reason),
                Next::Request(request) => request,
            };
            let peer = connected.client.peer();
            let sender = Sender::Process(peer.as_raw());
            match request {
                Request::Ready | Request::Status => {
                    return connected.finish(&status(machine, facts).encode());
                }
                Request::PreStop | Request::Stop(_) => {
                    if let Some(step) = running_step(system, peer) {
                        return connected.refuse(own_step(machine, step));
                    }
                    events.push(match request {
                        Request::PreStop => Event::PreStopAsked(sender),
                        Request::Stop(_) | Request::Ready | Request::Status | Request::Cancel => {
                            Event::StopAsked(sender)
                        }
                    });
                }
                Request::Cancel => {
                    if let Err(why) = machine.cancellable() {
                        return connected.refuse(why.to_string());
                    }
                    events.push(Event::CancelAsked(sender));
                }
            }
            true
        });
        if !events.is_empty() {
            self.told = None;
        }
        if self.connected.len() < before {
            self.accept_again = None;
        }
        events
    }

    /// Takes in new clients. When there is no room for one, the oldest that has asked for nothing goes; where all have asked
    /// for something, the new one is turned away.
    fn accept_all(&mut self, system: &mut S, now: Moment) {
        let Some(listener) = self.listener.take() else { return };
        self.accept_again = None;
        let max = system.max_descriptors().checked_div(2).unwrap_or(0).min(MAX_CLIENTS);
        for _ in 0..MAX_ACCEPTED_PER_TURN {
            let mut room = if self.connected.len() < max { Room::Free } else { self.room(now) };
            if room == Room::Soon {
                self.accept_again = Some(now.after(MAX_SILENCE));
                break;
            }
            let client = match system.accept(&listener) {
                Ok(Some(client)) => client,
                Ok(None) => break,
                Err(error) => {
                    room = self.room(now);
                    if let Room::OfSilent(place) = room {
                        self.connected.remove(place);
                        continue;
                    }
                    if !std::mem::replace(&mut self.lacks_descriptors, true) {
                        let clients = self.connected.len();
                        warn!(%error, clients, "cannot accept a client of the control socket; trying again each second");
                    }
                    self.accept_again = Some(now.after(ACCEPT_RETRY_INTERVAL));
                    break;
                }
            };
            self.lacks_descriptors = false;
            let mut connected =
                Connected { client, session: Session::default(), since: now, answered: false };
            match room {
                Room::Free | Room::Soon => {}
                Room::OfSilent(place) => {
                    self.connected.remove(place);
                }
                Room::None => {
                    let clients = self.connected.len();
                    debug!(clients, "too many clients of the control socket");
                    connected.refuse(format!("{clients} clients are connected already; try again later"));
                    continue;
                }
            }
            self.connected.push(connected);
        }
        self.listener = Some(listener);
    }

    /// Whose room a new client may have when there is no other: of the oldest that has asked for nothing.
    fn room(&self, now: Moment) -> Room {
        let is_silent = |connected: &Connected<S::Client>| connected.session.request().is_none();
        match self.connected.iter().position(is_silent) {
            Some(place) => {
                let since = self.connected.get(place).map_or(now, |connected| connected.since);
                if now.since(since) >= MAX_SILENCE { Room::OfSilent(place) } else { Room::Soon }
            }
            None => Room::None,
        }
    }

    /// Tells those that wait how it goes, if anything has changed for them.
    pub fn tell(&mut self, machine: &Shutdown, facts: &Facts<'_>) {
        self.tell_all(machine, facts, false);
    }

    fn tell_all(&mut self, machine: &Shutdown, facts: &Facts<'_>, over: bool) {
        if self.connected.iter().all(|connected| connected.awaits().is_none()) {
            return;
        }
        let status = status(machine, facts);
        let news = Some(without_times(&status));
        if !over && news == self.told {
            return;
        }
        self.told = news;
        let progress = status.encode();
        self.connected.retain_mut(|connected| {
            let Some(request) = connected.awaits() else { return true };
            match answer(request, machine, over) {
                None => connected.say(&progress),
                Some(Answer::Refused(reason)) => connected.refuse(reason),
                Some(Answer::Done(failures)) => {
                    let last = Status { answer: true, failures, ..status.clone() };
                    connected.finish(&last.encode())
                }
            }
        });
    }

    /// Answers everybody and waits for them to go, at most `limit`.
    pub fn farewell(&mut self, system: &mut S, machine: &Shutdown, facts: &Facts<'_>, limit: Duration) {
        self.tell_all(machine, facts, true);
        self.connected.retain(|connected| connected.session.request().is_some());
        let deadline = Deadline::At(system.now().after(limit));
        while !self.connected.is_empty() {
            let left = deadline.remaining(system.now()).unwrap_or_default();
            if left.is_zero() {
                break;
            }
            system.wait(std::iter::empty(), None, self.connected(), Some(left));
            self.connected.retain_mut(|connected| connected.receive() == Next::Stay && connected.flush());
        }
        self.listener = None;
    }
}

/// Room for one more client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Free,
    /// That of the client at this place.
    OfSilent(usize),
    /// A client that has just come may still speak.
    Soon,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    Stay,
    Drop,
    Refuse(String),
    Request(Request),
}

impl<C: Client> Connected<C> {
    fn awaited(&self) -> Awaited<'_, C> {
        Awaited { client: &self.client, to_write: !self.session.to_send().is_empty() }
    }

    /// The request that it waits for.
    fn awaits(&self) -> Option<Request> {
        self.session.request().filter(|_| !self.answered)
    }

    /// Reads what is there, up to the end of one request.
    fn receive(&mut self) -> Next {
        let mut buffer = [0_u8; MAX_REQUEST];
        match self.client.read(&mut buffer) {
            ReadResult::Nothing => Next::Stay,
            ReadResult::End => Next::Drop,
            ReadResult::Bytes(length) => match self.session.receive(buffer.get(..length).unwrap_or_default())
            {
                Heard::Incomplete => Next::Stay,
                Heard::Request(request) => Next::Request(request),
                Heard::Bad(bad) => Next::Refuse(bad.to_string()),
            },
        }
    }

    /// Says that the request is not carried out; the result is whether to keep the client.
    fn refuse(&mut self, reason: String) -> bool {
        self.finish(&Status::refusal(reason).encode())
    }

    /// Gives a client its last block. One that has asked for the shutdown is kept until it goes.
    fn finish(&mut self, block: &str) -> bool {
        let stays = self.say(block);
        self.answered = true;
        match self.session.request() {
            Some(Request::PreStop | Request::Stop(_)) => stays && self.end_if_all_is_sent(),
            // What is in the kernel's buffer arrives though we hang up.
            Some(Request::Ready | Request::Status | Request::Cancel) | None => {
                stays && !self.session.to_send().is_empty()
            }
        }
    }

    fn say(&mut self, block: &str) -> bool {
        self.session.say(block);
        self.flush()
    }

    /// Sends what can be sent at once; false when the client has gone.
    fn flush(&mut self) -> bool {
        while !self.session.to_send().is_empty() {
            match self.client.write(self.session.to_send()) {
                WriteResult::Bytes(count) => self.session.sent(count),
                WriteResult::Full => return true,
                WriteResult::End => return false,
            }
        }
        self.end_if_all_is_sent()
    }

    fn end_if_all_is_sent(&mut self) -> bool {
        if self.answered && self.session.to_send().is_empty() {
            self.client.finish();
        }
        true
    }
}

/// What a client that waits gets to hear at last.
enum Answer {
    /// It has got as far as asked; this went wrong on the way.
    Done(Vec<String>),
    Refused(String),
}

/// The answer to a request; `None` while there is none yet.
fn answer(request: Request, machine: &Shutdown, over: bool) -> Option<Answer> {
    let is_running = machine.phase() == Phase::Running;
    match request {
        Request::PreStop if is_running && !over => {
            Some(Answer::Done(vec!["the request was taken back by grace-init cancel".to_owned()]))
        }
        Request::PreStop | Request::Stop(Until::Prepared) if over || machine.is_prepared() => {
            Some(Answer::Done(failures(machine, &[Chain::PreStop])))
        }
        Request::Stop(Until::Stopped) if over => {
            let mut failures = failures(machine, &[Chain::PreStop, Chain::PostStop]);
            let killed = &machine.history().killed;
            if killed.count() > 0 {
                failures.push(format!("killed {}", protocol::cut(killed, MAX_TEXT)));
            }
            let survivors = machine.history().survivors;
            if survivors > 0 {
                failures.push(format!("{survivors} processes survived SIGKILL"));
            }
            Some(Answer::Done(failures))
        }
        Request::Cancel if is_running => Some(Answer::Done(Vec::new())),
        // Something else came first in the same turn of the loop.
        Request::Cancel => {
            let why = machine.cancellable().err().unwrap_or(CannotCancel::StopAsked);
            Some(Answer::Refused(why.to_string()))
        }
        Request::PreStop | Request::Stop(_) | Request::Ready | Request::Status => None,
    }
}

/// Why a step's own processes are not served.
fn own_step(machine: &Shutdown, step: StepId) -> String {
    let text = machine.step(step).map(|step| step.text.as_str()).unwrap_or_default();
    let (chain, number) = (step.phase().name(), step.number());
    format!(
        "called by {chain} step {number} \"{}\", which would wait for itself",
        protocol::cut(&text, MAX_TEXT)
    )
}

/// What went wrong in these chains, a line for each step.
fn failures(machine: &Shutdown, chains: &[Chain]) -> Vec<String> {
    let of_chains = machine.all_steps().filter(|(id, _)| chains.contains(&id.chain));
    let mut failures: Vec<String> = of_chains
        .filter_map(|(id, step)| {
            let why = match record_of(machine, id) {
                // What comes after everything else has not begun yet.
                None if id.chain == Chain::PostStop => return None,
                None => "did not run: the command had ended before".to_owned(),
                Some(record) => went_wrong(record)?,
            };
            let text = protocol::cut(&step.text, MAX_TEXT);
            Some(format!("{} step {} \"{text}\" {why}", id.phase().name(), id.number()))
        })
        .collect();
    if let Some(cut) = machine.history().cut {
        let (phase, after) = (cut.phase.name(), Measured(cut.after));
        failures.push(format!(
            "{} came {after} after the pre-stop request and ended the {phase} early",
            cut.request
        ));
    }
    if failures.len() > MAX_ENTRIES {
        let more = failures.len().saturating_sub(MAX_ENTRIES);
        failures.truncate(MAX_ENTRIES);
        failures.push(format!("and {more} more"));
    }
    failures
}

/// How a step ended that did not end well.
fn went_wrong(record: &StepRecord) -> Option<String> {
    match &record.end {
        Some(StepEnd::Ended(outcome)) if outcome.succeeded() => None,
        Some(StepEnd::Ended(outcome)) => Some(outcome.to_string()),
        Some(StepEnd::NotStarted(reason)) => {
            Some(format!("could not start: {}", protocol::cut(reason, MAX_TEXT)))
        }
        Some(StepEnd::Overdue) => Some("ran out of time and was stopped".to_owned()),
        Some(StepEnd::Cut) => Some("was cut short".to_owned()),
        Some(StepEnd::Skipped) => Some("was skipped".to_owned()),
        None => None,
    }
}

fn record_of(machine: &Shutdown, id: StepId) -> Option<&StepRecord> {
    machine.history().steps.iter().find(|record| record.id == id)
}

/// How things stand.
pub fn status(machine: &Shutdown, facts: &Facts<'_>) -> Status {
    let history = machine.history();
    let now = facts.now;
    Status {
        phase: machine.phase().name().to_owned(),
        ready: history.trigger.is_none() && history.main.is_none(),
        serving: machine.is_serving(),
        init_pid: facts.init.as_raw(),
        command_pid: facts.main.as_raw(),
        command: protocol::cut(facts.command, MAX_COMMAND),
        uptime: now.since_start(),
        reaped: facts.reaped,
        trigger: history.trigger.map(|trigger| format!("{} from {}", trigger.request, trigger.sender)),
        elapsed: history.trigger.map(|trigger| now.since(trigger.at)),
        remaining: machine.deadline().remaining(now),
        budget: machine.budget(),
        steps: steps(machine, now),
        prepared: machine.is_prepared(),
        all_well: !history.steps_of(Chain::PreStop).any(StepRecord::went_wrong),
        failures: Vec::new(),
        answer: false,
        refused: None,
    }
}

/// What of it is news.
fn without_times(status: &Status) -> Status {
    let mut news =
        Status { uptime: Duration::ZERO, reaped: 0, elapsed: None, remaining: None, ..status.clone() };
    news.steps.iter_mut().for_each(|step| step.took = Duration::ZERO);
    news
}

/// The steps of both chains, those to come included.
fn steps(machine: &Shutdown, now: Moment) -> Vec<StepStatus> {
    let steps = machine.all_steps().take(MAX_ENTRIES);
    steps
        .map(|(id, step)| {
            let record = record_of(machine, id);
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
                text: protocol::cut(&step.text, MAX_TEXT),
            }
        })
        .collect()
}
