//! Inside, distance and bounds on the WGS 84 ellipsoid.
//!
//! Distances are geodesics (Karney's method), good to a micrometre between points. An edge of a polygon is the straight
//! line in latitude and longitude, as CAP senders draw it and as the inside test reads it; the nearest point on an edge
//! is found in a local plane and then corrected with geodesics until it stands still, so a distance to an edge is good to
//! a millimetre within tens of kilometres. A ring may cross the 180° meridian: each edge goes the shorter way round.
//!
//! Every function is pure and its work is bounded by the number of points, which the codec limits.

use geo::{Bearing, Distance, Geodesic};

use crate::area::{Area, Circle, Point, Polygon};

/// The least length of a degree of latitude anywhere, in metres: dividing by it never makes a box too small.
const DEGREE_M_MIN: f64 = 110_574.0;
/// Semi-major axis of WGS 84, in metres.
const EQUATOR_M: f64 = 6_378_137.0;
/// First eccentricity of WGS 84, squared.
const ECCENTRICITY2: f64 = 0.006_694_379_990_141_3;

/// A box in degrees. `min.lon` may be below −180 or `max.lon` above 180 when the box crosses the 180° meridian.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The south-western corner.
    pub min: Point,
    /// The north-eastern corner.
    pub max: Point,
}

impl Bounds {
    /// Whether the point is in the box, edges included; its longitude is also tried a turn to either side.
    pub fn contains(&self, point: Point) -> bool {
        let lat = (self.min.lat..=self.max.lat).contains(&point.lat);
        lat && [-360.0, 0.0, 360.0].iter().any(|turn| (self.min.lon..=self.max.lon).contains(&(point.lon + turn)))
    }

    fn join(self, other: Self) -> Self {
        let pick = |a: Point, b: Point, f: fn(f64, f64) -> f64| Point { lat: f(a.lat, b.lat), lon: f(a.lon, b.lon) };
        Self { min: pick(self.min, other.min, f64::min), max: pick(self.max, other.max, f64::max) }
    }
}

/// The geodesic distance between two points, in metres.
pub fn point_distance_m(a: Point, b: Point) -> f64 {
    Geodesic.distance(geo_point(a), geo_point(b))
}

/// The distance from an area to a point, in metres: zero inside or on an edge, `None` when the area has no shape.
///
/// An area with several shapes is their union.
pub fn distance_m(area: &Area, point: Point) -> Option<f64> {
    let circles = area.circles.iter().map(|circle| circle_distance_m(circle, point));
    let polygons = area.polygons.iter().map(|polygon| polygon_distance_m(polygon, point));
    circles.chain(polygons).reduce(f64::min)
}

/// The distance from the union of several areas to a point, in metres; `None` when none has a shape.
pub fn distance_to_areas_m(areas: &[Area], point: Point) -> Option<f64> {
    areas.iter().filter_map(|area| distance_m(area, point)).reduce(f64::min)
}

/// Whether the point is inside one of the area's shapes or on its edge.
pub fn contains(area: &Area, point: Point) -> bool {
    area.circles.iter().any(|circle| circle_distance_m(circle, point) <= 0.0)
        || area.polygons.iter().any(|polygon| Ring::new(polygon).contains(point))
}

/// Whether every shape of `inner` lies wholly inside one single shape of `outer`.
///
/// False when `inner` has no shape, or when one of its areas has none: what cannot be placed cannot be shown to be
/// inside. A shape that only the union of two outer shapes would cover counts as outside.
pub fn within(inner: &[Area], outer: &[Area]) -> bool {
    let rings: Vec<Ring> = outer.iter().flat_map(|area| &area.polygons).map(Ring::new).collect();
    let circles: Vec<&Circle> = outer.iter().flat_map(|area| &area.circles).collect();
    let circle_inside = |circle: &Circle| {
        let (centre, radius_m) = (circle.centre(), circle.radius_km() * 1000.0);
        circles.iter().any(|o| point_distance_m(centre, o.centre()) + radius_m <= o.radius_km() * 1000.0)
            || rings.iter().any(|ring| ring.contains(centre) && ring.keeps_off(centre, radius_m))
    };
    let polygon_inside = |polygon: &Polygon| {
        let ring = Ring::new(polygon);
        circles.iter().any(|circle| ring.inside_circle(circle)) || rings.iter().any(|outer| ring.inside(outer))
    };
    let area_inside = |area: &Area| {
        !(area.circles.is_empty() && area.polygons.is_empty())
            && area.circles.iter().all(circle_inside)
            && area.polygons.iter().all(polygon_inside)
    };
    !inner.is_empty() && inner.iter().all(area_inside)
}

