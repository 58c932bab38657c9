//! `report` of real clusters: each format, up and down, with names that nobody should have chosen, and without secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::cluster::TestCluster;
use crate::support::scratch::Run;

const EVIL: &str = "<script>alert(1)</script>|x";
const PASSWORD: &str = "canary-9876543210";

/// With a password in the environment and in the server, and a token in the configuration.
fn report(cluster: &TestCluster, more: &[&str]) -> Run {
    let environment = [("PGPASSWORD", PASSWORD)];
    let run = cluster.scratch.run(&[&["report"], more].concat(), &environment);
    assert!(!run.stdout.contains("canary") && !run.stderr.contains("canary"), "{run:?}");
    run
}

fn evil_cluster() -> TestCluster {
    let section =
        "[retention]\nkeep_days = 7\n[dump]\nschedule = \"0 2 * * *\"\n[health]\nlisten = \"127.0.0.1:1\"\ntoken_file = \"volume/token\"\n";
    let cluster = TestCluster::running(&format!("databases = [\"shop\", \"{EVIL}\"]\n{section}"));
    let token = cluster.scratch.write("volume/token", "canary-token");
    fs::set_permissions(token, PermissionsExt::from_mode(0o440)).unwrap();
    cluster.fill("shop");
    cluster.sql("postgres", &format!("CREATE ROLE clerk LOGIN PASSWORD '{PASSWORD}'"));
    cluster
}

/// Every line of a table has as many cells as its head.
#[track_caller]
fn assert_tables_whole(text: &str) {
    let mut width = 0;
    for line in text.lines() {
        let bars = if line.starts_with('|') { line.replace("\\|", "").matches('|').count() } else { 0 };
        assert!(bars == width || bars == 0 || width == 0, "{line}");
        width = bars;
    }
}

