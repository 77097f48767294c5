//! The schema accepts what the checker accepts, and refuses a field that nobody knows.

use campanile_rules::schema;
use serde_json::Value;

/// What of a document a schema refuses, by path; as much of JSON Schema as the pack's schema uses.
fn refused(schema: &Value, value: &Value, path: &str, into: &mut Vec<String>) {
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        let fits = choices.iter().any(|choice| {
            let mut wrong = Vec::new();
            refused(choice, value, path, &mut wrong);
            wrong.is_empty()
        });
        if !fits {
            into.push(path.to_string());
        }
        return;
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        if !words.contains(value) {
            into.push(format!("{path}: {value}"));
        }
        return;
    }
    let of = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::Null => "null",
    };
    let fits = match &schema["type"] {
        Value::String(one) => one == of,
        Value::Array(any) => any.iter().any(|one| one == of),
        _ => true,
    };
    if !fits {
        into.push(format!("{path}: {of}"));
    }
    match value {
        Value::Object(object) => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !object.contains_key(name) {
                    into.push(format!("{path}.{name} is missing"));
                }
            }
            for (name, inner) in object {
                match (schema["properties"].get(name), &schema["additionalProperties"]) {
                    (Some(own), _) => refused(own, inner, &format!("{path}.{name}"), into),
                    (None, Value::Bool(false)) => into.push(format!("{path}.{name} is not known")),
                    (None, rest) => refused(rest, inner, &format!("{path}.{name}"), into),
                }
            }
        }
        Value::Array(items) => {
            if let Some(each) = schema.get("items") {
                items.iter().enumerate().for_each(|(n, item)| refused(each, item, &format!("{path}[{n}]"), into));
            }
        }
        _ => {}
    }
}

fn wrong(text: &str) -> Vec<String> {
    let value: Value = serde_saphyr::from_str(text).unwrap();
    let mut into = Vec::new();
    refused(&schema::pack(), &value, "", &mut into);
    into
}

#[test]
fn every_shipped_pack_fits_the_schema() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packs");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".rules.yaml") {
            count += 1;
            assert_eq!(wrong(&std::fs::read_to_string(&path).unwrap()), [""; 0], "{}", path.display());
        }
    }
    assert!(count >= 7, "{count}");
}

#[test]
fn the_schema_refuses_what_is_misspelt_or_missing() {
    let fire = crate::desk::FIRE;
    assert_eq!(wrong(&fire.replace("  hold: 0s", "  holt: 0s")), [".rules[0].holt is not known"]);
    assert!(wrong(&fire.replace("event: fire,", "event: fyre,"))[0].contains("fyre"));
    assert_eq!(wrong(&fire.replace("owner: edb\n", "")), [".owner is missing"]);
}
