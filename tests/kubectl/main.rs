//! Tests of `kubectl grace`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may panic"
)]

mod traces;

mod corpus;
mod injection;
mod model;
mod output;
mod properties;
mod snapshots;
mod support;
