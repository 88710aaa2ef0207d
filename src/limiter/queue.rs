//! Calls that wait until they may go out, and when those that were rejected should ask again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use polar::CallClass;
use tokio::sync::oneshot;

use super::budget::{Demand, Rate, urgency};

/// Calls that wait, the most urgent class first, within a class in the order they came. `T` is what
/// a waiting call is answered.
#[derive(Debug)]
pub(super) struct CallQueue<T> {
    classes: [VecDeque<oneshot::Sender<T>>; 5],
}

impl<T> Default for CallQueue<T> {
    fn default() -> Self {
        Self {
            classes: std::array::from_fn(|_| VecDeque::new()),
        }
    }
}

impl<T> CallQueue<T> {
    /// Joins the queue of a class.
    pub(super) fn push(&mut self, class: CallClass) -> oneshot::Receiver<T> {
        let (tx, rx) = oneshot::channel();
        self.classes[urgency(class)].push_back(tx);
        rx
    }

    /// The next one to go, skipping those who gave up.
    pub(super) fn pop(&mut self) -> Option<oneshot::Sender<T>> {
        let mut all = self
            .classes
            .iter_mut()
            .flat_map(|class| std::iter::from_fn(|| class.pop_front()));
        all.find(|tx| !tx.is_closed())
    }

    /// Those who still wait, by urgency; the others are forgotten.
    pub(super) fn demand(&mut self) -> Demand {
        self.classes.each_mut().map(|class| {
            class.retain(|tx| !tx.is_closed());
            u32::try_from(class.len()).unwrap_or(u32::MAX)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.classes.iter().all(VecDeque::is_empty)
    }

    pub(super) fn len(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }
}

/// The longest that a call comes after the opening. A longer line begins again at the front: its
/// calls then share their moments.
const LONGEST: Duration = Duration::from_secs(300);

/// Moments at which rejected calls should ask again: behind each other, at the pace of the budget.
///
/// Given the same moment, ten thousand jobs would all be claimed at it to be requeued together, and a
/// larger backlog would leave a worker no time for anything else. Each class has a line of its own,
/// so that an urgent call need not come behind a thousand others.
#[derive(Debug, Default)]
pub(super) struct Stagger {
    last: [Option<Instant>; 5],
}

impl Stagger {
    /// The next moment of a class, at `opening` or after.
    pub(super) fn next(&mut self, class: CallClass, opening: Instant, rate: &Rate) -> Instant {
        let last = &mut self.last[urgency(class)];
        let behind = last.map(|last| last + rate.time_for(1));
        let moment = behind
            .filter(|moment| (opening..opening + LONGEST).contains(moment))
            .unwrap_or(opening);
        *last = Some(moment);
        moment
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

    use std::num::NonZeroU32;

    use super::*;
    use crate::limiter::settings::Timing;

    #[test]
    fn moments_come_at_the_pace_of_the_budget_and_begin_again_after_five_minutes() {
        let rate = Rate::new(NonZeroU32::new(400).unwrap(), &Timing::PRODUCTION);
        let (mut stagger, now) = (Stagger::default(), Instant::now());
        let given: Vec<u64> = (0..10_000)
            .map(|_| (stagger.next(CallClass::Bulk, now, &rate) - now).as_secs())
            .collect();
        // 360 calls a minute: nine tenths of the limit.
        assert_eq!([given[0], given[360], given[720]], [0, 60, 120]);
        assert!(given.iter().all(|moment| *moment < 300));
        let at_once = given.iter().filter(|moment| **moment == 150).count();
        assert!((30..=40).contains(&at_once), "{at_once} in one second");
        // A later opening is nobody's moment yet, and neither is the line of another class.
        let later = now + Duration::from_secs(3600);
        assert_eq!(stagger.next(CallClass::Bulk, later, &rate), later);
        assert_eq!(stagger.next(CallClass::Mail, now, &rate), now);
    }

    #[test]
    fn the_most_urgent_goes_first_and_who_gave_up_is_passed_over() {
        let mut queue = CallQueue::<&str>::default();
        let _bulk = queue.push(CallClass::Bulk);
        drop(queue.push(CallClass::Probe));
        let mut mail = queue.push(CallClass::Mail);
        assert_eq!(queue.demand(), [0, 0, 1, 0, 1]);
        queue.pop().unwrap().send("go").unwrap();
        assert_eq!(mail.try_recv(), Ok("go"));
    }
}
