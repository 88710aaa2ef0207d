//! No attempt holds up another, and each says what became of it.

use std::io::Write;
use std::sync::{Mutex, Once};
use std::time::Duration;

use jobs::NewJob;
use tracing_subscriber::fmt::MakeWriter;

use crate::ledger::Mark;
use crate::script::{Act, Brief, Script};
use crate::test_app::{TestApp, complete_and_claim, eventually_some, register};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_blocks_its_thread_holds_up_neither_others_nor_their_timeouts() {
    let app = TestApp::new().await;
    let worker = app.work(8).await;
    app.add(Script::new("blocks", [vec![Act::Block("go".into())]]).row())
        .await;
    app.ledger.reached(Mark::Started, "blocks", 1).await;
    let script = Script::new("hangs", [vec![Act::Hang]]);
    let hangs = app.add(NewJob::of(&Brief { script })).await;
    for round in 0..5 {
        let id = app.add(Script::note(&round.to_string()).row()).await;
        app.until_state(id, "completed").await;
    }
    let row = app.until_state(hangs, "discarded").await;
    assert_eq!(row.last_error(), "took longer than 0.3 s and was cancelled");
    assert_eq!(
        app.ledger.count(Mark::Ended, "blocks"),
        0,
        "it blocks still"
    );
    app.ledger.open("go");
    app.until_empty().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_behind_short_jobs_holds_up_nobody_either() {
    let app = TestApp::new().await;
    let short = |_| Script::note("short").row();
    let blocks = Script::new("blocks", [vec![Act::Block("go".into())]]);
    let mut jobs: Vec<_> = (0..500).map(short).collect();
    jobs.push(blocks.row());
    app.add_all(&jobs).await;
    let worker = app.work(2).await;
    app.ledger.reached(Mark::Started, "blocks", 1).await;
    let left = "SELECT count(*) FROM polar_jobs.jobs WHERE state <> 'completed'";
    app.until_number(left, 1).await;
    let id = app.add(Script::note("later").row()).await;
    app.until_state(id, "completed").await;
    app.ledger.open("go");
    app.until_empty().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_attempt_beyond_its_time_is_not_repeated_while_it_still_runs() {
    let app = TestApp::new().await;
    let worker = app.work(8).await;
    let script = Script::new("blocks", [vec![Act::Block("go".into())], vec![]]);
    let id = app.add(NewJob::of(&Brief { script })).await;
    app.ledger.reached(Mark::Started, "blocks", 1).await;
    // Well beyond the 300 ms that an attempt of this kind has.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let row = app.job(id).await;
    assert_eq!((row.state.as_str(), row.attempt), ("running", 1));
    app.ledger.open("go");
    let row = app.until_state(id, "completed").await;
    assert_eq!(row.errors[0]["error"], "took longer than 0.3 s");
    worker.stop().await;
}

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

#[derive(Clone, Copy)]
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// The lines of this process that contain `text`, as JSON.
fn lines_with(text: &str) -> Vec<serde_json::Value> {
    let lines = String::from_utf8(LINES.lock().unwrap().clone()).unwrap();
    lines
        .lines()
        .filter(|line| line.contains(text))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn keep_lines() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::INFO)
            .with_writer(Lines)
            .init();
    });
}

#[tokio::test]
async fn each_job_of_a_dead_worker_is_one_line_that_says_whose_it_is() {
    keep_lines();
    let app = TestApp::new().await;
    let organizations = [
        "3f1b1c0e-6a57-4c1c-9f0a-2b3c4d5e6f70",
        "91d0a1b2-c3d4-4e5f-8a9b-0c1d2e3f4a5b",
    ];
    let jobs = organizations.map(|organization| {
        let mut row = Script::note("held").row();
        row.payload["external_customer_id"] = organization.into();
        row
    });
    let [first, second] = [
        app.add(jobs[0].clone()).await,
        app.add(jobs[1].clone()).await,
    ];
    app.execute(&format!(
        "UPDATE polar_jobs.live_jobs SET max_attempts = 1 WHERE id = {second}"
    ))
    .await;
    let mut connection = app.connect().await;
    let dead = register(&mut connection).await;
    let claimed = complete_and_claim(&mut connection, dead, &[], 2).await;
    assert_eq!(claimed.unwrap().len(), 2);
    app.execute("UPDATE polar_jobs.workers SET leased_until = now() - interval '1 second'")
        .await;
    let worker = app.work(4).await;
    app.until_state(first, "completed").await;
    let expected = [(first, "requeued", "WARN"), (second, "discarded", "ERROR")];
    for ((id, what, level), organization) in expected.into_iter().zip(organizations) {
        eventually_some("its line", || async {
            let there = !lines_with(organization).is_empty();
            there.then_some(()).ok_or(String::new())
        })
        .await;
        let lines = lines_with(organization);
        let [line] = &lines[..] else {
            panic!("one line: {lines:#?}");
        };
        assert_eq!(line["level"], level);
        let fields = &line["fields"];
        assert!(fields["message"].as_str().unwrap().contains(what), "{line}");
        assert_eq!(
            (&fields["job"], &fields["kind"]),
            (&id.into(), &"trial".into())
        );
        assert_eq!(fields["organization"], organization);
    }
    worker.stop().await;
}

#[tokio::test]
async fn each_failed_attempt_is_one_line_that_says_what_failed_and_when_it_runs_again() {
    keep_lines();
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let organization = "0d3d6cf2-8a0c-4d1e-9b4e-5f0e4d3c2b1a";
    let script = Script::new(
        "logged",
        [
            vec![
                Act::Log("inside 4711".into()),
                Act::Fail("broken 4711".into()),
            ],
            vec![Act::Discard("given up 4711".into())],
        ],
    );
    let mut row = script.row();
    row.payload["external_customer_id"] = organization.into();
    let id = app.add(row).await;
    app.until_returned(id, 1).await;
    app.due_now(id).await;
    app.until_state(id, "discarded").await;
    eventually_some("three lines", || async {
        let lines = lines_with("4711");
        (lines.len() >= 3).then_some(()).ok_or(format!("{lines:?}"))
    })
    .await;
    let lines = lines_with("4711");
    let [inside, failed, discarded] = &lines[..] else {
        panic!("one line each: {lines:#?}");
    };
    for (line, attempt) in [(inside, 1), (failed, 1), (discarded, 2)] {
        assert_eq!(line["span"]["job"], id);
        assert_eq!(line["span"]["kind"], "trial");
        assert_eq!(line["span"]["attempt"], attempt);
        assert_eq!(line["span"]["organization"], organization);
    }
    assert_eq!(failed["level"], "WARN");
    assert_eq!(failed["fields"]["error"], "broken 4711");
    assert!(failed["fields"]["next_run_in_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(discarded["level"], "ERROR");
    assert_eq!(discarded["fields"]["error"], "given up 4711");
    worker.stop().await;
}
