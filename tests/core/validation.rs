//! Wrong specs: each is refused with the path of the field and a message that says what is wrong.

use regex::Regex;
use serde_json::{Value, json};
use sweep_operator::api::{StudySpec, StudyStatus, warn};
use sweep_operator::validate::{Problem, validate, validate_immutable};

use crate::support::{check, patched, spec};
use crate::wrong::{right, with, wrong};

/// The pod of the template, as a pointer and as a path.
const POD: &str = "/jobTemplate/spec/template/spec";
const POD_PATH: &str = "spec.jobTemplate.spec.template.spec";

fn says(problems: &[Problem], path: &str, phrase: &str) -> bool {
    problems.iter().any(|problem| problem.path == path && problem.message.contains(phrase))
}

/// Every case of a table (pointer, what is put there, path of the problem, phrase of its message).
fn all_are_refused(cases: &[(&str, Value, &str, &str)]) {
    let mut wrong = Vec::new();
    for (pointer, new, path, phrase) in cases {
        let pointer = pointer.replace("POD", POD);
        let path = path.replace("POD", POD_PATH);
        match check(patched(&[(pointer.as_str(), new.clone())])) {
            Ok(_) => wrong.push(format!("{pointer} = {new} is accepted")),
            Err(problems) if says(&problems, &path, phrase) => {}
            Err(problems) => wrong.push(format!("{pointer} = {new}: no `{path}: …{phrase}…` in {problems:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_base_spec_is_valid() {
    assert_eq!(check(spec()).map(|_| ()), Ok(()));
}

#[test]
fn objectives() {
    all_are_refused(&[
        ("/objectives", json!([]), "spec.objectives", "exactly one objective"),
        ("/objectives/-", json!({"metric": "loss", "direction": "Minimize"}), "spec.objectives", "has 2 entries"),
        ("/objectives/0/metric", json!(""), "spec.objectives[0].metric", "not a metric's name"),
        ("/objectives/0/metric", json!("a b"), "spec.objectives[0].metric", "not a metric's name"),
        ("/objectives/0/metric", json!("9lives"), "spec.objectives[0].metric", "not a metric's name"),
        ("/objectives/0/metric", json!("genauigkeit_ä"), "spec.objectives[0].metric", "not a metric's name"),
        ("/objectives/0/metric", json!("m".repeat(64)), "spec.objectives[0].metric", "at most 63"),
        ("/objectives/0/metric", json!("step"), "spec.objectives[0].metric", "cannot be the objective"),
    ]);
}

#[test]
fn parameters() {
    let many: Vec<Value> = (0..65).map(|i| json!({"name": format!("p{i}"), "int": {"min": 0, "max": 9}})).collect();
    all_are_refused(&[
        ("/parameters", json!([]), "spec.parameters", "must have from 1 to 64"),
        ("/parameters", json!(many), "spec.parameters", "has 65 entries"),
        ("/parameters/0/double", Value::Null, "spec.parameters[0]", "exactly one of double, int"),
        ("/parameters/0/int", json!({"min": 1, "max": 2}), "spec.parameters[0]", "exactly one of double, int"),
        ("/parameters/1/name", json!(""), "spec.parameters[1].name", "not a parameter's name"),
        ("/parameters/1/name", json!("1st"), "spec.parameters[1].name", "not a parameter's name"),
        ("/parameters/1/name", json!("lay ers"), "spec.parameters[1].name", "not a parameter's name"),
        ("/parameters/1/name", json!("lay=ers"), "spec.parameters[1].name", "not a parameter's name"),
        ("/parameters/1/name", json!("ebenen_ü"), "spec.parameters[1].name", "not a parameter's name"),
        ("/parameters/1/name", json!("l".repeat(64)), "spec.parameters[1].name", "at most 63"),
        ("/parameters/1/name", json!("PATH"), "spec.parameters[1].name", "PATH is reserved"),
        ("/parameters/1/name", json!("HOME"), "spec.parameters[1].name", "HOME is reserved"),
        ("/parameters/1/name", json!("LD_PRELOAD"), "spec.parameters[1].name", "is reserved"),
        ("/parameters/1/name", json!("KUBERNETES_SERVICE_HOST"), "spec.parameters[1].name", "is reserved"),
        ("/parameters/1/name", json!("SWEEP_METRICS"), "spec.parameters[1].name", "is reserved"),
        ("/parameters/1/name", json!("learning_rate"), "spec.parameters[1].name", "is used twice"),
    ]);
}

#[test]
fn domains() {
    let d = "spec.parameters[0].double";
    let i = "spec.parameters[1].int";
    let values: Vec<usize> = (0..65).collect();
    let words: Vec<String> = (0..65).map(|i| format!("w{i}")).collect();
    all_are_refused(&[
        ("/parameters/0/double/min", json!(1), &format!("{d}.min"), "must be below max"),
        ("/parameters/0/double/min", json!(0.1), &format!("{d}.min"), "must be below max"),
        ("/parameters/0/double/min", json!(0), &format!("{d}.min"), "a Log scale needs min above 0"),
        ("/parameters/0/double/min", json!(-1), &format!("{d}.min"), "a Log scale needs min above 0"),
        ("/parameters/0/double/step", json!(0.01), &format!("{d}.step"), "exclude each other"),
        ("/parameters/0/double", json!({"min": 0, "max": 1, "step": 0}), &format!("{d}.step"), "above 0"),
        ("/parameters/0/double", json!({"min": 0, "max": 1, "step": -0.1}), &format!("{d}.step"), "above 0"),
        ("/parameters/0/double", json!({"min": 0, "max": 1, "step": 2}), &format!("{d}.step"), "more than max - min"),
        ("/parameters/0/double", json!({"min": 1e9, "max": 2e9, "step": 1e-9}), &format!("{d}.step"), "too small"),
        (
            "/parameters/0/double",
            json!({"min": -1.5e308, "max": 1.5e308, "step": 1e300}),
            &format!("{d}.max"),
            "beyond the largest double",
        ),
        ("/parameters/1/int/min", json!(8), &format!("{i}.min"), "must be below max"),
        ("/parameters/1/int/min", json!(9), &format!("{i}.min"), "min 9 must be below max 8"),
        ("/parameters/1/int/max", json!(1_u64 << 53), &format!("{i}.max"), "must be from"),
        ("/parameters/1/int/min", json!(-(1_i64 << 53)), &format!("{i}.min"), "must be from"),
        ("/parameters/1/int/step", json!(0), &format!("{i}.step"), "must be from 1"),
        ("/parameters/1/int/step", json!(-1), &format!("{i}.step"), "must be from 1"),
        ("/parameters/1/int/step", json!(8), &format!("{i}.step"), "more than max - min"),
        ("/parameters/1/int", json!({"min": 0, "max": 8, "scale": "Log"}), &format!("{i}.min"), "above 0"),
        ("/parameters/1/int", json!({"min": 1, "max": 8, "scale": "Log", "step": 2}), &format!("{i}.step"), "exclude"),
        ("/parameters/2/discrete/values", json!([]), "spec.parameters[2].discrete.values", "has 0 entries"),
        ("/parameters/2/discrete/values", json!(values), "spec.parameters[2].discrete.values", "has 65 entries"),
        ("/parameters/2/discrete/values", json!([1, 1.0]), "spec.parameters[2].discrete.values", "distinct"),
        ("/parameters/2/discrete/values", json!([0.0, -0.0]), "spec.parameters[2].discrete.values", "distinct"),
        ("/parameters/3/categorical/values", json!([]), "spec.parameters[3].categorical.values", "has 0 entries"),
        ("/parameters/3/categorical/values", json!(words), "spec.parameters[3].categorical.values", "has 65 entries"),
        (
            "/parameters/3/categorical/values",
            json!(["sgd", "adam", "sgd"]),
            "spec.parameters[3].categorical.values[2]",
            "stands there twice",
        ),
        (
            "/parameters/3/categorical/values",
            json!(["sgd", "x".repeat(65)]),
            "spec.parameters[3].categorical.values[1]",
            "more than 64 characters",
        ),
        (
            "/parameters/3/categorical/values",
            json!(["sgd", "a\u{0}b"]),
            "spec.parameters[3].categorical.values[1]",
            "NUL",
        ),
    ]);
}

#[test]
fn numbers_that_are_not_finite() {
    type Edit = fn(&mut StudySpec);
    let cases: [(Edit, &str, &str); 6] = [
        (|s| s.objectives[0].target = Some(f64::NAN), "spec.objectives[0].target", "finite"),
        (|s| s.parameters[0].double.as_mut().unwrap().max = f64::INFINITY, "spec.parameters[0].double.max", "finite"),
        (|s| s.parameters[0].double.as_mut().unwrap().min = f64::NAN, "spec.parameters[0].double.min", "finite"),
        (
            |s| s.parameters[4].double.as_mut().unwrap().step = Some(f64::NAN),
            "spec.parameters[4].double.step",
            "finite",
        ),
        (
            |s| s.parameters[4].double.as_mut().unwrap().min = f64::NEG_INFINITY,
            "spec.parameters[4].double.min",
            "finite",
        ),
        (
            |s| s.parameters[2].discrete.as_mut().unwrap().values[1] = f64::NAN,
            "spec.parameters[2].discrete.values",
            "finite",
        ),
    ];
    for (edit, path, phrase) in cases {
        let mut spec: StudySpec = serde_json::from_value(spec()).unwrap();
        edit(&mut spec);
        let problems = validate("digits", &spec).err().unwrap_or_default();
        assert!(says(&problems, path, phrase), "{path}: {problems:?}");
    }
}

#[test]
fn conditions() {
    let when = "/parameters/4/when";
    let at = "spec.parameters[4].when";
    let entry = json!({"parameter": "optimizer", "in": ["sgd"]});
    let twice = json!([entry, {"parameter": "optimizer", "in": ["adam"]}]);
    all_are_refused(&[
        (
            "/parameters/4/when/0/parameter",
            json!("opt"),
            &format!("{at}[0].parameter"),
            "there is no parameter \"opt\"",
        ),
        ("/parameters/4/when/0/parameter", json!("momentum"), &format!("{at}[0].parameter"), "must stand before"),
        ("/parameters/4/when/0/parameter", json!("layers"), &format!("{at}[0].parameter"), "is a range"),
        ("/parameters/4/when/0/parameter", json!("learning_rate"), &format!("{at}[0].parameter"), "is a range"),
        ("/parameters/4/when/0/in", json!(["rmsprop"]), &format!("{at}[0].in[0]"), "can never have this value"),
        ("/parameters/4/when/0/in", json!(["sgd", "sgd"]), &format!("{at}[0].in[1]"), "stands there twice"),
        ("/parameters/4/when/0/in", json!([]), &format!("{at}[0].in"), "has 0 entries"),
        (when, json!([{"parameter": "batch", "in": ["17"]}]), &format!("{at}[0].in[0]"), "none of 16, 32, 64, 128"),
        (when, json!([{"parameter": "batch", "in": ["many"]}]), &format!("{at}[0].in[0]"), "not a number"),
        (when, json!([entry, entry, entry, entry, entry]), at, "more than 4"),
        (when, twice, &format!("{at}[1].parameter"), "named twice"),
        (when, Value::Null, "spec.parameters[4].inactiveValue", "only together with `when`"),
        ("/parameters/4/inactiveValue", json!("x".repeat(65)), "spec.parameters[4].inactiveValue", "more than 64"),
        ("/parameters/4/inactiveValue", json!("\u{0}"), "spec.parameters[4].inactiveValue", "NUL"),
        (
            "/parameters/1/when",
            json!([{"parameter": "optimizer", "in": ["sgd"]}]),
            "spec.parameters[1].when[0].parameter",
            "\"optimizer\" must stand before \"layers\"",
        ),
    ]);
}

#[test]
fn conditions_on_a_range() {
    let when = "/parameters/4/when";
    let at = "spec.parameters[4].when[0]";
    let on = |name: &str, condition: Value| {
        let mut entry = json!({"parameter": name});
        entry.as_object_mut().unwrap().extend(condition.as_object().unwrap().clone());
        json!([entry])
    };
    all_are_refused(&[
        (when, on("layers", json!({})), at, "must have either `in`, or `min`"),
        (when, on("layers", json!({"in": ["3"], "min": 2})), at, "must have either `in`, or `min`"),
        (when, on("layers", json!({"in": ["3"]})), &format!("{at}.parameter"), "is a range: `in` needs"),
        (when, on("optimizer", json!({"min": 2})), &format!("{at}.parameter"), "is no range: `min` and `max` need"),
        (when, on("batch", json!({"min": 2})), &format!("{at}.parameter"), "is no range"),
        (when, on("layers", json!({"min": 5, "max": 4})), at, "never holds: \"layers\" is from 1 to 8"),
        (when, on("layers", json!({"min": 9})), at, "never holds"),
        (when, on("learning_rate", json!({"max": 1e-6})), at, "never holds"),
    ]);
    for condition in [json!({"min": 3}), json!({"max": 3}), json!({"min": 3, "max": 3})] {
        let fine = patched(&[(when, on("layers", condition)), ("/initialAssignments", json!([]))]);
        assert_eq!(check(fine).map(|_| ()), Ok(()));
    }
}

#[test]
fn priors() {
    let d = "spec.parameters[0].double.prior";
    let i = "spec.parameters[1].int.prior";
    let double = |prior: Value| json!({"min": 1e-5, "max": 1e-1, "prior": prior});
    let with = |field: &str, value: Value| {
        let mut double = double(json!({"logNormal": {}}));
        double[field] = value;
        double
    };
    let at = "/parameters/0/double";
    all_are_refused(&[
        (at, double(json!({})), d, "exactly one of normal and logNormal"),
        (at, double(json!({"normal": {}, "logNormal": {}})), d, "exactly one of normal and logNormal"),
        (at, with("scale", json!("Log")), d, "exclude each other"),
        (at, with("step", json!(1e-3)), &format!("{d}.logNormal"), "exclude each other"),
        (at, with("min", json!(0)), &format!("{d}.logNormal"), "needs min above 0"),
        (at, double(json!({"normal": {"mean": 1}})), &format!("{d}.normal.mean"), "1 is outside 0.00001 to 0.1"),
        (at, double(json!({"logNormal": {"mean": 0}})), &format!("{d}.logNormal.mean"), "0 is outside -11.5"),
        (
            at,
            double(json!({"normal": {"standardDeviation": 0}})),
            &format!("{d}.normal.standardDeviation"),
            "must be above 0",
        ),
        (
            "/parameters/1/int",
            json!({"min": 1, "max": 8, "prior": {"normal": {"mean": 9}}}),
            &format!("{i}.normal.mean"),
            "outside 1 to 8",
        ),
    ]);
    for prior in
        [json!({"normal": {}}), json!({"logNormal": {}}), json!({"normal": {"mean": 0.01, "standardDeviation": 0.001}})]
    {
        assert_eq!(check(patched(&[(at, double(prior))])).map(|_| ()), Ok(()));
    }
}

#[test]
fn conditions_that_cannot_be_counted() {
    let parents = (0..32).map(|i| json!({"name": format!("a{i}"), "categorical": {"values": ["x", "y"]}}));
    let children = (0..32).map(|i| {
        let when: Vec<Value> = [i * 7 + 1, i * 11 + 3, i * 13 + 5, i * 5]
            .iter()
            .map(|parent| parent % 32)
            .collect::<std::collections::BTreeSet<i32>>()
            .iter()
            .map(|parent| json!({"parameter": format!("a{parent}"), "in": ["x"]}))
            .collect();
        json!({"name": format!("b{i}"), "int": {"min": 0, "max": 3}, "when": when})
    });
    let parameters: Vec<Value> = parents.chain(children).collect();
    let patches = [
        ("/parameters", json!(parameters)),
        ("/initialAssignments", json!([])),
        (&format!("{POD}/containers/0/args"), json!([])),
    ];
    let problems = check(patched(&patches)).err().unwrap_or_default();
    assert!(says(&problems, "spec.parameters", "cannot be counted"), "{problems:?}");
}

#[test]
fn initial_assignments() {
    let good = json!({"learning_rate": "0.001", "layers": "2", "batch": "32", "optimizer": "adam"});
    let many: Vec<Value> = (0..65).map(|_| good.clone()).collect();
    let at = "spec.initialAssignments[0]";
    let first = "/initialAssignments/0";
    let same = json!({"learning_rate": "1e-3", "layers": "+2", "batch": "32.0", "optimizer": "adam"});
    let sgd = |momentum: &str| {
        let mut sgd = good.clone();
        sgd["optimizer"] = json!("sgd");
        sgd["momentum"] = json!(momentum);
        sgd
    };
    all_are_refused(&[
        ("/initialAssignments", json!(many), "spec.initialAssignments", "more than 64"),
        (&format!("{first}/layers"), Value::Null, &format!("{at}.layers"), "is missing"),
        (&format!("{first}/momentum"), json!("0.1"), &format!("{at}.momentum"), "is inactive here"),
        (&format!("{first}/dropout"), json!("0.1"), &format!("{at}.dropout"), "not a parameter of this study"),
        (&format!("{first}/layers"), json!("9"), &format!("{at}.layers"), "9 is outside 1 to 8"),
        (&format!("{first}/layers"), json!("2.5"), &format!("{at}.layers"), "not a whole number"),
        (&format!("{first}/layers"), json!("two"), &format!("{at}.layers"), "not a whole number"),
        (&format!("{first}/learning_rate"), json!("0.2"), &format!("{at}.learning_rate"), "0.2 is outside 1e-5 to 0.1"),
        (&format!("{first}/learning_rate"), json!("NaN"), &format!("{at}.learning_rate"), "not a finite number"),
        (&format!("{first}/learning_rate"), json!("inf"), &format!("{at}.learning_rate"), "not a finite number"),
        (&format!("{first}/learning_rate"), json!(""), &format!("{at}.learning_rate"), "not a number"),
        (&format!("{first}/batch"), json!("48"), &format!("{at}.batch"), "48 is none of 16, 32, 64, 128"),
        (&format!("{first}/optimizer"), json!("Adam"), &format!("{at}.optimizer"), "\"Adam\" is none of adam, sgd"),
        (first, sgd("0.15"), &format!("{at}.momentum"), "not 0.0 plus a multiple of 0.1"),
        (first, sgd("1.0"), &format!("{at}.momentum"), "outside 0.0 to 0.9"),
        (
            "/initialAssignments/-",
            good,
            "spec.initialAssignments[1]",
            "same configuration as spec.initialAssignments[0]",
        ),
        ("/initialAssignments/-", same, "spec.initialAssignments[1]", "same configuration"),
    ]);
    let step = json!({"min": 0, "max": 10, "step": 4});
    let off_grid = patched(&[("/parameters/1/int", step), ("/initialAssignments/0/layers", json!("3"))]);
    let problems = check(off_grid).err().unwrap_or_default();
    assert!(says(&problems, &format!("{at}.layers"), "3 is not 0 plus a multiple of 4"), "{problems:?}");
    let fine = patched(&[
        ("/parameters/0/double", json!({"min": 1e6, "max": 2e6, "step": 1e-4})),
        ("/initialAssignments/0/learning_rate", json!("1000000.00005")),
    ]);
    let problems = check(fine).err().unwrap_or_default();
    assert!(says(&problems, &format!("{at}.learning_rate"), "plus a multiple of"), "{problems:?}");
}

#[test]
fn a_wrong_parent_in_an_initial_assignment_does_not_accuse_its_children() {
    let assignment =
        json!({"learning_rate": "0.001", "layers": "2", "batch": "32", "optimizer": "sdg", "momentum": "0.1"});
    let problems = check(patched(&[("/initialAssignments/0", assignment)])).err().unwrap_or_default();
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["spec.initialAssignments[0].optimizer"]);
}

#[test]
fn samplers_pruners_and_metrics() {
    let h = "spec.pruner.hyperband";
    let m = "spec.pruner.median";
    all_are_refused(&[
        ("/sampler", json!({}), "spec.sampler", "exactly one of auto, random, grid, "),
        ("/sampler", json!({"tpe": {"startupTrials": 0}}), "spec.sampler.tpe.startupTrials", "must be from 1"),
        ("/sampler", json!({"tpe": {"candidates": 1001}}), "spec.sampler.tpe.candidates", "must be from 1 to 1000"),
        ("/sampler", json!({"tpe": {"gamma": 0.6}}), "spec.sampler.tpe.gamma", "must be from 0.01 to 0.5"),
        ("/sampler", json!({"gp": {"startupTrials": 0}}), "spec.sampler.gp.startupTrials", "must be from 1"),
        ("/sampler", json!({"cmaes": {"sigma": 0}}), "spec.sampler.cmaes.sigma", "must be from 0.001 to 1"),
        ("/sampler", json!({"cmaes": {"population": 1}}), "spec.sampler.cmaes.population", "must be from 2"),
        ("/sampler", json!({"cmaes": {"restarts": 21}}), "spec.sampler.cmaes.restarts", "must be from 0 to 20"),
        ("/sampler", json!({"random": {}, "sobol": {}}), "spec.sampler", "exactly one"),
        ("/sampler", json!({"grid": {}}), "spec.parameters[0]", "needs a step for a double"),
        ("/pruner", json!({}), "spec.pruner", "at most one of forecast, median, "),
        (
            "/pruner",
            json!({"median": {}, "hyperband": {"maxSteps": 9}}),
            "spec.pruner",
            "threshold and patience beside it or alone",
        ),
        ("/pruner/hyperband/minSteps", json!(0), &format!("{h}.minSteps"), "must be from 1"),
        ("/pruner/hyperband/minSteps", json!(27), &format!("{h}.minSteps"), "must be below maxSteps 27"),
        ("/pruner/hyperband/maxSteps", json!(2_000_000_000), &format!("{h}.maxSteps"), "must be from 2 to 1000000000"),
        ("/pruner/hyperband/reductionFactor", json!(1), &format!("{h}.reductionFactor"), "must be from 2 to 10"),
        ("/pruner/hyperband/reductionFactor", json!(11), &format!("{h}.reductionFactor"), "must be from 2 to 10"),
        ("/pruner", json!({"wilcoxon": {"metric": "step"}}), "spec.pruner.wilcoxon.metric", "cannot be a metric"),
        ("/pruner", json!({"wilcoxon": {"metric": "a b"}}), "spec.pruner.wilcoxon.metric", "is not a metric's name"),
        (
            "/pruner",
            json!({"asha": {"minSteps": 9, "maxSteps": 9}}),
            "spec.pruner.asha.minSteps",
            "must be below maxSteps 9",
        ),
        (
            "/pruner",
            json!({"percentile": {"percentile": 101}}),
            "spec.pruner.percentile.percentile",
            "must be from 0 to 100",
        ),
        ("/pruner", json!({"forecast": {"optimism": 1.5}}), "spec.pruner.forecast.optimism", "must be from 0 to 1"),
        ("/pruner", json!({"forecast": {"maxSteps": 1}}), "spec.pruner.forecast.maxSteps", "must be from 2"),
        (
            "/pruner",
            json!({"forecast": {"maxSteps": 9, "warmupSteps": 9}}),
            "spec.pruner.forecast.warmupSteps",
            "must be below maxSteps 9",
        ),
        (
            "/pruner",
            json!({"threshold": {"lower": 2, "upper": 1}}),
            "spec.pruner.threshold.lower",
            "lower 2 must be below upper 1",
        ),
        ("/pruner", json!({"patience": {"steps": 0}}), "spec.pruner.patience.steps", "must be from 1"),
        ("/pruner", json!({"patience": {"steps": 3, "minDelta": -1}}), "spec.pruner.patience.minDelta", "must be"),
        ("/pruner", json!({"median": {"startupTrials": 0}}), &format!("{m}.startupTrials"), "must be from 1"),
        ("/pruner", json!({"median": {"interval": 0}}), &format!("{m}.interval"), "must be from 1"),
        ("/pruner", json!({"median": {"warmupSteps": u64::MAX}}), &format!("{m}.warmupSteps"), "must be from 0"),
        ("/metrics", json!({}), "spec.metrics", "exactly one of file, stdout, tensorBoard and prometheus"),
        (
            "/metrics",
            json!({"file": {}, "stdout": {}}),
            "spec.metrics",
            "exactly one of file, stdout, tensorBoard and prometheus",
        ),
    ]);
}

#[test]
fn where_event_files_and_pages_can_be() {
    let path = |path: &str| json!({"tensorBoard": {"path": path}});
    let at = "spec.metrics.tensorBoard.path";
    let page = |port: u16, path: &str| json!({"prometheus": {"port": port, "path": path}});
    for (metrics, field, phrase) in [
        (path("logs"), at, "must be absolute, not \"logs\""),
        (path("/a/../b"), at, "must hold neither : nor .."),
        (path("/a:b"), at, "must hold neither : nor .."),
        (path("/"), at, "must not be /"),
        (path("/run/sweep-operator/x"), at, "is the operator's own"),
        (path("/run"), at, "is the operator's own"),
        (path("/sweep"), at, "/sweep is the sidecar's program"),
        (path("/sweep/logs"), at, "/sweep is the sidecar's program"),
        (json!({"tensorBoard": {}, "step": "epoch"}), "spec.metrics.step", "has no use with tensorBoard"),
        (json!({"tensorBoard": {}, "file": {}}), "spec.metrics", "exactly one of"),
        (page(0, "/m"), "spec.metrics.prometheus.port", "must be between 1 and 65535"),
        (page(80, "m"), "spec.metrics.prometheus.path", "must be a path such as /metrics, not \"m\""),
        (page(80, "/a b"), "spec.metrics.prometheus.path", "must be a path"),
        (page(80, "/a#b"), "spec.metrics.prometheus.path", "must be a path"),
        (page(80, "/a<b"), "spec.metrics.prometheus.path", "must be a path"),
        (page(80, "/a?b=<c>"), "spec.metrics.prometheus.path", "must be a path"),
        (page(80, "/a^b"), "spec.metrics.prometheus.path", "must be a path"),
    ] {
        let problems = check(patched(&[("/metrics", metrics.clone())])).err().unwrap();
        assert!(says(&problems, field, phrase), "{metrics}: {problems:?}");
    }
    assert!(check(patched(&[("/metrics", path("/app/logs"))])).is_ok());
    assert!(check(patched(&[("/metrics", path("/sweeps"))])).is_ok());
    assert!(check(patched(&[("/metrics", json!({"tensorBoard": {}, "additional": ["a/b"]}))])).is_ok());
    assert!(check(patched(&[("/metrics", page(8000, "/m?all=1"))])).is_ok());
    let named = [("/metrics", page(80, "/m")), ("/objectives/0/metric", json!("val/acc"))];
    let problems = check(patched(&named)).err().unwrap();
    assert!(says(&problems, "spec.objectives[0].metric", "cannot be the name of a Prometheus metric"), "{problems:?}");
    let network = format!("{POD}/hostNetwork");
    let shared = [("/metrics", page(80, "/m")), (network.as_str(), json!(true))];
    let problems = check(patched(&shared)).err().unwrap();
    assert!(says(&problems, &format!("{POD_PATH}.hostNetwork"), "would share the port"), "{problems:?}");
}

#[test]
fn event_files_must_be_in_a_volume_of_their_pod_alone() {
    let container = format!("{POD}/containers/0/volumeMounts");
    let volumes = format!("{POD}/volumes");
    let with = |mount: Value, volume: Value| {
        let patches = [
            ("/metrics", json!({"tensorBoard": {"path": "/app/logs"}})),
            (container.as_str(), json!([mount])),
            (volumes.as_str(), json!([volume])),
        ];
        check(patched(&patches))
    };
    let shared = json!({"name": "w", "persistentVolumeClaim": {"claimName": "c"}});
    let problems = with(json!({"name": "w", "mountPath": "/app"}), shared.clone()).err().unwrap();
    let at = format!("{POD_PATH}.containers[0].volumeMounts[0]");
    assert!(says(&problems, &at, "w may hold event files of other Trials and runs"), "{problems:?}");
    let own = json!({"name": "w", "emptyDir": {}});
    let mount = json!({"name": "w", "mountPath": "/app", "subPathExpr": "$(SWEEP_TRIAL)"});
    let problems = with(mount, own.clone()).err().unwrap();
    assert!(says(&problems, &format!("{at}.subPathExpr"), "use subPath"), "{problems:?}");
    assert!(with(json!({"name": "w", "mountPath": "/app/logs"}), own).is_ok());
    assert!(with(json!({"name": "w", "mountPath": "/working"}), shared).is_ok(), "another folder");
}

#[test]
fn what_metrics_look_like() {
    let patterns = |patterns: serde_json::Value| json!({"stdout": {"patterns": patterns}});
    let good = "acc (?P<accuracy>[0-9.]+)";
    let p = "spec.metrics.stdout.patterns";
    all_are_refused(&[
        ("/metrics", patterns(json!([good, "("])), &format!("{p}[1]"), "is no regular expression: unclosed group"),
        ("/metrics", patterns(json!(["acc [0-9]+"])), &format!("{p}[0]"), "has no named group: write (?P<step>"),
        ("/metrics", patterns(json!([good, "x".repeat(513)])), &format!("{p}[1]"), "has more than 512 characters"),
        (
            "/metrics",
            patterns(json!([r"(?P<a>(\w{50}){50})"])),
            &format!("{p}[0]"),
            "is too big: bound its repetitions",
        ),
        ("/metrics", patterns(json!(vec![good; 17])), p, "has more than 16 patterns"),
        (
            "/metrics",
            patterns(json!(["(?P<loss>.*)"])),
            p,
            "none has a group for the objective's metric: write (?P<accuracy>",
        ),
        ("/metrics", json!({"file": {"patterns": ["("]}}), "spec.metrics.file.patterns[0]", "is no regular expression"),
        ("/metrics", json!({"file": {}, "step": "1st"}), "spec.metrics.step", "is not a name"),
        ("/metrics", json!({"file": {}, "step": "accuracy"}), "spec.metrics.step", "it cannot be both"),
        ("/metrics", json!({"file": {}, "additional": ["a", ""]}), "spec.metrics.additional[1]", "1 to 64 characters"),
        ("/metrics", json!({"file": {}, "additional": ["a", "a"]}), "spec.metrics.additional[1]", "stands there twice"),
        ("/metrics", json!({"file": {}, "additional": ["accuracy"]}), "spec.metrics.additional[0]", "is kept whole"),
        ("/metrics", json!({"file": {}, "additional": vec!["a"; 33]}), "spec.metrics.additional", "more than 32"),
    ]);
    let other = [("/objectives/0/metric", json!("val/acc")), ("/metrics", patterns(json!([good])))];
    let problems = check(patched(&other)).err().unwrap();
    assert!(
        problems[0].to_string().starts_with(&format!("{p}: none can have a group of the name \"val/acc\"")),
        "{problems:?}"
    );
    let all = json!({"stdout": {"patterns": [good, r"^\[(?P<step>\d+)\]\s+(?P<lr>\S+) \w+"]}, "step": "global_step", "additional": ["lr"]});
    assert!(check(patched(&[("/metrics", all)])).is_ok());
}

#[test]
fn folds_are_read_from_lines_alone() {
    let with = |metrics: Value| {
        let folds = ("/pruner", json!({"wilcoxon": {"metric": "fold"}}));
        check(patched(&[folds, ("/metrics", metrics)])).err().unwrap_or_default()
    };
    assert_eq!(with(json!({"stdout": {}})), []);
    for metrics in [json!({"tensorBoard": {}}), json!({"prometheus": {"port": 9000}})] {
        let problems = with(metrics);
        let is_it = |problem: &Problem| {
            problem.path == "spec.pruner.wilcoxon.metric" && problem.message.contains("read from lines")
        };
        assert!(problems.iter().any(is_it), "{problems:?}");
    }
}

#[test]
fn limits_and_outputs() {
    all_are_refused(&[
        ("/maxTrials", json!(0), "spec.maxTrials", "must be from 1 to 10000"),
        ("/maxTrials", json!(10_001), "spec.maxTrials", "is 10001"),
        ("/parallelism", json!(1_001), "spec.parallelism", "must be from 0 to 1000"),
        ("/maxFailedTrials", json!(10_001), "spec.maxFailedTrials", "must be from 0 to 10000"),
        ("/seed", json!(1_u64 << 53), "spec.seed", "must be from 0 to 9007199254740991"),
        ("/reportTimeout", json!("soon"), "spec.reportTimeout", "not a duration: write it like 90m"),
        ("/reportTimeout", json!("0m"), "spec.reportTimeout", "not a duration"),
        ("/maxDuration", json!(""), "spec.maxDuration", "not a duration"),
        ("/maxDuration", json!("0s"), "spec.maxDuration", "not a duration"),
        ("/maxDuration", json!("90"), "spec.maxDuration", "write it like 90m"),
        ("/maxDuration", json!("1.5h"), "spec.maxDuration", "write it like 90m"),
        ("/maxDuration", json!("-1h"), "spec.maxDuration", "not a duration"),
        ("/maxDuration", json!("1 h"), "spec.maxDuration", "not a duration"),
        ("/maxDuration", json!("2w"), "spec.maxDuration", "units d, h, m, s"),
        ("/maxDuration", json!("1½h"), "spec.maxDuration", "not a duration"),
        ("/maxDuration", json!("99999999999999999999d"), "spec.maxDuration", "not a duration"),
        ("/maxDuration", json!("9223372036854775807d"), "spec.maxDuration", "not a duration"),
        ("/gpu/count", json!(0), "spec.gpu.count", "must be from 1 to 1024"),
        ("/gpu/resource", json!("gpu"), "spec.gpu.resource", "not an extended resource"),
        ("/gpu/resource", json!("nvidia.com/"), "spec.gpu.resource", "not an extended resource"),
        ("/gpu/resource", json!("a/b/c"), "spec.gpu.resource", "not an extended resource"),
        ("/bestConfigMap/name", json!(""), "spec.bestConfigMap.name", "not the name of a ConfigMap"),
        ("/bestConfigMap/name", json!("Best"), "spec.bestConfigMap.name", "not the name of a ConfigMap"),
        ("/bestConfigMap/name", json!("a".repeat(254)), "spec.bestConfigMap.name", "not the name of a ConfigMap"),
    ]);
}

#[test]
fn names() {
    let spec: StudySpec = serde_json::from_value(spec()).unwrap();
    let long = "a".repeat(41);
    for (name, phrase) in [
        ("", "is missing"),
        ("Digits", "not a DNS label"),
        ("di_gits", "not a DNS label"),
        ("di.gits", "not a DNS label"),
        ("-digits", "not a DNS label"),
        ("digits-", "not a DNS label"),
        ("ziffern-ä", "not a DNS label"),
        (long.as_str(), "at most 40"),
    ] {
        let problems = validate(name, &spec).err().unwrap_or_default();
        assert!(says(&problems, "metadata.name", phrase), "{name:?}: {problems:?}");
    }
    assert!(validate(&"a".repeat(40), &spec).is_ok());
}

#[test]
fn the_job() {
    let rules = vec![json!({"action": "FailJob"}); 20];
    let job = "spec.jobTemplate.spec";
    all_are_refused(&[
        ("/jobTemplate", json!("a Job"), "spec.jobTemplate", "must be an object"),
        ("/jobTemplate", json!([]), "spec.jobTemplate", "must be an object"),
        ("/jobTemplate", json!({}), "POD.containers", "at least one container"),
        ("/jobTemplate/kind", json!("Job"), "spec.jobTemplate.kind", "not a field of a job template"),
        ("/jobTemplate/metadata/name", json!("mine"), "spec.jobTemplate.metadata.name", "set by the operator"),
        ("/jobTemplate/metadata/namespace", json!("x"), "spec.jobTemplate.metadata.namespace", "set by the operator"),
        ("/jobTemplate/metadata/generateName", json!("x"), "spec.jobTemplate.metadata.generateName", "set by"),
        ("/jobTemplate/metadata/ownerReferences", json!([]), "spec.jobTemplate.metadata.ownerReferences", "set by"),
        ("/jobTemplate/metadata/finalizers", json!(["x/y"]), "spec.jobTemplate.metadata.finalizers", "set by"),
        (
            "/jobTemplate/metadata/labels",
            json!({"sweep-operator.dev/study": "x"}),
            "spec.jobTemplate.metadata.labels.sweep-operator.dev/study",
            "is reserved",
        ),
        ("/jobTemplate/metadata/labels", json!(["a"]), "spec.jobTemplate.metadata.labels", "must be an object"),
        ("/jobTemplate/metadata/labels", json!({"a": 1}), "spec.jobTemplate.metadata.labels.a", "must be a string"),
        ("/jobTemplate/spec/suspend", json!(true), &format!("{job}.suspend"), "belongs to the operator"),
        ("/jobTemplate/spec/suspend", json!(false), &format!("{job}.suspend"), "belongs to the operator"),
        ("/jobTemplate/spec/selector", json!({}), &format!("{job}.selector"), "belongs to the operator"),
        ("/jobTemplate/spec/manualSelector", json!(true), &format!("{job}.manualSelector"), "belongs to the operator"),
        ("/jobTemplate/spec/managedBy", json!("x/y"), &format!("{job}.managedBy"), "belongs to the operator"),
        ("/jobTemplate/spec/parallelism", json!(2), &format!("{job}.parallelism"), "needs completionMode Indexed"),
        ("/jobTemplate/spec/completions", json!(2), &format!("{job}.completions"), "needs completionMode Indexed"),
        ("/jobTemplate/spec/completions", json!("2"), &format!("{job}.completions"), "a whole number"),
        (
            "/jobTemplate/spec/activeDeadlineSeconds",
            json!(1.5),
            &format!("{job}.activeDeadlineSeconds"),
            "a whole number",
        ),
        ("/jobTemplate/spec/backoffLimit", json!(-1), &format!("{job}.backoffLimit"), "a whole number"),
        (
            "/jobTemplate/spec/podReplacementPolicy",
            json!("TerminatingOrFailed"),
            &format!("{job}.podReplacementPolicy"),
            "must be Failed",
        ),
        (
            "/jobTemplate/spec/podFailurePolicy/rules",
            json!(rules),
            &format!("{job}.podFailurePolicy.rules"),
            "more than 19 rules",
        ),
        ("/jobTemplate/spec/podFailurePolicy", json!([]), &format!("{job}.podFailurePolicy"), "must be an object"),
        ("/jobTemplate/spec/podFailurePolicy/rules", json!({}), &format!("{job}.podFailurePolicy.rules"), "a list"),
        ("/jobTemplate/spec/template", json!("pod"), &format!("{job}.template"), "must be an object"),
    ]);
}

#[test]
fn the_pod() {
    let meta = "spec.jobTemplate.spec.template.metadata";
    let annotation = "kubectl.kubernetes.io/default-container";
    all_are_refused(&[
        ("POD/containers", Value::Null, "POD.containers", "at least one container"),
        ("POD/containers", json!([]), "POD.containers", "at least one container"),
        ("POD/containers", json!({"name": "trainer"}), "POD.containers", "must be a list"),
        ("POD/containers/0", json!("trainer"), "POD.containers[0]", "must be an object"),
        ("POD/containers/0/name", Value::Null, "POD.containers[0].name", "needs a name"),
        ("POD/containers/0/name", json!("sweep-sidecar"), "POD.containers[0].name", "is reserved"),
        ("POD/containers/-", json!({"name": "trainer"}), "POD.containers[1].name", "is used twice"),
        ("POD/initContainers", json!([{"name": "sweep-sidecar"}]), "POD.initContainers[0].name", "is reserved"),
        ("POD/initContainers", json!([{"name": "trainer"}]), "POD.containers[0].name", "is used twice"),
        ("POD/restartPolicy", json!("OnFailure"), "POD.restartPolicy", "must be Never, not \"OnFailure\""),
        ("POD/restartPolicy", json!("Always"), "POD.restartPolicy", "must be Never"),
        ("POD/volumes", json!([{"name": "sweep-metrics"}]), "POD.volumes[0].name", "is reserved"),
        ("POD/volumes", json!({"name": "data"}), "POD.volumes", "must be a list"),
        ("POD/activeDeadlineSeconds", json!(0), "POD.activeDeadlineSeconds", "a whole number from 1 to 2147483647"),
        ("POD/activeDeadlineSeconds", json!("2m"), "POD.activeDeadlineSeconds", "a whole number from 1"),
        ("POD/activeDeadlineSeconds", json!(2147483648_u64), "POD.activeDeadlineSeconds", "a whole number from 1"),
        ("POD/terminationGracePeriodSeconds", json!("30s"), "POD.terminationGracePeriodSeconds", "a whole number"),
        ("POD/terminationGracePeriodSeconds", json!(-1), "POD.terminationGracePeriodSeconds", "a whole number"),
        ("POD/securityContext", json!("root"), "POD.securityContext", "must be an object"),
        (
            "/jobTemplate/spec/template/metadata/annotations",
            json!({annotation: "worker"}),
            &format!("{meta}.annotations.{annotation}"),
            "names the trainer \"worker\"",
        ),
        ("/jobTemplate/spec/template/metadata/name", json!("x"), &format!("{meta}.name"), "set by the operator"),
        ("/jobTemplate/spec/template/metadata/finalizers", json!([]), &format!("{meta}.finalizers"), "set by"),
        ("/jobTemplate/spec/template/metadata/labels", json!("x"), &format!("{meta}.labels"), "must be an object"),
    ]);
}

#[test]
fn the_containers() {
    let c = "POD/containers/0";
    let p = "POD.containers[0]";
    let mount = |name: &str, path: &str| json!([{"name": name, "mountPath": path}]);
    all_are_refused(&[
        (
            &format!("{c}/volumeMounts"),
            mount("x", "/run/sweep-operator"),
            &format!("{p}.volumeMounts[0].mountPath"),
            "reserved",
        ),
        (
            &format!("{c}/volumeMounts"),
            mount("x", "/run/sweep-operator/"),
            &format!("{p}.volumeMounts[0].mountPath"),
            "reserved",
        ),
        (
            &format!("{c}/volumeMounts"),
            mount("x", "/run//sweep-operator/a"),
            &format!("{p}.volumeMounts[0].mountPath"),
            "reserved",
        ),
        (&format!("{c}/volumeMounts"), mount("sweep-metrics", "/m"), &format!("{p}.volumeMounts[0].name"), "reserved"),
        (&format!("{c}/volumeMounts"), json!({}), &format!("{p}.volumeMounts"), "must be a list"),
        (&format!("{c}/resources"), json!("a lot"), &format!("{p}.resources"), "must be an object"),
        (&format!("{c}/resources/limits"), json!(["cpu"]), &format!("{p}.resources.limits"), "must be an object"),
        (&format!("{c}/resources/limits"), json!({"nvidia.com/gpu": 1}), "spec.gpu", "resources.limits: keep one"),
        (
            &format!("{c}/resources/requests"),
            json!({"nvidia.com/gpu": "1"}),
            "spec.gpu",
            "resources.requests: keep one",
        ),
        (&format!("{c}/env"), json!({"A": "b"}), &format!("{p}.env"), "must be a list"),
        (
            &format!("{c}/env"),
            json!([{"name": "SWEEP_X", "value": "1"}]),
            &format!("{p}.env[0].name"),
            "SWEEP_ is reserved",
        ),
        (
            &format!("{c}/env"),
            json!([{"name": "layers", "value": "1"}]),
            &format!("{p}.env[0].name"),
            "would be hidden",
        ),
        (&format!("{c}/args"), json!("--all"), &format!("{p}.args"), "must be a list"),
        (
            "POD/initContainers",
            json!([{"name": "i", "env": [{"name": "batch"}]}]),
            "POD.initContainers[0].env[0].name",
            "hidden",
        ),
    ]);
}

#[test]
fn a_reference_to_a_parameter_that_may_be_unset() {
    let container = format!("{POD}/containers/0");
    let args = format!("{container}/args");
    let value = format!("{container}/env");
    let unset = ("/parameters/4/inactiveValue", Value::Null);
    let at = format!("{POD_PATH}.containers[0]");
    for (pointer, new, path) in [
        (&args, json!(["a", "--momentum=$(momentum)"]), format!("{at}.args[1]")),
        (&args, json!(["$$$(momentum)"]), format!("{at}.args[0]")),
        (&args, json!(["$(batch)$(momentum)"]), format!("{at}.args[0]")),
        (&value, json!([{"name": "M", "value": "$(momentum)"}]), format!("{at}.env[0].value")),
    ] {
        let problems = check(patched(&[unset.clone(), (pointer, new.clone())])).err().unwrap_or_default();
        assert!(says(&problems, &path, "give momentum an inactiveValue"), "{new}: {problems:?}");
    }
    for literal in ["$$(momentum)", "$(momentum", "$momentum", "(momentum)", "$(weights)", "$", "$("] {
        let spec = patched(&[unset.clone(), (&args, json!([literal]))]);
        assert_eq!(check(spec).map(|_| ()), Ok(()), "{literal}");
    }
}

/// (path, message) of each problem or warning.
type Said = Vec<(String, String)>;

/// What is said of the study with `container` put over its trainer's fields: (path below the container, message).
fn said_of(container: Value) -> Result<Said, Said> {
    let pointer = format!("{POD}/containers/0");
    let mut patches = vec![(format!("{pointer}/command"), Value::Null), (format!("{pointer}/args"), Value::Null)];
    let fields = container.as_object().unwrap().iter();
    patches.extend(fields.map(|(field, value)| (format!("{pointer}/{field}"), value.clone())));
    let patches: Vec<(&str, Value)> = patches.iter().map(|(at, value)| (at.as_str(), value.clone())).collect();
    let path = format!("{POD_PATH}.containers[0].");
    let below =
        |problems: Vec<Problem>| problems.into_iter().map(|p| (p.path.replace(&path, ""), p.message)).collect::<Said>();
    check(patched(&patches)).map(|valid| below(valid.warnings)).map_err(below)
}

#[test]
fn a_reference_that_is_nearly_a_parameter_is_refused() {
    let near = |name: &str, parameter: &str| {
        format!("$({name}) is no parameter, and would stay as it is: did you mean $({parameter})?")
    };
    for (container, path, name, parameter) in [
        (json!({"args": ["a", "--lr=$(learning-rate)"]}), "args[1]", "learning-rate", "learning_rate"),
        (json!({"args": ["$(LEARNING_RATE)"]}), "args[0]", "LEARNING_RATE", "learning_rate"),
        (json!({"args": ["$(learningRate)"]}), "args[0]", "learningRate", "learning_rate"),
        (json!({"args": ["$(learning.rate)"]}), "args[0]", "learning.rate", "learning_rate"),
        (json!({"args": ["$(learnig_rate)"]}), "args[0]", "learnig_rate", "learning_rate"),
        (json!({"args": ["$(layer)"]}), "args[0]", "layer", "layers"),
        (json!({"args": ["$$$(btach)"]}), "args[0]", "btach", "batch"),
        (json!({"command": ["python", "$(Layers)"]}), "command[1]", "Layers", "layers"),
        (
            json!({"env": [{"name": "A", "value": "$(batches)"}, {"name": "LR", "value": "x$(learning-rate)"}]}),
            "env[1].value",
            "learning-rate",
            "learning_rate",
        ),
        // Another argument than the shell's script, or no shell at all.
        (
            json!({"command": ["sh", "-c", "exec \"$@\"", "sh", "$(learning-rate)"]}),
            "command[4]",
            "learning-rate",
            "learning_rate",
        ),
        (
            json!({"command": ["python", "-c", "print($(learning-rate))"]}),
            "command[2]",
            "learning-rate",
            "learning_rate",
        ),
        // What this ConfigMap sets begins otherwise.
        (
            json!({"args": ["$(learning-rate)"], "envFrom": [{"prefix": "CFG_", "configMapRef": {"name": "c"}}]}),
            "args[0]",
            "learning-rate",
            "learning_rate",
        ),
    ] {
        let said = said_of(container.clone()).unwrap_err();
        assert_eq!(said, [(path.to_owned(), near(name, parameter))], "{container}");
    }
    let init = json!([{"name": "fetch", "image": "i", "args": ["$(learning-rate)"]}]);
    let problems = check(patched(&[(&format!("{POD}/initContainers"), init)])).err().unwrap();
    assert!(says(&problems, &format!("{POD_PATH}.initContainers[0].args[0]"), "did you mean $(learning_rate)?"));
}

#[test]
fn a_reference_that_nothing_seems_to_set_is_warned_of() {
    let indexed = [("/jobTemplate/spec/completionMode", json!("Indexed"))];
    for (container, path, phrase) in [
        (json!({"args": ["$(MASTER_ADDR)"]}), "args[0]", "no parameter, and not in env; unless the cluster sets it"),
        (json!({"args": ["$(HOME)/data"]}), "args[0]", "no variables of the image"),
        (json!({"env": [{"name": "PATH", "value": "/opt:$(PATH)"}]}), "env[0].value", "PATH does not"),
        (json!({"env": [{"name": "A", "value": "$(B)"}, {"name": "B", "value": "1"}]}), "env[0].value", "B does not"),
        (json!({"args": ["--out=$(date +%s)"]}), "args[0]", "$(date +%s) stays as it is: no shell reads it"),
        (json!({"args": ["$(y)"]}), "args[0]", "$(y) stays as it is"),
        (json!({"args": ["--lr", "$learning_rate"]}), "args[1]", "$learning_rate stays as it is, since no shell"),
        (json!({"args": ["--lr=${learning_rate}"]}), "args[0]", "write $(learning_rate)"),
        (json!({"args": ["${trialParameters.learningRate}"]}), "args[0]", "write $(learning_rate)"),
        (json!({"env": [{"name": "LR", "value": "${LEARNING_RATE}"}]}), "env[0].value", "write $(learning_rate)"),
        (
            json!({"command": ["sh", "-c", "python train.py --lr=$(learning-rate)"]}),
            "command[2]",
            "the shell would run a command learning-rate; did you mean $(learning_rate)?",
        ),
        (
            json!({"command": ["/bin/bash", "-lc"], "args": ["train --layers=$(layer)"]}),
            "args[0]",
            "did you mean $(layers)?",
        ),
        (
            json!({"args": ["$(learning-rate)"], "envFrom": [{"configMapRef": {"name": "c"}}]}),
            "args[0]",
            "unless envFrom sets it; did you mean $(learning_rate)?",
        ),
    ] {
        let said = said_of(container.clone()).unwrap();
        assert_eq!(said.len(), 1, "{container}: {said:?}");
        assert!(said[0].0 == path && said[0].1.contains(phrase), "{container}: {said:?}");
    }
    // Where metrics are printed, no file is named; and the Job controller's variable stands behind those of env.
    let args = format!("{POD}/containers/0/args");
    let stdout = [("/metrics", json!({"stdout": {}})), (args.as_str(), json!(["$(SWEEP_METRICS)"]))];
    assert!(says(
        &check(patched(&stdout)).unwrap().warnings,
        &format!("{POD_PATH}.containers[0].args[0]"),
        "the trainer alone"
    ));
    let mut index = indexed.to_vec();
    let env = format!("{POD}/containers/0/env");
    index.push((env.as_str(), json!([{"name": "RANK", "value": "$(JOB_COMPLETION_INDEX)"}])));
    assert_eq!(check(patched(&index)).unwrap().warnings.len(), 1);
}

#[test]
fn a_reference_that_is_set_or_a_literal_or_the_shells_own_is_not_warned_of() {
    for container in [
        json!({"args": ["$(learning_rate)", "$(SWEEP_TRIAL)/$(SWEEP_METRICS)", "$(KUBERNETES_SERVICE_HOST)"]}),
        json!({"args": ["$$(learning-rate)", "$$learning_rate", "$", "$(", "100%", "$1", "(learning-rate)"]}),
        json!({"args": ["$(learning-rate)"], "env": [{"name": "learning-rate", "value": "$(learning_rate)"}]}),
        json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(batch)"}]}),
        json!({"args": ["$(FROM_A_SECRET)"], "envFrom": [{"secretRef": {"name": "s"}}]}),
        json!({"command": ["sh", "-c", "torchrun --nproc=$(nproc) --at=$(date +%s) --lr=$learning_rate ${batch}"]}),
        json!({"command": ["bash", "-euo", "pipefail", "-c", "x=$(cat f | wc -l); y=$((x + 1)); echo $(ls)"]}),
        json!({"command": ["/bin/sh", "-ec"], "args": ["exec train $(hostname)"]}),
    ] {
        assert_eq!(said_of(container.clone()), Ok(Vec::new()), "{container}");
    }
    // One letter is no typo of another, but the same letter is.
    let one = |args: &str| {
        let x = json!([{"name": "x", "int": {"min": 0, "max": 9}}]);
        let args = (format!("{POD}/containers/0/args"), json!([args]));
        let patches = [("/parameters", x), ("/initialAssignments", Value::Null), (args.0.as_str(), args.1)];
        check(patched(&patches)).map(|valid| valid.warnings.len()).map_err(|problems| problems.len())
    };
    assert_eq!((one("$(x)"), one("$(y)"), one("$(xs)"), one("$(X)")), (Ok(0), Ok(1), Ok(1), Err(1)));
    let command = json!({"command": ["sh", "-c", "date=$(date)"]});
    let rate = [("/parameters/2/name", json!("rate")), ("/initialAssignments", Value::Null)];
    let container = (format!("{POD}/containers/0/command"), command["command"].clone());
    let patches = [rate[0].clone(), rate[1].clone(), (container.0.as_str(), container.1)];
    assert_eq!(check(patched(&patches)).unwrap().warnings, []);
}

#[test]
fn warnings_stand_in_a_condition_that_changes_with_the_spec_only() {
    let valid = check(patched(&[(&format!("{POD}/containers/0/args"), json!(["$(RANK)"]))])).unwrap();
    let (first, later) = ("2026-01-01T00:00:00Z".parse().unwrap(), "2026-01-01T01:00:00Z".parse().unwrap());
    let status = |old: &StudyStatus, now| {
        let mut status = StudyStatus::default();
        warn(&mut status, &valid.warnings, old, Some(1), now);
        status
    };
    let once = status(&StudyStatus::default(), first);
    assert_eq!(status(&once, later), once);
    assert_eq!((once.conditions.len(), once.conditions[0].type_.as_str()), (1, "SpecWarning"));
    assert!(once.conditions[0].message.starts_with(&format!("{POD_PATH}.containers[0].args[0]: $(RANK) stays")));
    let mut none = StudyStatus::default();
    warn(&mut none, &[], &once, Some(2), later);
    assert_eq!(none.conditions, []);
}

#[test]
fn every_problem_is_listed_at_once() {
    let spec = patched(&[
        ("/objectives/0/metric", json!("step")),
        ("/parameters/1/name", json!("PATH")),
        ("/parameters/2/discrete/values", json!([])),
        ("/sampler", json!({})),
        ("/maxTrials", json!(0)),
        ("/maxDuration", json!("soon")),
        ("/jobTemplate/spec/suspend", json!(true)),
        (&format!("{POD}/restartPolicy"), json!("Always")),
    ]);
    let problems = check(spec).err().unwrap_or_default();
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "spec.objectives[0].metric",
            "spec.parameters[1].name",
            "spec.parameters[2].discrete.values",
            "spec.sampler",
            "spec.maxTrials",
            "spec.maxDuration",
            "spec.jobTemplate.spec.suspend",
            "spec.jobTemplate.spec.template.spec.restartPolicy",
        ]
    );
}

#[test]
fn what_is_unusual_but_right_is_accepted() {
    for (pointer, new) in [
        ("/parallelism", json!(0)),
        ("/parallelism", Value::Null),
        ("/maxFailedTrials", json!(0)),
        ("/maxDuration", json!("1d2h3m4s")),
        ("/sampler", Value::Null),
        ("/pruner", Value::Null),
        ("/pruner", json!({"median": {}})),
        ("/metrics", Value::Null),
        ("/initialAssignments", Value::Null),
        ("/parameters/3/categorical/values", json!(["", "sgd", "adam", "$(HOME)", "ä \n"])),
        ("/parameters/2/discrete/values", json!([128, 32, 16.5])),
        ("/parameters/0/double", json!({"min": -1e308, "max": 1e308})),
        ("/jobTemplate/metadata", json!({"creationTimestamp": null, "labels": {"team": "vision"}})),
        ("/jobTemplate/spec/completionMode", json!("Indexed")),
        ("/jobTemplate/spec/podFailurePolicy", json!({"rules": vec![json!({"action": "FailJob"}); 19]})),
        ("/jobTemplate/spec/aFieldOfTomorrow", json!([1, 2])),
    ] {
        assert_eq!(check(patched(&[(pointer, new.clone())])).map(|_| ()), Ok(()), "{pointer} = {new}");
    }
}

#[test]
fn of_a_spec_that_was_edited_into_an_invalid_one_the_rest_still_holds() {
    let edits = [
        ("/maxTrials", json!(0)),
        ("/maxDuration", json!("soon")),
        ("/reportTimeout", json!("soon")),
        ("/jobTemplate/spec/template/spec/containers", json!([])),
    ];
    let edited: StudySpec = serde_json::from_value(patched(&edits)).unwrap();
    assert!(validate("digits", &edited).is_err());
    let rest = validate_immutable("digits", &edited).unwrap();
    let whole = check(spec()).unwrap();
    assert_eq!((rest.core.objective, rest.core.seed), (whole.core.objective, whole.core.seed));
    assert_eq!(rest.template.source, whole.template.source);
    // What cannot be edited is not guessed.
    let other: StudySpec = serde_json::from_value(patched(&[("/parameters", json!([]))])).unwrap();
    assert!(validate_immutable("digits", &other).is_none());
}

/// What is wrong with a Study; that it cannot be read is a problem, too.
fn problems_of(study: &Value) -> Vec<Problem> {
    let name = study["metadata"]["name"].as_str().unwrap();
    match serde_json::from_value::<StudySpec>(study["spec"].clone()) {
        Ok(spec) => validate(name, &spec).err().unwrap_or_default(),
        Err(error) => vec![Problem { path: "spec".to_owned(), message: error.to_string() }],
    }
}

/// The same table is put before a real API server in `tests/cluster/mistakes.rs`.
#[test]
fn what_the_api_server_refuses_is_refused_with_the_field() {
    assert_eq!(problems_of(&right()), []);
    let index = Regex::new("/([0-9]+)").unwrap();
    for (pointer, new, _) in wrong() {
        let problems = problems_of(&with(pointer, &new));
        let object = pointer.rsplit_once('/').unwrap().0;
        let above = index.replace_all(object, "[$1]").replace('/', ".");
        let above = above.trim_start_matches('.');
        let names_it = |problem: &Problem| problem.path.starts_with(above) || problem.path == "spec";
        assert!(problems.iter().any(names_it), "{pointer} = {new}: {problems:?}");
    }
}
