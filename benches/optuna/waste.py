"""Trials that teach nothing: sweeps of objectives that tempt a sampler to come back, and how often it does.

    python waste.py --samplers auto,gp,tpe,cmaes,sobol,random

For each sampler and objective, one at a time and eight at a time: how many of 200 trials repeat an earlier one, how many lie
within a ten-thousandth of each range of one, how near the nearest two that ever ran together were, and the best value."""
import argparse
import heapq
import math
import random

from drivers import Sweep
from problems import double

LINE = [double("lr", 1e-5, 1.0, log=True)]
BOX = LINE + [double("a", 0.0, 1.0), double("b", -3.0, 5.0)]


def objectives():
    """By name: the value at a point of the unit cube; None is a failed trial."""
    noise = random.Random(5)
    square = lambda u, centre: sum((x - centre) ** 2 for x in u)
    return {
        "corner": lambda u: len(u) - sum(u), "flat": lambda u: 0.5, "steps": lambda u: math.floor(4 * u[0]),
        "noisy": lambda u: square(u, 0.3) + noise.gauss(0, 0.1),
        "a third fails": lambda u: None if u[0] < 1 / 3 else square(u, 0.35),
    }


def point(space, params):
    def unit(p):
        numbers, x = p["double"], params[p["name"]]
        low, high = numbers["min"], numbers["max"]
        return math.log(x / low) / math.log(high / low) if "scale" in numbers else (x - low) / (high - low)
    return [unit(p) for p in space]


def distance(a, b):
    return max(abs(x - y) for x, y in zip(a, b))


def run(program, sampler, space, objective, trials, workers, seed):
    driver, clock = Sweep(program, sampler, space, seed, workers), random.Random(seed)
    busy, points, values, now, together = [], [], [], 0.0, math.inf
    while len(values) < trials:
        while len(points) < trials and len(busy) < workers:
            trial, params = driver.ask()
            x = point(space, params)
            together = min([together] + [distance(x, other) for _, _, other in busy])
            points.append(x)
            heapq.heappush(busy, (now + clock.lognormvariate(0, 0.5), trial, x))
        now, trial, x = heapq.heappop(busy)
        values.append(objective(x))
        driver.tell(trial, values[-1])
    driver.close()
    nearest = [min((distance(points[i], points[j]) for j in range(i)), default=math.inf) for i in range(trials)]
    return sum(d == 0 for d in nearest), sum(d <= 1e-4 for d in nearest), together, min(v for v in values if v is not None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", default="auto,gp,tpe,cmaes,sobol,random")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--sweep", default="sweep ask-tell", help="our program")
    args = parser.parse_args()
    print("| sampler | objective | parameters | at a time | repeated | too near | least apart while running | best |\n|" + "---|" * 8)
    for sampler in args.samplers.split(","):
        for space in (LINE, BOX):
            for workers in (1, 8):
                for name, objective in objectives().items():
                    repeated, near, together, best = run(args.sweep, sampler, space, objective, args.trials, workers, args.seed)
                    apart = f"{together:.1e}" if workers > 1 else ""
                    print(f"| {sampler} | {name} | {len(space)} | {workers} | {repeated} | {near} | {apart} | {best:.3g} |", flush=True)
