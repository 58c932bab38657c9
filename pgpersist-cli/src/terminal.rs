//! What stderr is: a terminal that can redraw a line and show colour, or a file.

use std::io::IsTerminal;

/// Whether a line on stderr can be drawn over.
pub(crate) fn redraws() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A word that catches the eye where colour is welcome (see no-color.org). It carries no meaning alone.
pub(crate) fn loud(word: &str) -> String {
    let colour = redraws() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if colour { format!("\x1b[1;31m{word}\x1b[0m") } else { word.to_owned() }
}
