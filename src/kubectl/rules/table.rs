//! Every rule: its code, its name, the level that it usually has, and its page in `docs/check.md`.

use super::Level;

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its code, which never changes.
    pub code: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The level that it usually has.
    pub level: Level,
    /// What it is about, in one line.
    pub summary: &'static str,
    /// Why it matters and what to do.
    pub explanation: &'static str,
}

pub(super) fn by_code(code: &str) -> &'static Rule {
    static UNKNOWN: Rule =
        Rule { code: "GI000", name: "unknown", level: Level::Note, summary: "", explanation: "" };
    RULES.iter().find(|rule| rule.code == code).unwrap_or(&UNKNOWN)
}

/// All rules, in the order of their codes. `GI1..` are about grace-init, `GI2..` about every pod, `GI3..` about the cluster.
pub static RULES: &[Rule] = &[
    Rule {
        code: "GI101",
        name: "grace-differs",
        level: Level::Error,
        summary: "the init's grace is not the pod's",
        explanation: "The init plans its shutdown by `--grace`. If that is longer than the pod's \
            `terminationGracePeriodSeconds`, the runtime kills the container before the init's own deadline: nothing is \
            escalated in order and no report is written. If it is shorter, the command is killed while it still had time. \
            Write the pod's value into `GRACE_INIT_GRACE` as it is; the init takes its own reserve off.",
    },
    Rule {
        code: "GI102",
        name: "hook-not-subtracted",
        level: Level::Error,
        summary: "the time of a foreign preStop hook is not taken off the init's grace",
        explanation: "The kubelet runs the preStop hook first and takes its whole seconds off the grace. The init cannot see \
            that: it starts to count when its signal comes. Use `grace-init pre-stop` as the hook and move the wait into \
            `--drain`, or take the hook's longest time off `--grace`.",
    },
    Rule {
        code: "GI103",
        name: "settings-refused",
        level: Level::Error,
        summary: "grace-init refuses these settings",
        explanation: "The init checks its settings when it starts and exits with 125 if they do not fit together. The message \
            is its own.",
    },
    Rule {
        code: "GI104",
        name: "settings-warning",
        level: Level::Warning,
        summary: "grace-init will warn of these settings",
        explanation: "The init starts with these settings and logs this warning, most often for a `GRACE_INIT_` variable that \
            does not exist.",
    },
    Rule {
        code: "GI105",
        name: "stop-as-hook",
        level: Level::Warning,
        summary: "the preStop hook is `grace-init stop`",
        explanation: "`stop` runs the whole shutdown from within the hook. All hooks of a pod start at the same moment, so a \
            sidecar ends while the main containers still need it. `grace-init pre-stop` runs the drain and the pre-stop steps \
            and leaves the stop signal to the kubelet.",
    },
    Rule {
        code: "GI106",
        name: "stop-signal-not-expected",
        level: Level::Error,
        summary: "the container is stopped by a signal that does not begin the init's shutdown",
        explanation: "The runtime sends the image's STOPSIGNAL, or `lifecycle.stopSignal`. If it is not in `--stop-on` and no \
            hook asks for the shutdown, the init relays it like any other signal and skips the drain and the pre-stop steps. \
            Add `grace-init pre-stop` as the preStop hook, or name the signal in `--stop-on`.",
    },
    Rule {
        code: "GI107",
        name: "probe-grace-too-short",
        level: Level::Warning,
        summary: "a probe's own grace is used up by the drain and the pre-stop steps",
        explanation: "When a liveness or startup probe fails, the kubelet gives the probe's own \
            `terminationGracePeriodSeconds`. If the drain and the pre-stop steps use it up, the command gets its stop signal \
            with 2 s left. A short grace here is fine as long as it is longer than they are.",
    },
    Rule {
        code: "GI108",
        name: "sidecar-drains-late",
        level: Level::Warning,
        summary: "a sidecar has a drain or pre-stop steps, and no hook that runs them in time",
        explanation: "A native sidecar gets its stop signal when the main containers have ended, or 2 s before SIGKILL if they \
            take the whole grace. Its drain would begin only then. With `grace-init pre-stop` as its preStop hook it begins with the \
            pod's deletion.",
    },
    Rule {
        code: "GI109",
        name: "ready-without-serving",
        level: Level::Warning,
        summary: "the readiness probe fails as soon as the drain begins",
        explanation: "`grace-init ready` fails once a shutdown has begun. As a readiness probe that takes the pod out of the \
            endpoints' `serving` condition, which kube-proxy falls back to when all pods of a Service are stopping. \
            `grace-init ready --serving` succeeds until the command is told to stop.",
    },
    Rule {
        code: "GI110",
        name: "pid-1-is-pause",
        level: Level::Error,
        summary: "a client addresses process 1, which is not this container's init",
        explanation: "With `shareProcessNamespace` process 1 is the pod's `pause`, with `hostPID` it is the node's. Leave `--pid` \
            out: the client finds the init of its own container.",
    },
    Rule {
        code: "GI111",
        name: "control-path-shared",
        level: Level::Error,
        summary: "two containers use one control socket",
        explanation: "Both inits listen at the same path on a volume that they share: the second one takes the place of the \
            first, and its hooks reach the wrong container. Leave `--control` out, or end it with a slash to make it a folder.",
    },
    Rule {
        code: "GI112",
        name: "report-not-collected",
        level: Level::Note,
        summary: "the report is not written where Kubernetes collects it",
        explanation: "`kubectl describe pod` shows what a container wrote to its `terminationMessagePath`. A report elsewhere in \
            the container is gone with it. Leave `--report` out: the init finds the path.",
    },
    Rule {
        code: "GI113",
        name: "stop-signal-without-os",
        level: Level::Error,
        summary: "`lifecycle.stopSignal` without `spec.os.name`",
        explanation: "The API server rejects a pod that sets `stopSignal` and does not say its operating system, for signals \
            differ between them. Add `os: {name: linux}` to the pod's spec.",
    },
    Rule {
        code: "GI114",
        name: "init-twice",
        level: Level::Warning,
        summary: "an init runs another init",
        explanation: "Most often the image's ENTRYPOINT is an init already, or `command` and `args` name it both. Two inits have \
            two deadlines and two reports. Keep one.",
    },
    Rule {
        code: "GI115",
        name: "hook-without-init",
        level: Level::Warning,
        summary: "the hook asks an init that does not run in this container",
        explanation: "`grace-init pre-stop` and `stop` talk to the container's init. Without one they fail with 127, and the pod \
            gets the event FailedPreStopHook. Put grace-init in front of the command, or use `grace-init hook`, which needs no \
            init.",
    },
    Rule {
        code: "GI201",
        name: "nothing-drains",
        level: Level::Warning,
        summary: "requests fail at each rollout: the container stops before its clients know",
        explanation: "At a pod's deletion its endpoint is removed and its containers are stopped at the same time. For a few \
            seconds load balancers and kube-proxy still send requests, and a server that ends at SIGTERM refuses them. Keep \
            serving for 5 to 15 s: a preStop hook with `sleep`, or grace-init with `--drain 5s`. A server that goes on accepting \
            after SIGTERM needs neither: ignore the rule there.",
    },
    Rule {
        code: "GI202",
        name: "hook-leaves-too-little",
        level: Level::Warning,
        summary: "the hook leaves the program less than 5 s",
        explanation: "What the hook uses is taken off the grace; the program gets the rest, at least 2 s. Lengthen \
            `terminationGracePeriodSeconds` by what the hook takes.",
    },
    Rule {
        code: "GI203",
        name: "hook-longer-than-grace",
        level: Level::Error,
        summary: "the hook takes the whole grace",
        explanation: "At the end of the grace the kubelet stops waiting for the hook, sends the stop signal, and 2 s later \
            SIGKILL. Make the grace the hook's time plus what the program needs.",
    },
    Rule {
        code: "GI204",
        name: "shell-swallows-sigterm",
        level: Level::Warning,
        summary: "the shell that is process 1 does not hand SIGTERM on",
        explanation: "The kernel takes no default action for process 1: a shell without a trap ignores SIGTERM, and what it runs \
            never hears of it. The container is killed at the end of the grace. Write `exec` before the last command, set a \
            trap, or put an init in front: `grace-init -- sh -c '...'` sends the signal to the whole group.",
    },
    Rule {
        code: "GI205",
        name: "runner-as-first-process",
        level: Level::Warning,
        summary: "npm, yarn, pnpm or pipenv is process 1",
        explanation: "They start the program through a shell or as a child of their own. Whether SIGTERM reaches it depends on \
            their version, and its exit status is lost. Run the program itself (`node server.js`), or put an init in front that \
            signals the group.",
    },
    Rule {
        code: "GI206",
        name: "programs-not-told",
        level: Level::Warning,
        summary: "programs in the background never get SIGTERM",
        explanation: "A shell without a trap ignores SIGTERM as process 1, and neither its `wait` nor its background programs \
            notice. They are killed at the end of the grace. `grace-init -- sh -c '...'` tells them all and waits for them.",
    },
    Rule {
        code: "GI207",
        name: "no-grace",
        level: Level::Warning,
        summary: "the pod has no time to stop",
        explanation: "With `terminationGracePeriodSeconds: 0` the pod is gone from the API at once and its containers are killed \
            within 2 s, while another pod of the same name may start already. A comment beside the value that says why silences \
            the rule.",
    },
    Rule {
        code: "GI208",
        name: "grace-below-readiness",
        level: Level::Note,
        summary: "the grace is shorter than a load balancer that polls the readiness endpoint needs to notice",
        explanation: "Kubernetes marks the endpoint itself at once. A load balancer outside the cluster that polls the same path \
            needs its period times its number of failures.",
    },
    Rule {
        code: "GI209",
        name: "grace-not-granted",
        level: Level::Note,
        summary: "the grace is longer than nodes are given",
        explanation: "The cluster autoscaler waits 600 s by default (`--max-graceful-termination-sec`) for the pods of a node that it \
            removes, and GKE's spot nodes have 15 s for ordinary pods (`--platform gke-spot`). Then the node is gone.",
    },
    Rule {
        code: "GI210",
        name: "hook-port-missing",
        level: Level::Error,
        summary: "the hook's request goes to a port that no container has",
        explanation: "A name must be that of one of the container's own ports: otherwise the hook fails at once, with the event \
            FailedPreStopHook. A number need not be declared, so that is only a note.",
    },
    Rule {
        code: "GI211",
        name: "hook-program-missing",
        level: Level::Error,
        summary: "the hook runs a program that the image does not have",
        explanation: "Distroless images have no shell and no `sleep`. Such a hook fails at once and nothing drains. Use the \
            `sleep` action (`preStop: {sleep: {seconds: 5}}`), or grace-init with `--drain 5s`.",
    },
    Rule {
        code: "GI212",
        name: "stop-counts-as-failure",
        level: Level::Warning,
        summary: "the Job's podFailurePolicy takes a stop from outside for a failure",
        explanation: "A pod that is evicted or drained ends with 143 (SIGTERM) or 137 (SIGKILL). A rule that fails the Job for \
            these codes ends it at the first node that is drained. Put a rule before it that ignores the pod condition \
            DisruptionTarget.",
    },
    Rule {
        code: "GI213",
        name: "sidecar-stopped-by-hook",
        level: Level::Warning,
        summary: "a sidecar's hook ends it while the main containers still run",
        explanation: "All preStop hooks start at the pod's deletion; only the stop signals wait for their turn. A hook that stops \
            its sidecar takes it away from the main containers. Native sidecars need no such hook: the kubelet stops them after \
            the main containers.",
    },
    Rule {
        code: "GI301",
        name: "not-in-this-version",
        level: Level::Warning,
        summary: "the cluster's version does not know this field",
        explanation: "With `--kubernetes-version` fields are named that this version ignores or rejects: native sidecars since 1.29, \
            the `sleep` action since 1.30, `stopSignal` since 1.33 behind the gate ContainerStopSignals.",
    },
];
