//! Data sets: the targets of rules, read from a file that the caller loads, and found by place.
//!
//! A row has a position; a *site* is all rows with one key, and it is a site that a rule's target names: a school with
//! a morning and an afternoon session is two rows and one site. A site is within a distance when any of its rows is.
//! An R-tree over the rows gives the candidates; the exact geodesic distance decides. The digest of the file goes into
//! every effect that rests on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use campanile_alert::{Area, Point, geometry};
use rstar::{AABB, RTree, RTreeObject};
use sha2::{Digest, Sha256};

mod format;

pub(crate) use format::table;

pub use format::{Error, Format};

/// The most rows in one data set.
pub(crate) const ROWS_MAX: usize = 1_000_000;

/// A place, and the same place a turn to either side.
const TURNS: [f64; 3] = [0.0, -360.0, 360.0];

/// The data sets that an engine reads, by the name that packs give them.
pub type DataSets = BTreeMap<String, DataSet>;

/// How a row of a file is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowSpec {
    /// The column that names the site.
    pub key_field: String,
    /// How many leading characters of that column are the key; `None` means all of it.
    pub key_first: Option<usize>,
    /// The columns of the name, by language tag.
    pub names: BTreeMap<String, String>,
    /// The columns of the latitude and the longitude in degrees; ignored for GeoJSON points, and absent for a list that
    /// has no place.
    pub position: Option<(String, String)>,
}

/// One target: all rows with its key.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Its key, for example the first ten digits of a school's number.
    pub key: String,
    /// Its name by language tag, from its first row.
    pub names: BTreeMap<String, String>,
    /// Its positions, each once, in the order of the file; none for a list that has no place.
    pub points: Vec<Point>,
    /// Every column's values over its rows, as text.
    pub columns: BTreeMap<String, BTreeSet<String>>,
}

impl Site {
    /// The name in a language, else in Traditional Chinese or English, else the key.
    pub fn name(&self, language: &str) -> &str {
        let found = [language, "zh-Hant", "en"].into_iter().find_map(|tag| self.names.get(tag));
        found.map_or(self.key.as_str(), String::as_str)
    }
}

/// A versioned set of targets. A copy shares what is in it: a node holds the rows once, however many engines read them.
#[derive(Debug, Clone)]
pub struct DataSet {
    /// Its name in the pack.
    pub name: String,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    rows: usize,
    sites: Arc<BTreeMap<String, Site>>,
    keys: Arc<[String]>,
    tree: Arc<RTree<Entry>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry {
    lat: f64,
    lon: f64,
    /// The index of the site's key in `keys`.
    site: usize,
}

impl RTreeObject for Entry {
    type Envelope = AABB<[f64; 2]>;

    fn envelope(&self) -> Self::Envelope {
        AABB::from_point([self.lon, self.lat])
    }
}

impl DataSet {
    /// Reads a data set.
    ///
    /// # Errors
    /// [`Error`] when the bytes are not of that format, a row lacks its key or a position on earth, or there are more
    /// than a million rows. A row that cannot be placed is never left out silently: a school that nobody warns is
    /// worse than a pack that does not load.
    pub fn parse(name: &str, format: Format, bytes: &[u8], spec: &RowSpec) -> Result<Self, Error> {
        let rows = format::rows(format, bytes)?;
        if rows.len() > ROWS_MAX {
            return Err(Error::TooManyRows(rows.len()));
        }
        let mut sites: BTreeMap<String, Site> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate() {
            let (key, point) = format::place(row, spec, index + 1)?;
            let site = sites.entry(key.clone()).or_insert_with(|| Site {
                names: spec.names.iter().filter_map(|(tag, c)| Some((tag.clone(), row.get(c)?.clone()))).collect(),
                key,
                points: Vec::new(),
                columns: BTreeMap::new(),
            });
            if let Some(point) = point.filter(|point| !site.points.contains(point)) {
                site.points.push(point);
            }
            for (column, value) in row {
                site.columns.entry(column.clone()).or_default().insert(value.clone());
            }
        }
        let keys = sites.keys().cloned().collect();
        let entries = sites.values().enumerate().flat_map(|(index, site)| {
            site.points.iter().map(move |point| Entry { lat: point.lat, lon: point.lon, site: index })
        });
        let tree = RTree::bulk_load(entries.collect());
        let digest = Sha256::digest(bytes).into();
        Ok(Self { name: name.into(), digest, rows: rows.len(), sites: Arc::new(sites), keys, tree: Arc::new(tree) })
    }

    /// How many rows the file has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The sites, in the order of their keys.
    pub fn sites(&self) -> impl Iterator<Item = &Site> {
        self.sites.values()
    }

    /// The site of that key.
    pub fn site(&self, key: &str) -> Option<&Site> {
        self.sites.get(key)
    }

    /// The keys of the sites at most `metres` from the areas: from the edge outside, zero inside.
    ///
    /// Areas without a shape (codes alone) reach nothing, because where they are is not known.
    pub fn within(&self, areas: &[Area], metres: f64) -> BTreeSet<String> {
        let mut near: BTreeMap<usize, Vec<Point>> = BTreeMap::new();
        for bounds in areas.iter().filter_map(|area| geometry::bounds(area, metres)) {
            // A box over the 180° meridian reaches beyond ±180, so it is looked up a turn to either side as well.
            let turns = if bounds.min.lon <= -180.0 || bounds.max.lon >= 180.0 { &TURNS[..] } else { &TURNS[..1] };
            for turn in turns {
                let corner = |point: Point| [point.lon + turn, point.lat];
                let window = AABB::from_corners(corner(bounds.min), corner(bounds.max));
                for entry in self.tree.locate_in_envelope(&window) {
                    near.entry(entry.site).or_default().push(Point { lat: entry.lat, lon: entry.lon });
                }
            }
        }
        let reaches = |point: &Point| geometry::distance_to_areas_m(areas, *point).is_some_and(|m| m <= metres);
        let near = near.into_iter().filter(|(_, points)| points.iter().any(reaches));
        near.filter_map(|(site, _)| self.keys.get(site).cloned()).collect()
    }
}
