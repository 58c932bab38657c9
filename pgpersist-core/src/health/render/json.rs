//! A report for programs. Promised: `status`, `time`, and in `findings[]` `name`, `status`, `summary`, `observed`, `remedy`
//! (null where there is none). Fields may be added, also in `observed`.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::health::report::Report;

/// The document.
///
/// # Errors
/// [`Error::Bug`] when the time of the report lies outside of the years that RFC 3339 can write.
pub fn render(report: &Report) -> Result<Value> {
    serde_json::to_value(report).map_err(|e| Error::Bug(format!("a health report is no JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::render::text::tests::report;

    #[test]
    fn the_promised_fields_are_there_and_read_back() {
        let document = render(&report()).unwrap();
        assert_eq!((document["status"].as_str(), document["time"].as_str()), (Some("warn"), Some("2026-02-08T11:33:16Z")));
        for finding in document["findings"].as_array().unwrap() {
            for field in ["name", "status", "summary", "observed", "remedy"] {
                assert!(finding.get(field).is_some(), "{field} is missing in {finding}");
            }
        }
        assert_eq!(document["findings"][0]["remedy"], Value::Null);
        assert_eq!(serde_json::from_value::<Report>(document).unwrap(), report());
    }
}
