//! Rules for every pod, whether grace-init is in it or not.

use std::time::Duration;

use super::{Finding, Level, Platform, Settings, Traffic, Version, View, in_workload, shown};
use crate::kubectl::init::{Client, FirstProcess};
use crate::kubectl::input::{Node, Source};
use crate::kubectl::kubelet::{Ends, MINIMUM, Subject, What, stop};
use crate::kubectl::pod::{At, Handler, Workload, has_comment};
use crate::kubectl::shell::{OnTerm, Why, base_name, inline_script};

/// What a program should have between its stop signal and SIGKILL.
const ENOUGH: Duration = Duration::from_secs(5);
/// The cluster autoscaler's `--max-graceful-termination-sec`.
const AUTOSCALER: i64 = 600;
/// What GKE's spot nodes give ordinary pods.
const SPOT: i64 = 15;
/// Ports that a mesh's injected sidecar listens on (Istio, Linkerd).
const MESH_PORTS: [&str; 6] = ["15000", "15020", "15021", "15014", "4191", "4190"];
/// Names of ports to which nobody's requests go.
const SIDE_PORTS: [&str; 7] = ["metrics", "prom", "health", "probe", "admin", "debug", "liveness"];

pub(super) fn check(view: &View<'_>, findings: &mut Vec<Finding>) {
    drains(view, findings);
    hook_time(view, findings);
    first_process(view, findings);
    hook_reaches(view, findings);
    readiness(view, findings);
    sidecar(view, findings);
    version(view, findings);
}

fn is_replaced_under_load(workload: &Workload) -> bool {
    !matches!(workload.kind.as_str(), "Job" | "CronJob" | "Pod" | "PodTemplate")
}

fn drains(view: &View<'_>, findings: &mut Vec<Finding>) {
    let container = view.container;
    if container.is_sidecar || container.hook.is_some() || !is_replaced_under_load(view.workload) {
        return;
    }
    let is_side = |name: &str| SIDE_PORTS.iter().any(|side| name.contains(side));
    let serves = container.ports.iter().any(|port| !port.name.as_deref().is_some_and(is_side));
    if !serves || view.grace().is_zero() {
        return;
    }
    match &view.first {
        FirstProcess::Grace(init) if init.has_preparation() || init.may_be_hidden => return,
        FirstProcess::Refused { .. } => return,
        FirstProcess::Grace(_)
        | FirstProcess::OtherInit { .. }
        | FirstProcess::Shell { .. }
        | FirstProcess::Program(_)
        | FirstProcess::Unknown => {}
    }
    // The image's own init may be told by a variable.
    if container.env.iter().any(|variable| variable.name.value.starts_with("GRACE_INIT_"))
        && matches!(view.first, FirstProcess::Unknown)
    {
        return;
    }
    let (level, from) = match &view.traffic {
        Traffic::Service(name) => (Level::Warning, format!("the Service {name} still sends requests")),
        Traffic::Probably if container.readiness.is_some() => (
            Level::Note,
            "a Service that selects this pod still sends requests (none is in the input)".to_owned(),
        ),
        Traffic::Probably | Traffic::None => return,
    };
    let title = "nothing keeps this container serving while its clients notice the stop".to_owned();
    let remedy = if view.first.as_grace().is_some() {
        "give the init a --drain of 5s or more, and the preStop hook [\"grace-init\", \"pre-stop\"]"
    } else {
        "add a preStop hook that sleeps 5 s (lifecycle: {preStop: {sleep: {seconds: 5}}}), or grace-init with --drain 5s"
    };
    findings.push(
        view.finding("GI201", level, container.name.span.clone(), "", title)
            .label("has ports, and no preStop hook")
            .effect(format!("it gets its stop signal at 0s; for some seconds {from}"))
            .remedy(remedy),
    );
}

