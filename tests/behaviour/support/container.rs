//! An init as the first process of real containers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::process::wait_until;
use super::{Face, LIMIT, Running, Subject, TemporaryDirectory, Terminal, Timeline};

/// Holds a busybox as its only system, and the inits.
const IMAGE: &str = "grace-init-behaviour";

/// A Docker daemon: the machine's, or one of a test's own.
#[derive(Clone, Default)]
pub struct Docker {
    host: Option<String>,
}

impl Docker {
    fn command<W: AsRef<std::ffi::OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        let mut command = Command::new("docker");
        if let Some(host) = &self.host {
            command.args(["--host", host]);
        }
        // The older client builds without BuildKit unless it is told.
        command.args(words).env("DOCKER_BUILDKIT", "1").stdin(Stdio::null());
        command
    }

    /// Runs `docker WORDS`; its output when it succeeds, its error when not.
    pub fn attempt<W: AsRef<std::ffi::OsStr>>(
        &self,
        words: impl IntoIterator<Item = W>,
    ) -> Result<String, String> {
        let output = self.command(words).output().map_err(|e| e.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs `docker WORDS`, which must succeed; returns what it printed.
    #[track_caller]
    pub fn run<const N: usize>(&self, words: [&str; N]) -> String {
        self.attempt(words).unwrap_or_else(|error| panic!("docker {}: {error}", words.join(" ")))
    }

    /// Makes an image from a directory.
    #[track_caller]
    fn import(&self, root: &Path, image: &str) {
        // The image of an earlier run would stay for ever without its name.
        let _ = self.attempt(["rmi", image]);
        let mut tar = Command::new("tar")
            .arg("-C")
            .arg(root)
            .args(["-c", "."])
            .stdout(Stdio::piped())
            .spawn()
            .expect("run tar");
        let archive = tar.stdout.take().expect("tar's output");
        let imported = self.command(["import", "-", image]).stdin(archive).stdout(Stdio::null()).status();
        assert!(imported.is_ok_and(|status| status.success()), "cannot import the image {image}");
        assert!(tar.wait().is_ok_and(|status| status.success()), "cannot archive {}", root.display());
    }
}

/// The target of the release on this machine.
pub fn release_target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// The release for this machine: the file that `INIT_UNDER_TEST` or `GRACE_INIT_TEST_RELEASE` names, else it is built.
pub fn static_file() -> PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        if let (Some(path), Subject::Ours) =
            (std::env::var_os("INIT_UNDER_TEST"), Subject::from_environment())
        {
            return path.into();
        }
        if let Some(path) = std::env::var_os("GRACE_INIT_TEST_RELEASE") {
            return path.into();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = release_target();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--release", "--bin", "grace-init", "--locked", "--quiet", "--target", &target]);
        build.current_dir(root).env_remove("CARGO_TARGET_DIR");
        assert!(build.status().is_ok_and(|status| status.success()), "the release build failed");
        root.join("target").join(target).join("release/grace-init")
    };
    FILE.get_or_init(build).clone()
}

/// The words of a program's dynamic loader and libraries, none for a static one.
pub fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("run ldd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// Puts a program where the image's PATH finds it, with its libraries.
fn install(root: &Path, program: &Path, as_path: &str) {
    let copy = |from: &Path, to: &str| {
        let to = root.join(to.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().expect("a directory")).expect("make a directory");
        std::fs::copy(from, &to)
            .unwrap_or_else(|e| panic!("copy {} to {}: {e}", from.display(), to.display()));
    };
    copy(program, as_path);
    for library in libraries(program) {
        copy(&library, library.to_str().expect("a library's path"));
    }
}

/// A root directory with busybox's programs, all inits and an empty /tmp.
fn image_root() -> TemporaryDirectory {
    let find = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut found = std::env::split_paths(&path).map(|directory| directory.join(name));
        found.find(|file| file.is_file()).unwrap_or_else(|| panic!("{name} is not on the PATH"))
    };
    let directory = TemporaryDirectory::new();
    let root = directory.path();
    install(root, &static_file(), "/grace-init");
    install(root, &find("dumb-init"), "/dumb-init");
    install(root, &find("tini"), "/tini");
    let busybox = find("busybox");
    install(root, &busybox, "/bin/busybox");
    let applets = Command::new(&busybox).arg("--list").output().expect("ask busybox for its programs");
    for applet in
        String::from_utf8_lossy(&applets.stdout).split_whitespace().filter(|name| *name != "busybox")
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))
            .expect("link a program of busybox");
    }
    let temporary = root.join("tmp");
    std::fs::create_dir(&temporary).expect("make /tmp");
    let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    std::fs::set_permissions(temporary, anybody).expect("open /tmp to anybody");
    directory
}

