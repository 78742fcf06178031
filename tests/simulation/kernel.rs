//! A kernel: processes, their signals, and a clock that only this file turns.
//!
//! What it does is held against the real kernel by `conformance.rs`. It knows who belongs to whom and writes down all that
//! happens, for `checks.rs` to judge.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::rc::Rc;

use grace_init::outcome::Outcome;
use grace_init::signal::{Queued, Sender, Signal};
use grace_init::system::{Arrival, Reaped, StartError, Target};
use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

use crate::random::Random;
use crate::scenario::{Deed, Micros, Program, Reaction};

/// A process for good, whatever its number becomes.
pub type Id = usize;

/// Whose process it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Command,
    /// The step of the pre-stop chain (0) or the post-stop chain (1), by its index.
    Step(u8, usize),
    Stranger,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    /// Between fork and exec: signals are blocked.
    Starting,
    Runs,
    Zombie(Outcome),
    /// Reaped.
    Gone(Outcome),
}

#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    /// `None` is outside the PID namespace, `Some(INIT)` the init.
    pub parent: Option<Parent>,
    pub group: i32,
    pub session: i32,
    pub owner: Owner,
    pub program: Rc<Program>,
    pub state: State,
    pub stopped: bool,
    /// It stopped for its tracer, the init, who was not told yet.
    trace_stop: Option<(Signal, bool)>,
    traced: bool,
    /// It had SIGKILL.
    dying: bool,
    pending: BTreeSet<i32>,
    deferred: Vec<What>,
    pub exec: Exec,
    pub born: Micros,
    pub died: Option<Micros>,
    /// What came, when, and whether it came from the init.
    pub got: Vec<(Micros, Signal, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    Init,
    Process(Id),
}

/// What the exec report says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Exec {
    Pending,
    Done,
    Failed(StartError),
}

#[derive(Clone, Debug)]
enum What {
    /// It leads a group or a session now.
    Placed {
        session: bool,
    },
    Execs,
    Does(Deed),
    Exits(u8),
    Dies(Outcome),
}

#[derive(Debug)]
pub struct Kernel {
    pub now: Micros,
    pub random: Random,
    pub processes: Vec<Process>,
    by_pid: BTreeMap<i32, Id>,
    events: BinaryHeap<Reverse<(Micros, u64, Id)>>,
    whats: BTreeMap<u64, What>,
    serial: u64,
    last_pid: i32,
    /// Numbers are given out a second time.
    came_round: bool,
    pid_max: i32,
    /// What it takes to end a process that had SIGKILL, and until when the last one does.
    pub teardown: Micros,
    torn_down: Micros,
    pub init: i32,
    /// What the init has to read.
    pub arrivals: VecDeque<Arrival>,
    /// What we did that nobody may do.
    pub violations: Vec<String>,
}

impl Process {
    pub fn is_alive(&self) -> bool {
        matches!(self.state, State::Starting | State::Runs)
    }

    pub fn is_there(&self) -> bool {
        !matches!(self.state, State::Gone(_))
    }

    /// As a parent it keeps the child's group from being orphaned.
    fn keeps(&self, child: &Self) -> bool {
        self.group != child.group && self.session == child.session
    }

    pub fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Zombie(outcome) | State::Gone(outcome) => Some(outcome),
            State::Starting | State::Runs => None,
        }
    }
}

impl Kernel {
    pub fn new(seed: u64, pid_1: bool, pid_max: i32) -> Self {
        let init = if pid_1 { 1 } else { 7 };
        Self {
            now: 0,
            random: Random::new(seed),
            processes: Vec::new(),
            by_pid: BTreeMap::new(),
            events: BinaryHeap::new(),
            whats: BTreeMap::new(),
            serial: 0,
            last_pid: init,
            came_round: false,
            pid_max,
            teardown: 0,
            torn_down: 0,
            init,
            arrivals: VecDeque::new(),
            violations: Vec::new(),
        }
    }

    pub fn process(&self, pid: i32) -> Option<&Process> {
        self.by_pid.get(&pid).map(|id| &self.processes[*id])
    }

