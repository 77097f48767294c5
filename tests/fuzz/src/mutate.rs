//! Changes of a seed, from a random source that the caller seeds, so that a finding can be repeated.

use rand::Rng;

/// Words that decoders of text and of protobuf treat in a way of their own.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\x80",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xef\xbb\xbf",
    b"<!DOCTYPE a [<!ENTITY b \"c\">]>",
    b"<![CDATA[",
    b"]]>",
    b"&#x1F525;",
    b"&amp;",
    b"xmlns=\"\"",
    b"encoding=\"utf-16\"",
    b"<alert>",
    b"</info><info>",
    b"-0",
    b"1e309",
    b"NaN",
    b"9223372036854775808",
    b"0000-00-00T00:00:00-00:00",
    b"9999-12-31T23:59:59+14:00",
    b"\"",
    b"\\u0000",
    b"{\"\":[",
    b"null",
    b": &a [*a, *a]",
    b"\n  - ",
    b"!!binary ",
    b"%00",
];

/// Changes `seed` in one to four places; `other` gives pieces to put in.
pub fn mutate(rng: &mut impl Rng, seed: &[u8], other: &[u8], bytes_max: usize) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=bytes.len());
        let end = rng.random_range(at..=bytes.len().min(at + 64));
        match rng.random_range(0..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                for _ in 0..rng.random_range(1..=40) {
                    bytes.splice(at..at, piece.iter().copied());
                    if bytes.len() > bytes_max {
                        break;
                    }
                }
            }
            5 if !other.is_empty() => {
                let from = rng.random_range(0..other.len());
                let to = rng.random_range(from..=other.len().min(from + 256));
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
            _ => {
                let word = WORDS[rng.random_range(0..WORDS.len())];
                drop(bytes.splice(at..at, word.iter().copied()));
            }
        }
    }
    bytes.truncate(bytes_max);
    bytes
}
