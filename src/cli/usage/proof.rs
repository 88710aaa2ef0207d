//! The proof of one organization's usage in one month, gathered once and printed in two ways.

use chrono::{DateTime, Utc};
use jobs::mirror::usage::prove::{self, Folded, Line};
use jobs::mirror::usage::{Uncounted, horizon_holder, uncounted};
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::cli::Failure;
use crate::cli::clients::refused_here;
use crate::cli::output::{self, Format};

/// Everything that is known about an organization's usage in a month.
pub(super) struct Proof {
    organization: Uuid,
    lines: Vec<Line>,
    folded: Vec<Folded>,
    open: (i64, Decimal),
    /// Windows stand still, and who holds them back as far as that is known.
    held: Option<(Uncounted, String)>,
    faults: Vec<String>,
    asked: Option<polar::Receipt>,
}

impl Proof {
    pub(super) async fn gather(
        pool: &PgPool,
        organization: Uuid,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Self, sqlx::Error> {
        let open = prove::open(pool, organization).await?;
        Ok(Self {
            organization,
            lines: prove::lines(pool, organization, from, to).await?,
            folded: prove::folded(pool, organization, from, to).await?,
            held: if open.0 > 0 { held(pool).await? } else { None },
            open,
            faults: prove::chain_faults(pool).await?,
            asked: None,
        })
    }

    /// Sends every report again: Polar must know them all.
    pub(super) async fn ask_polar(
        &mut self,
        pool: &PgPool,
        polar: &polar::Client,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<(), Failure> {
        let reports = prove::reported(pool, self.organization, from, to).await?;
        let receipt = jobs::ask_polar(polar, &reports).await.map_err(|error| {
            refused_here(&error)
                .unwrap_or_else(|| Failure::failed(format!("Polar cannot be asked: {error}")))
        })?;
        if receipt.inserted > 0 {
            self.faults.push(format!(
                "{} missing at Polar; they are there now",
                match receipt.inserted {
                    1 => "1 report was".to_owned(),
                    many => format!("{many} reports were"),
                }
            ));
        }
        if !receipt.accounts_for(reports.len()) {
            self.faults.push(format!(
                "Polar accounted for {receipt:?} of {} reports",
                reports.len()
            ));
        }
        self.asked = Some(receipt);
        Ok(())
    }

    /// Whether everything that was recorded in these windows was counted and reported.
    pub(super) fn holds(&self) -> bool {
        self.faults.is_empty()
            && self.held.is_none()
            && self.lines.iter().all(|line| line.difference().is_none())
    }

    /// The sums by name, in the order of a reading's way.
    fn sums(&self) -> [(&'static str, Decimal); 6] {
        let quantity = |state: &str| -> Decimal {
            let lines = self
                .lines
                .iter()
                .filter(|line| line.state.as_deref() == Some(state));
            let lines = lines.filter_map(|line| line.quantity).map(Decimal::from);
            let folded = self.folded.iter().filter(|month| month.state == state);
            lines.sum::<Decimal>() + folded.map(|month| month.quantity).sum::<Decimal>()
        };
        // What was folded was counted right before, or it would have stayed.
        let folded = self.folded.iter();
        let folded: Decimal = folded.map(|month| month.quantity + month.history).sum();
        let counted = self.lines.iter().filter_map(|line| line.counted);
        let counted = counted.sum::<Decimal>() + folded;
        let recorded = self.lines.iter();
        let recorded = recorded.filter_map(|line| line.recorded.or(line.counted));
        let recorded = recorded.sum::<Decimal>() + folded;
        let quantities = self.lines.iter().filter_map(|line| line.quantity);
        let quantities = quantities.map(Decimal::from).sum::<Decimal>()
            + self
                .folded
                .iter()
                .map(|month| month.quantity)
                .sum::<Decimal>();
        let history = counted - quantities;
        [
            ("recorded", recorded),
            ("counted", counted),
            ("excluded", quantity("excluded") + history),
            ("reported", quantity("reported")),
            (
                "unreported",
                quantity("frozen") + quantity("waiting") + quantity("refused"),
            ),
            ("open", self.open.1),
        ]
    }

    pub(super) fn to_json(&self) -> Value {
        let sums: Map<String, Value> = self
            .sums()
            .iter()
            .map(|(name, sum)| ((*name).to_owned(), json!(sum.to_string())))
            .collect();
        let windows: Vec<Value> = self
            .lines
            .iter()
            .map(|line| {
                let mut window = json!(line);
                window["difference"] = json!(line.difference());
                window
            })
            .collect();
        json!({
            "organization_id": self.organization,
            "holds": self.holds(),
            "sums": sums,
            "open_readings": self.open.0,
            "uncounted": self.held.as_ref().map(|(uncounted, _)| uncounted),
            "polar": self.asked,
            "faults": self.faults,
            "windows": windows,
            "folded": self.folded,
        })
    }

    pub(super) fn print(&self) -> Result<(), Failure> {
        output::list(Format::Table, HEADER, &self.lines, cells)?;
        output::line("")?;
        for (name, sum) in self.sums() {
            output::line(&format!("{name:<11}{sum:>20}"))?;
        }
        output::line("")?;
        for month in &self.folded {
            output::line(&format!(
                "{} are kept as a sum of {}",
                output::counted(month.reports, &format!("{} window", month.state)),
                month.quantity
            ))?;
        }
        if self.open.0 > 0 {
            let readings = output::counted(self.open.0, "reading");
            let verb = if self.open.0 == 1 { "waits" } else { "wait" };
            output::line(&format!("{readings} {verb} for the next window"))?;
        }
        if let Some((uncounted, why)) = &self.held {
            let since = output::moment(uncounted.since);
            output::line(&format!("windows stand still since {since}: {why}"))?;
        }
        if let Some(receipt) = self.asked {
            let polar::Receipt {
                inserted,
                duplicates,
            } = receipt;
            output::line(&format!(
                "asked again, Polar knew {duplicates} reports and did not know {inserted}"
            ))?;
        }
        for fault in &self.faults {
            output::line(&format!("fault: {fault}"))?;
        }
        output::line(if self.holds() {
            "it adds up"
        } else {
            "it does not add up"
        })
    }
}

/// Why readings that should be in a window are in none.
async fn held(pool: &PgPool) -> Result<Option<(Uncounted, String)>, sqlx::Error> {
    let Some(uncounted) = uncounted(pool).await?.filter(Uncounted::is_late) else {
        return Ok(None);
    };
    let holder = horizon_holder(pool).await?.filter(|_| uncounted.held_back);
    let why = match holder {
        Some(holder) => format!("{holder} holds them back; polar-jobs doctor says what to do"),
        None => "no worker closes them; polar-jobs doctor says what to do".to_owned(),
    };
    Ok(Some((uncounted, why)))
}

const HEADER: [&str; 8] = [
    "window end",
    "readings",
    "recorded",
    "counted",
    "state",
    "Polar's answer",
    "event",
    "difference",
];

fn cells(line: &Line) -> [String; 8] {
    let sum = |sum: Option<Decimal>| sum.map(|sum| sum.to_string()).unwrap_or_default();
    [
        output::moment(line.window_end),
        line.readings
            .map_or_else(|| "pruned".to_owned(), |readings| readings.to_string()),
        sum(line.recorded),
        sum(line.counted),
        line.state.clone().unwrap_or_default(),
        answer(line),
        line.external_id.clone().unwrap_or_default(),
        line.difference().unwrap_or_default(),
    ]
}

fn answer(line: &Line) -> String {
    match (&line.answer, line.request, &line.reason) {
        (Some(answer), Some((sent, inserted, duplicates)), _) => {
            format!("{answer}: {inserted} new + {duplicates} known = {sent} sent")
        }
        (_, _, Some(reason)) => output::shortened(reason, 60),
        _ => String::new(),
    }
}
