//! Dumps that nothing proves to be our own: what they may not do, and who gets what they give to superusers.

use pgpersist_core::logical::database_state::Setting;
use sha2::{Digest, Sha256};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_cannot_do_what_a_superuser_can() {
    let server = TestServer::start("", "").await;
    let file = server.path("written");
    let before = (roles(&server).await, databases(&server).await);
    for attack in [
        format!("COPY (SELECT 1) TO PROGRAM 'cat > {}';", file.display()),
        format!("RESET SESSION AUTHORIZATION; COPY (SELECT 1) TO '{}';", file.display()),
        format!("SET ROLE postgres; COPY (SELECT 1) TO '{}';", file.display()),
        format!("DO $$ BEGIN EXECUTE 'RESET ROLE'; EXECUTE 'COPY (SELECT 1) TO PROGRAM ''cat > {}'''; END $$;", file.display()),
        "SET SESSION AUTHORIZATION postgres; CREATE ROLE evil SUPERUSER;".to_owned(),
        "SELECT set_config('session_authorization', 'postgres', false); CREATE ROLE evil;".to_owned(),
        "ALTER SYSTEM SET archive_command = 'x';".to_owned(),
        "SELECT pg_read_file('/etc/passwd');".to_owned(),
        "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'libc', 'getpid';".to_owned(),
        "DROP DATABASE postgres;".to_owned(),
        "GRANT pg_execute_server_program TO CURRENT_USER;".to_owned(),
        "GRANT EXECUTE ON FUNCTION pg_catalog.lo_export(oid, text) TO PUBLIC;".to_owned(),
        "GRANT EXECUTE ON FUNCTION lo_export(oid, text) TO PUBLIC;".to_owned(),
        "GRANT SELECT ON pg_catalog.pg_authid TO PUBLIC;".to_owned(),
        "ALTER FUNCTION pg_catalog.pg_read_file(text) OWNER TO CURRENT_USER;".to_owned(),
    ] {
        let error = load_bytes(&options(&server, "target"), "attack.sql", attack.as_bytes(), None).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid), "{attack}: {error} {:?}", error.causes());
        assert!(!file.exists(), "{attack}");
        assert_eq!((roles(&server).await, databases(&server).await), before, "{attack}");
    }
    // With trust it may, which shows that the attacks are real.
    let trusted = LoadOptions { trust: Trust::Superuser, ..options(&server, "target") };
    let attack = format!("COPY (SELECT 1) TO '{}';", file.display());
    assert_eq!(load_bytes(&trusted, "attack.sql", attack.as_bytes(), None).await.unwrap().verified, None);
    assert!(file.exists());
}

