//! Repeats what had to give way. A person's change of many jobs and the worker that ends some of them may each hold what
//! the other needs; Postgres then rolls one of both back. A worker tries again by itself, so a command does as well.

use crate::sqlstate::is_rolled_back_for_another;

/// Each try holds its rows for a moment only, so to lose this often takes more than bad luck.
const TRIES: u32 = 5;

/// Does a whole transaction, and again while another one is given the way.
///
/// # Errors
/// Those of the last try.
pub(super) async fn repeated<T>(
    transaction: impl AsyncFn() -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let mut tries = 1;
    loop {
        match transaction().await {
            Err(error) if is_rolled_back_for_another(&error) && tries < TRIES => tries += 1,
            outcome => return outcome,
        }
    }
}
