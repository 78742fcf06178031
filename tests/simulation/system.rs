//! The simulated kernel as the init sees it: [`System`].

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use grace_init::plan::{CommandLine, Control, Placement, Step};
use grace_init::shutdown::History;
use grace_init::signal::{Queued, Sender, Signal, SignalSet};
use grace_init::system::{
    self, Arrival, Awaited, Descendant, Descendants, ExecState, ReadResult, Reaped, StartError, Started,
    System, Target, WriteResult,
};
use grace_init::time::Moment;
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::kernel::{Exec, Id, Kernel, Owner, Parent};
use crate::scenario::{Asks, Deed, From, Leaves, MILLI, Micros, Outside, Proc, Program, Reaction, Scenario};

/// How many calls in a row may pass without time or sleep before it is called a busy loop.
const MAX_CALLS_AWAKE: usize = 200_000;

/// In which processes' starts are told.
const TICK: Micros = MILLI;

/// The orchestrator's own SIGKILL to the init: the end of a life that has no other.
pub struct KilledFromOutside;

/// A client's end and the init's end of one connection.
#[derive(Debug)]
pub struct Wire {
    pub to_init: Vec<u8>,
    pub from_init: Vec<u8>,
    /// The init says no more.
    pub finished: bool,
    /// The init has dropped its end.
    pub dropped: bool,
    /// The client has gone.
    pub closed: bool,
}

#[derive(Debug)]
pub struct Client {
    wire: Rc<RefCell<Wire>>,
    peer: i32,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.wire.borrow_mut().dropped = true;
    }
}

impl system::Client for Client {
    fn peer(&self) -> Pid {
        Pid::from_raw(self.peer)
    }

    fn read(&mut self, buffer: &mut [u8]) -> ReadResult {
        let mut wire = self.wire.borrow_mut();
        if wire.to_init.is_empty() {
            return if wire.closed { ReadResult::End } else { ReadResult::Nothing };
        }
        let length = wire.to_init.len().min(buffer.len());
        buffer[..length].copy_from_slice(&wire.to_init[..length]);
        wire.to_init.drain(..length);
        ReadResult::Bytes(length)
    }

    fn write(&mut self, bytes: &[u8]) -> WriteResult {
        let mut wire = self.wire.borrow_mut();
        wire.from_init.extend(bytes);
        if wire.closed { WriteResult::End } else { WriteResult::Bytes(bytes.len()) }
    }

    fn finish(&mut self) {
        self.wire.borrow_mut().finished = true;
    }
}

/// What the outside world does next.
#[derive(Clone, Debug)]
enum Due {
    Outside(Outside),
    Leaves(usize),
    /// The end of all patience.
    Kill,
}

/// One start of a step or the command.
#[derive(Clone, Debug)]
pub struct Start {
    pub when: Micros,
    pub owner: Owner,
    pub id: Option<Id>,
}

/// What we sent to whom.
#[derive(Clone, Debug)]
pub struct Sent {
    pub when: Micros,
    pub target: Target,
    pub signal: Signal,
}

pub struct Sim {
    pub kernel: Kernel,
    pub scenario: Scenario,
    due: Vec<(Micros, Due)>,
    pub wires: Vec<(Asks, Leaves, Rc<RefCell<Wire>>)>,
    waiting_clients: Vec<Client>,
    pub starts: Vec<Start>,
    pub sent: Vec<Sent>,
    /// What went to the report's file on the way, and in the end.
    pub report_lines: Vec<String>,
    pub report: Option<String>,
    calls_awake: usize,
    forks: usize,
    /// How long we were kept from running, in all.
    pub suspended: Micros,
    /// When a signal of the outside world was sent to the init.
    pub told: Vec<(Micros, Signal, From)>,
    pub asked: Vec<(Micros, Asks)>,
}

