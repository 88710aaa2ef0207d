//! Invites an organization to the startup program, or takes the invitation back, as an operator wants it.
//!
//! An invitation is a discount at Polar that can be used once, and the customer's metadata point to it.
//! Polar replaces metadata as a whole, so there is one writer per customer: this job waits in one row with
//! the customer's own sync.

use polar::{
    Customer, CustomerUpdate, Discount, DiscountId, Metadata, MetadataValue, NewDiscount, OrAbsent,
};
use serde::{Deserialize, Serialize};

use crate::contract::{Context, Done, Error, Job};
use crate::customer::client_for;
use crate::mail::{MailData, NewMail, Template, billing_contacts};
use crate::mirror::startup_programs::{self, Wanted};
use crate::types::OrganizationId;
use crate::{SendEmail, SyncCustomer};

/// One organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStartupProgram {
    /// Which.
    pub organization_id: OrganizationId,
}

/// For how long the plan is free.
const MONTHS: u32 = 12;

impl SyncStartupProgram {
    /// The key under which a customer's metadata point to its discount.
    const POINTER: &'static str = "startup_program_discount_id";
    /// The key that marks the program's discounts.
    pub const MARK: &'static str = "startup_program";

    /// Returns the discount that a customer's metadata point to; `None` where they point to nothing.
    #[must_use]
    pub fn discount_of(customer: &Metadata) -> Option<DiscountId> {
        let text = customer.text(Self::POINTER)?;
        uuid::Uuid::try_parse(text).ok().map(DiscountId)
    }
}

impl Job for SyncStartupProgram {
    const KIND: &'static str = "sync_startup_program";

    fn unique_key(&self) -> Option<String> {
        Some(format!("{}/{}", Self::KIND, self.organization_id))
    }

    /// The customer's own: both write its metadata.
    fn ordering_key(&self) -> Option<String> {
        Some(format!("{}{}", SyncCustomer::KEYS, self.organization_id))
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let polar = match client_for(context, self.organization_id) {
            Ok(polar) => polar,
            Err(reason) => return Ok(Done::ignored(reason)),
        };
        let Some(wanted) = startup_programs::read(&context.pool, self.organization_id).await?
        else {
            return Ok(Done::ignored("nobody ordered anything"));
        };
        if wanted.done_version >= wanted.version {
            return Ok(Done::ignored("it was carried out before"));
        }
        let run = Run {
            context,
            polar,
            organization: self.organization_id,
            external_id: self.organization_id.to_string(),
            wanted,
        };
        let customers = polar.customers();
        let customer = customers
            .get_by_external_id(&run.external_id)
            .await
            .or_absent()?;
        let ended = match customer {
            Some(customer) if run.wanted.invited => run.invite(&customer).await,
            Some(customer) => run.revoke(&customer).await,
            None => run.refuse("the organization is no customer at Polar").await,
        };
        match ended {
            // A job that waits for the scope would block the customer's own sync meanwhile.
            Err(Error::Polar(error)) if error.lacks_scope() => {
                Ok(Done::ignored(format!("{error}; tried again every hour")))
            }
            ended => ended,
        }
    }
}

struct Run<'a> {
    context: &'a Context,
    polar: &'a polar::Client,
    organization: OrganizationId,
    external_id: String,
    wanted: Wanted,
}

