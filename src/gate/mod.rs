//! What the whole fleet knows about Polar: budget, breaker, refused token.
