//! Where in a message something stands, as a chain on the stack: written out only when there is a fault to name.

use std::fmt;

/// A place in a message from the wire.
#[derive(Debug, Clone, Copy)]
pub(super) enum Path<'a> {
    /// The outermost name, for example `alert`.
    Root(&'a str),
    /// A field of the message at the first place.
    Field(&'a Path<'a>, &'static str),
    /// A member, counted from 0, of a repeated field.
    Item(&'a Path<'a>, &'static str, usize),
}

impl<'a> Path<'a> {
    pub(super) fn field(&'a self, name: &'static str) -> Path<'a> {
        Path::Field(self, name)
    }

    pub(super) fn item(&'a self, name: &'static str, at: usize) -> Path<'a> {
        Path::Item(self, name, at)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, name, at) => write!(f, "{parent}.{name}[{at}]"),
        }
    }
}
