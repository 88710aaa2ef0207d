//! Measures this installation with the product's real code paths.
