//! Dumps that are no dumps, loads that fail half way, and dumps that cannot be made.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use crate::support::cluster::TestCluster;
use crate::support::user;

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    filter("gunzip", bytes)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    filter("gzip", bytes)
}

fn filter(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, bytes) = (child.stdin.take().unwrap(), bytes.to_vec());
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Everything that a load could leave: databases, roles, and what the existing ones hold.
fn contents(cluster: &TestCluster) -> String {
    let databases = cluster.databases();
    let roles = cluster.sql("postgres", "SELECT rolname FROM pg_roles ORDER BY 1");
    let rows = cluster.sql("orders", "SELECT string_agg(o::text, ',' ORDER BY id) FROM orders o");
    format!("{databases:?}\n{roles}\n{rows}")
}

#[test]
fn a_dump_that_is_none_is_not_loaded() {
    let cluster = TestCluster::running("databases = [\"orders\"]\n");
    cluster.fill("orders");
    let name = cluster.dump(&[]);
    let whole = fs::read(cluster.store().join(&name)).unwrap();
    let text = gunzip(&whole);
    let end = text
        .windows(b"-- PostgreSQL database dump complete".len())
        .position(|line| line == b"-- PostgreSQL database dump complete")
        .unwrap();
    let with = |line: &str| gzip(&[&text[..end], line.as_bytes(), b"\n", &text[end..]].concat());
    let pwned = cluster.scratch.join("volume/pwned");
    let before = contents(&cluster);

    let refuse = |what: &str, bytes: &[u8], code: i32, told: &[&str]| {
        cluster.scratch.write_bytes("bad.sql.gz", bytes);
        let run = cluster.run(&["load", "{dir}/bad.sql.gz", "-d", "copy", "--quiet"]);
        assert_eq!(run.code, Some(code), "{what}: {run:?}");
        run.refused(code, told).refused(code, &[&cluster.scratch.fill("{dir}/bad.sql.gz"), "  remedy: "]);
        assert_eq!(contents(&cluster), before, "{what}");
        assert!(!pwned.exists(), "{what}");
    };
    refuse("truncated", &whole[..whole.len() / 2], 7, &[]);
    refuse("truncated by one byte", &whole[..whole.len() - 1], 7, &[]);
    refuse(
        "bytes changed in the middle",
        &{
            let mut bytes = whole.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            bytes
        },
        7,
        &[],
    );
    refuse("a text that ends early", &gzip(&text[..text.len() / 2]), 7, &[]);
    refuse("not gzip", b"PK\x03\x04 a picture of a cat", 2, &[]);
    refuse("a text that is no dump", b"years of work\n", 2, &[]);
    refuse("a letter in gzip", &gzip(b"Dear all, here is the dump you wanted\n"), 2, &["is no dump"]);
    refuse("empty", b"", 2, &[]);
    refuse("nothing in gzip", &gzip(b""), 2, &[]);
    refuse("pg_dump's own format", b"PGDMP\x01\x0e\x00\x04\x08\x01\x01\x01\x00", 2, &[]);
    refuse("a shell command", &with(&format!("\\! touch {}", pwned.display())), 2, &["holds the psql command"]);
    refuse("a file to write", &with(&format!("\\o {}", pwned.display())), 2, &["holds the psql command"]);
    refuse("a program to copy to", &with(&format!("COPY orders TO PROGRAM 'touch {}';", pwned.display())), 1, &["COPY"]);
    refuse("a statement that fails half way", &with("INSERT INTO public.orders VALUES (1, 1);"), 2, &["duplicate key"]);
    refuse("a statement that cannot be parsed", &with("SELEC 1;"), 2, &["syntax error"]);

    // The same dump, whole: what was refused above was refused for its flaw.
    cluster.scratch.write_bytes("bad.sql.gz", &with("SELECT 1;"));
    // It comes from a path, so that what it gives to the superuser is given to nobody with rights, which is a warning.
    assert_eq!(cluster.run(&["load", "{dir}/bad.sql.gz", "-d", "copy"]).code, Some(3));
    cluster.sql("postgres", "DROP DATABASE copy");
    cluster.sql("postgres", "DROP ROLE copy_owner");

    // One in the store is held against its side file, whatever of it may look whole.
    let mut lying = text.clone();
    let place = lying.windows(4).position(|row| row == b"8\t8\n").unwrap();
    lying.splice(place..place + 4, std::iter::empty());
    for bytes in [&whole[..whole.len() - 1], &gzip(&lying)] {
        cluster.scratch.write_bytes(&format!("volume/backups/{name}"), bytes);
        let store = cluster.store_tree();
        cluster.run(&["load", &name, "-d", "copy", "--quiet"]).refused(7, &[&name, "  remedy: "]);
        assert_eq!(contents(&cluster), before);
        store.assert_same(&cluster.store_tree());
    }
    cluster.scratch.write_bytes(&format!("volume/backups/{name}"), &whole);
    cluster.run(&["load", &name, "-d", "orders", "--quiet"]).refused(5, &["database `orders` is not empty", "--clean --yes"]);
    cluster.run(&["load", &name, "-d", "orders", "--clean", "--quiet"]).refused(5, &["needs a confirmation", "  plan:\n"]);
    assert_eq!(contents(&cluster), before);
}

