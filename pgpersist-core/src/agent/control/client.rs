//! Finds the agent of a cluster, and asks it.

use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::agent::control::protocol::{AgentView, Answer, Question};
use crate::agent::control::socket;
use crate::error::{Error, Result};
use crate::server::cluster::Cluster;

/// How long an agent may take to answer: its loop turns whatever it waits for.
const ANSWERING: Duration = Duration::from_secs(10);
/// How long an immediate shutdown may take, after a fast one took all its time.
const IMMEDIATE: Duration = Duration::from_secs(20);
/// How long an answer may be.
const LONGEST: u64 = 1024 * 1024;

/// A connection to the agent of a cluster, for one question.
#[derive(Debug)]
pub struct Control {
    stream: BufReader<tokio::io::Take<UnixStream>>,
}

/// A job that the agent leaves alone until this is dropped.
#[derive(Debug)]
pub struct Held {
    _control: Control,
}

impl Control {
    /// Finds the agent that supervises a cluster on this machine; none where none does.
    ///
    /// # Errors
    /// [`Error::File`] when the socket cannot be connected to for another reason than that nobody listens.
    pub async fn find(cluster: &Cluster) -> Result<Option<Self>> {
        let stream = socket::connect(cluster.directory().own_folder()).await?;
        Ok(stream.map(|stream| Self { stream: BufReader::new(stream.take(LONGEST)) }))
    }

    /// How the agent is.
    ///
    /// # Errors
    /// `Unavailable` when it does not answer.
    pub async fn status(mut self) -> Result<AgentView> {
        self.ask(&Question::Status).await?;
        match self.answer(ANSWERING).await? {
            Some(Answer::Status(view)) => Ok(*view),
            other => Err(unexpected(other.as_ref())),
        }
    }

    /// Has the agent shut its server down and end, and waits until it has. After `timeout` it is told to hurry; returns whether
    /// it had to be.
    ///
    /// # Errors
    /// `Unavailable` when it does not end.
    pub async fn stop(mut self, cluster: &Cluster, timeout: Duration) -> Result<bool> {
        let began = Instant::now();
        self.ask(&Question::Stop { now: false }).await?;
        match self.answer(ANSWERING).await? {
            Some(Answer::Stopping) | None => {}
            other => return Err(unexpected(other.as_ref())),
        }
        if self.ended(timeout.saturating_sub(began.elapsed())).await {
            return Ok(false);
        }
        if let Some(mut hurry) = Self::find(cluster).await? {
            hurry.ask(&Question::Stop { now: true }).await?;
        }
        if self.ended(IMMEDIATE).await {
            return Ok(true);
        }
        Err(Error::Deadline {
            what: "the agent did not end".to_owned(),
            after: began.elapsed(),
            remedy: Some("look at what it says (its stdout), and end it by its process".to_owned()),
        })
    }

    /// Keeps the agent from running a job until the answer is dropped; while a run of it is under way, waits for its end.
    /// `busy` is called when there is something to wait for.
    ///
    /// # Errors
    /// `Unavailable` when the agent ends meanwhile.
    pub async fn hold(mut self, job: &str, busy: impl FnOnce()) -> Result<Held> {
        self.ask(&Question::Hold { job: job.to_owned() }).await?;
        let mut answer = self.answer(ANSWERING).await?;
        if answer == Some(Answer::Busy) {
            busy();
            // As long as the job may take; its own deadline ends it.
            answer = self.read().await?;
        }
        match answer {
            Some(Answer::Held) => Ok(Held { _control: self }),
            other => Err(unexpected(other.as_ref())),
        }
    }

    async fn ask(&mut self, question: &Question) -> Result<()> {
        let text = serde_json::to_string(question).map_err(|e| Error::Bug(format!("could not write a question: {e}")))?;
        let written = self.stream.get_mut().get_mut().write_all(format!("{text}\n").as_bytes()).await;
        written.map_err(|e| silent(&e.to_string()))
    }

    async fn answer(&mut self, time: Duration) -> Result<Option<Answer>> {
        let answer = tokio::time::timeout(time, self.read()).await;
        answer.map_err(|_| silent(&format!("no answer within {} s", time.as_secs())))?
    }

    /// The next line; none at the end.
    async fn read(&mut self) -> Result<Option<Answer>> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await {
            Ok(0) => Ok(None),
            Ok(_) => serde_json::from_str(&line).map(Some).map_err(|e| silent(&format!("this is no answer: {e}"))),
            Err(error) => Err(silent(&error.to_string())),
        }
    }

    /// Whether the connection ends within this time, and so the agent.
    async fn ended(&mut self, time: Duration) -> bool {
        let end = async { while matches!(self.read().await, Ok(Some(_))) {} };
        tokio::time::timeout(time, end).await.is_ok()
    }
}

fn silent(why: &str) -> Error {
    Error::unavailable(format!("the agent of this cluster does not answer: {why}"), "look at what `pgpersist run` says, and try again")
}

fn unexpected(answer: Option<&Answer>) -> Error {
    match answer {
        None => silent("it went away"),
        Some(Answer::Refused { reason }) => silent(reason),
        Some(_) => silent("it answered something else"),
    }
}
