//! What must hold in every life.

use std::time::Duration;

use grace_init::control::protocol::Status;
use grace_init::outcome::{ExitStatus, Outcome};
use grace_init::plan::{Leftovers, Plan, RelayTo};
use grace_init::shutdown::{Chain, History, Phase, StepEnd, StepRecord, StopRequest};
use grace_init::signal::Signal;

use crate::kernel::{Id, Owner, Parent, Process, State};
use crate::scenario::{Asks, From, Leaves, MILLI, Micros, Proc, SECOND};
use crate::system::Sim;

/// A life that has been lived.
pub struct Life<'a> {
    pub plan: &'a Plan,
    pub sim: &'a Sim,
    pub history: &'a History,
    /// `None` when only the orchestrator's SIGKILL ended it.
    pub status: Option<ExitStatus>,
}

fn micros(duration: Duration) -> Micros {
    duration.as_micros() as Micros
}

impl Life<'_> {
    /// All that went wrong.
    pub fn judge(&self) -> Vec<String> {
        let mut wrong = self.sim.kernel.violations.clone();
        if self.sim.starts.first().is_none_or(|start| start.id.is_none()) {
            return wrong;
        }
        let Some(status) = self.status else {
            if self.plan.shutdown.grace.is_some() && !self.plan.shutdown.grace_source.is_guess() {
                wrong.push("it never left".to_owned());
            }
            return wrong;
        };
        self.steps_in_order(&mut wrong);
        self.steps_as_told(&mut wrong);
        self.nobody_killed_too_early(&mut wrong);
        self.everybody_told(&mut wrong);
        self.nobody_left_behind(&mut wrong);
        self.overdue_steps_end_whole(&mut wrong);
        self.right_status(status, &mut wrong);
        self.in_time(&mut wrong);
        self.at_once(&mut wrong);
        self.killed_as_told(&mut wrong);
        self.stop_signal_once(&mut wrong);
        self.clients_told_the_truth(&mut wrong);
        self.reports_what_went_wrong(&mut wrong);
        wrong
    }

    /// What lateness is no fault: the calls' own time, and that we were kept from running.
    fn slack(&self) -> Micros {
        let processes = self.sim.kernel.processes.len() as Micros;
        30 * MILLI + self.sim.scenario.call_takes * (60 + 12 * processes) + self.sim.suspended
    }

    fn left(&self) -> Micros {
        self.sim.kernel.now
    }

    fn requested(&self) -> Option<Micros> {
        self.history.trigger.map(|trigger| micros(trigger.at.since_start()))
    }

    /// When the clock began that SIGKILL and our end are counted from. Outside of Kubernetes that is the stop request where it
    /// came in Prepared or cut the hook, for there the grace begins with the signal.
    fn clock_began(&self) -> Option<Micros> {
        let stop = self.history.stop.map(|stop| micros(stop.at.since_start()));
        let anew = self.history.cut.is_some()
            || self.began(Phase::Prepared).is_some_and(|began| Some(began) <= stop);
        let too_late = self.main_ended().is_some_and(|ended| stop.is_some_and(|stop| ended <= stop));
        stop.filter(|_| anew && !too_late).or(self.requested())
    }

    /// A client took a pre-stop request back.
    fn cancelled(&self) -> Option<Micros> {
        self.sim.asked.iter().find(|(_, asks)| *asks == Asks::Cancel).map(|(when, _)| *when)
    }

    /// How much earlier SIGKILL may begin for so many processes.
    fn lead(&self) -> Micros {
        100 * self.sim.kernel.processes.len() as Micros
    }

    fn main_ended(&self) -> Option<Micros> {
        self.history.main.map(|main| micros(main.at.since_start()))
    }

    fn began(&self, phase: Phase) -> Option<Micros> {
        self.history
            .spans
            .iter()
            .find(|span| span.phase == phase)
            .map(|span| micros(span.began.since_start()))
    }

    fn hurried(&self) -> bool {
        self.sim.told.iter().filter(|(_, signal, _)| *signal == Signal::INT).count() >= 2
    }

    fn ours(&self) -> impl Iterator<Item = (Id, &Process)> {
        let all = self.sim.kernel.processes.iter().enumerate();
        all.filter(|(_, process)| process.owner != Owner::Stranger)
    }

    fn main(&self) -> &Process {
        let id = self.sim.starts.first().and_then(|start| start.id).unwrap();
        &self.sim.kernel.processes[id]
    }

    fn killed_at(process: &Process) -> Option<Micros> {
        process
            .got
            .iter()
            .find(|(_, signal, by_us)| *signal == Signal::KILL && *by_us)
            .map(|(when, _, _)| *when)
    }

    fn told_at(process: &Process) -> Option<Micros> {
        process
            .got
            .iter()
            .find(|(_, signal, by_us)| *by_us && *signal != Signal::KILL && *signal != Signal::CONT)
            .map(|(when, _, _)| *when)
    }

    fn steps_in_order(&self, wrong: &mut Vec<String>) {
        let mut last = (0_u8, None);
        // A chain that was taken back may run again.
        if self.cancelled().is_some() {
            return;
        }
        for start in &self.sim.starts[1..] {
            let Owner::Step(chain, index) = start.owner else { continue };
            if (chain, Some(index)) <= last {
                wrong.push(format!("{:?} started after {last:?}", start.owner));
            }
            last = (chain, Some(index));
        }
        for chain in [Chain::PreStop, Chain::PostStop] {
            let began: Vec<usize> = self.history.steps_of(chain).map(|record| record.id.index).collect();
            if began.windows(2).any(|pair| pair[0] >= pair[1]) {
                wrong.push(format!("{chain:?} recorded as {began:?}"));
            }
        }
    }

    fn steps_as_told(&self, wrong: &mut Vec<String>) {
        if self.cancelled().is_some() {
            return;
        }
        for start in &self.sim.starts[1..] {
            let Owner::Step(chain, index) = start.owner else { continue };
            let chain = if chain == 0 { Chain::PreStop } else { Chain::PostStop };
            let Some(record) = self.history.steps_of(chain).find(|record| record.id.index == index) else {
                wrong.push(format!("{:?} was started and is not in the history", start.owner));
                continue;
            };
            let process = start.id.map(|id| &self.sim.kernel.processes[id]);
            let fits = match &record.end {
                None => self.began(Phase::Done).is_none(),
                Some(StepEnd::NotStarted(_)) => process.is_none_or(|process| process.program.exec_fails),
                Some(StepEnd::Ended(outcome)) => {
                    process.is_some_and(|process| process.outcome() == Some(*outcome))
                }
                Some(StepEnd::Overdue | StepEnd::Cut) => true,
                Some(StepEnd::Skipped) => false,
            };
            if !fits {
                wrong.push(format!("{:?} is said to have ended as {:?}", start.owner, record.end));
            }
            // Its time is up at the end of the chain's, at its own bound, or when the whole is over.
            if record.end == Some(StepEnd::Overdue)
                && chain == Chain::PreStop
                && let Some(requested) = self.requested()
            {
                let ended = micros(record.ended.unwrap().since_start());
                let chain_end = self.plan.shutdown.budget().map(|budget| {
                    (requested + micros(budget) - micros(self.plan.shutdown.stop_window).min(micros(budget)))
                        .saturating_sub(self.lead())
                });
                let bound = self
                    .plan
                    .shutdown
                    .step_timeout
                    .map(|bound| micros(record.began.since_start()) + micros(bound));
                let allowed = [chain_end, bound].into_iter().flatten().min();
                if !self.hurried()
                    && self.history.cut.is_none()
                    && allowed.is_some_and(|allowed| ended < allowed)
                {
                    wrong
                        .push(format!("{:?} was overdue at {ended}, allowed until {allowed:?}", start.owner));
                }
            }
        }
        let chain_ran = self.requested().is_some_and(|requested| {
            self.main_ended().is_none_or(|ended| ended > requested)
                && self.cancelled().is_none()
                && self.began(Phase::Stopping).or(self.began(Phase::Leftovers)).is_some()
        });
        if chain_ran {
            let recorded = self.history.steps_of(Chain::PreStop).count();
            if recorded != self.sim.scenario.pre_stop.len() {
                wrong.push(format!("{recorded} pre-stop steps are in the history"));
            }
        }
    }

    /// When SIGKILL may come to this process.
    fn kill_is_due(&self, process: &Process, when: Micros) -> bool {
        // Half a second after the step was told to end.
        let of_the_step = self.ours().filter(|(_, other)| other.owner == process.owner);
        let told = of_the_step.filter_map(|(_, other)| Self::told_at(other)).min();
        if process.owner != Owner::Command
            && told.is_some_and(|told| when + 25 * MILLI + self.sim.scenario.call_takes >= told + 500 * MILLI)
        {
            return true;
        }
        if let Owner::Step(chain, index) = process.owner {
            let chain = if chain == 0 { Chain::PreStop } else { Chain::PostStop };
            let record = self.history.steps_of(chain).find(|record| record.id.index == index);
            let ended = record.and_then(|record| record.ended).map(|ended| micros(ended.since_start()));
            let overdue = record
                .is_some_and(|record| [Some(StepEnd::Overdue), Some(StepEnd::Cut)].contains(&record.end));
            if overdue && ended.is_some_and(|ended| when >= ended + 500 * MILLI) {
                return true;
            }
            // What a post-stop step leaves behind has no time of its own.
            if chain == Chain::PostStop && ended.is_some_and(|ended| when >= ended) {
                return true;
            }
        }
        if self.began(Phase::PostStop).is_some_and(|began| when >= began) {
            return true;
        }
        let Some(killing) = self.began(Phase::Killing) else { return false };
        let deadline = match (self.clock_began(), self.plan.shutdown.budget()) {
            // A guess kills the command late, and what it leaves behind when the guess is over.
            (Some(began), Some(_))
                if self.plan.shutdown.grace_source.is_guess()
                    && self.main_ended().is_none_or(|ended| ended > killing) =>
            {
                Some((began + 600 * SECOND).saturating_sub(self.lead()))
            }
            (Some(began), Some(budget)) => Some((began + micros(budget)).saturating_sub(self.lead())),
            (Some(_), None) | (None, _) => None,
        };
        let leftovers = match (self.main_ended(), self.plan.shutdown.leftovers) {
            (Some(ended), Leftovers::Wait(Some(wait)))
                if self.requested().is_none_or(|asked| asked >= ended) =>
            {
                Some(ended + micros(wait))
            }
            _ => None,
        };
        let due = [deadline, leftovers].into_iter().flatten().min();
        when >= killing && (self.hurried() || due.is_some_and(|due| killing + self.lead() >= due))
    }

    fn nobody_killed_too_early(&self, wrong: &mut Vec<String>) {
        for (id, process) in self.ours() {
            if let Some(when) = Self::killed_at(process)
                && !self.kill_is_due(process, when)
            {
                wrong.push(format!("SIGKILL to p{id} {:?} at {when}, before its moment", process.owner));
            }
        }
    }

    /// Whoever is killed in the end was asked to end before.
    fn everybody_told(&self, wrong: &mut Vec<String>) {
        let slack = self.slack();
        let gone_by = |process: &Process, when: Micros| {
            [process.died, Self::killed_at(process)].into_iter().flatten().any(|gone| gone <= when)
        };
        let can_be_told = |process: &Process| {
            !process.program.other_user
                // Below one that is hidden nobody is found.
                && (self.sim.scenario.proc == Proc::Full || self.sim.scenario.pid_1)
        };
        if let Some(began) = self.began(Phase::Leftovers) {
            for (id, process) in self.ours() {
                let leftover = process.born + slack < began && !gone_by(process, began + slack);
                // What the group forked since it had SIGTERM is its own way of ending.
                let way_of_ending = process.owner == Owner::Command
                    && self.history.stop_signals.last() == Some(&Signal::TERM)
                    && self.began(Phase::Stopping).is_some_and(|stopping| process.born >= stopping);
                let told = way_of_ending || Self::told_at(process).is_some_and(|told| told <= began + slack);
                if leftover && can_be_told(process) && !told && self.left() > began + slack {
                    wrong.push(format!("p{id} {:?} was left over and not told to end", process.owner));
                }
            }
        }
        if let Some(began) = self.began(Phase::Stopping)
            && self.plan.relay == RelayTo::Group
            && !self.history.stop_signals.is_empty()
        {
            let main = self.main();
            for (id, process) in self.ours() {
                let member = process.group == main.pid && process.owner == Owner::Command;
                let there = process.born + slack < began && !gone_by(process, began + slack);
                if member
                    && there
                    && can_be_told(process)
                    && Self::told_at(process).is_none()
                    && !gone_by(main, began)
                {
                    wrong.push(format!("p{id} is in the command's group and had no stop signal"));
                }
            }
        }
    }

    fn nobody_left_behind(&self, wrong: &mut Vec<String>) {
        let reserve = micros(self.plan.shutdown.reserve);
        let used_from = |end_of_grace: Micros| self.left() + self.slack() + reserve / 8 >= end_of_grace;
        let grace = self.plan.shutdown.grace.map(micros);
        let reserve_used =
            self.clock_began().zip(grace).is_some_and(|(asked, grace)| used_from(asked + grace))
                || self.began(Phase::Killing).is_some_and(|began| used_from(began + reserve))
                || self.hurried();
        for (id, process) in self.ours().filter(|(_, process)| process.is_alive()) {
            // Who cannot be seen cannot be told from strangers.
            if self.sim.scenario.proc != Proc::Full && !self.sim.scenario.pid_1 {
                continue;
            }
            let out_of_reach = process.program.other_user || process.program.dies_late > 0;
            if Self::killed_at(process).is_some() && self.began(Phase::PostStop).is_some() {
                continue;
            }
            // In a crowd the kernel takes its time, but less than SIGKILL came early for those that were there to be counted when
            // the stop began.
            let a_moment = 60 * MILLI + 100 * self.sim.scenario.call_takes;
            let last_pass = Self::killed_at(process).is_some_and(|killed| killed + a_moment > self.left())
                || self.requested().is_none_or(|asked| process.born >= asked)
                || self.sim.suspended > 0;
            // What was forked in the very end, between the last look and the last SIGKILL.
            let too_young = process.born + self.slack() > self.left();
            if too_young && self.sim.scenario.pid_1 && self.began(Phase::PostStop).is_some() {
                continue;
            }
            if !(reserve_used && (out_of_reach || last_pass || too_young)) {
                wrong.push(format!("p{id} {:?} is alive and we have left", process.owner));
            }
        }
    }

    /// Half a second after a step was told to end, nothing of it is left.
    fn overdue_steps_end_whole(&self, wrong: &mut Vec<String>) {
        if self.sim.scenario.proc != Proc::Full {
            return;
        }
        for record in &self.history.steps {
            let (Some(StepEnd::Overdue | StepEnd::Cut), Some(ended), Chain::PreStop) =
                (&record.end, record.ended, record.id.chain)
            else {
                continue;
            };
            let ended = micros(ended.since_start());
            let by = ended + 500 * MILLI + self.slack();
            for (id, process) in self.ours() {
                let of_it = process.owner == Owner::Step(0, record.id.index);
                let after = process.born > ended + 500 * MILLI || process.program.dies_late > 0;
                let there = process.died.unwrap_or(self.left()) > by;
                if of_it && there && !after && !process.program.other_user {
                    wrong.push(format!("p{id} of overdue step {} is there at {by}", record.id.index));
                }
            }
        }
    }

    fn right_status(&self, status: ExitStatus, wrong: &mut Vec<String>) {
        let main = self.main();
        if main.program.exec_fails
            && !main.got.iter().any(|(_, signal, by_us)| *by_us && *signal == Signal::KILL)
        {
            if status != ExitStatus::NOT_FOUND {
                wrong.push(format!("exit status {status} of a command that was not found"));
            }
            return;
        }
        let expected = match main.state {
            State::Gone(outcome) => self.plan.zero_codes.apply(outcome.status()),
            State::Zombie(_) | State::Starting | State::Runs => ExitStatus::KILLED,
        };
        // Kept from running past the end of its time, it has none left to hear how the command ended.
        let too_late =
            self.sim.suspended > 0 && status == ExitStatus::KILLED && self.began(Phase::Killing).is_some();
        if status != expected && !too_late {
            wrong.push(format!("exit status {status}, and the command's is {expected}"));
        }
    }

    fn in_time(&self, wrong: &mut Vec<String>) {
        // Whoever sends the signal counts from it.
        let stop = self.history.stop.map(|stop| micros(stop.at.since_start()));
        // A stop that was asked for during the hook passes through Prepared when the hook is over.
        let prepared = self.history.spans.iter().rfind(|span| span.phase == Phase::Prepared);
        let passed = prepared.and_then(|span| span.ended).map(|ended| micros(ended.since_start()));
        let began = stop.map(|stop| passed.unwrap_or(stop).max(stop)).or(self.requested());
        let (Some(requested), Some(mut grace)) = (began, self.plan.shutdown.grace) else {
            return;
        };
        // Before a stop request no deadline acts, and a command that ends by itself leaves its leftovers a grace of their own.
        let asked = self.history.trigger.map(|trigger| trigger.request);
        if stop.is_none() && asked == Some(StopRequest::PreStop) {
            return;
        }
        if self.plan.shutdown.grace_source.is_guess() {
            grace = Duration::from_secs(600) + self.plan.shutdown.reserve;
        }
        // However many processes there are: a scan and a signal for each are part of the promise, where calls take what they
        // take on a real machine.
        let slack =
            if self.sim.scenario.call_takes <= 10 { 60 * MILLI + self.sim.suspended } else { self.slack() };
        // A container that was frozen past its deadline has its stop window again.
        let thawed = if self.sim.suspended > 0 { self.sim.suspended + micros(grace) } else { 0 };
        let end = requested + micros(grace) + slack + thawed;
        if self.left() > end {
            wrong.push(format!("left at {}, the grace ended at {}", self.left(), requested + micros(grace)));
        }
    }

    fn at_once(&self, wrong: &mut Vec<String>) {
        let last = self.ours().map(|(_, process)| process.died.unwrap_or(Micros::MAX)).max();
        let clients = self.sim.wires.iter().any(|(asks, leaves, _)| {
            *leaves != Leaves::Answered
                && [Asks::PreStop, Asks::StopUntilPrepared, Asks::StopUntilStopped].contains(asks)
        });
        let patience = if clients { SECOND } else { 0 };
        if let Some(last) = last
            && last != Micros::MAX
            && self.left() > last + patience + self.slack()
        {
            wrong.push(format!("the last process ended at {last}, and we left at {}", self.left()));
        }
    }

    /// The history names those that our SIGKILL ended, and nobody else.
    fn killed_as_told(&self, wrong: &mut Vec<String>) {
        let by_kill = |process: &Process| {
            process.outcome() == Some(Outcome::Killed(Signal::KILL)) && Self::killed_at(process).is_some()
        };
        let killed: Vec<Id> = self.ours().filter(|(_, process)| by_kill(process)).map(|(id, _)| id).collect();
        let told = self.history.killed.count();
        let exact = self.sim.scenario.proc == Proc::Full
            && self.ours().all(|(_, process)| process.program.dies_late == 0);
        // What the kernel ends because we killed another (an orphaned group's SIGHUP) may be counted, for nobody but its own
        // parent is told how it ended.
        let in_the_pass = |process: &Process| {
            self.sim.sent.iter().any(|sent| {
                sent.signal == Signal::KILL
                    && process.died.is_none_or(|died| died + self.slack() >= sent.when)
            })
        };
        if told > self.ours().filter(|(_, process)| in_the_pass(process)).count() {
            wrong.push(format!("{told} are said to be killed, and {killed:?} were"));
        }
        if exact
            && told == 0
            && !killed.is_empty()
            && self.ours().any(|(id, process)| {
                killed.contains(&id) && process.born + self.slack() < Self::killed_at(process).unwrap()
            })
        {
            wrong.push(format!("nobody is said to be killed, and {killed:?} were"));
        }
        let text = self.history.killed.to_string();
        for name in text.split([' ', ',']).filter_map(|word| word.strip_prefix('p')?.split_once('(')) {
            let id: Id = name.0.parse().unwrap();
            let process = &self.sim.kernel.processes[id];
            let parent_is_us = process.parent == Some(Parent::Init);
            let by_itself = process.outcome().is_some_and(|outcome| outcome != Outcome::Killed(Signal::KILL));
            if by_itself && (parent_is_us || !in_the_pass(process)) {
                wrong.push(format!("p{id} is said to be killed, and it {}", process.outcome().unwrap()));
            }
        }
    }

    /// There is a report exactly where something went wrong that the exit status does not say.
    fn reports_what_went_wrong(&self, wrong: &mut Vec<String>) {
        let killed = self.ours().any(|(_, process)| {
            process.outcome() == Some(Outcome::Killed(Signal::KILL)) && Self::killed_at(process).is_some()
        });
        let history = self.history;
        let step = history.steps.iter().any(StepRecord::went_wrong);
        let told = history.cut.is_some() || history.skipped_by.is_some() || history.guess_is_over;
        let left = history.survivors > 0 || self.ours().any(|(_, process)| process.is_alive());
        match &self.sim.report {
            Some(report) if !(killed || step || told || left) => {
                wrong.push(format!("a report though nothing went wrong: {report:?}"));
            }
            None if history.killed.count() > 0 || step || told || history.survivors > 0 => {
                wrong.push("something went wrong and there is no report".to_owned());
            }
            Some(_) | None => {}
        }
    }

    /// Whoever is answered that all is well finds it so.
    fn clients_told_the_truth(&self, wrong: &mut Vec<String>) {
        let well_run = self.history.steps_of(Chain::PreStop).filter(|record| !record.went_wrong()).count();
        for (number, (asks, _, wire)) in self.sim.wires.iter().enumerate() {
            let text = String::from_utf8_lossy(&wire.borrow().from_init).into_owned();
            let last = text.trim_end().rsplit("\n\n").next().map(|block| format!("{block}\n\n"));
            let Some(status) = last.as_deref().and_then(Status::decode).filter(|status| status.answer) else {
                continue;
            };
            // What is taken back was not asked to be well; what ran before that has no record any more.
            if !status.failures.is_empty() || *asks == Asks::Cancel || self.cancelled().is_some() {
                continue;
            }
            if well_run < self.sim.scenario.pre_stop.len() {
                wrong.push(format!(
                    "client {number} ({asks:?}) was told that all is well, and {well_run} steps were"
                ));
            }
            if *asks == Asks::StopUntilStopped && self.history.killed.count() > 0 {
                wrong.push(format!(
                    "client {number} ({asks:?}) was told that all is well, and there were killed"
                ));
            }
        }
    }

    fn stop_signal_once(&self, wrong: &mut Vec<String>) {
        let main = self.main();
        let relayed: usize = self
            .sim
            .told
            .iter()
            .filter(|(_, signal, from)| *signal != Signal::TERM && *from != From::Terminal)
            .count();
        let terms = main.got.iter().filter(|(_, signal, by_us)| *by_us && *signal == Signal::TERM).count();
        let rungs = self.history.stop_signals.iter().filter(|signal| **signal == Signal::TERM).count();
        if terms > rungs.max(1) {
            wrong.push(format!("the command had {terms} SIGTERM, {rungs} rungs, {relayed} others"));
        }
    }
}
