//! `@wait-port-idle`: waits until no connection is left on a local TCP port, for a bounded time: a client that keeps its
//! connection alive never leaves by itself.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tracing::warn;

use super::{Described, Processes, Run, duration, wait_until};
use crate::outcome::ExitStatus;
use crate::time::Written;

const DEFAULT_LIMIT: Duration = Duration::from_secs(5);

/// The states in which data may still come or go: ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK and CLOSING
/// (include/net/tcp_states.h). What is in SYN_RECV is nobody's yet, and TIME_WAIT has seen both ends close.
const OPEN_STATES: [u8; 6] = [0x01, 0x04, 0x05, 0x08, 0x09, 0x0B];

/// Waits for this port, at most so long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitPortIdle {
    port: u16,
    limit: Duration,
}

impl Described for WaitPortIdle {
    const NAME: &'static str = "wait-port-idle";
    const OPERANDS: &'static str = "PORT [MAX]";
    const DOC: &'static str = "wait until no connection is left on the local TCP port, half-closed ones counted; \
                               after MAX, 5s by default, it goes on with a warning";
    const EXAMPLE: &'static str = "@wait-port-idle 8080 10s";

    fn parse(operands: &[&str]) -> Result<Option<Self>> {
        let (port, limit) = match operands {
            [port] => (port, DEFAULT_LIMIT),
            [port, limit] => (port, duration(limit)?),
            _ => return Ok(None),
        };
        match port.parse() {
            Ok(port) if port > 0 => Ok(Some(Self { port, limit })),
            _ => bail!("{port:?} is no port number"),
        }
    }
}

impl Run for WaitPortIdle {
    fn run(&self, _: &dyn Processes) -> ExitStatus {
        let begun = Instant::now();
        wait_until(|| {
            let left = connections_of(self.port)?;
            let is_overdue = left > 0 && begun.elapsed() >= self.limit;
            if is_overdue {
                warn!(
                    connections = left,
                    "@wait-port-idle {}: not idle after {}; going on",
                    self.port,
                    Written(self.limit)
                );
            }
            Ok(left == 0 || is_overdue)
        })
    }
}

/// How many connections this local port has, in both families' tables.
fn connections_of(port: u16) -> Result<usize, String> {
    let tables: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .collect();
    if tables.is_empty() {
        return Err("@wait-port-idle cannot read /proc/net/tcp".to_owned());
    }
    Ok(tables.iter().map(|table| connections(table, port)).fold(0, usize::saturating_add))
}

/// How many connections on the port a table has.
///
/// Lines of `/proc/net/tcp`: number, local address:port, remote address:port, state, all hexadecimal (proc_pid_net(5)).
pub fn connections(table: &str, port: u16) -> usize {
    let is_open = |line: &&str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next().and_then(|address| address.rsplit_once(':')).map(|(_, port)| port);
        let state = fields.nth(1).and_then(|state| u8::from_str_radix(state, 16).ok());
        local.and_then(|hex| u16::from_str_radix(hex, 16).ok()) == Some(port)
            && state.is_some_and(|state| OPEN_STATES.contains(&state))
    };
    table.lines().skip(1).filter(is_open).count()
}

#[cfg(test)]
mod tests {
    use super::super::{Builtin, Parsed, step};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_limit_is_5s_unless_given() {
        for (text, limit) in
            [("@wait-port-idle 80", 5), ("@wait-port-idle 80 90s", 90), ("@wait-port-idle 80 0", 0)]
        {
            let wanted = WaitPortIdle { port: 80, limit: Duration::from_secs(limit) };
            assert_eq!(step(text).unwrap(), Parsed::Process(Builtin::WaitPortIdle(wanted)), "{text}");
        }
    }

    #[test]
    fn only_a_connection_on_the_local_port_counts() {
        let table = "  sl  local_address rem_address   st tx_queue\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n   \
                     1: 0100007F:1F91 0100007F:C350 01 00000000:00000000\n   \
                     2: 00000000000000000000000001000000:1F91 00000000000000000000000001000000:C351 01 0:0\n";
        assert_eq!(connections(table, 0x1F90), 0);
        assert_eq!(connections(table, 0x1F91), 2);
        assert_eq!(connections(table, 0xC350), 0);
    }

    #[test]
    fn half_closed_connections_count_and_past_or_coming_ones_do_not() {
        for state in 1..=12 {
            let table = format!("head\n 0: 0100007F:0050 0100007F:C350 {state:02X} 00000000:00000000\n");
            // 01 ESTABLISHED, 04 FIN_WAIT1, 05 FIN_WAIT2, 08 CLOSE_WAIT, 09 LAST_ACK, 11 CLOSING.
            let counts = usize::from([1, 4, 5, 8, 9, 11].contains(&state));
            assert_eq!(connections(&table, 80), counts, "state {state}");
        }
    }

    proptest! {
        #[test]
        fn no_table_makes_the_reader_panic(table in "\\PC*\n\\PC*") {
            let _ = connections(&table, 80);
        }
    }
}
