//! Where a version of a row is, which Postgres calls `ctid`: the shortest way back to it, without an index.
//!
//! An update moves a row to another ctid, and its former one may be given to another row. So whoever looks for a row by its
//! ctid checks its id too, and looks for the id where it is another row's.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

/// The types `tid` and `tid[]`, whose numbers are the same in every Postgres (`pg_type.dat`).
const TID_OID: Oid = Oid(27);
const TID_ARRAY_OID: Oid = Oid(1010);

/// Page and item; the default is one at which no row ever is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ctid {
    page: u32,
    item: u16,
}

impl Type<Postgres> for Ctid {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TID_OID)
    }
}

impl PgHasArrayType for Ctid {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TID_ARRAY_OID)
    }
}

impl Encode<'_, Postgres> for Ctid {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.page.to_be_bytes());
        buffer.extend_from_slice(&self.item.to_be_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for Ctid {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let bytes: [u8; 6] = value.as_bytes()?.try_into()?;
        let [a, b, c, d, e, f] = bytes;
        Ok(Self {
            page: u32::from_be_bytes([a, b, c, d]),
            item: u16::from_be_bytes([e, f]),
        })
    }
}
