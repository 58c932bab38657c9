//! The one picture: the sizes of dumps over time, as an SVG that stands in the page itself. Series are told apart by their marks
//! as well as by their colours, and everything in it stands in a table, too.

use std::fmt::Write;

use time::{Duration, OffsetDateTime, UtcOffset};

use crate::report::escape::html;
use crate::report::overview::DumpFacts;
use crate::report::words::{count, moment};
use crate::wording::size;

/// How many databases have a line; the style has so many colours, and there are so many marks.
pub(super) const MOST_SERIES: usize = 6;
/// How many points a line has at most.
const MOST_POINTS: usize = 90;

/// What is drawn.
#[derive(Debug)]
pub(super) struct Chart {
    series: Vec<Series>,
    /// How many databases are left out.
    left_out: usize,
}

#[derive(Debug)]
struct Series {
    name: String,
    /// The oldest first.
    points: Vec<Point>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    at: OffsetDateTime,
    bytes: u64,
    damaged: bool,
}

/// How large a drawing is, in the units of its own coordinates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Also the class that shows it where it fits, and the beginning of its identifiers.
    pub(super) name: &'static str,
    width: f64,
    height: f64,
    ticks: usize,
}

/// For a screen that is broad enough.
pub(super) const WIDE: Frame = Frame { name: "wide", width: 880.0, height: 260.0, ticks: 6 };
/// For a phone: the same text, in less room.
pub(super) const NARROW: Frame = Frame { name: "narrow", width: 340.0, height: 220.0, ticks: 3 };

const LEFT: f64 = 86.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 30.0;

impl Chart {
    /// The sizes of these dumps, a line for each database: those with the largest dumps, where there are many.
    pub(super) fn of(dumps: &[DumpFacts]) -> Self {
        let mut series: Vec<Series> = Vec::new();
        for dump in dumps {
            let name = dump.database.as_deref().unwrap_or("(not told)");
            let point = Point { at: dump.taken_at, bytes: dump.size_bytes, damaged: dump.state == "damaged" };
            match series.iter_mut().find(|series| series.name == name) {
                Some(series) => series.points.push(point),
                None => series.push(Series { name: name.to_owned(), points: vec![point] }),
            }
        }
        let largest = |series: &Series| series.points.iter().map(|point| point.bytes).max();
        series.sort_by(|left, right| largest(right).cmp(&largest(left)).then_with(|| left.name.cmp(&right.name)));
        let left_out = series.len().saturating_sub(MOST_SERIES);
        series.truncate(MOST_SERIES);
        for one in &mut series {
            one.points.sort_by_key(|point| point.at);
            one.points = thinned(std::mem::take(&mut one.points));
        }
        Self { series, left_out }
    }

    /// The databases that are drawn, in order of their marks.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.series.iter().map(|series| series.name.as_str())
    }

    /// What is not in the picture, where there is something.
    pub(super) fn note(&self) -> Option<String> {
        (self.left_out > 0).then(|| format!("{} with smaller dumps: see the table", count(self.left_out as u64, "more database")))
    }

    /// The drawing.
    pub(super) fn svg(&self, frame: Frame) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let (first, last) = (points().map(|point| point.at).min(), points().map(|point| point.at).max());
        let (Some(first), Some(last)) = (first, last) else { return String::new() };
        let most = points().map(|point| point.bytes).max().unwrap_or(0);
        let scale = Scale::new(frame, first, last, most);
        let mut svg = format!(
            "<svg class=\"chart {0}\" viewBox=\"0 0 {1} {2}\" role=\"img\" aria-labelledby=\"{0}-title {0}-desc\"><title id=\"{0}-title\">Sizes of dumps over time</title><desc id=\"{0}-desc\">{3}</desc>",
            frame.name,
            frame.width,
            frame.height,
            html(&self.described())
        );
        scale.grid(&mut svg);
        for (number, series) in self.series.iter().enumerate() {
            series.draw(&mut svg, number, &scale);
        }
        svg.push_str("</svg>");
        svg
    }

    fn described(&self) -> String {
        let told: Vec<String> = self
            .series
            .iter()
            .filter_map(|series| {
                let (first, last) = (series.points.first()?, series.points.last()?);
                Some(format!(
                    "{}: from {} ({}) to {} ({})",
                    series.name,
                    moment(first.at),
                    size(first.bytes),
                    moment(last.at),
                    size(last.bytes)
                ))
            })
            .collect();
        format!("{}. All dumps stand in the table below.", told.join("; "))
    }
}

