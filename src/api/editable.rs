//! What of a Study may be edited while it lives, said once: the CRD's rules, what a local run's folder takes, and what still
//! holds of a spec that was edited into an invalid one follow from it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, ValidationRule};
use serde_json::{Map, Value};

use super::StudySpec;

/// The fields of the spec that may be edited. Of `objectives` each `target` may be, too.
const EDITABLE: [&str; 8] = [
    "maxTrials",
    "parallelism",
    "maxFailedTrials",
    "finishedJobsHistoryLimit",
    "maxDuration",
    "reportTimeout",
    "suspend",
    "jobTemplate",
];

/// For the API server: no other field may be edited, set or left out.
pub(super) fn rules(spec: &JSONSchemaProps) -> Vec<ValidationRule> {
    let immutable = spec.properties.iter().flat_map(|properties| properties.keys());
    let immutable = immutable.filter(|field| !EDITABLE.contains(&field.as_str()));
    immutable.map(|field| rule(field, spec.required.iter().flatten().any(|required| required == field))).collect()
}

fn rule(field: &str, is_required: bool) -> ValidationRule {
    let same = |a: &str, b: &str| format!("has({a}) == has({b}) && (!has({a}) || {a} == {b})");
    let (own, old) = (format!("self.{field}"), format!("oldSelf.{field}"));
    let (rule, but) = if field == "objectives" {
        let equal = format!("p.metric == o.metric && p.direction == o.direction && {}", same("p.value", "o.value"));
        (format!("{own}.all(o, {old}.exists(p, {equal}))"), " but for target")
    } else if is_required {
        (format!("{own} == {old}"), "")
    } else {
        (same(&own, &old), "")
    };
    ValidationRule {
        rule,
        message: Some(format!("spec.{field} is immutable{but}: create a new Study")),
        reason: Some("FieldValueForbidden".to_owned()),
        ..ValidationRule::default()
    }
}

/// The spec without what may be edited.
///
/// # Errors
/// None in practice: the spec serialises.
fn immutable(spec: &StudySpec) -> serde_json::Result<Map<String, Value>> {
    let mut spec = spec.clone();
    for objective in &mut spec.objectives {
        objective.target = None;
    }
    let mut fields: Map<String, Value> = serde_json::from_value(serde_json::to_value(&spec)?)?;
    fields.retain(|field, _| !EDITABLE.contains(&field.as_str()));
    Ok(fields)
}

/// The fields in which two specs differ, and which may not be edited.
///
/// # Errors
/// None in practice: the specs serialise.
pub fn immutable_differences(old: &StudySpec, new: &StudySpec) -> serde_json::Result<Vec<String>> {
    let (old, new) = (immutable(old)?, immutable(new)?);
    let gone = old.keys().filter(|field| !new.contains_key(*field));
    let fields = new.keys().chain(gone).filter(|field| old.get(*field) != new.get(*field));
    Ok(fields.map(|field| format!("spec.{field}")).collect())
}

/// The spec with other values for all that may be edited: those given, the others left out.
///
/// # Errors
/// A field that must be given is not.
pub fn with_edited(spec: &StudySpec, edited: Map<String, Value>) -> serde_json::Result<StudySpec> {
    let mut fields = immutable(spec)?;
    fields.extend(edited);
    serde_json::from_value(Value::Object(fields))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(with: Value) -> StudySpec {
        let mut spec = json!({
            "objectives": [{"metric": "score", "direction": "Maximize"}],
            "parameters": [{"name": "x", "double": {"min": 0, "max": 1}}],
            "maxTrials": 4,
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "trainer", "image": "trainer"}]}}}},
        });
        spec.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn differences(with: Value) -> Vec<String> {
        immutable_differences(&spec(json!({})), &spec(with)).unwrap()
    }

    #[test]
    fn what_may_be_edited_is_in_the_spec_and_all_else_has_a_rule() {
        let crds = crate::api::crds();
        let root = crds[0].spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let spec = &root.properties.as_ref().unwrap()["spec"];
        let rules = spec.x_kubernetes_validations.as_ref().unwrap();
        for field in spec.properties.as_ref().unwrap().keys() {
            let has_rule = rules
                .iter()
                .any(|rule| rule.message.as_ref().unwrap().starts_with(&format!("spec.{field} is immutable")));
            assert_ne!(has_rule, EDITABLE.contains(&field.as_str()), "{field}");
        }
        assert!(EDITABLE.iter().all(|field| spec.properties.as_ref().unwrap().contains_key(*field)));
    }

    #[test]
    fn an_edit_of_a_limit_or_target_is_no_difference_and_any_other_is() {
        let target = json!([{"metric": "score", "direction": "Maximize", "target": 0.5}]);
        assert!(differences(json!({"maxTrials": 9, "suspend": true, "objectives": target})).is_empty());
        let direction = json!([{"metric": "score", "direction": "Minimize"}]);
        assert_eq!(differences(json!({"objectives": direction})), ["spec.objectives"]);
        let both = differences(json!({"seed": 1, "gpu": {"count": 1}, "maxTrials": 5}));
        assert_eq!(both, ["spec.gpu", "spec.seed"]);
        let gone = immutable_differences(&spec(json!({"seed": 1})), &spec(json!({}))).unwrap();
        assert_eq!(gone, ["spec.seed"]);
    }
}