/// A container that is still to be started.
pub struct Crate {
    docker: Docker,
    subject: Subject,
    settings: Vec<String>,
    options: Vec<String>,
    command: Vec<String>,
    without_init: bool,
}

impl Subject {
    /// Will be the ENTRYPOINT of a container without a network.
    pub fn in_container(self) -> Crate {
        static READY: OnceLock<()> = OnceLock::new();
        let docker = Docker::default();
        READY.get_or_init(|| docker.import(image_root().path(), IMAGE));
        Crate {
            docker,
            subject: self,
            settings: Vec::new(),
            options: Vec::new(),
            command: Vec::new(),
            without_init: false,
        }
    }
}

impl Crate {
    /// Options of `docker run`.
    pub fn settings(mut self, words: &[&str]) -> Self {
        self.settings.extend(words.iter().map(|&word| word.to_owned()));
        self
    }

    /// Options for grace-init; a peer, which has none of the kind, gets none.
    pub fn own_options(mut self, words: &[&str]) -> Self {
        if self.subject == Subject::Ours {
            self.options.extend(words.iter().map(|&word| word.to_owned()));
        }
        self
    }

    /// The command is a script for busybox's shell.
    pub fn shell(mut self, script: &str) -> Self {
        self.command = ["sh", "-c", script].map(str::to_owned).to_vec();
        self
    }

    /// The command is the container's first process, or Docker's own init is.
    pub fn without_init(mut self) -> Self {
        self.without_init = true;
        self
    }

    /// On a daemon of the test's own.
    pub fn on(mut self, daemon: &Daemon) -> Self {
        self.docker = daemon.docker.clone();
        self
    }

    /// `docker run` with everything but `-d` or `-it`, and the container's name.
    fn words(&self) -> (String, Vec<String>) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("behaviour-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let init = match self.subject {
            Subject::Ours | Subject::OursAs(_) => "/grace-init",
            Subject::Peer(Face::DumbInit) => "/dumb-init",
            Subject::Peer(Face::Tini | Face::DockerInit) => "/tini",
            Subject::Peer(Face::Catatonit) => "/catatonit",
        };
        let mut words: Vec<String> =
            ["run", "--name", &name, "--network", "none"].map(str::to_owned).to_vec();
        words.extend_from_slice(&self.settings);
        words.push(IMAGE.to_owned());
        if !self.without_init {
            words.push(init.to_owned());
            words.extend_from_slice(&self.options);
            words.push("--".to_owned());
        }
        words.extend_from_slice(&self.command);
        (name, words)
    }

    /// Starts it in the background.
    #[track_caller]
    pub fn start(self) -> Container {
        let (name, mut words) = self.words();
        words.insert(1, "-d".to_owned());
        let started = self.docker.attempt(&words);
        let (reader, writer) = std::io::pipe().expect("make a pipe");
        let mut logs = self.docker.command(["logs", "-f", &name]);
        logs.stdout(writer.try_clone().expect("copy a descriptor")).stderr(writer);
        let container = Container {
            timeline: Timeline::new(std::process::id().cast_signed()),
            logs: logs.spawn().expect("run docker"),
            docker: self.docker,
            name,
            on_terminal: false,
        };
        drop(logs);
        if let Err(error) = started {
            panic!("docker {}: {error}", words.join(" "));
        }
        container.timeline.read_pipe("output", reader);
        container
    }

    /// Starts it with `docker run -it` on a terminal; the process that runs is the client.
    #[track_caller]
    pub fn start_on_terminal(self) -> (Container, Running) {
        let (name, mut words) = self.words();
        words.insert(1, "-it".to_owned());
        let client = Subject::Ours.outside().without_init().on_terminal(Terminal::new());
        let client = client.command(["docker"]).command(&words).start();
        let idle = Command::new("true").spawn().expect("run true");
        let timeline = client.timeline().clone();
        (Container { docker: self.docker, name, timeline, logs: idle, on_terminal: true }, client)
    }
}

