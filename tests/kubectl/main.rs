//! Tests of `kubectl grace`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    dead_code,
    missing_docs,
    reason = "a test may panic, and the reader of traces is not ours alone"
)]

#[path = "../behaviour/traces/mod.rs"]
mod traces;

mod corpus;
mod injection;
mod model;
mod output;
mod properties;
mod snapshots;
mod support;
