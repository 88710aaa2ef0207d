//! Every metric by name, with the words that Prometheus shows for it. `docs/operating.md` has the same
//! list for people; a test compares the two with what the code records.
//!
//! Labels are few and bounded: kinds, queues, classes and reasons, never an id.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};

/// Which process records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorder {
    /// `polar-jobs ingress`.
    Ingress,
    /// `polar-jobs worker`.
    Worker,
    /// Both: the ingress calls Polar as well, for the organizations API, and the fleet's gauges come from the database,
    /// so that they are there while no worker lives.
    Both,
}

/// What a metric is for Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with Prometheus' suffixes.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// Its labels, separated by blanks.
    pub labels: &'static str,
    /// Who records it.
    pub recorder: Recorder,
    /// What it says.
    pub help: &'static str,
}

/// All metrics, in the order of the documentation.
pub const METRICS: &[Metric] = &[
    gauge(
        "polar_jobs_workers_alive",
        "",
        Recorder::Both,
        "Workers whose lease holds and whose session lock is taken.",
    ),
    gauge(
        "polar_jobs_oldest_due_seconds",
        "queue",
        Recorder::Both,
        "For how long the oldest unfinished work has been due, its retries included.",
    ),
    gauge(
        "polar_jobs_queue_depth",
        "queue",
        Recorder::Both,
        "Jobs that wait, without those behind another one of their ordering key; counted up to 10 000.",
    ),
    gauge(
        "polar_jobs_oldest_difference_seconds",
        "",
        Recorder::Both,
        "For how long the oldest difference to Polar that is not repaired has been known; 0 without one.",
    ),
    gauge(
        "polar_jobs_discarded_jobs",
        "",
        Recorder::Both,
        "Discarded jobs that nobody retried or acknowledged; counted up to 10 000.",
    ),
    gauge(
        "polar_jobs_usage_uncounted_seconds",
        "",
        Recorder::Both,
        "For how long the oldest reading that no window holds has been waiting; windows close every 300 s.",
    ),
    gauge(
        "polar_jobs_schedule_overdue_seconds",
        "schedule",
        Recorder::Both,
        "For how long a tick of the schedule has been due; 0 where none is.",
    ),
    gauge(
        "polar_jobs_webhook_endpoint_enabled",
        "",
        Recorder::Both,
        "1 where Polar delivers to us, 0 where our webhook endpoint is disabled or missing.",
    ),
    count(
        "polar_jobs_deliveries_total",
        "status",
        Recorder::Ingress,
        "Deliveries of Polar, by the status answered.",
    ),
    count(
        "polar_jobs_deliveries_refused_total",
        "reason",
        Recorder::Ingress,
        "Deliveries that were not stored, by reason.",
    ),
    count(
        "polar_jobs_changes_requests_total",
        "status",
        Recorder::Ingress,
        "Requests of POST /changes, by the status answered.",
    ),
    gauge(
        "polar_jobs_http_connections",
        "",
        Recorder::Both,
        "Open connections of HTTP clients.",
    ),
    gauge(
        "polar_jobs_ingress_queue_length",
        "",
        Recorder::Ingress,
        "Verified deliveries that wait for their commit.",
    ),
    gauge(
        "polar_jobs_ingress_queue_bytes",
        "",
        Recorder::Ingress,
        "Bytes of the deliveries that wait for their commit.",
    ),
    gauge(
        "polar_jobs_ingress_body_bytes",
        "route",
        Recorder::Ingress,
        "Bytes of request bodies in memory, of a bounded budget.",
    ),
    count(
        "polar_jobs_http_slow_readers_total",
        "",
        Recorder::Both,
        "Connections closed because the client did not read its answers.",
    ),
    count(
        "polar_jobs_attempts_total",
        "kind result",
        Recorder::Worker,
        "Attempts that ended, by kind and result: applied, ignored, failed, discarded, waiting.",
    ),
    histogram(
        "polar_jobs_attempt_duration_seconds",
        "kind",
        Recorder::Worker,
        "How long attempts ran, by kind.",
    ),
    histogram(
        "polar_jobs_start_delay_seconds",
        "queue",
        Recorder::Worker,
        "From the moment a job was due until its first attempt began, by queue.",
    ),
    histogram(
        "polar_jobs_sync_lag_seconds",
        "kind",
        Recorder::Worker,
        "From the moment a change or a delivery came in until what it asks for held at Polar and in the tables, by kind of the job that saw to it.",
    ),
    gauge(
        "polar_jobs_slots",
        "queue",
        Recorder::Worker,
        "Jobs that this process may run at once, by queue.",
    ),
    gauge(
        "polar_jobs_slots_used",
        "queue",
        Recorder::Worker,
        "Jobs that this process holds, by queue.",
    ),
    gauge(
        "polar_jobs_headless_keys",
        "",
        Recorder::Worker,
        "Ordering keys with waiting jobs of which none could run, at the last check; they are released then.",
    ),
    count(
        "polar_jobs_unknown_kind_total",
        "",
        Recorder::Worker,
        "Jobs requeued because this release does not know their kind.",
    ),
    count(
        "polar_jobs_reclaimed_workers_total",
        "",
        Recorder::Worker,
        "Dead workers whose jobs this process took back.",
    ),
    count(
        "polar_jobs_reclaimed_jobs_total",
        "result",
        Recorder::Worker,
        "Jobs reclaimed from dead workers, by result: returned, discarded.",
    ),
    count(
        "polar_jobs_api_calls_total",
        "class",
        Recorder::Both,
        "Calls to Polar that went out.",
    ),
    count(
        "polar_jobs_api_answers_total",
        "answer",
        Recorder::Both,
        "Calls to Polar that came back, by what they came back with.",
    ),
    count(
        "polar_jobs_api_rejected_total",
        "class reason",
        Recorder::Both,
        "Calls to Polar that had to wait, by reason.",
    ),
    gauge(
        "polar_jobs_api_calls_in_flight",
        "",
        Recorder::Both,
        "Calls to Polar under way in this process.",
    ),
    gauge(
        "polar_jobs_missing_scope",
        "scope",
        Recorder::Both,
        "1 while the access token lacks the scope and the calls that need it wait.",
    ),
    gauge(
        "polar_jobs_api_budget_left",
        "",
        Recorder::Both,
        "Calls that the fleet may make at once.",
    ),
    gauge(
        "polar_jobs_breaker_open",
        "",
        Recorder::Both,
        "1 while Polar counts as down and calls wait.",
    ),
    gauge(
        "polar_jobs_outward_paused",
        "",
        Recorder::Both,
        "1 while Polar refuses the access token and calls wait.",
    ),
    count(
        "polar_jobs_catalogue_faults_total",
        "",
        Recorder::Worker,
        "Grants that cannot be applied: unreadable metadata, or two of one type.",
    ),
    count(
        "polar_jobs_usage_counted_total",
        "",
        Recorder::Worker,
        "Readings counted into closed windows.",
    ),
    count(
        "polar_jobs_usage_reported_total",
        "",
        Recorder::Worker,
        "Windows reported to Polar.",
    ),
    count(
        "polar_jobs_usage_refused_total",
        "",
        Recorder::Worker,
        "Windows that Polar refused.",
    ),
    gauge(
        "polar_jobs_usage_difference",
        "",
        Recorder::Both,
        "Usage that the last nightly proof found missing or reported too much, added up; 0 when all was right.",
    ),
    gauge(
        "polar_jobs_usage_window_faults",
        "",
        Recorder::Both,
        "Windows that the last nightly proof found not to begin where the one before ended; 0 when none is missing.",
    ),
    count(
        "polar_jobs_costs_reported_total",
        "",
        Recorder::Worker,
        "Costs reported to Polar.",
    ),
    count(
        "polar_jobs_costs_refused_total",
        "",
        Recorder::Worker,
        "Costs that Polar refused.",
    ),
    count(
        "polar_jobs_mails_total",
        "state",
        Recorder::Worker,
        "Mails by what became of them: sent, failed, skipped.",
    ),
    count(
        "polar_jobs_log_lines_lost_total",
        "",
        Recorder::Both,
        "Log lines that standard error did not take.",
    ),
];