fn hook_time(view: &View<'_>, findings: &mut Vec<Finding>) {
    let Some(hook) = view.hook.filter(|_| !matches!(view.client(), Some(Client::PreStop | Client::Stop)))
    else {
        return;
    };
    let grace = view.grace();
    if hook.least.is_zero() || grace.is_zero() {
        return;
    }
    let remedy = format!(
        "lengthen terminationGracePeriodSeconds to {} or more, or shorten the hook",
        hook.least.as_secs().saturating_add(10)
    );
    if hook.least >= grace {
        let title =
            format!("the preStop hook takes {}, and the whole grace is {}", shown(hook.least), shown(grace));
        findings.push(
            view.finding("GI203", Level::Error, view.hook_span(), "lifecycle.preStop", title)
                .label(format!("takes {}", shown(hook.least)))
                .effect(format!(
                    "the stop signal comes at {} while the hook still runs, SIGKILL {MINIMUM}s later",
                    shown(grace)
                ))
                .remedy(remedy),
        );
        return;
    }
    let seconds = grace.as_secs().saturating_sub(hook.least.as_secs()).max(MINIMUM);
    let left = Duration::from_secs(seconds);
    if left < ENOUGH && view.first.as_grace().is_none() && !view.container.is_sidecar {
        let title =
            format!("the preStop hook leaves the program {} of the grace of {}", shown(left), shown(grace));
        findings.push(
            view.finding("GI202", Level::Warning, view.hook_span(), "lifecycle.preStop", title)
                .label(format!("takes {}", shown(hook.least)))
                .effect(format!(
                    "the stop signal comes at {}, SIGKILL at {}",
                    shown(hook.least),
                    shown(hook.least.saturating_add(left))
                ))
                .remedy(remedy),
        );
    }
}

fn first_process(view: &View<'_>, findings: &mut Vec<Finding>) {
    let pod = view.pod();
    // With a shared PID namespace it is not process 1, and SIGTERM ends a shell or npm as everywhere else. A hook that
    // does something may well stop the program itself.
    let hook_stops = view.has_foreign_hook() && view.hook.is_some_and(|hook| !hook.is_exact());
    if pod.shares_processes.is_some() || pod.host_pid.is_some() || hook_stops {
        return;
    }
    let killed = format!("its programs never hear of the stop; SIGKILL at {}", shown(killed_at(view)));
    match &view.first {
        FirstProcess::Shell { script: Some(script), span } => {
            let span = span.clone();
            runner(view, script.programs().last().map(String::as_str), &span, findings);
            let is_job = matches!(view.workload.kind.as_str(), "Job" | "CronJob");
            let usual = if is_job { Level::Note } else { Level::Warning };
            match script.on_term() {
                OnTerm::Fine => {}
                OnTerm::DependsOnShell { last } => findings.push(
                    view.finding("GI204", Level::Note, span, "command", format!("whether {last} gets SIGTERM depends on the image's shell"))
                        .label("the last of several commands")
                        .effect("bash and busybox let it take the shell's place; Debian's dash waits for it and ignores SIGTERM as process 1")
                        .remedy(format!("write \"exec {last}\"")),
                ),
                OnTerm::Swallowed(Why::Loop) => findings.push(
                    view.finding("GI204", usual, span, "command", "the shell ignores SIGTERM in this loop".to_owned())
                        .label("process 1 without a trap")
                        .effect(killed)
                        .remedy("add \"trap 'exit 0' TERM\" and wait for a sleep in the background, or put grace-init -- in front"),
                ),
                OnTerm::Swallowed(Why::Pipeline) => findings.push(
                    view.finding("GI204", usual, span, "command", "the shell waits for this pipeline and ignores SIGTERM".to_owned())
                        .label("process 1 without a trap")
                        .effect(killed)
                        .remedy("put grace-init -- in front: it signals the whole group"),
                ),
                OnTerm::Swallowed(Why::Waits | Why::Background) => findings.push(
                    view.finding("GI206", usual, span, "command", "the programs that this shell starts never get SIGTERM".to_owned())
                        .label("process 1 without a trap")
                        .effect(killed)
                        .remedy("put grace-init -- in front: it tells them all and waits until all are gone"),
                ),
            }
        }
        FirstProcess::Program(words) => {
            let name = words.first().map(|word| word.value.as_str());
            let span = words.first().map_or(view.container.name.span.clone(), |word| word.span.clone());
            let second = words.get(1).map(|word| word.value.as_str());
            // `pipenv shell`, `npm --version` and the like are over at once.
            if second.is_none_or(|word| {
                ["run", "run-script", "start", "exec", "serve", "dev", "prod"].contains(&word)
            }) {
                runner(view, name, &span, findings);
            }
        }
        FirstProcess::Shell { script: None, .. }
        | FirstProcess::Grace(_)
        | FirstProcess::Refused { .. }
        | FirstProcess::OtherInit { .. }
        | FirstProcess::Unknown => {}
    }
}

