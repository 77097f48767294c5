//! From an `alert` element to a typed message, or to the faults of its form.
//!
//! Each element has a list of the children it may have, in order; the lists differ by CAP version. Reading goes on after
//! a fault, so that a sender sees all of them at once, up to a bound.
//!
//! Sources: CAP-v1.2.xsd and CAP-v1.1.xsd of OASIS; the schema of CAP 1.0 in its §3.4.

use std::collections::{BTreeMap, BTreeSet};

use roxmltree::Node;

use super::{Limits, namespace, signature};
use crate::area::{self, Area, Circle, Polygon};
use crate::judge::{Fault, FaultCode, cap_valid};
use crate::message::{
    Alert, CapVersion, Category, Certainty, Decimal, Group, Info, MessageType, References, Resource, ResponseType,
    Scope, Severity, Size, Status, Urgency, ValuePair,
};
use crate::time::{self, DateTime};

/// The most faults that are listed for one message.
const FAULTS_MAX: usize = 100;
/// Attributes that tell a validator where to find a schema. They are allowed, say nothing, and are never followed.
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// How often a child may stand.
#[derive(Clone, Copy, PartialEq)]
enum Times {
    One,
    Maybe,
    Some,
    Any,
}
use Times::{Any, Maybe, One, Some as Several};

type Slots = &'static [(&'static str, Times)];

const ALERT: Slots = &[
    ("identifier", One),
    ("sender", One),
    ("sent", One),
    ("status", One),
    ("msgType", One),
    ("source", Maybe),
    ("scope", One),
    ("restriction", Maybe),
    ("addresses", Maybe),
    ("code", Any),
    ("note", Maybe),
    ("references", Maybe),
    ("incidents", Maybe),
    ("info", Any),
];

/// CAP 1.0 has a password, and its scope may be absent.
const ALERT_1_0: Slots = &[
    ("identifier", One),
    ("sender", One),
    ("sent", One),
    ("status", One),
    ("msgType", One),
    ("password", Maybe),
    ("source", Maybe),
    ("scope", Maybe),
    ("restriction", Maybe),
    ("addresses", Maybe),
    ("code", Any),
    ("note", Maybe),
    ("references", Maybe),
    ("incidents", Maybe),
    ("info", Any),
];

const INFO: Slots = &[
    ("language", Maybe),
    ("category", Several),
    ("event", One),
    ("responseType", Any),
    ("urgency", One),
    ("severity", One),
    ("certainty", One),
    ("audience", Maybe),
    ("eventCode", Any),
    ("effective", Maybe),
    ("onset", Maybe),
    ("expires", Maybe),
    ("senderName", Maybe),
    ("headline", Maybe),
    ("description", Maybe),
    ("instruction", Maybe),
    ("web", Maybe),
    ("contact", Maybe),
    ("parameter", Any),
    ("resource", Any),
    ("area", Any),
];

/// CAP 1.0 has no response types, and its category may be absent.
const INFO_1_0: Slots = &[
    ("language", Maybe),
    ("category", Any),
    ("event", One),
    ("urgency", One),
    ("severity", One),
    ("certainty", One),
    ("audience", Maybe),
    ("eventCode", Any),
    ("effective", Maybe),
    ("onset", Maybe),
    ("expires", Maybe),
    ("senderName", Maybe),
    ("headline", Maybe),
    ("description", Maybe),
    ("instruction", Maybe),
    ("web", Maybe),
    ("contact", Maybe),
    ("parameter", Any),
    ("resource", Any),
    ("area", Any),
];

const RESOURCE: Slots = &[
    ("resourceDesc", One),
    ("mimeType", One),
    ("size", Maybe),
    ("uri", Maybe),
    ("derefUri", Maybe),
    ("digest", Maybe),
];

/// Before CAP 1.2 the type of a file may be absent.
const RESOURCE_1_1: Slots = &[
    ("resourceDesc", One),
    ("mimeType", Maybe),
    ("size", Maybe),
    ("uri", Maybe),
    ("derefUri", Maybe),
    ("digest", Maybe),
];

