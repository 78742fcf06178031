//! What a client and an init say to each other over the control socket, version 1.
//!
//! A client sends one line, `grace-init VERSION WORD...`, with one of these words: `ready`, `status`, `cancel`, `pre-stop`,
//! `stop prepared`, `stop stopped`. The init answers with blocks: lines `KEY VALUE`, ended by an empty line. A question gets
//! one block. A request to shut down gets a block for each change, of which a client that reads slowly may miss all but the
//! newest; the last one has a line `answer`. A request that the init does not carry out gets a block with a line `refused`.
//!
//! Readers ignore unknown words and keys, so that either side may be the older one.

use std::fmt::{self, Write};
use std::time::Duration;

use crate::json;

/// The version that we speak.
pub const VERSION: u32 = 1;
/// The longest request that is read, in bytes; ours are much shorter.
pub const MAX_REQUEST: usize = 128;
/// The longest block that a client reads, in bytes. What an init sends is bounded well below it.
pub const MAX_BLOCK: usize = 64 * 1024;
/// What every line begins with.
const NAME: &str = "grace-init";

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Whether the command is running, and whether it is still to serve.
    Ready,
    /// How things stand.
    Status,
    /// Drain and chain, as a preStop hook; answered when both are over.
    PreStop,
    /// The shutdown; answered when it has got so far.
    Stop(Until),
    /// A pre-stop request is taken back.
    Cancel,
}

/// How far a shutdown has got when `stop` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Drain and chain are over.
    Prepared,
    /// Everything is over.
    Stopped,
}

impl Until {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Stopped => "stopped",
        }
    }

    /// Reads the word for it.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Prepared, Self::Stopped].into_iter().find(|until| until.word() == word)
    }
}

/// Why a line is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// Another program speaks.
    NotOurs,
    /// It is of a client that knows more than we do.
    Unknown,
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs => f.write_str("not a request of grace-init"),
            Self::Unknown => write!(f, "this init does not know the request; it speaks version {VERSION}"),
        }
    }
}

impl Request {
    /// The line that asks for it.
    pub fn encode(self) -> String {
        match self {
            Self::Ready => format!("{NAME} {VERSION} ready\n"),
            Self::Status => format!("{NAME} {VERSION} status\n"),
            Self::PreStop => format!("{NAME} {VERSION} pre-stop\n"),
            Self::Stop(until) => format!("{NAME} {VERSION} stop {}\n", until.word()),
            Self::Cancel => format!("{NAME} {VERSION} cancel\n"),
        }
    }

    /// Reads a line without its end.
    ///
    /// # Errors
    /// When the line asks for nothing that we know; the client is told so.
    pub fn decode(line: &[u8]) -> Result<Self, BadRequest> {
        let words =
            std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix(NAME)?.strip_prefix(' '));
        let mut words = words.ok_or(BadRequest::NotOurs)?.split(' ');
        let version: Option<u32> = words.next().and_then(|word| word.parse().ok());
        if version.is_none_or(|version| version == 0) {
            return Err(BadRequest::NotOurs);
        }
        match words.next().unwrap_or_default() {
            "ready" => Ok(Self::Ready),
            "status" => Ok(Self::Status),
            "pre-stop" => Ok(Self::PreStop),
            "stop" => {
                let until = words.next().and_then(Until::parse);
                until.map(Self::Stop).ok_or(BadRequest::Unknown)
            }
            "cancel" => Ok(Self::Cancel),
            _ => Err(BadRequest::Unknown),
        }
    }
}

/// Turns a value into text of at most `limit` bytes; `…` stands for the rest.
pub fn cut(value: &impl fmt::Display, limit: usize) -> String {
    let mut text = Cut { text: String::new(), limit };
    // A value that is too long is left in the middle, which is no error here.
    let _ = write!(text, "{value}");
    text.text
}

/// A text that takes no more than its limit: a command line may have megabytes.
struct Cut {
    text: String,
    limit: usize,
}

impl Write for Cut {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        const MARK: char = '…';
        if self.text.len().saturating_add(more.len()) <= self.limit {
            self.text.push_str(more);
            return Ok(());
        }
        self.text.push_str(more);
        let mut end = self.limit.saturating_sub(MARK.len_utf8());
        while !self.text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        self.text.truncate(end);
        self.text.push(MARK);
        Err(fmt::Error)
    }
}

