//! The files a data set may come in: a JSON array of objects, CSV with a heading, GeoJSON points.
//!
//! Each gives rows of columns as text. A nested value is left out, since nothing can be compared with it.

use std::collections::BTreeMap;

use campanile_alert::Point;
use serde_json::Value;

use super::RowSpec;

/// The format of a data set's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An array of flat objects.
    Json,
    /// Comma separated, the first line names the columns, quoting as in RFC 4180.
    Csv,
    /// A `FeatureCollection` of points; their place is the geometry's.
    GeoJson,
}

impl Format {
    /// The format that a file name ends in (`.json`, `.csv`, `.geojson`); `None` for another ending.
    pub fn of_file(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "geojson" => Some(Self::GeoJson),
            _ => None,
        }
    }
}

/// Why a data set was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON.
    #[error("the data set is not JSON")]
    Json(#[source] serde_json::Error),
    /// JSON of another shape.
    #[error("the data set is not {0}")]
    Shape(&'static str),
    /// CSV that does not parse.
    #[error("line {line}: {reason}")]
    Csv {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A row without its key.
    #[error("row {row} has no key in column {column:?}, or one that is shorter than the key")]
    Key {
        /// The row, from 1.
        row: usize,
        /// The column.
        column: String,
    },
    /// A row without a position on earth.
    #[error("row {row} has no position in WGS 84 degrees in columns {lat:?} and {lon:?}")]
    Position {
        /// The row, from 1.
        row: usize,
        /// The column of the latitude.
        lat: String,
        /// The column of the longitude.
        lon: String,
    },
    /// More rows than a data set may have.
    #[error("the data set has {0} rows; it may have {max}", max = super::ROWS_MAX)]
    TooManyRows(usize),
}

pub(super) type Row = BTreeMap<String, String>;

/// The columns under which the position of a GeoJSON point stands.
const GEO: (&str, &str) = ("@lat", "@lon");

pub(super) fn rows(format: Format, bytes: &[u8]) -> Result<Vec<Row>, Error> {
    match format {
        Format::Json => {
            let value = serde_json::from_slice::<Vec<Value>>(bytes).map_err(Error::Json)?;
            let row = |value: &Value| value.as_object().map(flat).ok_or(Error::Shape("an array of objects"));
            value.iter().map(row).collect()
        }
        Format::Csv => csv(std::str::from_utf8(bytes).map_err(|_| Error::Shape("UTF-8"))?),
        Format::GeoJson => geojson(&serde_json::from_slice(bytes).map_err(Error::Json)?),
    }
}

/// The key and the place of a row.
pub(super) fn place(row: &Row, spec: &RowSpec, number: usize) -> Result<(String, Option<Point>), Error> {
    let key = row.get(&spec.key_field).map(|key| match spec.key_first {
        Some(first) => key.chars().take(first).collect(),
        None => key.clone(),
    });
    let whole = |key: &String| !key.is_empty() && spec.key_first.is_none_or(|first| key.chars().count() == first);
    let key = key.filter(whole).ok_or_else(|| Error::Key { row: number, column: spec.key_field.clone() })?;
    let (lat, lon) = match &spec.position {
        _ if row.contains_key(GEO.0) => GEO,
        Some((lat, lon)) => (lat.as_str(), lon.as_str()),
        None => return Ok((key, None)),
    };
    let text = row.get(lat).zip(row.get(lon)).map(|(lat, lon)| format!("{lat},{lon}"));
    let point = text.and_then(|text| Point::parse(&text).ok());
    let point = point.ok_or_else(|| Error::Position { row: number, lat: lat.into(), lon: lon.into() })?;
    Ok((key, Some(point)))
}

fn flat(object: &serde_json::Map<String, Value>) -> Row {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    object.iter().filter_map(|(column, value)| Some((column.clone(), text(value)?))).collect()
}

fn geojson(value: &Value) -> Result<Vec<Row>, Error> {
    let wrong = || Error::Shape("a GeoJSON FeatureCollection of points");
    let features = value.get("features").and_then(Value::as_array).ok_or_else(wrong)?;
    let row = |feature: &Value| {
        let mut row = feature.get("properties").and_then(Value::as_object).map(flat).unwrap_or_default();
        let geometry = feature.get("geometry")?;
        let place =
            geometry.get("coordinates")?.as_array().filter(|_| geometry.get("type") == Some(&"Point".into()))?;
        row.insert(GEO.1.into(), place.first()?.as_f64()?.to_string());
        row.insert(GEO.0.into(), place.get(1)?.as_f64()?.to_string());
        Some(row)
    };
    features.iter().map(|feature| row(feature).ok_or_else(wrong)).collect()
}

/// The records of a table in CSV, the heading first, each with its line.
pub(crate) fn table(text: &str) -> Result<Vec<(usize, Vec<String>)>, Error> {
    records(text)
}

fn csv(text: &str) -> Result<Vec<Row>, Error> {
    let mut lines = records(text)?.into_iter();
    let Some((_, heading)) = lines.next() else { return Ok(Vec::new()) };
    lines
        .map(|(line, cells)| {
            if cells.len() != heading.len() {
                return Err(Error::Csv { line, reason: "it has another number of cells than the heading" });
            }
            Ok(heading.iter().cloned().zip(cells).collect())
        })
        .collect()
}

/// The records of a CSV text, each with the line that it begins on; empty lines are left out.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut records, mut cells, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut was_quoted, mut line, mut began) = (false, false, 1, 1);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
            c if quoted => cell.push(c),
            ',' => {
                cells.push(std::mem::take(&mut cell));
                was_quoted = false;
            }
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                if !(cells.is_empty() && cell.is_empty() && !was_quoted) {
                    cells.push(std::mem::take(&mut cell));
                    records.push((began, std::mem::take(&mut cells)));
                }
                (was_quoted, began) = (false, line);
            }
            _ if was_quoted => return Err(Error::Csv { line, reason: "text follows a closing quote" }),
            c => cell.push(c),
        }
    }
    if quoted {
        return Err(Error::Csv { line: began, reason: "a quote is not closed" });
    }
    if !cells.is_empty() || !cell.is_empty() || was_quoted {
        cells.push(cell);
        records.push((began, cells));
    }
    Ok(records)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::DataSet;

    fn spec() -> RowSpec {
        RowSpec {
            key_field: "no".into(),
            key_first: Some(3),
            names: [("en".to_string(), "en".to_string())].into(),
            position: Some(("lat".into(), "lon".into())),
        }
    }

    #[test]
    fn rows_with_one_key_are_one_site_with_all_their_positions() {
        let json = br#"[{"no":"12301","en":"A","lat":22.3,"lon":114.1,"session":"AM"},
                        {"no":"12302","en":"A","lat":22.31,"lon":114.1,"session":"PM"},
                        {"no":"45601","en":"B","lat":22.4,"lon":114.2,"session":"AM"}]"#;
        let set = DataSet::parse("s", Format::Json, json, &spec()).unwrap();
        assert_eq!((set.rows(), set.sites().count()), (3, 2));
        let site = set.site("123").unwrap();
        assert_eq!(site.points.len(), 2);
        assert_eq!(site.columns["session"], ["AM", "PM"].map(String::from).into());
        assert_eq!(site.name("zh-Hant"), "A", "a name that is missing falls back");
    }

    #[test]
    fn csv_and_geojson_give_the_same_sites_as_json() {
        let csv = "no,en,lat,lon\r\n12301,\"A, \"\"the\"\" first\",22.3,114.1\r\n";
        let geo = r#"{"features":[{"properties":{"no":"12301","en":"A, \"the\" first"},
                      "geometry":{"type":"Point","coordinates":[114.1,22.3]}}]}"#;
        let csv = DataSet::parse("s", Format::Csv, csv.as_bytes(), &spec()).unwrap();
        let geo = DataSet::parse("s", Format::GeoJson, geo.as_bytes(), &spec()).unwrap();
        for set in [csv, geo] {
            let site = set.site("123").unwrap();
            assert_eq!(site.name("en"), "A, \"the\" first");
            assert_eq!(site.points, [Point { lat: 22.3, lon: 114.1 }]);
        }
    }

    #[test]
    fn a_row_that_cannot_be_placed_is_an_error_with_its_number() {
        for (bad, want) in [
            (r#"[{"no":"12301","lat":22.3}]"#, "row 1 has no position"),
            (r#"[{"no":"12301","lat":222.3,"lon":1}]"#, "row 1 has no position"),
            (r#"[{"no":"12","lat":22.3,"lon":1}]"#, "row 1 has no key"),
            (r#"[{"lat":22.3,"lon":1}]"#, "row 1 has no key"),
            ("{}", "not JSON"),
        ] {
            let error = DataSet::parse("s", Format::Json, bad.as_bytes(), &spec()).unwrap_err().to_string();
            assert!(error.contains(want), "{bad}: {error}");
        }
        let error = DataSet::parse("s", Format::Csv, b"no,lat\n1\n", &spec()).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        assert!(DataSet::parse("s", Format::Csv, b"no,lat\n\"1,2\n", &spec()).is_err());
    }
}
