//! From options to a checked plan. What does not fit together is said here, at the start, with the numbers.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tracing::level_filters::LevelFilter;

use super::environment::{Environment, FromVariables};
use super::options::{
    ExplainOptions, HookOptions, InitOptions, LogOptions, ReadyOptions, ShutdownOptions, StatusOptions,
    StopOptions, TargetOptions,
};
use super::spec::Group;
use super::values::OptionalPath;
use super::{Invocation, ParsedWords, refuse_misspelled_subcommand};
use crate::control::protocol::Until;
use crate::outcome::ZeroCodes;
use crate::plan::{
    Adopt, AfterFailure, ClientPlan, CommandLine, Control, GraceSource, HookPlan, Leftovers, LogFormat,
    LogPlan, Place, Placement, Plan, RelayTo, Report, Rung, ShutdownPlan, StartFailure, Step, Target, Work,
};
use crate::signal::{Rewrite, Rewrites, Signal, SignalSet};
use crate::time::Written;

const DEFAULT_RESERVE: Duration = Duration::from_secs(2);
const DEFAULT_LEFTOVER_GRACE: Duration = Duration::from_secs(5);
const MAX_DEFAULT_STOP_WINDOW: Duration = Duration::from_secs(10);

/// The plan of `grace-init` itself.
///
/// # Errors
/// The first thing that is wrong; `main` prints it and exits 125.
pub fn run(mut words: ParsedWords, environment: &Environment<'_>) -> Result<Invocation> {
    let shutdown = ShutdownOptions::take(&mut words.matches);
    let init = InitOptions::take(&mut words.matches);
    let log = LogOptions::take(&mut words.matches);
    let ExplainOptions { explain } = ExplainOptions::take(&mut words.matches);
    let mut command = words.operands();
    let variables = words.variables;
    if let (Some(program), false) = (command.first(), words.has_dashes) {
        refuse_misspelled_subcommand(program, environment)?;
    }
    let placement = if init.single_child { Placement::OurGroup } else { Placement::NewSession };
    let place = place(environment);
    let mut rewrites = Rewrites::default();
    for rule in init.rewrite {
        rewrites.set(rule.from, rule.to);
    }
    default_rewrites(&mut rewrites, placement);
    let mut zero_codes = ZeroCodes::default();
    for code in init.exit_zero {
        zero_codes.add(code);
    }
    let grace_source = grace_source(&shutdown, &variables, place);
    let mut shutdown = shutdown_plan(shutdown, grace_source)?;
    if let Some(stop_on) = init.stop_on {
        shutdown.stop_on = stop_on;
        shutdown.stop_on_given = true;
    }
    if let Some(limit) = init.leftover_grace {
        shutdown.leftovers = Leftovers::Wait(limit.time());
    }
    shutdown.post_stop = init.post_stop;
    let mut warnings = variables.warnings;
    warnings.extend(warning_of_no_time_for_steps(&shutdown));
    look_for_programs(&mut shutdown, &mut warnings, environment);
    if explain && command.is_empty() {
        // A timeline can be printed before there is anything to run.
        command.push("COMMAND".into());
    }
    let plan = Plan {
        command: CommandLine::from_words(command)
            .filter(|command| !command.program.is_empty())
            .ok_or_else(|| {
                anyhow!("no command given; put it after the options, for example: grace-init -- nginx -g 'daemon off;'")
            })?,
        placement,
        relay: if init.single_child { RelayTo::MainChild } else { RelayTo::Group },
        rewrites,
        adopt: Adopt::Orphans,
        warn_of_orphans: false,
        parent_death_signal: init.parent_death_signal,
        zero_codes,
        shutdown,
        report: match init.report {
            Some(OptionalPath::At(path)) => Report::File((environment.absolute)(&path)),
            Some(OptionalPath::None) => Report::None,
            None => Report::Default,
        },
        control: control(init.control, environment),
        log: log_plan(&log),
        start_failure: StartFailure::Ours,
        place,
        withheld_variables: variables.present,
        warnings,
    };
    Ok(if explain { Invocation::Explain(Box::new(plan)) } else { Invocation::Run(Box::new(plan)) })
}

