//! From bytes to text, and the checks that come before the parser: no document type, bounded depth and counts.
//!
//! The scan is one pass over the text without memory of it, so a hostile document costs no more than its length. It
//! does not judge well-formedness; the parser does that afterwards.

use std::ops::Range;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::{Limits, ReadError};

/// Attributes of one element; the parser compares each with each.
const ATTRIBUTES_MAX: usize = 64;
/// Namespace declarations in scope at once; the parser copies them for each element that declares another.
const NAMESPACES_MAX: usize = 64;

/// A document's text, and what is needed to find its bytes again.
pub(super) struct Source {
    /// The decoded text, without a byte order mark.
    pub(super) text: String,
    encoding: &'static Encoding,
    /// A place known in both: (offset in the text, offset in the bytes). It only moves forward.
    mark: (usize, usize),
}

impl Source {
    /// Decodes a document: by its byte order mark, else by its XML declaration, else as UTF-8.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        let (encoding, bom) = match Encoding::for_bom(bytes) {
            Some(found) => found,
            None => (declared(bytes)?, 0),
        };
        let body = bytes.get(bom..).unwrap_or_default();
        let text = encoding
            .decode_without_bom_handling_and_without_replacement(body)
            .ok_or(ReadError::Undecodable(encoding.name()))?;
        Ok(Self { text: text.into_owned(), encoding, mark: (0, bom) })
    }

    pub(super) fn is_utf8(&self) -> bool {
        self.encoding == UTF_8
    }

    pub(super) fn encoding_name(&self) -> &'static str {
        self.encoding.name()
    }

    /// The source bytes of a range of the text. Ranges must come in order.
    ///
    /// The bytes are decoded again and compared, since some encodings write one text in several ways.
    pub(super) fn cut(&mut self, bytes: &[u8], text: &str, range: Range<usize>) -> Result<Vec<u8>, ReadError> {
        let start = self.forward(text, range.start)?;
        let end = self.forward(text, range.end)?;
        let cut = bytes.get(start..end).unwrap_or_default();
        let again = self.encoding.decode_without_bom_handling_and_without_replacement(cut);
        if again.as_deref() != text.get(range) {
            return Err(ReadError::Undecodable(self.encoding.name()));
        }
        Ok(cut.to_vec())
    }

    /// Moves the mark to an offset of the text and gives the offset of the bytes.
    fn forward(&mut self, text: &str, to: usize) -> Result<usize, ReadError> {
        let piece = text.get(self.mark.0..to).ok_or(ReadError::Undecodable(self.encoding.name()))?;
        let length = if self.is_utf8() {
            piece.len()
        } else if self.encoding.is_single_byte() {
            piece.chars().count()
        } else if self.encoding == UTF_16LE || self.encoding == UTF_16BE {
            piece.encode_utf16().count() * 2
        } else {
            self.encoding.encode(piece).0.len()
        };
        self.mark = (to, self.mark.1 + length);
        Ok(self.mark.1)
    }
}

/// The encoding that the XML declaration names; UTF-8 when there is none.
fn declared(bytes: &[u8]) -> Result<&'static Encoding, ReadError> {
    let head: String = bytes.iter().take(256).map(|&b| char::from(b)).collect();
    let Some(declaration) = head.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")).map(|parts| parts.0)
    else {
        return Ok(UTF_8);
    };
    let Some((_, rest)) = declaration.split_once("encoding") else { return Ok(UTF_8) };
    let quoted = rest.trim_start().strip_prefix('=').map(str::trim_start).unwrap_or_default();
    let label = quoted.strip_prefix(['"', '\'']).and_then(|rest| rest.split(['"', '\'']).next()).unwrap_or_default();
    // A UTF-16 document without a byte order mark cannot show a readable declaration, so such a label is a lie.
    match Encoding::for_label(label.as_bytes()) {
        Some(encoding) if encoding != UTF_16LE && encoding != UTF_16BE => Ok(encoding),
        _ => Err(ReadError::Encoding(label.chars().take(32).collect())),
    }
}

