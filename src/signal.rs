//! Signals: their names, the ways users write them, sets of them, and the rewriting table.

use std::fmt;

use nix::libc::{SIGPWR, SIGSTKFLT};
use signal_hook::consts::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU,
    SIGURG, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::low_level::signal_name;

/// The first real-time signal that programs may use. The kernel's begin at 32; the C libraries keep 32
/// and 33 (musl also 34) for themselves and call 34 `SIGRTMIN` (signal(7), "Real-time signals").
const REAL_TIME_MIN: u8 = 34;
const REAL_TIME_MAX: u8 = 64;

/// A signal that the kernel can send: 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// Defines a constant from the C library's number, checked when it is compiled.
macro_rules! signals {
    ($($name:ident = $number:ident),* $(,)?) => {
        impl Signal {
            $(#[doc = concat!("`", stringify!($number), "`")]
            pub const $name: Self = Self::constant($number);)*
        }
    };
}

signals! {
    HUP = SIGHUP, INT = SIGINT, QUIT = SIGQUIT, KILL = SIGKILL, USR1 = SIGUSR1, USR2 = SIGUSR2, PIPE = SIGPIPE,
    TERM = SIGTERM, CHLD = SIGCHLD, CONT = SIGCONT, STOP = SIGSTOP, TSTP = SIGTSTP, TTIN = SIGTTIN, TTOU = SIGTTOU,
    URG = SIGURG, WINCH = SIGWINCH,
}

impl Signal {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "asserted when it is compiled"
    )]
    const fn constant(number: i32) -> Self {
        assert!(1 <= number && number <= 31);
        Self(number as u8)
    }

    /// The signal with this number; `None` outside 1 to 64.
    pub fn from_number(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| (1..=REAL_TIME_MAX).contains(number)).map(Self)
    }

    /// Its number on this machine, 1 to 64.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// All 64, in rising order.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=REAL_TIME_MAX).map(Self)
    }

    /// Reads a signal as users write it: `TERM`, `SIGTERM`, `15`, `RTMIN+3`, `RTMAX-2`, in any case.
    ///
    /// `None` for anything else; the caller knows where the text came from and says so.
    pub fn parse(text: &str) -> Option<Self> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::from_number(text.parse().ok()?);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(offset) = name.strip_prefix("RTMIN") {
            return Self::real_time(REAL_TIME_MIN.checked_add(offset_after(offset, '+')?)?);
        }
        if let Some(offset) = name.strip_prefix("RTMAX") {
            return Self::real_time(REAL_TIME_MAX.checked_sub(offset_after(offset, '-')?)?);
        }
        (1..REAL_TIME_MIN)
            .map(Self)
            .find(|signal| signal.standard_name().and_then(|n| n.strip_prefix("SIG")) == Some(name))
    }

    fn real_time(number: u8) -> Option<Self> {
        (REAL_TIME_MIN..=REAL_TIME_MAX).contains(&number).then_some(Self(number))
    }

    /// The name of a signal from 1 to 31. signal-hook leaves out the two that POSIX never had.
    fn standard_name(self) -> Option<&'static str> {
        match self.number() {
            SIGSTKFLT => Some("SIGSTKFLT"),
            SIGPWR => Some("SIGPWR"),
            number => signal_name(number),
        }
    }

    /// Whether the terminal or a shell sends it to suspend a job.
    pub fn suspends_a_job(self) -> bool {
        [Self::TSTP, Self::TTIN, Self::TTOU].contains(&self)
    }
}

/// The number behind `RTMIN+` or `RTMAX-`; nothing behind the name is zero.
fn offset_after(text: &str, sign: char) -> Option<u8> {
    if text.is_empty() {
        return Some(0);
    }
    let number = text.strip_prefix(sign)?;
    if number.bytes().all(|byte| byte.is_ascii_digit()) { number.parse().ok() } else { None }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.standard_name(), self.0.checked_sub(REAL_TIME_MIN)) {
            (Some(name), _) => f.write_str(name),
            (None, Some(0)) => f.write_str("SIGRTMIN"),
            (None, Some(offset)) => write!(f, "SIGRTMIN+{offset}"),
            (None, None) => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A set of signals, one bit each, signal 1 in the lowest: the layout of the kernel's `sigset_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SignalSet(u64);

impl SignalSet {
    /// Every signal that there is.
    pub const ALL: Self = Self(u64::MAX);

    /// The set whose bits these are.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits, as the kernel takes them.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether `signal` is in the set.
    pub fn contains(self, signal: Signal) -> bool {
        self.0 & Self::bit(signal) != 0
    }

    /// The set with `signal` in it.
    #[must_use]
    pub fn with(self, signal: Signal) -> Self {
        Self(self.0 | Self::bit(signal))
    }

    fn bit(signal: Signal) -> u64 {
        // Numbers begin at 1; `Signal` keeps them within 1 to 64, so the shift is in range.
        1_u64.checked_shl(u32::from(signal.0.saturating_sub(1))).unwrap_or(0)
    }
}

impl FromIterator<Signal> for SignalSet {
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> Self {
        signals.into_iter().fold(Self::default(), Self::with)
    }
}

/// What one received signal becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// Relay this one in its place.
    To(Signal),
    /// Relay nothing.
    Drop,
}

/// The table of `--rewrite`: what each received signal becomes before it is relayed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Rewrites(Vec<(Signal, Rewrite)>);

impl Rewrites {
    /// Makes `from` become `to`; a later rule for the same signal wins, as it does in dumb-init.
    pub fn set(&mut self, from: Signal, to: Rewrite) {
        self.0.retain(|(signal, _)| *signal != from);
        self.0.push((from, to));
    }

