//! The proof of one organization's usage in one month, gathered once and printed in two ways.

use chrono::{DateTime, Utc};
use jobs::mirror::usage::prove::{
    self, AuditedReport, AuditedWindow, Folded, Recount, ReportState,
};
use jobs::mirror::usage::{Uncounted, horizon_holder, uncounted};
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::cli::Failure;
use crate::cli::clients::refused_here;
use crate::cli::output;

/// Everything that is known about an organization's usage in a month.
pub(super) struct Proof {
    organization: Uuid,
    windows: Vec<AuditedWindow>,
    folded: Vec<Folded>,
    open: Recount,
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
            windows: prove::windows(pool, organization, from, to).await?,
            folded: prove::folded(pool, organization, from, to).await?,
            held: match open.readings > 0 {
                true => held(pool).await?,
                false => None,
            },
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
            && self
                .windows
                .iter()
                .all(|window| window.difference().is_none())
    }

    fn reports(&self) -> impl Iterator<Item = &AuditedReport> {
        self.windows
            .iter()
            .filter_map(|window| window.report.as_ref())
    }

    /// The sums by name, in the order of a reading's way.
    fn sums(&self) -> [(&'static str, Decimal); 6] {
        let quantity = |state: &str| -> Decimal {
            let reports = self.reports();
            let reports = reports.filter(|report| report.state.as_str() == state);
            let reports = reports.map(|report| Decimal::from(report.quantity));
            let folded = self.folded.iter().filter(|month| month.state == state);
            reports.sum::<Decimal>() + folded.map(|month| month.quantity).sum::<Decimal>()
        };
        // What was folded was counted right before, or it would have stayed.
        let folded = self.folded.iter();
        let folded: Decimal = folded.map(|month| month.quantity + month.history).sum();
        let counted = self.reports().map(|report| report.counted);
        let counted = counted.sum::<Decimal>() + folded;
        let recorded = self.windows.iter().filter_map(recorded);
        let recorded = recorded.sum::<Decimal>() + folded;
        let quantities = self.reports().map(|report| Decimal::from(report.quantity));
        let quantities = quantities.sum::<Decimal>()
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
            ("open", self.open.quantity),
        ]
    }

    pub(super) fn to_json(&self) -> Value {
        let sums: Map<String, Value> = self
            .sums()
            .iter()
            .map(|(name, sum)| ((*name).to_owned(), json!(sum.to_string())))
            .collect();
        let windows: Vec<Value> = self.windows.iter().map(window_to_json).collect();
        json!({
            "organization_id": self.organization,
            "holds": self.holds(),
            "sums": sums,
            "open_readings": self.open.readings,
            "uncounted": self.held.as_ref().map(|(uncounted, _)| uncounted),
            "polar": self.asked,
            "faults": self.faults,
            "windows": windows,
            "folded": self.folded,
        })
    }

    pub(super) fn print(&self) -> Result<(), Failure> {
        output::table(HEADER, self.windows.iter().map(cells))?;
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
        if self.open.readings > 0 {
            let readings = output::counted(self.open.readings, "reading");
            let verb = if self.open.readings == 1 {
                "waits"
            } else {
                "wait"
            };
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

fn cells(window: &AuditedWindow) -> [String; 8] {
    let (recount, report) = (window.recount.as_ref(), window.report.as_ref());
    let text = |text: Option<String>| text.unwrap_or_default();
    [
        output::moment(window.window_end),
        recount.map_or_else(
            || "pruned".to_owned(),
            |recount| recount.readings.to_string(),
        ),
        text(recount.map(|recount| recount.quantity.to_string())),
        text(report.map(|report| report.counted.to_string())),
        text(report.map(|report| report.state.as_str().to_owned())),
        text(report.map(|report| answer(&report.state))),
        text(report.map(|report| report.external_id.clone())),
        text(window.difference()),
    ]
}

fn answer(state: &ReportState) -> String {
    match state {
        ReportState::Reported {
            answer: Some(answer),
            request: Some(request),
            ..
        } => format!(
            "{answer}: {} new + {} known = {} sent",
            request.inserted, request.duplicates, request.sent
        ),
        _ => state
            .reason()
            .map(|reason| output::shortened(reason, 60))
            .unwrap_or_default(),
    }
}

/// What was recorded in a window; once its readings are deleted, what was counted of them.
fn recorded(window: &AuditedWindow) -> Option<Decimal> {
    let recorded = window.recount.as_ref().map(|recount| recount.quantity);
    recorded.or(window.report.as_ref().map(|report| report.counted))
}

fn window_to_json(window: &AuditedWindow) -> Value {
    let (recount, report) = (window.recount.as_ref(), window.report.as_ref());
    let state = report.map(|report| &report.state);
    let (reported_at, answer, request) = match state {
        Some(ReportState::Reported {
            at,
            answer,
            request,
        }) => (Some(at), answer.as_ref(), request.as_ref()),
        _ => (None, None, None),
    };
    json!({
        "window_end": window.window_end,
        "readings": recount.map(|recount| recount.readings),
        "recorded": recount.map(|recount| recount.quantity),
        "counted": report.map(|report| report.counted),
        "quantity": report.map(|report| report.quantity),
        "state": state.map(ReportState::as_str),
        "reason": state.and_then(ReportState::reason),
        "external_id": report.map(|report| &report.external_id),
        "answer": answer,
        "request": request.map(|request| (request.sent, request.inserted, request.duplicates)),
        "reported_at": reported_at,
        "difference": window.difference(),
    })
}
