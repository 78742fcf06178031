//! Real software under the init.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nix::libc::SIGTERM;

use crate::support::Need::{PidNamespace, Program};
use crate::support::process::wait_until;
use crate::support::{LIMIT, TemporaryDirectory, behaviours};

/// What a GET is answered with; `None` when nobody answers.
fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn nginx_configuration(directory: &TemporaryDirectory, port: u16) -> String {
    let place = directory.path().display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {place}/{name}; "))
        .collect();
    let text = format!(
        "daemon off; pid {place}/pid; error_log /dev/null; worker_processes 1; events {{}}\n\
         http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port}; location / {{ return 200 hello; }} }} }}\n"
    );
    directory.file("nginx.conf", 0o644, &text).to_str().unwrap().to_owned()
}

behaviours! {
    [PidNamespace]
    fn the_first_example_shows_what_it_says(init) {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/two-workers.sh");
        let options = ["--drain", "1s", "--pre-stop", "echo deregistering"];
        let mut run = init.as_pid_one().options(options).command(["sh", example]).one_stream().start();
        run.exits_with(0);
        run.timeline().assert_order([
            "foreground: ready",
            "echo deregistering",
            "foreground: finished",
            "background: finished",
            "stopped by SIGTERM",
        ]);
    }

    [PidNamespace, Program("nginx")]
    fn nginx_serves_through_the_drain_and_is_stopped_by_its_own_quit(init) {
        let directory = TemporaryDirectory::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let configuration = nginx_configuration(&directory, port);
        let report = directory.file("report", 0o666, "");
        let quit = format!("nginx -c {configuration} -s quit");
        let options = ["--drain", "2s", "-p", &quit, "-p", "no-such-tool --now", "--stop-signal", "QUIT", "--report", report.to_str().unwrap()];
        let mut run = init.as_pid_one().options(options).command(["nginx", "-c", &configuration]).one_stream().start();
        wait_until("nginx serves", LIMIT, || get(port).is_some());
        run.signal(SIGTERM);
        for _ in 0..200 {
            assert!(get(port).is_some_and(|answer| answer.ends_with("hello")), "{}", run.timeline().picture());
        }
        run.exits_with(0);
        let line = run.wait_for("stopped by SIGTERM");
        for part in ["drain 2", "pre-stop ", "the command exited with 0"] {
            assert!(line.contains(part), "no {part:?} in {line}");
        }
        assert!(run.timeline().between("sent SIGTERM", "-s quit") >= Duration::from_millis(1_900));
        let report = std::fs::read_to_string(report).unwrap();
        assert!(report.starts_with("pre-stop step 2 \"no-such-tool --now\" could not start"), "{report}");
    }
}
