//! Areas both ways. A shape's text goes on the wire only where it is not the canonical one of its numbers.

use campanile_alert::{Area, Circle, Decimal, Point, Polygon};

use super::message::{pairs_from_wire, pairs_to_wire, text_from_wire};
use super::path::Path;
use super::{Faults, POINTS_MAX, POLYGONS_MAX};
use crate::alert::v1 as wire;

/// What the shapes of a message have cost so far.
#[derive(Debug, Default)]
pub(super) struct Budget {
    polygons: usize,
    points: usize,
}

pub(super) fn area_to_wire(area: &Area) -> wire::Area {
    wire::Area {
        description: area.description.clone(),
        polygons: area.polygons.iter().map(polygon_to_wire).collect(),
        circles: area.circles.iter().map(circle_to_wire).collect(),
        geocodes: pairs_to_wire(&area.geocodes),
        altitude: area.altitude.as_ref().map(|feet| feet.text().into()),
        ceiling: area.ceiling.as_ref().map(|feet| feet.text().into()),
    }
}

pub(super) fn area_from_wire(
    area: wire::Area,
    path: Path<'_>,
    budget: &mut Budget,
    faults: &mut Faults,
) -> Option<Area> {
    let description = text_from_wire(area.description, path.field("description"), faults);
    let polygons = area.polygons.into_iter().enumerate();
    let polygons: Vec<_> =
        polygons
            .map_while(|(at, polygon)| {
                let place = path.item("polygons", at);
                budget.polygons += 1;
                budget.points = budget.points.saturating_add(polygon.points.len());
                if budget.polygons > POLYGONS_MAX || budget.points > POINTS_MAX {
                    faults.add(place, format_args!(
                    "the message has more than {POLYGONS_MAX} polygons or {POINTS_MAX} points; simplify its areas"
                ));
                    return None;
                }
                Some(polygon_from_wire(polygon, place, faults))
            })
            .collect();
    let circles = area.circles.into_iter().enumerate();
    let circles: Vec<_> =
        circles.map(|(at, circle)| circle_from_wire(circle, path.item("circles", at), faults)).collect();
    let geocodes = pairs_from_wire(area.geocodes, path, "geocodes", faults);
    let altitude = decimal_from_wire(area.altitude, path.field("altitude"), faults);
    let ceiling = decimal_from_wire(area.ceiling, path.field("ceiling"), faults);
    Some(Area {
        description: description?,
        polygons: polygons.into_iter().collect::<Option<_>>()?,
        circles: circles.into_iter().collect::<Option<_>>()?,
        geocodes: geocodes?,
        altitude: altitude?,
        ceiling: ceiling?,
    })
}

/// `Some(None)` is "absent", `None` is "wrong".
fn decimal_from_wire(text: Option<String>, path: Path<'_>, faults: &mut Faults) -> Option<Option<Decimal>> {
    let Some(text) = text else { return Some(None) };
    faults.keep(path, Decimal::try_from(text)).map(Some)
}

/// Adding zero turns −0 into 0, which the wire does not tell apart.
fn plain(point: Point) -> Point {
    Point { lat: point.lat + 0.0, lon: point.lon + 0.0 }
}

fn point_to_wire(point: Point) -> wire::Point {
    wire::Point { lat: point.lat, lon: point.lon }
}

fn point_from_wire(point: &wire::Point) -> Point {
    plain(Point { lat: point.lat, lon: point.lon })
}

fn polygon_to_wire(polygon: &Polygon) -> wire::Polygon {
    let points: Vec<Point> = polygon.points().iter().copied().map(plain).collect();
    let canonical = Polygon::from_points(&points).is_ok_and(|canonical| canonical.text() == polygon.text());
    wire::Polygon {
        points: points.into_iter().map(point_to_wire).collect(),
        text: (!canonical).then(|| polygon.text().into()),
    }
}

fn polygon_from_wire(polygon: wire::Polygon, path: Path<'_>, faults: &mut Faults) -> Option<Polygon> {
    let points: Vec<Point> = polygon.points.iter().map(point_from_wire).collect();
    let Some(text) = polygon.text else { return faults.keep(path, Polygon::from_points(&points)) };
    let read = faults.keep(path.field("text"), Polygon::parse(&text))?;
    if read.points() != points.as_slice() {
        faults.add(path.field("text"), "the text and the points are not the same ring; leave the text out or mend it");
        return None;
    }
    Some(read)
}

fn circle_to_wire(circle: &Circle) -> wire::Circle {
    let (centre, radius_km) = (plain(circle.centre()), circle.radius_km() + 0.0);
    let canonical = Circle::new(centre, radius_km).is_ok_and(|canonical| canonical.text() == circle.text());
    wire::Circle { centre: Some(point_to_wire(centre)), radius_km, text: (!canonical).then(|| circle.text().into()) }
}

fn circle_from_wire(circle: wire::Circle, path: Path<'_>, faults: &mut Faults) -> Option<Circle> {
    let Some(centre) = circle.centre.as_ref().map(point_from_wire) else {
        faults.add(path.field("centre"), "the centre is not given; a circle needs a point and a radius");
        return None;
    };
    let radius_km = circle.radius_km + 0.0;
    let Some(text) = circle.text else { return faults.keep(path, Circle::new(centre, radius_km)) };
    let read = faults.keep(path.field("text"), Circle::parse(&text))?;
    if read.centre() != centre || read.radius_km() != radius_km {
        faults
            .add(path.field("text"), "the text and the numbers are not the same circle; leave the text out or mend it");
        return None;
    }
    Some(read)
}
