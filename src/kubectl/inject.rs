//! Puts grace-init in front of containers' commands, as changes of lines: whatever is not changed stays byte for byte.
//!
//! Each added line ends in a marker, and each changed line is kept above its new form as a comment, so that
//! [`remove`] finds them all and gives the input back.

use std::collections::BTreeMap;

use super::init::{Client, FirstProcess, Range};
use super::input::{Node, Source};
use super::pod::{Container, Found, Handler, Workload};
use super::rules::{Settings, Traffic, View};

/// At the end of each added line.
const MARKER: &str = " # by kubectl grace inject";
/// Before a line that was replaced or taken out.
const KEPT: &str = "# was (kubectl grace inject): ";
/// The init container that brings the file.
pub const CARRIER: &str = "grace-init";
/// Where the file is.
const FOLDER: &str = "/grace-init-bin";
/// The same, with the file.
const BINARY: &str = "/grace-init-bin/grace-init";

/// What to inject.
#[derive(Clone, Debug)]
pub struct Options {
    /// The image that holds the file.
    pub image: String,
    /// Only these containers; all if empty.
    pub containers: Vec<String>,
    /// The drain of a container that serves, in seconds.
    pub drain: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The new text.
    pub text: String,
    /// What was refused, and why.
    pub refused: Vec<String>,
}

/// What happens to the lines of a text, counted from 0.
#[derive(Default)]
struct Edits {
    /// Lines that are put before this one.
    before: BTreeMap<usize, Vec<String>>,
    /// Lines that are kept as comments, and the lines that stand in their place.
    replaced: BTreeMap<usize, Vec<String>>,
}

/// The manifest of one source with grace-init in it.
pub fn inject(
    index: usize,
    source: &Source,
    found: &Found,
    settings: &Settings,
    options: &Options,
) -> Injected {
    let lines: Vec<&str> = source.text.split('\n').collect();
    let mut refused = Vec::new();
    let mut edits = Edits::default();
    for workload in found.workloads.iter().filter(|workload| workload.source == index) {
        let views = View::all(workload, source, &found.services, settings);
        let mut pod = PodEdits { source, lines: &lines, workload, options, edits: Edits::default() };
        match pod.inject(&views) {
            Ok(mut reasons) => {
                refused.append(&mut reasons);
                edits.merge(pod.edits);
            }
            Err(reason) => refused.push(format!("{}/{}: {reason}", workload.kind, workload.name)),
        }
    }
    let text = edits.apply(&lines);
    match refused_settings(&text, settings) {
        Some(reason) => {
            refused.push(format!("{}: {reason}", source.name));
            Injected { text: source.text.clone(), refused }
        }
        None => Injected { text, refused },
    }
}

/// What grace-init itself would say to the new manifest, should it refuse it.
fn refused_settings(text: &str, settings: &Settings) -> Option<String> {
    let source = Source { name: String::new(), text: text.to_owned() };
    let documents = match super::input::parse(&source) {
        Ok(documents) => documents,
        Err(unusable) => {
            return Some(format!("the change would not be valid YAML any more ({})", unusable.reason));
        }
    };
    let mut found = Found::default();
    documents.iter().for_each(|document| found.add(0, document, true));
    let sources = [source];
    let findings = super::rules::check(&found, &sources, settings);
    let finding = findings.into_iter().find(|finding| finding.rule.code == "GI103")?;
    Some(format!("{}: its settings do not fit: {}", finding.object, finding.label))
}

impl Edits {
    fn add_before(&mut self, line: usize, text: String) {
        self.before.entry(line).or_default().push(text);
    }

    fn merge(&mut self, other: Self) {
        for (line, mut texts) in other.before {
            self.before.entry(line).or_default().append(&mut texts);
        }
        self.replaced.extend(other.replaced);
    }