/// How things stand, as the init tells it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Status {
    /// The phase.
    pub phase: String,
    /// Whether the command is running and no shutdown has begun.
    pub ready: bool,
    /// Whether the command is running and was not told to stop.
    pub serving: bool,
    /// The init's PID in its own PID namespace.
    pub init_pid: i32,
    /// The command's.
    pub command_pid: i32,
    /// The command.
    pub command: String,
    /// Since the init started.
    pub uptime: Duration,
    /// How many orphans were reaped.
    pub reaped: u64,
    /// Why the shutdown began, and who asked for it.
    pub trigger: Option<String>,
    /// Since the shutdown began.
    pub elapsed: Option<Duration>,
    /// Until SIGKILL.
    pub remaining: Option<Duration>,
    /// The time from the stop request to SIGKILL, where there is a deadline.
    pub budget: Option<Duration>,
    /// The steps, in order.
    pub steps: Vec<StepStatus>,
    /// Drain and chain are over.
    pub prepared: bool,
    /// No step has failed or was overdue.
    pub all_well: bool,
    /// What went wrong, a line for each: with an answer, all that makes it a bad one.
    pub failures: Vec<String>,
    /// The request was carried out: it has got as far as asked.
    pub answer: bool,
    /// Why the request is not carried out.
    pub refused: Option<String>,
}

/// A step as the init tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StepStatus {
    /// `pre-stop` or `post-stop`.
    pub chain: String,
    /// Its place in the chain, from 1.
    pub number: u64,
    /// `waiting`, `running`, `succeeded`, `failed`, `not-started`, `overdue` or `skipped`.
    pub state: String,
    /// How long it took or has taken.
    pub took: Duration,
    /// What the user wrote.
    pub text: String,
}

impl Status {
    /// The answer to a request that is not carried out.
    pub fn refusal(reason: impl Into<String>) -> Self {
        Self { refused: Some(reason.into()), ..Self::default() }
    }

