//! Answers on the socket, from when the agent has its directory to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::agent::command::Command;
use crate::agent::control::protocol::{AgentView, Answer, Question};
use crate::agent::jobs::slots::Slots;
use crate::agent::listening::Listening;
use crate::agent::status::AgentStatus;

/// How many may ask at a time: people and their scripts.
const CONNECTIONS: usize = 32;
/// How long a question may take to come.
const ASKING: Duration = Duration::from_secs(5);
/// How long a question may be.
const LONGEST: u64 = 4096;
/// How long it waits when no connection can be accepted.
const BREATH: Duration = Duration::from_millis(100);

/// What questions are answered from.
#[derive(Debug, Clone)]
pub(crate) struct Answering {
    pub(crate) status: watch::Receiver<AgentStatus>,
    pub(crate) commands: mpsc::WeakSender<Command>,
    pub(crate) slots: Slots,
}

/// Answers for ever; dropping it ends all connections.
pub(crate) async fn answer(listener: UnixListener, from: Answering) {
    let listener = Listening::new(listener);
    let (places, mut connections) = (Arc::new(Semaphore::new(CONNECTIONS)), JoinSet::new());
    loop {
        // Nobody ever closes it.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let from = from.clone();
                connections.spawn(async move {
                    // Who went away needs no answer.
                    let _ = serve(stream, from).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(BREATH).await,
        }
    }
}

async fn serve(stream: UnixStream, from: Answering) -> std::io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading).take(LONGEST);
    let mut line = String::new();
    let asked = tokio::time::timeout(ASKING, reading.read_line(&mut line)).await;
    let question = match asked {
        Ok(Ok(0)) | Err(_) => return Ok(()),
        Ok(read) => read.map(|_| serde_json::from_str::<Question>(&line))?,
    };
    let mut say = async |answer: &Answer| {
        let text = serde_json::to_string(answer).unwrap_or_default();
        writing.write_all(format!("{text}\n").as_bytes()).await
    };
    // What still comes is the end of the connection.
    let mut rest = [0; 1];
    let mut reading = reading.into_inner();
    match question {
        Err(error) => say(&Answer::Refused { reason: format!("this is no question: {error}") }).await,
        Ok(Question::Status) => {
            let view = AgentView::of(&from.status.borrow());
            say(&Answer::Status(Box::new(view))).await
        }
        Ok(Question::Stop { now }) => {
            let command = if now { Command::StopNow } else { Command::Stop };
            // One that takes no commands any more is about to end.
            if let Some(commands) = from.commands.upgrade() {
                let _ = commands.send(command).await;
            }
            say(&Answer::Stopping).await?;
            // Until the agent ends, or the asker does.
            reading.read(&mut rest).await.map(drop)
        }
        Ok(Question::Hold { job }) => {
            let slot = from.slots.of(&job);
            let held = match slot.clone().try_lock_owned() {
                Ok(held) => held,
                Err(_) => {
                    say(&Answer::Busy).await?;
                    tokio::select! {
                        held = slot.lock_owned() => held,
                        _ = reading.read(&mut rest) => return Ok(()),
                    }
                }
            };
            say(&Answer::Held).await?;
            let gone = reading.read(&mut rest).await;
            drop(held);
            gone.map(drop)
        }
    }
}
