//! Signatures as XML text that stands by itself.
//!
//! The text is the source of the element, with the namespace declarations that it inherited and uses written into its
//! start tag. Prefixes and white space stay as they were, since the signed digest covers them; declarations that only the
//! envelope around the message needs are left out, so the text does not depend on where the message was found.

use super::scan::Tag;

/// The namespace of XML-DSig.
pub(super) const NAMESPACE: &str = "http://www.w3.org/2000/09/xmldsig#";

/// The element's source with its inherited namespaces declared.
pub(super) fn fragment(node: roxmltree::Node<'_, '_>, text: &str) -> String {
    let own = text.get(node.range()).unwrap_or_default();
    let tag = Tag::scan(own);
    let (head, rest) = own.split_at_checked(tag.name_end).unwrap_or((own, ""));
    let mut out = String::from(head);
    let mut declare = |prefix: &str, uri: &str| {
        if !tag.prefixes.contains(&prefix) && prefix != "xml" && uses(own, prefix) {
            let name = if prefix.is_empty() { "xmlns".into() } else { format!("xmlns:{prefix}") };
            out.push_str(&format!(" {name}=\"{}\"", super::writer::escape_attribute(uri)));
        }
    };
    for namespace in node.namespaces() {
        declare(namespace.name().unwrap_or_default(), namespace.uri());
    }
    // Without a default namespace, names without a prefix would fall into the one of the message around it.
    if node.default_namespace().is_none() {
        declare("", "");
    }
    out.push_str(rest);
    out
}

/// Whether the prefix stands before a name in a tag, or at the beginning of a value that may be such a name. It may say
/// yes to a prefix that is not used; a declaration too many does no harm.
fn uses(text: &str, prefix: &str) -> bool {
    let before = |c: char| matches!(c, '<' | '"' | '\'') || c.is_ascii_whitespace();
    prefix.is_empty()
        || text
            .match_indices(&format!("{prefix}:"))
            .any(|(at, _)| text.get(..at).and_then(|head| head.chars().next_back()).is_some_and(before))
}

/// Whether the text is exactly one well-formed element of the XML-DSig namespace, and nothing besides.
pub(crate) fn is_signature(text: &str) -> bool {
    let limits = super::Limits::default();
    let Ok(tree) = super::scan::check(text, &limits)
        .map_err(|_| ())
        .and_then(|_| roxmltree::Document::parse(text).map_err(|_| ()))
    else {
        return false;
    };
    let alone = tree.root().children().count() == 1 && tree.root_element().range() == (0..text.len());
    alone && tree.root_element().tag_name().namespace() == Some(NAMESPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_whole_element_is_a_signature() {
        let good = "<Signature xmlns='http://www.w3.org/2000/09/xmldsig#'><a/></Signature>";
        assert!(is_signature(good));
        for bad in [
            "",
            "text",
            "<Signature/>",
            "<a xmlns='x'/>",
            &format!("{good}{good}"),
            &format!("<?xml version='1.0'?>{good}"),
        ] {
            assert!(!is_signature(bad), "{bad:?} was accepted");
        }
    }
}