/// A box that holds everything within `margin_m` metres of the area; `None` when the area has no shape.
///
/// The box is never too small and may be a little too large, so it is a first sieve before [`distance_m`].
pub fn bounds(area: &Area, margin_m: f64) -> Option<Bounds> {
    let circles = area.circles.iter().map(|circle| {
        widen(Bounds { min: circle.centre(), max: circle.centre() }, circle.radius_km() * 1000.0 + margin_m)
    });
    let polygons = area.polygons.iter().filter_map(|polygon| {
        let corner = |&(lat, lon): &(f64, f64)| Bounds { min: Point { lat, lon }, max: Point { lat, lon } };
        let tight = Ring::new(polygon).points.iter().map(corner).reduce(Bounds::join)?;
        Some(widen(tight, margin_m))
    });
    circles.chain(polygons).reduce(Bounds::join)
}

/// The middle of the area's first shape: the centre of a circle, or the centre of a polygon's box; for labels, not for
/// decisions. `None` when the area has no shape.
pub fn middle(area: &Area) -> Option<Point> {
    if let Some(circle) = area.circles.first() {
        return Some(circle.centre());
    }
    let corners = |&(lat, lon): &(f64, f64)| Bounds { min: Point { lat, lon }, max: Point { lat, lon } };
    let tight = Ring::new(area.polygons.first()?).points.iter().map(corners).reduce(Bounds::join)?;
    let lon = wrap((tight.min.lon + tight.max.lon) / 2.0);
    Some(Point { lat: (tight.min.lat + tight.max.lat) / 2.0, lon })
}

fn geo_point(point: Point) -> geo::Point<f64> {
    geo::Point::new(point.lon, point.lat)
}

fn circle_distance_m(circle: &Circle, point: Point) -> f64 {
    (point_distance_m(circle.centre(), point) - circle.radius_km() * 1000.0).max(0.0)
}

fn polygon_distance_m(polygon: &Polygon, point: Point) -> f64 {
    let ring = Ring::new(polygon);
    if ring.contains(point) { 0.0 } else { ring.edge_distance_m(point) }
}

/// Brings a difference of longitudes into −180 to 180.
fn wrap(degrees: f64) -> f64 {
    if degrees > 180.0 {
        degrees - 360.0
    } else if degrees < -180.0 {
        degrees + 360.0
    } else {
        degrees
    }
}

/// Metres in a degree of latitude and in a degree of longitude at a latitude.
fn degree_m(lat: f64) -> (f64, f64) {
    let (sin, cos) = lat.to_radians().sin_cos();
    let w2 = 1.0 - ECCENTRICITY2 * sin * sin;
    let normal = EQUATOR_M / w2.sqrt();
    let meridional = normal * (1.0 - ECCENTRICITY2) / w2;
    (meridional.to_radians(), (normal * cos).to_radians())
}

fn widen(tight: Bounds, by_m: f64) -> Bounds {
    // One part in a hundred for curvature: a box must not lose a point that the exact distance would keep.
    let by_lat = by_m / DEGREE_M_MIN * 1.01;
    let (south, north) = ((tight.min.lat - by_lat).max(-90.0), (tight.max.lat + by_lat).min(90.0));
    let (_, metres) = degree_m(south.abs().max(north.abs()));
    let by_lon = if metres > 1.0 { (by_m / metres * 1.01).min(360.0) } else { 360.0 };
    Bounds {
        min: Point { lat: south, lon: tight.min.lon - by_lon },
        max: Point { lat: north, lon: tight.max.lon + by_lon },
    }
}

/// A polygon's ring as (latitude, longitude), its longitudes unrolled so that no edge jumps at the 180° meridian.
struct Ring {
    points: Vec<(f64, f64)>,
}

impl Ring {
    fn new(polygon: &Polygon) -> Self {
        let mut points: Vec<(f64, f64)> = Vec::with_capacity(polygon.points().len());
        for point in polygon.points() {
            let lon = points.last().map_or(point.lon, |&(_, last)| last + wrap((point.lon - last) % 360.0));
            points.push((point.lat, lon));
        }
        Self { points }
    }

