//! Integration tests: one binary, one file a feature.
