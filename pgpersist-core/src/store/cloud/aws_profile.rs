//! The shared files of AWS's tools: `~/.aws/credentials` and `~/.aws/config`.
//!
//! Format: <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Result as TheirResult};

use crate::error::{Error, Result};
use crate::workers;

/// What a profile may say instead of keys that we cannot follow.
const BEYOND_US: &[&str] = &["role_arn", "sso_session", "sso_start_url", "credential_process", "web_identity_token_file"];

/// A named set of credentials in files, which are read again for each request: whoever renews them writes them there.
pub(super) struct Profile {
    name: String,
    credentials_file: PathBuf,
    config_file: PathBuf,
    region: Option<String>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Profile").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Profile {
    /// The profile of this name, or the one that the environment names, or `default`, in this file or the usual one; none when
    /// nobody named anything and there is no default with keys.
    pub(super) fn find(named: Option<&str>, credentials_file: Option<&str>) -> Result<Option<Self>> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let asked = named.map(str::to_owned).or_else(|| variable("AWS_PROFILE"));
        let home = variable("HOME").map(PathBuf::from);
        let file = |name, usual: &str| {
            variable(name).map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".aws").join(usual))).unwrap_or_default()
        };
        let profile = Self {
            name: asked.clone().unwrap_or_else(|| "default".to_owned()),
            credentials_file: credentials_file.map_or_else(|| file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), PathBuf::from),
            config_file: file("AWS_CONFIG_FILE", "config"),
            region: None,
        };
        profile.complete(asked.is_some() || credentials_file.is_some())
    }

    fn complete(mut self, is_asked: bool) -> Result<Option<Self>> {
        let settings = self.settings()?;
        self.region = settings.get("region").cloned();
        if settings.contains_key("aws_access_key_id") && settings.contains_key("aws_secret_access_key") {
            return Ok(Some(self));
        }
        if !is_asked {
            return Ok(None);
        }
        let files = format!("{} and {}", self.credentials_file.display(), self.config_file.display());
        match BEYOND_US.iter().find(|name| settings.contains_key(**name)) {
            Some(name) => Err(Error::invalid(
                format!("the profile `{}` gets its credentials by `{name}`, which pgpersist does not follow ({files})", self.name),
                "put keys into the environment: `eval \"$(aws configure export-credentials --profile NAME --format env)\"`",
            )),
            None => Err(Error::not_found(
                format!("there are no keys of a profile `{}` in {files}", self.name),
                "write `aws_access_key_id` and `aws_secret_access_key` there, or name another profile",
            )),
        }
    }

    /// The region that it names.
    pub(super) fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// What both files say of it; the credentials file is believed first.
    fn settings(&self) -> Result<BTreeMap<String, String>> {
        let section = if self.name == "default" { "default".to_owned() } else { format!("profile {}", self.name) };
        let mut settings = read(&self.config_file, &section)?;
        settings.extend(read(&self.credentials_file, &self.name)?);
        Ok(settings)
    }

    fn keys(&self) -> Result<AwsCredential> {
        let mut settings = self.settings()?;
        let mut take = |name: &str| settings.remove(name);
        let (key_id, secret_key) = (take("aws_access_key_id"), take("aws_secret_access_key"));
        let token = take("aws_session_token");
        match (key_id, secret_key) {
            (Some(key_id), Some(secret_key)) => Ok(AwsCredential { key_id, secret_key, token }),
            _ => Err(Error::not_found(format!("the keys of the profile `{}` are gone", self.name), "write them again")),
        }
    }
}

#[async_trait]
impl CredentialProvider for Profile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> TheirResult<Arc<AwsCredential>> {
        let again = Self {
            name: self.name.clone(),
            credentials_file: self.credentials_file.clone(),
            config_file: self.config_file.clone(),
            region: None,
        };
        let keys = workers::run(move || again.keys()).await;
        keys.map(Arc::new).map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })
    }
}

/// What a section of a file says; nothing when there is no file.
fn read(path: &Path, section: &str) -> Result<BTreeMap<String, String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(parse(&text, section)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(Error::file("read the credentials in", path, error)),
    }
}

fn parse(text: &str, section: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut is_ours = false;
    for line in text.lines() {
        // What is indented belongs to a setting with parts of its own, of which we need none.
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(name) = line.trim().strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            is_ours = name.split_whitespace().eq(section.split_whitespace());
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_ours) {
            let value = value.split(" #").next().unwrap_or(value).trim();
            settings.insert(name.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_read() {
        let text = "# comment\n[default]\naws_access_key_id = A\naws_secret_access_key=B=b\ns3 =\n  region = no\n\n[ profile  team ]\n\
                    region = eu-central-1 # ours\n[other]\nregion = us-east-1\n";
        assert_eq!(parse(text, "default")["aws_secret_access_key"], "B=b");
        assert!(!parse(text, "default").contains_key("region"));
        assert_eq!(parse(text, "profile team")["region"], "eu-central-1");
        assert!(parse(text, "nobody").is_empty());
    }

    fn profile(folder: &Path, credentials: &str, config: &str) -> Profile {
        let profile = Profile {
            name: "team".to_owned(),
            credentials_file: folder.join("credentials"),
            config_file: folder.join("config"),
            region: None,
        };
        #[expect(clippy::disallowed_methods, reason = "files of a test")]
        for (path, text) in [(&profile.credentials_file, credentials), (&profile.config_file, config)] {
            std::fs::write(path, text).unwrap();
        }
        profile
    }

    #[test]
    fn keys_come_from_both_files_and_may_change() {
        let folder = tempfile::tempdir().unwrap();
        let team = profile(folder.path(), "[team]\naws_access_key_id=A\naws_secret_access_key=B\n", "[profile team]\nregion=eu-west-1\n");
        let team = team.complete(true).unwrap().unwrap();
        assert_eq!(team.region(), Some("eu-west-1"));
        assert_eq!(team.keys().unwrap().key_id, "A");
        profile(folder.path(), "[team]\naws_access_key_id=C\naws_secret_access_key=D\naws_session_token=E\n", "");
        let renewed = team.keys().unwrap();
        assert_eq!((renewed.key_id.as_str(), renewed.token.as_deref()), ("C", Some("E")));
        assert!(!format!("{team:?}").contains('D'));
    }

    #[test]
    fn a_profile_without_keys_is_told_about() {
        let folder = tempfile::tempdir().unwrap();
        let error = profile(folder.path(), "", "[profile team]\nrole_arn=arn:x\n").complete(true).unwrap_err();
        assert!(error.to_string().contains("`role_arn`"), "{error}");
        let error = profile(folder.path(), "", "").complete(true).unwrap_err();
        assert!(error.to_string().contains("`team`"), "{error}");
        assert!(profile(folder.path(), "", "").complete(false).unwrap().is_none());
    }
}
