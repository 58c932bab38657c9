//! A stored dump that is encrypted, read as what is in it. Blocking.

use std::io::{self, BufRead, BufReader, Read};

use crate::encryption::decryptor::Decryptor;
use crate::encryption::fault::Fault;
use crate::encryption::header;
use crate::error::{Error, Result};
use crate::logical::gzip;
use crate::logical::name::ENCRYPTED_SUFFIX;
use crate::logical::opening::{self, Opening};
use crate::logical::place::Place;

const READ_BYTES: usize = 256 * 1024;

/// The content of an encrypted dump.
pub(super) type Content<R> = BufReader<Decryptor<R>>;

/// Whether it is encrypted, or ought to be: what has the name and not the form is not read as something else.
pub(super) fn is_encrypted(name: &str, start: &[u8]) -> bool {
    name.ends_with(ENCRYPTED_SUFFIX) || start.starts_with(header::FIRST_LINE)
}

/// Opens it, and sees to it that it lies where it belongs.
///
/// # Errors
/// `Denied` without a key that fits; `Damaged`, also where it belongs elsewhere.
pub(super) fn open<R: Read>(name: &str, source: R, opening: &Opening) -> Result<Content<R>> {
    if let Some(obstacle) = &opening.obstacle {
        return Err(obstacle.clone().into_error());
    }
    let opened = Decryptor::open(source, &opening.identities).map_err(|error| explain(name, error))?;
    let mut content = BufReader::with_capacity(READ_BYTES, opened);
    let start = content.fill_buf().map_err(|error| explain(name, error))?;
    if let Some(wrong) = opening.place.as_ref().and_then(|place| misplaced(place, start)) {
        return Err(Error::damaged(
            format!("{name} is not the dump that belongs there: {wrong}"),
            "choose another dump: see `pgpersist list`",
        ));
    }
    Ok(content)
}

/// Reads what is left, so that the end is proven to be there.
///
/// # Errors
/// As [`open`].
pub(super) fn finish<R: Read>(name: &str, mut content: Content<R>) -> Result<()> {
    io::copy(&mut content, &mut io::sink()).map(drop).map_err(|error| explain(name, error))
}

/// What is wrong where a dump says that it belongs elsewhere. One that says nothing was made elsewhere.
pub(super) fn misplaced(place: &Place, start: &[u8]) -> Option<String> {
    place.contradicts(&Place::parse(gzip::comment(start)?)?)
}

pub(super) fn explain(name: &str, error: io::Error) -> Error {
    match Fault::of(&error) {
        Some(Fault::NotAge) => {
            Error::damaged(format!("{name} is not encrypted, though its name says so"), "choose another dump: see `pgpersist list`")
        }
        Some(fault) => opening::explain(name, fault),
        None => Error::file("read", name, error),
    }
}
