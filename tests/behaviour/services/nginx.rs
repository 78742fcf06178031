//! nginx: served through the drain, stopped by its own quit.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::libc::SIGQUIT;

use crate::support::Need::{PidNamespace, Program};
use crate::support::process::wait_until;
use crate::support::server::{listener, port_of};
use crate::support::{LIMIT, Recipe, TemporaryDirectory, behaviours, example_file};

/// Bytes of the download.
const BIG: usize = 512 * 1024;

/// What a GET is answered with; `None` when nobody answers.
fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The example's configuration with places and a port of this test's own; returns its directory's path too.
fn configuration(directory: &TemporaryDirectory, port: u16) -> String {
    let place = directory.path().display().to_string();
    let text = std::fs::read_to_string(example_file("nginx/nginx.conf")).unwrap();
    let text = text
        .replace("/tmp/", &format!("{place}/"))
        .replace("/srv/", &format!("{place}/"))
        .replace("listen 8080", &format!("listen 127.0.0.1:{port}"));
    directory.file("nginx.conf", 0o644, &text);
    place + "/"
}

behaviours! {
    [PidNamespace, Program("nginx")]
    fn nginx_serves_through_the_drain_and_is_stopped_by_its_own_quit(init) {
        let directory = TemporaryDirectory::new();
        let port = port_of(&listener());
        let place = configuration(&directory, port);
        let report = directory.file("report", 0o666, "");
        let options = ["-p", "no-such-tool --now", "--report", report.to_str().unwrap()];
        let mut run = Recipe::of("nginx").replace("/srv/", &place).stage(init.as_pid_one().options(options)).one_stream().start();
        wait_until("nginx serves", LIMIT, || get(port).is_some());
        run.signal(SIGQUIT);
        for _ in 0..200 {
            assert!(get(port).is_some_and(|answer| answer.ends_with("hello\n")), "{}", run.timeline().picture());
        }
        run.exits_with(0);
        let line = run.wait_for("stopped by SIGQUIT");
        for part in ["drain 2", "pre-stop ", "the command exited with 0"] {
            assert!(line.contains(part), "no {part:?} in {line}");
        }
        assert!(run.timeline().between("sent SIGQUIT", "starting a step step=\"no-such-tool") >= Duration::from_millis(1_900));
        let report = std::fs::read_to_string(report).unwrap();
        assert!(report.starts_with("pre-stop step 1 \"no-such-tool --now\" could not start"), "{report}");
    }

    [PidNamespace, Program("nginx")]
    fn nginx_finishes_a_download_and_fails_no_request_while_it_drains(init) {
        let directory = TemporaryDirectory::new();
        let port = port_of(&listener());
        let place = configuration(&directory, port);
        std::fs::create_dir(directory.path().join("download")).unwrap();
        // Two seconds at the example's limit_rate, and more than sockets buffer.
        std::fs::write(directory.path().join("download/big"), vec![b'x'; BIG]).unwrap();
        let recipe = Recipe::of("nginx").replace("/srv/", &place).replace("2s", "1s");
        let mut run = recipe.stage(init.as_pid_one()).one_stream().start();
        wait_until("nginx serves", LIMIT, || get(port).is_some());
        let mut download = TcpStream::connect(("127.0.0.1", port)).unwrap();
        download.write_all(b"GET /download/big HTTP/1.0\r\n\r\n").unwrap();
        let mut begun = [0; 64];
        download.read_exact(&mut begun).unwrap();
        run.signal(SIGQUIT);
        // The log tells of the step when it starts, which is when the drain is over.
        let mut served = 0;
        while run.timeline().count("starting a step") == 0 {
            let answer = get(port);
            let drained = run.timeline().count("starting a step") > 0;
            assert!(drained || answer.is_some_and(|text| text.ends_with("hello\n")), "refused while it drains");
            served += 1;
        }
        assert!(served > 200, "only {served} requests in the drain");
        let mut rest = Vec::new();
        download.read_to_end(&mut rest).unwrap();
        assert!(begun.len() + rest.len() > BIG, "the download was cut at {}", rest.len());
        assert!(get(port).is_none(), "a new connection after the quit");
        run.exits_with(0);
        run.timeline().assert_order(["sent SIGQUIT", "starting a step", "the command exited with 0"]);
    }
}