    /// The block of lines that tells it, the empty one included.
    pub fn encode(&self) -> String {
        let mut block = format!("{NAME} {VERSION}\n");
        let mut line = |key: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(block, "{key} {}", escape(value));
        };
        line("phase", &self.phase);
        line("ready", yes_no(self.ready));
        line("serving", yes_no(self.serving));
        line("init-pid", &self.init_pid.to_string());
        line("command-pid", &self.command_pid.to_string());
        line("command", &self.command);
        line("uptime-ms", &millis(self.uptime));
        line("reaped", &self.reaped.to_string());
        if let Some(trigger) = &self.trigger {
            line("trigger", trigger);
        }
        let times =
            [("elapsed-ms", self.elapsed), ("remaining-ms", self.remaining), ("budget-ms", self.budget)];
        for (key, time) in times {
            if let Some(time) = time {
                line(key, &millis(time));
            }
        }
        for step in &self.steps {
            let words =
                format!("{} {} {} {} {}", step.chain, step.number, step.state, millis(step.took), step.text);
            line("step", &words);
        }
        line("prepared", yes_no(self.prepared));
        line("all-well", yes_no(self.all_well));
        for failure in &self.failures {
            line("failure", failure);
        }
        if self.answer {
            line("answer", "yes");
        }
        if let Some(reason) = &self.refused {
            line("refused", reason);
        }
        block.push('\n');
        block
    }

    /// Reads a block. `None` when it is not one.
    pub fn decode(block: &str) -> Option<Self> {
        let mut lines = block.lines();
        let version = lines.next()?.strip_prefix(NAME)?.strip_prefix(' ')?;
        if version.split(' ').next()?.parse::<u32>().ok()? == 0 {
            return None;
        }
        let mut status = Self::default();
        for line in lines.take_while(|line| !line.is_empty()) {
            let (key, value) = line.split_once(' ')?;
            let value = unescape(value);
            let duration = || value.parse().ok().map(Duration::from_millis);
            match key {
                "phase" => status.phase = value,
                "ready" => status.ready = value == "yes",
                "serving" => status.serving = value == "yes",
                "init-pid" => status.init_pid = value.parse().ok()?,
                "command-pid" => status.command_pid = value.parse().ok()?,
                "command" => status.command = value,
                "uptime-ms" => status.uptime = duration()?,
                "reaped" => status.reaped = value.parse().ok()?,
                "trigger" => status.trigger = Some(value),
                "elapsed-ms" => status.elapsed = Some(duration()?),
                "remaining-ms" => status.remaining = Some(duration()?),
                "budget-ms" => status.budget = Some(duration()?),
                "step" => status.steps.push(StepStatus::decode(&value)?),
                "prepared" => status.prepared = value == "yes",
                "all-well" => status.all_well = value == "yes",
                "failure" => status.failures.push(value),
                "answer" => status.answer = value == "yes",
                "refused" => status.refused = Some(value),
                // Of a newer init.
                _ => {}
            }
        }
        Some(status)
    }

    /// The status as one JSON object, on one line.
    pub fn json(&self) -> String {
        let mut json = String::from("{");
        let text = |json: &mut String, key: &str, value: &str| {
            let _ = write!(json, "\"{key}\":{},", json::string(value));
        };
        let number = |json: &mut String, key: &str, value: Option<u64>| {
            let value = value.map_or_else(|| "null".to_owned(), |value| value.to_string());
            let _ = write!(json, "\"{key}\":{value},");
        };
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        text(&mut json, "phase", &self.phase);
        let _ = write!(
            json,
            "\"ready\":{},\"serving\":{},\"prepared\":{},\"all_well\":{},",
            self.ready, self.serving, self.prepared, self.all_well
        );
        let _ = write!(json, "\"init_pid\":{},\"command_pid\":{},", self.init_pid, self.command_pid);
        text(&mut json, "command", &self.command);
        number(&mut json, "uptime_ms", Some(ms(self.uptime)));
        number(&mut json, "reaped", Some(self.reaped));
        let trigger = self.trigger.as_deref().map_or_else(|| "null".to_owned(), json::string);
        let _ = write!(json, "\"trigger\":{trigger},");
        number(&mut json, "elapsed_ms", self.elapsed.map(ms));
        number(&mut json, "remaining_ms", self.remaining.map(ms));
        number(&mut json, "budget_ms", self.budget.map(ms));
        let step = |step: &StepStatus| {
            format!(
                "{{\"chain\":{},\"number\":{},\"state\":{},\"took_ms\":{},\"text\":{}}}",
                json::string(&step.chain),
                step.number,
                json::string(&step.state),
                ms(step.took),
                json::string(&step.text)
            )
        };
        let steps: Vec<String> = self.steps.iter().map(step).collect();
        let _ = writeln!(json, "\"steps\":[{}]}}", steps.join(","));
        json
    }
}

impl StepStatus {
    fn decode(words: &str) -> Option<Self> {
        let mut words = words.splitn(5, ' ');
        Some(Self {
            chain: words.next()?.to_owned(),
            number: words.next()?.parse().ok()?,
            state: words.next()?.to_owned(),
            took: Duration::from_millis(words.next()?.parse().ok()?),
            text: words.next()?.to_owned(),
        })
    }
}

const fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn millis(time: Duration) -> String {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).to_string()
}

/// Keeps a value on its line.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}

