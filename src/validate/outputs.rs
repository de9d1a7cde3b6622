//! GPUs, and where the best assignment is written.

use super::Problems;
use crate::api::StudySpec;

pub fn check_outputs(spec: &StudySpec, problems: &mut Problems) {
    if let Some(gpu) = &spec.gpu {
        let resource = gpu.resource();
        let extended = resource
            .split_once('/')
            .is_some_and(|(domain, name)| !domain.is_empty() && !name.is_empty() && !name.contains('/'));
        problems.check(
            extended,
            "spec.gpu.resource",
            format!("{resource:?} is not an extended resource: write it like nvidia.com/gpu"),
        );
    }
    if let Some(map) = &spec.best_config_map {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let valid = map.name.len() <= 253
            && map.name.chars().all(allowed)
            && ends(map.name.chars().next())
            && ends(map.name.chars().last());
        problems.check(valid, "spec.bestConfigMap.name", format!("{:?} is not the name of a ConfigMap", map.name));
    }
}
