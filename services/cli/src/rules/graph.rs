//! `rules graph`: what can trigger what in the whole federation, from the manifests that a node has verified.
//!
//! Nodes are rules, an edge runs from a rule to one that waits for its event and trusts its department. `--why A B` says
//! whether something of A can lead to B, by the shortest way; A and B are rules, events or departments.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use campanile_client::rules::{Graph, GraphRule};
use serde::Serialize;

use crate::connect::Connect;
use crate::failure::{Answer, Verdict, failure};
use crate::out::Out;

/// What `rules graph` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Can the first lead to the second? Each is a rule, an event or a department
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    why: Option<Vec<String>>,
    /// How to draw it; absent means a list
    #[arg(long, value_enum, conflicts_with = "why")]
    format: Option<Format>,
    #[command(flatten)]
    connect: Connect,
}

/// A way to draw the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Graphviz
    Dot,
    /// Mermaid, for Markdown
    Mermaid,
    /// A page that needs nothing else
    Html,
}

/// Shows the graph, or a way through it.
///
/// # Errors
/// When the node cannot be reached or refuses, or a name is not in the graph.
pub(super) async fn run(args: Args, out: Out) -> Answer {
    let graph = args.connect.client().await?.graph().await?;
    let edges = edges(&graph.rules);
    if let Some([from, to]) = args.why.as_deref() {
        return why(&graph, &edges, from, to, out);
    }
    match args.format {
        Some(Format::Dot) => out.bytes(dot(&graph, &edges).as_bytes())?,
        Some(Format::Mermaid) => out.bytes(mermaid(&graph, &edges).as_bytes())?,
        Some(Format::Html) => out.bytes(html(&graph, &edges).as_bytes())?,
        None => out.show(&Drawn::of(&graph, &edges), lines)?,
    }
    Ok(Verdict::of(graph.faults.is_empty()))
}

/// For each rule the rules that it can trigger, by their places in the list.
type Edges = Vec<Vec<usize>>;

fn edges(rules: &[GraphRule]) -> Edges {
    let mut waiting: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, rule) in rules.iter().enumerate() {
        for event in &rule.cause_events {
            waiting.entry(event).or_default().push(index);
        }
    }
    let listeners = |rule: &GraphRule| -> Vec<usize> {
        let waiting = waiting.get(rule.effect_event.as_str()).into_iter().flatten().copied();
        waiting.filter(|&index| rules.get(index).is_some_and(|r| r.cause_from.contains(&rule.department))).collect()
    };
    rules.iter().map(listeners).collect()
}

/// The graph with its edges, for `--json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Drawn<'g> {
    rules: &'g [GraphRule],
    edges: Vec<(&'g str, &'g str)>,
    /// How many rules the longest chain has; absent when there is a circle.
    depth: Option<usize>,
    faults: &'g [String],
}

impl<'g> Drawn<'g> {
    fn of(graph: &'g Graph, edges: &Edges) -> Self {
        let name = |index: &usize| graph.rules.get(*index).map(|rule| rule.id.as_str());
        let pairs = edges.iter().enumerate().flat_map(|(from, to)| to.iter().map(move |to| (from, *to)));
        let pairs = pairs.filter_map(|(from, to)| Some((name(&from)?, name(&to)?)));
        Self { rules: &graph.rules, edges: pairs.collect(), depth: depth(edges), faults: &graph.faults }
    }
}

/// The length of the longest chain: rules without triggers before them first, until none is left.
fn depth(edges: &Edges) -> Option<usize> {
    let mut before = vec![0_usize; edges.len()];
    for &to in edges.iter().flatten() {
        if let Some(count) = before.get_mut(to) {
            *count += 1;
        }
    }
    let mut depths = vec![1_usize; edges.len()];
    let mut free: VecDeque<usize> = (0..edges.len()).filter(|&index| before.get(index) == Some(&0)).collect();
    let mut done = 0;
    while let Some(from) = free.pop_front() {
        done += 1;
        let depth = depths.get(from).copied().unwrap_or(1);
        for &to in edges.get(from).into_iter().flatten() {
            if let (Some(there), Some(count)) = (depths.get_mut(to), before.get_mut(to)) {
                *there = (*there).max(depth + 1);
                *count -= 1;
                if *count == 0 {
                    free.push_back(to);
                }
            }
        }
    }
    (done == edges.len()).then(|| depths.into_iter().max().unwrap_or_default())
}