    pub fn id_of(&self, pid: i32) -> Option<Id> {
        self.by_pid.get(&pid).copied()
    }

    /// Time passes; what is due happens.
    pub fn advance_to(&mut self, then: Micros) {
        while let Some(Reverse((when, serial, id))) = self.events.peek().copied() {
            if when > then {
                break;
            }
            self.events.pop();
            self.now = self.now.max(when);
            if let Some(what) = self.whats.remove(&serial) {
                self.happens(id, what);
            }
        }
        self.now = self.now.max(then);
    }

    pub fn next_event(&self) -> Option<Micros> {
        self.events.peek().map(|Reverse((when, _, _))| *when)
    }

    fn at(&mut self, when: Micros, id: Id, what: What) {
        self.serial += 1;
        self.events.push(Reverse((when, self.serial, id)));
        self.whats.insert(self.serial, what);
    }

    /// The next number that names no process, group or session (kernel/pid.c, `alloc_pid`; a number is held by all three).
    fn new_pid(&mut self) -> i32 {
        loop {
            self.last_pid += 1;
            if self.last_pid > self.pid_max {
                (self.last_pid, self.came_round) = (2, true);
            }
            if !self.came_round {
                return self.last_pid;
            }
            let pid = self.last_pid;
            let taken = pid == self.init
                || self.processes.iter().any(|process| {
                    process.is_there() && [process.pid, process.group, process.session].contains(&pid)
                });
            if !taken {
                return pid;
            }
        }
    }

    /// A process is full when no number is left.
    pub fn is_full(&self) -> bool {
        self.by_pid.len() as i32 + 8 > self.pid_max
    }

    fn insert(
        &mut self,
        parent: Option<Parent>,
        like: (i32, i32),
        owner: Owner,
        program: &Rc<Program>,
    ) -> Id {
        let pid = self.new_pid();
        let id = self.processes.len();
        self.processes.push(Process {
            pid,
            parent,
            group: like.0,
            session: like.1,
            owner,
            program: Rc::clone(program),
            state: State::Runs,
            stopped: false,
            trace_stop: None,
            traced: false,
            dying: false,
            pending: BTreeSet::new(),
            deferred: Vec::new(),
            exec: Exec::Done,
            born: self.now,
            died: None,
            got: Vec::new(),
        });
        self.by_pid.insert(pid, id);
        id
    }

    /// Somebody whose parent is outside the namespace, as `kubectl exec` starts one.
    pub fn stranger(&mut self) {
        let program = Rc::new(Program::idle());
        let id = self.insert(None, (0, 0), Owner::Stranger, &program);
        let pid = self.processes[id].pid;
        (self.processes[id].group, self.processes[id].session) = (pid, pid);
    }

    /// The init forks a child, which execs.
    pub fn start(&mut self, owner: Owner, program: &Program, session: Option<bool>) -> i32 {
        let program = Rc::new(program.clone());
        let id = self.insert(Some(Parent::Init), (self.init, self.init), owner, &program);
        self.processes[id].state = State::Starting;
        self.processes[id].exec = Exec::Pending;
        let half = program.exec_takes / 2;
        if let Some(session) = session {
            self.at(self.now + half, id, What::Placed { session });
        }
        self.at(self.now + program.exec_takes, id, What::Execs);
        self.processes[id].pid
    }

    fn begin(&mut self, id: Id) {
        let program = Rc::clone(&self.processes[id].program);
        for (after, deed) in &program.deeds {
            self.at(self.now + after, id, What::Does(deed.clone()));
        }
    }

