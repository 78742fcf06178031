//! What can be wrong with a pod's stop. One table says what there is; each family of rules has a file.

mod anyone;
mod grace_init;
mod table;

use std::time::Duration;

pub use table::{RULES, Rule};

use super::image::ImageConfig;
use super::init::{self, FirstProcess, Range};
use super::input::{Source, Span};
use super::pod::{At, Container, Found, Handler, Pod, Service, Workload};
use crate::time::Measured;

/// How sure and how bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// It depends on the image, or on objects that are not in the input.
    Note,
    /// It is most likely not what was meant.
    Warning,
    /// It follows from the input alone.
    Error,
}

impl Level {
    /// Its name in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something that a rule has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// How sure and how bad it is here.
    pub level: Level,
    /// Which of the sources it is in.
    pub source: usize,
    /// Where.
    pub span: Span,
    /// The path within the object.
    pub path: String,
    /// The object, such as `Deployment/web`.
    pub object: String,
    /// The container's name, if it is about one.
    pub container: Option<String>,
    /// What is wrong.
    pub title: String,
    /// What stands beside the place.
    pub label: String,
    /// What will happen, with the moment.
    pub effect: String,
    /// The change to make.
    pub remedy: String,
}

/// A minor version of Kubernetes 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

/// Who may end the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// GKE's spot nodes give 15 s.
    GkeSpot,
}

/// What a check is told beside the manifests.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What images say of themselves.
    pub images: Vec<ImageConfig>,
    /// The cluster's version; `None` is a recent one.
    pub version: Option<Version>,
    /// Where the nodes are.
    pub platform: Option<Platform>,
}

/// How a pod gets its traffic, as far as the input tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// By this Service.
    Service(String),
    /// Perhaps by a Service that is not in the input: it has ports and a readiness probe.
    Probably,
    /// Not at all.
    None,
}

/// All that a rule sees of one container.
#[derive(Debug)]
pub struct View<'a> {
    /// The object.
    pub workload: &'a Workload,
    /// The text that it stands in.
    pub source: &'a Source,
    /// The container.
    pub container: &'a Container,
    /// What its image says.
    pub image: Option<&'a ImageConfig>,
    /// What runs first in it.
    pub first: FirstProcess,
    /// How long its hook takes.
    pub hook: Option<Range>,
    /// How its pod gets its traffic.
    pub traffic: Traffic,
    /// What the check was told.
    pub settings: &'a Settings,
}

impl<'a> View<'a> {
    /// The views of a workload's containers that are stopped with it.
    pub fn all(
        workload: &'a Workload,
        source: &'a Source,
        services: &[Service],
        settings: &'a Settings,
    ) -> Vec<Self> {
        let traffic = traffic(workload, services);
        let views = workload.pod.stoppable().map(|container| {
            let of = |image: &At<String>| settings.images.iter().find(|config| config.is_of(&image.value));
            let image = container.image.as_ref().and_then(of);
            let first = FirstProcess::of(container, image);
            let hook = init::hook_time(container, &first, image);
            Self { workload, source, container, image, first, hook, traffic: traffic.clone(), settings }
        });
        views.collect()
    }

    fn pod(&self) -> &'a Pod {
        &self.workload.pod
    }

    /// The pod's grace.
    pub fn grace(&self) -> Duration {
        init::seconds_of(self.pod().grace_seconds())
    }

    /// What the hook asks of an init, if it is a client of ours.
    pub fn client(&self) -> Option<init::Client> {
        match &self.container.hook.as_ref()?.value {
            Handler::Exec(words) => init::client(words, self.container, self.image),
            Handler::Http { .. } | Handler::Sleep(_) | Handler::Other => None,
        }
    }

    /// Whether there is a hook that is not the init's.
    pub fn has_foreign_hook(&self) -> bool {
        self.container.hook.is_some() && self.client().is_none()
    }

    fn hook_span(&self) -> Span {
        self.container.hook.as_ref().map_or(self.container.name.span.clone(), |hook| hook.span.clone())
    }

    /// A finding in this container.
    fn finding(&self, code: &'static str, level: Level, span: Span, field: &str, title: String) -> Finding {
        let path = format!("{}.{}", self.workload.path, self.container.path);
        let mut finding = in_workload(self.workload, code, level, span, &path, title);
        finding.container = Some(self.container.name.value.clone());
        if !field.is_empty() {
            finding.path = format!("{path}.{field}");
        }
        finding
    }
}

impl Finding {
    fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    fn effect(mut self, effect: impl Into<String>) -> Self {
        self.effect = effect.into();
        self
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// What stays the same when lines are added above it: for baselines.
    pub fn fingerprint(&self) -> String {
        format!("{} {} {}", self.rule.code, self.object, self.path)
    }
}

/// A finding in an object.
fn in_workload(
    workload: &Workload,
    code: &'static str,
    level: Level,
    span: Span,
    path: &str,
    title: String,
) -> Finding {
    Finding {
        rule: table::by_code(code),
        level,
        source: workload.source,
        span,
        path: path.to_owned(),
        object: format!("{}/{}", workload.kind, workload.name),
        container: None,
        title,
        label: String::new(),
        effect: String::new(),
        remedy: String::new(),
    }
}

fn traffic(workload: &Workload, services: &[Service]) -> Traffic {
    let mut selecting = services.iter().filter(|service| service.selects(workload)).peekable();
    let is_known = selecting.peek().is_some();
    if let Some(service) = selecting.find(|service| !service.is_headless) {
        return Traffic::Service(service.name.clone());
    }
    let serves = |container: &Container| container.readiness.is_some() && !container.ports.is_empty();
    if !is_known && workload.pod.containers.iter().any(serves) { Traffic::Probably } else { Traffic::None }
}

/// Judges everything that was found, in the order of the input.
pub fn check(found: &Found, sources: &[Source], settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for workload in &found.workloads {
        let Some(source) = sources.get(workload.source) else { continue };
        // Windows has no signals; its containers are stopped in another way.
        if workload.pod.os.as_deref() == Some("windows") {
            continue;
        }
        let views = View::all(workload, source, &found.services, settings);
        let ignored = ignored_codes(workload);
        let mut all = Vec::new();
        for view in &views {
            grace_init::check(view, &mut all);
            anyone::check(view, &mut all);
        }
        grace_init::check_pod(&views, &mut all);
        anyone::check_pod(workload, source, settings, &mut all);
        all.retain(|finding| !ignored.iter().any(|code| code == finding.rule.code));
        all.sort_by_key(|finding| (finding.span.start, finding.rule.code));
        findings.append(&mut all);
    }
    findings
}

/// The codes that an object's own annotation `grace-init/ignore` names; the rest of it is the reason.
fn ignored_codes(workload: &Workload) -> Vec<String> {
    let values =
        workload.annotations.iter().filter(|(name, _)| name == "grace-init/ignore").map(|(_, value)| value);
    let words = values.flat_map(|value| value.split(|character: char| !character.is_ascii_alphanumeric()));
    words.filter(|word| word.starts_with("GI")).map(str::to_owned).collect()
}

/// A moment or a time, for people.
fn shown(time: Duration) -> Measured {
    Measured(time)
}
