//! Rules for containers in which grace-init runs, or whose hooks and probes call it.

use std::time::Duration;

use super::{Finding, Level, View, in_workload, shown};
use crate::kubectl::init::{Client, FirstProcess, GraceInit, client, drain_and_chain};
use crate::kubectl::kubelet::MINIMUM;
use crate::kubectl::pod::{At, DEFAULT_MESSAGE_PATH, Handler, Probe};
use crate::kubectl::shell::base_name;
use crate::signal::Signal;

/// Whether a word of a command line names process 1.
const PROCESS_1: [&str; 1] = ["--pid=1"];

pub(super) fn check(view: &View<'_>, findings: &mut Vec<Finding>) {
    if let FirstProcess::Refused { reason, span } = &view.first {
        let title = "grace-init refuses to start with these settings".to_owned();
        findings.push(
            view.finding("GI103", Level::Error, span.clone(), "", title)
                .label(reason)
                .effect("the container exits with 125 at once, and is restarted for ever".to_owned())
                .remedy("change it as the message says"),
        );
    }
    clients(view, findings);
    if let Some(stop_signal) = &view.container.stop_signal
        && view.pod().os.is_none()
    {
        let title = "lifecycle.stopSignal needs spec.os.name".to_owned();
        findings.push(
            view.finding("GI113", Level::Error, stop_signal.span.clone(), "lifecycle.stopSignal", title)
                .label("the pod does not say its operating system")
                .effect("the API server rejects the pod")
                .remedy("add \"os: {name: linux}\" to the pod's spec"),
        );
    }
    let Some(init) = view.first.as_grace() else { return };
    for warning in &init.warnings {
        let variable = view.container.env.iter().find(|variable| warning.contains(&variable.name.value));
        let span = variable.map_or(init.span.clone(), |variable| variable.name.span.clone());
        let title = "grace-init will warn of these settings".to_owned();
        findings.push(view.finding("GI104", Level::Warning, span, "", title).label(warning));
    }
    grace(view, init, findings);
    stop_signal(view, init, findings);
    probes(view, init, findings);
    if view.container.is_sidecar && init.has_preparation() && view.container.hook.is_none() {
        let title = "this sidecar's drain begins only when its turn comes".to_owned();
        findings.push(
            view.finding("GI108", Level::Warning, init.span.clone(), "", title)
                .label("a drain or pre-stop steps, and no preStop hook")
                .effect(format!(
                    "it gets its signal when the main containers have ended, in the worst case at {} with {MINIMUM}s left",
                    shown(view.grace())
                ))
                .remedy("add the preStop hook [\"grace-init\", \"pre-stop\"]: it begins with the deletion"),
        );
    }
    report(view, init, findings);
    let inner = init.program();
    if ["grace-init", "dumb-init", "tini"].contains(&base_name(&inner)) {
        let title = format!("grace-init runs another init, {inner}");
        findings.push(
            view.finding("GI114", Level::Warning, init.span.clone(), "command", title)
                .label("two inits have two deadlines")
                .remedy("name one of them only"),
        );
    }
}

