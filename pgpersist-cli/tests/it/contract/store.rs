//! Promises of `store`.

use crate::contract::case::{Case, promise};

pub(super) fn table() -> Vec<Case> {
    vec![
        promise("store check tells whether a store is good", &["store", "check", "backups", "--json"])
            .value("/fitness", "good")
            .value("/store", "{dir}/backups")
            .fields(&["/fitness", "/findings/0/name", "/findings/0/status", "/findings/0/summary"])
            .missing(&["/findings/0/remedy"])
            .fields(&["/latency_s/put", "/latency_s/get", "/latency_s/head", "/latency_s/list"])
            .fields(&["/throughput/bytes", "/throughput/put_bytes_per_second", "/throughput/get_bytes_per_second"]),
        promise("store check tells it in words", &["store", "check", "backups", "--no-throughput", "--quiet"])
            .stdout("{dir}/backups\n✓ objects")
            .stdout("✓ leftovers          nothing of this check is left\n")
            .stdout("It is good for us.\n"),
        promise(
            "store check without an address asks the configured store",
            &["store", "check", "--no-throughput", "--json", "--store", "backups"],
        )
        .value("/store", "{dir}/backups")
        .missing(&["/throughput"]),
        promise("store check writes nothing on a dry run", &["store", "check", "backups", "--dry-run", "--json"]).fields(&["/plan/0"]),
        promise("store check needs a store", &["store", "check", "--json"]).code(2).error("invalid"),
        promise("store check takes one store", &["store", "check", "one", "--store", "two", "--json"]).code(2).error("invalid"),
        promise("store check of no kind of store is invalid", &["store", "check", "ftp://host/x", "--json"]).code(2).error("invalid"),
        promise(
            "a bucket that cannot be reached is unavailable",
            &["store", "check", "s3://b?endpoint=http://127.0.0.1:1&deadline=1s", "--json"],
        )
        .variable("AWS_ACCESS_KEY_ID", "k")
        .variable("AWS_SECRET_ACCESS_KEY", "canary")
        .code(6)
        .error("unavailable"),
        promise("a credential in an address is refused", &["list", "--store", "s3://b?secret_access_key=canary"])
            .code(2)
            .stderr("looks like a credential"),
    ]
}
