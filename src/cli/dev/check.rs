//! Compares the end of the demo scenario: what should have come of the organizations, what Polar
//! holds, and what our tables say.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use jobs::contract::Fees;
use simulator::{PlainSimulator, Simulator};
use sqlx::PgPool;

use super::entitlements;
use super::fixtures::{Company, Fixtures};
use super::mails;
use super::outcome::{self, Outcome};
use super::scenario::USAGE;
use super::{at_plain, at_polar};

/// Everything that is compared with.
pub(super) struct Check<'a> {
    pub(super) fixtures: &'a Fixtures,
    pub(super) pool: &'a PgPool,
    pub(super) polar: Option<&'a Simulator>,
    pub(super) plain: Option<&'a PlainSimulator>,
    pub(super) platform_fees: Fees,
    /// Where mail goes to files.
    pub(super) mail_directory: Option<&'a PathBuf>,
    pub(super) began: DateTime<Utc>,
}

impl Check<'_> {
    pub(super) async fn outcomes(&self) -> Result<Vec<Outcome>, sqlx::Error> {
        let mut outcomes = Vec::new();
        for company in self.fixtures.companies() {
            outcomes.push(self.wanted_people(company).await?);
            match self.polar {
                Some(polar) => {
                    outcomes.extend(at_polar::outcomes(polar, self.fixtures, company));
                    outcomes.extend(self.entitlements(polar, company).await?);
                    let directory = self.mail_directory.map(PathBuf::as_path);
                    outcomes.extend(mails::outcomes(self.pool, company, directory).await?);
                }
                None => outcomes.push(self.seen_at_polar(company).await?),
            }
            let bought = self.polar.is_some();
            outcomes.extend(
                self.plain
                    .into_iter()
                    .flat_map(|plain| at_plain::outcomes(plain, self.fixtures, company, bought)),
            );
        }
        outcomes.extend(self.usage().await?);
        outcomes.extend(self.costs().await?);
        outcomes.push(self.discarded().await?);
        Ok(outcomes)
    }

    async fn wanted_people(&self, company: &Company) -> Result<Outcome, sqlx::Error> {
        let people = sqlx::query_scalar!(
            r#"SELECT coalesce(string_agg(name || ' ' || role, ', ' ORDER BY name), 'nobody') AS "people!"
                 FROM polar_jobs.members WHERE organization_id = $1 AND removed_at IS NULL"#,
            company.id,
        )
        .fetch_one(self.pool)
        .await?;
        let members = company.expected.people.iter();
        let members = members.map(|member| format!("{} {}", member.name, member.role));
        Ok(Outcome::new(
            format!("{}: people in our tables", company.name),
            outcome::names(members.collect()),
            people,
        ))
    }

    /// All that can be said of a real Polar without asking it again.
    async fn seen_at_polar(&self, company: &Company) -> Result<Outcome, sqlx::Error> {
        let seen = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM polar_jobs.polar_customers WHERE organization_id = $1"#,
            company.id,
        )
        .fetch_one(self.pool)
        .await?;
        Ok(Outcome::new(
            format!("{}: customers seen at Polar", company.name),
            1,
            seen,
        ))
    }

    /// What the application reads, against what Polar granted.
    async fn entitlements(
        &self,
        polar: &Simulator,
        company: &Company,
    ) -> Result<Vec<Outcome>, sqlx::Error> {
        let name = company.name;
        let Some(held) = entitlements::of(self.pool, company.id).await? else {
            return Ok(vec![Outcome::new(
                format!("{name}: entitlements"),
                company.expected.plan,
                "none",
            )]);
        };
        let fees = at_polar::fees(polar, company, self.platform_fees);
        Ok(vec![
            Outcome::new(format!("{name}: plan"), company.expected.plan, held.plan()),
            Outcome::new(
                format!("{name}: subscription"),
                at_polar::subscription(polar, company),
                held.subscription(),
            ),
            Outcome::new(
                format!("{name}: rights"),
                at_polar::rights(polar, company),
                held.rights(),
            ),
            Outcome::new(format!("{name}: fees"), fees, held.fees()),
        ])
    }

    async fn usage(&self) -> Result<Vec<Outcome>, sqlx::Error> {
        let expected: u32 = USAGE.iter().flatten().sum();
        let sums = sqlx::query!(
            r#"SELECT (SELECT coalesce(sum(quantity), 0) FROM polar_jobs.usage WHERE organization_id = $1)::bigint AS "recorded!",
                      (SELECT coalesce(sum(quantity), 0) FROM polar_jobs.usage_reports WHERE organization_id = $1)::bigint
                      AS "counted!""#,
            self.fixtures.acme.id,
        )
        .fetch_one(self.pool)
        .await?;
        let mut outcomes = vec![
            Outcome::new("Acme: usage recorded", expected, sums.recorded),
            Outcome::new("Acme: usage counted", expected, sums.counted),
        ];
        outcomes.extend(self.polar.map(|polar| {
            let reported = polar.event_sum("event_ingestion", &self.fixtures.acme.external_id());
            Outcome::new("Acme: usage at Polar", expected, reported)
        }));
        Ok(outcomes)
    }

    async fn costs(&self) -> Result<Vec<Outcome>, sqlx::Error> {
        let reported = sqlx::query_scalar!(
            r#"SELECT count(*) FILTER (WHERE reported_at IS NOT NULL) AS "count!" FROM polar_jobs.costs WHERE organization_id = $1"#,
            self.fixtures.acme.id,
        )
        .fetch_one(self.pool)
        .await?;
        let mut outcomes = vec![Outcome::new("Acme: costs reported", 1, reported)];
        outcomes.extend(self.polar.map(|polar| {
            let acme = self.fixtures.acme.external_id();
            let spans = polar.events().into_iter().filter(|event| {
                event.name == "compass_assistant.chat"
                    && event.external_customer_id.as_deref() == Some(&*acme)
            });
            Outcome::new("Acme: costs at Polar", 1, spans.count())
        }));
        Ok(outcomes)
    }

    async fn discarded(&self) -> Result<Outcome, sqlx::Error> {
        let jobs = sqlx::query_scalar!(
            r#"SELECT coalesce(string_agg(kind || ' ' || id || ': ' || coalesce(errors->-1->>'error', note, ''), '; '), 'none')
                      AS "jobs!"
                 FROM polar_jobs.jobs WHERE state = 'discarded' AND kind <> 'call_app' AND created_at >= $1"#,
            self.began,
        )
        .fetch_one(self.pool)
        .await?;
        Ok(Outcome::new("jobs discarded", "none", jobs))
    }
}
