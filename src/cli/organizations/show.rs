//! `organizations show`

use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Row, jobs_of, row};
use crate::cli::output::{self, Format};
use crate::cli::{Exit, Failure};

/// What `show` adds to a row of the list, each as JSON.
struct Parts {
    members: Value,
    account: Value,
    entitlements: Value,
    subscription: Value,
    out_of_step: Value,
}

pub(super) async fn run(pool: &PgPool, id: Uuid, format: Format) -> Result<Exit, Failure> {
    let row = row(pool, id).await?;
    let parts = parts(pool, id).await?;
    match format {
        Format::Json => output::json_with(
            &row,
            &[
                ("members", parts.members),
                ("account", parts.account),
                ("entitlements", parts.entitlements),
                ("subscription", parts.subscription),
                ("out_of_step", parts.out_of_step),
            ],
        )?,
        Format::Table => print(&row, &parts)?,
    }
    Ok(Exit::Done)
}

async fn parts(pool: &PgPool, id: Uuid) -> Result<Parts, sqlx::Error> {
    sqlx::query_as!(
        Parts,
        r#"SELECT (SELECT coalesce(json_agg(json_build_object(
                              'user_id', m.user_id, 'email', v.email, 'name', v.name, 'role', m.role, 'removed_at', m.removed_at,
                              'in_step', m.synced_event IS NOT DISTINCT FROM polar_jobs.member_version(m.event_id, m.removed_at, p.changed_event))
                          ORDER BY m.removed_at IS NOT NULL, m.role <> 'owner', m.user_id), '[]')
                     FROM polar_jobs.memberships m JOIN polar_jobs.people p USING (user_id)
                     JOIN polar_jobs.members v USING (organization_id, user_id)
                    WHERE m.organization_id = $1) AS "members!",
                  coalesce((SELECT to_json(a) FROM polar_jobs.accounts a WHERE a.organization_id = $1), 'null') AS "account!",
                  coalesce((SELECT to_json(e) FROM polar_jobs.entitlements e WHERE e.organization_id = $1), 'null') AS "entitlements!",
                  coalesce((SELECT to_json(s) FROM polar_jobs.subscriptions s WHERE s.organization_id = $1), 'null') AS "subscription!",
                  (SELECT coalesce(json_agg(json_build_object('subject', s.subject, 'since', s.since, 'reason', s.reason)
                                            ORDER BY s.since), '[]')
                     FROM polar_jobs.out_of_step s WHERE s.organization_id = $1) AS "out_of_step!""#,
        id,
    )
    .fetch_one(pool)
    .await
}

fn print(row: &Row, parts: &Parts) -> Result<(), Failure> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let facts = [
        ("id", row.id.to_string()),
        ("name", row.name.clone()),
        ("slug", row.slug.clone()),
        ("status", row.status.clone()),
        ("deleted at", output::maybe_moment(row.deleted_at)),
        ("plan", text(&row.plan)),
        ("subscription", text(&row.subscription_status)),
        ("support tier", text(&row.support_tier)),
        (
            "customer",
            row.customer_id.map(|id| id.to_string()).unwrap_or_default(),
        ),
        ("in step", in_step(row)),
        ("jobs", jobs_of(row)),
        ("differences", row.differences.to_string()),
    ];
    for (name, value) in facts {
        output::line(&format!("{name:<13} {}", output::flat(&value)))?;
    }
    for member in parts.members.as_array().into_iter().flatten() {
        let field = |name: &str| output::flat(member[name].as_str().unwrap_or_default());
        let gone = if member["removed_at"].is_null() {
            ""
        } else {
            ", left"
        };
        output::line(&format!(
            "{:<13} {} {} <{}> {}{gone}",
            "member",
            field("user_id"),
            field("name"),
            field("email"),
            field("role")
        ))?;
    }
    for (name, part) in [
        ("account", &parts.account),
        ("subscription", &parts.subscription),
    ] {
        for (field, value) in part.as_object().into_iter().flatten() {
            output::line(&format!(
                "{name:<13} {field} {}",
                output::flat(&value.to_string())
            ))?;
        }
    }
    for one in parts.out_of_step.as_array().into_iter().flatten() {
        let field = |name: &str| output::flat(one[name].as_str().unwrap_or_default());
        output::line(&format!(
            "{:<13} {} since {}: {}",
            "out of step",
            field("subject"),
            field("since"),
            field("reason")
        ))?;
    }
    Ok(())
}

fn in_step(row: &Row) -> String {
    match (row.in_step, row.in_step_since) {
        (false, _) => "no".to_owned(),
        (true, None) => "yes".to_owned(),
        (true, Some(since)) => format!("since {}", output::moment(since)),
    }
}
