//! The JSON Schema of a pack, so that an editor completes and checks it while it is written.
//!
//! The words come from the vocabulary, so a new event is in the schema of the release that knows it. What a schema cannot
//! say (rows that overlap, an effect of another department) is left to the checker.

use campanile_alert::{Certainty, ResponseType, Severity, Urgency, vocabulary};
use serde_json::{Map, Value, json};

use crate::table::ColumnOf;

/// The schema of `*.rules.yaml`, draft 2020-12.
pub fn pack() -> Value {
    let vocabulary = vocabulary::v1();
    let events: Vec<&str> = vocabulary.events().map(|event| event.code.as_str()).collect();
    let effects: Vec<&str> = vocabulary.events().filter(|event| event.effect).map(|e| e.code.as_str()).collect();
    let scales: Vec<&str> = vocabulary.scales().map(|scale| scale.id.as_str()).collect();
    let signals: Vec<&str> = vocabulary
        .signals()
        .map(|signal| signal.code.as_str())
        .chain(vocabulary.groups().map(|group| group.code.as_str()))
        .collect();
    let columns: Vec<&str> = ColumnOf::ALL.iter().map(|(word, _)| *word).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Campanile rule pack",
        "type": "object",
        "additionalProperties": false,
        "required": ["pack", "owner", "vocabulary", "rules"],
        "properties": {
            "pack": text("the pack's name"),
            "owner": text("the department that issues its effects"),
            "vocabulary": {"enum": [vocabulary.version()]},
            "utc-offset": text("the offset in which dates are written, +08:00 when absent"),
            "calendar": text("the data set whose keys are the days without sessions"),
            "params": map(json!({"type": "integer", "minimum": 0})),
            "kinds": map(named()),
            "areas": map(object(&["name", "polygon"], json!({"name": named(), "polygon": text("\"lat,lon lat,lon …\"")}))),
            "sessions": map(object(
                &["opens", "starts", "ends"],
                json!({
                    "name": named(), "opens": clock(), "starts": clock(), "ends": clock(), "resume-by": clock(),
                    "days": list(json!({"enum": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]})),
                }),
            )),
            "data": map(object(
                &["file", "key"],
                json!({
                    "file": text("a .json, .csv or .geojson file beside the pack"),
                    "key": object(&["field"], json!({"field": text("the column"), "first": {"type": "integer"}})),
                    "name": map(text("the column of the name")),
                    "position": object(&["lat", "lon"], json!({"lat": text("column"), "lon": text("column")})),
                }),
            )),
            "texts": map(object(
                &["zh-Hant", "en"],
                json!({
                    "zh-Hant": words(), "zh-Hans": words(), "en": words(),
                    "speech": map(text("what is spoken, by language tag")),
                }),
            )),
            "rules": list(rule(&events, &effects, &scales, &signals, &columns)),
        },
    })
}

