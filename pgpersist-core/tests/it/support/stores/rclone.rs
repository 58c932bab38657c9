//! rclone: a client that is not ours, and a server of S3 that knows no conditions.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::process::ServerProcess;
use super::{ACCESS_KEY, ACCOUNT, ACCOUNT_KEY, BUCKET, Protocol, SECRET_KEY, StoreServer, below, folder, installed};

/// The program.
#[derive(Debug, Clone)]
pub(crate) struct Rclone(PathBuf);

/// The program, and what it has to know of a server.
#[derive(Debug)]
pub(crate) struct Client {
    program: PathBuf,
    protocol: Protocol,
    /// Where a server keeps parts that cannot list them.
    parts: Option<PathBuf>,
    settings: Vec<(&'static str, String)>,
}

impl Rclone {
    #[track_caller]
    pub(crate) fn find() -> Option<Self> {
        installed::program("rclone", "bin/rclone").map(Self)
    }

    /// A client of a server, past whatever stands between it and ours.
    pub(crate) fn of(&self, server: &StoreServer) -> Client {
        let endpoint = server.endpoint();
        let s3 = |provider: &str| {
            vec![
                ("TYPE", "s3".to_owned()),
                ("PROVIDER", provider.to_owned()),
                ("ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
                ("SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
                ("REGION", "us-east-1".to_owned()),
                ("ENDPOINT", endpoint.clone()),
                ("FORCE_PATH_STYLE", "true".to_owned()),
                ("LIST_VERSION", "2".to_owned()),
                ("NO_CHECK_BUCKET", "true".to_owned()),
                ("UPLOAD_CUTOFF", "6M".to_owned()),
            ]
        };
        let settings = match server.protocol {
            Protocol::S3 => s3("Other"),
            // Google's servers speak S3's protocol as well.
            Protocol::Gcs => s3("GCS"),
            Protocol::Azure => vec![
                ("TYPE", "azureblob".to_owned()),
                ("ACCOUNT", ACCOUNT.to_owned()),
                ("KEY", ACCOUNT_KEY.to_owned()),
                ("ENDPOINT", format!("{endpoint}/{ACCOUNT}")),
            ],
        };
        Client { program: self.0.clone(), protocol: server.protocol, parts: server.parts.clone(), settings }
    }

    /// A server of S3 that overwrites whatever it is told not to.
    #[track_caller]
    pub(crate) fn serve_s3(&self) -> StoreServer {
        let folder = folder();
        let root = below(folder.path(), "data");
        below(&root, BUCKET);
        let process = ServerProcess::start(folder.path(), |port| {
            let mut command = Command::new(&self.0);
            command.args(["serve", "s3", "--addr", &format!("127.0.0.1:{port}"), "--vfs-cache-mode", "off", "--config", ""]).arg(&root);
            command.env("RCLONE_AUTH_KEY", format!("\"{ACCESS_KEY},{SECRET_KEY}\""));
            command
        });
        StoreServer::new(Protocol::S3, process, folder)
    }
}

impl Client {
    /// How it calls a path in the bucket.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("store:{BUCKET}/{path}")
    }

    /// Runs it, which has to go well, and returns what it prints.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Vec<u8> {
        self.run_with(arguments, Stdio::null())
    }

    #[track_caller]
    pub(crate) fn run_with(&self, arguments: &[&str], input: impl Into<Stdio>) -> Vec<u8> {
        let mut command = Command::new(&self.program);
        command
            .args(["--config", "", "--retries", "3", "--low-level-retries", "3", "--contimeout", "10s", "--timeout", "60s"])
            .args(arguments);
        command.env_clear().envs(self.settings.iter().map(|(name, value)| (format!("RCLONE_CONFIG_STORE_{name}"), value)));
        command.env("HOME", "/nonexistent").stdin(input);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Every object below a prefix.
    #[track_caller]
    pub(crate) fn list(&self, prefix: &str) -> Vec<String> {
        let printed = String::from_utf8(self.run(&["lsf", "--recursive", "--files-only", &self.path(prefix)])).unwrap();
        let mut names: Vec<String> = printed.lines().map(str::to_owned).collect();
        names.sort_unstable();
        names
    }

    #[track_caller]
    pub(crate) fn cat(&self, path: &str) -> Vec<u8> {
        self.run(&["cat", &self.path(path)])
    }

    /// The uploads in parts that have not ended, as the server tells them. Azure has none: blocks that no list names vanish by
    /// themselves.
    #[track_caller]
    pub(crate) fn unfinished_uploads(&self) -> usize {
        if self.protocol == Protocol::Azure {
            return 0;
        }
        if let Some(folder) = &self.parts {
            let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            return names.filter(|name| name.to_string_lossy().starts_with(".upload")).count();
        }
        let printed = self.run(&["backend", "list-multipart-uploads", &self.path("")]);
        let told: serde_json::Value = serde_json::from_slice(&printed).unwrap();
        told.as_object().unwrap().values().map(|uploads| uploads.as_array().map_or(0, Vec::len)).sum()
    }
}
