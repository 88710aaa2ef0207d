//! What a customer may be made of and changed to; Polar refuses the rest with the places named.

use crate::resources::errors::{Fault, Refusal, at};
use crate::resources::validation::{self, join};
use crate::resources::validation::{keep, optional};
use crate::world::members::NewMember;
use crate::world::model::Customer;
use serde_json::{Map, Value};

/// A customer about to be made.
#[derive(Debug)]
pub(crate) struct NewCustomer {
    pub(crate) team: bool,
    pub(crate) name: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) external_id: Option<String>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) owner: NewMember,
}

impl NewCustomer {
    pub(crate) fn parse(body: &Value, tag: &'static str) -> Result<Self, Refusal> {
        let loc = at(&["body", tag]);
        let Some(object) = body.as_object() else {
            let message = "Input should be a valid dictionary or object to extract fields from";
            let fault = Fault::new("model_attributes_type", loc, message, body.clone());
            return Err(Refusal::schema(vec![fault]));
        };
        let mut faults = Vec::new();
        let name = keep(validation::optional_name(object, &loc), &mut faults).flatten();
        let external_id = optional(object, "external_id", &loc, usize::MAX, &mut faults);
        let email = email_of(object, tag, &loc, &mut faults);
        let metadata = object.get("metadata");
        let metadata = metadata
            .map(|value| validation::metadata(value, &join(&loc, &["metadata"]), &mut faults));
        let owner = owner_of(object, &loc, &mut faults);
        if !faults.is_empty() {
            return Err(Refusal::schema(faults));
        }
        let own = |email| NewMember {
            email,
            name: name.clone(),
            external_id: None,
        };
        let Some(mut owner) = owner.or(email.clone().map(own)) else {
            return Err(Refusal::schema(vec![ownerless(loc, body)]));
        };
        // An owner without an external id or a name gets the customer's.
        owner.external_id = owner.external_id.or_else(|| external_id.clone());
        owner.name = owner.name.or_else(|| name.clone());
        let metadata = metadata.unwrap_or_default();
        Ok(Self {
            team: tag == "team",
            name,
            email,
            external_id,
            metadata,
            owner,
        })
    }
}

fn ownerless(loc: Vec<Value>, body: &Value) -> Fault {
    let message = "An owner with an email address is required when creating a team customer \
                   without an email.";
    Fault::validator(loc, message, body.clone())
}

fn email_of(
    object: &Map<String, Value>,
    tag: &str,
    loc: &[Value],
    faults: &mut Vec<Fault>,
) -> Option<String> {
    match object.get("email") {
        None if tag == "individual" => {
            faults.push(Fault::missing(
                join(loc, &["email"]),
                Value::Object(object.clone()),
            ));
            None
        }
        None | Some(Value::Null) => None,
        Some(value) => keep(validation::email(value, join(loc, &["email"])), faults),
    }
}

fn owner_of(
    object: &Map<String, Value>,
    loc: &[Value],
    faults: &mut Vec<Fault>,
) -> Option<NewMember> {
    let owner = object.get("owner")?.as_object()?;
    let loc = join(loc, &["owner"]);
    let email = owner.get("email").filter(|email| !email.is_null())?;
    let email = keep(validation::email(email, join(&loc, &["email"])), faults)?;
    let name = keep(validation::optional_name(owner, &loc), faults)?;
    let external_id = keep(
        validation::optional_text(owner, "external_id", &loc, usize::MAX),
        faults,
    )?;
    Some(NewMember {
        email,
        name,
        external_id,
    })
}

/// What a PATCH changes; `None` leaves a field alone.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) name: Option<Option<String>>,
    pub(crate) email: Option<Option<String>>,
    pub(crate) metadata: Option<Map<String, Value>>,
    /// Only on the route by Polar's id: the external id of a customer that has none yet.
    pub(crate) external_id: Option<String>,
    /// Only on the route by Polar's id: `team` or `individual`.
    pub(crate) team: Option<bool>,
    pub(crate) others: Vec<(&'static str, Value)>,
}

impl Changes {
    /// Reads a PATCH; other fields, `external_id` among them, are ignored.
    pub(crate) fn parse(object: &Map<String, Value>) -> Result<Self, Refusal> {
        let mut faults = Vec::new();
        let mut changes = Self::default();
        if object.contains_key("name") {
            let name = validation::optional_name(object, &at(&["body"]));
            changes.name = keep(name, &mut faults);
        }
        changes.email = match object.get("email") {
            None => None,
            Some(Value::Null) => Some(None),
            Some(value) => keep(
                validation::email(value, at(&["body", "email"])),
                &mut faults,
            )
            .map(Some),
        };
        let metadata = |value| validation::metadata(value, &at(&["body", "metadata"]), &mut faults);
        changes.metadata = object.get("metadata").map(metadata);
        let others = ["billing_address", "tax_id", "locale"].into_iter();
        changes.others = others
            .filter_map(|key| Some((key, object.get(key)?.clone())))
            .collect();
        if faults.is_empty() {
            Ok(changes)
        } else {
            Err(Refusal::schema(faults))
        }
    }

    /// Reads a PATCH of the route by Polar's id, which takes two fields more.
    pub(crate) fn parse_by_id(object: &Map<String, Value>) -> Result<Self, Refusal> {
        let mut changes = Self::parse(object)?;
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        changes.external_id = text("external_id").map(str::to_owned);
        changes.team = text("type").map(|kind| kind == "team");
        Ok(changes)
    }

    /// Metadata is replaced as a whole.
    pub(crate) fn apply(self, row: &mut Customer) {
        if let Some(external_id) = self.external_id {
            row.external_id = Some(external_id);
        }
        if let Some(team) = self.team {
            row.team = team;
        }
        if let Some(name) = self.name {
            row.name = name;
        }
        if let Some(email) = self.email {
            row.email = email;
        }
        if let Some(metadata) = self.metadata {
            row.metadata = metadata;
        }
        for (key, value) in self.others {
            match key {
                "billing_address" => row.billing_address = value,
                "tax_id" => row.tax_id = value,
                _ => row.locale = value,
            }
        }
    }
}