    fn edges(&self) -> impl Iterator<Item = ((f64, f64), (f64, f64))> {
        self.points.iter().copied().zip(self.points.iter().copied().skip(1))
    }

    /// Inside or on an edge.
    fn contains(&self, point: Point) -> bool {
        [-360.0, 0.0, 360.0].iter().any(|turn| {
            let at = (point.lat, point.lon + turn);
            self.on_edge(at) || self.strictly_contains(at)
        })
    }

    fn on_edge(&self, at: (f64, f64)) -> bool {
        self.edges().any(|(a, b)| side(a, b, at) == 0.0 && between(a, b, at))
    }

    /// The even-odd rule; a point on an edge may come out either way.
    fn strictly_contains(&self, (lat, lon): (f64, f64)) -> bool {
        let crosses = |((lat1, lon1), (lat2, lon2)): &((f64, f64), (f64, f64))| {
            (*lat1 > lat) != (*lat2 > lat) && lon < lon1 + (lat - lat1) / (lat2 - lat1) * (lon2 - lon1)
        };
        self.edges().filter(crosses).count() % 2 == 1
    }

    /// The distance to the nearest edge, inside or outside.
    fn edge_distance_m(&self, point: Point) -> f64 {
        let mut best = f64::INFINITY;
        for (a, b) in self.edges() {
            let edge = Edge::seen_from(point, a, b);
            // The plane is good to a per cent near the point; an edge that it puts well beyond the best is skipped.
            if edge.plane_distance_m() <= best * 1.05 + 1.0 || edge.is_far() {
                best = best.min(edge.distance_m());
            }
        }
        best
    }

    /// Whether every edge is at least so far away.
    fn keeps_off(&self, point: Point, metres: f64) -> bool {
        self.edges().all(|(a, b)| {
            let edge = Edge::seen_from(point, a, b);
            // The plane is good to a per cent near the point; what it puts well beyond needs no exact distance.
            let well_beyond = !edge.is_far() && edge.plane_distance_m() > metres * 1.05 + 1_000.0;
            well_beyond || edge.distance_m() >= metres
        })
    }

    /// Whether this ring lies inside a circle. Long edges are tried in between as well, since they bend outward.
    fn inside_circle(&self, circle: &Circle) -> bool {
        let reach = |(lat, lon): (f64, f64)| {
            point_distance_m(circle.centre(), Point { lat, lon }) <= circle.radius_km() * 1000.0
        };
        self.edges().all(|(a, b)| {
            let steps = ((b.0 - a.0).hypot(b.1 - a.1) * 10.0).ceil().clamp(1.0, 64.0);
            let mut at = 0.0;
            loop {
                if !reach((a.0 + (b.0 - a.0) * at / steps, a.1 + (b.1 - a.1) * at / steps)) {
                    return false;
                }
                at += 1.0;
                if at > steps {
                    return true;
                }
            }
        })
    }

    /// Whether this ring lies inside another: no corner or middle of an edge outside, no edge across an edge, and no
    /// corner of the other strictly inside this one.
    fn inside(&self, outer: &Self) -> bool {
        [-360.0, 0.0, 360.0].iter().any(|turn| {
            let moved = Self { points: self.points.iter().map(|&(lat, lon)| (lat, lon + turn)).collect() };
            let holds = |at| outer.on_edge(at) || outer.strictly_contains(at);
            let middle = |(a, b): ((f64, f64), (f64, f64))| ((a.0 + b.0) / 2.0, (a.1 + b.1) / 2.0);
            moved.points.iter().all(|&at| holds(at))
                && moved.edges().all(|(a, b)| !outer.edges().any(|(c, d)| cross(a, b, c, d)))
                && moved.edges().all(|edge| holds(middle(edge)) || outer.near_edge(middle(edge)))
                && !outer.points.iter().any(|&at| moved.strictly_contains(at) && !moved.near_edge(at))
        })
    }

