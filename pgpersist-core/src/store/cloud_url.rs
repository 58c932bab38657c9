//! [`CloudUrl`]: where a store in a cloud is: `s3://bucket/prefix?region=eu-central-1`, `gs://bucket/prefix`,
//! `az://container/prefix?account=acme`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, Result};
use crate::quantity;
use crate::store::ObjectKey;

/// Whose protocol a store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cloud {
    /// Amazon S3, or what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Cloud {
    /// The scheme of its addresses.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::S3 => "S3",
            Self::Gcs => "Google Cloud Storage",
            Self::Azure => "Azure Blob Storage",
        }
    }

    /// What it calls the place that holds objects.
    pub fn container(self) -> &'static str {
        if self == Self::Azure { "container" } else { "bucket" }
    }
}

/// What an option holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Switch,
    Endpoint,
    AbsolutePath,
    Duration,
    Count,
    Size,
    OneOf(&'static [&'static str]),
}

const EVERY: &[Cloud] = &[Cloud::S3, Cloud::Gcs, Cloud::Azure];

/// The options that may stand behind the `?`.
const OPTIONS: &[(&str, &[Cloud], Kind)] = &[
    ("account", &[Cloud::Azure], Kind::Text),
    ("allow_http", EVERY, Kind::Switch),
    ("ca_file", EVERY, Kind::AbsolutePath),
    ("checksum", &[Cloud::S3], Kind::OneOf(&["sha256", "crc64nvme", "none"])),
    ("concurrency", EVERY, Kind::Count),
    ("credentials_file", EVERY, Kind::AbsolutePath),
    ("deadline", EVERY, Kind::Duration),
    ("endpoint", EVERY, Kind::Endpoint),
    ("kms_key", &[Cloud::S3], Kind::Text),
    ("path_style", &[Cloud::S3], Kind::Switch),
    ("profile", &[Cloud::S3], Kind::Text),
    ("rate_limit", EVERY, Kind::Size),
    ("region", &[Cloud::S3], Kind::Text),
    ("server_side_encryption", &[Cloud::S3], Kind::OneOf(&["AES256", "aws:kms", "aws:kms:dsse"])),
    ("storage_class", EVERY, Kind::Text),
    ("tags", &[Cloud::S3, Cloud::Azure], Kind::Text),
];

/// What would be a credential if it stood behind the `?`.
const CREDENTIALS: &[&str] = &["key", "secret", "token", "password", "passphrase", "sig", "sas", "credential"];
/// The longest prefix, in bytes: keys below it have to fit into what the clouds allow.
const LONGEST_PREFIX: usize = 512;
const IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#').add(b'"').add(b'<').add(b'>').add(b'`');

/// The address of a store in a cloud, checked but not opened. It never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CloudUrl {
    cloud: Cloud,
    bucket: String,
    prefix: Option<ObjectKey>,
    options: BTreeMap<&'static str, String>,
}

impl CloudUrl {
    /// Reads what stands behind `scheme:`.
    ///
    /// # Errors
    /// `Invalid`, which never repeats what might be a credential.
    pub(crate) fn parse(cloud: Cloud, rest: &str) -> Result<Self> {
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let scheme = cloud.scheme();
        if query.contains('#') || place.contains('#') {
            return Err(wrong(cloud, "it holds a `#`", "write `#` as %23"));
        }
        if bucket.is_empty() {
            let container = cloud.container();
            return Err(wrong(cloud, &format!("it names no {container}"), &format!("write `{scheme}://{container}/prefix`")));
        }
        let named_well = bucket.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
        if !named_well || bucket.len() > 222 || bucket.starts_with(['-', '.']) || bucket.contains("..") {
            let remedy = "it holds letters, digits, `-`, `.` and `_`; options such as the region stand behind a `?`";
            return Err(wrong(cloud, &format!("`{}` is no name of a {}", shown(bucket), cloud.container()), remedy));
        }
        Ok(Self { cloud, bucket: bucket.to_owned(), prefix: read_prefix(cloud, prefix)?, options: read_options(cloud, query)? })
            .and_then(Self::consistent)
    }

