//! `@signal`: a signal for the command. The init sends it itself, so it takes no process.

use anyhow::{Result, anyhow};

use super::{Described, Parsed};
use crate::signal::Signal;

/// Reads the operand; what is left is the signal.
pub(super) struct SendSignal(Signal);

impl Described for SendSignal {
    const NAME: &'static str = "signal";
    const OPERANDS: &'static str = "SIG";
    const DOC: &'static str = "send a signal to the command";
    const EXAMPLE: &'static str = "@signal USR1";

    fn parse(operands: &[&str]) -> Result<Option<Self>> {
        let [signal] = operands else { return Ok(None) };
        let signal = Signal::parse(signal).ok_or_else(|| anyhow!("{signal:?} is no signal such as USR1"))?;
        Ok(Some(Self(signal)))
    }
}

impl From<SendSignal> for Parsed {
    fn from(SendSignal(signal): SendSignal) -> Self {
        Self::Signal(signal)
    }
}
