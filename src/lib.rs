//! An init (PID 1) for containers, built around graceful shutdown.
//!
//! The pure half decides and never makes a system call: [`cli`] and [`plan`] turn words into a checked plan,
//! [`shutdown`] is the state machine, [`report`] tells what it did. [`system::linux`] makes every system call and
//! holds every `unsafe`. [`builtin`] is what steps can do without a program: read by the plan, run in a process of its own. [`init`] is the loop between them, [`control`] the socket by which others talk to it, [`output`] what is
//! printed for whoever called us.
#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, clippy::type_complexity, reason = "a test may fail by panicking")
)]

pub mod builtin;
pub mod cli;
pub mod control;
pub mod init;
pub mod json;
#[cfg(feature = "kubectl")]
pub mod kubectl;
pub mod log;
pub mod outcome;
pub mod output;
pub mod plan;
pub mod report;
pub mod shutdown;
pub mod signal;
pub mod system;
pub mod time;
