//! Chinese text that names things in Latin letters: a space stands between the two, as it is set in Hong Kong.

/// Puts a space wherever a Han character meets an ASCII letter or digit, and takes it away where two Han characters meet.
pub(crate) fn spaced(text: &str) -> String {
    let is_han = |letter: char| ('\u{4e00}'..='\u{9fff}').contains(&letter);
    let mut out = String::with_capacity(text.len() + 16);
    let mut last = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let between_han = letter == ' ' && last.is_some_and(is_han) && letters.peek().copied().is_some_and(is_han);
        if between_han {
            continue;
        }
        let meets = |a: char, b: char| is_han(a) && b.is_ascii_alphanumeric();
        if last.is_some_and(|last| meets(last, letter) || meets(letter, last)) {
            out.push(' ');
        }
        out.push(letter);
        last = Some(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn latin_and_han_stand_apart_and_han_together() {
        assert_eq!(super::spaced("edb的節點 當機2次（T+1m或之前）"), "edb 的節點當機 2 次（T+1m 或之前）");
        assert_eq!(super::spaced("「海景邨」50%次序"), "「海景邨」50%次序");
    }
}
