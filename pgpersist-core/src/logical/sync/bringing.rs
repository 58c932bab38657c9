//! [`Bringing`]: a planned object and its side file into one copy, as they are or encrypted on their way.

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::error::{Error, ErrorKind, Result};
use crate::key_ring::writer::WriteKey;
use crate::logical::name::SIDE_FILE_SUFFIX;
use crate::logical::shelf::Shelf;
use crate::logical::side_file::{SideEncryption, SideFile};
use crate::logical::sync::objects::{Original, Standing, Way, within};
use crate::logical::sync::plan::{PlannedCopy, Step};
use crate::store::ObjectKey;

/// One copy that is being brought up to date.
pub(super) struct Bringing<'a> {
    way: Way<'a>,
    there: Shelf,
    /// To whom it is encrypted, once that was asked for.
    write_key: OnceCell<Option<WriteKey>>,
}

impl<'a> Bringing<'a> {
    /// `there` is the shelf that `way` leads to.
    pub(super) fn new(way: Way<'a>, there: Shelf) -> Self {
        Self { way, there, write_key: OnceCell::new() }
    }

    /// Brings one name, and tells whether there was anything to bring. A dump comes before its side file, which is read first: it tells
    /// what the dump must be.
    pub(super) async fn step(&self, planned: &PlannedCopy) -> Result<bool> {
        let (size_bytes, side_object) = match &planned.step {
            Step::Roles { size_bytes } => (*size_bytes, None),
            Step::Dump { size_bytes, side_file } => (*size_bytes, side_file.as_ref()),
            Step::SideFile { size_bytes, side_file } => (*size_bytes, Some(side_file)),
        };
        let side = match side_object {
            Some(object) => Some(self.way.side_file(&object.key).await?),
            None => None,
        };
        let sha256 = side.as_ref().map(|(_, side_file)| side_file.sha256.as_str());
        let original = Original { key: &planned.from, size_bytes, sha256 };
        let stands_already = matches!(planned.step, Step::SideFile { .. });
        let side_bytes = if planned.is_sealed() {
            let Some((standing, key)) = self.sealed(planned, &original, stands_already).await? else { return Ok(false) };
            let of_what_stands = |(_, side_file): (Bytes, SideFile)| {
                SideFile {
                    size_bytes: standing.size_bytes,
                    sha256: standing.sha256,
                    encryption: Some(SideEncryption::from(&key)),
                    ..side_file
                }
                .to_bytes()
            };
            side.map(of_what_stands).transpose()?
        } else {
            if !stands_already {
                self.way.copy(&planned.name, size_bytes, sha256).await?;
            } else if let Some(reason) = self.way.compare(&planned.name, size_bytes, sha256).await? {
                return Err(Error::conflict(format!("it stands there without its side file, and is something else: {reason}"), ""));
            }
            side.map(|(bytes, _)| bytes)
        };
        if let Some(bytes) = side_bytes {
            self.way.put(&side_key(planned)?, bytes).await?;
        }
        Ok(true)
    }

    /// Encrypts it on its way. What stands there already, as after a kill before the side file came, is looked into, where a key at
    /// hand opens it; else nothing is said of it.
    async fn sealed(&self, planned: &PlannedCopy, original: &Original<'_>, stands_already: bool) -> Result<Option<(Standing, WriteKey)>> {
        let sealed = if stands_already { None } else { Some(self.way.seal(original, &planned.name, &self.write_key().await?.all()).await) };
        let standing = match sealed {
            Some(Err(error)) if error.kind() != ErrorKind::Conflict => return Err(error),
            Some(Ok(standing)) => Some(standing),
            Some(Err(_)) | None => self.way.compare_sealed(&self.there, &planned.name, original).await?,
        };
        let Some(standing) = standing else { return Ok(None) };
        Ok(Some((standing, self.write_key().await?)))
    }

    async fn write_key(&self) -> Result<WriteKey> {
        let key = self.write_key.get_or_try_init(|| async {
            within(self.way.stall, self.there.write_key(), || format!("say to whom dumps in {} are encrypted", self.way.to)).await
        });
        key.await?.clone().ok_or_else(|| Error::Bug(format!("{} is not encrypted, and something was to be", self.way.to)))
    }
}

fn side_key(planned: &PlannedCopy) -> Result<ObjectKey> {
    format!("{}{SIDE_FILE_SUFFIX}", planned.name).parse()
}
