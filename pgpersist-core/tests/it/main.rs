//! Integration tests: one binary, one file a feature.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails; clippy knows test functions only, not what they call")]

mod support;

mod clouds;
mod cluster;
mod configured;
mod continue_as;
mod control_file;
mod data_directory;
mod drill_crash;
mod drill_restore;
mod encrypted_shelf;
mod floors;
mod golden;
mod health;
mod health_backups;
mod logical;
mod migration;
mod physical;
mod physical_compaction;
mod physical_damage;
mod physical_delta;
mod physical_encrypted;
mod physical_export;
mod physical_faults;
mod physical_majors;
mod physical_prune;
mod physical_restore;
mod physical_siblings;
mod physical_sources;
mod physical_summaries;
mod postmaster_pid;
mod promotion;
mod readme;
mod root;
mod session;
mod shelf;
mod store_check;
mod store_contract;
mod temporary;
