//! Real messages of many senders go over the wire and come out equal.
//!
//! The corpus lies beside the workspace in `../shared/cap-corpus` and is not part of the project. Where it is missing
//! this test says so and passes, unless `CAMPANILE_SHARED=required`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::path::{Path, PathBuf};

use campanile_alert::xml::{self, Limits};
use campanile_proto::alert::v1 as wire;
use campanile_proto::convert::{alert_from_wire, alert_to_wire};
use prost::Message as _;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the corpus") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn every_real_alert_comes_back_equal() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/cap-corpus");
    if !folder.is_dir() {
        let required = std::env::var("CAMPANILE_SHARED").as_deref() == Ok("required");
        assert!(!required, "CAMPANILE_SHARED=required, but {} is missing", folder.display());
        eprintln!("left out: {} is missing", folder.display());
        return;
    }
    let mut paths = Vec::new();
    files(&folder, &mut paths);
    let mut alerts = 0;
    for path in paths {
        let bytes = std::fs::read(&path).expect("a file of the corpus");
        let Ok(document) = xml::read(&bytes, &Limits::default()) else { continue };
        for alert in document.messages.into_iter().filter_map(|message| message.result.ok()) {
            let bytes = alert_to_wire(&alert).encode_to_vec();
            let received = wire::Alert::decode(bytes.as_slice()).expect("own bytes");
            assert_eq!(alert_from_wire(received), Ok(alert), "{}", path.display());
            alerts += 1;
        }
    }
    assert!(alerts >= 100, "only {alerts} alerts were read");
}