const fn count(
    name: &'static str,
    labels: &'static str,
    recorder: Recorder,
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Type::Counter,
        labels,
        recorder,
        help,
    }
}

const fn gauge(
    name: &'static str,
    labels: &'static str,
    recorder: Recorder,
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Type::Gauge,
        labels,
        recorder,
        help,
    }
}

const fn histogram(
    name: &'static str,
    labels: &'static str,
    recorder: Recorder,
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Type::Histogram,
        labels,
        recorder,
        help,
    }
}

/// Gives the installed recorder HELP and unit of every metric.
pub(super) fn describe() {
    for metric in METRICS {
        let unit = match metric.name {
            name if name.ends_with("_seconds") => Unit::Seconds,
            name if name.ends_with("_bytes") => Unit::Bytes,
            _ => Unit::Count,
        };
        match metric.kind {
            Type::Counter => describe_counter!(metric.name, unit, metric.help),
            Type::Gauge => describe_gauge!(metric.name, unit, metric.help),
            Type::Histogram => describe_histogram!(metric.name, unit, metric.help),
        }
    }
}

/// Shows the counters without labels from the start: one that appears with its first event has no
/// growth that an alert could see.
pub fn start_at_zero(process: Recorder) {
    let ours = |metric: &&Metric| metric.recorder == process || metric.recorder == Recorder::Both;
    for metric in METRICS.iter().filter(ours) {
        if metric.kind == Type::Counter && metric.labels.is_empty() {
            counter!(metric.name).increment(0);
        }
    }
}
