//! What makes a roster count, and what it then answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use campanile_alert::message::Status;
use campanile_alert::{Area, Circle, Polygon, ValuePair};
use campanile_discovery::SigningKey;
use campanile_discovery::pki::{self, Request, Validity};
use campanile_discovery::roster::{
    ANY_CODE, Delegate, Department, Draft, DraftError, Error, Governance, KeyEnd, KeyRefusal, Lane, Offer, OriginKey,
    Revoked, Right, RightArea, RightRefusal, RootKeys, Roster, RosterHandle, SignedRoster, diff,
};
use campanile_discovery::roster::{KeyUse, RosterCache};
use support::*;

fn first(fed: &Fed) -> SignedRoster {
    SignedRoster::verify(&fed.fed.roster().unwrap(), &fed.fed.root().unwrap(), None, true).unwrap()
}

fn signed(draft: Draft, keys: &[&SigningKey]) -> Vec<u8> {
    let mut envelope = draft.finish(now()).unwrap();
    keys.iter().for_each(|key| envelope.sign(key));
    envelope.to_bytes()
}

fn keys(fed: &Fed) -> [SigningKey; 3] {
    [1, 2, 3].map(|n| fed.fed.governance_key(n).unwrap())
}

#[test]
fn a_roster_needs_its_threshold_of_pinned_signatures() {
    let fed = federation();
    let (roster, root, [a, b, c]) = (first(&fed), fed.fed.root().unwrap(), keys(&fed));
    let stranger = SigningKey::generate().unwrap();
    let offer = |signers: &[&SigningKey]| {
        SignedRoster::verify(&signed(Draft::after(&roster), signers), &root, Some(&roster), true).map(|r| r.number)
    };
    assert_eq!(offer(&[]), Err(Error::Threshold { found: 0, needed: 2 }));
    assert_eq!(offer(&[&a, &a, &stranger]), Err(Error::Threshold { found: 1, needed: 2 }));
    assert_eq!(offer(&[&a, &c]), Ok(2));
    assert_eq!(offer(&[&stranger, &b, &c]), Ok(2));
    let other = RootKeys { threshold: 1, keys: vec![stranger.verifying_key()] };
    let bytes = fed.fed.roster().unwrap();
    assert!(matches!(SignedRoster::verify(&bytes, &other, None, true), Err(Error::Threshold { .. })));
    let none = RootKeys { threshold: 0, keys: vec![] };
    assert!(matches!(SignedRoster::verify(&bytes, &none, None, true), Err(Error::Threshold { .. })));
}

#[test]
fn a_changed_byte_takes_the_signatures_away() {
    let fed = federation();
    let text = String::from_utf8(fed.fed.roster().unwrap()).unwrap();
    let envelope: serde_json::Value = serde_json::from_str(&text).unwrap();
    let payload = envelope["payload"].as_str().unwrap();
    let mut changed = payload.as_bytes().to_vec();
    let middle = changed.len() / 2;
    changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    let bytes = text.replace(payload, &changed).into_bytes();
    let refused = SignedRoster::verify(&bytes, &fed.fed.root().unwrap(), None, true);
    assert!(matches!(refused, Err(Error::Threshold { found: 0, .. })), "{refused:?}");
}

#[test]
fn a_roster_never_goes_back_forks_or_breaks_its_link() {
    let fed = federation();
    let (one, [a, b, _]) = (fed.handle(), keys(&fed));
    let first = one.current();
    let two = signed(Draft::after(&first), &[&a, &b]);
    assert_eq!(one.offer(&two), Ok(Offer::Accepted));
    assert_eq!(one.offer(&two), Ok(Offer::Known));
    assert_eq!(one.offer(&fed.fed.roster().unwrap()), Err(Error::RollBack { offered: 1, held: 2 }));

    let mut fork = Draft::after(&first);
    fork.revoke(Revoked { department: dept("edb"), serial: "1".into() });
    assert_eq!(one.offer(&signed(fork, &[&a, &b])), Err(Error::Fork(2)));

    let mut unlinked = Draft::after(&one.current());
    unlinked.roster_mut().previous = Some("00".repeat(32));
    assert_eq!(one.offer(&signed(unlinked, &[&a, &b])), Err(Error::Link { number: 3, held: 2 }));

    let mut other = Draft::after(&one.current());
    other.roster_mut().federation = "elsewhere".into();
    assert!(matches!(one.offer(&signed(other, &[&a, &b])), Err(Error::Federation { .. })));

    // A node that was away for a while takes a later roster, whose governance has not changed.
    let mut later = Draft::after(&one.current());
    later.roster_mut().number = 7;
    assert_eq!(one.offer(&signed(later, &[&a, &b])), Ok(Offer::Accepted));
    assert_eq!((one.current().number, one.at(2).unwrap().number, one.at(5).is_none()), (7, 2, true));
}