/// The plan of `grace-init hook`: the shutdown's settings, with a process that is not ours in the command's place.
///
/// # Errors
/// As [`run`].
pub fn hook(mut words: ParsedWords, environment: &Environment<'_>) -> Result<Invocation> {
    let shutdown = ShutdownOptions::take(&mut words.matches);
    let log = LogOptions::take(&mut words.matches);
    let options = HookOptions::take(&mut words.matches);
    let variables = words.variables;
    let stops = shutdown.stop_signal.is_some();
    if options.kill && !stops {
        bail!("--kill needs --stop-signal: without a stop signal the process is not stopped from here");
    }
    let pid = options.pid.unwrap_or(1);
    let place = place(environment);
    let grace_source = grace_source(&shutdown, &variables, place);
    let mut shutdown = shutdown_plan(shutdown, grace_source)?;
    // It begins at once, and nothing else begins it.
    shutdown.stop_on = SignalSet::default();
    let mut warnings = variables.warnings;
    warnings.extend(warning_of_no_time_for_steps(&shutdown));
    look_for_programs(&mut shutdown, &mut warnings, environment);
    let run = Plan {
        command: CommandLine { program: format!("process {pid}").into(), arguments: Vec::new() },
        placement: Placement::NewSession,
        relay: RelayTo::MainChild,
        rewrites: Rewrites::default(),
        adopt: Adopt::Orphans,
        warn_of_orphans: false,
        parent_death_signal: None,
        zero_codes: ZeroCodes::default(),
        shutdown,
        report: Report::None,
        control: Control::None,
        log: log_plan(&log),
        start_failure: StartFailure::Ours,
        place,
        withheld_variables: variables.present,
        warnings,
    };
    Ok(Invocation::Hook(Box::new(HookPlan { run, pid, stops, kills: options.kill })))
}

fn place(environment: &Environment<'_>) -> Place {
    Place::detect(environment.is_first_process, |name| environment.is_set(name))
}

/// In a session of its own the command's group is an orphaned one, where the kernel drops the job-control
/// stops (setpgid(2)), so they become the STOP that nothing drops; as dumb-init does in `main`.
pub fn default_rewrites(rewrites: &mut Rewrites, placement: Placement) {
    if placement == Placement::NewSession {
        for signal in [Signal::TSTP, Signal::TTOU, Signal::TTIN] {
            rewrites.set_default(signal, Rewrite::To(Signal::STOP));
        }
    }
}

fn log_plan(options: &LogOptions) -> LogPlan {
    let level = if options.verbose { Some(LevelFilter::DEBUG) } else { options.log_level };
    LogPlan {
        name: "grace-init",
        level: level.unwrap_or(LevelFilter::INFO),
        format: options.log_format.unwrap_or(LogFormat::Text),
    }
}

fn control(path: Option<OptionalPath>, environment: &Environment<'_>) -> Control {
    match path {
        Some(OptionalPath::At(path)) => Control::At((environment.absolute)(&path)),
        Some(OptionalPath::None) => Control::None,
        None => Control::Default,
    }
}

/// A program that is not there at the start may be made before the step runs: that is a warning, not a refusal.
fn look_for_programs(plan: &mut ShutdownPlan, warnings: &mut Vec<String>, environment: &Environment<'_>) {
    let chains = [("--pre-stop", &mut plan.pre_stop), ("--post-stop", &mut plan.post_stop)];
    for (option, steps) in chains {
        for step in steps {
            let Some(program) = step.program().filter(|program| !(environment.is_program)(program)) else {
                continue;
            };
            step.missing_program = true;
            let place = if program.as_encoded_bytes().contains(&b'/') { "" } else { " in PATH" };
            warnings.push(format!(
                "{option} {:?}: {program:?} was not found{place}: the step will fail unless it is there by then",
                step.text
            ));
        }
    }
}

fn grace_source(options: &ShutdownOptions, variables: &FromVariables, place: Place) -> GraceSource {
    match (options.grace, variables.grace) {
        (Some(_), Some(name)) => GraceSource::Variable(name),
        (Some(_), None) => GraceSource::CommandLine,
        (None, _) => GraceSource::Guessed(place),
    }
}

