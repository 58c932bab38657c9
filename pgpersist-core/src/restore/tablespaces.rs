//! Where the tablespaces of a backup are to be: where they were, or where somebody says.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::repo::manifest::Tablespace;

/// A tablespace's new place: `NAME=DIRECTORY`, or its OID in the place of the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespaceMapping {
    /// Its name or its OID.
    pub tablespace: String,
    /// Where it is to be.
    pub location: PathBuf,
}

impl FromStr for TablespaceMapping {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some((tablespace, location)) if !tablespace.is_empty() && !location.is_empty() => {
                Ok(Self { tablespace: tablespace.to_owned(), location: location.into() })
            }
            _ => Err(Error::invalid(
                format!("`{text}` does not say which tablespace goes where"),
                "write `--tablespace NAME=/new/place`, or its OID in the place of the name",
            )),
        }
    }
}

/// Where a tablespace was and will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlacedTablespace {
    /// Its OID.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Where it was.
    pub from: PathBuf,
    /// Where it will be.
    pub to: PathBuf,
}

/// Places all of a backup's tablespaces. What lies at these places is another question.
///
/// # Errors
/// `Invalid` for a mapping of no tablespace or of one twice, and for places that cannot be: not absolute, in each other, in the data directory or
/// around it.
pub fn place(tablespaces: &[Tablespace], mappings: &[TablespaceMapping], data_directory: &Path) -> Result<Vec<PlacedTablespace>> {
    let mut placed: Vec<PlacedTablespace> = Vec::new();
    for (at, mapping) in mappings.iter().enumerate() {
        let which = which(tablespaces, &mapping.tablespace)?;
        if mappings[..at].iter().any(|other| self::which(tablespaces, &other.tablespace).is_ok_and(|other| other.oid == which.oid)) {
            return Err(Error::invalid(format!("the tablespace {} is given two places", which.name), "give it one"));
        }
    }
    for tablespace in tablespaces {
        let mapping =
            mappings.iter().find(|mapping| which(tablespaces, &mapping.tablespace).is_ok_and(|found| found.oid == tablespace.oid));
        let to = mapping.map_or_else(|| PathBuf::from(&tablespace.location), |mapping| mapping.location.clone());
        let (shown, remedy) = (to.display(), format!("name another place: `--tablespace {}=/new/place`", tablespace.name));
        if !to.is_absolute() || to.components().any(|part| part == Component::ParentDir) {
            return Err(Error::invalid(
                format!("the tablespace {} cannot be in `{shown}`, which is no absolute path", tablespace.name),
                remedy,
            ));
        }
        if overlap(&to, data_directory) {
            return Err(Error::invalid(
                format!("the tablespace {} cannot be in {shown}: that lies in the data directory, or around it", tablespace.name),
                remedy,
            ));
        }
        if let Some(other) = placed.iter().find(|other| overlap(&other.to, &to)) {
            return Err(Error::invalid(
                format!("the tablespaces {} and {} cannot both be in {shown}", other.name, tablespace.name),
                remedy,
            ));
        }
        placed.push(PlacedTablespace { oid: tablespace.oid, name: tablespace.name.clone(), from: PathBuf::from(&tablespace.location), to });
    }
    Ok(placed)
}

/// A name comes first: one that is a number is somebody's name as well.
fn which<'a>(tablespaces: &'a [Tablespace], named: &str) -> Result<&'a Tablespace> {
    let by_name = tablespaces.iter().find(|tablespace| tablespace.name == named);
    by_name.or_else(|| tablespaces.iter().find(|tablespace| tablespace.oid.to_string() == named)).ok_or_else(|| {
        let known: Vec<String> = tablespaces.iter().map(|one| format!("{} ({})", one.name, one.oid)).collect();
        Error::invalid(
            format!("the backup has no tablespace `{named}`"),
            if known.is_empty() { "it has none at all".to_owned() } else { format!("it has {}", known.join(", ")) },
        )
    })
}

fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn tablespaces() -> Vec<Tablespace> {
        let one = |oid, name: &str, location: &str| Tablespace { oid, name: name.to_owned(), location: location.to_owned() };
        vec![one(16399, "fast", "/fast/space"), one(16400, "16399", "/slow")]
    }

    fn placed(mappings: &[&str]) -> Result<Vec<String>> {
        let mappings = mappings.iter().map(|text| text.parse()).collect::<Result<Vec<TablespaceMapping>>>()?;
        let placed = place(&tablespaces(), &mappings, Path::new("/app/pgdata"))?;
        Ok(placed.iter().map(|one| one.to.display().to_string()).collect())
    }

    #[test]
    fn they_go_where_they_were_or_where_somebody_says() {
        assert_eq!(placed(&[]).unwrap(), ["/fast/space", "/slow"]);
        assert_eq!(placed(&["fast=/a=b"]).unwrap(), ["/a=b", "/slow"]);
        // The name of one is the OID of the other.
        assert_eq!(placed(&["16399=/a", "fast=/b"]).unwrap(), ["/b", "/a"]);
        assert_eq!(placed(&["16400=/a"]).unwrap(), ["/fast/space", "/a"]);
    }

    #[test]
    fn a_place_that_cannot_be_is_refused_and_a_tablespace_that_is_none() {
        for wrong in [
            &["fast"][..],
            &["=/a"],
            &["fast="],
            &["none=/a"],
            &["fast=relative"],
            &["fast=/a/../app/pgdata"],
            &["fast=/app/pgdata"],
            &["fast=/app/pgdata/inside"],
            &["fast=/app"],
            &["fast=/slow"],
            &["fast=/slow/inside"],
            &["fast=/a", "fast=/b"],
            &["16400=/a", "16399=/b"],
        ] {
            assert_eq!(placed(wrong).unwrap_err().kind(), ErrorKind::Invalid, "{wrong:?}");
        }
        let error = placed(&["none=/a"]).unwrap_err();
        assert_eq!(error.remedy().unwrap(), "it has fast (16399), 16399 (16400)");
    }
}
