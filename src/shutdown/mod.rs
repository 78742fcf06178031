//! The shutdown as a pure machine: events and the time go in, actions come out.
//!
//! It makes no system call and has no clock, so every rule is tested without waiting. [`machine`] holds the states,
//! [`event`] what goes in and comes out, [`timetable`] the moments that follow from a request, [`history`] what the
//! summary and the report are made of.

mod event;
mod history;
mod machine;
#[cfg(test)]
mod tests;
mod timetable;

pub use event::{
    Action, CannotCancel, Chain, Event, Notice, Phase, Received, ReportLine, StepId, Surroundings, Victim,
};
pub use history::{Cut, History, Killed, MainEnd, Span, StepEnd, StepRecord, StopRequest, Trigger};
pub use machine::{STEP_KILL_DELAY, Shutdown};
