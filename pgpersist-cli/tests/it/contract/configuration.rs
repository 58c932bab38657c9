//! Promises of the command line as such, and of the commands that need no cluster.

use crate::contract::case::{Case, promise};

const VALID: &str = "[cluster]\nport = 5433\ndata_directory = \"{dir}/data\"\n";
const TYPO: &str = "[cluster]\nprot = 5433\n";

pub(super) fn table() -> Vec<Case> {
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
        promise(
            "with JSON nothing stands on stderr but an error, also where steps were wanted",
            &["temp", "--json", "--verbose", "--dry-run"],
        )
        .fields(&["/plan/0"]),
        promise("two names of one format are no contradiction", &["config", "show", "--json", "--format", "json"])
            .fields(&["/values/0/key"]),
        promise("two formats at once are invalid", &["config", "show", "--json", "--format", "text"]).code(2).error("invalid"),
        promise("a dry run of what only looks says so", &["config", "show", "--dry-run"]).stdout("nothing: this command only looks\n"),
        promise("every dry run is a plan", &["status", "--dry-run", "--json"]).value("/plan/0", "nothing: this command only looks"),
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
            .fields(&["/values/0/key", "/values/0/value", "/values/0/source"])
            .missing(&["/file"])
            .stdout("\"value\": \"{dir}/backups\"")
            .stdout("\"source\": \"--data-directory\""),
        promise("--format json means the same", &["config", "show", "--format", "json"]).fields(&["/values/0/key"]),
        promise("an address that is called is shown without what follows its host", &["config", "show"])
            .variable("PGPERSIST_HOOKS_WEBHOOK", "https://hooks.example.com/canary")
            .stdout("https://hooks.example.com/***"),
        promise("no secret is ever shown", &["config", "show"]).variable("PGPASSWORD", "canary").stdout("***"),
        promise("config check accepts a valid file", &["config", "check"]).file(VALID).stdout("valid ({dir}/pgpersist.toml)"),
        promise("the file may be named by a variable", &["config", "check", "--json"])
            .file(VALID)
            .variable("PGPERSIST_CONFIG", "{dir}/pgpersist.toml")
            .variable("PGPERSIST_WORKING_DIRECTORY", "/")
            .value("/file", "{dir}/pgpersist.toml"),
        promise("a file that a variable names and that is not there is not found", &["config", "check", "--json"])
            .variable("PGPERSIST_CONFIG", "{dir}/absent.toml")
            .code(4)
            .error("not_found"),
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
            .file("[wal]\nship_interval = \"1s\"\n")
            .code(3)
            .stderr("warning: `wal.ship_interval` ({dir}/pgpersist.toml:2) is not used by this version"),
        promise("config check knows when backups are made", &["config", "check"])
            .file("[backup]\nschedule = \"30 2 * *\"\n")
            .code(2)
            .stderr("line 2, `backup.schedule`: "),
        promise("config check knows the keys of backups", &["config", "check"])
            .file("[backup]\nfull_read_day = 7\n")
            .code(2)
            .stderr("  remedy: did you mean `full_read_days`?\n"),
        promise("config check takes what backups need", &["config", "check"])
            .file("[backup]\nschedule = \"30 2 * * *\"\ndeadline = \"3h\"\nfull_read_days = 0\n[health]\nbackup_max_age = \"8d\"\n"),
        promise("config check knows what can be listened on", &["config", "check"])
            .file("[health]\nlisten = \"localhost:9432\"\n")
            .code(2)
            .stderr("line 2, `health.listen`: expected an IP address and a port such as `127.0.0.1:9432`"),
        promise("config check warns about a token that opens nothing", &["config", "check"])
            .variable("PGPERSIST_HEALTH_TOKEN_FILE", "token")
            .code(3)
            .stderr("warning: `health.token_file` (PGPERSIST_HEALTH_TOKEN_FILE) opens nothing without `health.listen`"),
        promise("warnings are part of the document", &["config", "check", "--json"])
            .file("[wal]\nship_interval = \"1s\"\n")
            .code(3)
            .fields(&["/warnings/0"]),
        promise("a named file that is missing is not found", &["config", "check", "--config", "absent.toml"])
            .code(4)
            .stderr("error: could not read the configuration {dir}/absent.toml\n  caused by: No such file"),
        promise("config example prints a file", &["config", "example"]).stdout("[cluster]\nname = \"main\""),
        promise("config example works beside a broken file", &["config", "example", "--json"]).file(TYPO).fields(&["/example"]),
        promise("completions are a script", &["completions", "bash"]).stdout("_pgpersist()"),
        promise("completions --json has the script", &["completions", "zsh", "--json"]).fields(&["/shell", "/script"]),
        promise("an unknown shell is invalid", &["completions", "bas"]).code(2).stderr("did you mean `bash`?"),
    ]
}
