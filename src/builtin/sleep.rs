//! `@sleep`: waits.

use std::time::Duration;

use anyhow::Result;

use super::{Described, Processes, Run, duration};
use crate::outcome::ExitStatus;

/// Waits this long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sleep(Duration);

impl Described for Sleep {
    const NAME: &'static str = "sleep";
    const OPERANDS: &'static str = "DUR";
    const DOC: &'static str = "wait this long";
    const EXAMPLE: &'static str = "@sleep 5s";

    fn parse(operands: &[&str]) -> Result<Option<Self>> {
        let [time] = operands else { return Ok(None) };
        Ok(Some(Self(duration(time)?)))
    }
}

impl Run for Sleep {
    fn run(&self, _: &dyn Processes) -> ExitStatus {
        std::thread::sleep(self.0);
        ExitStatus::SUCCESS
    }

    fn time(&self) -> Option<Duration> {
        Some(self.0)
    }
}
