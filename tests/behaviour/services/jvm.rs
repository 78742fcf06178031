//! A JVM: its shutdown hooks complete, its exit status is a success, its thread dump still comes.

use std::path::Path;
use std::process::Command;

use nix::libc::{SIGQUIT, SIGTERM};

use crate::support::Need::{PidNamespace, Program};
use crate::support::{Recipe, TemporaryDirectory, behaviours, example_file};

fn compile(directory: &Path) {
    let compiled = Command::new("javac").arg("-d").arg(directory).arg(example_file("jvm/Service.java")).status();
    assert!(compiled.is_ok_and(|status| status.success()), "javac failed");
}

behaviours! {
    [PidNamespace, Program("javac"), Program("java")]
    fn a_jvms_shutdown_hook_completes_and_its_143_is_a_success(init) {
        let classes = TemporaryDirectory::new();
        compile(classes.path());
        let place = classes.path().to_str().unwrap();
        let mut run = Recipe::of("jvm").replace("/srv/classes", place).stage(init.as_pid_one()).one_stream().start();
        run.wait_for("service: ready");
        run.signal(SIGQUIT);
        run.wait_for("Full thread dump");
        run.wait_for("Heap");
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().assert_order([
            "service: ready",
            "Full thread dump",
            "sent SIGTERM",
            "service: finishing",
            "service: finished",
            "the command exited with 143",
        ]);
    }
}
