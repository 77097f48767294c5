//! CAP's code values both ways. Every `_UNSPECIFIED` is refused, with the reason that belongs to it.

use campanile_alert as domain;

use crate::alert::v1 as wire;

/// Pairs each value of a domain enum with its namesake on the wire, so that neither can gain one unseen.
macro_rules! pairs {
    (
        $(#[$to_doc:meta])* $to_vis:vis $to:ident, $(#[$from_doc:meta])* $from_vis:vis $from:ident,
        $name:ident, $omitted:literal { $($domain:ident = $wire:ident),+ $(,)? }
    ) => {
        $(#[$to_doc])*
        $to_vis fn $to(value: domain::$name) -> wire::$name {
            match value { $(domain::$name::$domain => wire::$name::$wire),+ }
        }

        $(#[$from_doc])*
        $from_vis fn $from(value: i32) -> Result<domain::$name, String> {
            match wire::$name::try_from(value) {
                $(Ok(wire::$name::$wire) => Ok(domain::$name::$domain),)+
                Ok(wire::$name::Unspecified) => Err($omitted.into()),
                Err(_) => Err(format!(
                    concat!("{} is no value of ", stringify!($name), "; the sender may use a newer protocol"),
                    value
                )),
            }
        }
    };
}

pairs! {
    /// The status on the wire.
    pub status_to_wire,
    /// Reads a status.
    ///
    /// # Errors
    /// A sentence when it is unspecified, since an omitted status never reads as Actual, or not a value at all.
    pub status_from_wire,
    Status, "the status is not given; an omitted status never reads as Actual, so say which it is" {
        Actual = Actual, Exercise = Exercise, System = System, Test = Test, Draft = Draft,
    }
}

pairs! {
    pub(super) message_type_to_wire, pub(super) message_type_from_wire,
    MessageType, "the message type is not given; say whether it is an Alert, Update, Cancel, Ack or Error" {
        Alert = Alert, Update = Update, Cancel = Cancel, Ack = Ack, Error = Error,
    }
}

pairs! {
    scope_value_to_wire, scope_value_from_wire,
    Scope, "the scope is not given; an omitted scope never reads as Public, so say for whom it is" {
        Public = Public, Restricted = Restricted, Private = Private,
    }
}

pairs! {
    pub(super) category_to_wire, pub(super) category_from_wire,
    Category, "the category is not given; leave the entry out or name one" {
        Geo = Geo, Met = Met, Safety = Safety, Security = Security, Rescue = Rescue, Fire = Fire, Health = Health,
        Env = Env, Transport = Transport, Infra = Infra, Cbrne = Cbrne, Other = Other,
    }
}

pairs! {
    pub(super) response_type_to_wire, pub(super) response_type_from_wire,
    ResponseType, "the response type is not given; leave the entry out or name one" {
        Shelter = Shelter, Evacuate = Evacuate, Prepare = Prepare, Execute = Execute, Avoid = Avoid,
        Monitor = Monitor, Assess = Assess, AllClear = AllClear, None = None,
    }
}

pairs! {
    pub(super) urgency_to_wire, pub(super) urgency_from_wire,
    Urgency, "the urgency is not given; where it is not known, say Unknown" {
        Immediate = Immediate, Expected = Expected, Future = Future, Past = Past, Unknown = Unknown,
    }
}

pairs! {
    /// The severity on the wire.
    pub severity_to_wire,
    /// Reads a severity.
    ///
    /// # Errors
    /// A sentence when it is unspecified or not a value at all.
    pub severity_from_wire,
    Severity, "the severity is not given; where it is not known, say Unknown" {
        Extreme = Extreme, Severe = Severe, Moderate = Moderate, Minor = Minor, Unknown = Unknown,
    }
}

pairs! {
    pub(super) certainty_to_wire, pub(super) certainty_from_wire,
    Certainty, "the certainty is not given; where it is not known, say Unknown" {
        Observed = Observed, VeryLikely = VeryLikely, Likely = Likely, Possible = Possible, Unlikely = Unlikely,
        Unknown = Unknown,
    }
}

pairs! {
    pub(super) version_to_wire, version_value_from_wire,
    CapVersion, "the version is not given" {
        V1_0 = CapVersion10, V1_1 = CapVersion11, V1_2 = CapVersion12,
    }
}

/// An omitted version reads as the one the bus writes.
pub(super) fn version_from_wire(value: i32) -> Result<domain::CapVersion, String> {
    if value == i32::from(wire::CapVersion::Unspecified) {
        return Ok(domain::CapVersion::V1_2);
    }
    version_value_from_wire(value)
}

pub(super) fn scope_to_wire(scope: Option<domain::Scope>) -> wire::Scope {
    scope.map_or(wire::Scope::Unspecified, scope_value_to_wire)
}

/// Only CAP 1.0 let a message go without a scope.
pub(super) fn scope_from_wire(
    value: i32,
    version: Option<domain::CapVersion>,
) -> Result<Option<domain::Scope>, String> {
    if value == i32::from(wire::Scope::Unspecified) && version == Some(domain::CapVersion::V1_0) {
        return Ok(None);
    }
    scope_value_from_wire(value).map(Some)
}
