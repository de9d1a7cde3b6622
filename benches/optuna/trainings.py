"""Trainings: spaces, as those of `problems.py`, and what gives a training's losses one after the other, 27 to the whole of it. One that
diverged reports the highest loss from there on: pruners are compared here, not what is made of failures."""
import functools
import itertools
import json
import math
import pathlib
import warnings

from problems import NETWORK, category, double, epochs, integer, np

STEPS = 27


def digits_mlp_live(p):
    """Cross entropy of a small network on held-out digits, after each epoch."""
    return (min(loss, 10.0) if math.isfinite(loss) else 10.0 for loss in epochs(p))  # Chance has 2.3.


XGBOOST = [
    double("eta", 0.005, 1.0, log=True), integer("max_depth", 1, 10), double("min_child_weight", 0.1, 20.0, log=True),
    double("subsample", 0.3, 1.0), double("colsample_bytree", 0.2, 1.0), double("lambda", 1e-3, 100.0, log=True),
    double("gamma", 1e-4, 1.0, log=True), category("grow_policy", "depthwise", "lossguide"),
    integer("max_leaves", 2, 64, log=True, when=("grow_policy", "lossguide")),
]


@functools.lru_cache(None)
def breast_cancer():
    from sklearn.datasets import load_breast_cancer
    import xgboost
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return [xgboost.DMatrix(x[rows], y[rows], nthread=1) for rows in (order[:300], order[300:])]


def xgboost_live(p):
    """Log loss of boosted trees on held-out cases of scikit-learn's breast cancer data, after each three rounds."""
    import xgboost
    known, held_out = breast_cancer()
    fixed = {"objective": "binary:logistic", "tree_method": "hist", "nthread": 1, "seed_per_iteration": True, "verbosity": 0}  # Trainings take turns.
    booster = xgboost.Booster(fixed | p, [known, held_out])
    for round in itertools.count(1):
        booster.update(known, round)
        if round % 3 == 0:
            chances = np.clip(booster.predict(held_out).astype(float), 1e-7, 1 - 1e-7)
            yield float(-np.log(np.where(held_out.get_label() == 1, chances, 1 - chances)).mean())


@functools.lru_cache(None)
def recorded(table):
    return json.loads((pathlib.Path(__file__).parent / "curves" / f"{table}.json").read_text())


@functools.lru_cache(None)
def surrogate(table):
    """From parameters to a whole curve: Gaussian processes for the weights of a recorded table's first eight principal
    components; of logarithms, and of every third step."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
    warnings.filterwarnings("ignore")  # Lengthscales at their bounds.
    known = recorded(table)
    space = known["space"]

    def point(p):
        """In the unit cube: categories have one coordinate each, what does not exist lies in the middle."""
        x = []
        for q in space:
            value = p.get(q["name"])
            if "categorical" in q:
                x += [float(value == v) for v in q["categorical"]["values"][1:]]
            elif value is None:
                x.append(0.5)
            else:
                numbers = q.get("double") or q["int"]
                low, high = numbers["min"], numbers["max"]
                x.append(math.log(value / low) / math.log(high / low) if "scale" in numbers else (value - low) / (high - low))
        return x
    points = np.array([point(p) for p in known["configs"]])
    logs = np.log(np.array(known["curves"])[:, known["steps"] // STEPS - 1::known["steps"] // STEPS])
    mean = logs.mean(0)
    components = np.linalg.svd(logs - mean, full_matrices=False)[2][:8]
    kernel = ConstantKernel() * Matern(np.ones(points.shape[1]), (0.1, 20), nu=2.5) + WhiteKernel(1e-2, (1e-4, 1))
    models = [GaussianProcessRegressor(kernel, normalize_y=True, random_state=0).fit(points, weights)
              for weights in ((logs - mean) @ components.T).T]
    return lambda p: np.exp(mean + np.array([m.predict([point(p)])[0] for m in models]) @ components)


def surrogate_of(table):
    return recorded(table)["space"], lambda p: iter(surrogate(table)(p).tolist())


# name: (space, from parameters to the losses)
TRAININGS = {
    "digits_mlp_live": (NETWORK, digits_mlp_live),
    "xgboost_live": (XGBOOST, xgboost_live),
    "digits_mlp": surrogate_of("digits_mlp"),
    "diabetes_boosting": surrogate_of("diabetes_boosting"),
}
