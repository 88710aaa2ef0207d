//! How people name an organization: by the application's id, as everything here prints it, by Polar's id of its customer,
//! as Polar prints it, or by its slug or name where no other has the same. A slug goes before names: many an organization
//! has for its name what is the slug of one.

use std::str::FromStr;

use sqlx::PgPool;
use uuid::Uuid;

use super::Failure;

/// Organizations that a message names.
const NAMED: i64 = 5;

/// An organization as a person named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OrganizationName {
    /// The application's id, or Polar's.
    Id(Uuid),
    /// A slug or a name; letters may be large or small.
    Words(String),
}

impl FromStr for OrganizationName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(
                "an organization is named by its id, Polar's customer id, its slug or its name",
            );
        }
        Ok(Uuid::parse_str(text).map_or_else(|_| Self::Words(text.to_owned()), Self::Id))
    }
}

impl OrganizationName {
    /// Returns the application's id. An id that is not known is given back as it is.
    ///
    /// # Errors
    /// If no organization has these words, or several have.
    pub(super) async fn id(&self, pool: &PgPool) -> Result<Uuid, Failure> {
        match self {
            Self::Id(id) => Ok(by_id(pool, *id).await?),
            Self::Words(words) => by_words(pool, words).await,
        }
    }
}

/// The same where a person may have named none.
pub(super) async fn id_of(
    name: Option<&OrganizationName>,
    pool: &PgPool,
) -> Result<Option<Uuid>, Failure> {
    match name {
        None => Ok(None),
        Some(name) => name.id(pool).await.map(Some),
    }
}

async fn by_id(pool: &PgPool, id: Uuid) -> Result<Uuid, sqlx::Error> {
    let known = sqlx::query_scalar!(
        r#"SELECT organization_id AS "id!" FROM polar_jobs.polar_customers c
            WHERE c.polar_customer_id = $1 AND NOT EXISTS (SELECT FROM polar_jobs.organizations WHERE id = $1)"#,
        id,
    );
    Ok(known.fetch_optional(pool).await?.unwrap_or(id))
}

/// A living organization goes before deleted ones, and one with this slug before those with this name.
async fn by_words(pool: &PgPool, words: &str) -> Result<Uuid, Failure> {
    let found = sqlx::query!(
        r#"SELECT id, deleted_at IS NULL AS "living!", lower(slug) = lower($1) AS "has_slug!" FROM polar_jobs.organizations
            WHERE lower(slug) = lower($1) OR lower(name) = lower($1)
            ORDER BY deleted_at IS NOT NULL, lower(slug) <> lower($1), created_at DESC, id LIMIT $2"#,
        words,
        NAMED + 1,
    );
    let mut found = found.fetch_all(pool).await?;
    if found.iter().any(|row| row.living) {
        found.retain(|row| row.living);
    }
    if found.iter().any(|row| row.has_slug) {
        found.retain(|row| row.has_slug);
    }
    match found.as_slice() {
        [] => Err(Failure::failed(format!(
            "no organization has the name or slug {words:?}; polar-jobs organizations list shows them"
        ))),
        [one] => Ok(one.id),
        several => {
            let ids: Vec<String> = several.iter().map(|row| row.id.to_string()).collect();
            let more = if several.len() > NAMED as usize {
                " and more"
            } else {
                ""
            };
            Err(Failure::usage(format!(
                "several organizations have the name or slug {words:?}: {}{more}; name one by its id",
                ids[..several.len().min(NAMED as usize)].join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OrganizationName;

    #[test]
    fn an_id_is_no_name_and_nothing_names_nobody() {
        let id = "1f0c7c1e-6a5b-4c0e-9d3a-0f6f2b1f7a11";
        assert!(matches!(id.parse(), Ok(OrganizationName::Id(_))));
        assert_eq!(
            " Acme Rockets ".parse(),
            Ok(OrganizationName::Words("Acme Rockets".to_owned()))
        );
        assert!("  ".parse::<OrganizationName>().is_err());
    }
}
