//! `Agent`: stays with a server as long as Python wants.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::arguments::duration;
use crate::cluster::{Ground, NativeCluster};
use crate::home::Home;
use crate::operation::{Failure, Operation, document, nothing, value_answer};
use crate::python_check::{GivenCheck, TakenCheck};
use crate::{exceptions, runtime};
use pgpersist_core::agent::command::{self, Command};
use pgpersist_core::agent::control::protocol::AgentView;
use pgpersist_core::agent::log::{AgentLog, Speaker};
use pgpersist_core::agent::options::AgentOptions;
use pgpersist_core::agent::run;
use pgpersist_core::agent::status::{AgentStatus, Phase};
use pgpersist_core::configured;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::pg::log_line::Severity;
use pgpersist_core::server::cluster::Cluster;

/// How an agent ended: none while it lives.
type End = Option<std::result::Result<(), Arc<Error>>>;

/// One agent, from `begin` to its end.
#[pyclass(frozen, module = "pgpersist._native")]
pub(crate) struct NativeAgent {
    wishes: Wishes,
    life: Mutex<Option<Life>>,
}

/// What an agent is made of.
#[derive(Clone)]
struct Wishes {
    ground: Ground,
    allow_ephemeral: bool,
    trust_stale_pid: bool,
    stop_timeout: Duration,
    checks: Vec<TakenCheck>,
}

impl Wishes {
    fn prepare(&self) -> Result<(Cluster, AgentOptions)> {
        let cluster = self.ground.cluster()?;
        // Its jobs come at any time, and nobody awaits them.
        let config = self.ground.config_at(Home::Background);
        let options = configured::agent::options(&config, &cluster, self.allow_ephemeral, self.trust_stale_pid, self.stop_timeout)?;
        let checks: Vec<_> = self.checks.iter().map(|check| check.clone().at(Home::Background)).collect();
        Ok((cluster, options.with_checks(&checks)?))
    }
}

/// A running agent, seen from outside.
#[derive(Clone)]
struct Life {
    process: u32,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<AgentStatus>,
    end: watch::Receiver<End>,
}

#[pymethods]
impl NativeAgent {
    #[new]
    fn new(
        cluster: &NativeCluster,
        allow_ephemeral: bool,
        trust_stale_pid: bool,
        stop_timeout: f64,
        checks: Vec<GivenCheck<'_>>,
    ) -> PyResult<Self> {
        let stop_timeout = duration(stop_timeout, "stop_timeout")?;
        let checks = checks.into_iter().map(GivenCheck::taken).collect::<PyResult<_>>()?;
        let wishes = Wishes { ground: cluster.ground.clone(), allow_ephemeral, trust_stale_pid, stop_timeout, checks };
        Ok(Self { wishes, life: Mutex::new(None) })
    }

    /// Sets it going; what it says goes to `log(speaker, severity, text)`.
    fn begin(&self, py: Python<'_>, log: Py<PyAny>) -> PyResult<()> {
        let runtime = runtime::handle(py)?;
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        if life.as_ref().is_some_and(|life| life.process == std::process::id() && life.end.borrow().is_none()) {
            return Err(PyRuntimeError::new_err("this agent runs already"));
        }
        let (cluster, options) = self.wishes.prepare().map_err(|error| exceptions::made(py, &error))?;
        let (commands, receiver) = command::channel();
        let (ended, end) = watch::channel(None);
        let agent = {
            let _entered = runtime.enter();
            run::Agent::new(cluster, options, Arc::new(PythonLog(log)), receiver)
        };
        let status = agent.status();
        *life = Some(Life { process: std::process::id(), commands: commands.clone(), status, end });
        runtime.spawn(async move {
            let outcome = agent.run().await;
            // Held until now: an agent that nobody can tell anything any more takes that for the wish that it end.
            drop(commands);
            let _ = ended.send(Some(outcome.map_err(Arc::new)));
        });
        Ok(())
    }