    /// Within a nanodegree (a tenth of a millimetre) of an edge: where rounding decides the inside test.
    fn near_edge(&self, at: (f64, f64)) -> bool {
        const NEAR: f64 = 1e-9;
        self.edges().any(|(a, b)| {
            let length = (b.0 - a.0).hypot(b.1 - a.1);
            let wide = |low: f64, high: f64, x: f64| low.min(high) - NEAR <= x && x <= low.max(high) + NEAR;
            wide(a.0, b.0, at.0) && wide(a.1, b.1, at.1) && side(a, b, at).abs() <= NEAR * length.max(NEAR)
        })
    }
}

/// Twice the signed area of the triangle: which side of the line a–b the point is on.
fn side(a: (f64, f64), b: (f64, f64), at: (f64, f64)) -> f64 {
    (b.0 - a.0) * (at.1 - a.1) - (b.1 - a.1) * (at.0 - a.0)
}

/// Whether the point is in the box of a and b.
fn between(a: (f64, f64), b: (f64, f64), at: (f64, f64)) -> bool {
    let within = |x: f64, y: f64, z: f64| x.min(y) <= z && z <= x.max(y);
    within(a.0, b.0, at.0) && within(a.1, b.1, at.1)
}

/// Whether two edges cross at a point inside both; touching is not crossing.
fn cross(a: (f64, f64), b: (f64, f64), c: (f64, f64), d: (f64, f64)) -> bool {
    let apart = |x1: f64, x2: f64, y1: f64, y2: f64| x1.max(x2) < y1.min(y2) || y1.max(y2) < x1.min(x2);
    if apart(a.0, b.0, c.0, d.0) || apart(a.1, b.1, c.1, d.1) {
        return false;
    }
    side(a, b, c) * side(a, b, d) < 0.0 && side(c, d, a) * side(c, d, b) < 0.0
}

/// One edge, with the point it is looked at from, its longitudes brought next to the point's.
struct Edge {
    from: Point,
    a: (f64, f64),
    along: (f64, f64),
    /// Where on the edge (0 to 1) the plane around `from` sees the nearest point.
    at: f64,
}

impl Edge {
    fn seen_from(from: Point, a: (f64, f64), b: (f64, f64)) -> Self {
        let turn = ((from.lon - (a.1 + b.1) / 2.0) / 360.0).round() * 360.0;
        let (a, along) = ((a.0, a.1 + turn), (b.0 - a.0, b.1 - a.1));
        let mut edge = Self { from, a, along, at: 0.0 };
        let (lat_m, lon_m) = degree_m(from.lat);
        let (dy, dx) = (along.0 * lat_m, along.1 * lon_m);
        let (py, px) = ((from.lat - a.0) * lat_m, (from.lon - a.1) * lon_m);
        let length2 = dx * dx + dy * dy;
        if length2 > 0.0 {
            edge.at = ((px * dx + py * dy) / length2).clamp(0.0, 1.0);
        }
        edge
    }

    fn point(&self, at: f64) -> Point {
        Point { lat: self.a.0 + self.along.0 * at, lon: self.a.1 + self.along.1 * at }
    }

    fn plane_distance_m(&self) -> f64 {
        let (lat_m, lon_m) = degree_m(self.from.lat);
        let near = self.point(self.at);
        ((near.lat - self.from.lat) * lat_m).hypot((near.lon - self.from.lon) * lon_m)
    }

    /// Beyond two degrees the plane is no sieve.
    fn is_far(&self) -> bool {
        let near = self.point(self.at);
        (near.lat - self.from.lat).abs() > 2.0 || (near.lon - self.from.lon).abs() > 2.0
    }

