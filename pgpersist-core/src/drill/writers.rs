//! The load: writers that each commit one transaction after the other and believe nothing but the server's answer.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;

use crate::drill::books;
use crate::drill::ledger::{Ledger, Record, TransactionName, Transfer};
use crate::error::{Error, Result};
use crate::server::connection::ConnectionOptions;
use crate::server::session::Session;
use crate::workers;

const CONNECT: Duration = Duration::from_secs(30);

/// How often the board is looked at while something is waited for. A look reads a few numbers in memory.
const LOOK: Duration = Duration::from_micros(200);

/// What the writers of a round are to do.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) connection: ConnectionOptions,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) seed: u64,
    pub(crate) round: u32,
    /// The first sequence of each writer in this round.
    pub(crate) first: Vec<u64>,
    /// What the writers set `synchronous_commit` to: `on`, unless a fault is planted.
    pub(crate) synchronous_commit: &'static str,
}

/// What the writers show of themselves while they work.
#[derive(Debug)]
pub(crate) struct Board {
    acknowledged: AtomicU64,
    cut_off: AtomicU64,
    stop: AtomicBool,
    hold: AtomicBool,
    writers: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    backend: AtomicI32,
    ready: AtomicBool,
    in_transaction: AtomicBool,
    held: AtomicBool,
}

/// The writers of one round at work. Dropping them ends them.
#[derive(Debug)]
pub(crate) struct Writers {
    pub(crate) board: Arc<Board>,
    tasks: JoinSet<Result<()>>,
}

impl Board {
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Whether every writer has come to its first transaction: one that is killed while it connects is no writer.
    pub(crate) fn all_ready(&self) -> bool {
        self.writers.iter().all(|slot| slot.ready.load(Ordering::SeqCst))
    }

    /// How many transactions had changed something, as the server had said, and got no answer to COMMIT when their connection
    /// broke. An intent alone is none: its BEGIN may never have reached the server.
    pub(crate) fn cut_off(&self) -> u64 {
        self.cut_off.load(Ordering::SeqCst)
    }

    /// How many writers are between the answer to their first change and the answer to COMMIT.
    pub(crate) fn in_transaction(&self) -> usize {
        self.writers.iter().filter(|slot| slot.in_transaction.load(Ordering::SeqCst)).count()
    }

    /// The backend of a writer that is between the answer to its first change and the answer to COMMIT.
    pub(crate) fn busy_backend(&self, writer: usize) -> Option<i32> {
        let slot = self.writers.get(writer)?;
        slot.in_transaction.load(Ordering::SeqCst).then(|| slot.backend.load(Ordering::SeqCst)).filter(|pid| *pid > 0)
    }

    /// Lets writers wait before they commit, or go on.
    pub(crate) fn hold(&self, hold: bool) {
        self.hold.store(hold, Ordering::SeqCst);
    }

    /// Whether a writer waits with all but the COMMIT of a transaction done.
    pub(crate) fn is_held(&self, writer: usize) -> bool {
        self.writers.get(writer).is_some_and(|slot| slot.held.load(Ordering::SeqCst))
    }

    /// Whether any writer waits so.
    pub(crate) fn holds_any(&self) -> bool {
        (0..self.writers.len()).any(|writer| self.is_held(writer))
    }

    /// What a writer does before it commits.
    async fn pass(&self, writer: usize) {
        while self.hold.load(Ordering::SeqCst) {
            self.writers[writer].held.store(true, Ordering::SeqCst);
            tokio::time::sleep(LOOK).await;
        }
        self.writers[writer].held.store(false, Ordering::SeqCst);
    }

    fn new(writers: usize) -> Self {
        Self {
            acknowledged: AtomicU64::new(0),
            cut_off: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            hold: AtomicBool::new(false),
            writers: (0..writers).map(|_| Slot::default()).collect(),
        }
    }

    /// The server has answered the first change of a writer's transaction.
    fn changes(&self, writer: usize) {
        self.writers[writer].in_transaction.store(true, Ordering::SeqCst);
    }

