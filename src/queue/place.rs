//! Where a version of a row is, which Postgres calls `ctid`: the shortest way back to it, without an index.
//!
//! A row that is changed moves to another place, and its former place may be given to another row. So whoever
//! goes back by place checks who is there, and looks for the row by its id where it is somebody else.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

/// The types `tid` and `tid[]`, whose numbers are the same in every Postgres (`pg_type.dat`).
const TID: Oid = Oid(27);
const TIDS: Oid = Oid(1010);

/// The default is a place where no row ever is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowPlace {
    page: u32,
    item: u16,
}

impl Type<Postgres> for RowPlace {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TID)
    }
}

impl PgHasArrayType for RowPlace {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIDS)
    }
}

impl Encode<'_, Postgres> for RowPlace {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.page.to_be_bytes());
        buffer.extend_from_slice(&self.item.to_be_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for RowPlace {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let bytes: [u8; 6] = value.as_bytes()?.try_into()?;
        let [a, b, c, d, e, f] = bytes;
        Ok(Self {
            page: u32::from_be_bytes([a, b, c, d]),
            item: u16::from_be_bytes([e, f]),
        })
    }
}
