"""How many steps samplers need under a pruner, beside Optuna's: live trainings, and surrogates of recorded ones.

    python pairs.py run --pairs auto,auto+forecast,tpe,tpe+forecast --optuna tpe,tpe+median,tpe+hyperband --seeds 20 --out pairs.jsonl
    python pairs.py run --pairs "" --optuna gp+median,gp+hyperband --seeds 5 --out pairs.jsonl
    python pairs.py report pairs.jsonl

A pair is `SAMPLER`, `SAMPLER+PRUNER`, or `LABEL=PAIR@COMMAND` for one of another program that speaks the protocol of `sweep ask-tell`.
Trials run at eight workers under a simulated clock, where a step costs 1; a sweep ends when it has run as many steps as so many whole
trials have. What counts is the value of trials that came to their end, and the steps of all. Every run is a line of the output; what
stands in it already is not run again."""
import argparse
import heapq
import json
import math
import statistics
from multiprocessing import Pool

from compare import read
from drivers import Optuna, Sweep, contestants
from trainings import STEPS, TRAININGS


def one(job):
    """When one sweep came to better values: [steps of all trials until then, value]."""
    label, program, pair, problem, seed, trials, workers = job
    sampler, _, pruner = pair.partition("+")
    space, training = TRAININGS[problem]
    arguments = sampler, space, seed
    driver = (Optuna(*arguments, pruner or None, STEPS) if program is None
              else Sweep(program, *arguments, workers, pruner or None, STEPS))
    running, best, trace, clock, asked, ended = [], math.inf, [], 0, 0, 0
    for used in range(1, trials * STEPS + 1):
        while len(running) < workers:
            trial, params = driver.ask()
            asked += 1
            heapq.heappush(running, (clock + 1, trial, 1, training(params)))
        clock, trial, step, losses = heapq.heappop(running)
        value = next(losses)
        stop = driver.is_stopped(trial, step, value) if pruner else False
        if step == STEPS:
            driver.tell(trial, value)
            ended += 1
            if value < best:
                best = value
                trace.append([used, value])
        elif stop:
            driver.prune(trial)
        else:
            heapq.heappush(running, (clock + 1, trial, step + 1, losses))
    driver.close()
    return {"pair": label, "problem": problem, "seed": seed, "workers": workers, "trials": trials,
            "asked": asked, "ended": ended, "trace": trace}


def run(args):
    pairs = contestants(args.pairs, args.sweep, args.optuna)
    problems = TRAININGS if args.problems == "all" else args.problems.split(",")
    done = {(r["pair"], r["problem"], r["seed"], r["workers"], r["trials"]) for r in read(args.out)}
    jobs = [(*pair, problem, seed, args.trials, args.workers)
            for seed in range(args.seeds) for problem in problems for pair in pairs
            if (pair[0], problem, seed, args.workers, args.trials) not in done]
    with Pool(args.processes) as pool, open(args.out, "a") as out:
        for result in pool.imap_unordered(one, jobs):
            print(json.dumps(result), file=out, flush=True)


def best(run, steps):
    """The best value after so many steps."""
    return min((value for used, value in run["trace"] if used <= steps), default=math.inf)