    fn happens(&mut self, id: Id, what: What) {
        if !self.processes[id].is_alive() {
            return;
        }
        if let What::Dies(outcome) = what {
            return self.dies(id, outcome);
        }
        if self.processes[id].dying {
            return;
        }
        if self.processes[id].stopped || self.processes[id].trace_stop.is_some() {
            return self.processes[id].deferred.push(what);
        }
        match what {
            What::Placed { session } => {
                let pid = self.processes[id].pid;
                self.processes[id].group = pid;
                if session {
                    self.processes[id].session = pid;
                }
            }
            What::Execs => {
                if self.processes[id].program.exec_fails {
                    let error = StartError { stage: grace_init::system::Stage::Exec, errno: Errno::ENOENT };
                    self.processes[id].exec = Exec::Failed(error);
                    return self.dies(id, Outcome::Exited(127));
                }
                // The mask is restored just before: what waits is delivered, and ends what has no handler yet.
                self.processes[id].state = State::Runs;
                self.processes[id].exec = Exec::Done;
                self.begin(id);
                self.deliver_pending(id);
            }
            What::Exits(code) => self.dies(id, Outcome::Exited(code)),
            What::Does(deed) => self.does(id, deed),
            What::Dies(_) => {}
        }
    }

    fn does(&mut self, id: Id, deed: Deed) {
        match deed {
            Deed::Exit(code) => self.dies(id, Outcome::Exited(code)),
            Deed::Crash(signal) => self.dies(id, Outcome::Killed(signal)),
            Deed::Fork(program) => self.forks(id, &program),
            Deed::NewSession => {
                // EPERM for a group's leader (setsid(2)).
                let process = &mut self.processes[id];
                if process.group != process.pid {
                    (process.group, process.session) = (process.pid, process.pid);
                }
            }
            Deed::NewGroup => {
                let process = &mut self.processes[id];
                if process.session != process.pid {
                    process.group = process.pid;
                }
            }
            Deed::StopItself => self.signal(id, Signal::STOP, false),
            Deed::Traced(signal) => {
                if self.processes[id].parent == Some(Parent::Init) {
                    self.processes[id].traced = true;
                }
                self.signal(id, signal, false);
            }
        }
    }

    fn forks(&mut self, id: Id, program: &Program) {
        if self.is_full() {
            return;
        }
        let (group, session, owner) =
            (self.processes[id].group, self.processes[id].session, self.processes[id].owner);
        let child =
            self.insert(Some(Parent::Process(id)), (group, session), owner, &Rc::new(program.clone()));
        self.begin(child);
    }

    fn dies(&mut self, id: Id, outcome: Outcome) {
        self.processes[id].died = Some(self.now);
        self.processes[id].stopped = false;
        if self.processes[id].exec == Exec::Pending {
            // Its end of the pipe is closed.
            self.processes[id].exec = Exec::Done;
        }
        self.processes[id].state = State::Zombie(outcome);
        let children: Vec<Id> = self.children_of(id);
        // kernel/exit.c, `kill_orphaned_pgrp`: it counts where this process, or its parent, was what kept a group from being orphaned.
        let mut held: Vec<i32> = children
            .iter()
            .map(|child| &self.processes[*child])
            .filter(|child| self.processes[id].keeps(child))
            .map(|child| child.group)
            .collect();
        let kept_by_parent = match self.processes[id].parent {
            Some(Parent::Process(parent)) => self.processes[parent].keeps(&self.processes[id]),
            Some(Parent::Init) => {
                self.processes[id].session == self.init && self.processes[id].group != self.init
            }
            None => false,
        };
        held.extend(Some(self.processes[id].group).filter(|_| kept_by_parent));
        for child in children {
            self.processes[child].parent = Some(Parent::Init);
            if !self.processes[child].is_alive() {
                self.tell_init_of_a_child(child);
            }
        }
        match self.processes[id].parent {
            Some(Parent::Init) => self.tell_init_of_a_child(id),
            Some(Parent::Process(parent)) => {
                if self.processes[parent].program.reaps {
                    self.is_reaped(id);
                }
            }
            None => self.is_reaped(id),
        }
        for group in held {
            if self.is_orphaned(group) {
                self.wake_orphaned(group);
            }
        }
    }

    fn wake_orphaned(&mut self, group: i32) {
        let members = self.members(group);
        if members.iter().any(|member| self.processes[*member].stopped) {
            for member in &members {
                self.signal(*member, Signal::HUP, false);
            }
            for member in members {
                self.signal(member, Signal::CONT, false);
            }
        }
    }

