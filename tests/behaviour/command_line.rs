//! Our own command line, as far as it takes a real process to see what it does.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::SIGTERM;

use crate::support::Need::{PidNamespace, Program, Root};
use crate::support::process::wait_until;
use crate::support::{LIMIT, Subject, TemporaryDirectory, behaviours};

/// The program with these words: its status, stdout and stderr.
fn called(init: Subject, words: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(init.outside().init_path()).args(words).env_clear().output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

behaviours! {
    []
    fn a_timeline_that_cannot_be_written_is_a_failure(init) {
        for option in ["--explain", "--help", "--version"] {
            let full = File::options().write(true).open("/dev/full").unwrap();
            let output = Command::new(init.outside().init_path()).arg(option).stdout(full).output().unwrap();
            assert_eq!(output.status.code(), Some(125), "{option}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("standard output"), "{option}");
        }
    }

    []
    fn a_usage_error_never_waits_for_somebody_to_read_it(init) {
        let (_unread, mut pipe) = std::io::pipe().unwrap();
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let full = loop {
            if let Err(error) = pipe.write(&[b'x'; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        for words in [&["--bogus"][..], &["--grace", "soon", "true"], &["stop", "now"], &["redy"]] {
            let mut command = Command::new(init.outside().init_path());
            let mut child = command.args(words).stderr(pipe.try_clone().unwrap()).spawn().unwrap();
            let mut status = None;
            wait_until("it has ended", LIMIT, || {
                status = child.try_wait().unwrap();
                status.is_some()
            });
            assert_eq!(status.unwrap().code(), Some(125), "{words:?}");
        }
    }

    [PidNamespace]
    fn our_variables_configure_one_init_and_not_the_next_one_below(init) {
        let stage = init.as_pid_one().env("GRACE_INIT_PRE_STOP", "echo step ran").env("GRACE_INIT_GRACE", "20s");
        let stage = stage.env("GRACE_INIT_LOG_LEVEL", "info").env("GRACE_INIT_OTHERS", "kept");
        let inner = init.outside().init_path().to_str().unwrap().to_owned();
        let script = "env | grep ^GRACE_INIT | grep -v SOCKET= | sort | tr '\\n' ' '; echo listed; trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done";
        let mut run = stage.command([&inner, "--report", "none", "--", "sh", "-c", script]).start();
        let listed = run.wait_for("listed");
        assert_eq!(listed, "GRACE_INIT_LOG_LEVEL=info GRACE_INIT_OTHERS=kept listed");
        run.wait_for("up");
        run.signal(SIGTERM);
        run.exits_with(0);
        assert_eq!(run.timeline().text("stdout").matches("step ran").count(), 1, "{}", run.timeline().picture());
    }

    []
    fn a_misspelled_variable_is_named_and_the_command_runs(init) {
        let mut run = init.outside().env("GRACE_INIT_DRAN", "5s").shell("echo ran").start();
        run.exits_with(0);
        assert_eq!(run.timeline().text("stdout"), "ran\n");
        let said = run.timeline().text("stderr");
        assert!(said.contains("GRACE_INIT_DRAN") && said.contains("did you mean GRACE_INIT_DRAIN?"), "{said}");
    }

    []
    fn a_steps_program_that_is_missing_is_a_warning_at_the_start(init) {
        let mut run = init.outside().options(["-p", "no-such-program x"]).shell("echo ran").start();
        run.exits_with(0);
        assert!(run.timeline().text("stderr").contains("\"no-such-program\" was not found in PATH"));
        let (status, picture, _) = called(init, &["--explain", "-g", "30s", "-p", "no-such-program x", "true"]);
        assert!(status == Some(0) && picture.contains("pre-stop 1: no-such-program x (not found)"), "{picture}");
    }

    []
    fn a_timeline_names_where_a_guessed_grace_comes_from(init) {
        let (_, picture, _) = called(init, &["--explain"]);
        assert!(picture.contains("grace 30s") && picture.contains("assumed") && picture.contains("--grace"), "{picture}");
        let (_, picture, _) = called(init, &["--explain", "-g", "30s"]);
        assert!(!picture.contains("assumed"), "{picture}");
        let (_, picture, _) = called(init, &["--explain", "-g", "none", "--stop-signal", "TERM:5s,INT"]);
        assert!(picture.contains("SIGINT until it ends") && !picture.contains("until the deadline"), "{picture}");
    }

    []
    fn relative_paths_are_meant_from_where_we_were_started(init) {
        let directory = TemporaryDirectory::new();
        std::fs::create_dir(directory.path().join("x")).unwrap();
        let stage = init.outside().directory(directory.path()).options(["--control", "x/state"]);
        let mut run = stage.shell("echo up; exec sleep 1000").start();
        run.wait_for("up");
        let socket = directory.path().join("x/state");
        wait_until("the init listens", LIMIT, || socket.exists());
        // It has left the directory: a relative path would lead it elsewhere when it removes the socket.
        run.signal(SIGTERM);
        run.exits_with(128 + SIGTERM);
        assert!(!socket.exists());
    }

    []
    fn a_failed_start_from_a_relative_path_names_the_true_cause(init) {
        let directory = TemporaryDirectory::new();
        directory.file("bad", 0o755, "#!/no/such/interpreter\n");
        std::fs::create_dir(directory.path().join("adir")).unwrap();
        for (program, status, cause) in [("./bad", 127, "/no/such/interpreter"), ("./adir", 126, "is a directory")] {
            let mut run = init.outside().directory(directory.path()).command([program]).start();
            run.exits_with(status);
            assert!(run.timeline().text("stderr").contains(cause), "{}", run.timeline().picture());
        }
    }

    []
    fn the_program_copies_itself(init) {
        let directory = TemporaryDirectory::new();
        let own = std::fs::read(init.outside().init_path()).unwrap();
        let destination = directory.path().join("tool");
        let words = ["copy-to", destination.to_str().unwrap()];
        for _ in 0..2 {
            assert_eq!(called(init, &words), (Some(0), String::new(), String::new()));
            assert_eq!(std::fs::metadata(&destination).unwrap().mode() & 0o7777, 0o555);
            assert!(std::fs::read(&destination).unwrap() == own, "the copy differs");
        }
        // A directory gets it under its own name.
        assert_eq!(called(init, &["copy-to", directory.path().to_str().unwrap()]).0, Some(0));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        let output = Command::new(directory.path().join("grace-init")).args(["--", "true"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
    }

    []
    fn a_copy_can_be_replaced_while_it_runs(init) {
        let directory = TemporaryDirectory::new();
        let destination = directory.path().join("grace-init");
        let words = ["copy-to", destination.to_str().unwrap()];
        assert_eq!(called(init, &words).0, Some(0));
        let mut running = Command::new(&destination)
            .args(["--report", "none", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut echo = [0; 3];
        running.stdin.as_mut().unwrap().write_all(b"up\n").unwrap();
        running.stdout.as_mut().unwrap().read_exact(&mut echo).unwrap();
        assert_eq!(called(init, &words).0, Some(0));
        drop(running.stdin.take());
        assert!(running.wait().unwrap().success());
    }

    []
    fn a_copy_that_fails_leaves_nothing_behind_and_says_why(init) {
        let directory = TemporaryDirectory::new();
        let nowhere = directory.path().join("no/such/place");
        let (status, _, said) = called(init, &["copy-to", nowhere.to_str().unwrap()]);
        assert!(status == Some(1) && said.contains("no/such/place") && said.contains("No such file"), "{said}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        for words in [&["copy-to"][..], &["copy-to", "a", "b"]] {
            assert_eq!(called(init, words).0, Some(125), "{words:?}");
        }
    }

    [Root, Program("ldd"), Program("chroot")]
    fn the_copy_needs_nothing_of_its_image(init) {
        let image = TemporaryDirectory::new();
        let own = init.outside().init_path();
        std::fs::create_dir_all(image.path().join("shared")).unwrap();
        std::fs::create_dir_all(image.path().join("proc/self")).unwrap();
        std::fs::copy(&own, image.path().join("grace-init")).unwrap();
        // What a static build has in itself.
        let libraries = Command::new("ldd").arg(&own).output().unwrap();
        for library in String::from_utf8_lossy(&libraries.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            let place = image.path().join(library.trim_start_matches('/'));
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::copy(library, place).unwrap();
        }
        // The one file of /proc that it needs, without a mount.
        symlink("/grace-init", image.path().join("proc/self/exe")).unwrap();
        let mut chroot = Command::new("chroot");
        let output = chroot.arg(image.path()).args(["/grace-init", "copy-to", "/shared/grace-init"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let copy = std::fs::metadata(image.path().join("shared/grace-init")).unwrap();
        assert_eq!(copy.permissions().mode() & 0o7777, 0o555);
    }
}
