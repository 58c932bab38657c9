//! What a bucket does with what is deleted or written over: whether it keeps old versions, and whether it locks new ones.
//!
//! S3 alone can be asked with the rights of whoever writes there; of the others it shows when they refuse to delete.

use serde::Deserialize;

use crate::store::cloud::backup_store::Bucket;
use crate::store::cloud::errors;
use crate::store::cloud::requests::Requests;
use crate::store::cloud_url::Cloud;
use crate::store::observation::Observation;

const VERSIONING: &str = "versioning";
const OBJECT_LOCK: &str = "object_lock";

/// Answer to `GetBucketVersioning`.
#[derive(Debug, Deserialize)]
struct Versioning {
    #[serde(rename = "Status")]
    status: Option<String>,
}

/// Answer to `GetObjectLockConfiguration`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObjectLock {
    object_lock_enabled: Option<String>,
    rule: Option<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    default_retention: Option<Retention>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Retention {
    mode: Option<String>,
    days: Option<u32>,
    years: Option<u32>,
}

impl Bucket {
    /// Both answers, on S3.
    pub(super) async fn protection(&self) -> Vec<Observation> {
        match &self.requests {
            Some(requests) if self.url.cloud() == Cloud::S3 => vec![self.versioning(requests).await, self.object_lock(requests).await],
            _ => Vec::new(),
        }
    }

    async fn versioning(&self, requests: &Requests) -> Observation {
        let told = requests.ask(None, &[("versioning", "")]).await;
        let text = match told {
            Ok(document) => String::from_utf8_lossy(&document).into_owned(),
            Err(error) => return self.not_known(VERSIONING, "whether the bucket keeps old versions", error),
        };
        match versioning(&text) {
            None => Observation::unknown(VERSIONING, "the server does not tell whether the bucket keeps old versions"),
            Some(true) => Observation::pass(
                VERSIONING,
                "the bucket keeps old versions: what is dropped stays there, unseen, until a lifecycle rule removes it",
            ),
            Some(false) => Observation::pass(VERSIONING, "the bucket keeps no old versions: what is dropped is gone"),
        }
    }

    async fn object_lock(&self, requests: &Requests) -> Observation {
        let told = requests.ask(None, &[("object-lock", "")]).await;
        let text = match told {
            Ok(document) => String::from_utf8_lossy(&document).into_owned(),
            // That is how a bucket without it answers.
            Err(object_store::Error::NotFound { .. }) => return Observation::pass(OBJECT_LOCK, NO_LOCK),
            Err(error) => return self.not_known(OBJECT_LOCK, "whether the bucket locks its objects", error),
        };
        match object_lock(&text) {
            None => Observation::unknown(OBJECT_LOCK, "the server does not tell whether the bucket locks its objects"),
            Some(told) => Observation::pass(OBJECT_LOCK, told),
        }
    }

    fn not_known(&self, name: &'static str, what: &str, error: object_store::Error) -> Observation {
        let error = errors::translate(&self.url, &format!("find out {what}"), error);
        let why = error.causes().into_iter().next().unwrap_or_else(|| error.to_string());
        Observation::unknown(name, format!("{what} is not known: {why}"))
    }
}

const NO_LOCK: &str = "the bucket locks no objects: who may delete versions there can remove everything";

/// Whether old versions are kept, where the document says anything of it: some servers answer any question with a list of objects.
fn versioning(document: &str) -> Option<bool> {
    // The second is moto's word for it.
    if !["<VersioningConfiguration", "<GetBucketVersioning"].iter().any(|root| document.contains(root)) {
        return None;
    }
    let told: Versioning = quick_xml::de::from_str(document).ok()?;
    Some(told.status.as_deref() == Some("Enabled"))
}

/// What the document says of locks, in words.
fn object_lock(document: &str) -> Option<String> {
    if !document.contains("<ObjectLockConfiguration") {
        return None;
    }
    let told: ObjectLock = quick_xml::de::from_str(document).ok()?;
    if told.object_lock_enabled.as_deref() != Some("Enabled") {
        return Some(NO_LOCK.to_owned());
    }
    let Some(rule) = told.rule.and_then(|rule| rule.default_retention) else {
        return Some("the bucket can lock objects, and locks new ones only when somebody asks: it has no default retention".to_owned());
    };
    let time = match (rule.days, rule.years) {
        (Some(1), _) => "a day".to_owned(),
        (Some(days), _) => format!("{days} days"),
        (None, Some(1)) => "a year".to_owned(),
        (None, Some(years)) => format!("{years} years"),
        (None, None) => "a time".to_owned(),
    };
    let who = match rule.mode.as_deref() {
        Some("COMPLIANCE") => "nobody can remove them before",
        _ => "only who may bypass that can remove them before",
    };
    Some(format!("new objects are locked for {time}: {who}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versioning_is_read_and_nothing_else_is_taken_for_it() {
        let says = |inner: &str| versioning(&format!("<VersioningConfiguration xmlns=\"x\">{inner}</VersioningConfiguration>"));
        assert_eq!(says("<Status>Enabled</Status><MfaDelete>Disabled</MfaDelete>"), Some(true));
        assert_eq!((says("<Status>Suspended</Status>"), says("")), (Some(false), Some(false)));
        for none in ["", "<ListBucketResult><Name>b</Name></ListBucketResult>", "{}", "<VersioningConfiguration><Status>"] {
            assert_eq!(versioning(none), None, "{none}");
        }
    }

    #[test]
    fn a_lock_is_told_in_words() {
        let says = |inner: &str| object_lock(&format!("<ObjectLockConfiguration>{inner}</ObjectLockConfiguration>")).unwrap();
        let rule = |mode: &str, time: &str| {
            says(&format!(
                "<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>{mode}</Mode>{time}</DefaultRetention></Rule>"
            ))
        };
        assert!(rule("COMPLIANCE", "<Days>30</Days>").contains("locked for 30 days: nobody"));
        assert!(rule("GOVERNANCE", "<Years>1</Years>").contains("a year: only who may bypass"));
        assert!(says("<ObjectLockEnabled>Enabled</ObjectLockEnabled>").contains("no default retention"));
        assert_eq!(says(""), NO_LOCK);
        assert_eq!(object_lock("<Error/>"), None);
    }
}