/// Refuses a document type, too many levels, elements, attributes or namespaces; gives the root's local name.
pub(super) fn check<'a>(text: &'a str, limits: &Limits) -> Result<&'a str, ReadError> {
    let nodes_max = usize::try_from(limits.nodes_max).unwrap_or(usize::MAX);
    let mut root = None;
    let mut elements = 0_usize;
    // Namespace declarations of each open element; its length is the depth.
    let mut open: Vec<usize> = Vec::new();
    let mut in_scope = 0_usize;
    let mut at = 0_usize;
    while let Some(rest) = text.get(at..).and_then(|rest| rest.find('<').and_then(|lt| rest.get(lt..))) {
        let start = text.len() - rest.len();
        let skip_past = |end: &str| rest.find(end).map(|found| start + found + end.len());
        let next = if rest.starts_with("<!--") {
            // The end may not share its hyphens with the beginning.
            rest.get(4..).and_then(|body| body.find("-->")).map(|found| start + 4 + found + 3)
        } else if rest.starts_with("<![CDATA[") {
            skip_past("]]>")
        } else if rest.starts_with("<?") {
            skip_past("?>")
        } else if rest.starts_with("<!") {
            return Err(ReadError::Dtd);
        } else if rest.starts_with("</") {
            in_scope -= open.pop().unwrap_or_default();
            skip_past(">")
        } else {
            let tag = Tag::scan(rest);
            elements += 1;
            root.get_or_insert(tag.local_name);
            in_scope += tag.namespaces;
            for (what, count, limit) in [
                ("elements", elements, nodes_max),
                ("attributes on one element", tag.attributes, ATTRIBUTES_MAX),
                ("namespaces in scope", in_scope, NAMESPACES_MAX),
            ] {
                if count > limit {
                    return Err(ReadError::TooMany { what, limit });
                }
            }
            if tag.empty {
                in_scope -= tag.namespaces;
            } else {
                open.push(tag.namespaces);
            }
            if open.len() > limits.depth_max {
                return Err(ReadError::TooDeep(limits.depth_max));
            }
            tag.length.map(|length| start + length)
        };
        // Without an end the parser will say where and why.
        let Some(next) = next else { break };
        at = next;
    }
    Ok(root.unwrap_or_default())
}

/// A start tag as the scan sees it.
pub(super) struct Tag<'a> {
    pub(super) local_name: &'a str,
    pub(super) attributes: usize,
    pub(super) namespaces: usize,
    /// Prefixes that it declares; the empty one is the default namespace.
    pub(super) prefixes: Vec<&'a str>,
    /// Whether it ends in `/>`.
    pub(super) empty: bool,
    /// Bytes up to and with its `>`; `None` when it does not end.
    pub(super) length: Option<usize>,
    /// Bytes of `<` and the name.
    pub(super) name_end: usize,
}