    /// Makes `from` become `to` unless a rule for it was given.
    pub fn set_default(&mut self, from: Signal, to: Rewrite) {
        if self.0.iter().all(|(signal, _)| *signal != from) {
            self.0.push((from, to));
        }
    }

    /// What a received signal becomes.
    pub fn apply(&self, received: Signal) -> Rewrite {
        self.0.iter().find(|(from, _)| *from == received).map_or(Rewrite::To(received), |(_, to)| *to)
    }

    /// Reads one rule, `FROM:TO`, each a signal or a number; `TO` 0 drops.
    pub fn parse_rule(text: &str) -> Option<(Signal, Rewrite)> {
        let (from, to) = text.split_once(':')?;
        let to = if to == "0" { Rewrite::Drop } else { Rewrite::To(Signal::parse(to)?) };
        Some((Signal::parse(from)?, to))
    }
}

/// Who sent a signal, as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The kernel: a key on the terminal, a hang-up, a timer.
    Kernel,
    /// A process that our PID namespace cannot see: the container runtime, or somebody on the node.
    Outside,
    /// A process, by its PID here.
    Process(i32),
}

impl Sender {
    /// Whether this counts as outside the container, so that an orchestrator may have sent it.
    ///
    /// A container's first process has a parent that its PID namespace cannot see (PPID 0): senders out there read as
    /// PID 0 and everybody else is inside. Where the parent is visible the orchestrator is too, so that there whoever is
    /// not ours counts as outside. `is_ours` says whether a PID is a living descendant or client of this init.
    pub fn is_outside(self, parent_is_visible: bool, is_ours: impl FnOnce(i32) -> bool) -> bool {
        match self {
            Self::Kernel => false,
            Self::Outside => true,
            Self::Process(pid) => parent_is_visible && !is_ours(pid),
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("the kernel or the terminal"),
            Self::Outside => f.write_str("outside the container"),
            Self::Process(pid) => write!(f, "pid {pid}"),
        }
    }
}

/// What came with a signal that sigqueue(3) sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The value, as the kernel holds it: an integer or a pointer.
    pub value: u64,
    /// The sender's user.
    pub user: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn signals_are_read_with_and_without_sig_and_as_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("15", 15),
            ("STKFLT", 16),
            ("PWR", 30),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("RTMAX-2", 62),
            ("32", 32),
            ("64", 64),
        ] {
            assert_eq!(Signal::parse(text).map(Signal::number), Some(number), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_signal() {
        for text in [
            "",
            "0",
            "65",
            "-1",
            "+1",
            "SIG",
            "SIGSIGTERM",
            "TERM ",
            "NOPE",
            "RTMIN-1",
            "RTMIN+31",
            "RTMAX+1",
            "RTMAX-31",
            "RTMIN+",
            "RTMIN++1",
            "SIG15",
            "999999999999",
        ] {
            assert_eq!(Signal::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_signal_that_is_shown_reads_back() {
        for signal in Signal::all() {
            assert_eq!(Signal::parse(&signal.to_string()), Some(signal));
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_else() {
        let set: SignalSet = [Signal::HUP, Signal(64)].into_iter().collect();
        assert_eq!(set.bits(), 1 | 1 << 63);
        assert_eq!(
            Signal::all().filter(|signal| set.contains(*signal)).collect::<Vec<_>>(),
            [Signal::HUP, Signal(64)]
        );
    }

    #[test]
    fn a_given_rewrite_wins_over_a_default_and_the_last_given_over_the_first() {
        let mut rewrites = Rewrites::default();
        rewrites.set(Signal::TSTP, Rewrite::Drop);
        rewrites.set_default(Signal::TSTP, Rewrite::To(Signal::STOP));
        rewrites.set_default(Signal::TTIN, Rewrite::To(Signal::STOP));
        rewrites.set(Signal::HUP, Rewrite::To(Signal::TERM));
        rewrites.set(Signal::HUP, Rewrite::To(Signal::QUIT));
        assert_eq!(rewrites.apply(Signal::TSTP), Rewrite::Drop);
        assert_eq!(rewrites.apply(Signal::TTIN), Rewrite::To(Signal::STOP));
        assert_eq!(rewrites.apply(Signal::HUP), Rewrite::To(Signal::QUIT));
        assert_eq!(rewrites.apply(Signal::INT), Rewrite::To(Signal::INT));
    }

    #[test]
    fn who_is_outside_depends_on_whether_our_parent_can_be_seen() {
        let ours = |pid| pid == 7;
        for (sender, visible, outside) in [
            (Sender::Kernel, false, false),
            (Sender::Kernel, true, false),
            (Sender::Outside, false, true),
            (Sender::Outside, true, true),
            (Sender::Process(7), false, false),
            (Sender::Process(7), true, false),
            (Sender::Process(8), false, false),
            (Sender::Process(8), true, true),
        ] {
            assert_eq!(sender.is_outside(visible, ours), outside, "{sender:?}, parent visible: {visible}");
        }
    }

    proptest! {
        #[test]
        fn a_rule_that_is_shown_reads_back(from in 1..=64_i32, to in 0..=64_i32) {
            let from = Signal::from_number(from).unwrap();
            let (text, to) = match Signal::from_number(to) {
                Some(to) => (format!("{from}:{to}"), Rewrite::To(to)),
                None => (format!("{from}:0"), Rewrite::Drop),
            };
            prop_assert_eq!(Rewrites::parse_rule(&text), Some((from, to)));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC*") {
            let _ = (Signal::parse(&text), Rewrites::parse_rule(&text));
        }

        #[test]
        fn near_misses_do_not_make_the_parsers_panic(text in "(SIG)?(RT)?(MIN|MAX|TERM)?[-+:0-9]{0,6}") {
            let _ = (Signal::parse(&text), Rewrites::parse_rule(&text));
        }
    }
}
