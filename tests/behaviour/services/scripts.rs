//! Scripts that start more than one program.

use crate::support::Need::PidNamespace;
use crate::support::{behaviours, example_file};

behaviours! {
    [PidNamespace]
    fn the_first_example_shows_what_it_says(init) {
        let example = example_file("two-workers.sh");
        let options = ["--drain", "1s", "--pre-stop", "echo deregistering"];
        let mut run = init.as_pid_one().options(options).command(["sh", example.to_str().unwrap()]).one_stream().start();
        run.exits_with(0);
        run.timeline().assert_order([
            "foreground: ready",
            "echo deregistering",
            "foreground: finished",
            "background: finished",
            "stopped by SIGTERM",
        ]);
    }
}
