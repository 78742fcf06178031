//! One client's conversation with the init: bytes in, bytes out. There is no descriptor, no clock and no machine here.

use super::protocol::{BadRequest, MAX_REQUEST, Request};

/// A conversation.
#[derive(Debug, Default)]
pub struct Session {
    received: Vec<u8>,
    request: Option<Request>,
    outbox: Outbox,
}

/// What a client has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Not all of it yet.
    Incomplete,
    /// What it wants.
    Request(Request),
    /// Something else.
    Bad(BadRequest),
}

impl Session {
    /// Takes in what the client has sent. A client makes one request; whatever follows it is [`BadRequest::NotOurs`].
    pub fn receive(&mut self, bytes: &[u8]) -> Heard {
        if self.request.is_some() {
            return Heard::Bad(BadRequest::NotOurs);
        }
        self.received.extend_from_slice(bytes);
        let line = self.received.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if line.len() == self.received.len() && line.len() <= MAX_REQUEST {
            return Heard::Incomplete;
        }
        if line.len() > MAX_REQUEST {
            return Heard::Bad(BadRequest::NotOurs);
        }
        match Request::decode(line) {
            Ok(request) => {
                self.request = Some(request);
                self.received = Vec::new();
                Heard::Request(request)
            }
            Err(bad) => Heard::Bad(bad),
        }
    }

    /// What the client has asked for.
    pub fn request(&self) -> Option<Request> {
        self.request
    }

    /// Puts a block into the outbox. It replaces one of which nothing was sent yet.
    pub fn say(&mut self, block: &str) {
        self.outbox.put(block);
    }

    /// What is to be sent next; empty when there is nothing.
    pub fn to_send(&self) -> &[u8] {
        self.outbox.to_send()
    }

    /// This many bytes of [`Self::to_send`] were sent.
    pub fn sent(&mut self, count: usize) {
        self.outbox.sent(count);
    }
}

/// What is still to be sent: the rest of a block that is on its way, and the newest one after it. The blocks between are
/// dropped, so that nothing accumulates for a client that reads slowly.
#[derive(Debug, Default)]
struct Outbox {
    block: Vec<u8>,
    sent: usize,
    next: Option<String>,
}

impl Outbox {
    fn put(&mut self, block: &str) {
        if self.sent == 0 {
            self.block = block.as_bytes().to_vec();
        } else {
            self.next = Some(block.to_owned());
        }
    }

    fn to_send(&self) -> &[u8] {
        self.block.get(self.sent..).unwrap_or_default()
    }

    fn sent(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count);
        if self.sent >= self.block.len() {
            self.sent = 0;
            self.block = self.next.take().unwrap_or_default().into_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::Until;
    use proptest::prelude::*;

    #[test]
    fn a_request_may_come_in_pieces() {
        let mut session = Session::default();
        assert_eq!(session.receive(b"grace-init 1 sto"), Heard::Incomplete);
        assert_eq!(session.receive(b""), Heard::Incomplete);
        assert_eq!(session.receive(b"p stopped\n"), Heard::Request(Request::Stop(Until::Stopped)));
        assert_eq!(session.request(), Some(Request::Stop(Until::Stopped)));
    }

    #[test]
    fn a_client_that_says_too_much_is_not_ours() {
        let mut session = Session::default();
        assert_eq!(session.receive(&[b'x'; MAX_REQUEST]), Heard::Incomplete);
        assert_eq!(session.receive(b"x"), Heard::Bad(BadRequest::NotOurs));
        let mut session = Session::default();
        assert_eq!(session.receive(b"grace-init 1 status\n"), Heard::Request(Request::Status));
        assert_eq!(session.receive(b"\n"), Heard::Bad(BadRequest::NotOurs));
    }

    #[test]
    fn a_slow_reader_gets_the_block_that_was_begun_and_then_the_newest() {
        let mut session = Session::default();
        session.say("first\n\n");
        session.say("second\n\n");
        assert_eq!(session.to_send(), b"second\n\n");
        session.sent(3);
        for block in ["third\n\n", "fourth\n\n", "fifth\n\n"] {
            session.say(block);
        }
        assert_eq!(session.to_send(), b"ond\n\n");
        session.sent(5);
        assert_eq!(session.to_send(), b"fifth\n\n");
        session.sent(7);
        assert_eq!(session.to_send(), b"");
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_whole_blocks_in_order_and_the_last_is_among_them(
            steps in proptest::collection::vec((0..3_usize, 0..9_usize), 1..40),
        ) {
            let mut session = Session::default();
            let mut read: Vec<u8> = Vec::new();
            let mut said = 0_usize;
            for (blocks, sent) in steps {
                for _ in 0..blocks {
                    said += 1;
                    session.say(&format!("{said}."));
                }
                let sent = sent.min(session.to_send().len());
                read.extend_from_slice(&session.to_send()[..sent]);
                session.sent(sent);
            }
            while !session.to_send().is_empty() {
                read.push(session.to_send()[0]);
                session.sent(1);
            }
            let read = String::from_utf8(read).unwrap();
            let numbers: Vec<usize> = read.split_terminator('.').map(|number| number.parse().unwrap()).collect();
            prop_assert!(numbers.is_sorted_by(|before, after| before < after), "{}", read);
            prop_assert_eq!(numbers.last().copied().unwrap_or(0), said);
        }

        #[test]
        fn no_bytes_fill_the_memory(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20)) {
            let mut session = Session::default();
            for piece in pieces {
                match session.receive(&piece) {
                    Heard::Incomplete => prop_assert!(session.received.len() <= MAX_REQUEST),
                    Heard::Request(_) | Heard::Bad(_) => break,
                }
            }
        }
    }
}
