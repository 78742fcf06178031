//! The control socket: what is said over it, the init's end and the client's.

pub mod client;
pub mod protocol;
pub mod screen;
pub mod server;
pub mod session;
