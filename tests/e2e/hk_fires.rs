//! Hong Kong fires: at 200 seeded points the sites that are closed or asked about are those that a search of every row
//! finds by an own geodesic, to the half metre.

use std::collections::{BTreeMap, BTreeSet};

use campanile_client::Publish;
use campanile_discovery::identity::Role;
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::{Builder, Cluster, LIMIT, Time, wait_for};
use campanile_tests::shared::shared;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::setting::{NOW, five, repository, sign_envelope};

const FIRES: usize = 200;
/// What the rule's envelope allows without asking.
const SITES_AT_ONCE_MAX: usize = 20;
const WITHIN_M: f64 = 500.0;

#[derive(serde::Deserialize, Clone)]
struct Row {
    no: String,
    lat: f64,
    lon: f64,
}

impl Row {
    fn site(&self) -> String {
        self.no.chars().take(10).collect()
    }
}

/// WGS 84: the equatorial radius in metres, and the flattening.
const A: f64 = 6_378_137.0;
const F: f64 = 1.0 / 298.257_223_563;

/// The distance in metres by Vincenty's inverse formula. Source: Survey Review XXIII, 176 (1975).
fn distance_m(from: (f64, f64), to: (f64, f64)) -> f64 {
    let b = A * (1.0 - F);
    let u = |lat: f64| ((1.0 - F) * lat.to_radians().tan()).atan();
    let (u1, u2, l) = (u(from.0), u(to.0), (to.1 - from.1).to_radians());
    let ((s1, c1), (s2, c2)) = (u1.sin_cos(), u2.sin_cos());
    let mut lambda = l;
    for _ in 0..100 {
        let (sl, cl) = lambda.sin_cos();
        let sin_sigma = ((c2 * sl).powi(2) + (c1 * s2 - s1 * c2 * cl).powi(2)).sqrt();
        if sin_sigma == 0.0 {
            return 0.0;
        }
        let cos_sigma = s1 * s2 + c1 * c2 * cl;
        let sigma = sin_sigma.atan2(cos_sigma);
        let sin_alpha = c1 * c2 * sl / sin_sigma;
        let cos2_alpha = 1.0 - sin_alpha * sin_alpha;
        let cos_2m = cos_sigma - 2.0 * s1 * s2 / cos2_alpha;
        let c = F / 16.0 * cos2_alpha * (4.0 + F * (4.0 - 3.0 * cos2_alpha));
        let inner = cos_2m + c * cos_sigma * (2.0 * cos_2m * cos_2m - 1.0);
        let next = l + (1.0 - c) * F * sin_alpha * (sigma + c * sin_sigma * inner);
        if (next - lambda).abs() < 1e-14 {
            let uu = cos2_alpha * (A * A - b * b) / (b * b);
            let big_a = 1.0 + uu / 16_384.0 * (4_096.0 + uu * (uu * (320.0 - 175.0 * uu) - 768.0));
            let big_b = uu / 1_024.0 * (256.0 + uu * (uu * (74.0 - 47.0 * uu) - 128.0));
            let m2 = cos_2m * cos_2m;
            let far = big_b / 6.0 * cos_2m * (4.0 * sin_sigma * sin_sigma - 3.0) * (4.0 * m2 - 3.0);
            let delta = big_b * sin_sigma * (cos_2m + big_b / 4.0 * (cos_sigma * (2.0 * m2 - 1.0) - far));
            return b * big_a * (sigma - delta);
        }
        lambda = next;
    }
    panic!("no distance between {from:?} and {to:?}");
}

/// The point `metres` from `from` in the direction `bearing`: a flat guess, then the radius mended until it fits.
fn away(from: (f64, f64), bearing: f64, metres: f64) -> (f64, f64) {
    let mut step = metres;
    for _ in 0..20 {
        let lat = from.0 + (step * bearing.cos() / A).to_degrees();
        let lon = from.1 + (step * bearing.sin() / (A * from.0.to_radians().cos())).to_degrees();
        let found = distance_m(from, (lat, lon));
        if (found - metres).abs() < 1e-4 {
            return (lat, lon);
        }
        step *= metres / found;
    }
    panic!("no point at {metres} m from {from:?}");
}

