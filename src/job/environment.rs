//! The environment variables that carry a Trial into its trainer, the same in a Job and in a local run.

use crate::core::{Assignments, Space};

/// The variable that has Python print at once.
const UNBUFFERED: &str = "PYTHONUNBUFFERED";

/// (name, value) of every variable that we set, but for `SWEEP_METRICS`, in order; one that the template sets itself
/// is the template's. Values are as the trainer shall see them: nothing is escaped yet.
pub fn environment(
    space: &Space,
    study: &str,
    trial: &str,
    index: u32,
    assignments: &Assignments,
) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = space
        .parameters()
        .iter()
        .filter_map(|parameter| {
            let value = assignments.get(&parameter.name).or(parameter.inactive_value.as_ref())?;
            Some((parameter.name.clone(), value.clone()))
        })
        .collect();
    let parameters = serde_json::Value::Object(space.json(assignments)).to_string();
    variables.push(("SWEEP_STUDY".to_owned(), study.to_owned()));
    variables.push(("SWEEP_TRIAL".to_owned(), trial.to_owned()));
    variables.push(("SWEEP_TRIAL_INDEX".to_owned(), index.to_string()));
    variables.push(("SWEEP_PARAMETERS".to_owned(), parameters));
    // Python keeps back what it prints into a pipe or a file: a pruner would hear of it when all is over.
    if !variables.iter().any(|(name, _)| name == UNBUFFERED) {
        variables.push((UNBUFFERED.to_owned(), "1".to_owned()));
    }
    variables
}
