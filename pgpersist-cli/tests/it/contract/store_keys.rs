//! Promises of `store key`.

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;

const KEY: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

/// Gives the store of the journey one recipient, whose key lies beside.
fn encrypt(cluster: &TestCluster) {
    let key = cluster.scratch.write("volume/key.txt", KEY);
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let store = "[[store]]\nurl = \"{dir}/volume/backups\"\n";
    let encrypted = format!("{store}encryption = {{ recipients = [\"{RECIPIENT}\"], identity_file = \"{{dir}}/volume/key.txt\" }}\n");
    let text = crate::support::cluster::CONFIGURATION.replacen(store, &encrypted, 1);
    cluster.scratch.write("pgpersist.toml", &format!("{text}databases = [\"orders\"]\n"));
}

/// Lines that need no cluster.
pub(super) fn table() -> Vec<Case> {
    vec![
        promise("a key is made, and only its public half shown", &["store", "key", "new", "key.txt", "--json"])
            .fields(&["/file", "/public_key"]),
        promise("keys of a store that is not encrypted are invalid", &["store", "key", "list", "--store", "{dir}/backups", "--json"])
            .code(2)
            .error("invalid"),
    ]
}

/// Lines that share one cluster whose store is encrypted.
pub(super) fn journey() -> Vec<Case> {
    vec![
        promise("without a tested key the list of keys warns", &["store", "key", "list", "--json"])
            .before(encrypt)
            .code(3)
            .value("/data_keys", serde_json::json!([]))
            .missing(&["/proof"]),
        promise("an encrypted dump says to whom", &["dump", "--json"]).fields(&[
            "/encryption/data_key",
            "/encryption/recipients/0",
            "/sha256",
        ]),
        promise("a test proves a key and records it", &["store", "key", "test", "--identity", "{dir}/volume/key.txt", "--json"]).fields(&[
            "/holder",
            "/data_keys",
            "/dump",
            "/proven_at",
        ]),
        promise("a key of somebody else is denied", &["store", "key", "test", "--identity", "{dir}/volume/other.txt", "--json"])
            .before(|cluster| {
                cluster.run(&["store", "key", "new", "{dir}/volume/other.txt"]).done();
            })
            .code(1)
            .error("denied"),
        promise("the list tells who opens what", &["store", "key", "list", "--json"])
            .fields(&["/data_keys/0/name", "/data_keys/0/made_at", "/data_keys/0/public_key", "/data_keys/0/holders/0", "/proof/proven_at"])
            .value("/data_keys/0/missing", serde_json::json!([])),
        promise("a rotation makes a new data key", &["store", "key", "rotate", "--json"]).fields(&[
            "/name",
            "/public_key",
            "/recipients/0",
        ]),
        promise("who has every key is added nowhere", &["store", "key", "add", "--json"]).value("/added", serde_json::json!([])),
        promise("the last one who opens a key is not removed", &["store", "key", "remove", RECIPIENT, "--json"]).code(5).error("unsafe"),
        promise("an encrypted dump is loaded with the configured key", &["load", "latest", "-d", "copy", "--json"])
            .value("/verified", true),
        promise("verify looks into encrypted dumps, and at the keys", &["verify", "--json"])
            .value("/damaged", serde_json::json!([]))
            .value("/unopened", serde_json::json!([]))
            .value("/objects", 4),
    ]
}

#[test]
fn what_keys_of_a_store_promise() {
    let cluster = TestCluster::running("databases = [\"orders\"]\n");
    cluster.fill("orders");
    travel(&cluster, journey());
}
