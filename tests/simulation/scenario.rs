//! A life to be lived: the command line, the programs, what comes from outside and what fails.

use grace_init::signal::Signal;
use nix::libc;

use crate::random::Random;

/// Microseconds.
pub type Micros = u64;

pub const MILLI: Micros = 1_000;
pub const SECOND: Micros = 1_000_000;

/// What a program does.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// From fork to exec.
    pub exec_takes: Micros,
    /// The exec fails.
    pub exec_fails: bool,
    /// What it does on a signal; the kernel's default for the others.
    pub on: Vec<(Signal, Reaction)>,
    /// What it does by itself, so long after it began.
    pub deeds: Vec<(Micros, Deed)>,
    /// It changed its user: we may not signal it.
    pub other_user: bool,
    /// It must not be dumped: a `/proc` with hidepid does not show it.
    pub hidden: bool,
    /// It reaps its own children at once, and does not leave that to us.
    pub reaps: bool,
    /// It sits in the kernel: SIGKILL acts so long after it was sent.
    pub dies_late: Micros,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reaction {
    Ignore,
    Exit(Micros, u8),
    /// Starts a child and goes on.
    Fork(Box<Program>),
    /// Starts a child, which may outlive it, and exits.
    ForkAndExit(Box<Program>, Micros, u8),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    Exit(u8),
    /// Ends by a signal of its own making.
    Crash(Signal),
    Fork(Box<Program>),
    NewSession,
    NewGroup,
    StopItself,
    /// PTRACE_TRACEME, and then a signal to itself.
    Traced(Signal),
}