fn grace(view: &View<'_>, init: &GraceInit, findings: &mut Vec<Finding>) {
    let pod = view.grace();
    let field = init_setting(view, init, "GRACE_INIT_GRACE");
    let whole = |time: Duration| format!("{}s", time.as_secs());
    let Some(told) = init.told_grace() else {
        if init.is_guessed()
            && !init.may_be_hidden
            && init.plan.shutdown.grace != Some(pod)
            && view.pod().grace.is_some()
        {
            let assumed = init.plan.shutdown.grace.unwrap_or_default();
            let title = format!("the init is not told the pod's grace of {}", shown(pod));
            findings.push(
                view.finding("GI101", Level::Warning, init.span.clone(), "command", title)
                    .label(format!("it assumes {}", shown(assumed)))
                    .effect("drain and pre-stop steps are planned for the assumed time, and the command is not killed in order")
                    .remedy(format!("set GRACE_INIT_GRACE to \"{}\"", whole(pod))),
            );
        }
        return;
    };
    let foreign = view.hook.filter(|_| view.has_foreign_hook());
    let hook = foreign.map_or(Duration::ZERO, |hook| Duration::from_secs(hook.least.as_secs()));
    let left = pod.saturating_sub(hook).max(Duration::from_secs(MINIMUM));
    let budget = told.saturating_sub(init.plan.shutdown.reserve);
    if told > left && !hook.is_zero() && told <= pod {
        let level = if budget >= left { Level::Error } else { Level::Warning };
        let title =
            format!("the hook's {} are not taken off the init's grace of {}", shown(hook), shown(told));
        findings.push(
            view.finding("GI102", level, field, "env", title)
                .label(format!("{} are left when the init gets its signal", shown(left)))
                .effect(format!(
                    "the runtime kills the container at {}, the init's own deadline would be at {}",
                    shown(hook.saturating_add(left)),
                    shown(hook.saturating_add(budget))
                ))
                .remedy(format!(
                    "use [\"grace-init\", \"pre-stop\"] as the hook with --drain {}, or set --grace to {}",
                    whole(hook),
                    whole(left)
                )),
        );
    } else if told > pod.max(Duration::from_secs(MINIMUM)) {
        let level = if budget >= pod { Level::Error } else { Level::Warning };
        let title = format!("the init's grace of {} is longer than the pod's {}", shown(told), shown(pod));
        findings.push(
            view.finding("GI101", level, field, "env", title)
                .label(format!("the pod gives {}", shown(pod)))
                .effect(format!(
                    "the runtime kills the container at {}, the init's own deadline would be at {}",
                    shown(pod.max(Duration::from_secs(MINIMUM))),
                    shown(budget)
                ))
                .remedy(format!("set both to the same: GRACE_INIT_GRACE \"{}\"", whole(pod))),
        );
    } else if told < pod
        && view.container.hook.as_ref().is_none_or(|_| !view.has_foreign_hook())
        && !view.container.is_sidecar
    {
        let title = format!("the init's grace of {} is shorter than the pod's {}", shown(told), shown(pod));
        findings.push(
            view.finding("GI101", Level::Warning, field, "env", title)
                .label(format!("the pod gives {}", shown(pod)))
                .effect(format!("the init kills what still runs at {}", shown(budget)))
                .remedy(format!("set both to the same: GRACE_INIT_GRACE \"{}\"", whole(pod))),
        );
    }
}

/// Where a setting is written: its variable, or else the init's word.
fn init_setting(view: &View<'_>, init: &GraceInit, variable: &str) -> std::ops::Range<usize> {
    let words = view.container.command.iter().flatten().chain(view.container.args.iter().flatten());
    let mut words = words.skip_while(|word| !["--grace", "-g"].contains(&word.value.as_str()));
    let on_the_line = words.nth(1).map(|word| word.span.clone());
    let in_variable = || view.container.variable(variable).map(|value| value.span.clone());
    on_the_line.or_else(in_variable).unwrap_or(init.span.clone())
}

fn stop_signal(view: &View<'_>, init: &GraceInit, findings: &mut Vec<Finding>) {
    if matches!(view.client(), Some(Client::PreStop | Client::Stop)) || !init.has_preparation() {
        return;
    }
    let of_image = || view.image.and_then(|image| image.stop_signal.as_deref());
    let name = view.container.stop_signal.as_ref().map(|signal| signal.value.as_str()).or_else(of_image);
    let Some(signal) = name.and_then(Signal::parse).filter(|signal| !init.stops_on(*signal)) else { return };
    let span = view.container.stop_signal.as_ref().map_or(init.span.clone(), |signal| signal.span.clone());
    let title = format!("the container is stopped by {signal}, which does not begin the init's shutdown");
    findings.push(
        view.finding("GI106", Level::Error, span, "lifecycle.stopSignal", title)
            .label("not in --stop-on")
            .effect("the signal is relayed to the command at once: no drain and no pre-stop steps")
            .remedy(format!(
                "add the preStop hook [\"grace-init\", \"pre-stop\"], or --stop-on {signal},TERM,INT"
            )),
    );
}

