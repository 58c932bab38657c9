//! Dumps and loads against a real server.

mod strangers;
mod targets;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use pgpersist_core::clock::{Clock, SystemClock};
use pgpersist_core::error::{Error, ErrorKind, Result};
use pgpersist_core::logical::dump::{Dump, DumpOptions, dump_database, dump_globals};
use pgpersist_core::logical::dump_cluster::dump_cluster;
use pgpersist_core::logical::load::load;
use pgpersist_core::logical::load_options::{DumpSource, Existing, Expected, LoadOptions, LoadReport, LoadedOwners, OtherSessions, Trust};
use pgpersist_core::logical::object_reader::ObjectReader;
use pgpersist_core::logical::shelf::{DumpState, Shelf};
use pgpersist_core::pg::quote;
use pgpersist_core::progress::{ProgressSink, Silent};
use pgpersist_core::store::memory::MemoryBackupStore;
use pgpersist_core::store::{BackupStore, ObjectKey};

use crate::support::server::{BIN, TestServer};

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn key(name: &str) -> ObjectKey {
    name.parse().unwrap()
}

async fn dump(server: &TestServer, database: &str, store: &dyn BackupStore, name: &str) -> Result<Dump> {
    dump_with(server, database, store, name, Path::new(BIN)).await
}

async fn dump_with(server: &TestServer, database: &str, store: &dyn BackupStore, name: &str, programs: &Path) -> Result<Dump> {
    let options = DumpOptions::new(server.connection("postgres"), programs);
    dump_database(&options, database, &key(name), store, &clock(), &Silent).await
}

fn expected(dump: &Dump) -> Expected {
    let (sha256, tables, state) = (dump.sha256.clone(), Some(dump.tables.clone()), Some(dump.state.clone()));
    Expected { sha256, size_bytes: dump.size_bytes, tables, state }
}

fn options(server: &TestServer, target: &str) -> LoadOptions {
    LoadOptions::new(server.connection("postgres"), Path::new(BIN).join("psql"), target)
}

/// The same for a dump of the cluster's own store.
fn own(server: &TestServer, target: &str) -> LoadOptions {
    LoadOptions { trust: Trust::OwnDump, ..options(server, target) }
}

async fn load_bytes(options: &LoadOptions, name: &str, bytes: &[u8], expected: Option<Expected>) -> Result<LoadReport> {
    let source = DumpSource::new(name, Box::new(std::io::Cursor::new(bytes.to_vec())), expected);
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    load(options, source, &clock(), &progress).await
}

/// Rows and hash of every table.
async fn tables(server: &TestServer, database: &str) -> BTreeMap<String, String> {
    let session = server.session(database).await;
    let names = session
        .client()
        .query(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'm') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'",
            &[],
        )
        .await
        .unwrap();
    let mut hashes = BTreeMap::new();
    for name in names {
        let name: String = name.get(0);
        let query = format!("SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, chr(10) ORDER BY t::text)), '-') FROM {name} t");
        hashes.insert(name, session.text("hash", &query).await.unwrap().unwrap());
    }
    hashes
}

async fn databases(server: &TestServer) -> Vec<String> {
    server.session("postgres").await.databases().await.unwrap()
}

async fn roles(server: &TestServer) -> String {
    server.text("postgres", "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'").await
}

fn zipped(text: &str) -> Vec<u8> {
    let mut gzip = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, text) = (gzip.stdin.take().unwrap(), text.to_owned());
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = gzip.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output.stdout
}

