//! A service in ZooKeeper: deregistered by the pre-stop step, not by the session's timeout.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use nix::libc::SIGTERM;

use crate::support::Need::{File, PidNamespace, Program};
use crate::support::process::wait_until;
use crate::support::server::{listener, port_of};
use crate::support::{LIMIT, Recipe, Running, Subject, TemporaryDirectory, behaviours, example_file};

const JAR: &str = "/usr/share/java/zookeeper.jar";
const KAZOO: &str = "/usr/lib/python3/dist-packages/kazoo/__init__.py";

/// A server of its own for a test.
struct Server {
    address: String,
    _process: Running,
    _data: TemporaryDirectory,
}

/// What the server says of itself. It listens a while before it serves, and who asks in that time gets no answer.
fn state_of_server(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(b"srvr").ok()?;
    let mut state = String::new();
    stream.read_to_string(&mut state).ok()?;
    Some(state)
}

impl Server {
    fn start() -> Self {
        let data = TemporaryDirectory::new();
        let port = port_of(&listener());
        let main = "org.apache.zookeeper.server.ZooKeeperServerMain";
        let words = ["java", "-Xmx128m", "-cp", JAR, "-Dzookeeper.admin.enableServer=false", main];
        let server = Subject::Ours.outside().without_init().command(words);
        let process = server.command([port.to_string()]).command([data.path().join("data")]).start();
        wait_until("zookeeper serves", LIMIT, || state_of_server(port).is_some_and(|state| state.contains("Mode: ")));
        Self { address: format!("127.0.0.1:{port}"), _process: process, _data: data }
    }

    fn recipe(&self) -> Recipe {
        Recipe::of("zookeeper")
            .replace("/srv/", &format!("{}/", example_file("zookeeper").display()))
            .replace("127.0.0.1:2181", &self.address)
    }

    /// The names that are registered.
    fn registered(&self) -> String {
        let mut list = Command::new("/usr/bin/python3");
        list.arg(example_file("zookeeper/service.py")).arg("list").env("ZOOKEEPER", &self.address);
        String::from_utf8_lossy(&list.output().unwrap().stdout).trim_end().to_owned()
    }
}

behaviours! {
    [PidNamespace, Program("java"), File(JAR), File(KAZOO)]
    fn a_service_is_gone_from_zookeeper_before_it_is_stopped(init) {
        let server = Server::start();
        let mut run = server.recipe().stage(init.as_pid_one().options(["--log-level", "debug"])).one_stream().start();
        run.wait_for("service: registered");
        assert_eq!(server.registered(), "['web']");
        run.signal(SIGTERM);
        run.exits_with(0);
        assert_eq!(server.registered(), "[]");
        run.timeline().assert_order(["sent SIGTERM", "service: deregistered", "phase=stop ", "stopped by SIGTERM"]);
    }

    [PidNamespace, Program("java"), File(JAR), File(KAZOO)]
    fn a_service_stays_in_zookeeper_when_it_just_ends(init) {
        let server = Server::start();
        let mut run = server.recipe().command_alone(init.as_pid_one()).one_stream().start();
        run.wait_for("service: registered");
        run.signal(SIGTERM);
        run.exits_with(0);
        assert_eq!(server.registered(), "['web']");
    }
}