fn probes(view: &View<'_>, init: &GraceInit, findings: &mut Vec<Finding>) {
    let runs = view.container.hook.is_none() || view.client() == Some(Client::PreStop);
    let needs = drain_and_chain(&init.plan.shutdown).least;
    let all = [("livenessProbe", &view.container.liveness), ("startupProbe", &view.container.startup)];
    for (field, probe) in all {
        let Some(grace) = probe.as_ref().and_then(|probe: &Probe| probe.grace.as_ref()) else { continue };
        let given = crate::kubectl::init::seconds_of(grace.value);
        if runs && needs >= given && !needs.is_zero() {
            let title = format!(
                "the drain and pre-stop steps of {} use up the probe's grace of {}",
                shown(needs),
                shown(given)
            );
            findings.push(
                view.finding("GI107", Level::Warning, grace.span.clone(), field, title)
                    .label(format!("{} from the failed probe to the stop signal", shown(given)))
                    .effect(if view.container.hook.is_some() {
                        format!(
                            "the command gets its stop signal at {} and SIGKILL {MINIMUM}s later",
                            shown(given)
                        )
                    } else {
                        format!("SIGKILL comes at {}, before the command was told", shown(given))
                    })
                    .remedy(format!("make it longer than {}, or leave it out", shown(needs))),
            );
        }
    }
}

