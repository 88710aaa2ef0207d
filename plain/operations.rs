//! The six operations. Each selects only what is read, and `error`, which can be set although the
//! status is 200.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Client, Error};

/// What was asked of Plain; never holds ids or addresses, so it is safe in logs and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A question about nobody.
    Probe,
    /// `customerByEmail`
    CustomerByEmail,
    /// `upsertCustomer`
    UpsertCustomer,
    /// `upsertTenant`
    UpsertTenant,
    /// `updateTenantTier`
    UpdateTenantTier,
    /// `addCustomerToTenants`
    AddCustomerToTenants,
    /// `removeCustomerFromTenants`
    RemoveCustomerFromTenants,
}

impl Operation {
    /// The name at Plain.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Probe => "__typename",
            Self::CustomerByEmail => "customerByEmail",
            Self::UpsertCustomer => "upsertCustomer",
            Self::UpsertTenant => "upsertTenant",
            Self::UpdateTenantTier => "updateTenantTier",
            Self::AddCustomerToTenants => "addCustomerToTenants",
            Self::RemoveCustomerFromTenants => "removeCustomerFromTenants",
        }
    }

    /// Whether it may change something at Plain.
    #[must_use]
    pub fn changes(self) -> bool {
        !matches!(self, Self::Probe | Self::CustomerByEmail)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plain {}", self.name())
    }
}

/// A person at Plain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Customer {
    /// Plain's id.
    pub id: String,
    /// Our id of the user.
    #[serde(default)]
    pub external_id: Option<String>,
}

/// An organization at Plain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// Plain's id.
    pub id: String,
    /// The level of support it gets.
    #[serde(default)]
    pub tier: Option<Tier>,
}

/// A level of support.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tier {
    /// Plain's id.
    pub id: String,
    /// The id that we, or whoever made it, gave it.
    #[serde(default)]
    pub external_id: Option<String>,
}

/// By what a person is found before being changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustomerKey {
    /// Our id; made where nobody has it.
    ExternalId,
    /// The address, whoever has it.
    EmailAddress,
}

const ERROR: &str = "error { message type code fields { field message type } }";

impl Client {
    /// Returns the person with this address, if there is one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn customer_by_email(&self, email: &str) -> Result<Option<Customer>, Error> {
        let operation = Operation::CustomerByEmail;
        let document = "query customerByEmail($email: String!) { customerByEmail(email: $email) { id externalId } }";
        let found = self
            .call(operation, document, &json!({"email": email}))
            .await?;
        match found {
            Value::Null => Ok(None),
            found => parse(operation, found).map(Some),
        }
    }

    /// Makes sure that somebody has our id and this address.
    ///
    /// # Errors
    /// `Refused` with `customer_already_exists_with_email` or `customer_already_exists_with_external_id`
    /// when two people at Plain would have to become one; else see [`Error`].
    pub async fn upsert_customer(
        &self,
        key: CustomerKey,
        external_id: &str,
        email: &str,
    ) -> Result<Customer, Error> {
        let operation = Operation::UpsertCustomer;
        let document = format!(
            "mutation upsertCustomer($input: UpsertCustomerInput!) {{ upsertCustomer(input: $input) {{ result customer {{ id externalId }} {ERROR} }} }}"
        );
        let identifier = match key {
            CustomerKey::ExternalId => json!({"externalId": external_id}),
            CustomerKey::EmailAddress => json!({"emailAddress": email}),
        };
        let address = json!({"email": email, "isVerified": false});
        let input = json!({
            "identifier": identifier,
            "onCreate": {"externalId": external_id, "fullName": email, "email": address},
            "onUpdate": {"externalId": {"value": external_id}, "email": address},
        });
        let result = self
            .call(operation, &document, &json!({"input": input}))
            .await?;
        parse(operation, part(result, "customer"))
    }

    /// Makes sure that an organization is there under this name; its tier stays.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn upsert_tenant(&self, external_id: &str, name: &str) -> Result<Tenant, Error> {
        let operation = Operation::UpsertTenant;
        let document = format!(
            "mutation upsertTenant($input: UpsertTenantInput!) {{ upsertTenant(input: $input) {{ tenant {{ id externalId tier {{ id externalId }} }} {ERROR} }} }}"
        );
        let input = json!({"identifier": {"externalId": external_id}, "name": name, "externalId": external_id});
        let result = self
            .call(operation, &document, &json!({"input": input}))
            .await?;
        parse(operation, part(result, "tenant"))
    }

    /// Gives an organization a tier, or takes it away.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn update_tenant_tier(&self, tenant: &str, tier: Option<&str>) -> Result<(), Error> {
        let document = format!(
            "mutation updateTenantTier($input: UpdateTenantTierInput!) {{ updateTenantTier(input: $input) {{ {ERROR} }} }}"
        );
        let tier = tier.map(|tier| json!({"externalId": tier}));
        let input = json!({"tenantIdentifier": {"externalId": tenant}, "tierIdentifier": tier});
        let variables = json!({"input": input});
        self.call(Operation::UpdateTenantTier, &document, &variables)
            .await?;
        Ok(())
    }

    /// Lets a person belong to an organization; one who does already is no error.
    ///
    /// # Errors
    /// `Refused` with `not_found` when one of the two is not there; else see [`Error`].
    pub async fn add_customer_to_tenant(&self, customer: &str, tenant: &str) -> Result<(), Error> {
        let document = format!(
            "mutation addCustomerToTenants($input: AddCustomerToTenantsInput!) {{ addCustomerToTenants(input: $input) {{ {ERROR} }} }}"
        );
        let variables = membership(customer, tenant);
        self.call(Operation::AddCustomerToTenants, &document, &variables)
            .await?;
        Ok(())
    }

    /// Lets a person no longer belong to an organization.
    ///
    /// # Errors
    /// `Refused` with `not_found` when one of the two is not there; else see [`Error`].
    pub async fn remove_customer_from_tenant(
        &self,
        customer: &str,
        tenant: &str,
    ) -> Result<(), Error> {
        let document = format!(
            "mutation removeCustomerFromTenants($input: RemoveCustomerFromTenantsInput!) {{ removeCustomerFromTenants(input: $input) {{ {ERROR} }} }}"
        );
        let variables = membership(customer, tenant);
        self.call(Operation::RemoveCustomerFromTenants, &document, &variables)
            .await?;
        Ok(())
    }
}

fn membership(customer: &str, tenant: &str) -> Value {
    json!({"input": {"customerIdentifier": {"externalId": customer}, "tenantIdentifiers": [{"externalId": tenant}]}})
}

/// A part of a result, whatever that is.
fn part(mut result: Value, name: &str) -> Value {
    result.get_mut(name).map(Value::take).unwrap_or_default()
}

/// Without an error there must be what was asked for.
fn parse<T: DeserializeOwned>(operation: Operation, value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|_| Error::Unreadable {
        operation,
        reason: "it has neither an error nor what was asked for",
    })
}