/// When the runtime kills a container that does not end by itself, if its hook takes the least that it can.
fn killed_at(view: &View<'_>) -> Duration {
    let hook = view.hook.map(|hook| hook.least);
    let subject = Subject { name: String::new(), is_sidecar: false, is_gone: false, hook, ends: Ends::Never };
    let moments = stop(view.grace().as_secs(), &[subject]);
    moments.iter().find(|moment| moment.what == What::Kill).map_or(Duration::ZERO, |moment| moment.at)
}

fn runner(view: &View<'_>, name: Option<&str>, span: &std::ops::Range<usize>, findings: &mut Vec<Finding>) {
    let Some(name) = name.map(base_name).filter(|name| ["npm", "yarn", "pnpm", "pipenv"].contains(name))
    else {
        return;
    };
    let is_job = matches!(view.workload.kind.as_str(), "Job" | "CronJob");
    let level = if is_job { Level::Note } else { Level::Warning };
    findings.push(
        view.finding(
            "GI205",
            level,
            span.clone(),
            "command",
            format!("{name} is process 1 and stands between SIGTERM and the program"),
        )
        .label("starts the program as a child, most often through a shell")
        .effect(format!(
            "depending on its version the program never hears of the stop; SIGKILL at {}",
            shown(killed_at(view))
        ))
        .remedy(format!("run the program itself (node server.js), or put grace-init -- in front of {name}")),
    );
}

fn hook_reaches(view: &View<'_>, findings: &mut Vec<Finding>) {
    let Some(hook) = &view.container.hook else { return };
    match &hook.value {
        Handler::Http { port, host: None, .. } => {
            let number = port.value.parse::<i64>().ok();
            let all = || view.pod().stoppable().flat_map(|container| &container.ports);
            let known = match number {
                Some(number) => {
                    MESH_PORTS.contains(&port.value.as_str()) || all().any(|known| known.number == number)
                }
                None => view.container.ports.iter().any(|known| known.name.as_deref() == Some(&port.value)),
            };
            if known || (number.is_some() && all().count() == 0) {
                return;
            }
            let (level, title, effect) = match number {
                None => (
                    Level::Error,
                    format!("this container has no port named {}", port.value),
                    "the hook fails at once: FailedPreStopHook, and the stop signal comes at 0s",
                ),
                Some(_) => (
                    Level::Note,
                    format!("no container of the pod declares port {}", port.value),
                    "if nothing listens there, the hook fails at once and the stop signal comes at 0s",
                ),
            };
            let finding =
                view.finding("GI210", level, port.span.clone(), "lifecycle.preStop.httpGet.port", title);
            findings.push(
                finding
                    .label("not declared")
                    .effect(effect)
                    .remedy("name a port that the container listens on"),
            );
        }
        Handler::Exec(words) => distroless(view, words, findings),
        Handler::Http { .. } | Handler::Sleep(_) | Handler::Other => {}
    }
}