/// Every row, one by one: the sites of which any row lies within 500 m of the circle's edge.
fn search(rows: &[Row], fire: &Fire) -> BTreeSet<String> {
    let near = |row: &&Row| distance_m(fire.at, (row.lat, row.lon)) - fire.radius_km * 1_000.0 <= WITHIN_M;
    rows.iter().filter(near).map(Row::site).collect()
}

fn fires(rows: &[Row], rng: &mut StdRng, sent: campanile_alert::Timestamp) -> Vec<(Fire, Option<(String, bool)>)> {
    let mut fires = Vec::new();
    let mut add = |at: (f64, f64), radius_km: f64, edge: Option<(String, bool)>| {
        let identifier = format!("fire-{}", fires.len());
        fires.push((Fire { radius_km, ..Fire::new(identifier, sent, at) }, edge));
    };
    // Half a metre inside and outside of schools: sites of one row, so nothing else can make them near.
    let mut of_site: BTreeMap<String, usize> = BTreeMap::new();
    rows.iter().for_each(|row| *of_site.entry(row.site()).or_default() += 1);
    let single: Vec<&Row> = rows.iter().filter(|row| of_site[&row.site()] == 1).collect();
    for n in 0..60 {
        let school = single[rng.random_range(0..single.len())];
        let metres = if n % 2 == 0 { 499.5 } else { 500.5 };
        let at = away((school.lat, school.lon), rng.random_range(0.0..std::f64::consts::TAU), metres);
        add(at, 0.0, Some((school.site(), n % 2 == 0)));
    }
    // Near a school, with an extent of the fire's own.
    for _ in 0..100 {
        let school = &rows[rng.random_range(0..rows.len())];
        let metres = rng.random_range(1.0..900.0);
        let at = away((school.lat, school.lon), rng.random_range(0.0..std::f64::consts::TAU), metres);
        add(at, [0.0, 0.05, 0.2][rng.random_range(0..3)], None);
    }
    // Anywhere: mostly sea and hills.
    while fires.len() < FIRES {
        let at = (rng.random_range(22.2..22.55), rng.random_range(113.9..114.4));
        let identifier = format!("fire-{}", fires.len());
        fires.push((Fire::new(identifier, sent, at), None));
    }
    fires
}

