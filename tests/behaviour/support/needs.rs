//! What a test needs of the machine, so that it can be reported as ignored where that is missing.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use super::container;
use super::subject::example;

/// Something that not every machine has.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// The right to make a PID namespace, as root or through a user namespace.
    PidNamespace,
    /// The right to change the user.
    Root,
    /// A Docker daemon that can be talked to.
    Docker,
    /// A Docker client that builds with BuildKit.
    BuildKit,
    /// The image that the examples start from, on the machine or in a registry that it reaches.
    DebianImage,
    /// An image with Rust, named by `GRACE_INIT_TEST_RUST_IMAGE`.
    RustImage,
    /// What the containers' image is made of: busybox, the other inits and the release of ours.
    ContainerTools,
    /// An init under test that is linked dynamically, so that a library can be put in front of the C library.
    DynamicBuild,
    /// Flink's libraries, at `FLINK_HOME`.
    Flink,
    /// The right and the tools to mount a file system of our own and to freeze it.
    FrozenDisk,
    /// That every user can reach what was built: a home directory may be closed to others.
    OpenBuild,
    /// This file.
    File(&'static str),
    /// This program on the PATH, and able to run here.
    Program(&'static str),
}

impl Need {
    /// The reason to ignore a test, or nothing when the need is met.
    pub fn missing(self) -> Option<String> {
        static KNOWN: OnceLock<Mutex<HashMap<Need, bool>>> = OnceLock::new();
        let known = KNOWN.get_or_init(Mutex::default);
        let met = *known.lock().unwrap().entry(self).or_insert_with(|| self.is_met());
        (!met).then(|| match self {
            Self::PidNamespace => "needs a pid namespace".to_owned(),
            Self::Root => "needs root".to_owned(),
            Self::Docker => "needs a docker daemon".to_owned(),
            Self::BuildKit => "needs docker with buildkit".to_owned(),
            Self::DebianImage => "needs the image debian:bookworm-slim".to_owned(),
            Self::RustImage => "needs an image with rust, named by GRACE_INIT_TEST_RUST_IMAGE".to_owned(),
            Self::ContainerTools => format!(
                "needs busybox, dumb-init, tini and `rustup target add {}`",
                container::release_target()
            ),
            Self::DynamicBuild => "needs an init that is linked dynamically".to_owned(),
            Self::Flink => "needs flink's libraries at FLINK_HOME".to_owned(),
            Self::FrozenDisk => "needs root, a loop device, mkfs.ext4 and fsfreeze".to_owned(),
            Self::OpenBuild => "needs a build directory that every user can enter".to_owned(),
            Self::File(path) => format!("needs {path}"),
            Self::Program(program) => format!("needs {program}"),
        })
    }

    fn is_met(self) -> bool {
        match self {
            Self::PidNamespace => a_namespace_works(),
            Self::Root => nix::unistd::geteuid().is_root(),
            Self::Docker => ends_well("docker", &["version"]),
            Self::BuildKit => builds_with_buildkit(),
            Self::DebianImage => {
                // Nobody's machine is filled with images unasked.
                let image = "debian:bookworm-slim";
                ends_well("docker", &["image", "inspect", image])
                    || (everything_is_wanted() && ends_well("docker", &["pull", "-q", image]))
            }
            Self::RustImage => std::env::var("GRACE_INIT_TEST_RUST_IMAGE")
                .is_ok_and(|image| ends_well("docker", &["image", "inspect", &image])),
            Self::ContainerTools => {
                ["busybox", "dumb-init", "tini", "tar", "ldd"].into_iter().all(on_path)
                    && there_is_a_release()
            }
            // Installed is not enough: many sandboxes forbid tracing.
            Self::Program("strace") => ends_well("strace", &["-o", "/dev/null", "true"]),
            Self::DynamicBuild => std::env::var_os("INIT_UNDER_TEST")
                .is_none_or(|init| !container::libraries(init.as_ref()).is_empty()),
            Self::Flink => std::env::var_os("FLINK_HOME")
                .is_some_and(|place| std::path::Path::new(&place).join("lib").is_dir()),
            Self::FrozenDisk => super::frozen_disk::Disk::mount().is_ok(),
            Self::OpenBuild => example("stage").ancestors().skip(1).all(|place| {
                std::fs::metadata(place).is_ok_and(|directory| {
                    std::os::unix::fs::PermissionsExt::mode(&directory.permissions()) & 0o001 != 0
                })
            }),
            Self::File(path) => std::path::Path::new(path).is_file(),
            Self::Program(program) => on_path(program),
        }
    }
}

/// Only BuildKit makes an image of nothing.
fn builds_with_buildkit() -> bool {
    let script = "echo FROM scratch | DOCKER_BUILDKIT=1 docker build -q -";
    ends_well("docker", &["version"]) && ends_well("sh", &["-c", script])
}

/// One is named, or can be built: the standard library for its target is there.
fn there_is_a_release() -> bool {
    let named = ["GRACE_INIT_TEST_RELEASE", "INIT_UNDER_TEST"]
        .into_iter()
        .any(|name| std::env::var_os(name).is_some());
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", &container::release_target()]);
    let place = rustc.output().map(|output| String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    named || place.is_ok_and(|place| std::path::Path::new(&place).is_dir())
}

/// Whether a test whose needs are missing fails.
pub fn everything_is_wanted() -> bool {
    std::env::var_os("GRACE_INIT_TEST_ALL").is_some_and(|value| value == "1")
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()))
}

fn ends_well(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn a_namespace_works() -> bool {
    let mut command = Command::new(example("stage"));
    command.args(["--pid-namespace", "--", "sh", "-c", "echo pid $$"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut stage) = command.spawn() else { return false };
    let mut said = String::new();
    if let Some(mut stdout) = stage.stdout.take() {
        let _ = std::io::Read::read_to_string(&mut stdout, &mut said);
    }
    let _ = stage.wait();
    said == "pid 1\n"
}
