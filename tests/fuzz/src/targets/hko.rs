//! The Observatory's open data: two files in three languages, one poll after another.

use campanile_alert::judge;
use campanile_cli::source::hko::{Config, Hko, Language, Snapshot};

use crate::federation;

/// The files of a snapshot, cut at the byte that no JSON has. What follows from them must be CAP-valid.
pub fn snapshot(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0xff);
    let mut hko = Hko::default();
    let config = Config::default();
    for minutes in [0, 10] {
        let now = federation::now() + std::time::Duration::from_secs(minutes * 60);
        let mut snapshot = Snapshot::new(now);
        for language in Language::ALL {
            if let Some(summary) = parts.next() {
                snapshot.add_summary(language, "warnsum", summary);
            }
            if let Some(details) = parts.next() {
                snapshot.add_details(language, "warningInfo", details);
            }
        }
        for alert in hko.poll(&config, &snapshot, now) {
            let faults = judge::cap_valid(&alert);
            assert!(faults.is_empty(), "{faults:?}");
            super::xml::document(campanile_alert::xml::write(&alert).as_bytes());
        }
    }
}
