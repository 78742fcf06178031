//! The simulated kernel held against the real one: the same small programs get the same signals in both, and must come to the
//! same states.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use grace_init::outcome::Outcome;
use grace_init::signal::Signal;
use grace_init::system::{Reaped, Target};
use nix::errno::Errno;
use nix::sys::signal::{Signal as RealSignal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::kernel::{Kernel, Owner, State as SimState};
use crate::scenario::{Deed, MILLI, Program, Reaction};

/// How long a real process may take to come to its state.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who gets a signal: a process by its number, the first is 0, or the group that it leads.
#[derive(Clone, Copy, Debug)]
enum To {
    Process(usize),
    Group(usize),
}

/// What can be seen of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Runs,
    Stopped,
    Ended(Outcome),
}

/// A world in which the scenarios are played.
trait World {
    /// Sends it, and lets it take effect.
    fn send(&mut self, to: To, signal: Signal) -> Result<(), Errno>;
    /// Ends when every process is as said; says what is not.
    fn is(&mut self, expected: &[Seen]) -> Result<(), String>;
    /// Reaps the first process.
    fn reap_first(&mut self) -> Outcome;
}

struct Simulated(Kernel);

impl Simulated {
    fn new(program: &Program) -> Self {
        let mut kernel = Kernel::new(1, true, 1_000);
        kernel.start(Owner::Command, program, Some(true));
        kernel.advance_to(MILLI);
        Self(kernel)
    }
}

impl World for Simulated {
    fn send(&mut self, to: To, signal: Signal) -> Result<(), Errno> {
        let target = match to {
            To::Process(number) => Target::Process(Pid::from_raw(self.0.processes[number].pid)),
            To::Group(number) => Target::Group(Pid::from_raw(self.0.processes[number].pid)),
        };
        let sent = self.0.kill(target, signal);
        self.0.advance_to(self.0.now + MILLI);
        sent
    }

    fn is(&mut self, expected: &[Seen]) -> Result<(), String> {
        let seen: Vec<Seen> = self
            .0
            .processes
            .iter()
            .map(|process| match process.state {
                SimState::Zombie(outcome) | SimState::Gone(outcome) => Seen::Ended(outcome),
                SimState::Starting | SimState::Runs if process.stopped => Seen::Stopped,
                SimState::Starting | SimState::Runs => Seen::Runs,
            })
            .collect();
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
    }

