//! What each signal of the Observatory means in CAP's words: urgency, severity, certainty, category, response.
//!
//! The source gives no such values, so they are decided here, once, from the published meaning of each signal. They are
//! a judgement about the signal and never about the text of one bulletin.

use campanile_alert::{Category, Certainty, ResponseType, Severity, Urgency};

/// CAP's code values for one signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) categories: Vec<Category>,
    pub(crate) urgency: Urgency,
    pub(crate) severity: Severity,
    pub(crate) certainty: Certainty,
    pub(crate) response: ResponseType,
}

/// The values of a signal; those of an unknown code say Unknown, since the source may add a code at any time.
#[rustfmt::skip]
pub(crate) fn meaning(code: &str) -> Meaning {
    use Certainty::{Likely, Possible};
    use ResponseType::{Avoid, Execute, Monitor, Prepare, Shelter};
    use Severity::{Extreme, Minor, Moderate, Severe};
    use Urgency::{Expected, Future, Immediate};
    let met = || vec![Category::Met];
    let (categories, urgency, severity, certainty, response) = match code {
        "TC1" => (met(), Future, Minor, Possible, Monitor),
        "TC3" => (met(), Expected, Moderate, Likely, Prepare),
        "TC8NE" | "TC8SE" | "TC8NW" | "TC8SW" => (met(), Immediate, Severe, Likely, Shelter),
        "TC9" | "TC10" => (met(), Immediate, Extreme, Likely, Shelter),
        "WTCPRE8" => (met(), Future, Severe, Likely, Execute),
        "WRAINA" => (met(), Expected, Moderate, Likely, Monitor),
        "WRAINR" => (met(), Immediate, Severe, Likely, Shelter),
        "WRAINB" => (met(), Immediate, Extreme, Likely, Shelter),
        "WTS" => (met(), Expected, Moderate, Likely, Monitor),
        "WL" => (vec![Category::Geo], Expected, Severe, Likely, Avoid),
        "WFNTSA" => (met(), Immediate, Severe, Likely, Avoid),
        "WMSGNL" => (met(), Expected, Moderate, Likely, Prepare),
        "WFROST" => (met(), Future, Minor, Likely, Prepare),
        "WHOT" | "WCOLD" => (vec![Category::Met, Category::Health], Expected, Moderate, Likely, Prepare),
        "WFIREY" => (vec![Category::Fire], Future, Minor, Possible, Monitor),
        "WFIRER" => (vec![Category::Fire], Expected, Moderate, Possible, Avoid),
        "WTMW" => (vec![Category::Geo], Immediate, Extreme, Likely, Avoid),
        _ => (met(), Urgency::Unknown, Severity::Unknown, Certainty::Unknown, Monitor),
    };
    Meaning { categories, urgency, severity, certainty, response }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use campanile_alert::vocabulary;

    #[test]
    fn every_signal_of_the_vocabulary_has_a_meaning_and_its_category() {
        for signal in vocabulary::v1().signals() {
            let meaning = meaning(&signal.code);
            assert_ne!(meaning.severity, Severity::Unknown, "{}", signal.code);
            assert!(meaning.categories.contains(&signal.category), "{}", signal.code);
        }
        assert_eq!(meaning("WNEW").severity, Severity::Unknown);
    }

    #[test]
    fn a_higher_level_of_a_scale_is_never_milder() {
        let vocabulary = vocabulary::v1();
        for a in vocabulary.signals() {
            for b in vocabulary.signals().filter(|b| b.scale.is_some() && b.scale == a.scale && b.level >= a.level) {
                assert!(meaning(&b.code).severity <= meaning(&a.code).severity, "{} and {}", a.code, b.code);
            }
        }
    }
}
