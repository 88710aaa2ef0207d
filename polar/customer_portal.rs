//! The customer portal: what a member sees and changes of the customer, with the token of a
//! [`CustomerSession`] in place of ours. Polar checks the member's role.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    BenefitGrantId, BenefitId, BenefitType, Client, CustomerSession, Error, Operation,
    PaymentMethodId,
    call::Call,
    lenient::or_default,
    page::{self, Identified},
};

const ME: Operation = Operation::get("/v1/customer-portal/customers/me");
const UPDATE_ME: Operation = Operation::patch("/v1/customer-portal/customers/me");
const PAYMENT_METHODS: Operation =
    Operation::get("/v1/customer-portal/customers/me/payment-methods");
const DELETE_PAYMENT_METHOD: Operation =
    Operation::delete("/v1/customer-portal/customers/me/payment-methods/{id}");
const GRANTS: Operation = Operation::get("/v1/customer-portal/benefit-grants/");
const UPDATE_GRANT: Operation = Operation::patch("/v1/customer-portal/benefit-grants/{id}");

/// The customer as its members see it.
#[derive(Clone, Deserialize)]
pub struct PortalCustomer {
    /// Whom invoices are made out to.
    #[serde(default, deserialize_with = "or_default")]
    pub billing_name: Option<String>,
    /// Where invoices go.
    #[serde(default, deserialize_with = "or_default")]
    pub billing_address: Option<BillingAddress>,
    /// The tax id and the name of its format (docs/polar-facts.md#tax-id).
    #[serde(default, deserialize_with = "or_default")]
    pub tax_id: Option<Vec<Value>>,
    /// What renewals are paid with.
    #[serde(default, deserialize_with = "or_default")]
    pub default_payment_method_id: Option<PaymentMethodId>,
}

/// Where invoices go.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillingAddress {
    /// Street and number.
    #[serde(default)]
    pub line1: Option<String>,
    /// More of it.
    #[serde(default)]
    pub line2: Option<String>,
    /// Postal code.
    #[serde(default)]
    pub postal_code: Option<String>,
    /// City.
    #[serde(default)]
    pub city: Option<String>,
    /// State or province, such as `US-CA`.
    #[serde(default)]
    pub state: Option<String>,
    /// Two letters.
    pub country: String,
}

/// A means of payment of the customer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PaymentMethod {
    /// Polar's id.
    pub id: PaymentMethodId,
    /// `card`, or another kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// What is known of a card; absent otherwise.
    #[serde(default, deserialize_with = "or_default")]
    pub method_metadata: Option<Card>,
}

/// What people know a card by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Card {
    /// `visa`, ..
    pub brand: String,
    /// Its last four digits.
    pub last4: String,
    /// The month in which it expires, 1 to 12.
    pub exp_month: i32,
    /// The year.
    pub exp_year: i32,
}

/// A benefit that the member holds, with what is particular to its kind.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PortalGrant {
    /// Polar's id.
    pub id: BenefitGrantId,
    /// Which benefit.
    pub benefit_id: BenefitId,
    /// Whether it is held now.
    #[serde(default, deserialize_with = "or_default")]
    pub is_granted: bool,
    /// When it was made.
    #[serde(default, deserialize_with = "or_default")]
    pub created_at: Option<DateTime<Utc>>,
    /// Why it could not be granted.
    #[serde(default, deserialize_with = "or_default")]
    pub error: Option<GrantError>,
    /// Of which benefit.
    pub benefit: PortalBenefit,
    /// What is particular to a Slack channel; empty for other kinds.
    #[serde(default, deserialize_with = "or_default")]
    pub properties: SlackProperties,
}

/// A benefit as its holders see it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PortalBenefit {
    /// The kind.
    #[serde(rename = "type")]
    pub kind: BenefitType,
    /// What people read.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
}

/// Why a benefit could not be granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct GrantError {
    /// In Polar's words.
    #[serde(default, deserialize_with = "or_default")]
    pub message: Option<String>,
}

