//! What the token may do. Each scope is tried by asking for things that do not exist: "not found" needs the
//! scope, and 403 names the lack of it. Nothing is changed by that.

use polar::{
    Client, CustomerRef, CustomerUpdate, Error, MemberUpdate, NewCheckout, SubscriptionUpdate,
};
use uuid::Uuid;

use super::Finding;
use crate::config::Config;

/// A scope, and how Polar refused what needs it; `None` where it did not.
type Tried = (&'static str, Option<Error>);

/// The scopes that jobs need, and those that the organizations API needs where it is served.
pub(super) async fn check(client: &Client, config: &Config) -> Vec<Finding> {
    let mut findings = vec![of_jobs(&jobs(client, config).await)];
    let (server, people) = (&config.http.app_token, &config.app.session_secret);
    if server.is_some() || people.is_some() {
        let tried = organizations_api(client).await;
        findings.push(of_api(&tried, people.is_some()));
    }
    findings
}

fn of_jobs(tried: &[Tried]) -> Finding {
    const ABOUT: &str = "scopes";
    if let Some(missing) = missing(tried) {
        let what = format!("the token lacks {missing}; the calls that need it are paused");
        let fix = "give the token these scopes in Polar; work goes on within a minute or two";
        return Finding::error(ABOUT, what, fix);
    }
    let fine = "customers, members, subscriptions, grants and events can be reached";
    unclear(ABOUT, tried).unwrap_or_else(|| Finding::ok(ABOUT, fine))
}

/// Whoever set a key for people's tokens shows them a billing page; with the application's token alone, which
/// changes need as well, there may be none.
fn of_api(tried: &[Tried], is_used: bool) -> Finding {
    const ABOUT: &str = "api-scopes";
    if let Some(missing) = missing(tried) {
        let what = format!("the token lacks {missing}, which the organizations API needs");
        return if is_used {
            Finding::error(ABOUT, what, "give the token these scopes in Polar")
        } else {
            let fix = "give the token these scopes in Polar before a billing page uses it";
            Finding::warning(ABOUT, what, fix)
        };
    }
    let fine = "what the organizations API asks for can be reached";
    unclear(ABOUT, tried).unwrap_or_else(|| Finding::ok(ABOUT, fine))
}

/// The names of the missing ones; `None` where none is.
fn missing(tried: &[Tried]) -> Option<String> {
    let lacks = |error: &Option<Error>| matches!(error, Some(Error::MissingScope { .. }));
    let missing: Vec<&str> = tried
        .iter()
        .filter(|(_, error)| lacks(error))
        .map(|(scope, _)| *scope)
        .collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// What could not be found out. A refusal of ids that name nothing is what was hoped for.
fn unclear(about: &'static str, tried: &[Tried]) -> Option<Finding> {
    let errors = tried.iter().filter_map(|(_, error)| error.as_ref());
    let mut unclear =
        errors.filter(|error| !matches!(error, Error::NotFound { .. } | Error::Invalid(_)));
    let error = unclear.next()?;
    Some(Finding::warning(about, error.to_string(), "try again"))
}

/// An empty batch of events is taken and stores nothing.
async fn jobs(client: &Client, config: &Config) -> Vec<Tried> {
    let (nobody, nothing) = (Uuid::new_v4().to_string(), Uuid::new_v4());
    let theirs = CustomerRef::External(&nobody);
    let (customers, members) = (client.customers(), client.members());
    let (customer, member) = (CustomerUpdate::default(), MemberUpdate::default());
    let read = customers.get_by_external_id(&nobody).await.err();
    let written = customers
        .update_by_external_id(&nobody, &customer)
        .await
        .err();
    let member_read = members.get(&nobody, &nobody).await.err();
    let member_written = members.update(&nobody, &nobody, &member).await.err();
    let subscriptions = client.subscriptions().all(theirs).await.err();
    let grants = client.benefit_grants().active(theirs).await.err();
    let events = client.events().ingest(&[]).await.err();
    let redelivered = client.webhook_endpoints().redeliver(nothing).await.err();
    let mut tried = vec![
        ("customers:read", read),
        ("customers:write", written),
        ("members:read", member_read),
        ("members:write", member_written),
        ("subscriptions:read", subscriptions),
        ("benefits:read", grants),
        ("events:write", events),
        ("webhooks:write", redelivered),
    ];
    if config.mail.is_some() {
        tried.push(("orders:read", orders(client).await));
    }
    if config.polar.scale_product.is_some() {
        let deleted = client.discounts().delete(nothing.into()).await.err();
        tried.push(("discounts:write", deleted));
    }
    tried
}

/// A checkout of a product, and a session of a customer, that do not exist are refused.
async fn organizations_api(client: &Client) -> Vec<Tried> {
    let (nobody, nothing) = (Uuid::new_v4().to_string(), Uuid::new_v4());
    let products = client.products().get(nothing.into()).await.err();
    let subscriptions = client.subscriptions();
    let resume = SubscriptionUpdate::RESUME;
    let changed = subscriptions.update(nothing.into(), &resume).await.err();
    let checkout = NewCheckout {
        products: vec![nothing.into()],
        external_customer_id: nobody.clone(),
        ..NewCheckout::default()
    };
    let checkout = client.checkouts().create(&checkout).await.err();
    let session = client.customer_sessions().create(&nobody, &nobody);
    vec![
        ("products:read", products),
        ("subscriptions:write", changed),
        ("checkouts:write", checkout),
        ("customer_sessions:write", session.await.err()),
        ("orders:read", orders(client).await),
    ]
}

async fn orders(client: &Client) -> Option<Error> {
    client.orders().get(Uuid::new_v4().into()).await.err()
}
