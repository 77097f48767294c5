//! Estates and their blocks: where the lift screens hang.
//!
//! The data set is a JSON list of estates, each with its name and its blocks' names in three languages and one position
//! in WGS 84 degrees. Addresses are made of the English names: lower case, hyphens for everything that is not a letter
//! or a digit.

use std::collections::HashMap;
use std::path::Path;

use campanile_alert::{Alert, Area, Point, geometry, vocabulary};
use serde::Deserialize;

/// The most estates that a data set may have.
const ESTATES_MAX: usize = 5_000;
/// The most blocks that an estate may have.
const BLOCKS_MAX: usize = 200;

/// Why a data set of estates was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("failed to read the estates file {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a list of estates.
    #[error("the estates data is not a list of estates with name, lat, lon and blocks")]
    Shape(#[from] serde_json::Error),
    /// It names too many.
    #[error("the estates data has more than 5000 estates, or an estate with more than 200 blocks")]
    TooMany,
    /// A position is not on the earth.
    #[error("the position of estate {0:?} is not a latitude and a longitude")]
    Position(String),
    /// Two have one address.
    #[error("two estates or blocks have the address {0:?}; rename one of them")]
    SameAddress(String),
    /// A name has no letter or digit.
    #[error("the English name {0:?} has no letter or digit to make an address of")]
    NoAddress(String),
}

/// One block of an estate: what a screen belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The estate's part of the address.
    pub estate: String,
    /// The block's part of the address.
    pub block: String,
    /// The estate's names.
    pub estate_names: vocabulary::Names,
    /// The block's names.
    pub names: vocabulary::Names,
    /// The estate's position.
    pub position: Point,
}

impl Block {
    /// `estate/block`, as in addresses and topics.
    pub fn address(&self) -> String {
        format!("{}/{}", self.estate, self.block)
    }
}

/// All blocks, by address.
#[derive(Debug, Default)]
pub struct Estates {
    blocks: Vec<Block>,
    by_address: HashMap<String, usize>,
}

#[derive(Deserialize)]
struct Names3 {
    en: String,
    #[serde(rename = "zh-Hant")]
    zh_hant: Option<String>,
    #[serde(rename = "zh-Hans")]
    zh_hans: Option<String>,
}

#[derive(Deserialize, Default)]
struct Lists3 {
    en: Vec<String>,
    #[serde(rename = "zh-Hant", default)]
    zh_hant: Vec<String>,
    #[serde(rename = "zh-Hans", default)]
    zh_hans: Vec<String>,
}

#[derive(Deserialize)]
struct EstateRow {
    name: Names3,
    lat: f64,
    lon: f64,
    #[serde(default)]
    blocks: Lists3,
}

