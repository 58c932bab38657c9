//! The image, as its Dockerfile tells: what a process needs to know to be run by it.

use crate::manifests::text;

/// The last stage of `examples/container/Dockerfile`.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// `ENTRYPOINT`.
    pub(super) entrypoint: Vec<String>,
    /// `CMD`: what a container may replace.
    pub(super) arguments: Vec<String>,
    /// `ENV`, by name.
    pub(super) environment: Vec<(String, String)>,
    /// `USER`, as `UID:GID`.
    pub(super) user: String,
    /// Where our program lies.
    pub(super) program: String,
    /// The commands of `RUN` that make users and folders. Packages are this machine's.
    pub(super) made_by: Vec<String>,
    /// The release of Rust that built it, such as `1.88`.
    pub(super) rust: String,
}

impl Image {
    pub(super) fn read() -> Self {
        let text = text("container/Dockerfile").replace("\\\n", " ");
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut image = Self::default();
        for line in lines {
            let (instruction, rest) = line.split_once(' ').unwrap();
            let words = || serde_json::from_str(rest).unwrap_or_else(|e| panic!("{instruction} is no list of words: {e}"));
            match instruction {
                "FROM" => {
                    let rust = rest.strip_prefix("rust:").and_then(|rest| rest.split_once('-')).map(|(release, _)| release.to_owned());
                    // Of another stage nothing is left but what it copies.
                    image = Self { rust: rust.unwrap_or(image.rust), ..Self::default() };
                }
                "RUN" if !rest.contains("apt-get") => image.made_by.push(rest.to_owned()),
                "ENV" => {
                    let (name, value) = rest.split_once('=').unwrap();
                    image.environment.push((name.to_owned(), value.to_owned()));
                }
                "COPY" => image.program = rest.rsplit(' ').next().unwrap().to_owned(),
                "USER" => image.user = rest.to_owned(),
                "ENTRYPOINT" => image.entrypoint = words(),
                "CMD" => image.arguments = words(),
                "RUN" | "WORKDIR" | "EXPOSE" => {}
                _ => panic!("what does {instruction} mean for a process?"),
            }
        }
        image
    }
}
