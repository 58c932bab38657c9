//! What a server really does, found out by trying: conditions, checksums, its clock; and what it says of its bucket.

use bytes::Bytes;
use object_store::{Attributes, CopyMode, CopyOptions, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload};

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::store::cloud::backup_store::Bucket;
use crate::store::cloud::opened::Publishing;
use crate::store::cloud::transport::Tampered;
use crate::store::observation::Observation;
use crate::store::{ObjectKey, conditions};

/// From here on a server may refuse signatures, and from the first on it is worth a word; in seconds.
const SKEW_FAILS: i64 = 300;
const SKEW_WARNS: i64 = 30;

impl Bucket {
    /// Everything that is to be found out.
    pub(super) async fn observe(&self, scratch: &ObjectKey) -> Result<Vec<Observation>> {
        let mut observed = vec![
            self.conditional_put(&scratch.join("conditional_put")?).await?,
            self.conditional_upload(&scratch.join("conditional_upload")?).await?,
            self.checksum(&scratch.join("checksum")?).await?,
            self.clock(),
        ];
        observed.extend(self.protection().await);
        Ok(observed)
    }

    /// Whether a request alone, without a look before it, keeps a name.
    async fn conditional_put(&self, key: &ObjectKey) -> Result<Observation> {
        let path = self.path(key)?;
        let mut ends = Vec::new();
        for text in ["first", "second"] {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            ends.push(self.client.put_opts(&path, Bytes::from_static(text.as_bytes()).into(), options).await);
        }
        let second = ends.pop();
        if let Some(Err(error)) = ends.pop() {
            return Ok(no_condition("conditional_put", &self.fault("write", key, error)));
        }
        Ok(match second {
            Some(Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })) => {
                Observation::pass("conditional_put", "a name is given on the condition that it is free")
            }
            Some(Err(error)) => no_answer("conditional_put", &self.fault("write", key, error)),
            _ => ignored("conditional_put", "the server ignores the condition that a name is free, and overwrites"),
        })
    }

    /// The same for an object that is uploaded in parts.
    async fn conditional_upload(&self, key: &ObjectKey) -> Result<Observation> {
        const NAME: &str = "conditional_upload";
        let path = self.path(key)?;
        let fault = |error| self.fault("write", key, error);
        self.client.put(&path, Bytes::from_static(b"first").into()).await.map_err(fault)?;
        let end = match self.publishing {
            Publishing::Conditional => {
                let options = PutMultipartOptions { attributes: Attributes::new(), ..PutMultipartOptions::default() };
                let mut upload = self.client.put_multipart_opts(&path, options).await.map_err(fault)?;
                upload.put_part(PutPayload::from_static(b"second")).await.map_err(fault)?;
                let end = upload.complete().await.map(|_| ());
                if end.is_err() {
                    // What is to be forgotten is no answer to the question.
                    let _ = upload.abort().await;
                }
                end
            }
            Publishing::Copied => {
                let hidden = self.path(&key.join("hidden")?)?;
                self.client.put(&hidden, Bytes::from_static(b"second").into()).await.map_err(fault)?;
                self.client.copy_opts(&hidden, &path, CopyOptions { mode: CopyMode::Create, ..CopyOptions::default() }).await
            }
        };
        Ok(match end {
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Observation::pass(NAME, "the same holds for objects that are uploaded in parts")
            }
            Err(error) => no_answer(NAME, &self.fault("write", key, error)),
            Ok(()) => ignored(NAME, "the server ignores the condition at the end of an upload in parts, and overwrites"),
        })
    }

    /// Whether the server notices that what arrives is not what was sent.
    async fn checksum(&self, key: &ObjectKey) -> Result<Observation> {
        const NAME: &str = "checksum";
        if self.url.option("checksum") == Some("none") {
            return Ok(Observation::unknown(NAME, "requests carry no checksum: TLS and each dump's own SHA-256 guard what is written"));
        }
        let path = self.path(key)?;
        let mut options = PutOptions::default();
        options.extensions.insert(Tampered);
        Ok(match self.client.put_opts(&path, Bytes::from_static(b"what is sent").into(), options).await {
            Err(_) => Observation::pass(NAME, "what changes on its way is refused"),
            Ok(_) => Observation::warn(
                NAME,
                "the server takes what changed on its way",
                "each dump's own SHA-256 finds it out: let `verify` read the dumps again",
            ),
        })
    }

    fn clock(&self) -> Observation {
        const NAME: &str = "clock";
        let Some(server) = self.habits.server_time() else { return Observation::unknown(NAME, "the server does not tell its time") };
        let skew = (SystemClock.now() - server).whole_seconds();
        let told = match skew {
            ..0 => format!("this machine's clock is {} s behind the server's", -skew),
            0 => "this machine's clock and the server's agree".to_owned(),
            _ => format!("this machine's clock is {skew} s ahead of the server's"),
        };
        match skew.abs() {
            0..SKEW_WARNS => Observation::pass(NAME, told),
            SKEW_WARNS..SKEW_FAILS => Observation::warn(NAME, told, "set the clock, as by NTP"),
            _ => Observation::fail(NAME, told, "set the clock, as by NTP: signatures of requests count on it"),
        }
    }
}

fn ignored(name: &'static str, told: &str) -> Observation {
    Observation::warn(name, told, conditions::REMEDY)
}

/// Where the second writer of a name was refused, and not for the condition.
fn no_answer(name: &'static str, error: &Error) -> Observation {
    match error.kind() {
        ErrorKind::Denied => Observation::unknown(name, "these credentials may not replace: no condition is needed for a name to be kept"),
        _ => no_condition(name, error),
    }
}

fn no_condition(name: &'static str, error: &Error) -> Observation {
    let why = error.causes().into_iter().next().unwrap_or_else(|| error.to_string());
    Observation::fail(name, format!("the server does not take the condition that a name is free: {why}"), "use another server")
}
