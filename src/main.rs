//! An init for containers whose subject is the graceful shutdown.
#![no_main]

use grace_init::cli::{self, Request};
use grace_init::outcome::ExitStatus;
use grace_init::system::linux::entry::Origin;
use grace_init::{control::client, entry, init, init::hook, log, report};

entry!(run);

fn run(origin: Origin) -> ExitStatus {
    match cli::read(origin.words.clone(), |name| std::env::var_os(name)) {
        Ok(Request::Run(plan)) => {
            log::begin(plan.log);
            init::run(*plan, &origin)
        }
        Ok(Request::Explain(plan)) => cli::Text::out(report::explain(&plan.shutdown)).print(),
        Ok(Request::Client(plan)) => {
            origin.give_back_mask();
            client::run(&plan)
        }
        Ok(Request::Hook(plan)) => {
            log::begin(plan.run.log);
            hook::run(*plan, &origin)
        }
        Ok(Request::Print(text)) => text.print(),
        Err(refusal) => refusal.print(),
    }
}
