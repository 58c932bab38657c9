//! One SQL session with a server, and the statements that several features share.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::{CancelToken, Client, NoTls, SimpleQueryMessage};

use crate::error::{Error, Result};
use crate::fs::on_behalf;
use crate::fs::os_user::OsUser;
use crate::pg::quote;
use crate::pg::version::ServerVersion;
use crate::server::connection::ConnectionOptions;
use crate::workers;

/// How long it may take to ask the server to give up a statement.
const CANCELLING: Duration = Duration::from_secs(10);
/// How soon it is asked again, and how long the waits grow.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// For how long it is asked.
const GIVING_UP: Duration = Duration::from_secs(60);
/// How long the wait is before a socket is tried again that had no place for us.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// An open session. Its `search_path` is empty, so names must be qualified; dropping it closes it, and has the server give up the
/// statement that it still works at, which it would finish else: it looks at its client when it has an answer.
#[derive(Debug)]
pub struct Session {
    client: Client,
    options: ConnectionOptions,
    /// How many statements have no answer yet. One that nobody waits for any more is counted for ever.
    unanswered: AtomicUsize,
    /// What carries the bytes; it ends when all is answered and the client is gone.
    connection: Option<JoinHandle<()>>,
}

impl Session {
    /// Opens a session and gives up at the deadline.
    ///
    /// # Errors
    /// [`Error::Sql`] when the server is not there or refuses; [`Error::Deadline`] when it does not answer.
    pub async fn connect(options: &ConnectionOptions, deadline: Duration) -> Result<Self> {
        let open = async {
            let (client, connection) = open(options, deadline).await?;
            let unanswered = AtomicUsize::new(0);
            let session = Self { client, options: options.clone(), unanswered, connection: Some(connection) };
            session
                .execute(
                    "set up the session",
                    "SET search_path = ''; SET statement_timeout = 0; SET lock_timeout = 0; SET client_encoding = 'UTF8'",
                )
                .await?;
            Ok(session)
        };
        match tokio::time::timeout(deadline, open).await {
            Ok(result) => result,
            Err(_) => Err(Error::Deadline {
                what: format!("the server at {}:{} did not answer", options.host.as_text(), options.port),
                after: deadline,
                remedy: Some("look at the server's log with `pgpersist status`".to_owned()),
            }),
        }
    }

    /// The driver's client, for statements that belong to one feature alone.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// As [`Session::client`], for transactions.
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Runs statements that return nothing; `action` completes "could not …".
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub async fn execute(&self, action: &str, statements: &str) -> Result<()> {
        self.answered(self.client.batch_execute(statements)).await.map_err(|e| Error::sql(action, e))
    }

    /// Runs statements and returns what the server says to each, values as text.
    ///
    /// # Errors
    /// What the driver says.
    pub async fn simple_query(&self, statements: &str) -> Result<Vec<SimpleQueryMessage>, tokio_postgres::Error> {
        self.answered(self.client.simple_query(statements)).await
    }

    /// Waits for the answer to a statement, and counts it until then.
    async fn answered<T>(&self, statement: impl Future<Output = T>) -> T {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let answer = statement.await;
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    /// The first column of the first row, as text; `None` when there is no row or it is null.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub async fn text(&self, action: &str, query: &str) -> Result<Option<String>> {
        let rows = self.simple_query(query).await.map_err(|e| Error::sql(action, e))?;
        Ok(rows
            .iter()
            .find_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
                _ => None,
            })
            .flatten())
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub async fn setting(&self, name: &str) -> Result<Option<String>> {
        self.text("read a setting", &format!("SELECT pg_catalog.current_setting({}, true)", quote::literal(name))).await
    }

    /// The server's version.
    ///
    /// # Errors
    /// [`Error::Sql`]; [`Error::Damaged`] when the answer is no version.
    pub async fn version(&self) -> Result<ServerVersion> {
        let number = self.setting("server_version_num").await?.unwrap_or_default();
        number.parse().map(ServerVersion::from_number).map_err(|_| Error::damaged(format!("the server says its version is `{number}`"), ""))
    }

    /// The cluster's system identifier.
    ///
    /// # Errors
    /// [`Error::Sql`]; [`Error::Damaged`] when the answer is no number.
    pub async fn system_identifier(&self) -> Result<u64> {
        let text = self
            .text("read the system identifier", "SELECT system_identifier FROM pg_catalog.pg_control_system()")
            .await?
            .unwrap_or_default();
        text.parse().map_err(|_| Error::damaged(format!("the server says its system identifier is `{text}`"), ""))
    }

    /// The names of the databases that hold data: all but templates, in order.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub async fn databases(&self) -> Result<Vec<String>> {
        let rows = self
            .client
            .query("SELECT datname::text FROM pg_catalog.pg_database WHERE NOT datistemplate AND datallowconn ORDER BY datname", &[])
            .await
            .map_err(|e| Error::sql("list the databases", e))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Creates a database owned by the session's role, unless it exists. Returns whether it was created.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub async fn create_database(&self, name: &str) -> Result<bool> {
        if self.databases().await?.iter().any(|existing| existing == name) {
            return Ok(false);
        }
        self.execute(&format!("create database `{name}`"), &format!("CREATE DATABASE {}", quote::identifier(name))).await?;
        Ok(true)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Outside of a runtime the whole process ends, and the server finds out by itself.
        if *self.unanswered.get_mut() > 0
            && let (Ok(runtime), Some(connection)) = (Handle::try_current(), self.connection.take())
        {
            runtime.spawn(give_up(self.client.cancel_token(), self.options.clone(), connection));
        }
    }
}