    fn consistent(self) -> Result<Self> {
        if let Some(endpoint) = self.endpoint()
            && endpoint.starts_with("http://")
            && !self.allows_http()
        {
            let host = host_of(endpoint);
            return Err(wrong(
                self.cloud,
                &format!("`{host}` would be spoken to without encryption"),
                "use `https://`, or add `allow_http=true` where the network between is your own",
            ));
        }
        if self.option("kms_key").is_some() && !self.option("server_side_encryption").is_some_and(|kind| kind.starts_with("aws:kms")) {
            return Err(wrong(self.cloud, "`kms_key` alone changes nothing", "add `server_side_encryption=aws:kms`"));
        }
        Ok(self)
    }

    /// Whose protocol it speaks.
    pub fn cloud(&self) -> Cloud {
        self.cloud
    }

    /// The bucket, or Azure's container.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What stands before all keys, without slashes at its ends; empty when the store is the whole bucket.
    pub fn prefix(&self) -> &str {
        self.prefix.as_ref().map_or("", ObjectKey::as_str)
    }

    /// An option, as text.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// The server to speak to, where it is not the cloud's own.
    pub fn endpoint(&self) -> Option<&str> {
        self.option("endpoint")
    }

    /// The same at this server; none when that is no address of one, or must not be spoken to without TLS.
    #[cfg(feature = "s3")]
    pub(crate) fn at(&self, endpoint: &str) -> Option<Self> {
        let mut moved = self.clone();
        moved.options.insert("endpoint", check(Kind::Endpoint, endpoint).ok()?);
        moved.consistent().ok()
    }

    /// Whether it may be spoken to without TLS: within this machine always, elsewhere when the address says so.
    pub fn allows_http(&self) -> bool {
        self.option("allow_http") == Some("true") || self.endpoint().is_some_and(|endpoint| is_loopback(host_of(endpoint)))
    }

    /// How long one request may take with all its repetitions.
    pub fn deadline(&self) -> Option<Duration> {
        self.option("deadline").and_then(|text| quantity::duration(text).ok())
    }

    /// How many requests of one transfer run at once.
    pub fn concurrency(&self) -> Option<usize> {
        self.option("concurrency").and_then(|text| text.parse().ok())
    }

    /// How many bytes a second at most, in both directions together.
    pub fn rate_limit(&self) -> Option<u64> {
        self.option("rate_limit").and_then(|text| quantity::size_bytes(text).ok())
    }

    /// The tags of each object: `name:value`, separated by commas.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.option("tags").into_iter().flat_map(|tags| tags.split(',')).filter_map(|tag| tag.split_once(':'))
    }

    /// The store without its options, for people.
    pub fn place(&self) -> String {
        let slash = if self.prefix.is_some() { "/" } else { "" };
        format!("{}://{}{slash}{}", self.cloud.scheme(), self.bucket, self.prefix())
    }
}

impl fmt::Display for CloudUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.cloud.scheme(), self.bucket)?;
        if let Some(prefix) = &self.prefix {
            write!(formatter, "/{}", utf8_percent_encode(prefix.as_str(), IN_PATH))?;
        }
        for (position, (name, value)) in self.options.iter().enumerate() {
            const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b':').remove(b'/').remove(b',');
            write!(formatter, "{}{name}={}", if position == 0 { '?' } else { '&' }, utf8_percent_encode(value, PLAIN))?;
        }
        Ok(())
    }
}

/// A cloud that was left out of this build.
#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
pub(crate) fn not_built(cloud: Cloud) -> Error {
    Error::invalid(
        format!("`{}://` stores are not in this build", cloud.scheme()),
        "use the program as it is handed out, or build the library with its features `s3`, `gcs` and `azure`",
    )
}

fn wrong(cloud: Cloud, why: &str, remedy: &str) -> Error {
    Error::invalid(format!("the address of the {} store is wrong: {why}", cloud.scheme()), remedy)
}