#[test]
fn a_roster_that_was_passed_over_is_taken_up_when_the_one_after_it_links_to_it() {
    let fed = federation();
    let (whole, [a, b, _]) = (fed.handle(), keys(&fed));
    let first = whole.current();
    let mut rosters = vec![fed.fed.roster().unwrap()];
    for _ in 2..=4 {
        rosters.push(signed(Draft::after(&whole.current()), &[&a, &b]));
        whole.offer(rosters.last().unwrap()).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let cache = RosterCache::open(folder.path()).unwrap();
        RosterHandle::open(fed.fed.root().unwrap(), true, Some(cache), Some(&rosters[0])).unwrap()
    };
    let late = open();
    assert_eq!(late.offer(&rosters[3]), Ok(Offer::Accepted));
    assert_eq!((late.held_above(1).unwrap().number, late.held_above(4).is_none()), (4, true));
    // From the newest back: nothing says what the second is before the third is there.
    assert_eq!(late.recall(2, Some(&rosters[1])), Err(Error::Unlinked(2)));
    // Governance signed that one as well, and yet it is not the one.
    let mut other = Draft::after(&whole.at(2).unwrap());
    other.revoke(Revoked { department: dept("edb"), serial: "1".into() });
    assert_eq!(late.recall(3, Some(&signed(other, &[&a, &b]))), Err(Error::Unlinked(3)));
    // The one, without its signatures.
    let bare = signed(Draft::after(&whole.at(2).unwrap()), &[]);
    assert!(matches!(late.recall(3, Some(&bare)), Err(Error::Threshold { .. })));
    assert_eq!(late.recall(3, Some(b"{}")).unwrap_err().to_string(), "the roster's envelope was refused");
    assert_eq!((late.recall(3, Some(&rosters[2])), late.recall(2, Some(&rosters[1]))), (Ok(()), Ok(())));
    assert_eq!((late.current().number, late.at(2).unwrap().digest()), (4, whole.at(2).unwrap().digest()));
    assert_eq!(late.recall(5, Some(&rosters[2])), Err(Error::Unlinked(5)));
    assert_eq!(late.recall(u64::MAX, Some(&rosters[2])), Err(Error::Unlinked(u64::MAX)));
    assert_eq!((late.at(5).is_none(), late.envelope(5), late.envelope(2).as_ref()), (true, None, Some(&rosters[1])));
    drop(late);
    // It is on the disk.
    let again = open();
    assert_eq!(
        (again.current().number, again.at(3).unwrap().number, again.at(1).unwrap().digest()),
        (4, 3, first.digest())
    );
}

#[test]
fn development_needs_the_flag_and_never_follows_a_real_roster() {
    let fed = federation();
    let (root, [a, b, _]) = (fed.fed.root().unwrap(), keys(&fed));
    let refused = SignedRoster::verify(&fed.fed.roster().unwrap(), &root, None, false);
    assert!(matches!(refused, Err(Error::Development(1))), "{refused:?}");
    let mut real = Draft::after(&first(&fed));
    real.roster_mut().development = false;
    let real = SignedRoster::verify(&signed(real, &[&a, &b]), &root, None, false).unwrap();
    let mut back = Draft::after(&real);
    back.roster_mut().development = true;
    let refused = SignedRoster::verify(&signed(back, &[&a, &b]), &root, Some(&real), true);
    assert!(matches!(refused, Err(Error::Development(3))), "{refused:?}");
}

#[test]
fn root_keys_change_only_by_the_hand_of_the_old_ones_and_with_the_new_ones_at_hand() {
    let fed = federation();
    let (roster, [a, b, c]) = (fed.handle(), keys(&fed));
    let (x, y) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let draft = || {
        let mut draft = Draft::after(&roster.current());
        draft.set_governance(Governance { threshold: 2, keys: vec![x.verifying_key(), y.verifying_key()] });
        draft
    };
    assert!(matches!(roster.offer(&signed(draft(), &[&x, &y])), Err(Error::Threshold { found: 0, .. })));
    assert!(matches!(roster.offer(&signed(draft(), &[&a, &b, &x])), Err(Error::Threshold { found: 1, .. })));
    assert_eq!(roster.offer(&signed(draft(), &[&a, &b, &x, &y])), Ok(Offer::Accepted));
    let next = || Draft::after(&roster.current());
    assert!(matches!(roster.offer(&signed(next(), &[&a, &b, &c])), Err(Error::Threshold { found: 0, .. })));
    assert_eq!(roster.offer(&signed(next(), &[&x, &y])), Ok(Offer::Accepted));
}

