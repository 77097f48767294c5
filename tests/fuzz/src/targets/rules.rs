//! What policy staff and operators write: packs, data sets, mapping tables.

use campanile_alert::MappingTable;
use campanile_rules::{DataSet, DataSets, Engine, Format, Options, Pack, RowSpec, check_federation};

use crate::federation;

/// A pack. One that is taken has a manifest and, without data sets, either runs or says why not.
pub fn pack(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Pack::parse(text) {
        Err(refusal) => {
            assert!(!refusal.0.is_empty(), "refused without a reason");
            for diagnostic in &refusal.0 {
                assert!(!diagnostic.render("pack.yaml", text).is_empty());
            }
        }
        Ok((pack, warnings)) => {
            for diagnostic in &warnings {
                assert!(!diagnostic.render("pack.yaml", text).is_empty());
            }
            let _faults = check_federation(&[pack.manifest(), pack.manifest()]);
            let owner = pack.owner.clone();
            let options = Options { sender: "fuzz@campanile.test".into() };
            let _engine = Engine::new(owner, vec![pack], DataSets::default(), options);
        }
    }
}

/// A data set in each format.
pub fn data(data: &[u8]) {
    let spec = RowSpec {
        key_field: "id".into(),
        key_first: None,
        names: [("en".to_owned(), "name_en".to_owned())].into(),
        position: Some(("lat".into(), "lon".into())),
    };
    let area = federation::fire().infos[0].areas.clone();
    for format in [Format::Json, Format::Csv, Format::GeoJson] {
        if let Ok(set) = DataSet::parse("fuzz", format, data, &spec) {
            assert!(set.sites().all(|site| !site.points.is_empty()), "a site that is nowhere");
            let _near = set.within(&area, 500.0);
        }
    }
}

/// A mapping table of a foreign source.
pub fn mapping(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(table) = MappingTable::parse(text) {
        let _classification = table.classify(&federation::fire());
    }
}
