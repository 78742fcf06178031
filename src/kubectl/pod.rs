//! The part of a pod that decides how it stops, each value with its place.

use std::ops::Range;

use super::input::{Node, Source, Span, Value};

/// A value and its place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> At<T> {
    fn new(value: T, node: &Node) -> Self {
        Self { value, span: node.span.clone() }
    }
}

/// Seconds between the deletion and SIGKILL where a pod says nothing.
pub const DEFAULT_GRACE: i64 = 30;
/// Where a container's last words are collected by default.
pub const DEFAULT_MESSAGE_PATH: &str = "/dev/termination-log";

/// An object that holds a pod.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Which of the sources it came from.
    pub source: usize,
    /// `Deployment` and the like.
    pub kind: String,
    /// Its name, or its `generateName`.
    pub name: String,
    /// Its namespace, if it names one.
    pub namespace: Option<String>,
    /// Its own annotations and those of its pod.
    pub annotations: Vec<(String, String)>,
    /// The labels of its pods.
    pub labels: Vec<(String, String)>,
    /// The path from the object to the pod's spec, such as `spec.template.spec`.
    pub path: String,
    /// The pod.
    pub pod: Pod,
    /// `spec` of the object itself.
    pub spec: Option<Node>,
    /// Whether another object owns it, as a ReplicaSet owns its pods.
    pub is_owned: bool,
}

/// A pod's spec.
#[derive(Clone, Debug)]
pub struct Pod {
    /// The whole spec.
    pub node: Node,
    /// `terminationGracePeriodSeconds`.
    pub grace: Option<At<i64>>,
    /// The containers that run beside each other.
    pub containers: Vec<Container>,
    /// The init containers, native sidecars among them, in their order.
    pub init_containers: Vec<Container>,
    /// `shareProcessNamespace`, if it is true.
    pub shares_processes: Option<Span>,
    /// `hostPID`, if it is true.
    pub host_pid: Option<Span>,
    /// `os.name`.
    pub os: Option<String>,
    /// Whether it has volumes of this name that containers can share.
    pub volumes: Vec<String>,
}

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    /// The whole container.
    pub node: Node,
    /// Its path from the pod's spec, such as `containers[0]`.
    pub path: String,
    /// Its name.
    pub name: At<String>,
    /// Its image.
    pub image: Option<At<String>>,
    /// `command`, if it is there and not empty.
    pub command: Option<Vec<At<String>>>,
    /// `args`, if they are there.
    pub args: Option<Vec<At<String>>>,
    /// `env`, in its order.
    pub env: Vec<Variable>,
    /// Whether `envFrom` brings in variables that are not in the manifest.
    pub has_env_from: bool,
    /// `ports`.
    pub ports: Vec<Port>,
    /// `lifecycle.preStop`.
    pub hook: Option<At<Handler>>,
    /// `lifecycle.stopSignal`.
    pub stop_signal: Option<At<String>>,
    /// `livenessProbe`.
    pub liveness: Option<Probe>,
    /// `readinessProbe`.
    pub readiness: Option<Probe>,
    /// `startupProbe`.
    pub startup: Option<Probe>,
    /// `terminationMessagePath`.
    pub message_path: Option<String>,
    /// The volumes' names and where they are mounted.
    pub mounts: Vec<(String, String)>,
    /// Whether it is an init container that goes on running beside the others.
    pub is_sidecar: bool,
}

/// An environment variable.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name.
    pub name: At<String>,
    /// Its value; `None` where `valueFrom` takes it from elsewhere.
    pub value: Option<At<String>>,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: Option<String>,
    /// Its number.
    pub number: i64,
}

/// What a hook or probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// Runs a command in the container.
    Exec(Vec<At<String>>),
    /// Makes a request.
    Http {
        /// The port's number or name.
        port: At<String>,
        /// The host, if it is not the pod.
        host: Option<String>,
        /// The path.
        path: Option<String>,
    },
    /// Waits this many seconds.
    Sleep(At<i64>),
    /// Opens a connection, or something that is not known here.
    Other,
}

/// A probe.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Its place.
    pub span: Span,
    /// What it does.
    pub handler: Handler,
    /// Seconds between two tries.
    pub period: i64,
    /// How many tries must fail.
    pub failures: i64,
    /// Its own `terminationGracePeriodSeconds`.
    pub grace: Option<At<i64>>,
}

impl Pod {
    /// The grace that the API server gives it, in seconds.
    pub fn grace_seconds(&self) -> i64 {
        self.grace.as_ref().map_or(DEFAULT_GRACE, |grace| grace.value)
    }

    /// The containers that are stopped when the pod is: the sidecars in their order, then the main ones.
    pub fn stoppable(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().filter(|container| container.is_sidecar).chain(&self.containers)
    }