/// A container that was started. Dropping it removes it.
pub struct Container {
    docker: Docker,
    name: String,
    timeline: Timeline,
    logs: Child,
    on_terminal: bool,
}

impl Container {
    /// What it wrote to its log so far.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for a line of its log.
    #[track_caller]
    pub fn wait_for(&self, pattern: &str) -> String {
        self.timeline.wait_for(pattern).text
    }

    /// `docker stop`, and how long it took.
    #[track_caller]
    pub fn stop(&self, options: &[&str]) -> Duration {
        let begin = Instant::now();
        let words = ["stop"].iter().chain(options).copied().chain([self.name.as_str()]);
        self.docker.attempt(words).expect("docker stop");
        begin.elapsed()
    }

    /// `docker stop` that nobody waits for.
    pub fn begin_stop(&self, options: &[&str]) -> Child {
        let words = ["stop"].iter().chain(options).copied().chain([self.name.as_str()]);
        self.docker.command(words).stdout(Stdio::null()).spawn().expect("run docker")
    }

    /// `docker kill -s SIGNAL`.
    #[track_caller]
    pub fn kill(&self, signal: &str) {
        self.docker.run(["kill", "-s", signal, &self.name]);
    }

    /// `docker exec`: its output, or its error.
    pub fn execute(&self, words: &[&str]) -> Result<String, String> {
        self.docker.attempt(["exec", &self.name].iter().chain(words))
    }

    /// `docker exec -d`.
    #[track_caller]
    pub fn execute_in_background(&self, words: &[&str]) {
        self.docker.attempt(["exec", "-d", &self.name].iter().chain(words)).expect("docker exec");
    }

    /// Everything in its log, as the daemon has it.
    #[track_caller]
    pub fn log(&self) -> String {
        self.docker.run(["logs", &self.name])
    }

    /// A field of `docker inspect`.
    #[track_caller]
    pub fn inspect(&self, field: &str) -> String {
        self.docker.run(["inspect", "-f", field, &self.name])
    }

    /// True until it is over.
    pub fn is_running(&self) -> bool {
        self.inspect("{{.State.Running}}") == "true"
    }

    /// Asserts that it ends with this status.
    #[track_caller]
    pub fn exits_with(&mut self, status: i32) {
        wait_until(&format!("the container {} is over", self.name), LIMIT, || !self.is_running());
        let _ = self.logs.wait();
        // On a terminal the stream is the client's, who may still be there.
        if !self.on_terminal {
            self.timeline.wait_for_end();
        }
        let code = self.inspect("{{.State.ExitCode}}");
        assert_eq!(code, status.to_string(), "{}", self.timeline.picture());
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.docker.attempt(["rm", "-f", &self.name]);
        let _ = self.logs.wait();
    }
}

/// A second daemon, whose `docker run --init` puts our file in front of each command.
pub struct Daemon {
    docker: Docker,
    process: Child,
    _directory: TemporaryDirectory,
}

impl Daemon {
    /// Starts it and waits until it answers.
    #[track_caller]
    pub fn with_init(init: &Path) -> Self {
        let directory = TemporaryDirectory::new();
        let root = directory.path().to_owned();
        let place = |name: &str| root.join(name).display().to_string();
        let host = format!("unix://{}", place("socket"));
        let log = std::fs::File::create(place("log")).expect("make a file");
        // In the machine's own network it would remove the bridge of the machine's daemon.
        let process = Command::new("unshare")
            .args([
                "--net",
                "dockerd",
                "--host",
                &host,
                "--data-root",
                &place("data"),
                "--exec-root",
                &place("exec"),
            ])
            .args(["--pidfile", &place("pid"), "--bridge", "none", "--iptables=false", "--init-path"])
            .arg(init)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("run dockerd");
        let docker = Docker { host: Some(host) };
        let daemon = Self { docker, process, _directory: directory };
        let log = || std::fs::read_to_string(place("log")).unwrap_or_default();
        wait_until("the second daemon answers", LIMIT, || {
            daemon.docker.attempt(["version"]).is_ok() || {
                assert!(!log().contains("failed to start"), "{}", log());
                false
            }
        });
        daemon.docker.import(image_root().path(), IMAGE);
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        super::process::send(self.process.id().cast_signed(), nix::libc::SIGTERM);
        let _ = self.process.wait();
    }
}
