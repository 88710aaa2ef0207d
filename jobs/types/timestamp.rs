//! A moment as Postgres keeps it. A `timestamptz` may be infinite or lie beyond the years that the
//! calendar library knows, and any application or operator may write such a value; the library panics
//! when it reads one. So whatever lists or explains rows reads this type.

use std::fmt;

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

/// Microseconds since 2000-01-01, the beginning of Postgres' time, with its two infinities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

/// 2000-01-01 in Unix time.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The calendar repeats itself after this many years.
const CYCLE_YEARS: i64 = 400;
const CYCLE_MICROS: i64 = 146_097 * 86_400 * 1_000_000;

impl Timestamp {
    /// `infinity`.
    pub const INFINITY: Self = Self(i64::MAX);
    /// `-infinity`.
    pub const NEGATIVE_INFINITY: Self = Self(i64::MIN);

    /// The moment, where the calendar knows it.
    #[must_use]
    pub fn to_utc(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.0.checked_add(EPOCH_MICROS)?)
    }

    /// RFC 3339, with as many digits of a second as asked for; `infinity`, `-infinity`.
    #[must_use]
    pub fn to_rfc3339(self, digits: SecondsFormat) -> String {
        match self {
            Self::INFINITY => "infinity".to_owned(),
            Self::NEGATIVE_INFINITY => "-infinity".to_owned(),
            Self(micros) => match self.to_utc() {
                Some(at) => at.to_rfc3339_opts(digits, true),
                None => beyond_the_calendar(micros, digits),
            },
        }
    }
}

/// Years after 262142, shown by their place in an earlier cycle.
fn beyond_the_calendar(micros: i64, digits: SecondsFormat) -> String {
    let cycles = micros.div_euclid(CYCLE_MICROS);
    let Some(at) = Timestamp(micros.rem_euclid(CYCLE_MICROS)).to_utc() else {
        return format!("{micros} microseconds after 2000-01-01");
    };
    let year = i64::from(at.year()) + cycles * CYCLE_YEARS;
    // The year of the first cycle has four digits.
    format!("+{year}{}", &at.to_rfc3339_opts(digits, true)[4..])
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at.timestamp_micros().saturating_sub(EPOCH_MICROS))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339(SecondsFormat::Secs))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339(SecondsFormat::AutoSi))
    }
}

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => Ok(Self(<i64 as Decode<Postgres>>::decode(value)?)),
            PgValueFormat::Text => match value.as_str()? {
                "infinity" => Ok(Self::INFINITY),
                "-infinity" => Ok(Self::NEGATIVE_INFINITY),
                _ => Ok(<DateTime<Utc> as Decode<Postgres>>::decode(value)?.into()),
            },
        }
    }
}

impl Encode<'_, Postgres> for Timestamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<Postgres>>::encode(self.0, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_of_postgres_has_a_text() {
        let day = 86_400_000_000;
        for (micros, text) in [
            (0, "2000-01-01T00:00:00Z"),
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
            // The last and the first day that Postgres knows.
            (9_223_371_331_200_000_000 - day, "+294276-12-31T00:00:00Z"),
            (-211_813_488_000_000_000, "-4713-11-24T00:00:00Z"),
        ] {
            assert_eq!(Timestamp(micros).to_string(), text);
        }
    }

    #[test]
    fn infinities_lie_around_every_moment() {
        let now = Timestamp::from(Utc::now());
        assert!(Timestamp::NEGATIVE_INFINITY < now && now < Timestamp::INFINITY);
    }
}
