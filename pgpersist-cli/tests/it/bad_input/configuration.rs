//! Configurations with mistakes: the place is named, and nothing is done.

use crate::support::cluster::TestCluster;
use crate::support::scratch::Scratch;
use crate::support::tree::Tree;

#[test]
fn a_mistake_in_the_configuration_is_named_and_nothing_is_done() {
    let scratch = Scratch::new();
    let place = "[cluster]\ndata_directory = \"{dir}/data\"\n";
    let wrong: &[(&str, &[&str])] = &[
        ("prot = 5433\n", &["line 3, `cluster.prot`: unknown key", "did you mean `port`?"]),
        ("port = 0\n", &["line 3, `cluster.port`"]),
        ("port = 70000\n", &["line 3, `cluster.port`"]),
        ("port = \"many\"\n", &["line 3, `cluster.port`"]),
        ("databases = [1]\n", &["line 3, `cluster.databases`"]),
        ("when_missing = \"create\"\n", &["line 3, `cluster.when_missing`", "refuse", "restore"]),
        ("[clutser]\nname = \"x\"\n", &["line 3, `clutser`", "did you mean `cluster`?"]),
        ("[[store]]\npath = \"{dir}/backups\"\n", &["line 4, `store.path`"]),
        ("[[store]]\n", &["line 3, `store`", "this store has no `url`"]),
        ("[[store]]\nurl = \"s3://\"\n", &["line 4, `store.url`", "names no bucket"]),
        ("[[store]]\nurl = \"s3://b?regoin=x\"\n", &["line 4, `store.url`", "no option `regoin`", "did you mean `region`?"]),
        ("[store]\nurl = \"{dir}/backups\"\n", &["line 3, `store`"]),
        ("[retention]\nkeep_days = -7\n", &["line 4, `retention.keep_days`"]),
        ("[health]\ndump_max_age = \"26 fortnights\"\n", &["line 4, `health.dump_max_age`"]),
        ("[cluster.settings]\n\"bad name\" = 1\n", &["line 4", "bad name"]),
        ("[cluster.settings]\nwork_mem = \"4MB\\nfsync = off\"\n", &["work_mem"]),
        ("[health]\ndisk_warn_percent = 96\n", &["line 4, `health.disk_warn_percent`: 96 is above", "set it below `disk_fail_percent`"]),
        ("[[health.probe]]\nname = \"a\"\n", &["line 3, `health.probe`", "remedy: add `database` and `sql` to it"]),
        ("data_directory = \"{dir}/other\"\n", &["pgpersist.toml", "duplicate key"]),
        ("name = \n", &["pgpersist.toml, line 3"]),
        ("\u{0}", &["pgpersist.toml, line 3"]),
    ];
    for (text, told) in wrong {
        scratch.write("pgpersist.toml", &format!("{place}{text}"));
        let before = Tree::of(scratch.path());
        for words in [&["config", "check"][..], &["init", "--allow-ephemeral"], &["start"], &["dump"], &["prune", "--yes"], &["status"]] {
            let run = scratch.run(words, &[]);
            assert_eq!(run.code, Some(2), "{words:?} with {text:?}: {run:?}");
            run.refused(2, told).refused(2, &["  remedy: "]);
        }
        before.assert_same(&Tree::of(scratch.path()));
    }
    for (variable, value, told) in [
        ("PGPERSIST_CLUSTER_PROT", "1", "did you mean PGPERSIST_CLUSTER_PORT?"),
        ("PGPERSIST_CLUSTER_PORT", "many", "PGPERSIST_CLUSTER_PORT"),
        ("PGPORT", "many", "PGPORT"),
    ] {
        scratch.write("pgpersist.toml", place);
        let before = Tree::of(scratch.path());
        scratch.run(&["init", "--allow-ephemeral"], &[(variable, value)]).refused(2, &[told, "  remedy: "]);
        before.assert_same(&Tree::of(scratch.path()));
    }
}

#[test]
fn a_log_directory_that_is_a_file_is_invalid_and_starts_nothing() {
    let cluster = TestCluster::stopped("");
    cluster.scratch.write("volume/log", "of somebody else");
    cluster.configure("[log]\ndirectory = \"{dir}/volume/log\"\n");
    let path = cluster.scratch.fill("{dir}/volume/log is a file");
    cluster.run(&["start"]).refused(2, &[&path, "  remedy: set `[log] directory` to a folder"]);
    assert_eq!(cluster.postmaster(), None);
    assert_eq!(std::fs::read_to_string(cluster.scratch.join("volume/log")).unwrap(), "of somebody else");
}

#[test]
fn a_setting_that_postgresql_does_not_know_starts_no_server() {
    let cluster = TestCluster::stopped("");
    let start = |name: &str, value: &str| cluster.scratch.run(&["start"], &[(name, value)]);
    let log = cluster.scratch.join("volume/.pgpersist/data/log/postgresql.log");
    for (name, value, told) in [
        ("PGPERSIST_CLUSTER_SETTINGS_SHARED_BUFERS", "16MB", "unrecognized configuration parameter \"shared_bufers\""),
        ("PGPERSIST_CLUSTER_SETTINGS_WORK_MEM", "lots", "work_mem"),
        ("PGPERSIST_CLUSTER_SETTINGS_WAL_LEVEL", "most", "wal_level"),
    ] {
        let run = start(name, value);
        let key = name.strip_prefix("PGPERSIST_CLUSTER_SETTINGS_").unwrap().to_ascii_lowercase();
        // The file that the server names is written anew at each start.
        let remedy = format!("  remedy: mend the key `{key}` of `[cluster.settings]` (or {name})");
        run.refused(2, &["error: the server did not start in", told, &remedy]);
        assert_eq!(cluster.postmaster(), None);
        assert!(!log.exists(), "the mistake was found before anything was started");
    }
    cluster.run(&["start"]).done();
    assert_eq!(cluster.sql("postgres", "SELECT 1"), "1");
}
