//! Names of databases that are hard to write down, and databases that join later.

use std::fs;
use std::process::Command;

use crate::support::cluster::TestCluster;
use crate::support::scratch::Scratch;

/// Names that quoting, shells, URLs, options, paths and terminals trip over.
const NAMES: &[&str] = &[
    "it's \"quoted\" `too` \\",
    "two  words ",
    "line\nbreak",
    "-dash",
    "--all",
    "postgresql://elsewhere:5432/db?sslmode=disable",
    "dbname=postgres host=/elsewhere",
    "..",
    "a/b",
    "%41",
    "caf\u{e9} \u{20b9}",
    "\u{1b}[2J",
];

fn toml(names: &[&str]) -> String {
    // A JSON string is a TOML string too.
    format!("databases = {}\n", serde_json::to_string(names).unwrap())
}

#[test]
fn a_database_may_have_any_name() {
    let cluster = TestCluster::running(&toml(NAMES));
    let mut expected: Vec<&str> = NAMES.to_vec();
    expected.sort_unstable();
    assert_eq!(cluster.databases(), expected, "created by init in single-user mode");
    // And again by a session, for those that the running server misses.
    for name in ["-dash", "line\nbreak", "it's \"quoted\" `too` \\"] {
        cluster.sql("postgres", &format!("DROP DATABASE \"{}\"", name.replace('"', "\"\"")));
    }
    fs::remove_file(cluster.scratch.join("volume/.pgpersist/data/identity.json")).unwrap();
    cluster.init();
    assert_eq!(cluster.databases(), expected);
    for (number, name) in NAMES.iter().enumerate() {
        let create = format!("CREATE TABLE told AS SELECT {number} AS number, current_database()::text AS name");
        cluster.sql(name, &create);
    }
    let dumped = cluster.run(&["dump", "--json"]).done().json();
    let dumped: Vec<(&str, &str)> = dumped["dumps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dump| (dump["name"].as_str().unwrap(), dump["database"].as_str().unwrap()))
        .collect();
    assert_eq!(dumped.iter().map(|(_, database)| *database).collect::<Vec<_>>(), NAMES);
    let listed = cluster.run(&["list"]).done().stdout;
    assert_eq!(listed.lines().count(), NAMES.len(), "a name forges no line: {listed}");
    assert!(!listed.contains('\u{1b}'));
    for (name, database) in &dumped {
        cluster.sql("postgres", &format!("DROP DATABASE \"{}\"", database.replace('"', "\"\"")));
        let run = cluster.run(&["load", name, "--json"]).done();
        assert_eq!(run.json()["database"], *database);
    }
    assert_eq!(cluster.databases(), expected);
    for (number, name) in NAMES.iter().enumerate() {
        assert_eq!(cluster.sql(name, "SELECT number, name = current_database() FROM told"), format!("{number}|t"), "{name:?}");
    }
    // A name on the command line is a name as well.
    let run =
        cluster.run(&["dump", "-d", "-dash", "-d", "postgresql://elsewhere:5432/db?sslmode=disable", "-d", "line\nbreak", "--json"]).done();
    assert_eq!(run.json()["dumps"][1]["database"], "postgresql://elsewhere:5432/db?sslmode=disable");
    let run = cluster.run(&["load", dumped[3].0, "--database=--copy of\n'-dash'", "--json"]).done();
    assert_eq!(run.json()["verified"], true);
    assert!(cluster.databases().iter().any(|name| name == "--copy of\n'-dash'"));
    // What is printed for people to copy names the database as well.
    let told = cluster.run(&["load", dumped[0].0, "--clean", "--yes"]).done().stdout;
    let (_, command) = told.trim_end().split_once("drop it with: ").unwrap();
    let word = Command::new("bash").args(["-c", &format!("set -- {command}; printf %s \"$3\"")]).output().unwrap().stdout;
    let word = String::from_utf8(word).unwrap();
    assert!(word.starts_with("DROP DATABASE \"it's \"\"quoted\"\" `too` \\_before_"), "{told}");
    cluster.sql("postgres", &word);
}

#[test]
fn a_name_on_the_command_line_is_checked_like_one_in_the_configuration() {
    let scratch = Scratch::new();
    let long = "n".repeat(64);
    for name in ["", &long] {
        for words in [&["dump"][..], &["load", "latest"], &["show", "latest"], &["verify", "latest"]] {
            let run = scratch.run(&[words, &["-d", name]].concat(), &[]);
            run.refused(2, &["--database", if name.is_empty() { "it is empty" } else { "longer than PostgreSQL's 63 bytes" }]);
        }
    }
}

#[test]
fn a_database_that_is_gone_keeps_no_other_from_being_dumped() {
    let cluster = TestCluster::running(&toml(&["gone", "orders"]));
    cluster.fill("orders");
    cluster.sql("postgres", "DROP DATABASE gone");
    let run = cluster.run(&["dump", "--json"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(4), ""), "{run:?}");
    let error = run.error();
    let told = error["error"].as_str().unwrap();
    assert!(told.starts_with("not dumped: `gone`; dumped: `orders` (orders/backup_"), "{told}");
    assert!(error["remedy"].as_str().unwrap().contains("pgpersist init"), "{error}");
    assert!(error["warnings"][0].as_str().unwrap().contains("`gone` was not dumped"), "{error}");
    cluster.run(&["load", "latest", "-d", "copy"]).done();
    assert_eq!(cluster.sql("copy", "SELECT sum(amount) FROM orders"), "36");
}

#[test]
fn what_can_be_no_name_of_a_database_is_refused_before_anything_is_made() {
    let cluster = TestCluster::planned("");
    let before = cluster.volume_tree();
    // PostgreSQL cuts longer names off without a word.
    let long = "n".repeat(64);
    for name in ["", "nul\u{0}", &long] {
        cluster.configure(&toml(&[name]));
        let run = cluster.run(&["init", "--allow-ephemeral"]);
        assert!(run.code == Some(2) && run.stderr.contains("`cluster.databases`"), "{name:?}: {run:?}");
        before.assert_same(&cluster.volume_tree());
    }
}

#[test]
fn a_second_database_in_the_configuration_does_not_hide_the_dumps_of_the_first() {
    const RETENTION: &str = "[retention]\nkeep_days = 7\n";
    let cluster = TestCluster::running(&format!("{}{RETENTION}", toml(&["customerInvoice"])));
    cluster.fill("customerInvoice");
    let first = cluster.dump(&[]);
    assert!(first.starts_with("backup_"), "{first}");
    // Two of the past: one with its side file, and one as the old scripts left them.
    let dump = fs::read(cluster.store().join(&first)).unwrap();
    let side_file = fs::read(cluster.store().join(format!("{first}.json"))).unwrap();
    cluster.scratch.write_bytes("volume/backups/backup_20200101_000000.sql.gz", &dump);
    cluster.scratch.write_bytes("volume/backups/backup_20200101_000000.sql.gz.json", &side_file);
    cluster.scratch.write_bytes("volume/backups/backup_20200102_000000.sql.gz", &dump);

    cluster.configure(&format!("{}{RETENTION}", toml(&["customerInvoice", "second"])));
    cluster.init();
    let before = cluster.store_tree();
    let dumps = cluster.run(&["dump", "--json"]).done().json();
    let names: Vec<&str> = dumps["dumps"].as_array().unwrap().iter().map(|dump| dump["name"].as_str().unwrap()).collect();
    assert!(names[0].starts_with("customerInvoice/backup_") && names[1].starts_with("second/backup_"), "{names:?}");
    assert!(before.paths().all(|path| path.exists()), "nothing was moved");
    let listed = cluster.run(&["list", "--json"]).done().json();
    let listed: Vec<_> =
        listed["dumps"].as_array().unwrap().iter().map(|dump| (dump["name"].as_str().unwrap(), dump["database"].as_str())).collect();
    assert_eq!(listed.len(), 5);
    assert!(listed.contains(&(first.as_str(), Some("customerInvoice"))), "{listed:?}");
    assert!(listed.contains(&("backup_20200102_000000.sql.gz", None)), "nothing tells whose it is: {listed:?}");
    // The old one is found by its name and as the latest of its database once the newer one is gone.
    cluster.run(&["load", &first, "-d", "copy", "--json"]).done();
    assert_eq!(cluster.sql("copy", "SELECT sum(amount) FROM orders"), "36");
    for suffix in ["", ".json"] {
        fs::remove_file(cluster.store().join(format!("{}{suffix}", names[0]))).unwrap();
    }
    assert_eq!(cluster.run(&["show", "latest", "-d", "customerInvoice", "--json"]).done().json()["name"], *first);
    // The retention's rules reach the old one with a side file; the other is never dropped.
    let pruned = cluster.run(&["prune", "--json"]).done().json();
    let dropped: Vec<&str> = pruned["dropped"].as_array().unwrap().iter().map(|dump| dump["name"].as_str().unwrap()).collect();
    assert_eq!(dropped, ["backup_20200101_000000.sql.gz"]);
    assert!(cluster.store().join("backup_20200102_000000.sql.gz").exists());
}
