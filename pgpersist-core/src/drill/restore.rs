//! The restore drill: load the newest dumps into an empty cluster, hold them against what was recorded, and time it.
//!
//! The live server is never asked, so the drill works while it is down, and needs no claim. What keeps a dump from coming
//! back is what the drill looks for, and makes it fail; what keeps the drill itself from being made (no room for its cluster,
//! a store that does not answer) is an error and says nothing about the dumps.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::Clock;
use crate::drill::checks::{self, Check};
use crate::drill::invariants::{Answer, Invariant};
use crate::drill::report::RecoveryTimes;
use crate::drill::restore_ground::{RestoreGround, with_room};
use crate::drill::restore_report::{self, DatabaseReport, RestoreReport, told};
use crate::drill::subjects::{self, Subject, Subjects};
use crate::drill::{CheckStatus, Verdict, row_counts};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::os_user::OsUser;
use crate::logical::all_stores::{AllStores, Placed};
use crate::logical::globals;
use crate::logical::load::load;
use crate::logical::load_options::{DumpSource, Expected, LoadOptions, LoadReport, OtherSessions, Trust};
use crate::logical::object_reader::ObjectReader;
use crate::logical::opening::Opening;
use crate::logical::shelf::{DumpEntry, Shelf};
use crate::progress::{Event, ProgressSink, Silent};
use crate::server::installation::InstallationSearch;

/// How a restore drill goes.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Which dumps.
    pub subjects: Subjects,
    /// What must be true of what was loaded. For all of a cluster, one about a database that is not restored fails the drill;
    /// for some of it, one about another database is left out.
    pub invariants: Vec<Arc<dyn Invariant>>,
    /// As whom the dumps' SQL runs, as for [`load`]: by default [`Trust::OwnDump`], what `load` does with a dump of the
    /// cluster's own.
    pub trust: Trust,
    /// Whether the cluster (stopped) stays.
    pub keep: bool,
    /// Where PostgreSQL's programs are looked for.
    pub search: InstallationSearch,
    /// Whom the drill's server runs as, where we are root: by default `postgres`.
    pub os_user: Option<OsUser>,
    /// The folder that holds the drill's cluster: by default `TMPDIR`, else `/tmp`.
    pub parent: Option<PathBuf>,
    /// How long loading one dump may take. A day by default.
    pub timeout: Duration,
}

impl RestoreOptions {
    /// A drill of these dumps without questions of one's own.
    pub fn new(subjects: Subjects, search: InstallationSearch) -> Self {
        Self {
            subjects,
            invariants: Vec::new(),
            trust: Trust::OwnDump,
            keep: false,
            search,
            os_user: None,
            parent: None,
            timeout: Duration::from_secs(24 * 60 * 60),
        }
    }

    fn invariants_of<'a>(&'a self, database: &'a str) -> impl Iterator<Item = &'a Arc<dyn Invariant>> {
        self.invariants.iter().filter(move |invariant| invariant.database() == database)
    }
}

/// What would be done, one step a line.
///
/// # Errors
/// As [`subjects::choose`].
pub fn plan<'a>(shelf: &'a Shelf, options: &'a RestoreOptions) -> BoxFuture<'a, Result<Vec<String>>> {
    Box::pin(async move {
        let subjects = subjects::choose(shelf, &AllStores::look(shelf, &Silent).await?, &options.subjects).await?;
        let mut steps =
            vec!["make an empty cluster in the temporary folder".to_owned(), "create the roles of the newest dump of roles".to_owned()];
        for Subject { database, dump, obstacle, .. } in &subjects {
            steps.extend(obstacle.iter().map(|obstacle| format!("fail, as far as {database} is concerned: {obstacle}")));
            let Some(dump) = dump else { continue };
            steps.push(format!("load {} into {database}, count its rows, and check its indexes and tables with amcheck", dump.name));
            steps.extend(options.invariants_of(database).map(|invariant| format!("ask the check `{}` in {database}", invariant.name())));
        }
        steps.push(if options.keep { "stop the cluster and keep it" } else { "remove the cluster" }.to_owned());
        steps.push("record the result on the cluster's volume and in the store".to_owned());
        Ok(steps)
    })
}

