use std::ffi::{OsStr, OsString};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Running, TemporaryDirectory, Terminal, Timeline};

/// Which init a test runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// grace-init under its own name.
    Ours,
    /// grace-init, called by another init's name.
    OursAs(Face),
    /// The other init itself.
    Peer(Face),
}

/// The names that select a command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Face {
    DumbInit,
    Tini,
    DockerInit,
    Catatonit,
}

impl Face {
    /// The name to be called by.
    pub fn name(self) -> &'static str {
        match self {
            Self::DumbInit => "dumb-init",
            Self::Tini => "tini",
            Self::DockerInit => "docker-init",
            Self::Catatonit => "catatonit",
        }
    }
}

/// An example program of this package, built beside the tests.
pub fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("find the test program");
    // target/PROFILE/deps/behaviour-HASH
    let profile = own.parent().and_then(Path::parent).expect("find the build directory");
    let path = profile.join("examples").join(name);
    assert!(path.is_file(), "{} is not built: run `cargo build --examples`", path.display());
    path
}

impl Subject {
    /// Named by `INIT_UNDER_TEST`: `dumb-init`, `tini` or a path; ours without it.
    pub fn from_environment() -> Self {
        let Some(path) = std::env::var_os("INIT_UNDER_TEST") else { return Self::Ours };
        let file = Path::new(&path).file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        match file.as_str() {
            "dumb-init" => Self::Peer(Face::DumbInit),
            "tini" | "tini-static" => Self::Peer(Face::Tini),
            "docker-init" => Self::Peer(Face::DockerInit),
            "catatonit" => Self::Peer(Face::Catatonit),
            // Another build of ours.
            _ => Self::Ours,
        }
    }

    /// The program's path or, for a peer, its name on the PATH. `links` receives the symlink of a face.
    pub fn program(self, links: &TemporaryDirectory) -> OsString {
        let named = std::env::var_os("INIT_UNDER_TEST");
        let ours = || match (&named, Self::from_environment()) {
            (Some(path), Self::Ours) => path.clone(),
            _ => env!("CARGO_BIN_EXE_grace-init").into(),
        };
        match self {
            Self::Ours => ours(),
            Self::OursAs(face) => {
                let link = links.path().join(face.name());
                let _ = symlink(ours(), &link);
                link.into()
            }
            Self::Peer(face) => match named {
                Some(path) if self == Self::from_environment() => path,
                _ => face.name().into(),
            },
        }
    }

    /// How this subject's command line is spelled.
    fn face(self) -> Option<Face> {
        match self {
            Self::Ours => None,
            Self::OursAs(face) | Self::Peer(face) => Some(face),
        }
    }

    /// Whether `-c` means the child alone.
    pub fn takes_single_child(self) -> bool {
        matches!(self.face(), None | Some(Face::DumbInit))
    }

    /// Will run as PID 1 of a PID namespace of its own.
    pub fn as_pid_one(self) -> Stage {
        Stage::new(self, true)
    }

    /// Will run as a container's first process in a [`super::kubelet::Pod`].
    pub fn in_pod(self) -> Stage {
        let mut stage = Stage::new(self, false);
        // The report goes to the pod's termination message.
        stage.builder.env_remove("GRACE_INIT_REPORT").env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
        stage
    }

    /// Will run as an ordinary process.
    pub fn outside(self) -> Stage {
        Stage::new(self, false)
    }
}

/// What is still to be started: the init, its options, its command and its surroundings.
pub struct Stage {
    subject: Subject,
    options: Vec<OsString>,
    command: Vec<OsString>,
    before: Vec<OsString>,
    without_init: bool,
    terminal: Option<Terminal>,
    builder: Command,
    links: TemporaryDirectory,
    stderr_unread: bool,
    one_stream: bool,
}

impl Stage {
    fn new(subject: Subject, pid_one: bool) -> Self {
        let mut builder = Command::new(example("stage"));
        // Nothing that the caller has set may change what the subject does.
        for (key, _) in std::env::vars_os() {
            let key_text = key.to_string_lossy();
            if ["GRACE_INIT_", "DUMB_INIT_", "TINI_"].iter().any(|prefix| key_text.starts_with(prefix)) {
                builder.env_remove(&key);
            }
        }
        // Where the tests run in a container, its own termination log is not theirs to write.
        builder.env("GRACE_INIT_REPORT", "none");
        if pid_one {
            builder.arg("--pid-namespace");
        }
        Self {
            subject,
            options: Vec::new(),
            command: Vec::new(),
            before: Vec::new(),
            without_init: false,
            terminal: None,
            builder,
            links: TemporaryDirectory::new(),
            stderr_unread: false,
            one_stream: false,
        }
    }

    /// Options in the subject's own spelling.
    pub fn options<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.options.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Signals go to the direct child only.
    pub fn single_child(self) -> Self {
        match self.subject.face() {
            None | Some(Face::DumbInit) => self.options(["-c"]),
            Some(Face::Tini | Face::DockerInit | Face::Catatonit) => self,
        }
    }

    /// Signals go to the child's whole group; in a new session where the subject can do that.
    pub fn group(self) -> Self {
        match self.subject.face() {
            None | Some(Face::DumbInit) => self,
            Some(Face::Tini | Face::DockerInit | Face::Catatonit) => self.options(["-g"]),
        }
    }

