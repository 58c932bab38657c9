//! Where everything lies and whether that survives, read from what the health checks observed: one look for all who tell of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::health::checks::{disk, placement};
use crate::health::report::Report;

/// One place that the cluster depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaceFacts {
    /// What lies there: `data`, `wal`, `tablespace`, `store`, `log`, or `own files`.
    pub place: String,
    /// Its path.
    pub path: String,
    /// `persistent`, `ephemeral` or `unknown`.
    pub verdict: String,
    /// What the verdict rests on, one fact each.
    #[serde(default)]
    pub evidence: Vec<String>,
    /// Where the file system is mounted.
    #[serde(default)]
    pub mount_point: String,
    /// Its type, such as `ext4`.
    #[serde(default)]
    pub fs_type: String,
    /// What is mounted, such as `/dev/nvme0n1`.
    #[serde(default)]
    pub source: String,
    /// Whether it is lost together with the data.
    #[serde(default)]
    pub same_device_as_data: bool,
    /// What may still be written.
    #[serde(default)]
    pub free_bytes: Option<u64>,
    /// What is in use and free.
    #[serde(default)]
    pub total_bytes: Option<u64>,
    /// How much more is in use each day; negative when it becomes less, null when that is not known.
    #[serde(default)]
    pub growth_bytes_per_day: Option<f64>,
    /// In how many seconds it is full at that rate; null when it is not filling, or when that is not known.
    #[serde(default)]
    pub full_in_s: Option<f64>,
}

/// In how many boots of the machine the volume was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survival {
    /// How many; from 2 on it has survived one.
    pub boots: u64,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

impl PlaceFacts {
    /// The part in use, from 0 to 1.
    pub fn used_fraction(&self) -> Option<f64> {
        let (free, total) = self.free_bytes.zip(self.total_bytes).filter(|(_, total)| *total > 0)?;
        Some((1.0 - free as f64 / total as f64).clamp(0.0, 1.0))
    }
}

/// The places that a report observed.
pub fn places(report: &Report) -> Vec<PlaceFacts> {
    let room = observed(report, disk::NAME);
    let mut places: Vec<PlaceFacts> =
        observed(report, placement::NAME).iter().filter_map(|place| PlaceFacts::deserialize(*place).ok()).collect();
    for place in &mut places {
        let of_it = |seen: &&&Value| seen["path"] == place.path.as_str() && seen["place"] == place.place.as_str();
        let Some(seen) = room.iter().find(of_it) else { continue };
        place.free_bytes = seen["free_bytes"].as_u64();
        place.total_bytes = seen["total_bytes"].as_u64();
        place.growth_bytes_per_day = seen["growth_bytes_per_day"].as_f64();
        place.full_in_s = seen["full_in_s"].as_f64().filter(|seconds| *seconds >= 0.0);
    }
    places
}

/// What a report observed of earlier boots.
pub fn survival(report: &Report) -> Option<Survival> {
    Survival::deserialize(report.finding(placement::NAME)?.observed.get("sentinel")?).ok()
}

fn observed<'a>(report: &'a Report, name: &str) -> Vec<&'a Value> {
    let places = report.finding(name).and_then(|finding| finding.observed.get("places")).and_then(Value::as_array);
    places.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Finding;
    use serde_json::json;
    use time::macros::datetime;

    #[test]
    fn a_place_is_told_with_its_room_and_what_is_not_there_is_not_known() {
        let place = |path: &str| json!({ "place": "data", "path": path, "verdict": "persistent", "evidence": ["ext4 on /dev/sda1"] });
        let room = json!([{ "place": "data", "path": "/a", "free_bytes": 25, "total_bytes": 100, "growth_bytes_per_day": 2.5, "full_in_s": 864_000 }]);
        let report = Report::new(
            datetime!(2026-02-08 11:33 UTC),
            vec![
                Finding::pass("placement", "")
                    .observing("places", json!([place("/a"), place("/b"), { "odd": 1 }]))
                    .observing("sentinel", json!({ "boots": 3, "since": "2026-01-14T10:00:00Z", "is_new_boot": true })),
                Finding::pass("disk", "").observing("places", room),
            ],
        );
        let places = places(&report);
        assert_eq!(places.len(), 2);
        assert_eq!(
            (places[0].used_fraction(), places[0].growth_bytes_per_day, places[0].full_in_s),
            (Some(0.75), Some(2.5), Some(864_000.0))
        );
        assert_eq!((places[1].used_fraction(), places[1].full_in_s), (None, None));
        assert_eq!(survival(&report).unwrap().boots, 3);
        let nothing = Report::new(datetime!(2026-02-08 11:33 UTC), vec![]);
        assert!(super::places(&nothing).is_empty() && survival(&nothing).is_none());
    }
}
