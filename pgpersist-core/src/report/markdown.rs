//! The page as Markdown of GitHub's kind: for a file in a repository, an issue, or a mail.

use std::fmt::Write;

use crate::report::MARK;
use crate::report::escape::{markdown, markdown_code};
use crate::report::overview::Overview;
use crate::report::page::{Block, Cell, Page, Table, runs};
use crate::report::sections::outline;
use crate::report::words::{moment, sign, word};

/// The page of an overview.
pub fn render(overview: &Overview) -> String {
    write(&outline::page(overview, None))
}

fn write(page: &Page) -> String {
    let mut text = format!("{MARK}\n\n# {}\n\n**{} {}**\n\n", markdown(&page.title), markdown(sign(page.status)), markdown(&page.headline));
    let byline: Vec<String> = page.byline.iter().map(|fact| markdown(fact)).collect();
    let _ = write!(text, "{}\n\n", byline.join(" · "));
    let tiles = page.tiles.iter().map(|tile| vec![Cell::text(tile.label), Cell::text(&tile.value), Cell::text(tile.note.replace('`', ""))]);
    let tiles: Vec<Vec<Cell>> = tiles.collect();
    rows(&mut text, &["At a glance", "", ""], &tiles);
    for section in &page.sections {
        let _ = write!(text, "\n## {}\n", markdown(section.title));
        let mut was_item = false;
        // What a chart shows stands in the tables.
        for one in section.blocks.iter().filter(|block| !matches!(block, Block::Chart(_))) {
            let is_item = matches!(one, Block::Notice { .. });
            // Items of one list stand together.
            if !(was_item && is_item) {
                text.push('\n');
            }
            block(&mut text, one);
            was_item = is_item;
        }
    }
    text
}

fn block(text: &mut String, block: &Block) {
    match block {
        Block::Heading(title) => {
            let _ = writeln!(text, "### {}", markdown(title));
        }
        Block::Text(sentence) => {
            let _ = writeln!(text, "{}", marked(sentence));
        }
        Block::Notice { status, about, what, remedy } => {
            let _ = writeln!(text, "- **{} {}: {}** {}", markdown(sign(*status)), word(*status), markdown(about), markdown(what));
            if let Some(remedy) = remedy {
                let _ = writeln!(text, "  - What to do: {}", marked(remedy));
            }
        }
        Block::Steps(steps) => {
            for step in steps {
                let _ = writeln!(text, "- {}", marked(step));
            }
        }
        Block::Facts(facts) => {
            for (name, value) in facts {
                let _ = writeln!(text, "- **{}:** {}", markdown(name), cell(value, "; "));
            }
        }
        Block::Table(rows) => table(text, rows),
        // GitHub shows it closed, other readers as it is.
        Block::Folded { summary, table: rows } => {
            let _ = write!(text, "<details><summary>{}</summary>\n\n", markdown(summary));
            table(text, rows);
            text.push_str("\n</details>\n");
        }
        Block::Chart(_) => {}
    }
}

fn table(text: &mut String, table: &Table) {
    let _ = write!(text, "{}\n\n", marked(&table.caption));
    rows(text, &table.head, &table.rows);
}

fn rows(text: &mut String, head: &[&str], rows: &[Vec<Cell>]) {
    if rows.is_empty() {
        return;
    }
    let head: Vec<String> = head.iter().map(|name| markdown(name)).collect();
    let _ = writeln!(text, "| {} |", head.join(" | "));
    let column = |column: usize| if rows.iter().all(|row| matches!(row.get(column), Some(Cell::Number(_)))) { "---:" } else { "---" };
    let rule: Vec<&str> = (0..head.len()).map(column).collect();
    let _ = writeln!(text, "| {} |", rule.join(" | "));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|value| cell(value, "<br>")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
}

fn cell(cell: &Cell, between: &str) -> String {
    match cell {
        Cell::Text(text) | Cell::Number(text) | Cell::Share(_, _, text) => markdown(text),
        Cell::Code(name) => markdown_code(name),
        Cell::Status(status, what) => format!("{} {}", markdown(sign(*status)), markdown(what)),
        Cell::Moment(at, distance) => format!("{} ({})", moment(*at), markdown(distance)),
        Cell::Lines(lines) => lines.iter().map(|line| markdown(line)).collect::<Vec<_>>().join(between),
        Cell::Nothing(why) => format!("_{}_", markdown(why)),
    }
}

/// Text in which what stands between backticks is code.
fn marked(text: &str) -> String {
    runs(text).map(|(is_code, part)| if is_code { markdown_code(part) } else { markdown(part) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sections::fixture::{hostile, overview};

    /// How many cells each line of a table has, and fails where one has another number than its head.
    fn tables(text: &str) -> usize {
        let (mut width, mut tables) = (0, 0);
        for line in text.lines() {
            if !line.starts_with('|') {
                width = 0;
                continue;
            }
            let bars = line.replace("\\|", "").matches('|').count();
            if width == 0 {
                (width, tables) = (bars, tables + 1);
            }
            assert_eq!(bars, width, "{line}");
        }
        tables
    }

    #[test]
    fn every_table_is_whole_whatever_the_names_are() {
        for overview in [overview(), hostile()] {
            let text = render(&overview);
            assert!(tables(&text) >= 6, "{text}");
            assert!(text.starts_with(MARK));
            // In code it is text.
            for line in text.lines() {
                let outside: String = line.replace("\\`", "").split('`').step_by(2).collect();
                assert!(!outside.contains("<script"), "{line}");
            }
        }
        assert!(render(&hostile()).contains("`<script>alert(1)</script>\\|x`"));
    }

    #[test]
    fn it_has_the_verdict_the_proof_and_the_comparison() {
        let text = render(&overview());
        for promised in [
            "**✓ All is well**",
            "## Drills",
            "| rows of shop | 8 | 8 | ✓ yes |",
            "persistent",
            "every dump of the last 7 days",
            "files here were seen in 3 boots",
        ] {
            assert!(text.contains(promised), "no `{promised}`: {text}");
        }
    }
}
