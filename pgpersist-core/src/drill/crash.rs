//! The crash drill: commit under load, kill, recover, and hold every acknowledged commit against what is there.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use time::format_description::well_known::Rfc3339;

use crate::clock::Clock;
use crate::drill::books;
use crate::drill::checks::{self, Check};
use crate::drill::ground::{Ground, Target};
use crate::drill::judge::{self, Judgement};
use crate::drill::kill::{self, KillChoice, PlannedKill};
use crate::drill::ledger::{self, Ledger, Records};
use crate::drill::planted;
use crate::drill::report::{self, CrashReport, RecoveryTimes, Round};
use crate::drill::writers::{Board, Load, Writers};
use crate::drill::{CheckStatus, KillKind, Plant, Verdict};
use crate::error::{Error, Result};
use crate::pg::boolean;
use crate::progress::{Event, ProgressSink};
use crate::server::cluster::Cluster;
use crate::server::session::Session;
use crate::server::start::{self, StartOptions};
use crate::server::stop;
use crate::workers;

const CONNECT: Duration = Duration::from_secs(30);
/// How long writers get for what a round needs of them.
const LOAD: Duration = Duration::from_secs(300);
/// How long killed processes, and connections to them, get to end.
const END: Duration = Duration::from_secs(60);
/// How often a round that found nothing in flight is tried again.
const TRIES: u32 = 10;
/// How many of them meet the writers wherever they are. Where the disk is slow, they are nearly always between two transactions, at their
/// ledger: then they are held before a COMMIT.
const UNHELD: u32 = 3;

/// The largest number of writers, which is far below the connections that any server allows.
pub const MOST_WRITERS: u32 = 64;
/// The largest number of rounds: the whole ledger is held in memory to be judged.
pub const MOST_ROUNDS: u32 = 1_000;

/// How a crash drill goes.
#[derive(Debug, Clone)]
pub struct CrashOptions {
    /// How many kills. 5 by default.
    pub rounds: u32,
    /// How many writers at the same time. 4 by default.
    pub writers: u32,
    /// What repeats the drill's choices: kills, moments, transfers.
    pub seed: u64,
    /// Whom to kill.
    pub kill: KillChoice,
    /// A fault to put in, on a throw-away cluster only.
    pub plant: Option<Plant>,
    /// Whether the cluster (stopped) and the ledger stay.
    pub keep: bool,
    /// How many transactions are acknowledged in each round before anything is killed. 200 by default.
    pub at_least: u64,
    /// How many transactions the undisturbed run has, whose length bounds the moments of the kills. 3000 by default.
    pub undisturbed: u64,
    /// How long each recovery may take.
    pub recovery_timeout: Duration,
}

impl CrashOptions {
    /// Five rounds, four writers, every kind of kill.
    pub fn new(seed: u64) -> Self {
        Self {
            rounds: 5,
            writers: 4,
            seed,
            kill: KillChoice::Mix,
            plant: None,
            keep: false,
            at_least: 200,
            undisturbed: 3_000,
            recovery_timeout: Duration::from_secs(300),
        }
    }

    /// Whether these options can be carried out on this target.
    ///
    /// # Errors
    /// `Invalid` for numbers out of range or options that contradict; `Unsafe` for a fault outside a throw-away cluster.
    pub fn check(&self, target: &Target) -> Result<()> {
        for (name, value, most) in [("writers", self.writers, MOST_WRITERS), ("rounds", self.rounds, MOST_ROUNDS)] {
            if !(1..=most).contains(&value) {
                return Err(Error::invalid(format!("a drill cannot have {value} {name}"), format!("name a number from 1 to {most}")));
            }
        }
        if self.undisturbed < self.at_least {
            return Err(Error::invalid("the undisturbed run is shorter than what each round needs", "let it have more transactions"));
        }
        let Some(plant) = self.plant else { return Ok(()) };
        if !matches!(target, Target::ThrowAway { .. }) {
            return Err(Error::refused(
                format!("`{}` would be planted in a {} cluster", plant.as_str(), target.as_str()),
                "faults are planted in throw-away clusters only: leave out `--copy` and `--live`",
            ));
        }
        match (plant.kill(), self.kill) {
            (Some(needed), KillChoice::Only(kind)) if kind != needed => Err(Error::invalid(
                format!("`{}` cannot be seen by killing the {}", plant.as_str(), kind.as_str()),
                format!("use `--kill {}`, or leave it out", needed.as_str()),
            )),
            _ => Ok(()),
        }
    }

