//! The Atom feeds: one in each language, one entry for each alert.
//!
//! An entry's id is made of the record's hash, so it is the same on every gateway and for ever; an Update is a new
//! entry. Shapes are given in GeoRSS Simple. A Cancel or an all-clear is an entry of its own for an hour.
//! Source: RFC 4287; OASIS "Example Practices: CAP Feeds 1.0".

use campanile_alert::{Area, OriginId, Timestamp};

use crate::board::EndKind;
use crate::channels::feed::Snapshot;
use crate::incoming::Incoming;
use crate::texts::{Language, Texts, escape};

/// The most shapes of one entry; the CAP message has them all.
const SHAPES_MAX: usize = 20;

/// Writes the feed of one language. `base` is the address of this server without a slash at the end.
pub(crate) fn feed(snapshot: &Snapshot, language: Language, base: &str, origin: &OriginId) -> String {
    let tag = language.tag();
    let title = match language {
        Language::En => "Alerts in force",
        Language::ZhHant => "現正生效的警報",
        Language::ZhHans => "现正生效的警报",
    };
    let mut xml = String::with_capacity(4_096);
    xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    xml.push_str(&format!(
        "<feed xmlns=\"http://www.w3.org/2005/Atom\" xmlns:georss=\"http://www.georss.org/georss\" xml:lang=\"{tag}\">\n"
    ));
    element(&mut xml, 1, "id", &format!("urn:campanile:feed:{origin}:{tag}"));
    element(&mut xml, 1, "title", title);
    element(&mut xml, 1, "updated", &time(snapshot.updated));
    xml.push_str(&format!("  <author><name>{}</name></author>\n", escape(&origin.to_string())));
    let link = |rel: &str, media: &str, href: &str| {
        format!("<link rel=\"{rel}\" type=\"{media}\" href=\"{}{}\"/>\n", escape(base), escape(href))
    };
    xml.push_str(&format!("  {}", link("self", "application/atom+xml", &format!("/feed/{tag}/atom.xml"))));
    xml.push_str(&format!("  {}", link("alternate", "text/html", "/")));
    xml.push_str("  <generator>Campanile</generator>\n");
    let in_force = snapshot.in_force.iter().map(|notice| {
        let incoming = notice.incoming();
        Entry { about: incoming, cap: incoming, updated: incoming.time, mark: "", category: "in-force" }
    });
    let ended = snapshot.ended.iter().map(|end| {
        let about = end.incoming();
        let mark = match end.end().kind {
            EndKind::AllClear => language.all_clear_mark(),
            EndKind::Cancelled | EndKind::Superseded | EndKind::Expired => language.cancelled_mark(),
        };
        let public = |by: &&Incoming| by.alert.scope == Some(campanile_alert::Scope::Public);
        let cap = end.end().by.as_deref().filter(public).unwrap_or(about);
        Entry { about, cap, updated: end.end().at, mark, category: end.end().kind.as_str() }
    });
    for entry in in_force.chain(ended) {
        entry.write(&mut xml, language, base);
    }
    xml.push_str("</feed>\n");
    xml
}

struct Entry<'a> {
    /// The alert that the entry is about.
    about: &'a Incoming,
    /// The message that the entry stands for: the alert itself, or what ended it.
    cap: &'a Incoming,
    updated: Timestamp,
    mark: &'static str,
    category: &'static str,
}

impl Entry<'_> {
    fn write(&self, xml: &mut String, language: Language, base: &str) {
        let texts = Texts::of(self.about, language);
        let base = escape(base);
        xml.push_str("  <entry>\n");
        element(xml, 2, "id", &format!("urn:campanile:record:{}", self.cap.record));
        xml.push_str(&format!(
            "    <title xml:lang=\"{}\">{}{}</title>\n",
            escape(&texts.language),
            self.mark,
            escape(&texts.headline)
        ));
        element(xml, 2, "updated", &time(self.updated));
        element(xml, 2, "published", &time(self.cap.alert.sent.instant()));
        xml.push_str(&format!("    <author><name>{}</name></author>\n", escape(&texts.sender_name)));
        xml.push_str(&format!(
            "    <link rel=\"alternate\" type=\"application/cap+xml\" href=\"{base}/cap/{}.xml\"/>\n",
            self.cap.record
        ));
        xml.push_str(&format!(
            "    <link rel=\"related\" type=\"application/json\" href=\"{base}/alerts/{}.json\"/>\n",
            self.cap.record
        ));
        let mut category = |scheme: &str, term: &str, label: &str| {
            xml.push_str(&format!(
                "    <category scheme=\"urn:campanile:{scheme}\" term=\"{}\" label=\"{}\"/>\n",
                escape(term),
                escape(label)
            ));
        };
        category("state", self.category, self.category);
        category("department", self.about.department.as_str(), self.about.department.as_str());
        if let Some(event) = &self.about.classification.event {
            category("event", event, &texts.event);
        }
        if let Some(severity) = self.about.alert.severity() {
            category("severity", severity.as_cap(), severity.as_cap());
        }
        xml.push_str(&format!(
            "    <summary type=\"text\" xml:lang=\"{}\">{}</summary>\n",
            escape(&texts.language),
            escape(&summary(&texts))
        ));
        let mut areas: Vec<&Area> = Vec::new();
        for area in self.about.alert.infos.iter().flat_map(|info| &info.areas) {
            if !areas.iter().any(|seen| (&seen.polygons, &seen.circles) == (&area.polygons, &area.circles)) {
                areas.push(area);
            }
        }
        for shape in areas.iter().flat_map(|area| shapes(area)).take(SHAPES_MAX) {
            xml.push_str(&shape);
        }
        xml.push_str("  </entry>\n");
    }
}

fn summary(texts: &Texts) -> String {
    let parts = [Some(texts.area.as_str()), texts.description.as_deref(), texts.instruction.as_deref()];
    parts.into_iter().flatten().map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// GeoRSS Simple: `lat lon lat lon …` for a polygon, `lat lon radius-in-metres` for a circle.
fn shapes(area: &Area) -> Vec<String> {
    let polygons = area.polygons.iter().map(|polygon| {
        let points: Vec<String> = polygon.points().iter().map(|point| format!("{} {}", point.lat, point.lon)).collect();
        format!("    <georss:polygon>{}</georss:polygon>\n", points.join(" "))
    });
    let circles = area.circles.iter().map(|circle| {
        let (centre, metres) = (circle.centre(), circle.radius_km() * 1_000.0);
        format!("    <georss:circle>{} {} {metres}</georss:circle>\n", centre.lat, centre.lon)
    });
    polygons.chain(circles).collect()
}

fn element(xml: &mut String, depth: usize, name: &str, text: &str) {
    let indent = "  ".repeat(depth);
    xml.push_str(&format!("{indent}<{name}>{}</{name}>\n", escape(text)));
}

/// RFC 3339 in UTC, to the second.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
