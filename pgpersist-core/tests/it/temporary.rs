//! Throw-away clusters: real, isolated, quick to have, and gone however their owner ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use pgpersist_core::drill::dice::Dice;
use pgpersist_core::error::ErrorKind;
use pgpersist_core::fs::durable;
use pgpersist_core::server::connection::Host;
use pgpersist_core::server::session::Session;
use pgpersist_core::server::settings::Profile;
use pgpersist_core::temporary::cluster::{TemporaryCluster, TemporaryOptions};
use pgpersist_core::temporary::scratch::Afterwards;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::support::installation::Installation;

/// Tells the test process that plays an owner where its clusters go, and what it does with them.
const OWNER_FOLDER: &str = "TEST_TEMPORARY_OWNER_FOLDER";
const OWNER_HABIT: &str = "TEST_TEMPORARY_OWNER_HABIT";
/// Generous: on a loaded machine an end takes a second.
const END: Duration = Duration::from_secs(60);

/// A folder of ours that PostgreSQL's user can pass, as `/tmp` is.
fn parent() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("pgpersist-it-").tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn options(parent: &Path) -> TemporaryOptions {
    TemporaryOptions { parent: Some(parent.to_owned()), ..with(&Installation::all()[0]) }
}

fn with(installation: &Installation) -> TemporaryOptions {
    let mut options = TemporaryOptions::default();
    options.search.configured = Some(installation.bin.clone());
    options
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Whether a process runs, by the kernel alone: a zombie only waits to be reaped.
fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Processes that have anything to do with a folder: they work in it, or it is in their arguments.
fn processes_about(folder: &Path) -> Vec<String> {
    let text = folder.to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let arguments = String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).unwrap_or_default()).replace('\0', " ");
        let works_there = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if (works_there || arguments.contains(text)) && lives(pid) && pid != std::process::id() as i32 {
            found.push(format!("{pid}: {arguments}"));
        }
    }
    found
}

/// Data directories whose shared memory is looked for: its key is the directory's inode. Each stays open, which keeps its number
/// from going to a cluster of another test.
#[derive(Default)]
struct DataDirectories(BTreeMap<u64, File>);

impl DataDirectories {
    fn of(data: &Path) -> Self {
        let mut directories = Self::default();
        directories.note(data);
        directories
    }

    /// Takes in a directory, unless it is known or gone already.
    fn note(&mut self, data: &Path) {
        let Ok(directory) = File::open(data) else { return };
        let inode = directory.metadata().unwrap().ino();
        self.0.entry(inode).or_insert(directory);
    }

