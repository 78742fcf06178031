//! What an init does, observed from outside: on grace-init, or on the program in `INIT_UNDER_TEST`.
//!
//! A test that needs something this machine lacks is reported as ignored, with the need in brackets; with
//! `GRACE_INIT_TEST_ALL=1` it fails instead.
#![allow(
    unsafe_code,
    clippy::incompatible_msrv,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::missing_docs_in_private_items,
    missing_docs,
    reason = "a test may panic, and its kills and terminals are system calls"
)]

mod known_differences;
mod support;
mod traces;

/// Declares the files of tests and the list of them in one place.
macro_rules! themes {
    (every init: $($every:ident)+; only ours: $($ours:ident)+) => {
        $(mod $every;)+
        $(mod $ours;)+
        fn main() -> std::process::ExitCode {
            let every = vec![$((stringify!($every), $every::behaviours())),+];
            let ours = vec![$((stringify!($ours), $ours::behaviours())),+];
            support::run_all(every, ours)
        }
    };
}

themes! {
    every init:
    exit_status
    relay
    early_signals
    world
    reaping
    leftovers
    personalities
    tty
    log
    scripts
    containers;
    only ours:
    command_line
    shutdown
    steps
    report
    deadline
    control_socket
    faults
    house
    images
    kubelet
    manifests
    packaging
    security
    services
    storms
}