    /// No member has a parent in another group of the same session (kernel/exit.c, `will_become_orphaned_pgrp`).
    fn is_orphaned(&self, group: i32) -> bool {
        self.members(group).iter().all(|member| {
            let process = &self.processes[*member];
            match process.parent {
                Some(Parent::Process(parent)) => {
                    let parent = &self.processes[parent];
                    parent.group == group || parent.session != process.session || !parent.is_alive()
                }
                // The kernel passes over the namespace's init (`is_global_init` is another one's, but a child's
                // reaper that is in the same session counts).
                Some(Parent::Init) => process.session != self.init,
                None => true,
            }
        })
    }

    fn children_of(&self, id: Id) -> Vec<Id> {
        let parent = Some(Parent::Process(id));
        self.there().filter(|(_, process)| process.parent == parent).map(|(id, _)| id).collect()
    }

    /// Those that have a number.
    pub fn there(&self) -> impl Iterator<Item = (Id, &Process)> {
        self.by_pid.values().map(|id| (*id, &self.processes[*id]))
    }

    fn members(&self, group: i32) -> Vec<Id> {
        self.there().filter(|(_, process)| process.group == group).map(|(id, _)| id).collect()
    }

    fn is_reaped(&mut self, id: Id) {
        if let State::Zombie(outcome) = self.processes[id].state {
            self.processes[id].state = State::Gone(outcome);
            self.by_pid.remove(&self.processes[id].pid);
        }
    }

    fn tell_init_of_a_child(&mut self, child: Id) {
        let pid = self.processes[child].pid;
        self.signal_init(Signal::CHLD, Sender::Process(pid), None);
    }

    /// A standard signal that waits already is not queued again, and keeps its first sender (kernel/signal.c, `legacy_queue`).
    pub fn signal_init(&mut self, signal: Signal, sender: Sender, queued: Option<Queued>) {
        let standard = signal.number() < 32;
        if standard && self.arrivals.iter().any(|waiting| waiting.signal == signal) {
            return;
        }
        let arrival = Arrival { signal, sender, queued };
        // The lowest number is read first (kernel/signal.c, `next_signal`).
        let place = self.arrivals.iter().position(|waiting| waiting.signal.number() > signal.number());
        self.arrivals.insert(place.unwrap_or(self.arrivals.len()), arrival);
    }