    /// Orphans come to the init also when it is not PID 1.
    pub fn subreaper(self) -> Self {
        match self.subject.face() {
            Some(Face::Tini | Face::DockerInit) => self.options(["-s"]),
            // catatonit always does.
            None | Some(Face::DumbInit | Face::Catatonit) => self,
        }
    }

    /// Rewrites a signal; 0 drops it.
    pub fn rewrite(self, from: i32, to: i32) -> Self {
        let rule = format!("{from}:{to}");
        self.options(["-r", &rule])
    }

    /// The command to run and its arguments.
    pub fn command<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.command.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// The command is a shell script; in it `$reporter`, `$orphans` and `$world` are our examples.
    pub fn shell(mut self, script: &str) -> Self {
        for program in ["signal_reporter", "orphans", "world"] {
            let variable = program.trim_start_matches("signal_");
            self.builder.env(variable, example(program));
        }
        self.command(["sh", "-c", script])
    }

    /// The command is `signal_reporter` with these options.
    pub fn reporter(self, options: &[&str]) -> Self {
        self.command([example("signal_reporter")]).command(options)
    }

    /// Words that run the init, as `strace -f`.
    pub fn run_by(mut self, words: &[&str]) -> Self {
        self.before = words.iter().map(OsString::from).collect();
        self
    }

    /// Runs the command by itself, to see what it does without an init.
    pub fn without_init(mut self) -> Self {
        self.without_init = true;
        self
    }

    /// The session of the init gets this terminal; it becomes stdin, stdout and stderr.
    pub fn on_terminal(mut self, terminal: Terminal) -> Self {
        self.builder.arg("--terminal").arg(terminal.path());
        self.terminal = Some(terminal);
        self
    }

    /// The init inherits this signal ignored.
    pub fn ignored(mut self, signal: i32) -> Self {
        self.builder.args(["--ignore", &signal.to_string()]);
        self
    }

    /// The init inherits this signal blocked.
    pub fn blocked(mut self, signal: i32) -> Self {
        self.builder.args(["--block", &signal.to_string()]);
        self
    }

    /// The init inherits this descriptor, open on `path`.
    pub fn open(mut self, fd: i32, path: &Path) -> Self {
        let mut word = OsString::from(format!("{fd}="));
        word.push(path);
        self.builder.arg("--open").arg(word);
        self
    }

    /// The init inherits this descriptor closed.
    pub fn closed(mut self, fd: i32) -> Self {
        self.builder.args(["--close", &fd.to_string()]);
        self
    }

    /// stdin is this file rather than empty.
    pub fn stdin(mut self, path: &Path) -> Self {
        self.builder.arg("--stdin").arg(path);
        self
    }

    /// A variable of the init's environment.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.builder.env(key, value);
        self
    }

    /// The init's working directory.
    pub fn directory(mut self, path: &Path) -> Self {
        self.builder.current_dir(path);
        self
    }

    /// stdout and stderr are one pipe, so that the order of all lines is the true one.
    pub fn one_stream(mut self) -> Self {
        self.one_stream = true;
        self
    }

    /// Nobody reads stderr: once its pipe is full, a write to it blocks.
    pub fn stderr_unread(mut self) -> Self {
        self.stderr_unread = true;
        self
    }

    /// The words that call the init with its options, for a script or a shebang line.
    pub fn init_path(&self) -> OsString {
        self.subject.program(&self.links)
    }

    /// Options of the `stage` program.
    pub(super) fn staged<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.builder.args(words);
        self
    }

    /// The environment that was set for the init, to be set for what runs beside it too.
    pub(super) fn environment(&self) -> Vec<(OsString, Option<OsString>)> {
        let entries = self.builder.get_envs();
        entries.map(|(key, value)| (key.to_owned(), value.map(OsStr::to_owned))).collect()
    }

    /// Starts it.
    #[track_caller]
    pub fn start(mut self) -> Running {
        let init = self.subject.program(&self.links);
        self.builder.arg("--").args(&self.before);
        if !self.without_init {
            self.builder.arg(init).args(&self.options);
            // Without it tini takes the command's options for its own.
            if matches!(self.subject.face(), Some(Face::Tini | Face::DockerInit | Face::Catatonit))
                && !self.command.is_empty()
            {
                self.builder.arg("--");
            }
        }
        self.builder.args(&self.command);
        self.builder.stdin(Stdio::piped());
        if self.terminal.is_some() {
            self.builder.stdout(Stdio::null()).stderr(Stdio::inherit());
        } else {
            self.builder.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let both = self.one_stream.then(|| {
            let (reader, writer) = std::io::pipe().expect("make a pipe");
            self.builder.stdout(writer.try_clone().expect("copy a descriptor")).stderr(writer);
            reader
        });
        let mut stage = self.builder.spawn().expect("start the stage");
        let timeline = Timeline::new(stage.id().cast_signed());
        if let Some(both) = both {
            timeline.read_pipe("output", both);
        }
        if let Some(terminal) = &self.terminal {
            timeline.read_from("screen", terminal.screen());
        }
        if let Some(stdout) = stage.stdout.take() {
            timeline.read_pipe("stdout", stdout);
        }
        let mut unread = None;
        match stage.stderr.take() {
            Some(stderr) if self.stderr_unread => unread = Some(stderr),
            Some(stderr) => timeline.read_pipe("stderr", stderr),
            None => {}
        }
        Running::new(stage, timeline, self.terminal, unread, self.links)
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ours => f.write_str("grace-init"),
            Self::OursAs(face) => write!(f, "as {}", face.name()),
            Self::Peer(face) => f.write_str(face.name()),
        }
    }
}