fn shutdown_plan(options: ShutdownOptions, grace_source: GraceSource) -> Result<ShutdownPlan> {
    let grace = match (options.grace, grace_source) {
        (Some(limit), _) => limit.time(),
        (None, GraceSource::Guessed(place)) => Some(place.usual_grace()),
        (None, GraceSource::CommandLine | GraceSource::Variable(_) | GraceSource::None) => None,
    };
    let ladder = options.stop_signal.map(|ladder| ladder.0).unwrap_or_default();
    // Whoever wants no deadline wants nothing killed, unless the leftovers are given a time of their own.
    let leftover_grace = grace.map(|_| DEFAULT_LEFTOVER_GRACE);
    let mut plan = ShutdownPlan {
        grace,
        grace_source,
        cut_to_fit: None,
        reserve: match (options.reserve, grace) {
            (Some(reserve), _) => reserve,
            (None, Some(grace)) => default_reserve(grace),
            (None, None) => DEFAULT_RESERVE,
        },
        drain: options.drain.unwrap_or_default(),
        pre_stop: options.pre_stop,
        step_timeout: options.pre_stop_timeout,
        after_failure: options.pre_stop_failure.unwrap_or(AfterFailure::Continue),
        ladder,
        stop_window: Duration::ZERO,
        stop_on: [Signal::TERM, Signal::INT].into_iter().collect(),
        stop_on_given: false,
        leftovers: Leftovers::Wait(leftover_grace),
        post_stop: Vec::new(),
    };
    let given = options.stop_window;
    if let (Some(window), true) = (given, ladder_time(&plan.ladder) > given.unwrap_or(Duration::MAX)) {
        bail!(
            "the ladder of {} does not fit into the stop window of {}: shorten --stop-signal or lengthen --stop-window",
            Written(ladder_time(&plan.ladder)),
            Written(window)
        );
    }
    match grace {
        None => plan.stop_window = given.unwrap_or_default(),
        Some(grace) if grace_source.is_guess() => cut_to_fit(&mut plan, grace, given),
        Some(grace) => fit(&mut plan, grace, given)?,
    }
    Ok(plan)
}

fn default_reserve(grace: Duration) -> Duration {
    DEFAULT_RESERVE.min(grace.checked_div(5).unwrap_or_default())
}

fn ladder_time(ladder: &[Rung]) -> Duration {
    ladder.iter().filter_map(|rung| rung.wait).fold(Duration::ZERO, Duration::saturating_add)
}

/// A third of the budget and at most 10 s, but as long as the ladder; less where the drain leaves less, though not below a
/// tenth of the budget.
fn default_stop_window(plan: &ShutdownPlan, budget: Duration) -> Duration {
    let part = |parts| budget.checked_div(parts).unwrap_or_default();
    let wanted = part(3).min(MAX_DEFAULT_STOP_WINDOW);
    let left = shared_with_chain(plan, budget.saturating_sub(plan.drain));
    wanted.min(left).max(part(10)).max(ladder_time(&plan.ladder))
}

/// What a setting may take of a time that the chain needs as well: half of it, where there is a chain.
fn shared_with_chain(plan: &ShutdownPlan, time: Duration) -> Duration {
    if plan.pre_stop.is_empty() { time } else { time.checked_div(2).unwrap_or_default() }
}

/// Steps that have no time are legal, for the grace may be 0, but nobody wants them.
fn warning_of_no_time_for_steps(plan: &ShutdownPlan) -> Option<String> {
    let budget = plan.budget()?;
    let chain = budget.saturating_sub(plan.stop_window).saturating_sub(plan.drain);
    let is_told = !plan.grace_source.is_guess() && !plan.pre_stop.is_empty();
    (is_told && chain.is_zero()).then(|| {
        format!(
            "the drain of {} and the stop window of {} leave the pre-stop steps no time of the budget of {}: \
             shorten them or lengthen --grace",
            Written(plan.drain),
            Written(plan.stop_window),
            Written(budget)
        )
    })
}