impl Run<'_> {
    /// A live invitation is kept; a dead one is replaced.
    async fn invite(&self, customer: &Customer) -> Result<Done, Error> {
        let pointed = self
            .discount(SyncStartupProgram::discount_of(&customer.metadata))
            .await?;
        let found = match pointed {
            Some(discount) => discount,
            None => {
                let discount = self.made(customer).await?;
                let mut metadata = customer.metadata.clone();
                let value = MetadataValue::Text(discount.id.to_string());
                metadata.insert(SyncStartupProgram::POINTER.to_owned(), value);
                self.write(metadata).await?;
                discount
            }
        };
        let discount = found.id;
        let recipients = match found.is_redeemed() {
            true => Vec::new(),
            false => {
                let (pool, organization) = (&self.context.pool, self.organization);
                billing_contacts(pool, self.polar, organization, customer.id).await?
            }
        };
        let welcome = NewMail {
            template: Template::StartupWelcome,
            recipients,
            organization: Some(self.organization),
            order: None,
            subscription: None,
            occasion: discount.to_string(),
            data: MailData {
                organization: customer.name.clone().unwrap_or_default(),
                ..MailData::default()
            },
        };
        let mut transaction = self.context.begin().await?;
        let jobs = SendEmail::request(&mut transaction, &welcome).await?;
        let (organization, version) = (self.organization, self.wanted.version);
        startup_programs::done(
            &mut transaction,
            organization,
            version,
            Some(discount),
            None,
        )
        .await?;
        Ok(Done::applied().then(jobs).within(transaction))
    }

    /// The discount of an earlier run that stopped before it could point to it, or whose customer has been made
    /// anew since; or a new one.
    async fn made(&self, customer: &Customer) -> Result<Discount, Error> {
        if let Some(discount) = self.discount(self.wanted.discount).await? {
            return Ok(discount);
        }
        let name = customer.name.as_deref().unwrap_or("customer");
        let metadata = Metadata::from_iter([
            (SyncStartupProgram::MARK, "true".to_owned()),
            ("customer_id", customer.id.to_string()),
        ]);
        let new =
            NewDiscount::everything_once(format!("Startup Program: {name}"), MONTHS, metadata);
        let discount = self.polar.discounts().create(&new).await?;
        startup_programs::made(&self.context.pool, self.organization, discount.id).await?;
        Ok(discount)
    }

    /// Leaves an invitation that was used; deletes one that was not.
    async fn revoke(&self, customer: &Customer) -> Result<Done, Error> {
        let pointed = SyncStartupProgram::discount_of(&customer.metadata);
        let known = [pointed, self.wanted.discount];
        for id in known.into_iter().flatten() {
            let Some(discount) = self.discount(Some(id)).await? else {
                continue;
            };
            if discount.is_redeemed() {
                return self.refuse("the invitation was used").await;
            }
            self.polar.discounts().delete(id).await.or_absent()?;
        }
        if customer.metadata.contains_key(SyncStartupProgram::POINTER) {
            let mut metadata = customer.metadata.clone();
            metadata.remove(SyncStartupProgram::POINTER);
            self.write(metadata).await?;
        }
        let mut transaction = self.context.begin().await?;
        let (organization, version) = (self.organization, self.wanted.version);
        startup_programs::done(&mut transaction, organization, version, None, None).await?;
        Ok(Done::applied().within(transaction))
    }

    async fn refuse(&self, reason: &str) -> Result<Done, Error> {
        let mut transaction = self.context.begin().await?;
        let (organization, version) = (self.organization, self.wanted.version);
        let discount = self.wanted.discount;
        startup_programs::done(
            &mut transaction,
            organization,
            version,
            discount,
            Some(reason),
        )
        .await?;
        Ok(Done::ignored(reason).within(transaction))
    }

    async fn discount(&self, id: Option<DiscountId>) -> Result<Option<Discount>, polar::Error> {
        match id {
            Some(id) => self.polar.discounts().get(id).await.or_absent(),
            None => Ok(None),
        }
    }

    /// All of it, for Polar deletes what is left out (docs/polar-facts.md#metadata-replaced).
    async fn write(&self, metadata: Metadata) -> Result<(), polar::Error> {
        let update = CustomerUpdate {
            metadata: Some(metadata),
            ..CustomerUpdate::default()
        };
        let customers = self.polar.customers();
        let written = customers.update_by_external_id(&self.external_id, &update);
        written.await.map(drop)
    }
}