def steps_to(run, target):
    """Steps until the target was reached; the whole budget where it was not."""
    return next((used for used, value in run["trace"] if value <= target), run["trials"] * STEPS)


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def report(args):
    runs = {}
    for r in read(args.file):
        if (r["workers"], r["trials"]) == (args.workers, args.trials) and r["seed"] < args.seeds:
            runs.setdefault(r["pair"], {}).setdefault(r["problem"], []).append(r)
    chosen = TRAININGS if args.problems == "all" else args.problems.split(",")
    problems = [p for p in chosen if any(p in of for of in runs.values())]
    pairs = [pair for pair, of in runs.items() if all(len(of.get(p, [])) >= args.least for p in problems)]
    theirs = [pair for pair in pairs if pair.startswith("optuna ") and "+" in pair]
    ours = [pair for pair in pairs if not pair.startswith("optuna ")]
    budget = args.trials * STEPS
    median = lambda of, pair, problem: statistics.median(map(of, runs[pair][problem]))
    mean = lambda ratios: math.exp(statistics.fmean(map(math.log, ratios)))
    seeds = {pair: min(len(runs[pair][p]) for p in problems) for pair in pairs}
    print(f"Sweeps of {budget} steps, {args.trials} whole trials. Runs a problem: " + ", ".join(f"{p} {n}" for p, n in seeds.items()) + "\n")

    for of in filter(runs.get, args.targets.split(",")):
        target = {p: median(lambda r: best(r, budget), of, p) for p in problems}
        print(f"Steps to what {of} has in the end, as a median; medians, and how many runs reach it:\n")
        steps = {pair: {p: median(lambda r: steps_to(r, target[p]), pair, p) for p in problems} for pair in pairs}
        share = lambda pair, p: statistics.fmean(best(r, budget) <= target[p] for r in runs[pair][p])
        table(["", *(f"{p} ({target[p]:.5g})" for p in problems)],
              [[pair, *(f"{steps[pair][p]:.0f} ({100 * share(pair, p):.0f} %)" for p in problems)] for pair in pairs])
        if not theirs:
            continue
        least = {p: min(theirs, key=lambda pair: steps[pair][p]) for p in problems}
        print("The same against the pair of Optuna's that needs the least, " + ", ".join(f"{p}: {pair}" for p, pair in least.items())
              + "; and against each of them, geometric means:\n")
        ratios = lambda pair, others: [steps[pair][p] / steps[others[p]][p] for p in problems]
        table(["", *problems, "mean", *theirs],
              [[pair, *(f"{r:.2f}" for r in ratios(pair, least)), f"{mean(ratios(pair, least)):.2f}",
                *(f"{mean(ratios(pair, dict.fromkeys(problems, other))):.2f}" for other in theirs)] for pair in ours])

    print("The best value after half of the steps / after all; medians:\n")
    table(["", *problems], [[pair, *(" / ".join(f"{median(lambda r: best(r, at), pair, p):.5g}" for at in (budget // 2, budget))
                                     for p in problems)] for pair in pairs])
    print("Trials that began / that came to their end; medians:\n")
    table(["", *problems], [[pair, *(f"{median(lambda r: r['asked'], pair, p):.0f} / {median(lambda r: r['ended'], pair, p):.0f}"
                                     for p in problems)] for pair in pairs])

    from scipy.stats import mannwhitneyu
    print("With a pruner against without: after which share of the steps it has what the sampler alone has in the end (geometric mean of medians), "
          "and p of being worse after half of the steps / after all (Mann-Whitney, one-sided, not corrected):\n")
    rows = []
    for pair in pairs:
        alone = pair.partition("+")[0]
        if alone == pair or alone not in pairs:
            continue
        target = {p: median(lambda r: best(r, budget), alone, p) for p in problems}
        p_of = lambda p, at: mannwhitneyu(*([best(r, at) for r in runs[x][p]] for x in (pair, alone)), alternative="greater").pvalue
        rows.append([pair, f"{mean([median(lambda r: steps_to(r, target[p]), pair, p) / budget for p in problems]):.2f}",
                     *(" / ".join(f"{p_of(p, at):.2g}" for at in (budget // 2, budget)) for p in problems)])
    table(["", "share of the steps", *problems], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run", help="sweep, and write when values became better")
    command.add_argument("--pairs", default="auto,auto+forecast,auto+median,auto+hyperband,tpe,tpe+forecast", help="ours")
    command.add_argument("--optuna", default="", help="Optuna's: of random, tpe, cmaes, gp (needs torch) with median, percentile, hyperband, asha")
    command.add_argument("--processes", type=int, default=2, help="sweeps at a time")
    command.add_argument("--sweep", default="sweep ask-tell", help="our program")
    command.add_argument("--out", required=True)
    command.set_defaults(run=run)
    other = commands.add_parser("report", help="steps to a target, with and without a pruner")
    other.add_argument("file")
    other.add_argument("--targets", default="auto,optuna tpe", help="whose final values")
    other.add_argument("--least", type=int, default=5, help="pairs that have fewer runs of a problem are left out")
    other.set_defaults(run=report)
    for command in (command, other):
        command.add_argument("--problems", default="all", help="all, or names: " + ", ".join(TRAININGS))
        command.add_argument("--seeds", type=int, default=20)
        command.add_argument("--trials", type=int, default=48, help="the steps of so many whole ones")
        command.add_argument("--workers", type=int, default=8, help="trials at a time")
    args = parser.parse_args()
    args.run(args)
