//! [`LockedUntil`]: until when a store keeps an object as it is, by a lock or a retention period of its own, as it tells itself.

use object_store::client::HttpResponse;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStoreExt};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use crate::error::{Error, Result};
use crate::store::ObjectKey;
use crate::store::cloud::backup_store::Bucket;

/// Where an answer about an object tells it.
const HEADERS: &[&str] =
    &["x-amz-object-lock-retain-until-date", "x-goog-object-lock-retain-until-date", "x-ms-immutability-policy-until-date"];

/// Travels with an answer, since `object_store` hands on no header that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LockedUntil(pub(super) OffsetDateTime);

impl LockedUntil {
    /// Notes what an answer says.
    pub(super) fn note(response: &mut HttpResponse) {
        let headers = response.headers();
        let until = HEADERS.iter().find_map(|name| moment(headers.get(*name)?.to_str().ok()?));
        if let Some(until) = until {
            response.extensions_mut().insert(Self(until));
        }
    }
}

/// The moment that a message names behind "until", as Google's does.
pub(super) fn named_in(message: &str) -> Option<OffsetDateTime> {
    let (_, rest) = message.split_once(" until ")?;
    let word = rest.split_whitespace().next()?.trim_matches(|c: char| matches!(c, '\'' | '"' | ','));
    moment(word.strip_suffix('.').unwrap_or(word))
}

fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).or_else(|_| OffsetDateTime::parse(text, &Rfc2822)).ok()
}

impl Bucket {
    /// Removes an object.
    pub(super) async fn delete(&self, key: &ObjectKey, path: &Path) -> Result<()> {
        let deleted = match &self.requests {
            // Where the others delete in batches, which hide what is said of each object.
            Some(requests) => requests.delete(path, &[]).await,
            None => self.client.delete(path).await,
        };
        match deleted.map_err(|error| self.fault("delete", key, error)) {
            Err(Error::Locked { what, until: None, source }) => Err(Error::Locked { what, until: self.locked_until(path).await, source }),
            deleted => deleted,
        }
    }

    /// Until when an object is locked, if somebody tells.
    async fn locked_until(&self, path: &Path) -> Option<OffsetDateTime> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = self.client.get_opts(path, options).await.ok()?;
        found.extensions.get::<LockedUntil>().map(|until| until.0)
    }
}

#[cfg(test)]
mod tests {
    use object_store::client::HttpResponseBody;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_message_names_the_moment() {
        let told = "Object 'b/o' is subject to bucket's retention policy or object retention and cannot be deleted or overwritten until \
                    2026-11-30T10:00:00.5-08:00";
        assert_eq!(named_in(told), Some(datetime!(2026-11-30 18:00:00.5 UTC)));
        assert_eq!(named_in(&format!("{told}.")), Some(datetime!(2026-11-30 18:00:00.5 UTC)));
        for none in ["", "kept until", "kept until released", "kept until "] {
            assert_eq!(named_in(none), None, "{none}");
        }
    }

    #[test]
    fn an_answer_names_the_moment() {
        for (name, value) in [
            ("x-amz-object-lock-retain-until-date", "2026-11-30T18:00:00.000Z"),
            ("x-ms-immutability-policy-until-date", "Mon, 30 Nov 2026 18:00:00 GMT"),
        ] {
            let mut response = HttpResponse::new(HttpResponseBody::from(Vec::new()));
            response.headers_mut().insert(name, value.parse().unwrap());
            LockedUntil::note(&mut response);
            assert_eq!(response.extensions().get(), Some(&LockedUntil(datetime!(2026-11-30 18:00 UTC))), "{name}");
        }
    }
}