    fn read(node: &Node) -> Self {
        let containers = |key: &str| -> Vec<Container> {
            let items = node.get(key).map(Node::items).unwrap_or_default();
            let read =
                |(index, item)| Container::read(item, format!("{key}[{index}]"), key == "initContainers");
            items.iter().enumerate().filter_map(read).collect()
        };
        let flag = |key: &str| {
            node.get(key).filter(|value| value.boolean() == Some(true)).map(|value| value.span.clone())
        };
        let volumes = node.get("volumes").map(Node::items).unwrap_or_default();
        Self {
            grace: node.get("terminationGracePeriodSeconds").and_then(whole),
            containers: containers("containers"),
            init_containers: containers("initContainers"),
            shares_processes: flag("shareProcessNamespace"),
            host_pid: flag("hostPID"),
            os: node.at(&["os", "name"]).and_then(Node::text).map(str::to_owned),
            volumes: volumes.iter().filter_map(|volume| string(volume.get("name"))).collect(),
            node: node.clone(),
        }
    }
}

impl Container {
    fn read(node: &Node, path: String, is_init: bool) -> Option<Self> {
        let Value::Map(_) = node.value else { return None };
        let name = match node.get("name") {
            Some(name) => At::new(name.text().unwrap_or_default().to_owned(), name),
            None => At::new(String::new(), node),
        };
        let env = node.get("env").map(Node::items).unwrap_or_default();
        let mounts = node.get("volumeMounts").map(Node::items).unwrap_or_default();
        let ports = node.get("ports").map(Node::items).unwrap_or_default();
        let hook = node.at(&["lifecycle", "preStop"]);
        Some(Self {
            path,
            name,
            image: node.get("image").and_then(text),
            command: node.get("command").map(words).filter(|words| !words.is_empty()),
            args: node.get("args").map(words),
            env: env.iter().filter_map(Variable::read).collect(),
            has_env_from: node.get("envFrom").is_some_and(|from| !from.items().is_empty()),
            ports: ports.iter().filter_map(Port::read).collect(),
            hook: hook.and_then(|hook| Some(At::new(Handler::read(hook)?, hook))),
            stop_signal: node.at(&["lifecycle", "stopSignal"]).and_then(text),
            liveness: node.get("livenessProbe").and_then(Probe::read),
            readiness: node.get("readinessProbe").and_then(Probe::read),
            startup: node.get("startupProbe").and_then(Probe::read),
            message_path: string(node.get("terminationMessagePath")).filter(|path| !path.is_empty()),
            mounts: mounts
                .iter()
                .filter_map(|mount| Some((string(mount.get("name"))?, string(mount.get("mountPath"))?)))
                .collect(),
            is_sidecar: is_init && node.get("restartPolicy").and_then(Node::text) == Some("Always"),
            node: node.clone(),
        })
    }

    /// The literal value of a variable. The last one of a name wins.
    pub fn variable(&self, name: &str) -> Option<&At<String>> {
        self.env.iter().rev().find(|variable| variable.name.value == name)?.value.as_ref()
    }

    /// Whether a variable is set from somewhere that the manifest does not show.
    pub fn is_hidden(&self, name: &str) -> bool {
        match self.env.iter().rev().find(|variable| variable.name.value == name) {
            Some(variable) => variable.value.is_none(),
            None => self.has_env_from,
        }
    }
}

impl Variable {
    fn read(node: &Node) -> Option<Self> {
        let name = node.get("name").and_then(text)?;
        let value = match (node.get("value"), node.get("valueFrom")) {
            (Some(value), _) => Some(At::new(value.text().unwrap_or_default().to_owned(), value)),
            (None, Some(_)) => None,
            (None, None) => Some(At::new(String::new(), node)),
        };
        Some(Self { name, value })
    }
}

impl Port {
    fn read(node: &Node) -> Option<Self> {
        let number = node.get("containerPort")?.integer()?;
        let is_tcp = node.get("protocol").and_then(Node::text).is_none_or(|protocol| protocol == "TCP");
        is_tcp.then(|| Self { name: string(node.get("name")), number })
    }
}

impl Handler {
    fn read(node: &Node) -> Option<Self> {
        if let Some(exec) = node.get("exec") {
            return Some(Self::Exec(exec.get("command").map(words).unwrap_or_default()));
        }
        if let Some(http) = node.get("httpGet") {
            return Some(Self::Http {
                port: http.get("port").and_then(text)?,
                host: string(http.get("host")).filter(|host| !host.is_empty()),
                path: string(http.get("path")),
            });
        }
        if let Some(sleep) = node.get("sleep") {
            return Some(Self::Sleep(sleep.get("seconds").and_then(whole)?));
        }
        let known = ["tcpSocket", "grpc"].iter().any(|key| node.get(key).is_some());
        known.then_some(Self::Other)
    }
}

impl Probe {
    fn read(node: &Node) -> Option<Self> {
        let number = |key: &str, default| node.get(key).and_then(Node::integer).unwrap_or(default);
        Some(Self {
            span: node.span.clone(),
            handler: Handler::read(node)?,
            period: number("periodSeconds", 10),
            failures: number("failureThreshold", 3),
            grace: node.get("terminationGracePeriodSeconds").and_then(whole),
        })
    }
}

fn whole(node: &Node) -> Option<At<i64>> {
    node.integer().map(|value| At::new(value, node))
}

fn text(node: &Node) -> Option<At<String>> {
    node.text().map(|value| At::new(value.to_owned(), node))
}

