//! One step of a chain: a program to run, or something built in for images that have no programs.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use super::words::{StepCommand, Word, split_command};
use crate::signal::Signal;
use crate::time::parse_duration;

/// A step of the pre-stop or post-stop chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// As the user wrote it, for the log and the report.
    pub text: String,
    /// What it does.
    pub work: Work,
    /// Its program could not be found at the start.
    pub missing_program: bool,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Runs a program, without a shell.
    Program(StepCommand),
    /// Sends a signal to the command, which takes no process.
    Signal(Signal),
    /// Does something built in, in a process of its own.
    Builtin(Builtin),
}

/// What can be done without a program in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// Waits.
    Sleep(Duration),
    /// Makes a request; a status of 2xx is success.
    Http(HttpRequest),
    /// Waits until a file is there.
    WaitFile(PathBuf),
    /// Waits until no established connection is left on a local TCP port.
    WaitPortIdle(u16),
}

/// A plain HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Its method.
    pub method: Method,
    /// The addresses to try in turn.
    pub addresses: Vec<SocketAddr>,
    /// The host and port as the URL names them.
    pub host: String,
    /// The path and query, from the first slash.
    pub target: String,
}

/// An HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `POST`, with an empty body.
    Post,
}

impl Method {
    /// The method's name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

impl Step {
    /// Reads a step as users write it.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead; the caller adds where the text came from.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let words = split_command(text)?;
        let shown = text.to_string_lossy().into_owned();
        let Some((name, arguments)) = words.split_first() else {
            bail!("expected a command such as \"nginx -s quit\"")
        };
        let literals: Option<Vec<OsString>> = words.iter().map(Word::literal).collect();
        let builtin =
            name.literal().and_then(|name| Some(name.to_string_lossy().strip_prefix('@')?.to_owned()));
        let work = match (builtin, literals) {
            (Some(builtin), Some(literals)) if builtin == "signal" => {
                Work::Signal(signal_operand(literals.get(1..).unwrap_or_default())?)
            }
            (Some(builtin), Some(literals)) => {
                Work::Builtin(Builtin::parse(&builtin, literals.get(1..).unwrap_or_default())?)
            }
            (Some(builtin), None) => bail!("@{builtin} takes no variables"),
            (None, _) => Work::Program(StepCommand { program: name.clone(), arguments: arguments.to_vec() }),
        };
        Ok(Self { text: shown, work, missing_program: false })
    }

    /// The name or path of its program, where that is known before it starts.
    pub fn program(&self) -> Option<OsString> {
        match &self.work {
            Work::Program(command) => command.program.literal(),
            Work::Signal(_) | Work::Builtin(_) => None,
        }
    }
}

/// Reads the operand of `@signal`.
fn signal_operand(operands: &[OsString]) -> Result<Signal> {
    let [signal] = operands else { bail!("expected @signal SIGNAL, such as @signal USR1") };
    let text = signal.to_string_lossy();
    Signal::parse(&text).ok_or_else(|| anyhow!("{text:?} is no signal such as USR1"))
}

impl Builtin {
    fn parse(name: &str, operands: &[OsString]) -> Result<Self> {
        let operands: Vec<&str> = operands
            .iter()
            .map(|operand| operand.to_str().ok_or_else(|| anyhow!("@{name} takes UTF-8 text only")))
            .collect::<Result<_>>()?;
        match (name, operands.as_slice()) {
            ("sleep", [time]) => {
                let time =
                    parse_duration(time).ok_or_else(|| anyhow!("{time:?} is no duration such as 5s"))?;
                Ok(Self::Sleep(time))
            }
            ("http", [method, url]) => HttpRequest::parse(method, url).map(Self::Http),
            ("wait-file", [path]) => Ok(Self::WaitFile(PathBuf::from(path))),
            ("wait-port-idle", [port]) => match port.parse() {
                Ok(port) if port > 0 => Ok(Self::WaitPortIdle(port)),
                _ => bail!("{port:?} is no port number"),
            },
            ("sleep", _) => bail!("expected @sleep DURATION, such as @sleep 5s"),
            ("http", _) => bail!("expected @http GET|POST URL"),
            ("wait-file", _) => bail!("expected @wait-file PATH"),
            ("wait-port-idle", _) => bail!("expected @wait-port-idle PORT"),
            _ => bail!("no built-in @{name}: there are @sleep @signal @http @wait-file @wait-port-idle"),
        }
    }
}

