//! The six operations, as Plain carries them out. A mutation that cannot be done says so in `error`, with status 200.

use serde_json::{Map, Value, json};

use super::store::{Customer, PlainStore, Tenant};

/// A refusal: Plain's code and its words.
pub(in crate::plain) struct Refused(
    pub(in crate::plain) &'static str,
    pub(in crate::plain) &'static str,
);

/// The result of a mutation, or why there is none.
type Outcome = Result<Value, Refused>;

const INVALID: Refused = Refused(
    "input_validation",
    "The provided input failed validation. See field errors for details.",
);

/// Whether an operation is known, and whether it is a mutation.
pub(in crate::plain) fn is_mutation(operation: &str) -> Option<bool> {
    match operation {
        "__typename" | "customerByEmail" => Some(false),
        "upsertCustomer"
        | "upsertTenant"
        | "updateTenantTier"
        | "addCustomerToTenants"
        | "removeCustomerFromTenants" => Some(true),
        _ => None,
    }
}

/// Everything that the operation could answer; what was selected of it is chosen elsewhere.
pub(in crate::plain) fn perform(
    store: &mut PlainStore,
    operation: &str,
    variables: &Value,
) -> (Value, Option<&'static str>) {
    let input = &variables["input"];
    let outcome = match operation {
        "customerByEmail" => return (by_email(store, variables), None),
        "upsertCustomer" => upsert_customer(store, input),
        "upsertTenant" => upsert_tenant(store, input),
        "updateTenantTier" => update_tenant_tier(store, input),
        "addCustomerToTenants" => change_membership(store, input, true),
        "removeCustomerFromTenants" => change_membership(store, input, false),
        _ => return (json!("Query"), None),
    };
    match outcome {
        Ok(result) => (result, None),
        Err(refused) => (refusal(&refused), Some(refused.0)),
    }
}

/// The answer of any mutation that was refused.
pub(in crate::plain) fn refusal(Refused(code, message): &Refused) -> Value {
    let kind = match *code {
        "forbidden" => "FORBIDDEN",
        "internal" => "INTERNAL",
        _ => "VALIDATION",
    };
    json!({
        "result": null, "customer": null, "tenant": null,
        "error": {"message": message, "type": kind, "code": code, "fields": []},
    })
}

fn customer_view(row: &Customer) -> Value {
    json!({"id": row.id, "externalId": row.external_id, "fullName": row.full_name})
}

fn by_email(store: &PlainStore, variables: &Value) -> Value {
    let email = variables["email"].as_str().unwrap_or_default();
    let found = store.by_email(email);
    found.map_or(Value::Null, |at| customer_view(&store.customers[at]))
}

/// An identifier has exactly one of its keys.
fn identifier<'a>(value: &'a Value, keys: &[&str]) -> Result<(&'a str, &'a str), Refused> {
    let object = value.as_object().filter(|object| object.len() == 1);
    let (key, value) = object
        .and_then(|object| object.iter().next())
        .ok_or(INVALID)?;
    let value = value.as_str().filter(|text| !text.is_empty());
    match value.filter(|_| keys.contains(&&**key)) {
        Some(value) => Ok((key, value)),
        None => Err(INVALID),
    }
}

fn find_customer(store: &PlainStore, value: &Value) -> Result<Option<usize>, Refused> {
    let keys = ["externalId", "emailAddress", "customerId"];
    Ok(match identifier(value, &keys)? {
        ("externalId", id) => store.by_external_id(id),
        ("emailAddress", email) => store.by_email(email),
        (_, id) => store.customers.iter().position(|row| row.id == id),
    })
}

fn address(value: &Value) -> Result<&str, Refused> {
    let email = value["email"].as_str().filter(|text| text.contains('@'));
    let email = email.filter(|_| value["isVerified"].is_boolean());
    email.ok_or(INVALID)
}

