//! Promises of `dump`, `list`, `show` and `load`.

use std::time::{Duration, Instant};

use crate::contract::case::{Case, promise, travel};
use crate::support::cluster::TestCluster;
use crate::support::user;

/// The names of all dumps in the store, in order.
fn names(cluster: &TestCluster) -> Vec<String> {
    let store = cluster.store();
    let mut names: Vec<String> = cluster
        .store_tree()
        .paths()
        .filter_map(|path| Some(path.strip_prefix(&store).ok()?.to_str()?.to_owned()))
        .filter(|name| name.contains("backup_") && name.ends_with(".sql.gz"))
        .collect();
    names.sort();
    names
}

/// Puts a database's newest dump, without its side file, where command lines can name it.
fn put_aside(cluster: &TestCluster, database: &str) {
    let name = names(cluster).into_iter().filter(|name| name.starts_with(database)).max().unwrap();
    let bytes = std::fs::read(cluster.store().join(name)).unwrap();
    cluster.scratch.write_bytes("dump.sql.gz", &bytes);
}

fn owner_of_orders(cluster: &TestCluster, database: &str) -> String {
    cluster.sql(database, "SELECT tableowner FROM pg_tables WHERE tablename = 'orders'")
}

/// Lets the newest dump's side file name a locale that no system has.
fn of_another_locale(cluster: &TestCluster) {
    let name = format!("volume/backups/{}.json", cluster.run(&["show", "latest", "--json"]).done().json()["name"].as_str().unwrap());
    let mut side_file: serde_json::Value = serde_json::from_slice(&std::fs::read(cluster.scratch.join(&name)).unwrap()).unwrap();
    side_file["state"]["collate"] = "tlh_KX.utf8".into();
    side_file["state"]["ctype"] = "tlh_KX.utf8".into();
    cluster.scratch.write_bytes(&name, &serde_json::to_vec(&side_file).unwrap());
}

/// How the session of [`sit_in`] is known.
const SITTING: &str = "application_name = 'psql' AND datname LIKE 'trusted%'";