    /// The System V segments that their servers made and nobody uses. What is older than the directory comes from a server
    /// that another test killed, in a directory whose number was given to this one.
    fn segments(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        let is_ours = |line: &&str| {
            let fields: Vec<i64> = line.split_whitespace().map(|field| field.parse().unwrap_or(-1)).collect();
            let [key, _, _, _, _, _, attached, _, _, _, _, _, _, made_at, ..] = fields[..] else { panic!("{line}") };
            let born = |directory: &File| {
                let born = directory.metadata().unwrap().created().unwrap().duration_since(UNIX_EPOCH).unwrap();
                i64::try_from(born.as_secs()).unwrap()
            };
            attached == 0 && self.0.iter().any(|(inode, directory)| *inode as u32 == key as u32 && made_at >= born(directory))
        };
        table.lines().skip(1).filter(is_ours).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_cluster_answers_on_every_major_and_is_gone_with_its_handle() {
    for installation in Installation::all() {
        for profile in [Profile::Ephemeral, Profile::Durable] {
            let cluster = TemporaryCluster::start(TemporaryOptions { profile, ..with(&installation) }).await.unwrap();
            let session = cluster.session("postgres").await.unwrap();
            assert_eq!(session.version().await.unwrap(), installation.version);
            assert_eq!(session.setting("data_checksums").await.unwrap().unwrap(), "on");
            let durable = if profile == Profile::Durable { "on" } else { "off" };
            assert_eq!(session.setting("fsync").await.unwrap().unwrap(), durable);
            session.execute("write", "CREATE TABLE public.t AS SELECT generate_series(1, 1000) AS n; CHECKPOINT").await.unwrap();
            // What is written to the log after a restart joins what the template's log said.
            drop(session);
            cluster.restart().await.unwrap();
            let session = cluster.session("postgres").await.unwrap();
            assert_eq!(session.text("read", "SELECT count(*) FROM public.t").await.unwrap().unwrap(), "1000");
            let folder = cluster.folder().to_owned();
            drop(cluster);
            assert!(!folder.exists(), "{} {profile:?}", installation.version);
        }
    }
}

#[tokio::test]
async fn each_cluster_has_a_system_identifier_of_its_own_also_in_its_log() {
    let parent = parent();
    let first = TemporaryCluster::start(options(parent.path())).await.unwrap();
    let second = TemporaryCluster::start(options(parent.path())).await.unwrap();
    let ids = [
        first.session("postgres").await.unwrap().system_identifier().await.unwrap(),
        second.session("postgres").await.unwrap().system_identifier().await.unwrap(),
    ];
    assert_ne!(ids[0], ids[1]);
    for (cluster, id) in [(&first, ids[0]), (&second, ids[1])] {
        for path in entries(&cluster.cluster().path().join("pg_wal")).iter().filter(|path| path.is_file()) {
            let mut header = [0; 40];
            File::open(path).unwrap().read_exact_at(&mut header, 0).unwrap();
            let header = pgpersist_core::pg::wal_page::WalSegmentHeader::parse(&header).unwrap();
            assert_eq!(header.system_identifier, id, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn what_was_committed_survives_kill9_on_a_durable_cluster() {
    let parent = parent();
    let cluster = TemporaryCluster::start(TemporaryOptions { profile: Profile::Durable, ..options(parent.path()) }).await.unwrap();
    let session = cluster.session("postgres").await.unwrap();
    session.execute("write", "CREATE TABLE public.t (n int); INSERT INTO public.t SELECT generate_series(1, 5000)").await.unwrap();
    cluster.kill9().await.unwrap();
    assert!(cluster.cluster().presence().await.unwrap().running().is_none());
    cluster.restart().await.unwrap();
    let session = cluster.session("postgres").await.unwrap();
    assert_eq!(session.text("read", "SELECT count(*) FROM public.t").await.unwrap().unwrap(), "5000");
    drop(session);
    // Killed for good: its shared memory must not stay either.
    let directory = DataDirectories::of(cluster.cluster().path());
    cluster.kill9().await.unwrap();
    assert_eq!(directory.segments().len(), 1, "a killed server leaves its segment");
    cluster.stop().await.unwrap();
    assert_eq!(directory.segments(), [""; 0]);
    assert_eq!(entries(parent.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn an_ephemeral_cluster_starts_again_after_kill9() {
    let parent = parent();
    let cluster = TemporaryCluster::start(options(parent.path())).await.unwrap();
    cluster.kill9().await.unwrap();
    cluster.restart().await.unwrap();
    cluster.session("postgres").await.unwrap();
}

#[tokio::test]
async fn tcp_wants_the_password_and_the_url_has_it() {
    let parent = parent();
    let wanted = TemporaryOptions { tcp: true, databases: vec!["customer/Invoice ₹".to_owned()], ..options(parent.path()) };
    let cluster = TemporaryCluster::start(wanted).await.unwrap();
    let connection = cluster.connection("customer/Invoice ₹");
    assert_eq!(connection.host, Host::Tcp("127.0.0.1".to_owned()));
    Session::connect(&connection, END).await.unwrap();
    let url = cluster.url("customer/Invoice ₹");
    let (client, driver) = tokio_postgres::connect(url.expose(), tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(driver);
    let row = client.query_one("SELECT current_database()::text, inet_server_addr()::text", &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("customer/Invoice ₹", "127.0.0.1/32"));
    drop(client);
    driver.await.unwrap().unwrap();
    let mut without = connection;
    without.password = None;
    assert!(Session::connect(&without, END).await.is_err(), "TCP must not be open to every user of the machine");
}

#[tokio::test]
async fn the_socket_url_works_and_nobody_else_can_reach_the_socket() {
    let parent = parent();
    let cluster = TemporaryCluster::start(options(parent.path())).await.unwrap();
    let (client, driver) = tokio_postgres::connect(cluster.url("postgres").expose(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(driver);
    assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
    let address: Option<String> = client.query_one("SELECT nullif(current_setting('listen_addresses'), '')", &[]).await.unwrap().get(0);
    assert_eq!(address, None);
    assert_eq!(fs::metadata(cluster.socket_directory()).unwrap().mode() & 0o7777, 0o700);
}

#[tokio::test]
async fn another_database_is_a_copy_of_the_one_named() {
    let parent = parent();
    let cluster = TemporaryCluster::start(TemporaryOptions { databases: vec!["base".into()], ..options(parent.path()) }).await.unwrap();
    cluster.session("base").await.unwrap().execute("write", "CREATE TABLE public.t AS SELECT 42 AS n").await.unwrap();
    cluster.create_database("copy", Some("base")).await.unwrap();
    let copied = cluster.session("copy").await.unwrap().text("read", "SELECT n FROM public.t").await.unwrap();
    assert_eq!(copied.unwrap(), "42");
    assert_eq!(cluster.create_database("copy", None).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn twenty_clusters_start_at_once_from_a_cold_cache() {
    let (parent, cache) = (parent(), parent());
    let one = || TemporaryCluster::start(TemporaryOptions { cache: Some(cache.path().to_owned()), tcp: true, ..options(parent.path()) });
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..20 {
        starts.spawn(one());
    }
    let clusters: Vec<TemporaryCluster> = starts.join_all().await.into_iter().map(Result::unwrap).collect();
    let mut ids = BTreeSet::new();
    for cluster in &clusters {
        let session = Session::connect(&cluster.connection("postgres"), END).await.unwrap();
        ids.insert(session.system_identifier().await.unwrap());
    }
    assert_eq!(ids.len(), 20);
    let templates = entries(cache.path()).into_iter().filter(|path| path.is_dir()).count();
    assert_eq!(templates, 1, "{:?}", entries(cache.path()));
    drop(clusters);
    assert_eq!(entries(parent.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_damaged_template_is_made_anew() {
    let (parent, cache) = (parent(), parent());
    let wanted = TemporaryOptions { cache: Some(cache.path().to_owned()), ..options(parent.path()) };
    drop(TemporaryCluster::start(wanted.clone()).await.unwrap());
    let template = entries(cache.path()).into_iter().find(|path| path.is_dir()).unwrap().join("cluster");
    type Damage = fn(&Path);
    let damages: [Damage; 4] = [
        |template| durable::remove_file(&template.join("base/1/1259")).unwrap(),
        |template| File::options().write(true).open(template.join("global/1262")).unwrap().set_len(100).unwrap(),
        |template| File::options().write(true).open(template.join("global/pg_control")).unwrap().write_all_at(b"x", 5).unwrap(),
        |template| durable::remove_tree(template).unwrap(),
    ];
    for damage in damages {
        damage(&template);
        let cluster = TemporaryCluster::start(wanted.clone()).await.unwrap();
        assert_eq!(cluster.session("postgres").await.unwrap().databases().await.unwrap(), ["postgres"]);
    }
}

#[tokio::test]
async fn a_cache_that_others_can_write_is_refused() {
    let (parent, cache) = (parent(), parent());
    fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let wanted = TemporaryOptions { cache: Some(cache.path().to_owned()), ..options(parent.path()) };
    assert_eq!(TemporaryCluster::start(wanted).await.unwrap_err().kind(), ErrorKind::Unsafe);
}

#[tokio::test]
async fn settings_of_the_caller_win_and_wrong_ones_leave_nothing() {
    let parent = parent();
    let with_setting = |name: &str, value: &str| {
        let mut options = options(parent.path());
        options.settings.insert(name.to_owned(), value.to_owned());
        options
    };
    let cluster = TemporaryCluster::start(with_setting("shared_buffers", "7MB")).await.unwrap();
    assert_eq!(cluster.session("postgres").await.unwrap().setting("shared_buffers").await.unwrap().unwrap(), "7MB");
    drop(cluster);
    let error = TemporaryCluster::start(with_setting("shared_buffers", "plenty")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.causes().iter().any(|cause| cause.contains("plenty")), "{:?}", error.causes());
    assert_eq!(entries(parent.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_kept_cluster_is_stopped_cleanly_and_stays() {
    let parent = parent();
    let cluster = TemporaryCluster::start(TemporaryOptions { afterwards: Afterwards::Keep, ..options(parent.path()) }).await.unwrap();
    let data = cluster.cluster().path().to_owned();
    cluster.stop().await.unwrap();
    let control = pgpersist_core::pg::control_file::ControlFile::parse(&fs::read(data.join("global/pg_control")).unwrap()).unwrap();
    assert!(control.is_clean_shutdown());
    assert_eq!(processes_about(parent.path()), [""; 0]);
    // Nobody sweeps what was kept on purpose.
    assert_eq!(pgpersist_core::temporary::sweeper::sweep(parent.path(), server_user().as_ref()).unwrap(), Vec::<PathBuf>::new());
    assert!(data.exists());
}

fn server_user() -> Option<pgpersist_core::fs::os_user::OsUser> {
    rustix::process::geteuid().is_root().then(|| pgpersist_core::fs::os_user::OsUser::lookup("postgres").unwrap().unwrap())
}

/// A process that owns clusters until it is killed: this test program, asked for one test only.
struct Owner {
    child: Child,
    /// Whether it leads a group of its own, with a child that also has to die.
    leads_group: bool,
}

impl Owner {
    fn start(folder: &Path, habit: &str, leads_group: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "temporary::an_owner_that_waits_to_be_killed", "--nocapture"])
            .env(OWNER_FOLDER, folder)
            .env(OWNER_HABIT, habit)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if leads_group {
            command.process_group(0);
        }
        Self { child: command.spawn().unwrap(), leads_group }
    }

    /// Waits until its cluster runs.
    fn wait_until_ready(&mut self) {
        let output = BufReader::new(self.child.stdout.as_mut().unwrap());
        let found = output.lines().any(|line| line.unwrap().contains("the cluster runs"));
        assert!(found, "the owner ended early");
    }

    /// Kills it; `true` when it was still alive.
    fn kill(&mut self) -> bool {
        // As long as nobody has waited for it, its number is nobody else's.
        let pid = Pid::from_child(&self.child);
        if self.leads_group {
            let _ = kill_process_group(pid, Signal::KILL);
        } else {
            kill_process(pid, Signal::KILL).unwrap()
        }
        self.child.wait().unwrap().signal() == Some(9)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// No test of its own: what the tests below start and kill.
#[tokio::test]
async fn an_owner_that_waits_to_be_killed() {
    let (Some(folder), Some(habit)) = (std::env::var_os(OWNER_FOLDER), std::env::var_os(OWNER_HABIT)) else { return };
    let profile = if habit == "recovers" { Profile::Durable } else { Profile::Ephemeral };
    let cluster = TemporaryCluster::start(TemporaryOptions { profile, ..options(Path::new(&folder)) }).await.unwrap();
    let session = cluster.session("postgres").await.unwrap();
    println!("the cluster runs");
    let work = "CREATE TEMPORARY TABLE IF NOT EXISTS t (n int); INSERT INTO t SELECT generate_series(1, 10000)";
    match habit.to_str().unwrap() {
        // Killed while a cluster is made, while backends are busy, and while it is removed.
        "lives" => {
            for _ in 0..10 {
                session.execute("work", work).await.unwrap();
            }
            drop(session);
            cluster.stop().await.unwrap();
        }
        // Killed also between the death of its server and the next start, or in the middle of a recovery.
        "recovers" => {
            cluster.kill9().await.unwrap();
            cluster.restart().await.unwrap();
            cluster.session("postgres").await.unwrap();
            cluster.stop().await.unwrap();
        }
        _ => {
            let deadline = Instant::now() + END;
            while Instant::now() < deadline {
                session.execute("work", work).await.unwrap();
            }
        }
    }
}

/// What is left of killed owners, once it no longer changes or nothing is left.
fn leftovers(parent: &Path, directories: &DataDirectories) -> Vec<String> {
    let deadline = Instant::now() + END;
    loop {
        let mut left: Vec<String> = entries(parent).iter().map(|path| path.display().to_string()).collect();
        left.extend(processes_about(parent));
        left.extend(directories.segments());
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How many owners an everyday run kills; `PGPERSIST_TEST_ROUNDS` names another number.
const OWNERS: usize = 20;
const HABITS: [&str; 2] = ["lives", "recovers"];

/// The number in an environment variable.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|e| panic!("{variable} is `{text}`: {e}")))
}

/// How long an owner lives when nobody disturbs it.
fn undisturbed(parent: &Path, habit: &str) -> Duration {
    let life = || {
        let began = Instant::now();
        let mut owner = Owner::start(parent, habit, false);
        owner.wait_until_ready();
        // Whoever does not read lets it wait.
        std::io::copy(owner.child.stdout.as_mut().unwrap(), &mut std::io::sink()).unwrap();
        assert!(owner.child.wait().unwrap().success(), "undisturbed, an owner that {habit} did not end well");
        began.elapsed()
    };
    (0..3).map(|_| life()).min().unwrap()
}

#[test]
fn nothing_is_left_of_owners_that_are_killed_at_random_moments() {
    let began = Instant::now();
    let parent = parent();
    let all = number("PGPERSIST_TEST_ROUNDS").map_or(OWNERS, |owners| usize::try_from(owners).unwrap());
    let seed = number("PGPERSIST_TEST_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("killed owners: PGPERSIST_TEST_SEED={seed}");
    let mut dice = Dice::new(seed, 0);
    let lengths = HABITS.map(|habit| undisturbed(parent.path(), habit));
    let mut directories = DataDirectories::default();
    let mut note = || entries(parent.path()).iter().for_each(|folder| directories.note(&folder.join("data")));
    let (mut killed, mut hits) = (0, 0);
    while killed < all {
        // Four at a time, so that they meet each other's sweeping too. Each habit meets both ways to be killed.
        let mut owners: Vec<(Duration, Owner)> = (0..4_usize.min(all - killed))
            .map(|n| {
                let (habit, moment) = (n % 2, dice.fraction());
                (lengths[habit].mul_f64(moment), Owner::start(parent.path(), HABITS[habit], n / 2 == 0))
            })
            .collect();
        let started = Instant::now();
        owners.sort_by_key(|(moment, _)| *moment);
        for (moment, owner) in &mut owners {
            std::thread::sleep(moment.saturating_sub(started.elapsed()));
            note();
            hits += usize::from(owner.kill());
            killed += 1;
        }
    }
    assert!(hits * 5 >= all * 4, "only {hits} of {all} kills met a living owner, whose lives take {lengths:?}");
    assert!(directories.0.len() * 4 >= all, "the owners made only {} clusters before they were killed", directories.0.len());
    assert_eq!(leftovers(parent.path(), &directories), [""; 0]);
    let counts = format!("{all} owners, {hits} hits, {} clusters made, 0 leftovers", directories.0.len());
    println!("proof: killed owners of throw-away clusters|{counts}|0|{seed}|{:.1}", began.elapsed().as_secs_f64());
}

#[tokio::test]
async fn what_an_owner_left_whose_undertaker_died_too_is_swept_by_the_next() {
    let parent = parent();
    let mut owner = Owner::start(parent.path(), "works", false);
    owner.wait_until_ready();
    // The undertakers are the shells; first they, then the owner.
    for line in processes_about(parent.path()).iter().filter(|line| line.contains("pgpersist-undertaker")) {
        let pid = line.split(':').next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }
    let living = TemporaryCluster::start(options(parent.path())).await.unwrap();
    owner.kill();
    let orphans: Vec<_> = entries(parent.path()).into_iter().filter(|path| path != living.folder()).collect();
    assert_eq!(orphans.len(), 1);
    let directory = DataDirectories::of(&orphans[0].join("data"));
    let swept = {
        let parent = parent.path().to_owned();
        pgpersist_core::workers::run(move || pgpersist_core::temporary::sweeper::sweep(&parent, server_user().as_ref())).await.unwrap()
    };
    assert_eq!(swept, orphans);
    living.session("postgres").await.unwrap();
    living.stop().await.unwrap();
    assert_eq!(leftovers(parent.path(), &directory), [""; 0]);
}
