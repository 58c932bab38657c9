//! Promises of `temp`.

use crate::contract::case::{Case, promise};

pub(super) fn table() -> Vec<Case> {
    vec![
        promise("temp --json has its promised fields, before the command runs", &["temp", "--json", "--", "true"])
            .variable("TMPDIR", "{dir}")
            .fields(&["/host", "/port", "/user", "/database", "/url", "/data_directory"]),
        promise("a version that is not there is not found", &["temp", "--postgres-version", "99", "--", "true"])
            .code(4)
            .stderr("error: found no PostgreSQL 99"),
        promise("temp --dry-run tells the plan", &["temp", "--dry-run", "--json", "--", "true"]).fields(&["/plan/0"]),
    ]
}
