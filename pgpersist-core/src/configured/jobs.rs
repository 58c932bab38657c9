//! What the configuration wants done at its times.

use std::sync::Arc;

use crate::agent::jobs::ScheduledJob;
use crate::agent::jobs::dump::DumpJob;
use crate::agent::jobs::prune::PruneJob;
use crate::agent::jobs::restore_drill::RestoreDrillJob;
use crate::agent::jobs::sync::SyncJob;
use crate::config::load::Config;
use crate::configured::{backup, drill, dump, stores};
use crate::error::Result;
use crate::logical::sync::request::SyncRequest;
use crate::schedule;
use crate::server::cluster::Cluster;

/// The jobs of an agent of this cluster.
pub(super) fn jobs(config: &Config, cluster: &Cluster) -> Result<Vec<ScheduledJob>> {
    let mut jobs = Vec::new();
    let mut makers = Vec::new();
    if let Some(timetable) = &config.schedule.dump {
        let request = dump::of(config, cluster.clone(), Vec::new())?;
        let dump = ScheduledJob::new(Arc::new(DumpJob(request)), timetable.clone());
        jobs.push(ScheduledJob { deadline: config.schedule.dump_deadline, ..dump });
        makers.push(schedule::DUMP.to_owned());
    }
    if let Some(timetable) = &config.schedule.backup {
        let backup = ScheduledJob::new(Arc::new(backup::job(config, cluster)?), timetable.clone());
        jobs.push(ScheduledJob { deadline: config.schedule.backup_deadline, ..backup });
        makers.push(schedule::BACKUP.to_owned());
    }
    if let Some(timetable) = &config.schedule.prune {
        let own = cluster.directory().own_folder().clone();
        let prune = PruneJob { requests: stores::prune_requests(config)?, own, makers: makers.clone() };
        jobs.push(ScheduledJob { follows: makers, ..ScheduledJob::new(Arc::new(prune), timetable.clone()) });
    }
    if let Some(timetable) = &config.schedule.sync {
        let request = SyncRequest { cluster: Some(cluster.clone()), ..SyncRequest::new(stores::shelf(config)?) };
        let follows = config.schedule.dump.iter().map(|_| schedule::DUMP.to_owned()).collect();
        let sync = ScheduledJob::new(Arc::new(SyncJob(request)), timetable.clone());
        jobs.push(ScheduledJob { follows, deadline: config.schedule.sync_deadline, ..sync });
    }
    if let Some(timetable) = &config.schedule.restore_drill {
        let own = cluster.directory().own_folder().clone();
        let drill = RestoreDrillJob { shelf: stores::shelf(config)?, options: drill::scheduled(config)?, own };
        jobs.push(ScheduledJob { deadline: config.schedule.drill_deadline, ..ScheduledJob::new(Arc::new(drill), timetable.clone()) });
    }
    Ok(jobs)
}
