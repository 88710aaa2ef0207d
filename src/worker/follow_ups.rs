//! What the jobs that follow from a job have from it: its urgency and its causes.

use jobs::NewJob;

/// Events of a job that its follow-ups answer for, the newest ones: a job that waited long may have thousands.
const INHERITED_EVENTS: usize = 100;

/// What follows from a job is no more urgent than the job: a backfill's thousand follow-ups stay behind
/// what people wait for. News from elsewhere make one of them urgent by being merged into it.
pub(super) fn no_more_urgent(priority: i16, next: Vec<NewJob>) -> Vec<NewJob> {
    let behind = |job: NewJob| {
        let own = job.priority;
        job.with_priority(own.max(priority))
    };
    next.into_iter().map(behind).collect()
}

/// Follow-ups with the events that caused the job, so that an event fails with the worst of what follows
/// from it. A row is written with one event: jobs with one unique key are merged where they are stored, and
/// their events with them, so such a job is given once for each event.
pub(super) fn caused_by(events: &[i64], next: Vec<NewJob>) -> Vec<NewJob> {
    let (Some(&newest), true) = (events.last(), next.iter().any(|job| job.event.is_none())) else {
        return next;
    };
    next.into_iter()
        .flat_map(|job| match (&job.event, &job.unique_key) {
            (None, Some(_)) => events
                .iter()
                .rev()
                .take(INHERITED_EVENTS)
                .map(|&event| job.clone().caused_by(event))
                .collect(),
            (None, None) => vec![job.caused_by(newest)],
            (Some(_), _) => vec![job],
        })
        .collect()
}
