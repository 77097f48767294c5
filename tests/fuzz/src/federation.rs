//! A small federation with fixed keys: `fsd/node-1`, its roster, and some records that it has signed.
//!
//! Everything is the same at every run, so a finding that rests on it can be repeated.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use campanile_alert::{Alert, Clock as _, DepartmentId, ManualClock, OriginId, Status, Timestamp, vocabulary, xml};
use campanile_bus::bus::plain_draft;
use campanile_bus::record::{self, Audience, Body, Content, Draft, Seal, Tick};
use campanile_bus::verify::Verifier;
use campanile_discovery::envelope::Envelope;
use campanile_discovery::keys::SigningKey;
use campanile_discovery::roster::{
    Department, Draft as RosterDraft, Governance, KeyUse, Origin, OriginKey, OriginKind, Right, RightArea, RootKeys,
    RosterHandle,
};
use campanile_log::{Hash, Lane, LogId, Slot};
use campanile_proto::bus::v1 as wire;

/// The federation's name.
pub const NAME: &str = "fuzz";
/// A CA certificate; its key is nowhere.
pub const CA: &str = include_str!("../data/ca.pem");
/// The fire of the quick start.
pub const FIRE: &str = include_str!("../../../services/cli/data/harbour-view-fire.cap.xml");
/// The epoch of its records.
const EPOCH: u64 = 1 << 20;

/// The author.
pub fn origin() -> OriginId {
    "fsd/node-1".parse().expect("a name")
}

/// The key of the root.
pub fn root() -> SigningKey {
    SigningKey::from_seed(&[1; 32]).expect("a key")
}

/// The author's key.
pub fn key() -> SigningKey {
    SigningKey::from_seed(&[2; 32]).expect("a key")
}

/// The author's log.
pub fn log() -> LogId {
    LogId::new("fsd/node-1", Lane::Urgent)
}

/// When everything is.
pub fn now() -> Timestamp {
    ManualClock::new("2026-10-13T02:00:00Z".parse().expect("a time")).now()
}

/// What a node pins.
pub fn pinned() -> RootKeys {
    RootKeys { threshold: 1, keys: vec![root().verifying_key()] }
}

/// The roster, signed.
pub fn roster() -> Envelope {
    let governance = Governance { threshold: 1, keys: vec![root().verifying_key()] };
    let mut draft = RosterDraft::first(NAME, governance, true);
    let everywhere = |events: &[&str]| Right {
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        statuses: Status::ALL.to_vec(),
        area: RightArea::Everywhere,
    };
    let live = key();
    let keys = vec![OriginKey {
        id: live.id(),
        public: live.verifying_key(),
        usage: KeyUse::Live,
        from: None,
        until: Vec::new(),
    }];
    let department = Department {
        id: DepartmentId::try_new("fsd").expect("a name"),
        names: [("en".to_owned(), "Fire Services".to_owned())].into(),
        cas: vec![CA.into()],
        publisher: Some(origin()),
        rights: vec![everywhere(&["fire"])],
        may_read: Vec::new(),
        delegates: Vec::new(),
    };
    draft
        .add_department(department, vec![Origin { id: origin(), kind: OriginKind::Node, keys }])
        .expect("a department");
    let mut envelope = draft.finish(now()).expect("a roster");
    envelope.sign(&root());
    envelope
}

/// The fire, at the time of this federation.
pub fn fire() -> Alert {
    let document = xml::read(FIRE.as_bytes(), &xml::Limits::default()).expect("a document");
    let mut alert = document.messages.into_iter().next().expect("a message").result.expect("an alert");
    alert.sent = campanile_alert::DateTime::parse("2026-10-13T10:00:00+08:00").expect("a time");
    for info in &mut alert.infos {
        info.expires = Some(campanile_alert::DateTime::parse("2026-10-13T14:00:00+08:00").expect("a time"));
    }
    alert
}

fn drafts() -> Vec<Draft> {
    let alert = fire();
    let classification = campanile_alert::classify::classify(&alert, vocabulary::v1());
    let content = Content::Alert { alert: Arc::new(alert.clone()), original: None, media_type: None };
    let plain = plain_draft(alert.status, None, Audience::public(), content);
    let fire = Draft { urgent: true, body: Body { classification, ..plain.body }, ..plain };
    let imported = Content::Alert {
        alert: Arc::new(alert.clone()),
        original: Some(Bytes::from_static(FIRE.as_bytes())),
        media_type: Some(xml::MEDIA_TYPE.into()),
    };
    let restricted =
        Audience { scope: campanile_alert::Scope::Restricted, departments: vec!["edb".into(), "had".into()] };
    let other = |audience: Audience, content| plain_draft(alert.status, None, audience, content);
    vec![
        fire,
        other(restricted, imported),
        plain_draft(Status::System, None, Audience::public(), Content::Tick(Tick { at: now(), heard: Vec::new() })),
        plain_draft(Status::System, None, Audience::public(), Content::Approval(Default::default())),
        plain_draft(Status::System, None, Audience::public(), Content::Manifest(Default::default())),
        plain_draft(Status::System, None, Audience::public(), Content::KeyChange(Default::default())),
    ]
}

/// Records as the author has sealed them, one after another.
pub fn records() -> Vec<wire::Record> {
    let (origin, key, log) = (origin(), key(), log());
    let mut slot = Slot { epoch: EPOCH, seq: 1, previous: Hash::ZERO, link: None };
    let mut records = Vec::new();
    for draft in drafts() {
        let seal = Seal { federation: NAME, origin: &origin, roster: 1, time: now(), key: &key, salt: [7; 16] };
        let (sealed, _) = seal.seal(&draft, &log, slot);
        slot = Slot { epoch: EPOCH, seq: slot.seq + 1, previous: Hash::of(&sealed.header), link: None };
        let signatures = record::open_signatures(&sealed.signatures).expect("signatures");
        records.push(wire::Record {
            header: sealed.header,
            body: Some(sealed.body),
            signatures: record::signatures_to_wire(&signatures),
        });
    }
    records
}

/// The headers that the author has signed.
pub static SIGNED: LazyLock<BTreeSet<Bytes>> =
    LazyLock::new(|| records().into_iter().map(|record| record.header).collect());

/// What a receiver of another department judges by.
pub static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier {
    federation: NAME.into(),
    reader: DepartmentId::try_new("edb").expect("a name"),
    roster: RosterHandle::open(pinned(), true, None, Some(&roster().to_bytes())).expect("a roster"),
    vocabulary: vocabulary::v1(),
});
