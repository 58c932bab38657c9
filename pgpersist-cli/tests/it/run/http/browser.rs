//! The status page as a browser shows it: broad and narrow, light and dark, with and without JavaScript, well and not.
//!
//! With `PGPERSIST_TEST_SCREENSHOTS=FOLDER` it leaves pictures to be looked at.

use std::fs;

use serde_json::{Value, json};

use crate::run::http::{listening, section};
use crate::run::recovery::{held, let_go};
use crate::run::{Agent, eventually};
use crate::support::browser::Browser;
use crate::support::cluster::TestCluster;
use crate::support::http::{free_port, get, status};

/// Everything that reaches beyond the right edge, but what scrolls in a box of its own.
const OVERFLOWING: &str = "(() => { const wide = document.documentElement.clientWidth; \
    return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > wide + 0.5 && !e.closest('.scroll, thead')) \
    .map(e => e.outerHTML.slice(0, 120)).concat(document.documentElement.scrollWidth > wide ? ['the page is ' + document.documentElement.scrollWidth] : []); })()";

/// Each text whose contrast with what is behind it is too low to be read by everybody: *WCAG 2.2*, 1.4.3, level AA.
const TOO_FAINT: &str = "(() => { \
    const parse = c => c.match(/[\\d.]+/g).map(Number); \
    const light = c => { const [r, g, b] = parse(c).map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; }; \
    const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (c !== 'rgba(0, 0, 0, 0)') return c; } return 'rgb(255, 255, 255)'; }; \
    const seen = new Set(); \
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); \
    while (walk.nextNode()) { const e = walk.currentNode.parentElement; \
        if (!walk.currentNode.textContent.trim() || e.closest('style, title, desc') || !e.getClientRects().length) continue; \
        const style = getComputedStyle(e), colour = e.closest('svg') ? style.fill : style.color, [a, b] = [light(colour), light(behind(e))]; \
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); \
        if (ratio < 4.5) seen.add(`${ratio.toFixed(2)}: ${colour} on ${behind(e)} in ${e.outerHTML.slice(0, 90)}`); } \
    return [...seen]; })()";

/// Looks at a page in every way. `told` must be seen in it.
fn look(browser: &mut Browser, port: u16, name: &str, told: &[&str]) {
    let address = format!("http://127.0.0.1:{port}/");
    for (screen, width, height) in [("desktop", 1280, 800), ("phone", 390, 844), ("small-phone", 320, 568)] {
        for scheme in ["light", "dark"] {
            for scripts in [true, false] {
                browser.call(
                    "Emulation.setDeviceMetricsOverride",
                    json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 }),
                );
                browser.call("Emulation.setEmulatedMedia", json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }));
                browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": !scripts }));
                browser.visit(&address);
                let which = format!("{name}-{screen}-{scheme}{}", if scripts { "" } else { "-without-scripts" });
                browser.picture(&which);
                // The browser's own questions are asked past the page's switch.
                browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": false }));
                assert_eq!(browser.complaints(), Vec::<String>::new(), "{which}");
                let requests = browser.requests();
                assert!(!requests.is_empty(), "{which}");
                for request in &requests {
                    assert!(request.starts_with(&address) || request.starts_with("data:"), "{which} asks for {request}");
                }
                let text = browser.evaluate("document.body.innerText").as_str().unwrap().to_owned();
                for word in told {
                    assert!(text.contains(word), "{which} does not tell `{word}`: {text}");
                }
                // The style counts: the policy lets it in.
                let ground = browser.evaluate("getComputedStyle(document.body).backgroundColor");
                assert_eq!(ground, if scheme == "dark" { "rgb(16, 20, 26)" } else { "rgb(245, 246, 248)" }, "{which}");
                assert_eq!(browser.evaluate(OVERFLOWING), json!([]), "{which}");
                assert_eq!(browser.evaluate(TOO_FAINT), json!([]), "{which}");
                assert_eq!(browser.evaluate("document.scripts.length"), 0, "{which}");
            }
        }
    }
}