/// The mark of a series, for its line and for its legend, around a point.
pub(super) fn mark(number: usize, x: f64, y: f64) -> String {
    let class = format!("s{number}");
    match number {
        0 => format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.4\"/>"),
        1 => format!("<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"6.4\" height=\"6.4\"/>", x - 3.2, y - 3.2),
        2 => polygon(&class, &[(x, y - 4.4), (x + 4.2, y + 3.2), (x - 4.2, y + 3.2)]),
        3 => polygon(&class, &[(x, y - 4.6), (x + 4.6, y), (x, y + 4.6), (x - 4.6, y)]),
        4 => polygon(&class, &[(x, y + 4.4), (x + 4.2, y - 3.2), (x - 4.2, y - 3.2)]),
        _ => polygon(&class, &[(x - 4.2, y - 1.6), (x + 4.2, y - 1.6), (x + 4.2, y + 1.6), (x - 4.2, y + 1.6)]),
    }
}

fn polygon(class: &str, corners: &[(f64, f64)]) -> String {
    let corners: Vec<String> = corners.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    format!("<polygon class=\"{class}\" points=\"{}\"/>", corners.join(" "))
}

/// At most so many points: of those that lie together the last one, but every damaged one.
fn thinned(points: Vec<Point>) -> Vec<Point> {
    if points.len() <= MOST_POINTS {
        return points;
    }
    let share = points.len().div_ceil(MOST_POINTS);
    let count = points.len();
    let damaged = points.iter().filter(|point| point.damaged).count();
    let keep = |place: usize, point: &Point| {
        place == 0 || place + 1 == count || place % share == share - 1 || (point.damaged && damaged <= MOST_POINTS)
    };
    points.into_iter().enumerate().filter(|(place, point)| keep(*place, point)).map(|(_, point)| point).collect()
}

impl Series {
    fn draw(&self, svg: &mut String, number: usize, scale: &Scale) {
        let places: Vec<(f64, f64)> =
            self.points.iter().filter(|point| !point.damaged).map(|point| (scale.x(point.at), scale.y(point.bytes))).collect();
        if places.len() > 1 {
            let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = write!(svg, "<polyline class=\"l{number}\" points=\"{}\"/>", line.join(" "));
        }
        for point in &self.points {
            let (x, y) = (scale.x(point.at), scale.y(point.bytes));
            let damaged = if point.damaged { ", damaged" } else { "" };
            let told = html(&format!("{}, {}, {}{damaged}", self.name, moment(point.at), size(point.bytes)));
            let shape = match point.damaged {
                false => mark(number, x, y),
                true => format!("<path class=\"damaged\" d=\"M{:.1} {:.1}l9 9m0 -9l-9 9\"/>", x - 4.5, y - 4.5),
            };
            let _ = write!(svg, "<g><title>{told}</title>{shape}</g>");
        }
    }
}

/// From moments and bytes to places in the drawing.
#[derive(Debug)]
struct Scale {
    frame: Frame,
    first: OffsetDateTime,
    span: Duration,
    /// What the upper edge stands for, at least 1.
    top: u64,
    step: u64,
}

impl Scale {
    fn new(frame: Frame, first: OffsetDateTime, last: OffsetDateTime, most: u64) -> Self {
        let step = step(most);
        let top = most.div_ceil(step).max(1).saturating_mul(step);
        Self { frame, first, span: last - first, top, step }
    }

    fn width(&self) -> f64 {
        self.frame.width - LEFT - RIGHT
    }

    fn height(&self) -> f64 {
        self.frame.height - TOP - BOTTOM
    }

    /// A single moment stands in the middle.
    fn x(&self, at: OffsetDateTime) -> f64 {
        let fraction = if self.span.is_zero() { 0.5 } else { (at - self.first).as_seconds_f64() / self.span.as_seconds_f64() };
        LEFT + self.width() * fraction.clamp(0.0, 1.0)
    }

    fn y(&self, bytes: u64) -> f64 {
        TOP + self.height() * (1.0 - (bytes as f64 / self.top as f64).clamp(0.0, 1.0))
    }

    fn grid(&self, svg: &mut String) {
        let right = self.frame.width - RIGHT;
        let mut bytes = 0_u64;
        loop {
            let y = self.y(bytes);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/><text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                if bytes == 0 { "0".to_owned() } else { size(bytes) }
            );
            match bytes.checked_add(self.step).filter(|next| *next <= self.top) {
                Some(next) => bytes = next,
                None => break,
            }
        }
        let ticks = if self.span.is_zero() { 1 } else { self.frame.ticks };
        for tick in 0..ticks {
            let at = if ticks == 1 { self.first } else { self.first + self.span * tick as i32 / (ticks as i32 - 1) };
            let anchor = match tick {
                _ if ticks == 1 => "middle",
                0 => "start",
                _ if tick + 1 == ticks => "end",
                _ => "middle",
            };
            let _ = write!(
                svg,
                "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                self.x(at),
                self.frame.height - 8.0,
                self.told(at)
            );
        }
    }

    /// A day, or where all lies within two of them the time of day.
    fn told(&self, at: OffsetDateTime) -> String {
        let at = at.to_offset(UtcOffset::UTC);
        let month = &at.month().to_string()[..3];
        match self.span {
            span if span < Duration::days(2) => format!("{} {month}, {:02}:{:02}", at.day(), at.hour(), at.minute()),
            span if span < Duration::days(300) => format!("{} {month}", at.day()),
            _ => format!("{month} {}", at.year()),
        }
    }
}

