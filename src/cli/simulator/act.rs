//! What can be made to happen in a running simulator from another shell.

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::output::{self, Format};
use super::super::span::Span;
use super::super::{AppContext, Exit, Failure};
use super::remote::{Remote, Target};

/// The acts.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Let people or Polar do something to an organization's subscription
    #[command(subcommand)]
    Trigger(Occasion),
    /// Let Polar's API fail: for one customer, or for everybody
    Fail(Fail),
    /// Make the access token unknown, as if somebody had revoked it at Polar
    RevokeToken(RevokeToken),
    /// Say what the simulated clock says, or move it forward: renewals and ends happen on the way
    Clock(Clock),
    /// Show the customers there, or with `--format json` everything
    State(State),
}

/// Something that happens at Polar.
#[derive(Subcommand)]
pub(super) enum Occasion {
    /// Buy a plan: checkout and payment
    Purchase(Purchase),
    /// Change to another plan at once, paid
    ChangePlan(ChangePlan),
    /// The period turns and is paid for
    Renew(Customer),
    /// Cancel for the period's end
    Cancel(Customer),
    /// Take the cancellation back
    Uncancel(Customer),
    /// The period turns and the charge fails
    PastDue(Customer),
    /// The failed charge is made good
    Recover(Customer),
    /// Nobody ever paid: access ends
    Unpaid(Customer),
    /// End the subscription at once
    Revoke(Customer),
    /// Pause it: benefits are withdrawn
    Pause(Customer),
    /// End the pause, charged at once
    Resume(Customer),
    /// Edit fields of a benefit that the organization holds: fees, a support level
    UpdateBenefit(UpdateBenefit),
}

