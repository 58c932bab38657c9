//! `restore.py` against the library: the same trees, and the same refusals, with nothing but Python and zstd.

use std::path::{Path, PathBuf};
use std::process::Command;

use pgpersist_core::repo::layout;

use crate::golden::builder::{self, Objects, line_of_file, runs};
use crate::golden::{golden, opened, restored, with_rescue_files, write};
use crate::support::tree::Tree;

/// A repository that somebody fetched into a folder.
struct Fetched {
    scratch: tempfile::TempDir,
}

/// How a run of `restore.py` ended.
#[derive(Debug)]
struct Run {
    succeeded: bool,
    stdout: String,
    stderr: String,
}

impl Fetched {
    fn new(objects: &Objects) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        write(&with_rescue_files(objects.clone()), &scratch.path().join("repository"));
        Self { scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Runs the file that lies in the repository.
    fn run(&self, arguments: &[&str]) -> Run {
        let program = self.path("repository/restore.py");
        let output = Command::new("python3").arg("-B").arg(program).args(arguments).current_dir(self.scratch.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { succeeded: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn restore(&self, backup: &str, target: &str) -> Run {
        self.run(&["restore", backup, target])
    }
}

#[tokio::test]
async fn restore_py_makes_the_same_trees() {
    let objects = golden();
    let (repository, fetched) = (opened(&objects).await, Fetched::new(&objects));
    for backup in &runs()[..3] {
        let name = backup.to_string();
        let run = fetched.restore(&name, &name);
        assert!(run.succeeded, "{run:?}");
        let scratch = tempfile::tempdir().unwrap();
        let expected = restored(&repository, *backup, scratch.path()).await;
        assert_eq!(Tree::read(&fetched.path(&name)).differences(&expected), Vec::<std::ffi::OsString>::new(), "{name}");
    }
    let run = fetched.restore("latest", "newest");
    assert!(run.succeeded && run.stderr.contains(&runs()[2].to_string()), "{run:?}");
}

#[test]
fn restore_py_lists_the_backups_and_says_what_it_cannot_do() {
    let fetched = Fetched::new(&golden());
    let listed = fetched.run(&["list"]);
    assert_eq!(listed.stdout.lines().count(), 3, "{listed:?}");
    assert!(listed.stdout.contains("PostgreSQL 15.20") && listed.stdout.contains("before the migration"), "{listed:?}");
    let refused = |arguments: &[&str], word: &str| {
        let run = fetched.run(arguments);
        assert!(!run.succeeded && run.stderr.contains(word), "{arguments:?}: {run:?}");
    };
    refused(&["restore", "yesterday", "target"], "no name of a backup");
    refused(&["restore", "20200101T000000Z-00000000", "target"], "is missing");
    refused(&["restore", "latest", "repository"], "is not empty");
    refused(&["restore", "latest", "target", "--tablespace", "16399=/nowhere"], "it has none");
    assert!(!fetched.path("target").exists());
}

#[test]
fn restore_py_names_what_is_damaged_and_writes_no_control_file() {
    let (objects, [.., third, interrupted]) = (golden(), runs());
    let fetched = Fetched::new(&objects);
    let other = |key: &str| key == layout::intent(interrupted) || (key.ends_with(".manifest") && !key.contains(&third.to_string()));
    // What the newest backup needs of the first: everything but the list of the packs that there were then, and what was changed since.
    for (key, good) in objects.iter().filter(|(key, _)| !other(key)) {
        let unneeded = key.ends_with("/000004.pack") && !key.contains(&third.to_string());
        if unneeded {
            continue;
        }
        let last = good.len() - 1;
        for at in [0, 4, 9, last / 2, last - 33, last] {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            write(&Objects::from([(key.clone(), bad)]), &fetched.path("repository"));
            let target = fetched.path("target");
            let run = fetched.restore(&third.to_string(), "target");
            assert!(!run.succeeded && run.stderr.contains(key.as_str()), "byte {at} of {key}: {run:?}");
            assert!(!target.join("global/pg_control").exists(), "byte {at} of {key}");
            if target.exists() {
                pgpersist_core::fs::durable::remove_tree(&target).unwrap();
            }
        }
        write(&Objects::from([(key.clone(), good.clone())]), &fetched.path("repository"));
    }
    assert!(fetched.restore(&third.to_string(), "target").succeeded);
}

#[test]
fn restore_py_brings_in_the_configuration_that_lay_outside() {
    let backup = runs()[0].to_string();
    let outside = |location: &str| {
        let main = "data_directory = '/var/lib/postgresql/15/main'\nwork_mem = '9MB'\n include_dir = 'conf.d'\n#hba_file = 'x'\n";
        let rules = "local all all peer\n";
        let files = serde_json::json!([
            { "setting": "config_file", "location": location, "content": main },
            { "setting": "hba_file", "location": "/etc/postgresql/15/main/pg_hba.conf", "content": rules },
            { "setting": "include", "location": "/etc/postgresql/15/main/conf.d/a.conf", "content": "port = 5433\n" },
        ]);
        Fetched::new(&builder::with_field(builder::hostile(&line_of_file("x", 3)), "outside", files))
    };
    let fetched = outside("/etc/postgresql/15/main/postgresql.conf");
    let run = fetched.restore(&backup, "target");
    assert!(run.succeeded && run.stderr.contains("configuration_from_outside"), "{run:?}");
    let tree = Tree::read(&fetched.path("target"));
    assert_eq!(
        String::from_utf8_lossy(tree.content("postgresql.conf")),
        "# not in force since the restore: data_directory = '/var/lib/postgresql/15/main'\nwork_mem = '9MB'\n\
         # not in force since the restore:  include_dir = 'conf.d'\n#hba_file = 'x'\n"
    );
    assert_eq!(tree.content("pg_hba.conf"), b"local all all peer\n");
    assert_eq!(tree.content("configuration_from_outside/etc/postgresql/15/main/conf.d/a.conf"), b"port = 5433\n");
    let hostile = outside("/etc/../../postgresql.conf");
    let run = hostile.restore(&backup, "target");
    assert!(!run.succeeded && run.stderr.contains("leads elsewhere"), "{run:?}");
    assert_nothing_outside(hostile.scratch.path());
}

#[tokio::test]
async fn what_leads_elsewhere_is_refused_by_both() {
    let backup = runs()[0];
    let folder = "{\"path\":\"base\",\"kind\":\"directory\",\"mode\":\"0700\"}\n";
    let link = "{\"path\":\"base\",\"kind\":\"link\",\"target\":\"/etc\"}\n".to_owned() + &line_of_file("base/x", 3);
    let lists = [
        line_of_file("/etc/x", 3),
        line_of_file("../x", 3),
        folder.to_owned() + &line_of_file("base/../../x", 3),
        folder.to_owned() + &line_of_file("base//x", 3),
        folder.to_owned() + &line_of_file("base/./x", 3),
        folder.to_owned() + &line_of_file("base/x\0y", 3),
        // A file in no folder, one path twice, out of order.
        line_of_file("nowhere/x", 3),
        line_of_file("x", 3) + &line_of_file("x", 3),
        line_of_file("y", 3) + &line_of_file("x", 3),
        // Longer than its one leaf says, shorter than its one chunk, and so large that its leaves cannot be as many.
        line_of_file("x", 8193),
        line_of_file("x", 2),
        line_of_file("x", 1 << 62),
        line_of_file("x", 3).replace("0600", "4755"),
        line_of_file("x", 3).replace("file", "pipe"),
        link,
        "[".repeat(100_000) + "\n",
    ];
    for list in lists {
        let objects = builder::hostile(&list);
        let shown: String = list.chars().take(80).collect();
        let fetched = Fetched::new(&objects);
        let run = fetched.restore(&backup.to_string(), "target");
        assert!(!run.succeeded && !run.stderr.contains("Traceback"), "{shown}: {run:?}");
        assert_nothing_outside(fetched.scratch.path());
        let (repository, scratch) = (opened(&objects).await, tempfile::tempdir().unwrap());
        let path = scratch.path().join("target");
        let directory = pgpersist_core::LocalDataDirectory::open(&path).unwrap();
        let options = pgpersist_core::restore::physical::RestoreOptions::default();
        let restored = pgpersist_core::restore::physical::restore(&repository, backup, &directory, &options, &pgpersist_core::Silent).await;
        assert!(restored.is_err() && !path.exists(), "{shown}");
    }
    let good = Fetched::new(&builder::hostile(&(folder.to_owned() + &line_of_file("base/x", 3))));
    let run = good.restore(&backup.to_string(), "target");
    assert!(run.succeeded, "the others are refused for what is wrong with them: {run:?}");
}

/// Nothing lies beside the repository and the target.
fn assert_nothing_outside(scratch: &Path) {
    for entry in std::fs::read_dir(scratch).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(name == "repository" || name == "target", "{}", name.display());
    }
}
