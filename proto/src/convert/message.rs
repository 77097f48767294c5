//! The CAP message both ways: alert, info, resource and named values.

use campanile_alert::{Alert, DateTime, Group, Info, References, Resource, Size, ValuePair};

use super::path::Path;
use super::shape::{Budget, area_from_wire, area_to_wire};
use super::{Fault, Faults, codes};
use crate::alert::v1 as wire;

/// The namespace of the signatures that a message may carry.
const XML_DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";

/// Writes an alert as it travels. Nothing is lost: [`alert_from_wire`] gives an equal one.
pub fn alert_to_wire(alert: &Alert) -> wire::Alert {
    wire::Alert {
        version: codes::version_to_wire(alert.version).into(),
        identifier: alert.identifier.clone(),
        sender: alert.sender.clone(),
        sent: alert.sent.text().into(),
        status: codes::status_to_wire(alert.status).into(),
        msg_type: codes::message_type_to_wire(alert.msg_type).into(),
        password: alert.password.clone(),
        source: alert.source.clone(),
        scope: codes::scope_to_wire(alert.scope).into(),
        restriction: alert.restriction.clone(),
        addresses: alert.addresses.as_ref().map(|group| group.text().into()),
        codes: alert.codes.clone(),
        note: alert.note.clone(),
        references: alert.references.as_ref().map(|references| references.text().into()),
        incidents: alert.incidents.as_ref().map(|group| group.text().into()),
        infos: alert.infos.iter().map(info_to_wire).collect(),
        signatures: alert.signatures.clone(),
    }
}

/// Reads an alert from the wire.
///
/// An omitted version reads as CAP 1.2. Whether the message is valid CAP or admissible on the bus is not judged here.
///
/// # Errors
/// Every [`Fault`], up to [`FAULTS_MAX`](super::FAULTS_MAX): an enum that is unspecified or unknown (an omitted status
/// never reads as Actual), a missing identity, a time, reference, number or shape that cannot be read, a shape whose
/// text and numbers differ, too many polygons or points, a character that XML cannot carry, a signature that is not
/// one element of XML-DSig.
pub fn alert_from_wire(alert: wire::Alert) -> Result<Alert, Vec<Fault>> {
    let mut faults = Faults::default();
    let alert = alert_at(alert, Path::Root("alert"), &mut faults);
    faults.finish(alert)
}

// Every field is read before the first `?`, so that one fault does not hide the next.
fn alert_at(alert: wire::Alert, path: Path<'_>, faults: &mut Faults) -> Option<Alert> {
    let version = faults.keep(path.field("version"), codes::version_from_wire(alert.version));
    let identifier = name_from_wire(alert.identifier, path.field("identifier"), faults);
    let sender = name_from_wire(alert.sender, path.field("sender"), faults);
    let sent = faults.keep(path.field("sent"), DateTime::try_from(alert.sent));
    let status = faults.keep(path.field("status"), codes::status_from_wire(alert.status));
    let msg_type = faults.keep(path.field("msg_type"), codes::message_type_from_wire(alert.msg_type));
    let password = optional_from_wire(alert.password, path.field("password"), faults);
    let source = optional_from_wire(alert.source, path.field("source"), faults);
    let scope = faults.keep(path.field("scope"), codes::scope_from_wire(alert.scope, version));
    let restriction = optional_from_wire(alert.restriction, path.field("restriction"), faults);
    let addresses = optional_from_wire(alert.addresses, path.field("addresses"), faults);
    let codes = texts_from_wire(alert.codes, path, "codes", faults);
    let note = optional_from_wire(alert.note, path.field("note"), faults);
    let references = references_from_wire(alert.references, path.field("references"), faults);
    let incidents = optional_from_wire(alert.incidents, path.field("incidents"), faults);
    let mut budget = Budget::default();
    let infos = each(alert.infos, |at, info| info_from_wire(info, path.item("infos", at), &mut budget, faults));
    let signatures = each(alert.signatures, |at, text| {
        let place = path.item("signatures", at);
        text_from_wire(text, place, faults).and_then(|text| signature_from_wire(text, place, faults))
    });
    Some(Alert {
        version: version?,
        identifier: identifier?,
        sender: sender?,
        sent: sent?,
        status: status?,
        msg_type: msg_type?,
        password: password?,
        source: source?,
        scope: scope?,
        restriction: restriction?,
        addresses: addresses?.map(Group::from),
        codes: codes?,
        note: note?,
        references: references?,
        incidents: incidents?.map(Group::from),
        infos: infos?,
        signatures: signatures?,
    })
}

