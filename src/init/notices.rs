//! What the init says on its way.

use std::io;

use tracing::{debug, error, info, warn};

use super::run_loop::Init;
use crate::outcome::ExitStatus;
use crate::plan::Report;
use crate::report::{self, Summary};
use crate::shutdown::{Notice, Phase, StepEnd, StepId};
use crate::system::{Descendants, System};
use crate::time::Deadline;

impl<S: System> Init<S> {
    pub(super) fn tell(&mut self, notice: Notice) {
        match notice {
            Notice::NotRelayed(received) => debug!(signal = %received.signal, "not relayed"),
            Notice::Repeated(received) => {
                debug!(signal = %received.signal, "a repeated stop signal changes nothing");
            }
            Notice::StopRequested(trigger) => {
                debug!(signal = %trigger.request, sender = %trigger.sender, "the shutdown begins");
            }
            Notice::Entered(phase) => self.tell_phase(phase),
            Notice::MainEnded(outcome) => {
                let exit_code = outcome.status().code();
                debug!(pid = self.main.pid.as_raw(), exit_code, "the command {outcome}");
            }
            Notice::StepEnded(id, end) => self.tell_step(id, &end),
            Notice::ChainCut(id) => warn!(number = id.number(), "skipping the remaining steps"),
            Notice::GaveUp => self.tell_survivors(),
            Notice::Cut(request) => warn!(
                signal = %request,
                "a stop signal came before the hook was over; the drain and the chain end here"
            ),
            Notice::GuessOver => warn!("{}", report::guess_is_over(&self.machine)),
            Notice::CutToFit(warning) => warn!("{warning}"),
            Notice::Cancelled(sender) => info!(%sender, "the pre-stop request was cancelled"),
            Notice::NobodyStopped => warn!("no stop signal followed the pre-stop request; stopping now"),
            Notice::ShutdownSkipped(signal) => {
                warn!(%signal, "{}", report::shutdown_was_skipped(&self.machine, signal));
            }
        }
    }

    pub(super) fn append_to_report(&mut self, line: report::ReportLine) {
        let Report::File(path) = &self.plan.report else { return };
        let _ = (path, line);
    }

    fn tell_phase(&self, phase: Phase) {
        let remaining = match self.machine.deadline() {
            Deadline::At(_) => self.machine.deadline().remaining(self.system.now()),
            Deadline::Never => None,
        };
        let remaining_ms = remaining.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        if phase == Phase::Killing {
            warn!(phase = phase.name(), "killing what is left");
        } else {
            debug!(phase = phase.name(), remaining_ms, "a phase begins");
        }
    }

    fn tell_step(&self, id: StepId, end: &StepEnd) {
        let step = self.machine.step(id).map(|step| step.text.as_str()).unwrap_or_default();
        let number = id.number();
        match end {
            StepEnd::Ended(outcome) if outcome.succeeded() => debug!(step, number, "a step succeeded"),
            StepEnd::Ended(outcome) => {
                warn!(step, number, exit_code = outcome.status().code(), "a step failed: it {outcome}");
            }
            StepEnd::NotStarted(reason) => warn!(step, number, "a step could not start: {reason}"),
            StepEnd::Overdue => warn!(step, number, "a step ran out of time and is stopped"),
            StepEnd::Cut => warn!(step, number, "a step was cut short"),
            StepEnd::Skipped => {}
        }
    }

    /// What has ended and is only not reaped yet is nobody to speak of.
    fn tell_survivors(&mut self) {
        let survivors = self.system.descendants().as_ref().map_or(0, Descendants::count);
        self.machine.found_survivors(survivors);
        if survivors > 0 {
            error!(processes = survivors, "some processes survived SIGKILL; exiting anyway");
        }
    }

    /// The last words.
    pub(super) fn conclude(&mut self, status: ExitStatus) {
        let summary = Summary::of(&self.machine, self.system.now(), status);
        let elapsed_ms = u64::try_from(summary.elapsed().as_millis()).unwrap_or(u64::MAX);
        let exit_code = status.code();
        if summary.is_worth_a_line() {
            let trigger = self.machine.history().trigger;
            let sender = trigger.map(|trigger| trigger.sender.to_string());
            let signal = trigger.map(|trigger| trigger.request.signal().to_string());
            let (trigger, signal) = (sender.as_deref(), signal.as_deref());
            let members = summary.json_members();
            let (text, members) = (summary.summary(), members.as_str());
            if summary.went_wrong() {
                warn!(trigger, signal, elapsed_ms, exit_code, json = members, "{text}");
            } else {
                info!(trigger, signal, elapsed_ms, exit_code, json = members, "{text}");
            }
        }
        let (Report::File(path), Some(report)) = (&self.plan.report, summary.report()) else { return };
        match self.system.append_report(path, &report) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!(%error, path = %path.display(), "cannot write the report"),
        }
    }
}