/// Sets the stop window, and refuses what does not fit into a grace that we were told.
fn fit(plan: &mut ShutdownPlan, grace: Duration, given_window: Option<Duration>) -> Result<()> {
    if plan.reserve > grace {
        bail!(
            "the reserve of {} is longer than the grace of {}: shorten --reserve or lengthen --grace",
            Written(plan.reserve),
            Written(grace)
        );
    }
    let budget = grace.saturating_sub(plan.reserve);
    let have = format!(
        "{}, the grace of {} less the reserve of {}",
        Written(budget),
        Written(grace),
        Written(plan.reserve)
    );
    let drain = plan.drain;
    let ladder = ladder_time(&plan.ladder);
    if drain > budget {
        bail!(
            "the drain of {} does not fit into {have}: shorten --drain or lengthen --grace",
            Written(drain)
        );
    }
    if drain.saturating_add(ladder) > budget {
        bail!(
            "the drain of {} and the ladder of {} do not fit into {have}: shorten them or lengthen --grace",
            Written(drain),
            Written(ladder)
        );
    }
    let window = given_window.unwrap_or_else(|| default_stop_window(plan, budget));
    if drain.saturating_add(window) > budget {
        let origin = if given_window.is_some() { "" } else { ", its default," };
        bail!(
            "the drain of {} and the stop window of {}{origin} do not fit into {have}: \
             shorten --drain or --stop-window, or lengthen --grace",
            Written(drain),
            Written(window)
        );
    }
    plan.stop_window = window;
    if let Some(timeout) = plan.step_timeout.filter(|timeout| *timeout > grace) {
        bail!(
            "the --pre-stop-timeout of {} is longer than the grace of {}: shorten it or lengthen --grace",
            Written(timeout),
            Written(grace)
        );
    }
    let chain = budget.saturating_sub(window).saturating_sub(drain);
    let asleep = plan.pre_stop.iter().map(sleeps_for).fold(Duration::ZERO, Duration::saturating_add);
    if asleep > chain {
        bail!(
            "the pre-stop steps sleep for {}, but the chain has {}, the budget of {} less drain and stop window: \
             shorten them or lengthen --grace",
            Written(asleep),
            Written(chain),
            Written(budget)
        );
    }
    if let Some((step, timeout)) = longer_than_its_timeout(plan) {
        bail!(
            "--pre-stop {:?} takes longer than the --pre-stop-timeout of {}: shorten it or lengthen the timeout",
            step.text,
            Written(timeout)
        );
    }
    Ok(())
}

fn longer_than_its_timeout(plan: &ShutdownPlan) -> Option<(&Step, Duration)> {
    let timeout = plan.step_timeout?;
    plan.pre_stop.iter().find(|step| sleeps_for(step) > timeout).map(|step| (step, timeout))
}

/// How long a step surely takes.
fn sleeps_for(step: &Step) -> Duration {
    match &step.work {
        Work::Builtin(builtin) => builtin.time().unwrap_or_default(),
        Work::Signal(_) | Work::Program(_) => Duration::ZERO,
    }
}

/// Sets the stop window, and shortens what does not fit into a grace that is only a guess: the real one may be longer.
fn cut_to_fit(plan: &mut ShutdownPlan, grace: Duration, given_window: Option<Duration>) {
    let asked = (plan.reserve, plan.drain);
    if plan.reserve > grace {
        plan.reserve = default_reserve(grace);
    }
    let budget = grace.saturating_sub(plan.reserve);
    let wanted_window = given_window.unwrap_or_else(|| default_stop_window(plan, budget));
    plan.stop_window = wanted_window.min(budget);
    let before_the_stop = budget.saturating_sub(plan.stop_window);
    if plan.drain > before_the_stop {
        plan.drain = shared_with_chain(plan, before_the_stop);
    }
    let mut cut = Vec::new();
    for (what, asked, got) in [
        ("reserve", asked.0, plan.reserve),
        ("drain", asked.1, plan.drain),
        ("stop window", wanted_window, plan.stop_window),
    ] {
        if got < asked {
            cut.push(format!("the {what} from {} to {}", Written(asked), Written(got)));
        }
    }
    let chain = budget.saturating_sub(plan.stop_window).saturating_sub(plan.drain);
    let asleep = plan.pre_stop.iter().map(sleeps_for).fold(Duration::ZERO, Duration::saturating_add);
    if asleep > chain || (chain.is_zero() && !plan.pre_stop.is_empty()) {
        cut.push(format!("the pre-stop chain to {}", Written(chain)));
    }
    if !cut.is_empty() {
        plan.cut_to_fit = Some(format!(
            "shortened {} to fit a grace of {} ({}): set --grace to the time that the orchestrator gives",
            cut.join(" and "),
            Written(grace),
            plan.grace_source
        ));
    }
}

