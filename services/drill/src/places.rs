//! Where each field of a document stands, so that a finding about a value can point at it.
//!
//! The document is read twice: once into its type, once into a tree of places. A check names a path (`injects`, 3,
//! `from`), and the tree says the line and column of what stands there, or of the nearest thing around it.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

/// A step of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// A field of a map.
    Field(&'a str),
    /// An element of a list, from 0.
    Element(usize),
}

/// A document as places.
#[derive(Debug)]
pub(crate) struct Places(Option<Spanned<Tree>>);

#[derive(Debug)]
enum Tree {
    Leaf,
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
    List(Vec<Spanned<Tree>>),
}

impl Places {
    /// Reads the places of a document; what does not parse has none.
    pub(crate) fn of(text: &str) -> Self {
        Self(serde_saphyr::from_str(text).ok())
    }

    /// Line and column of what stands at a path, both from 1; (0, 0) when not even the document has a place.
    pub(crate) fn at(&self, path: &[Step<'_>]) -> (u64, u64) {
        let Some(mut here) = self.0.as_ref() else { return (0, 0) };
        let mut place = here.referenced;
        for step in path {
            let next = match (step, &here.value) {
                (Step::Field(name), Tree::Map(fields)) => fields.iter().find(|(field, _)| field.value == *name),
                (Step::Element(index), Tree::List(elements)) => {
                    let Some(element) = elements.get(*index) else { break };
                    (here, place) = (element, element.referenced);
                    continue;
                }
                _ => break,
            };
            let Some((name, value)) = next else { break };
            // A map or list begins where its name stands; a word is pointed at itself.
            place = if matches!(value.value, Tree::Leaf) { value.referenced } else { name.referenced };
            here = value;
        }
        if place == Location::UNKNOWN { (0, 0) } else { (place.line(), place.column()) }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Tree::Map(fields))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    elements.push(element);
                }
                Ok(Tree::List(elements))
            }

            fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }

            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
        }
        from.deserialize_any(Any)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_its_place_or_the_nearest_around_it() {
        let places = Places::of("drill: a\ninjects:\n- {at: T+0m, id: i1}\n- {at: T+1m, id: 7}\n");
        let path = |index, field| [Step::Field("injects"), Step::Element(index), Step::Field(field)];
        assert_eq!(places.at(&path(1, "id")), (4, 18));
        assert_eq!(places.at(&path(1, "from")), (4, 3), "the inject, when the field is missing");
        assert_eq!(places.at(&path(9, "from")), (2, 1));
    }
}