    fn apply(&self, lines: &[&str]) -> String {
        let mut done: Vec<String> = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let ending = if line.ends_with('\r') { "\r" } else { "" };
            let added = self.before.get(&number).into_iter().flatten();
            done.extend(added.map(|text| format!("{text}{MARKER}{ending}")));
            match self.replaced.get(&number) {
                Some(texts) => {
                    let indent = line.get(..indent_of(line)).unwrap_or_default();
                    done.push(format!("{indent}{KEPT}{line}"));
                    done.extend(texts.iter().map(|text| format!("{text}{MARKER}{ending}")));
                }
                None => done.push((*line).to_owned()),
            }
        }
        done.join("\n")
    }
}

/// The text without what [`inject`] did.
pub fn remove(text: &str) -> String {
    let lines = text.split('\n').filter_map(|line| {
        if line.trim_end_matches('\r').ends_with(MARKER) {
            return None;
        }
        match line.trim_start().strip_prefix(KEPT) {
            Some(original) => Some(original),
            None => Some(line),
        }
    });
    lines.collect::<Vec<&str>>().join("\n")
}

/// A unified diff; nothing if the texts are the same.
pub fn diff(name: &str, before: &str, after: &str) -> String {
    let diff = similar::TextDiff::from_lines(before, after);
    diff.unified_diff().header(name, name).to_string()
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// A word as both JSON and YAML quote it.
fn quoted(word: &str) -> String {
    serde_json::Value::from(word).to_string()
}

/// A word as a step's command quotes it.
fn step_word(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-:=,@%+".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// What a container's settings become.
#[derive(Default)]
struct NewSettings {
    drain: Option<u64>,
    step: Option<String>,
    /// Whether `grace-init pre-stop` becomes the hook.
    hook: bool,
}

struct PodEdits<'a> {
    source: &'a Source,
    lines: &'a [&'a str],
    workload: &'a Workload,
    options: &'a Options,
    edits: Edits,
}

