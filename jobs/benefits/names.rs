//! What the catalogue at Polar calls its metadata: see `docs/catalogue.md`.

/// Of a benefit: what it switches on.
pub const TYPE: &str = "type";
/// The type of a benefit that gives fees.
pub const TRANSACTION_FEE: &str = "transaction_fee";
/// Of such a benefit: the share of a transaction, in basis points.
pub const FEE_PERCENT: &str = "fee_percent";
/// Of such a benefit: cents per transaction.
pub const FEE_FIXED: &str = "fee_fixed";
/// Of such a benefit: the additional share on subscriptions, in basis points.
pub const SUBSCRIPTION_FEE_PERCENT: &str = "subscription_fee_percent";
/// Of a product: its place among the plans.
pub const ORDER: &str = "order";
/// Of a product: what its description lists.
pub const FEATURES: &str = "features";
