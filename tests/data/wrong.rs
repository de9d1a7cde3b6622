//! A Study, and what makes it wrong: the one table that the API server, by schema and CEL, and `validate` both refuse.

use serde_json::{Value, json};

/// A Study that is right.
pub fn right() -> Value {
    json!({
        "apiVersion": "sweep-operator.dev/v1alpha1",
        "kind": "Study",
        "metadata": {"name": "wrong"},
        "spec": {
            "objectives": [{"metric": "score", "direction": "Maximize"}],
            "parameters": [
                {"name": "x", "double": {"min": 0, "max": 1}},
                {"name": "n", "int": {"min": 1, "max": 8}},
                {"name": "word", "categorical": {"values": ["a", "b"]}},
            ],
            "maxTrials": 4,
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "trainer", "image": "trainer"}]}}}},
        },
    })
}

/// Where something is put into the Study, what, and what the API server says of it; the path of each problem begins with
/// the pointer, but for rules of the object above.
pub fn wrong() -> Vec<(&'static str, Value, &'static str)> {
    let words: Vec<String> = (0..65).map(|n| format!("w{n}")).collect();
    let long = "a-name-that-is-longer-than-forty-characters-is-refused";
    vec![
        ("/metadata/name", json!(long), "at most 40 characters"),
        ("/metadata/name", json!("with.a.dot"), "a DNS label"),
        ("/spec/maxTrials", json!(0), "spec.maxTrials"),
        ("/spec/maxTrials", json!(10_001), "spec.maxTrials"),
        ("/spec/parallelism", json!(1_001), "spec.parallelism"),
        ("/spec/maxFailedTrials", json!(10_001), "spec.maxFailedTrials"),
        ("/spec/maxDuration", json!("an hour"), "spec.maxDuration"),
        ("/spec/reportTimeout", json!("soon"), "spec.reportTimeout"),
        ("/spec/seed", json!(1_u64 << 53), "spec.seed"),
        ("/spec/gpu", json!({"count": 0}), "spec.gpu.count"),
        ("/spec/gpu", json!({"count": 1_025}), "spec.gpu.count"),
        ("/spec/gpu", json!({"count": 1, "resource": "gpu"}), "spec.gpu.resource"),
        ("/spec/bestConfigMap", json!({"name": "Best"}), "spec.bestConfigMap.name"),
        ("/spec/metrics", json!({"tensorBoard": {"path": "logs"}}), "spec.metrics.tensorBoard.path"),
        ("/spec/metrics", json!({"prometheus": {"port": 0}}), "spec.metrics.prometheus.port"),
        ("/spec/metrics", json!({"prometheus": {"port": 80, "path": "m"}}), "spec.metrics.prometheus.path"),
        ("/spec/metrics", json!({"prometheus": {"port": 80}, "file": {}}), "exactly one of"),
        ("/spec/objectives", json!([]), "spec.objectives"),
        ("/spec/objectives/0/metric", json!("a b"), "spec.objectives[0].metric"),
        ("/spec/parameters", json!([]), "spec.parameters"),
        ("/spec/parameters/0/name", json!("1st"), "spec.parameters[0].name"),
        ("/spec/parameters/0/int", json!({"min": 1, "max": 2}), "exactly one of double, int, discrete and categorical"),
        ("/spec/parameters/0/double/max", json!(-1), "min must be below max"),
        ("/spec/parameters/0/double/scale", json!("Log"), "a Log scale needs min above 0"),
        ("/spec/parameters/0/double/scale", json!("log"), "supported values"),
        ("/spec/parameters/0/double/step", json!(0), "step must be above 0"),
        ("/spec/parameters/0/double/prior", json!({}), "exactly one of normal and logNormal"),
        ("/spec/parameters/0/double/prior", json!({"logNormal": {}}), "a logNormal prior needs min above 0"),
        ("/spec/parameters/0/double/prior", json!({"normal": {"standardDeviation": 0}}), "must be above 0"),
        ("/spec/parameters/1/int/max", json!(1), "min must be below max"),
        ("/spec/parameters/1/int/max", json!(1_u64 << 53), "spec.parameters[1].int.max"),
        ("/spec/parameters/1/int/step", json!(0), "spec.parameters[1].int.step"),
        ("/spec/parameters/1/int", json!({"min": 1, "max": 8, "scale": "Log", "step": 2}), "exclude each other"),
        ("/spec/parameters/2/categorical/values", json!(["a", "a"]), "values must be distinct"),
        ("/spec/parameters/2/categorical/values", json!(words), "spec.parameters[2].categorical.values"),
        ("/spec/parameters/1/when", json!([{"parameter": "y", "in": ["a"]}]), "must name an earlier parameter"),
        ("/spec/parameters/1/when", json!([{"parameter": "word", "in": ["a"]}]), "must name an earlier parameter"),
        ("/spec/parameters/1/when", json!([{"parameter": "x", "in": ["a"], "min": 1}]), "either in, or min and max"),
        ("/spec/sampler", json!({}), "a sampler is exactly one of auto, random, grid, "),
        ("/spec/sampler", json!({"random": {}, "grid": {}}), "a sampler is exactly one of auto, random, grid, "),
        ("/spec/sampler", json!({"tpe": {"startupTrials": 0}}), "spec.sampler.tpe.startupTrials"),
        ("/spec/sampler", json!({"tpe": {"candidates": 0}}), "spec.sampler.tpe.candidates"),
        ("/spec/sampler", json!({"tpe": {"candidates": 1_001}}), "spec.sampler.tpe.candidates"),
        ("/spec/sampler", json!({"tpe": {"gamma": 0.005}}), "spec.sampler.tpe.gamma"),
        ("/spec/sampler", json!({"gp": {"startupTrials": 10_001}}), "spec.sampler.gp.startupTrials"),
        ("/spec/sampler", json!({"cmaes": {"sigma": 1.5}}), "spec.sampler.cmaes.sigma"),
        ("/spec/sampler", json!({"cmaes": {"population": 1}}), "spec.sampler.cmaes.population"),
        ("/spec/sampler", json!({"cmaes": {"restarts": 21}}), "spec.sampler.cmaes.restarts"),
        ("/spec/pruner", json!({}), "a pruner is at most one of forecast, median, "),
        (
            "/spec/pruner",
            json!({"median": {}, "asha": {"maxSteps": 9}}),
            "a pruner is at most one of forecast, median, ",
        ),
        ("/spec/pruner", json!({"asha": {"minSteps": 9, "maxSteps": 9}}), "minSteps must be below maxSteps"),
        ("/spec/pruner", json!({"percentile": {"percentile": 101}}), "spec.pruner.percentile.percentile"),
        ("/spec/pruner", json!({"wilcoxon": {"metric": "score"}}), "must not be the objective"),
        ("/spec/pruner", json!({"wilcoxon": {"metric": "two words"}}), "spec.pruner.wilcoxon.metric"),
        ("/spec/pruner", json!({"wilcoxon": {"metric": "fold", "pThreshold": 2}}), "spec.pruner.wilcoxon.pThreshold"),
        ("/spec/pruner", json!({"forecast": {"optimism": 1.5}}), "spec.pruner.forecast.optimism"),
        ("/spec/pruner", json!({"forecast": {"maxSteps": 9, "warmupSteps": 9}}), "warmupSteps must be below maxSteps"),
        ("/spec/pruner", json!({"threshold": {"lower": 2, "upper": 1}}), "lower must be below upper"),
        ("/spec/pruner", json!({"patience": {"steps": 0}}), "spec.pruner.patience.steps"),
        ("/spec/pruner", json!({"median": {"startupTrials": 0}}), "spec.pruner.median.startupTrials"),
        ("/spec/pruner", json!({"median": {"interval": 0}}), "spec.pruner.median.interval"),
        ("/spec/pruner", json!({"median": {"warmupSteps": 1_u64 << 53}}), "spec.pruner.median.warmupSteps"),
        ("/spec/pruner", json!({"hyperband": {"minSteps": 0, "maxSteps": 9}}), "spec.pruner.hyperband.minSteps"),
        ("/spec/pruner", json!({"hyperband": {"minSteps": 9, "maxSteps": 9}}), "minSteps must be below maxSteps"),
        (
            "/spec/pruner",
            json!({"hyperband": {"minSteps": 1, "maxSteps": 9, "reductionFactor": 1}}),
            "spec.pruner.hyperband.reductionFactor",
        ),
        ("/spec/metrics", json!({}), "metrics is exactly one of file, stdout, tensorBoard and prometheus"),
        (
            "/spec/metrics",
            json!({"file": {}, "stdout": {}}),
            "metrics is exactly one of file, stdout, tensorBoard and prometheus",
        ),
        ("/spec/metrics", json!({"file": {}, "step": "a b"}), "spec.metrics.step"),
    ]
}

/// The Study with this put into it.
pub fn with(pointer: &str, new: &Value) -> Value {
    let mut study = right();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    study.pointer_mut(parent).unwrap()[key] = new.clone();
    study
}
