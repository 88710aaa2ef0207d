//! Whatever happens, in any order, with outages, lost deliveries and kills: after one comparison we and Polar agree
//! in every field, and whoever manages the billing got each mail, once.
//!
//! What happens follows from a seed; what it meets (jobs under way, a process that dies) is the machine's, so a seed
//! that failed may pass the next time. `RANDOM_SEEDS` and `RANDOM_EVENTS` make the run larger (docs/contributing.md).

mod agreement;
mod contacts;
mod happenings;
mod mails;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use simulator::{Faults, Gateway, Options};
use uuid::Uuid;

use crate::command::{json as answer, run};
use crate::test_app::TestApp;
use contacts::Contacts;
use workers::Workers;

/// Long enough for what a worker that was killed held, and for a loaded machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// What the application wants of one organization.
#[derive(Clone, Debug)]
struct Wanted {
    name: String,
    slug: String,
    owner: String,
    /// Everybody else, with the role.
    members: BTreeMap<String, &'static str>,
    deleted: bool,
}

#[derive(Clone, Debug)]
struct Person {
    email: String,
    name: String,
}

struct World {
    seed: u64,
    rng: StdRng,
    app: TestApp,
    workers: Workers,
    organizations: BTreeMap<String, Wanted>,
    people: BTreeMap<String, Person>,
    contacts: Contacts,
    /// When organizations were deleted for the first time.
    deletions: BTreeMap<String, DateTime<Utc>>,
    /// By subscription, the periods that could not be charged.
    failed_payments: BTreeMap<String, BTreeSet<DateTime<Utc>>>,
    counter: u32,
}

/// Calls and deliveries fail now and then, also after they took effect.
fn faults() -> Faults {
    Faults {
        too_many_requests: 0.01,
        error_before: 0.01,
        error_after: 0.01,
        drop_before: 0.01,
        drop_after: 0.01,
        duplicate: 0.05,
        reorder: 0.05,
        late: 0.05,
        lost: 0.1,
        retry_scale: 0.02,
        ..Faults::default()
    }
}

