//! Whom mutual TLS lets in, and whom it does not (S2).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use campanile_discovery::pki::{self, DepartmentDir, Validity};
use campanile_discovery::roster::{Draft, Governance, Origin, OriginKind, Revoked, RosterHandle};
use campanile_discovery::tls::{Acceptor, Error, Identity, Timeouts, TlsMaterial};
use campanile_discovery::{PeerKind, Role, SigningKey};
use proptest::prelude::*;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType, date_time_ymd};
use support::*;

#[tokio::test]
async fn members_know_each_other_by_department_and_name() {
    let (fed, clock) = (federation(), clock());
    let roster = fed.handle();
    let (edb, fsd) = (fed.material("edb/node-1", &roster, &clock), fed.material("fsd/node-1", &roster, &clock));
    let (caller, called) = handshake(&edb, "fsd/node-1", &fsd).await;
    caller.unwrap();
    let peer = called.unwrap();
    assert_eq!(peer.origin(), Some(origin("edb/node-1")));
    assert_eq!((peer.kind, peer.roles.is_empty()), (PeerKind::Node, true));

    let desk = fed.client("fsd/desk-1", &roster, &clock);
    let peer = handshake(&desk, "fsd/node-1", &fsd).await.1.unwrap();
    assert_eq!(peer.client().unwrap().to_string(), "fsd/desk-1");
    assert_eq!(peer.roles, [Role::Publish, Role::Approve].into());
    assert_eq!(roster.current().person_of(&peer.client().unwrap()).unwrap().id, "fsd-officer-1");
    assert_eq!(peer.not_after, now() + Duration::from_secs(90 * 24 * 3600));
    fsd.still_good(&peer).unwrap();
}

#[tokio::test]
async fn another_node_of_the_right_department_is_not_the_one_called() {
    let (fed, clock) = (federation(), clock());
    let roster = fed.handle();
    let (edb, fsd) = (fed.material("edb/node-1", &roster, &clock), fed.material("fsd/node-2", &roster, &clock));
    let (caller, called) = handshake(&edb, "fsd/node-1", &fsd).await;
    assert!(matches!(caller, Err(Error::OtherPeer { .. })), "{caller:?}");
    assert!(called.is_err(), "{called:?}");
}

#[tokio::test]
async fn a_client_certificate_cannot_serve() {
    let (fed, clock) = (federation(), clock());
    let roster = fed.handle();
    let (edb, desk) = (fed.material("edb/node-1", &roster, &clock), fed.client("fsd/desk-1", &roster, &clock));
    let (caller, _) = handshake(&edb, "fsd/desk-1", &desk).await;
    assert!(matches!(caller, Err(Error::Chain { .. })), "{caller:?}");
}

