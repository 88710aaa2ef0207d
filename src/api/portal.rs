//! Acting at Polar as the person who calls: a session of that member, begun once per request, and calls
//! to the customer portal with its token.

use jobs::types::UserId;
use polar::{CustomerPortal, CustomerSession};

use super::access::Access;
use super::error::{ApiError, Refusal};

/// What a person can do at Polar.
pub(super) struct Portal {
    client: polar::Client,
    pub(super) session: CustomerSession,
}

impl Portal {
    /// Begins a session of the calling person.
    ///
    /// # Errors
    /// `CustomerNotFound` and `MemberNotReady` where Polar does not know them yet; they are then made.
    pub(super) async fn open<G>(access: &Access<G>) -> Result<Self, ApiError> {
        let client = access.polar()?.clone();
        let person = access.caller.person().ok_or(Refusal::Unauthorized)?;
        let session = begin(access, &client, person).await?;
        Ok(Self { client, session })
    }

    pub(super) fn calls(&self) -> CustomerPortal<'_> {
        self.client.customer_portal(&self.session)
    }
}

/// Polar says which of the two it does not know (docs/polar-facts.md#customer-session).
async fn begin<G>(
    access: &Access<G>,
    client: &polar::Client,
    person: UserId,
) -> Result<CustomerSession, ApiError> {
    if access.has_former_customer() {
        access.enqueue_customer_sync().await;
        return Err(Refusal::CustomerNotFound.into());
    }
    let (customer, member) = (access.external_id(), person.to_string());
    let sessions = client.customer_sessions();
    let error = match sessions.create(&customer, &member).await {
        Ok(session) => return Ok(session),
        Err(error) => error,
    };
    if !error.faults_at(&["external_customer_id"]).is_empty() {
        access.enqueue_customer_sync().await;
        return Err(Refusal::CustomerNotFound.into());
    }
    if error.invalid().is_some() {
        access.enqueue_member_sync(person).await;
        return Err(Refusal::MemberNotReady.into());
    }
    Err(error.into())
}
