//! What trust rests on: envelopes, rosters, hints, requests to join, certificates.

use campanile_discovery::envelope::Envelope;
use campanile_discovery::hint::{HINT_TYPE, Hint};
use campanile_discovery::identity::PeerIdentity;
use campanile_discovery::keys::SigningKey;
use campanile_discovery::pki::Request;
use campanile_discovery::roster::{ROSTER_TYPE, SignedRoster};
use campanile_discovery::tls::Identity;
use rustls_pki_types::CertificateDer;

use crate::federation::{self, VERIFIER};

/// A payload that governance has signed, as if it had been misled: it must be sound or refused, first and as the next.
pub fn roster(data: &[u8]) {
    let mut envelope = Envelope::new(ROSTER_TYPE, data.to_vec());
    envelope.sign(&federation::root());
    let bytes = envelope.to_bytes();
    let held = VERIFIER.roster.current();
    for previous in [None, Some(held.as_ref())] {
        let Ok(roster) = SignedRoster::verify(&bytes, &federation::pinned(), previous, true) else { continue };
        assert!(roster.faults().is_empty(), "{:?}", roster.faults());
        for department in &roster.departments {
            let _publisher = roster.publisher(&department.id);
            let fire = federation::fire();
            let areas: Vec<_> = fire.infos.iter().flat_map(|info| info.areas.iter().cloned()).collect();
            let _allowed = roster.rights(&department.id).allow(Some("fire"), fire.status, &areas);
        }
        let next = campanile_discovery::roster::Draft::after(&roster);
        assert_eq!(next.roster().number, roster.number.saturating_add(1));
    }
}

/// Envelopes as they come from strangers: nothing is taken that the right key has not signed.
pub fn envelope(data: &[u8]) {
    let own = federation::roster().to_bytes();
    if SignedRoster::verify(data, &federation::pinned(), None, true).is_ok() {
        let (read, own) =
            (Envelope::parse(data, ROSTER_TYPE, data.len()), Envelope::parse(&own, ROSTER_TYPE, own.len()));
        assert_eq!(read.expect("read before").payload(), own.expect("our own").payload(), "a roster nobody signed");
    }
    let roster = VERIFIER.roster.current();
    let _hint = Hint::verify(data, &federation::origin(), &roster);
    let _request = Request::verify(data);
    // A hint that its node has signed, whatever it says.
    let mut hint = Envelope::new(HINT_TYPE, data.to_vec());
    hint.sign(&federation::key());
    if let Ok(hint) = Hint::verify(&hint.to_bytes(), &federation::origin(), &roster) {
        assert_eq!(hint.origin, federation::origin());
    }
}

/// Certificates and keys, in DER and in PEM.
pub fn certificate(data: &[u8]) {
    if let Ok(peer) = PeerIdentity::read(&[CertificateDer::from(data)]) {
        assert!(!peer.spiffe().to_string().is_empty());
        let _roles = (peer.origin(), peer.client());
    }
    let _identity = Identity::from_pem(data, data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _key = SigningKey::from_pem(text);
        let _spiffe = text.parse::<campanile_discovery::identity::SpiffeId>();
    }
}