fn shown(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

fn read_prefix(cloud: Cloud, prefix: &str) -> Result<Option<ObjectKey>> {
    let decoded = percent_decode_str(prefix).decode_utf8().map_err(|_| wrong(cloud, "its prefix is not UTF-8", "write it in UTF-8"))?;
    let prefix = decoded.trim_end_matches('/');
    if prefix.is_empty() {
        return Ok(None);
    }
    let fault = |why: &str| wrong(cloud, &format!("`{}` is no prefix: {why}", shown(prefix)), "write parts separated by single slashes");
    if prefix.len() > LONGEST_PREFIX {
        return Err(fault("it is longer than 512 bytes"));
    }
    prefix.parse().map(Some).map_err(|error: Error| {
        let told = error.to_string();
        fault(told.rsplit(": ").next().unwrap_or("it is no key"))
    })
}

fn read_options(cloud: Cloud, query: &str) -> Result<BTreeMap<&'static str, String>> {
    let mut options = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some((name, clouds, kind)) = OPTIONS.iter().find(|(known, ..)| *known == name) else { return Err(unknown(cloud, name)) };
        if !clouds.contains(&cloud) {
            let others: Vec<String> = clouds.iter().map(|cloud| format!("`{}://`", cloud.scheme())).collect();
            return Err(wrong(cloud, &format!("`{name}` belongs to {}", others.join(" and ")), "leave it out"));
        }
        // A plus is a plus, as in the addresses that people write, and no space.
        let value =
            percent_decode_str(value).decode_utf8().map_err(|_| wrong(cloud, &format!("`{name}` is not UTF-8"), "write it in UTF-8"))?;
        let value = check(*kind, &value)
            .map_err(|expected| wrong(cloud, &format!("`{name}` is `{}`", shown(&value)), &format!("write {expected}")))?;
        if options.insert(*name, value).is_some() {
            return Err(wrong(cloud, &format!("`{name}` stands there twice"), "leave one of them"));
        }
    }
    Ok(options)
}

fn unknown(cloud: Cloud, name: &str) -> Error {
    let lower = name.to_ascii_lowercase();
    if CREDENTIALS.iter().any(|word| lower.contains(word)) {
        return wrong(
            cloud,
            &format!("`{}` looks like a credential", shown(name)),
            "leave it out: credentials come from the environment, from files or from the machine itself",
        );
    }
    let known = || OPTIONS.iter().filter(|(_, clouds, _)| clouds.contains(&cloud)).map(|(name, ..)| *name);
    let nearest = known().min_by_key(|known| strsim::levenshtein(known, &lower)).filter(|known| strsim::levenshtein(known, &lower) <= 3);
    let remedy = match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("the options are {}", known().collect::<Vec<_>>().join(", ")),
    };
    wrong(cloud, &format!("it has no option `{}`", shown(name)), &remedy)
}

/// The value as it is kept, or what was expected.
fn check(kind: Kind, value: &str) -> std::result::Result<String, String> {
    let kept = || Ok(value.to_owned());
    if value.is_empty() || value.chars().any(char::is_control) {
        return Err("a value, without control characters".to_owned());
    }
    match kind {
        Kind::Text => kept(),
        Kind::Switch if matches!(value, "true" | "false") => kept(),
        Kind::Switch => Err("`true` or `false`".to_owned()),
        Kind::AbsolutePath if value.starts_with('/') => kept(),
        Kind::AbsolutePath => Err("an absolute path".to_owned()),
        Kind::Duration if quantity::duration(value).is_ok_and(|duration| !duration.is_zero()) => kept(),
        Kind::Duration => Err("a duration such as `30s` or `5m`".to_owned()),
        Kind::Size if quantity::size_bytes(value).is_ok_and(|bytes| bytes > 0) => kept(),
        Kind::Size => Err("a size such as `10MB`".to_owned()),
        Kind::Count if value.parse::<usize>().is_ok_and(|count| (1..=64).contains(&count)) => kept(),
        Kind::Count => Err("a number from 1 to 64".to_owned()),
        Kind::OneOf(words) if words.contains(&value) => kept(),
        Kind::OneOf(words) => Err(format!("one of {}", words.join(", "))),
        Kind::Endpoint => {
            let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
            let fits = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['@', '?', '#', ' ']));
            if fits { Ok(value.trim_end_matches('/').to_owned()) } else { Err("`https://host[:port]`".to_owned()) }
        }
    }
}

