//! What several modules need: a study in YAML, and patches to it.

use serde_json::Value;
use sweep_operator::api::StudySpec;
use sweep_operator::validate::{Problem, ValidStudy, validate};

/// A valid spec that uses every field.
pub const SPEC: &str = r#"
objectives:
  - {metric: accuracy, direction: Maximize, target: 0.985}
parameters:
  - {name: learning_rate, double: {min: 1e-5, max: 1e-1, scale: Log}}
  - {name: layers, int: {min: 1, max: 8}}
  - {name: batch, discrete: {values: [16, 32, 64, 128]}}
  - {name: optimizer, categorical: {values: [adam, sgd]}}
  - {name: momentum, double: {min: 0, max: 0.9, step: 0.1}, when: [{parameter: optimizer, in: [sgd]}], inactiveValue: "0"}
initialAssignments:
  - {learning_rate: "0.001", layers: "2", batch: "32", optimizer: adam}
sampler: {random: {}}
pruner: {hyperband: {minSteps: 1, maxSteps: 27, reductionFactor: 3}}
maxTrials: 64
parallelism: 8
maxFailedTrials: 5
maxDuration: 2h
reportTimeout: 20m
seed: 7
metrics: {file: {}}
gpu: {count: 1}
bestConfigMap: {name: digits-best}
jobTemplate:
  spec:
    template:
      spec:
        containers:
          - name: trainer
            image: registry.example/digits:1
            command: [python, train.py]
            args: ["--lr=$(learning_rate)", "--layers=$(layers)", "--momentum=$(momentum)"]
"#;

/// The spec as JSON, to be patched.
pub fn spec() -> Value {
    serde_yaml::from_str(SPEC).unwrap()
}

/// Puts `new` at a JSON pointer: missing objects are created, `-` appends to a list, null removes.
pub fn put(json: &mut Value, pointer: &str, new: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut at = json;
    for token in parent.split('/').skip(1).map(|token| token.replace("~1", "/")) {
        at = match at {
            Value::Array(items) => &mut items[token.parse::<usize>().unwrap()],
            other => &mut other[token.as_str()],
        };
    }
    let key = key.replace("~1", "/");
    match at {
        Value::Array(items) if key == "-" => items.push(new),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = new,
        Value::Object(map) if new.is_null() => {
            map.remove(&key);
        }
        other => other[key.as_str()] = new,
    }
}

/// The spec with these patches.
pub fn patched(patches: &[(&str, Value)]) -> Value {
    let mut json = spec();
    for (pointer, new) in patches {
        put(&mut json, pointer, new.clone());
    }
    json
}

/// What validation says of a spec.
pub fn check(spec: Value) -> Result<ValidStudy, Vec<Problem>> {
    let spec: StudySpec = serde_json::from_value(spec).unwrap();
    validate("digits", &spec)
}

/// The study of a spec with these patches, which must be valid.
pub fn study(patches: &[(&str, Value)]) -> ValidStudy {
    check(patched(patches)).unwrap_or_else(|problems| panic!("{problems:?}"))
}
