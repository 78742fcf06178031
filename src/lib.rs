//! An init for containers whose subject is the graceful shutdown.
//!
//! The pure half decides and never makes a system call: [`cli`] and [`plan`] turn words into a checked plan,
//! [`shutdown`] is the state machine, [`report`] tells what it did. [`linux`] makes every system call and holds
//! every `unsafe`. [`runner`] is the loop between them.
#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, clippy::type_complexity, reason = "a test may fail by panicking")
)]

pub mod cli;
pub mod client;
pub mod control;
pub mod hook;
pub mod json;
pub mod linux;
pub mod log;
pub mod outcome;
pub mod plan;
pub mod protocol;
pub mod report;
pub mod runner;
pub mod shutdown;
pub mod signal;
pub mod steps;
pub mod time;
