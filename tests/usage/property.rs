//! Exactness for any history: whatever transactions do and whenever windows close, every committed
//! reading lies in exactly one window, and nothing else does. A history that breaks it is shrunk.

use chrono::{DateTime, TimeDelta, Utc};
use jobs::mirror::usage::{prove, record_all};
use jobs::{Job, MeterUsage};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use crate::test_app::{TestApp, reading};

const WRITERS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// The writer begins if it must, and writes.
    Write {
        writer: usize,
        quantity: i64,
    },
    /// The same, in a savepoint that is undone.
    Undo {
        writer: usize,
    },
    Commit {
        writer: usize,
    },
    RollBack {
        writer: usize,
    },
    /// A tick, so many seconds after (or before) the last one.
    Tick {
        after: i64,
    },
    /// A tick whose process dies before the commit.
    LostTick,
}

fn step() -> impl Strategy<Value = Step> {
    let writer = || 0..WRITERS;
    prop_oneof![
        5 => (writer(), 1i64..1000).prop_map(|(writer, quantity)| Step::Write { writer, quantity }),
        1 => writer().prop_map(|writer| Step::Undo { writer }),
        3 => writer().prop_map(|writer| Step::Commit { writer }),
        1 => writer().prop_map(|writer| Step::RollBack { writer }),
        3 => (-30i64..300).prop_map(|after| Step::Tick { after }),
        1 => Just(Step::LostTick),
    ]
}

#[test]
fn every_committed_reading_lies_in_exactly_one_window() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let app = runtime.block_on(TestApp::start());
    let config = Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    };
    let histories = vec(step(), 1..50);
    TestRunner::new(config)
        .run(&histories, |history| runtime.block_on(live(&app, history)))
        .unwrap();
}

#[derive(Default)]
struct Writer {
    transaction: Option<Transaction<'static, Postgres>>,
    written: i64,
}

impl Writer {
    async fn connection(&mut self, app: &TestApp) -> &mut Transaction<'static, Postgres> {
        if self.transaction.is_none() {
            self.transaction = Some(app.pool.begin().await.unwrap());
        }
        self.transaction.as_mut().unwrap()
    }
}

async fn live(app: &TestApp, history: Vec<Step>) -> Result<(), TestCaseError> {
    let organization = app.organization().await;
    let mut writers: [Writer; WRITERS] = std::array::from_fn(|_| Writer::default());
    let (mut clock, mut committed) = (Utc::now() - TimeDelta::days(1), 0);
    for step in history {
        match step {
            Step::Write { writer, quantity } => {
                let writer = &mut writers[writer];
                let connection = writer.connection(app).await;
                record_all(connection, &[reading(organization, quantity)])
                    .await
                    .unwrap();
                writer.written += quantity;
            }
            Step::Undo { writer } => {
                undo(writers[writer].connection(app).await, organization).await
            }
            Step::Commit { writer } => {
                if let Some(transaction) = writers[writer].transaction.take() {
                    transaction.commit().await.unwrap();
                    committed += std::mem::take(&mut writers[writer].written);
                }
            }
            Step::RollBack { writer } => {
                writers[writer] = Writer::default();
            }
            Step::Tick { after } => {
                clock += TimeDelta::seconds(after);
                app.close_at(clock).await;
                let (counted, open) = books(app, organization).await?;
                prop_assert_eq!(
                    counted + open,
                    committed,
                    "a committed reading is counted, or waits"
                );
            }
            Step::LostTick => drop(MeterUsage {}.run(&app.context()).await.unwrap()),
        }
    }
    drop(writers);
    app.meter_at(clock).await;
    prop_assert_eq!(books(app, organization).await?, (committed, 0));
    prop_assert!(prove::chain_faults(&app.pool).await.unwrap().is_empty());
    Ok(())
}

async fn undo(transaction: &mut Transaction<'static, Postgres>, organization: Uuid) {
    sqlx::query("SAVEPOINT s")
        .execute(&mut **transaction)
        .await
        .unwrap();
    record_all(transaction, &[reading(organization, 1_000_000)])
        .await
        .unwrap();
    sqlx::query("ROLLBACK TO s")
        .execute(&mut **transaction)
        .await
        .unwrap();
}

/// What is counted, proven against the readings, and what is committed and waits.
async fn books(app: &TestApp, organization: Uuid) -> Result<(i64, i64), TestCaseError> {
    let until = Utc::now() + TimeDelta::days(1);
    let windows = prove::windows(&app.pool, organization, DateTime::UNIX_EPOCH, until)
        .await
        .unwrap();
    for window in &windows {
        let difference = window.difference();
        prop_assert_eq!(difference.as_deref(), Some("not reported yet"));
    }
    let open = prove::open(&app.pool, organization).await.unwrap();
    let counted: i64 = windows
        .iter()
        .flat_map(|window| &window.report)
        .map(|report| report.quantity)
        .sum();
    Ok((counted, i64::try_from(open.quantity).unwrap()))
}
