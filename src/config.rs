//! The environment, parsed once.
