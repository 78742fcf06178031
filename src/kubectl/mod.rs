//! `kubectl grace`: what the shutdown of a pod will do, before it is deployed.
//!
//! [`input`] reads manifests into trees with positions, [`pod`] takes from them what decides the stop, [`init`] asks the
//! init's own plan what a container's first process does, [`kubelet`] runs the stop, [`rules`] judge it, [`render`] shows
//! it. Only [`cli`] reads files and prints.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::wildcard_enum_match_arm,
    reason = "this is a command-line tool and never PID 1: its numbers come from checked parsers, its foreign enums are large"
)]

pub mod cli;
pub mod explain;
pub mod image;
pub mod init;
pub mod inject;
pub mod input;
pub mod kubelet;
pub mod pod;
pub mod render;
pub mod rules;
pub mod shell;
