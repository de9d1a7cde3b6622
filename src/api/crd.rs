//! The CustomResourceDefinitions, generated from the wire types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::{Study, Trial};

/// The CRDs of Study and Trial.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![Study::crd(), Trial::crd()]
}

/// The CRDs as YAML documents, as in `crds/` and as `sweep crd` prints them.
///
/// # Errors
/// None in practice: the types serialise.
pub fn crds_yaml() -> Result<String, serde_yaml::Error> {
    crds().iter().map(|crd| Ok(format!("---\n{}", serde_yaml::to_string(crd)?))).collect()
}
