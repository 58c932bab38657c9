//! Logical backup: plain `.sql.gz` that any `psql` can read without us.

pub mod cluster_card;
pub mod copy_scan;
pub mod database_state;
pub mod drill_records;
pub mod dump;
pub mod dump_cluster;
pub mod dump_request;
pub mod globals;
pub mod gzip;
pub mod known_store;
pub mod load;
pub mod load_options;
mod load_script;
mod member;
pub mod name;
pub mod object_reader;
mod ownership;
pub mod prune_plan;
pub mod psql_script;
mod scratch_database;
pub mod shelf;
pub mod side_file;
mod standing;
mod steward;
mod store_output;
mod system_identifier;
pub mod verify;