const AREA: Slots =
    &[("areaDesc", One), ("polygon", Any), ("circle", Any), ("geocode", Any), ("altitude", Maybe), ("ceiling", Maybe)];

const PAIR: Slots = &[("valueName", One), ("value", One)];

/// Reads the element of one message; `text` is the document that it stands in.
pub(super) fn alert(node: Node<'_, '_>, version: CapVersion, text: &str, limits: &Limits) -> Result<Alert, Vec<Fault>> {
    if let Some(fault) = too_large(node, limits) {
        return Err(vec![fault]);
    }
    let mut reader = Reader { version, namespace: namespace(version), text, faults: Vec::new() };
    match reader.alert(node) {
        Some(alert) if reader.faults.is_empty() => Ok(alert),
        Some(alert) => {
            // What could be read is judged as well, so that the sender sees every fault at once.
            let known: BTreeSet<String> = reader.faults.iter().map(|fault| fault.path.clone()).collect();
            let more = cap_valid(&alert).into_iter().filter(|fault| !known.contains(&fault.path));
            reader.faults.extend(more.take(FAULTS_MAX));
            Err(reader.faults)
        }
        None => Err(reader.faults),
    }
}

/// Counts polygons and points before any of them is read.
fn too_large(node: Node<'_, '_>, limits: &Limits) -> Option<Fault> {
    let (mut polygons, mut points) = (0, 0);
    for polygon in node.descendants().filter(|node| node.is_element() && node.tag_name().name() == "polygon") {
        polygons += 1;
        points += text_of(polygon).split_ascii_whitespace().count();
    }
    let reason = match () {
        () if polygons > limits.polygons_max => {
            format!("the message has {polygons} polygons, the limit is {}; send fewer", limits.polygons_max)
        }
        () if points > limits.points_max => {
            format!("the message has {points} points, the limit is {}; simplify its polygons", limits.points_max)
        }
        () => return None,
    };
    Some(Fault::new("alert", FaultCode::TooLarge, reason))
}

/// All text directly inside an element, comments left out.
fn text_of(node: Node<'_, '_>) -> String {
    node.children().filter(Node::is_text).filter_map(|text| text.text()).collect()
}

struct Reader<'t> {
    version: CapVersion,
    namespace: &'static str,
    text: &'t str,
    faults: Vec<Fault>,
}

/// The children of one element by name, and the element's path.
struct Children<'a, 'i> {
    path: String,
    found: BTreeMap<&'static str, Vec<Node<'a, 'i>>>,
}

impl<'a, 'i> Children<'a, 'i> {
    fn first(&self, name: &str) -> Option<(Node<'a, 'i>, String)> {
        self.found.get(name).and_then(|nodes| nodes.first()).map(|node| (*node, format!("{}.{name}", self.path)))
    }

    fn all(&self, name: &str) -> Vec<(Node<'a, 'i>, String)> {
        let nodes = self.found.get(name).map(Vec::as_slice).unwrap_or_default();
        nodes.iter().enumerate().map(|(at, node)| (*node, format!("{}.{name}[{at}]", self.path))).collect()
    }
}