#[test]
fn the_cache_survives_a_change_of_root_keys_and_is_checked_on_loading() {
    let fed = federation();
    let ([a, b, _], dir) = (keys(&fed), tempfile::tempdir().unwrap());
    let open = |initial: Option<&[u8]>| {
        let cache = RosterCache::open(dir.path()).unwrap();
        RosterHandle::open(fed.fed.root().unwrap(), true, Some(cache), initial)
    };
    assert!(matches!(open(None), Err(Error::None)));
    let roster = open(Some(&fed.fed.roster().unwrap())).unwrap();
    let x = SigningKey::generate().unwrap();
    let mut draft = Draft::after(&roster.current());
    draft.set_governance(Governance { threshold: 1, keys: vec![x.verifying_key()] });
    roster.offer(&signed(draft, &[&a, &b, &x])).unwrap();
    roster.offer(&signed(Draft::after(&roster.current()), &[&x])).unwrap();
    let again = open(None).unwrap();
    assert_eq!(again.current().number, 3);
    assert_eq!(again.current().digest(), roster.current().digest());

    // A roster that somebody wrote into the folder is passed over.
    let path = dir.path().join("roster-00000000000000000004.json");
    std::fs::write(&path, signed(Draft::after(&again.current()), &[&a, &b])).unwrap();
    assert_eq!(open(None).unwrap().current().number, 3);
    std::fs::write(path, "{").unwrap();
    assert_eq!(open(None).unwrap().current().number, 3);
}

#[test]
fn a_key_is_good_for_its_use_and_its_range_of_positions() {
    let fed = federation();
    let (roster, [a, b, _]) = (fed.handle(), keys(&fed));
    let name = origin("edb/node-1");
    let (live, drill) = (fed.fed.node(&name).signing_key().unwrap(), fed.fed.node(&name).exercise_key().unwrap());
    let now_ = roster.current();
    assert_eq!(now_.key(&name, live.id(), Lane::Urgent, 5, 1), Ok(&live.verifying_key()));
    assert_eq!(now_.key(&name, drill.id(), Lane::Exercise, 5, 1), Ok(&drill.verifying_key()));
    assert!(matches!(now_.key(&name, live.id(), Lane::Exercise, 5, 1), Err(KeyRefusal::WrongUse { .. })));
    assert!(matches!(now_.key(&name, drill.id(), Lane::Routine, 5, 1), Err(KeyRefusal::WrongUse { .. })));
    let other = origin("fsd/node-1");
    assert!(matches!(now_.key(&other, live.id(), Lane::Urgent, 5, 1), Err(KeyRefusal::UnknownKey { .. })));
    let none = origin("hko/node-1");
    assert!(matches!(now_.key(&none, live.id(), Lane::Urgent, 5, 1), Err(KeyRefusal::UnknownOrigin { .. })));

    let new = SigningKey::generate().unwrap();
    let mut draft = Draft::after(&now_);
    draft.end_key(&name, live.id(), vec![KeyEnd { lane: Lane::Urgent, epoch: 5, seq: 7 }]).unwrap();
    let key =
        OriginKey { id: new.id(), public: new.verifying_key(), usage: KeyUse::Live, from: Some(6), until: vec![] };
    draft.add_key(&name, key.clone()).unwrap();
    assert!(matches!(draft.add_key(&name, key), Err(DraftError::There(_))));
    roster.offer(&signed(draft, &[&a, &b])).unwrap();
    let next = roster.current();
    for (id, lane, epoch, seq, good) in [
        (live.id(), Lane::Urgent, 4, 900, true),
        (live.id(), Lane::Urgent, 5, 7, true),
        (live.id(), Lane::Urgent, 5, 8, false),
        (live.id(), Lane::Urgent, 6, 1, false),
        (live.id(), Lane::Routine, 4, 1, false),
        (new.id(), Lane::Urgent, 5, 9, false),
        (new.id(), Lane::Urgent, 6, 1, true),
        (new.id(), Lane::Routine, 7, 1, true),
    ] {
        let found = next.key(&name, id, lane, epoch, seq);
        assert_eq!(found.is_ok(), good, "{id} {lane:?} {epoch}/{seq}: {found:?}");
    }
    assert_eq!(next.live_keys(&name).collect::<Vec<_>>(), [&new.verifying_key()]);
    assert!(now_.key(&name, live.id(), Lane::Routine, 4, 1).is_ok(), "the earlier roster still answers as it did");
}

