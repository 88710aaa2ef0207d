//! What organizations pay where no grant says otherwise.

use jobs::contract::Fees;

use super::{ConfigError, Environment};

/// 100 %.
const WHOLE: i32 = 10_000;

pub(super) fn platform(environment: &Environment) -> Result<Fees, ConfigError> {
    Ok(Fees {
        basis_points: environment.whole_number("PLATFORM_FEE_BASIS_POINTS", 500, 0..=WHOLE)?,
        fixed: environment.whole_number("PLATFORM_FEE_FIXED", 50, 0..=i32::MAX)?,
        subscription_basis_points: environment.whole_number(
            "PLATFORM_SUBSCRIPTION_FEE_BASIS_POINTS",
            0,
            0..=WHOLE,
        )?,
    })
}

pub(super) fn early(environment: &Environment) -> Result<Fees, ConfigError> {
    Ok(Fees {
        basis_points: environment.whole_number(
            "PLATFORM_FEE_BASIS_POINTS_EARLY_ACCESS",
            400,
            0..=WHOLE,
        )?,
        fixed: environment.whole_number("PLATFORM_FEE_FIXED_EARLY_ACCESS", 40, 0..=i32::MAX)?,
        subscription_basis_points: environment.whole_number(
            "PLATFORM_SUBSCRIPTION_FEE_BASIS_POINTS_EARLY_ACCESS",
            50,
            0..=WHOLE,
        )?,
    })
}
