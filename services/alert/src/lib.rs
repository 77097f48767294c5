//! The domain of Campanile: what an alert is, where it applies, when it lives, and what its words mean.
//!
//! Everything here is a value or a pure function. Nothing reads the wall clock, the network, the environment or a
//! random source, so the same input gives the same output on every node and in every replay.
//!
//! Read in this order: [`ids`] and [`time`] (the small words), [`world`], [`message`] (the CAP element list, typed),
//! [`area`] and [`geometry`] (shapes on the earth), [`vocabulary`] and [`classify`] (the closed lists, and a message in
//! their words), [`xml`] (the CAP codec), [`judge`] (CAP-valid and bus-admissible), [`live`] (which alerts are in force).

pub mod ids;
pub mod time;

pub mod area;
pub mod geometry;
pub mod message;
pub mod world;

pub mod classify;
pub mod vocabulary;

pub mod xml;

pub mod judge;
pub mod live;

#[cfg(test)]
mod testing;

pub use area::{Area, Circle, Point, Polygon};
pub use classify::{Classification, MappingTable};
pub use ids::{AlertId, DepartmentId, ExerciseId, OriginId};
pub use judge::{Fault, FaultCode};
pub use message::{
    Alert, CapVersion, Category, Certainty, Decimal, Group, Info, MessageType, References, Resource, ResponseType,
    Scope, Severity, Size, Status, Urgency, ValuePair,
};
pub use time::{Clock, DateTime, ManualClock, Timestamp};
pub use vocabulary::Vocabulary;
pub use world::World;