/// A table whose index runs a program as soon as the table's owner is a superuser and somebody analyzes it, as the server
/// does by itself.
fn trap(file: &Path) -> String {
    format!(
        "CREATE FUNCTION public.spring() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
             IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
                 EXECUTE 'COPY (SELECT 1) TO PROGRAM ''cat > {}''';
             END IF;
             RETURN 1;
         END $$;
         ALTER FUNCTION public.spring() OWNER TO postgres;
         CREATE FUNCTION public.bait(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN public.spring() + a; END $$;
         CREATE TABLE public.t (a int);
         ALTER TABLE public.t OWNER TO postgres;
         GRANT SELECT ON TABLE public.t TO app;
         INSERT INTO public.t SELECT generate_series(1, 100);
         CREATE INDEX ON public.t (public.bait(a));\n",
        file.display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_dump_leaves_nothing_that_runs_as_a_superuser() {
    let server = TestServer::start("", "").await;
    server.run("postgres", "CREATE ROLE app; CREATE ROLE maker CREATEROLE; CREATE ROLE almost IN ROLE postgres").await;
    let (file, owners) = (server.path("sprung"), "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE oid >= 16384");
    let told = |report: &LoadReport, role: &str| {
        assert!(matches!(&report.warnings[..], [one] if one.contains(role) && one.contains("--trust")), "{:?}", report.warnings);
    };
    for (database, before, owner) in [
        ("target", "", "target_owner"),
        ("theirs", "CREATE DATABASE theirs OWNER app", "app"),
        ("makers", "CREATE DATABASE makers OWNER maker", "makers_owner"),
        ("members", "CREATE DATABASE members OWNER almost", "members_owner"),
    ] {
        if !before.is_empty() {
            server.run("postgres", before).await;
        }
        // Without a side file nothing is proven, whoever calls the dump his own.
        let report = load_bytes(&own(&server, database), "trap.sql", trap(&file).as_bytes(), None).await.unwrap();
        told(&report, owner);
        assert_eq!(server.text(database, owners).await, owner);
        let query = format!("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{database}'");
        assert_eq!(server.text("postgres", &query).await, owner);
        assert_eq!(server.text(database, "SELECT has_table_privilege('app', 'public.t', 'SELECT')").await, "t");
        server.run(database, "ANALYZE public.t").await;
        assert!(!file.exists(), "{database}");
    }
    let stewards =
        "SELECT count(*) FROM pg_roles WHERE rolname LIKE '%\\_owner' AND rolname !~ '^pg_' AND NOT rolcanlogin AND NOT rolsuper";
    assert_eq!(server.text("postgres", stewards).await, "3");
    // Nor does everything belong to a superuser where nobody's ownership is asked for.
    let nobodys = LoadOptions { owners: LoadedOwners::DatabaseOwner, ..options(&server, "nobodys") };
    told(&load_bytes(&nobodys, "trap.sql", trap(&file).as_bytes(), None).await.unwrap(), "nobodys_owner");
    server.run("nobodys", "ANALYZE public.t").await;
    assert!(!file.exists());
    // A second time the role is there; one of that name with power is not taken.
    let again = LoadOptions { existing: Existing::KeepAside, ..options(&server, "target") };
    told(&load_bytes(&again, "trap.sql", trap(&file).as_bytes(), None).await.unwrap(), "target_owner");
    server.run("postgres", "CREATE ROLE boss_owner SUPERUSER").await;
    let error = load_bytes(&options(&server, "boss"), "trap.sql", trap(&file).as_bytes(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsafe, "{error}");

    // Our own dump is as it was, which shows that the trap is real.
    let bytes = trap(&file).into_bytes();
    let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let proven = Expected { sha256, size_bytes: bytes.len() as u64, tables: Some(BTreeMap::new()), state: None };
    let report = load_bytes(&own(&server, "ours"), "trap.sql", &bytes, Some(proven)).await.unwrap();
    assert_eq!(report.warnings, [""; 0]);
    assert_eq!(server.text("ours", owners).await, "postgres");
    server.run("ours", "ANALYZE public.t").await;
    assert!(file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_side_file_sets_nothing_that_only_a_superuser_may() {
    let server = TestServer::start("", "").await;
    let store = MemoryBackupStore::new();
    filled(&server, "shop").await;
    let dumped = dump(&server, "shop", &store, "shop.sql.gz").await.unwrap();
    let bytes = store.get(&key("shop.sql.gz")).await.unwrap();
    let mut told = expected(&dumped);
    let state = told.state.as_mut().unwrap();
    for (name, value) in [("session_preload_libraries", "evil"), ("Dynamic_Library_Path", "/srv/evil"), ("work_mem", "7MB")] {
        state.settings.push(Setting { role: None, name: name.to_owned(), value: value.to_owned() });
    }
    let report = load_bytes(&options(&server, "copy"), "shop.sql.gz", &bytes, Some(told)).await.unwrap();
    assert!(report.warnings[0].contains("`Dynamic_Library_Path`, `session_preload_libraries`"), "{:?}", report.warnings);
    assert_eq!(server.text("copy", "SELECT setconfig::text FROM pg_db_role_setting").await, "{work_mem=7MB}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_only_superusers_may_log_in_a_load_needs_trust() {
    let server = TestServer::start("local all postgres trust\nlocal all all reject\n", "").await;
    let error = load_bytes(&options(&server, "shop"), "x.sql", b"SELECT 1;\n", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsafe);
    assert!(error.remedy().unwrap().contains("--trust"));
    let trusted = LoadOptions { trust: Trust::Superuser, ..options(&server, "shop") };
    load_bytes(&trusted, "x.sql", b"SELECT 1;\n", None).await.unwrap();
    assert_eq!(databases(&server).await, ["postgres", "shop"]);
    assert_eq!(roles(&server).await, "postgres");
}
