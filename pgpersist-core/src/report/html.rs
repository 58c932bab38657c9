//! The page as one HTML file: no script, no asset from anywhere, every text from outside escaped.

use std::fmt::Write;
use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::health::Status;
use crate::report::MARK;
use crate::report::chart::{self, Chart, NARROW, WIDE};
use crate::report::escape::html;
use crate::report::live::Live;
use crate::report::overview::Overview;
use crate::report::page::{Block, Cell, Page, Table, runs};
use crate::report::sections::outline;
use crate::report::words::{moment, sign, whole, word};
use crate::wording::{duration, size};

/// Its type, for whoever serves it.
pub const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// How often a live page is asked for again, in seconds.
const REFRESH_S: u32 = 60;

const STYLE: &str = include_str!("page.css");

/// What a browser may do with the page: show it, in its own style. For the header `Content-Security-Policy`.
pub static POLICY: LazyLock<String> = LazyLock::new(|| format!("{}; frame-ancestors 'none'", *POLICY_IN_PAGE));

/// The same without what a page cannot say of itself.
static POLICY_IN_PAGE: LazyLock<String> = LazyLock::new(|| {
    let hash = base64(&Sha256::digest(STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'")
});

/// The page of an overview: a file to keep, or with what an agent knows a page that renews itself every minute.
pub fn render(overview: &Overview, live: Option<&Live>) -> String {
    write(&outline::page(overview, live))
}

/// The page of an agent that could make no overview in time, and why.
pub fn without_overview(cluster: &str, reason: &str, now: OffsetDateTime, live: &Live) -> String {
    write(&outline::page_without_overview(cluster, reason, now, live))
}

/// The page for who may see no more than the bare state, and how to see more.
pub fn bare(state: &str, is_well: bool) -> String {
    let status = if is_well { Status::Pass } else { Status::Warn };
    let mut text = head("PostgreSQL", status, true);
    let _ = writeln!(
        text,
        "<main class=\"bare\"><h1>PostgreSQL</h1>{}<p>There is more for who may see it: findings, databases, backups, drills.</p>\
         <ul><li>With the token of <code>[health] token_file</code>: <code>curl -H \"Authorization: Bearer $(cat TOKEN_FILE)\" -o status.html URL</code>, then open the file.</li>\
         <li>On the machine itself, or with <code>kubectl exec</code>: <code>pgpersist report --format html --output status.html</code></li></ul></main></body></html>",
        banner(status, state)
    );
    text
}

fn head(title: &str, status: Status, is_live: bool) -> String {
    let colour = match status {
        Status::Pass => "%231a7f4b",
        Status::Warn => "%23b7791f",
        Status::Fail => "%23c5352b",
        Status::Unknown => "%236b5bb5",
    };
    let mut text = format!(
        "<!DOCTYPE html>\n{MARK}\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <meta name=\"robots\" content=\"noindex\"><meta name=\"referrer\" content=\"no-referrer\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">",
        *POLICY_IN_PAGE
    );
    if is_live {
        let _ = write!(text, "<meta http-equiv=\"refresh\" content=\"{REFRESH_S}\">");
    }
    let _ = writeln!(
        text,
        "<title>{} {}</title>\
         <link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='{colour}'/%3E%3C/svg%3E\">\
         <style>{STYLE}</style></head><body>",
        sign(status),
        html(title)
    );
    text
}

fn write(page: &Page) -> String {
    let mut text = head(&page.title, page.status, page.live.is_some());
    let _ = write!(text, "<header><h1>{}</h1><p class=\"byline\">", html(&page.title));
    for fact in &page.byline {
        let _ = write!(text, "<span>{}</span>", html(fact));
    }
    text.push_str("</p></header>\n<main>\n");
    text.push_str(&banner(page.status, &page.headline));
    if let Some(live) = &page.live {
        agent(&mut text, live);
    }
    if !page.tiles.is_empty() {
        text.push_str("<dl class=\"tiles\">");
        for tile in &page.tiles {
            let _ = write!(
                text,
                "<div class=\"tile {}\"><dt>{}</dt><dd>{}<small>{}</small></dd></div>",
                tile.status.as_str(),
                html(tile.label),
                html(&tile.value),
                marked(&tile.note)
            );
        }
        text.push_str("</dl>\n");
    }
    if page.sections.len() > 2 {
        text.push_str("<nav aria-label=\"Sections\">");
        for section in &page.sections {
            let _ = write!(text, "<a href=\"#{}\">{}</a>", section.id, html(section.title));
        }
        text.push_str("</nav>\n");
    }
    for section in &page.sections {
        let _ = writeln!(
            text,
            "<section id=\"{0}\" aria-labelledby=\"{0}-heading\"><h2 id=\"{0}-heading\">{1}</h2>",
            section.id,
            html(section.title)
        );
        for one in &section.blocks {
            block(&mut text, one);
        }
        text.push_str("</section>\n");
    }
    let renewed = if page.live.is_some() { format!(" This page renews itself every {REFRESH_S} s.") } else { String::new() };
    let _ = write!(text, "</main>\n<footer><p>Made by pgpersist. Times are UTC.{renewed}</p></footer>\n</body></html>\n");
    text
}

fn banner(status: Status, headline: &str) -> String {
    let class = status.as_str();
    format!(
        "<p class=\"banner {class}\" role=\"status\"><span class=\"sign\" aria-hidden=\"true\">{}</span> {}</p>\n",
        sign(status),
        html(headline)
    )
}

fn agent(text: &mut String, live: &Live) {
    let _ = write!(text, "<section class=\"agent\" aria-label=\"The agent\"><dl class=\"facts\">");
    let mut fact = |name: &str, value: String| {
        let _ = write!(text, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    };
    fact("Agent", format!("<b>{}</b> for {}", html(&live.phase), duration(live.phase_for)));
    if let Some(pid) = live.pid {
        fact("Server process", pid.to_string());
    }
    fact("Started again after a failure", if live.restarts == 0 { "never".to_owned() } else { format!("{}\u{a0}×", live.restarts) });
    if let Some(failure) = &live.last_failure {
        fact("Last failure", html(failure));
    }
    if let Some(recovery) = live.recovery {
        let mut told = format!("replayed up to {}", recovery.replayed);
        if let Some(end) = recovery.end {
            let _ = write!(told, " of {end}");
        }
        if let Some(rate) = recovery.bytes_per_s.filter(|rate| rate.is_finite()) {
            let _ = write!(told, ", {} a second", size(rate as u64));
        }
        match recovery.eta_s.filter(|eta| eta.is_finite()) {
            Some(eta) => {
                let _ = write!(told, ", about {} left", duration(whole(eta)));
            }
            None => told.push_str(", how long it will still take is not known"),
        }
        let bar = live.recovered_fraction().map_or_else(String::new, |fraction| bar(fraction, Status::Pass));
        fact("Recovery", format!("for {}: {}{bar}", duration(whole(recovery.elapsed_s)), html(&told)));
    }
    text.push_str("</dl></section>\n");
}

fn block(text: &mut String, block: &Block) {
    match block {
        Block::Heading(title) => {
            let _ = writeln!(text, "<h3>{}</h3>", html(title));
        }
        Block::Text(sentence) => {
            let _ = writeln!(text, "<p>{}</p>", marked(sentence));
        }
        Block::Notice { status, about, what, remedy } => {
            let _ = write!(
                text,
                "<div class=\"notice {}\"><p>{} <b>{}</b></p><p>{}</p>",
                status.as_str(),
                badge(*status, word(*status)),
                html(about),
                html(what)
            );
            if let Some(remedy) = remedy {
                let _ = write!(text, "<p class=\"remedy\"><b>What to do:</b> {}</p>", marked(remedy));
            }
            text.push_str("</div>\n");
        }
        Block::Steps(steps) => {
            text.push_str("<ul class=\"steps\">");
            for step in steps {
                let _ = write!(text, "<li>{}</li>", marked(step));
            }
            text.push_str("</ul>\n");
        }
        Block::Facts(facts) => {
            text.push_str("<dl class=\"facts\">");
            for (name, value) in facts {
                let _ = write!(text, "<div><dt>{}</dt><dd>{}</dd></div>", html(name), cell(value));
            }
            text.push_str("</dl>\n");
        }
        Block::Table(rows) => table(text, rows),
        Block::Folded { summary, table: rows } => {
            let _ = write!(text, "<details><summary>{}</summary>", html(summary));
            table(text, rows);
            text.push_str("</details>\n");
        }
        Block::Chart(chart) => draw(text, chart),
    }
}

fn draw(text: &mut String, chart: &Chart) {
    text.push_str("<figure><figcaption>Sizes of dumps over time</figcaption>");
    text.push_str(&chart.svg(WIDE));
    text.push_str(&chart.svg(NARROW));
    text.push_str("<ul class=\"legend\">");
    for (number, name) in chart.names().enumerate() {
        let mark = chart::mark(number, 6.0, 6.0);
        let _ =
            write!(text, "<li><svg viewBox=\"0 0 12 12\" width=\"12\" height=\"12\" aria-hidden=\"true\">{mark}</svg>{}</li>", html(name));
    }
    if let Some(note) = chart.note() {
        let _ = write!(text, "<li>{}</li>", html(&note));
    }
    text.push_str("</ul></figure>\n");
}

fn table(text: &mut String, table: &Table) {
    let _ = write!(text, "<div class=\"scroll\"><table><caption>{}</caption><thead><tr>", marked(&table.caption));
    for name in &table.head {
        let _ = write!(text, "<th scope=\"col\">{}</th>", html(name));
    }
    text.push_str("</tr></thead><tbody>");
    for row in &table.rows {
        text.push_str("<tr>");
        for (column, value) in row.iter().enumerate() {
            let label = html(table.head.get(column).copied().unwrap_or_default());
            let class = if matches!(value, Cell::Number(_)) { " class=\"number\"" } else { "" };
            match column {
                0 => {
                    let _ = write!(text, "<th scope=\"row\">{}</th>", cell(value));
                }
                _ => {
                    let _ = write!(text, "<td{class} data-label=\"{label}\"><div>{}</div></td>", cell(value));
                }
            }
        }
        text.push_str("</tr>");
    }
    text.push_str("</tbody></table></div>\n");
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) | Cell::Number(text) => html(text),
        Cell::Code(name) => format!("<code>{}</code>", html(name)),
        Cell::Status(status, what) => badge(*status, what),
        Cell::Moment(at, distance) => {
            let machine = at.replace_nanosecond(0).unwrap_or(*at).format(&Rfc3339).unwrap_or_default();
            format!("<time datetime=\"{}\">{}</time> <small>{}</small>", html(&machine), moment(*at), html(distance))
        }
        Cell::Share(fraction, status, told) => format!("{}<small>{}</small>", bar(*fraction, *status), html(told)),
        Cell::Lines(lines) => {
            let lines: Vec<String> = lines.iter().map(|line| format!("<li>{}</li>", html(line))).collect();
            format!("<ul>{}</ul>", lines.concat())
        }
        Cell::Nothing(why) => format!("<span class=\"nothing\">{}</span>", html(why)),
    }
}

fn badge(status: Status, what: &str) -> String {
    format!(
        "<span class=\"badge {}\"><span class=\"sign\" aria-hidden=\"true\">{}</span>\u{a0}{}</span>",
        status.as_str(),
        sign(status),
        html(what)
    )
}

/// A bar that is filled so far; what it says stands beside it in words.
fn bar(fraction: f64, status: Status) -> String {
    let filled = if fraction.is_finite() { fraction.clamp(0.0, 1.0) * 100.0 } else { 0.0 };
    format!(
        "<svg class=\"bar {}\" viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect class=\"track\" width=\"100\" height=\"6\"/><rect class=\"filled\" width=\"{filled:.1}\" height=\"6\"/></svg>",
        status.as_str()
    )
}

/// Text in which what stands between backticks is code.
fn marked(text: &str) -> String {
    runs(text).map(|(is_code, part)| if is_code { format!("<code>{}</code>", html(part)) } else { html(part) }).collect()
}

/// As RFC 4648 has it, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().chain([0, 0].iter()).take(3).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::lsn::Lsn;
    use crate::report::sections::fixture::{hostile, overview};
    use crate::server::recovery::RecoveryProgress;

    #[test]
    fn a_policy_lets_in_its_own_style_alone() {
        assert_eq!([&b""[..], b"f", b"fo", b"foo", b"foob"].map(base64), ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
        assert!(
            POLICY.starts_with("default-src 'none'; style-src 'sha256-") && POLICY.ends_with("; frame-ancestors 'none'"),
            "{}",
            *POLICY
        );
        assert!(!POLICY.contains("unsafe"));
    }

    /// The names of all elements, in order; fails where one is not closed.
    fn elements(page: &str) -> Vec<String> {
        let (mut open, mut all) = (Vec::new(), Vec::new());
        // Neither the declaration, nor the mark, nor the style are elements with others in them.
        let page = page.replace(STYLE, "");
        for part in page.split('<').skip(1) {
            let (tag, _) = part.split_once('>').unwrap_or_else(|| panic!("a tag without an end: {part}"));
            let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
            if tag.starts_with('!') || tag.ends_with('/') || matches!(name.as_str(), "meta" | "link") {
                continue;
            }
            match tag.strip_prefix('/') {
                Some(_) => assert_eq!(open.pop().as_ref(), Some(&name), "{part}"),
                None => {
                    open.push(name.clone());
                    all.push(name);
                }
            }
        }
        assert!(open.is_empty(), "{open:?}");
        all
    }

    #[test]
    fn a_hostile_name_is_text_and_every_element_is_closed() {
        for overview in [overview(), hostile()] {
            let page = render(&overview, None);
            let elements = elements(&page);
            for forbidden in ["script", "img", "iframe", "form", "b2"] {
                assert!(!elements.iter().any(|element| element == forbidden), "there is a {forbidden}: {page}");
            }
            assert!(!page.contains(" style=") && !page.contains(" onclick") && !page.contains("http-equiv=\"refresh\""), "{page}");
            assert!(page.starts_with(&format!("<!DOCTYPE html>\n{MARK}\n")));
        }
        assert!(render(&hostile(), None).contains("&lt;script&gt;alert(1)&lt;/script&gt;|x"));
    }

    #[test]
    fn what_is_wrong_comes_first_with_its_remedy() {
        let page = render(&hostile(), None);
        let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("no `{text}`: {page}"));
        assert!(place("1 problem and 1 warning") < place("What needs attention"));
        assert!(place("What needs attention") < place("id=\"databases\""));
        assert!(place("<b>What to do:</b> start it with <code>pgpersist start</code>") < place("id=\"checks\""));
        assert!(render(&overview(), None).contains("All is well"));
    }

    #[test]
    fn a_live_page_tells_how_far_a_recovery_is_also_without_an_overview() {
        let recovery = RecoveryProgress {
            from: Lsn(0),
            replayed: Lsn(1 << 24),
            end: Some(Lsn(1 << 26)),
            bytes_per_s: Some(1e6),
            eta_s: Some(50.0),
            elapsed_s: 17.0,
        };
        let live = Live {
            phase: "recovering".into(),
            phase_for: std::time::Duration::from_secs(17),
            pid: Some(7),
            restarts: 2,
            recovery: Some(recovery),
            last_failure: Some("killed by <b2>".into()),
        };
        for page in [render(&overview(), Some(&live)), without_overview("main", "a volume hangs", overview().time, &live)] {
            elements(&page);
            for told in [
                "for 17 s: replayed up to 0/1000000 of 0/4000000, 977 KB a second, about 50 s left",
                "width=\"25.0\"",
                "2\u{a0}×",
                "killed by &lt;b2&gt;",
            ] {
                assert!(page.contains(told), "no `{told}`: {page}");
            }
            assert!(page.contains("http-equiv=\"refresh\" content=\"60\""), "{page}");
        }
        assert!(without_overview("main", "a volume hangs", overview().time, &live).contains("a volume hangs"));
    }

    #[test]
    fn a_bare_page_tells_one_word() {
        let page = bare("recovering", false);
        elements(&page);
        assert!(page.contains("recovering</p>") && page.contains("pgpersist report"), "{page}");
    }
}
