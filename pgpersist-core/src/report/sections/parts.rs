//! What several sections are made of.

use crate::health::Status;
use crate::report::overview::Overview;
use crate::report::page::{Block, Section};
use crate::report::words::grouped;

/// How many databases are told one by one.
pub(super) const DATABASES_TOLD: usize = 200;

pub(super) fn section(id: &'static str, title: &'static str, blocks: Vec<Block>) -> Option<Section> {
    (!blocks.is_empty()).then_some(Section { id, title, blocks })
}

/// That a part is not known, where it is not.
pub(super) fn gap(overview: &Overview, part: &str, about: &str) -> Option<Block> {
    overview.gap(part).map(|gap| Block::Notice {
        status: Status::Unknown,
        about: about.to_owned(),
        what: gap.reason.clone(),
        remedy: gap.remedy.clone(),
    })
}

pub(super) fn caption(what: &str, told: usize, all: usize) -> String {
    if told < all { format!("{what}; {} of {}", grouped(told as u64), grouped(all as u64)) } else { what.to_owned() }
}