    fn kills(&self) -> Vec<PlannedKill> {
        let choice = self.plant.and_then(Plant::kill).map_or(self.kill, KillChoice::Only);
        kill::plan(self.seed, self.rounds, self.writers, choice)
    }
}

/// A seed that nobody chose: short enough to be typed, and exact in every JSON reader.
pub fn draw_seed() -> u64 {
    u64::from(rand::random::<u32>())
}

/// What would be done, one step a line, for somebody to agree to.
pub fn plan(target: &Target, options: &CrashOptions) -> Vec<String> {
    let (place, end) = match target {
        Target::ThrowAway { .. } => ("make a throw-away cluster".to_owned(), "remove the cluster".to_owned()),
        Target::Copy(source) => {
            let path = source.path().display();
            (format!("copy the cluster in {path} on its volume, with everything outward switched off"), "remove the copy".to_owned())
        }
        Target::Live(cluster) => {
            let path = cluster.path().display();
            (format!("use the running cluster in {path}"), format!("drop the database `{}`", books::DATABASE))
        }
    };
    let ends = if matches!(target, Target::Live(_)) { ": every session of every database ends" } else { "" };
    let mut steps = vec![place, format!("create the database `{}` in it", books::DATABASE)];
    for (index, kill) in options.kills().iter().enumerate() {
        steps.push(format!(
            "round {}: let {} writers commit, kill the {} with SIGKILL after {:.0} % of an undisturbed run{ends}; recover, compare",
            index + 1,
            options.writers,
            kill.kind.as_str(),
            kill.moment * 100.0
        ));
    }
    steps.push(if options.keep { "keep all of it".to_owned() } else { end });
    steps
}

/// Runs a drill. That something is lost is a report with [`Verdict::Fail`], not an error; an error means that the drill
/// could not be made. Dropping the future ends the drill and removes what it made, except a live cluster's drill database.
///
/// The drill holds its ledger in memory to judge it: some hundred bytes for each transaction.
///
/// # Errors
/// `Invalid` for options that contradict; `Unsafe` when a live cluster has a durable setting off, or a fault is to be
/// planted outside a throw-away one; what making, copying or starting a cluster returns.
pub fn run<'a>(
    target: &'a Target,
    options: &'a CrashOptions,
    clock: &'a dyn Clock,
    progress: &'a dyn ProgressSink,
) -> BoxFuture<'a, Result<CrashReport>> {
    Box::pin(async move {
        options.check(target)?;
        let began = Instant::now();
        let started_at = clock.now().replace_nanosecond(0).unwrap_or_else(|_| clock.now());
        progress.event(Event::Step(format!("preparing a {} cluster", target.as_str())));
        let ground = Ground::prepare(target, options.plant).await?;
        let drill = Drill::open(target, &ground, options, progress).await?;
        let result = drill.rounds(progress).await;
        if let (Target::Live(cluster), false) = (target, options.keep) {
            let dropped = async {
                let session = Session::connect(&cluster.connection("postgres").await?, CONNECT).await?;
                books::drop_database(&session).await
            };
            if let Err(error) = dropped.await {
                progress.event(Event::Warning(format!("the database `{}` could not be dropped: {error}", books::DATABASE)));
            }
        }
        let (mut reasons, kills) = result?;
        reasons.splice(0..0, drill.unsafe_settings.clone());
        let last = kills.iter().rev().find_map(|round| round.judgement.as_ref());
        let acknowledged = drill.records().await?.values().filter(|record| record.acknowledged.is_some()).count() as u64;
        let unread = kills.last().is_some_and(|round| round.judgement.is_none());
        let held = kills.iter().filter(|round| round.writers_held).map(|round| {
            let number = round.round;
            format!("round {number}: {UNHELD} kills met no transaction, so the writers were held before a COMMIT for the one that counts")
        });
        let notes = drill.notes.iter().cloned().chain(held).collect();
        let mut report = CrashReport {
            kind: "crash".into(),
            verdict: if reasons.is_empty() { Verdict::Pass } else { Verdict::Fail },
            seed: options.seed,
            rounds: kills.len() as u32,
            acknowledged,
            in_flight: kills.iter().map(|round| round.in_flight).sum(),
            // What cannot be read is lost until somebody shows it.
            lost: if unread { acknowledged } else { last.map_or(0, |judgement| judgement.lost) },
            torn: last.map_or(0, |judgement| judgement.torn),
            recovery_s: RecoveryTimes::of(kills.iter().filter_map(|round| round.recovery_s).collect()),
            started_at: started_at.format(&Rfc3339).map_err(|e| Error::Bug(format!("could not write a time: {e}")))?,
            duration_s: 0.0,
            target: target.as_str().to_owned(),
            data_directory: ground.cluster.path().to_owned(),
            version: drill.version.clone(),
            writers: options.writers,
            kill: options.kill.as_str().to_owned(),
            planted: options.plant,
            proves: report::PROVES.into(),
            proves_not: report::PROVES_NOT.into(),
            undisturbed_per_s: drill.per_second,
            notes,
            table: last.map(|judgement| judgement.table.clone()).unwrap_or_default(),
            kills,
            ledger: None,
            kept: None,
            reasons,
        };
        // What failed by itself is evidence; what was made to fail is not.
        if options.keep || (report.verdict == Verdict::Fail && options.plant.is_none()) {
            if !matches!(target, Target::Live(_)) {
                // What does not stop is ended below, and recovers when somebody starts it.
                let _ = stop::stop(&ground.cluster, END).await;
            }
            report.ledger = Some(ground.ledger.clone());
            report.kept = ground.keep().await?;
        } else {
            ground.clear().await?;
        }
        report.duration_s = began.elapsed().as_secs_f64();
        Ok(report)
    })
}

