//! `@wait-file`: waits until a file is there.

use std::path::PathBuf;

use anyhow::Result;

use super::{Described, Processes, Run, wait_until};
use crate::outcome::ExitStatus;

/// Waits until this file is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitFile(PathBuf);

impl Described for WaitFile {
    const NAME: &'static str = "wait-file";
    const OPERANDS: &'static str = "PATH";
    const DOC: &'static str = "wait until the file exists";
    const EXAMPLE: &'static str = "@wait-file /tmp/drained";

    fn parse(operands: &[&str]) -> Result<Option<Self>> {
        let [path] = operands else { return Ok(None) };
        Ok(Some(Self(PathBuf::from(path))))
    }
}

impl Run for WaitFile {
    fn run(&self, _: &dyn Processes) -> ExitStatus {
        wait_until(|| Ok(self.0.exists()))
    }
}
