//! The proof of one organization's usage in one month, gathered once and printed in two ways.

use chrono::{DateTime, Utc};
use jobs::mirror::usage::prove::{self, Folded, Line};
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::cli::Failure;
use crate::cli::output::{self, Format};

/// Everything that is known about an organization's usage in a month.
pub(super) struct Proof {
    organization: Uuid,
    lines: Vec<Line>,
    folded: Vec<Folded>,
    open: (i64, Decimal),
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
        Ok(Self {
            organization,
            lines: prove::lines(pool, organization, from, to).await?,
            folded: prove::folded(pool, organization, from, to).await?,
            open: prove::open(pool, organization).await?,
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
        let receipt = jobs::ask_polar(polar, &reports)
            .await
            .map_err(|error| Failure::failed(format!("Polar cannot be asked: {error}")))?;
        if receipt.inserted > 0 {
            self.faults.push(format!(
                "{} reports were missing at Polar; they are there now",
                receipt.inserted
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
        self.faults.is_empty() && self.lines.iter().all(|line| line.difference().is_none())
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
                "{} {} windows are kept as a sum of {}",
                month.reports, month.state, month.quantity
            ))?;
        }
        if self.open.0 > 0 {
            output::line(&format!(
                "{} readings wait for the next window",
                self.open.0
            ))?;
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
