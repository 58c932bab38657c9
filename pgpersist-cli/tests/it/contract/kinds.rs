//! What the value of each promised field looks like.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Fails unless the value fits the last word of its place in a document. A word that is not known here is a mistake of the
/// line: each promised field has a type.
#[track_caller]
pub(super) fn assert_kind(pointer: &str, value: &Value) {
    let word = pointer.split('/').rfind(|part| part.parse::<usize>().is_err()).unwrap_or_default();
    let text = value.as_str().unwrap_or_default();
    let fits = match word {
        "pid" | "port" | "rounds" | "files" | "data_keys" => value.as_u64().is_some_and(|number| number > 0),
        "size_bytes" | "stored_bytes" | "new_bytes" | "bytes" | "freed_bytes" | "pending_bytes" | "unfinished_uploads" | "objects"
        | "seed" | "acknowledged" | "in_flight" | "lost" | "torn" | "uncompressed_bytes" | "rows" | "rows_expected" | "rows_found"
        | "table_count" | "free_bytes" | "total_bytes" | "unread_bytes" | "moved_bytes" | "kept_bytes" | "kept_files" | "written_bytes"
        | "removed_files" | "timeline" => value.is_u64(),
        "put_bytes_per_second" | "get_bytes_per_second" => value.as_f64().is_some_and(|rate| rate > 0.0),
        "put" | "get" | "head" | "list" | "duration_s" | "downtime_s" | "min" | "median" | "max" | "cluster_s" | "restore_s"
        | "dump_age_s" | "age_s" | "load_s" | "check_s" | "start_s" | "copy_s" | "stop_s" | "publish_s" | "read_s" | "verify_s"
        | "hash_s" | "compress_s" | "wait_s" | "put_s" | "fsync_s" => value.as_f64().is_some_and(|seconds| seconds >= 0.0),
        "verified" | "valid" | "changed" | "resumed" | "immediate" | "present" | "matches" => value.is_boolean(),
        "started_at" | "made_at" | "taken_at" | "time" | "since" | "last_dump_at" | "proven_at" | "removed_after" => {
            OffsetDateTime::parse(text, &Rfc3339).is_ok_and(|time| time.offset().is_utc())
        }
        "start_lsn" | "stop_lsn" | "end_lsn" => text.split_once('/').is_some_and(|(high, low)| !high.is_empty() && !low.is_empty()),
        "public_key" | "data_key" | "recipients" | "holder" | "holders" => text.starts_with("age1"),
        "sha256" => text.len() == 64 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')),
        // Text, since a number of 64 bits is rounded by many readers of JSON.
        "system_identifier" => text.parse::<u64>().is_ok(),
        "version" | "server_version" | "program_version" => text.starts_with(|digit: char| digit.is_ascii_digit()),
        "data_directory" | "socket_directory" | "log_file" | "from" | "to" | "file" | "path" | "own_folder" => text.starts_with('/'),
        "status" if !value.is_null() => matches!(text, "pass" | "warn" | "unknown" | "fail"),
        "state" => matches!(
            text,
            "running"
                | "recovering"
                | "starting"
                | "stopping"
                | "stopped"
                | "absent"
                | "empty"
                | "half_made"
                | "foreign"
                | "damaged"
                | "complete"
        ),
        "verdict" => matches!(text, "pass" | "fail"),
        "fitness" => matches!(text, "good" | "weak" | "unfit"),
        "observed" | "tables" | "side_file" => value.is_object(),
        "value" => !value.is_null(),
        "action" | "name" | "database" | "reason" | "remedy" | "summary" | "key" | "source" | "plan" | "steps" | "dumps" | "warnings"
        | "undo" | "kept_aside" | "set_aside" | "kind" | "host" | "user" | "url" | "shell" | "script" | "example" | "detail" | "causes"
        | "error" | "proves" | "proves_not" | "reasons" | "id" | "target" | "cluster" | "store" | "kept_commands" | "about" | "advice"
        | "part" | "place" | "notes" | "what" | "before" | "after" | "dump" | "backup" => !text.is_empty(),
        other => panic!("no type is promised for `{other}` ({pointer})"),
    };
    assert!(fits, "{pointer} is {value}");
}
