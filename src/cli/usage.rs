//! `polar-jobs usage …`

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Months, NaiveDate, Utc};
use clap::{Args, Subcommand};
use jobs::contract;
use jobs::mirror::clock;
use jobs::mirror::usage::{self, ReportFilter, ReportRow};
use serde_json::json;
use sqlx::PgPool;

use super::clients::{billing_off, command_client};
use super::organization::{self, OrganizationName};
use super::output::{self, Format};
use super::refused::{Refused, Retry};
use super::{AppContext, Exit, Failure, connect, time};
use crate::operators::{self, Actor, OperatorAction};
use crate::queue::connect::set_lock_timeout;
use crate::sqlstate::is_lock_timeout;

/// How long `adopt` waits for transactions that write usage.
const ADOPT_LOCK_TIMEOUT: Duration = Duration::from_secs(2);

mod proof;

use proof::Proof;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show readings, windows, reports, Polar's answers and the sums; exit with 1 where they differ
    Prove(Prove),
    /// List what was frozen for Polar, newest window first
    List(List),
    /// Count only readings recorded since a time; without --since count everything
    ///
    /// Metering begins at the installation, with every reading that is written from then on. Say
    /// --since before loading history that was billed elsewhere.
    Begin {
        /// Readings recorded before are kept and shown, but not reported (2026-11-01, in UTC, or 2026-11-01T08:00:00Z)
        #[arg(long, value_parser = time::moment)]
        since: Option<DateTime<Utc>>,
    },
    /// Go on counting in a copy: tables restored into another Postgres, one promoted or recovered
    ///
    /// A copy may lack its last commits, and with them windows that Polar has. Say then until when
    /// Polar has them, or they are billed again: --reported-until and the end of the last one.
    Adopt {
        /// Readings written before are taken as reported (2026-11-01, in UTC, or 2026-11-01T08:00:00Z)
        #[arg(long, value_parser = time::moment)]
        reported_until: Option<DateTime<Utc>>,
    },
    /// Send refused reports again at the next run
    Retry(Retry),
}

