//! CAP messages for tests: fires, and what follows them.

use anyhow::{Context as _, Result};
use campanile_alert::{Alert, AlertId, DateTime, Timestamp, xml};

/// A fire message; change what the test is about and write it out with [`Fire::xml`].
#[derive(Debug, Clone)]
pub struct Fire {
    /// CAP `identifier`.
    pub identifier: String,
    /// CAP `sender`.
    pub sender: String,
    /// CAP `sent`.
    pub sent: Timestamp,
    /// CAP `status`; nothing leaves the element out.
    pub status: Option<&'static str>,
    /// CAP `msgType`.
    pub msg_type: &'static str,
    /// CAP `scope`; nothing leaves the element out.
    pub scope: Option<&'static str>,
    /// CAP `note`.
    pub note: Option<String>,
    /// CAP `references`.
    pub references: Vec<AlertId>,
    /// `campanile:event`.
    pub event: &'static str,
    /// CAP `category`.
    pub category: &'static str,
    /// CAP `severity`.
    pub severity: &'static str,
    /// CAP `certainty`.
    pub certainty: &'static str,
    /// `campanile:alarm-level`; nothing leaves the parameter out.
    pub level: Option<u32>,
    /// How long it holds, in minutes from `sent`.
    pub minutes: i64,
    /// The centre: latitude and longitude.
    pub at: (f64, f64),
    /// The radius, in kilometres.
    pub radius_km: f64,
    /// CAP `headline`.
    pub headline: String,
}

impl Fire {
    /// A No. 3 alarm fire, observed, at a point, for six hours.
    pub fn new(identifier: impl Into<String>, sent: Timestamp, at: (f64, f64)) -> Self {
        let identifier = identifier.into();
        Self {
            headline: format!("Fire {identifier}"),
            identifier,
            sender: "fsd@campanile.test".into(),
            sent,
            status: Some("Actual"),
            msg_type: "Alert",
            scope: Some("Public"),
            note: None,
            references: Vec::new(),
            event: "fire",
            category: "Fire",
            severity: "Severe",
            certainty: "Observed",
            level: Some(3),
            minutes: 360,
            at,
            radius_km: 0.0,
        }
    }

    /// The identity of the message.
    pub fn id(&self) -> AlertId {
        AlertId::new(self.sender.as_str(), self.identifier.as_str(), time(self.sent))
    }

    /// The message in XML.
    pub fn xml(&self) -> Vec<u8> {
        let element = |name: &str, value: Option<&str>| {
            value.map(|value| format!("<{name}>{value}</{name}>")).unwrap_or_default()
        };
        let references: Vec<String> = self.references.iter().map(ToString::to_string).collect();
        let references = (!references.is_empty()).then(|| references.join(" "));
        let sent = time(self.sent);
        let expires = time(self.sent + jiff::SignedDuration::from_mins(self.minutes));
        let level = self.level.map(|level| {
            format!("<parameter><valueName>campanile:alarm-level</valueName><value>{level}</value></parameter>")
        });
        let (lat, lon) = self.at;
        let Self { identifier, sender, event, category, severity, certainty, headline, radius_km, .. } = self;
        let info = format!(
            "<info><language>en</language><category>{category}</category><event>{event}</event>\
             <urgency>Immediate</urgency><severity>{severity}</severity><certainty>{certainty}</certainty>\
             <eventCode><valueName>campanile:event</valueName><value>{event}</value></eventCode>\
             <expires>{expires}</expires><headline>{headline}</headline>{}<area><areaDesc>here</areaDesc>\
             <circle>{lat},{lon} {radius_km}</circle></area></info>",
            level.unwrap_or_default()
        );
        let info = if self.msg_type == "Cancel" { String::new() } else { info };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<alert xmlns=\"urn:oasis:names:tc:emergency:cap:1.2\">\
             <identifier>{identifier}</identifier><sender>{sender}</sender><sent>{sent}</sent>{}\
             <msgType>{}</msgType>{}{}{}{info}</alert>",
            element("status", self.status),
            self.msg_type,
            element("scope", self.scope),
            element("note", self.note.as_deref()),
            element("references", references.as_deref()),
        )
        .into_bytes()
    }

    /// The message as the library reads it.
    ///
    /// # Errors
    /// When it is not valid CAP.
    pub fn alert(&self) -> Result<Alert> {
        let document = xml::read(&self.xml(), &xml::Limits::default())?;
        let message = document.messages.into_iter().next().context("no message")?;
        message.result.map_err(|faults| anyhow::anyhow!("not CAP: {faults:?}"))
    }
}

/// A time as CAP writes it, in Hong Kong's offset.
pub fn time(at: Timestamp) -> String {
    DateTime::from_instant(at, 480).text().to_owned()
}