fn unescape(value: &str) -> String {
    let mut text = String::new();
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some(other) => text.push(other),
                None => {}
            },
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_request_reads_back() {
        for request in [
            Request::Ready,
            Request::Status,
            Request::PreStop,
            Request::Stop(Until::Prepared),
            Request::Stop(Until::Stopped),
            Request::Cancel,
        ] {
            let line = request.encode();
            assert!(line.len() <= MAX_REQUEST);
            assert_eq!(Request::decode(line.trim_end().as_bytes()), Ok(request));
        }
    }

    #[test]
    fn words_that_a_newer_client_adds_are_ignored() {
        assert_eq!(Request::decode(b"grace-init 2 status --with=everything"), Ok(Request::Status));
        assert_eq!(Request::decode(b"grace-init 9 stop stopped politely"), Ok(Request::Stop(Until::Stopped)));
    }

    #[test]
    fn a_newer_clients_request_is_told_from_garbage() {
        for line in ["grace-init 1", "grace-init 1 dance", "grace-init 2 stop", "grace-init 1 stop whenever"]
        {
            assert_eq!(Request::decode(line.as_bytes()), Err(BadRequest::Unknown), "{line}");
        }
        for line in ["", "GET / HTTP/1.1", "grace-init", "grace-init 0 stop", "grace-init x stop"] {
            assert_eq!(Request::decode(line.as_bytes()), Err(BadRequest::NotOurs), "{line}");
        }
        assert_eq!(Request::decode(b"grace-init 1 \xff"), Err(BadRequest::NotOurs));
    }

    #[test]
    fn a_text_is_cut_at_its_limit_between_characters() {
        for (text, limit, expected) in [
            ("abcdef", 6, "abcdef"),
            ("abcdefg", 6, "abc…"),
            ("ääää", 6, "ä…"),
            ("äää", 6, "äää"),
            ("", 3, ""),
        ] {
            assert_eq!(cut(&text, limit), expected);
        }
        // Piece by piece, as a command line is written.
        assert_eq!(cut(&format_args!("{} {} {}", "abc", "de", "fg"), 8), "abc d…");
        assert_eq!(cut(&format_args!("{}{}", "abcdefgh", "i"), 8), "abcde…");
    }

    #[test]
    fn keys_that_a_newer_init_adds_are_ignored() {
        let status = Status::decode("grace-init 2 extra\nphase drain\nmood good\nready no\n\n").unwrap();
        assert_eq!((status.phase.as_str(), status.ready), ("drain", false));
    }

    #[test]
    fn the_json_has_stable_keys() {
        let status = Status {
            phase: "drain".into(),
            command: "say \"hi\"".into(),
            steps: vec![StepStatus {
                chain: "pre-stop".into(),
                number: 1,
                state: "waiting".into(),
                ..StepStatus::default()
            }],
            ..Status::default()
        };
        assert_eq!(
            status.json(),
            "{\"phase\":\"drain\",\"ready\":false,\"serving\":false,\"prepared\":false,\"all_well\":false,\"init_pid\":0,\"command_pid\":0,\
             \"command\":\"say \\\"hi\\\"\",\"uptime_ms\":0,\"reaped\":0,\"trigger\":null,\"elapsed_ms\":null,\
             \"remaining_ms\":null,\"budget_ms\":null,\"steps\":[{\"chain\":\"pre-stop\",\"number\":1,\"state\":\"waiting\",\
             \"took_ms\":0,\"text\":\"\"}]}\n"
        );
    }

    fn status() -> impl Strategy<Value = Status> {
        let step = ("[a-z-]{1,9}", any::<u64>(), "[a-z-]{1,9}", any::<u64>(), "\\PC*|[\\\\\n\r a]{0,9}")
            .prop_map(|(chain, number, state, took, text)| StepStatus {
                chain,
                number,
                state,
                took: Duration::from_millis(took),
                text,
            });
        let time = || proptest::option::of(any::<u64>().prop_map(Duration::from_millis));
        (
            ("[a-z-]{1,9}", any::<[bool; 5]>(), any::<(i32, i32)>(), "\\PC*|[\\\\\n\r a]{0,9}"),
            (any::<u64>(), any::<u64>(), proptest::option::of("\\PC*"), time(), time(), time()),
            (
                proptest::collection::vec(step, 0..4),
                proptest::collection::vec("\\PC*|[\\\\\n\r a]{0,9}", 0..3),
                proptest::option::of("\\PC*"),
            ),
        )
            .prop_map(
                |(
                    (phase, [ready, serving, prepared, all_well, answer], pids, command),
                    (uptime, reaped, trigger, elapsed, remaining, budget),
                    (steps, failures, refused),
                )| Status {
                    phase,
                    ready,
                    serving,
                    init_pid: pids.0,
                    command_pid: pids.1,
                    command,
                    uptime: Duration::from_millis(uptime),
                    reaped,
                    trigger,
                    elapsed,
                    remaining,
                    budget,
                    steps,
                    prepared,
                    all_well,
                    failures,
                    answer,
                    refused,
                },
            )
    }

    proptest! {
        #[test]
        fn every_status_reads_back(status in status()) {
            prop_assert_eq!(Status::decode(&status.encode()), Some(status));
        }

        #[test]
        fn nothing_makes_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "(grace-init 1)?\n?\\PC*\n(step|phase|uptime-ms) \\PC*") {
            let _ = Request::decode(&bytes);
            let _ = Status::decode(&text);
        }
    }
}
