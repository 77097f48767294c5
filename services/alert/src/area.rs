//! Where an alert applies: CAP areas with their polygons, circles and geocodes.
//!
//! Each shape keeps the text it was read from, because a message must come out as it went in; the numbers beside it are
//! what the bus computes with. Geometry (inside, distance) is in the second half of the crate's life: see `geometry`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::message::{Decimal, ValuePair};

/// A position in WGS 84 degrees: latitude −90 to 90, longitude −180 to 180, both finite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
}

/// Why a shape was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A point that is not `lat,lon` in degrees.
    #[error("{0:?} is not a point; write latitude,longitude in degrees, for example 22.4501,114.1702")]
    Point(String),
    /// A polygon without points.
    #[error("the polygon is empty; leave the element out or give at least four points")]
    PolygonEmpty,
    /// Fewer than four points.
    #[error("the polygon has {0} points; give at least four, the last equal to the first")]
    PolygonShort(usize),
    /// The last point is not the first.
    #[error("the polygon is open: it begins at {first} and ends at {last}; repeat the first point at the end")]
    PolygonOpen {
        /// Where it begins.
        first: Point,
        /// Where it ends.
        last: Point,
    },
    /// A circle that is not `lat,lon radius`.
    #[error("{0:?} is not a circle; write latitude,longitude radius, the radius in kilometres and not negative")]
    Circle(String),
}

impl Point {
    /// Parses `lat,lon`, for example `22.4501,114.1702`.
    ///
    /// # Errors
    /// [`Error::Point`] when a number is missing, not finite, or out of range.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = || Error::Point(text.chars().take(64).collect());
        let (lat, lon) = text.split_once(',').ok_or_else(refuse)?;
        let number = |text: &str, limit: f64| {
            let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'));
            let value = text.parse::<f64>().ok()?;
            (plain && value.is_finite() && value.abs() <= limit).then_some(value)
        };
        match (number(lat, 90.0), number(lon, 180.0)) {
            (Some(lat), Some(lon)) => Ok(Self { lat, lon }),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.lat, self.lon)
    }
}

/// A closed ring: at least four points, the last equal to the first.
///
/// Source: CAP 1.2 §3.2.4 `polygon`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Polygon {
    points: Vec<Point>,
    text: String,
}

impl Polygon {
    /// Parses points separated by white space, each `lat,lon`.
    ///
    /// # Errors
    /// [`Error`] when a point is bad, there are fewer than four, or the ring is open.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let points: Vec<Point> = text.split_ascii_whitespace().map(Point::parse).collect::<Result<_, _>>()?;
        let polygon = Self { points, text: text.into() };
        polygon.check()?;
        Ok(polygon)
    }

    /// Makes a polygon from points.
    ///
    /// # Errors
    /// [`Error`] when there are fewer than four, the ring is open, or a point is out of range.
    pub fn from_points(points: &[Point]) -> Result<Self, Error> {
        let texts: Vec<String> = points.iter().map(Point::to_string).collect();
        Self::parse(&texts.join(" "))
    }

    fn check(&self) -> Result<(), Error> {
        match (self.points.first(), self.points.last()) {
            (None, _) | (_, None) => Err(Error::PolygonEmpty),
            (Some(_), Some(_)) if self.points.len() < 4 => Err(Error::PolygonShort(self.points.len())),
            (Some(&first), Some(&last)) if first != last => Err(Error::PolygonOpen { first, last }),
            _ => Ok(()),
        }
    }

    /// The ring, first and last point equal.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The text it was read from, or the canonical one.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A centre and a radius.
///
/// Source: CAP 1.2 §3.2.4 `circle`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Circle {
    centre: Point,
    radius_km: f64,
    text: String,
}

impl Circle {
    /// Parses a CAP `circle`: a centre in WGS 84 degrees and a radius in kilometres.
    ///
    /// `text` is `"lat,lon radius"`, for example `"22.4501,114.1702 0.5"`. A radius of zero is accepted.
    ///
    /// # Errors
    /// [`Error::Circle`] or [`Error::Point`] when a number is missing, not finite, or out of range.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = || Error::Circle(text.chars().take(64).collect());
        let mut parts = text.split_ascii_whitespace();
        let (Some(centre), Some(radius), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse());
        };
        let plain = radius.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'));
        match radius.parse::<f64>() {
            Ok(km) if plain && km.is_finite() && km >= 0.0 => {
                Ok(Self { centre: Point::parse(centre)?, radius_km: km, text: text.into() })
            }
            _ => Err(refuse()),
        }
    }

    /// Makes a circle.
    ///
    /// # Errors
    /// [`Error`] when the centre is out of range or the radius is negative or not finite.
    pub fn new(centre: Point, radius_km: f64) -> Result<Self, Error> {
        Self::parse(&format!("{centre} {radius_km}"))
    }

    /// The centre.
    pub fn centre(&self) -> Point {
        self.centre
    }

    /// The radius in kilometres, zero or more.
    pub fn radius_km(&self) -> f64 {
        self.radius_km
    }

    /// The text it was read from, or the canonical one.
    pub fn text(&self) -> &str {
        &self.text
    }
}

macro_rules! shape_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(shape: $name) -> Self {
                shape.text
            }
        }
    };
}

shape_text!(Polygon);
shape_text!(Circle);

/// One `area` block. The target of an info is the union of all its areas, and of all shapes and codes in each.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Area {
    /// CAP `areaDesc`: the place in words.
    pub description: String,
    /// Closed rings; CAP has no holes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub polygons: Vec<Polygon>,
    /// Circles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub circles: Vec<Circle>,
    /// Codes of places, for example `campanile:site`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub geocodes: Vec<ValuePair>,
    /// Feet above mean sea level, the lowest or the only altitude; absent means none was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub altitude: Option<Decimal>,
    /// Feet above mean sea level, the highest altitude; only beside `altitude`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Decimal>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polygon_must_close() {
        assert!(Polygon::parse("1,1 1,2 2,2 1,1").is_ok());
        assert!(matches!(Polygon::parse("1,1 1,2 2,2 2,1"), Err(Error::PolygonOpen { .. })));
        assert_eq!(Polygon::parse("1,1 1,2 1,1"), Err(Error::PolygonShort(3)));
        assert_eq!(Polygon::parse(" "), Err(Error::PolygonEmpty));
        assert!(matches!(Polygon::parse("{}"), Err(Error::Point(_))));
        assert!(matches!(Polygon::parse("91,1 1,2 2,2 91,1"), Err(Error::Point(_))));
        assert!(matches!(Polygon::parse("NaN,1 1,2 2,2 NaN,1"), Err(Error::Point(_))));
    }

    #[test]
    fn circle_radius_is_in_kilometres_and_may_be_zero() {
        assert_eq!(Circle::parse("22.45,114.17 0.5").map(|c| c.radius_km()), Ok(0.5));
        assert!(Circle::parse("22.45,114.17 0").is_ok());
        for bad in ["22.45,114.17", "22.45,114.17 -1", "22.45,114.17 inf", "22.45 114.17 1", ""] {
            assert!(Circle::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
