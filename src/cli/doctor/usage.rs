//! Whether what was used is counted, and if not, who or what keeps it from being counted.

use jobs::mirror::usage::{
    HorizonHolder, Uncounted, grant_to_see_sessions, horizon_holder, uncounted,
};
use sqlx::PgPool;

use super::super::output::moment;
use super::Finding;

pub(super) async fn check(pool: &PgPool) -> Result<Vec<Finding>, sqlx::Error> {
    Ok(vec![counted(pool).await?])
}

async fn counted(pool: &PgPool) -> Result<Finding, sqlx::Error> {
    let Some(late) = uncounted(pool).await?.filter(Uncounted::is_late) else {
        return Ok(Finding::ok("usage", "nothing waits to be counted for long"));
    };
    let what = format!("not counted since {}", moment(late.since));
    let holder = horizon_holder(pool).await?.filter(|_| late.held_back);
    let Some(holder) = holder else {
        return Ok(Finding::error(
            "usage",
            format!("{what}, although no open transaction holds it back"),
            "see that a worker runs, and polar-jobs jobs list --kind meter_usage",
        ));
    };
    let what = format!("{what}: {holder} has written something and is still open");
    let mut fix = end(&holder);
    if holder.seen.is_none() {
        let grant = grant_to_see_sessions(pool).await?;
        fix = format!("{grant} shows since when it is open and what it does; then {fix}");
    }
    Ok(Finding::error("usage", what, fix))
}

fn end(holder: &HorizonHolder) -> String {
    match holder.pid {
        Some(pid) => format!("end it, or SELECT pg_terminate_backend({pid})"),
        None => format!("COMMIT PREPARED or ROLLBACK PREPARED '{}'", holder.name),
    }
}
