//! One line of the contract, and how it is held against the program.

use std::fs::File;
use std::process::Command;

use serde_json::Value;

use crate::contract::kinds;
use crate::support::cluster::TestCluster;
use crate::support::scratch::{Run, Scratch};
use crate::support::user;

/// What is done between two lines of a journey.
type Between = fn(&TestCluster);

/// One line of the contract.
pub(super) struct Case {
    pub(super) promise: &'static str,
    pub(super) arguments: Vec<&'static str>,
    file: Option<&'static str>,
    environment: Vec<(&'static str, &'static str)>,
    stdin: Option<&'static str>,
    by_user: bool,
    before: Option<Between>,
    then: Option<Between>,
    code: i32,
    stdout: Vec<&'static str>,
    stderr: Vec<&'static str>,
    fields: Vec<&'static str>,
    values: Vec<(&'static str, Value)>,
    absent: Vec<&'static str>,
    kind: Option<&'static str>,
}

/// A command line that is expected to end with 0, print nothing on stderr, and what else is added.
pub(super) fn promise(promise: &'static str, arguments: &[&'static str]) -> Case {
    Case {
        promise,
        arguments: arguments.to_vec(),
        file: None,
        environment: Vec::new(),
        stdin: None,
        by_user: false,
        before: None,
        then: None,
        code: 0,
        stdout: Vec::new(),
        stderr: Vec::new(),
        fields: Vec::new(),
        values: Vec::new(),
        absent: Vec::new(),
        kind: None,
    }
}

impl Case {
    /// `pgpersist.toml` in the working directory holds this.
    pub(super) fn file(mut self, text: &'static str) -> Self {
        self.file = Some(text);
        self
    }

    pub(super) fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// Standard input is this file.
    pub(super) fn stdin(mut self, path: &'static str) -> Self {
        self.stdin = Some(path);
        self
    }

    /// A plain user runs it, also where the tests run as root.
    pub(super) fn by_user(mut self) -> Self {
        self.by_user = true;
        self
    }

    /// What happens in a journey before the command line is run.
    pub(super) fn before(mut self, work: Between) -> Self {
        self.before = Some(work);
        self
    }

    /// What is looked at in a journey after the command line was run.
    pub(super) fn then(mut self, work: Between) -> Self {
        self.then = Some(work);
        self
    }

    pub(super) fn code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    /// stdout holds this text.
    pub(super) fn stdout(mut self, text: &'static str) -> Self {
        self.stdout.push(text);
        self
    }

    /// stderr holds this text; without any, stderr is empty.
    pub(super) fn stderr(mut self, text: &'static str) -> Self {
        self.stderr.push(text);
        self
    }

    /// The document on stdout, or that of the error, has a value at these places (JSON pointers), of the type that the
    /// contract promises for the place's name. Null is no value: where the contract allows it, a line says so by
    /// [`value`](Self::value) or [`missing`](Self::missing).
    pub(super) fn fields(mut self, pointers: &[&'static str]) -> Self {
        self.fields.extend(pointers);
        self
    }

    /// The document has these places, with nothing in them.
    pub(super) fn missing(self, pointers: &[&'static str]) -> Self {
        pointers.iter().fold(self, |case, pointer| case.value(pointer, Value::Null))
    }

    /// The document has no such place, as behind the last item of a list.
    pub(super) fn missing_place(mut self, pointer: &'static str) -> Self {
        self.absent.push(pointer);
        self
    }

    /// The document on stdout, or that of the error, has this value at this place (a JSON pointer).
    pub(super) fn value(mut self, pointer: &'static str, value: impl Into<Value>) -> Self {
        self.values.push((pointer, value.into()));
        self
    }

    /// stdout is empty, and stderr is a document of this kind with the promised fields.
    pub(super) fn error(mut self, kind: &'static str) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Holds a line that stands for itself against the program.
    pub(super) fn check(&self) {
        let scratch = Scratch::new();
        if let Some(text) = self.file {
            scratch.write("pgpersist.toml", text);
        }
        assert!(self.before.is_none() && self.then.is_none(), "`{}` needs a cluster", self.promise);
        self.check_in(&scratch);
    }

    fn check_in(&self, scratch: &Scratch) {
        let run = self.run_in(scratch);
        assert_eq!(run.code, Some(self.code), "{run:?}");
        for text in &self.stdout {
            assert!(run.stdout.contains(&scratch.fill(text)), "`{text}` is not on stdout: {}", run.stdout);
        }
        for text in &self.stderr {
            assert!(run.stderr.contains(&scratch.fill(text)), "`{text}` is not on stderr: {}", run.stderr);
        }
        let document = if self.kind.is_some() {
            run.error()
        } else if self.fields.is_empty() && self.values.is_empty() {
            Value::Null
        } else {
            run.json()
        };
        for pointer in &self.fields {
            let value = document.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not in {document}"));
            kinds::assert_kind(pointer, value);
        }
        for (pointer, value) in &self.values {
            let expected = value.as_str().map_or_else(|| value.clone(), |text| scratch.fill(text).into());
            assert_eq!(document.pointer(pointer), Some(&expected), "{pointer} of {document}");
        }
        for pointer in &self.absent {
            assert_eq!(document.pointer(pointer), None, "{pointer} of {document}");
        }
        if let Some(kind) = self.kind {
            assert_eq!(document["kind"], kind, "{document}");
            assert!(
                document["error"].is_string() && document["causes"].as_array().is_some_and(|causes| causes.iter().all(Value::is_string))
            );
            // There is a next step after all but one's own interruption.
            assert!(document["remedy"].is_string() != (kind == "cancelled"), "{document}");
            assert_eq!(run.stdout, "");
        } else if self.stderr.is_empty() {
            assert_eq!(run.stderr, "");
        }
    }

    fn run_in(&self, scratch: &Scratch) -> Run {
        let (mut command, _program): (Command, _) = if self.by_user { user::pgpersist_as_user() } else { (scratch.command(), None) };
        scratch.prepare(&mut command);
        if let Some(path) = self.stdin {
            command.stdin(File::open(scratch.fill(path)).unwrap());
        }
        scratch.finish(command, &self.arguments, &self.environment)
    }
}

/// Holds lines against the program one after the other, with one cluster. The first that does not hold ends it: those that
/// follow count on it.
pub(super) fn travel(cluster: &TestCluster, journey: Vec<Case>) {
    for case in journey {
        eprintln!("promise: {} ({})", case.promise, case.arguments.join(" "));
        if let Some(work) = case.before {
            work(cluster);
        }
        case.check_in(&cluster.scratch);
        if let Some(work) = case.then {
            work(cluster);
        }
    }
}