fn rule(events: &[&str], effects: &[&str], scales: &[&str], signals: &[&str], columns: &[&str]) -> Value {
    let level =
        || object(&["at-least"], json!({"scale": {"enum": scales}, "at-least": {"type": ["integer", "string"]}}));
    let codes = |all: Vec<&str>| list(json!({"enum": all}));
    let certainty = || codes(Certainty::ALL.iter().map(|value| value.as_cap()).collect());
    let urgencies: Vec<&str> = Urgency::ALL.iter().map(|value| value.as_cap()).collect();
    let severities: Vec<&str> = Severity::ALL.iter().map(|value| value.as_cap()).collect();
    let responses: Vec<&str> = ResponseType::ALL.iter().map(|value| value.as_cap()).collect();
    let roles = || list(text("a role, for example edb.duty-officer"));
    let cell = json!({"type": ["string", "integer", "array"]});
    object(
        &["rule", "title", "source"],
        json!({
            "rule": text("its id, beginning with the owner and a full stop"),
            "title": named(),
            "source": list(object(
                &["text"],
                json!({"text": text("what is cited"), "url": text("where"), "file": text("a copy"), "sha256": text("its digest")}),
            )),
            "effective": period(),
            "cause": object(
                &["event", "from"],
                json!({
                    "event": {"enum": events}, "from": list(text("a department that is trusted")),
                    "certainty": certainty(), "urgency": codes(urgencies.clone()), "level": level(),
                    "signal": codes(signals.to_vec()), "msg": codes(vec!["Alert", "Update"]),
                    "chain": object(&["depth-at-most"], json!({"depth-at-most": {"type": "integer"}})),
                }),
            ),
            "hold": length(),
            "absent": object(
                &["record", "from", "within"],
                json!({
                    "record": {"enum": ["delivery-report"]}, "from": list(text("a department")),
                    "area": {"enum": ["overlaps-cause"]}, "reached": {"enum": ["handed"]}, "within": length(),
                }),
            ),
            "table": {"anyOf": [text("a CSV file beside the pack"), object(&[], json!({
                "file": text("a CSV file beside the pack"), "hit": {"enum": ["unique", "first", "collect"]},
                "per": {"enum": ["session"]}, "columns": map(json!({"enum": columns})), "rows": list(list(cell)),
            }))]},
            "pick": object(&["targets"], json!({
                "targets": text("a data set"), "within": text("for example 500m"), "at-most": {"type": "integer"},
                "where": map(json!({"type": ["string", "boolean", "integer"]})),
            })),
            "only-if": {"type": "string", "maxLength": crate::condition::CHARACTERS_MAX},
            "then": object(&["severity", "area"], json!({
                "issue": {"enum": effects}, "per": {"enum": ["target", "cause"]}, "status": {"enum": ["Draft"]},
                "to": roles(), "next": object(&["after", "to"], json!({"after": length(), "to": roles()})),
                "severity": {"enum": severities}, "urgency": {"enum": urgencies},
                "certainty": {"enum": Certainty::ALL.iter().map(|value| value.as_cap()).collect::<Vec<&str>>()},
                "response": codes(responses), "area": text("target.site, cause.area or an area of the pack"),
                "text": text("a text of the pack"), "texts": map(text("a text of the pack")),
                "not-after": clock(), "valid-while": {"enum": ["cause live"]}, "repeat-every": length(),
            })),
            "envelope": object(&["when", "valid", "signed-by"], json!({
                "when": object(&[], json!({
                    "certainty": certainty(), "level": level(), "conflict": {"enum": ["none"]},
                    "sites": object(&["at-most"], json!({"at-most": {"type": "integer"}})),
                })),
                "valid": period(),
                "signed-by": object(&["need", "by"], json!({"need": {"type": "integer", "minimum": 1}, "by": roles()})),
            })),
            "approve": object(&["need"], json!({
                "need": {"type": "integer", "minimum": 0}, "reason": text("why nobody is asked"), "by": roles(),
                "apart-from": list(json!({"enum": ["author"]})), "within": length(),
                "if-silent": {"enum": ["hold", "escalate", "issue"]}, "because": text("why silence issues"),
                "else": object(&["notify"], json!({
                    "notify": roles(), "within": length(), "if-silent": {"enum": ["hold", "issue"]},
                    "because": text("why silence issues"),
                })),
            })),
            "conflict": object(&["with", "ask"], json!({
                "with": {"enum": effects}, "ask": text("a role"), "meanwhile": {"enum": ["keep-both-shown"]},
            })),
            "until": object(&["cause", "max"], json!({
                "cause": {"enum": ["ends"]}, "linger": length(), "then": {"enum": ["cancel", "review"]}, "max": length(),
                "latch": object(&["after", "to"], json!({
                    "after": {"enum": ["session.resume-by"]}, "to": {"enum": ["session.ends"]},
                })),
            })),
            "merge": object(&["end"], json!({
                "key": list(json!({"enum": ["rule", "effect", "target"]})), "severity": {"enum": ["max"]},
                "area": {"enum": ["union"]}, "end": {"enum": ["all-causes-ended"]},
            })),
            "limit": object(&["per", "at-most", "over"], json!({
                "per": length(), "at-most": text("for example 5 batches"), "over": {"enum": ["hold-and-page"]},
            })),
            "suppress": object(&["effect", "while", "same"], json!({
                "effect": {"enum": effects}, "same": list(json!({"enum": ["area", "session", "target"]})),
                "while": object(&["effect"], json!({"effect": {"enum": effects}, "kinds": list(text("a kind"))})),
            })),
            "on-suppress": {"enum": ["supersede", "mute"]},
        }),
    )
}

fn text(about: &str) -> Value {
    json!({"type": "string", "description": about})
}

fn length() -> Value {
    text("a length of time, for example 90s, 10m, 2h")
}

fn clock() -> Value {
    text("a time of day, for example \"05:30\"")
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn map(values: Value) -> Value {
    json!({"type": "object", "additionalProperties": values})
}

fn named() -> Value {
    object(&["en", "zh-Hant"], json!({"en": text("English"), "zh-Hant": text("Traditional Chinese")}))
}

fn period() -> Value {
    object(&[], json!({"from": text("YYYY-MM-DD"), "to": text("YYYY-MM-DD, its last day")}))
}

fn words() -> Value {
    object(
        &["headline", "instruction", "retract"],
        json!({
            "headline": text("what and where"), "instruction": text("what to do"), "description": text("more"),
            "retract": text("what is said when it is over"),
        }),
    )
}

fn object(required: &[&str], properties: Value) -> Value {
    let mut object = Map::new();
    object.insert("type".into(), json!("object"));
    object.insert("additionalProperties".into(), json!(false));
    object.insert("required".into(), json!(required));
    object.insert("properties".into(), properties);
    Value::Object(object)
}
