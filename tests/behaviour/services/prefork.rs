//! Prefork servers whose workers need no `--single-child`, as the README of the example celery says.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::libc::SIGTERM;

use crate::support::Need::{PidNamespace, Program};
use crate::support::process::wait_until;
use crate::support::{LIMIT, Running, Subject, TemporaryDirectory, behaviours};

const FPM: &str = "php-fpm8.2";

/// Asks when `ready` was said by as many as `count`, waits until a worker is in the middle of the answer, stops the server, and returns what still came.
fn stopped_in_the_middle(
    mut run: Running,
    (ready, count): (&str, usize),
    directory: &Path,
    request: &[u8],
) -> String {
    // A socket can be connected to before the parent of the workers is able to stop them.
    run.timeline().wait_for_count(ready, count);
    let mut stream = UnixStream::connect(directory.join("socket")).unwrap();
    stream.write_all(request).unwrap();
    wait_until("the request is under way", LIMIT, || directory.join("begun").exists());
    run.signal(SIGTERM);
    let mut answer = Vec::new();
    // A worker that dies resets the connection.
    let _ = stream.read_to_end(&mut answer);
    // A worker of php-fpm waits until its client has closed too.
    drop(stream);
    run.exits_with(0);
    String::from_utf8_lossy(&answer).into_owned()
}

fn gunicorn(init: Subject, options: &[&str]) -> String {
    let directory = TemporaryDirectory::new();
    let place = directory.path().display().to_string();
    let begun = format!("open('{place}/begun', 'w').close()");
    let application = format!(
        "import time\ndef app(environ, start):\n {begun}\n time.sleep(1)\n start('200 OK', [])\n return [b'complete']\n"
    );
    directory.file("app.py", 0o644, &application);
    // "Booting worker" is said before a worker has handlers of its own: until then it runs those of its parent, which only
    // note the signal (gunicorn 20.1, Arbiter.spawn_worker and Worker.init_process), and gunicorn waits 30 s for it.
    let says_when_ready = "def post_worker_init(worker):\n worker.log.info('worker is ready')\n";
    let configuration = directory.file("gunicorn.conf.py", 0o644, says_when_ready);
    let configuration = configuration.to_str().unwrap();
    let socket = format!("unix:{place}/socket");
    let stage = init.as_pid_one().options(options).env("PYTHONDONTWRITEBYTECODE", "1");
    let run = stage.command([
        "gunicorn", "--config", configuration, "--chdir", &place, "--workers", "2", "--bind", &socket, "app:app",
    ]);
    stopped_in_the_middle(run.one_stream().start(), ("worker is ready", 2), directory.path(), b"GET / HTTP/1.0\r\n\r\n")
}

/// A FastCGI request for one file (FastCGI 1.0, section 3.3: version, type, id, length of content and padding).
fn fast_cgi(script: &str) -> Vec<u8> {
    let record = |kind: u8, content: &[u8]| {
        let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[1, kind, 0, 1, high, low, 0, 0], content].concat()
    };
    let pair = |name: &str, value: &str| {
        let lengths = [name, value].map(|text| u8::try_from(text.len()).unwrap());
        [&lengths, name.as_bytes(), value.as_bytes()].concat()
    };
    let parameters = [pair("SCRIPT_FILENAME", script), pair("REQUEST_METHOD", "GET")].concat();
    // A responder, then the parameters with their end, then an empty standard input.
    [record(1, &[0, 1, 0, 0, 0, 0, 0, 0]), record(4, &parameters), record(4, &[]), record(5, &[])].concat()
}

fn php(init: Subject, options: &[&str], setting: &str) -> String {
    let directory = TemporaryDirectory::new();
    let place = directory.path().display().to_string();
    // One long sleep would be over at the first signal.
    let work = "$end = microtime(true) + 1; while (microtime(true) < $end) usleep(10000);";
    let script = format!("<?php touch('{place}/begun'); {work} echo 'complete';");
    let script = directory.file("slow.php", 0o644, &script);
    let pool = format!("[www]\nlisten = {place}/socket\npm = static\npm.max_children = 2\n");
    let user = if nix::unistd::geteuid().is_root() { "user = root\ngroup = root\n" } else { "" };
    let configuration = format!("[global]\nerror_log = /proc/self/fd/2\n{setting}\n{pool}{user}");
    let configuration = directory.file("fpm.conf", 0o644, &configuration);
    let stage = init.as_pid_one().options(options);
    let configuration = configuration.to_str().unwrap();
    let run = stage.command([FPM, "--nodaemonize", "--allow-to-run-as-root", "--fpm-config", configuration]);
    stopped_in_the_middle(run.one_stream().start(), ("ready to handle connections", 1), directory.path(), &fast_cgi(script.to_str().unwrap()))
}

const PATIENT: &str = "process_control_timeout = 3s";

behaviours! {
    [PidNamespace, Program("gunicorn")]
    fn gunicorns_workers_finish_whether_they_are_told_or_not(init) {
        for options in [&[][..], &["--single-child"]] {
            let answer = gunicorn(init, options);
            assert!(answer.contains("complete"), "{options:?}: {answer:?}");
        }
    }

    [PidNamespace, Program(FPM)]
    fn php_fpm_finishes_after_quit_with_a_timeout_of_its_own(init) {
        for options in [&["--stop-signal", "QUIT"][..], &["--stop-signal", "QUIT", "--single-child"]] {
            let answer = php(init, options, PATIENT);
            assert!(answer.contains("complete"), "{options:?}: {answer:?}");
        }
    }

    [PidNamespace, Program(FPM)]
    fn php_fpm_cuts_a_request_after_term_and_without_that_timeout(init) {
        assert!(!php(init, &["--single-child"], PATIENT).contains("complete"));
        assert!(!php(init, &["--stop-signal", "QUIT", "--single-child"], "").contains("complete"));
    }
}
