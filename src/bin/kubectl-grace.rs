//! `kubectl grace`: what the shutdown of a pod will do, before it is deployed.

use std::io::{stderr, stdin, stdout};
use std::process::ExitCode;

use grace_init::kubectl::cli::{Streams, run};

fn main() -> ExitCode {
    let (mut input, mut output, mut errors) = (stdin().lock(), stdout().lock(), stderr().lock());
    let mut streams = Streams { input: &mut input, output: &mut output, errors: &mut errors };
    run(std::env::args_os(), &mut streams).into()
}