/// The distance of lines that leaves at most five of them, such as 200 KB: a round number of its unit.
fn step(most: u64) -> u64 {
    let mut unit = 1_u64;
    loop {
        for factor in [1, 2, 5, 10, 20, 50, 100, 200, 512] {
            let Some(step) = unit.checked_mul(factor) else { return u64::MAX };
            if most.div_ceil(step) <= 4 {
                return step;
            }
        }
        let Some(next) = unit.checked_mul(1024) else { return u64::MAX };
        unit = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn dump(database: &str, day: i64, bytes: u64, state: &'static str) -> DumpFacts {
        DumpFacts {
            name: format!("backup_{day}"),
            database: Some(database.to_owned()),
            taken_at: datetime!(2026-01-01 02:00 UTC) + Duration::days(day),
            size_bytes: bytes,
            state,
            reason: None,
            rows: None,
        }
    }

    /// Every number in the drawing is one, and lies in it.
    fn assert_sound(svg: &str, frame: Frame) {
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        for attribute in [" x=\"", " y=\"", " cx=\"", " cy=\"", " x1=\"", " y1=\"", " points=\""] {
            for part in svg.split(attribute).skip(1) {
                for number in part.split('"').next().unwrap().split([',', ' ']) {
                    let number: f64 = number.parse().unwrap();
                    assert!((0.0..=frame.width).contains(&number), "{number} of{attribute} lies outside: {svg}");
                }
            }
        }
    }

    #[test]
    fn it_bears_nothing_one_and_many() {
        assert_eq!(Chart::of(&[]).svg(WIDE), "");
        let many: Vec<DumpFacts> = (0..2000).map(|day| dump("shop", day, 1000 + day as u64, "complete")).collect();
        for dumps in [
            vec![dump("shop", 0, 12_288, "complete")],
            vec![dump("shop", 0, 0, "damaged")],
            vec![dump("shop", 0, u64::MAX, "complete"), dump("shop", 1, 0, "unknown")],
            vec![dump("shop", -700_000, 1, "complete"), dump("shop", 2_000_000, 1, "complete")],
            many,
        ] {
            for frame in [WIDE, NARROW] {
                let svg = Chart::of(&dumps).svg(frame);
                assert_sound(&svg, frame);
                assert!(svg.matches("<g>").count() <= MOST_POINTS + 2, "{}", svg.matches("<g>").count());
                assert!(svg.contains(&format!("id=\"{}-desc\">shop: from ", frame.name)), "{svg}");
            }
        }
    }

    #[test]
    fn each_database_has_its_line_and_the_rest_is_told() {
        let dumps: Vec<DumpFacts> =
            (0..9).flat_map(|number| [1, 2].map(|day| dump(&format!("<db{number}>"), day, 10 * (number + 1), "complete"))).collect();
        let chart = Chart::of(&dumps);
        assert_eq!(chart.names().collect::<Vec<_>>(), ["<db8>", "<db7>", "<db6>", "<db5>", "<db4>", "<db3>"]);
        assert_eq!(chart.note().as_deref(), Some("3 more databases with smaller dumps: see the table"));
        let svg = chart.svg(WIDE);
        assert!(svg.contains("&lt;db8&gt;") && !svg.contains("<db"), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), MOST_SERIES);
    }

    #[test]
    fn a_damaged_dump_is_marked_and_in_no_line() {
        let dumps = [dump("shop", 1, 10, "complete"), dump("shop", 2, 3, "damaged"), dump("shop", 3, 12, "complete")];
        let svg = Chart::of(&dumps).svg(WIDE);
        assert_eq!((svg.matches("class=\"damaged\"").count(), svg.matches("<circle").count()), (1, 2));
        assert!(svg.contains("3 bytes, damaged</title>"), "{svg}");
        assert_eq!(svg.split("<polyline class=\"l0\" points=\"").nth(1).unwrap().split('"').next().unwrap().split(' ').count(), 2);
    }

    #[test]
    fn lines_stand_at_round_numbers() {
        assert_eq!([0, 1, 4, 5, 900, 12_288, 900_000, 5 << 30].map(step), [1, 1, 1, 2, 512, 5 << 10, 512 << 10, 2 << 30]);
        assert_eq!(step(u64::MAX), 5 << 60);
    }
}