/// The programs of the installation, but for one that is a script. `postgres` is no link: a folder whose `postgres` is one
/// stands for the folder that it leads to.
fn programs(cluster: &TestCluster, name: &str, script: &str) -> String {
    let folder = cluster.scratch.folder(&format!("programs-{}", name.replace('_', "-")));
    let real = user::client(name).canonicalize().unwrap();
    for entry in fs::read_dir(real.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let link = folder.join(entry.file_name());
        if !link.exists() && entry.file_name() != name && entry.file_name() != "postgres" {
            symlink(entry.path(), link).unwrap();
        }
    }
    let write = |name: &str, text: &str| {
        let text = text.replace("{real}", real.with_file_name(name).to_str().unwrap());
        let path = cluster.scratch.write_bytes(&format!("{}/{name}", folder.file_name().unwrap().to_str().unwrap()), text.as_bytes());
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    };
    write("postgres", "#!/bin/sh\nexec {real} \"$@\"\n");
    write(name, script);
    folder.to_str().unwrap().to_owned()
}

#[test]
fn a_dump_that_cannot_be_made_leaves_nothing() {
    let cluster = TestCluster::running("databases = [\"orders\"]\n");
    cluster.fill("orders");
    cluster.dump(&[]);
    let before = cluster.store_tree();
    let dump = |bin_directory: &str| cluster.scratch.run(&["dump", "--quiet"], &[("PGPERSIST_CLUSTER_BIN_DIRECTORY", bin_directory)]);

    let version = "if [ \"$1\" = --version ]; then exec {real} --version; fi\n";
    let killed = programs(&cluster, "pg_dump", &format!("#!/bin/sh\n{version}{{real}} \"$@\" | head -c 400; kill -9 $$\n"));
    dump(&killed).refused(6, &["error: pg_dump failed (signal: 9", "  remedy: "]);
    before.assert_same(&cluster.store_tree());

    fs::remove_file(cluster.scratch.join("programs-pg-dump/pg_dump")).unwrap();
    let short = programs(&cluster, "pg_dump", &format!("#!/bin/sh\n{version}{{real}} \"$@\" | head -c 400\n"));
    dump(&short).refused(7, &["ends before its last line, though pg_dump reported success", "  remedy: run it again"]);
    before.assert_same(&cluster.store_tree());

    fs::remove_file(cluster.scratch.join("programs-pg-dump/pg_dump")).unwrap();
    let old = programs(
        &cluster,
        "pg_dump",
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'pg_dump (PostgreSQL) 13.22'; else exec {real} \"$@\"; fi\n",
    );
    dump(&old)
        .refused(5, &["pg_dump is version 13.22, and the server is version ", "  remedy: install the client programs of PostgreSQL "]);
    before.assert_same(&cluster.store_tree());
}