#[tokio::test]
async fn a_certificate_counts_only_between_its_two_instants() {
    let (fed, clock) = (federation(), clock());
    let roster = fed.handle();
    let (edb, fsd) = (fed.material("edb/node-1", &roster, &clock), fed.material("fsd/node-1", &roster, &clock));
    let peer = handshake(&edb, "fsd/node-1", &fsd).await.1.unwrap();
    for (instant, word) in [
        (now() + Duration::from_secs(91 * 24 * 3600), "expired"),
        ("2014-01-01T00:00:00Z".parse().unwrap(), "not valid yet"),
    ] {
        clock.set(instant);
        let (caller, called) = handshake(&edb, "fsd/node-1", &fsd).await;
        let error = caller.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert!(called.is_err());
        assert!(fsd.still_good(&peer).unwrap_err().to_string().contains(word));
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_from_the_next_roster_on_without_restart() {
    let (fed, clock) = (federation(), clock());
    let roster = fed.handle();
    let (edb, fsd) = (fed.material("edb/node-1", &roster, &clock), fed.material("fsd/node-1", &roster, &clock));
    let peer = handshake(&edb, "fsd/node-1", &fsd).await.1.unwrap();
    let mut draft = Draft::after(&roster.current());
    draft.revoke(Revoked { department: dept("edb"), serial: peer.serial.clone() });
    let mut envelope = draft.finish(now()).unwrap();
    envelope.sign(&fed.fed.governance_key(1).unwrap());
    envelope.sign(&fed.fed.governance_key(3).unwrap());
    roster.offer(&envelope.to_bytes()).unwrap();
    let called = handshake(&edb, "fsd/node-1", &fsd).await.1;
    assert!(matches!(called, Err(Error::Revoked { .. })), "{called:?}");
    assert!(matches!(fsd.still_good(&peer), Err(Error::Revoked { .. })));
    assert!(matches!(edb.reload(), Err(Error::Revoked { .. })));

    pki::renew_node(&fed.fed.department(&dept("edb")), "node-1", &[], Validity::development(now())).unwrap();
    edb.reload().unwrap();
    handshake(&edb, "fsd/node-1", &fsd).await.1.unwrap();
}

#[tokio::test]
async fn bad_material_never_takes_the_place_of_good() {
    let (fed, clock) = (federation(), clock());
    let roster = fed.handle();
    let (edb, fsd) = (fed.material("edb/node-1", &roster, &clock), fed.material("fsd/node-1", &roster, &clock));
    let before = edb.identity().peer().serial.clone();
    let files = fed.fed.node(&origin("edb/node-1")).tls;
    let good = std::fs::read(&files.chain).unwrap();

    // The certificate of a renewal whose key has not come yet.
    let other = fed.fed.node(&origin("edb/node-2")).tls;
    std::fs::copy(&other.chain, &files.chain).unwrap();
    assert!(matches!(edb.reload(), Err(Error::KeyMismatch(_))));
    // Another node's pair.
    let pair = Identity::load(&other).unwrap();
    assert!(matches!(edb.replace(pair), Err(Error::OtherSelf { .. })));
    // Half a file.
    std::fs::write(&files.chain, &good[..good.len() / 2]).unwrap();
    assert!(edb.reload().is_err());
    // A certificate that has expired already.
    let past = Validity { from: "2020-01-01T00:00:00Z".parse().unwrap(), ..Validity::development(now()) };
    pki::renew_node(&fed.fed.department(&dept("edb")), "node-1", &[], past).unwrap();
    assert!(matches!(edb.reload(), Err(Error::Chain { .. })));

    assert_eq!(edb.identity().peer().serial, before);
    handshake(&edb, "fsd/node-1", &fsd).await.1.unwrap();
}

/// A certificate by `department`'s CA with exactly these names and usages.
fn issued(fed: &Fed, department: &str, uris: &[&str], usages: &[ExtendedKeyUsagePurpose]) -> Result<Identity, Error> {
    let folder = fed.fed.department(&dept(department));
    let key = KeyPair::from_pem(&std::fs::read_to_string(folder.ca_key_path()).unwrap()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&std::fs::read_to_string(folder.ca_path()).unwrap(), key).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris.iter().map(|u| SanType::URI((*u).to_owned().try_into().unwrap())).collect();
    params.extended_key_usages = usages.to_vec();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    let leaf = params.signed_by(&key, &issuer).unwrap();
    Identity::from_pem(leaf.pem().as_bytes(), key.serialize_pem().as_bytes())
}

#[test]
fn a_certificate_names_exactly_one_identity_and_says_what_it_is_for() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let (fed, clock) = (federation(), clock());
    let roster = fed.handle();
    let both = [ServerAuth, ClientAuth];
    let two = issued(&fed, "edb", &["spiffe://edb/node/node-1", "spiffe://edb/node/node-2"], &both);
    assert!(two.unwrap_err().to_string().contains("refused"));
    assert!(issued(&fed, "edb", &[], &both).is_err());
    assert!(issued(&fed, "edb", &["https://edb/node/node-1"], &both).is_err());
    let judge = |identity: Identity| TlsMaterial::new(identity, roster.clone(), clock.clone()).map(drop);
    judge(issued(&fed, "edb", &["spiffe://edb/node/node-1"], &both).unwrap()).unwrap();
    for usages in [&[][..], &[ServerAuth], &[ClientAuth]] {
        let refused = judge(issued(&fed, "edb", &["spiffe://edb/node/node-1"], usages).unwrap());
        assert!(matches!(refused, Err(Error::Chain { .. })), "{usages:?}: {refused:?}");
    }
    let stranger = judge(issued(&fed, "edb", &["spiffe://hko/node/node-1"], &both).unwrap());
    assert!(matches!(stranger, Err(Error::UnknownDepartment { .. })), "{stranger:?}");
}

/// The view of a forger: a roster of its own in which `victim`'s CA is `forger`'s.
fn forged(
    fed: &Fed,
    forger: &str,
    victim: &str,
    kind: PeerKind,
    clock: &Arc<campanile_alert::ManualClock>,
) -> TlsMaterial {
    let dir = tempfile::tempdir().unwrap();
    let folder = DepartmentDir::new(dir.path(), &dept(victim));
    let own = fed.fed.department(&dept(forger));
    std::fs::create_dir_all(folder.ca_path().parent().unwrap()).unwrap();
    std::fs::copy(own.ca_path(), folder.ca_path()).unwrap();
    std::fs::copy(own.ca_key_path(), folder.ca_key_path()).unwrap();
    let validity = Validity::development(now());
    let files = match kind {
        PeerKind::Node => {
            pki::renew_node(&folder, "node-1", &[], validity).unwrap();
            folder.node("node-1").tls
        }
        PeerKind::Client => {
            pki::renew_client(&folder, "desk-1", Some(&Role::ALL.into()), validity).unwrap();
            folder.client("desk-1")
        }
    };
    let identity = Identity::load(&files).unwrap();

    let honest = fed.handle().current();
    assert!(TlsMaterial::new(identity.clone(), fed.handle(), clock.clone()).is_err(), "the forger fools itself");
    let key = SigningKey::generate().unwrap();
    let governance = Governance { threshold: 1, keys: vec![key.verifying_key()] };
    let mut draft = Draft::first("forged", governance.clone(), true);
    for department in &honest.departments {
        if department.id == dept(forger) {
            continue;
        }
        let mut department = department.clone();
        department.publisher = None;
        if department.id == dept(victim) {
            department.cas = vec![std::fs::read_to_string(own.ca_path()).unwrap()];
        }
        let id = campanile_alert::OriginId::try_new(department.id.clone(), "node-1").unwrap();
        draft.add_department(department, vec![Origin { id, kind: OriginKind::Node, keys: vec![] }]).unwrap();
    }
    let mut envelope = draft.finish(now()).unwrap();
    envelope.sign(&key);
    let roster = RosterHandle::open((&governance).into(), true, None, Some(&envelope.to_bytes())).unwrap();
    TlsMaterial::new(identity, roster, clock.clone()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    /// S2: a department's CA never authenticates another department's node, nor its client, on either side.
    #[test]
    fn s2_a_departments_ca_vouches_for_no_other(count in 3_usize..6, a in 0_usize..6, b in 1_usize..6, c in 0_usize..6) {
        let names = ["edb", "fsd", "had", "hko", "isd", "ld"];
        let names = &names[..count];
        let (forger, victim) = (names[a % count], names[(a + 1 + b % (count - 1)) % count]);
        let honest = names.iter().filter(|n| **n != forger && **n != victim).cycle().nth(c).unwrap();
        prop_assert_ne!(forger, victim);
        let (fed, clock) = (federation_of(names, 1, 1), clock());
        let good = fed.material(&format!("{honest}/node-1"), &fed.handle(), &clock);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let node = forged(&fed, forger, victim, PeerKind::Node, &clock);
            let called = handshake(&node, &format!("{honest}/node-1"), &good).await.1;
            assert!(matches!(called, Err(Error::Chain { .. })), "as caller: {called:?}");
            let caller = handshake(&good, &format!("{victim}/node-1"), &node).await.0;
            assert!(matches!(caller, Err(Error::Chain { .. })), "as called: {caller:?}");
            let desk = forged(&fed, forger, victim, PeerKind::Client, &clock);
            let called = handshake(&desk, &format!("{honest}/node-1"), &good).await.1;
            assert!(matches!(called, Err(Error::Chain { .. })), "as client: {called:?}");
            // The same handshakes with the real certificate pass, so the refusals above are not for another reason.
            let real = fed.material(&format!("{victim}/node-1"), &fed.handle(), &clock);
            handshake(&real, &format!("{honest}/node-1"), &good).await.1.unwrap();
        });
    }
}

