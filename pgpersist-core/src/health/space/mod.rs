//! Room over time: what was seen of it ([`history`]), and when there will be none left ([`forecast`]).

pub mod forecast;
pub mod history;
