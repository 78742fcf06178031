//! The other side of the control socket: `grace-init pre-stop`, `stop`, `cancel`, `status` and `ready`.

use std::fmt::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::unistd::Pid;

use super::screen::{Screen, printable, table};
use crate::control::protocol::{MAX_BLOCK, Request, Status, Until};
use crate::outcome::ExitStatus;
use crate::output;
use crate::plan::{ClientPlan, Target};
use crate::system::linux::clock::Clock;
use crate::system::linux::control::{Connection, NoConnection, is_nothing_yet};
use crate::system::linux::process::Process;
use crate::system::linux::wait;
use crate::time::{Deadline, Moment};

/// Something went wrong on the way, or the answer is no.
const NO: ExitStatus = ExitStatus::new(1);
/// The time is up, as timeout(1) has it.
const TIMED_OUT: ExitStatus = ExitStatus::new(124);
/// No init is there.
const NO_INIT: ExitStatus = ExitStatus::NOT_FOUND;
/// How often the bar on a terminal is drawn.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
/// How long an init may take to answer a question: it answers on its next turn, which a busy machine may delay.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(5);
/// How long an init that has closed the connection may take to be gone.
const MAX_CLOSING_TIME: Duration = Duration::from_millis(500);
/// How long an init that has given its last answer may take to be gone.
const MAX_EXIT_TIME: Duration = Duration::from_secs(2);

/// Does what is asked and returns what to exit with.
pub fn run(plan: &ClientPlan) -> ExitStatus {
    match plan {
        ClientPlan::PreStop { target } => {
            Waiting::begin(target, Request::PreStop, None, Screen::none()).and_then(Waiting::run)
        }
        ClientPlan::Stop { target, until, timeout } => {
            Waiting::begin(target, Request::Stop(*until), *timeout, Screen::of_stdout())
                .and_then(Waiting::run)
        }
        ClientPlan::Cancel { target } => ask(target, Request::Cancel).map(|_| ExitStatus::SUCCESS),
        ClientPlan::Status { target, json } => ask(target, Request::Status)
            .map(|status| output::out(&if *json { status.json() } else { table(&status) })),
        ClientPlan::Ready { target, serving } => ask(target, Request::Ready).map(|status| {
            let yes = if *serving { status.serving } else { status.ready };
            if yes { ExitStatus::SUCCESS } else { NO }
        }),
    }
    .unwrap_or_else(Failure::print)
}

/// Why there is no good end: what to say, and what to exit with.
struct Failure {
    why: String,
    status: ExitStatus,
}

impl Failure {
    fn new(status: ExitStatus, why: impl Into<String>) -> Self {
        Self { why: why.into(), status }
    }

    /// The init does not carry out the request.
    fn refused(request: Request, reason: &str) -> Self {
        let status = match request {
            Request::Cancel => NO,
            Request::PreStop | Request::Stop(_) | Request::Ready | Request::Status => ExitStatus::OWN_FAILURE,
        };
        Self::new(status, format!("refused: {}", printable(reason)))
    }

    fn turned_away() -> Self {
        Self::new(
            ExitStatus::OWN_FAILURE,
            "the init hung up without an answer; run this in its PID namespace, as its user or as root",
        )
    }

    fn print(self) -> ExitStatus {
        output::error(&format!("grace-init: {}\n", self.why));
        self.status
    }
}

fn connect(target: &Target, limit: Option<Duration>) -> Result<Connection, Failure> {
    Connection::to(&target.control, target.pid.map(Pid::from_raw), limit).map_err(|reason| match reason {
        NoConnection::NoInit => {
            let whom = target.pid.map_or_else(String::new, |pid| format!(" with PID {pid}"));
            let why = format!(
                "no grace-init{whom} is listening in this container; select one with --pid, or its socket with --control"
            );
            Failure::new(NO_INIT, why)
        }
        NoConnection::Denied(path) => Failure::new(
            ExitStatus::OWN_FAILURE,
            format!("{}: permission denied; run as the init's user or as root", path.display()),
        ),
        NoConnection::Untrusted(path, user) => Failure::new(
            ExitStatus::OWN_FAILURE,
            format!("{} belongs to user {user}; run as that user or as root", path.display()),
        ),
        NoConnection::Busy(path) => {
            Failure::new(TIMED_OUT, format!("{}: too many clients wait there already", path.display()))
        }
    })
}

