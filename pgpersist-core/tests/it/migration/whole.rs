//! What must come along, and what must not have changed: a copy that is not the whole cluster is none.

use std::sync::Mutex;

use pgpersist_core::progress::Event;

use super::*;

/// A server that somebody started without pgpersist.
struct ByHand(Child);

impl ByHand {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut postgres = place.installation.command("postgres");
        postgres.arg("-D").arg(&place.source).args(arguments).arg("-k").arg(place.scratch.path());
        let mut server = Self(postgres.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let deadline = Instant::now() + TIMEOUT;
        while !Presence::of(&place.source).unwrap().running().is_some_and(|file| file.is_ready()) {
            assert!(Instant::now() < deadline && server.0.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Reaps it when it ends, as whoever started it would.
    fn until_stopped(mut self) -> tokio::task::JoinHandle<()> {
        tokio::task::spawn_blocking(move || drop(self.0.wait()))
    }
}

#[tokio::test]
async fn a_link_to_a_volume_that_is_not_mounted_stops_the_migration() {
    let place = Place::new().await;
    let database = fs::read_dir(place.source.join("base")).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    for name in ["pg_wal".to_owned(), format!("base/{database}"), "pg_tblspc/16400".to_owned()] {
        let (kept, link) = (place.scratch.join("kept"), place.source.join(&name));
        if link.exists() {
            pgpersist_core::fs::durable::rename(&link, &kept).unwrap();
        }
        symlink("/volume/that/is/not/mounted", &link).unwrap();
        let before = hashes(&place.source);
        let error = place.migrate().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unsafe | ErrorKind::Invalid), "{name}: {error}");
        assert!(error.to_string().contains("/volume/that/is/not/mounted"), "{error}");
        assert!(!place.target.exists() && !place.scratch.join("volume/.pgpersist").exists(), "{name}: nothing was begun");
        fs::remove_file(&link).unwrap();
        if kept.exists() {
            pgpersist_core::fs::durable::rename(&kept, &link).unwrap();
        }
        let after = hashes(&place.source);
        assert!(before.keys().all(|file| after.contains_key(file)));
    }
    place.migrate().await.unwrap();
    place.prove_target().await;
}

#[tokio::test]
async fn what_the_server_was_started_with_comes_along() {
    let place = Place::new().await;
    let mut server = ByHand::start(
        &place,
        &[
            "-c",
            "work_mem=7MB",
            "--max-connections=33",
            "-B",
            "24MB",
            "-c",
            "listen_addresses=",
            "-c",
            "random_page_cost=1.5",
            "-p",
            "5432",
        ],
    );
    place.psql("alter system set work_mem = '9MB'");
    let (source, target) = (place.cluster(&place.source), place.cluster(&place.target));
    let planned = plan(&source, &target, &place.options()).await.unwrap();
    let told = planned.steps.iter().find(|step| step.starts_with("bring along what the server was started with")).unwrap();
    assert!(told.contains("work_mem = 7MB") && told.contains("max_connections = 33"), "{told}");
    assert!(planned.steps.iter().any(|step| step.starts_with("leave the socket's folder")), "{:?}", planned.steps);
    assert_eq!(planned.warnings, Vec::<String>::new());
    assert!(server.0.try_wait().unwrap().is_none());
    // What pgpersist is told to set counts.
    let settings = target.options().settings.clone().into_iter().chain([("random_page_cost".to_owned(), "1.25".to_owned())]).collect();
    let target =
        Cluster::new(Arc::clone(target.directory()), target.search().clone(), ClusterOptions { settings, ..target.options().clone() });
    let stopped = server.until_stopped();
    migrate(&source, &target, &MigrateOptions { consent: true, ..place.options() }, &silent()).await.unwrap();
    stopped.await.unwrap();
    remove(&place.source);
    start(&target, &StartOptions::default()).await.unwrap();
    for (name, value) in
        [("work_mem", "7MB"), ("max_connections", "33"), ("shared_buffers", "24MB"), ("random_page_cost", "1.25"), ("fsync", "on")]
    {
        assert_eq!(place.psql(&format!("show {name}")), value, "{name}");
    }
    assert_eq!(place.psql("select count(*) from orders"), "1000");
    stop(&target, TIMEOUT).await.unwrap();
}

#[tokio::test]
async fn rules_that_include_other_files_come_along_or_stop_the_migration() {
    let place = Place::new().await;
    let rules = fs::read_to_string(place.source.join("pg_hba.conf")).unwrap();
    let outside = own(&place.scratch, "outside").join("users");
    write(&outside, "postgres\n");
    write(&place.source.join("users"), "postgres\n");
    let absolute = place.source.join("users");
    for path in [outside.to_str().unwrap(), absolute.to_str().unwrap(), "../outside/users"] {
        write(&place.source.join("pg_hba.conf"), &format!("local all @{path} trust\n{rules}"));
        let server = ByHand::start(&place, &["-c", "listen_addresses="]);
        let error = place.migrate_with(&MigrateOptions { consent: true, ..place.options() }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsafe, "{error}");
        assert!(error.to_string().contains(path) && error.remedy().unwrap().contains("pg_hba.conf"), "{error}");
        assert_eq!(place.psql("select count(*) from orders"), "1000", "the server was not stopped for it");
        assert!(!place.target.exists());
        kill(server.0.id() as i32, Signal::INT);
        server.until_stopped().await.unwrap();
    }
    // Beside the rules it is part of the source.
    write(&place.source.join("pg_hba.conf"), "local all @users trust\n");
    place.migrate().await.unwrap();
    remove(&outside);
    place.prove_target().await;
}

/// Does something once, at the first bytes after the last pass began.
struct Meddler(Mutex<Meddling>);

enum Meddling {
    Waiting(Box<dyn FnOnce() + Send>),
    Armed(Box<dyn FnOnce() + Send>),
    Done,
}

impl std::fmt::Debug for Meddler {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Meddler")
    }
}

