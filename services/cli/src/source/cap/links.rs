//! Finds the CAP documents that an index-only feed points to.
//!
//! Of each entry one link is taken: the one that says it is CAP, or else one that says it is XML, or else one that does
//! not say. A link to a page for people is left alone.

use reqwest::Url;

/// The most links that are taken from one feed.
pub(super) const LINKS_MAX: usize = 2_000;

/// A document that an entry points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Where it is.
    pub(super) url: Url,
    /// The address and the time the entry states, so that a document that was replaced is read again.
    pub(super) key: String,
}

/// The links of a feed, in its order; `Err` says in a sentence why the feed cannot be read.
pub(super) fn links(bytes: &[u8], base: &Url) -> Result<Vec<Link>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the index is not UTF-8; ask its publisher for UTF-8")?;
    let options = roxmltree::ParsingOptions { nodes_limit: 500_000, ..roxmltree::ParsingOptions::default() };
    let tree = roxmltree::Document::parse_with_options(text.trim_start_matches('\u{feff}'), options)
        .map_err(|error| format!("the index is not well-formed XML: {error}"))?;
    let entries = tree.descendants().filter(|node| matches!(node.tag_name().name(), "entry" | "item"));
    let mut found = Vec::new();
    for entry in entries.take(LINKS_MAX) {
        let candidates =
            entry.children().filter_map(|node| candidate(node).map(|(rank, href)| (rank, href.to_owned())));
        let Some((_, href)) = candidates.min_by_key(|(rank, _)| *rank) else { continue };
        let Ok(url) = base.join(href.trim()) else { continue };
        let time = entry.children().find(|node| matches!(node.tag_name().name(), "updated" | "pubDate"));
        let time = time.and_then(|node| node.text()).unwrap_or_default().trim();
        found.push(Link { key: format!("{url} {time}"), url });
    }
    Ok(found)
}

/// How well a child of an entry fits, best first, and its address.
fn candidate<'a>(node: roxmltree::Node<'a, '_>) -> Option<(u8, &'a str)> {
    let name = node.tag_name().name();
    let (href, kind) = match name {
        "link" => (node.attribute("href").or(node.text())?, node.attribute("type")),
        "enclosure" => (node.attribute("url")?, node.attribute("type")),
        _ => return None,
    };
    if !matches!(node.attribute("rel"), None | Some("alternate" | "enclosure" | "related")) {
        return None;
    }
    match kind.map(|kind| kind.split(';').next().unwrap_or_default().trim()) {
        Some("application/cap+xml") => Some((0, href)),
        Some("application/xml" | "text/xml") => Some((1, href)),
        None => Some((2, href)),
        Some(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn one_link_of_each_entry_and_never_a_page_for_people() {
        let atom = r#"<feed xmlns="http://www.w3.org/2005/Atom"><link href="/self"/>
            <entry><updated>t1</updated><link type="text/html" href="/page"/>
                <link rel="related" type="application/cap+xml" href="a.cap"/></entry>
            <entry><link type="text/html" href="/page"/></entry>
            <entry><link href="http://elsewhere.example/b"/></entry></feed>"#;
        let base = Url::parse("http://feed.example/x/feed.atom").unwrap();
        let found: Vec<String> = links(atom.as_bytes(), &base).unwrap().into_iter().map(|link| link.key).collect();
        assert_eq!(found, ["http://feed.example/x/a.cap t1", "http://elsewhere.example/b "]);
        let rss = "<rss><channel><item><link>http://feed.example/1</link><pubDate>p</pubDate></item></channel></rss>";
        assert_eq!(links(rss.as_bytes(), &base).unwrap()[0].key, "http://feed.example/1 p");
        assert!(links(b"<!DOCTYPE x [<!ENTITY a 'b'>]><rss/>", &base).is_err());
        assert!(links(b"<rss>", &base).is_err());
    }
}
