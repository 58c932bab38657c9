use super::*;
use crate::config::file::{EXAMPLE, SourceFile};
use crate::config::sources::Flag;
use crate::error::ErrorKind;

/// The file of the contract, without the store in the cloud.
const CONTRACT: &str = r#"
[cluster]
name = "main"
data_directory = "/app/pgdata"
port = 5432
databases = ["customerInvoice"]
os_user = "postgres"
when_missing = "refuse"
[cluster.settings]
shared_buffers = "256MB"
[[store]]
url = "file:///app/backups/postgres"
[log]
directory = "/app/logs"
[dump]
schedule = "0 2 * * *"
[backup]
schedule = "30 2 * * *"
[retention]
keep_days = 7
[wal]
ship_interval = "1s"
[drill]
restore = "0 4 * * 0"
[health]
listen = "127.0.0.1:9432"
dump_max_age = "26h"
[[health.probe]]
name = "orders"
database = "customerInvoice"
sql = "select count(*) from orders"
"#;

fn sources(text: &str) -> Sources {
    Sources {
        file: Some(SourceFile { path: "/etc/p.toml".into(), text: text.to_owned() }),
        working_directory: "/somewhere".into(),
        ..Sources::default()
    }
}

fn load(text: &str) -> Result<Config> {
    Config::load(&sources(text))
}

fn refusal(text: &str) -> (String, Option<String>) {
    let error = load(text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    (error.to_string(), error.remedy())
}

fn source_of(config: &Config, key: &str) -> String {
    config.values().iter().find(|value| value.key == key).unwrap().source.to_string()
}

#[test]
fn without_any_source_every_default_is_safe() {
    let config = Config::load(&Sources { working_directory: "/".into(), ..Sources::default() }).unwrap();
    assert_eq!((config.cluster.name.as_str(), config.cluster.port), ("main", 5432));
    assert_eq!(config.cluster.when_missing, WhenMissing::Refuse);
    assert!(config.retention.is_empty());
    assert_eq!(config.health.dump_max_age, Duration::from_secs(26 * 3600));
    assert_eq!(config.health.backup_max_age, Duration::from_secs(26 * 3600));
    assert_eq!(config.health.drill_max_age, Duration::from_secs(35 * 86_400));
    assert_eq!((config.backup.full_read_days, config.schedule.backup_deadline), (7, Duration::from_secs(12 * 3600)));
    assert!(config.schedule.backup.is_none());
    assert_eq!(config.data_directory().unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(config.primary_store().unwrap_err().kind(), ErrorKind::Invalid);
    assert!(config.warnings.is_empty());
}

#[test]
fn the_file_of_the_contract_loads_and_names_what_is_not_used_yet() {
    let config = load(CONTRACT).unwrap();
    assert_eq!(config.data_directory().unwrap(), Path::new("/app/pgdata"));
    assert_eq!(config.cluster.databases, ["customerInvoice"]);
    assert_eq!(config.cluster.settings["shared_buffers"], "256MB");
    assert_eq!(config.primary_store().unwrap().url.folder(), Some(Path::new("/app/backups/postgres")));
    assert_eq!(config.values().iter().find(|v| v.key == "store.0.url").unwrap().value, "file:///app/backups/postgres");
    assert_eq!(config.retention.keep_days, Some(7));
    assert_eq!(config.health.probes[0].sql, "select count(*) from orders");
    assert_eq!(config.health.listen, Some("127.0.0.1:9432".parse().unwrap()));
    assert_eq!(config.schedule.dump.as_ref().unwrap().describe().as_deref(), Some("0 2 * * * UTC"));
    assert_eq!(config.schedule.named().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["dump", "backup", "prune", "restore_drill"]);
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].starts_with("`wal.ship_interval` (/etc/p.toml:22)"), "{}", config.warnings[0]);
}

#[test]
fn the_example_loads_without_a_warning_and_shows_every_key() {
    let config = load(EXAMPLE).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    for key in keys::KEYS.iter().chain(keys::STORE_KEYS).chain(keys::PROBE_KEYS).chain(keys::CHECK_KEYS) {
        let word = key.name.rsplit('.').next().unwrap();
        let is_shown = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&format!("{word} = "));
        let shown = EXAMPLE.lines().any(|line| is_shown(line) || line.split(['{', ',']).any(is_shown));
        assert!(shown, "{} is not in the example", key.name);
    }
}

