//! How it stands with a cluster's persistence, on one page for people: where it lies and whether that survives, its databases,
//! its dumps, what drills proved, and what to do next.
//!
//! [`gather`] looks and fills an [`overview::Overview`], plain values that serialise; what it could not find out it says, with the
//! reason. `sections` decides what is told and in which order, as a `page` of plain blocks; [`html`] and [`markdown`] only write
//! such a page down, with `chart` for the one picture and `escape` for every text that comes from outside.

pub mod advice;
pub(crate) mod chart;
pub mod drills;
pub(crate) mod escape;
pub mod gather;
pub mod html;
pub mod live;
pub mod markdown;
pub mod overview;
pub(crate) mod page;
pub(crate) mod sections;
pub mod storage;
pub(crate) mod words;

/// What every report begins with, after the declaration that HTML needs: who finds a file tells by it whether it is one.
pub const MARK: &str = "<!-- pgpersist report -->";
