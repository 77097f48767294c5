//! The plain page at `/`: what is in force, in English and traditional Chinese, with links to everything else.

use campanile_alert::{DateTime, OriginId, Severity, Timestamp};

use crate::channels::feed::Snapshot;
use crate::estates::Block;
use crate::incoming::Incoming;
use crate::texts::{Language, Texts, escape};

/// Nothing is fetched from anywhere else, and the page is not put into another.
pub(crate) const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/// The most screens that the page lists.
const SCREENS_MAX: usize = 12;

/// Writes the page.
pub(crate) fn index(snapshot: &Snapshot, blocks: &[Block], origin: &OriginId) -> String {
    let mut alerts = String::new();
    for notice in &snapshot.in_force {
        card(&mut alerts, notice.incoming(), None);
    }
    if snapshot.in_force.is_empty() {
        alerts.push_str("<p class=none>No alert is in force. <span lang=zh-Hant>現時並無警報生效。</span></p>");
    }
    let mut ended = String::new();
    for end in &snapshot.ended {
        card(&mut ended, end.incoming(), Some(end.end().at));
    }
    if !ended.is_empty() {
        ended = format!("<h2>Ended in the last hour <span lang=zh-Hant>過去一小時內結束</span></h2>{ended}");
    }
    let mut screens = String::new();
    for block in blocks.iter().take(SCREENS_MAX) {
        screens.push_str(&format!(
            "<li><a href=\"/screen/{}\">{}, {}</a> <span lang=zh-Hant>{}{}</span></li>",
            escape(&block.address()),
            escape(&block.names.en),
            escape(&block.estate_names.en),
            escape(&block.estate_names.zh_hant),
            escape(&block.names.zh_hant),
        ));
    }
    if !screens.is_empty() {
        screens = format!("<h2>Lift screens <span lang=zh-Hant>升降機大堂屏幕</span></h2><ul>{screens}</ul>");
    }
    include_str!("../pages/index.html")
        .replace("{{updated}}", &local(snapshot.updated))
        .replace("{{origin}}", &escape(&origin.to_string()))
        .replace("{{screens}}", &screens)
        .replace("{{ended}}", &ended)
        .replace("{{alerts}}", &alerts)
}

fn card(html: &mut String, incoming: &Incoming, ended: Option<Timestamp>) {
    let (en, zh) = (Texts::of(incoming, Language::En), Texts::of(incoming, Language::ZhHant));
    let severity = incoming.alert.severity().unwrap_or(Severity::Unknown).as_cap();
    let class = if ended.is_some() { "over".to_owned() } else { severity.to_ascii_lowercase() };
    html.push_str(&format!(
        "<article class=\"{class}\"><h3 lang=\"{}\">{}</h3>",
        escape(&en.language),
        escape(&en.headline)
    ));
    if zh.headline != en.headline {
        html.push_str(&format!("<h3 lang=\"{}\">{}</h3>", escape(&zh.language), escape(&zh.headline)));
    }
    let mut paragraph = |texts: &Texts, text: &Option<String>| {
        if let Some(text) = text {
            html.push_str(&format!("<p lang=\"{}\">{}</p>", escape(&texts.language), escape(text)));
        }
    };
    if ended.is_none() {
        paragraph(&en, &en.description);
        paragraph(&en, &en.instruction);
        if zh.language != en.language {
            paragraph(&zh, &zh.description);
            paragraph(&zh, &zh.instruction);
        }
    }
    let until = match (ended, incoming.alert.expires()) {
        (Some(at), _) => format!("Ended {}", local(at)),
        (None, Some(expires)) => format!("Until {}", local(expires)),
        (None, None) => String::new(),
    };
    html.push_str(&format!(
        "<p class=meta>{} · {severity} · {} · {until} · <a href=\"/cap/{record}.xml\">CAP</a> · \
         <a href=\"/alerts/{record}.json\">JSON</a> · <a href=\"/records/{record}\">signed record</a></p></article>",
        escape(&en.area),
        escape(&en.sender_name),
        record = incoming.record,
    ));
}

/// Hong Kong's wall clock.
fn local(at: Timestamp) -> String {
    let text = DateTime::from_instant(at, 8 * 60).text().to_owned();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
    format!("{} {} HKT", part(0, 10), part(11, 19))
}
