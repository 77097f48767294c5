//! Signatures as XML text that stands by itself.
//!
//! The text is the source of the element, with the namespace declarations that it inherited written into its start tag:
//! the prefixes, the white space and the declarations in scope stay, since the signed digest covers them.

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
        if !tag.prefixes.contains(&prefix) && prefix != "xml" {
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
