//! Results as Markdown: minimum, median and maximum, and what they are to each other.

use crate::support::measure::Cost;

/// One variant and the costs of its runs.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) costs: Vec<Cost>,
}

impl Row {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, costs: Vec::new() }
    }

    /// Seconds from exec to exit, sorted.
    pub(crate) fn walls(&self) -> Vec<f64> {
        sorted(self.costs.iter().map(|cost| cost.wall.as_secs_f64()))
    }

    /// Processor seconds of tool and server, sorted.
    pub(crate) fn cpus(&self) -> Vec<f64> {
        sorted(self.costs.iter().map(|cost| cost.tool_cpu + cost.server_cpu))
    }

    fn line(&self) -> String {
        let (wall, tool, server) =
            (self.walls(), sorted(self.costs.iter().map(|c| c.tool_cpu)), sorted(self.costs.iter().map(|c| c.server_cpu)));
        let peak = |of: fn(&Cost) -> u64| self.costs.iter().map(of).max().unwrap_or(0) as f64 / 1024.0 / 1024.0;
        format!(
            "| {} | {} | {:.2} / {:.2} / {:.2} | {:.2} + {:.2} | {:.0} / {:.0} | {:.1} |",
            self.name.replace('|', "\\|"),
            wall.len(),
            wall[0],
            median(&wall),
            wall[wall.len() - 1],
            median(&tool),
            median(&server),
            peak(|c| c.largest_bytes),
            peak(|c| c.tree_bytes),
            peak(|c| c.written_bytes),
        )
    }
}

/// The table of all variants.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = "| variant | n | wall s min / median / max | CPU s tool + server (medians) | memory MiB largest / tree | MiB written |\n|---|---|---|---|---|---|\n".to_owned();
    for row in rows {
        text += &row.line();
        text.push('\n');
    }
    text
}

/// How many times as long the peer takes: the ratio of the medians, and of the minima, which other work on the machine
/// touches least.
pub(crate) fn times_as_fast(ours: &Row, peer: &Row) -> (f64, f64) {
    let (ours, peer) = (ours.walls(), peer.walls());
    (median(&peer) / median(&ours), peer[0] / ours[0])
}

/// A line that compares with a target.
pub(crate) fn verdict(what: &str, target: f64, (median, minimum): (f64, f64)) -> String {
    let met = |ratio: f64| if ratio >= target { "met" } else { "missed" };
    format!("| {what} | ≥ {target:.2} | {median:.2} ({}) | {minimum:.2} ({}) |\n", met(median), met(minimum))
}

/// The middle one of sorted values.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}