/// What each fire has led to: sites closed, and sites that persons are asked about.
fn found(cluster: &Cluster) -> (BTreeMap<String, BTreeSet<String>>, BTreeMap<String, BTreeSet<String>>) {
    let view = cluster.node("edb/node-1").unwrap().rules().lock();
    let (mut closed, mut asked) = (BTreeMap::new(), BTreeMap::new());
    for live in view.engine.live() {
        for cause in &live.causes {
            let sites: &mut BTreeSet<String> = closed.entry(cause.alert.identifier().to_string()).or_default();
            sites.insert(live.effect.target.clone());
        }
    }
    for pending in view.engine.pending() {
        let sites: &mut BTreeSet<String> = asked.entry(pending.cause.identifier().to_string()).or_default();
        sites.extend(pending.targets);
    }
    (closed, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn fires_close_or_ask_about_exactly_the_sites_that_a_search_of_every_row_finds() {
    let Some(schools) = shared("data/hk-schools.json") else { return };
    let seed: u64 = std::env::var("CAMPANILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
    println!("CAMPANILE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(&schools).unwrap()).unwrap();
    assert_eq!(rows.iter().map(Row::site).collect::<BTreeSet<_>>().len(), 2_190);

    // The shipped pack over the real schools instead of the fictional ones; nothing else is changed. It has no limit of
    // batches an hour, so 200 fires at one instant are 200 decisions.
    let pack = std::fs::read_to_string(repository("services/rules/packs/edb-fire.rules.yaml")).unwrap();
    assert!(pack.contains("harbour-view-sites.json") && !pack.contains("limit:"));
    let time = Time::at(NOW).unwrap();
    let mut plan = five(&time);
    plan.departments.retain(|department| ["fsd", "edb"].contains(&department.id.as_str()));
    let fsd_clients = plan.departments.iter().flat_map(|department| &department.clients);
    assert!(fsd_clients.clone().any(|client| client.name == "dispatch" && client.roles.contains(&Role::Publish)));
    let builder = Builder::new(plan, time).unwrap();
    std::fs::copy(&schools, builder.dir().join("hk-schools.json")).unwrap();
    let path = builder.dir().join("edb-fire.rules.yaml");
    std::fs::write(&path, pack.replace("harbour-view-sites.json", "hk-schools.json")).unwrap();
    let cluster = builder.pack("edb/node-1", &path).start().await.unwrap();
    sign_envelope(&cluster).await;

    let fires = fires(&rows, &mut rng, cluster.time.now());
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    for (fire, _) in &fires {
        dispatch.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
    }
    let expected: BTreeMap<String, BTreeSet<String>> =
        fires.iter().map(|(fire, _)| (fire.identifier.clone(), search(&rows, fire))).collect();

    // Evaluation is in order, so the last fire's sites come last.
    let union = |closed: &BTreeMap<String, BTreeSet<String>>, asked: &BTreeMap<String, BTreeSet<String>>, id: &str| {
        let of = |map: &BTreeMap<String, BTreeSet<String>>| map.get(id).cloned().unwrap_or_default();
        &of(closed) | &of(asked)
    };
    let settled = wait_for("all fires evaluated", LIMIT * 2, || async {
        let (closed, asked) = found(&cluster);
        let good = expected.iter().all(|(id, sites)| union(&closed, &asked, id) == *sites);
        Ok(good.then_some(()))
    });
    let in_time = settled.await.is_ok();
    let (closed, asked) = found(&cluster);
    for (fire, edge) in &fires {
        let id = &fire.identifier;
        let (sites, want) = (union(&closed, &asked, id), &expected[id]);
        let (missing, extra) = (want - &sites, &sites - want);
        assert!(
            sites == *want,
            "{id} at {:?} r {} km: missing {missing:?}, too many {extra:?}",
            fire.at,
            fire.radius_km
        );
        if let Some((site, inside)) = edge {
            assert_eq!(sites.contains(site), *inside, "{id}: {site} at the edge");
        }
        let asks = asked.contains_key(id);
        assert!(!asks || want.len() > SITES_AT_ONCE_MAX, "{id}: {} sites and persons are asked", want.len());
        if want.len() > SITES_AT_ONCE_MAX {
            assert!(
                asks || closed.get(id).is_some_and(|closed| closed == want),
                "{id}: many sites and nobody is asked"
            );
        }
    }
    assert!(in_time);
    let most = expected.values().map(BTreeSet::len).max().unwrap();
    let none = expected.values().filter(|sites| sites.is_empty()).count();
    println!("{} fires asked persons, the largest has {most} sites, {none} have none", asked.len());
    assert!(
        !asked.is_empty() && !closed.is_empty() && none > 0 && most > SITES_AT_ONCE_MAX,
        "the points prove too little"
    );
    cluster.shutdown().await;
}

#[test]
fn the_geodesic_of_the_search_agrees_with_published_distances() {
    // Vincenty's formula between Flinders Peak and Buninyong, a check of Geoscience Australia: 54,972.271 m.
    let flinders = (-(37.0 + 57.0 / 60.0 + 3.720_30 / 3_600.0), 144.0 + 25.0 / 60.0 + 29.524_40 / 3_600.0);
    let buninyong = (-(37.0 + 39.0 / 60.0 + 10.156_10 / 3_600.0), 143.0 + 55.0 / 60.0 + 35.383_90 / 3_600.0);
    assert!((distance_m(flinders, buninyong) - 54_972.271).abs() < 0.01);
}
