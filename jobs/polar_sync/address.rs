//! Addresses that Polar does not take.

use std::time::Duration;

use super::Failure;
use crate::contract::{Context, Error};
use crate::mirror::seen;
use crate::mirror::wanted::WantedMember;

/// How long after a refusal the address is tried once more. Polar asks the name service whether a domain takes
/// mail, which may fail for a moment; a second refusal is final.
const SLOW: Duration = Duration::from_secs(30);

/// What becomes of a job whose person's address Polar refused: it looks again once, slowly, and
/// is then discarded. Another address starts anew.
pub(crate) async fn refused_address(context: &Context, wanted: &WantedMember) -> Failure {
    let reason = format!(
        "Polar cannot deliver mail to the address of user {}",
        wanted.user
    );
    let Some(waited) = wanted.undeliverable_for else {
        return match seen::email_refused(&context.pool, wanted.user).await {
            Ok(()) => Error::not_yet(format!("{reason}; one more try"), SLOW).into(),
            Err(error) => error.into(),
        };
    };
    match SLOW.checked_sub(waited).filter(|rest| !rest.is_zero()) {
        Some(rest) => Error::not_yet(format!("{reason}; one more try"), rest).into(),
        None => Failure::refused(format!(
            "{reason}; it is tried again when the address changes"
        )),
    }
}
