//! `@wait-http`: waits until a URL answers with 2xx.

use std::time::Duration;

use anyhow::Result;

use super::http::{HttpRequest, Method, is_success};
use super::{Described, Processes, Run, wait_until};
use crate::outcome::ExitStatus;

/// How long a server may keep one request waiting. One that hangs now may answer the next request.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Makes this request until it succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitHttp(HttpRequest);

impl Described for WaitHttp {
    const NAME: &'static str = "wait-http";
    const OPERANDS: &'static str = "URL";
    const DOC: &'static str = "GET the URL until the answer is 2xx";
    const EXAMPLE: &'static str = "@wait-http http://127.0.0.1:8080/drained";

    fn parse(operands: &[&str]) -> Result<Option<Self>> {
        let [url] = operands else { return Ok(None) };
        Ok(Some(Self(HttpRequest::parse(Self::NAME, Method::Get, url)?)))
    }
}

impl Run for WaitHttp {
    fn run(&self, _: &dyn Processes) -> ExitStatus {
        wait_until(|| Ok(self.0.status(Some(ANSWER_LIMIT)).is_ok_and(is_success)))
    }
}