#[test]
fn the_example_stays_valid_when_its_comments_are_taken_away() {
    let uncommented: String = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| rest.starts_with('[') || rest.contains(" = ")).unwrap_or(line))
        .filter(|line| !line.contains("encryption"))
        // The address stands in the line before.
        .filter(|line| !line.starts_with("webhook_file"))
        .map(|line| format!("{line}\n"))
        .collect();
    let config = load(&uncommented).unwrap();
    assert_eq!((config.retention.max_bytes, config.stores[1].retention.keep_monthly), (Some(50 << 30), Some(12)));
    assert_eq!(config.health.token_file.as_deref(), Some(Path::new("/etc/http.token")));
    assert_eq!(config.schedule.dump.unwrap().jitter, Duration::from_secs(600));
    assert_eq!(config.hooks.webhook.unwrap().to_string(), "https://hooks.example.com");
    assert_eq!(config.hooks.command.unwrap().expose().as_slice(), ["/usr/local/bin/alert", "--pager"]);
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn each_source_beats_the_weaker_ones_and_is_named() {
    let mut sources = sources("[cluster]\nport = 1\nname = 'file'\n");
    let set = |sources: &mut Sources, name: &str, value: &str| sources.environment.insert(name.to_owned(), value.to_owned());
    set(&mut sources, "PGPORT", "2");
    set(&mut sources, "PGDATA", "/from/pgdata");
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.cluster.port, 1);
    assert_eq!(source_of(&config, "cluster.port"), "/etc/p.toml:2");
    assert_eq!(source_of(&config, "cluster.data_directory"), "PGDATA");
    assert_eq!(source_of(&config, "cluster.os_user"), "default");

    set(&mut sources, "PGPERSIST_CLUSTER_PORT", "3");
    set(&mut sources, "PGPERSIST_CLUSTER_NAME", "variable");
    sources.flags = vec![Flag { key: "cluster.data_directory", option: "--data-directory", values: vec!["relative".into()] }];
    let config = Config::load(&sources).unwrap();
    assert_eq!((config.cluster.port, config.cluster.name.as_str()), (3, "variable"));
    assert_eq!(config.data_directory().unwrap(), Path::new("/somewhere/relative"));
    assert_eq!(source_of(&config, "cluster.data_directory"), "--data-directory");
    assert_eq!(source_of(&config, "cluster.port"), "PGPERSIST_CLUSTER_PORT");
}

#[test]
fn a_stronger_source_replaces_the_stores_as_a_whole() {
    let mut sources = sources("[[store]]\nurl = 'backups'\n[[store]]\nurl = '/second'\n");
    let urls = |config: &Config| config.stores.iter().map(|store| store.url.to_string()).collect::<Vec<_>>();
    assert_eq!(urls(&Config::load(&sources).unwrap()), ["/etc/backups", "/second"]);
    sources.flags = vec![Flag { key: "store.url", option: "--store", values: vec!["here".into()] }];
    assert_eq!(urls(&Config::load(&sources).unwrap()), ["/somewhere/here"]);
}

