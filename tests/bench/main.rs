//! `cargo bench`: what the init costs, side by side with the other inits on this machine.
//!
//! ```text
//! cargo bench                       everything, on the release
//! cargo bench -- --short            fewer rounds
//! cargo bench -- --check            fewer rounds, and fails where a limit that does not depend on the machine is broken
//! cargo bench -- NAME...            these measurements only
//! ```
//! `GRACE_INIT` names a release that was built already.
//! Every comparison takes the inits in turn within one run, so that a machine that changes its speed changes it for
//! all of them, and shows medians.
#![allow(
    unsafe_code,
    clippy::incompatible_msrv,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::exit,
    clippy::multiple_unsafe_ops_per_block,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a program for developers that may end by panicking"
)]

mod child;
mod measure;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use table::Table;

/// An init to be measured.
#[derive(Clone)]
pub struct Init {
    pub name: &'static str,
    pub path: PathBuf,
    /// What makes it relay to the group, or to the child, as it does by default.
    pub options: &'static [&'static str],
    pub ours: bool,
}

impl Init {
    /// A command that runs `words` under it, with the environment of a container that sets none: this program's own, which is
    /// Cargo's, would cost each a page or two of memory.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.path);
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command.env_clear().envs([("PATH", path), ("HOSTNAME", "b0a7f3c5d2e1"), ("HOME", "/root")]);
        command.args(self.options).arg("--").args(words);
        command
    }
}

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Effort {
    pub starts: usize,
    pub signals: usize,
    pub stops: usize,
    pub orphans: usize,
    pub trees: &'static [usize],
    pub idle_seconds: u64,
}

const FULL: Effort = Effort {
    starts: 1_000,
    signals: 5_000,
    stops: 500,
    orphans: 100_000,
    trees: &[100, 1_000, 10_000],
    idle_seconds: 60,
};
const SHORT: Effort =
    Effort { starts: 100, signals: 500, stops: 50, orphans: 10_000, trees: &[100, 1_000], idle_seconds: 3 };

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let Some(("child", rest)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return child::run(rest);
    }
    let check = words.iter().any(|word| word == "--check");
    let effort = if check || words.iter().any(|word| word == "--short") { SHORT } else { FULL };
    let chosen: Vec<&String> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|word| name.contains(word.as_str()));

    let place = std::env::temp_dir().join(format!("bench-{}", std::process::id()));
    let inits = installed(inits(), &place);
    println!("{}", measure::machine());
    let mut table = Table::new(&inits);
    for (name, measure) in measure::ALL {
        if wanted(name) {
            measure(&inits, effort, &mut table);
        }
    }
    std::fs::remove_dir_all(&place).unwrap();
    println!("{table}");
    let broken = table.broken_limits();
    for limit in &broken {
        println!("limit broken: {limit}");
    }
    if check && !broken.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Ours, in the build that images carry, and every other one that is installed.
fn inits() -> Vec<Init> {
    let ours = std::env::var_os("GRACE_INIT").map_or_else(build, PathBuf::from);
    let mut inits = vec![Init { name: "grace-init", path: ours, options: &[], ours: true }];
    let peers: [(&str, &[&str]); 6] = [
        ("dumb-init", &[]),
        ("tini", &[]),
        ("tini-static", &[]),
        ("catatonit", &[]),
        ("pid1", &[]),
        ("tino", &[]),
    ];
    for (name, options) in peers {
        let found = std::env::var_os("PATH").and_then(|path| {
            std::env::split_paths(&path).map(|place| place.join(name)).find(|file| file.is_file())
        });
        if let Some(path) = found {
            inits.push(Init { name, path, options, ours: false });
        }
    }
    inits
}

/// Copies them all to one directory, and their pages out of memory. A longer path, or a file that its linker wrote page by
/// page and not its installation at once, costs some percent of a start.
fn installed(inits: Vec<Init>, place: &Path) -> Vec<Init> {
    std::fs::create_dir_all(place).unwrap();
    let install = |init: Init| {
        let path = place.join(init.name);
        std::fs::copy(&init.path, &path).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        file.sync_all().unwrap();
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
        Init { path, ..init }
    };
    inits.into_iter().map(install).collect()
}

/// Builds the release for this machine.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--release", "--bin", "grace-init", "--locked", "--quiet", "--target", &target]);
    let built = command.current_dir(root).env_remove("CARGO_TARGET_DIR").status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "no release: does it want `rustup target add {target}`?"
    );
    root.join("target").join(target).join("release/grace-init")
}