fn target(words: &mut ParsedWords, environment: &Environment<'_>) -> Target {
    let options = TargetOptions::take(&mut words.matches);
    Target { pid: options.pid, control: control(options.control, environment) }
}

/// What `grace-init pre-stop` is to do. Nothing here can be wrong, but all subcommands have one form.
pub fn pre_stop(mut words: ParsedWords, environment: &Environment<'_>) -> Result<Invocation> {
    Ok(Invocation::Client(ClientPlan::PreStop { target: target(&mut words, environment) }))
}

/// What `grace-init stop` is to do.
pub fn stop(mut words: ParsedWords, environment: &Environment<'_>) -> Result<Invocation> {
    let options = StopOptions::take(&mut words.matches);
    Ok(Invocation::Client(ClientPlan::Stop {
        target: target(&mut words, environment),
        until: options.until.unwrap_or(Until::Stopped),
        timeout: options.timeout,
    }))
}

/// What `grace-init cancel` is to do.
pub fn cancel(mut words: ParsedWords, environment: &Environment<'_>) -> Result<Invocation> {
    Ok(Invocation::Client(ClientPlan::Cancel { target: target(&mut words, environment) }))
}

/// What `grace-init status` is to do.
pub fn status(mut words: ParsedWords, environment: &Environment<'_>) -> Result<Invocation> {
    let StatusOptions { json } = StatusOptions::take(&mut words.matches);
    Ok(Invocation::Client(ClientPlan::Status { target: target(&mut words, environment), json }))
}

/// What `grace-init ready` is to do.
pub fn ready(mut words: ParsedWords, environment: &Environment<'_>) -> Result<Invocation> {
    let ReadyOptions { serving } = ReadyOptions::take(&mut words.matches);
    Ok(Invocation::Client(ClientPlan::Ready { target: target(&mut words, environment), serving }))
}

/// Where `grace-init copy-to` is to write.
///
/// # Errors
/// No destination.
pub fn copy_to(mut words: ParsedWords, _: &Environment<'_>) -> Result<Invocation> {
    match words.operands().pop().filter(|destination| !destination.is_empty()) {
        Some(destination) => Ok(Invocation::CopyTo(destination.into())),
        None => bail!("no destination given; for example: grace-init copy-to /shared/grace-init"),
    }
}

/// A plan from options by their long names, for the tests of other modules.
#[cfg(test)]
pub(crate) fn plan_for_tests(options: &[(&str, &str)]) -> Plan {
    let names: Vec<String> = options.iter().map(|(name, _)| format!("--{name}")).collect();
    let pairs = names.iter().zip(options).flat_map(|(name, (_, value))| [name.as_str(), value]);
    // A flag has no value.
    let pairs = pairs.filter(|word| !word.is_empty());
    let words: Vec<&str> = std::iter::once("grace-init").chain(pairs).chain(["--", "true"]).collect();
    plan_of_words_for_tests(&words)
}

/// A plan from a whole command line, as an ordinary process reads it.
#[cfg(test)]
pub(crate) fn plan_of_words_for_tests(words: &[&str]) -> Plan {
    match super::read(words.iter().map(Into::into).collect(), &Environment::default()) {
        Ok(Invocation::Run(plan)) => *plan,
        other => panic!("{words:?}: {other:?}"),
    }
}
