//! Physical backups, as `list` and `show` tell of them.

use crate::commands::list::moment;
use crate::commands::status::document;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::printable;
use crate::progress::count;
use crate::runtime;
use pgpersist_core::configured;
use pgpersist_core::error::{Error, Result};
use pgpersist_core::repo::catalog::{self, BackupDetails, BackupSummary};
use pgpersist_core::repo::names::RunName;
use pgpersist_core::wording::size;

/// The physical backups in the primary store. One that cannot be told of is a warning.
pub(super) async fn all(context: &Context) -> Result<Vec<BackupSummary>> {
    let Some(repository) = configured::backup::repository(context.config()?).await? else { return Ok(Vec::new()) };
    let (backups, damaged) = catalog::list(&repository).await?;
    damaged.iter().for_each(|error| context.progress.warn(&error.to_string()));
    Ok(backups)
}

/// One of them, in a line.
pub(super) fn line(backup: &BackupSummary) -> String {
    let label = backup.label.as_deref().map(|label| format!("  {}", printable(label))).unwrap_or_default();
    let damaged = match (backup.damaged_pages, backup.known_damaged_pages) {
        (0, 0) => String::new(),
        (0, known) => format!("  known damaged pages: {known}"),
        (damaged, _) => format!("  DAMAGED pages: {damaged}"),
    };
    let dropped = if backup.dropped { "  (dropped by retention)" } else { "" };
    let (whole, stored) = (size(backup.size_bytes), size(backup.stored_bytes));
    format!("{}  whole cluster  {}  {whole} ({stored} in the store){label}{damaged}{dropped}\n", backup.name, moment(backup.started_at))
}

/// Shows one of them.
pub(super) fn show(backup: RunName, context: &Context) -> Result<Exit> {
    let found = runtime::block_on("`show`", async {
        let Some(repository) = configured::backup::repository(context.config()?).await? else {
            return Err(Error::not_found(format!("there is no backup {backup}"), "see `pgpersist list` for those that there are"));
        };
        catalog::show(&repository, backup).await
    })?;
    context.output.write(|| document(&found), || text(&found))?;
    Ok(Exit::DONE)
}

fn text(found: &BackupDetails) -> String {
    let summary = &found.summary;
    let parent = found.parent.map(|parent| format!(", compared with {parent}")).unwrap_or_default();
    let checksums = if found.data_checksums { "pages have checksums" } else { "pages have no checksums" };
    let mut text = line(summary);
    text.push_str(&format!(
        "  PostgreSQL {}, system identifier {}, {checksums}\n",
        printable(&found.server_version),
        printable(&found.system_identifier)
    ));
    text.push_str(&format!(
        "  {}, {} of it new{parent}\n  from {} to {} on timeline {}, ended {}\n",
        count(found.files, "file"),
        size(summary.new_bytes),
        printable(&summary.start_lsn),
        printable(&summary.stop_lsn),
        summary.timeline,
        moment(summary.stopped_at)
    ));
    for tablespace in &found.tablespaces {
        text.push_str(&format!(
            "  tablespace {} ({}) lay at {}\n",
            printable(&tablespace.name),
            tablespace.oid,
            printable(&tablespace.location)
        ));
    }
    for page in &found.damaged {
        text.push_str(&format!("  DAMAGED  {}: block {}\n", printable(&page.path), page.block));
    }
    text
}
