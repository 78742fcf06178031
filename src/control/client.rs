//! The other side of the control socket: `grace-init stop`, `status` and `ready`.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::unistd::Pid;

use crate::control::protocol::{LONGEST_BLOCK, Request, Status, Until};
use crate::outcome::ExitStatus;
use crate::output;
use crate::plan::{ClientPlan, Target};
use crate::system::linux::clock::Clock;
use crate::system::linux::control::Connection;
use crate::system::linux::process::Process;
use crate::system::linux::wait;
use crate::time::{Deadline, Measured};

/// No step failed and nothing is wrong, or the answer is no.
const NO: ExitStatus = ExitStatus::new(1);
/// The time is up, as timeout(1) has it.
const TIMED_OUT: ExitStatus = ExitStatus::new(124);
/// No init is there.
const NO_INIT: ExitStatus = ExitStatus::NOT_FOUND;
/// How often the bar on a terminal is drawn.
const REDRAW: Duration = Duration::from_millis(200);
/// How long an init may take to answer a question: it answers on its next turn, which a busy machine may delay.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an init that has said good-bye may take to be gone.
const GOODBYE: Duration = Duration::from_secs(2);

/// Does what is asked and returns what to exit with.
pub fn run(plan: &ClientPlan) -> ExitStatus {
    match plan {
        ClientPlan::Stop { target, until, timeout } => {
            Stop::new(target, *until, *timeout).and_then(Stop::run)
        }
        ClientPlan::Status { target, json } => ask(target, Request::Status)
            .map(|status| output::out(&if *json { status.json() } else { table(&status) })),
        ClientPlan::PreStop { target } => Stop::new(target, Until::Prepared, None).and_then(Stop::run),
        ClientPlan::Cancel { target } => connect(target).and_then(|_| {
            let why = "this init cannot take a pre-stop back".to_owned();
            Err(Failure { why, status: ExitStatus::OWN_FAILURE })
        }),
        ClientPlan::Ready { target, serving: _ } => {
            ask(target, Request::Ready).map(|status| if status.ready { ExitStatus::SUCCESS } else { NO })
        }
    }
    .unwrap_or_else(|failure| failure.print())
}

/// Why there is no answer.
struct Failure {
    why: String,
    status: ExitStatus,
}

impl Failure {
    fn print(self) -> ExitStatus {
        output::error(&format!("grace-init: {}\n", self.why));
        self.status
    }
}

fn connect(target: &Target) -> Result<Connection, Failure> {
    let pid = target.pid.unwrap_or(1);
    match Connection::to(&target.control, target.pid.map(Pid::from_raw)) {
        Ok(Some(connection)) => Ok(connection),
        Ok(None) => Err(Failure {
            why: format!(
                "no grace-init with PID {pid} listens in this PID namespace: name another with --pid, or its socket with --control"
            ),
            status: NO_INIT,
        }),
        Err(error) => Err(Failure {
            why: format!(
                "the grace-init with PID {pid} does not let us in ({error}): call this as its user or as root"
            ),
            status: ExitStatus::OWN_FAILURE,
        }),
    }
}

/// Asks one question.
fn ask(target: &Target, request: Request) -> Result<Status, Failure> {
    let mut blocks = Blocks::ask(connect(target)?, request);
    let clock = Clock::start();
    let deadline = Deadline::At(clock.now().after(PATIENCE));
    loop {
        wait::until_readable([blocks.connection.as_fd()], deadline.remaining(clock.now()));
        match blocks.read() {
            Read::Block(status) => return Ok(*status),
            Read::Nothing if !deadline.reached(clock.now()) => {}
            Read::Nothing => {
                return Err(Failure { why: "the init does not answer".to_owned(), status: TIMED_OUT });
            }
            Read::End => {
                let why =
                    "the init turned us away, or ended: it serves its own user and root only".to_owned();
                return Err(Failure { why, status: ExitStatus::OWN_FAILURE });
            }
        }
    }
}

/// The blocks that come from an init.
struct Blocks {
    connection: Connection,
    text: Vec<u8>,
}

enum Read {
    Block(Box<Status>),
    Nothing,
    End,
}

impl Blocks {
    fn ask(mut connection: Connection, request: Request) -> Self {
        // An init that turns us away has hung up already, which reading will tell.
        let _ = connection.send(&request.encode());
        Self { connection, text: Vec::new() }
    }

