//! How a process ended, and what the container's exit status says of it.

use std::fmt;

use crate::signal::Signal;

/// How a process ended, as wait(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It exited by itself with this code.
    Exited(u8),
    /// A signal ended it.
    Killed(Signal),
    /// A signal ended it and the kernel wrote its memory to a file (core(5)).
    Dumped(Signal),
}

impl Outcome {
    /// Whether it exited with 0.
    pub fn succeeded(self) -> bool {
        self == Self::Exited(0)
    }

    /// The status that shells and orchestrators know it by: its code, or 128 and the signal's number.
    pub fn status(self) -> ExitStatus {
        match self {
            Self::Exited(code) => ExitStatus(code),
            Self::Killed(signal) | Self::Dumped(signal) => {
                ExitStatus(u8::try_from(signal.number()).unwrap_or(u8::MAX).saturating_add(128))
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Killed(signal) => write!(f, "was ended by {signal}"),
            Self::Dumped(signal) => write!(f, "was ended by {signal} (core dumped)"),
        }
    }
}

/// An exit status of the init itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(u8);

impl ExitStatus {
    /// All went well.
    pub const SUCCESS: Self = Self(0);
    /// The init itself was used wrongly or could not begin (as env(1) and timeout(1) have it).
    pub const OWN_FAILURE: Self = Self(125);
    /// The command was found and could not be executed.
    pub const NOT_EXECUTABLE: Self = Self(126);
    /// The command was not found.
    pub const NOT_FOUND: Self = Self(127);
    /// What an init that had to give up on a command reports: 128 and SIGKILL.
    pub const KILLED: Self = Self(137);

    /// The status with this number.
    pub const fn new(code: u8) -> Self {
        Self(code)
    }

    /// Its number.
    pub const fn code(self) -> u8 {
        self.0
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The statuses that `--exit-zero` reports as 0.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ZeroCodes(Vec<u8>);

impl ZeroCodes {
    /// Also reports `code` as 0.
    pub fn add(&mut self, code: u8) {
        self.0.push(code);
    }

    /// The status to report for `status`.
    pub fn apply(&self, status: ExitStatus) -> ExitStatus {
        if self.0.contains(&status.0) { ExitStatus::SUCCESS } else { status }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_becomes_128_and_its_number() {
        assert_eq!(Outcome::Exited(3).status().code(), 3);
        assert_eq!(Outcome::Killed(Signal::TERM).status().code(), 143);
        assert_eq!(Outcome::Dumped(Signal::QUIT).status().code(), 131);
        assert_eq!(Outcome::Killed(Signal::from_number(64).unwrap()).status().code(), 192);
    }

    #[test]
    fn only_the_named_codes_become_zero() {
        let mut zero = ZeroCodes::default();
        zero.add(143);
        assert_eq!(zero.apply(ExitStatus::new(143)), ExitStatus::SUCCESS);
        assert_eq!(zero.apply(ExitStatus::new(1)), ExitStatus::new(1));
    }
}
