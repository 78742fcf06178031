//! Running the shutdown for real: the loop around the machine, its steps, and the hook that runs without being an init.

pub mod hook;
pub mod run_loop;
mod steps;
