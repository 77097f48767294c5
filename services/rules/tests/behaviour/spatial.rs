//! Which sites a rule reaches, against a scan over every row of the real list; and what a thousand rules cost.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use campanile_alert::{Area, Circle, Point, Polygon, geometry};
use campanile_rules::{DataSet, DataSets, Engine, Format, Options, Pack, RowSpec};

use crate::desk::{Desk, FIRE, PLACE, fire, id, start};

/// The list of schools beside the workspace; `None` where it is not at hand.
fn schools() -> Option<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/hk-schools.json");
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let required = std::env::var("CAMPANILE_SHARED").is_ok_and(|value| value == "required");
            assert!(!required, "{}: {error}", path.display());
            println!("left out: {} is not here ({error})", path.display());
            None
        }
    }
}

fn spec() -> RowSpec {
    RowSpec {
        key_field: "no".into(),
        key_first: Some(10),
        names: [("en".to_string(), "en".to_string()), ("zh-Hant".to_string(), "zh".to_string())].into(),
        position: Some(("lat".into(), "lon".into())),
    }
}

fn circle(centre: Point, radius_km: f64) -> Vec<Area> {
    vec![Area { circles: vec![Circle::new(centre, radius_km).unwrap()], ..Area::default() }]
}

#[test]
fn the_sites_within_500_m_are_those_that_a_scan_of_every_row_finds() {
    let Some(bytes) = schools() else { return };
    let set = DataSet::parse("edb.schools", Format::Json, &bytes, &spec()).unwrap();
    assert_eq!((set.rows(), set.sites().count()), (3_641, 2_190));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&bytes).unwrap();
    let rows: Vec<(String, Point)> = rows
        .iter()
        .map(|row| {
            let point = Point { lat: row["lat"].as_f64().unwrap(), lon: row["lon"].as_f64().unwrap() };
            (row["no"].as_str().unwrap().chars().take(10).collect(), point)
        })
        .collect();
    let mut areas: Vec<Vec<Area>> = rows.iter().step_by(150).map(|(_, point)| circle(*point, 0.0)).collect();
    areas.extend(rows.iter().step_by(301).map(|(_, point)| circle(*point, 0.8)));
    let square = "22.30,114.16 22.30,114.19 22.33,114.17 22.30,114.16";
    areas.push(vec![Area { polygons: vec![Polygon::parse(square).unwrap()], ..Area::default() }]);
    areas.push([circle(PLACE, 2.0), areas[0].clone()].concat());
    let mut most = 0;
    for area in &areas {
        let near = |point: Point| geometry::distance_to_areas_m(area, point).is_some_and(|metres| metres <= 500.0);
        let scan: BTreeSet<String> = rows.iter().filter(|(_, p)| near(*p)).map(|(key, _)| key.clone()).collect();
        assert_eq!(set.within(area, 500.0), scan, "{area:?}");
        most = most.max(scan.len());
    }
    assert!(most > 20, "the areas reach many sites as well as few");
}

#[test]
fn a_site_at_499_5_m_is_within_and_one_at_500_5_m_is_not() {
    // North of the place a metre is 1/110,743 of a degree; the last digits are found by measuring.
    let at = |metres: f64| {
        let (mut low, mut high) = (PLACE.lat, PLACE.lat + 0.02);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            let far = geometry::point_distance_m(PLACE, Point { lat: middle, lon: PLACE.lon }) > metres;
            if far { high = middle } else { low = middle }
        }
        low
    };
    for edge_m in [0.0, 100.0] {
        let row = |no: &str, metres: f64| {
            format!(r#"{{"no":"{no}","en":"S","zh":"校","lat":{},"lon":{}}}"#, at(metres + edge_m), PLACE.lon)
        };
        let json = format!("[{},{}]", row("111111111123", 499.5), row("222222222223", 500.5));
        let set = DataSet::parse("s", Format::Json, json.as_bytes(), &spec()).unwrap();
        let area = circle(PLACE, edge_m / 1000.0);
        assert_eq!(set.within(&area, 500.0), ["1111111111".to_string()].into(), "from an edge at {edge_m} m");
    }
}

#[test]
fn an_area_without_a_shape_reaches_nothing() {
    let set = DataSet::parse("s", Format::Json, crate::desk::SCHOOLS.as_bytes(), &spec()).unwrap();
    assert_eq!(set.within(&[Area::default()], 100_000.0), BTreeSet::new());
}

#[test]
fn a_thousand_rules_over_the_whole_list_are_evaluated_by_index() {
    let (bytes, whole) = match schools() {
        Some(bytes) => (bytes, true),
        None => (crate::desk::SCHOOLS.as_bytes().to_vec(), false),
    };
    let (head, rule) = FIRE.split_once("- rule: edb.school-closure.fire\n").unwrap();
    let packs = (0..4).map(|pack| {
        let ids = pack * 250..(pack + 1) * 250;
        let rules: Vec<String> = ids.map(|n| format!("- rule: edb.school-closure.fire{n}\n{rule}")).collect();
        Pack::parse(&format!("{head}{}", rules.concat())).unwrap_or_else(|refusal| panic!("{refusal}")).0
    });
    let packs: Vec<Pack> = packs.collect();
    let set = DataSet::parse("edb.schools", Format::Json, &bytes, &spec()).unwrap();
    let data: DataSets = [("edb.schools".to_string(), set)].into();
    let options = Options { sender: "edb@campanile.test".into() };
    let mut engine = Engine::new(id("edb"), packs, data, options).unwrap();
    let mut desk = Desk::asking(FIRE);
    let mut fastest = u128::MAX;
    for n in 0..5 {
        // In the sea: every rule is considered, and none finds a site.
        let mut alert = fire(&format!("f{n}"), 4, start());
        alert.infos[0].areas = circle(Point { lat: 22.2, lon: 114.35 }, 0.1);
        desk.alert("fsd", &alert);
        let stored = desk.journal.last().unwrap();
        let began = Instant::now();
        let outcome = engine.apply(&stored.input());
        fastest = fastest.min(began.elapsed().as_micros());
        assert_eq!((outcome.notes.len(), outcome.effects.len()), (1000, 0));
    }
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!(
        "measured: one alert, 1000 rules, whole list {whole}: {fastest} us ({build} build; the target is 1000 us)"
    );
}
