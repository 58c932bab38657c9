//! What `start`, `stop` and `restart` would do: their plan, made from the state that `status` tells.

use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use crate::runtime;
use pgpersist_core::agent::control::client::Control;
use pgpersist_core::error::Result;
use pgpersist_core::fs::lock_file;
use pgpersist_core::server::cluster::{Cluster, ServerState, ServerStatus};
use pgpersist_core::workers;

/// The three commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Start,
    Stop,
    Restart,
}

/// Tells the plan and changes nothing. Where there is no cluster, it ends as the command itself would.
pub(crate) fn tell(verb: Verb, cluster: &Cluster, context: &Context) -> Result<Exit> {
    let (status, ours, supervised) = runtime::block_on("the dry run", async {
        cluster.directory().state().await?.into_cluster(cluster.path())?;
        if verb != Verb::Stop {
            cluster.installation().await?;
        }
        // A server that we started holds this lock.
        let lock = cluster.directory().own_folder().server_lock();
        let ours = workers::run(move || Ok(lock.exists() && !lock_file::is_free(&lock)?)).await?;
        Ok((cluster.status().await?, ours, Control::find(cluster).await?.is_some()))
    })?;
    let plan = match (verb, supervised) {
        (Verb::Stop, true) => vec![format!("have the agent that supervises {} shut its server down, and end", cluster.path().display())],
        _ => plan(verb, &status, ours, cluster.options().port),
    };
    let text = || plan.iter().enumerate().map(|(number, step)| format!("{}. {}\n", number + 1, printable(step))).collect();
    context.output.write(|| json!({ "plan": plan }), text).map(|()| Exit::DONE)
}

/// The steps, one a line.
fn plan(verb: Verb, status: &ServerStatus, ours: bool, port: u16) -> Vec<String> {
    let directory = status.data_directory.display();
    let stop = status.pid.map(|pid| format!("stop the server in {directory} (process {pid}), and wait until its last process has ended"));
    let start = || format!("write pgpersist.conf, start the server in {directory} on port {port}, and wait until it accepts connections");
    match (verb, stop) {
        (Verb::Start, Some(stop)) if !ours => {
            vec![format!("be refused, since pgpersist did not start the server that runs there; first {stop}")]
        }
        (Verb::Start, Some(_)) if status.state == ServerState::Running => vec!["nothing: the server runs already".to_owned()],
        (Verb::Start, Some(_)) => vec!["wait until the server, which is there already, accepts connections".to_owned()],
        (Verb::Stop, None) => vec!["nothing: the server does not run".to_owned()],
        (Verb::Start, None) => vec![start()],
        (Verb::Stop, Some(stop)) => vec![stop],
        (Verb::Restart, stop) => stop.into_iter().chain([start()]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: ServerState, pid: Option<i32>) -> ServerStatus {
        ServerStatus {
            state,
            detail: None,
            pid,
            port: None,
            socket_directory: None,
            version: None,
            system_identifier: None,
            log_file: "/log".into(),
            data_directory: "/app/pgdata".into(),
        }
    }

    #[test]
    fn what_is_so_already_is_not_done_again() {
        let told = |verb, state, pid| plan(verb, &status(state, pid), true, 5432).join("; ");
        assert_eq!(told(Verb::Start, ServerState::Running, Some(7)), "nothing: the server runs already");
        assert_eq!(told(Verb::Stop, ServerState::Stopped, None), "nothing: the server does not run");
        assert!(plan(Verb::Start, &status(ServerState::Running, Some(7)), false, 5432)[0].starts_with("be refused"));
        assert!(told(Verb::Start, ServerState::Recovering, Some(7)).starts_with("wait until"));
        assert!(told(Verb::Stop, ServerState::Recovering, Some(7)).starts_with("stop the server in /app/pgdata (process 7)"));
    }

    #[test]
    fn a_restart_stops_what_runs_and_starts() {
        assert_eq!(plan(Verb::Restart, &status(ServerState::Running, Some(7)), true, 5433).len(), 2);
        let cold = plan(Verb::Restart, &status(ServerState::Stopped, None), false, 5433);
        assert!(cold.len() == 1 && cold[0].contains("start the server in /app/pgdata on port 5433"), "{cold:?}");
    }
}
