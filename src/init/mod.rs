//! Running the shutdown for real: the loop around the machine, its steps, and the hook that runs without being an init.

mod actions;
pub mod hook;
mod notices;
pub mod pause;
mod run_loop;
mod steps;

use tracing::error;

pub use run_loop::Init;

use crate::outcome::ExitStatus;
use crate::plan::{Cause, Plan};
use crate::system::linux::Linux;
use crate::system::linux::entry::Origin;

/// Starts the command, stays until it and all that belongs to it has gone, and returns what to exit with.
pub fn run(plan: Plan, origin: &Origin) -> ExitStatus {
    let system = match Linux::open(origin, &plan.withheld_variables) {
        Ok(system) => system,
        Err(errno) => {
            error!("cannot receive signals: {}", errno.desc());
            return plan.start_failure.status(Cause::NoProcess);
        }
    };
    match Init::start(plan, system) {
        Ok(mut init) => init.run(),
        Err((error, status)) => {
            error!("{error:#}");
            status
        }
    }
}
