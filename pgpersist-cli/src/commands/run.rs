//! `run`: the agent in the foreground, the process that a container starts.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::args::Format;
use crate::commands::init;
use crate::context::Context;
use crate::exit::Exit;
use crate::log_lines::{LogLines, Look};
use crate::runtime;
use pgpersist_core::agent::command::{self, Command};
use pgpersist_core::agent::jobs::ScheduledJob;
use pgpersist_core::agent::log::{AgentLog, Speaker};
use pgpersist_core::agent::options::AgentOptions;
use pgpersist_core::agent::run::Agent;
use pgpersist_core::agent::service_manager::ServiceManager;
use pgpersist_core::configured;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::init::ready;
use pgpersist_core::pg::log_line::Severity;
use pgpersist_core::server::arguments;
use pgpersist_core::server::cluster::Cluster;

/// Make the data directory ready, run its server in the foreground, and stay with it: what a container starts
///
/// A server that ends by itself is started again; one that another pgpersist left running is adopted. SIGTERM and SIGINT shut
/// it down, a second one does so immediately, as does SIGQUIT; SIGHUP reloads the configuration of both. As PID 1 it reaps
/// orphans. The server's log goes to stdout, unless `[log] directory` is set; --json writes each line as a document. With
/// `[health] listen` it answers /livez, /startupz, /readyz, /health and /metrics over HTTP, and on / a status page for people; with
/// `[hooks]` it runs a command or calls a webhook on failures and recoveries. Started by systemd, it tells that how far it is.
#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  pgpersist run -D /app/pgdata --store /app/backups/postgres -- -c shared_buffers=1GB")]
#[command(after_help = "Exit codes: 0 stopped on request, 6 a restart can help, 2, 4, 5 and 7 it cannot; see `pgpersist --help`")]
pub(crate) struct Args {
    /// Accept a place that does not survive this machine
    #[arg(long)]
    pub(super) allow_ephemeral: bool,
    /// How long a clean shutdown may take before an immediate one follows, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    stop_timeout: u64,
    /// Settings for the server, after `--`: -c name=value or --name=value
    #[arg(last = true, value_name = "POSTGRES ARGUMENT")]
    postgres: Vec<OsString>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let (cluster, options) = what_to_run(args, context)?;
    if context.common.dry_run {
        let plan =
            runtime::block_on("`run --dry-run`", async { ready::plan(&cluster, options.shelf.as_ref(), options.init.wishes).await })?;
        let mut plan = vec![
            init::step(&plan, &cluster.path().display().to_string()),
            format!("start its server on port {}, and stay with it until SIGTERM or SIGINT", cluster.options().port),
        ];
        plan.extend(options.jobs.iter().map(ScheduledJob::describe));
        plan.extend(options.http.map(|http| format!("answer HTTP on {} meanwhile", http.listen)));
        plan.extend(
            options.hooks.iter().flat_map(|hooks| &hooks.hooks).map(|hook| format!("tell the {} of failures and recoveries", hook.name())),
        );
        let text = || plan.iter().enumerate().map(|(number, step)| format!("{}. {step}\n", number + 1)).collect();
        return context.output.write(|| json!({ "plan": plan }), text).map(|()| Exit::DONE);
    }
    let look = if context.output.format() == Format::Json { Look::Json } else { Look::Text };
    let least = if context.common.quiet { Severity::Warning } else { Severity::Debug };
    let log = Arc::new(LogLines::begin(look, least)?);
    let result = runtime::uninterrupted(async {
        let (commands, receiver) = command::channel();
        let service_manager = service_manager(&log);
        let signals = listen(commands, args, context, log.clone(), service_manager.clone())?;
        let agent = Agent::new(cluster, options, log.clone(), receiver);
        let agent = match service_manager {
            Some(service_manager) => agent.telling(service_manager),
            None => agent,
        };
        tokio::select! {
            result = agent.run() => result,
            never = signals => never,
        }
    });
    log.finish();
    result.map(|()| Exit::DONE)
}

/// The cluster and how to go about it, from the configuration as it is now.
fn what_to_run(args: &Args, context: &Context) -> Result<(Cluster, AgentOptions)> {
    let config = context.config()?;
    let mut words = Vec::new();
    for word in &args.postgres {
        let text = word.to_str().ok_or_else(|| Error::invalid(format!("`{}` is not UTF-8", word.display()), "write it in UTF-8"))?;
        words.push(text.to_owned());
    }
    let cluster = configured::cluster::open(config, arguments::settings(&words)?)?;
    let stop_timeout = Duration::from_secs(args.stop_timeout);
    let options = configured::agent::options(config, &cluster, args.allow_ephemeral, context.common.yes, stop_timeout)?;
    Ok((cluster, options))
}

/// Systemd, where it has started us and wants to be told. One that cannot be told keeps no server down.
fn service_manager(log: &LogLines) -> Option<Arc<ServiceManager>> {
    ServiceManager::from_environment()
        .unwrap_or_else(|error| {
            log.line(Speaker::Agent, Severity::Warning, &format!("systemd is not told anything: {error}"));
            None
        })
        .map(Arc::new)
}

/// Makes commands of signals, for ever.
fn listen(
    commands: mpsc::Sender<Command>,
    args: &Args,
    context: &Context,
    log: Arc<LogLines>,
    service_manager: Option<Arc<ServiceManager>>,
) -> Result<impl Future<Output = Result<()>>> {
    let register = |kind| signal(kind).map_err(|e| Error::Bug(format!("could not listen to signals: {e}")));
    let (mut interrupt, mut terminate) = (register(SignalKind::interrupt())?, register(SignalKind::terminate())?);
    let (mut quit, mut hangup) = (register(SignalKind::quit())?, register(SignalKind::hangup())?);
    Ok(async move {
        loop {
            let command = tokio::select! {
                _ = interrupt.recv() => Command::Stop,
                _ = terminate.recv() => Command::Stop,
                _ = quit.recv() => Command::StopNow,
                _ = hangup.recv() => {
                    if let Some(service_manager) = &service_manager {
                        service_manager.reloading();
                    }
                    match context.reloaded().and_then(|context| what_to_run(args, &context)) {
                        Ok(new) => Command::Reload(Box::new(new)),
                        Err(error) => {
                            let causes: String = error.causes().iter().map(|cause| format!(": {cause}")).collect();
                            log.line(Speaker::Agent, Severity::Error, &format!("{error}{causes}; the old configuration stays"));
                            if let Some(service_manager) = &service_manager {
                                service_manager.reloaded();
                            }
                            continue;
                        }
                    }
                }
            };
            // An agent that takes none any more is about to end.
            let _ = commands.send(command).await;
        }
    })
}
