//! Bundles: whole logs in one file, from anywhere.

use campanile_bus::record;
use campanile_log::bundle::{self, Item};

/// Verifies a bundle the way `campanile log verify` does. A sound one has nothing but records that open.
pub fn bundle(data: &[u8]) {
    let mut opened = 0;
    let mut input = data;
    let report = bundle::verify(&mut input, &mut |item| {
        if let Item::Entry(entry) = item {
            let header = record::open_header(&entry.header).map_err(|error| error.to_string())?;
            record::open_signatures(&entry.signatures).map_err(|error| error.to_string())?;
            if header.log != entry.log || header.seq != entry.position.seq || header.previous != entry.previous {
                return Err("the header says another place".into());
            }
            opened += 1;
        }
        Ok(())
    });
    if let Ok(report) = report
        && report.is_sound()
    {
        assert_eq!(report.entries, opened, "sound, and not every record was opened");
    }
}