fn report(view: &View<'_>, init: &GraceInit, findings: &mut Vec<Finding>) {
    let Some(path) = init.report_path().and_then(|path| path.to_str()) else { return };
    let collected = view.container.message_path.as_deref().unwrap_or(DEFAULT_MESSAGE_PATH);
    let is_mounted = view.container.mounts.iter().any(|(_, mount)| is_below(path, mount));
    if path != collected && path != DEFAULT_MESSAGE_PATH && !is_mounted {
        let title = format!("the report goes to {path}, which Kubernetes does not collect");
        findings.push(
            view.finding("GI112", Level::Note, init.span.clone(), "command", title)
                .label(format!("terminationMessagePath is {collected}"))
                .effect("the report is gone with the container")
                .remedy("leave --report out: the init finds the path"),
        );
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
}

fn clients(view: &View<'_>, findings: &mut Vec<Finding>) {
    let container = view.container;
    let hook = container.hook.as_ref().map(|hook| ("lifecycle.preStop", &hook.value));
    let probe = |field, probe: &'_ Option<Probe>| probe.as_ref().map(|probe| (field, probe.handler.clone()));
    let probes = [
        probe("readinessProbe", &container.readiness),
        probe("livenessProbe", &container.liveness),
        probe("startupProbe", &container.startup),
    ];
    let handlers =
        hook.map(|(field, handler)| (field, handler.clone())).into_iter().chain(probes.into_iter().flatten());
    for (field, handler) in handlers {
        let Handler::Exec(words) = &handler else { continue };
        let Some(client) = client(words, container, view.image) else { continue };
        let Some(span) = span_of(words) else { continue };
        let is_hook = field == "lifecycle.preStop";
        match &client {
            Client::Refused(reason) => findings.push(
                view.finding("GI103", Level::Error, span.clone(), field, "grace-init refuses this command line".to_owned())
                    .label(reason)
                    .effect("it exits with 125 each time")
                    .remedy("change it as the message says"),
            ),
            Client::Stop if is_hook => findings.push(
                view.finding("GI105", Level::Warning, span.clone(), field, "the preStop hook stops the command itself".to_owned())
                    .label("runs the whole shutdown")
                    .effect(if container.is_sidecar {
                        "the sidecar ends at once, while the main containers still need it"
                    } else {
                        "the kubelet's signal finds a container that has ended, and its events cannot tell a stop from a crash"
                    })
                    .remedy("use [\"grace-init\", \"pre-stop\"]: the kubelet sends the stop signal when it is over"),
            ),
            Client::Ready { serving: false } if field == "readinessProbe" => findings.push(
                view.finding("GI109", Level::Warning, span.clone(), field, "this probe fails as soon as the drain begins".to_owned())
                    .label("without --serving")
                    .effect("the endpoint stops serving at 0s, though the command still does: kube-proxy has nothing to fall back to")
                    .remedy("add --serving"),
            ),
            Client::PreStop | Client::Stop | Client::Ready { .. } | Client::Hook { .. } | Client::Other => {}
        }
        wrong_process(view, field, words, &client, findings);
        if is_hook && matches!(client, Client::PreStop | Client::Stop) {
            without_init(view, field, &span, findings);
        }
    }
}

fn span_of(words: &[At<String>]) -> Option<std::ops::Range<usize>> {
    Some(words.first()?.span.start..words.last()?.span.end)
}

fn wrong_process(
    view: &View<'_>,
    field: &str,
    words: &[At<String>],
    client: &Client,
    findings: &mut Vec<Finding>,
) {
    if view.pod().shares_processes.is_none() && view.pod().host_pid.is_none() {
        return;
    }
    let names_1 = words.iter().any(|word| PROCESS_1.contains(&word.value.as_str()))
        || words
            .windows(2)
            .any(|pair| matches!(pair, [option, pid] if option.value == "--pid" && pid.value == "1"));
    let hook_on_1 = matches!(client, Client::Hook { stops: true, pid: 1, .. });
    let Some(span) = span_of(words).filter(|_| names_1 || hook_on_1) else { return };
    let other = if view.pod().host_pid.is_some() { "the node's init" } else { "the pod's pause process" };
    findings.push(
        view.finding("GI110", Level::Error, span, field, format!("process 1 is {other} here"))
            .label("addresses process 1")
            .effect("the command fails, and nothing is prepared")
            .remedy("leave --pid out: the client finds its own container's init"),
    );
}

fn without_init(view: &View<'_>, field: &str, span: &std::ops::Range<usize>, findings: &mut Vec<Finding>) {
    let names_it = |texts: &[String]| texts.iter().any(|text| base_name(text) == "grace-init");
    let (level, what) = match &view.first {
        FirstProcess::OtherInit { name, command } if !names_it(command) => (Level::Warning, name.clone()),
        FirstProcess::Shell { script: Some(script), .. } if !names_it(&script.programs()) => {
            (Level::Warning, "a shell".to_owned())
        }
        // A script may have the init in its first line.
        FirstProcess::Program(words) => {
            (Level::Note, words.first().map(|word| word.value.clone()).unwrap_or_default())
        }
        FirstProcess::OtherInit { .. }
        | FirstProcess::Shell { .. }
        | FirstProcess::Grace(_)
        | FirstProcess::Refused { .. }
        | FirstProcess::Unknown => return,
    };
    findings.push(
        view.finding(
            "GI115",
            level,
            span.clone(),
            field,
            format!("the hook asks an init, and the container starts {what}"),
        )
        .label("needs grace-init as the container's first process")
        .effect("unless it runs grace-init, the hook fails with 127 and nothing drains")
        .remedy("put grace-init in front of the command, or use [\"grace-init\", \"hook\", ...]"),
    );
}

pub(super) fn check_pod(views: &[View<'_>], findings: &mut Vec<Finding>) {
    for (index, view) in views.iter().enumerate() {
        let Some(path) = control(view) else { continue };
        let Some(other) = views.iter().take(index).find(|other| control(other) == Some(path)) else {
            continue;
        };
        let shared = |name: &str, mount: &str| {
            is_below(path, mount)
                && other.container.mounts.iter().any(|(volume, place)| volume == name && place == mount)
        };
        let on_volume = view.container.mounts.iter().any(|(name, mount)| shared(name, mount));
        if on_volume || path.starts_with("/dev/shm/") {
            let mut words =
                view.container.command.iter().flatten().chain(view.container.args.iter().flatten());
            let word = words.find(|word| word.value.ends_with(path));
            let place = view.container.variable("GRACE_INIT_CONTROL").or(word);
            let span = place.map_or(view.container.name.span.clone(), |place| place.span.clone());
            let object_path = format!("{}.{}", view.workload.path, view.container.path);
            let title =
                format!("this container and {} have one control socket, {path}", other.container.name.value);
            let mut finding = in_workload(view.workload, "GI111", Level::Error, span, &object_path, title);
            finding.container = Some(view.container.name.value.clone());
            findings.push(
                finding
                    .label("both see this path")
                    .effect(
                        "the second init takes the first one's place, and hooks reach the wrong container",
                    )
                    .remedy("leave --control out, or end it with a slash to make it a folder"),
            );
        }
    }
}

fn control<'a>(view: &'a View<'_>) -> Option<&'a str> {
    view.first.as_grace()?.control_path()?.to_str().filter(|path| !path.ends_with('/'))
}
