//! What stands under the name that a dump is to get.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_under_the_name_decides() {
    let server = TestServer::start("", "").await;
    let store = MemoryBackupStore::new();
    filled(&server, "shop").await;
    let dumped = dump(&server, "shop", &store, "shop.sql.gz").await.unwrap();
    let bytes = store.get(&key("shop.sql.gz")).await.unwrap();
    server.run("shop", "INSERT INTO public.t VALUES (-1, 'newer')").await;

    let error = load_bytes(&options(&server, "shop"), "shop.sql.gz", &bytes, Some(expected(&dumped))).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Conflict, "database `shop` is not empty"));
    assert_eq!(databases(&server).await, ["postgres", "shop"]);

    let clean = LoadOptions { existing: Existing::KeepAside, ..options(&server, "shop") };
    let guest = server.session("shop").await;
    let error = load_bytes(&clean, "shop.sql.gz", &bytes, Some(expected(&dumped))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("has sessions"), "{error}");
    assert_eq!(guest.text("ask", "SELECT count(*) FROM public.t").await.unwrap().as_deref(), Some("101"));

    let disconnect = LoadOptions { other_sessions: OtherSessions::Disconnect, ..clean };
    let report = load_bytes(&disconnect, "shop.sql.gz", &bytes, Some(expected(&dumped))).await.unwrap();
    assert!(guest.text("ask", "SELECT 1").await.is_err());
    let aside = report.kept_aside.unwrap();
    assert!(aside.starts_with("shop_before_20"), "{aside}");
    assert_eq!(server.text("shop", "SELECT count(*) FROM public.t").await, "100");
    assert_eq!(server.text(&aside, "SELECT count(*) FROM public.t").await, "101");

    // An empty database gives way, and without a side file its own settings stay.
    server.run("postgres", "CREATE ROLE keeper").await;
    server.run("postgres", "CREATE DATABASE room OWNER keeper").await;
    server.run("postgres", "ALTER DATABASE room SET work_mem = '9MB'").await;
    let report = load_bytes(&options(&server, "room"), "shop.sql.gz", &bytes, None).await.unwrap();
    assert_eq!((report.verified, report.kept_aside), (None, None));
    assert_eq!(server.text("room", "SHOW work_mem").await, "9MB");
    assert_eq!(server.text("room", "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'room'").await, "keeper");
    assert_eq!(databases(&server).await, ["postgres", "room", "shop", aside.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_never_replaced() {
    let server = TestServer::start("", "").await;
    server.run("postgres", "CREATE DATABASE mould IS_TEMPLATE true").await;
    let all = "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database";
    let before = server.text("postgres", all).await;
    for template in ["template0", "template1", "mould"] {
        for existing in [Existing::Refuse, Existing::KeepAside] {
            let options = LoadOptions { existing, ..options(&server, template) };
            let error = load_bytes(&options, "x.sql", b"SELECT 1;\n", None).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsafe, "{template}: {error}");
            assert!(error.to_string().contains(template) && error.remedy().is_some(), "{error}");
        }
    }
    assert_eq!(server.text("postgres", all).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_somebody_made_in_a_database_is_something() {
    let server = TestServer::start("", "wal_level = logical").await;
    for (number, made) in [
        "CREATE TABLE public.t ()",
        "CREATE PUBLICATION p FOR ALL TABLES",
        "CREATE SUBSCRIPTION s CONNECTION 'host=/nowhere' PUBLICATION p WITH (connect = false)",
        "CREATE COLLATION public.c (locale = 'C')",
        "CREATE TEXT SEARCH CONFIGURATION public.c (COPY = pg_catalog.simple)",
        "CREATE TEXT SEARCH DICTIONARY public.d (TEMPLATE = pg_catalog.simple)",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
        "CREATE FOREIGN DATA WRAPPER w",
        "CREATE CAST (int4 AS inet) WITH INOUT",
        "SELECT lo_create(0)",
    ]
    .into_iter()
    .enumerate()
    {
        let database = format!("d{number}");
        server.run("postgres", &format!("CREATE DATABASE {database}")).await;
        server.run(&database, made).await;
        let error = load_bytes(&options(&server, &database), "x.sql", b"SELECT 1;\n", None).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Conflict, format!("database `{database}` is not empty")), "{made}");
    }
    server.run("d2", "ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_filled_at_the_last_moment_is_kept() {
    let server = TestServer::start("", "").await;
    server.run("postgres", "CREATE DATABASE room").await;
    // The load asks for the time between its look at the room and the renaming.
    let filling = FillingClock(server.connection("room").conninfo());
    let source = DumpSource::new("x.sql", Box::new(&b"CREATE TABLE public.loaded ();\n"[..]), None);
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    let trusted = LoadOptions { trust: Trust::Superuser, ..options(&server, "room") };
    let report = load(&trusted, source, &(Arc::new(filling) as Arc<dyn Clock>), &progress).await.unwrap();
    let kept = report.kept_aside.unwrap();
    assert!(matches!(&report.warnings[..], [one] if one.contains(&kept)), "{:?}", report.warnings);
    assert_eq!(server.text(&kept, "SELECT count(*) FROM public.late").await, "1");
    assert_eq!(server.text("room", "SELECT count(*) FROM public.loaded").await, "0");
}

/// Somebody makes a table whenever the time is asked for.
#[derive(Debug)]
struct FillingClock(String);

impl Clock for FillingClock {
    fn now(&self) -> time::OffsetDateTime {
        let psql = Command::new(Path::new(BIN).join("psql"))
            .args(["-X", "-q", "-c", "CREATE TABLE public.late AS SELECT 1 AS one"])
            .arg(&self.0)
            .status();
        assert!(psql.unwrap().success());
        SystemClock.now()
    }
}