fn distroless(view: &View<'_>, words: &[At<String>], findings: &mut Vec<Finding>) {
    let (Some(image), Some(program)) = (&view.container.image, words.first()) else { return };
    let needs = base_name(&program.value);
    if !["sleep", "sh", "bash", "ash", "dash", "curl", "wget", "kill"].contains(&needs)
        || image.value.contains("debug")
    {
        return;
    }
    let level = match image.value.as_str() {
        name if name.starts_with("gcr.io/distroless/") => Level::Error,
        name if name.contains("distroless") || name.starts_with("cgr.dev/chainguard/static") => {
            Level::Warning
        }
        _ => return,
    };
    let title = format!("the image {} has no {needs}", image.value);
    findings.push(
        view.finding("GI211", level, program.span.clone(), "lifecycle.preStop.exec.command", title)
            .label("not in distroless images")
            .effect("the hook fails at once: FailedPreStopHook, and the stop signal comes at 0s")
            .remedy("use the sleep action (preStop: {sleep: {seconds: 5}}), or grace-init with --drain 5s"),
    );
}

fn readiness(view: &View<'_>, findings: &mut Vec<Finding>) {
    let Some(probe) = &view.container.readiness else { return };
    let Some(grace) = view.pod().grace.as_ref().filter(|grace| grace.value > 0) else { return };
    let needs = probe.period.saturating_mul(probe.failures);
    let is_written = |key: &str| view.container.node.at(&["readinessProbe", key]).is_some();
    if grace.value < needs
        && (is_written("periodSeconds") || is_written("failureThreshold"))
        && matches!(view.traffic, Traffic::Service(_))
    {
        let title = format!(
            "a load balancer that polls like this probe notices after {needs}s, and the grace is {}s",
            grace.value
        );
        findings.push(
            view.finding("GI208", Level::Note, probe.span.clone(), "readinessProbe", title)
                .label(format!("{} times {}s", probe.failures, probe.period))
                .effect(format!("SIGKILL comes at {}s", grace.value))
                .remedy("lengthen the grace if a load balancer outside the cluster polls the pod"),
        );
    }
}

fn sidecar(view: &View<'_>, findings: &mut Vec<Finding>) {
    let Some(Handler::Exec(words)) = view.container.hook.as_ref().map(|hook| &hook.value) else { return };
    if !view.container.is_sidecar || view.client().is_some() {
        return;
    }
    let texts: Vec<&str> = words.iter().map(|word| word.value.as_str()).collect();
    let text = inline_script(&texts).map_or_else(|| texts.join(" "), str::to_owned);
    let stops = text.split([';', '&', '|', '\n']).any(|command| {
        let words: Vec<&str> = command.split_whitespace().collect();
        let name = words.first().map(|name| base_name(name)).unwrap_or_default();
        ["kill", "pkill", "killall"].contains(&name)
            || words.windows(2).any(|pair| matches!(pair, ["-s", "quit" | "stop"]))
    });
    if stops {
        let title = "this hook ends the sidecar while the main containers still run".to_owned();
        findings.push(
            view.finding("GI213", Level::Warning, view.hook_span(), "lifecycle.preStop", title)
                .label("starts with the pod's deletion")
                .effect(
                    "the sidecar is gone at 0s; the kubelet itself would stop it after the main containers",
                )
                .remedy("leave the hook out"),
        );
    }
}

fn version(view: &View<'_>, findings: &mut Vec<Finding>) {
    let Some(version) = view.settings.version else { return };
    let mut too_old = |since: u32, what: &str, span: std::ops::Range<usize>, field: &str, effect: &str| {
        if version < Version(since) {
            let title = format!("Kubernetes 1.{} does not know {what}", version.0);
            findings.push(
                view.finding("GI301", Level::Warning, span, field, title)
                    .label(format!("since 1.{since}"))
                    .effect(effect)
                    .remedy("use what this version has"),
            );
        }
    };
    if view.container.is_sidecar {
        let span = view
            .container
            .node
            .get("restartPolicy")
            .map_or(view.container.name.span.clone(), |node| node.span.clone());
        too_old(
            29,
            "native sidecars",
            span,
            "restartPolicy",
            "the pod waits for this init container for ever",
        );
    }
    if let Some(Handler::Sleep(seconds)) = view.container.hook.as_ref().map(|hook| &hook.value) {
        too_old(
            30,
            "the sleep action",
            seconds.span.clone(),
            "lifecycle.preStop.sleep",
            "the API server rejects or drops the hook",
        );
    }
    if let Some(signal) = &view.container.stop_signal {
        too_old(
            33,
            "lifecycle.stopSignal",
            signal.span.clone(),
            "lifecycle.stopSignal",
            "the field is dropped",
        );
    }
}