#[test]
fn an_option_may_name_a_configured_store_and_means_all_that_is_said_of_it() {
    let text =
        "[retention]\nkeep_days = 7\n[[store]]\nurl = '/first'\n[[store]]\nurl = 'file:///second'\nkeep_monthly = 12\nmax_bytes = '1GB'\n";
    let with = |values: &[&str]| {
        let mut sources = sources(text);
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        sources.flags = vec![Flag { key: "store.url", option: "--store", values }];
        Config::load(&sources)
    };
    let urls = |config: &Config| config.stores.iter().map(|store| store.url.to_string()).collect::<Vec<_>>();
    for named in ["2", "/second", "file:///second"] {
        let config = with(&[named]).unwrap();
        assert_eq!((urls(&config), config.stores[0].retention.keep_monthly), (vec!["/second".to_owned()], Some(12)), "{named}");
        assert_eq!((config.stores[0].source.to_string(), config.configured_stores.len()), ("--store".to_owned(), 2));
        assert_eq!(config.values().iter().find(|value| value.key == "store.0.keep_monthly").unwrap().value, 12);
    }
    assert_eq!(urls(&with(&["2", "1"]).unwrap()), ["/second", "/first"]);
    let elsewhere = with(&["./2", "/other"]).unwrap();
    assert_eq!(
        (urls(&elsewhere), elsewhere.stores[0].retention.keep_days),
        (vec!["/somewhere/./2".to_owned(), "/other".to_owned()], Some(7))
    );
    for (named, told) in [("0", "there is no store 0: 2 stores"), ("3", "there is no store 3: 2 stores are configured")] {
        let error = with(&[named]).unwrap_err();
        assert!(error.to_string().contains(told) && error.remedy().unwrap().contains(&format!("./{named}")), "{error}");
    }
    let mut by_variable = sources(text);
    by_variable.environment.insert("PGPERSIST_STORE_URL".into(), "/second".into());
    assert_eq!(Config::load(&by_variable).unwrap().stores[0].retention.keep_monthly, Some(12));
}

#[test]
fn a_store_with_rules_of_its_own_keeps_by_these_alone_and_options_beat_all() {
    let text = "[retention]\nkeep_days = 7\nmax_bytes = '1GB'\n[[store]]\nurl = '/a'\n[[store]]\nurl = '/b'\nkeep_monthly = 12\n";
    let mut sources = sources(text);
    let rules = |config: &Config, place: usize| config.stores[place].retention;
    let config = Config::load(&sources).unwrap();
    assert_eq!(rules(&config, 0), config.retention);
    assert_eq!(rules(&config, 1), Retention { keep_monthly: Some(12), ..Retention::default() });
    sources.flags = vec![Flag { key: "retention.keep_days", option: "--keep-days", values: vec!["3".into()] }];
    let config = Config::load(&sources).unwrap();
    assert_eq!((rules(&config, 0).keep_days, rules(&config, 0).max_bytes), (Some(3), Some(1 << 30)));
    assert_eq!(rules(&config, 1), Retention { keep_days: Some(3), keep_monthly: Some(12), ..Retention::default() });
    let (_, remedy) = refusal("[[store]]\nurl = 'x'\nkeep_montly = 12\n");
    assert_eq!(remedy.unwrap(), "did you mean `keep_monthly`?");
    // Where only a copy has rules, a scheduled dump is followed by pruning all the same.
    let config = load("[dump]\nschedule = '0 2 * * *'\n[[store]]\nurl = '/a'\n[[store]]\nurl = '/b'\nkeep_last = 1\n").unwrap();
    assert_eq!(config.schedule.named().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["dump", "sync", "prune"]);
    assert!(config.warnings.is_empty());
    let by_hand = "[[store]]\nurl = '/a'\n[[store]]\nurl = '/b'\n";
    assert!(load(by_hand).unwrap().schedule.named().is_empty() && load(by_hand).unwrap().schedule.sync.is_some());
    let set = load(&format!("{by_hand}[sync]\nschedule = '0 * * * *'\n")).unwrap();
    assert_eq!(set.schedule.named()[0].0, "sync");
    let lonely = load("[[store]]\nurl = '/a'\n[sync]\nschedule = '0 * * * *'\n").unwrap();
    assert!(lonely.schedule.sync.is_none() && lonely.warnings[0].contains("`sync.schedule`"), "{:?}", lonely.warnings);
}

