//! When calls that are held back should ask again: behind each other, at the pace of the budget.
//!
//! Told the same moment, ten thousand jobs would all be claimed at it to be put back together, and a
//! larger backlog would leave a worker no time for anything else. Each process keeps its own line for
//! each class, so that an urgent call need not come behind a thousand others. Pure: the moment is
//! always given.

use std::time::{Duration, Instant};

use polar::CallClass;

use super::budget::{Rate, urgency};

/// The longest that a call comes after the opening. A longer line begins again at the front: its calls
/// then share their moments.
const LONGEST: Duration = Duration::from_secs(300);

/// The last turn that was given, by class.
#[derive(Debug, Default)]
pub(super) struct Turns {
    last: [Option<Instant>; 5],
}

impl Turns {
    /// The next turn of a class, at `opening` or after.
    pub(super) fn next(&mut self, class: CallClass, opening: Instant, rate: &Rate) -> Instant {
        let last = &mut self.last[urgency(class)];
        let behind = last.map(|last| last + rate.time_for(1));
        let turn = behind
            .filter(|turn| (opening..opening + LONGEST).contains(turn))
            .unwrap_or(opening);
        *last = Some(turn);
        turn
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

    use std::num::NonZeroU32;

    use super::*;
    use crate::gate::Timing;

    #[test]
    fn turns_come_at_the_pace_of_the_budget_and_begin_again_after_five_minutes() {
        let rate = Rate::new(NonZeroU32::new(400).unwrap(), &Timing::PRODUCTION);
        let (mut turns, now) = (Turns::default(), Instant::now());
        let given: Vec<u64> = (0..10_000)
            .map(|_| (turns.next(CallClass::Bulk, now, &rate) - now).as_secs())
            .collect();
        // 360 calls a minute: nine tenths of the limit.
        assert_eq!([given[0], given[360], given[720]], [0, 60, 120]);
        assert!(given.iter().all(|turn| *turn < 300));
        let at_once = given.iter().filter(|turn| **turn == 150).count();
        assert!((30..=40).contains(&at_once), "{at_once} in one second");
        // A later opening is nobody's place yet, and neither is the line of another class.
        let later = now + Duration::from_secs(3600);
        assert_eq!(turns.next(CallClass::Bulk, later, &rate), later);
        assert_eq!(turns.next(CallClass::Mail, now, &rate), now);
    }
}
