//! Integration tests: one binary, one file a feature.

mod store_contract;
