//! A job's payload on its way into its column, which keeps JSON as text. The database library sends JSON values as
//! `jsonb`, which Postgres would take apart and put together again, only for the job to take it apart once more.

use serde_json::Value;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo};
use sqlx::{Encode, Postgres, Type};

/// The types `json` and `json[]`, as Postgres numbers them everywhere (its `pg_type.dat`).
const JSON: Oid = Oid(114);
const JSON_ARRAY: Oid = Oid(199);

/// A payload as a parameter of type `json`.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a>(pub &'a Value);

impl Type<Postgres> for Payload<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(JSON)
    }
}

impl PgHasArrayType for Payload<'_> {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(JSON_ARRAY)
    }
}

impl Encode<'_, Postgres> for Payload<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        serde_json::to_writer(&mut **buffer, self.0)?;
        Ok(IsNull::No)
    }
}
