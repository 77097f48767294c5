//! What a case expects, held against what happened. Every failure is a sentence that says what there was instead.

use std::collections::BTreeSet;

use campanile_alert::MessageType;

use super::document::{ExpectDoc, MatchDoc, WhyDoc};
use super::stage::Stage;
use crate::{Effect, EffectKey, Live, Pending};

/// Whether an effect's key is one that is meant.
pub(super) fn matches_key(which: &MatchDoc, key: &EffectKey) -> bool {
    let MatchDoc { fields } = which;
    let session = key.target.split_once('/').map(|(_, session)| session);
    let among = |targets: &[String]| targets.is_empty() || targets.contains(&key.target);
    fields.rule.as_ref().is_none_or(|rule| *rule == key.rule)
        && fields.effect.as_ref().is_none_or(|effect| *effect == key.effect)
        && fields.target.as_ref().is_none_or(|target| *target == key.target)
        && among(&fields.targets)
        && (fields.session.0.is_empty() || session.is_some_and(|name| fields.session.0.iter().any(|s| s == name)))
        && fields.status.as_ref().is_none_or(|status| *status == key.world.status().to_string())
}

/// Whether a message is as it is meant: its words, beside its key.
fn matches_words(which: &MatchDoc, effect: &Effect) -> bool {
    let MatchDoc { fields } = which;
    let infos = &effect.alert.infos;
    let severity = |want: &String| infos.iter().any(|info| info.severity.as_cap() == want.as_str());
    let headline = |want: &String| {
        infos.iter().any(|info| info.headline.as_ref().is_some_and(|headline| headline.contains(want.as_str())))
    };
    fields.severity.as_ref().is_none_or(severity) && fields.headline.as_ref().is_none_or(headline)
}

impl Stage {
    fn live(&self) -> Vec<Live> {
        self.engines.values().flat_map(crate::Engine::live).collect()
    }

    fn pending(&self) -> Vec<Pending> {
        self.engines.values().flat_map(crate::Engine::pending).collect()
    }

    fn fits(&self, which: &MatchDoc, live: &Live) -> bool {
        let chain = which.fields.chain.as_ref().is_none_or(|chain| {
            let names: BTreeSet<&str> =
                live.causes.iter().filter_map(|cause| self.names.get(&cause.alert)).map(String::as_str).collect();
            names == chain.iter().map(String::as_str).collect()
        });
        let kinds = which.fields.kinds.as_ref().is_none_or(|kinds| {
            let named = self.engines.values().find_map(|engine| engine.kinds(&live.effect)).unwrap_or_default();
            named == kinds.iter().cloned().collect()
        });
        let words = self.last.get(&live.effect).is_none_or(|effect| matches_words(which, effect));
        matches_key(which, &live.effect) && chain && kinds && words
    }

    /// What of an expectation is not so.
    pub(super) fn judge(&self, expect: &ExpectDoc) -> Vec<String> {
        let (live, pending) = (self.live(), self.pending());
        let mut wrong = Vec::new();
        for which in &expect.live.0 {
            for one in each_session(which) {
                if !live.iter().any(|live| self.fits(&one, live)) {
                    wrong.push(format!("{} is not in force; in force are {}", shown(&one), self.list(&live)));
                }
            }
        }
        for which in &expect.none.0 {
            if let Some(live) = live.iter().find(|live| self.fits(which, live)) {
                wrong.push(format!("{} is in force and should not be", live.effect));
            }
        }
        for which in &expect.pending.0 {
            match &which.fields.review {
                Some(effect) => {
                    let reviews: Vec<_> = self.engines.values().flat_map(crate::Engine::reviews).collect();
                    let fits = |key: &EffectKey| key.effect == *effect && matches_key(which, key);
                    if !reviews.iter().any(|review| fits(&review.effect)) {
                        wrong.push(format!("{effect} does not wait for a person to end or keep it"));
                    }
                }
                None if !pending.iter().any(|pending| asks(which, pending)) => {
                    let asked: Vec<String> = pending.iter().map(question).collect();
                    wrong.push(format!("nobody is asked about {}; asked is {}", shown(which), or_nothing(&asked)));
                }
                None => {}
            }
        }
        if let Some(role) = &expect.escalated
            && !pending.iter().any(|pending| pending.by.contains(role))
        {
            wrong.push(format!("{role} is not asked"));
        }
        wrong
    }