/// What comes from outside, and when.
#[derive(Clone, Debug, PartialEq)]
pub enum Outside {
    Signal(Signal, From),
    /// A client that asks for the shutdown.
    Client(Asks, Leaves),
    /// We do not get to run for so long.
    Suspended(Micros),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum From {
    /// Another PID namespace.
    Outside,
    /// The kernel: a key of the terminal.
    Terminal,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asks {
    PreStop,
    Cancel,
    StopUntilPrepared,
    StopUntilStopped,
    Status,
    Garbage,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Leaves {
    /// When it has its answer.
    Answered,
    /// So long after it came.
    After(Micros),
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Proc {
    Full,
    /// With hidepid: hidden programs are not seen.
    Hides,
    Absent,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Of the kernel's own choices.
    pub seed: u64,
    pub pid_1: bool,
    pub options: Vec<String>,
    pub command: Program,
    pub pre_stop: Vec<Program>,
    pub post_stop: Vec<Program>,
    pub outside: Vec<(Micros, Outside)>,
    pub pid_max: i32,
    pub proc: Proc,
    /// The forks after the command's that fail, by their number.
    pub failing_forks: Vec<usize>,
    /// A process beside us that is not ours.
    pub stranger: bool,
    /// What a system call takes at the most.
    pub call_takes: Micros,
    /// So many children of the command that ignore SIGTERM, every other one in a session of its own.
    pub crowd: usize,
    /// What the kernel takes to end a process that had SIGKILL, one after the other.
    pub teardown: Micros,
}

fn signal(number: i32) -> Signal {
    Signal::from_number(number).unwrap()
}

fn duration(random: &mut Random, most: Micros) -> Micros {
    // Short ones as often as long ones, and often the same ones: much goes wrong where two moments meet.
    match random.below(4) {
        0 => random.pick(&[0, 100, MILLI, 100 * MILLI, 500 * MILLI, SECOND]).min(most),
        1 => random.below(10 * MILLI).min(most),
        2 => random.below(most.min(SECOND)),
        _ => random.below(most),
    }
}

impl Program {
    pub fn idle() -> Self {
        Self {
            exec_takes: 0,
            exec_fails: false,
            on: Vec::new(),
            deeds: Vec::new(),
            other_user: false,
            hidden: false,
            reaps: false,
            dies_late: 0,
        }
    }

    fn random(random: &mut Random, depth: u32, life: Micros) -> Self {
        let mut program = Self::idle();
        program.reaps = random.one_in(2);
        program.hidden = random.one_in(5);
        if random.one_in(40) {
            program.dies_late = duration(random, 4 * SECOND);
        }
        for number in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1] {
            if random.one_in(2) {
                let reaction = match random.below(if depth > 0 { 7 } else { 5 }) {
                    0 | 1 => Reaction::Ignore,
                    2..=4 => Reaction::Exit(duration(random, life), random.below(3) as u8),
                    5 => Reaction::Fork(Box::new(Self::random(random, depth - 1, life))),
                    _ => Reaction::ForkAndExit(
                        Box::new(Self::random(random, depth - 1, life)),
                        duration(random, 50 * MILLI),
                        random.below(3) as u8,
                    ),
                };
                program.on.push((signal(number), reaction));
            }
        }
        for _ in 0..random.below(4) {
            let deed = match random.below(if depth > 0 { 10 } else { 6 }) {
                0 => Deed::Exit(random.below(3) as u8),
                1 => Deed::NewSession,
                2 => Deed::NewGroup,
                3 => Deed::StopItself,
                4 if random.one_in(3) => Deed::Crash(signal(libc::SIGSEGV)),
                5 if random.one_in(4) => Deed::Traced(signal(libc::SIGUSR1)),
                4 | 5 => Deed::Exit(0),
                _ => Deed::Fork(Box::new(Self::random(random, depth - 1, life))),
            };
            program.deeds.push((duration(random, life), deed));
        }
        program
    }

    /// Starts a worker every 20 ms, each for 100 ms, and reaps them: where numbers are few each comes round within half a second.
    fn churn(&mut self) {
        let worker = Self { deeds: vec![(100 * MILLI, Deed::Exit(0))], ..Self::idle() };
        self.reaps = true;
        self.deeds.extend((0..300).map(|number| (number * 20 * MILLI, Deed::Fork(Box::new(worker.clone())))));
    }

    /// A step: most of them end by themselves.
    fn step(random: &mut Random) -> Self {
        let mut step = Self::random(random, 2, 3 * SECOND);
        step.exec_takes = duration(random, 20 * MILLI);
        step.exec_fails = random.one_in(20);
        step.hidden = false;
        if !random.one_in(4) {
            step.deeds.push((duration(random, SECOND), Deed::Exit(u8::from(random.one_in(5)))));
        }
        step
    }
}

fn written(micros: Micros) -> String {
    format!("{}ms", micros / MILLI)
}

impl Scenario {
    pub fn random(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let grace = random.pick(&[SECOND, 2 * SECOND, 3 * SECOND, 10 * SECOND]);
        let mut options: Vec<String> = Vec::new();
        let mut option = |name: &str, value: String| options.extend([format!("--{name}"), value]);
        // Not told, it is what the place usually gives: a guess.
        if !random.one_in(20) {
            option("grace", if random.one_in(30) { "none".to_owned() } else { written(grace) });
        }
        if random.one_in(3) {
            option("drain", written(duration(random, grace / 4)));
        }
        if random.one_in(4) {
            option("stop-window", written(duration(random, grace / 4)));
        }
        if random.one_in(4) {
            let first = duration(random, grace / 8);
            option(
                "stop-signal",
                random.pick(&["QUIT".into(), format!("INT:{},TERM", written(first)), "USR1".into()]),
            );
        }
        if random.one_in(4) {
            option("leftover-grace", written(duration(random, 2 * SECOND)));
        }
        if random.one_in(4) {
            option("pre-stop-timeout", written(duration(random, grace / 2).max(MILLI)));
        }
        if random.one_in(4) {
            option("pre-stop-failure", "skip".to_owned());
        }
        if random.one_in(4) {
            options.push("--single-child".to_owned());
        }
        let pre_stop: Vec<Program> =
            (0..random.pick(&[0, 0, 0, 1, 1, 2, 3])).map(|_| Program::step(random)).collect();
        let post_stop: Vec<Program> =
            (0..random.pick(&[0, 0, 0, 1, 2])).map(|_| Program::step(random)).collect();
        let mut command = Program::random(random, 3, 6 * SECOND);
        command.exec_takes = duration(random, 20 * MILLI);
        if random.one_in(20) {
            command.other_user = true;
        }
        let mut outside: Vec<(Micros, Outside)> = Vec::new();
        for _ in 0..random.below(5) {
            let what = match random.below(10) {
                0..=3 => Outside::Signal(signal(libc::SIGTERM), From::Outside),
                4 => Outside::Signal(signal(libc::SIGINT), random.pick(&[From::Outside, From::Terminal])),
                5 | 6 => Outside::Signal(
                    signal(random.pick(&[
                        libc::SIGHUP,
                        libc::SIGUSR1,
                        libc::SIGWINCH,
                        libc::SIGTSTP,
                        libc::SIGCONT,
                        libc::SIGQUIT,
                        40,
                    ])),
                    random.pick(&[From::Outside, From::Outside, From::Terminal]),
                ),
                7 | 8 => Outside::Client(
                    random.pick(&[
                        Asks::PreStop,
                        Asks::PreStop,
                        Asks::Cancel,
                        Asks::StopUntilPrepared,
                        Asks::StopUntilStopped,
                        Asks::Status,
                        Asks::Garbage,
                        Asks::Nothing,
                    ]),
                    random.pick(&[
                        Leaves::Answered,
                        Leaves::Answered,
                        Leaves::After(300 * MILLI),
                        Leaves::Never,
                    ]),
                ),
                _ => Outside::Suspended(duration(random, 2 * SECOND)),
            };
            outside.push((duration(random, 6 * SECOND), what));
        }
        let crowded = random.one_in(1_000);
        let churns = !crowded && random.one_in(50);
        if churns {
            command.churn();
        }
        Self {
            crowd: if crowded { 3_000 } else { 0 },
            teardown: if crowded { 70 } else { random.pick(&[0, 0, 70]) },
            seed: random.next(),
            pid_1: random.one_in(2),
            options,
            command,
            pre_stop,
            post_stop,
            outside,
            pid_max: if crowded {
                32_768
            } else if churns {
                30
            } else {
                random.pick(&[30, 60, 32_768])
            },
            proc: random.pick(&[Proc::Full, Proc::Full, Proc::Full, Proc::Full, Proc::Hides, Proc::Absent]),
            failing_forks: if random.one_in(10) { vec![random.below(3) as usize] } else { Vec::new() },
            stranger: random.one_in(2),
            call_takes: if crowded { 4 } else { random.pick(&[1, 10, 10, 200, 2 * MILLI]) },
        }
    }

    /// The command line.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec!["grace-init".to_owned()];
        words.extend(self.options.iter().cloned());
        for number in 0..self.pre_stop.len() {
            words.extend(["--pre-stop".to_owned(), format!("pre{number}")]);
        }
        for number in 0..self.post_stop.len() {
            words.extend(["--post-stop".to_owned(), format!("post{number}")]);
        }
        words.extend(["--".to_owned(), "command".to_owned()]);
        words
    }
}