fn lines(drawn: &Drawn<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for rule in drawn.rules {
        let (events, from) = (rule.cause_events.join(" or "), rule.cause_from.join(" or "));
        let back = if rule.fallback { "  (only after a rollback)" } else { "" };
        lines.push(format!("{}  {events} of {from} -> {}{back}", rule.id, rule.effect_event));
    }
    lines.extend(drawn.edges.iter().map(|(from, to)| format!("{from} can trigger {to}")));
    match drawn.depth {
        Some(depth) => lines.push(format!("{} rules, the longest chain has {depth}", drawn.rules.len())),
        None => lines.push(format!("{} rules, and some go round in a circle", drawn.rules.len())),
    }
    lines.extend(drawn.faults.iter().map(|fault| format!("error: {fault}")));
    lines
}

/// The answer to `--why`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Way<'g> {
    possible: bool,
    /// The rules on the shortest way, the first first.
    way: Vec<&'g GraphRule>,
}

fn why(graph: &Graph, edges: &Edges, from: &str, to: &str, out: Out) -> Answer {
    let rules = &graph.rules;
    let is_event =
        |name: &str| rules.iter().any(|r| r.effect_event == name || r.cause_events.iter().any(|e| e == name));
    let known = |name: &str| {
        is_event(name)
            || rules.iter().any(|r| r.id == name || r.department == name || r.cause_from.iter().any(|f| f == name))
    };
    for name in [from, to] {
        if !known(name) {
            let what = format!("no rule of the federation names {:?}", name.chars().take(60).collect::<String>());
            return Err(failure(what, "give a rule, an event or a department as `campanile rules graph` lists them"));
        }
    }
    let begins = |r: &GraphRule| {
        r.id == from || r.cause_events.iter().any(|e| e == from) || r.cause_from.iter().any(|f| f == from)
    };
    let ends = |r: &GraphRule| r.id == to || r.effect_event == to || r.department == to;
    let places = |fits: &dyn Fn(&GraphRule) -> bool| -> BTreeSet<usize> {
        rules.iter().enumerate().filter(|(_, rule)| fits(rule)).map(|(index, _)| index).collect()
    };
    let way = shortest(edges, &places(&begins), &places(&ends));
    let found = Way { possible: way.is_some(), way: way.iter().flatten().filter_map(|&at| rules.get(at)).collect() };
    out.show(&found, |found| {
        if !found.possible {
            return vec![format!("no: nothing of {from} can lead to {to}")];
        }
        let steps = found.way.iter().map(|rule| format!("{} issues {}", rule.id, rule.effect_event));
        let through_rollback = found.way.iter().any(|rule| rule.fallback);
        let when = if through_rollback { " after a rollback" } else { "" };
        vec![format!("yes{when}: {from} -> {}", steps.collect::<Vec<_>>().join(" -> "))]
    })?;
    Ok(Verdict::Passed)
}

/// The shortest way from one of `from` to one of `to`, both ends included.
fn shortest(edges: &Edges, from: &BTreeSet<usize>, to: &BTreeSet<usize>) -> Option<Vec<usize>> {
    let mut came: BTreeMap<usize, Option<usize>> = from.iter().map(|&at| (at, None)).collect();
    let mut line: VecDeque<usize> = from.iter().copied().collect();
    while let Some(at) = line.pop_front() {
        if to.contains(&at) {
            let mut way = vec![at];
            while let Some(Some(before)) = way.last().and_then(|last| came.get(last)) {
                way.push(*before);
            }
            way.reverse();
            return Some(way);
        }
        for &next in edges.get(at).into_iter().flatten() {
            came.entry(next).or_insert_with(|| {
                line.push_back(next);
                Some(at)
            });
        }
    }
    None
}

/// Text that means itself in the drawings: ids of manifests come from other departments.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ')).collect()
}

fn dot(graph: &Graph, edges: &Edges) -> String {
    let mut text = String::from("digraph rules {\n  rankdir=LR;\n  node [shape=box];\n");
    for (index, rule) in graph.rules.iter().enumerate() {
        let style = if rule.fallback { ", style=dashed" } else { "" };
        let label = format!("{}\\n{}", plain(&rule.id), plain(&rule.effect_event));
        // Writing into a String cannot fail.
        let _done = writeln!(text, "  r{index} [label=\"{label}\"{style}];");
    }
    for (from, to) in edges.iter().enumerate().flat_map(|(from, to)| to.iter().map(move |to| (from, to))) {
        let event = graph.rules.get(from).map(|rule| plain(&rule.effect_event)).unwrap_or_default();
        let _done = writeln!(text, "  r{from} -> r{to} [label=\"{event}\"];");
    }
    text.push_str("}\n");
    text
}

