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
import subprocess
import warnings


class Sweep:
    """A program that speaks the protocol of `sweep ask-tell`."""

    def __init__(self, command, pruner, seed, steps, trials, workers):
        rungs = {"maxSteps": steps, "reductionFactor": 3}
        pruners = {"forecast": {"maxSteps": steps}, "median": {}, "percentile": {"percentile": 25}, "hyperband": rungs, "asha": rungs}
        self.process = subprocess.Popen(command, shell=True, text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        # The configuration is its number: pruners look at curves alone.
        self.call(op="init", study={
            "objectives": [{"metric": "loss", "direction": "Minimize"}], "sampler": {"random": {}}, "seed": seed,
            "parameters": [{"name": "row", "int": {"min": 0, "max": trials}}], "pruner": {pruner: pruners[pruner]},
            "maxTrials": 10000, "parallelism": workers})

    def call(self, **message):
        self.process.stdin.write(json.dumps(message) + "\n")
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def ask(self, row):
        return self.call(op="ask", params={"row": row})["id"]

    def is_stopped(self, trial, step, value):
        return self.call(op="report", id=trial, step=step, value=value)["decision"] == "stop"

    def tell(self, trial, value):
        self.call(op="tell", id=trial, **({"state": "pruned"} if value is None else {"value": value}))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Optuna:
    """The same of Optuna; with its defaults."""

    def __init__(self, pruner, seed, steps):
        import optuna
        warnings.filterwarnings("ignore")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        make = {
            "median": optuna.pruners.MedianPruner,
            "percentile": lambda: optuna.pruners.PercentilePruner(25.0),
            "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=steps, reduction_factor=3),
            "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        }[pruner]
        # The name decides which bracket a trial gets.
        self.study = optuna.create_study(study_name=f"s{seed}", pruner=make(), sampler=optuna.samplers.RandomSampler(seed=seed))
        self.trials, self.pruned = {}, optuna.trial.TrialState.PRUNED

    def ask(self, _):
        trial = self.study.ask()
        self.trials[trial.number] = trial
        return trial.number

    def is_stopped(self, trial, step, value):
        self.trials[trial].report(value, step)
        return self.trials[trial].should_prune()

    def tell(self, trial, value):
        self.study.tell(self.trials[trial], value, **({"state": self.pruned} if value is None else {}))

    def close(self):
        pass


def replay(sweep, order, curves, workers):
    """How many steps were run, and which rows to their end."""
    used, ended, queue, running = 0, [], list(order), []
    clock = 0.0
    while queue or running:
        while queue and len(running) < workers:
            row = queue.pop(0)
            heapq.heappush(running, (clock + 1, sweep.ask(row), row, 1))
        clock, trial, row, step = heapq.heappop(running)
        used += 1
        value = curves[row][step - 1]
        stop = sweep.is_stopped(trial, step, value)
        if step == len(curves[row]):
            sweep.tell(trial, value)
            ended.append(row)
        elif stop:
            sweep.tell(trial, None)
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
                    ours = side == "ours"
                    sweep = Sweep(arguments.command, pruner, seed, steps, len(curves), arguments.workers) if ours else Optuna(pruner, seed, steps)
                    steps_used, ended = replay(sweep, order, curves, arguments.workers)
                    best = min(final[row] for row in order)
                    reached = min((final[row] for row in ended), default=max(final))
                    used.append(steps_used / sum(len(curves[row]) for row in order))
                    regret.append(reached - best)
                    kept.append(reached == best)
                print(f"  {pruner:10s} {side:6s}  steps {statistics.mean(used):.3f}  regret {statistics.mean(regret):.4f}  kept {100 * statistics.mean(kept):.0f} %", flush=True)


if __name__ == "__main__":
    main()