impl HttpRequest {
    fn parse(method: &str, url: &str) -> Result<Self> {
        let method = match method {
            "GET" => Method::Get,
            "POST" => Method::Post,
            _ => bail!("{method:?} is no method of @http: GET or POST"),
        };
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| anyhow!("{url:?} is no URL of @http: expected http://ADDRESS[:PORT]/PATH"))?;
        if url.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            bail!("{url:?} holds a space or a control character: write it percent-encoded");
        }
        let authority_ends = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, target) = rest.split_at_checked(authority_ends).unwrap_or((rest, ""));
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let addresses = addresses(host)
            .ok_or_else(|| anyhow!("{host:?} is no IP address and not localhost: @http resolves no names"))?;
        Ok(Self { method, addresses, host: host.to_owned(), target })
    }
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
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];
    Some(loopback.map(|address| SocketAddr::new(address, port)).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(text: &str) -> Result<Step> {
        Step::parse(OsStr::new(text))
    }

    fn error(text: &str) -> String {
        step(text).unwrap_err().to_string()
    }

    #[test]
    fn a_command_is_split_as_a_shell_quotes() {
        let Work::Program(command) = step(r#"redis-cli -a "two words" 'it''s' a\ b"#).unwrap().work else {
            panic!()
        };
        let command = command.expand(&|_| None);
        assert_eq!(command.program, "redis-cli");
        assert_eq!(command.arguments, ["-a", "two words", "its", "a b"]);
    }

    #[test]
    fn the_built_ins_are_read() {
        for (text, builtin) in [
            ("@sleep 5s", Builtin::Sleep(Duration::from_secs(5))),
            ("@wait-file /tmp/ready", Builtin::WaitFile("/tmp/ready".into())),
            ("@wait-port-idle 8080", Builtin::WaitPortIdle(8080)),
        ] {
            assert_eq!(step(text).unwrap().work, Work::Builtin(builtin), "{text}");
        }
    }

    #[test]
    fn a_signal_for_the_command_is_read() {
        assert_eq!(step("@signal USR1").unwrap().work, Work::Signal(Signal::USR1));
        assert!(error("@signal").contains("expected @signal SIGNAL"));
        assert!(error("@signal USR1 USR2").contains("expected @signal SIGNAL"));
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
            let Work::Builtin(Builtin::Http(request)) = step(&format!("@http GET {url}")).unwrap().work
            else {
                panic!()
            };
            assert_eq!(
                request.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
                addresses,
                "{url}"
            );
            assert_eq!(request.target, target, "{url}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_step_is_said() {
        for (text, part) in [
            ("", "expected a command"),
            ("'open", "not closed"),
            ("a && b", "needs a shell"),
            ("@sleep $TIME", "takes no variables"),
            ("@sleep", "@sleep DURATION"),
            ("@sleep soon", "no duration"),
            ("@signal NOPE", "no signal"),
            ("@nothing", "there are @sleep"),
            ("@http PUT http://127.0.0.1/", "GET or POST"),
            ("@http GET https://127.0.0.1/", "expected http://"),
            ("@http GET http://example.com/", "resolves no names"),
            ("@http GET http://localhost:x/", "resolves no names"),
            ("@http GET 'http://127.0.0.1/a b'", "percent-encoded"),
            ("@wait-port-idle 0", "no port"),
            ("@wait-port-idle 65536", "no port"),
        ] {
            assert!(error(text).contains(part), "{text}: {}", error(text));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            let _ = step(&text);
        }

        #[test]
        fn no_built_in_makes_the_parser_panic(text in "@(sleep|signal|http|wait-file|wait-port-idle)( (GET|http://|[a-z0-9:.\\[\\]/?]{0,12})){0,3}") {
            let _ = step(&text);
        }
    }
}
