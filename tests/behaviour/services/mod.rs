//! The examples: real software under the init, each started with the words of its own Dockerfile.

mod nginx;
mod scripts;

use crate::support::Behaviour;

/// The tests of all examples.
pub fn behaviours() -> Vec<Behaviour> {
    [nginx::behaviours(), scripts::behaviours()].into_iter().flatten().collect()
}
