//! Logical backup: plain `.sql.gz` that any `psql` can read without us.

pub mod copy_scan;
pub mod gzip;
pub mod psql_script;
