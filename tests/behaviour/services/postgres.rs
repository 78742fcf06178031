//! PostgreSQL with a client that stays connected: SIGTERM waits for it, SIGINT does not.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::libc::SIGTERM;
use nix::unistd::{User, chown};

use crate::support::Need::{File, PidNamespace, Program, Root};
use crate::support::process::wait_until;
use crate::support::{LIMIT, Recipe, Running, Stage, Subject, TemporaryDirectory, behaviours};

const INITDB: &str = "/usr/lib/postgresql/15/bin/initdb";
const AS_POSTGRES: [&str; 4] = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];

/// The server of the example, on a fresh cluster, and a client that is in the middle of a query.
fn serve(init: Subject, change: impl Fn(Stage) -> Stage) -> (Running, Client, TemporaryDirectory) {
    let directory = TemporaryDirectory::new();
    let postgres = User::from_name("postgres").unwrap().unwrap();
    chown(directory.path(), Some(postgres.uid), Some(postgres.gid)).unwrap();
    let data = directory.path().join("data");
    let [program, options @ ..] = AS_POSTGRES;
    let mut make = Command::new(program);
    make.args(options).arg(INITDB).arg(format!("--pgdata={}", data.display())).args(["--auth=trust", "--no-sync"]);
    let made = make.stdout(Stdio::null()).current_dir("/").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let recipe = Recipe::of("postgres")
        .replace("/tmp", directory.path().to_str().unwrap())
        .replace("/srv/data", data.to_str().unwrap());
    let run = change(recipe.stage(init.as_pid_one().run_by(&AS_POSTGRES))).one_stream().start();
    run.wait_for("ready to accept connections");
    let client = Client::connect(directory.path());
    (run, client, directory)
}

struct Client(Child);

impl Client {
    fn connect(directory: &Path) -> Self {
        let begun = directory.join("begun");
        let query = format!("copy (select 1) to '{}'; select pg_sleep(1000)", begun.display());
        let mut psql = Command::new("psql");
        psql.arg("-h").arg(directory).args(["-U", "postgres", "-c", &query]).stdin(Stdio::null());
        let client = Self(psql.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        wait_until("the client has connected", LIMIT, || begun.exists());
        client
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

behaviours! {
    [PidNamespace, Root, Program("setpriv"), Program("psql"), File(INITDB)]
    fn postgres_leaves_in_order_after_the_ladders_second_rung(init) {
        let (mut run, _client, _directory) = serve(init, |stage| stage);
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().assert_order([
            "sent SIGTERM",
            "received smart shutdown request",
            "received fast shutdown request",
            "database system is shut down",
            "the command exited with 0",
        ]);
    }

    [PidNamespace, Root, Program("setpriv"), Program("psql"), File(INITDB)]
    fn postgres_leaves_in_order_at_once_with_int(init) {
        let (mut run, _client, _directory) = serve(init, |stage| stage.options(["--stop-signal", "INT"]));
        run.signal(SIGTERM);
        run.exits_with(0);
        run.timeline().assert_order(["received fast shutdown request", "database system is shut down"]);
        run.timeline().never_saw("smart shutdown");
    }

    [PidNamespace, Root, Program("setpriv"), Program("psql"), File(INITDB)]
    fn postgres_is_killed_when_term_alone_waits_for_a_client(init) {
        let options = ["--stop-signal", "TERM", "--grace", "3s"];
        let (mut run, _client, _directory) = serve(init, |stage| stage.options(options));
        run.signal(SIGTERM);
        run.exits_with(137);
        run.timeline().assert_order(["received smart shutdown request", "killing what is left"]);
        run.timeline().never_saw("database system is shut down");
    }
}
