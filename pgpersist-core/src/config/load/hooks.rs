//! `[hooks]`: who is told, and what of it may be shown.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::keys::Kind;
use crate::config::load::Merged;
use crate::config::value::{self, Source, Value};
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::web_url::WebUrl;

/// `[hooks]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HooksConfig {
    /// The program that is run with each event, and its arguments, which may be secrets.
    pub command: Option<Secret<Vec<String>>>,
    /// Where events are posted.
    pub webhook: Option<WebUrl>,
    /// The file that holds that address, since most often it is a secret.
    pub webhook_file: Option<PathBuf>,
    /// The file with the token that is sent along.
    pub webhook_token_file: Option<PathBuf>,
    /// The certificates of whom `https://` trusts, instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// How often health is looked at.
    pub interval: Duration,
    /// How long a hook may take for one event.
    pub deadline: Duration,
    /// What is called while all is well.
    pub heartbeat: Option<WebUrl>,
    /// How often.
    pub heartbeat_interval: Duration,
}

impl HooksConfig {
    /// Whether there is anybody who is told something.
    pub fn is_empty(&self) -> bool {
        self.command.is_none() && self.webhook.is_none() && self.webhook_file.is_none() && self.heartbeat.is_none()
    }
}

impl Merged {
    pub(super) fn hooks(&self) -> Result<HooksConfig> {
        if let (Some(_), Some(file)) = (self.values.get("hooks.webhook"), self.values.get("hooks.webhook_file")) {
            let remedy = "remove one of the two".to_owned();
            return Err(value::wrong(&file.source, "hooks.webhook_file", "`webhook` names an address already", Some(remedy)));
        }
        Ok(HooksConfig {
            command: match self.values.get("hooks.command").map(|sourced| &sourced.value) {
                Some(Value::List(words)) => Some(Secret::new(words.clone())),
                _ => None,
            },
            webhook: self.url("hooks.webhook")?,
            webhook_file: self.path("hooks.webhook_file"),
            webhook_token_file: self.path("hooks.webhook_token_file"),
            ca_file: self.path("hooks.ca_file"),
            interval: self.duration_from("hooks.interval", Duration::from_secs(1))?,
            deadline: self.duration_from("hooks.deadline", Duration::from_secs(1))?,
            heartbeat: self.url("hooks.heartbeat")?,
            heartbeat_interval: self.duration_from("hooks.heartbeat_interval", Duration::from_secs(1))?,
        })
    }

    fn url(&self, key: &str) -> Result<Option<WebUrl>> {
        let convert = |text: String| text.parse().map_err(|_| Error::Bug(format!("`{key}` is no address, which its check let pass")));
        self.text(key).map(convert).transpose()
    }

    fn duration_from(&self, key: &str, least: Duration) -> Result<Duration> {
        let duration = self.duration(key)?;
        match self.values.get(key).filter(|_| duration < least) {
            Some(found) => {
                Err(value::wrong(&found.source, key, &format!("expected at least {} s, found `{}`", least.as_secs(), found.value), None))
            }
            None => Ok(duration),
        }
    }

    /// What says how a hook goes, where there is none.
    pub(super) fn unused_of_hooks(&self) -> Vec<String> {
        let set = |key: &str| self.values.get(key).filter(|sourced| sourced.source != Source::Default);
        let has_webhook = set("hooks.webhook").or(set("hooks.webhook_file")).is_some();
        let has_heartbeat = set("hooks.heartbeat").is_some();
        let has_any = has_webhook || has_heartbeat || set("hooks.command").is_some();
        let needs = [
            ("hooks.webhook_token_file", has_webhook, "`hooks.webhook`"),
            ("hooks.ca_file", has_webhook || has_heartbeat, "`hooks.webhook` or `hooks.heartbeat`"),
            ("hooks.interval", has_any, "a hook"),
            ("hooks.deadline", has_any, "a hook"),
            ("hooks.heartbeat_interval", has_heartbeat, "`hooks.heartbeat`"),
        ];
        let needs = needs.into_iter().filter(|(_, is_there, _)| !is_there);
        let mut unused: Vec<String> =
            needs.filter_map(|(key, _, what)| Some(format!("`{key}` ({}) has no effect without {what}", set(key)?.source))).collect();
        let url = self.url("hooks.webhook").ok().flatten().filter(|url| !url.is_encrypted() && !url.is_loopback());
        if let (Some(url), Some(token)) = (url, set("hooks.webhook_token_file")) {
            unused.push(format!("`hooks.webhook_token_file` ({}) goes to {url} for everybody on the way to read", token.source));
        }
        unused
    }
}

/// An address without what follows its host, and a command without its arguments: both may be, or hold, a password.
pub(super) fn without_secrets(kind: Kind, value: &Value) -> serde_json::Value {
    match (kind, value) {
        (Kind::Url, Value::Text(text)) => text.parse().map_or_else(|_| "***".to_owned(), |url: WebUrl| format!("{url}/***")).into(),
        (Kind::Command, Value::List(words)) => {
            let hidden = words.iter().enumerate().map(|(at, word)| if at == 0 { word.as_str() } else { "***" });
            hidden.collect::<Vec<_>>().into()
        }
        _ => value.to_json(),
    }
}
