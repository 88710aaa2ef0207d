//! Makes a customer again that somebody deleted at Polar although we want it.
//!
//! A delivery of a deletion names the customer by Polar's id; after a plain deletion it carries no
//! other. One deletion may be delivered several times, and most are our own. So Polar is not asked
//! here: only where the deleted customer is the one that a living organization has, that
//! organization is out of step, and its sync makes another one.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::SyncCustomer;
use crate::contract::{Context, Done, Error, Job, NewJob};
use crate::mirror::seen;

/// One customer that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreCustomer {
    /// Polar's id of the customer.
    pub customer_id: Uuid,
}

impl RestoreCustomer {
    /// The job that a delivery of a deletion starts; `None` where it names no customer.
    #[must_use]
    pub fn for_delivery(peek: &polar::Peek) -> Option<NewJob> {
        let customer_id = Uuid::from(peek.customer_id?);
        Some(NewJob::of(&Self { customer_id }))
    }
}

impl Job for RestoreCustomer {
    const KIND: &'static str = "restore_customer";

    fn unique_key(&self) -> Option<String> {
        Some(format!("{}/{}", Self::KIND, self.customer_id))
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let mut transaction = context.begin().await?;
        let customer = polar::CustomerId(self.customer_id);
        // Written also while billing is off, when the sync that follows ends without work: whoever
        // starts with billing finds the organization out of step.
        let Some(organization_id) = seen::customer_lost(&mut transaction, customer).await? else {
            return Ok(Done::ignored(
                "no living organization has the customer that was deleted",
            ));
        };
        let sync = NewJob::of(&SyncCustomer { organization_id });
        Ok(Done::applied().then([sync]).within(transaction))
    }
}
