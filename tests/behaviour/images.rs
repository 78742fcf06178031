//! The image in docker/ and those of the examples: built and run with the very commands that their READMEs show.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::support::Need::{BuildKit, ContainerTools, DebianImage, RustImage};
use crate::support::container::{Docker, static_file};
use crate::support::{TemporaryDirectory, behaviours, example_file};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The shell commands in a text, those between ```` ```sh ```` and ```` ``` ````.
fn shell_blocks(markdown: &str) -> String {
    let mut inside = false;
    let mut commands = String::new();
    for line in markdown.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => commands += &format!("{line}\n"),
            _ => {}
        }
    }
    commands
}

/// Runs these commands at the top of the project, each of which must succeed; returns all that they wrote.
#[track_caller]
fn run(commands: &str) -> String {
    let (mut reader, writer) = std::io::pipe().expect("make a pipe");
    // A loop that waits for a container which has died would never end.
    let mut shell = Command::new("timeout");
    shell.args(["600", "sh", "-euxc", commands]).current_dir(ROOT).env("DOCKER_BUILDKIT", "1").stdin(Stdio::null());
    shell.stdout(writer.try_clone().expect("copy a descriptor")).stderr(writer);
    let mut child = shell.spawn().expect("run sh");
    drop(shell);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut reader, &mut said).expect("read the output");
    let status = child.wait().expect("wait for sh");
    assert!(status.success(), "{status}:\n{said}");
    said
}

/// Makes the image that the examples copy the file from.
fn make_our_image() {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let recipe = std::fs::read_to_string(Path::new(ROOT).join("docker/Dockerfile")).unwrap();
        let line = recipe.lines().find(|line| line.contains("BINARY=local ")).expect("the command for a local binary");
        assert!(static_file().starts_with(ROOT), "only the project's own static file is in reach of its Dockerfile");
        run(line.trim_start_matches(['#', ' ']));
    });
}

/// Follows an example's README word for word.
#[track_caller]
fn follow(example: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    make_our_image();
    let readme = std::fs::read_to_string(example_file(example).join("README.md")).unwrap();
    let commands = shell_blocks(&readme);
    let name = format!("example-{example}");
    let docker = Docker::default();
    // They publish the same ports.
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let remove_all = || {
        let filter = format!("name=^{name}");
        let left = docker.attempt(["ps", "-aq", "--filter", &filter]).unwrap_or_default();
        let _ = docker.attempt(["rm", "-f"].into_iter().chain(left.split_whitespace()));
    };
    remove_all();
    let said = std::panic::catch_unwind(|| run(&commands));
    remove_all();
    let said = said.unwrap_or_else(|failure| std::panic::resume_unwind(failure));
    let stops = said.matches("grace-init: info: stopped by SIG").count();
    assert!(stops > 0, "no summary of a shutdown in\n{said}");
    assert_eq!(said.matches(" exit_code=0").count(), stops, "not a clean end each time:\n{said}");
    for trouble in ["could not start", "a step failed", "time is up"] {
        assert!(!said.contains(trouble), "{trouble:?} in\n{said}");
    }
}

/// The text of a field of an image.
fn inspect(image: &str, field: &str) -> String {
    Docker::default().run(["image", "inspect", "-f", field, image])
}

/// What both ways of building must lead to.
#[track_caller]
fn check_our_image(image: &str) {
    let docker = Docker::default();
    assert_eq!(docker.run(["run", "--rm", image]), concat!("grace-init ", env!("CARGO_PKG_VERSION")));
    let version = inspect(image, "{{index .Config.Labels \"org.opencontainers.image.version\"}}");
    assert_eq!(version, env!("CARGO_PKG_VERSION"), "the version's label");
    let layers: Vec<String> = serde_json::from_str(&inspect(image, "{{json .RootFS.Layers}}")).unwrap();
    assert_eq!(layers.len(), 1, "{layers:?}");
    let directory = TemporaryDirectory::new();
    let archive = directory.path().join("image.tar");
    docker.run(["save", "-o", archive.to_str().unwrap(), image]);
    let unpacked = Command::new("tar").arg("-C").arg(directory.path()).arg("-xf").arg(&archive).status();
    assert!(unpacked.is_ok_and(|status| status.success()), "cannot unpack the image");
    let manifest = std::fs::read_to_string(directory.path().join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layer = directory.path().join(manifest[0]["Layers"][0].as_str().unwrap());
    let files = Command::new("tar").arg("-tf").arg(layer).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&files.stdout), "grace-init\n");
}