    /// A transaction is over: answered, or its connection broke before that.
    fn over(&self, writer: usize, answered: bool) {
        let was_in_transaction = self.writers[writer].in_transaction.swap(false, Ordering::SeqCst);
        if was_in_transaction && !answered {
            self.cut_off.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Writers {
    /// Starts all of them; each has a session of its own.
    pub(crate) fn start(load: &Load) -> Self {
        let board = Arc::new(Board::new(load.first.len()));
        let mut tasks = JoinSet::new();
        for index in 0..load.first.len() {
            tasks.spawn(write(load.clone(), index, Arc::clone(&board)));
        }
        Self { board, tasks }
    }

    /// Waits until `reached` says yes.
    ///
    /// # Errors
    /// The first writer's error, or [`Error::Unavailable`] when all ended before; [`Error::Deadline`].
    pub(crate) async fn until(&mut self, what: &str, deadline: Instant, reached: impl Fn(&Board) -> bool) -> Result<()> {
        let began = Instant::now();
        while !reached(&self.board) {
            while let Some(ended) = self.tasks.try_join_next() {
                joined(ended)?;
            }
            if self.tasks.is_empty() {
                return Err(Error::unavailable(
                    format!("the server ended the writers' connections {what}, before the drill did anything"),
                    "look at the server's log",
                ));
            }
            if Instant::now() >= deadline {
                return Err(Error::Deadline {
                    what: format!("the writers did not get on {what} ({} acknowledged)", self.board.acknowledged()),
                    after: began.elapsed(),
                    remedy: Some("the volume may be too slow, or another session may hold locks".to_owned()),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Lets each finish its transaction and waits for it.
    ///
    /// # Errors
    /// As [`Writers::ended`].
    pub(crate) async fn stop(self, deadline: Duration) -> Result<()> {
        self.board.stop.store(true, Ordering::SeqCst);
        self.ended(deadline).await
    }

    /// Waits until every writer has noticed that its connection is broken.
    ///
    /// # Errors
    /// The first error that is no broken connection; [`Error::Deadline`].
    pub(crate) async fn ended(mut self, deadline: Duration) -> Result<()> {
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                joined(ended)?;
            }
            Ok(())
        };
        match tokio::time::timeout(deadline, all).await {
            Ok(result) => result,
            Err(_) => Err(Error::Deadline {
                what: "the writers' connections did not end".to_owned(),
                after: deadline,
                remedy: Some("look for processes of the server that still run".to_owned()),
            }),
        }
    }
}

fn joined(ended: std::result::Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.unwrap_or_else(|e| Err(Error::Bug(format!("a writer failed: {e}"))))
}

/// Writes until told to stop or the connection breaks; both are a good end.
async fn write(load: Load, index: usize, board: Arc<Board>) -> Result<()> {
    let writer = u32::try_from(index + 1).map_err(|_| Error::Bug("too many writers".into()))?;
    let session = Session::connect(&load.connection, CONNECT).await?;
    let pid = session.text("ask for the backend", "SELECT pg_catalog.pg_backend_pid()").await?.unwrap_or_default();
    board.writers[index].backend.store(pid.parse().unwrap_or(0), Ordering::SeqCst);
    session.execute("set up the writer", &format!("SET synchronous_commit = {}", load.synchronous_commit)).await?;
    let statements = Statements::prepare(&session).await.map_err(|e| Error::sql("prepare the writer's statements", e))?;
    board.writers[index].ready.store(true, Ordering::SeqCst);
    let mut committed = None;
    for sequence in load.first[index].. {
        let name = TransactionName { writer, sequence };
        let transfer = books::transfer(load.seed, name);
        let stop = board.stop.load(Ordering::SeqCst);
        let next = (!stop).then_some((name, Record { round: load.round, transfer, acknowledged: None }));
        let acknowledged = committed.is_some();
        let (ledger, previous) = (Arc::clone(&load.ledger), committed.take());
        workers::run(move || ledger.record(previous, next)).await?;
        if acknowledged {
            board.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        if stop {
            return Ok(());
        }
        let answer = statements.run(&session, name, transfer, || board.changes(index), board.pass(index)).await;
        board.over(index, answer.is_ok());
        match answer {
            Ok(xid) => committed = Some((name, Record { round: load.round, transfer, acknowledged: Some(xid) })),
            Err(error) if is_broken(&error) => return Ok(()),
            Err(error) => return Err(Error::sql(format!("write transaction {sequence} of writer {writer}"), error)),
        }
    }
    Ok(())
}

/// Whether the connection, not the statement, failed: no answer at all, or the server saying that it goes down.
fn is_broken(error: &tokio_postgres::Error) -> bool {
    error.code().is_none_or(|code| {
        *code == SqlState::ADMIN_SHUTDOWN
            || *code == SqlState::CRASH_SHUTDOWN
            || *code == SqlState::CANNOT_CONNECT_NOW
            || code.code().starts_with("08")
    })
}

struct Statements {
    balance: Statement,
    entry: Statement,
    writer: Statement,
}

impl Statements {
    async fn prepare(session: &Session) -> std::result::Result<Self, tokio_postgres::Error> {
        let client = session.client();
        Ok(Self {
            balance: client.prepare("UPDATE drill.account SET balance = balance + $2 WHERE id = $1").await?,
            entry: client
                .prepare("INSERT INTO drill.entry VALUES ($1, $2, $3, $4, $5, pg_catalog.pg_current_xact_id()::text::bigint) RETURNING xid")
                .await?,
            writer: client.prepare("UPDATE drill.writer SET transactions = transactions + 1, moved = moved + $2 WHERE id = $1").await?,
        })
    }

    /// One transaction of seven statements; returns its id once the server has answered COMMIT. Tells when the first change
    /// was answered, and waits for something before COMMIT.
    async fn run(
        &self,
        session: &Session,
        name: TransactionName,
        transfer: Transfer,
        changes: impl Fn(),
        before_commit: impl Future<Output = ()>,
    ) -> std::result::Result<u64, tokio_postgres::Error> {
        let client = session.client();
        let (writer, sequence) = (name.writer as i32, name.sequence as i64);
        let mut legs = [(0_i32, transfer.from as i32, -transfer.amount), (1, transfer.to as i32, transfer.amount)];
        // Always the lower account first, so that no two writers wait for each other.
        legs.sort_by_key(|(_, account, _)| *account);
        client.batch_execute("BEGIN").await?;
        let mut xid = 0_i64;
        for (leg, account, amount) in legs {
            client.execute(&self.balance, &[&account, &amount]).await?;
            changes();
            xid = client.query_one(&self.entry, &[&writer, &sequence, &leg, &account, &amount]).await?.get(0);
        }
        client.execute(&self.writer, &[&writer, &transfer.amount]).await?;
        before_commit.await;
        client.batch_execute("COMMIT").await?;
        Ok(xid.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_writer_waits_before_it_commits_as_long_as_it_is_held() {
        let board = Arc::new(Board::new(2));
        board.pass(1).await;
        board.hold(true);
        let passing = tokio::spawn({
            let board = Arc::clone(&board);
            async move { board.pass(1).await }
        });
        while !board.holds_any() {
            tokio::time::sleep(LOOK).await;
        }
        assert!(board.is_held(1) && !board.is_held(0) && !passing.is_finished());
        board.hold(false);
        passing.await.unwrap();
        assert!(!board.holds_any());
    }

    #[test]
    fn only_a_transaction_that_had_changed_something_was_cut_off() {
        let board = Board::new(3);
        board.changes(0);
        board.changes(1);
        assert_eq!((board.in_transaction(), board.cut_off()), (2, 0));
        board.over(0, true);
        board.over(1, false);
        // It had announced its transaction, and its connection broke before the server answered anything.
        board.over(2, false);
        assert_eq!((board.in_transaction(), board.cut_off()), (0, 1));
    }
}
