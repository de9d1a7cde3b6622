//! Where a trainer's event files are, and what is mounted so that the sidecar sees them.

use std::path::{Component, Path};

use serde_json::{Value, json};

use super::{METRICS_DIR, METRICS_VOLUME};
use crate::metrics::TensorBoardSpec;

/// The program in the operator's image: nothing can be mounted at it or below, or the sidecar could not start.
const PROGRAM: &str = "/sweep";

/// The folder of event files, in the trainer's container and in the sidecar alike.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EventsFolder {
    /// Its path.
    pub path: String,
    /// The sidecar's mount.
    pub mount: Value,
    /// Whether the volume is the operator's own, and the trainer gets the same mount.
    pub is_ours: bool,
}

/// What is wrong, with where it stands in the trainer's container, or in the spec where that is None.
pub(super) type Wrong = (Option<String>, String);

/// Where the event files of this trainer are.
///
/// # Errors
/// They cannot be where the study says.
pub(super) fn folder(spec: &TensorBoardSpec, pod: &Value, trainer: &Value) -> Result<EventsFolder, Wrong> {
    let ours = |path: &str| EventsFolder {
        path: path.to_owned(),
        mount: json!({"name": METRICS_VOLUME, "mountPath": path, "readOnly": true}),
        is_ours: true,
    };
    let Some(path) = &spec.path else { return Ok(ours(METRICS_DIR)) };
    check(path).map_err(|message| (None, message))?;
    let mounts = trainer["volumeMounts"].as_array().into_iter().flatten().enumerate();
    let above = mounts.filter_map(|(i, mount)| {
        let at = mount["mountPath"].as_str().filter(|at| Path::new(path).starts_with(at))?;
        Some((Path::new(at).components().count(), i, mount))
    });
    let Some((_, i, mount)) = above.max_by_key(|(depth, ..)| *depth) else { return Ok(ours(path)) };
    let name = mount["name"].as_str().unwrap_or_default();
    let volume = pod["volumes"].as_array().into_iter().flatten().find(|volume| volume["name"] == name);
    // One that is missing the API server refuses.
    if volume.is_some_and(|volume| volume["emptyDir"].is_null() && volume["ephemeral"].is_null()) {
        return Err((
            Some(format!("volumeMounts[{i}]")),
            format!(
                "{name} may hold event files of other Trials and runs, and {path} is in it: mount an emptyDir there, or nothing"
            ),
        ));
    }
    if !mount["subPathExpr"].is_null() {
        return Err((
            Some(format!("volumeMounts[{i}].subPathExpr")),
            format!("the sidecar cannot mount this, and {path} is in it: use subPath"),
        ));
    }
    let mut theirs = json!({"name": name, "mountPath": mount["mountPath"], "readOnly": true});
    if !mount["subPath"].is_null() {
        theirs["subPath"] = mount["subPath"].clone();
    }
    Ok(EventsFolder { path: path.clone(), mount: theirs, is_ours: false })
}

/// Whether something can be mounted at this path.
fn check(path: &str) -> Result<(), String> {
    let at = Path::new(path);
    if !at.is_absolute() {
        return Err(format!("must be absolute, not {path:?}"));
    }
    if path.contains(':') || at.components().any(|part| part == Component::ParentDir) {
        return Err(format!("must hold neither : nor .., not {path:?}"));
    }
    if at.components().count() < 2 {
        return Err("must not be /: a volume is mounted there".to_owned());
    }
    if at.starts_with(METRICS_DIR) || Path::new(METRICS_DIR).starts_with(at) {
        return Err(format!(
            "{METRICS_DIR} is the operator's own: leave path out, and $SWEEP_METRICS is a folder there"
        ));
    }
    if at.starts_with(PROGRAM) {
        return Err(format!(
            "{PROGRAM} is the sidecar's program, and the folder is mounted there, too: choose another one"
        ));
    }
    Ok(())
}
