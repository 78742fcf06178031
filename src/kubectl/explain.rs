//! The timeline of a pod's stop: when the hooks run, when each container gets its signal, when SIGKILL falls. What cannot
//! be known, such as how long a program takes, is a range.

use std::time::Duration;

use super::init::FirstProcess;
use super::kubelet::{Ends, Moment, Subject, What, stop};
use super::rules::View;

/// What happens to a container, between two moments that may be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// At the earliest.
    pub earliest: Duration,
    /// At the latest; `None` where it may not happen at all, or never.
    pub latest: Option<Duration>,
    /// To which container.
    pub container: String,
    /// What.
    pub what: What,
}

/// The stop of one pod.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// The object, such as `Deployment/web`.
    pub object: String,
    /// The pod's grace.
    pub grace: Duration,
    /// When its last container is killed at the latest.
    pub last_kill: Duration,
    /// What happens, in its order.
    pub entries: Vec<Entry>,
    /// What the init does in each container that has one: its name, and the init's phases with their beginnings.
    pub inits: Vec<(String, Vec<(Duration, String)>)>,
}

impl Timeline {
    /// The timeline of a pod from the views of its containers.
    pub fn of(views: &[View<'_>]) -> Option<Self> {
        let first = views.first()?;
        let grace = first.grace();
        let subject = |view: &View<'_>, late: bool| {
            let hook =
                view.hook.map(|hook| if late { hook.most.unwrap_or(Duration::MAX) } else { hook.least });
            let ends = match (late, &view.first) {
                (false, _) => Ends::AfterSignal(Duration::ZERO),
                (true, FirstProcess::Grace(init)) => {
                    init.latest_end(view.container.hook.is_some() && !view.has_foreign_hook())
                }
                (true, _) => Ends::Never,
            };
            let is_sidecar = view.container.is_sidecar;
            Subject { name: view.container.name.value.clone(), is_sidecar, is_gone: false, hook, ends }
        };
        let run = |late| {
            let subjects: Vec<Subject> = views.iter().map(|view| subject(view, late)).collect();
            stop(grace.as_secs(), &subjects)
        };
        let (early, late) = (run(false), run(true));
        let mut entries: Vec<Entry> = Vec::new();
        for (index, view) in views.iter().enumerate() {
            let container = &view.container.name.value;
            let at = |moments: &[Moment], matches: &dyn Fn(What) -> bool| {
                moments
                    .iter()
                    .find(|moment| moment.subject == index && matches(moment.what))
                    .map(|moment| moment.at)
            };
            let mut add = |what: What, matches: &dyn Fn(What) -> bool| {
                let (early, late) = (at(&early, matches), at(&late, matches));
                if let Some(earliest) = early.or(late) {
                    entries.push(Entry { earliest, latest: late, container: container.clone(), what });
                }
            };
            add(What::HookBegins, &|what| what == What::HookBegins);
            add(What::HookEnds, &|what| matches!(what, What::HookEnds | What::HookOverruns));
            add(What::Signal, &|what| what == What::Signal);
            add(What::Kill, &|what| what == What::Kill);
        }
        entries.sort_by_key(|entry| (entry.earliest, entry.what));
        let kills = late.iter().filter(|moment| moment.what == What::Ended).map(|moment| moment.at);
        Some(Self {
            object: format!("{}/{}", first.workload.kind, first.workload.name),
            grace,
            last_kill: kills.max().unwrap_or_default(),
            entries,
            inits: views.iter().filter_map(phases).collect(),
        })
    }
}

/// What the init of a container does, from its first request on.
fn phases(view: &View<'_>) -> Option<(String, Vec<(Duration, String)>)> {
    let init = view.first.as_grace()?;
    let plan = &init.plan.shutdown;
    let mut phases = Vec::new();
    if !plan.drain.is_zero() {
        phases.push((Duration::ZERO, "drain: the command keeps serving".to_owned()));
    }
    for (number, step) in (1..).zip(&plan.pre_stop) {
        phases.push((plan.drain, format!("pre-stop step {number}: {}", step.text)));
    }
    let begins = super::init::drain_and_chain(plan).least;
    phases.push((begins, "the stop signal can be handed on from here".to_owned()));
    if let Some(budget) = plan.budget() {
        let what = if init.is_guessed() { "the assumed grace ends" } else { "the init kills what is left" };
        phases.push((budget, what.to_owned()));
    }
    Some((view.container.name.value.clone(), phases))
}