#[test]
fn backups_have_times_of_their_own_and_retention_follows_them_too() {
    let text =
        "[backup]\nschedule = '30 2 * * *'\ndeadline = '3h'\nfull_read_days = 0\n[retention]\nkeep_last = 3\n[schedule]\njitter = '5m'\n";
    let config = load(text).unwrap();
    assert_eq!(config.schedule.named().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["backup", "prune"]);
    assert_eq!((config.backup.full_read_days, config.schedule.backup_deadline), (0, Duration::from_secs(3 * 3600)));
    let (backup, prune) = (config.schedule.backup.unwrap(), config.schedule.prune.unwrap());
    assert_eq!((backup.describe().as_deref(), backup.jitter), (Some("30 2 * * * UTC"), Duration::from_secs(300)));
    assert_eq!(prune.describe(), None);
    for (wrong, told) in [
        ("schedule = 'daily'", "`backup.schedule`: "),
        ("full_read_days = -1", "expected a whole number of days, 0 to 36500, found `-1`"),
        ("known_damage = 'base/5/16384:7'", "expected a list of damaged pages"),
        ("known_damage = ['base/5/16384:7']", "found `base/5/16384:7` in the list"),
        ("full_read_days = '7d'", "expected a whole number of days, 0 to 36500, without quotes"),
    ] {
        let (text, _) = refusal(&format!("[backup]\n{wrong}\n"));
        assert!(text.contains(told), "{text}");
    }
    let (_, remedy) = refusal("[backup]\nfull_reads_days = 7\n");
    assert_eq!(remedy.unwrap(), "did you mean `full_read_days`?");
}

#[test]
fn an_unknown_key_names_file_line_and_the_nearest_one() {
    let (text, remedy) = refusal("[cluster]\n\nprot = 5432\n");
    assert_eq!(text, "/etc/p.toml, line 3, `cluster.prot`: unknown key");
    assert_eq!(remedy.unwrap(), "did you mean `port`?");
    let (text, remedy) = refusal("[cluter]\nport = 5432\n");
    assert_eq!(text, "/etc/p.toml, line 1, `cluter`: unknown key");
    assert_eq!(remedy.unwrap(), "did you mean `cluster`?");
    let (_, remedy) = refusal("[[store]]\nurll = 'x'\n");
    assert_eq!(remedy.unwrap(), "did you mean `url`?");
    for list in ["health.probe", "drill.check"] {
        let (_, remedy) = refusal(&format!("[[{list}]]\nnam = 'x'\n"));
        assert_eq!(remedy.unwrap(), "did you mean `name`?");
    }
    let (_, remedy) = refusal("[[drill.chek]]\nname = 'x'\n");
    assert_eq!(remedy.unwrap(), "did you mean `check`?");
}

#[test]
fn checks_of_drills_are_read_and_shown_in_their_order() {
    let check = |name: &str| format!("[[drill.check]]\nname = '{name}'\ndatabase = 'shop'\nsql = 'select true'\n");
    let config = load(&(check("b") + &check("a"))).unwrap();
    let names: Vec<_> = config.drill_checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(source_of(&config, "drill.check.a"), "/etc/p.toml:5");
    assert!(refusal(&(check("a") + &check("a"))).0.contains("there are two checks `a`"));
    let mut sources = sources("");
    sources.environment.insert("PGPERSIST_DRILL_CHECK_A".into(), "x".into());
    assert!(Config::load(&sources).unwrap_err().remedy().unwrap().contains("write `[[drill.check]]`"));
}