#[test]
fn it_tells_the_same_in_each_format_while_the_server_is_up_and_while_it_is_down() {
    let cluster = evil_cluster();
    cluster.dump(&[]);
    cluster.scratch.folder("volume/tmp");
    cluster.scratch.folder("volume/cache");
    let apart = [("TMPDIR", "{dir}/volume/tmp"), ("PGPERSIST_CACHE", "{dir}/volume/cache")];
    let drill = cluster.scratch.run(&["drill", "restore", "--json"], &apart);
    assert_eq!(drill.code, Some(0), "{drill:?}");
    // Bytes that are no side file, with something in them that a page might take for its own.
    cluster.scratch.write_bytes("volume/backups/shop/backup_20260101_000000.sql.gz", &[1; 99]);
    cluster.scratch.write("volume/backups/shop/backup_20260101_000000.sql.gz.json", "<img src=x onerror=alert(1)>");

    let document = report(&cluster, &["--json"]);
    assert_eq!(document.code, Some(0), "{document:?}");
    let document = document.json();
    let databases: Vec<&str> = document["databases"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(databases, [EVIL, "postgres", "shop"]);
    for database in document["databases"].as_array().unwrap() {
        assert!(database["size_bytes"].as_u64() > Some(1 << 20) && database["present"] == true, "{database}");
    }
    assert!(document["databases"][2]["last_dump_at"].is_string() && document["databases"][2]["proven_at"].is_string(), "{document}");
    assert_eq!((&document["dumps"].as_array().unwrap().len(), &document["dumps"][2]["state"]), (&3, &"damaged".into()));
    assert_eq!(document["drills"][0]["databases"][0]["rows_found"], 8, "{document}");
    // The damaged one is older than everything that is kept, and dumps of roles are no dumps of databases.
    assert_eq!(document["retention"]["next"]["dropped"][0], "shop/backup_20260101_000000.sql.gz");
    assert_eq!(document["retention"]["meaning"][0], "every dump of the last 7 days");
    assert_eq!(document["schedules"][0]["job"], "dump");

    let markdown = report(&cluster, &[]);
    assert_eq!(markdown.code, Some(0), "{markdown:?}");
    assert_tables_whole(&markdown.stdout);
    for told in [
        "# PostgreSQL cluster main\n",
        "`<script>alert(1)</script>\\|x`",
        "| rows of shop | 8 | 8 | ✓ yes |",
        "- **Kept:** every dump of the last 7 days",
        "| `fsync` | `on` |",
    ] {
        assert!(markdown.stdout.contains(told), "no `{told}`: {}", markdown.stdout);
    }
    let html = report(&cluster, &["--format", "html"]);
    assert_eq!(html.code, Some(0), "{html:?}");
    assert!(html.stdout.contains("&lt;script&gt;alert(1)&lt;/script&gt;|x"));
    for forbidden in ["<script", "<img", "http-equiv=\"refresh\"", "http://127", " style="] {
        assert!(!html.stdout.contains(forbidden), "`{forbidden}`: {}", html.stdout);
    }

    cluster.run(&["stop"]).done();
    let down = report(&cluster, &["--json"]);
    assert_eq!(down.code, Some(3), "{down:?}");
    let down = down.json();
    assert_eq!((&down["status"], &down["cluster"]["state"]), (&"fail".into(), &"stopped".into()));
    assert_eq!(down["gaps"].as_array().unwrap().iter().map(|gap| &gap["part"]).collect::<Vec<_>>(), ["databases"]);
    assert!(down["databases"][0]["present"].is_null() && down["databases"][0]["size_bytes"].is_null(), "{down}");
    // What needs no server is told as before.
    for part in ["dumps", "drills", "retention", "storage"] {
        let names = |document: &Value| document[part].as_array().map(Vec::len);
        assert_eq!(names(&down), names(&document), "{part}");
    }
    let text = report(&cluster, &[]).stdout;
    assert!(text.contains("What to do: start it with `pgpersist start`") && text.contains("no server runs in"), "{text}");
}

#[test]
fn it_goes_into_a_file_and_replaces_only_its_own() {
    let cluster = TestCluster::stopped("");
    let written = |name: &str| fs::read_to_string(cluster.scratch.join(name)).unwrap();
    cluster.scratch.folder("volume/reports");
    for (name, beginning) in [
        ("volume/reports/a.md", "<!-- pgpersist report -->\n\n# PostgreSQL"),
        ("volume/reports/a.html", "<!DOCTYPE html>\n<!-- pgpersist report -->"),
        ("volume/reports/a.json", "{\n  \"time\": \""),
    ] {
        for _ in 0..2 {
            let run = report(&cluster, &["--output", name]);
            assert_eq!(
                (run.code, run.stdout.as_str()),
                (Some(3), cluster.scratch.fill(&format!("Wrote {{dir}}/{name}.\n")).as_str()),
                "{run:?}"
            );
            assert!(written(name).starts_with(beginning), "{}", written(name));
        }
    }
    // A name of its own is no reason to write another format than was asked for.
    assert_eq!(report(&cluster, &["--output", "volume/reports/b", "--format", "html"]).code, Some(3));
    assert!(written("volume/reports/b").starts_with("<!DOCTYPE html>"));
    cluster.scratch.write("volume/reports/notes.md", "# My notes\n");
    report(&cluster, &["--output", "volume/reports/notes.md"]).refused(5, &["no report of pgpersist", "  remedy: "]);
    assert_eq!(written("volume/reports/notes.md"), "# My notes\n");
    cluster.scratch.folder("volume/reports/folder.md");
    report(&cluster, &["--output", "volume/reports/folder.md", "--yes"]).refused(5, &["no plain file", "  remedy: "]);
    report(&cluster, &["--output", "volume/nowhere/a.md"]).refused(4, &["could not write the report into"]);
    let dry = report(&cluster, &["--output", "volume/reports/c.md", "--dry-run"]);
    assert!(
        dry.code == Some(0) && dry.stdout.contains("write the report to ") && !cluster.scratch.join("volume/reports/c.md").exists(),
        "{dry:?}"
    );
}
