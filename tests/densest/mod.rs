//! How dense calls were, which is what a budget per window is about.

use std::ops::Sub;

/// The most of these moments, in order, within any stretch of `length`.
pub(crate) fn densest<T, D>(moments: &[T], length: D) -> usize
where
    T: Copy + Sub<Output = D>,
    D: PartialOrd,
{
    let within = |first: usize| {
        let later = moments[first..].iter();
        later
            .take_while(|at| **at - moments[first] <= length)
            .count()
    };
    (0..moments.len()).map(within).max().unwrap_or(0)
}