/// A gzip of blocks that are not compressed, in which a part of the text was overwritten: only its checksum tells.
fn stored_and_changed(text: &str, from: &str, to: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(text.as_bytes()).unwrap();
    let mut bytes = encoder.finish().unwrap();
    let place = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

fn unzipped(bytes: &[u8]) -> String {
    let mut gunzip = Command::new("gunzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, bytes) = (gunzip.stdin.take().unwrap(), bytes.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = gunzip.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

const SCHEMA: &str = r#"
    CREATE ROLE app LOGIN; CREATE ROLE "O'Reader";
    CREATE SCHEMA shop AUTHORIZATION app;
    CREATE TABLE public.empty (a int);
    CREATE TABLE shop."Order; ""Lines""" (id int PRIMARY KEY, "FROM stdin;" text);
    INSERT INTO shop."Order; ""Lines""" SELECT i, repeat(E'\\.\n\\x\t''' || i, 3) FROM generate_series(1, 5000) i;
    INSERT INTO shop."Order; ""Lines""" VALUES (-1, '\.'), (-2, NULL), (-3, E'\n\\.\n'), (-4, ''), (-5, '₹11,778.25');
    ALTER TABLE shop."Order; ""Lines""" OWNER TO app;
    GRANT SELECT ON shop."Order; ""Lines""" TO "O'Reader"; GRANT USAGE ON SCHEMA shop TO "O'Reader";
    CREATE TABLE public.child (id int REFERENCES shop."Order; ""Lines""", at timestamptz DEFAULT '2026-01-01 00:00+00');
    INSERT INTO public.child SELECT i FROM generate_series(1, 1000) i;
    CREATE SEQUENCE shop.numbers START 42; SELECT nextval('shop.numbers');
    SET check_function_bodies = off;
    CREATE FUNCTION shop.tricky() RETURNS text LANGUAGE sql AS $_$
COPY public.empty FROM stdin;
1
\.
\! touch /tmp/never
SELECT '$$ it''s '$_$;
    COMMENT ON FUNCTION shop.tricky() IS E'a\\''b; \n\\connect x\n';
    CREATE MATERIALIZED VIEW shop.many AS SELECT count(*) AS n FROM public.child;
    CREATE INDEX ON public.child (id);
    SELECT lo_create(4242); SELECT lo_put(4242, 0, decode(repeat('5c2e0a27', 20000), 'hex')); ALTER LARGE OBJECT 4242 OWNER TO app;
    ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA shop GRANT SELECT ON TABLES TO "O'Reader";
"#;

async fn filled(server: &TestServer, database: &str) {
    server.run("postgres", &format!("CREATE DATABASE {}", quote::identifier(database))).await;
    server
        .run(
            database,
            "SET search_path = public; CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 100) i",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_loads_back_whole() {
    let server = TestServer::start("", "").await;
    let name = "customer'Invoice \"x\"";
    let quoted = quote::identifier(name);
    server.run("postgres", &format!("CREATE DATABASE {quoted}")).await;
    server.run(name, SCHEMA).await;
    server
        .run(
            "postgres",
            &format!(
                "ALTER DATABASE {quoted} OWNER TO app; ALTER DATABASE {quoted} SET search_path = shop, \"$user\"; ALTER DATABASE {quoted} SET work_mem = '7MB';
                 ALTER ROLE app IN DATABASE {quoted} SET statement_timeout = '1h'; COMMENT ON DATABASE {quoted} IS 'it''s here';
                 REVOKE CONNECT ON DATABASE {quoted} FROM PUBLIC; GRANT CONNECT ON DATABASE {quoted} TO \"O'Reader\" WITH GRANT OPTION"
            ),
        )
        .await;
    let store = MemoryBackupStore::new();
    let dumped = dump(&server, name, &store, "a.sql.gz").await.unwrap();
    assert_eq!(dumped.tables["shop.\"Order; \"\"Lines\"\"\""], 5005);
    assert_eq!(dumped.tables["public.empty"], 0);
    assert_eq!((dumped.state.owner.as_str(), dumped.state.comment.as_deref()), ("app", Some("it's here")));
    let bytes = store.get(&key("a.sql.gz")).await.unwrap();
    assert_eq!(bytes.len() as u64, dumped.size_bytes);

    let report = load_bytes(&own(&server, "copy"), "a.sql.gz", &bytes, Some(expected(&dumped))).await.unwrap();
    assert_eq!((report.verified, report.warnings.len()), (Some(true), 0));
    assert_eq!(report.tables, dumped.tables);
    let before = tables(&server, name).await;
    assert_eq!(before.len(), 4);
    assert_eq!(tables(&server, "copy").await, before);

    // The loaded database dumps to the same text: owners, grants, functions, large objects, comments, sequences.
    let again = dump(&server, "copy", &store, "b.sql.gz").await.unwrap();
    assert_eq!(again.state, dumped.state);
    let lines = |text: String| {
        text.lines()
            .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(unzipped(&store.get(&key("b.sql.gz")).await.unwrap())), lines(unzipped(&bytes)));
    assert_eq!(roles(&server).await, "O'Reader,app,postgres");
    assert_eq!(databases(&server).await.len(), 3);

    // PostgreSQL's own tools alone read it as well.
    server.run("postgres", "CREATE DATABASE plain TEMPLATE template0").await;
    let file = server.path("plain.sql");
    File::create(&file).unwrap().write_all(unzipped(&bytes).as_bytes()).unwrap();
    let psql = Command::new(Path::new(BIN).join("psql"))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&file)
        .arg(server.connection("plain").conninfo())
        .output();
    let psql = psql.unwrap();
    assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));
    assert_eq!(tables(&server, "plain").await, before);

    // Roles have a dump of their own.
    let globals = DumpOptions::new(server.connection("postgres"), Path::new(BIN));
    dump_globals(&globals, &key("globals.sql.gz"), &store, &Silent).await.unwrap();
    assert!(unzipped(&store.get(&key("globals.sql.gz")).await.unwrap()).contains("CREATE ROLE \"O'Reader\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_database_name_is_just_a_name() {
    let server = TestServer::start("", "").await;
    let store = MemoryBackupStore::new();
    for (index, name) in [
        "a b",
        "it's \"quoted\"",
        "two\nlines",
        "-rf",
        "--help",
        "postgresql://x:1/y",
        "a=b dbname=postgres",
        "\\x$(id)`id`",
        &"ü".repeat(31),
    ]
    .into_iter()
    .enumerate()
    {
        filled(&server, name).await;
        let object = format!("{index}.sql.gz");
        let dumped = dump(&server, name, &store, &object).await.unwrap_or_else(|error| panic!("{name:?}: {error} {:?}", error.causes()));
        assert_eq!(dumped.tables["public.t"], 100, "{name:?}");
        let bytes = store.get(&key(&object)).await.unwrap();
        let before = tables(&server, name).await;
        let clean = LoadOptions { existing: Existing::KeepAside, ..options(&server, name) };
        let report = load_bytes(&clean, &object, &bytes, Some(expected(&dumped)))
            .await
            .unwrap_or_else(|error| panic!("{name:?}: {error} {:?}", error.causes()));
        assert_eq!(tables(&server, name).await, before, "{name:?}");
        assert_eq!(tables(&server, &report.kept_aside.unwrap()).await, before, "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_dump_leaves_the_target_alone() {
    let server = TestServer::start("", "").await;
    let store = MemoryBackupStore::new();
    filled(&server, "source").await;
    let dumped = dump(&server, "source", &store, "good.sql.gz").await.unwrap();
    let good = store.get(&key("good.sql.gz")).await.unwrap();
    let text = unzipped(&good);
    filled(&server, "target").await;
    server.run("postgres", "CREATE DATABASE empty").await;
    let (before, databases_before) = (tables(&server, "target").await, databases(&server).await);
    let wrong = |change: fn(&mut Expected)| {
        let mut wrong = expected(&dumped);
        change(&mut wrong);
        Some(wrong)
    };
    let cases: Vec<(&str, Vec<u8>, Option<Expected>, ErrorKind)> = vec![
        ("truncated.sql.gz", good[..good.len() / 2].to_vec(), None, ErrorKind::Damaged),
        ("cut.sql.gz", zipped(&text[..text.len() / 2]), None, ErrorKind::Damaged),
        ("text.sql.gz", b"not gzip at all".to_vec(), None, ErrorKind::Invalid),
        ("empty.sql.gz", Vec::new(), None, ErrorKind::Invalid),
        ("nothing.sql.gz", zipped(""), None, ErrorKind::Invalid),
        ("shell.sql.gz", zipped(&text.replace("CREATE TABLE", "\\! touch /tmp/pgpersist-never\nCREATE TABLE")), None, ErrorKind::Invalid),
        ("halfway.sql.gz", zipped(&text.replace("100\t", "hundred\t")), None, ErrorKind::Invalid),
        ("several.sql.gz", zipped(&format!("CREATE DATABASE x;\n\\connect x\n{text}")), None, ErrorKind::Invalid),
        ("garbage.sql.gz", stored_and_changed(&text, "CREATE TABLE", "\\! id; -- TA"), None, ErrorKind::Damaged),
        ("misread.sql.gz", stored_and_changed(&text, "CREATE TABLE", "CREATE TABEL"), None, ErrorKind::Damaged),
        ("edited.sql.gz", zipped(&text.replace("100\t", "hundred\t")), Some(expected(&dumped)), ErrorKind::Damaged),
        ("hash.sql.gz", good.to_vec(), wrong(|e| e.sha256 = "0".repeat(64)), ErrorKind::Damaged),
        ("rows.sql.gz", good.to_vec(), wrong(|e| *e.tables.as_mut().unwrap().get_mut("public.t").unwrap() += 1), ErrorKind::Damaged),
        ("size.sql.gz", good.to_vec(), wrong(|e| e.size_bytes += 1), ErrorKind::Damaged),
        ("owner.sql.gz", good.to_vec(), wrong(|e| e.state.as_mut().unwrap().owner = "nobody here".into()), ErrorKind::NotFound),
        ("role.sql.gz", zipped(&text.replace("OWNER TO postgres", "OWNER TO gone")), None, ErrorKind::NotFound),
        ("locale.sql.gz", good.to_vec(), wrong(|e| e.state.as_mut().unwrap().collate = "xx_XX".into()), ErrorKind::Conflict),
    ];
    for trust in [Trust::Nobody, Trust::Superuser] {
        for target in ["target", "empty"] {
            for (name, bytes, expected, kind) in &cases {
                let options = LoadOptions { existing: Existing::KeepAside, trust, ..options(&server, target) };
                let error = load_bytes(&options, name, bytes, expected.clone()).await.unwrap_err();
                assert_eq!(error.kind(), *kind, "{name} {trust:?}: {error} {:?}", error.causes());
                assert_eq!(databases(&server).await, databases_before, "{name}");
            }
        }
    }
    assert_eq!(roles(&server).await, "postgres");
    assert_eq!(tables(&server, "target").await, before);
    assert!(tables(&server, "empty").await.is_empty());
    assert!(!Path::new("/tmp/pgpersist-never").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_load_removes_what_a_killed_one_left() {
    let server = TestServer::start("", "").await;
    // A pipe that never ends keeps the load in the middle of the dump.
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"CREATE TABLE public.t (a int);\n").unwrap();
    let stuck = options(&server, "shop");
    let work = tokio::spawn(async move {
        let source = DumpSource::new("stuck.sql", Box::new(reader), None);
        let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
        load(&stuck, source, &clock(), &progress).await
    });
    let scratch = loop {
        let found = databases(&server).await.into_iter().find(|name| name.starts_with("shop_load_"));
        if let Some(found) = found {
            let comment = server
                .text(
                    "postgres",
                    &format!("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = {}", quote::literal(&found)),
                )
                .await;
            if comment.starts_with("pgpersist load") {
                break found;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    // One that is alive is left alone.
    load_bytes(&options(&server, "other"), "x.sql", b"SELECT 1;\n", None).await.unwrap();
    assert!(databases(&server).await.contains(&scratch));
    work.abort();
    assert!(work.await.unwrap_err().is_cancelled());
    drop(writer);
    let query = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = {}", quote::literal(&scratch));
    while server.text("postgres", &query).await != "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let report = load_bytes(&options(&server, "shop"), "x.sql", b"SELECT 1;\n", None).await.unwrap();
    assert_eq!(report.removed, [scratch]);
    assert_eq!(databases(&server).await, ["other", "postgres", "shop"]);
    assert_eq!(roles(&server).await, "postgres");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_are_not_here_can_be_left_out() {
    let server = TestServer::start("", "").await;
    let store = MemoryBackupStore::new();
    server.run("postgres", "CREATE DATABASE shop").await;
    server.run("shop", SCHEMA).await;
    server.run("postgres", "ALTER DATABASE shop OWNER TO app").await;
    let dumped = dump(&server, "shop", &store, "shop.sql.gz").await.unwrap();
    let bytes = store.get(&key("shop.sql.gz")).await.unwrap();
    let before = tables(&server, "shop").await;
    let elsewhere = TestServer::start("", "").await;
    let error = load_bytes(&options(&elsewhere, "shop"), "shop.sql.gz", &bytes, Some(expected(&dumped))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let without = LoadOptions { owners: LoadedOwners::DatabaseOwner, ..own(&elsewhere, "shop") };
    let report = load_bytes(&without, "shop.sql.gz", &bytes, Some(expected(&dumped))).await.unwrap();
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    assert_eq!(tables(&elsewhere, "shop").await, before);
}

/// A folder with a `pg_dump` of our own making.
fn stand_in(server: &TestServer, name: &str, script: &str) -> PathBuf {
    let folder = server.path(name);
    std::fs::create_dir(&folder).unwrap();
    let program = folder.join("pg_dump");
    let mut file = File::create(&program).unwrap();
    write!(file, "#!/bin/sh\n{script}\n").unwrap();
    drop(file);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_not_whole_never_gets_its_name() {
    let server = TestServer::start("", "").await;
    filled(&server, "shop").await;
    let store = MemoryBackupStore::new();
    let version = format!("[ \"$1\" = --version ] && exec {BIN}/pg_dump --version");
    for (name, script, kind) in [
        ("killed", format!("{version}\n{BIN}/pg_dump \"$@\" | head -c 1500; kill -9 $$"), ErrorKind::Unavailable),
        ("failing", format!("{version}\n{BIN}/pg_dump \"$@\"; exit 1"), ErrorKind::Invalid),
        ("short", format!("{version}\n{BIN}/pg_dump \"$@\" | head -c 1500"), ErrorKind::Damaged),
    ] {
        let error = dump_with(&server, "shop", &store, "x.sql.gz", &stand_in(&server, name, &script)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error} {:?}", error.causes());
        assert!(store.list("").next().await.is_none(), "{name}");
    }
    let old = stand_in(&server, "old", "echo 'pg_dump (PostgreSQL) 14.9'");
    let error = dump_with(&server, "shop", &store, "x.sql.gz", &old).await.unwrap_err();
    assert!(matches!(error, Error::VersionMismatch { .. }), "{error}");
    let error = dump(&server, "gone", &store, "x.sql.gz").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(store.list("").next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pg_dump_is_an_error_and_leaves_nothing() {
    let server = TestServer::start("", "").await;
    filled(&server, "shop").await;
    let store = MemoryBackupStore::new();
    // The real one, caught while it waits for a lock.
    let holder = server.session("shop").await;
    holder.execute("lock", "BEGIN; LOCK TABLE public.t").await.unwrap();
    let killer = async {
        let mark = server.directory.path().display().to_string();
        loop {
            if let Some(id) = process_with(&["pg_dump", &mark]) {
                rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (result, ()) = tokio::join!(dump(&server, "shop", &store, "x.sql.gz"), killer);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("signal: 9"), "{error}");
    assert!(store.list("").next().await.is_none());
}

/// A process whose first argument ends with the first word and that has the second in its command line.
fn process_with(words: &[&str; 2]) -> Option<rustix::process::Pid> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let (program, rest) = line.split_once('\0')?;
            (program.ends_with(words[0]) && rest.contains(words[1])).then(|| rustix::process::Pid::from_raw(id))?
        })
        .next()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shelf_is_filled_and_loaded_from() {
    let server = TestServer::start("", "").await;
    filled(&server, "customerInvoice").await;
    filled(&server, "a/b").await;
    let store: Arc<dyn BackupStore> = Arc::new(MemoryBackupStore::new());
    let both = vec!["customerInvoice".to_owned(), "a/b".to_owned()];
    let shelf = Shelf::new(Arc::clone(&store), "main", both);
    let options_ = DumpOptions::new(server.connection("postgres"), Path::new(BIN));
    let names = ["customerInvoice".to_owned(), "a/b".to_owned()];
    let report = dump_cluster(&shelf, &options_, &names, &clock(), &Silent).await.unwrap();
    assert_eq!((report.dumps.len(), shelf.globals().await.unwrap().len()), (2, 2));
    // A second one in the same second has a later name.
    dump_cluster(&shelf, &options_, &["customerInvoice".to_owned()], &clock(), &Silent).await.unwrap();
    assert_eq!(shelf.list().await.unwrap().len(), 3);
    let entry = shelf.find("latest", Some("customerInvoice")).await.unwrap();
    assert_eq!(entry.state, DumpState::Complete);
    let bytes = ObjectReader::open(Arc::clone(&store), entry.name.clone(), entry.size_bytes);
    let source = DumpSource::new(entry.name.to_string(), Box::new(bytes), entry.side_file.as_ref().map(Expected::from));
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    let loaded = load(&options(&server, "copy"), source, &clock(), &progress).await.unwrap();
    assert_eq!(loaded.verified, Some(true));
    assert_eq!(tables(&server, "copy").await, tables(&server, "customerInvoice").await);
    // The store serves this cluster only.
    let other = TestServer::start("", "").await;
    filled(&other, "customerInvoice").await;
    let error = dump_cluster(&shelf, &DumpOptions::new(other.connection("postgres"), Path::new(BIN)), &names, &clock(), &Silent).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsafe);
}
