//! A page as plain blocks: what is told, before anybody decides how it looks.

use time::OffsetDateTime;

use crate::health::Status;
use crate::report::chart::Chart;
use crate::report::live::Live;

/// The whole page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) title: String,
    pub(super) status: Status,
    /// How it stands, in a few words.
    pub(super) headline: String,
    /// When, where and by whom it was looked.
    pub(super) byline: Vec<String>,
    pub(super) live: Option<Live>,
    /// The few numbers that matter most.
    pub(super) tiles: Vec<Tile>,
    pub(super) sections: Vec<Section>,
}

#[derive(Debug)]
pub(super) struct Tile {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) note: String,
    pub(super) status: Status,
}

#[derive(Debug)]
pub(super) struct Section {
    /// Unique; also the anchor of its heading.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) blocks: Vec<Block>,
}

#[derive(Debug)]
pub(super) enum Block {
    Heading(&'static str),
    /// A sentence or two; what stands between backticks is code.
    Text(String),
    /// Something that somebody should look at.
    Notice {
        status: Status,
        about: String,
        what: String,
        remedy: Option<String>,
    },
    /// What to do, one line each; what stands between backticks is code.
    Steps(Vec<String>),
    /// Names with their values.
    Facts(Vec<(&'static str, Cell)>),
    Table(Table),
    /// A long table, which is closed until somebody opens it.
    Folded {
        summary: String,
        table: Table,
    },
    Chart(Chart),
}

/// The first column names what a row is about.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) caption: String,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Cell>>,
}

#[derive(Debug)]
pub(super) enum Cell {
    Text(String),
    /// A name, a path or a command, as it is typed.
    Code(String),
    /// Text with a number in it, to be aligned with others.
    Number(String),
    Status(Status, String),
    /// A moment, and how far it lies from now.
    Moment(OffsetDateTime, String),
    /// How much of something is in use, from 0 to 1, and in words.
    Share(f64, Status, String),
    /// Facts of equal weight.
    Lines(Vec<String>),
    /// There is nothing to tell.
    Nothing(&'static str),
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn code(text: impl Into<String>) -> Self {
        Self::Code(text.into())
    }
}

/// Text and, between backticks, code.
pub(super) fn runs(text: &str) -> impl Iterator<Item = (bool, &str)> {
    // A backtick without a partner is itself.
    let pairs = text.matches('`').count() / 2 * 2;
    let mut parts = text.splitn(pairs + 1, '`').enumerate();
    std::iter::from_fn(move || parts.next().map(|(number, part)| (number % 2 == 1, part))).filter(|(_, part)| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_backticks_is_code() {
        let read = |text| runs(text).collect::<Vec<_>>();
        assert_eq!(read("run `pgpersist dump`, now"), [(false, "run "), (true, "pgpersist dump"), (false, ", now")]);
        assert_eq!(read("`a` and `b"), [(true, "a"), (false, " and `b")]);
        assert_eq!(read("plain"), [(false, "plain")]);
        assert_eq!(read("``"), []);
    }
}