/// A drill that is going on.
struct Drill<'a> {
    cluster: Cluster,
    options: &'a CrashOptions,
    /// Whether the cluster may be stopped for a check.
    live: bool,
    ledger: Arc<Ledger>,
    version: String,
    /// How long the undisturbed run took after its first transactions.
    undisturbed: Duration,
    per_second: f64,
    unsafe_settings: Vec<String>,
    notes: Vec<String>,
}

impl<'a> Drill<'a> {
    /// Starts the server, looks at its settings, makes the database and measures the undisturbed run.
    async fn open(target: &Target, ground: &Ground, options: &'a CrashOptions, progress: &dyn ProgressSink) -> Result<Self> {
        let (cluster, live) = (ground.cluster.clone(), matches!(target, Target::Live(_)));
        start_server(&cluster, options).await?;
        let session = Session::connect(&cluster.connection("postgres").await?, CONNECT).await?;
        let version = session.version().await?.to_string();
        let (unsafe_settings, mut notes) = look_at_settings(&session).await?;
        if live && !unsafe_settings.is_empty() {
            return Err(Error::refused(
                format!("the cluster in {} gives up what it acknowledges: {}", cluster.path().display(), unsafe_settings.join("; ")),
                "turn it on first: a drill cannot call this cluster safe, and its data could be lost by the kill",
            ));
        }
        if !ground.ledger_is_apart() {
            notes.push("the ledger lies on the same file system as the data".to_owned());
        }
        let (path, seed) = (ground.ledger.clone(), options.seed);
        let ledger = Arc::new(workers::run(move || Ledger::create(&path, seed)).await?);
        books::create_database(&session).await?;
        let mut drill =
            Self { cluster, options, live, ledger, version, undisturbed: Duration::ZERO, per_second: 0.0, unsafe_settings, notes };
        progress.event(Event::Step("measuring an undisturbed run".to_owned()));
        let measured = drill.measure(&session).await;
        if measured.is_err() && live {
            // What it failed with is the news; a database that stays is named by the next drill.
            let _ = books::drop_database(&session).await;
        }
        measured.map(|()| drill)
    }