fn info_to_wire(info: &Info) -> wire::Info {
    wire::Info {
        language: info.language.clone(),
        categories: info.categories.iter().map(|&value| codes::category_to_wire(value).into()).collect(),
        event: info.event.clone(),
        response_types: info.response_types.iter().map(|&value| codes::response_type_to_wire(value).into()).collect(),
        urgency: codes::urgency_to_wire(info.urgency).into(),
        severity: codes::severity_to_wire(info.severity).into(),
        certainty: codes::certainty_to_wire(info.certainty).into(),
        audience: info.audience.clone(),
        event_codes: pairs_to_wire(&info.event_codes),
        effective: info.effective.as_ref().map(|time| time.text().into()),
        onset: info.onset.as_ref().map(|time| time.text().into()),
        expires: info.expires.as_ref().map(|time| time.text().into()),
        sender_name: info.sender_name.clone(),
        headline: info.headline.clone(),
        description: info.description.clone(),
        instruction: info.instruction.clone(),
        web: info.web.clone(),
        contact: info.contact.clone(),
        parameters: pairs_to_wire(&info.parameters),
        resources: info.resources.iter().map(resource_to_wire).collect(),
        areas: info.areas.iter().map(area_to_wire).collect(),
    }
}

fn info_from_wire(info: wire::Info, path: Path<'_>, budget: &mut Budget, faults: &mut Faults) -> Option<Info> {
    let language = optional_from_wire(info.language, path.field("language"), faults);
    let categories =
        each(info.categories, |at, value| faults.keep(path.item("categories", at), codes::category_from_wire(value)));
    let event = text_from_wire(info.event, path.field("event"), faults);
    let response_types = each(info.response_types, |at, value| {
        faults.keep(path.item("response_types", at), codes::response_type_from_wire(value))
    });
    let urgency = faults.keep(path.field("urgency"), codes::urgency_from_wire(info.urgency));
    let severity = faults.keep(path.field("severity"), codes::severity_from_wire(info.severity));
    let certainty = faults.keep(path.field("certainty"), codes::certainty_from_wire(info.certainty));
    let audience = optional_from_wire(info.audience, path.field("audience"), faults);
    let event_codes = pairs_from_wire(info.event_codes, path, "event_codes", faults);
    let effective = time_from_wire(info.effective, path.field("effective"), faults);
    let onset = time_from_wire(info.onset, path.field("onset"), faults);
    let expires = time_from_wire(info.expires, path.field("expires"), faults);
    let sender_name = optional_from_wire(info.sender_name, path.field("sender_name"), faults);
    let headline = optional_from_wire(info.headline, path.field("headline"), faults);
    let description = optional_from_wire(info.description, path.field("description"), faults);
    let instruction = optional_from_wire(info.instruction, path.field("instruction"), faults);
    let web = optional_from_wire(info.web, path.field("web"), faults);
    let contact = optional_from_wire(info.contact, path.field("contact"), faults);
    let parameters = pairs_from_wire(info.parameters, path, "parameters", faults);
    let resources =
        each(info.resources, |at, resource| resource_from_wire(resource, path.item("resources", at), faults));
    let areas = each(info.areas, |at, area| area_from_wire(area, path.item("areas", at), budget, faults));
    Some(Info {
        language: language?,
        categories: categories?,
        event: event?,
        response_types: response_types?,
        urgency: urgency?,
        severity: severity?,
        certainty: certainty?,
        audience: audience?,
        event_codes: event_codes?,
        effective: effective?,
        onset: onset?,
        expires: expires?,
        sender_name: sender_name?,
        headline: headline?,
        description: description?,
        instruction: instruction?,
        web: web?,
        contact: contact?,
        parameters: parameters?,
        resources: resources?,
        areas: areas?,
    })
}

fn resource_to_wire(resource: &Resource) -> wire::Resource {
    wire::Resource {
        description: resource.description.clone(),
        mime_type: resource.mime_type.clone(),
        size: resource.size.as_ref().map(|size| size.text().into()),
        uri: resource.uri.clone(),
        deref_uri: resource.deref_uri.clone(),
        digest: resource.digest.clone(),
    }
}

