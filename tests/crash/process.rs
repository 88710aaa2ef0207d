//! Worker processes: this test binary, started once more in another role.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::ledger::{LOG_VARIABLE, Mark};
use crate::script::Script;
use crate::test_app::{TestApp, eventually_some, settings};

const URL: &str = "TRIAL_WORKER_URL";
const SLOTS: &str = "TRIAL_WORKER_SLOTS";

/// The body of a worker process; as a test of its own it has nothing to do.
#[tokio::test]
#[ignore = "the body of the worker processes that the other tests start"]
async fn worker_process() {
    let url = std::env::var(URL).expect("started by another test");
    let slots = std::env::var(SLOTS).unwrap().parse().unwrap();
    let settings = settings(&url, slots).await;
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let ended = polar_jobs::worker::run(settings, async {
        terminate.recv().await.unwrap_or_default()
    })
    .await;
    ended.unwrap();
}

/// A worker in a process of its own; killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(url: &str, slots: usize, log: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "process::worker_process"])
            .env(URL, url)
            .env(SLOTS, slots.to_string())
            .env(LOG_VARIABLE, log)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Starts one of four slots, and returns it with the id of this job once that runs in it.
    pub(crate) async fn start_with_job(app: &TestApp, log: &Log, job: Script) -> (Self, i64) {
        let process = Self::start(&app.url, 4, &log.0);
        let id = app.add(job.row()).await;
        eventually_some("it runs", || async {
            (log.count(Mark::Started, process.pid()) == 1)
                .then_some(())
                .ok_or(String::new())
        })
        .await;
        (process, id)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.pid().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Suspends it, and returns when none of its threads runs any more.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
        let runs = |thread: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            // The state stands behind the name, which is in brackets. A thread that is gone runs no more.
            stat.is_ok_and(|stat| {
                !stat
                    .rsplit(") ")
                    .next()
                    .unwrap()
                    .starts_with(['T', 'Z', 'X'])
            })
        };
        let threads = format!("/proc/{}/task", self.pid());
        while std::fs::read_dir(&threads).unwrap().any(runs) {
            std::thread::yield_now();
        }
    }

    /// Waits for its end: true if it ended well.
    pub(crate) async fn end(&mut self) -> bool {
        let child = std::sync::Mutex::new(&mut self.0);
        eventually_some("the process ends", || async {
            child
                .lock()
                .unwrap()
                .try_wait()
                .unwrap()
                .ok_or(String::new())
        })
        .await
        .success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// One line of the file that worker processes append to.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) mark: Mark,
    pub(crate) job: i64,
    pub(crate) pid: u32,
    /// Microseconds since 1970.
    pub(crate) at: i64,
}

pub(crate) struct Log(pub(crate) PathBuf);

impl Log {
    pub(crate) fn lines(&self) -> Vec<Line> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let mark = match words.next().unwrap() {
                "Started" => Mark::Started,
                "Ended" => Mark::Ended,
                _ => Mark::Dropped,
            };
            let job = words.next().unwrap().parse().unwrap();
            let pid = words.nth(1).unwrap().parse().unwrap();
            let at = words.next().unwrap().parse().unwrap();
            Line { mark, job, pid, at }
        };
        text.lines().map(line).collect()
    }

    pub(crate) fn count(&self, mark: Mark, pid: u32) -> usize {
        self.lines()
            .iter()
            .filter(|line| line.mark == mark && line.pid == pid)
            .count()
    }

    /// Jobs that began more than once, with all their lines.
    pub(crate) fn repeated(&self) -> BTreeMap<i64, Vec<Line>> {
        let mut jobs: BTreeMap<i64, Vec<Line>> = BTreeMap::new();
        for line in self.lines() {
            jobs.entry(line.job).or_default().push(line);
        }
        jobs.retain(|_, lines| {
            lines
                .iter()
                .filter(|line| line.mark == Mark::Started)
                .count()
                > 1
        });
        jobs
    }
}
