//! Scripts without a trap: every hook of every program in them completes, under us and under no other init.

use nix::libc::SIGTERM;

use crate::support::Need::PidNamespace;
use crate::support::{Need, Running, Subject, TemporaryDirectory, behaviours, example};

const SCRIPT: &str = "$reporter --name back --linger 3s &\n$reporter --name front --exit-on TERM=0\n";

/// A script with this body and first line, started by itself.
fn script(init: Subject, first: &str, body: &str) -> (Running, TemporaryDirectory) {
    let directory = TemporaryDirectory::new();
    let file = directory.file("script", 0o755, &format!("#!{first}\n{body}"));
    let run = init.as_pid_one().without_init().env("reporter", example("signal_reporter")).command([file]).one_stream().start();
    (run, directory)
}

fn path(init: Subject) -> String {
    init.as_pid_one().init_path().to_str().unwrap().to_owned()
}

behaviours! {
    [PidNamespace]
    fn the_background_cleanup_of_a_script_completes(init) {
        let (mut run, _directory) = script(init, &format!("{} /bin/sh", path(init)), SCRIPT);
        run.wait_for("back ready");
        run.wait_for("front ready");
        run.signal(SIGTERM);
        run.wait_until_over();
        run.timeline().assert_order(["sent SIGTERM", "back cleanup begins", "back cleanup done", "init over"]);
        run.wait();
    }

    [PidNamespace]
    fn the_same_script_is_cut_off_by_dumb_init_and_tini(_init) {
        for (peer, first) in [("dumb-init", "dumb-init /bin/sh"), ("tini", "tini -g -- /bin/sh")] {
            if Need::Program(peer).missing().is_some() {
                continue;
            }
            let (name, rest) = first.split_once(' ').unwrap();
            // A #! line passes one word, so the options of tini go through env.
            let first = format!("/usr/bin/env -S {name} {rest}");
            let (mut run, _directory) = script(Subject::Ours, &first, SCRIPT);
            run.wait_for("back ready");
            run.wait_for("front ready");
            run.signal(SIGTERM);
            run.wait_until_over();
            run.wait();
            run.timeline().never_saw("back cleanup done");
        }
    }

    [PidNamespace]
    fn every_hook_below_wrappers_around_wrappers_completes(init) {
        let inner = "$reporter --name one --linger 500ms & $reporter --name two --linger 900ms; wait";
        let outer = format!("sh -c '{inner}'; true");
        let mut run = init.as_pid_one().shell(&outer).one_stream().start();
        run.wait_for("one ready");
        run.wait_for("two ready");
        run.signal(SIGTERM);
        run.wait_until_over();
        run.timeline().assert_order(["sent SIGTERM", "one cleanup done", "two cleanup done", "init over"]);
        run.exits_with(128 + SIGTERM);
    }
}
