//! What comes over the wire between nodes: frames, records, their headers, bodies and alerts.

use bytes::Bytes;
use campanile_bus::record;
use campanile_bus::verify::{Source, Verdict};
use campanile_log::{Entry, Hash, Position, Standing};
use campanile_proto::{bus::v1 as wire, convert};
use prost::Message as _;

use super::xml::judged;
use crate::federation::{NAME, SIGNED, VERIFIER, log};

/// An alert on the wire. What is taken must be written and read back the same.
pub fn alert(data: &[u8]) {
    let Ok(message) = campanile_proto::alert::v1::Alert::decode(data) else { return };
    if let Ok(alert) = convert::alert_from_wire(message) {
        judged(&alert);
        // What was taken from the wire can be given out as XML, and is the same there.
        if campanile_alert::judge::cap_valid(&alert).is_empty() {
            super::xml::document(campanile_alert::xml::write(&alert).as_bytes());
        }
    }
}

/// Every message that a peer or a client may send, and the fields in it that have a form of their own.
pub fn frame(data: &[u8]) {
    if let Ok(response) = wire::PullResponse::decode(data) {
        match response.kind {
            Some(wire::pull_response::Kind::Record(one)) => opened(&one),
            Some(wire::pull_response::Kind::Diverged(diverged)) => opened(&diverged.record.unwrap_or_default()),
            Some(wire::pull_response::Kind::Bookmark(bookmark)) => {
                if let Some(tail) = &bookmark.tail {
                    position(tail);
                }
                let _time = convert::timestamp_from_wire(bookmark.time.as_ref(), "time");
                if let Some(checkpoint) = &bookmark.checkpoint {
                    let roster = VERIFIER.roster.current();
                    let opened = campanile_bus::checkpoint::open(&roster, NAME, &log(), checkpoint);
                    assert!(opened.is_none(), "a checkpoint that nobody signed");
                }
            }
            Some(wire::pull_response::Kind::Pruned(_)) | None => {}
        }
    }
    if let Ok(request) = wire::PullRequest::decode(data)
        && let Some(wire::pull_request::Kind::Start(start)) = request.kind
        && let Some(after) = &start.after
    {
        position(after);
    }
    if let Ok(request) = wire::PublishRequest::decode(data)
        && let Some(wire::publish_request::Content::Alert(message)) = request.content
    {
        let _alert = convert::alert_from_wire(message);
    }
    if let Ok(reference) = wire::AlertRef::decode(data) {
        let _wanted = convert::wanted_alert_from_wire(Some(reference));
    }
}

fn position(position: &wire::Position) {
    if let Ok((log, place)) = record::position_from_wire(position) {
        assert_eq!(record::position_from_wire(&record::position_to_wire(&log, &place)).ok(), Some((log, place)));
    }
}

fn opened(record: &wire::Record) {
    let Ok(header) = record::open_header(&record.header) else { return };
    assert_eq!(header.log.origin.to_string(), header.origin.to_string());
    if let Some(body) = &record.body {
        let _body = record::open_body(&header, body);
    }
    // Signatures are kept and given out again as they came.
    let stored = record::signatures_as_stored(&record.signatures);
    let entry = Entry {
        arrival: 1,
        log: header.log.clone(),
        position: Position { epoch: header.epoch, seq: header.seq, hash: Hash::of(&record.header) },
        previous: header.previous,
        link: header.link,
        header: record.header.clone(),
        body: record.body.clone(),
        signatures: stored,
        standing: Standing::Counted,
    };
    assert_eq!(record::to_wire(&entry, true), *record, "a relay would change it");
}

/// A record whose header names whatever body it has, so that the body is looked at.
pub fn record(data: &[u8]) {
    let Ok(mut record) = wire::Record::decode(data) else { return };
    opened(&record);
    let (Ok(mut header), Some(body)) = (wire::RecordHeader::decode(record.header.clone()), record.body.clone()) else {
        return;
    };
    header.body_hash = Bytes::copy_from_slice(&Hash::of(&body).0);
    record.header = header.encode_to_vec().into();
    let Ok(header) = record::open_header(&record.header) else { return };
    if let Ok(body) = record::open_body(&header, &body)
        && let record::Content::Alert { alert, .. } = &body.content
    {
        assert_eq!(alert.status, header.status);
        judged(alert);
    }
}

/// The judgement of a record from its origin and from a relay: nothing counts that the author has not signed (S1), and
/// from a relay nothing is even kept.
pub fn judge(data: &[u8]) {
    let Ok(record) = wire::Record::decode(data) else { return };
    let signed = SIGNED.contains(&record.header);
    for source in [Source::Origin, Source::Relay] {
        for verdict in [VERIFIER.judge(&log(), &record, source), VERIFIER.judge_without_roster(&log(), &record, source)]
        {
            let Verdict::Append(checked) = verdict else { continue };
            assert!(source == Source::Origin || signed, "a relay's forgery would be kept");
            if checked.replica.standing == Standing::Counted {
                assert!(signed, "what nobody signed counts");
                let body = checked.replica.body.as_ref().expect("what counts has a body");
                assert_eq!(Hash::of(body), checked.header.body_hash, "what counts has another body than was signed");
            }
        }
    }
    if VERIFIER.proves(&log(), &record).is_ok() {
        assert!(signed, "what nobody signed proves a fork");
    }
}