impl Sim {
    pub fn new(scenario: &Scenario) -> Self {
        let mut kernel = Kernel::new(scenario.seed, scenario.pid_1, scenario.pid_max);
        kernel.teardown = scenario.teardown;
        if scenario.stranger {
            kernel.stranger();
        }
        let mut due: Vec<(Micros, Due)> =
            scenario.outside.iter().map(|(when, what)| (*when, Due::Outside(what.clone()))).collect();
        due.push((60_000 * MILLI, Due::Outside(Outside::Signal(Signal::TERM, From::Outside))));
        due.push((2_000_000 * MILLI, Due::Kill));
        due.sort_by_key(|(when, _)| *when);
        Self {
            kernel,
            scenario: scenario.clone(),
            due,
            wires: Vec::new(),
            waiting_clients: Vec::new(),
            starts: Vec::new(),
            sent: Vec::new(),
            report_lines: Vec::new(),
            report: None,
            calls_awake: 0,
            forks: 0,
            suspended: 0,
            told: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// A system call was made: a little time passes, and what is due happens.
    fn call(&mut self) {
        self.calls_awake += 1;
        if self.calls_awake > MAX_CALLS_AWAKE {
            self.kernel.violations.push("a busy loop".to_owned());
            std::panic::panic_any(KilledFromOutside);
        }
        let takes = self.kernel.random.below(self.scenario.call_takes + 1);
        self.advance_to(self.kernel.now + takes);
    }

    fn advance_to(&mut self, then: Micros) {
        while let Some((when, _)) = self.due.first()
            && *when <= then
        {
            let (when, due) = self.due.remove(0);
            self.kernel.advance_to(when);
            self.happens(due);
        }
        self.kernel.advance_to(then);
    }

    fn happens(&mut self, due: Due) {
        let now = self.kernel.now;
        match due {
            Due::Outside(Outside::Signal(signal, from)) => {
                self.told.push((now, signal, from));
                let sender = match from {
                    From::Outside => Sender::Outside,
                    From::Terminal => Sender::Kernel,
                };
                self.kernel.signal_init(signal, sender, None);
            }
            Due::Outside(Outside::Client(asks, leaves)) => {
                use grace_init::control::protocol::{Request, Until};
                let words = match asks {
                    Asks::PreStop => Request::PreStop.encode(),
                    Asks::Cancel => Request::Cancel.encode(),
                    Asks::StopUntilPrepared => Request::Stop(Until::Prepared).encode(),
                    Asks::StopUntilStopped => Request::Stop(Until::Stopped).encode(),
                    Asks::Status => Request::Status.encode(),
                    Asks::Garbage => "GET / HTTP/1.1\n".to_owned(),
                    Asks::Nothing => String::new(),
                };
                let wire = Wire {
                    to_init: words.into_bytes(),
                    from_init: Vec::new(),
                    finished: false,
                    dropped: false,
                    closed: false,
                };
                let wire = Rc::new(RefCell::new(wire));
                let number = self.wires.len();
                self.wires.push((asks, leaves, Rc::clone(&wire)));
                self.waiting_clients.push(Client { wire, peer: 900 + number as i32 });
                self.asked.push((now, asks));
                if let Leaves::After(after) = leaves {
                    self.plan(now + after, Due::Leaves(number));
                }
            }
            Due::Outside(Outside::Suspended(time)) => {
                self.suspended += time;
                self.kernel.advance_to(now + time);
            }
            Due::Leaves(number) => self.wires[number].2.borrow_mut().closed = true,
            Due::Kill => std::panic::panic_any(KilledFromOutside),
        }
    }

    fn plan(&mut self, when: Micros, due: Due) {
        let place = self.due.iter().position(|(other, _)| *other > when).unwrap_or(self.due.len());
        self.due.insert(place, (when, due));
    }

    /// Clients that have their answer go.
    fn clients_go(&mut self) {
        for (_, leaves, wire) in &self.wires {
            let mut wire = wire.borrow_mut();
            if *leaves == Leaves::Answered && (wire.finished || wire.dropped) {
                wire.closed = true;
            }
        }
    }

    fn start(
        &mut self,
        owner: Owner,
        program: &Program,
        session: Option<bool>,
    ) -> Result<Started<i32>, StartError> {
        self.call();
        let number = self.forks;
        self.forks += 1;
        // The command's is number 0.
        let fails = self.kernel.is_full()
            || number.checked_sub(1).is_some_and(|number| self.scenario.failing_forks.contains(&number));
        let when = self.kernel.now;
        if fails {
            self.starts.push(Start { when, owner, id: None });
            return Err(StartError { stage: system::Stage::Fork, errno: Errno::EAGAIN });
        }
        let pid = self.kernel.start(owner, program, session);
        self.starts.push(Start { when, owner, id: self.kernel.id_of(pid) });
        Ok(Started { pid: Pid::from_raw(pid), pipe: self.kernel.id_of(pid).unwrap() as i32 })
    }

    fn descendant(&self, id: Id) -> Descendant {
        let process = &self.kernel.processes[id];
        let mut name = [0; 16];
        let text = format!("p{id}");
        name[..text.len()].copy_from_slice(text.as_bytes());
        Descendant {
            pid: Pid::from_raw(process.pid),
            group: Pid::from_raw(process.group),
            session: Pid::from_raw(process.session),
            has_terminal: false,
            suspended: process.stopped,
            name,
            started: process.born / TICK,
            parent: Pid::from_raw(match process.parent {
                None => 0,
                Some(Parent::Init) => self.kernel.init,
                Some(Parent::Process(parent)) => self.kernel.processes[parent].pid,
            }),
        }
    }

    /// What happened, for people.
    pub fn story(&self, history: &History) -> String {
        let mut lines: Vec<(Micros, String)> = Vec::new();
        for (id, process) in self.kernel.processes.iter().enumerate() {
            lines.push((process.born, format!("p{id} {:?} begins, pid {}", process.owner, process.pid)));
            for (when, signal, by_us) in &process.got {
                lines.push((*when, format!("p{id} gets {signal}{}", if *by_us { " from us" } else { "" })));
            }
            if let (Some(died), Some(outcome)) = (process.died, process.outcome()) {
                lines.push((died, format!("p{id} {outcome}")));
            }
        }
        for start in self.starts.iter().filter(|start| start.id.is_none()) {
            lines.push((start.when, format!("{:?} cannot be forked", start.owner)));
        }
        for (when, signal, from) in &self.told {
            lines.push((*when, format!("we get {signal} from {from:?}")));
        }
        for (when, asks) in &self.asked {
            lines.push((*when, format!("a client comes: {asks:?}")));
        }
        for span in &history.spans {
            lines.push((
                span.began.since_start().as_micros() as Micros,
                format!("phase {}", span.phase.name()),
            ));
        }
        let mut sent_before: Vec<(Target, Signal)> = Vec::new();
        for sent in &self.sent {
            if sent_before.contains(&(sent.target, sent.signal)) {
                continue;
            }
            sent_before.push((sent.target, sent.signal));
            lines.push((sent.when, format!("we send {} to {:?}", sent.signal, sent.target)));
        }
        for step in &history.steps {
            if let (Some(ended), Some(end)) = (step.ended, &step.end) {
                let ended = ended.since_start().as_micros() as Micros;
                lines.push((ended, format!("{:?} {} is said to be {end:?}", step.id.chain, step.id.index)));
            }
        }
        lines.push((self.kernel.now, "the end".to_owned()));
        lines.sort_by_key(|(when, _)| *when);
        lines.into_iter().map(|(when, line)| format!("\n{:>12.6}s {line}", when as f64 / 1e6)).collect()
    }

    fn is_shown(&self, id: Id) -> bool {
        self.scenario.proc == Proc::Full || !self.kernel.processes[id].program.hidden
    }
}

impl System for Sim {
    type ExecPipe = i32;
    type Listener = ();
    type Client = Client;

    fn now(&self) -> Moment {
        Moment::new(Duration::from_micros(self.kernel.now))
    }

    fn own_pid(&self) -> Pid {
        Pid::from_raw(self.kernel.init)
    }

    fn parent_pid(&self) -> Pid {
        Pid::from_raw(0)
    }

    fn has_terminal(&self) -> bool {
        false
    }

    fn ignored_at_start(&self) -> SignalSet {
        SignalSet::default()
    }

    fn own_group(&self) -> Pid {
        Pid::from_raw(self.kernel.init)
    }

    fn own_session(&self) -> Option<Pid> {
        Some(Pid::from_raw(self.kernel.init))
    }

    fn adopt_orphans(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    fn give_up_terminal(&mut self) {}

    fn start_command(
        &mut self,
        _: &CommandLine,
        placement: Placement,
    ) -> Result<Started<Self::ExecPipe>, StartError> {
        let mut program = self.scenario.command.clone();
        for number in 0..self.scenario.crowd {
            let mut member = Program::idle();
            member.on.push((Signal::TERM, Reaction::Ignore));
            if number % 2 == 0 {
                member.deeds.push((0, Deed::NewSession));
            }
            program.deeds.push((0, Deed::Fork(Box::new(member))));
        }
        let session = match placement {
            Placement::NewSession => Some(true),
            Placement::NewGroup => Some(false),
            Placement::OurGroup => None,
        };
        self.start(Owner::Command, &program, session)
    }

    fn start_step(
        &mut self,
        step: &Step,
        _: &[(&str, OsString)],
    ) -> Result<Started<Self::ExecPipe>, StartError> {
        let (chain, number) = match step.text.split_at_checked(3) {
            Some(("pre", number)) => (0, number),
            _ => (1, step.text.strip_prefix("post").unwrap()),
        };
        let number: usize = number.parse().unwrap();
        let programs = if chain == 0 { &self.scenario.pre_stop } else { &self.scenario.post_stop };
        let program = programs[number].clone();
        self.start(Owner::Step(chain, number), &program, Some(false))
    }

    fn exec_state(&mut self, pipe: &mut Self::ExecPipe) -> ExecState {
        self.call();
        match self.kernel.processes[*pipe as usize].exec {
            Exec::Pending => ExecState::Pending,
            Exec::Done => ExecState::Done,
            Exec::Failed(error) => ExecState::Failed(error),
        }
    }

    fn explain(&self, _: &OsStr, error: StartError) -> String {
        format!("{error:?}")
    }

    fn want_parent_death_signal(&mut self, _: Signal) -> Result<bool, Errno> {
        Ok(false)
    }

    fn leave_working_directory(&mut self) {}

    fn read_signals(&mut self) -> (Vec<Arrival>, bool) {
        self.call();
        let many = self.kernel.arrivals.len().min(16);
        (self.kernel.arrivals.drain(..many).collect(), many == 16)
    }

    fn reap(&mut self) -> Reaped {
        self.call();
        self.kernel.wait()
    }

    fn continue_traced(&mut self, pid: Pid, signal: Signal) {
        self.call();
        self.kernel.continue_traced(pid.as_raw(), signal);
    }

    fn send(&mut self, target: Target, signal: Signal) -> Result<(), Errno> {
        self.call();
        self.sent.push(Sent { when: self.kernel.now, target, signal });
        match target {
            Target::Group(group) if group.as_raw() == self.kernel.init => {
                self.kernel.violations.push(format!("{signal} to our own group"));
            }
            Target::Everybody if !self.scenario.pid_1 || self.scenario.proc == Proc::Full => {
                self.kernel.violations.push(format!("{signal} to everybody"));
            }
            Target::Everybody | Target::Group(_) | Target::Process(_) => {}
        }
        self.kernel.kill(target, signal)
    }

    fn queue(&mut self, target: Target, signal: Signal, _: Sender, _: Queued) -> Result<(), Errno> {
        self.send(target, signal)
    }

    fn group_of(&self, pid: Pid) -> Option<Pid> {
        self.kernel.process(pid.as_raw()).map(|process| Pid::from_raw(process.group))
    }

    fn suspend_self(&mut self) {}

    /// The list is read bit by bit: who comes or goes meanwhile may be in it or not.
    fn descendants(&mut self) -> Option<Descendants> {
        self.call();
        if self.scenario.proc == Proc::Absent {
            return None;
        }
        let ids: Vec<Id> = self.kernel.there().map(|(id, _)| id).collect();
        let mut all = Vec::new();
        for (number, id) in ids.into_iter().enumerate() {
            if number % 4 == 3 {
                self.call();
            }
            if self.kernel.processes[id].is_alive() && self.is_shown(id) {
                all.push(self.descendant(id));
            }
        }
        Some(Descendants::of(self.own_pid(), all, self.scenario.proc == Proc::Hides))
    }

    fn is_interactive_shell(&self, _: Pid) -> bool {
        false
    }

    fn is_init_like_us(&self, _: Pid) -> bool {
        false
    }

    fn has_variables(&self, pid: Pid, variables: &[(&str, OsString)]) -> bool {
        let Some(process) = self.kernel.process(pid.as_raw()) else { return false };
        let Owner::Step(chain, index) = process.owner else { return false };
        let value = |name: &str| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.to_str().unwrap())
        };
        value("GRACE_INIT_STEP") == Some(&(index + 1).to_string())
            && value("SERVICE_RESULT").is_some() == (chain == 1)
    }

    fn wait<'a>(
        &mut self,
        pipes: impl Iterator<Item = &'a Self::ExecPipe>,
        listener: Option<&'a Self::Listener>,
        clients: impl Iterator<Item = Awaited<'a, Self::Client>>,
        limit: Option<Duration>,
    ) -> bool {
        self.calls_awake = 0;
        self.clients_go();
        let pipes: Vec<usize> = pipes.map(|pipe| *pipe as usize).collect();
        let wires: Vec<Rc<RefCell<Wire>>> = clients.map(|awaited| Rc::clone(&awaited.client.wire)).collect();
        let until = limit.map(|limit| self.kernel.now + limit.as_micros() as Micros);
        loop {
            let client = (listener.is_some() && !self.waiting_clients.is_empty())
                || wires.iter().any(|wire| {
                    let wire = wire.borrow();
                    wire.closed || !wire.to_init.is_empty()
                });
            let exec = pipes.iter().any(|id| self.kernel.processes[*id].exec != Exec::Pending);
            if client || exec || !self.kernel.arrivals.is_empty() {
                self.call();
                return client;
            }
            let next = [self.kernel.next_event(), self.due.first().map(|(when, _)| *when), until];
            match next.into_iter().flatten().min() {
                Some(next) if Some(next) == until => {
                    // A timer is late at times.
                    let late = if self.kernel.random.one_in(4) { self.kernel.random.below(300) } else { 0 };
                    self.advance_to(next.max(self.kernel.now) + late);
                    return false;
                }
                Some(next) => self.advance_to(next.max(self.kernel.now)),
                None => return false,
            }
        }
    }

    fn is_first_process(&self) -> bool {
        true
    }

    fn listen(&mut self, _: &Control) -> io::Result<Option<Self::Listener>> {
        Ok(Some(()))
    }

    fn stop_listening(&mut self, (): Self::Listener) {}

    fn max_descriptors(&self) -> usize {
        1024
    }

    fn accept(&mut self, (): &Self::Listener) -> io::Result<Option<Self::Client>> {
        self.call();
        Ok(if self.waiting_clients.is_empty() { None } else { Some(self.waiting_clients.remove(0)) })
    }

    fn termination_log(&self) -> Option<PathBuf> {
        None
    }

    fn is_there(&self, _: &Path) -> bool {
        true
    }

    fn default_report(&self) -> Option<PathBuf> {
        Some("/dev/termination-log".into())
    }

    fn append_report_line(&mut self, _: &Path, line: &str) {
        self.report_lines.push(line.to_owned());
    }

    fn report_failed_start(&mut self, _: &Path, _: &str) {}

    fn settle_report(&mut self, _: &Path, report: Option<&str>, _: Duration) -> io::Result<()> {
        self.call();
        self.report = report.map(str::to_owned);
        Ok(())
    }
}
