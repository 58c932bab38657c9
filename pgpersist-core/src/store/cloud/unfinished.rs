//! Uploads that never ended: whoever was killed has left parts, which nobody sees and which cost; on Google also a whole object that
//! never got its name. Azure forgets blocks that no list names after a week, and tells nobody of them.
//!
//! Format: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>, which Google's XML API speaks as well.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::fs::durable::TEMPORARY_SUFFIX;
use crate::store::IsOurs;
use crate::store::cloud::backup_store::Bucket;
use crate::store::cloud::errors;
use crate::store::cloud::opened::Publishing;
use crate::store::cloud::requests::Requests;
use crate::store::cloud::trouble::Trouble;
use crate::store::cloud_url::Cloud;

/// Below this, behind the store's prefix, lies what has no name yet where a name is given by a copy.
pub(super) const HIDDEN: &str = ".pgpersist/uploads";
/// So many pages are looked at, at a thousand uploads each. What is behind them comes next time.
const MOST_PAGES: usize = 100;

/// A page of uploads.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Uploads {
    is_truncated: bool,
    encoding_type: Option<String>,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
    #[serde(rename = "Upload")]
    uploads: Vec<Unfinished>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Unfinished {
    key: String,
    upload_id: String,
    initiated: Option<String>,
}

/// A page of the parts of an upload.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Parts {
    is_truncated: bool,
    next_part_number_marker: Option<String>,
    #[serde(rename = "Part")]
    parts: Vec<Part>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Part {
    last_modified: Option<String>,
}

impl Bucket {
    /// Where an upload has its place until it is copied to its name.
    pub(super) fn hidden(&self, nonce: &str) -> Option<Path> {
        Path::parse(format!("{}/{nonce}{TEMPORARY_SUFFIX}", self.hidden_folder())).ok()
    }

    fn hidden_folder(&self) -> String {
        let prefix = self.url.prefix();
        if prefix.is_empty() { HIDDEN.to_owned() } else { format!("{prefix}/{HIDDEN}") }
    }

    /// Has those forgotten that are ours and have shown no sign of life for so long; tells how many.
    pub(super) async fn remove_unfinished(&self, idle: Duration, is_ours: &IsOurs<'_>) -> Result<u64> {
        let Some(requests) = self.requests.as_ref().filter(|_| self.url.cloud() != Cloud::Azure) else { return Ok(0) };
        let uploads = self.unfinished(requests).await?;
        let mut removed = 0;
        for upload in uploads.iter().filter(|upload| self.is_ours(&upload.key, is_ours)) {
            let Some(begun) = moment(upload.initiated.as_deref()) else { continue };
            let Ok(path) = Path::parse(&upload.key) else { continue };
            let since = self.now() - idle;
            // One that goes on for days sends parts all the time.
            if begun > since || self.last_part(requests, &path, &upload.upload_id).await?.is_some_and(|sent| sent > since) {
                continue;
            }
            match requests.delete(&path, &[("uploadId", &upload.upload_id)]).await {
                Ok(()) => removed += 1,
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(self.told("end an upload that was given up", error)),
            }
        }
        if self.publishing == Publishing::Copied {
            removed += self.remove_hidden(idle).await?;
        }
        Ok(removed)
    }

    /// All that the server tells of, below the store's prefix.
    async fn unfinished(&self, requests: &Requests) -> Result<Vec<Unfinished>> {
        let prefix = match self.publishing {
            Publishing::Copied => format!("{}/", self.hidden_folder()),
            Publishing::Conditional if self.url.prefix().is_empty() => String::new(),
            Publishing::Conditional => format!("{}/", self.url.prefix()),
        };
        let mut found = Vec::new();
        let (mut key, mut id) = (String::new(), String::new());
        for _ in 0..MOST_PAGES {
            let mut query = vec![("uploads", ""), ("prefix", prefix.as_str()), ("encoding-type", "url")];
            if !key.is_empty() {
                query.extend([("key-marker", key.as_str()), ("upload-id-marker", id.as_str())]);
            }
            let doing = "list the uploads that never ended";
            let page: Uploads = read(&requests.ask(None, &query).await.map_err(|error| self.told(doing, error))?)?;
            let is_encoded = page.encoding_type.as_deref() == Some("url");
            let decode = |text: String| if is_encoded { decoded(&text) } else { text };
            found.extend(page.uploads.into_iter().map(|upload| Unfinished { key: decode(upload.key), ..upload }));
            let next = (page.next_key_marker.map(decode).unwrap_or_default(), page.next_upload_id_marker.unwrap_or_default());
            if !page.is_truncated || next.0.is_empty() || next == (key.clone(), id.clone()) {
                break;
            }
            (key, id) = next;
        }
        Ok(found)
    }

