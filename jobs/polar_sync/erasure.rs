//! Deleting a customer, which cannot be taken back: never the wrong one, and not before what it used
//! is reported.

use std::time::Duration;

use polar::{Customer, CustomerId, CustomerRef, Deletion, OrAbsent, SubscriptionUpdate};

use super::{Failure, PolarCustomer};
use crate::contract::Error;
use crate::mirror::wanted::WantedCustomer;
use crate::mirror::{seen, usage};

/// How soon a deletion looks again whether the last usage and costs are reported.
const REPORT_DELAY: Duration = Duration::from_secs(2);
/// Attempts after which the reports are not only late: somebody must see to it that Polar takes them.
const PROMPT_ATTEMPTS: i32 = 60;
/// How soon it looks again from then on, and after how many such looks it cancels the subscriptions again: hourly.
const LONG_REPORT_DELAY: Duration = Duration::from_secs(60);
const LOOKS_PER_CANCELLATION: i32 = 60;

impl PolarCustomer<'_> {
    /// Deletes the customer of the life that ended with change `event`. Its id is kept first:
    /// what Polar delivers afterwards may carry no other.
    pub(crate) async fn erase(&self, wanted: &WantedCustomer, event: i64) -> Result<(), Failure> {
        let pool = &self.context.pool;
        // Polar bills nobody for what is reported after the customer was deleted.
        if usage::unreported_before_deletion(pool, self.organization).await? {
            return Err(self.wait_for_reports().await.into());
        }
        let gone = match wanted.customer {
            Some(customer) => self.delete(customer).await?,
            None => false,
        };
        // Unknown here, or made anew by somebody with our external id.
        if !gone && let Some(customer) = self.find().await? {
            // A customer is made only after this note is taken back. So where it still stands, what
            // was found is of the life that ended.
            if !seen::is_to_be_erased(pool, self.organization, event).await? {
                return Err(Error::Retry("another worker deleted the customer".to_owned()).into());
            }
            let mut connection = pool.acquire().await?;
            seen::remember_customer(&mut connection, self.organization, customer.id).await?;
            drop(connection);
            self.delete(customer.id).await?;
        }
        Ok(seen::erased(pool, self.organization, event).await?)
    }

    /// Where the reports take long, a period may end meanwhile, so the subscriptions are cancelled: nobody may be
    /// charged for another period.
    async fn wait_for_reports(&self) -> Error {
        let late = self.context.job.attempt - PROMPT_ATTEMPTS;
        if late > 0
            && late % LOOKS_PER_CANCELLATION == 1
            && let Err(error) = self.cancel_subscriptions().await
        {
            tracing::warn!(%error, "a subscription of a deleted organization may be renewed: it cannot be cancelled");
        }
        let delay = match late > 0 {
            false => REPORT_DELAY,
            true => LONG_REPORT_DELAY,
        };
        let reason = "usage and costs recorded before the deletion are reported first";
        Error::not_yet(reason, delay)
    }

    /// Lets every subscription that would be renewed end with its period. Our external id still means the customer that
    /// is to be deleted: a new one is made only after that. Where one cannot be cancelled the others are.
    async fn cancel_subscriptions(&self) -> Result<(), polar::Error> {
        let subscriptions = self.polar.subscriptions();
        let customer = CustomerRef::External(&self.external_id);
        let cancel = SubscriptionUpdate::CANCEL;
        let mut cancelled = Ok(());
        for found in subscriptions.all(customer).await? {
            if found.status.is_in_force() && !found.cancel_at_period_end {
                let updated = subscriptions.update(found.id, &cancel).await;
                cancelled = cancelled.and(updated.map(drop));
            }
        }
        cancelled
    }

    /// The customer that has our external id now.
    pub(crate) async fn find(&self) -> Result<Option<Customer>, polar::Error> {
        self.polar
            .customers()
            .get_by_external_id(&self.external_id)
            .await
            .or_absent()
    }

    /// `true` = it was there.
    async fn delete(&self, customer: CustomerId) -> Result<bool, polar::Error> {
        let customers = self.polar.customers();
        let deleted = customers.delete(customer, Deletion::Anonymize).await;
        Ok(deleted.or_absent()?.is_some())
    }
}