impl World {
    async fn new(seed: u64) -> Self {
        let app = TestApp::open_with(Options {
            seed,
            faults: faults(),
            rate_limit_per_minute: u32::MAX,
            ..Options::default()
        })
        .await;
        let workers = Workers::start(&app).await;
        Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
            app,
            workers,
            organizations: BTreeMap::new(),
            people: BTreeMap::new(),
            contacts: Contacts::default(),
            deletions: BTreeMap::new(),
            failed_payments: BTreeMap::new(),
            counter: 0,
        }
    }

    fn number(&mut self) -> u32 {
        self.counter += 1;
        self.counter
    }

    /// An id that follows from the seed.
    fn id(&mut self) -> String {
        let id = uuid::Builder::from_random_bytes(self.rng.random()).into_uuid();
        id.to_string()
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.rng.random_range(0..all.len())].clone())
    }

    /// Sends a change until it is taken, as an application does: a machine under load may answer 503.
    async fn tell(&mut self, kind: &str, data: Value) {
        let change = json!({"id": self.number().to_string(), "type": kind, "data": data});
        let begun = Instant::now();
        loop {
            let answer = self.app.try_to_tell(std::slice::from_ref(&change)).await;
            if answer.status() == 202 {
                return;
            }
            assert!(begun.elapsed() < DEADLINE && answer.status() == 503);
        }
    }

    /// Everything that is wrong ends, but for what was lost.
    fn calm(&self) {
        self.app.simulator.set_gateway(None);
        self.app
            .simulator
            .set_webhook_url(Some(self.app.webhook_url()));
    }

    fn break_polar(&self) {
        self.app.simulator.set_gateway(Some(Gateway {
            status: 503,
            html: false,
            path: String::new(),
        }));
    }

    /// Waits until nothing is due, as it is between the busy times of a day. With other workers, as after a
    /// release: what a breaker remembers of an outage would only cost time.
    async fn rest(&mut self) {
        self.app.simulator.set_gateway(None);
        self.workers.replace(&self.app);
        self.until_none(
            "SELECT count(*) FROM polar_jobs.live_jobs WHERE NOT blocked AND run_at <= now()",
        )
        .await;
    }

    async fn until_none(&self, unfinished: &'static str) {
        let begun = Instant::now();
        while self.app.count(unfinished).await > 0 {
            assert!(
                begun.elapsed() < DEADLINE,
                "seed {}: unfinished: {:#?}",
                self.seed,
                self.unfinished().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What did not come to its end, in words.
    async fn unfinished(&self) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT format('%s %s due %s, %s, worker %s%s: %s', j.kind, j.ordering_key, j.run_at - now(),
                           CASE WHEN j.blocked THEN 'blocked' ELSE 'free' END, j.worker, ' until ' || w.leased_until, coalesce(j.note, j.errors::text))
               FROM polar_jobs.live_jobs j LEFT JOIN polar_jobs.workers w ON w.id = j.worker ORDER BY j.id LIMIT 50",
        )
        .fetch_all(&self.app.pool)
        .await
        .unwrap()
    }

    /// Lets everything come to its end, every wait as if its time had come. What waits for a payment waits on.
    async fn finish(&self) {
        const UNFINISHED: &str = "SELECT count(*) FROM polar_jobs.live_jobs WHERE note IS DISTINCT FROM 'not there yet: the order is not paid'";
        let begun = Instant::now();
        loop {
            self.workers.drain(&self.app).await;
            assert!(self.app.simulator.deliveries_finished(DEADLINE).await);
            sqlx::query("UPDATE polar_jobs.live_jobs SET run_at = now() WHERE worker IS NULL AND run_at > now()")
                .execute(&self.app.pool)
                .await
                .unwrap();
            if self.app.count(UNFINISHED).await == 0 {
                return;
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "seed {}: unfinished: {:#?}",
                self.seed,
                self.unfinished().await
            );
        }
    }

    async fn end(&mut self) {
        self.calm();
        self.app.simulator.set_faults(Faults::default());
        self.workers.kill_all();
        self.finish().await;
        self.note_contacts(Utc::now()).await;
        let said = run(&self.app, &["reconcile", "--repair"]).await;
        assert_eq!(said.code, 0, "seed {}: {}", self.seed, said.err);
        self.finish().await;
        self.note_contacts(Utc::now()).await;
        let (code, differences) = answer(&self.app, &["reconcile"]).await;
        assert_eq!((code, differences), (0, json!([])), "seed {}", self.seed);
    }
}

async fn whatever_happens(seed: u64, events: usize) {
    let begun = Instant::now();
    let mut world = World::new(seed).await;
    for _ in 0..events {
        let began = Utc::now();
        world.happen().await;
        world.note_contacts(began).await;
    }
    world.end().await;
    let checked = agreement::check(&world).await;
    let mails = mails::check(&world).await;
    println!(
        "seed {seed}: {events} events, {} organizations and {} people, {} kills, {} calls; {checked} customers agree, {mails}; {:.0} s",
        world.organizations.len(),
        world.people.len(),
        world.workers.kills(),
        world.app.simulator.requests().len(),
        begun.elapsed().as_secs_f64()
    );
}

fn sized(variable: &str, usual: &str) -> Vec<u64> {
    let text = std::env::var(variable).unwrap_or_else(|_| usual.to_owned());
    text.split(',')
        .map(|number| number.trim().parse().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_we_and_polar_agree_after_one_comparison() {
    let events = usize::try_from(sized("RANDOM_EVENTS", "200")[0]).unwrap();
    for seed in sized("RANDOM_SEEDS", "1,2") {
        whatever_happens(seed, events).await;
    }
}

fn uuid(text: &str) -> Uuid {
    text.parse().unwrap()
}