impl<'a> Tag<'a> {
    /// Scans from the `<` of a start tag.
    pub(super) fn scan(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let is_end = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'>' | b'/');
        let name_end = bytes.iter().skip(1).position(is_end).map_or(bytes.len(), |found| found + 1);
        let name = text.get(1..name_end).unwrap_or_default();
        let local_name = name.rsplit(':').next().unwrap_or_default();
        let mut tag = Self {
            local_name,
            attributes: 0,
            namespaces: 0,
            prefixes: Vec::new(),
            empty: false,
            length: None,
            name_end,
        };
        let mut quote = None;
        let mut word = name_end;
        for (at, &b) in bytes.iter().enumerate().skip(name_end) {
            match (quote, b) {
                (Some(open), b) if b == open => {
                    quote = None;
                    word = at + 1;
                }
                (Some(_), _) => {}
                (None, b'"' | b'\'') => quote = Some(b),
                (None, b'=') => tag.attribute(text.get(word..at).unwrap_or_default().trim_ascii()),
                (None, b'>') => {
                    tag.empty = at > 0 && bytes.get(at - 1) == Some(&b'/');
                    tag.length = Some(at + 1);
                    break;
                }
                _ => {}
            }
        }
        tag
    }

    fn attribute(&mut self, name: &'a str) {
        self.attributes += 1;
        let prefix = if name == "xmlns" { Some("") } else { name.strip_prefix("xmlns:") };
        if let Some(prefix) = prefix {
            self.namespaces += 1;
            if self.namespaces <= NAMESPACES_MAX {
                self.prefixes.push(prefix);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn scan_finds_root_name_and_is_not_fooled_by_comments_and_quotes() {
        let text =
            "<?xml version='1.0'?><!-- <!DOCTYPE x> --><a:feed t='>' xmlns:a=\"u\"><b/><![CDATA[<!DOCTYPE]]></a:feed>";
        assert_eq!(check(text, &Limits::default()), Ok("feed"));
    }

    #[test]
    fn scan_refuses_a_document_type_depth_and_crowds() {
        let limits = Limits { depth_max: 3, nodes_max: 10, ..Limits::default() };
        assert_eq!(check("<!DOCTYPE a><a/>", &limits), Err(ReadError::Dtd));
        assert_eq!(check("<a><a><a><a/></a></a></a>", &limits), Ok("a"));
        assert_eq!(check("<a><a><a><a></a></a></a></a>", &limits), Err(ReadError::TooDeep(3)));
        assert!(matches!(check(&"<a/>".repeat(11), &limits), Err(ReadError::TooMany { what: "elements", .. })));
        let crowd: String = (0..65).map(|k| format!(" a{k}=''")).collect();
        assert!(matches!(check(&format!("<a{crowd}/>"), &limits), Err(ReadError::TooMany { .. })));
        let names: String = (0..40).map(|k| format!(" xmlns:n{k}='u'")).collect();
        let nested = format!("<a{names}><a{names}/></a>");
        assert!(matches!(check(&nested, &limits), Err(ReadError::TooMany { what: "namespaces in scope", .. })));
        let apart = format!("<a><a{names}/><a{names}></a><a{names}/></a>");
        assert_eq!(check(&apart, &limits), Ok("a"));
    }

    #[test]
    fn encoding_comes_from_mark_then_declaration_then_utf8() {
        let text = |bytes: &[u8]| Source::decode(bytes).map(|source| source.text);
        assert_eq!(text(b"\xEF\xBB\xBF<a/>").as_deref(), Ok("<a/>"));
        assert_eq!(text(b"\xFF\xFE<\0a\0/\0>\0").as_deref(), Ok("<a/>"));
        assert_eq!(
            text(b"<?xml version='1.0' encoding='ISO-8859-1'?>\xE9").as_deref().unwrap().chars().last(),
            Some('é')
        );
        assert_eq!(text(b"<a>\xE9</a>"), Err(ReadError::Undecodable("UTF-8")));
        assert!(matches!(text(b"<?xml encoding='utf-16'?><a/>"), Err(ReadError::Encoding(_))));
        assert!(matches!(text(b"<?xml encoding='martian'?><a/>"), Err(ReadError::Encoding(_))));
    }

    #[test]
    fn cut_finds_the_bytes_again_in_every_kind_of_encoding() {
        let whole = "<r>é香<a>港</a></r>";
        let mut utf16 = vec![0xFF, 0xFE];
        utf16.extend(whole.encode_utf16().flat_map(u16::to_le_bytes));
        let big5 = format!("<?xml version='1.0' encoding='big5'?>{}", whole.replace('é', ""));
        for bytes in [whole.as_bytes().to_vec(), utf16, encoding_rs::BIG5.encode(&big5).0.into_owned()] {
            let mut source = Source::decode(&bytes).unwrap();
            let text = std::mem::take(&mut source.text);
            let range = text.find("<a>").unwrap()..text.find("</r>").unwrap();
            let cut = source.cut(&bytes, &text, range).unwrap();
            assert_eq!(source.encoding.decode_without_bom_handling(&cut).0, "<a>港</a>");
        }
    }
}
