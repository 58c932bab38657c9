//! Which files of a data directory hold relations, and which part of which relation.
//!
//! Sources: *Database File Layout*, PostgreSQL 17; `relpath.c` and `parse_filename_for_nontemp_relation` for the names.

use std::fmt::{self, Write};
use std::path::Path;

/// A segment of one fork of one relation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelationFile {
    /// Where it lies.
    pub tablespace: Tablespace,
    /// The OID of its database; 0 for the relations that all databases share.
    pub database: u32,
    /// The file node of the relation (`relfilenode`), which is not always its OID.
    pub relation: u32,
    /// The backend whose temporary relation it is. A backup leaves such files out, and a start removes them.
    pub temporary_of: Option<u32>,
    /// Which fork.
    pub fork: Fork,
    /// Which segment: 0 for the first, whose name has no number.
    pub segment: u32,
}

/// Where a relation lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tablespace {
    /// `global`: the relations that all databases share.
    Global,
    /// `base`: the default.
    Default,
    /// `pg_tblspc/OID/DIRECTORY`, behind a symbolic link.
    Other {
        /// The OID of the tablespace, also the name of the link.
        oid: u32,
        /// The folder of one version, such as `PG_15_202209061`.
        directory: String,
    },
}

/// The parts that a relation is stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fork {
    /// The rows or index entries.
    Main,
    /// The free space map.
    FreeSpaceMap,
    /// The visibility map.
    VisibilityMap,
    /// The empty form of an unlogged relation, which a recovery copies over its main fork.
    Init,
}

impl Fork {
    fn suffix(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::FreeSpaceMap => "_fsm",
            Self::VisibilityMap => "_vm",
            Self::Init => "_init",
        }
    }
}

impl RelationFile {
    /// Classifies a path relative to the data directory; `None` for everything that is no relation.
    pub fn classify(path: &Path) -> Option<Self> {
        // `Path::components` would forgive `base//1/2` and `./base`; a path of the server has neither.
        let parts: Vec<&str> = path.to_str()?.split('/').collect();
        let (tablespace, database, name) = match parts[..] {
            ["global", name] => (Tablespace::Global, 0, name),
            ["base", database, name] => (Tablespace::Default, number(database)?, name),
            ["pg_tblspc", oid, directory, database, name] if directory.starts_with("PG_") => {
                (Tablespace::Other { oid: number(oid)?, directory: directory.to_owned() }, number(database)?, name)
            }
            _ => return None,
        };
        let (temporary_of, name) = match name.strip_prefix('t') {
            Some(rest) => {
                let (backend, rest) = rest.split_once('_')?;
                // Backends count from 0 since PostgreSQL 17.
                (Some(if backend == "0" { 0 } else { number(backend)? }), rest)
            }
            None => (None, name),
        };
        let (name, segment) = match name.split_once('.') {
            Some((name, segment)) => (name, number(segment)?),
            None => (name, 0),
        };
        let (relation, fork) = match name.split_once('_') {
            None => (name, Fork::Main),
            Some((name, "fsm")) => (name, Fork::FreeSpaceMap),
            Some((name, "vm")) => (name, Fork::VisibilityMap),
            Some((name, "init")) => (name, Fork::Init),
            Some(_) => return None,
        };
        Some(Self { tablespace, database, relation: number(relation)?, temporary_of, fork, segment })
    }

    /// The number of this file's first page within its fork, which page checksums depend on; `None` beyond 2³² pages.
    /// `blocks_per_segment` is in the control file.
    pub fn first_block(&self, blocks_per_segment: u32) -> Option<u32> {
        self.segment.checked_mul(blocks_per_segment)
    }
}

/// The path relative to the data directory.
impl fmt::Display for RelationFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tablespace {
            Tablespace::Global => formatter.write_str("global/")?,
            Tablespace::Default => write!(formatter, "base/{}/", self.database)?,
            Tablespace::Other { oid, directory } => write!(formatter, "pg_tblspc/{oid}/{directory}/{}/", self.database)?,
        }
        if let Some(backend) = self.temporary_of {
            write!(formatter, "t{backend}_")?;
        }
        write!(formatter, "{}{}", self.relation, self.fork.suffix())?;
        if self.segment > 0 {
            formatter.write_char('.')?;
            write!(formatter, "{}", self.segment)?;
        }
        Ok(())
    }
}

/// A number above zero as the server writes it: digits only, without leading zeros.
fn number(text: &str) -> Option<u32> {
    (text.starts_with(|c: char| matches!(c, '1'..='9')) && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn classify(path: &str) -> Option<RelationFile> {
        RelationFile::classify(Path::new(path))
    }

    #[test]
    fn relations_are_known_by_their_names() {
        let main = classify("base/16384/2619").unwrap();
        assert_eq!((main.database, main.relation, main.fork, main.segment), (16384, 2619, Fork::Main, 0));
        assert_eq!(classify("global/1262_vm").unwrap().fork, Fork::VisibilityMap);
        assert_eq!(classify("base/1/2619_fsm.3").unwrap().first_block(131_072), Some(393_216));
        assert_eq!(classify("base/5/t3_16390").unwrap().temporary_of, Some(3));
        assert_eq!(classify("base/5/t0_16390_fsm").unwrap().temporary_of, Some(0));
        let other = classify("pg_tblspc/16400/PG_15_202209061/16384/16401_init.1").unwrap();
        assert_eq!(other.tablespace, Tablespace::Other { oid: 16400, directory: "PG_15_202209061".into() });
        assert_eq!((other.fork, other.segment), (Fork::Init, 1));
    }

    #[test]
    fn everything_else_is_no_relation() {
        for path in [
            "",
            "/",
            "PG_VERSION",
            "global/pg_control",
            "global/pg_filenode.map",
            "global/pg_internal.init",
            "base/1/PG_VERSION",
            "base/1",
            "base/1/",
            "base/1/02",
            "base/1/1.0",
            "base/1/1.01",
            "base/1/1_fsm_vm",
            "base/1/1_",
            "base/1/1.2.3",
            "base/1/t_1",
            "base/1/t3_",
            "base/pgsql_tmp/pgsql_tmp123.0",
            "base/1/4294967296",
            "base/0/1",
            "./base/1/2",
            "base//1/2",
            "/base/1/2",
            "base/1/+5",
            "base/1/２",
            "pg_wal/000000010000000000000001",
            "pg_tblspc/16400/16384/1",
            "base/1/2/3",
        ] {
            assert_eq!(classify(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_name_survives_a_round_trip(
            place in 0..3_u8, database in 1..=u32::MAX, relation in 1..=u32::MAX, temporary_of: Option<u32>, fork in 0..4_u8, segment in 0..40_000_u32,
        ) {
            let tablespace = match place {
                0 => Tablespace::Global,
                1 => Tablespace::Default,
                _ => Tablespace::Other { oid: relation, directory: "PG_18_202506291".into() },
            };
            let fork = [Fork::Main, Fork::FreeSpaceMap, Fork::VisibilityMap, Fork::Init][usize::from(fork)];
            let database = if place == 0 { 0 } else { database };
            let file = RelationFile { tablespace, database, relation, temporary_of, fork, segment };
            prop_assert_eq!(classify(&file.to_string()), Some(file));
        }

        #[test]
        fn no_path_makes_it_panic(path: String, name in "(base/1/|global/)?t?[0-9_.]{0,12}(_fsm|_vm|_init)?[.0-9]{0,4}") {
            let _ = classify(&path);
            // Whatever is taken for a relation is written back as it was.
            if let Some(file) = classify(&name) {
                prop_assert_eq!(file.to_string(), name);
            }
        }
    }
}