fn area(polygon: &str) -> Area {
    Area { description: "somewhere".into(), polygons: vec![Polygon::parse(polygon).unwrap()], ..Area::default() }
}

#[test]
fn rights_cover_event_status_and_place_together() {
    let fed = federation();
    let (roster, [a, b, _]) = (fed.handle(), keys(&fed));
    let mut bounds = area("22,113.8 22,114.5 22.6,114.5 22.6,113.8 22,113.8");
    bounds.description = "Hong Kong".into();
    bounds.geocodes = vec![ValuePair::new("campanile:site", ANY_CODE), ValuePair::new("district", "tai-po")];
    let mut draft = Draft::after(&roster.current());
    let right = |events: &[&str], statuses: &[Status], area: RightArea| Right {
        events: events.iter().map(|e| (*e).to_owned()).collect(),
        statuses: statuses.to_vec(),
        area,
    };
    draft
        .set_rights(
            &dept("fsd"),
            vec![
                right(&["fire"], &[Status::Actual, Status::Exercise], RightArea::Within(Box::new(bounds))),
                right(&["flood"], &[Status::Exercise], RightArea::Everywhere),
            ],
        )
        .unwrap();
    draft.set_rights(&dept("edb"), vec![right(&["*"], &[Status::Actual], RightArea::Everywhere)]).unwrap();
    roster.offer(&signed(draft, &[&a, &b])).unwrap();
    let roster = roster.current();
    let inside = area("22.2,114.1 22.2,114.2 22.3,114.2 22.2,114.1");
    let outside = area("-33,151 -33,152 -34,152 -33,151");
    let across = area("22.2,114.1 22.2,114.2 23.3,114.2 22.2,114.1");
    let circle =
        Area { circles: vec![Circle::parse("22.3,114.15 1").unwrap()], description: "ring".into(), ..Area::default() };
    let codes = |name: &str, value: &str| Area { geocodes: vec![ValuePair::new(name, value)], ..Area::default() };
    let mut far_code = inside.clone();
    far_code.geocodes = vec![ValuePair::new("district", "elsewhere")];
    let (fire, fsd) = (Some("fire"), dept("fsd"));
    let allow = |event, status, areas: &[Area]| roster.rights(&fsd).allow(event, status, areas);
    assert_eq!(allow(fire, Status::Actual, &[inside.clone(), circle]), Ok(()));
    assert_eq!(allow(fire, Status::Actual, &[]), Ok(()), "a Cancel has no area");
    assert_eq!(allow(fire, Status::Actual, &[codes("campanile:site", "0123456789")]), Ok(()));
    assert_eq!(allow(fire, Status::Actual, &[codes("district", "tai-po")]), Ok(()));
    assert_eq!(allow(Some("flood"), Status::Exercise, std::slice::from_ref(&outside)), Ok(()));
    for place in [outside, across, codes("district", "x"), far_code, Area::default()] {
        let refused = allow(fire, Status::Actual, &[inside.clone(), place]);
        assert!(matches!(refused, Err(RightRefusal::Area { .. })), "{refused:?}");
    }
    assert!(matches!(allow(fire, Status::Test, &[]), Err(RightRefusal::Status { .. })));
    assert!(matches!(allow(Some("flood"), Status::Actual, &[]), Err(RightRefusal::Status { .. })));
    let refused = allow(Some("landslip"), Status::Actual, &[]).unwrap_err().to_string();
    assert_eq!(refused, "fsd may not originate landslip; roster 2 gives it fire, flood");
    assert!(matches!(allow(None, Status::Actual, &[]), Err(RightRefusal::Event { .. })), "unclassified is not fire");
    assert_eq!(roster.rights(&dept("edb")).allow(None, Status::Actual, &[]), Ok(()));
    let stranger = dept("hko");
    let refused = roster.rights(&stranger).allow(fire, Status::Actual, &[]);
    assert!(matches!(refused, Err(RightRefusal::NotMember { .. })));
}