/// Runs a drill. That something does not come back is a report with [`Verdict::Fail`], not an error; an error means that the
/// drill could not be made. Dropping the future ends the drill and removes its cluster; a killed process's cluster is removed
/// by its undertaker. Nothing is recorded: that is [`history::keep_restore`](crate::drill::history::keep_restore).
///
/// # Errors
/// `NotFound` when there is no dump; `Denied` when no key at hand opens one; `Unsafe` when one is not encrypted where dumps are;
/// `Conflict` when the programs here are older than a dump; `Unavailable` when there is no
/// room for the cluster, or the store does not answer; what the store says.
pub fn run<'a>(
    shelf: &'a Shelf,
    options: &'a RestoreOptions,
    clock: &'a Arc<dyn Clock>,
    progress: &'a Arc<dyn ProgressSink>,
) -> BoxFuture<'a, Result<RestoreReport>> {
    Box::pin(async move {
        let began = Instant::now();
        let now = clock.now();
        let id = identifier(now);
        let now = now.replace_nanosecond(0).unwrap_or(now);
        progress.event(Event::Step(format!("looking for dumps in {}", shelf.store())));
        let all = AllStores::look(shelf, progress.as_ref()).await?;
        let subjects = subjects::choose(shelf, &all, &options.subjects).await?;
        refuse_unreadable(&subjects).await?;
        let mut databases: Vec<DatabaseReport> = subjects.iter().map(|subject| DatabaseReport::of(subject, now)).collect();
        let (mut reasons, mut notes) = (unasked(options, &subjects), Vec::new());
        let (mut version, mut cluster_s, mut restore_s) = (None, 0.0, 0.0);
        let (mut kept, mut kept_commands) = (None, Vec::new());
        if subjects.iter().any(|subject| subject.dump.is_some()) {
            progress.event(Event::Step("making an empty cluster".to_owned()));
            let ground = RestoreGround::make(&subjects, options).await?;
            version = Some(ground.version().to_string());
            cluster_s = ground.made_in.as_secs_f64();
            let mut drill = Drill { all: &all, options, clock, progress, ground, notes: Vec::new() };
            let roles = Instant::now();
            reasons.extend(drill.make_roles().await?);
            restore_s = cluster_s + roles.elapsed().as_secs_f64();
            for (subject, report) in subjects.iter().zip(&mut databases) {
                if subject.dump.is_some() {
                    drill.restore(subject, report).await?;
                    restore_s += report.load_s.unwrap_or_default();
                }
            }
            notes = std::mem::take(&mut drill.notes);
            if options.keep {
                let first = databases.iter().find(|report| report.load_s.is_some()).map_or("postgres", |report| report.database.as_str());
                let (folder, commands) = drill.ground.keep(first).await?;
                (kept, kept_commands) = (Some(folder), commands);
            } else {
                drill.ground.clear().await?;
            }
        }
        for report in &databases {
            reasons.extend(report.reasons.iter().map(|reason| format!("{}: {reason}", report.database)));
        }
        let lost = databases.iter().map(DatabaseReport::lost).sum();
        databases.iter_mut().for_each(row_counts::shorten);
        let ages = databases.iter().filter_map(|report| report.age_s);
        Ok(RestoreReport {
            kind: "restore".into(),
            id,
            verdict: if reasons.is_empty() { Verdict::Pass } else { Verdict::Fail },
            reasons,
            seed: None,
            rounds: databases.len() as u32,
            acknowledged: databases.iter().filter_map(|report| report.rows_expected).sum(),
            in_flight: 0,
            lost,
            torn: 0,
            recovery_s: RecoveryTimes::of(databases.iter().filter_map(|report| report.load_s).collect()),
            started_at: now.format(&Rfc3339).map_err(|e| Error::Bug(format!("could not write a time: {e}")))?,
            duration_s: began.elapsed().as_secs_f64(),
            target: "throw-away".into(),
            cluster: shelf.cluster().to_owned(),
            store: shelf.store().to_string(),
            version,
            cluster_s,
            restore_s,
            dump_age_s: ages.reduce(f64::max),
            bytes: databases.iter().filter_map(|report| report.size_bytes).sum(),
            rows: databases.iter().map(|report| report.rows_found).sum(),
            proves: restore_report::PROVES.into(),
            proves_not: restore_report::PROVES_NOT.into(),
            notes,
            databases,
            kept,
            kept_commands,
        })
    })
}

/// What sets a drill apart from others of the same second; it begins with the millisecond, so that of two of them the later
/// one is the newer one to whoever sorts their names.
fn identifier(now: OffsetDateTime) -> String {
    format!("{:03x}{:05x}", now.millisecond(), rand::random::<u32>() & 0xf_ffff)
}

