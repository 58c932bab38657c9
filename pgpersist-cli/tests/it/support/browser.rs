//! A headless Chromium, spoken to over the pipes of its DevTools protocol: no port, and nothing beside the browser is needed.
//!
//! Source: *Chrome DevTools Protocol*; messages are JSON, each ended by a zero byte, to descriptor 3 and from descriptor 4.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::skip::absent;

/// How long a browser on a busy machine may take for one thing.
const PATIENCE: Duration = Duration::from_secs(90);

/// What keeps it from doing anything that it was not told to.
const QUIET: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
];

/// A browser with one page open.
pub(crate) struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    /// What it told without being asked, so far.
    events: Vec<Value>,
    session: Option<String>,
    last: u64,
    _profile: TempDir,
}

fn found() -> Option<PathBuf> {
    let named = std::env::var_os("PGPERSIST_TEST_CHROMIUM").map(PathBuf::from);
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
    let somewhere = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    named.into_iter().chain(somewhere).find(|path| path.is_file())
}

impl Browser {
    /// One with an empty profile; `None`, and told, where this machine has none.
    pub(crate) fn open() -> Option<Self> {
        let Some(program) = found() else {
            absent("chromium", "there is none here, so nobody looked at the page: install chromium, or name it by PGPERSIST_TEST_CHROMIUM");
            return None;
        };
        let profile = tempfile::Builder::new().prefix("pgpersist-test-browser-").tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>&1", "sh"]).arg(program).args(QUIET);
        command.arg(format!("--user-data-dir={}", profile.path().join("profile").display())).arg("about:blank");
        command.env("HOME", profile.path()).env("TMPDIR", profile.path()).current_dir(profile.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { return };
                if sender.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self { child, input, messages, events: Vec::new(), session: None, last: 0, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Network", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Asks for something and waits for the answer.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut request = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            request["sessionId"] = session.clone().into();
        }
        self.input.write_all(&[request.to_string().as_bytes(), &[0]].concat()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.next(deadline, method);
            if message["id"] == self.last {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    fn next(&mut self, deadline: Instant, what: &str) -> Value {
        let left = deadline.saturating_duration_since(Instant::now());
        let message = self.messages.recv_timeout(left).unwrap_or_else(|e| panic!("the browser does not answer to {what}: {e}"));
        if message.get("method").is_some() {
            self.events.push(message.clone());
        }
        message
    }

    /// Opens an address and waits until all of it is there.
    #[track_caller]
    pub(crate) fn visit(&mut self, address: &str) {
        self.events.clear();
        let answer = self.call("Page.navigate", json!({ "url": address }));
        assert!(answer.get("errorText").is_none(), "{address}: {answer}");
        let deadline = Instant::now() + PATIENCE;
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            self.next(deadline, address);
        }
    }

    /// What an expression comes to in the page.
    #[track_caller]
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(answer.get("exceptionDetails").is_none(), "{answer}");
        answer["result"]["value"].clone()
    }

    /// The addresses that were asked for since the visit began.
    pub(crate) fn requests(&self) -> Vec<String> {
        let asked = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        asked.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// What it complained about since the visit began: what a policy forbids, what could not be loaded.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let told = self.events.iter().filter(|event| event["method"] == "Log.entryAdded" || event["method"] == "Runtime.exceptionThrown");
        told.map(|event| event["params"].to_string()).collect()
    }

    /// A picture of the whole page, into the folder that PGPERSIST_TEST_SCREENSHOTS names, where it does.
    pub(crate) fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("PGPERSIST_TEST_SCREENSHOTS") else { return };
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        let mut file = std::fs::File::create(Path::new(&folder).join(format!("{name}.png"))).unwrap();
        file.write_all(&from_base64(answer["data"].as_str().unwrap())).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(group) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').collect();
    let bytes = |four: &[u8]| {
        let bits = (0..4).fold(0_u32, |bits, place| bits << 6 | four.get(place).map_or(0, |letter| u32::from(value(*letter))));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    letters.chunks(4).flat_map(bytes).collect()
}
