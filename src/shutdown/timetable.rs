//! The moments that follow from a request: one clock for every phase.

use std::time::Duration;

use crate::plan::ShutdownPlan;
use crate::time::{Deadline, Moment};

/// No grace in use is longer than this: the cluster autoscaler waits 600 s for a pod. A command whose grace is only
/// guessed is killed then, for nothing may hang for ever.
pub(super) const LATE_KILL: Duration = Duration::from_secs(600);
/// The kubelet raises what is left of a grace to this when it sends the stop signal
/// (kuberuntime_container.go, `minimumGracePeriodInSeconds`).
const KUBELET_MINIMUM: Duration = Duration::from_secs(2);
/// What to reserve of that.
const MINIMUM_RESERVE: Duration = Duration::from_millis(400);
/// How much earlier SIGKILL begins for each descendant, so that reaping them all fits into the grace.
const TIME_PER_DESCENDANT: Duration = Duration::from_micros(100);
/// Fewer than this are reaped in no time.
const MANY_DESCENDANTS: u32 = 100;

/// When what is due, counted from one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timetable {
    /// The end of the grace, told or guessed, less the reserve. Drain, chain and leftovers end by it.
    pub limit: Deadline,
    /// When the command gets SIGKILL. Later than `limit` only where the grace is a guess.
    pub kill: Deadline,
    /// When the chain must be over, so that the command keeps its stop window.
    pub chain_end: Deadline,
    /// When we leave, whatever is left. An eighth of the reserve is for our own exit.
    pub leave_by: Deadline,
    /// When our time is up altogether.
    pub end: Deadline,
    stop_window: Duration,
    reserve: Duration,
}

/// How a grace counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GraceKind {
    /// As it was told.
    Told,
    /// As it was told, at least the kubelet's 2 s: it has sent its stop signal now.
    ToldByKubelet,
    /// Nobody told it.
    Guessed,
}

impl Timetable {
    /// The timetable of a request at `now`.
    pub fn new(plan: &ShutdownPlan, kind: GraceKind, now: Moment) -> Self {
        let (grace, reserve) = match plan.grace {
            Some(grace) if kind == GraceKind::ToldByKubelet && grace < KUBELET_MINIMUM => {
                (Some(KUBELET_MINIMUM), scaled_reserve(plan.reserve, grace))
            }
            grace => (grace, plan.reserve),
        };
        let limit = Deadline::after(now, grace.map(|grace| grace.saturating_sub(reserve)));
        Self::ending_at(limit, late_kill(kind, limit, now), plan.stop_window, reserve)
    }

    fn ending_at(limit: Deadline, kill: Deadline, stop_window: Duration, reserve: Duration) -> Self {
        Self {
            limit,
            kill,
            chain_end: limit.before(stop_window),
            leave_by: limit.later(all_but_an_eighth(reserve)),
            end: kill.later(reserve),
            stop_window,
            reserve,
        }
    }

    /// With what the kubelet gives at the least from its stop signal at `now` on, which may come as late as the grace's end.
    pub fn at_the_kubelets_signal(self, kind: GraceKind, now: Moment) -> Self {
        let least = Deadline::At(now.after(KUBELET_MINIMUM.saturating_sub(MINIMUM_RESERVE)));
        let limit = self.limit.max(least);
        let reserve = if limit == self.limit { self.reserve } else { self.reserve.min(MINIMUM_RESERVE) };
        Self::ending_at(limit, late_kill(kind, limit, now), self.stop_window, reserve)
    }

    /// With the stop window once more from `now` on: the container was frozen over the deadline.
    pub fn after_a_thaw(self, now: Moment) -> Self {
        let limit = Deadline::At(now.after(self.stop_window));
        Self::ending_at(limit, limit, self.stop_window, self.reserve)
    }

    /// With the moments of SIGKILL early enough for so many processes, by at most half of the time that is left. Our own
    /// end stays where it was.
    pub fn ready_for(self, descendants: usize, now: Moment) -> Self {
        let count = u32::try_from(descendants).unwrap_or(u32::MAX);
        if count < MANY_DESCENDANTS {
            return self;
        }
        let lead = TIME_PER_DESCENDANT.saturating_mul(count);
        let earlier = |deadline: Deadline| {
            let half = deadline.remaining(now).and_then(|left| left.checked_div(2)).unwrap_or_default();
            deadline.before(lead.min(half))
        };
        let limit = earlier(self.limit);
        Self { limit, kill: earlier(self.kill), chain_end: limit.before(self.stop_window), ..self }
    }
}

/// When the command is killed whose grace ends, less the reserve, at `limit`.
fn late_kill(kind: GraceKind, limit: Deadline, now: Moment) -> Deadline {
    match kind {
        GraceKind::Guessed => limit.max(Deadline::At(now.after(LATE_KILL))),
        GraceKind::Told | GraceKind::ToldByKubelet => limit,
    }
}

/// The reserve's share of a grace below the kubelet's minimum, of that minimum.
fn scaled_reserve(reserve: Duration, grace: Duration) -> Duration {
    let (reserve, grace) = (reserve.as_millis(), grace.as_millis());
    let scaled = reserve.saturating_mul(KUBELET_MINIMUM.as_millis()).checked_div(grace);
    let scaled = scaled.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis);
    scaled.unwrap_or(MINIMUM_RESERVE).min(KUBELET_MINIMUM)
}

/// What of a reserve may be used until we leave.
pub(super) fn all_but_an_eighth(reserve: Duration) -> Duration {
    reserve.saturating_sub(reserve.checked_div(8).unwrap_or_default())
}
