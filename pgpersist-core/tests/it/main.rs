//! Integration tests: one binary, one file a feature.

mod logical;
mod support;