    /// The init calls kill(2).
    pub fn kill(&mut self, target: Target, signal: Signal) -> Result<(), Errno> {
        let targets: Vec<Id> = match target {
            Target::Process(pid) => self.id_of(pid.as_raw()).into_iter().collect(),
            Target::Group(leader) => self.members(leader.as_raw()),
            Target::Everybody => self.there().map(|(id, _)| id).collect(),
        };
        if targets.is_empty() {
            return Err(Errno::ESRCH);
        }
        let mut permitted = false;
        for id in targets {
            if self.processes[id].owner == Owner::Stranger && target != Target::Everybody {
                self.violations.push(format!("{signal} to a stranger at {}", self.now));
            }
            if !self.processes[id].program.other_user || self.processes[id].state == State::Starting {
                permitted = true;
                self.signal(id, signal, true);
            }
        }
        self.advance_to(self.now);
        if permitted { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn signal(&mut self, id: Id, signal: Signal, by_us: bool) {
        let now = self.now;
        let process = &mut self.processes[id];
        if !process.is_alive() || process.dying {
            return;
        }
        process.got.push((now, signal, by_us));
        if signal == Signal::KILL {
            // A whole group has it before the first member dies of it.
            process.dying = true;
            let late = process.program.dies_late;
            self.torn_down = self.torn_down.max(now) + self.teardown;
            return self.at((now + late).max(self.torn_down), id, What::Dies(Outcome::Killed(signal)));
        }
        // kernel/signal.c, `prepare_signal`: a stop takes away what continues, and the other way round.
        let stops = [Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU];
        if signal == Signal::CONT {
            stops.iter().for_each(|stop| {
                process.pending.remove(&stop.number());
            });
            if process.stopped {
                process.stopped = false;
                self.goes_on(id);
            }
            return;
        }
        if stops.contains(&signal) {
            process.pending.remove(&Signal::CONT.number());
        }
        if process.stopped || process.state == State::Starting || process.trace_stop.is_some() {
            process.pending.insert(signal.number());
            return;
        }
        self.acts(id, signal);
    }

    /// A process that was stopped goes on: what waited is delivered first.
    fn goes_on(&mut self, id: Id) {
        self.deliver_pending(id);
        for what in std::mem::take(&mut self.processes[id].deferred) {
            self.happens(id, what);
        }
    }

    fn deliver_pending(&mut self, id: Id) {
        while let Some(number) = self.processes[id].pending.iter().next().copied() {
            let process = &self.processes[id];
            if !process.is_alive()
                || process.stopped
                || process.trace_stop.is_some()
                || process.state == State::Starting
            {
                return;
            }
            self.processes[id].pending.remove(&number);
            self.acts(id, Signal::from_number(number).unwrap());
        }
    }

    fn acts(&mut self, id: Id, signal: Signal) {
        if self.processes[id].traced {
            self.processes[id].trace_stop = Some((signal, false));
            return self.tell_init_of_a_child(id);
        }
        self.takes(id, signal);
    }

    /// What the signal does to it.
    fn takes(&mut self, id: Id, signal: Signal) {
        if signal == Signal::STOP {
            self.processes[id].stopped = true;
            return;
        }
        let program = Rc::clone(&self.processes[id].program);
        let reaction = program.on.iter().find(|(on, _)| *on == signal).map(|(_, reaction)| reaction);
        match reaction {
            Some(Reaction::Ignore) => {}
            Some(Reaction::Exit(after, code)) => self.at(self.now + after, id, What::Exits(*code)),
            Some(Reaction::Fork(child)) => self.forks(id, child),
            Some(Reaction::ForkAndExit(child, after, code)) => {
                self.forks(id, child);
                self.at(self.now + after, id, What::Exits(*code));
            }
            None if [Signal::TSTP, Signal::TTIN, Signal::TTOU].contains(&signal) => {
                // get_signal() discards them for an orphaned group.
                self.processes[id].stopped = !self.is_orphaned(self.processes[id].group);
            }
            None if [Signal::CHLD, Signal::WINCH].contains(&signal) || signal.number() == libc::SIGURG => {}
            None => self.dies(id, Outcome::Killed(signal)),
        }
    }

    /// The init calls waitpid(2) with WNOHANG.
    pub fn wait(&mut self) -> Reaped {
        let children: Vec<Id> = self
            .there()
            .filter(|(_, process)| process.parent == Some(Parent::Init))
            .map(|(id, _)| id)
            .collect();
        if children.is_empty() {
            return Reaped::NoChildren;
        }
        let ready: Vec<Id> = children
            .into_iter()
            .filter(|id| {
                let process = &self.processes[*id];
                !process.is_alive() || process.trace_stop.is_some_and(|(_, told)| !told)
            })
            .collect();
        if ready.is_empty() {
            return Reaped::NoneEnded;
        }
        let id = self.random.pick(&ready);
        let pid = Pid::from_raw(self.processes[id].pid);
        match self.processes[id].outcome() {
            Some(outcome) => {
                self.is_reaped(id);
                Reaped::Child(pid, outcome)
            }
            None => {
                let (signal, _) = self.processes[id].trace_stop.unwrap();
                self.processes[id].trace_stop = Some((signal, true));
                Reaped::Traced(pid, signal)
            }
        }
    }

    /// The init calls ptrace(2) with PTRACE_CONT.
    pub fn continue_traced(&mut self, pid: i32, signal: Signal) {
        let Some(id) = self.id_of(pid) else { return };
        if self.processes[id].trace_stop.take().is_some() {
            self.takes(id, signal);
            if self.processes[id].is_alive() && !self.processes[id].stopped {
                self.goes_on(id);
            }
        }
    }
}
