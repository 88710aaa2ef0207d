//! What the jobs of a test report while they run, and the barriers that hold them. In memory, one per
//! database; a process of a crash test also appends every entry to a file.
//!
//! Tests of one binary run at the same time, some on servers of their own, where databases are named
//! alike and ids are counted from one: only server and name together tell whose jobs these are.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;

/// How long anything may take that happens at once unless it is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// The file to append to.
pub(crate) const LOG_VARIABLE: &str = "TRIAL_LOG";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Started,
    Ended,
    /// The future was dropped: cancelled, or handed back.
    Dropped,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) mark: Mark,
    pub(crate) label: String,
    pub(crate) job: i64,
    pub(crate) attempt: i32,
}

static ALL: LazyLock<Mutex<HashMap<String, Arc<Ledger>>>> = LazyLock::new(Mutex::default);

fn address(options: &PgConnectOptions) -> String {
    let server = match options.get_socket() {
        Some(directory) => directory.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let name = options.get_database().unwrap_or_default();
    format!("{server}:{}/{name}", options.get_port())
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    open: Vec<String>,
}

pub(crate) struct Ledger {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    file: Option<File>,
}

impl Ledger {
    /// The ledger of the database that these options lead to.
    pub(crate) fn of(options: &PgConnectOptions) -> Arc<Self> {
        let mut all = ALL.lock().unwrap();
        Arc::clone(all.entry(address(options)).or_insert_with(|| {
            let file = std::env::var_os(LOG_VARIABLE).map(|path| {
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(path)
                    .unwrap()
            });
            Arc::new(Self {
                state: Mutex::default(),
                changed: watch::Sender::new(0),
                file,
            })
        }))
    }

    /// These options lead to the same database by another way.
    pub(crate) fn is_also_of(self: &Arc<Self>, options: &PgConnectOptions) {
        ALL.lock()
            .unwrap()
            .insert(address(options), Arc::clone(self));
    }

    pub(crate) fn write(&self, entry: Entry) {
        if let Some(mut file) = self.file.as_ref() {
            let line = format!(
                "{:?} {} {} {} {} {}\n",
                entry.mark,
                entry.job,
                entry.attempt,
                std::process::id(),
                chrono::Utc::now().timestamp_micros(),
                entry.label
            );
            // One write of a short line to a file opened for appending is never torn.
            file.write_all(line.as_bytes()).unwrap();
        }
        self.state.lock().unwrap().entries.push(entry);
        self.changed.send_modify(|version| *version += 1);
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.state.lock().unwrap().entries.clone()
    }

    /// Labels in the order of their marks.
    pub(crate) fn labels(&self, mark: Mark) -> Vec<String> {
        self.entries()
            .into_iter()
            .filter(|entry| entry.mark == mark)
            .map(|entry| entry.label)
            .collect()
    }

    pub(crate) fn count(&self, mark: Mark, label: &str) -> usize {
        self.labels(mark)
            .iter()
            .filter(|known| *known == label)
            .count()
    }

    /// Waits until `label` was marked so `times` times.
    pub(crate) async fn reached(&self, mark: Mark, label: &str, times: usize) {
        self.until(&format!("{label} {mark:?} {times} times"), |ledger| {
            ledger.count(mark, label) >= times
        })
        .await;
    }

    /// Waits for a condition on the ledger.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let mut changes = self.changed.subscribe();
        let waiting = async {
            while !condition(self) {
                changes.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
            panic!(
                "{what}: not within {DEADLINE:?}; the ledger says {:?}",
                self.entries()
            );
        }
    }

    /// Lets every job through a barrier, now and later.
    pub(crate) fn open(&self, latch: &str) {
        self.state.lock().unwrap().open.push(latch.to_owned());
        self.changed.send_modify(|version| *version += 1);
    }

    /// What a job does that computes until a barrier opens.
    pub(crate) fn block(&self, latch: &str) {
        let is_open = || {
            self.state
                .lock()
                .unwrap()
                .open
                .iter()
                .any(|open| open == latch)
        };
        while !is_open() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What a job does at a barrier.
    pub(crate) async fn pass(&self, latch: &str) {
        let mut changes = self.changed.subscribe();
        while !self
            .state
            .lock()
            .unwrap()
            .open
            .iter()
            .any(|open| open == latch)
        {
            changes.changed().await.unwrap();
        }
    }
}
