//! [`StoreUrl`]: where a store is, as people write it: `file:///app/backups/postgres`, just the path, or `s3://bucket/prefix`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Result};
use crate::store::cloud_url::{Cloud, CloudUrl};

/// The address of a store, checked but not opened. It never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreUrl {
    /// A folder on this machine; a relative one counts from the current directory at the moment it is opened.
    Folder(PathBuf),
    /// A bucket, or a part of one.
    Cloud(CloudUrl),
}

impl StoreUrl {
    /// The folder, for stores that are one: health looks where it lies.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Cloud(_) => None,
        }
    }
}

impl From<PathBuf> for StoreUrl {
    fn from(path: PathBuf) -> Self {
        Self::Folder(path)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(formatter),
            Self::Cloud(url) => url.fmt(formatter),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = Error;

    /// Reads `file:///absolute/path` (percent-encoded), a bare path, or the address of a [`CloudUrl`].
    ///
    /// # Errors
    /// `Invalid`, which never repeats a URL with a password in it.
    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() || text.contains('\0') {
            return Err(Error::invalid("the store has no address", "name a folder, such as `--store /app/backups/postgres`"));
        }
        let Some((scheme, rest)) = scheme(text) else { return Ok(Self::Folder(text.into())) };
        let authority = rest.strip_prefix("//").map_or("", |rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        if authority.contains('@') {
            return Err(Error::invalid(
                format!("the address of the {scheme} store holds a user name or a password"),
                "leave out what stands before the `@`: credentials come from files or the environment",
            ));
        }
        match scheme.as_str() {
            "file" => file(text, rest),
            "s3" => CloudUrl::parse(Cloud::S3, rest).map(Self::Cloud),
            "gs" => CloudUrl::parse(Cloud::Gcs, rest).map(Self::Cloud),
            "az" => CloudUrl::parse(Cloud::Azure, rest).map(Self::Cloud),
            _ => Err(Error::invalid(
                format!("`{scheme}:` is no kind of store"),
                "use `s3://`, `gs://`, `az://`, `file:///absolute/path` or a path; a path that holds a colon begins with `/` or `./`",
            )),
        }
    }
}

/// The scheme and the rest of what looks like a URL: `C:` has only one letter, `./a:b` has a slash before the colon.
fn scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let looks = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (looks && (rest.starts_with("//") || scheme.eq_ignore_ascii_case("file"))).then(|| (scheme.to_ascii_lowercase(), rest))
}

fn file(text: &str, rest: &str) -> Result<StoreUrl> {
    let wrong = |why: &str| {
        let text: String = text.chars().take(200).flat_map(char::escape_debug).collect();
        Error::invalid(format!("`{text}` is no address of a folder: {why}"), "write `file:///absolute/path`, with three slashes")
    };
    let path = rest.strip_prefix("//").ok_or_else(|| wrong("the slashes are missing"))?;
    let path = path.strip_prefix("localhost").unwrap_or(path);
    if !path.starts_with('/') {
        return Err(wrong("it names another host, or a relative path"));
    }
    if path.contains(['?', '#']) {
        return Err(wrong("write `?` as %3F and `#` as %23"));
    }
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| wrong("it is not UTF-8"))?;
    if decoded.contains('\0') {
        return Err(wrong("it holds a NUL"));
    }
    Ok(StoreUrl::Folder(PathBuf::from(decoded.into_owned())))
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn paths_and_file_urls_name_folders() {
        for (text, path) in [
            ("file:///app/backups/postgres", "/app/backups/postgres"),
            ("FILE://localhost/a%20b", "/a b"),
            ("/app/backups", "/app/backups"),
            ("backups", "backups"),
            ("./a:b", "./a:b"),
            ("a:b", "a:b"),
            ("-x", "-x"),
        ] {
            assert_eq!(text.parse::<StoreUrl>().unwrap().folder(), Some(Path::new(path)), "{text}");
        }
    }

    #[test]
    fn what_is_no_folder_is_refused_with_a_way_out() {
        for text in ["", "a\0b", "file:relative", "file://host/a", "file:///a?b", "file:///a%00", "file:///%ff", "https://example.org/"] {
            let error = text.parse::<StoreUrl>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text:?}");
            assert!(error.remedy().is_some(), "{text:?}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        for text in ["s3://key:hunter2@bucket/x", "file://me:hunter2@/x", "ftp://hunter2@h"] {
            let error = text.parse::<StoreUrl>().unwrap_err();
            let told = format!("{error} {:?} {error:?}", error.remedy());
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