/// Has the server give up what a dropped session is at, until its connection has ended. A statement that is still on its way is none that could
/// be given up, so it is asked again.
async fn give_up(token: CancelToken, options: ConnectionOptions, mut connection: JoinHandle<()>) {
    let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
    while begun.elapsed() < GIVING_UP {
        // It may have ended meanwhile: then there is nothing to give up.
        let _ = tokio::time::timeout(CANCELLING, cancel(&token, &options)).await;
        if tokio::time::timeout(pause, &mut connection).await.is_ok() {
            return;
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
    // It does not listen. It finds out that nobody waits when it has an answer.
    connection.abort();
}

/// Has the server give up what a session is at, over a connection of its own.
async fn cancel(token: &CancelToken, options: &ConnectionOptions) -> Result<()> {
    let failed = |error| Error::sql("have the server give up a statement", error);
    match options.socket_for_user() {
        None => token.cancel_query(NoTls).await.map_err(failed),
        Some((socket, user)) => {
            let stream = connect_as(&socket, &user, Instant::now() + CANCELLING).await?;
            token.cancel_query_raw(stream, NoTls).await.map_err(failed)
        }
    }
}

/// Opens a connection. Its task ends with the session: when the client is dropped, or the connection breaks, which the client's
/// next statement then reports.
async fn open(options: &ConnectionOptions, deadline: Duration) -> Result<(Client, JoinHandle<()>)> {
    let failed = |error| {
        let (host, port) = (options.host.as_text(), options.port);
        Error::sql(format!("connect to database `{}` at {host}:{port} as `{}`", options.database, options.user), error)
    };
    let config = options.driver_config(deadline);
    let Some((socket, user)) = options.socket_for_user() else {
        let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
        return Ok((client, tokio::spawn(carried(connection))));
    };
    let stream = connect_as(&socket, &user, Instant::now() + deadline).await?;
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(failed)?;
    Ok((client, tokio::spawn(carried(connection))))
}

/// What becomes of a connection, the client is told by its next statement.
async fn carried(connection: impl Future<Output = std::result::Result<(), tokio_postgres::Error>>) {
    let _ = connection.await;
}

/// Connects to a socket as somebody else.
async fn connect_as(socket: &Path, user: &OsUser, until: Instant) -> Result<UnixStream> {
    let unreachable = |error| Error::file("connect to", socket, error);
    let connected = loop {
        let (path, user) = (socket.to_owned(), user.clone());
        // The server asks the kernel who connected, and the kernel remembers the thread that did (SO_PEERCRED, *unix(7)*).
        match workers::run(move || on_behalf::as_user(Some(&user), &path, || Ok(connect(&path)))).await? {
            Ok(connected) => break connected,
            // So many wait already that the server has no place for one more.
            Err(Errno::AGAIN) if Instant::now() < until => tokio::time::sleep(FULL_PAUSE).await,
            Err(error) => return Err(unreachable(error.into())),
        }
    };
    UnixStream::from_std(std::os::unix::net::UnixStream::from(connected)).map_err(unreachable)
}

/// Never waits.
fn connect(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}
