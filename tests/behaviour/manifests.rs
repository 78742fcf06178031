//! The Kubernetes manifests of the examples, of README and of docs/kubernetes.md: valid, accepted by the binary, and with a
//! grace that fits the pod's.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::Need::Program;
use crate::support::{Recipe, Subject, TemporaryDirectory, behaviours, example_file};

/// Reads manifests.
pub const VALIDATOR: &str = "kubernetes-validate";

/// Every manifest: its name, and a file with it.
fn manifests(directory: &TemporaryDirectory) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for example in std::fs::read_dir(example_file("")).unwrap() {
        for file in std::fs::read_dir(example.unwrap().path()).into_iter().flatten() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push((path.display().to_string(), path));
            }
        }
    }
    found.extend(manifests_in("README.md", directory));
    found.extend(manifests_in("docs/kubernetes.md", directory));
    assert!(found.len() > 8, "{found:?}");
    found
}

/// The manifests in a page's blocks of code: their names, and files with them.
pub fn manifests_in(page: &str, directory: &TemporaryDirectory) -> Vec<(String, PathBuf)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect("read a page");
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block);
    let manifests = blocks.filter(|block| block.starts_with("apiVersion")).enumerate();
    let with_file = |(number, block): (usize, &str)| {
        let name = format!("{page}, manifest {number}");
        let path = directory.file(&format!("{}.yaml", name.replace(['/', ' ', ','], "-")), 0o644, block);
        (name, path)
    };
    manifests.map(with_file).collect()
}