#[tokio::test]
async fn a_silent_caller_is_dropped_after_the_limit() {
    let (fed, clock) = (federation(), clock());
    let fsd = fed.material("fsd/node-1", &fed.handle(), &clock);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    let timeouts = Timeouts { handshake: Duration::from_millis(200), ..Timeouts::default() };
    let refused = Acceptor::new(fsd, timeouts).accept(tcp).await.map(drop);
    assert!(matches!(refused, Err(Error::Timeout(_))), "{refused:?}");
}

#[tokio::test]
async fn a_ca_is_replaced_by_overlap() {
    let (fed, clock) = (federation(), clock());
    let roster = fed.handle();
    let (edb, fsd) = (fed.material("edb/node-1", &roster, &clock), fed.material("fsd/node-1", &roster, &clock));
    let peer = handshake(&edb, "fsd/node-1", &fsd).await.1.unwrap();
    // A second CA for edb comes from a folder of its own.
    let fresh = federation_of(&["edb", "hko"], 1, 1);
    let new_ca = std::fs::read_to_string(fresh.fed.department(&dept("edb")).ca_path()).unwrap();
    let old_ca = std::fs::read_to_string(fed.fed.department(&dept("edb")).ca_path()).unwrap();
    let new = Identity::load(&fresh.fed.node(&origin("edb/node-1")).tls).unwrap();
    assert!(edb.replace(new.clone()).is_err(), "the new CA is not listed yet");
    let next = |edit: &dyn Fn(&mut Draft)| {
        let mut draft = Draft::after(&roster.current());
        edit(&mut draft);
        let mut envelope = draft.finish(now()).unwrap();
        envelope.sign(&fed.fed.governance_key(1).unwrap());
        envelope.sign(&fed.fed.governance_key(2).unwrap());
        roster.offer(&envelope.to_bytes()).unwrap();
    };
    next(&|draft| draft.add_ca(&dept("edb"), new_ca.clone()).unwrap());
    handshake(&edb, "fsd/node-1", &fsd).await.1.unwrap();
    edb.replace(new).unwrap();
    handshake(&edb, "fsd/node-1", &fsd).await.1.unwrap();
    next(&|draft| draft.remove_ca(&dept("edb"), &old_ca).unwrap());
    handshake(&edb, "fsd/node-1", &fsd).await.1.unwrap();
    assert!(matches!(fsd.still_good(&peer), Err(Error::Chain { .. })), "the old certificate lives on");
}