    /// Fills the database and lets the writers run without a kill.
    async fn measure(&mut self, session: &Session) -> Result<()> {
        books::open(&self.session().await?, self.options.seed, self.options.writers).await?;
        session.execute("write a checkpoint", "CHECKPOINT").await?;
        let deadline = tokio::time::Instant::now() + LOAD;
        let mut writers = Writers::start(&self.load(0, &Records::new()).await?);
        let (first, all) = (self.options.at_least, self.options.undisturbed);
        writers.until("in the undisturbed run", deadline, |board| board.acknowledged() >= first).await?;
        let began = Instant::now();
        writers.until("in the undisturbed run", deadline, |board| board.acknowledged() >= all).await?;
        self.undisturbed = began.elapsed();
        self.per_second = (all - first) as f64 / self.undisturbed.as_secs_f64().max(0.001);
        writers.stop(END).await
    }

    async fn load(&self, round: u32, records: &Records) -> Result<Load> {
        let first = (1..=self.options.writers)
            .map(|writer| 1 + records.keys().filter(|name| name.writer == writer).map(|name| name.sequence).max().unwrap_or(0))
            .collect();
        Ok(Load {
            connection: self.cluster.connection(books::DATABASE).await?,
            ledger: Arc::clone(&self.ledger),
            seed: self.options.seed,
            round,
            first,
            synchronous_commit: if self.options.plant == Some(Plant::SynchronousCommitOff) && round > 0 { "off" } else { "on" },
        })
    }

    async fn records(&self) -> Result<Records> {
        let path = self.ledger.path().to_owned();
        workers::run(move || ledger::read(&path)).await
    }

    /// All rounds, up to the first that fails: what is lost stays lost, and what comes later would only blur it.
    async fn rounds(&self, progress: &dyn ProgressSink) -> Result<(Vec<String>, Vec<Round>)> {
        let (mut reasons, mut rounds) = (Vec::new(), Vec::new());
        for (index, planned) in self.options.kills().iter().enumerate() {
            let number = index as u32 + 1;
            progress.event(Event::Step(format!("round {number} of {}: {}", self.options.rounds, planned.kind.as_str())));
            let round = self.round(number, planned).await?;
            for check in round.checks.iter().filter(|check| check.status == CheckStatus::Unknown && !self.live) {
                let warning = format!("{} is unknown: {}", check.name, check.summary);
                if !self.notes.contains(&warning) && index == 0 {
                    progress.event(Event::Warning(warning));
                }
            }
            reasons.extend(round.findings.iter().map(|finding| format!("round {number}: {finding}")));
            rounds.push(round);
            if !reasons.is_empty() {
                break;
            }
        }
        Ok((reasons, rounds))
    }

    async fn round(&self, number: u32, planned: &PlannedKill) -> Result<Round> {
        let began = Instant::now();
        let mut tries = 0;
        let (struck, before) = loop {
            tries += 1;
            let before = self.records().await?;
            let struck = self.strike(number, planned, &before, tries > UNHELD).await?;
            let now = self.records().await?;
            let of_round = now.iter().filter(|(name, record)| !before.contains_key(name) && record.acknowledged.is_some());
            let struck = Struck { acknowledged: of_round.count() as u64, ..struck };
            if struck.in_flight > 0 || tries >= TRIES {
                break (struck, now);
            }
            // Every writer was between two transactions: that is no proof of anything, so it does not count as a round.
            self.recover(planned.kind).await?;
        };
        if struck.in_flight == 0 {
            return Err(Error::unavailable(format!("{TRIES} kills in a row met no transaction in flight"), "use more writers"));
        }
        let mut round = Round {
            round: number,
            kill: planned.kind,
            processes: struck.processes,
            killed_after_s: struck.after.as_secs_f64(),
            acknowledged: struck.acknowledged,
            in_flight: struck.in_flight,
            writers_held: tries > UNHELD,
            recovery_s: None,
            duration_s: 0.0,
            judgement: None,
            checks: Vec::new(),
            findings: Vec::new(),
        };
        if self.options.plant == Some(Plant::TruncatedWal) {
            let path = self.cluster.path().to_owned();
            workers::run(move || planted::truncate_wal(&path)).await?;
        }
        // From here on an error of the server is what the drill looks for.
        if let Err(error) = self.look(&mut round, planned.kind, &before).await {
            let causes: Vec<String> = std::iter::once(error.to_string()).chain(error.causes()).collect();
            round.findings.push(causes.join(": ").replace('\n', " / "));
        }
        round.duration_s = began.elapsed().as_secs_f64();
        Ok(round)
    }