pub(super) fn check_pod(
    workload: &Workload,
    source: &Source,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) {
    let path = format!("{}.terminationGracePeriodSeconds", workload.path);
    if let Some(grace) = &workload.pod.grace {
        if grace.value == 0 && !has_comment(source, &grace.span) {
            let title = "the pod has no time to stop".to_owned();
            findings.push(
                in_workload(workload, "GI207", Level::Warning, grace.span.clone(), &path, title)
                    .label("0 seconds")
                    .effect("the object is gone at once, and SIGKILL comes within 2s")
                    .remedy("give it the time that it needs, or say in a comment here why it needs none"),
            );
        }
        let limit = match settings.platform {
            Some(Platform::GkeSpot) => Some((SPOT, Level::Warning, "GKE's spot nodes give 15 s")),
            None => Some((AUTOSCALER, Level::Note, "the cluster autoscaler waits 600 s by default")),
        };
        // A comment beside it says that somebody has thought of it; what a platform is known to do stays.
        let is_meant = settings.platform.is_none() && has_comment(source, &grace.span);
        let applies = |limit: i64| grace.value > limit && is_replaced_under_load(workload) && !is_meant;
        if let Some((limit, level, who)) = limit.filter(|(limit, ..)| applies(*limit)) {
            let title = format!("the grace of {}s is longer than a node that goes away has", grace.value);
            findings.push(
                in_workload(workload, "GI209", level, grace.span.clone(), &path, title)
                    .label(who)
                    .effect(format!("where that ends the node, everything is killed at {limit}s"))
                    .remedy("make the stop short enough, or keep these pods off such nodes"),
            );
        }
    }
    policy(workload, findings);
}

fn policy(workload: &Workload, findings: &mut Vec<Finding>) {
    let spec = match workload.kind.as_str() {
        "Job" => workload.spec.as_ref(),
        "CronJob" => workload.spec.as_ref().and_then(|spec| spec.at(&["jobTemplate", "spec"])),
        _ => None,
    };
    let rules =
        spec.and_then(|spec| spec.at(&["podFailurePolicy", "rules"])).map(Node::items).unwrap_or_default();
    for rule in rules {
        let action = rule.get("action").and_then(Node::text).unwrap_or_default();
        let conditions = rule.get("onPodConditions").map(Node::items).unwrap_or_default();
        let disruption =
            conditions.iter().any(|one| one.get("type").and_then(Node::text) == Some("DisruptionTarget"));
        if disruption {
            return;
        }
        let Some(codes) = rule.get("onExitCodes").filter(|_| action == "FailJob") else { continue };
        let values: Vec<i64> = codes
            .get("values")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(Node::integer)
            .collect();
        let is_in = codes.get("operator").and_then(Node::text) == Some("In");
        if let Some(code) = [143, 137].into_iter().find(|code| values.contains(code) == is_in) {
            let path = workload.path.replace("template.spec", "podFailurePolicy");
            let title = format!(
                "a pod that is stopped from outside ends with {code}, and this rule fails the Job for it"
            );
            findings.push(
                in_workload(workload, "GI212", Level::Warning, codes.span.clone(), &path, title)
                    .label(format!("matches {code}"))
                    .effect("the first drained node or eviction ends the Job, whatever its backoffLimit")
                    .remedy(
                        "put a rule before it: action: Ignore, onPodConditions: [{type: DisruptionTarget}]",
                    ),
            );
            return;
        }
    }
}
