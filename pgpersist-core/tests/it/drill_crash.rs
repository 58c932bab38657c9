//! The crash drill: green on a sound server, red for every planted fault, and repeatable.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use pgpersist_core::clock::SystemClock;
use pgpersist_core::data_directory::local::LocalDataDirectory;
use pgpersist_core::data_directory::own_folder::OwnFolder;
use pgpersist_core::drill::crash::{self, CrashOptions};
use pgpersist_core::drill::ground::Target;
use pgpersist_core::drill::kill::KillChoice;
use pgpersist_core::drill::report::CrashReport;
use pgpersist_core::drill::{CheckStatus, KillKind, Plant, Verdict, history, ledger};
use pgpersist_core::error::ErrorKind;
use pgpersist_core::fs::durable;
use pgpersist_core::fs::os_user::OsUser;
use pgpersist_core::init::plan::InitWishes;
use pgpersist_core::init::ready::{InitOptions, make_ready};
use pgpersist_core::progress::{ProgressSink, Silent};
use pgpersist_core::server::cluster::{Cluster, ClusterOptions, ServerState};
use pgpersist_core::server::installation::InstallationSearch;
use pgpersist_core::server::process::{self, Presence};
use pgpersist_core::server::session::Session;
use pgpersist_core::server::start::{StartOptions, start};
use pgpersist_core::server::stop::stop;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::installation::{Installation, server_user};
use crate::support::scratch::Scratch;

fn os_user() -> Option<OsUser> {
    server_user().map(|_| OsUser::lookup("postgres").unwrap().unwrap())
}

fn search(installation: &Installation) -> InstallationSearch {
    InstallationSearch { configured: Some(installation.bin.clone()), ..InstallationSearch::default() }
}

fn throw_away(installation: &Installation) -> Target {
    Target::ThrowAway { search: search(installation), os_user: os_user(), major: None }
}

fn newest() -> Installation {
    Installation::all().into_iter().rfind(|installation| installation.has("pg_checksums")).unwrap()
}

/// Small enough for every run of the tests; `script/proofs` has the size of the promise.
fn small(seed: u64) -> CrashOptions {
    CrashOptions { rounds: 2, at_least: 50, undisturbed: 300, ..CrashOptions::new(seed) }
}

async fn run(target: &Target, options: &CrashOptions) -> CrashReport {
    crash::run(target, options, &SystemClock, &Silent).await.unwrap()
}