    /// The next block; never waits.
    fn read(&mut self) -> Read {
        let mut buffer = [0_u8; 4096];
        let ended = loop {
            match self.connection.read(&mut buffer) {
                Ok(0) => break true,
                Ok(length) => self.text.extend(buffer.iter().take(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
            if self.text.len() > LONGEST_BLOCK {
                return Read::End;
            }
        };
        let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") else {
            return if ended { Read::End } else { Read::Nothing };
        };
        let block: Vec<u8> = self.text.drain(..end.saturating_add(2)).collect();
        match str::from_utf8(&block).ok().and_then(Status::decode) {
            Some(status) => Read::Block(Box::new(status)),
            None => Read::End,
        }
    }
}

/// A `stop` that is under way.
struct Stop {
    blocks: Blocks,
    until: Until,
    /// The init itself, where we can hold it.
    init: Option<Process>,
    clock: Clock,
    deadline: Deadline,
    screen: Screen,
}

impl Stop {
    fn new(target: &Target, until: Until, timeout: Option<Duration>) -> Result<Self, Failure> {
        let connection = connect(target)?;
        // Before the request: afterwards its number may be another's.
        let init = connection.server().and_then(|pid| Process::open(pid).ok());
        let blocks = Blocks::ask(connection, Request::Stop(until));
        let clock = Clock::start();
        let deadline = Deadline::after(clock.now(), timeout);
        Ok(Self { blocks, until, init, clock, deadline, screen: Screen::new() })
    }

    fn run(mut self) -> Result<ExitStatus, Failure> {
        let mut last: Option<(Box<Status>, crate::time::Moment)> = None;
        loop {
            match self.blocks.read() {
                Read::Block(status) => {
                    self.screen.phase(&status);
                    if status.answer {
                        self.screen.clear();
                        return Ok(self.answered(&status));
                    }
                    last = Some((status, self.clock.now()));
                    continue;
                }
                Read::End => return self.ended(last.map(|(status, _)| status)),
                Read::Nothing => {}
            }
            if self.deadline.reached(self.clock.now()) {
                self.screen.clear();
                let why = format!(
                    "the time is up before everything was {}: the shutdown goes on",
                    self.until.word()
                );
                return Err(Failure { why, status: TIMED_OUT });
            }
            let mut limit = self.deadline.remaining(self.clock.now());
            if let (true, Some((status, when))) = (self.screen.terminal, &last) {
                self.screen.bar(status, self.clock.now().since(*when));
                limit = Some(limit.map_or(REDRAW, |limit| limit.min(REDRAW)));
            }
            wait::until_readable([self.blocks.connection.as_fd()], limit);
        }
    }

    fn answered(self, status: &Status) -> ExitStatus {
        let Self { blocks, until, init, .. } = self;
        match (until, init.filter(|init| init.pid() != Pid::from_raw(1))) {
            // The init waits for us to go before it does.
            (Until::Stopped, Some(init)) => {
                drop(blocks);
                wait::until_readable([init.as_fd()], Some(GOODBYE));
            }
            // PID 1 takes us with it when it goes, and it goes when this connection ends: so that is left to the
            // kernel, which closes it when our exit status stands (kernel/exit.c, `do_exit`).
            (Until::Stopped, None) | (Until::Prepared, _) => std::mem::forget(blocks),
        }
        if until == Until::Stopped || status.all_well { ExitStatus::SUCCESS } else { NO }
    }

    /// The init has gone without an answer.
    fn ended(self, last: Option<Box<Status>>) -> Result<ExitStatus, Failure> {
        self.screen.clear();
        match (self.until, last) {
            (Until::Stopped, Some(_)) => Ok(ExitStatus::SUCCESS),
            (Until::Prepared, Some(status)) if status.prepared && status.all_well => Ok(ExitStatus::SUCCESS),
            (Until::Prepared, Some(_)) => {
                Err(Failure { why: "the init ended before drain and chain were over".to_owned(), status: NO })
            }
            (Until::Prepared | Until::Stopped, None) => Err(Failure {
                why: "the init turned us away: it serves its own user and root only".to_owned(),
                status: ExitStatus::OWN_FAILURE,
            }),
        }
    }
}

/// What a person at a terminal sees of a shutdown.
struct Screen {
    terminal: bool,
    phase: String,
}

impl Screen {
    fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), phase: String::new() }
    }

    /// A line for each phase that begins.
    fn phase(&mut self, status: &Status) {
        if self.terminal && self.phase != status.phase {
            self.phase.clone_from(&status.phase);
            let elapsed = Measured(status.elapsed.unwrap_or_default());
            output::out(&format!("\r\x1b[K{elapsed:>8}  {}\n", status.phase));
        }
    }

    /// The bar below them.
    fn bar(&self, status: &Status, since: Duration) {
        let Some(remaining) = status.remaining else { return };
        let remaining = remaining.saturating_sub(since);
        let bar = bar(remaining, status.budget.unwrap_or(remaining));
        output::out(&format!("\r\x1b[K{bar} {} left", tenths(remaining)));
    }

    fn clear(&self) {
        if self.terminal {
            output::out("\r\x1b[K");
        }
    }
}