behaviours! {
    [BuildKit, ContainerTools]
    fn the_image_from_a_local_binary_holds_one_file_that_runs(init) {
        let _ = init;
        make_our_image();
        check_our_image("grace-init:latest");
    }

    [BuildKit, RustImage]
    fn the_image_from_source_holds_one_file_that_runs_and_is_the_same_each_time(init) {
        let _ = init;
        let image = std::env::var("GRACE_INIT_TEST_RUST_IMAGE").unwrap();
        let readme = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
        let command = readme.lines().find(|line| line.starts_with("docker build -f docker/Dockerfile")).unwrap();
        let options = format!("--no-cache --build-arg RUST_IMAGE={image} -t grace-init-from-source");
        let command = command.replace("-t grace-init", &options);
        let layer = || {
            run(&command);
            check_our_image("grace-init-from-source:latest");
            inspect("grace-init-from-source", "{{json .RootFS.Layers}}")
        };
        assert_eq!(layer(), layer());
    }

    []
    fn every_example_with_an_image_is_followed_by_a_test(init) {
        let _ = init;
        let own = include_str!("images.rs");
        for entry in std::fs::read_dir(example_file("")).unwrap() {
            let example = entry.unwrap().file_name().into_string().unwrap();
            if example_file(&example).join("Dockerfile").exists() {
                assert!(own.contains(&format!("follow(\"{example}\")")), "no test follows the example {example}");
            }
        }
    }

    [BuildKit, ContainerTools, DebianImage]
    fn the_nginx_example_does_what_its_readme_says(init) {
        let _ = init;
        follow("nginx");
    }

    [BuildKit, ContainerTools, DebianImage]
    fn the_jvm_example_does_what_its_readme_says(init) {
        let _ = init;
        follow("jvm");
    }

    [BuildKit, ContainerTools, DebianImage]
    fn the_postgres_example_does_what_its_readme_says(init) {
        let _ = init;
        follow("postgres");
    }

    [BuildKit, ContainerTools, DebianImage]
    fn the_redis_example_does_what_its_readme_says(init) {
        let _ = init;
        follow("redis");
    }

    [BuildKit, ContainerTools, DebianImage]
    fn the_celery_example_does_what_its_readme_says(init) {
        let _ = init;
        follow("celery");
    }

    [BuildKit, ContainerTools, DebianImage]
    fn the_two_apps_example_does_what_its_readme_says(init) {
        let _ = init;
        follow("two-apps-one-script");
    }

    [BuildKit, ContainerTools, DebianImage]
    fn the_zookeeper_example_does_what_its_readme_says(init) {
        let _ = init;
        follow("zookeeper");
    }

    [BuildKit, ContainerTools, DebianImage]
    fn the_flink_example_does_what_its_readme_says(init) {
        let _ = init;
        follow("flink");
    }

    [BuildKit, ContainerTools, DebianImage]
    fn readmes_dockerfile_gives_an_image_that_drains_and_stops(init) {
        let _ = init;
        make_our_image();
        let readme = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
        let recipe = readme.split("```dockerfile\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        // The image that Docker's registry calls nginx is not within everybody's reach.
        run("docker build -t example-nginx examples/nginx");
        let directory = TemporaryDirectory::new();
        directory.file("Dockerfile", 0o644, &recipe.replace("FROM nginx", "FROM example-nginx"));
        let place = directory.path().display();
        let said = run(&format!("
            docker build -t grace-init-readme {place}
            container=$(docker run -d grace-init-readme)
            until docker exec $container /grace-init ready; do sleep 0.1; done
            docker stop -t 30 $container
            docker logs $container
            docker rm $container"));
        assert!(said.contains("stopped by SIGTERM") && said.contains("drain 5") && said.contains("exit_code=0"), "{said}");
    }
}
