//! What our tables say about organizations, and how two such looks differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgPool;
use uuid::Uuid;

/// A field that would be another one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Whose, such as `organization …` or `member …`.
    pub subject: String,
    /// Which.
    pub field: String,
    /// What is there; null for nothing.
    pub before: Value,
    /// What would be there; null for nothing.
    pub after: Value,
}

/// One look.
pub(super) type Picture = BTreeMap<String, Map<String, Value>>;

/// The organizations that an id means: itself, whose customer it is, whose member it is.
pub(super) async fn organizations(pool: &PgPool, id: Uuid) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT $1::uuid AS "id!"
            UNION SELECT organization_id FROM polar_jobs.polar_customers WHERE polar_customer_id = $1
            UNION SELECT organization_id FROM polar_jobs.memberships WHERE user_id = $1 AND removed_at IS NULL"#,
        id,
    )
    .fetch_all(pool)
    .await
}

/// What the application reads of these organizations.
pub(super) async fn look(pool: &PgPool, organizations: &[Uuid]) -> Result<Picture, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT 'organization ' || o.id AS "subject!",
                  jsonb_build_object('name', name, 'slug', slug, 'status', status, 'deleted_at', deleted_at,
                                     'polar_customer_id', polar_customer_id) AS "fields!"
             FROM polar_jobs.organizations o WHERE o.id = ANY ($1)
            UNION ALL
           SELECT 'member ' || m.user_id || ' of ' || m.organization_id, to_jsonb(m) - 'organization_id' - 'user_id'
             FROM polar_jobs.members m WHERE m.organization_id = ANY ($1)
            UNION ALL
           SELECT 'entitlements of ' || e.organization_id, to_jsonb(e) - 'organization_id'
             FROM polar_jobs.entitlements e WHERE e.organization_id = ANY ($1)
            UNION ALL
           SELECT 'account of ' || a.organization_id, to_jsonb(a) - 'organization_id'
             FROM polar_jobs.accounts a WHERE a.organization_id = ANY ($1)
            UNION ALL
           SELECT 'subscription of ' || s.organization_id, to_jsonb(s) - 'organization_id' - 'seen_at'
             FROM polar_jobs.subscriptions s WHERE s.organization_id = ANY ($1)
            UNION ALL
           SELECT 'mail ' || e.key, jsonb_build_object('template', template, 'state', state)
             FROM polar_jobs.mails e WHERE e.organization_id = ANY ($1)"#,
        organizations,
    )
    .fetch_all(pool)
    .await?;
    let fields = |value| match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let rows = rows.into_iter();
    Ok(rows.map(|row| (row.subject, fields(row.fields))).collect())
}

/// Every field in which the second look differs from the first.
pub(super) fn differences(before: &Picture, after: &Picture) -> Vec<Difference> {
    let none = Map::new();
    let mut found = Vec::new();
    for subject in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let old = before.get(subject).unwrap_or(&none);
        let new = after.get(subject).unwrap_or(&none);
        for field in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let value = |row: &Map<String, Value>| row.get(field).cloned().unwrap_or_default();
            if value(old) != value(new) {
                found.push(Difference {
                    subject: subject.clone(),
                    field: field.clone(),
                    before: value(old),
                    after: value(new),
                });
            }
        }
    }
    found
}