/// Whether the validator, which knows every field of the newest Kubernetes, takes it; else what it says.
fn validate(manifest: &Path) -> Result<(), String> {
    let output = Command::new(VALIDATOR).arg("--strict").arg(manifest).output().expect("run the validator");
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

/// The manifest as the validator's own YAML reader understands it.
pub fn read(manifest: &Path) -> Value {
    let find = |path: &std::ffi::OsString| std::env::split_paths(path).find(|place| place.join(VALIDATOR).is_file());
    let place = std::env::var_os("PATH").as_ref().and_then(find).expect("the validator's place");
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let output = Command::new(place.join("python3")).args(["-c", script]).arg(manifest).output().expect("run python");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{}: {e}", manifest.display()))
}

/// The spec of the pods in a manifest.
pub fn pod(manifest: &Value) -> &Value {
    match manifest["kind"].as_str() {
        Some("Pod") => &manifest["spec"],
        _ => &manifest["spec"]["template"]["spec"],
    }
}

pub fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The picture that these options and variables give.
fn explain(init: Subject, options: &[String], variables: &[(String, String)]) -> Result<String, String> {
    let mut command = Command::new(init.outside().init_path());
    command.arg("--explain").args(options).arg("true").env_clear().envs(variables.iter().cloned());
    let output = command.output().expect("run the init");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The init's variables in a container's environment.
fn variables(container: &Value) -> Vec<(String, String)> {
    let entries = container["env"].as_array().into_iter().flatten();
    entries
        .filter_map(|entry| Some((entry["name"].as_str()?.to_owned(), entry["value"].as_str()?.to_owned())))
        .filter(|(key, _)| key.starts_with("GRACE_INIT_"))
        .collect()
}

/// The name of the example whose image a container runs.
fn example_of(container: &Value) -> Option<&str> {
    container["image"].as_str()?.strip_prefix("example-")
}

/// What the init is started with, by the manifest or else by the image; `None` in a container without it.
fn options_of(container: &Value) -> Option<Vec<String>> {
    match words(&container["command"]).as_slice() {
        [program, options @ .., end] if program.ends_with("/grace-init") && end == "--" => Some(options.to_vec()),
        [] => Some(Recipe::of(example_of(container)?).options().to_vec()),
        _ => None,
    }
}

/// The words behind the init's name in the hooks and probes of a container.
fn doors(container: &Value) -> Vec<Vec<String>> {
    let lifecycle = ["preStop", "postStart"].map(|name| &container["lifecycle"][name]);
    let probes = ["readinessProbe", "livenessProbe", "startupProbe"].map(|name| &container[name]);
    let commands = lifecycle.into_iter().chain(probes).map(|place| words(&place["exec"]["command"]));
    let ours = commands.filter(|command| command.first().is_some_and(|program| program.ends_with("/grace-init")));
    ours.map(|mut command| command.split_off(1)).collect()
}

/// Asks for what is nowhere, so that nothing but the usage can be wrong.
#[track_caller]
fn check_usage(init: Subject, name: &str, door: &[String]) {
    let nowhere = match door.first().map(String::as_str) {
        // More than any kernel's pid_max.
        Some("hook") => ["--pid", "2147483647"],
        Some("pre-stop" | "stop" | "cancel" | "ready" | "status") => ["--control", "/nonexistent/socket"],
        // Any other word is a command to run, and one that is not found has the same status.
        _ => panic!("{name}: {door:?} asks an init for nothing"),
    };
    let mut command = Command::new(init.outside().init_path());
    let output = command.args(door).args(nowhere).env_clear().output().expect("run the init");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(127), "{name}: {door:?}: {said}");
}

/// A misspelled variable is one that the init does not read: nothing would tell.
#[track_caller]
fn check_variables(init: Subject, name: &str, variables: &[(String, String)]) {
    let help = Command::new(init.outside().init_path()).arg("--help").output().expect("run the init");
    let help = String::from_utf8_lossy(&help.stdout);
    let known: Vec<&str> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
    for (variable, _) in variables {
        let option = variable.replace("GRACE_INIT_", "--").replace('_', "-").to_lowercase();
        assert!(known.contains(&option.as_str()), "{name}: {variable} is the variable of no option");
    }
}

/// The kubelet sends what the image's STOPSIGNAL says. Without a hook that began the shutdown, or with one that failed, only
/// that signal can begin it.
#[track_caller]
fn check_stop_signal(name: &str, options: &[String], variables: &[(String, String)], container: &Value) {
    let Some(example) = example_of(container) else { return };
    let recipe = std::fs::read_to_string(example_file(&format!("{example}/Dockerfile"))).unwrap();
    let Some(sent) = recipe.lines().find_map(|line| line.strip_prefix("STOPSIGNAL SIG")) else { return };
    let option = options.iter().skip_while(|word| *word != "--stop-on").nth(1);
    let variable = variables.iter().find(|(key, _)| key == "GRACE_INIT_STOP_ON").map(|(_, value)| value);
    let begins = option.or(variable).map_or("TERM,INT", String::as_str);
    assert!(begins.split(',').any(|signal| signal == sent), "{name}: the image's SIG{sent} begins no shutdown: {begins}");
}

/// A native sidecar, by its place in the pod.
pub fn is_sidecar(init_container: &Value) -> bool {
    init_container["restartPolicy"] == "Always"
}

/// What a main container's init may be told as its grace: the pod's, less what a foreign hook takes; before a sidecar less
/// what that needs.
fn graces(pod: &Value, container: &Value) -> RangeInclusive<u64> {
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap_or(0);
    let longest = grace - container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
    let mut sidecars = pod["initContainers"].as_array().into_iter().flatten().filter(|container| is_sidecar(container));
    if sidecars.next().is_some() { grace / 2..=longest - 2 } else { longest..=longest }
}

/// Checks one container; true when the init runs in it, or stops it.
#[track_caller]
fn check_container(init: Subject, name: &str, graces: RangeInclusive<u64>, container: &Value) -> bool {
    let variables = variables(container);
    check_variables(init, name, &variables);
    let doors = doors(container);
    for door in &doors {
        check_usage(init, name, door);
    }
    let hook = doors.iter().find_map(|door| Some(door.strip_prefix(&["hook".to_owned()])?.to_vec()));
    let options = match (hook, options_of(container)) {
        (Some(hook), _) => hook,
        (None, Some(options)) => {
            check_stop_signal(name, &options, &variables, container);
            options
        }
        (None, None) => {
            // README's image has its ENTRYPOINT in the block above.
            if variables.is_empty() {
                return false;
            }
            Vec::new()
        }
    };
    let picture = explain(init, &options, &variables).unwrap_or_else(|error| panic!("{name}: {error}"));
    let stated = |picture: &str| picture.split(" = ").next().map(str::to_owned);
    let is_stated = |grace: u64| {
        let wanted = explain(init, &["--grace".to_owned(), grace.to_string()], &[]).unwrap();
        stated(&picture) == stated(&wanted)
    };
    assert!(graces.clone().any(is_stated), "{name}: the init's grace is not within {graces:?}:\n{picture}");
    true
}

behaviours! {
    [Program(VALIDATOR)]
    fn every_manifest_is_valid(init) {
        let _ = init;
        let directory = TemporaryDirectory::new();
        for (name, path) in manifests(&directory) {
            validate(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    [Program(VALIDATOR)]
    fn a_misspelled_field_is_not_valid(init) {
        let _ = init;
        let directory = TemporaryDirectory::new();
        let text = std::fs::read_to_string(example_file("kubernetes/pod.yaml")).unwrap();
        let broken = directory.file("pod.yaml", 0o644, &text.replace("preStop:", "preStopp:"));
        let error = validate(&broken).unwrap_err();
        assert!(error.contains("preStopp"), "{error}");
    }

    [Program(VALIDATOR)]
    fn every_manifests_settings_are_accepted_and_its_grace_is_the_pods(init) {
        let directory = TemporaryDirectory::new();
        let mut checked = 0;
        for (name, path) in manifests(&directory) {
            let manifest = read(&path);
            let pod = pod(&manifest);
            let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap_or_else(|| panic!("{name}: no grace"));
            let sidecars = pod["initContainers"].as_array().into_iter().flatten().filter(|container| is_sidecar(container));
            for sidecar in sidecars {
                assert!(check_container(init, &name, grace..=grace, sidecar), "{name}: a sidecar without the init");
            }
            let containers = pod["containers"].as_array().into_iter().flatten();
            checked += containers.filter(|container| check_container(init, &name, graces(pod, container), container)).count();
        }
        assert_eq!(checked, manifests(&directory).len(), "a manifest that does not run the init");
    }
}
