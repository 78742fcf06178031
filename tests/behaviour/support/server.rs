//! Small servers for what the init asks over TCP; a PID namespace is no network namespace.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::LIMIT;

/// Takes one connection on the loopback interface.
pub struct Server {
    port: u16,
    requests: Receiver<String>,
}

impl Server {
    /// Reads a request up to its empty line and hands the connection to `answer`.
    pub fn new(answer: impl FnOnce(TcpStream) + Send + 'static) -> Self {
        let listener = listener();
        let port = port_of(&listener);
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length > 0) {
                request.extend(byte);
            }
            let _ = sender.send(String::from_utf8_lossy(&request).into_owned());
            answer(stream);
        });
        Self { port, requests }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The request that came.
    #[track_caller]
    pub fn request(&self) -> String {
        self.requests.recv_timeout(LIMIT).expect("no request came")
    }
}

/// Listens on a free port of the loopback interface.
pub fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen")
}

/// The port that it listens on.
pub fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("the listener's address").port()
}
