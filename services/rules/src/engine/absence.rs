//! Rules about silence: a cause stands, and a department that should have told the public has not.
//!
//! Silence counts only while that department is heard. When it is not, nobody can tell, and the officer reads that.

use campanile_alert::{Area, geometry};

use super::state::{CandidateKey, Heard, Known, Notice, NoticeKey, Phase, later};
use super::{Active, Engine, Step};
use crate::{Input, InputKind, Sentence, Verdict};

/// A department is heard when anything of it came in the last ten minutes.
const HEARD_S: i64 = 600;

/// How long a rule waits before it looks again at a department that is not heard.
const AGAIN_S: i64 = 300;

impl Engine {
    /// Every input says that its department is heard; a tick is nobody's.
    pub(super) fn hear(&mut self, input: &Input<'_>, step: &Step) {
        if self.listened.contains(&input.department) && !matches!(input.kind, InputKind::Tick { .. }) {
            let at = self.state.heard.get(&input.department).map_or(step.now, |heard| heard.0.max(step.now));
            self.state.heard.put(input.department.clone(), Heard(at));
        }
    }

    /// A department has told the public: rules that wait for its silence are decided again.
    pub(super) fn notice(&mut self, input: &Input<'_>, areas: &[Area], step: &mut Step) {
        let waits =
            |active: &Active| active.rule.absent.as_ref().is_some_and(|absent| absent.from.contains(&input.department));
        let rules: Vec<String> =
            self.rules.iter().filter(|(_, active)| waits(active)).map(|(id, _)| id.clone()).collect();
        let key = NoticeKey { world: input.world.clone(), hash: input.hash };
        let notice = Notice { department: input.department.clone(), areas: areas.to_vec(), time: step.time };
        self.state.notices.put(key, notice);
        for rule in rules {
            let Some(event) = self.rules.get(&rule).map(|active| active.rule.cause.event.clone()) else { continue };
            let causes = self.state.known.rows();
            let causes = causes
                .filter(|(lineage, known)| lineage.world == input.world && known.event == event && !known.expired);
            let causes: Vec<_> = causes.map(|(lineage, known)| (lineage.clone(), known.clone())).collect();
            for (lineage, known) in causes {
                let spoken = self.rules.get(&rule).and_then(|active| self.spoken(active, &lineage.world, &known));
                if let Some(why) = spoken {
                    step.note(&rule, &lineage.world, Verdict::NotMatched, why);
                    self.drop_rule(&rule, &lineage, &[], step);
                }
            }
        }
    }

    /// Whether silence can be counted and is there; otherwise it is said why not, and the rule waits or ends.
    pub(super) fn nobody_spoke(&mut self, active: &Active, key: &CandidateKey, known: &Known, step: &mut Step) -> bool {
        let (rule, world) = (&active.rule.id, &key.lineage.world);
        if let Some(why) = self.spoken(active, world, known) {
            step.note(rule, world, Verdict::NotMatched, why);
            self.drop_candidate(key, step);
            return false;
        }
        let unheard = active.rule.absent.iter().flat_map(|absent| &absent.from).find_map(|department| {
            let last = self.state.heard.get(department).map(|heard| heard.0);
            let fresh = last.is_some_and(|at| later(at, HEARD_S) >= step.now);
            (!fresh).then(|| (department.clone(), last))
        });
        let Some((department, last)) = unheard else { return true };
        let why = match last {
            Some(at) => {
                let minutes = step.now.duration_since(at).as_mins();
                Sentence::new(
                    format!("cannot tell: {department} not heard for {minutes} min"),
                    format!("未能判斷：已有 {minutes} 分鐘沒有收到 {department} 的訊息"),
                )
            }
            None => Sentence::new(
                format!("cannot tell: {department} has not been heard yet"),
                format!("未能判斷：從未收到 {department} 的訊息"),
            ),
        };
        step.note(rule, world, Verdict::Silent, why);
        let again = later(step.now, AGAIN_S);
        self.state.candidates.change(key, |candidate| candidate.phase = Phase::Holding { until: again });
        false
    }

    /// Who told the public about the cause's area since it began; `None` when nobody has.
    fn spoken(&self, active: &Active, world: &campanile_alert::World, known: &Known) -> Option<Sentence> {
        let absent = active.rule.absent.as_ref()?;
        let notices = self.state.notices.rows().filter(|(key, _)| key.world == *world).map(|(_, notice)| notice);
        let mut notices = notices.filter(|notice| absent.from.contains(&notice.department));
        let notice = notices.find(|notice| notice.time >= known.since() && overlap(&notice.areas, &known.areas))?;
        let at = crate::calendar::wall(notice.time).strftime("%H:%M").to_string();
        let who = &notice.department;
        Some(Sentence::new(
            format!("{who} told the public of the area at {at}"),
            format!("{who} 已於 {at} 通知區內市民"),
        ))
    }
}

/// Whether areas meet: the middle of one lies in the other, or they are one. Areas without a shape meet when a code or
/// description of one is the other's.
fn overlap(a: &[Area], b: &[Area]) -> bool {
    let meets = |a: &Area, b: &Area| {
        let middle = |of: &Area, other: &Area| geometry::middle(of).is_some_and(|at| geometry::contains(other, at));
        let same = a.geocodes.iter().any(|code| b.geocodes.contains(code)) || a.description == b.description;
        same || middle(a, b) || middle(b, a)
    };
    a.iter().any(|a| b.iter().any(|b| meets(a, b)))
}
