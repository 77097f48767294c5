//! From a typed message to XML, in the element order of its own CAP version.

use crate::area::Area;
use crate::judge::{Fault, FaultCode};
use crate::message::{Alert, CapVersion, Info, Resource, ValuePair};

/// Writes a message as an XML document in UTF-8, in its own CAP version.
///
/// Reading the result gives the same message. Characters that XML cannot hold (most control characters) are written as
/// U+FFFD, and a signature that is not one whole element as plain text; [`crate::judge::cap_valid`] reports both.
pub fn write(alert: &Alert) -> String {
    let mut writer = Writer::new(alert.version);
    writer.alert(alert);
    writer.out
}

/// Faults of the texts that XML cannot hold.
pub(crate) fn unwritable(alert: &Alert) -> Vec<Fault> {
    let mut writer = Writer::new(alert.version);
    writer.alert(alert);
    let reason = "the text holds a control character that XML cannot carry; remove it";
    writer.lost.into_iter().map(|path| Fault::new(path, FaultCode::BadCharacters, reason)).collect()
}

/// Escapes the value of an attribute in double quotes.
pub(super) fn escape_attribute(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push_str(&format!("&#{};", u32::from(c))),
            c => {
                push_escaped(&mut out, c);
            }
        }
    }
    out
}

/// Whether a character of text stands for itself.
fn is_plain(c: char) -> bool {
    !matches!(c, '&' | '<' | '>' | '\u{0}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}')
}

/// Appends one character of text; false when XML cannot hold it.
fn push_escaped(out: &mut String, c: char) -> bool {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        // A parser turns a bare carriage return into a line feed.
        '\r' => out.push_str("&#13;"),
        '\t' | '\n' => out.push(c),
        '\u{0}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => {
            out.push('\u{FFFD}');
            return false;
        }
        c => out.push(c),
    }
    true
}

struct Writer {
    out: String,
    version: CapVersion,
    /// Names of the open elements.
    path: Vec<&'static str>,
    /// Paths of texts that lost a character.
    lost: Vec<String>,
}

impl Writer {
    fn new(version: CapVersion) -> Self {
        let out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".into();
        Self { out, version, path: Vec::new(), lost: Vec::new() }
    }

    fn alert(&mut self, alert: &Alert) {
        self.out.push_str(&format!("<alert xmlns=\"{}\">\n", super::namespace(alert.version)));
        self.path.push("alert");
        self.text("identifier", &alert.identifier);
        self.text("sender", &alert.sender);
        self.text("sent", alert.sent.text());
        self.text("status", alert.status.as_cap());
        self.text("msgType", alert.msg_type.as_cap());
        self.optional("password", alert.password.as_deref());
        self.optional("source", alert.source.as_deref());
        self.optional("scope", alert.scope.map(|scope| scope.as_cap()));
        self.optional("restriction", alert.restriction.as_deref());
        self.optional("addresses", alert.addresses.as_ref().map(|group| group.text()));
        self.each("code", alert.codes.iter().map(String::as_str));
        self.optional("note", alert.note.as_deref());
        self.optional("references", alert.references.as_ref().map(|references| references.text()));
        self.optional("incidents", alert.incidents.as_ref().map(|group| group.text()));
        for info in &alert.infos {
            self.element("info", |writer| writer.info(info));
        }
        for signature in &alert.signatures {
            if super::is_signature(signature) {
                self.out.push_str(signature);
                self.out.push('\n');
            } else {
                // Written as text it can do nothing, and whoever reads the message sees that something is wrong.
                signature.chars().for_each(|c| {
                    push_escaped(&mut self.out, c);
                });
            }
        }
        self.path.pop();
        self.out.push_str("</alert>\n");
    }

    fn info(&mut self, info: &Info) {
        self.optional("language", info.language.as_deref());
        self.each("category", info.categories.iter().map(|category| category.as_cap()));
        self.text("event", &info.event);
        self.each("responseType", info.response_types.iter().map(|response| response.as_cap()));
        self.text("urgency", info.urgency.as_cap());
        self.text("severity", info.severity.as_cap());
        self.text("certainty", info.certainty.as_cap());
        self.optional("audience", info.audience.as_deref());
        self.pairs("eventCode", &info.event_codes);
        self.optional("effective", info.effective.as_ref().map(|time| time.text()));
        self.optional("onset", info.onset.as_ref().map(|time| time.text()));
        self.optional("expires", info.expires.as_ref().map(|time| time.text()));
        self.optional("senderName", info.sender_name.as_deref());
        self.optional("headline", info.headline.as_deref());
        self.optional("description", info.description.as_deref());
        self.optional("instruction", info.instruction.as_deref());
        self.optional("web", info.web.as_deref());
        self.optional("contact", info.contact.as_deref());
        self.pairs("parameter", &info.parameters);
        for resource in &info.resources {
            self.element("resource", |writer| writer.resource(resource));
        }
        for area in &info.areas {
            self.element("area", |writer| writer.area(area));
        }
    }

    fn resource(&mut self, resource: &Resource) {
        self.text("resourceDesc", &resource.description);
        self.optional("mimeType", resource.mime_type.as_deref());
        self.optional("size", resource.size.as_ref().map(|size| size.text()));
        self.optional("uri", resource.uri.as_deref());
        self.optional("derefUri", resource.deref_uri.as_deref());
        self.optional("digest", resource.digest.as_deref());
    }

    fn area(&mut self, area: &Area) {
        self.text("areaDesc", &area.description);
        self.each("polygon", area.polygons.iter().map(|polygon| polygon.text()));
        self.each("circle", area.circles.iter().map(|circle| circle.text()));
        self.pairs("geocode", &area.geocodes);
        self.optional("altitude", area.altitude.as_ref().map(|number| number.text()));
        self.optional("ceiling", area.ceiling.as_ref().map(|number| number.text()));
    }

    /// CAP 1.0 writes a pair as one text, later versions as two elements.
    fn pairs(&mut self, name: &'static str, pairs: &[ValuePair]) {
        for pair in pairs {
            if self.version == CapVersion::V1_0 {
                self.text(name, &format!("{}={}", pair.value_name, pair.value));
            } else {
                self.element(name, |writer| {
                    writer.text("valueName", &pair.value_name);
                    writer.text("value", &pair.value);
                });
            }
        }
    }

    fn each<'a>(&mut self, name: &'static str, texts: impl Iterator<Item = &'a str>) {
        texts.for_each(|text| self.text(name, text));
    }

    fn optional(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn element(&mut self, name: &'static str, inside: impl FnOnce(&mut Self)) {
        self.indent();
        self.out.push_str(&format!("<{name}>\n"));
        self.path.push(name);
        inside(self);
        self.path.pop();
        self.indent();
        self.out.push_str(&format!("</{name}>\n"));
    }

    fn text(&mut self, name: &'static str, text: &str) {
        self.indent();
        self.out.extend(["<", name, ">"]);
        let (mut whole, mut rest) = (true, text);
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| !is_plain(*c)) {
            let (plain, special) = rest.split_at(at);
            self.out.push_str(plain);
            whole &= push_escaped(&mut self.out, c);
            rest = special.split_at(c.len_utf8()).1;
        }
        self.out.push_str(rest);
        if !whole {
            self.lost.push(format!("{}.{name}", self.path.join(".")));
        }
        self.out.extend(["</", name, ">\n"]);
    }

    fn indent(&mut self) {
        self.path.iter().for_each(|_| self.out.push_str("  "));
    }
}
