//! The CustomResourceDefinitions, generated from the wire types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

use super::{Study, Trial, editable};

/// The CRDs of Study and Trial.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![Study::crd(), Trial::crd()];
    for schema in crds.iter_mut().flat_map(|crd| &mut crd.spec.versions).filter_map(|version| version.schema.as_mut()) {
        if let Some(root) = &mut schema.open_api_v3_schema {
            drop_rust_formats(root);
            forbid_edits(root);
        }
    }
    crds
}

/// What of a Study's spec may not be edited. A Trial's own rules stand beside its fields.
fn forbid_edits(root: &mut JSONSchemaProps) {
    let spec = root.properties.as_mut().and_then(|properties| properties.get_mut("spec"));
    if let Some(spec) = spec.filter(|spec| spec.properties.iter().any(|fields| fields.contains_key("maxTrials"))) {
        let rules = editable::rules(spec);
        spec.x_kubernetes_validations.get_or_insert_default().splice(0..0, rules);
    }
}

/// schemars names Rust's integer types as formats; the API server warns of those it does not know.
fn drop_rust_formats(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.properties.iter_mut().flat_map(|map| map.values_mut()).for_each(drop_rust_formats);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => drop_rust_formats(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(drop_rust_formats),
        None => {}
    }
}

/// The CRDs as YAML documents, as `sweep crd` prints them.
///
/// # Errors
/// None in practice: the types serialise.
pub fn crds_yaml() -> Result<String, serde_yaml::Error> {
    crds().iter().map(|crd| Ok(format!("---\n{}", serde_yaml::to_string(crd)?))).collect()
}