    /// Lets the writers work until the moment has come, and kills; `held` before a COMMIT, or wherever they are.
    async fn strike(&self, number: u32, planned: &PlannedKill, records: &Records, held: bool) -> Result<Struck> {
        let began = Instant::now();
        let deadline = tokio::time::Instant::now() + LOAD;
        let mut writers = Writers::start(&self.load(number, records).await?);
        let at_least = self.options.at_least;
        writers.until("before the kill", deadline, |board| board.all_ready() && board.acknowledged() >= at_least).await?;
        let moment = tokio::time::Instant::now() + self.undisturbed.mul_f64(planned.moment);
        writers.until("before the kill", deadline, |_| tokio::time::Instant::now() >= moment).await?;
        writers.board.hold(held);
        let busy = |board: &Board| match planned.kind {
            KillKind::Backend => board.busy_backend(planned.writer).is_some() && (!held || board.is_held(planned.writer)),
            KillKind::Postmaster | KillKind::Group => board.in_transaction() > 0 && (!held || board.holds_any()),
        };
        writers.until("before the kill", deadline, busy).await?;
        let backend = writers.board.busy_backend(planned.writer);
        let (path, kind, after) = (self.cluster.path().to_owned(), planned.kind, began.elapsed());
        let killed = workers::run(move || kill::strike(&path, kind, backend)).await?;
        let processes = killed.len();
        kill::wait_until_gone(killed, END).await?;
        writers.board.hold(false);
        let board = Arc::clone(&writers.board);
        writers.ended(END).await?;
        Ok(Struck { processes, after, acknowledged: 0, in_flight: board.cut_off() })
    }