fn upsert_customer(store: &mut PlainStore, input: &Value) -> Outcome {
    let found = find_customer(store, &input["identifier"])?;
    let (external_id, email, full_name) = match found {
        Some(_) => {
            let change = &input["onUpdate"];
            let external_id = change["externalId"]["value"].as_str();
            (
                external_id.map(str::to_owned),
                address(&change["email"])?,
                "",
            )
        }
        None => {
            let new = &input["onCreate"];
            let name = new["fullName"].as_str().ok_or(INVALID)?;
            let external_id = new["externalId"].as_str();
            (
                external_id.map(str::to_owned),
                address(&new["email"])?,
                name,
            )
        }
    };
    let other = |at: Option<usize>| at.is_some_and(|at| Some(at) != found);
    if other(store.by_email(email)) {
        let words = "A customer with this email already exists in the workspace.";
        return Err(Refused("customer_already_exists_with_email", words));
    }
    if external_id
        .as_deref()
        .is_some_and(|id| other(store.by_external_id(id)))
    {
        let words = "A customer with this external id already exists in the workspace.";
        return Err(Refused("customer_already_exists_with_external_id", words));
    }
    let (at, result) = match found {
        Some(at) => {
            let row = &mut store.customers[at];
            let before = (row.external_id.clone(), row.email.clone());
            row.external_id = external_id.or(row.external_id.take());
            email.clone_into(&mut row.email);
            let same = before == (row.external_id.clone(), row.email.clone());
            (at, if same { "NOOP" } else { "UPDATED" })
        }
        None => {
            store.enter(email, external_id.as_deref());
            let at = store.customers.len() - 1;
            full_name.clone_into(&mut store.customers[at].full_name);
            (at, "CREATED")
        }
    };
    Ok(json!({"result": result, "customer": customer_view(&store.customers[at]), "error": null}))
}

fn upsert_tenant(store: &mut PlainStore, input: &Value) -> Outcome {
    let (_, id) = identifier(&input["identifier"], &["externalId"])?;
    let name = input["name"].as_str().filter(|name| !name.is_empty());
    let name = name.filter(|_| input["externalId"].as_str() == Some(id));
    let name = name.ok_or(INVALID)?.to_owned();
    let fresh = store.fresh_id("te");
    let row = store.tenants.entry(id.to_owned()).or_insert(Tenant {
        id: fresh,
        name: String::new(),
        tier: None,
    });
    row.name = name;
    let tier = row
        .tier
        .as_ref()
        .map(|tier| json!({"id": format!("tier_{tier}"), "externalId": tier}));
    let tenant = json!({"id": row.id, "externalId": id, "name": row.name, "tier": tier});
    Ok(json!({"result": "UPDATED", "tenant": tenant, "error": null}))
}

fn update_tenant_tier(store: &mut PlainStore, input: &Value) -> Outcome {
    let (_, tenant) = identifier(&input["tenantIdentifier"], &["externalId"])?;
    let tier = match &input["tierIdentifier"] {
        Value::Null => None,
        given => Some(identifier(given, &["externalId"])?.1.to_owned()),
    };
    if tier.as_deref().is_some_and(|tier| !store.has_tier(tier)) {
        return Err(Refused("not_found", "Tier not found"));
    }
    if !store.tenants.contains_key(tenant) {
        return Err(Refused("not_found", "Tenant not found"));
    }
    store.assign(tenant, tier);
    Ok(json!({"tenant": null, "error": null}))
}

fn change_membership(store: &mut PlainStore, input: &Value, belongs: bool) -> Outcome {
    let found = find_customer(store, &input["customerIdentifier"])?;
    let tenants = input["tenantIdentifiers"].as_array().ok_or(INVALID)?;
    let mut ids = Vec::new();
    for tenant in tenants {
        ids.push(identifier(tenant, &["externalId"])?.1.to_owned());
    }
    let at = found.ok_or(Refused("not_found", "Customer not found"))?;
    if ids.iter().any(|id| !store.tenants.contains_key(id)) {
        return Err(Refused("not_found", "Tenant not found"));
    }
    let row = &mut store.customers[at];
    for id in ids {
        if belongs {
            row.tenants.insert(id);
        } else {
            row.tenants.remove(&id);
        }
    }
    Ok(Value::Object(Map::from_iter([
        ("customer".to_owned(), customer_view(row)),
        ("error".to_owned(), Value::Null),
    ])))
}