/// The host of an address of the web, without port and brackets.
fn host_of(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or(bracketed),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

/// Whether a host, without port and brackets, is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::store::url::StoreUrl;

    fn parse(text: &str) -> CloudUrl {
        match text.parse().unwrap() {
            StoreUrl::Cloud(url) => url,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn an_address_is_read_and_written() {
        for (text, bucket, prefix, again) in [
            ("s3://acme", "acme", "", "s3://acme"),
            ("S3://acme/", "acme", "", "s3://acme"),
            ("s3://acme-backups/prod/eu/?region=eu-central-1", "acme-backups", "prod/eu", "s3://acme-backups/prod/eu?region=eu-central-1"),
            ("gs://b/a%20b%3f", "b", "a b?", "gs://b/a%20b%3F"),
            ("az://c/x?account=acme", "c", "x", "az://c/x?account=acme"),
            ("s3://b?path_style=true&endpoint=http%3A%2F%2F127.0.0.1:9", "b", "", "s3://b?endpoint=http://127.0.0.1:9&path_style=true"),
        ] {
            let url = parse(text);
            assert_eq!((url.bucket(), url.prefix(), url.to_string().as_str()), (bucket, prefix, again), "{text}");
            assert_eq!(parse(&url.to_string()), url);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_a_way_out() {
        for (text, told) in [
            ("s3://", "names no bucket"),
            ("s3:///prefix", "names no bucket"),
            ("az://", "names no container"),
            ("s3://a b", "no name of a bucket"),
            ("s3://b//x", "empty part"),
            ("s3://b/../x", "`..`"),
            ("s3://b?regoin=x", "no option `regoin`"),
            ("gs://b?region=x", "belongs to `s3://`"),
            ("s3://b?region=", "`region`"),
            ("s3://b?region=a&region=b", "twice"),
            ("s3://b?endpoint=minio:9000", "`endpoint`"),
            ("s3://b?endpoint=http://minio.example.com:9000", "without encryption"),
            ("s3://b?deadline=5", "`deadline`"),
            ("s3://b?concurrency=0", "`concurrency`"),
            ("s3://b?ca_file=ca.pem", "`ca_file`"),
            ("s3://b?kms_key=k", "`kms_key`"),
            ("s3://b/x#y", "`#`"),
        ] {
            let error = text.parse::<StoreUrl>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
            assert!(error.to_string().contains(told), "{text}: {error}");
            assert!(error.remedy().is_some(), "{text}");
        }
        assert!("s3://b?regoin=x".parse::<StoreUrl>().unwrap_err().remedy().unwrap().contains("`region`"));
    }

    #[test]
    fn a_credential_is_refused_and_not_repeated() {
        for text in [
            "s3://b?access_key=hunter2",
            "az://c?sv=2024&sig=hunter2",
            "az://c?sig=hunter2",
            "s3://b?AWS_SECRET_ACCESS_KEY=hunter2",
            "s3://k:hunter2@b/x",
        ] {
            let error = text.parse::<StoreUrl>().unwrap_err();
            let told = format!("{error} {:?} {error:?}", error.remedy());
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_or_for_who_says_so() {
        for text in ["s3://b?endpoint=http://127.0.0.1:9000", "s3://b?endpoint=http://[::1]:9000", "gs://b?endpoint=http://localhost:1"] {
            assert!(parse(text).allows_http(), "{text}");
        }
        assert!(parse("s3://b?endpoint=http://minio:9000&allow_http=true").allows_http());
        assert!(!parse("s3://b?endpoint=https://minio:9000").allows_http());
        assert!(!parse("s3://b").allows_http());
    }
}