#[test]
fn a_wrong_value_says_what_was_expected() {
    for (text, expected) in [
        ("cluster.port = '5432'", "without quotes"),
        ("cluster.port = 70000", "expected a port, 1 to 65535, found `70000`"),
        ("cluster.port = true", "found true or false"),
        ("cluster.name = 'a/b'", "expected a name"),
        ("cluster.name = ''", "found nothing"),
        ("cluster.name = \"a\\u0000\"", "NUL"),
        ("cluster.databases = 'x'", "expected a list of database names"),
        ("cluster.databases = ['x', 'x']", "named twice"),
        ("cluster.databases = [7]", "in quotes"),
        ("cluster.when_missing = 'panic'", "expected `refuse` or `restore`, found `panic`"),
        ("cluster.settings = 7", "expected a section"),
        ("cluster.settings.'a b' = 7", "no setting of PostgreSQL has such a name"),
        ("cluster.settings.a = [1]", "a number, true or false"),
        ("cluster.settings.a = \"x\\ny\"", "without line breaks"),
        ("cluster = 1", "expected a section"),
        ("store = 'x'", "there can be several"),
        ("[store]\nurl = 'x'", "there can be several"),
        ("[[store]]", "has no `url`"),
        ("[[store]]\nurl = 'x'\nkeep_days = '7'", "expected a whole number"),
        ("[[store]]\nurl = 'x'\nkeep_days = 0", "expected a whole number"),
        ("[[store]]\nurl = '/x'\n[[store]]\nurl = 'file:///x/'", "the store /x/ is named twice"),
        ("[[store]]\nurl = '/x'\n[[store]]\nurl = '/x/copy'", "lie in each other"),
        ("sync.schedule = 'hourly'", "schedule"),
        ("[[store]]\nurl = 's3://'", "names no bucket"),
        ("[[store]]\nurl = 'file://host/x'", "three slashes"),
        ("[[store]]\nurl = 's3://key:canary@acme/prod'", "holds a user name or a password"),
        ("[[health.probe]]\nname = 'x'", "needs `name`, `database` and `sql`"),
        ("[[drill.check]]\nname = 'x'\nsql = 'y'", "a check needs `name`, `database` and `sql`; add `database` to it"),
        ("[drill.check]\nname = 'x'", "there can be several"),
        ("drill.check = 7", "there can be several"),
        ("health.drill_max_age = '35'", "is no duration"),
        ("health.dump_max_age = '26'", "is no duration"),
        ("health.dump_max_age = 26", "in quotes"),
        ("health.disk_warn_percent = 99", "is above `disk_fail_percent`"),
        ("health.disk_full_warn = \"1d\"", "1 d is less than `disk_full_fail`, 3 d"),
        ("cluster.ballast = \"16MB\"", "16 MB is too little to start a server with"),
        ("health.listen = 9432", "found a number"),
        ("health.listen = '9432'", "expected an IP address and a port such as `127.0.0.1:9432`"),
        ("health.listen = 'localhost:9432'", "expected an IP address and a port"),
        ("health.listen = '127.0.0.1:94320'", "expected an IP address and a port"),
        ("hooks.command = []", "a program and its arguments, such as"),
        ("hooks.command = ['']", "no name of a program"),
        ("hooks.command = 'canary'", "found text"),
        ("hooks.command = ['x', 7]", "found a number in the list"),
        ("hooks.webhook = 'canary'", "one without `https://`"),
        ("hooks.webhook = 'https://x:canary@example.com/'", "a user name or a password"),
        ("hooks.heartbeat = 'ftp://canary/'", "another scheme"),
        ("hooks.webhook = 'https://x/canary'\nhooks.webhook_file = 'x'", "`webhook` names an address already"),
        ("hooks.interval = '0s'", "expected at least 1 s, found `0s`"),
        ("hooks.deadline = '500ms'", "expected at least 1 s"),
        ("hooks.heartbeat_interval = '60'", "is no duration"),
        ("retention.keep_days = 0", "expected a whole number, 1 to"),
        ("retention.keep_days = 1.5", "expected a whole number"),
        ("retention.max_bytes = 'many'", "is no size"),
        ("cluster.port = 1\ncluster.port = 2", "line 2"),
        ("[cluster", "line 1"),
    ] {
        let (message, remedy) = refusal(text);
        let message = format!("{message}; {}", remedy.unwrap_or_default());
        assert!(message.contains(expected) && !message.contains("canary"), "{text}: {message}");
        assert!(message.starts_with("/etc/p.toml, line "), "{message}");
    }
}

#[test]
fn any_address_can_be_listened_on_and_a_token_for_none_is_told() {
    for (written, read) in [("[::1]:9432", "[::1]:9432"), ("0.0.0.0:0", "0.0.0.0:0")] {
        let config = load(&format!("health.listen = '{written}'\nhealth.token_file = 'secrets/token'")).unwrap();
        assert_eq!(config.health.listen.unwrap().to_string(), read);
        assert_eq!(config.health.token_file.as_deref(), Some(Path::new("/etc/secrets/token")));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }
    let alone = load("health.token_file = 'token'").unwrap();
    assert_eq!(alone.warnings, ["`health.token_file` (/etc/p.toml:1) opens nothing without `health.listen`"]);
}

