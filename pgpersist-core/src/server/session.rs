//! One SQL session with a server, and the statements that several features share.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use tokio::net::UnixStream;
use tokio_postgres::{Client, NoTls};

use crate::error::{Error, Result};
use crate::fs::on_behalf;
use crate::pg::quote;
use crate::pg::version::ServerVersion;
use crate::server::connection::ConnectionOptions;
use crate::workers;

/// How long the wait is before a socket is tried again that had no place for us.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// An open session. Its `search_path` is empty, so names must be qualified; dropping it closes it.
#[derive(Debug)]
pub struct Session {
    client: Client,
}

impl Session {
    /// Opens a session and gives up at the deadline.
    ///
    /// # Errors
    /// [`Error::Sql`] when the server is not there or refuses; [`Error::Deadline`] when it does not answer.
    pub async fn connect(options: &ConnectionOptions, deadline: Duration) -> Result<Self> {
        let open = async {
            let session = Self { client: open(options, deadline).await? };
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
        self.client.batch_execute(statements).await.map_err(|e| Error::sql(action, e))
    }

    /// The first column of the first row, as text; `None` when there is no row or it is null.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub async fn text(&self, action: &str, query: &str) -> Result<Option<String>> {
        let rows = self.client.simple_query(query).await.map_err(|e| Error::sql(action, e))?;
        Ok(rows
            .iter()
            .find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
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

/// Opens a connection. Its task ends with the session: when the client is dropped, or the connection breaks, which the client's
/// next statement then reports.
async fn open(options: &ConnectionOptions, deadline: Duration) -> Result<Client> {
    let failed = |error| {
        let (host, port) = (options.host.as_text(), options.port);
        Error::sql(format!("connect to database `{}` at {host}:{port} as `{}`", options.database, options.user), error)
    };
    let config = options.driver_config(deadline);
    let Some((socket, user)) = options.socket_for_user() else {
        let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
        tokio::spawn(connection);
        return Ok(client);
    };
    let unreachable = |error| Error::file("connect to", &socket, error);
    let until = Instant::now() + deadline;
    let connected = loop {
        let (path, user) = (socket.clone(), user.clone());
        // The server asks the kernel who connected, and the kernel remembers the thread that did (SO_PEERCRED, *unix(7)*).
        match workers::run(move || on_behalf::as_user(Some(&user), &path, || Ok(connect(&path)))).await? {
            Ok(connected) => break connected,
            // So many wait already that the server has no place for one more.
            Err(Errno::AGAIN) if Instant::now() < until => tokio::time::sleep(FULL_PAUSE).await,
            Err(error) => return Err(unreachable(error.into())),
        }
    };
    let stream = UnixStream::from_std(std::os::unix::net::UnixStream::from(connected)).map_err(unreachable)?;
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(failed)?;
    tokio::spawn(connection);
    Ok(client)
}

/// Never waits.
fn connect(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}