    /// Waits until the server accepts connections, or the agent has ended.
    fn ready(&self, timeout: f64) -> PyResult<Operation> {
        let (mut life, timeout) = (self.living()?, duration(timeout, "timeout")?);
        Ok(Operation::from_outcome("waiting for the server", async move {
            let up = async {
                tokio::select! {
                    found = life.status.wait_for(|status| status.phase == Phase::Ready) => found.is_ok(),
                    _ = life.end.wait_for(Option::is_some) => false,
                }
            };
            match tokio::time::timeout(timeout, up).await {
                Ok(true) => Ok(nothing()),
                Ok(false) => {
                    outcome(&life.end)?;
                    Err(Failure::Core(Error::unavailable("the agent was stopped before its server was ready", "start it again")))
                }
                Err(_) => Err(Failure::Core(Error::Deadline {
                    what: format!("the server was not ready (the agent is {})", life.status.borrow().phase.as_str()),
                    after: timeout,
                    remedy: Some("look at what the agent logs; a long recovery goes on by itself".to_owned()),
                })),
            }
        }))
    }

    /// Waits for its end.
    fn ended(&self) -> PyResult<Operation> {
        let mut life = self.living()?;
        Ok(Operation::from_outcome("waiting for the agent", async move {
            let _ = life.end.wait_for(Option::is_some).await;
            outcome(&life.end).map(|()| nothing())
        }))
    }

    /// Tells it to stop, and waits for its end. One that has ended already is fine.
    fn stop(&self, immediate: bool) -> PyResult<Operation> {
        let mut life = self.living()?;
        Ok(Operation::from_outcome("stopping the agent", async move {
            let _ = life.commands.send(if immediate { Command::StopNow } else { Command::Stop }).await;
            let _ = life.end.wait_for(Option::is_some).await;
            outcome(&life.end).map(|()| nothing())
        }))
    }

    /// Goes on with another configuration of the same cluster.
    fn reload(&self, cluster: &NativeCluster) -> PyResult<Operation> {
        let life = self.living()?;
        let wishes = Wishes { ground: cluster.ground.clone(), ..self.wishes.clone() };
        Ok(Operation::new("reloading", async move {
            let new = wishes.prepare()?;
            let sent = life.commands.send(Command::Reload(Box::new(new))).await;
            sent.map_err(|_| Error::unavailable("the agent has ended", "start it again")).map(|()| nothing())
        }))
    }

    /// What it is doing.
    fn status(&self) -> PyResult<Operation> {
        let life = self.living()?;
        Ok(Operation::new("looking at the agent", async move {
            let status = life.status.borrow().clone();
            let mut document = document(&status)?;
            // As every other process is told of them.
            document["jobs"] = json!(AgentView::of(&status).jobs);
            document["phase_s"] = json!(status.since.elapsed().as_secs_f64());
            document["is_running"] = json!(life.end.borrow().is_none());
            Ok(value_answer(document))
        }))
    }

    /// Whether it lives, in this process.
    #[getter]
    fn is_running(&self) -> bool {
        self.living().is_ok_and(|life| life.end.borrow().is_none())
    }
}

impl NativeAgent {
    fn living(&self) -> PyResult<Life> {
        let life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        match &*life {
            Some(life) if life.process == std::process::id() => Ok(life.clone()),
            Some(life) => {
                let text =
                    format!("this agent lives in process {}, and this is a child forked from it: use the cluster's URL", life.process);
                Err(PyRuntimeError::new_err(text))
            }
            None => Err(PyRuntimeError::new_err("this agent was not started")),
        }
    }
}

fn outcome(end: &watch::Receiver<End>) -> std::result::Result<(), Failure> {
    match &*end.borrow() {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(Failure::Shared(error.clone())),
        None => Err(Failure::Core(Error::unavailable("the agent's threads have ended", "start it again"))),
    }
}

/// A Python callable as the agent's log.
#[derive(Debug)]
struct PythonLog(Py<PyAny>);

impl AgentLog for PythonLog {
    fn line(&self, speaker: Speaker, severity: Severity, text: &str) {
        let speaker = match speaker {
            Speaker::Agent => "agent",
            Speaker::Server => "server",
        };
        Python::try_attach(|py| {
            if let Err(error) = self.0.call1(py, (speaker, severity.as_str(), text)) {
                error.write_unraisable(py, None);
            }
        });
    }
}
