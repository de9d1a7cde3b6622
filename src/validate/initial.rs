//! The configurations that are tried first.

use super::Problems;
use crate::api::StudySpec;
use crate::core::Space;

pub fn check_initial(spec: &StudySpec, space: &Space, problems: &mut Problems) {
    problems.check(spec.initial_assignments.len() <= 64, "spec.initialAssignments", "has more than 64 entries");
    for (i, assignments) in spec.initial_assignments.iter().enumerate() {
        let path = format!("spec.initialAssignments[{i}]");
        if let Err(wrong) = space.parse(assignments) {
            for (name, message) in wrong {
                problems.add(format!("{path}.{name}"), message);
            }
            continue;
        }
        let canonical = space.canonical(assignments);
        let twin = spec.initial_assignments[..i].iter().position(|other| space.canonical(other) == canonical);
        if let Some(twin) = twin {
            problems.add(path, format!("is the same configuration as spec.initialAssignments[{twin}]"));
        }
    }
}
