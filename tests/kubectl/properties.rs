//! What must hold for any pod.

use proptest::prelude::*;

use crate::support::{findings, grace_with};

/// One container's lines, indented for a pod of a Deployment.
fn container(name: &'static str) -> impl Strategy<Value = String> {
    let commands = prop::sample::select(vec![
        "command: [\"/app\", \"--flag\"]",
        "command: [\"sh\", \"-c\", \"exec app $A\"]",
        "command:\n          - /app\n          - \"it's\"",
        "command: [\"/grace-init\", \"--grace\", \"30s\", \"--\", \"/app\"]",
        "command:\n        - sh\n        - -c\n        - |\n          a | b\n          c",
    ]);
    let hooks = prop::sample::select(vec![
        "",
        "        lifecycle:\n          preStop:\n            sleep: {seconds: 3}\n",
        "        lifecycle: {preStop: {exec: {command: [\"sleep\", \"2\"]}}} # wait\n",
        "        lifecycle:\n          preStop:\n            exec:\n              command: [\"/bin/leave\", \"--all of it\"]\n",
        "        lifecycle:\n          postStart:\n            exec: {command: [\"x\"]}\n",
        "        lifecycle:\n          preStop:\n            httpGet: {path: /x, port: 80}\n",
    ]);
    let more = prop::sample::select(vec![
        "",
        "        env:\n          - name: A # a\n            value: \"1\"\n",
        "        env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n        volumeMounts: []\n",
        "        ports:\n        - containerPort: 80\n        readinessProbe:\n          httpGet: {path: /, port: 80}\n",
        "        envFrom:\n        - secretRef: {name: s}\n        livenessProbe: {tcpSocket: {port: 80}, terminationGracePeriodSeconds: 6}\n",
    ]);
    (commands, hooks, more).prop_map(move |(command, hook, more)| {
        format!("      - name: {name} # {name}\n        image: registry.example/{name}:1\n        {command}\n{hook}{more}")
    })
}

fn manifest() -> impl Strategy<Value = String> {
    let spec = prop::sample::select(vec![
        "",
        "      terminationGracePeriodSeconds: 60\n      shareProcessNamespace: true\n",
        "      initContainers:\n      - name: setup\n        image: setup\n",
        "      volumes:\n      - name: data\n        emptyDir: {}\n      securityContext: {runAsNonRoot: true}\n",
    ]);
    let sidecar = container("side").prop_map(|text| text + "        restartPolicy: Always\n");
    (spec, container("one"), prop::option::of(container("two")), prop::option::of(sidecar)).prop_map(
        |(spec, one, two, sidecar)| {
            let sidecar = match sidecar {
                Some(_) if spec.contains("initContainers") => String::new(),
                Some(sidecar) => format!("      initContainers:\n{sidecar}"),
                None => String::new(),
            };
            format!(
                "# generated\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: any\nspec:\n  template:\n    spec:\n{spec}{sidecar}      containers:\n{one}{}",
                two.unwrap_or_default()
            )
        },
    )
}

/// The findings that inject promises to mend: what grace-init itself refuses, and graces and hooks that do not fit.
fn errors(manifest: &str) -> Vec<String> {
    findings(manifest, &[]).into_iter().filter(|finding| finding.contains(" error ")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn inject_then_check_has_no_errors_and_twice_changes_nothing(manifest in manifest()) {
        let before = errors(&manifest);
        let once = grace_with(&["inject", "-f", "-"], &manifest);
        prop_assert_eq!(&once.errors, "", "{}", manifest);
        let after = errors(&once.output);
        // A container that had grace-init already keeps the settings that it had.
        prop_assert!(after.len() <= before.len(), "{:?} {:?}\n{}", before, after, once.output);
        let twice = grace_with(&["inject", "-f", "-"], &once.output);
        prop_assert_eq!(&twice.output, &once.output);
        prop_assert_eq!(twice.errors, "");
    }

    #[test]
    fn remove_gives_the_input_back(manifest in manifest()) {
        let once = grace_with(&["inject", "-f", "-"], &manifest);
        let back = grace_with(&["inject", "--remove", "-f", "-"], &once.output);
        prop_assert_eq!(back.output, manifest);
    }

    #[test]
    fn no_manifest_makes_check_or_explain_panic(
        manifest in manifest(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), "[ a{}\\[\\]:,&*'\"|>#\n0-9-]{0,3}"), 0..4),
    ) {
        let mut text = manifest;
        for (at, new) in cuts {
            let at = at.index(text.len());
            if text.is_char_boundary(at) {
                text.insert_str(at, &new);
            }
        }
        for words in [["check", "-f", "-"], ["explain", "-f", "-"], ["inject", "-f", "-"]] {
            let _ = grace_with(&words, &text);
        }
        let _ = grace_with(&["check", "-f", "-", "-o", "sarif", "--all-kinds"], &text);
        let _ = grace_with(&["explain", "-f", "-", "-o", "svg"], &text);
    }

    #[test]
    fn explain_has_its_moments_within_the_grace_and_two_seconds(manifest in manifest()) {
        let outcome = grace_with(&["explain", "-f", "-", "-o", "json"], &manifest);
        let json: serde_json::Value = serde_json::from_str(&outcome.output).unwrap();
        for timeline in json.as_array().unwrap() {
            let latest = timeline["grace_ms"].as_u64().unwrap() + 2_000;
            for moment in timeline["moments"].as_array().unwrap() {
                let (from, to) = (moment["earliest_ms"].as_u64().unwrap(), moment["latest_ms"].as_u64());
                prop_assert!(from <= to.unwrap_or(latest) && to.unwrap_or(0) <= latest + 2_000, "{moment}");
            }
        }
    }
}
