//! `@http`: makes a plain HTTP request; a status of 2xx is success.

use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tracing::error;

use super::{Described, FAILURE, Processes, Run};
use crate::outcome::ExitStatus;

/// A status line is longer than this only in an attack.
const LONGEST_STATUS_LINE: usize = 1024;

/// Makes this request once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http(HttpRequest);

/// A plain HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpRequest {
    method: Method,
    /// The addresses to try in turn.
    addresses: Vec<SocketAddr>,
    /// The host and port as the URL names them.
    host: String,
    /// The path and query, from the first slash.
    target: String,
}

/// An HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    /// With an empty body.
    Post,
}

impl Method {
    /// The method's name on the wire.
    const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

impl Described for Http {
    const NAME: &'static str = "http";
    const OPERANDS: &'static str = "GET|POST URL";
    const DOC: &'static str = "make a request to an IP address or localhost; an answer of 2xx is success";
    const EXAMPLE: &'static str = "@http POST http://127.0.0.1:15000/quitquitquit";

    fn parse(operands: &[&str]) -> Result<Option<Self>> {
        let [method, url] = operands else { return Ok(None) };
        let method = match *method {
            "GET" => Method::Get,
            "POST" => Method::Post,
            _ => bail!("{method:?} is no method of @http: GET or POST"),
        };
        Ok(Some(Self(HttpRequest::parse(Self::NAME, method, url)?)))
    }
}

impl Run for Http {
    fn run(&self, _: &dyn Processes) -> ExitStatus {
        let HttpRequest { host, target, .. } = &self.0;
        match self.0.status(None) {
            Ok(status) if is_success(status) => ExitStatus::SUCCESS,
            Ok(status) => {
                error!(status, "@http http://{host}{target} was answered with another status than 2xx");
                FAILURE
            }
            Err(reason) => {
                error!("@http http://{host}{target}: {reason}");
                FAILURE
            }
        }
    }
}

impl HttpRequest {
    /// Reads the URL of the built-in with this name.
    pub(super) fn parse(builtin: &str, method: Method, url: &str) -> Result<Self> {
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| anyhow!("{url:?} is no URL of @{builtin}: expected http://ADDRESS[:PORT]/PATH"))?;
        if url.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            bail!("{url:?} holds a space or a control character: write it percent-encoded");
        }
        let authority_ends = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, target) = rest.split_at_checked(authority_ends).unwrap_or((rest, ""));
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let addresses = addresses(host).ok_or_else(|| {
            anyhow!("{host:?} is no IP address and not localhost: @{builtin} resolves no names")
        })?;
        Ok(Self { method, addresses, host: host.to_owned(), target })
    }

    /// The status of the answer. The limit holds for the connection and for each read.
    pub(super) fn status(&self, limit: Option<Duration>) -> Result<u16, String> {
        let mut reason = String::from("no address");
        for address in &self.addresses {
            let stream = match limit {
                Some(limit) => TcpStream::connect_timeout(address, limit),
                None => TcpStream::connect(address),
            };
            match stream {
                Ok(stream) => return self.exchange(stream, limit),
                Err(error) => reason = format!("{address}: {error}"),
            }
        }
        Err(reason)
    }

    fn exchange(&self, mut stream: TcpStream, limit: Option<Duration>) -> Result<u16, String> {
        let words = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: grace-init\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.method.name(),
            self.target,
            self.host
        );
        if limit.is_some() {
            // Under a seccomp profile that forbids it an answer is still worth waiting for.
            let _ = stream.set_read_timeout(limit);
        }
        stream.write_all(words.as_bytes()).map_err(|error| error.to_string())?;
        let line = status_line(stream).map_err(|error| error.to_string())?;
        parse_status(&line)
            .ok_or_else(|| format!("answered {:?}, which is no HTTP", String::from_utf8_lossy(&line)))
    }
}

fn status_line(stream: TcpStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    for byte in BufReader::new(stream).bytes().take(LONGEST_STATUS_LINE) {
        match byte? {
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    Ok(line)
}

pub(super) fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// The addresses that `ADDRESS[:PORT]` means; the port is 80 unless given.
fn addresses(host: &str) -> Option<Vec<SocketAddr>> {
    const HTTP: u16 = 80;
    if let Ok(address) = host.parse::<SocketAddr>() {
        return Some(vec![address]);
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(vec![SocketAddr::new(address, HTTP)]);
    }
    let port = match host.strip_prefix("localhost")? {
        "" => HTTP,
        port => port.strip_prefix(':')?.parse().ok()?,
    };
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    Some(loopback.map(|address| SocketAddr::new(address, port)).to_vec())
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

#[cfg(test)]
mod tests {
    use super::super::{Builtin, Parsed, step};
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
    fn an_http_url_names_an_address() {
        for (url, addresses, target) in [
            ("http://127.0.0.1:15000/quit", vec!["127.0.0.1:15000"], "/quit"),
            ("http://127.0.0.1", vec!["127.0.0.1:80"], "/"),
            ("http://[::1]:8080?x=1", vec!["[::1]:8080"], "/?x=1"),
            ("http://[::1]/", vec!["[::1]:80"], "/"),
            ("http://localhost:9/a/b", vec!["127.0.0.1:9", "[::1]:9"], "/a/b"),
        ] {
            let Parsed::Process(Builtin::Http(Http(request))) = step(&format!("@http GET {url}")).unwrap()
            else {
                panic!()
            };
            let named: Vec<String> = request.addresses.iter().map(ToString::to_string).collect();
            assert_eq!(named, addresses, "{url}");
            assert_eq!(request.target, target, "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(line in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_status(&line);
        }
    }
}
