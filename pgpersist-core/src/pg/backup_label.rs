//! `backup_label`: where a base backup began, as PostgreSQL tells it when the backup ends.
//!
//! Sources: *Making a Base Backup Using the Low Level API*, PostgreSQL 17; `build_backup_content` in `xlogbackup.c` and `read_backup_label` in
//! `xlogrecovery.c` for the lines.

use crate::pg::lsn::Lsn;

/// What a backup label says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupLabel {
    /// From where on the log is needed.
    pub start: Lsn,
    /// The name of the segment that holds it.
    pub segment: String,
    /// The checkpoint that the backup began with.
    pub checkpoint: Lsn,
    /// The timeline.
    pub timeline: u32,
    /// Whether a standby was the source.
    pub from_standby: bool,
    /// What the backup was called.
    pub label: String,
}

impl BackupLabel {
    /// Reads a label; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let (start, rest) = value("START WAL LOCATION")?.split_once(" (file ")?;
        Some(Self {
            start: start.parse().ok()?,
            segment: rest.strip_suffix(')')?.to_owned(),
            checkpoint: value("CHECKPOINT LOCATION")?.parse().ok()?,
            timeline: value("START TIMELINE")?.parse().ok()?,
            from_standby: value("BACKUP FROM")? == "standby",
            label: value("LABEL").unwrap_or_default().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LABEL: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n\
        BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-02-08 09:33:16 UTC\nLABEL: pgpersist\nSTART TIMELINE: 1\n";

    #[test]
    fn a_label_tells_where_the_backup_began() {
        let label = BackupLabel::parse(LABEL).unwrap();
        assert_eq!(label.start, "0/2000028".parse().unwrap());
        assert_eq!((label.segment.as_str(), label.timeline, label.from_standby), ("000000010000000000000002", 1, false));
        assert_eq!((label.checkpoint, label.label.as_str()), ("0/2000060".parse().unwrap(), "pgpersist"));
        assert!(BackupLabel::parse(&LABEL.replace("FROM: primary", "FROM: standby")).unwrap().from_standby);
    }

    #[test]
    fn what_lacks_a_line_is_no_label() {
        for line in ["START WAL", "CHECKPOINT", "BACKUP FROM", "START TIMELINE"] {
            let cut: String = LABEL.lines().filter(|one| !one.starts_with(line)).map(|one| format!("{one}\n")).collect();
            assert_eq!(BackupLabel::parse(&cut), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = BackupLabel::parse(&text);
        }
    }
}