/// A shared Slack channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SlackProperties {
    /// Who was invited.
    #[serde(default, deserialize_with = "or_default")]
    pub invited_email: Option<String>,
    /// The channel's name.
    #[serde(default, deserialize_with = "or_default")]
    pub channel_name: Option<String>,
    /// Where the invitation is taken.
    #[serde(default, deserialize_with = "or_default")]
    pub invite_url: Option<String>,
    /// The team that took it; absent until then.
    #[serde(default, deserialize_with = "or_default")]
    pub connected_team_id: Option<String>,
}

#[derive(Serialize)]
struct SlackUpdate<'a> {
    benefit_type: &'static str,
    properties: SlackInvitation<'a>,
}

#[derive(Serialize)]
struct SlackInvitation<'a> {
    invited_email: &'a str,
}

#[derive(Serialize)]
struct DefaultPaymentMethod {
    default_payment_method_id: PaymentMethodId,
}

impl Identified for PaymentMethod {
    fn id(&self) -> Uuid {
        self.id.0
    }
}

impl Identified for PortalGrant {
    fn id(&self) -> Uuid {
        self.id.0
    }
}

/// The operations of one member; see [`Client::customer_portal`].
#[derive(Clone, Copy)]
pub struct CustomerPortal<'a> {
    pub(crate) client: &'a Client,
    pub(crate) session: &'a CustomerSession,
}

impl CustomerPortal<'_> {
    fn call(self, operation: Operation) -> Call {
        Call::new(operation).token(self.session.token.clone())
    }

    /// The customer.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn customer(self) -> Result<PortalCustomer, Error> {
        self.client.fetch(self.call(ME)).await
    }

    /// Changes the billing details that `details` names: any of `billing_name`, `billing_address` and
    /// `tax_id`; null is told apart from absence.
    ///
    /// # Errors
    /// `Invalid` with the refused fields, `Forbidden` for a member without the role.
    pub async fn update_billing_details(
        self,
        details: &impl Serialize,
    ) -> Result<PortalCustomer, Error> {
        self.client.fetch(self.call(UPDATE_ME).json(details)).await
    }

    /// Chooses what renewals are paid with.
    ///
    /// # Errors
    /// `Invalid` when there is no such payment method (422, not 404; docs/polar-facts.md#default-payment-method).
    pub async fn set_default_payment_method(self, id: PaymentMethodId) -> Result<(), Error> {
        let update = DefaultPaymentMethod {
            default_payment_method_id: id,
        };
        self.client
            .perform(self.call(UPDATE_ME).json(&update))
            .await
    }

    /// All payment methods.
    ///
    /// # Errors
    /// `Forbidden` for a member without the role.
    pub async fn payment_methods(self) -> Result<Vec<PaymentMethod>, Error> {
        page::all(self.client, || self.call(PAYMENT_METHODS)).await
    }

    /// Removes a payment method.
    ///
    /// # Errors
    /// `NotFound` when there is none, `Unexpected` with the name `PaymentMethodInUseByActiveSubscription`
    /// when a subscription needs it.
    pub async fn delete_payment_method(self, id: PaymentMethodId) -> Result<(), Error> {
        self.client
            .perform(self.call(DELETE_PAYMENT_METHOD).argument(id))
            .await
    }

    /// The member's grants of shared Slack channels.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn slack_grants(self) -> Result<Vec<PortalGrant>, Error> {
        let kind = BenefitType::SlackSharedChannel;
        let mut grants: Vec<PortalGrant> = page::all(self.client, || {
            self.call(GRANTS).query("type", kind.as_str())
        })
        .await?;
        grants.retain(|grant| grant.benefit.kind == kind);
        Ok(grants)
    }

    /// Invites somebody into the channel of a grant.
    ///
    /// # Errors
    /// `NotFound` when there is no such grant, `Invalid` for an address that Polar does not take.
    pub async fn invite_to_slack(
        self,
        id: BenefitGrantId,
        invited_email: &str,
    ) -> Result<PortalGrant, Error> {
        let update = SlackUpdate {
            benefit_type: "slack_shared_channel",
            properties: SlackInvitation { invited_email },
        };
        let call = self.call(UPDATE_GRANT).argument(id).json(&update);
        self.client.fetch(call).await
    }
}