impl ProgressSink for Meddler {
    fn event(&self, event: Event) {
        let mut state = self.0.lock().unwrap();
        *state = match (std::mem::replace(&mut *state, Meddling::Done), event) {
            (Meddling::Waiting(work), Event::Step(text)) if text.starts_with("copying the last changes") => Meddling::Armed(work),
            (Meddling::Armed(work), Event::Bytes { .. }) => {
                work();
                Meddling::Done
            }
            (other, _) => other,
        };
    }
}

#[tokio::test]
async fn a_source_that_changes_after_its_copy_is_not_set_aside() {
    type Work = fn(&Path);
    let changes: [(&str, Work); 3] = [
        ("base", |source| write(&source.join("base/note"), "new")),
        ("PG_VERSION", |source| {
            let text = fs::read_to_string(source.join("PG_VERSION")).unwrap();
            write(&source.join("PG_VERSION"), &text);
        }),
        ("base/note", |source| fs::remove_file(source.join("base/note")).unwrap()),
    ];
    let place = Place::new().await;
    for (name, change) in changes {
        let source = place.source.clone();
        let meddler: Arc<dyn ProgressSink> = Arc::new(Meddler(Mutex::new(Meddling::Waiting(Box::new(move || change(&source))))));
        let error = migrate(&place.cluster(&place.source), &place.cluster(&place.target), &place.options(), &meddler).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{name}: {error}");
        assert!(error.to_string().contains(name) && error.to_string().contains("changed after it was copied"), "{error}");
        assert!(place.source.join("global/pg_control").exists() && !place.target.exists());
    }
    assert!(place.migrate().await.unwrap().resumed);
    place.prove_target().await;
}

#[tokio::test]
async fn consent_to_the_stop_is_no_proof_that_a_server_is_gone() {
    let place = Place::new().await;
    // As a server in another container leaves it: a process that is none of ours.
    let text = format!("1\n{}\n{}\n5432\n/tmp\n\n", place.source.display(), 4_102_444_800_u64);
    write(&place.source.join("postmaster.pid"), &text);
    let before = hashes(&place.source);
    let options = MigrateOptions { consent: true, stop_timeout: Duration::from_secs(1), ..place.options() };
    let error = place.migrate_with(&options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsafe, "{error}");
    assert!(error.to_string().contains("names process 1, started 2100-01-01"), "{error}");
    let file = place.source.join("postmaster.pid");
    assert!(error.remedy().unwrap().contains(&format!("remove {}", file.display())), "{:?}", error.remedy());
    assert_eq!(plan(&place.cluster(&place.source), &place.cluster(&place.target), &options).await.unwrap_err().kind(), ErrorKind::Unsafe);
    assert_eq!((hashes(&place.source), place.target.exists()), (before, false));
    fs::remove_file(file).unwrap();
    place.migrate_with(&options).await.unwrap();
    place.prove_target().await;
}