#[test]
fn the_area_of_a_right_must_be_said() {
    for bad in [r#"{"everywhere": false}"#, r#"{"description": "nowhere"}"#, "{}"] {
        assert!(serde_json::from_str::<RightArea>(bad).is_err(), "{bad}");
    }
    assert!(matches!(serde_json::from_str(r#"{"everywhere": true}"#), Ok(RightArea::Everywhere)));
}

#[test]
fn amending_and_reading_are_the_owners_but_for_whom_it_names() {
    let fed = federation_of(&["edb", "fsd", "had"], 1, 1);
    let mut draft = Draft::after(&first(&fed));
    for d in &mut draft.roster_mut().departments {
        if d.id == dept("fsd") {
            d.delegates = vec![Delegate { to: dept("edb"), events: vec!["fire".into()] }];
            d.may_read = vec![dept("had")];
        }
    }
    let roster = draft.roster();
    let (edb, fsd, had) = (dept("edb"), dept("fsd"), dept("had"));
    assert!(roster.may_amend(&fsd, &fsd, None) && roster.may_amend(&fsd, &edb, Some("fire")));
    assert!(!roster.may_amend(&fsd, &edb, Some("flood")) && !roster.may_amend(&fsd, &edb, None));
    assert!(!roster.may_amend(&edb, &fsd, Some("fire")) && !roster.may_amend(&fsd, &had, Some("fire")));
    assert!(roster.may_read(&fsd, &had) && !roster.may_read(&had, &fsd) && roster.may_read(&had, &had));
    assert_eq!(roster.persons_with("edb.duty-officer").count(), 1);
    assert_eq!(roster.person_of(&"edb/desk-1".parse().unwrap()).unwrap().id, "edb-officer-1");
    assert_eq!(roster.person_of(&"edb/desk-2".parse().unwrap()), None);
}

#[test]
fn a_roster_that_contradicts_itself_is_refused_with_each_fault() {
    let fed = federation();
    let first = first(&fed);
    let edit = |edit: &dyn Fn(&mut Roster)| {
        let mut draft = Draft::after(&first);
        edit(draft.roster_mut());
        match draft.finish(now()) {
            Err(DraftError::Unsound(faults)) => faults.join("; "),
            other => panic!("accepted: {other:?}"),
        }
    };
    let twice = |r: &mut Roster| r.departments.push(r.departments[0].clone());
    assert!(edit(&twice).contains("listed twice"));
    assert!(edit(&|r| r.origins[0].keys[0].id = r.origins[1].keys[0].id).contains("has another id"));
    assert!(edit(&|r| r.origins[0].keys = r.origins[2].keys.clone()).contains("and again for"));
    assert!(edit(&|r| r.departments[0].publisher = Some(origin("fsd/node-1"))).contains("not a listed origin"));
    assert!(edit(&|r| r.departments[0].cas.clear()).contains("has no CA"));
    assert!(edit(&|r| r.governance.threshold = 4).contains("4 of 3"));
    assert!(edit(&|r| r.governance.threshold = 0).contains("0 of 3"));
    assert!(edit(&|r| r.persons[0].clients = vec!["fsd/desk-1".parse().unwrap()]).contains("another department"));
    let both = |r: &mut Roster| {
        let mut second = r.persons[0].clone();
        second.id = "second".into();
        r.persons.push(second);
    };
    assert!(edit(&both).contains("belongs to the persons"));
}

#[test]
fn one_ca_key_for_two_departments_is_refused() {
    let fed = federation();
    let ([a, b, _], first) = (keys(&fed), first(&fed));
    let mut draft = Draft::after(&first);
    let ca = draft.roster().departments[0].cas.clone();
    draft.roster_mut().departments[1].cas.extend(ca);
    let refused = SignedRoster::verify(&signed(draft, &[&a, &b]), &fed.fed.root().unwrap(), Some(&first), true);
    assert!(matches!(refused, Err(Error::Ca { .. })), "{refused:?}");
    let mut draft = Draft::after(&first);
    let leaf = std::fs::read_to_string(fed.fed.node(&origin("edb/node-1")).tls.chain).unwrap();
    draft.add_ca(&dept("edb"), leaf).unwrap();
    let refused = SignedRoster::verify(&signed(draft, &[&a, &b]), &fed.fed.root().unwrap(), Some(&first), true);
    assert!(matches!(refused, Err(Error::Ca { .. })), "{refused:?}");
}

#[test]
fn a_request_proves_every_key_and_holds_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let validity = Validity::development(now());
    let bytes = Request::create(dir.path(), &department("hko"), validity).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(!text.contains("PRIVATE"));
    let request = Request::verify(&bytes).unwrap();
    assert_eq!(request.origins.len(), 2);
    assert!(request.department.rights.is_empty(), "a request asks for no rights");
    assert!(Request::create(dir.path(), &department("hko"), validity).is_err(), "keys were overwritten");

    // Somebody else's key listed beside one's own.
    let stolen = {
        let other = tempfile::tempdir().unwrap();
        Request::verify(&Request::create(other.path(), &department("hko"), validity).unwrap()).unwrap()
    };
    let own = [("node-1", "signing"), ("node-1", "exercise"), ("node-2", "signing"), ("node-2", "exercise")]
        .map(|(node, key)| pki::load_signing_key(&dir.path().join(format!("hko/nodes/{node}/{key}.key"))).unwrap());
    let resign = |request: &Request| {
        let payload = serde_json::to_vec(request).unwrap();
        let mut envelope = campanile_discovery::envelope::Envelope::new(pki::REQUEST_TYPE, payload);
        own.iter().for_each(|key| envelope.sign(key));
        Request::verify(&envelope.to_bytes())
    };
    resign(&request).unwrap();
    let mut bad = request.clone();
    bad.origins[0].keys[0] = stolen.origins[0].keys[0].clone();
    assert!(matches!(resign(&bad), Err(pki::RequestError::Unproven { .. })));
    let mut bad = request.clone();
    bad.department.cas = stolen.department.cas.clone();
    assert!(matches!(resign(&bad), Err(pki::RequestError::Ca(..))));
    let mut bad = request.clone();
    bad.department = Department { id: dept("edb"), ..bad.department };
    assert!(matches!(resign(&bad), Err(pki::RequestError::Unsound { .. })));
    let mut bad = request;
    bad.department.rights = department("hko").rights;
    assert!(matches!(resign(&bad), Err(pki::RequestError::Unsound { .. })));
}

#[test]
fn the_difference_is_told_in_sentences() {
    let fed = federation();
    let first = first(&fed);
    assert_eq!(diff(&first, &first), Vec::<String>::new());
    let dir = tempfile::tempdir().unwrap();
    let mut draft = Draft::after(&first);
    let request = Request::create(dir.path(), &department("hko"), Validity::development(now())).unwrap();
    let rights = department("hko").rights;
    Request::verify(&request).unwrap().add_to(&mut draft, rights).unwrap();
    draft.set_rights(&dept("fsd"), vec![]).unwrap();
    draft.set_publisher(origin("edb/node-2")).unwrap();
    draft.revoke(Revoked { department: dept("edb"), serial: "ab".into() });
    let lines = diff(&first, draft.roster());
    for want in [
        "edb/node-2 publishes for edb instead of edb/node-1",
        "fsd had the right to fire as Actual+Exercise everywhere, and gets no rights",
        "department hko joins with one CA and the right to fire as Actual+Exercise everywhere",
        "Node hko/node-1 comes with 2 keys",
        "person hko-officer-1 comes: roles hko.duty-officer",
        "certificate ab of edb is revoked",
    ] {
        assert!(lines.iter().any(|l| l == want), "{want:?} is not in {lines:#?}");
    }
    draft.remove_department(&dept("fsd")).unwrap();
    assert!(diff(&first, draft.roster()).contains(&"department fsd leaves".to_owned()));
}

#[cfg(unix)]
#[test]
fn private_keys_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    fn check(dir: &std::path::Path) -> usize {
        let mut count = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                count += check(&path);
            } else if std::fs::read_to_string(&path).unwrap().contains("PRIVATE") {
                let mode = path.metadata().unwrap().permissions().mode() & 0o777;
                assert_eq!((mode, path.extension().unwrap().to_str()), (0o600, Some("key")), "{path:?}");
                count += 1;
            }
        }
        count
    }
    let fed = federation();
    // Three governance keys; per department a CA, two nodes of three keys, two clients.
    assert_eq!(check(fed.fed.dir()), 3 + 2 * (1 + 6 + 2));
    assert!(matches!(
        pki::Federation::create(
            fed.fed.dir(),
            &pki::Plan {
                federation: "test".into(),
                departments: vec![],
                validity: Validity::development(now()),
                governance_keys: 1,
                threshold: 1
            }
        ),
        Err(pki::Error::Exists(_))
    ));
}