#[test]
fn a_wrong_password_is_denied_and_not_repeated() {
    let cluster = TestCluster::running("databases = [\"orders\"]\n");
    cluster.fill("orders");
    cluster.sql("postgres", "CREATE ROLE teller SUPERUSER LOGIN PASSWORD 'right-canary'");
    let name = cluster.dump(&[]);
    let before = cluster.store_tree();
    let tell = |password: &str, words: &[&str]| {
        cluster.scratch.run(&[words, &["--quiet"]].concat(), &[("PGHOST", "127.0.0.1"), ("PGUSER", "teller"), ("PGPASSWORD", password)])
    };
    for words in [&["dump"][..], &["load", &name, "-d", "copy"]] {
        for password in ["wrong-canary", ""] {
            let run = tell(password, words);
            run.refused(1, &["password", "  remedy: check PGUSER and the password (PGPASSWORD or ~/.pgpass)"]);
            assert!(!run.stderr.contains("canary"), "{run:?}");
        }
    }
    before.assert_same(&cluster.store_tree());
    assert_eq!(cluster.databases(), ["orders"]);
    tell("right-canary", &["dump"]).done();
    // A line for one database is one for the role; a file that others can read is not used, which is told.
    let file = cluster.scratch.write_bytes("volume/pgpass", b"127.0.0.1:*:orders:teller:right-canary\n");
    let by_file = || {
        let environment = [("PGHOST", "127.0.0.1"), ("PGUSER", "teller"), ("PGPASSFILE", "{dir}/volume/pgpass")];
        cluster.scratch.run(&["dump", "--quiet"], &environment)
    };
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    by_file().done();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let run = by_file();
    assert!(run.code == Some(1) && run.stderr.contains("pgpass is open to others and is ignored"), "{run:?}");
}

#[test]
fn roles_are_dumped_without_their_passwords_unless_asked() {
    let cluster = TestCluster::running("databases = [\"orders\"]\n");
    cluster.sql("postgres", "CREATE ROLE teller LOGIN PASSWORD 'secret'");
    let passwords = |arguments: &[&str]| {
        let name = cluster.dump(arguments).replace("backup_", "globals_");
        let text = String::from_utf8(gunzip(&fs::read(cluster.store().join(name)).unwrap())).unwrap();
        assert!(text.contains("CREATE ROLE teller"), "{text}");
        text.matches("PASSWORD 'SCRAM-SHA-256$").count()
    };
    assert_eq!((passwords(&[]), passwords(&["--role-passwords"])), (0, 1));
}

#[test]
fn a_server_of_another_cluster_is_not_taken_for_the_directorys() {
    let (ours, theirs) = TestCluster::pair();
    ours.init();
    theirs.init();
    theirs.start();
    theirs.sql("postgres", "CREATE DATABASE orders");
    theirs.fill("orders");
    let identifier = |cluster: &TestCluster| cluster.run(&["status", "--json"]).json()["system_identifier"].as_str().unwrap().to_owned();
    let both = [identifier(&ours), identifier(&theirs)];
    let (socket, port) = (theirs.scratch.join("volume/socket"), theirs.scratch.port().to_string());
    let elsewhere = [("PGHOST", socket.to_str().unwrap()), ("PGPERSIST_CLUSTER_PORT", port.as_str())];
    ours.scratch.write("hand.sql", "CREATE TABLE t ();\n");
    for words in [&["dump", "-d", "orders"][..], &["load", "./hand.sql", "-d", "copy"]] {
        let run = ours.scratch.run(&[words, &["--quiet"]].concat(), &elsewhere);
        run.refused(5, &[&both[0], &both[1], "  remedy: check PGHOST"]);
    }
    // A server that runs tells its port itself, so the other one is to be found at that one.
    ours.start();
    let other_host = ours.scratch.folder("elsewhere");
    let name = |port: &str| format!(".s.PGSQL.{port}");
    std::os::unix::fs::symlink(socket.join(name(&port)), other_host.join(name(&ours.scratch.port().to_string()))).unwrap();
    let elsewhere = [("PGHOST", other_host.to_str().unwrap()), ("PGPERSIST_CLUSTER_DATABASES", "wanted")];
    for words in [&["init", "--allow-ephemeral"][..], &["drill", "crash", "--live", "--yes", "--rounds", "1"]] {
        let run = ours.scratch.run(&[words, &["--quiet"]].concat(), &elsewhere);
        run.refused(5, &[&both[0], &both[1], "  remedy: check PGHOST"]);
    }
    assert_eq!(theirs.databases(), ["orders"]);
    assert!(!ours.store().exists() || ours.store_tree().paths().all(|path| !path.to_string_lossy().contains("backup_")));
}