fn assert_clean(report: &CrashReport) {
    assert_eq!((report.verdict, report.lost, report.torn, &report.reasons), (Verdict::Pass, 0, 0, &vec![]), "{}", report.to_text());
    for round in &report.kills {
        assert!(round.acknowledged >= 50 && round.in_flight >= 1 && round.recovery_s.is_some(), "{round:?}");
    }
    assert!(report.table.len() == 4 && report.table.iter().all(|row| row.matches));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_whoever_is_killed() {
    let installation = newest();
    let options = CrashOptions { rounds: 3, ..small(1) };
    let report = run(&throw_away(&installation), &options).await;
    assert_clean(&report);
    assert!(report.kills.iter().all(|round| round.checks.iter().all(|check| check.status != CheckStatus::Fail)));
    let kinds: Vec<_> = report.kills.iter().map(|round| round.kill).collect();
    assert!([KillKind::Postmaster, KillKind::Backend, KillKind::Group].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    let group = report.kills.iter().find(|round| round.kill == KillKind::Group).unwrap();
    assert!(group.processes > 5, "a group is more than the postmaster: {group:?}");
    assert!(!report.data_directory.exists(), "the throw-away cluster is gone");
    let document = serde_json::to_value(&report).unwrap();
    for field in ["kind", "verdict", "seed", "rounds", "acknowledged", "in_flight", "lost", "torn"] {
        assert!(document.get(field).is_some(), "{field}");
    }
    assert!(document["recovery_s"]["median"].is_number());
    assert!(report.to_text().contains("SIGKILL") && report.to_markdown().starts_with("# Crash drill: pass\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_had_not_begun_is_not_in_flight() {
    // Of so many, some always wait for their ledger or for their BEGIN.
    let options = CrashOptions { writers: 24, kill: KillChoice::Only(KillKind::Group), ..small(10) };
    let report = run(&throw_away(&newest()), &options).await;
    assert_clean(&report);
    for round in &report.kills {
        let unanswered = round.judgement.as_ref().unwrap();
        assert!(round.in_flight <= unanswered.in_flight_whole + unanswered.in_flight_absent, "{round:?}");
    }
    assert!(report.kills.iter().any(|round| round.in_flight < 24), "{}", report.to_text());
}

async fn planted(plant: Plant) -> CrashReport {
    let report = run(&throw_away(&newest()), &CrashOptions { plant: Some(plant), ..small(2) }).await;
    assert_eq!(report.verdict, Verdict::Fail, "{}", report.to_text());
    assert!(!report.reasons.is_empty() && !report.data_directory.exists());
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_row_is_found() {
    let report = planted(Plant::DeletedRow).await;
    assert_eq!((report.lost, report.torn), (1, 0), "{}", report.to_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_transaction_is_found() {
    let report = planted(Plant::HalfTransaction).await;
    assert_eq!((report.lost, report.torn), (0, 1), "{}", report.to_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_wal_is_found() {
    let report = planted(Plant::TruncatedWal).await;
    assert!(report.lost > 0, "{}", report.to_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_did_not_wait_for_the_wal_are_found() {
    let report = planted(Plant::SynchronousCommitOff).await;
    assert!(report.lost > 0 && report.kills[0].kill == KillKind::Group, "{}", report.to_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_drill_can_be_recounted_by_a_script() {
    let installation = newest();
    let options = CrashOptions { rounds: 1, keep: true, kill: KillChoice::Only(KillKind::Backend), ..small(3) };
    let report = run(&throw_away(&installation), &options).await;
    assert_clean(&report);
    let (folder, ledger_path) = (report.kept.clone().unwrap(), report.ledger.clone().unwrap());
    let _guard = Kept(folder.clone(), ledger_path.clone());
    let records = ledger::read(&ledger_path).unwrap();
    assert_eq!(records.values().filter(|record| record.acknowledged.is_some()).count() as u64, report.acknowledged);
    let recount = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../script/recount-drill");
        let mut command = Command::new("sh");
        command.arg(script).arg(&folder).arg(&ledger_path).env("PGPERSIST_BINDIR", &installation.bin);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, stdout, stderr) = recount();
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains(&format!("acknowledged {}\n", report.acknowledged)) && stdout.contains("missing 0\n"), "{stdout}");
    for (alteration, undone, told) in ALTERATIONS {
        alter(&installation, &folder.join("data"), alteration);
        let (code, stdout, stderr) = recount();
        assert_eq!(code, Some(7), "{alteration}: {stdout}{stderr}");
        assert!(stdout.contains(told), "{alteration}: {stdout}");
        alter(&installation, &folder.join("data"), undone);
    }
    let (code, stdout, stderr) = recount();
    assert_eq!(code, Some(0), "everything was undone: {stdout}{stderr}");
    // An acknowledgement that the database has never seen: the script counts for itself.
    let text = std::fs::read_to_string(&ledger_path).unwrap();
    durable::write(&ledger_path, format!("{text}commit 1 1 999999 1 2 5 77\n").as_bytes(), 0o644).unwrap();
    let (code, stdout, stderr) = recount();
    assert_eq!(code, Some(7), "{stdout}{stderr}");
    assert!(stdout.contains("missing 1\n"), "{stdout}");
    durable::write(&ledger_path, text.as_bytes(), 0o644).unwrap();
    assert!(Presence::of(&folder.join("data")).unwrap().running().is_none(), "the script stops what it started");
}

/// Changes a kept drill behind everybody's back, one statement a line.
fn alter(installation: &Installation, data: &Path, statements: &str) {
    let mut server = installation.command("postgres");
    server.args(["--single", "-c", "exit_on_error=on", "-c", "logging_collector=off", "-D"]).arg(data).arg("pgpersist_drill");
    let mut server = server.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    server.stdin.take().unwrap().write_all(format!("{statements}\n").as_bytes()).unwrap();
    let output = server.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("ERROR"), "{statements}: {said}");
}

/// What the drill's books may hold wrong, how to undo it, and what the recount must say of it.
const ALTERATIONS: [(&str, &str, &str); 7] = [
    ("DELETE FROM drill.marker", "INSERT INTO drill.marker VALUES ('crash drill, seed 3')", "the marker row says ``"),
    (
        "UPDATE drill.writer SET transactions = transactions - 1 WHERE id = 2",
        "UPDATE drill.writer SET transactions = transactions + 1 WHERE id = 2",
        "wrong: writer 2 counted",
    ),
    (
        "UPDATE drill.writer SET moved = moved + 7 WHERE id = 1",
        "UPDATE drill.writer SET moved = moved - 7 WHERE id = 1",
        "writer 1 counted",
    ),
    (
        "UPDATE drill.account SET balance = balance + CASE id WHEN 4 THEN 5 ELSE -5 END WHERE id IN (4, 9)",
        "UPDATE drill.account SET balance = balance - CASE id WHEN 4 THEN 5 ELSE -5 END WHERE id IN (4, 9)",
        "wrong: account 9 holds",
    ),
    ("INSERT INTO drill.account VALUES (1001, 1000000)", "DELETE FROM drill.account WHERE id = 1001", "there are 1001 accounts"),
    (
        "UPDATE drill.entry SET xid = xid + 1 WHERE writer = 1 AND sequence = 1 AND leg = 1",
        "UPDATE drill.entry SET xid = xid - 1 WHERE writer = 1 AND sequence = 1 AND leg = 1",
        "torn 1\n",
    ),
    (
        "UPDATE drill.entry SET leg = 2 WHERE writer = 1 AND sequence = 1 AND leg = 1",
        "UPDATE drill.entry SET leg = 1 WHERE writer = 1 AND sequence = 1 AND leg = 2",
        "torn 1\n",
    ),
];

struct Kept(std::path::PathBuf, std::path::PathBuf);

impl Drop for Kept {
    fn drop(&mut self) {
        end_server(&self.0.join("data"));
        let _ = durable::remove_file(&self.1);
        let _ = durable::remove_tree(&self.0);
    }
}

fn end_server(directory: &Path) {
    if let Ok(presence) = Presence::of(directory)
        && let Some(file) = presence.running()
    {
        let _ = kill_process(Pid::from_raw(file.pid).unwrap(), Signal::QUIT);
        while process::is_alive(file.pid) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// A durable cluster of its own, as a user would have it.
struct Life {
    cluster: Cluster,
    _scratch: Scratch,
}

impl Life {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let (scratch, installation) = (Scratch::new(), newest());
        let options = ClusterOptions {
            settings: [("listen_addresses", "")].iter().chain(settings).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            socket_directory: Some(scratch.path().to_owned()),
            os_user: os_user(),
            user: "postgres".into(),
            ..ClusterOptions::default()
        };
        let directory = LocalDataDirectory::open(scratch.join("pgdata")).unwrap();
        let cluster = Cluster::new(Arc::new(directory), search(&installation), options);
        let wishes =
            InitOptions { cluster_name: "main".into(), databases: vec![], superuser: "postgres".into(), wishes: InitWishes::default() };
        make_ready(&cluster, None, &wishes, &(Arc::new(Silent) as Arc<dyn ProgressSink>)).await.unwrap();
        // The tests may run as root, whom `peer` does not know as postgres.
        let hba = scratch.join("pgdata/pg_hba.conf");
        durable::write(&hba, b"local all all trust\nlocal replication all trust\n", 0o600).unwrap();
        Self { cluster, _scratch: scratch }
    }

    async fn start(&self) -> i32 {
        start(&self.cluster, &StartOptions::default()).await.unwrap().status.pid.unwrap()
    }

    async fn text(&self, query: &str) -> String {
        let connection = self.cluster.connection("postgres").await.unwrap();
        let session = Session::connect(&connection, std::time::Duration::from_secs(30)).await.unwrap();
        session.text("ask", query).await.unwrap().unwrap_or_default()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        end_server(self.cluster.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_drilled_and_the_original_is_not_touched() {
    // An archive that would be told about it, and commits that would wait for a standby that is not there.
    let life = Life::new(&[("archive_mode", "on"), ("archive_command", "exit 1")]).await;
    let options = CrashOptions { rounds: 1, kill: KillChoice::Only(KillKind::Group), ..small(4) };
    let stopped = run(&Target::Copy(life.cluster.clone()), &options).await;
    assert_clean(&stopped);
    assert_eq!(life.cluster.status().await.unwrap().state, ServerState::Stopped);
    let pid = life.start().await;
    let running = run(&Target::Copy(life.cluster.clone()), &options).await;
    assert_clean(&running);
    assert_eq!(life.cluster.status().await.unwrap().pid, Some(pid));
    assert_eq!(life.text("SELECT count(*) FROM pg_database WHERE datname = 'pgpersist_drill'").await, "0");
    let left: Vec<_> = std::fs::read_dir(life.cluster.directory().own_folder().path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("drill")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_cluster_is_killed_recovers_and_keeps_nothing_of_the_drill() {
    let life = Life::new(&[]).await;
    let before = life.start().await;
    let options = CrashOptions { rounds: 2, kill: KillChoice::Only(KillKind::Postmaster), ..small(5) };
    let report = run(&Target::Live(life.cluster.clone()), &options).await;
    assert_clean(&report);
    let status = life.cluster.status().await.unwrap();
    assert!(status.state == ServerState::Running && status.pid != Some(before));
    assert_eq!(life.text("SELECT count(*) FROM pg_database WHERE datname = 'pgpersist_drill'").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_cluster_that_gives_up_its_commits_is_refused() {
    let life = Life::new(&[("synchronous_commit", "off")]).await;
    let pid = life.start().await;
    let error = crash::run(&Target::Live(life.cluster.clone()), &small(6), &SystemClock, &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsafe);
    assert!(error.to_string().contains("synchronous_commit is off"), "{error}");
    assert_eq!(life.cluster.status().await.unwrap().pid, Some(pid));
    assert_eq!(life.text("SELECT count(*) FROM pg_database WHERE datname = 'pgpersist_drill'").await, "0");
    // A copy is harmed by nothing, but it is not called safe.
    let options = CrashOptions { rounds: 1, plant: None, ..small(6) };
    let report = run(&Target::Copy(life.cluster.clone()), &options).await;
    let _kept = report.kept.clone().map(|folder| Kept(folder, report.ledger.clone().unwrap()));
    assert!(report.verdict == Verdict::Fail && report.lost == 0, "{}", report.to_text());
    assert!(report.reasons.iter().any(|reason| reason.contains("synchronous_commit")), "{:?}", report.reasons);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_gives_up_its_commits_is_seen_however_that_is_spelled() {
    let life = Life::new(&[]).await;
    life.start().await;
    life.text("ALTER ROLE postgres SET synchronous_commit = 'FALSE'").await;
    let error = crash::run(&Target::Live(life.cluster.clone()), &small(11), &SystemClock, &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsafe);
    assert!(error.to_string().to_lowercase().contains("synchronous_commit=false for role postgres"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_runs_in_its_own_place_whatever_came_along() {
    let life = Life::new(&[]).await;
    // Each session of the original's would fail, and so would the copy's.
    life.start().await;
    life.text(
        "DO $$ BEGIN ALTER DATABASE postgres SET session_preload_libraries = 'no_such_library';
         ALTER ROLE postgres SET local_preload_libraries = 'no_such_library_either'; END $$",
    )
    .await;
    stop(&life.cluster, std::time::Duration::from_secs(60)).await.unwrap();
    // As Debian's `postgresql.conf` has it: this line beats `-D`.
    let (data, configuration) = (life.cluster.path().to_owned(), life.cluster.path().join("postgresql.conf"));
    let text = std::fs::read_to_string(&configuration).unwrap();
    durable::write(&configuration, format!("{text}\ndata_directory = '{}'\n", data.display()).as_bytes(), 0o600).unwrap();
    let control = || std::fs::read(data.join("global/pg_control")).unwrap();
    let before = control();
    let options = CrashOptions { rounds: 1, kill: KillChoice::Only(KillKind::Group), ..small(12) };
    assert_clean(&run(&Target::Copy(life.cluster.clone()), &options).await);
    assert_eq!(control(), before, "a server ran in the original");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_links_is_not_copied_in_part() {
    let life = Life::new(&[]).await;
    std::os::unix::fs::symlink("/etc/hostname", life.cluster.path().join("base/1/linked")).unwrap();
    let error = crash::run(&Target::Copy(life.cluster.clone()), &small(13), &SystemClock, &Silent).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("base/1/linked"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_drill_left_when_the_power_failed_is_removed_by_the_next() {
    let life = Life::new(&[]).await;
    let own = life.cluster.directory().own_folder().path().to_owned();
    let folder = |name: &str, owned: bool| {
        let folder = own.join(name);
        durable::create_directories(&folder.join("data/base"), 0o700).unwrap();
        if owned {
            durable::write(&folder.join("owner"), b"process 1, started 0, boot another\n", 0o600).unwrap();
        }
        folder
    };
    let (left, kept) = (folder("drill-0123456789abcdef", true), folder("drill-fedcba9876543210", false));
    let options = CrashOptions { rounds: 1, kill: KillChoice::Only(KillKind::Group), ..small(14) };
    assert_clean(&run(&Target::Copy(life.cluster.clone()), &options).await);
    assert!(!left.exists(), "nobody owns it any more");
    assert!(kept.exists(), "it was kept on purpose");
    durable::remove_tree(&kept).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_never_planted_outside_a_throw_away_cluster() {
    let life = Life::new(&[]).await;
    for target in [Target::Copy(life.cluster.clone()), Target::Live(life.cluster.clone())] {
        let options = CrashOptions { plant: Some(Plant::DeletedRow), ..small(7) };
        let error = crash::run(&target, &options, &SystemClock, &Silent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsafe, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_drill_leaves_nothing() {
    let life = Life::new(&[]).await;
    let own = life.cluster.directory().own_folder().path().to_owned();
    let left = move || {
        let all = std::fs::read_dir(&own).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        all.filter(|name| name.starts_with("drill-")).count()
    };
    let (target, options) = (Target::Copy(life.cluster.clone()), CrashOptions { rounds: 50, ..small(8) });
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let sink = Steps(told);
    let drill = tokio::spawn(async move { crash::run(&target, &options, &SystemClock, &sink).await });
    while let Some(step) = hear.recv().await {
        if step.starts_with("round 2") {
            break;
        }
    }
    assert_eq!(left(), 1);
    drill.abort();
    assert!(drill.await.unwrap_err().is_cancelled());
    assert_eq!(left(), 0);
}

#[derive(Debug)]
struct Steps(tokio::sync::mpsc::UnboundedSender<String>);

impl pgpersist_core::progress::ProgressSink for Steps {
    fn event(&self, event: pgpersist_core::progress::Event) {
        if let pgpersist_core::progress::Event::Step(step) = event {
            let _ = self.0.send(step);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_hundred_reports_are_kept() {
    let scratch = Scratch::new();
    let own = OwnFolder::locate(&scratch.join("pgdata")).unwrap();
    let mut report = run(&throw_away(&newest()), &CrashOptions { rounds: 1, ..small(9) }).await;
    for number in 0..history::KEPT + 3 {
        report.started_at = format!("2026-01-14T02:{:02}:{:02}Z", number / 60, number % 60);
        history::keep(&own, &report).unwrap();
    }
    let (reports, unreadable) = history::list(&own).unwrap();
    assert_eq!((reports.len(), unreadable.len()), (history::KEPT, 0));
    assert_eq!(reports[0]["started_at"], report.started_at);
    assert_eq!(reports[0]["verdict"], "pass");
}
