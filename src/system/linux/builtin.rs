//! The built-in steps, as they run in a process of their own: they may take their time and fail, PID 1 does not notice.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use tracing::error;

use crate::outcome::ExitStatus;
use crate::plan::{Builtin, HttpRequest};

/// How often a file or a port is looked at again. Nothing tells a process without privileges when a
/// connection ends, and inotify(7) does not see changes on network file systems.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A status line is longer than this only in an attack.
const LONGEST_STATUS_LINE: usize = 1024;
const FAILURE: ExitStatus = ExitStatus::new(1);

/// Does it, and says how it went. Its time limit is the parent's business: it is killed.
pub(super) fn run(work: &Builtin) -> ExitStatus {
    match work {
        Builtin::Sleep(time) => {
            sleep(*time);
            ExitStatus::SUCCESS
        }
        Builtin::Http(request) => http(request),
        Builtin::WaitFile(path) => {
            wait_until(|| Ok(path.exists()));
            ExitStatus::SUCCESS
        }
        Builtin::WaitPortIdle(port) => wait_until(|| port_is_idle(*port)),
    }
}

/// Looks again and again; an error ends it.
fn wait_until(done: impl Fn() -> Result<bool, String>) -> ExitStatus {
    loop {
        match done() {
            Ok(true) => return ExitStatus::SUCCESS,
            Ok(false) => sleep(LOOK_AGAIN),
            Err(reason) => {
                error!("{reason}");
                return FAILURE;
            }
        }
    }
}

fn http(request: &HttpRequest) -> ExitStatus {
    match status_of(request) {
        Ok(status) if (200..300).contains(&status) => ExitStatus::SUCCESS,
        Ok(status) => {
            error!(
                status,
                "@http http://{}{} was answered with another status than 2xx", request.host, request.target
            );
            FAILURE
        }
        Err(reason) => {
            error!("@http http://{}{}: {reason}", request.host, request.target);
            FAILURE
        }
    }
}

fn status_of(request: &HttpRequest) -> Result<u16, String> {
    let mut reason = String::from("no address");
    for address in &request.addresses {
        match TcpStream::connect(address) {
            Ok(stream) => return exchange(stream, request),
            Err(error) => reason = format!("{address}: {error}"),
        }
    }
    Err(reason)
}

fn exchange(mut stream: TcpStream, request: &HttpRequest) -> Result<u16, String> {
    let words = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: grace-init\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        request.method.name(),
        request.target,
        request.host
    );
    stream.write_all(words.as_bytes()).map_err(|error| error.to_string())?;
    let mut line = Vec::new();
    for byte in BufReader::new(stream).bytes().take(LONGEST_STATUS_LINE) {
        match byte.map_err(|error| error.to_string())? {
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    parse_status(&line)
        .ok_or_else(|| format!("answered {:?}, which is no HTTP", String::from_utf8_lossy(&line)))
}

/// The status of `HTTP/1.1 200 OK`.
pub fn parse_status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.strip_prefix("HTTP/1.")?.split(' ');
    let minor = words.next()?;
    let status = words.next()?.trim_end();
    let plain = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(minor, 1) || !plain(status, 3) {
        return None;
    }
    status.parse().ok().filter(|status| *status >= 100)
}

/// Whether no established connection has this local port, in either family's table.
fn port_is_idle(port: u16) -> Result<bool, String> {
    let tables: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(Path::new(table)).ok())
        .collect();
    if tables.is_empty() {
        return Err("@wait-port-idle cannot read /proc/net/tcp".to_owned());
    }
    Ok(!tables.iter().any(|table| has_connection(table, port)))
}

/// Whether a table has an established connection on the port.
///
/// Lines of `/proc/net/tcp`: number, local address:port, remote address:port, state, all hexadecimal; state 01 is
/// established (proc_pid_net(5), include/net/tcp_states.h).
pub fn has_connection(table: &str, port: u16) -> bool {
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next().and_then(|address| address.rsplit_once(':')).map(|(_, port)| port);
        let state = fields.nth(1);
        local.and_then(|hex| u16::from_str_radix(hex, 16).ok()) == Some(port) && state == Some("01")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_status_line_is_read_strictly() {
        for (line, status) in [
            ("HTTP/1.1 200 OK\r", Some(200)),
            ("HTTP/1.0 404 Not Found\r", Some(404)),
            ("HTTP/1.1 204\r", Some(204)),
            ("HTTP/1.1 2000 OK\r", None),
            ("HTTP/1.1 020 OK\r", None),
            ("HTTP/1.1 2x0 OK\r", None),
            ("HTTP/2 200\r", None),
            ("garbage", None),
            ("", None),
        ] {
            assert_eq!(parse_status(line.as_bytes()), status, "{line}");
        }
    }

    #[test]
    fn only_an_established_connection_on_the_port_counts() {
        let table = "  sl  local_address rem_address   st tx_queue\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n   \
                     1: 0100007F:1F91 0100007F:C350 01 00000000:00000000\n";
        assert!(!has_connection(table, 0x1F90));
        assert!(has_connection(table, 0x1F91));
        assert!(!has_connection(table, 0xC350));
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(line in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_status(&line);
        }

        #[test]
        fn no_table_makes_the_reader_panic(table in "\\PC*\n\\PC*") {
            let _ = has_connection(&table, 80);
        }
    }
}