    /// The messages that should never have been sent.
    pub(super) fn judge_never(&self, never: &[MatchDoc]) -> Vec<String> {
        let mut wrong = Vec::new();
        for which in never {
            let sent = self.sent.iter().filter(|effect| effect.alert.msg_type != MessageType::Cancel);
            let mut hits = sent.filter(|effect| matches_key(which, &effect.key) && matches_words(which, effect));
            if let Some(effect) = hits.next() {
                wrong.push(format!("{} was sent, and never should be", effect.key));
            }
        }
        wrong
    }

    /// The messages of an effect, `effect/target`, as they were sent.
    pub(super) fn judge_sent(&self, name: &str, want: &[String]) -> Option<String> {
        let (effect, target) = name.split_once('/').unwrap_or((name, ""));
        let of = self.sent.iter().filter(|sent| sent.key.effect == effect && sent.key.target == target);
        let is: Vec<&str> = of.map(|sent| sent.alert.msg_type.as_cap()).collect();
        (is != want).then(|| format!("{name} was sent as [{}], not [{}]", is.join(", "), want.join(", ")))
    }

    pub(super) fn judge_why(&self, why: &WhyDoc) -> Option<String> {
        let about: Vec<_> = self.notes.iter().filter(|note| note.rule == why.rule).collect();
        let says = |note: &&crate::Decision| note.why.en.contains(&why.says) || note.why.zh_hant.contains(&why.says);
        if about.iter().any(says) {
            return None;
        }
        let said: Vec<String> = about.iter().map(|note| format!("“{}”", note.why.en)).collect();
        Some(format!("{} does not say “{}”; it says {}", why.rule, why.says, or_nothing(&said)))
    }

    fn list(&self, live: &[Live]) -> String {
        let names: Vec<String> = live
            .iter()
            .map(|live| {
                let kinds = self.engines.values().find_map(|engine| engine.kinds(&live.effect)).unwrap_or_default();
                let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
                let of = if kinds.is_empty() { String::new() } else { format!(" [{}]", kinds.join(", ")) };
                format!("{}/{}{of}", live.effect.effect, live.effect.target)
            })
            .collect();
        or_nothing(&names)
    }
}

/// One expectation for each session that it names: all of them must hold.
fn each_session(which: &MatchDoc) -> Vec<MatchDoc> {
    if which.fields.session.0.is_empty() {
        return vec![which.clone()];
    }
    let one = |session: &String| {
        let mut one = which.clone();
        one.fields.session.0 = vec![session.clone()];
        one
    };
    which.fields.session.0.iter().map(one).collect()
}

fn asks(which: &MatchDoc, pending: &Pending) -> bool {
    let MatchDoc { fields } = which;
    let targets: Vec<&String> = fields.targets.iter().chain(&fields.target).collect();
    fields.rule.as_ref().is_none_or(|rule| *rule == pending.rule)
        && fields.effect.as_ref().is_none_or(|effect| *effect == pending.effect)
        && targets.iter().all(|target| pending.targets.contains(target))
}

fn question(pending: &Pending) -> String {
    format!("{} about {}", pending.rule, pending.targets.join(", "))
}

fn shown(which: &MatchDoc) -> String {
    let f = &which.fields;
    let session = f.session.0.first().map(|session| format!("session {session}"));
    let kinds = f.kinds.as_ref().map(|kinds| format!("kinds [{}]", kinds.join(", ")));
    let chain = f.chain.as_ref().map(|chain| format!("chain [{}]", chain.join(", ")));
    let parts = [f.rule.clone(), f.effect.clone(), f.target.clone(), session, kinds, chain, f.severity.clone()];
    parts.into_iter().flatten().chain(f.headline.clone()).collect::<Vec<_>>().join(" ")
}

fn or_nothing(texts: &[String]) -> String {
    if texts.is_empty() { "nothing".into() } else { texts.join(", ") }
}
