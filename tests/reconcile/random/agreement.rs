//! Whether our tables, Polar and what the application wants are the same, field by field.

use std::collections::BTreeSet;

use chrono::{DateTime, SubsecRound, Utc};
use simulator::records::SubscriptionRecord;
use sqlx::Row;
use uuid::Uuid;

use super::{Wanted, World, uuid};
use crate::test_app::PLATFORM;

/// User, address, name and role.
type Members = BTreeSet<(String, String, String, String)>;

/// Returns how many customers there are.
pub(super) async fn check(world: &World) -> usize {
    let mut customers = 0;
    for (id, wanted) in &world.organizations {
        let customer = world.app.simulator.customer(id);
        let about = format!("seed {}: organization {id}", world.seed);
        assert_eq!(customer.is_none(), wanted.deleted, "{about}");
        let Some(customer) = customer else {
            continue;
        };
        customers += 1;
        assert!(customer.team, "{about}");
        assert_eq!(customer.name.as_ref(), Some(&wanted.name), "{about}");
        assert_eq!(customer.metadata["slug"], wanted.slug.as_str(), "{about}");
        assert_eq!(
            at_polar(world, id),
            expected(world, wanted, at_polar_role),
            "{about}"
        );
        let ours = expected(world, wanted, |role| role);
        assert_eq!(in_tables(world, id).await, ours, "{about}");
        entitlements(world, id, &about).await;
        subscription(world, id, &about).await;
    }
    customers
}

fn at_polar_role(role: &'static str) -> &'static str {
    match role {
        "owner" => "owner",
        "admin" => "billing_manager",
        _ => "member",
    }
}

fn expected(
    world: &World,
    wanted: &Wanted,
    named: impl Fn(&'static str) -> &'static str,
) -> Members {
    let others = wanted.members.iter().map(|(person, role)| (person, *role));
    let all = others.chain([(&wanted.owner, "owner")]);
    all.map(|(id, role)| {
        let person = &world.people[id];
        (
            id.clone(),
            person.email.clone(),
            person.name.clone(),
            named(role).to_owned(),
        )
    })
    .collect()
}

fn at_polar(world: &World, organization: &str) -> Members {
    let members = world.app.simulator.members(organization).into_iter();
    members
        .map(|member| {
            (
                member.external_id.unwrap_or_default(),
                member.email,
                member.name.unwrap_or_default(),
                member.role,
            )
        })
        .collect()
}

async fn in_tables(world: &World, organization: &str) -> Members {
    let members: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT user_id::text, email, name, role FROM polar_jobs.members WHERE organization_id = $1 AND removed_at IS NULL",
    )
    .bind(uuid(organization))
    .fetch_all(&world.app.pool)
    .await
    .unwrap();
    members.into_iter().collect()
}

/// What the grants at Polar say, each read on its own.
async fn entitlements(world: &World, organization: &str, about: &str) {
    let grants = world.app.simulator.grants(organization);
    let held = |kind: &str| {
        let mut held = grants
            .iter()
            .filter(|grant| grant.is_granted && grant.benefit_type.as_deref() == Some(kind));
        let first = held.next().map(|grant| grant.metadata.clone());
        assert!(held.next().is_none(), "{about}: two grants of {kind}");
        first
    };
    let tier = held("support").map(|support| match support["level"].as_i64() {
        Some(2) => "pro",
        Some(3) => "growth",
        _ => "scale",
    });
    let fees = held("transaction_fee").map_or((PLATFORM.basis_points, PLATFORM.fixed), |fees| {
        let number = |name: &str| i32::try_from(fees[name].as_i64().unwrap()).unwrap();
        (number("fee_percent"), number("fee_fixed"))
    });
    let row = sqlx::query(
        "SELECT support_tier, preview_access, sso_enabled, fee_basis_points, fee_fixed
           FROM polar_jobs.entitlements JOIN polar_jobs.accounts USING (organization_id) WHERE organization_id = $1",
    )
    .bind(uuid(organization))
    .fetch_one(&world.app.pool)
    .await
    .unwrap();
    assert_eq!(
        (
            row.get::<Option<String>, _>(0).as_deref(),
            row.get::<bool, _>(1),
            row.get::<bool, _>(2),
            (row.get::<i32, _>(3), row.get::<i32, _>(4))
        ),
        (
            tier,
            held("preview_access").is_some(),
            held("sso").is_some(),
            fees
        ),
        "{about}"
    );
}

#[derive(Debug, PartialEq)]
struct Terms {
    id: Uuid,
    product: Uuid,
    status: String,
    amount: i64,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    cancels: bool,
    ended_at: Option<DateTime<Utc>>,
}

/// The one in force, else the newest that ended. Which customer of an organization that was the newest of, where
/// there were several, is nobody's concern.
async fn subscription(world: &World, organization: &str, about: &str) {
    let all = world.app.simulator.subscriptions(organization);
    let in_force = |one: &&SubscriptionRecord| matches!(one.status.as_str(), "active" | "past_due");
    let newest = all.iter().rev().find(in_force);
    let replaced = was_replaced(world, organization);
    let newest = newest.or_else(|| all.last().filter(|_| !replaced));
    let expected = newest.map(|one| Terms {
        id: one.id,
        product: one.product_id,
        status: one.status.clone(),
        amount: one.amount,
        start: one.current_period_start.trunc_subsecs(6),
        end: one.current_period_end.trunc_subsecs(6),
        cancels: one.cancel_at_period_end,
        ended_at: one.ended_at.map(|at| at.trunc_subsecs(6)),
    });
    let row = sqlx::query(
        "SELECT subscription_id, product_id, status, amount, current_period_start, current_period_end,
                cancel_at_period_end, ended_at FROM polar_jobs.subscriptions WHERE organization_id = $1",
    )
    .bind(uuid(organization))
    .fetch_optional(&world.app.pool)
    .await
    .unwrap();
    let held = row.map(|row| Terms {
        id: row.get(0),
        product: row.get(1),
        status: row.get(2),
        amount: row.get(3),
        start: row.get(4),
        end: row.get(5),
        cancels: row.get(6),
        ended_at: row.get(7),
    });
    let is_past = held.as_ref().is_none_or(|held| held.ended_at.is_some());
    if replaced && expected.is_none() && is_past {
        return;
    }
    assert_eq!(held, expected, "{about}");
}

/// Whether Polar had another customer of this organization before.
fn was_replaced(world: &World, organization: &str) -> bool {
    let customers = world.app.simulator.customers().into_iter();
    customers
        .filter(|one| one.external_id.as_deref() == Some(organization))
        .count()
        > 1
}