#[test]
fn hooks_are_read_and_what_has_no_effect_is_told() {
    let config =
        load("[hooks]\nwebhook = 'http://example.com/canary'\nwebhook_token_file = 'token'\nca_file = 'ca.pem'\ninterval = '5s'").unwrap();
    assert!(!config.hooks.is_empty());
    assert_eq!((config.hooks.interval, config.hooks.deadline), (Duration::from_secs(5), Duration::from_secs(30)));
    assert_eq!(config.hooks.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
    assert_eq!(config.warnings, ["`hooks.webhook_token_file` (/etc/p.toml:3) goes to http://example.com for everybody on the way to read"]);
    let text = "[hooks]\nwebhook_token_file = 'x'\nca_file = 'x'\ninterval = '5s'\ndeadline = '5s'\nheartbeat_interval = '5s'";
    let config = load(text).unwrap();
    assert!(config.hooks.is_empty());
    let keys: Vec<_> = config.warnings.iter().filter_map(|warning| warning.split('`').nth(1)).collect();
    assert_eq!(keys, ["hooks.webhook_token_file", "hooks.ca_file", "hooks.interval", "hooks.deadline", "hooks.heartbeat_interval"]);
    let mut sources = sources("");
    sources.environment.insert("PGPERSIST_HOOKS_COMMAND".into(), "/bin/alert --to me".into());
    sources.environment.insert("PGPERSIST_HOOKS_WEBHOOK".into(), "https://example.com/canary".into());
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.hooks.command.unwrap().expose().as_slice(), ["/bin/alert", "--to", "me"]);
    assert_eq!(config.hooks.webhook.unwrap().target().expose(), "/canary");
}

const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

#[test]
fn encryption_belongs_to_its_store_and_names_files_only() {
    let config = load(&format!(
        "[[store]]\nurl = '/a'\nencryption = {{ recipients = ['{RECIPIENT}'], passphrase_file = 'words', identity_file = '/key' }}\n\
         [[store]]\nurl = '/b'\n[store.encryption]\nidentity_file = 'key'\n"
    ))
    .unwrap();
    let [first, second] = &config.stores[..] else { panic!("two stores") };
    assert_eq!(first.encryption.recipients.iter().map(ToString::to_string).collect::<Vec<_>>(), [RECIPIENT]);
    assert_eq!(first.encryption.passphrase_file.as_deref(), Some(Path::new("/etc/words")));
    assert_eq!(first.encryption.identity_file.as_deref(), Some(Path::new("/key")));
    assert!(first.encryption.encrypts() && !second.encryption.encrypts());
    assert!(
        config.warnings.iter().any(|warning| warning.contains("`store.encryption.identity_file` (/etc/p.toml:7)")),
        "{:?}",
        config.warnings
    );
    let shown = |key: &str| config.values().iter().find(|value| value.key == key).unwrap().value.clone();
    assert_eq!(shown("store.0.encryption.recipients"), serde_json::json!([RECIPIENT]));
    assert_eq!(shown("store.0.encryption.passphrase_file"), "/etc/words");
}

#[test]
fn a_copy_is_encrypted_as_the_first_store_is_or_alone() {
    let stores = |first: &str, second: &str| {
        let of = |url: &str, recipients: &str| match recipients {
            "" => format!("[[store]]\nurl = '{url}'\n"),
            recipients => format!("[[store]]\nurl = '{url}'\nencryption = {{ recipients = {recipients} }}\n"),
        };
        of("/a", first) + &of("/b", second)
    };
    let other = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg";
    let one = format!("['{RECIPIENT}']");
    for (first, second, encrypts) in [(one.as_str(), "", [true, true]), (&one, &one, [true, true]), ("", &one, [false, true])] {
        let config = load(&stores(first, second)).unwrap();
        assert_eq!(config.stores.iter().map(|store| store.encryption.encrypts()).collect::<Vec<_>>(), encrypts, "{first} {second}");
    }
    let (text, remedy) = refusal(&stores(&one, &format!("['{other}']")));
    assert!(text.contains("the first store is encrypted"), "{text}");
    assert!(remedy.unwrap().contains("its copies follow it"));
}