impl Reader<'_> {
    fn fault(&mut self, path: impl Into<String>, code: FaultCode, reason: impl Into<String>) {
        // A bound on memory too: each element of a hostile message could be a fault.
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault::new(path, code, reason));
        }
    }

    fn alert(&mut self, node: Node<'_, '_>) -> Option<Alert> {
        let slots = if self.version == CapVersion::V1_0 { ALERT_1_0 } else { ALERT };
        let (node, signatures) = (node, self.signatures(node));
        let children = self.children(node, "alert".into(), slots);
        let identifier = self.one(&children, "identifier");
        let sender = self.one(&children, "sender");
        let sent = self.time(&children, "sent");
        let status = self.code(&children, "status", Status::from_cap);
        let msg_type = self.code(&children, "msgType", MessageType::from_cap);
        let references = self.one(&children, "references").and_then(|text| match References::parse(&text) {
            Ok(references) => Some(references),
            Err(error) => {
                self.fault("alert.references", FaultCode::BadReferences, error.to_string());
                None
            }
        });
        let alert = |infos, reader: &mut Self| {
            Some(Alert {
                version: reader.version,
                identifier: identifier?,
                sender: sender?,
                sent: sent?,
                status: status?,
                msg_type: msg_type?,
                password: reader.one(&children, "password"),
                source: reader.one(&children, "source"),
                scope: reader.code(&children, "scope", Scope::from_cap),
                restriction: reader.one(&children, "restriction"),
                addresses: reader.one(&children, "addresses").map(|text| Group::parse(&text)),
                codes: reader.many(&children, "code"),
                note: reader.one(&children, "note"),
                references,
                incidents: reader.one(&children, "incidents").map(|text| Group::parse(&text)),
                infos,
                signatures,
            })
        };
        // Every info is read, so that the faults of all are seen.
        let infos: Vec<Option<Info>> =
            children.all("info").into_iter().map(|(node, path)| self.info(node, path)).collect();
        alert(infos.into_iter().flatten().collect(), self)
    }

    /// Elements of the XML-DSig namespace at the end of the message.
    fn signatures(&mut self, node: Node<'_, '_>) -> Vec<String> {
        let is_signature = |node: &Node<'_, '_>| node.tag_name().namespace() == Some(signature::NAMESPACE);
        let elements = || node.children().filter(Node::is_element);
        let first = elements().position(|child| is_signature(&child)).unwrap_or(usize::MAX);
        if elements().skip(first).any(|child| !is_signature(&child)) {
            let reason = "a signature stands before other elements; put it at the end of the message";
            self.fault("alert.Signature[0]", FaultCode::ElementOrder, reason);
        }
        elements().filter(is_signature).map(|child| signature::fragment(child, self.text)).collect()
    }

    fn info(&mut self, node: Node<'_, '_>, path: String) -> Option<Info> {
        let slots = if self.version == CapVersion::V1_0 { INFO_1_0 } else { INFO };
        let children = self.children(node, path, slots);
        let event = self.one(&children, "event");
        let urgency = self.code(&children, "urgency", Urgency::from_cap);
        let severity = self.code(&children, "severity", Severity::from_cap);
        let certainty = self.code(&children, "certainty", Certainty::from_cap);
        let language = self.one(&children, "language");
        let categories = self.codes(&children, "category", Category::from_cap);
        let response_types = self.codes(&children, "responseType", ResponseType::from_cap);
        let (event_codes, parameters) = (self.pairs(&children, "eventCode"), self.pairs(&children, "parameter"));
        let times = ["effective", "onset", "expires"].map(|name| self.time(&children, name));
        let [effective, onset, expires] = times;
        let resources: Vec<Option<Resource>> =
            children.all("resource").into_iter().map(|(node, path)| self.resource(node, path)).collect();
        let areas: Vec<Option<Area>> =
            children.all("area").into_iter().map(|(node, path)| self.area(node, path)).collect();
        Some(Info {
            language,
            categories,
            event: event?,
            response_types,
            urgency: urgency?,
            severity: severity?,
            certainty: certainty?,
            audience: self.one(&children, "audience"),
            event_codes,
            effective,
            onset,
            expires,
            sender_name: self.one(&children, "senderName"),
            headline: self.one(&children, "headline"),
            description: self.one(&children, "description"),
            instruction: self.one(&children, "instruction"),
            web: self.one(&children, "web"),
            contact: self.one(&children, "contact"),
            parameters,
            resources: resources.into_iter().flatten().collect(),
            areas: areas.into_iter().flatten().collect(),
        })
    }

    fn resource(&mut self, node: Node<'_, '_>, path: String) -> Option<Resource> {
        let slots = if self.version == CapVersion::V1_2 { RESOURCE } else { RESOURCE_1_1 };
        let children = self.children(node, path, slots);
        let size = self.number(&children, "size", Size::parse, "a whole number of bytes");
        Some(Resource {
            description: self.one(&children, "resourceDesc")?,
            mime_type: self.one(&children, "mimeType"),
            size,
            uri: self.one(&children, "uri"),
            deref_uri: self.one(&children, "derefUri"),
            digest: self.one(&children, "digest"),
        })
    }

    fn area(&mut self, node: Node<'_, '_>, path: String) -> Option<Area> {
        let children = self.children(node, path, AREA);
        let polygons = self.shapes(&children, "polygon", Polygon::parse);
        let circles = self.shapes(&children, "circle", Circle::parse);
        let geocodes = self.pairs(&children, "geocode");
        let altitude = self.number(&children, "altitude", Decimal::parse, "a decimal number of feet");
        let ceiling = self.number(&children, "ceiling", Decimal::parse, "a decimal number of feet");
        let description = self.one(&children, "areaDesc")?;
        Some(Area { description, polygons, circles, geocodes, altitude, ceiling })
    }

    /// Sorts the children of an element by name and finds the faults of order, cardinality and content.
    fn children<'a, 'i>(&mut self, node: Node<'a, 'i>, path: String, slots: Slots) -> Children<'a, 'i> {
        self.attributes(node, &path);
        let mut found: BTreeMap<&'static str, Vec<Node<'a, 'i>>> = BTreeMap::new();
        let mut reached = 0;
        for child in node.children() {
            if child.is_text() && !child.text().unwrap_or_default().trim_ascii().is_empty() {
                let reason = "text stands between elements; put it into an element or remove it";
                self.fault(&path, FaultCode::UnexpectedText, reason);
            }
            let name = child.tag_name();
            let signature = path == "alert" && name.namespace() == Some(signature::NAMESPACE);
            if !child.is_element() || signature {
                continue;
            }
            let own = name.namespace() == Some(self.namespace);
            let Some(at) = slots.iter().position(|(slot, _)| own && *slot == name.name()) else {
                let (cap, local) = (self.version, name.name());
                let reason = match name.namespace() {
                    _ if own => format!("CAP {cap} has no {local} here; remove it"),
                    namespace => {
                        format!("{local} is of namespace {:?}, not of CAP {cap}; remove it", namespace.unwrap_or(""))
                    }
                };
                self.fault(format!("{path}.{local}"), FaultCode::UnexpectedElement, reason);
                continue;
            };
            let Some(&(slot, times)) = slots.get(at) else { continue };
            if at < reached {
                let after = slots.get(reached).map_or("", |slot| slot.0);
                let reason = format!("{slot} stands after {after}; CAP has a fixed order, move it up");
                self.fault(format!("{path}.{slot}"), FaultCode::ElementOrder, reason);
            }
            reached = reached.max(at);
            let same = found.entry(slot).or_default();
            if !same.is_empty() && matches!(times, One | Maybe) {
                let reason = format!("{slot} stands more than once; keep one");
                self.fault(format!("{path}.{slot}"), FaultCode::RepeatedElement, reason);
            } else {
                same.push(child);
            }
        }
        for (slot, times) in slots {
            if matches!(times, One | Several) && !found.contains_key(slot) {
                let reason = format!("{slot} is missing; CAP {} requires it", self.version);
                self.fault(format!("{path}.{slot}"), FaultCode::MissingElement, reason);
            }
        }
        Children { path, found }
    }

    fn attributes(&mut self, node: Node<'_, '_>, path: &str) {
        for attribute in node.attributes() {
            let inert = matches!(attribute.name(), "schemaLocation" | "noNamespaceSchemaLocation");
            if !(inert && attribute.namespace() == Some(XSI)) {
                let name: String = attribute.name().chars().take(64).collect();
                let reason = format!("the attribute {name} is not part of CAP; remove it");
                self.fault(path, FaultCode::UnexpectedAttribute, reason);
            }
        }
    }

    /// The text of an element that may hold only text.
    fn leaf(&mut self, node: Node<'_, '_>, path: &str) -> String {
        self.attributes(node, path);
        if let Some(child) = node.children().find(Node::is_element) {
            let name: String = child.tag_name().name().chars().take(64).collect();
            let reason = format!("{name} stands inside an element that holds text only; write it as text");
            self.fault(format!("{path}.{name}"), FaultCode::UnexpectedElement, reason);
        }
        text_of(node)
    }

    fn one(&mut self, children: &Children<'_, '_>, name: &str) -> Option<String> {
        children.first(name).map(|(node, path)| self.leaf(node, &path))
    }

    fn many(&mut self, children: &Children<'_, '_>, name: &str) -> Vec<String> {
        children.all(name).into_iter().map(|(node, path)| self.leaf(node, &path)).collect()
    }

    fn code<T>(&mut self, children: &Children<'_, '_>, name: &str, from_cap: fn(&str) -> Option<T>) -> Option<T> {
        children.first(name).and_then(|(node, path)| self.code_at(node, path, from_cap))
    }

    fn codes<T>(&mut self, children: &Children<'_, '_>, name: &str, from_cap: fn(&str) -> Option<T>) -> Vec<T> {
        children.all(name).into_iter().filter_map(|(node, path)| self.code_at(node, path, from_cap)).collect()
    }

    fn code_at<T>(&mut self, node: Node<'_, '_>, path: String, from_cap: fn(&str) -> Option<T>) -> Option<T> {
        let text = self.leaf(node, &path);
        let value = from_cap(&text);
        if value.is_none() {
            let shown: String = text.chars().take(64).collect();
            self.fault(
                path,
                FaultCode::BadCode,
                format!("{shown:?} is not a value of CAP here; use one of the standard's"),
            );
        }
        value
    }

    fn time(&mut self, children: &Children<'_, '_>, name: &str) -> Option<DateTime> {
        let (node, path) = children.first(name)?;
        let text = self.leaf(node, &path);
        DateTime::parse(&text)
            .map_err(|error: time::Error| self.fault(path, FaultCode::BadDateTime, error.to_string()))
            .ok()
    }

    fn number<T>(
        &mut self,
        children: &Children<'_, '_>,
        name: &str,
        parse: fn(&str) -> Option<T>,
        what: &str,
    ) -> Option<T> {
        let (node, path) = children.first(name)?;
        let text = self.leaf(node, &path);
        let number = parse(&text);
        if number.is_none() {
            let shown: String = text.chars().take(64).collect();
            self.fault(path, FaultCode::BadNumber, format!("{shown:?} is not {what}"));
        }
        number
    }

    fn shapes<T>(
        &mut self,
        children: &Children<'_, '_>,
        name: &str,
        parse: fn(&str) -> Result<T, area::Error>,
    ) -> Vec<T> {
        let mut shapes = Vec::new();
        for (node, path) in children.all(name) {
            let text = self.leaf(node, &path);
            match parse(&text) {
                Ok(shape) => shapes.push(shape),
                Err(error) => {
                    let code = match &error {
                        area::Error::Point(_) => FaultCode::BadPoint,
                        area::Error::PolygonEmpty => FaultCode::PolygonEmpty,
                        area::Error::PolygonShort(_) => FaultCode::PolygonShort,
                        area::Error::PolygonOpen { .. } => FaultCode::PolygonOpen,
                        area::Error::Circle(_) => FaultCode::BadCircle,
                    };
                    self.fault(path, code, error.to_string());
                }
            }
        }
        shapes
    }

    fn pairs(&mut self, children: &Children<'_, '_>, name: &str) -> Vec<ValuePair> {
        children.all(name).into_iter().filter_map(|(node, path)| self.pair(node, path)).collect()
    }

    fn pair(&mut self, node: Node<'_, '_>, path: String) -> Option<ValuePair> {
        if self.version != CapVersion::V1_0 {
            let children = self.children(node, path, PAIR);
            let value_name = self.one(&children, "valueName");
            let value = self.one(&children, "value");
            return Some(ValuePair { value_name: value_name?, value: value? });
        }
        let text = self.leaf(node, &path);
        let pair = text.split_once('=').map(|(name, value)| ValuePair::new(name, value));
        if pair.is_none() {
            self.fault(path, FaultCode::BadValuePair, "CAP 1.0 writes a code as name=value; put the = in");
        }
        pair
    }
}