/// Asks for something that is answered at once.
fn ask(target: &Target, request: Request) -> Result<Status, Failure> {
    let clock = Clock::start();
    let deadline = Deadline::At(clock.now().after(MAX_ANSWER_TIME));
    let mut blocks = Blocks::ask(connect(target, Some(MAX_ANSWER_TIME))?, request);
    loop {
        wait::until_readable([blocks.connection.as_fd()], deadline.remaining(clock.now()));
        match blocks.read() {
            Read::Block(status) => {
                // A request that is carried out gets news before its answer.
                let is_over = request != Request::Cancel || status.answer;
                match &status.refused {
                    Some(reason) => return Err(Failure::refused(request, reason)),
                    None if is_over => return Ok(*status),
                    None => {}
                }
            }
            Read::Nothing if !deadline.reached(clock.now()) => {}
            Read::Nothing => return Err(Failure::new(TIMED_OUT, "the init does not answer")),
            Read::End => return Err(Failure::turned_away()),
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
        let mut ended = false;
        loop {
            // One at a time, so that what has come is bounded by the longest.
            if let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end.saturating_add(2)).collect();
                let status = std::str::from_utf8(&block).ok().and_then(Status::decode);
                return status.map_or(Read::End, |status| Read::Block(Box::new(status)));
            }
            if ended || self.text.len() > MAX_BLOCK {
                return Read::End;
            }
            match self.connection.read(&mut buffer) {
                Ok(0) => ended = true,
                Ok(length) => self.text.extend(buffer.iter().take(length)),
                Err(error) if is_nothing_yet(&error) => return Read::Nothing,
                Err(_) => ended = true,
            }
        }
    }
}

/// A request for the shutdown that is under way.
struct Waiting {
    blocks: Blocks,
    request: Request,
    /// The init itself, where we can hold it.
    init: Option<Process>,
    clock: Clock,
    deadline: Deadline,
    screen: Screen,
}

impl Waiting {
    fn begin(
        target: &Target,
        request: Request,
        timeout: Option<Duration>,
        screen: Screen,
    ) -> Result<Self, Failure> {
        let clock = Clock::start();
        let deadline = Deadline::after(clock.now(), timeout);
        let connection = connect(target, timeout)?;
        // Before the request: afterwards its number may be another's.
        let init = connection.server().and_then(|pid| Process::open(pid).ok());
        let blocks = Blocks::ask(connection, request);
        Ok(Self { blocks, request, init, clock, deadline, screen })
    }

    fn run(mut self) -> Result<ExitStatus, Failure> {
        let mut last: Option<(Box<Status>, Moment)> = None;
        loop {
            match self.blocks.read() {
                Read::Block(status) => {
                    if let Some(reason) = &status.refused {
                        self.screen.clear();
                        return Err(Failure::refused(self.request, reason));
                    }
                    self.screen.phase(&status);
                    if status.answer {
                        self.screen.clear();
                        return self.answered(&status);
                    }
                    last = Some((status, self.clock.now()));
                    continue;
                }
                Read::End => {
                    self.screen.clear();
                    return Err(match last {
                        Some(_) => self.ended_early(),
                        None if self.init_ends() => {
                            Failure::new(NO_INIT, "the init ended before it heard the request")
                        }
                        None => Failure::turned_away(),
                    });
                }
                Read::Nothing => {}
            }
            if self.deadline.reached(self.clock.now()) {
                self.screen.clear();
                let why = format!("the timeout passed before {}; the shutdown goes on", self.goal());
                return Err(Failure::new(TIMED_OUT, why));
            }
            let mut limit = self.deadline.remaining(self.clock.now());
            let has_bar = last
                .as_ref()
                .is_some_and(|(status, when)| self.screen.bar(status, self.clock.now().since(*when)));
            if has_bar {
                limit = Some(limit.map_or(REDRAW_INTERVAL, |limit| limit.min(REDRAW_INTERVAL)));
            }
            wait::until_readable([self.blocks.connection.as_fd()], limit);
        }
    }

    fn goal(&self) -> &'static str {
        match self.request {
            Request::Stop(Until::Stopped) => "everything had ended",
            Request::PreStop
            | Request::Stop(Until::Prepared)
            | Request::Cancel
            | Request::Ready
            | Request::Status => "drain and pre-stop steps were over",
        }
    }

    fn answered(self, status: &Status) -> Result<ExitStatus, Failure> {
        let Self { blocks, request, init, .. } = self;
        let until_stopped = request == Request::Stop(Until::Stopped);
        match init.filter(|init| until_stopped && init.pid() != Pid::from_raw(1)) {
            // The init waits for us to go before it does.
            Some(init) => {
                drop(blocks);
                init.wait(MAX_EXIT_TIME);
            }
            // PID 1 takes us with it when it goes, and it goes when this connection ends: so that is left to the
            // kernel, which closes it when our exit status stands (kernel/exit.c, `do_exit`).
            None => std::mem::forget(blocks),
        }
        if status.failures.is_empty() {
            return Ok(ExitStatus::SUCCESS);
        }
        let mut text = String::new();
        for failure in &status.failures {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "grace-init: {}", printable(failure));
        }
        output::error(&text);
        Ok(NO)
    }

    /// Whether the init ends now: what it closes last is its end of the connections that it never heard.
    fn init_ends(&self) -> bool {
        self.init.as_ref().is_some_and(|init| {
            init.wait(MAX_CLOSING_TIME);
            init.has_ended()
        })
    }

    /// The init has gone without an answer: it gives one before it ends by itself.
    fn ended_early(&self) -> Failure {
        Failure::new(NO, format!("the init ended before {}; it was killed or crashed", self.goal()))
    }
}