/// Leaves a session in a database, which ends with it or with the server.
fn sit_in(cluster: &TestCluster, database: &str) {
    cluster.sql_in_background(database, "SELECT pg_sleep(600)");
    let deadline = Instant::now() + Duration::from_secs(60);
    while cluster.sql("postgres", &format!("SELECT count(*) FROM pg_stat_activity WHERE {SITTING}")) != "1" {
        assert!(Instant::now() < deadline, "the session does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lines that share one cluster with the database `customerInvoice`; which databases are configured differs by line.
pub(super) fn journey() -> Vec<Case> {
    const NO_STORE: &str = "/dev/null";
    const AT_THE_SERVER: &[(&str, &str)] = &[("PGPERSIST_CLUSTER_DATA_DIRECTORY", "{dir}/volume/data")];
    let without_store = |words: &[&'static str], what: &'static str| {
        let words = [words, &["--config", NO_STORE]].concat();
        AT_THE_SERVER.iter().fold(promise(what, &words), |case, (name, value)| case.variable(name, value)).code(2).stderr("remedy: ")
    };
    vec![
        without_store(&["dump"], "dump without a store is invalid").stderr("--store"),
        without_store(&["list"], "list without a store is invalid"),
        without_store(&["show", "latest"], "show without a store is invalid"),
        without_store(&["load", "latest"], "load without a store is invalid"),
        without_store(&["verify"], "verify without a store is invalid"),
        without_store(&["prune"], "prune without a store is invalid"),
        promise("an empty store lists nothing", &["list", "--json"])
            .value("/dumps", serde_json::json!([]))
            .value("/backups", serde_json::json!([]))
            .value("/windows", serde_json::json!([])),
        promise("what is not there is not found", &["show", "latest", "--json"]).code(4).error("not_found"),
        promise("a dry run of dump tells the plan", &["dump", "--dry-run", "--json"])
            .fields(&["/plan/0"])
            .then(|cluster| assert!(names(cluster).is_empty())),
        promise("a dump of a database that is not there is not found", &["dump", "-d", "absent", "--json"]).code(4).error("not_found"),
        promise("without configured databases every one is dumped, into folders", &["dump", "--json"])
            .value("/database", "customerInvoice")
            .value("/dumps/0/database", "customerInvoice")
            .fields(&["/name", "/size_bytes", "/duration_s", "/started_at", "/sha256"])
            .fields(&["/dumps/0/name", "/dumps/0/size_bytes", "/dumps/0/duration_s", "/dumps/0/started_at", "/dumps/0/sha256"])
            .then(|cluster| assert!(matches!(&names(cluster)[..], [one] if one.starts_with("customerInvoice/backup_")))),
        promise("PGDATABASE says what is dumped", &["dump", "--json"]).variable("PGDATABASE", "postgres").value("/database", "postgres"),
        promise("one configured database lies at the top", &["dump", "--json"])
            .variable("PGPERSIST_CLUSTER_DATABASES", "customerInvoice")
            .value("/database", "customerInvoice")
            .then(|cluster| assert_eq!(names(cluster).iter().filter(|name| name.starts_with("backup_")).count(), 1)),
        promise("a named database that is not the configured one lies in its folder", &["dump", "-d", "postgres", "--json"])
            .variable("PGPERSIST_CLUSTER_DATABASES", "customerInvoice")
            .then(|cluster| assert_eq!(names(cluster).iter().filter(|name| name.starts_with("postgres/backup_")).count(), 2)),
        promise("several configured databases lie in folders", &["dump", "--json"])
            .variable("PGPERSIST_CLUSTER_DATABASES", "customerInvoice,postgres")
            .value("/dumps/0/database", "customerInvoice")
            .value("/dumps/1/database", "postgres")
            .then(|cluster| assert_eq!(names(cluster).len(), 6)),
        promise("list tells names, databases and sizes, newest first", &["list", "--json"])
            .fields(&["/dumps/0/name", "/dumps/0/database", "/dumps/0/size_bytes", "/dumps/0/sha256", "/dumps/5/name"])
            .value("/dumps/0/state", "complete"),
        promise("list is a line for each dump", &["list"]).stdout("customerInvoice/backup_").stdout("  customerInvoice  "),
        promise("the latest of several databases is asked for", &["show", "latest", "--json"]).code(2).error("invalid"),
        promise("which of several is meant by a new name is not guessed", &["load", "latest", "-d", "new", "--json"])
            .code(2)
            .error("invalid"),
        promise("the latest of one database is verified", &["verify", "latest", "-d", "customerInvoice", "--quick", "--json"])
            .value("/objects", 1),
        promise("show tells the rows", &["show", "latest", "-d", "customerInvoice", "--json"])
            .value("/database", "customerInvoice")
            .value("/side_file/tables/public.orders", 8)
            .fields(&["/name", "/size_bytes", "/side_file/sha256"]),
        promise("a database that is not empty is not replaced", &["load", "latest", "-d", "customerInvoice", "--json"])
            .code(5)
            .error("conflict"),
        promise("replacing needs a confirmation and shows its plan", &["load", "latest", "-d", "customerInvoice", "--clean", "--json"])
            .code(5)
            .error("unsafe")
            .fields(&["/plan/0"])
            .then(|cluster| assert_eq!(cluster.databases(), ["customerInvoice"])),
        promise("the plan is also told in words", &["load", "latest", "-d", "customerInvoice", "--clean"])
            .code(5)
            .stderr("  plan:\n    1. load customerInvoice/backup_")
            .stderr("repeat the command with `--yes`"),
        promise("a dry run of load tells the plan", &["load", "latest", "-d", "customerInvoice", "--clean", "--dry-run", "--json"])
            .fields(&["/plan/0"])
            .then(|cluster| assert_eq!(cluster.databases(), ["customerInvoice"])),
        promise(
            "a confirmed replacement keeps the old one aside",
            &["load", "latest", "-d", "customerInvoice", "--clean", "--yes", "--json"],
        )
        .before(|cluster| drop(cluster.sql("customerInvoice", "DELETE FROM orders WHERE id > 5")))
        .value("/database", "customerInvoice")
        .value("/verified", true)
        .fields(&["/name", "/duration_s", "/kept_aside"])
        .then(|cluster| {
            assert_eq!(cluster.sql("customerInvoice", "SELECT count(*) FROM orders"), "8");
            let databases = cluster.databases();
            let aside = databases.iter().find(|name| name.starts_with("customerInvoice_before_")).unwrap();
            assert_eq!(cluster.sql(aside, "SELECT count(*) FROM orders"), "5");
            assert_eq!(databases.len(), 2, "{databases:?}");
        }),
        promise(
            "a file that is loaded by its path knows nothing to compare with",
            &["load", "{dir}/dump.sql.gz", "-d", "by_path", "--json"],
        )
        .before(|cluster| {
            cluster.dump(&["-d", "customerInvoice"]);
            put_aside(cluster, "customerInvoice");
        })
        .code(3)
        .stdout("belongs to `by_path_owner`")
        .value("/verified", serde_json::Value::Null)
        .value("/database", "by_path")
        .fields(&["/warnings/0"])
        .then(|cluster| assert_eq!(cluster.sql("by_path", "SELECT sum(amount) FROM orders"), "36")),
        promise("standard input is loaded", &["load", "-", "-d", "by_input", "--json"])
            .stdin("{dir}/dump.sql.gz")
            .code(3)
            .stdout("belongs to `by_input_owner`")
            .value("/verified", serde_json::Value::Null)
            .then(|cluster| assert_eq!(cluster.sql("by_input", "SELECT sum(amount) FROM orders"), "36")),
        promise("a trusted dump is as it was, whoever made it", &["load", "{dir}/dump.sql.gz", "-d", "by_trust", "--trust", "--json"])
            .then(|cluster| {
                assert_eq!(
                    cluster
                        .sql("by_trust", "SELECT rolsuper FROM pg_roles r JOIN pg_class c ON c.relowner = r.oid WHERE relname = 'orders'"),
                    "t"
                )
            }),
        promise("standard input tells no database", &["load", "-", "--json"]).stdin("{dir}/dump.sql.gz").code(2).error("invalid"),
        promise("the latest is loaded under its own name", &["load", "latest", "--json"])
            .before(|cluster| {
                for name in names(cluster).iter().filter(|name| name.starts_with("postgres/")) {
                    std::fs::remove_file(cluster.store().join(name)).unwrap();
                }
                cluster.sql("postgres", "DROP DATABASE \"customerInvoice\"");
            })
            .value("/database", "customerInvoice")
            .value("/verified", true)
            .then(|cluster| assert_eq!(cluster.sql("customerInvoice", "SELECT sum(amount) FROM orders"), "36")),
        promise("a dump is run as the superuser where it is trusted", &["load", "latest", "-d", "trusted", "--trust", "--json"])
            .value("/verified", true)
            .fields(&["/name", "/database", "/duration_s", "/tables"]),
        promise("things keep the owner that the dump names", &["load", "latest", "-d", "owned", "--json"])
            .before(|cluster| {
                cluster.sql("customerInvoice", "CREATE ROLE seller; ALTER TABLE orders OWNER TO seller");
                cluster.dump(&["-d", "customerInvoice"]);
            })
            .value("/verified", true)
            .then(|cluster| assert_eq!(owner_of_orders(cluster, "owned"), "seller")),
        promise("things belong to the database's owner where that is wanted", &["load", "latest", "-d", "unowned", "--no-owner", "--json"])
            .value("/verified", true)
            .then(|cluster| assert_eq!(owner_of_orders(cluster, "unowned"), user::superuser())),
        promise("a locale that the server does not have is refused", &["load", "latest", "-d", "strange", "--json"])
            .before(of_another_locale)
            .code(5)
            .error("conflict")
            .then(|cluster| assert!(!cluster.databases().contains(&"strange".to_owned()))),
        promise("another locale is accepted where that is wanted", &["load", "latest", "-d", "strange", "--accept-locale", "--json"])
            .value("/verified", true),
        promise("a database in use is not replaced", &["load", "latest", "-d", "trusted", "--clean", "--yes", "--accept-locale", "--json"])
            .before(|cluster| sit_in(cluster, "trusted"))
            .code(5)
            .error("conflict"),
        promise(
            "other sessions are ended where that is wanted",
            &["load", "latest", "-d", "trusted", "--clean", "--yes", "--disconnect", "--accept-locale", "--json"],
        )
        .value("/verified", true)
        .fields(&["/kept_aside"])
        .then(|cluster| assert_eq!(cluster.sql("postgres", &format!("SELECT count(*) FROM pg_stat_activity WHERE {SITTING}")), "0")),
        promise("a dump that is not there is not found", &["load", "backup_19990101_000000.sql.gz", "--json"]).code(4).error("not_found"),
        promise("a file that is not there is not found", &["load", "./absent.sql.gz", "-d", "x", "--json"]).code(4).error("not_found"),
        promise("what needs the server says that it does not run", &["dump", "--json"])
            .before(|cluster| drop(cluster.run(&["stop"]).done()))
            .code(6)
            .error("unavailable"),
        promise("load says that the server does not run", &["load", "latest", "--json"]).code(6).error("unavailable"),
        promise("what only reads the store needs no server", &["list", "--json"]).fields(&["/dumps/0/name"]),
    ]
}

#[test]
fn databases_are_dumped_and_loaded_as_promised() {
    let cluster = TestCluster::running("");
    cluster.sql("postgres", "CREATE DATABASE \"customerInvoice\"");
    cluster.fill("customerInvoice");
    travel(&cluster, journey());
}