/// A bar that is as full as there is time left.
fn bar(remaining: Duration, whole: Duration) -> String {
    const WIDTH: u128 = 30;
    let full =
        remaining.as_millis().saturating_mul(WIDTH).checked_div(whole.as_millis()).unwrap_or(0).min(WIDTH);
    let full = usize::try_from(full).unwrap_or(0);
    let width = usize::try_from(WIDTH).unwrap_or(0);
    format!("[{}{}]", "#".repeat(full), ".".repeat(width.saturating_sub(full)))
}

/// A time that changes on a screen, in tenths of a second.
fn tenths(time: Duration) -> String {
    let tenths = time.as_millis().checked_div(100).unwrap_or(0);
    format!("{}.{}s", tenths.checked_div(10).unwrap_or(0), tenths.checked_rem(10).unwrap_or(0))
}

/// The status for people.
fn table(status: &Status) -> String {
    let mut rows: Vec<(&str, String)> = vec![
        ("phase", status.phase.clone()),
        ("command", format!("{} (pid {})", status.command, status.command_pid)),
        ("uptime", Measured(status.uptime).to_string()),
    ];
    if let Some(trigger) = &status.trigger {
        let elapsed = Measured(status.elapsed.unwrap_or_default());
        rows.push(("stop", format!("{trigger}, {elapsed} ago")));
    }
    if let Some(remaining) = status.remaining {
        let whole = status.budget.unwrap_or(remaining);
        rows.push((
            "time left",
            format!("{} {} of {}", bar(remaining, whole), tenths(remaining), Measured(whole)),
        ));
    }
    for (place, step) in status.steps.iter().enumerate() {
        let name = if place == 0 { "steps" } else { "" };
        let took = if step.took.is_zero() { String::new() } else { Measured(step.took).to_string() };
        rows.push((
            name,
            format!("{:9} {} {:11} {took:>7}  {}", step.chain, step.number, step.state, step.text),
        ));
    }
    rows.push(("reaped", format!("{} orphans", status.reaped)));
    rows.iter().map(|(name, value)| format!("{name:9}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::StepStatus;

    #[test]
    fn a_bar_is_as_full_as_there_is_time_left() {
        let seconds = Duration::from_secs;
        assert_eq!(bar(seconds(28), seconds(28)), format!("[{}]", "#".repeat(30)));
        assert_eq!(bar(seconds(14), seconds(28)), format!("[{}{}]", "#".repeat(15), ".".repeat(15)));
        assert_eq!(bar(seconds(0), seconds(0)), format!("[{}]", ".".repeat(30)));
        assert_eq!(bar(seconds(9), seconds(1)), format!("[{}]", "#".repeat(30)));
    }

    #[test]
    fn the_table_is_aligned() {
        let step = |number, state: &str, text: &str| StepStatus {
            chain: "pre-stop".into(),
            number,
            state: state.into(),
            took: Duration::from_millis(number * 120),
            text: text.into(),
        };
        let status = Status {
            phase: "pre-stop".into(),
            command: "nginx".into(),
            command_pid: 7,
            uptime: Duration::from_secs(61),
            trigger: Some("SIGTERM from outside the container".into()),
            elapsed: Some(Duration::from_secs(7)),
            remaining: Some(Duration::from_millis(21_000)),
            budget: Some(Duration::from_secs(28)),
            steps: vec![step(1, "succeeded", "nginx -s quit"), step(2, "running", "@sleep 5s")],
            ..Status::default()
        };
        let expected = "\
phase      pre-stop
command    nginx (pid 7)
uptime     1m01s
stop       SIGTERM from outside the container, 7s ago
time left  [######################........] 21.0s of 28s
steps      pre-stop  1 succeeded     120ms  nginx -s quit
           pre-stop  2 running       240ms  @sleep 5s
reaped     0 orphans
";
        assert_eq!(table(&status), expected);
    }
}