    /// Brings the server back, or waits until it is, and returns how long that took until it answered.
    async fn recover(&self, kind: KillKind) -> Result<Duration> {
        let began = Instant::now();
        let deadline = began + self.options.recovery_timeout;
        if kind == KillKind::Backend {
            // The postmaster does it, unless `restart_after_crash` is off: then it ends, and we start it.
            while self.cluster.presence().await?.running().is_some() {
                if let Ok(session) = self.session().await {
                    drop(session);
                    return Ok(began.elapsed());
                }
                if Instant::now() >= deadline {
                    return Err(Error::Deadline {
                        what: "the server did not recover".to_owned(),
                        after: self.options.recovery_timeout,
                        remedy: Some(format!("read {}", self.cluster.log_file().path().display())),
                    });
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        start_server(&self.cluster, self.options).await?;
        self.session().await?;
        Ok(began.elapsed())
    }

    async fn session(&self) -> Result<Session> {
        Session::connect(&self.cluster.connection(books::DATABASE).await?, CONNECT).await
    }

    /// Recovers and looks at everything; what is wrong goes into the round.
    async fn look(&self, round: &mut Round, kind: KillKind, records: &Records) -> Result<()> {
        round.recovery_s = Some(self.recover(kind).await?.as_secs_f64());
        let session = self.session().await?;
        if let Some(plant) = self.options.plant {
            self.plant_rows(plant, &session).await?;
        }
        let found = judge::ask(&session).await?;
        drop(session);
        let (records, seed) = (records.clone(), self.options.seed);
        let judgement: Judgement = workers::run(move || Ok(judge::judge(&records, &found, seed))).await?;
        round.findings.extend(judgement.findings.iter().cloned());
        let differs = judgement.table.iter().filter(|row| !row.matches);
        round.findings.extend(differs.map(|row| format!("{} was {} and is {}", row.what, row.before, row.after)));
        round.judgement = Some(judgement);
        if self.live {
            let why = "a live cluster is not stopped for it";
            round.checks.push(Check::new("pg_checksums", CheckStatus::Unknown, why));
        } else {
            let stopped = stop::stop(&self.cluster, END).await?;
            if stopped.immediate {
                round.findings.push("the recovered server did not stop in order".to_owned());
            }
            round.checks.push(checks::checksums(&self.cluster).await?);
            start_server(&self.cluster, self.options).await?;
        }
        round.checks.push(checks::amcheck(&self.session().await?).await?);
        let failed = round.checks.iter().filter(|check| check.status == CheckStatus::Fail);
        round.findings.extend(failed.map(|check| format!("{}: {}", check.name, check.summary)));
        Ok(())
    }

    async fn plant_rows(&self, plant: Plant, session: &Session) -> Result<()> {
        let path = self.ledger.path().to_owned();
        let last = || workers::run(move || planted::last_acknowledged(Path::new(&path)));
        match plant {
            Plant::DeletedRow => planted::delete_row(session, last().await?.0).await,
            Plant::HalfTransaction => {
                let (name, transfer) = last().await?;
                planted::halve(session, name, transfer).await
            }
            Plant::TruncatedWal | Plant::SynchronousCommitOff => Ok(()),
        }
    }
}

/// What a kill met.
struct Struck {
    processes: usize,
    after: Duration,
    acknowledged: u64,
    in_flight: u64,
}

async fn start_server(cluster: &Cluster, options: &CrashOptions) -> Result<()> {
    let start = StartOptions { timeout: options.recovery_timeout, ..StartOptions::default() };
    start::start(cluster, &start).await.map(|_| ())
}

/// What of the settings gives up acknowledged commits, as reasons to fail; and what the writers override, as notes.
async fn look_at_settings(session: &Session) -> Result<(Vec<String>, Vec<String>)> {
    let (mut wrong, mut notes) = (Vec::new(), Vec::new());
    for name in ["fsync", "full_page_writes"] {
        if session.setting(name).await?.as_deref().is_some_and(boolean::is_off) {
            wrong.push(format!("{name} is off"));
        }
    }
    match session.setting("synchronous_commit").await?.as_deref() {
        Some(value) if boolean::is_off(value) => wrong.push("synchronous_commit is off".to_owned()),
        Some("on") | None => {}
        Some(other) => notes.push(format!("synchronous_commit is {other}; the writers set it to on")),
    }
    let question = "SELECT s.setting, coalesce(' for role ' || r.rolname, '') || coalesce(' in database ' || d.datname, '')
                    FROM pg_catalog.pg_db_role_setting c CROSS JOIN LATERAL pg_catalog.unnest(c.setconfig) s(setting)
                    LEFT JOIN pg_catalog.pg_roles r ON r.oid = c.setrole LEFT JOIN pg_catalog.pg_database d ON d.oid = c.setdatabase
                    WHERE s.setting LIKE 'synchronous_commit=%' ORDER BY 1, 2";
    let rows = session.client().query(question, &[]).await.map_err(|e| Error::sql("look at the settings of roles and databases", e))?;
    for row in rows {
        let (setting, whose): (String, String) = (row.get(0), row.get(1));
        // As it was typed: `false` and `no` are off as well.
        let off = setting.split_once('=').is_some_and(|(_, value)| boolean::is_off(value));
        if off { wrong.push(setting + &whose) } else { notes.push(setting + &whose) }
    }
    // A copy runs with durable settings on its command line: what its files say would hold for the original.
    let question = "SELECT name || ' = ' || setting || ' in ' || sourcefile, setting FROM pg_catalog.pg_file_settings
                    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY seqno";
    match session.client().query(question, &[]).await {
        Ok(rows) => wrong.extend(
            rows.iter().filter(|row| row.get::<_, Option<&str>>(1).is_some_and(boolean::is_off)).map(|row| row.get::<_, String>(0)),
        ),
        Err(error) if error.as_db_error().is_some() => {
            notes.push("this role may not read the configuration files, so only the settings in force were looked at".to_owned());
        }
        Err(error) => return Err(Error::sql("look at the configuration files", error)),
    }
    Ok((wrong, notes))
}
