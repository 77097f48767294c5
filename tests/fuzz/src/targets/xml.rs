//! CAP alone and inside Atom, EDXL-DE or another envelope.

use campanile_alert::judge;
use campanile_alert::xml::{self, Limits};
use campanile_alert::{Alert, classify, vocabulary};

use crate::federation;

/// Room for what grows when it is written: every sign may become a reference.
fn wide() -> Limits {
    let limits = Limits::default();
    Limits { message_bytes_max: 64 << 20, feed_bytes_max: 64 << 20, ..limits }
}

/// Reads a document. What was read and is written must read back the same (C1), through XML and through the wire.
pub fn document(data: &[u8]) {
    let Ok(document) = xml::read(data, &Limits::default()) else { return };
    assert!(!document.statement().is_empty());
    for message in &document.messages {
        let Ok(alert) = &message.result else { continue };
        judged(alert);
        let text = xml::write(alert);
        let again = xml::read(text.as_bytes(), &wide()).expect("what is written is XML");
        let again = again.messages.into_iter().next().expect("what is written is a message");
        assert_eq!(again.result.as_ref(), Ok(alert), "what is written reads otherwise");
        if message.stands_alone && message.media_type == xml::MEDIA_TYPE {
            let alone = xml::read(&message.original, &wide()).expect("it stands alone");
            assert_eq!(alone.messages[0].result.as_ref(), Ok(alert), "the original reads otherwise");
        }
    }
}

/// Judges an alert every way there is, and takes it over the wire when it is good.
pub(super) fn judged(alert: &Alert) {
    let classification = classify::classify(alert, vocabulary::v1());
    let faults = judge::cap_valid(alert);
    let _bus = judge::bus_admissible(alert, &classification, vocabulary::v1(), federation::now());
    let _ids = (alert.id().to_string(), alert.referenced(), alert.severity());
    let wire = campanile_proto::convert::alert_to_wire(alert);
    match campanile_proto::convert::alert_from_wire(wire) {
        Ok(again) => assert_eq!(again, *alert, "the wire changes it"),
        Err(why) => assert!(!faults.is_empty(), "CAP-valid, and the wire refuses it: {why:?}"),
    }
}
