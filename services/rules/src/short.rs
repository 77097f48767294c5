//! An alert in the few words in which tests and drills write it: `{event: fire, level: 3, point: [22.45, 114.17]}`.
//!
//! [`ShortAlert::to_cap`] makes the CAP message of it; what is not said is what a story usually means: observed, now,
//! severe, in the middle of Hong Kong, for longer than the story.

use campanile_alert::vocabulary::{ALARM_LEVEL, EVENT_CODE, SIGNAL, SITE};
use campanile_alert::{
    Alert, AlertId, Area, CapVersion, Certainty, Circle, DateTime, Group, Info, MessageType, Point, References, Scope,
    Severity, Status, Timestamp, Urgency, ValuePair, vocabulary,
};
use serde::{Deserialize, Serialize};

/// How long an alert of a story holds when it says nothing: longer than any story of a day.
const EXPIRES_H: i64 = 47;

/// The middle of Hong Kong, where an alert without a place is.
const MIDDLE: [f64; 2] = [22.35, 114.15];

/// Hong Kong's offset from UTC, in which times are written.
const OFFSET_MINUTES: i32 = 480;

/// An alert in a few words.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShortAlert {
    /// Its name in the story; a drill names its injects instead.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The alert that an update follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// The vocabulary's event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The department that publishes it; a drill says it of the inject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The alarm level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
    /// The signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// CAP `certainty`; absent: Observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certainty: Option<String>,
    /// CAP `urgency`; absent: Immediate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgency: Option<String>,
    /// CAP `severity`; absent: Severe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// Latitude and longitude in degrees; absent: 30 km around the middle of Hong Kong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<[f64; 2]>,
    /// CAP `areaDesc`; absent: Hong Kong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Keys of sites that it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<String>,
    /// How long it holds, for example `1h`; absent: 47 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// CAP `headline`; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<String>,
    /// CAP `status`; absent: that of the story.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The exercise, beside status Exercise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exercise: Option<String>,
    /// The person who publishes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}

/// What a message needs beside its words.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    /// CAP `identifier`.
    pub identifier: String,
    /// CAP `sender`.
    pub sender: String,
    /// CAP `status`.
    pub status: Status,
    /// CAP `msgType`.
    pub msg_type: MessageType,
    /// The instant of `sent`.
    pub sent: Timestamp,
    /// The messages that it refers to, the one in force last.
    pub of: &'a [AlertId],
}

impl ShortAlert {
    /// These words over those of an earlier message: what is not said stays. Name, department and status are the
    /// caller's to settle.
    #[must_use]
    pub fn over(&self, old: &Self) -> Self {
        let (own, old) = (self.clone(), old.clone());
        Self {
            id: own.id,
            of: None,
            event: own.event.or(old.event),
            from: None,
            level: own.level.or(old.level),
            signal: own.signal.or(old.signal),
            certainty: own.certainty.or(old.certainty),
            urgency: own.urgency.or(old.urgency),
            severity: own.severity.or(old.severity),
            point: own.point.or(old.point),
            place: own.place.or(old.place),
            sites: if own.sites.is_empty() { old.sites } else { own.sites },
            expires: own.expires.or(old.expires),
            headline: own.headline.or(old.headline),
            status: None,
            exercise: None,
            author: own.author.or(old.author),
        }
    }

    /// The CAP 1.2 message; a Cancel has no info.
    ///
    /// # Errors
    /// A sentence when a word is not in the vocabulary or not one of CAP's, or the place is not on earth.
    pub fn to_cap(&self, frame: Frame<'_>) -> Result<Alert, String> {
        let vocabulary = vocabulary::v1();
        let event = self.event.clone().ok_or_else(|| format!("alert {} names no event", self.id))?;
        let known = vocabulary.event(&event).ok_or_else(|| format!("there is no event {event}"))?;
        if let Some(signal) = self.signal.as_deref().filter(|signal| vocabulary.signal(signal).is_none()) {
            return Err(format!("there is no signal {signal}; a group such as TC8 is not sent, one of its members is"));
        }
        let lasts = match &self.expires {
            Some(text) => text.parse().map_err(|_| format!("{text} is not a length of time"))?,
            None => jiff::SignedDuration::from_hours(EXPIRES_H),
        };
        let code = |text: &Option<String>, default: &str| text.clone().unwrap_or_else(|| default.into());
        let (certainty, urgency) = (code(&self.certainty, "Observed"), code(&self.urgency, "Immediate"));
        let severity = code(&self.severity, "Severe");
        let level = self.level.map(|level| ValuePair::new(ALARM_LEVEL, level.to_string()));
        let signal = self.signal.as_ref().map(|signal| ValuePair::new(SIGNAL, signal));
        let info = Info {
            language: Some("en".into()),
            categories: vec![known.category],
            event: known.names.en.clone(),
            response_types: vec![],
            urgency: Urgency::from_cap(&urgency).ok_or_else(|| format!("there is no urgency {urgency}"))?,
            severity: Severity::from_cap(&severity).ok_or_else(|| format!("there is no severity {severity}"))?,
            certainty: Certainty::from_cap(&certainty).ok_or_else(|| format!("there is no certainty {certainty}"))?,
            audience: None,
            event_codes: vec![ValuePair::new(EVENT_CODE, event)],
            effective: None,
            onset: None,
            expires: Some(DateTime::from_instant(frame.sent + lasts, OFFSET_MINUTES)),
            sender_name: None,
            headline: self.headline.clone(),
            description: None,
            instruction: None,
            web: None,
            contact: None,
            parameters: level.into_iter().chain(signal).collect(),
            resources: vec![],
            areas: vec![area(self.point, self.place.as_deref(), &self.sites)?],
        };
        Ok(Alert {
            version: CapVersion::V1_2,
            identifier: frame.identifier,
            sender: frame.sender,
            sent: DateTime::from_instant(frame.sent, OFFSET_MINUTES),
            status: frame.status,
            msg_type: frame.msg_type,
            password: None,
            source: None,
            scope: Some(Scope::Public),
            restriction: None,
            addresses: None,
            codes: vec![],
            note: None,
            references: (!frame.of.is_empty()).then(|| References::from_ids(frame.of)),
            incidents: None::<Group>,
            infos: if frame.msg_type == MessageType::Cancel { vec![] } else { vec![info] },
            signatures: vec![],
        })
    }
}

/// The area of a story: a point, or all of Hong Kong, with the sites that it names.
pub(crate) fn area(point: Option<[f64; 2]>, place: Option<&str>, sites: &[String]) -> Result<Area, String> {
    let [lat, lon] = point.unwrap_or(MIDDLE);
    let at = Point::parse(&format!("{lat},{lon}")).map_err(|error| error.to_string())?;
    let radius_km = if point.is_some() { 0.01 } else { 30.0 };
    let circle = Circle::new(at, radius_km).map_err(|error| error.to_string())?;
    Ok(Area {
        description: place.unwrap_or("Hong Kong").into(),
        circles: vec![circle],
        geocodes: sites.iter().map(|site| ValuePair::new(SITE, site)).collect(),
        ..Area::default()
    })
}