/// Questions about databases that are not restored, where everything is to be proven.
fn unasked(options: &RestoreOptions, subjects: &[Subject]) -> Vec<String> {
    if !matches!(options.subjects, Subjects::Cluster(_)) {
        return Vec::new();
    }
    let is_there = |database: &str| subjects.iter().any(|subject| subject.database == database);
    let unasked = options.invariants.iter().filter(|invariant| !is_there(invariant.database()));
    unasked.map(|invariant| format!("check:{} is about `{}`, which is not restored", invariant.name(), invariant.database())).collect()
}

/// A machine that was never meant to read, or a dump that somebody else may have put there, is no verdict about dumps.
async fn refuse_unreadable(subjects: &[Subject]) -> Result<()> {
    for subject in subjects {
        let mut first = None;
        for placed in &subject.places {
            match opening(placed).await {
                Ok(_) => {
                    first = None;
                    break;
                }
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        if let Some(error) = first {
            return Err(error);
        }
    }
    Ok(())
}

/// What opens a dump where it is. Having no key for it is an error of whoever asks, and says nothing about the dump.
async fn opening(placed: &Placed) -> Result<Opening> {
    let Placed { shelf, entry, .. } = placed;
    shelf.refuse_downgrade(&entry.name)?;
    let opening = shelf.opening(&entry.name, entry.side_file.as_ref()).await?;
    match opening.obstacle.clone().filter(|_| opening.lacks_a_key()) {
        Some(obstacle) => Err(obstacle.into_error()),
        None => Ok(opening),
    }
}

/// A drill that is going on.
struct Drill<'a> {
    all: &'a AllStores,
    options: &'a RestoreOptions,
    clock: &'a Arc<dyn Clock>,
    progress: &'a Arc<dyn ProgressSink>,
    ground: RestoreGround,
    notes: Vec<String>,
}

impl Drill<'_> {
    fn note(&mut self, note: String) {
        self.progress.event(Event::Warning(note.clone()));
        self.notes.push(note);
    }

    /// The roles that the dumps speak of, as a restore of the cluster makes them. Returns why they could not be made.
    async fn make_roles(&mut self) -> Result<Option<String>> {
        let session = self.ground.superuser("postgres").await?;
        match globals::load_newest(&session, self.all, self.progress.as_ref()).await {
            Ok(warnings) => {
                warnings.into_iter().for_each(|warning| self.note(warning));
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::Damaged => Ok(Some(format!("roles: {}", told(&error)))),
            Err(error) => Err(error),
        }
    }

    async fn restore(&mut self, subject: &Subject, report: &mut DatabaseReport) -> Result<()> {
        let database = report.database.clone();
        let mut places = subject.places.iter().peekable();
        let (dump, loaded, load_s) = loop {
            let Some(placed) = places.next() else { return Err(Error::Bug(format!("the dump of `{database}` is in no store"))) };
            let began = Instant::now();
            let Placed { shelf, entry, .. } = placed;
            // What the store forbids or lost says nothing about the dump; what comes of its bytes does.
            let read = async {
                let size = shelf.store().head(&entry.name).await?.size_bytes;
                shelf.store().get_range(&entry.name, 0..1).await?;
                Ok((size, opening(placed).await?))
            };
            let error = match read.await {
                Ok((size, opening)) => match self.load(placed, opening, &database, size).await {
                    Ok(loaded) => {
                        self.all.instead(placed).into_iter().for_each(|note| self.note(format!("{database}: {note}")));
                        break (&placed.entry, loaded, began.elapsed().as_secs_f64());
                    }
                    Err(error) if error.kind() == ErrorKind::Damaged && places.peek().is_some() => error,
                    Err(error) if is_of_the_machine(&error) => return Err(with_room(error, self.ground.place())),
                    Err(error) => {
                        report.fail(&error);
                        return Ok(());
                    }
                },
                Err(error) if places.peek().is_some() => error,
                Err(error) => return Err(error),
            };
            self.note(format!("{database}: {} of {} does not come back: {}", placed.entry.name, placed.shelf.store(), told(&error)));
        };
        report.load_s = Some(load_s);
        loaded.warnings.iter().for_each(|warning| self.note(format!("{database}: {warning}")));
        let began = Instant::now();
        self.progress.event(Event::Step(format!("checking {database}")));
        self.check(dump, &loaded, report).await.map_err(|error| with_room(error, self.ground.place()))?;
        report.check_s = Some(began.elapsed().as_secs_f64());
        for check in report.checks.iter().filter(|check| check.status == CheckStatus::Unknown) {
            self.note(format!("{database}: {} is unknown: {}", check.name, check.summary));
        }
        Ok(())
    }

    async fn load(&self, placed: &Placed, opening: Opening, database: &str, size: u64) -> Result<LoadReport> {
        let Placed { shelf, entry: dump, .. } = placed;
        let is_own = dump.side_file.as_ref().is_some_and(|side_file| side_file.cluster == shelf.cluster());
        // The rows are counted below, so that a dump that lacks some is still looked at.
        let expected = dump.side_file.as_ref().map(|side_file| Expected { tables: None, ..Expected::from(side_file) });
        let bytes = ObjectReader::open(shelf.store().clone(), dump.name.clone(), size);
        let source = DumpSource { name: dump.name.to_string(), bytes: Box::new(bytes), expected, opening };
        let options = LoadOptions {
            trust: if self.options.trust == Trust::OwnDump && !is_own { Trust::Nobody } else { self.options.trust },
            other_sessions: OtherSessions::Disconnect,
            timeout: self.options.timeout,
            ..LoadOptions::new(self.ground.connection(), self.ground.psql.clone(), database)
        };
        load(&options, source, self.clock, self.progress).await
    }

    async fn check(&self, dump: &DumpEntry, loaded: &LoadReport, report: &mut DatabaseReport) -> Result<()> {
        let database = report.database.clone();
        let promised = dump.side_file.as_ref().map(|side_file| &side_file.tables);
        let counted = async {
            self.ground.admit_reader(&database).await?;
            row_counts::compare(&self.ground.reader(&database).await?, promised, &loaded.tables, report).await
        };
        if let Err(error) = counted.await {
            report.take(failed(row_counts::NAME, error)?);
        }
        let looked = async { checks::amcheck(&self.ground.superuser(&database).await?).await };
        let check = looked.await.or_else(|error| failed("amcheck", error))?;
        report.take(check);
        for invariant in self.options.invariants_of(&database) {
            report.take(self.ask(invariant.as_ref()).await?);
        }
        Ok(())
    }

    /// Each in a session of its own, since one may leave it in any state.
    async fn ask(&self, invariant: &dyn Invariant) -> Result<Check> {
        let name = format!("check:{}", invariant.name());
        let session = match self.ground.reader(invariant.database()).await {
            Ok(session) => session,
            Err(error) => return failed(&name, error),
        };
        match tokio::time::timeout(invariant.deadline(), invariant.ask(&session)).await {
            Ok(Ok(Answer::Holds)) => Ok(Check::new(&name, CheckStatus::Pass, "it holds")),
            Ok(Ok(Answer::Broken(found))) => Ok(Check::new(&name, CheckStatus::Fail, found)),
            // Of what the user's own code says only a server that is gone is no answer.
            Ok(Err(error)) if matches!(error, Error::Sql { .. }) => failed(&name, error),
            Ok(Err(error)) => Ok(Check::new(&name, CheckStatus::Fail, told(&error))),
            Err(_) => {
                let late = format!("it did not answer within {} s", invariant.deadline().as_secs_f64());
                Ok(Check::new(&name, CheckStatus::Fail, late))
            }
        }
    }
}

/// A look that failed is a failure of what was looked at, unless the machine failed.
fn failed(name: &str, error: Error) -> Result<Check> {
    if is_of_the_machine(&error) { Err(error) } else { Ok(Check::new(name, CheckStatus::Fail, told(&error))) }
}

/// Whether the drill could not go on, rather than having found something.
fn is_of_the_machine(error: &Error) -> bool {
    match error {
        // Without a code nobody answers any more; see *PostgreSQL Error Codes* for the classes. A statement that took too
        // long or was cancelled is class 57, too, but found that out.
        Error::Sql { source, .. } => {
            source.code().is_none_or(|code| matches!(code.code().get(..2), Some("08" | "53")) || code.code().starts_with("57P"))
        }
        other => matches!(other.kind(), ErrorKind::Unavailable | ErrorKind::Cancelled | ErrorKind::Bug),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn of_two_drills_in_one_second_the_later_one_is_the_newer_one() {
        let at = |millisecond| identifier(datetime!(2026-02-08 02:00 UTC) + time::Duration::milliseconds(millisecond));
        for (earlier, later) in [(0, 1), (9, 10), (99, 100), (998, 999)] {
            assert!(at(earlier) < at(later));
        }
        assert_eq!(at(0).len(), 8);
    }
}