fn mermaid(graph: &Graph, edges: &Edges) -> String {
    let mut text = String::from("flowchart LR\n");
    for (index, rule) in graph.rules.iter().enumerate() {
        let back = if rule.fallback { " only after a rollback" } else { "" };
        let _done = writeln!(text, "  r{index}[\"{}{back}\"]", plain(&rule.id));
    }
    for (from, to) in edges.iter().enumerate().flat_map(|(from, to)| to.iter().map(move |to| (from, to))) {
        let event = graph.rules.get(from).map(|rule| plain(&rule.effect_event)).unwrap_or_default();
        let _done = writeln!(text, "  r{from} -->|{event}| r{to}");
    }
    text
}

fn html(graph: &Graph, edges: &Edges) -> String {
    let name = |index: usize| graph.rules.get(index).map(|rule| escaped(&rule.id)).unwrap_or_default();
    let mut text = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Rules of the federation</title>\n\
         <style>body{font:16px sans-serif;margin:2em}td,th{padding:.3em .8em;text-align:left;vertical-align:top;\
         border-bottom:1px solid #ccc}.fault{color:#a00}</style>\n<h1>Rules of the federation 聯邦規則</h1>\n\
         <table><tr><th>Rule 規則<th>Waits for 等候<th>Of 來自<th>Issues 發出<th>Can trigger 可觸發</tr>\n",
    );
    for (index, rule) in graph.rules.iter().enumerate() {
        let next: Vec<String> =
            edges.get(index).into_iter().flatten().map(|&to| format!("<a href=\"#r{to}\">{}</a>", name(to))).collect();
        let back = if rule.fallback { " (only after a rollback 只在回復後)" } else { "" };
        let _done = writeln!(
            text,
            "<tr id=\"r{index}\"><td>{}{back}<td>{}<td>{}<td>{}<td>{}</tr>",
            name(index),
            escaped(&rule.cause_events.join(", ")),
            escaped(&rule.cause_from.join(", ")),
            escaped(&rule.effect_event),
            next.join("<br>")
        );
    }
    text.push_str("</table>\n");
    for fault in &graph.faults {
        let _done = writeln!(text, "<p class=\"fault\">{}</p>", escaped(fault));
    }
    text.push_str("</html>\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn rule(id: &str, event: &str, from: &str, effect: &str) -> GraphRule {
        GraphRule {
            id: id.into(),
            department: id.split('.').next().unwrap().into(),
            pack: "p".into(),
            cause_events: vec![event.into()],
            cause_from: vec![from.into()],
            effect_event: effect.into(),
            fallback: false,
        }
    }

    fn chain() -> Graph {
        let rules = vec![
            rule("had.open", "weather-signal", "hko", "shelter-open"),
            rule("lcsd.close", "shelter-open", "had", "venue-closed"),
            rule("edb.fire", "fire", "fsd", "class-suspension"),
        ];
        Graph { rules, faults: Vec::new() }
    }

    #[test]
    fn a_way_is_found_by_event_department_and_rule_and_none_is_made_up() {
        let graph = chain();
        let edges = edges(&graph.rules);
        assert_eq!(edges, [vec![1], vec![], vec![]]);
        assert_eq!(depth(&edges), Some(2));
        let all = |at: &[usize]| at.iter().copied().collect();
        assert_eq!(shortest(&edges, &all(&[0]), &all(&[1])), Some(vec![0, 1]));
        assert_eq!(shortest(&edges, &all(&[2]), &all(&[1])), None);
        assert_eq!(shortest(&edges, &all(&[1]), &all(&[1])), Some(vec![1]), "a rule leads to itself");
        let circle = vec![vec![1], vec![0]];
        assert_eq!(depth(&circle), None);
        assert_eq!(shortest(&circle, &all(&[0]), &all(&[])), None, "a circle is walked once");
    }

    #[test]
    fn names_of_other_departments_cannot_leave_their_place_in_a_drawing() {
        let mut graph = chain();
        graph.rules[0].id = "had.\"];evil[<script>".into();
        let edges = edges(&graph.rules);
        assert!(!html(&graph, &edges).contains("<script>"));
        assert!(dot(&graph, &edges).contains("r0 [label=\"had.evilscript\\nshelter-open\"]"));
        assert!(mermaid(&graph, &edges).contains("r0[\"had.evilscript\"]"));
        assert!(mermaid(&graph, &edges).contains("r0 -->|shelter-open| r1"));
    }
}