    fn is_ours(&self, name: &str, is_ours: &IsOurs<'_>) -> bool {
        if self.publishing == Publishing::Copied {
            // Nobody else has anything there.
            return name.starts_with(&format!("{}/", self.hidden_folder())) && name.ends_with(TEMPORARY_SUFFIX);
        }
        let prefix = self.url.prefix();
        let below = if prefix.is_empty() { Some(name) } else { name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')) };
        below.and_then(|key| key.parse().ok()).is_some_and(|key| is_ours(&key))
    }

    /// When the last part arrived, if one did.
    async fn last_part(&self, requests: &Requests, path: &Path, id: &str) -> Result<Option<OffsetDateTime>> {
        let (mut last, mut marker) = (None, String::new());
        for _ in 0..MOST_PAGES {
            let mut query = vec![("uploadId", id)];
            if !marker.is_empty() {
                query.push(("part-number-marker", &marker));
            }
            let page: Parts = match requests.ask(Some(path), &query).await {
                Ok(document) => read(&document)?,
                Err(error) if is_gone(&error) => return Ok(last),
                Err(error) => return Err(self.told("list the parts of an upload", error)),
            };
            last = page.parts.iter().filter_map(|part| moment(part.last_modified.as_deref())).chain(last).max();
            let next = page.next_part_number_marker.unwrap_or_default();
            if !page.is_truncated || next.is_empty() || next == marker {
                break;
            }
            marker = next;
        }
        Ok(last)
    }

    /// Removes objects that were to be copied and never were.
    async fn remove_hidden(&self, idle: Duration) -> Result<u64> {
        let folder = Path::parse(self.hidden_folder()).map_err(|_| Error::Bug(format!("{HIDDEN} is no folder")))?;
        let mut removed = 0;
        let mut listed = self.client.list(Some(&folder));
        while let Some(object) = listed.try_next().await.map_err(|error| self.told("list what has no name yet", error))? {
            let is_old = object.last_modified.timestamp() <= (self.now() - idle).unix_timestamp();
            if !is_old || !object.location.as_ref().ends_with(TEMPORARY_SUFFIX) {
                continue;
            }
            match self.client.delete(&object.location).await {
                Ok(()) => removed += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.told("delete what was given up", error)),
            }
        }
        Ok(removed)
    }

    /// The server's time, since it is the server who dates uploads.
    fn now(&self) -> OffsetDateTime {
        self.habits.server_time().unwrap_or_else(|| SystemClock.now())
    }

    fn told(&self, doing: &str, error: object_store::Error) -> Error {
        errors::translate(&self.url, doing, error)
    }
}

/// Whether somebody else has ended it meanwhile.
fn is_gone(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
        || matches!(Trouble::within(error), Some(Trouble::Refused(refusal)) if refusal.is(&["NoSuchUpload"]))
}

/// A name of a list, where a space may be a plus, and a plus never is itself.
fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

fn moment(text: Option<&str>) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text?, &Rfc3339).ok()
}

/// Reads a document of XML. Its size is bounded by whoever asked for it; entities that it declares itself mean nothing.
fn read<T: DeserializeOwned>(document: &Bytes) -> Result<T> {
    let fault = |why: String| Error::unavailable(format!("the server's list cannot be read: {why}"), "look whether it is a server of S3");
    let text = std::str::from_utf8(document).map_err(|error| fault(error.to_string()))?;
    quick_xml::de::from_str(text).map_err(|error| fault(error.to_string().chars().filter(|c| !c.is_control()).take(200).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_is_read() {
        let page: Uploads = read(&Bytes::from_static(
            b"<?xml version=\"1.0\"?><ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>b</Bucket>\
              <KeyMarker></KeyMarker><IsTruncated>true</IsTruncated><NextKeyMarker>a&amp;b</NextKeyMarker><Upload><Key>a&amp;b</Key>\
              <UploadId>1</UploadId><Owner><ID>x</ID></Owner><Initiated>2026-11-26T10:00:00.000Z</Initiated></Upload><CommonPrefixes>\
              <Prefix>p</Prefix></CommonPrefixes><Upload><Key>c</Key><UploadId>2</UploadId></Upload></ListMultipartUploadsResult>",
        ))
        .unwrap();
        assert!(page.is_truncated);
        assert_eq!((page.next_key_marker.as_deref(), page.uploads.len()), (Some("a&b"), 2));
        assert_eq!((page.uploads[0].key.as_str(), page.uploads[1].upload_id.as_str()), ("a&b", "2"));
        assert!(moment(page.uploads[0].initiated.as_deref()).is_some() && moment(page.uploads[1].initiated.as_deref()).is_none());
        let none: Uploads = read(&Bytes::from_static(b"<ListMultipartUploadsResult/>")).unwrap();
        assert!(none.uploads.is_empty() && !none.is_truncated);
    }

    #[test]
    fn names_are_decoded() {
        assert_eq!(decoded("db+1/Z%25C3%25BCrich/a%2Bb%20c"), "db 1/Z%C3%BCrich/a+b c");
    }

    #[test]
    fn parts_are_read() {
        let page: Parts = read(&Bytes::from_static(
            b"<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber><LastModified>2026-11-26T10:00:00Z\
              </LastModified></Part></ListPartsResult>",
        ))
        .unwrap();
        assert!(moment(page.parts[0].last_modified.as_deref()).is_some());
    }

    #[test]
    fn entities_of_a_document_are_not_followed() {
        let document = "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\"><!ENTITY f \"&e;&e;\">]><ListMultipartUploadsResult><Upload>\
                        <Key>&f;&e;</Key><UploadId>1</UploadId></Upload></ListMultipartUploadsResult>";
        assert!(read::<Uploads>(&Bytes::from(document)).is_err());
    }

    proptest! {
        #[test]
        fn no_document_causes_a_panic(text in "(<|>|/|&|;|Upload|Key|IsTruncated|true|[ -~]){0,60}") {
            let _ = read::<Uploads>(&Bytes::from(text.clone()));
            let _ = read::<Parts>(&Bytes::from(text));
        }
    }
}