fn resource_from_wire(resource: wire::Resource, path: Path<'_>, faults: &mut Faults) -> Option<Resource> {
    let description = text_from_wire(resource.description, path.field("description"), faults);
    let mime_type = optional_from_wire(resource.mime_type, path.field("mime_type"), faults);
    let size = resource.size.map(|text| faults.keep(path.field("size"), Size::try_from(text)));
    let uri = optional_from_wire(resource.uri, path.field("uri"), faults);
    let deref_uri = optional_from_wire(resource.deref_uri, path.field("deref_uri"), faults);
    let digest = optional_from_wire(resource.digest, path.field("digest"), faults);
    Some(Resource {
        description: description?,
        mime_type: mime_type?,
        size: match size {
            Some(size) => Some(size?),
            None => None,
        },
        uri: uri?,
        deref_uri: deref_uri?,
        digest: digest?,
    })
}

pub(super) fn pairs_to_wire(pairs: &[ValuePair]) -> Vec<wire::ValuePair> {
    let pair = |pair: &ValuePair| wire::ValuePair { value_name: pair.value_name.clone(), value: pair.value.clone() };
    pairs.iter().map(pair).collect()
}

pub(super) fn pairs_from_wire(
    pairs: Vec<wire::ValuePair>,
    path: Path<'_>,
    name: &'static str,
    faults: &mut Faults,
) -> Option<Vec<ValuePair>> {
    each(pairs, |at, pair| {
        let place = path.item(name, at);
        let value_name = text_from_wire(pair.value_name, place.field("value_name"), faults);
        let value = text_from_wire(pair.value, place.field("value"), faults);
        Some(ValuePair { value_name: value_name?, value: value? })
    })
}

/// Reads every member before it says whether one was wrong.
fn each<W, D>(members: Vec<W>, mut read: impl FnMut(usize, W) -> Option<D>) -> Option<Vec<D>> {
    let read: Vec<Option<D>> = members.into_iter().enumerate().map(|(at, member)| read(at, member)).collect();
    read.into_iter().collect()
}

/// Refuses characters that the message could never be written in XML with.
///
/// Source: XML 1.0 §2.2 `Char`.
pub(super) fn text_from_wire(text: String, path: Path<'_>, faults: &mut Faults) -> Option<String> {
    let barred =
        |c: &char| matches!(*c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    if let Some(c) = text.chars().find(barred) {
        faults.add(
            path,
            format_args!("it has the character U+{:04X}, which XML cannot carry; take it out", u32::from(c)),
        );
        return None;
    }
    Some(text)
}

/// A part of the identity: the wire does not tell empty from absent.
fn name_from_wire(text: String, path: Path<'_>, faults: &mut Faults) -> Option<String> {
    if text.is_empty() {
        faults.add(path, "it is not given; sender, identifier and sent make the identity of a message");
        return None;
    }
    text_from_wire(text, path, faults)
}

fn optional_from_wire(text: Option<String>, path: Path<'_>, faults: &mut Faults) -> Option<Option<String>> {
    match text {
        Some(text) => text_from_wire(text, path, faults).map(Some),
        None => Some(None),
    }
}

fn texts_from_wire(texts: Vec<String>, path: Path<'_>, name: &'static str, faults: &mut Faults) -> Option<Vec<String>> {
    each(texts, |at, text| text_from_wire(text, path.item(name, at), faults))
}

fn time_from_wire(text: Option<String>, path: Path<'_>, faults: &mut Faults) -> Option<Option<DateTime>> {
    match text {
        Some(text) => faults.keep(path, DateTime::try_from(text)).map(Some),
        None => Some(None),
    }
}

fn references_from_wire(text: Option<String>, path: Path<'_>, faults: &mut Faults) -> Option<Option<References>> {
    let Some(text) = optional_from_wire(text, path, faults)? else { return Some(None) };
    faults.keep(path, References::try_from(text)).map(Some)
}

/// A signature is written into the XML as it is, so it must be one whole element and nothing else.
fn signature_from_wire(text: String, path: Path<'_>, faults: &mut Faults) -> Option<String> {
    let whole = roxmltree::Document::parse(&text).is_ok_and(|document| {
        let root = document.root_element();
        root.tag_name().namespace() == Some(XML_DSIG) && root.range() == (0..text.len())
    });
    if !whole {
        faults
            .add(path, "it is not one whole element of XML-DSig; give the element alone, with its namespaces declared");
        return None;
    }
    Some(text)
}
