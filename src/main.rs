//! An init (PID 1) for containers, built around graceful shutdown.
#![no_main]

use grace_init::cli::{self, Environment, Invocation};
use grace_init::outcome::ExitStatus;
use grace_init::system::linux::entry::{self, Origin};
use grace_init::system::linux::{files, process, report_unusable};
use grace_init::{control::client, entry, init, init::hook, init::pause, log, output, report};

entry!(run);

fn run(origin: Origin) -> ExitStatus {
    match cli::read(origin.words.clone(), &environment()) {
        Ok(Invocation::Run(plan)) => {
            log::begin(plan.log);
            log::warn_of(&plan.warnings);
            init::run(*plan, &origin)
        }
        Ok(Invocation::Explain(plan)) => {
            origin.give_back_mask();
            log::begin(plan.log);
            log::warn_of(&plan.warnings);
            output::out(&report::explain(&plan.shutdown))
        }
        Ok(Invocation::Client(plan)) => {
            origin.give_back_mask();
            client::run(&plan)
        }
        Ok(Invocation::Hook(plan)) => {
            log::begin(plan.run.log);
            log::warn_of(&plan.run.warnings);
            hook::run(*plan, &origin)
        }
        Ok(Invocation::CopyTo(destination)) => {
            origin.give_back_mask();
            output::copied(files::copy_own_file(&destination), &destination)
        }
        Ok(Invocation::Pause(log)) => {
            log::begin(log);
            pause::run()
        }
        Ok(Invocation::Print(text)) => {
            origin.give_back_mask();
            output::print(&text)
        }
        Err(refusal) => {
            report_unusable(&refusal.text());
            output::refuse(&refusal)
        }
    }
}

fn environment() -> Environment<'static> {
    Environment {
        variables: entry::variables(),
        is_first_process: process::may_be_first_of_container(),
        is_program: &files::is_program,
        absolute: &files::absolute,
    }
}
