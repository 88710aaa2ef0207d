//! Which Postgres opens this data: the one of the version that wrote it; for a new cluster the best there is, fetched
//! if need be.

use super::{
    account::Account,
    binaries::Binaries,
    cluster,
    error::Error,
    fetch,
    find::{Finding, Search},
    place::Place,
};

/// The Postgres for this data: one of the version that wrote it, or any for a new cluster.
pub(super) fn choose(search: &Search, place: &Place, account: &Account) -> Result<Binaries, Error> {
    let written_by = cluster::version_of(&place.data)?;
    let binaries = locate(search, written_by, account)?;
    match written_by {
        Some(data) if data != binaries.major => Err(Error::DataVersion {
            data,
            found: binaries.major,
            directory: place.data.clone(),
        }),
        _ => Ok(binaries),
    }
}

/// The best Postgres that can be had; of major version `wanted` where there is one.
pub(super) fn locate(
    search: &Search,
    wanted: Option<u32>,
    account: &Account,
) -> Result<Binaries, Error> {
    let Finding {
        suitable,
        mut looked_at,
    } = search.find(wanted, account)?;
    if let Some(best) = suitable.into_iter().next() {
        return Ok(best);
    }
    let fetched = fetch::fetch(
        &search.cache,
        &search.clients,
        &search.path,
        account,
        &mut looked_at,
    )?;
    fetched.ok_or(Error::NotFound { looked_at })
}