/// As if the places of a cluster had filled up for ten days, and so that they are full in twelve.
fn nearly_full(cluster: &TestCluster) {
    let room = rustix::fs::statvfs(cluster.data()).unwrap();
    let a_day = room.f_bavail * room.f_frsize / 12;
    let remembered = cluster.scratch.join("volume/.pgpersist/data/space.json");
    let mut history: Value = serde_json::from_slice(&fs::read(&remembered).unwrap()).unwrap();
    for samples in history["places"].as_object_mut().unwrap().values_mut() {
        let now = samples[0]["at"].as_i64().unwrap();
        let seen = (0..=10_i64).map(|day| json!({ "at": now - (10 - day) * 86_400, "used_bytes": day.unsigned_abs() * a_day }));
        *samples = seen.collect();
    }
    cluster.scratch.write_bytes("volume/.pgpersist/data/space.json", history.to_string().as_bytes());
}

#[test]
fn a_browser_shows_the_page_whole_and_asks_nobody_else() {
    let Some(mut browser) = Browser::open() else { return };
    let (listen, port) = listening();
    let hostile = "<script>alert(1)</script>|a_name_that_is_as_long_as_they_can_be";
    let cluster = TestCluster::running(&format!("databases = [\"shop\", \"{hostile}\"]\n[dump]\nschedule = \"0 2 * * *\"\n{listen}"));
    cluster.fill("shop");
    for _ in 0..3 {
        cluster.dump(&[]);
    }
    // The drill's cluster, and the template of it, stay on the test's own volume.
    cluster.scratch.folder("volume/tmp");
    cluster.scratch.folder("volume/cache");
    let apart = [("TMPDIR", "{dir}/volume/tmp"), ("PGPERSIST_CACHE", "{dir}/volume/cache")];
    cluster.scratch.run(&["drill", "restore"], &apart).done();
    nearly_full(&cluster);
    cluster.scratch.write("volume/backups/shop/backup_20260101_000000.sql.gz", "");
    cluster.run(&["stop"]).done();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    eventually("it is ready", || status(port, "/readyz") == Some(200));
    let told =
        ["PostgreSQL cluster main", "Sizes of dumps over time", hostile, "shop", "Last restore drill", "Time to recover", "full in about "];
    look(&mut browser, port, "running", &told);
    cluster.run(&["fence", "--reason", "somebody looks <b>closely</b>"]).done();
    eventually("the page knows", || get(port, "/").body.contains("<b>fenced</b> for "));
    eventually("the page has looked again", || get(port, "/").body.contains("closely"));
    look(
        &mut browser,
        port,
        "fenced",
        &["What needs attention", "failure", "What to do:", "pgpersist unfence", "somebody looks <b>closely</b>"],
    );
    agent.stopped();
}

#[test]
fn a_browser_shows_how_far_a_recovery_is() {
    let Some(mut browser) = Browser::open() else { return };
    let cluster = held();
    let (section, port) = listening();
    cluster.configure(&section);
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_for("the server recovers", 1);
    eventually("it is told how far it is", || get(port, "/startupz").json()["recovery"]["replayed"].is_string());
    look(&mut browser, port, "recovering", &["PostgreSQL cluster main", "replayed up to ", "the server could not be asked"]);
    let_go(&cluster);
    agent.wait_until_ready();
    agent.stopped();
}

#[test]
fn a_browser_without_a_token_shows_the_bare_page() {
    let Some(mut browser) = Browser::open() else { return };
    let port = free_port();
    let cluster = TestCluster::stopped(&section(port, "token_file = \"volume/token\"\n"));
    let path = cluster.scratch.write("volume/token", "0123456789");
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o440)).unwrap();
    let mut agent = Agent::start(&cluster, &[]);
    agent.wait_until_ready();
    eventually("it is ready", || status(port, "/readyz") == Some(200));
    look(&mut browser, port, "bare", &["ready", "pgpersist report"]);
    agent.stopped();
}