impl Estates {
    /// Reads a data set from a file.
    ///
    /// # Errors
    /// [`Error`] when the file cannot be read or is not as it should be.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.display().to_string(), source };
        Self::parse(&std::fs::read_to_string(path).map_err(read)?)
    }

    /// Reads a data set. Blocks that two rows of one estate both list are kept once; an estate without blocks has none.
    ///
    /// # Errors
    /// [`Error`] when it is not as it should be.
    pub fn parse(json: &str) -> Result<Self, Error> {
        let rows: Vec<EstateRow> = serde_json::from_str(json)?;
        if rows.len() > ESTATES_MAX || rows.iter().any(|row| row.blocks.en.len() > BLOCKS_MAX) {
            return Err(Error::TooMany);
        }
        let mut estates = Self::default();
        for row in rows {
            estates.add(row)?;
        }
        Ok(estates)
    }

    /// The block at an address `estate/block`.
    pub fn get(&self, address: &str) -> Option<&Block> {
        self.blocks.get(*self.by_address.get(address)?)
    }

    /// All blocks, in the order of the data set.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The blocks that an alert concerns: those whose estate lies in an area of it or within `margin_m` metres.
    ///
    /// Every info's areas count. An alert that draws no shape concerns no block: a screen does not guess.
    pub fn concerned<'a>(&'a self, alert: &Alert, margin_m: f64) -> Vec<&'a Block> {
        let mut areas: Vec<&Area> = Vec::new();
        for area in alert.infos.iter().flat_map(|info| &info.areas) {
            // The infos of one message mostly repeat one area in several languages.
            if !areas.iter().any(|seen| seen.polygons == area.polygons && seen.circles == area.circles) {
                areas.push(area);
            }
        }
        let sieves: Vec<_> = areas.iter().filter_map(|area| Some((*area, geometry::bounds(area, margin_m)?))).collect();
        let near = |point: Point| {
            sieves.iter().any(|(area, bounds)| {
                bounds.contains(point) && geometry::distance_m(area, point).is_some_and(|metres| metres <= margin_m)
            })
        };
        let mut last: Option<(Point, bool)> = None;
        let mut concerned = Vec::new();
        for block in &self.blocks {
            let hit = match last {
                Some((point, hit)) if point == block.position => hit,
                _ => near(block.position),
            };
            last = Some((block.position, hit));
            if hit {
                concerned.push(block);
            }
        }
        concerned
    }

    fn add(&mut self, row: EstateRow) -> Result<(), Error> {
        let position = Point { lat: row.lat, lon: row.lon };
        if !(-90.0..=90.0).contains(&row.lat) || !(-180.0..=180.0).contains(&row.lon) {
            return Err(Error::Position(row.name.en));
        }
        let estate = slug(&row.name.en)?;
        let or =
            |text: Option<&String>, en: &str| text.filter(|t| !t.is_empty()).map_or_else(|| en.into(), Clone::clone);
        let estate_names = vocabulary::Names {
            zh_hant: or(row.name.zh_hant.as_ref(), &row.name.en),
            zh_hans: or(row.name.zh_hans.as_ref(), &row.name.en),
            en: row.name.en,
        };
        for (i, en) in row.blocks.en.iter().enumerate() {
            let names = vocabulary::Names {
                en: en.clone(),
                zh_hant: or(row.blocks.zh_hant.get(i), en),
                zh_hans: or(row.blocks.zh_hans.get(i), en),
            };
            let (estate, estate_names) = (estate.clone(), estate_names.clone());
            let block = Block { block: slug(en)?, estate, estate_names, names, position };
            let address = block.address();
            match self.get(&address) {
                // One estate often stands in two rows (rental and sold); the same block in both is one block.
                Some(same) if geometry::point_distance_m(same.position, position) < 1_000.0 => continue,
                Some(_) => return Err(Error::SameAddress(address)),
                None => {}
            }
            self.by_address.insert(address, self.blocks.len());
            self.blocks.push(block);
        }
        Ok(())
    }
}

/// Lower case, hyphens for everything that is not an ASCII letter or digit.
fn slug(name: &str) -> Result<String, Error> {
    let parts: Vec<String> = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    if parts.is_empty() { Err(Error::NoAddress(name.into())) } else { Ok(parts.join("-")) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::testing::fire;

    #[test]
    fn the_shipped_estate_has_four_blocks_with_names_in_three_languages() {
        let estates = Estates::parse(include_str!("../data/harbour-view-estates.json")).expect("the shipped file");
        assert_eq!(estates.blocks().len(), 4);
        let block = estates.get("harbour-view-estate/hoi-king-house").expect("a block");
        assert_eq!(block.names.get("zh-HK"), "海景樓");
    }

    #[test]
    fn a_block_is_concerned_within_the_margin_and_not_beyond() {
        let json = |lat: f64| {
            format!(
                r#"[{{"name":{{"en":"St. Mary's (Phase 2)"}},"lat":{lat},"lon":114.1702,"blocks":{{"en":["Block 1"]}}}}]"#
            )
        };
        // The fire is a circle of 100 m; a degree of latitude is 110.75 km here.
        for (metres, margin, hit) in
            [(99.0, 0.0, true), (101.0, 0.0, false), (399.0, 300.0, true), (402.0, 300.0, false)]
        {
            let estates = Estates::parse(&json(22.4501 + metres / 110_750.0)).expect("a data set");
            assert_eq!(estates.concerned(&fire("f").alert, margin).len(), usize::from(hit), "{metres} m");
            assert!(estates.get("st-mary-s-phase-2/block-1").is_some());
        }
    }

    #[test]
    fn an_alert_without_a_shape_concerns_no_block() {
        let estates = Estates::parse(include_str!("../data/harbour-view-estates.json")).expect("the shipped file");
        let mut alert = (*fire("f").alert).clone();
        alert.infos.iter_mut().for_each(|info| info.areas.iter_mut().for_each(|area| area.circles.clear()));
        assert!(estates.concerned(&alert, 100_000.0).is_empty());
    }
}