#[test]
fn wrong_encryption_is_refused_with_the_place_and_never_repeats_a_secret() {
    let secret = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    for (encryption, expected) in [
        ("{ recipient = ['x'] }", "did you mean `recipients`?"),
        ("{ identityfile = 'x' }", "did you mean `identity_file`?"),
        ("{}", "it says to whom nothing"),
        ("true", "expected a table"),
        ("{ recipients = 'age1' }", "expected a list of public keys"),
        ("{ recipients = [] }", "found none"),
        ("{ recipients = ['age1...'] }", "`age1...` is no public key of age"),
        ("{ recipients = ['ssh-ed25519 AAAA'] }", "does not encrypt to"),
        (&format!("{{ recipients = ['{secret}'] }}"), "a private key stands where a public one belongs"),
        (&format!("{{ recipients = ['{RECIPIENT}', '{RECIPIENT}'] }}"), "is named twice"),
        ("{ passphrase_file = '' }", "found nothing"),
    ] {
        let (text, remedy) = refusal(&format!("[[store]]\nurl = '/backups'\nencryption = {encryption}\n"));
        let text = format!("{text}; {}", remedy.unwrap_or_default());
        assert!(
            text.starts_with("/etc/p.toml, line 3, `store.encryption") && text.contains(expected) && !text.contains(secret),
            "{encryption}: {text}"
        );
    }
}

#[test]
fn settings_of_postgresql_become_text() {
    let config = load("[cluster.settings]\na = 7\nb = 1.5\nc = true\npg_stat_statements.max = 100\n").unwrap();
    let settings: Vec<_> = config.cluster.settings.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(settings, ["a=7", "b=1.5", "c=on", "pg_stat_statements.max=100"]);
}

#[test]
fn show_never_holds_a_secret() {
    let mut sources = sources("[cluster.settings]\nprimary_conninfo = 'host=x password=canary'\n");
    sources.environment.insert("PGPASSWORD".into(), "canary".into());
    sources.environment.insert("PGPERSIST_HOOKS_WEBHOOK".into(), "https://example.com/canary?canary".into());
    sources.environment.insert("PGPERSIST_HOOKS_HEARTBEAT".into(), "https://example.com/canary".into());
    sources.environment.insert("PGPERSIST_HOOKS_COMMAND".into(), "/bin/alert canary".into());
    let config = Config::load(&sources).unwrap();
    assert!(!format!("{:?}", config.values()).contains("canary"), "{:?}", config.values());
    assert!(!format!("{:?}", config.connection).contains("canary"));
    assert!(!format!("{:?}", config.hooks).contains("canary"), "{:?}", config.hooks);
    let shown = |key: &str| config.values().iter().find(|value| value.key == key).unwrap().value.clone();
    assert_eq!(shown("hooks.webhook"), "https://example.com/***");
    assert_eq!(shown("hooks.command"), serde_json::json!(["/bin/alert", "***"]));
    assert_eq!(source_of(&config, "environment.PGPASSWORD"), "PGPASSWORD");
    assert_eq!(config.connection.password("x", 1, "y", "z").unwrap().expose(), "canary");
}

proptest::proptest! {
    #[test]
    fn no_file_causes_a_panic(text in "[\\[\\]=a-z\\.\"'\n0-9 {}]{0,80}") {
        let _ = load(&text);
    }
}

#[test]
fn what_a_program_gives_beats_all_else_and_is_checked_like_a_file() {
    let mut sources = sources("[cluster]\nport = 1111\nname = \"file\"");
    sources.given = toml::toml! {
        [cluster]
        port = 2222
        databases = ["a", "b"]
        [cluster.settings]
        "pg_stat_statements.max" = 100
        [[store]]
        url = "relative"
    };
    let config = Config::load(&sources).unwrap();
    assert_eq!((config.cluster.port, config.cluster.name.as_str(), config.cluster.databases.len()), (2222, "file", 2));
    assert_eq!(config.cluster.settings["pg_stat_statements.max"], "100");
    assert!(config.stores[0].url.folder().unwrap().is_absolute());
    assert_eq!(config.values().iter().find(|value| value.key == "cluster.port").unwrap().source.to_string(), "the program");
    sources.given = toml::toml! {
        [cluster]
        prot = 1
    };
    let error = Config::load(&sources).unwrap_err();
    assert_eq!(error.to_string(), "`cluster.prot`: unknown key");
    assert_eq!(error.remedy().unwrap(), "did you mean `port`?");
}
