//! The parameters: their names, and what belongs to none of their parts alone.

use std::collections::BTreeSet;

use super::Problems;
use super::conditions::activations;
use super::domains::domain;
use crate::api::StudySpec;
use crate::core::Parameter;

/// Parameters whose names would break a container, or hide what we set ourselves.
fn is_reserved(name: &str) -> bool {
    const EXACT: [&str; 5] = ["PATH", "HOME", "HOSTNAME", "PWD", "SHELL"];
    const PREFIXES: [&str; 5] = ["LD_", "DYLD_", "KUBERNETES_", "SWEEP_", "GCONV_"];
    EXACT.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The parameters that are valid; fewer than the spec's where one is not.
pub fn parameters(spec: &StudySpec, problems: &mut Problems) -> Vec<Parameter> {
    if spec.parameters.is_empty() || spec.parameters.len() > 64 {
        problems.add("spec.parameters", format!("has {} entries: must have from 1 to 64", spec.parameters.len()));
    }
    let mut valid = Vec::new();
    let mut names = BTreeSet::new();
    for (i, parameter) in spec.parameters.iter().enumerate() {
        let path = format!("spec.parameters[{i}]");
        check_parameter_name(&parameter.name, &path, problems);
        problems.check(
            names.insert(&parameter.name),
            format!("{path}.name"),
            format!("{:?} is used twice", parameter.name),
        );
        if let Some(value) = &parameter.inactive_value {
            let path = format!("{path}.inactiveValue");
            problems.check(value.chars().count() <= 64, &path, "has more than 64 characters");
            problems.check(
                !value.contains('\0'),
                &path,
                "must not have a NUL character: no environment variable can hold it",
            );
            problems.check(!parameter.when.is_empty(), path, "is of use only together with `when`");
        }
        let domain = domain(parameter, &path, problems);
        let when = activations(parameter, i, spec, &path, problems);
        if let (Some(domain), Some(when)) = (domain, when) {
            valid.push(Parameter {
                name: parameter.name.clone(),
                domain,
                when,
                inactive_value: parameter.inactive_value.clone(),
            });
        }
    }
    valid
}

fn check_parameter_name(name: &str, path: &str, problems: &mut Problems) {
    let start = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    problems.check(
        name.starts_with(start) && name.chars().all(rest) && name.len() <= 63,
        format!("{path}.name"),
        format!(
            "{name:?} is not a parameter's name: a letter or '_', then letters, digits and any of _ . -, at most 63"
        ),
    );
    problems.check(
        !is_reserved(name),
        format!("{path}.name"),
        format!(
            "{name} is reserved, since as an environment variable it would break the container: choose another name"
        ),
    );
}
