//! The kubelet's stop path, without a kubelet: when each container's hook runs, when it gets its stop signal, and when
//! SIGKILL falls (`killContainer` in `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
//!
//! Moments are counted from the beginning of the stop. Work that the kubelet and the runtime do between two moments is
//! taken to need no time; on a busy node an exec hook starts seconds late.

use std::time::Duration;

/// The least time that a container has between its stop signal and SIGKILL, however much of the grace is used up.
pub const MINIMUM: u64 = 2;

/// A container as the simulation sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Whether it is a native sidecar.
    pub is_sidecar: bool,
    /// Whether it has ended before the stop began.
    pub is_gone: bool,
    /// How long its preStop hook takes; `None` if it has none. [`Duration::MAX`] is for ever.
    pub hook: Option<Duration>,
    /// When it ends.
    pub ends: Ends,
}

/// When a container ends if nothing kills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// This long after its stop signal.
    AfterSignal(Duration),
    /// At this moment, whatever signal it gets: its hook stops it.
    At(Duration),
    /// By its own deadline, counted from the hook's start, but not before this long after the stop signal.
    Deadline {
        /// From the hook's start.
        from_start: Duration,
        /// From the signal.
        after_signal: Duration,
    },
    /// Never.
    Never,
}

/// Something that happens to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Duration,
    /// To whom, as an index into the subjects.
    pub subject: usize,
    /// What.
    pub what: What,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The preStop hook begins.
    HookBegins,
    /// The hook is over.
    HookEnds,
    /// The hook has used up the grace. It goes on beside the stop signal.
    HookOverruns,
    /// The runtime is told to stop the container within this many seconds.
    Stops {
        /// Between the stop signal and SIGKILL.
        seconds: u64,
    },
    /// The stop signal; it is not sent to a container that has ended.
    Signal,
    /// SIGKILL.
    Kill,
    /// The container has ended.
    Ended,
}

/// Runs the stop of a pod with this grace, in whole seconds. Subjects stand in the order of the pod: sidecars in the order
/// of their start, then the main containers.
pub fn stop(grace: u64, subjects: &[Subject]) -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut turn = Duration::ZERO;
    let mains = (0..).zip(subjects).filter(|(_, subject)| !subject.is_sidecar);
    for (index, subject) in mains {
        turn = turn.max(stop_one(grace, index, subject, Duration::ZERO, &mut moments));
    }
    // A sidecar's turn comes when the main containers and the sidecars that started after it have ended.
    let sidecars: Vec<(usize, &Subject)> =
        (0..).zip(subjects).filter(|(_, subject)| subject.is_sidecar).collect();
    for (index, subject) in sidecars.into_iter().rev() {
        turn = turn.max(stop_one(grace, index, subject, turn, &mut moments));
    }
    moments.sort_by_key(|moment| moment.at);
    moments
}

/// Stops one container and returns when it has ended.
fn stop_one(
    grace: u64,
    index: usize,
    subject: &Subject,
    turn: Duration,
    moments: &mut Vec<Moment>,
) -> Duration {
    if subject.is_gone {
        return Duration::ZERO;
    }
    let mut tell = |at: Duration, what: What| moments.push(Moment { at, subject: index, what });
    let (mut left, mut now) = (grace, Duration::ZERO);
    if let Some(hook) = subject.hook.filter(|_| grace > 0) {
        let limit = Duration::from_secs(grace);
        tell(now, What::HookBegins);
        now = hook.min(limit);
        tell(now, if hook < limit { What::HookEnds } else { What::HookOverruns });
        left = left.saturating_sub(now.as_secs());
    }
    if subject.is_sidecar {
        let waits = turn.saturating_sub(now).min(Duration::from_secs(left));
        left = left.saturating_sub(waits.as_secs());
        now = now.saturating_add(waits);
    }
    let seconds = left.max(MINIMUM);
    tell(now, What::Stops { seconds });
    let by_itself = match subject.ends {
        Ends::AfterSignal(time) => now.saturating_add(time),
        Ends::At(moment) => moment,
        Ends::Deadline { from_start, after_signal } => from_start.max(now.saturating_add(after_signal)),
        Ends::Never => Duration::MAX,
    };
    if by_itself >= now {
        tell(now, What::Signal);
    }
    let kill = now.saturating_add(Duration::from_secs(seconds));
    let ended = if by_itself < kill {
        by_itself
    } else {
        tell(kill, What::Kill);
        kill
    };
    tell(ended, What::Ended);
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(hook: Option<u64>, ends: Ends) -> Subject {
        let hook = hook.map(Duration::from_secs);
        Subject { name: "c".to_owned(), is_sidecar: false, is_gone: false, hook, ends }
    }

    fn at(moments: &[Moment], what: What) -> Option<u64> {
        moments.iter().find(|moment| moment.what == what).map(|moment| moment.at.as_secs())
    }

    #[test]
    fn the_hooks_whole_seconds_are_taken_off_down_to_two() {
        for (grace, hook, seconds) in [(30, 5, 25), (6, 2, 4), (3, 2, 2), (2, 1, 2), (1, 0, 2)] {
            let moments = stop(grace, &[subject(Some(hook), Ends::Never)]);
            assert_eq!(at(&moments, What::Stops { seconds }), Some(hook), "grace {grace}, hook {hook}");
            assert_eq!(at(&moments, What::Kill), Some(hook + seconds));
        }
    }

    #[test]
    fn a_hook_that_overruns_leaves_two_seconds() {
        let moments = stop(5, &[subject(Some(60), Ends::Never)]);
        assert_eq!((at(&moments, What::HookOverruns), at(&moments, What::Kill)), (Some(5), Some(7)));
    }

    #[test]
    fn sidecars_are_stopped_in_reverse_order_with_what_is_left() {
        let sidecar = |name: &str| Subject {
            name: name.to_owned(),
            is_sidecar: true,
            ..subject(None, Ends::AfterSignal(Duration::from_secs(1)))
        };
        let main = subject(None, Ends::AfterSignal(Duration::from_secs(6)));
        let moments = stop(20, &[sidecar("first"), sidecar("second"), main]);
        let signals: Vec<(usize, u64)> = moments
            .iter()
            .filter(|moment| moment.what == What::Signal)
            .map(|moment| (moment.subject, moment.at.as_secs()))
            .collect();
        assert_eq!(signals, [(2, 0), (1, 6), (0, 7)]);
        assert_eq!(at(&moments, What::Stops { seconds: 13 }), Some(7));
    }
}