/// Whose subscription.
#[derive(Args)]
pub(super) struct Customer {
    /// The organization, by the application's id or the name that the simulator has of it
    #[arg(long, value_name = "ORGANIZATION")]
    organization: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(super) struct Purchase {
    #[command(flatten)]
    customer: Customer,
    /// The plan: pro, growth, scale or free
    #[arg(long, default_value = "pro", value_parser = ["pro", "growth", "scale", "free"])]
    product: String,
    /// How it begins
    #[arg(long, default_value = "active", value_parser = ["active", "trial", "incomplete"])]
    start: String,
}

#[derive(Args)]
pub(super) struct ChangePlan {
    #[command(flatten)]
    customer: Customer,
    /// The new plan: pro, growth, scale or free
    #[arg(long, value_parser = ["pro", "growth", "scale", "free"])]
    product: String,
}

#[derive(Args)]
pub(super) struct UpdateBenefit {
    #[command(flatten)]
    customer: Customer,
    /// The benefit's metadata type, such as `transaction_fee` or support
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    /// A field and its new value, such as `fee_percent=300`; may be given several times
    #[arg(long = "set", value_name = "FIELD=VALUE", required = true, value_parser = field)]
    fields: Vec<(String, Value)>,
}

#[derive(Args)]
pub(super) struct Fail {
    /// Whose calls fail, by the application's id or Polar's; without it everybody's
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// The status of the answers
    #[arg(long, value_name = "CODE", default_value_t = 500, value_parser = clap::value_parser!(u16).range(400..600))]
    status: u16,
    /// For how long, such as 2m; without it until `--stop`
    #[arg(long = "for", value_name = "SPAN")]
    lasting: Option<Span>,
    /// End all failures that were asked for
    #[arg(long, conflicts_with_all = ["customer", "status", "lasting"])]
    stop: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(super) struct RevokeToken {
    /// Make it good again
    #[arg(long)]
    restore: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(super) struct Clock {
    /// How far forward, such as +30d or 12h
    #[arg(value_name = "SPAN")]
    by: Option<Span>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(super) struct State {
    /// A table of the customers, or everything as JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    target: Target,
}

/// `FIELD=VALUE`: the value is JSON where it reads as a number or a boolean, else text.
fn field(text: &str) -> Result<(String, Value), &'static str> {
    let (name, value) = text
        .split_once('=')
        .ok_or("a field is written FIELD=VALUE")?;
    let value = match serde_json::from_str(value) {
        Ok(read @ (Value::Number(_) | Value::Bool(_))) => read,
        _ => Value::from(value),
    };
    Ok((name.to_owned(), value))
}

pub(super) async fn run(command: Command, app: &AppContext) -> Result<Exit, Failure> {
    match command {
        Command::Trigger(occasion) => trigger(occasion, app).await?,
        Command::Fail(fail) => self::fail(fail, app).await?,
        Command::RevokeToken(RevokeToken { restore, target }) => {
            let remote = Remote::find(&target, app)?;
            remote.post("token", &json!({"revoked": !restore})).await?;
            output::line(if restore {
                "the access token is good again; work that waited goes on within a minute"
            } else {
                "the access token is unknown now; `--restore` makes it good again"
            })?;
        }
        Command::Clock(clock) => self::clock(clock, app).await?,
        Command::State(State { format, target }) => {
            let state = Remote::find(&target, app)?.get("state").await?;
            match format {
                Format::Json => output::json(&state)?,
                Format::Table => customers(&state)?,
            }
        }
    }
    Ok(Exit::Done)
}

async fn trigger(occasion: Occasion, app: &AppContext) -> Result<(), Failure> {
    let (customer, step, body) = match occasion {
        Occasion::Purchase(Purchase {
            customer,
            product,
            start,
        }) => {
            let remote = Remote::find(&customer.target, app)?;
            let id = id_of(&remote, &customer.organization).await?;
            let body = json!({"external_customer_id": id, "product": product, "start": start});
            return happened("purchase", &remote.post("purchase", &body).await?);
        }
        Occasion::ChangePlan(ChangePlan { customer, product }) => {
            (customer, "change_plan", json!({"product": product}))
        }
        Occasion::UpdateBenefit(UpdateBenefit {
            customer,
            kind,
            fields,
        }) => {
            let metadata: Map<String, Value> = fields.into_iter().collect();
            (
                customer,
                "benefit",
                json!({"type": kind, "metadata": metadata}),
            )
        }
        Occasion::Renew(customer) => (customer, "renew", Value::Null),
        Occasion::Cancel(customer) => (customer, "cancel", Value::Null),
        Occasion::Uncancel(customer) => (customer, "uncancel", Value::Null),
        Occasion::PastDue(customer) => (customer, "past_due", Value::Null),
        Occasion::Recover(customer) => (customer, "recover", Value::Null),
        Occasion::Unpaid(customer) => (customer, "unpaid", Value::Null),
        Occasion::Revoke(customer) => (customer, "revoke", Value::Null),
        Occasion::Pause(customer) => (customer, "pause", Value::Null),
        Occasion::Resume(customer) => (customer, "resume", Value::Null),
    };
    let remote = Remote::find(&customer.target, app)?;
    let id = id_of(&remote, &customer.organization).await?;
    let path = format!("customers/{id}/{step}");
    happened(step, &remote.post(&path, &body).await?)
}

/// A customer as the simulator's state shows it.
#[derive(Deserialize)]
struct Named {
    external_id: Option<String>,
    name: Option<String>,
}

/// The application's id of an organization that is named by it, or by its name there.
async fn id_of(remote: &Remote, organization: &str) -> Result<Uuid, Failure> {
    if let Ok(id) = Uuid::parse_str(organization) {
        return Ok(id);
    }
    let mut state = remote.get("state").await?;
    let customers: Vec<Named> = serde_json::from_value(state["customers"].take())?;
    let named = customers
        .into_iter()
        .filter(|customer| customer.name.as_deref() == Some(organization))
        .filter_map(|customer| Uuid::parse_str(customer.external_id.as_deref()?).ok());
    match named.collect::<Vec<_>>().as_slice() {
        [id] => Ok(*id),
        [] => Err(Failure::failed(format!(
            "no customer has the name {organization:?}; `simulator state` shows those there are"
        ))),
        [_, _, ..] => Err(Failure::failed(format!(
            "several customers have the name {organization:?}: name one by its id, which `simulator state` shows"
        ))),
    }
}

fn happened(what: &str, answer: &Value) -> Result<(), Failure> {
    let (of, id) = match &answer["subscription_id"] {
        Value::String(id) => ("subscription", id.as_str()),
        _ => ("benefit", answer["benefit_id"].as_str().unwrap_or_default()),
    };
    output::line(&format!(
        "{what}: {of} {id}; Polar delivers what follows from it"
    ))
}

async fn fail(fail: Fail, app: &AppContext) -> Result<(), Failure> {
    let remote = Remote::find(&fail.target, app)?;
    if fail.stop {
        remote.post("fail", &json!({"customer": null})).await?;
        return output::line("nobody's calls fail any more");
    }
    let seconds = fail.lasting.map(|Span(span)| span.as_secs());
    let customer = fail.customer.as_deref();
    let body =
        json!({"customer": customer.unwrap_or("*"), "status": fail.status, "seconds": seconds});
    let answer = remote.post("fail", &body).await?;
    let whose = customer.map_or("every call".to_owned(), |id| {
        format!("every call about {id}")
    });
    let until = seconds.map_or("until `fail --stop`".to_owned(), |n| format!("for {n} s"));
    output::line(&format!("{whose} is answered {} {until}", fail.status))?;
    if answer["known"] == false {
        output::line(
            "no customer has this id now: it fails for the one that gets it; `simulator state` shows those there are",
        )?;
    }
    Ok(())
}

async fn clock(clock: Clock, app: &AppContext) -> Result<(), Failure> {
    let remote = Remote::find(&clock.target, app)?;
    let now = match clock.by {
        Some(Span(by)) => remote
            .post("advance", &json!({"seconds": by.as_secs()}))
            .await?["now"]
            .take(),
        None => remote.get("state").await?["now"].take(),
    };
    output::line(now.as_str().unwrap_or_default())
}

fn customers(state: &Value) -> Result<(), Failure> {
    let none = Vec::new();
    let list = |value: &'_ Value| value.as_array().map_or(0, Vec::len);
    let customers = state["customers"].as_array().unwrap_or(&none);
    output::table(
        [
            "organization",
            "name",
            "plan",
            "subscription",
            "members",
            "grants",
        ],
        customers.iter().map(|customer| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let newest = customer["subscriptions"]
                .as_array()
                .and_then(|all| all.last());
            let newest = newest.unwrap_or(&Value::Null);
            let granted = customer["grants"].as_array().unwrap_or(&none);
            let granted = granted
                .iter()
                .filter(|grant| grant["is_granted"] == true)
                .count();
            [
                text(&customer["external_id"]),
                text(&customer["name"]),
                text(&newest["product"]["name"]),
                text(&newest["status"]),
                list(&customer["members"]).to_string(),
                granted.to_string(),
            ]
        }),
    )?;
    let deliveries = list(&state["deliveries"]);
    let settled = if state["deliveries_finished"] == true {
        "all answered"
    } else {
        "some under way"
    };
    let now = state["now"].as_str().unwrap_or_default();
    let events = list(&state["events"]);
    output::line(&format!(
        "clock {now}; {events} events; {deliveries} deliveries, {settled}"
    ))
}