impl PodEdits<'_> {
    /// Returns which containers were refused, and why.
    fn inject(&mut self, views: &[View<'_>]) -> Result<Vec<String>, String> {
        let pod = &self.workload.pod;
        if pod.os.as_deref() == Some("windows") {
            return Err("is a Windows pod, which has no signals".to_owned());
        }
        if pod.init_containers.iter().any(|container| container.name.value == CARRIER) {
            return Ok(Vec::new());
        }
        if self.starts_with(&pod.node, "{") {
            return Err(
                "is written as JSON, or in braces: convert it to block YAML first (kubectl get -o yaml)"
                    .to_owned(),
            );
        }
        let mut refused = Vec::new();
        let mut any = false;
        for view in views {
            let name = &view.container.name.value;
            let chosen = self.options.containers.is_empty() || self.options.containers.contains(name);
            if !chosen || matches!(view.first, FirstProcess::Grace(_) | FirstProcess::Refused { .. }) {
                continue;
            }
            match self.container(view) {
                Ok(edits) => {
                    self.edits.merge(edits);
                    any = true;
                }
                Err(reason) => {
                    let object = format!("{}/{}", self.workload.kind, self.workload.name);
                    refused.push(format!("{object}, container {name}: {reason}"));
                }
            }
        }
        if any {
            self.carrier()?;
        }
        Ok(refused)
    }

    fn starts_with(&self, node: &Node, prefix: &str) -> bool {
        self.text(node).starts_with(prefix)
    }

    fn text(&self, node: &Node) -> &str {
        self.source.text.get(node.span.clone()).unwrap_or_default().trim_end()
    }

    /// The line and the column, in bytes, of a place.
    fn place(&self, byte: usize) -> (usize, usize) {
        let before = self.source.text.get(..byte).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count(), byte - start)
    }

    fn line(&self, number: usize) -> &str {
        self.lines.get(number).map_or("", |line| line.trim_end_matches('\r'))
    }

    /// The init container that brings the file, and the volume.
    fn carrier(&mut self) -> Result<(), String> {
        let spec = &self.workload.pod.node;
        let at = spec.key_span("containers").ok_or("has containers that come from an anchor")?;
        let (line, column) = self.place(at.start);
        let indent = " ".repeat(column);
        let first = self.workload.pod.containers.first().ok_or("has no containers")?;
        let setting = |keys: &[&str]| first.node.at(keys).and_then(Node::text).map(str::to_owned);
        let mut security =
            "allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}"
                .to_owned();
        let of_pod = |key: &str| spec.at(&["securityContext", key]).and_then(Node::text).map(str::to_owned);
        let non_root = setting(&["securityContext", "runAsNonRoot"]).or_else(|| of_pod("runAsNonRoot"));
        if non_root.as_deref() == Some("true") && of_pod("runAsUser").is_none() {
            let user = setting(&["securityContext", "runAsUser"]).unwrap_or_else(|| "65534".to_owned());
            security += &format!(", runAsNonRoot: true, runAsUser: {user}");
        }
        if let Some(profile) = setting(&["securityContext", "seccompProfile", "type"]) {
            security += &format!(", seccompProfile: {{type: {profile}}}");
        }
        let mut lines = vec![
            format!("- name: {CARRIER}"),
            format!("  image: {}", quoted(&self.options.image)),
            format!("  command: [\"/grace-init\", \"copy-to\", {}]", quoted(BINARY)),
            "  resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 100m, memory: 32Mi}}".to_owned(),
            format!("  securityContext: {{{security}}}"),
            format!("  volumeMounts: [{{name: {CARRIER}, mountPath: {FOLDER}}}]"),
        ];
        if let Some(policy) = setting(&["imagePullPolicy"]) {
            lines.insert(2, format!("  imagePullPolicy: {policy}"));
        }
        match spec.get("initContainers").filter(|node| !node.items().is_empty()) {
            Some(node) => {
                let (line, column) = self.first_item(node).ok_or("has initContainers in brackets")?;
                for text in lines {
                    self.edits.add_before(line, format!("{}{text}", " ".repeat(column)));
                }
            }
            None if spec.get("initContainers").is_some() => {
                return Err("has an empty list of initContainers".to_owned());
            }
            None => {
                self.edits.add_before(line, format!("{indent}initContainers:"));
                lines.iter().for_each(|text| self.edits.add_before(line, format!("{indent}  {text}")));
            }
        }
        let mut edits = std::mem::take(&mut self.edits);
        let volume = format!("{{name: {CARRIER}, emptyDir: {{}}}}");
        let done = self.add_items(&mut edits, spec, "volumes", &[volume], line, column);
        self.edits = edits;
        done
    }

    /// Where the dash of a block sequence's first item stands.
    fn first_item(&self, node: &Node) -> Option<(usize, usize)> {
        let first = node.items().first()?;
        let (line, column) = self.place(first.span.start);
        let dash = self.line(line).get(..column)?.rfind('-')?;
        let is_block = self.line(line).get(..dash)?.trim().is_empty() && !self.starts_with(node, "[");
        is_block.then_some((line, dash))
    }

    /// Puts items in front of a sequence, or makes it before a line.
    fn add_items(
        &self,
        edits: &mut Edits,
        parent: &Node,
        key: &str,
        items: &[String],
        line: usize,
        column: usize,
    ) -> Result<(), String> {
        let Some(node) = parent.get(key) else {
            let indent = " ".repeat(column);
            edits.add_before(line, format!("{indent}{key}:"));
            items.iter().for_each(|item| edits.add_before(line, format!("{indent}  - {item}")));
            return Ok(());
        };
        if parent.key_span(key).is_none() || self.starts_with(node, "*") || self.starts_with(node, "&") {
            return Err(format!("{key} comes from an anchor: write it out"));
        }
        if let Some((line, dash)) = self.first_item(node) {
            items.iter().for_each(|item| edits.add_before(line, format!("{}- {item}", " ".repeat(dash))));
            return Ok(());
        }
        let separator = if node.items().is_empty() { "" } else { ", " };
        self.after_bracket(edits, node, &format!("{}{separator}", items.join(", ")))
            .ok_or_else(|| format!("{key} is written in a way that cannot be changed by lines"))
    }

    /// Puts text behind the opening bracket of a sequence that is written in brackets.
    fn after_bracket(&self, edits: &mut Edits, node: &Node, text: &str) -> Option<()> {
        if !self.starts_with(node, "[") {
            return None;
        }
        let (line, column) = self.place(node.span.start);
        let before = self.line(line).get(..=column)?;
        let after = self.line(line).get(column + 1..)?;
        // A comment behind a quoted word that goes on in the next line would become part of it.
        let line_end = node.span.start - column + self.line(line).len();
        if node.items().iter().any(|item| item.span.start < line_end && line_end < item.span.end) {
            return None;
        }
        if edits.replaced.contains_key(&line) || self.edits.replaced.contains_key(&line) {
            return None;
        }
        edits.replaced.insert(line, vec![format!("{before}{text}{after}")]);
        Some(())
    }

    fn container(&self, view: &View<'_>) -> Result<Edits, String> {
        let mut edits = Edits::default();
        let container = view.container;
        if self.starts_with(&container.node, "{") || self.starts_with(&container.node, "*") {
            return Err("is written in braces: convert it to block YAML first".to_owned());
        }
        let name = container.node.key_span("name").ok_or("has no name of its own")?;
        let (line, column) = self.place(name.start);
        let after_name = line + 1;
        self.command(view, &mut edits, after_name, column)?;
        let new = self.settings(view);
        let mut variables = Vec::new();
        let mut set = |name: &str, value: &str| {
            if container.env.iter().all(|variable| variable.name.value != name) {
                variables.push(format!("{{name: {name}, value: {}}}", quoted(value)));
            }
        };
        set("GRACE_INIT_GRACE", &format!("{}s", self.workload.pod.grace_seconds().max(2)));
        if let Some(drain) = new.drain {
            set("GRACE_INIT_DRAIN", &format!("{drain}s"));
        }
        if let Some(step) = &new.step {
            set("GRACE_INIT_PRE_STOP", step);
        }
        self.add_items(&mut edits, &container.node, "env", &variables, after_name, column)?;
        let mount = format!("{{name: {CARRIER}, mountPath: {FOLDER}, readOnly: true}}");
        self.add_items(&mut edits, &container.node, "volumeMounts", &[mount], after_name, column)?;
        if new.hook {
            self.hook(container, &mut edits, after_name, column)?;
        }
        Ok(edits)
    }

    fn command(&self, view: &View<'_>, edits: &mut Edits, line: usize, column: usize) -> Result<(), String> {
        let container = view.container;
        if container.command.is_some() {
            let words = [quoted(BINARY), quoted("--")];
            return self.add_items(edits, &container.node, "command", &words, line, column);
        }
        let image = view.image.ok_or(
            "has no command, and what its image starts is not known: give --image-config with what docker inspect or skopeo \
             inspect --config print",
        )?;
        let has_args = container.args.as_ref().is_some_and(|args| !args.is_empty());
        if image.entrypoint.is_empty() && image.command.is_empty() && !has_args {
            return Err("has no command, and its image has none".to_owned());
        }
        let list = |words: &mut dyn Iterator<Item = &String>| {
            words.map(|word| quoted(word)).collect::<Vec<String>>().join(", ")
        };
        let indent = " ".repeat(column);
        let own = [BINARY.to_owned(), "--".to_owned()];
        let command = list(&mut own.iter().chain(&image.entrypoint));
        edits.add_before(line, format!("{indent}command: [{command}]"));
        // A command in the manifest takes the image's CMD away.
        if !has_args && !image.command.is_empty() && container.args.is_none() {
            edits.add_before(line, format!("{indent}args: [{}]", list(&mut image.command.iter())));
        }
        Ok(())
    }

    /// What the pod says of its shutdown, in the init's words.
    fn settings(&self, view: &View<'_>) -> NewSettings {
        let exact = |range: Range| range.most.filter(|_| range.is_exact()).map(|time| time.as_secs());
        let grace = self.workload.pod.grace_seconds();
        let fits = |drain: u64| i64::try_from(drain.saturating_mul(3)).is_ok_and(|needed| needed <= grace);
        let Some(hook) = &view.container.hook else {
            let serves = view.traffic != Traffic::None
                && !view.container.ports.is_empty()
                && !view.container.is_sidecar;
            let replaced = !matches!(self.workload.kind.as_str(), "Job" | "CronJob");
            let drain =
                Some(self.options.drain).filter(|drain| *drain > 0 && serves && replaced && fits(*drain));
            return NewSettings { drain, step: None, hook: true };
        };
        if view.client().is_some_and(|client| !matches!(client, Client::PreStop | Client::Stop)) {
            return NewSettings::default();
        }
        if let Some(drain) = view.hook.and_then(exact).filter(|drain| *drain > 0) {
            return NewSettings { drain: Some(drain), step: None, hook: true };
        }
        match &hook.value {
            Handler::Exec(words) if view.client().is_none() => {
                let words: Vec<String> = words.iter().map(|word| step_word(&word.value)).collect();
                // A variable holds one step a line.
                let step = Some(words.join(" ")).filter(|step| !step.contains('\n') && !step.is_empty());
                NewSettings { drain: None, hook: step.is_some(), step }
            }
            Handler::Exec(_) => NewSettings { hook: true, ..NewSettings::default() },
            Handler::Http { .. } | Handler::Sleep(_) | Handler::Other => NewSettings::default(),
        }
    }

    fn hook(
        &self,
        container: &Container,
        edits: &mut Edits,
        line: usize,
        column: usize,
    ) -> Result<(), String> {
        let new = format!("{{exec: {{command: [{}, \"pre-stop\"]}}}}", quoted(BINARY));
        let indent = " ".repeat(column);
        let Some(lifecycle) = container.node.get("lifecycle").filter(|node| !node.entries().is_empty())
        else {
            if container.node.get("lifecycle").is_some() {
                return Err("has an empty lifecycle: take it out".to_owned());
            }
            edits.add_before(line, format!("{indent}lifecycle: {{preStop: {new}}}"));
            return Ok(());
        };
        let from_anchor = || "lifecycle comes from an anchor: write it out".to_owned();
        if container.node.key_span("lifecycle").is_none()
            || self.starts_with(lifecycle, "*")
            || self.starts_with(lifecycle, "&")
        {
            return Err(from_anchor());
        }
        let Some(hook) = lifecycle.get("preStop") else {
            let first = lifecycle.entries().first().ok_or_else(from_anchor)?;
            let (line, column) = self.place(first.0.span.start);
            if self.starts_with(lifecycle, "{") {
                return Err("lifecycle is written in braces: write it as a block".to_owned());
            }
            edits.add_before(line, format!("{}preStop: {new}", " ".repeat(column)));
            return Ok(());
        };
        if lifecycle.key_span("preStop").is_none() || self.starts_with(hook, "*") {
            return Err(from_anchor());
        }
        let end = hook.span.start + self.text(hook).len();
        let ((first, from), (last, to)) = (self.place(hook.span.start), self.place(end));
        let before = self.line(first).get(..from).unwrap_or_default();
        let after = self.line(last).get(to..).unwrap_or_default();
        for number in first..=last {
            if edits.replaced.contains_key(&number) {
                return Err("has its hook and its command in one line: write them as a block".to_owned());
            }
            let texts = if number == first { vec![format!("{before}{new}{after}")] } else { Vec::new() };
            edits.replaced.insert(number, texts);
        }
        Ok(())
    }
}
