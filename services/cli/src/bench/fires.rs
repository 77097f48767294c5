//! The alerts of the bench: fires at sea, which concern no school, and fires that each concern exactly one.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use campanile_alert::time::DateTime;
use campanile_alert::{Alert, Area, Circle, Point, Timestamp, geometry, xml};
use campanile_rules::{DataSet, Format, Pack};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::Args;

/// Sites of the generated data set, and rows: as many as the Education Bureau lists.
const SITES: usize = 2_190;
const ROWS: usize = 3_641;
/// Sites stand on a grid this many degrees apart, about 1.3 km, so that a fire at one is far from every other.
const GRID: f64 = 0.012;
const COLUMNS: usize = 55;
/// Far from every school: a point at sea in the south-east corner.
const AT_SEA: Point = Point { lat: 22.11, lon: 114.49 };
const FIRE: &str = include_str!("../../data/harbour-view-fire.cap.xml");

/// Makes fires, each with an identity of its own.
pub(super) struct Fires {
    template: Alert,
    places: Vec<Point>,
    next: usize,
    count: u64,
    /// The data set as the pack reads it.
    pub(super) schools: Vec<u8>,
}

impl Fires {
    pub(super) fn new(args: &Args, now: Timestamp) -> Result<Self> {
        let mut random = rand::rngs::StdRng::seed_from_u64(args.seed);
        let schools = match &args.schools {
            Some(path) => std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?,
            None => generate(&mut random).into_bytes(),
        };
        let mut places = alone(&schools)?;
        places.shuffle(&mut random);
        let document = xml::read(FIRE.as_bytes(), &xml::Limits::default())?;
        let message = document.messages.into_iter().next().context("the shipped fire is missing")?;
        let mut template = message.result.map_err(|_| anyhow::anyhow!("the shipped fire is not valid"))?;
        template.sent = DateTime::from_instant(now, 480);
        for info in &mut template.infos {
            info.effective = Some(template.sent.clone());
            let end = now.checked_add(jiff::SignedDuration::from_hours(6)).context("the clock is too late")?;
            info.expires = Some(DateTime::from_instant(end, 480));
        }
        Ok(Self { template, places, next: 0, count: 0, schools })
    }

    /// A fire that concerns no school.
    pub(super) fn quiet(&mut self) -> Result<Alert> {
        self.at(AT_SEA)
    }

    /// Fires that concern no school.
    pub(super) fn quiet_many(&mut self, count: u32) -> Result<Vec<Alert>> {
        (0..count).map(|_| self.quiet()).collect()
    }

    /// Fires that concern exactly one school each; each school once, as far as there are enough.
    pub(super) fn near_schools(&mut self, count: u32) -> Result<Vec<Alert>> {
        (0..count)
            .map(|_| {
                let place =
                    self.places.get(self.next % self.places.len()).copied().context("no school stands alone")?;
                self.next += 1;
                self.at(place)
            })
            .collect()
    }

    fn at(&mut self, place: Point) -> Result<Alert> {
        self.count += 1;
        let mut alert = self.template.clone();
        alert.identifier = format!("bench-{}-{}", self.count, alert.sent.instant().as_millisecond());
        for info in &mut alert.infos {
            info.areas =
                vec![Area { description: "Bench".into(), circles: vec![Circle::new(place, 0.05)?], ..Area::default() }];
        }
        Ok(alert)
    }
}

/// School rows on a jittered grid: every site has one row, and some have a second session.
fn generate(random: &mut rand::rngs::StdRng) -> String {
    let mut rows = String::from("[\n");
    for row in 0..ROWS {
        let site = row % SITES;
        #[allow(clippy::cast_precision_loss)]
        let (line, column) = ((site / COLUMNS) as f64, (site % COLUMNS) as f64);
        let mut jitter = || random.random_range(-0.001..0.001);
        let (lat, lon) = if row < SITES { (jitter(), jitter()) } else { (0.0, 0.0) };
        let separator = if row == 0 { "" } else { ",\n" };
        let session = if row < SITES { "AM" } else { "PM" };
        // Writing into a String cannot fail.
        let _written = write!(
            rows,
            "{separator}{{\"no\":\"{:010}{:02}\",\"en\":\"SCHOOL {site}\",\"zh\":\"學校{site}\",\"lat\":{:.6},\"lon\":{:.6},\
             \"district\":\"BENCH\",\"level\":\"PRIMARY\",\"session\":\"{session}\"}}",
            site,
            if row < SITES { 11 } else { 12 },
            22.13 + line * GRID * 0.9 + lat,
            113.82 + column * GRID + lon,
        );
    }
    rows.push_str("\n]\n");
    rows
}

/// The places of sites that have no other within 700 m, so that a fire there concerns exactly one.
fn alone(schools: &[u8]) -> Result<Vec<Point>> {
    let (pack, _) = Pack::parse(super::project::PACK)?;
    let (name, reference) = pack.data.iter().next().context("the shipped pack names no data set")?;
    let set = DataSet::parse(name, Format::Json, schools, &reference.rows).context("the schools file is not usable")?;
    let mut places = Vec::new();
    for site in set.sites() {
        let Some(&point) = site.points.first() else { continue };
        let area = Area { circles: vec![Circle::new(point, 0.05)?], ..Area::default() };
        if set.within(std::slice::from_ref(&area), 700.0).len() == 1
            && geometry::distance_m(&area, AT_SEA).is_some_and(|metres| metres > 2_000.0)
        {
            places.push(point);
        }
    }
    ensure!(!places.is_empty(), "no school of the file stands 700 m from every other; give another file");
    Ok(places)
}
