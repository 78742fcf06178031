//! Durations as users write them, and the moments and deadlines that the shutdown is made of.
//!
//! A [`Moment`] counts from the start of the init on a clock that only goes forward, so the shutdown
//! can be tested on any clock and no change of the wall clock reaches it.

use std::fmt;
use std::time::Duration;

/// A point in time, as the time since the init started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(Duration);

impl Moment {
    /// The moment that lies `since_start` after the start of the init.
    pub const fn new(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// The time from the start of the init to this moment.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `wait` later; the end of time if there is none.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }

    /// The moment `lead` earlier; the start if there is none.
    #[must_use]
    pub fn before(self, lead: Duration) -> Self {
        Self(self.0.saturating_sub(lead))
    }
}

/// The latest moment for something, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Not later than this.
    At(Moment),
    /// No limit.
    Never,
}

impl Deadline {
    /// The deadline `wait` after `start`; `None` is no limit.
    pub fn after(start: Moment, wait: Option<Duration>) -> Self {
        wait.map_or(Self::Never, |wait| Self::At(start.after(wait)))
    }

    /// Whether it has come.
    pub fn reached(self, now: Moment) -> bool {
        match self {
            Self::At(moment) => now >= moment,
            Self::Never => false,
        }
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self, other) {
            (Self::At(one), Self::At(two)) => Self::At(one.min(two)),
            (Self::At(one), Self::Never) | (Self::Never, Self::At(one)) => Self::At(one),
            (Self::Never, Self::Never) => Self::Never,
        }
    }

    /// The later of the two.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        match (self, other) {
            (Self::At(one), Self::At(two)) => Self::At(one.max(two)),
            (Self::Never, _) | (_, Self::Never) => Self::Never,
        }
    }

    /// This deadline brought forward by `lead`.
    #[must_use]
    pub fn before(self, lead: Duration) -> Self {
        match self {
            Self::At(moment) => Self::At(moment.before(lead)),
            Self::Never => Self::Never,
        }
    }

    /// This deadline put off by `wait`.
    #[must_use]
    pub fn later(self, wait: Duration) -> Self {
        match self {
            Self::At(moment) => Self::At(moment.after(wait)),
            Self::Never => Self::Never,
        }
    }

    /// What is left until it; zero once it has come, `None` if it never comes.
    pub fn remaining(self, now: Moment) -> Option<Duration> {
        match self {
            Self::At(moment) => Some(moment.since(now)),
            Self::Never => None,
        }
    }
}

/// Units of a written duration, longest first, in milliseconds. A number without a unit is seconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a duration as users write it: `500ms`, `10s`, `1m30s`, `2h`; a bare number is seconds.
///
/// Units stand in falling order, each at most once. `None` for anything else, and for what does not
/// fit into 64 bits of milliseconds; the caller knows where the text came from and says so.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if let Some(seconds) = digits(text) {
        return Some(Duration::from_millis(seconds.checked_mul(1_000)?));
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at_checked(number_ends)?;
        let unit_ends = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_ends)?;
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(digits(number)?.checked_mul(*millis)?)?;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// Reads a plain number: digits only, so neither a sign nor a space slips through.
fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// Shows a duration the way [`parse_duration`] reads it; less than a millisecond is cut off.
#[derive(Clone, Copy, Debug)]
pub struct Written(pub Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, millis) in UNITS {
            let count = rest.checked_div(millis).unwrap_or(0);
            rest = rest.checked_rem(millis).unwrap_or(0);
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

/// Shows a measured time in at most three digits after the point: `87ms`, `1.25s`, `2m05s`.
#[derive(Clone, Copy, Debug)]
pub struct Measured(pub Duration);

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (seconds, part) =
            (millis.checked_div(1_000).unwrap_or(0), millis.checked_rem(1_000).unwrap_or(0));
        match seconds {
            0 if self.0.is_zero() => f.write_str("0s"),
            0 => write!(f, "{millis}ms"),
            1..60 => {
                let fraction = format!("{part:03}");
                let fraction = fraction.trim_end_matches('0');
                if fraction.is_empty() { write!(f, "{seconds}s") } else { write!(f, "{seconds}.{fraction}s") }
            }
            _ => {
                let minutes = seconds.checked_div(60).unwrap_or(0);
                write!(f, "{minutes}m{:02}s", seconds.checked_rem(60).unwrap_or(0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_documented() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("2h5ms", 7_200_005),
            ("7", 7_000),
            ("0", 0),
            ("0s", 0),
            ("4294967295", 4_294_967_295_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_duration() {
        for text in [
            "",
            " ",
            "-1",
            "+1",
            "-1s",
            "1.5s",
            "1 s",
            " 1s",
            "1s ",
            "s",
            "ms",
            "10x",
            "1s1m",
            "1s1s",
            "1m30",
            "1S",
            "1e3",
            "0x10",
            "١s",
            "99999999999999999999",
            "18446744073709551615",
            "9999999999999999999h",
            "none",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn measured_times_are_short() {
        for (millis, text) in
            [(0, "0s"), (87, "87ms"), (1_000, "1s"), (1_250, "1.25s"), (9_005, "9.005s"), (125_000, "2m05s")]
        {
            assert_eq!(Measured(Duration::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn a_deadline_never_overflows() {
        let end = Moment::new(Duration::MAX);
        assert_eq!(end.after(Duration::from_secs(1)), end);
        assert_eq!(Moment::default().before(Duration::from_secs(1)), Moment::default());
        assert_eq!(Deadline::after(end, Some(Duration::MAX)), Deadline::At(end));
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(millis in any::<u64>()) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&Written(duration).to_string()), Some(duration));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn near_misses_do_not_make_the_parser_panic(text in "[0-9hms. -]{0,24}") {
            let _ = parse_duration(&text);
        }
    }
}