fn string(node: Option<&Node>) -> Option<String> {
    node.and_then(Node::text).map(str::to_owned)
}

fn words(node: &Node) -> Vec<At<String>> {
    node.items().iter().map(|item| At::new(item.text().unwrap_or_default().to_owned(), item)).collect()
}

fn pairs(node: Option<&Node>) -> Vec<(String, String)> {
    let entries = node.map(Node::entries).unwrap_or_default();
    entries
        .iter()
        .filter_map(|(key, value)| Some((key.text()?.to_owned(), value.text()?.to_owned())))
        .collect()
}

/// A Service's selector.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its namespace, if it names one.
    pub namespace: Option<String>,
    /// The labels that it selects by.
    pub selector: Vec<(String, String)>,
    /// Whether it has no address of its own: its clients know the pods, as a database's peers do.
    pub is_headless: bool,
}

impl Service {
    /// Whether it sends its traffic to this pod. Namespaces that are not named are the same one.
    pub fn selects(&self, workload: &Workload) -> bool {
        let same = match (&self.namespace, &workload.namespace) {
            (Some(one), Some(other)) => one == other,
            (None, _) | (_, None) => true,
        };
        same && !self.selector.is_empty() && self.selector.iter().all(|label| workload.labels.contains(label))
    }
}

/// What was found in the input.
#[derive(Debug, Default)]
pub struct Found {
    /// The objects with pods, in their order.
    pub workloads: Vec<Workload>,
    /// The Services.
    pub services: Vec<Service>,
    /// How many objects of kinds without a pod were passed over.
    pub passed_over: usize,
}

impl Found {
    /// Adds what one document holds. With `all_kinds` a pod is looked for in kinds that are not known.
    pub fn add(&mut self, source: usize, document: &Node, all_kinds: bool) {
        let kind = string(document.get("kind")).unwrap_or_default();
        if kind.ends_with("List") && document.get("items").is_some() {
            for item in document.get("items").map(Node::items).unwrap_or_default() {
                self.add(source, item, all_kinds);
            }
            return;
        }
        if kind == "Service" {
            let metadata = document.get("metadata");
            self.services.push(Service {
                name: string(metadata.and_then(|metadata| metadata.get("name"))).unwrap_or_default(),
                namespace: string(metadata.and_then(|metadata| metadata.get("namespace"))),
                selector: pairs(document.at(&["spec", "selector"])),
                is_headless: document.at(&["spec", "clusterIP"]).and_then(Node::text) == Some("None"),
            });
            return;
        }
        let keys: Option<Vec<String>> = match kind.as_str() {
            "Pod" => Some(vec!["spec".to_owned()]),
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" | "ReplicationController" => {
                Some(["spec", "template", "spec"].map(str::to_owned).to_vec())
            }
            "CronJob" => {
                Some(["spec", "jobTemplate", "spec", "template", "spec"].map(str::to_owned).to_vec())
            }
            "PodTemplate" => Some(["template", "spec"].map(str::to_owned).to_vec()),
            _ if all_kinds => find_pod(document, 0),
            _ => None,
        };
        let pod = keys.as_ref().and_then(|keys| {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let (_, above) = keys.split_last()?;
            Some((document.at(&keys)?, document.at(above)?))
        });
        let (Some(keys), Some((spec, holder))) = (keys, pod) else {
            self.passed_over += 1;
            return;
        };
        let metadata = document.get("metadata");
        let of = |key: &str| metadata.and_then(|metadata| metadata.get(key));
        let mut annotations = pairs(of("annotations"));
        annotations.extend(pairs(holder.at(&["metadata", "annotations"])));
        self.workloads.push(Workload {
            source,
            name: string(of("name")).or_else(|| string(of("generateName"))).unwrap_or_default(),
            namespace: string(of("namespace")),
            annotations,
            labels: pairs(holder.at(&["metadata", "labels"])),
            path: keys.join("."),
            pod: Pod::read(spec),
            spec: document.get("spec").cloned(),
            is_owned: of("ownerReferences").is_some_and(|owners| !owners.items().is_empty()),
            kind,
        });
    }
}

/// The path to the first mapping that looks like a pod's spec: containers with a name and an image.
fn find_pod(node: &Node, depth: usize) -> Option<Vec<String>> {
    let looks_like_one = |node: &Node| {
        let containers = node.get("containers").map(Node::items).unwrap_or_default();
        containers.iter().any(|container| container.get("name").is_some() && container.get("image").is_some())
    };
    if depth > 8 {
        return None;
    }
    node.entries().iter().find_map(|(key, value)| {
        let key = key.text()?.to_owned();
        if looks_like_one(value) {
            return Some(vec![key]);
        }
        let mut rest = find_pod(value, depth + 1)?;
        rest.insert(0, key);
        Some(rest)
    })
}

/// Whether somebody wrote a comment beside a value, or in the line before it.
pub fn has_comment(source: &Source, span: &Range<usize>) -> bool {
    let after = source.line_at(span.start).rsplit_once(" #").is_some();
    after || source.line_before(span.start).is_some_and(|line| line.trim_start().starts_with('#'))
}
