//! What to publish, and where it came to stand.

use bytes::Bytes;
use campanile_alert::{Alert, AlertId, DepartmentId, ExerciseId};
use campanile_proto::bus::v1 as bus;
use campanile_proto::convert;
use serde::Serialize;

use crate::Error;
use crate::values::Position;

/// An alert on its way to the node.
#[derive(Debug, Clone)]
pub struct Publish(bus::PublishRequest);

impl Publish {
    /// Publishes a typed message.
    pub fn alert(alert: &Alert) -> Self {
        Self::content(bus::publish_request::Content::Alert(convert::alert_to_wire(alert)))
    }

    /// Publishes a CAP message in XML; its bytes are kept as they are.
    pub fn cap_xml(xml: impl Into<Bytes>) -> Self {
        Self::content(bus::publish_request::Content::CapXml(xml.into()))
    }

    fn content(content: bus::publish_request::Content) -> Self {
        Self(bus::PublishRequest { content: Some(content), ..bus::PublishRequest::default() })
    }

    /// Names the exercise: required when the status is Exercise, refused when it is Actual.
    #[must_use]
    pub fn exercise(mut self, exercise: &ExerciseId) -> Self {
        self.0.exercise_id = Some(exercise.to_string());
        self
    }

    /// Names the departments that may read it when the scope is Restricted or Private.
    #[must_use]
    pub fn audience(mut self, departments: &[DepartmentId]) -> Self {
        self.0.audience_departments = departments.iter().map(ToString::to_string).collect();
        self
    }

    /// Names the source whose mapping table classifies a foreign message.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.0.source = source.into();
        self
    }

    pub(crate) fn request(&self) -> bus::PublishRequest {
        self.0.clone()
    }
}

/// Where an alert stands, on the disk of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The identity of the alert.
    pub id: AlertId,
    /// The position of its record.
    pub position: Position,
    /// It had been published before with the same content; this is the first answer.
    pub duplicate: bool,
    /// W3C trace context of the alert; empty where the node gives none.
    pub traceparent: String,
    /// How many attempts it took.
    pub attempts: u32,
}

impl Published {
    pub(crate) fn from_wire(
        id: Option<bus::AlertRef>,
        position: Option<bus::Position>,
        attempts: u32,
    ) -> Result<Self, Error> {
        let id = convert::alert_id_from_wire(id).map_err(Error::answer)?;
        let position = Position::from_wire(position, "position").map_err(|fault| Error::answer(vec![fault]))?;
        Ok(Self { id, position, duplicate: false, traceparent: String::new(), attempts })
    }
}
