"""Which trials pruners stop, beside Optuna's: recorded learning curves of real trainings, replayed under a simulated clock.

    python pruning.py --workers 8 --orders 40 curves/*.json
    python pruning.py --workers 32 --subset 0.6 curves/digits_mlp.json

A table is {"metric": NAME, "steps": R, "curves": [[loss at step 1..R], ...]}. All pruners see the same configurations in the same
order; a step costs 1. Printed of each: the steps against no pruning, the mean regret of the best that ran to its end, and how often
that was the best of the table. `--subset`: each order keeps so much of the table, so that there are other winners."""
import argparse
import heapq
import json
import random
import statistics

from drivers import Optuna, Sweep
from problems import integer


def replay(sweep, order, curves, workers):
    """How many steps were run, and which rows to their end."""
    used, ended, queue, running = 0, [], list(order), []
    clock = 0.0
    while queue or running:
        while queue and len(running) < workers:
            row = queue.pop(0)
            heapq.heappush(running, (clock + 1, sweep.ask({"row": row})[0], row, 1))
        clock, trial, row, step = heapq.heappop(running)
        used += 1
        value = curves[row][step - 1]
        stop = sweep.is_stopped(trial, step, value)
        if step == len(curves[row]):
            sweep.tell(trial, value)
            ended.append(row)
        elif stop:
            sweep.prune(trial)
        else:
            heapq.heappush(running, (clock + 1, trial, row, step + 1))
    sweep.close()
    return used, ended


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--orders", type=int, default=40)
    parser.add_argument("--subset", type=float, default=1.0)
    parser.add_argument("--command", default="sweep ask-tell")
    parser.add_argument("--pruners", default="forecast,median,percentile,hyperband,asha")
    arguments = parser.parse_args()
    for table in arguments.tables:
        with open(table) as file:
            known = json.load(file)
        curves, steps = known["curves"], known["steps"]
        final = [curve[-1] for curve in curves]
        print(f"{table}: {len(curves)} curves of {steps} steps, {arguments.workers} workers", flush=True)
        for pruner in arguments.pruners.split(","):
            for side in ["ours", "Optuna"]:
                if side == "Optuna" and pruner == "forecast":
                    continue
                used, regret, kept = [], [], []
                for seed in range(arguments.orders):
                    order = list(range(len(curves)))
                    random.Random(seed).shuffle(order)
                    order = order[:round(arguments.subset * len(order))]
                    # The configuration is its number: pruners look at curves alone.
                    space = [integer("row", 0, len(curves))]
                    sweep = (Sweep(arguments.command, "random", space, seed, arguments.workers, pruner, steps) if side == "ours"
                             else Optuna("random", space, seed, pruner, steps))
                    steps_used, ended = replay(sweep, order, curves, arguments.workers)
                    best = min(final[row] for row in order)
                    reached = min((final[row] for row in ended), default=max(final))
                    used.append(steps_used / sum(len(curves[row]) for row in order))
                    regret.append(reached - best)
                    kept.append(reached == best)
                print(f"  {pruner:10s} {side:6s}  steps {statistics.mean(used):.3f}  regret {statistics.mean(regret):.4f}  kept {100 * statistics.mean(kept):.0f} %", flush=True)


if __name__ == "__main__":
    main()
