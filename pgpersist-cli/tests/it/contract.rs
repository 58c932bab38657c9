//! The contract as a table: each command as a process, its exit code, what stands on stdout and stderr, the promised fields.
//!
//! A new command adds its lines to [`table`]; a test fails as long as a command that `--help` lists has none.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::Scratch;

/// One line of the contract.
struct Case {
    promise: &'static str,
    arguments: Vec<&'static str>,
    file: Option<&'static str>,
    environment: Vec<(&'static str, &'static str)>,
    /// Command lines that come first, such as `init` and `start`; each must end with 0.
    after: Vec<Vec<&'static str>>,
    /// Command lines that come last, whatever happened, such as `stop`.
    finally: Vec<Vec<&'static str>>,
    code: i32,
    stdout: Vec<&'static str>,
    stderr: Vec<&'static str>,
    fields: Vec<&'static str>,
    kind: Option<&'static str>,
}

/// A command line that is expected to end with 0, print nothing on stderr, and what else is added.
fn promise(promise: &'static str, arguments: &[&'static str]) -> Case {
    Case {
        promise,
        arguments: arguments.to_vec(),
        file: None,
        environment: Vec::new(),
        after: Vec::new(),
        finally: Vec::new(),
        code: 0,
        stdout: Vec::new(),
        stderr: Vec::new(),
        fields: Vec::new(),
        kind: None,
    }
}

impl Case {
    /// `pgpersist.toml` in the working directory holds this.
    fn file(mut self, text: &'static str) -> Self {
        self.file = Some(text);
        self
    }

    fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    fn after(mut self, arguments: &[&'static str]) -> Self {
        self.after.push(arguments.to_vec());
        self
    }

    #[expect(dead_code, reason = "commands that need a cluster use it")]
    fn finally(mut self, arguments: &[&'static str]) -> Self {
        self.finally.push(arguments.to_vec());
        self
    }

    fn code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    /// stdout holds this text.
    fn stdout(mut self, text: &'static str) -> Self {
        self.stdout.push(text);
        self
    }

    /// stderr holds this text; without any, stderr is empty.
    fn stderr(mut self, text: &'static str) -> Self {
        self.stderr.push(text);
        self
    }

    /// The document on stdout has a value at these places (JSON pointers).
    fn fields(mut self, pointers: &[&'static str]) -> Self {
        self.fields.extend(pointers);
        self
    }

    /// stdout is empty, and stderr is a document of this kind with the promised fields.
    fn error(mut self, kind: &'static str) -> Self {
        self.kind = Some(kind);
        self
    }

    fn check(&self) {
        let mut scratch = Scratch::new();
        if let Some(text) = self.file {
            scratch.write("pgpersist.toml", text);
        }
        for arguments in &self.finally {
            scratch.finally(arguments);
        }
        for arguments in &self.after {
            let run = scratch.run(arguments, &self.environment);
            assert_eq!(run.code, Some(0), "{arguments:?} comes first and failed: {run:?}");
        }
        let run = scratch.run(&self.arguments, &self.environment);
        assert_eq!(run.code, Some(self.code), "{run:?}");
        for text in &self.stdout {
            assert!(run.stdout.contains(&scratch.fill(text)), "`{text}` is not on stdout: {}", run.stdout);
        }
        for text in &self.stderr {
            assert!(run.stderr.contains(&scratch.fill(text)), "`{text}` is not on stderr: {}", run.stderr);
        }
        for pointer in &self.fields {
            assert!(run.json().pointer(pointer).is_some(), "{pointer} is not in {}", run.stdout);
        }
        if let Some(kind) = self.kind {
            let document = run.error();
            assert_eq!(document["kind"], kind, "{document}");
            assert!(document["error"].is_string() && document["causes"].is_array() && document.get("remedy").is_some(), "{document}");
            assert_eq!(run.stdout, "");
        } else if self.stderr.is_empty() {
            assert_eq!(run.stderr, "");
        }
    }
}

const VALID: &str = "[cluster]\nport = 5433\ndata_directory = \"{dir}/data\"\n";
const INIT_OLD: &[&str] = &["init", "-D", "{dir}/old", "--allow-ephemeral"];
const TYPO: &str = "[cluster]\nprot = 5433\n";

fn table() -> Vec<Case> {
    vec![
        promise("help begins with an example and lists the exit codes", &["--help"]).stdout("Example:\n").stdout("Exit codes: 0 done"),
        promise("the version is one line", &["--version"]).stdout("pgpersist 0."),
        promise("an unknown command is invalid and names the nearest", &["confgi"])
            .code(2)
            .stderr("error: unrecognized subcommand 'confgi'\n")
            .stderr("remedy: did you mean `config`? see `pgpersist --help`"),
        promise("an unknown option is invalid and names the nearest", &["config", "show", "--jsn"])
            .code(2)
            .stderr("error: unexpected argument '--jsn' found\n")
            .stderr("did you mean `--json`? see `pgpersist config --help`"),
        promise("a usage error is a document where JSON was asked for", &["nonsense", "--json"]).code(2).error("invalid"),
        promise("no command at all is invalid and shows the help", &[]).code(2).stderr("Usage: pgpersist"),
        promise("no command at all is a document with JSON", &["--json"]).code(2).error("invalid"),
        promise("contradicting options are invalid", &["--quiet", "--verbose", "config", "show"]).code(2).stderr("cannot be used with"),
        promise("a format of another command is refused", &["config", "show", "--format", "nagios"])
            .code(2)
            .stderr("remedy: use `--format"),
        promise("config show names the origin of each value", &["config", "show"])
            .file(VALID)
            .variable("PGDATA", "/elsewhere")
            .variable("PGPERSIST_CLUSTER_NAME", "orders")
            .stdout("{dir}/pgpersist.toml:2\n")
            .stdout("{dir}/data")
            .stdout("PGPERSIST_CLUSTER_NAME\n")
            .stdout("default\n"),
        promise("config show --json has its promised fields", &["config", "show", "--json", "-D", "data", "--store", "backups"])
            .fields(&["/values/0/key", "/values/0/value", "/values/0/source", "/file"])
            .stdout("\"value\": \"{dir}/backups\"")
            .stdout("\"source\": \"--data-directory\""),
        promise("--format json means the same", &["config", "show", "--format", "json"]).fields(&["/values/0/key"]),
        promise("no secret is ever shown", &["config", "show"]).variable("PGPASSWORD", "canary").stdout("***"),
        promise("config check accepts a valid file", &["config", "check"]).file(VALID).stdout("valid ({dir}/pgpersist.toml)"),
        promise("config check --json says what was read", &["config", "check", "--json"]).file(VALID).fields(&["/valid", "/file"]),
        promise("config check names the line of a typo and the nearest key", &["config", "check"])
            .file(TYPO)
            .code(2)
            .stderr("error: {dir}/pgpersist.toml, line 2, `cluster.prot`: unknown key\n")
            .stderr("  remedy: did you mean `port`?\n"),
        promise("a typo is a document with JSON", &["config", "check", "--json"]).file(TYPO).code(2).error("invalid"),
        promise("a variable that stands for no key is invalid", &["config", "check"])
            .variable("PGPERSIST_CLUSTER_PROT", "1")
            .code(2)
            .stderr("did you mean PGPERSIST_CLUSTER_PORT?"),
        promise("config check warns about what has no effect yet", &["config", "check"])
            .file("[dump]\nschedule = \"0 2 * * *\"\n")
            .code(3)
            .stderr("warning: `dump.schedule` ({dir}/pgpersist.toml:2) is not used by this version"),
        promise("warnings are part of the document", &["config", "check", "--json"])
            .file("[dump]\nschedule = \"0 2 * * *\"\n")
            .code(3)
            .fields(&["/warnings/0"]),
        promise("a named file that is missing is not found", &["config", "check", "--config", "absent.toml"])
            .code(4)
            .stderr("error: could not read the configuration {dir}/absent.toml\n  caused by: No such file"),
        promise("config example prints a file", &["config", "example"]).stdout("[cluster]\nname = \"main\""),
        promise("config example works beside a broken file", &["config", "example", "--json"]).file(TYPO).fields(&["/example"]),
        promise("migrate --json has its promised fields", &["migrate", "--from", "{dir}/old", "--to", "{dir}/new", "--json"])
            .after(INIT_OLD)
            .fields(&["/from", "/to", "/bytes", "/files", "/downtime_s", "/resumed", "/undo/0"])
            .stdout("\"resumed\": false"),
        promise("migrate tells what it moved and how to go back", &["migrate", "--from", "{dir}/old", "--to", "{dir}/new"])
            .after(INIT_OLD)
            .stdout("Moved {dir}/old to {dir}/new: ")
            .stdout("mv {dir}/old/global/pg_control.migrated {dir}/old/global/pg_control\n")
            .stderr("putting the copy into place"),
        promise("a migration that was made is not repeated", &["migrate", "--from", "{dir}/old", "--to", "{dir}/new"])
            .after(INIT_OLD)
            .after(&["migrate", "--from", "{dir}/old", "--to", "{dir}/new"])
            .stdout("There was nothing to do"),
        promise("a source that was migrated does not start", &["start", "-D", "{dir}/old"])
            .after(INIT_OLD)
            .after(&["migrate", "--from", "{dir}/old", "--to", "{dir}/new"])
            .code(5)
            .stderr("was migrated to another directory"),
        promise(
            "migrate --dry-run has a plan and touches nothing",
            &["migrate", "--from", "{dir}/old", "--to", "{dir}/new", "--dry-run", "--json"],
        )
        .after(INIT_OLD)
        .fields(&["/plan/steps/0", "/plan/bytes", "/plan/action"]),
        promise("migrate into itself is invalid", &["migrate", "--from", "{dir}/old", "--to", "{dir}/old/inside", "--json"])
            .after(INIT_OLD)
            .code(2)
            .error("invalid"),
        promise("migrate from nothing is not found", &["migrate", "--from", "{dir}/nothing", "--to", "{dir}/new", "--json"])
            .code(4)
            .error("not_found"),
        promise("migrate has one target", &["migrate", "--from", "{dir}/old", "--to", "{dir}/new", "-D", "{dir}/data"])
            .code(2)
            .stderr("cannot be used with"),
        promise("completions are a script", &["completions", "bash"]).stdout("_pgpersist()"),
        promise("completions --json has the script", &["completions", "zsh", "--json"]).fields(&["/shell", "/script"]),
        promise("an unknown shell is invalid", &["completions", "bas"]).code(2).stderr("did you mean `bash`?"),
    ]
}

#[test]
fn every_promise_holds() {
    let broken: Vec<&str> =
        table().into_iter().filter(|case| catch_unwind(AssertUnwindSafe(|| case.check())).is_err()).map(|case| case.promise).collect();
    assert!(broken.is_empty(), "broken promises (each told above): {broken:#?}");
}

/// The subcommands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Explanations that wrap are indented deeper than names.
    commands.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

#[test]
fn every_command_has_a_promise_and_help_that_begins_with_an_example() {
    let scratch = Scratch::new();
    let help = |words: &[String]| {
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.push("--help");
        let run = scratch.run(&words, &[]);
        assert!(run.code == Some(0) && run.stdout.starts_with("Example:\n  "), "{words:?}: {}", run.stdout);
        run.stdout
    };
    let promised =
        |path: &[String]| table().iter().any(|case| path.iter().zip(&case.arguments).filter(|(a, b)| a == b).count() == path.len());
    let mut waiting: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(path) = waiting.pop() {
        for name in listed(&help(&path)).into_iter().filter(|name| name != "help") {
            let below = [path.clone(), vec![name]].concat();
            assert!(promised(&below), "`pgpersist {}` has no line in the contract's table", below.join(" "));
            waiting.push(below);
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} commands were found: the help no longer reads as expected");
}

#[test]
fn the_example_passes_the_check() {
    let scratch = Scratch::new();
    let example = scratch.run(&["config", "example"], &[]).stdout;
    scratch.write("example.toml", &example);
    let run = scratch.run(&["config", "check", "--config", "example.toml"], &[]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_closed_pipe_is_no_failure_and_a_full_disk_is_one() {
    let scratch = Scratch::new();
    let mut child = scratch.command().args(["config", "example"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(
        scratch.command().args(["config", "example"]).stdout(full).stderr(std::process::Stdio::null()).status().unwrap().code(),
        Some(6)
    );
}
