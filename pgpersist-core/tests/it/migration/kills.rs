//! Migrations that are killed, and volumes of their own.

use pgpersist_core::drill::dice::Dice;

use super::*;
use crate::support::skip::skip;

/// The process that is killed: not a test of its own.
#[test]
fn worker() {
    let Some(words) = std::env::var_os(WORKER) else { return };
    let words: Vec<PathBuf> = std::env::split_paths(&words).collect();
    let installation = Installation::all().pop().unwrap();
    let options = MigrateOptions { consent: true, etc_root: words[2].join("etc"), ..MigrateOptions::default() };
    let (source, target) = (cluster(&words[0], &words[2], &installation), cluster(&words[1], &words[2], &installation));
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(migrate(&source, &target, &options, &silent()))
        .unwrap();
}

/// A worker, ended with its handle.
struct Worker(Child);

impl Worker {
    fn begin(place: &Place) -> Self {
        let words = std::env::join_paths([&place.source, &place.target, &place.scratch.path().to_owned()]).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "migration::kills::worker", "--test-threads=1"])
            .env(WORKER, words)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Kills it after a while, or sees it end; returns whether it had ended well before.
    fn kill_after(mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

impl Worker {
    /// Kills it as soon as it copies files.
    fn kill_while_copying(mut self, place: &Place) {
        let journal = place.scratch.join("volume/.pgpersist/pgdata/migration/migration.json");
        let deadline = Instant::now() + TIMEOUT;
        while !fs::read_to_string(&journal).is_ok_and(|text| text.contains("copying")) {
            assert!(self.0.try_wait().unwrap().is_none(), "it ended before it copied anything");
            assert!(Instant::now() < deadline, "it never came to copying");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills migrations until one gets through, each killed a little later than the one before, and says how many were killed.
fn kill_until_done(place: &Place, before: &BTreeMap<PathBuf, String>, step: Duration, dice: &mut Dice) -> u32 {
    let mut killed = 0;
    let mut time = Duration::from_millis(30);
    loop {
        // Uneven, so that the moments differ from run to run.
        let jitter = Duration::from_micros(dice.below(15_000));
        if Worker::begin(place).kill_after(time + jitter) {
            return killed;
        }
        killed += 1;
        assert!(killed < 500, "it never got through");
        time += step;
        let now = hashes(&place.source);
        match place.state() {
            // The source is whole, the target is not there yet.
            State::Absent | State::Empty | State::HalfMade { .. } if now.contains_key(Path::new("global/pg_control")) => {
                assert_eq!(now, *before)
            }
            // The source is set aside; the target is or will be all there is.
            State::HalfMade { .. } | State::Cluster(_) => assert_set_aside(&place.source, before),
            state => panic!("{state:?}"),
        }
    }
}

/// The seed of a test's chance, to be printed; `PGPERSIST_TEST_SEED` repeats it.
fn seed() -> u64 {
    match std::env::var("PGPERSIST_TEST_SEED") {
        Ok(text) if !text.is_empty() => text.parse().unwrap(),
        _ => u64::from(rand::random::<u32>()),
    }
}

#[tokio::test]
async fn killed_at_any_moment_it_goes_on_and_the_source_stays_intact() {
    let place = Place::new().await;
    let before = hashes(&place.source);
    let seed = seed();
    println!("PGPERSIST_TEST_SEED={seed}");
    let killed = kill_until_done(&place, &before, Duration::from_millis(40), &mut Dice::new(seed, 0));
    assert!(killed >= 3, "{killed}");
    assert!(!place.migrate().await.unwrap().changed);
    assert_set_aside(&place.source, &before);
    place.prove_target().await;
}

#[tokio::test]
async fn what_was_killed_between_the_steps_of_the_switch_is_finished_even_without_the_source() {
    let mut place = Place::new().await;
    // The folder cannot be replaced by a rename as long as somebody's file is in it: the switch fails at its last step.
    let before = hashes(&place.source);
    fs::create_dir(&place.target).unwrap();
    give(&place.target);
    let watcher = {
        let (target, own) = (place.target.clone(), place.scratch.join("volume/.pgpersist/pgdata/migration/migration.json"));
        std::thread::spawn(move || {
            let deadline = Instant::now() + TIMEOUT;
            while !fs::read_to_string(&own).is_ok_and(|text| text.contains("copying")) {
                assert!(Instant::now() < deadline);
                std::thread::sleep(Duration::from_millis(1));
            }
            write(&target.join("in the way"), "x");
        })
    };
    let error = place.migrate().await.unwrap_err();
    watcher.join().unwrap();
    assert!(error.to_string().contains("rename"), "{error}");
    assert_set_aside(&place.source, &before);
    fs::remove_file(place.target.join("in the way")).unwrap();
    assert_eq!(place.state(), State::HalfMade { operation: "migrate".into() });
    // The pod dies, and its disk with it.
    remove(&place.source);
    let error = place.migrate().await.unwrap_err();
    assert!(matches!(error, Error::ConsentNeeded { .. }), "{error}");
    let report = place.migrate_with(&MigrateOptions { consent: true, ..place.options() }).await.unwrap();
    assert!(report.resumed && report.changed);
    place.source = place.scratch.join("gone");
    assert_eq!(place.serve_target().await, "1000|500500");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_no_acknowledged_row_is_missing() {
    let place = Place::new().await;
    place.start(&place.source).await;
    let load = Load::begin(&place).await;
    let mut killed = 0;
    for round in 1..=6_u64 {
        if Worker::begin(&place).kill_after(Duration::from_millis(round * 150)) {
            break;
        }
        killed += 1;
    }
    assert!(killed > 0, "the first migration got through");
    place.migrate_with(&MigrateOptions { consent: true, ..place.options() }).await.unwrap();
    let acknowledged = load.end().await;
    assert!(acknowledged > 0, "nothing was written meanwhile");
    remove(&place.source);
    assert_eq!(place.serve_target().await, "1000|500500");
    assert_eq!(place.psql(&format!("select count(*) from ledger where id <= {acknowledged}")), acknowledged.to_string());
}

#[tokio::test]
async fn a_source_that_is_used_between_two_runs_moves_with_what_was_written() {
    let place = Place::new().await;
    Worker::begin(&place).kill_while_copying(&place);
    place.start(&place.source).await;
    place.psql("update orders set amount = amount; create table late as select 7 as n");
    stop(&place.cluster(&place.source), TIMEOUT).await.unwrap();
    place.migrate().await.unwrap();
    remove(&place.source);
    assert_eq!(place.serve_target().await, "1000|500500");
    assert_eq!(place.psql("select n from late"), "7");
}

/// A file system of its own, unmounted with its handle.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    /// `None` where we may not mount, which root alone may.
    fn ext4(scratch: &Scratch, at: &Path) -> Option<Self> {
        let image = scratch.join("image");
        File::create(&image).unwrap().set_len(256 << 20).unwrap();
        succeed(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        Self::mount(Command::new("mount").args(["-o", "loop"]).arg(&image), at)
    }

    fn tmpfs(size: &str, at: &Path) -> Option<Self> {
        Self::mount(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]), at)
    }

    fn mount(command: &mut Command, at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let output = command.arg(at).output().unwrap();
        if !output.status.success() {
            skip("mount", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        give(at);
        Some(Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Processes that were just killed hold it for a moment.
        for _ in 0..100 {
            if Command::new("umount").arg(&self.0).output().is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[tokio::test]
async fn a_full_volume_is_refused_before_anything_is_touched() {
    let mut place = Place::new().await;
    place.target = place.scratch.join("small");
    place.mounted = Mounted::tmpfs("8m", &place.target);
    if place.mounted.is_none() {
        return;
    }
    let before = hashes(&place.source);
    let error = place.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(!place.target.join(".pgpersist").exists());
    assert_eq!(hashes(&place.source), before);
}

#[tokio::test]
async fn a_mount_point_is_filled_and_a_kill_is_no_harm() {
    let mut place = Place::new().await;
    place.target = place.scratch.join("mounted");
    place.mounted = Mounted::ext4(&place.scratch, &place.target);
    if place.mounted.is_none() {
        return;
    }
    let before = hashes(&place.source);
    let seed = seed();
    println!("PGPERSIST_TEST_SEED={seed}");
    let killed = kill_until_done(&place, &before, Duration::from_millis(60), &mut Dice::new(seed, 1));
    assert!(killed > 0, "nothing was killed");
    assert_set_aside(&place.source, &before);
    assert!(place.target.join("lost+found").exists() && !place.target.join(".pgpersist/migration").exists());
    place.prove_target().await;
    assert!(process::working_in(&place.target).is_empty());
}