    fn reap_first(&mut self) -> Outcome {
        match self.0.wait() {
            Reaped::Child(_, outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }
}

/// The same with real processes, below a subreaper: this test.
struct Real {
    directory: PathBuf,
    pids: Vec<Pid>,
    ended: Vec<Option<Outcome>>,
}

/// A program as a script of the shell; its children's scripts stand beside it.
fn script(program: &Program, directory: &Path, next: &mut usize) -> PathBuf {
    let number = *next;
    *next += 1;
    let place = directory.join(format!("script{number}"));
    let mut text = format!("cd {}\n", directory.display());
    for (signal, reaction) in &program.on {
        let action = match reaction {
            Reaction::Ignore => String::new(),
            Reaction::Exit(_, code) => format!("exit {code}"),
            other => panic!("{other:?}"),
        };
        text.push_str(&format!("trap '{action}' {}\n", signal.to_string().trim_start_matches("SIG")));
    }
    let mut deeds = String::new();
    for (_, deed) in &program.deeds {
        match deed {
            Deed::Fork(child) => {
                let child = script(child, directory, next);
                deeds.push_str(&format!("sh {} &\n", child.display()));
            }
            Deed::StopItself => deeds.push_str("kill -STOP $$\n"),
            Deed::Exit(code) => deeds.push_str(&format!("exit {code}\n")),
            other => panic!("{other:?}"),
        }
    }
    // Waits without another process beside it; no other one is there when its PID is told.
    text.push_str(&format!("mkfifo wait{number}\nexec 3<>wait{number}\n"));
    text.push_str(&format!("echo $$ >pid{number}\n{deeds}"));
    text.push_str("while :; do read -r nothing <&3; done\n");
    fs::write(&place, text).unwrap();
    place
}

fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Real {
    fn new(program: &Program, name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("conformance-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut count = 0;
        let first = script(program, &directory, &mut count);
        // A session of its own, as the simulated command has.
        let mut command = Command::new("setsid");
        // It leads no group, so that setsid(1) need not fork.
        drop(command.arg("sh").arg(first).spawn().unwrap());
        let pids: Vec<Pid> = (0..count)
            .map(|number| {
                wait_until("a process to begin", || {
                    let text = fs::read_to_string(directory.join(format!("pid{number}"))).ok()?;
                    Some(Pid::from_raw(text.strip_suffix('\n')?.parse().ok()?))
                })
            })
            .collect();
        let ended = vec![None; pids.len()];
        Self { directory, pids, ended }
    }

    fn state(&self, number: usize) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pids[number])).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    fn reap(&mut self, number: usize) -> Option<Outcome> {
        let status = waitpid(self.pids[number], Some(WaitPidFlag::WNOHANG)).ok()?;
        let outcome = match status {
            WaitStatus::Exited(_, code) => Outcome::Exited(code as u8),
            WaitStatus::Signaled(_, signal, _) => Outcome::Killed(Signal::from_number(signal as i32)?),
            _ => return None,
        };
        self.ended[number] = Some(outcome);
        Some(outcome)
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for number in 0..self.pids.len() {
            if self.ended[number].is_none() {
                let _ = kill(self.pids[number], RealSignal::SIGKILL);
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl World for Real {
    fn send(&mut self, to: To, signal: Signal) -> Result<(), Errno> {
        let signal = RealSignal::try_from(signal.number()).unwrap();
        match to {
            To::Process(number) => kill(self.pids[number], signal),
            To::Group(number) => killpg(self.pids[number], signal),
        }
    }

    fn is(&mut self, expected: &[Seen]) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let seen: Vec<Option<Seen>> = (0..self.pids.len())
                .map(|number| match (self.ended[number], self.state(number)) {
                    (Some(outcome), _) => Some(Seen::Ended(outcome)),
                    (None, Some('T')) => Some(Seen::Stopped),
                    // One that is not to be reaped yet is seen by its state alone.
                    (None, Some('Z')) => match expected[number] {
                        Seen::Ended(outcome) => Some(Seen::Ended(outcome))
                            .filter(|_| number == 0)
                            .or_else(|| self.reap(number).map(Seen::Ended)),
                        Seen::Runs | Seen::Stopped => None,
                    },
                    (None, Some(_)) => Some(Seen::Runs),
                    (None, None) => None,
                })
                .collect();
            if seen.iter().zip(expected).all(|(seen, expected)| *seen == Some(*expected)) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("{seen:?}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn reap_first(&mut self) -> Outcome {
        wait_until("the first to be reaped", || self.reap(0))
    }
}

const KILLED: fn(Signal) -> Seen = |signal| Seen::Ended(Outcome::Killed(signal));

fn with(deeds: Vec<Deed>, on: Vec<(Signal, Reaction)>) -> Program {
    Program { deeds: deeds.into_iter().map(|deed| (0, deed)).collect(), on, ..Program::idle() }
}

fn forks(children: Vec<Program>) -> Vec<Deed> {
    children.into_iter().map(|child| Deed::Fork(Box::new(child))).collect()
}

type Play = fn(&mut dyn World);

/// The scenarios: a name, the first process, and what is done and seen.
fn scenarios() -> Vec<(&'static str, Program, Play)> {
    let ignores_term = || with(Vec::new(), vec![(Signal::TERM, Reaction::Ignore)]);
    vec![
        (
            "a-signal-reaches-a-whole-group",
            with(forks(vec![ignores_term(), Program::idle()]), Vec::new()),
            |world| {
                world.is(&[Seen::Runs; 3]).unwrap();
                assert_eq!(world.send(To::Group(0), Signal::TERM), Ok(()));
                world.is(&[KILLED(Signal::TERM), Seen::Runs, KILLED(Signal::TERM)]).unwrap();
            },
        ),
        ("a-zombie-takes-signals-until-it-is-reaped", Program::idle(), |world| {
            world.send(To::Process(0), Signal::TERM).unwrap();
            world.is(&[KILLED(Signal::TERM)]).unwrap();
            assert_eq!(world.send(To::Process(0), Signal::KILL), Ok(()));
            assert_eq!(world.send(To::Group(0), Signal::KILL), Ok(()));
            assert_eq!(world.reap_first(), Outcome::Killed(Signal::TERM));
            assert_eq!(world.send(To::Process(0), Signal::TERM), Err(Errno::ESRCH));
            assert_eq!(world.send(To::Group(0), Signal::TERM), Err(Errno::ESRCH));
        }),
        ("a-suspended-process-takes-its-signal-when-it-goes-on", Program::idle(), |world| {
            world.send(To::Process(0), Signal::STOP).unwrap();
            world.is(&[Seen::Stopped]).unwrap();
            world.send(To::Process(0), Signal::TERM).unwrap();
            world.is(&[Seen::Stopped]).unwrap();
            world.send(To::Process(0), Signal::CONT).unwrap();
            world.is(&[KILLED(Signal::TERM)]).unwrap();
        }),
        ("sigkill-ends-a-suspended-process", Program::idle(), |world| {
            world.send(To::Process(0), Signal::STOP).unwrap();
            world.is(&[Seen::Stopped]).unwrap();
            world.send(To::Process(0), Signal::KILL).unwrap();
            world.is(&[KILLED(Signal::KILL)]).unwrap();
        }),
        ("an-orphaned-group-is-not-suspended-by-the-terminals-signal", Program::idle(), |world| {
            world.is(&[Seen::Runs]).unwrap();
            world.send(To::Process(0), Signal::TSTP).unwrap();
            world.is(&[Seen::Runs]).unwrap();
            world.send(To::Process(0), Signal::STOP).unwrap();
            world.is(&[Seen::Stopped]).unwrap();
        }),
        ("a-child-outlives-its-parent", with(forks(vec![ignores_term()]), Vec::new()), |world| {
            world.is(&[Seen::Runs; 2]).unwrap();
            world.send(To::Process(0), Signal::KILL).unwrap();
            world.is(&[KILLED(Signal::KILL), Seen::Runs]).unwrap();
            // The group keeps its number after its leader.
            world.reap_first();
            assert_eq!(world.send(To::Group(0), Signal::TERM), Ok(()));
            world.is(&[KILLED(Signal::KILL), Seen::Runs]).unwrap();
            world.send(To::Group(0), Signal::INT).unwrap();
        }),
        (
            "a-program-ends-as-its-handler-says",
            with(Vec::new(), vec![(Signal::TERM, Reaction::Exit(0, 7))]),
            |world| {
                world.is(&[Seen::Runs]).unwrap();
                world.send(To::Group(0), Signal::TERM).unwrap();
                world.is(&[Seen::Ended(Outcome::Exited(7))]).unwrap();
                assert_eq!(world.reap_first(), Outcome::Exited(7));
            },
        ),
    ]
}

#[test]
fn the_simulated_kernel_does_what_the_real_one_does() {
    assert_eq!(nix::sys::prctl::set_child_subreaper(true), Ok(()));
    for (name, program, play) in scenarios() {
        eprintln!("{name}, simulated");
        play(&mut Simulated::new(&program));
        eprintln!("{name}, real");
        play(&mut Real::new(&program, name));
    }
}