#[derive(Args)]
pub(super) struct Prove {
    /// Whose usage: the organization's id, Polar's customer id, its slug or its name
    #[arg(long)]
    organization: OrganizationName,
    /// A month in UTC, like 2026-11; the present one when absent
    #[arg(long)]
    period: Option<Period>,
    /// Also ask Polar whether it holds every report, by sending them again
    #[arg(long)]
    ask_polar: bool,
    /// Columns for people, or JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Args)]
pub(super) struct List {
    /// Only those of this organization: its id, Polar's customer id, its slug or its name
    #[arg(long)]
    organization: Option<OrganizationName>,
    /// Only those in one state
    #[arg(long, value_parser = ["frozen", "waiting", "reported", "refused", "excluded"])]
    state: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = output::limit())]
    limit: i64,
    /// Columns for people, or one JSON array
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A calendar month in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Period {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Period {
    /// The month that `now` lies in.
    fn of(now: DateTime<Utc>) -> Self {
        now.format("%Y-%m")
            .to_string()
            .parse()
            .expect("a formatted month parses")
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is no month; write it like 2026-11");
        let first =
            NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").map_err(|_| wrong())?;
        let next = first.checked_add_months(Months::new(1)).ok_or_else(wrong)?;
        Ok(Self {
            from: time::midnight(first),
            to: time::midnight(next),
        })
    }
}

pub(super) async fn run(command: Command, app: &AppContext) -> Result<Exit, Failure> {
    let pool = connect::pool(app.config.database()?, 2).await?;
    match command {
        Command::Prove(arguments) => prove(&arguments, &pool, app).await,
        Command::List(arguments) => list(arguments, &pool).await,
        Command::Begin { since } => begin(since, &pool, &app.actor).await,
        Command::Adopt { reported_until } => adopt(reported_until, &pool, &app.actor).await,
        Command::Retry(retry) => retry.run(Refused::Reports, &pool, &app.actor).await,
    }
}

async fn prove(arguments: &Prove, pool: &PgPool, app: &AppContext) -> Result<Exit, Failure> {
    let period = match arguments.period {
        Some(period) => period,
        None => Period::of(clock::now(pool).await?),
    };
    let organization = arguments.organization.id(pool).await?;
    let mut proof = Proof::gather(pool, organization, period.from, period.to).await?;
    if arguments.ask_polar {
        let polar = command_client(&app.config.polar, pool)?.ok_or_else(billing_off)?;
        proof
            .ask_polar(pool, &polar, period.from, period.to)
            .await?;
    }
    match arguments.format {
        Format::Json => output::json(&proof.to_json())?,
        Format::Table => proof.print()?,
    }
    Ok(if proof.holds() {
        Exit::Done
    } else {
        Exit::ChecksFailed
    })
}

async fn list(arguments: List, pool: &PgPool) -> Result<Exit, Failure> {
    let filter = ReportFilter {
        organization: organization::id_of(arguments.organization.as_ref(), pool).await?,
        state: arguments.state,
    };
    let rows = usage::list(pool, &filter, arguments.limit).await?;
    output::list(arguments.format, HEADER, &rows, cells)?;
    Ok(Exit::Done)
}

const HEADER: [&str; 7] = [
    "window end",
    "organization",
    "quantity",
    "state",
    "answer",
    "reported at",
    "reason",
];

fn cells(row: &ReportRow) -> [String; 7] {
    [
        output::moment(row.window_end),
        row.organization_id.to_string(),
        row.quantity.to_string(),
        row.state.clone(),
        row.answer.clone().unwrap_or_default(),
        output::maybe_moment(row.reported_at),
        output::shortened(row.reason.as_deref().unwrap_or_default(), 80),
    ]
}

async fn begin(
    since: Option<DateTime<Utc>>,
    pool: &PgPool,
    actor: &Actor,
) -> Result<Exit, Failure> {
    let mut transaction = contract::begin(pool).await?;
    if !usage::begin(&mut *transaction, since).await? {
        return Err(Failure::failed(
            "the tables were restored from another Postgres; run \"polar-jobs usage adopt\" first",
        ));
    }
    let action = OperatorAction::new("usage begin", "usage").with(json!({ "since": since }));
    operators::record(&mut transaction, actor, &action).await?;
    transaction.commit().await?;
    output::line(&match since {
        Some(since) => {
            format!(
                "readings recorded before {} are history: kept, shown, not reported",
                output::moment(since)
            )
        }
        None => "every reading counts, whenever it was recorded".to_owned(),
    })?;
    Ok(Exit::Done)
}

async fn adopt(
    reported_until: Option<DateTime<Utc>>,
    pool: &PgPool,
    actor: &Actor,
) -> Result<Exit, Failure> {
    let mut transaction = contract::begin(pool).await?;
    // Whoever writes usage waits behind this.
    set_lock_timeout(&mut transaction, ADOPT_LOCK_TIMEOUT).await?;
    let adopted = usage::adopt(&mut *transaction, reported_until).await;
    let adopted = adopted.map_err(|error| match is_lock_timeout(&error) {
        true => Failure::failed(
            "nothing was adopted: a transaction that wrote usage, or the metering of a window, is still under way; \
             end it, or wait for it, and adopt again",
        ),
        false => error.into(),
    })?;
    if let Some(found) = adopted {
        let action = OperatorAction::new("usage adopt", "usage").with(json!({
            "reported_until": reported_until,
            "counted": found.counted,
            "uncounted": found.uncounted,
        }));
        operators::record(&mut transaction, actor, &action).await?;
    }
    transaction.commit().await?;
    output::line(&match adopted {
        Some(found) => format!(
            "adopted: {} readings were counted before, {} are counted by the next window",
            found.counted, found.uncounted
        ),
        None => "nothing to adopt: this Postgres is no copy since the last window".to_owned(),
    })?;
    Ok(Exit::Done)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is a failed test
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let december: Period = "2026-12".parse().unwrap();
        assert_eq!(december.from.to_rfc3339(), "2026-12-01T00:00:00+00:00");
        assert_eq!(december.to.to_rfc3339(), "2027-01-01T00:00:00+00:00");
        assert_eq!(
            Period::of("2026-12-31T23:59:59.999999Z".parse().unwrap()),
            december
        );
        for wrong in ["2026-13", "2026", "november", "", "2026-11-01"] {
            assert!(wrong.parse::<Period>().is_err(), "{wrong}");
        }
    }
}
