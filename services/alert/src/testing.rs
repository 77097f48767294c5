//! Alerts for this crate's own tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::area::{Area, Circle};
use crate::message::{
    Alert, CapVersion, Category, Certainty, Info, MessageType, Scope, Severity, Status, Urgency, ValuePair,
};
use crate::time::DateTime;
use crate::vocabulary::{ALARM_LEVEL, EVENT_CODE};

/// A No. 3 fire in Tai Po, sent at 08:00 and expiring at 12:00.
pub(crate) fn fire() -> Alert {
    Alert {
        version: CapVersion::V1_2,
        identifier: "fire-1".into(),
        sender: "control@fsd.example".into(),
        sent: DateTime::parse("2026-11-22T08:00:00+08:00").expect("a time"),
        status: Status::Actual,
        msg_type: MessageType::Alert,
        password: None,
        source: None,
        scope: Some(Scope::Public),
        restriction: None,
        addresses: None,
        codes: vec![],
        note: None,
        references: None,
        incidents: None,
        infos: vec![Info {
            language: Some("en".into()),
            categories: vec![Category::Fire],
            event: "Fire".into(),
            response_types: vec![],
            urgency: Urgency::Immediate,
            severity: Severity::Severe,
            certainty: Certainty::Observed,
            audience: None,
            event_codes: vec![ValuePair::new(EVENT_CODE, "fire")],
            effective: None,
            onset: None,
            expires: Some(DateTime::parse("2026-11-22T12:00:00+08:00").expect("a time")),
            sender_name: None,
            headline: None,
            description: None,
            instruction: None,
            web: None,
            contact: None,
            parameters: vec![ValuePair::new(ALARM_LEVEL, "3")],
            resources: vec![],
            areas: vec![Area {
                description: "Tai Po".into(),
                circles: vec![Circle::parse("22.4501,114.1702 0.1").expect("a circle")],
                ..Area::default()
            }],
        }],
        signatures: vec![],
    }
}