    /// Moves the foot along the edge by what the geodesic's direction says is left, until it stands still.
    fn distance_m(&self) -> f64 {
        let mut at = self.at;
        let mut foot = self.point(at);
        let mut distance = point_distance_m(self.from, foot);
        for _ in 0..8 {
            let (lat_m, lon_m) = degree_m(foot.lat);
            let (dy, dx) = (self.along.0 * lat_m, self.along.1 * lon_m);
            let length2 = dx * dx + dy * dy;
            if length2 <= 0.0 || distance <= 0.0 {
                break;
            }
            let (east, north) = Geodesic.bearing(geo_point(foot), geo_point(self.from)).to_radians().sin_cos();
            let next = (at + distance * (east * dx + north * dy) / length2).clamp(0.0, 1.0);
            let moved_m = (next - at).abs() * length2.sqrt();
            let next_foot = self.point(next);
            let next_distance = point_distance_m(self.from, next_foot);
            if next_distance >= distance {
                break;
            }
            (at, foot, distance) = (next, next_foot, next_distance);
            if moved_m < 1e-4 {
                break;
            }
        }
        distance
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use geo::Destination;

    use super::*;

    fn at(lat: f64, lon: f64) -> Point {
        Point { lat, lon }
    }

    fn away(from: Point, bearing: f64, metres: f64) -> Point {
        let to = Geodesic.destination(geo_point(from), bearing, metres);
        at(to.y(), to.x())
    }

    fn square(south: f64, west: f64, size: f64) -> Area {
        let (n, e) = (south + size, west + size);
        let ring = [at(south, west), at(south, e), at(n, e), at(n, west), at(south, west)];
        Area { polygons: vec![Polygon::from_points(&ring).unwrap()], ..Area::default() }
    }

    fn circle(centre: Point, km: f64) -> Area {
        Area { circles: vec![Circle::new(centre, km).unwrap()], ..Area::default() }
    }

    /// A linear congruential generator: seeded numbers from 0 to 1.
    fn random(seed: &mut u64) -> f64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 11) as f64 / (1u64 << 53) as f64
    }

    #[test]
    fn point_distance_agrees_with_vincentys_example() {
        // Flinders Peak to Buninyong, the worked example of the Geodetic Datum of Australia technical manual: 54,972.271 m.
        let flinders = at(-(37.0 + 57.0 / 60.0 + 3.720_30 / 3600.0), 144.0 + 25.0 / 60.0 + 29.524_40 / 3600.0);
        let buninyong = at(-(37.0 + 39.0 / 60.0 + 10.156_10 / 3600.0), 143.0 + 55.0 / 60.0 + 35.383_90 / 3600.0);
        assert!((point_distance_m(flinders, buninyong) - 54_972.271).abs() < 0.002);
    }

    #[test]
    fn points_at_499_5_and_500_5_metres_of_an_edge_are_told_apart() {
        let mut seed = 20_261_122;
        for round in 0..200 {
            let centre = at(22.2 + random(&mut seed) * 0.35, 113.85 + random(&mut seed) * 0.5);
            let bearing = random(&mut seed) * 360.0;
            for (metres, inside) in [(499.5, true), (500.5, false)] {
                let to = away(centre, bearing, metres);
                let zero = distance_m(&circle(centre, 0.0), to).unwrap();
                assert!((zero - metres).abs() < 1e-3, "round {round}: {zero}");
                let wide = distance_m(&circle(centre, 0.2), away(centre, bearing, metres + 200.0)).unwrap();
                assert_eq!(wide <= 500.0, inside, "round {round}: {wide}");
            }
        }
    }

    #[test]
    fn edge_distance_agrees_with_a_brute_force_geodesic_search() {
        let mut seed = 7;
        for round in 0..60 {
            let centre = at(22.2 + random(&mut seed) * 0.35, 113.85 + random(&mut seed) * 0.5);
            let size = 100.0 + random(&mut seed) * 5_000.0;
            let mut ring: Vec<Point> =
                (0..7).map(|k| away(centre, f64::from(k) * 50.0, size * (0.4 + random(&mut seed)))).collect();
            ring.push(ring[0]);
            let area = Area { polygons: vec![Polygon::from_points(&ring).unwrap()], ..Area::default() };
            let from = away(centre, random(&mut seed) * 360.0, size * 1.5 + random(&mut seed) * 3_000.0);
            let got = distance_m(&area, from).unwrap();
            let want = ring.windows(2).map(|e| brute_force_m(from, e[0], e[1])).fold(f64::INFINITY, f64::min);
            assert!((got - want).abs() < 2e-3, "round {round}: {got} instead of {want}");
        }
    }

    /// Samples the edge, then samples around the best sample, four times over.
    fn brute_force_m(from: Point, a: Point, b: Point) -> f64 {
        let point = |t: f64| at(a.lat + (b.lat - a.lat) * t, a.lon + (b.lon - a.lon) * t);
        let (mut low, mut high, mut best) = (0.0, 1.0, f64::INFINITY);
        for _ in 0..4 {
            let step = (high - low) / 40.0;
            let mut best_t = low;
            for k in 0..=40 {
                let t = low + step * f64::from(k);
                let d = point_distance_m(from, point(t));
                if d < best {
                    (best, best_t) = (d, t);
                }
            }
            (low, high) = ((best_t - step).max(0.0), (best_t + step).min(1.0));
        }
        best
    }

    #[test]
    fn inside_is_zero_and_no_shape_is_none() {
        let area = square(22.0, 114.0, 0.1);
        assert_eq!(distance_m(&area, at(22.05, 114.05)), Some(0.0));
        assert_eq!(distance_m(&area, at(22.0, 114.05)), Some(0.0), "an edge counts as inside");
        assert!(contains(&area, at(22.1, 114.1)), "a corner counts as inside");
        assert!(!contains(&area, at(22.2, 114.05)));
        assert_eq!(distance_m(&Area::default(), at(0.0, 0.0)), None);
        assert_eq!(distance_to_areas_m(&[Area::default(), area], at(22.05, 114.05)), Some(0.0));
    }

    #[test]
    fn ring_over_the_180_degree_meridian_is_small() {
        let ring = [at(-17.0, 179.5), at(-17.0, -179.5), at(-16.0, -179.5), at(-16.0, 179.5), at(-17.0, 179.5)];
        let area = Area { polygons: vec![Polygon::from_points(&ring).unwrap()], ..Area::default() };
        for lon in [179.9, -179.9, 180.0, -180.0] {
            assert!(contains(&area, at(-16.5, lon)), "{lon}");
        }
        assert!(!contains(&area, at(-16.5, 0.0)));
        assert!(distance_m(&area, at(-16.5, -179.4)).unwrap() < 11_000.0);
        assert!(bounds(&area, 0.0).unwrap().contains(at(-16.5, -179.9)));
    }

    #[test]
    fn within_asks_for_one_outer_shape_around_each_inner_shape() {
        let outer = [square(22.0, 114.0, 0.1), square(22.0, 114.1, 0.1)];
        assert!(within(&[square(22.02, 114.02, 0.05)], &outer));
        assert!(within(&outer, &outer), "equal shapes are inside");
        assert!(!within(&[square(22.02, 114.08, 0.05)], &outer), "across two shapes");
        assert!(!within(&[square(21.0, 113.0, 3.0)], &outer), "around the outer");
        assert!(within(&[circle(at(22.05, 114.05), 5.0)], &outer));
        assert!(!within(&[circle(at(22.05, 114.05), 6.0)], &outer));
        assert!(within(&[circle(at(22.05, 114.05), 5.0)], &[circle(at(22.05, 114.06), 7.0)]));
        assert!(!within(&[circle(at(22.05, 114.05), 5.0)], &[circle(at(22.05, 114.06), 6.0)]));
        assert!(within(&[square(22.0, 114.0, 0.1)], &[circle(at(22.05, 114.05), 8.0)]));
        assert!(!within(&[square(22.0, 114.0, 0.1)], &[circle(at(22.05, 114.05), 7.0)]));
        assert!(!within(&[], &outer));
        assert!(!within(&[square(22.02, 114.02, 0.05), Area::default()], &outer), "an area without shape");
    }

    #[test]
    fn within_sees_the_notch_of_a_concave_ring() {
        // A U open to the north; the bar across its arms has every corner inside and still leaves it.
        let u = Polygon::parse("0,0 0,3 3,3 3,2 1,2 1,1 3,1 3,0 0,0").unwrap();
        let bar = Polygon::parse("2,0.5 2,2.5 2.5,2.5 2.5,0.5 2,0.5").unwrap();
        let touching = Polygon::parse("1,1 0.5,0.5 0.5,2.5 1,2 1,1").unwrap();
        let area = |polygon| [Area { polygons: vec![polygon], ..Area::default() }];
        assert!(!within(&area(bar), &area(u.clone())));
        assert!(within(&area(touching), &area(u)));
    }

    #[test]
    fn bounds_lose_no_point_within_the_margin() {
        let mut seed = 99;
        for _ in 0..500 {
            let centre = at(random(&mut seed) * 160.0 - 80.0, random(&mut seed) * 358.0 - 179.0);
            let (km, margin) = (random(&mut seed) * 20.0, random(&mut seed) * 2_000.0);
            let bounds = bounds(&circle(centre, km), margin).unwrap();
            let to = away(centre, random(&mut seed) * 360.0, km * 1000.0 + margin);
            assert!(bounds.contains(to), "{to} is outside {bounds:?}");
        }
    }
}
