//! The Kubernetes manifests of the examples and of README: valid, accepted by the binary, and with one grace in both places.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::Need::Program;
use crate::support::{Subject, TemporaryDirectory, behaviours, example_file};

const VALIDATOR: &str = "kubernetes-validate";

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
    let readme = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let blocks = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block);
    for (number, block) in blocks.filter(|block| block.starts_with("apiVersion")).enumerate() {
        let path = directory.file(&format!("readme-{number}.yaml"), 0o644, block);
        found.push((format!("README.md, manifest {number}"), path));
    }
    assert!(found.len() > 8, "{found:?}");
    found
}

/// Whether the validator, which knows every field of the newest Kubernetes, takes it; else what it says.
fn validate(manifest: &Path) -> Result<(), String> {
    let output = Command::new(VALIDATOR).arg("--strict").arg(manifest).output().expect("run the validator");
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

/// The manifest as the validator's own YAML reader understands it.
fn read(manifest: &Path) -> Value {
    let find = |path: &std::ffi::OsString| std::env::split_paths(path).find(|place| place.join(VALIDATOR).is_file());
    let place = std::env::var_os("PATH").as_ref().and_then(find).expect("the validator's place");
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let output = Command::new(place.join("python3")).args(["-c", script]).arg(manifest).output().expect("run python");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{}: {e}", manifest.display()))
}

/// The spec of the pods in a manifest.
fn pod(manifest: &Value) -> &Value {
    match manifest["kind"].as_str() {
        Some("Pod") => &manifest["spec"],
        _ => &manifest["spec"]["template"]["spec"],
    }
}

fn words(value: &Value) -> Vec<String> {
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

/// Checks one container; true when it runs the init.
#[track_caller]
fn check_container(init: Subject, name: &str, grace: u64, container: &Value) -> bool {
    let hook = words(&container["lifecycle"]["preStop"]["exec"]["command"]);
    let command = words(&container["command"]);
    let (options, is_hook) = match (command.as_slice(), hook.as_slice()) {
        ([program, options @ .., end], _) if program == "/grace-init" && end == "--" => (options.to_vec(), false),
        (_, [_, door, options @ ..]) if door == "hook" => (options.to_vec(), true),
        _ => (Vec::new(), false),
    };
    let variables: Vec<(String, String)> = container["env"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| Some((entry["name"].as_str()?.to_owned(), entry["value"].as_str()?.to_owned())))
        .filter(|(key, _)| key.starts_with("GRACE_INIT_"))
        .collect();
    if options.is_empty() && variables.is_empty() {
        return false;
    }
    let picture = explain(init, &options, &variables).unwrap_or_else(|error| panic!("{name}: {error}"));
    let wanted = explain(init, &["--grace".to_owned(), grace.to_string()], &[]).unwrap();
    let graces = [&picture, &wanted].map(|text| text.split(" = ").next().map(str::to_owned));
    assert_eq!(graces[0], graces[1], "{name}: the init's grace and terminationGracePeriodSeconds (hook: {is_hook})");
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
            let containers = pod["containers"].as_array().into_iter().flatten();
            checked += containers.filter(|container| check_container(init, &name, grace, container)).count();
        }
        assert_eq!(checked, manifests(&directory).len(), "a manifest that does not run the init");
    }
}
