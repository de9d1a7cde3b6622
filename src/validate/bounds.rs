//! Numbers within the bounds that the schema gives them: those of the CRD are read from the same types.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Number, Value};

use super::Problems;

/// Adds a problem for each number of `value`, which stands at `path`, that lies outside of its bounds.
pub fn check<T: JsonSchema + Serialize>(value: &T, path: &str, problems: &mut Problems) {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    // What has a schema of JSON can be written as JSON.
    if let Ok(value) = serde_json::to_value(value) {
        walk(schema.as_value(), &value, path, problems);
    }
}

fn walk(schema: &Value, value: &Value, path: &str, problems: &mut Problems) {
    // What may be left out is written as one of several; where it is given, it is the first that matters.
    let schema = schema["anyOf"].get(0).unwrap_or(schema);
    match value {
        _ if schema.is_null() => {}
        Value::Object(fields) => {
            for (name, field) in fields {
                walk(&schema["properties"][name], field, &format!("{path}.{name}"), problems);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                walk(&schema["items"], item, &format!("{path}[{i}]"), problems);
            }
        }
        _ => {
            if let (Value::Number(min), Value::Number(max)) = (&schema["minimum"], &schema["maximum"])
                && !is_within(value, min, max)
            {
                let is = match value {
                    Value::Number(number) => format!("is {}", text(number)),
                    // What JSON has for a number that is not finite.
                    _ => "is not finite".to_owned(),
                };
                problems.add(path, format!("{is}: must be from {} to {}", text(min), text(max)));
            }
        }
    }
}

fn is_within(value: &Value, min: &Number, max: &Number) -> bool {
    match (value.as_i64(), min.as_i64(), max.as_i64()) {
        (Some(value), Some(min), Some(max)) => (min..=max).contains(&value),
        _ => value.as_f64().zip(min.as_f64().zip(max.as_f64())).is_some_and(|(v, (min, max))| (min..=max).contains(&v)),
    }
}

/// `1`, not `1.0`.
fn text(number: &Number) -> String {
    match number.as_f64() {
        Some(x) if !number.is_i64() && !number.is_u64() => x.to_string(),
        _ => number.to_string(),
    }
}
