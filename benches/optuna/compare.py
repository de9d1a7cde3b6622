"""How many trials samplers need, beside Optuna's.

    python compare.py run --samplers auto,tpe,cmaes --optuna tpe,cmaes,gp --seeds 50 --out runs.jsonl
    python compare.py report runs.jsonl

Every run is a line of the output; what stands in it already is not run again. A sampler is `NAME`, or
`LABEL=NAME@COMMAND` for one of another program that speaks the protocol of `sweep ask-tell`."""
import argparse
import heapq
import json
import math
import os
import random
import statistics
from multiprocessing import Pool

from drivers import Optuna, Sweep, contestants
from problems import CRASHES, PROBLEM_SETS, PROBLEMS

KNOWN = PROBLEMS | CRASHES


def one(job):
    """The best value after each trial of one sweep; with more than one worker on a simulated clock."""
    label, program, sampler, problem, seed, trials, workers = job
    space, objective, _ = KNOWN[problem]
    driver = Optuna(sampler, space, seed) if program is None else Sweep(program, sampler, space, seed, workers)
    clock, busy, asked, best, trace, failed = random.Random(seed), [], 0, math.inf, [], []
    now = 0.0
    while len(trace) < trials:
        while asked < trials and len(busy) < workers:
            trial, params = driver.ask()
            heapq.heappush(busy, (now + clock.lognormvariate(0, 0.5), trial, params))
            asked += 1
        now, trial, params = heapq.heappop(busy)
        value = objective(params)
        driver.tell(trial, value)
        failed.append(value is None)
        best = best if value is None else min(best, value)
        trace.append(best)
    driver.close()
    return {"sampler": label, "problem": problem, "seed": seed, "workers": workers, "trials": trials,
            "late_failures": statistics.fmean(failed[trials // 2:]), "trace": trace}


def read(path):
    if not os.path.exists(path):
        return []
    with open(path) as lines:
        return [json.loads(line) for line in lines]


def run(args):
    samplers = contestants(args.samplers, args.sweep, args.optuna)
    problems = PROBLEM_SETS.get(args.problems) or args.problems.split(",")
    done = {(r["sampler"], r["problem"], r["seed"], r["workers"], r["trials"]) for r in read(args.out)}
    jobs = [(*sampler, problem, seed, args.trials, args.workers)
            for seed in range(args.seeds) for problem in problems for sampler in samplers
            if (sampler[0], problem, seed, args.workers, args.trials) not in done]
    with Pool(args.processes) as pool, open(args.out, "a") as out:
        for result in pool.imap_unordered(one, jobs):
            print(json.dumps(result), file=out, flush=True)


class Report:
    """Regrets of the runs. They are cut at a millionth of the optimum's size (at least of 1); where the optimum is not known, it is
    the best of all runs, less a thousandth of the median regret of the worst sampler."""

    def __init__(self, runs, at):
        self.best = {}
        for r in runs:
            if len(r["trace"]) >= at:
                self.best.setdefault(r["problem"], {}).setdefault(r["sampler"], []).append(r["trace"][at - 1])
        self.problems = [p for p in KNOWN if p in self.best]
        self.samplers = list(dict.fromkeys(s for p in self.problems for s in self.best[p]))
        everything = {p: [v for r in runs if r["problem"] == p for v in r["trace"][-1:]] for p in self.problems}
        self.optimum, self.least = {}, {}
        for p in self.problems:
            known = KNOWN[p][2]
            if known is None:
                lowest = min(everything[p])
                margin = 1e-3 * (max(statistics.median(v) for v in self.best[p].values()) - lowest)
                self.optimum[p], self.least[p] = lowest - margin, margin
            else:
                known = known() if callable(known) else known
                self.optimum[p], self.least[p] = known, 1e-6 * max(1.0, abs(known))

    def logs(self, problem, sampler):
        return [math.log(max(v - self.optimum[problem], self.least[problem])) for v in self.best[problem][sampler]]

    def ratio(self, a, b, problems, samples=2000):
        """Geometric mean over the problems of a's regret by that of b (one sampler, or one for each problem), with the
        bootstrap's 95 % interval over the runs."""
        b = b if isinstance(b, dict) else {p: b for p in problems}
        pairs = [(self.logs(p, a), self.logs(p, b[p])) for p in problems]
        rng = random.Random(0)
        mean = lambda pairs: math.exp(statistics.fmean(statistics.fmean(x) - statistics.fmean(y) for x, y in pairs))
        draws = sorted(mean([(rng.choices(x, k=len(x)), rng.choices(y, k=len(y))) for x, y in pairs]) for _ in range(samples))
        return mean(pairs), draws[int(0.025 * samples)], draws[int(0.975 * samples)]

    def compare(self, ours, theirs, problems):
        """Mann-Whitney of the regrets, cut as above, with Holm's correction over the problems, both ways: {problem: (p of
        worse, p of better)}."""
        from scipy.stats import mannwhitneyu
        p = {way: {q: mannwhitneyu(self.logs(q, ours), self.logs(q, theirs[q]), alternative=way).pvalue for q in problems}
             for way in ("greater", "less")}
        holm = {}
        for way, of in p.items():
            most = 0.0
            for rank, q in enumerate(sorted(of, key=of.get)):
                most = max(most, min(1.0, (len(of) - rank) * of[q]))
                holm[way, q] = most
        return {q: (holm["greater", q], holm["less", q]) for q in problems}


    def trials_to(self, runs, ours, other, problems):
        """Geometric mean over problems and runs of how many trials ours needs to reach the other's median; a run that does
        not reach it counts twice its trials."""
        counts = {p: [] for p in problems}
        for r in runs:
            if r["sampler"] == ours and r["problem"] in counts:
                goal = statistics.median(self.best[r["problem"]][other])
                reached = next((i + 1 for i, v in enumerate(r["trace"]) if v <= goal), 2 * len(r["trace"]))
                counts[r["problem"]].append(math.log(reached))
        return math.exp(statistics.fmean(statistics.fmean(c) for c in counts.values()))


def report(args):
    runs = [r for r in read(args.file) if r["workers"] == args.workers]
    report = Report(runs, args.at)
    print("| problem (optimum) | " + " | ".join(report.samplers) + " |\n|" + "---|" * (1 + len(report.samplers)))
    for p in report.problems:
        known = f"{report.optimum[p]:.5g}" if KNOWN[p][2] is not None else f"best seen {report.optimum[p]:.5g}"
        cells = [f"{statistics.median(report.best[p][s]):.6g}" if s in report.best[p] else "" for s in report.samplers]
        print(f"| {p} ({known}) | " + " | ".join(cells) + " |")
    print("\nruns a problem: " + ", ".join(
        f"{s} {min(len(of[s]) for of in report.best.values() if s in of)}" for s in report.samplers))
    for p in filter(CRASHES.get, report.problems):
        shares = {s: [r["late_failures"] for r in runs if (r["problem"], r["sampler"]) == (p, s)] for s in report.samplers}
        print(f"\n{p}, share of the second half of the trials that fails: " + ", ".join(
            f"{s} {statistics.fmean(of):.3f}" for s, of in shares.items() if of))
    theirs = [s for s in report.samplers if s.startswith("optuna ")]
    print("\n| | against | ratio of regrets (95 %) | trials to its median | significantly better | significantly worse |\n|" + "---|" * 6)

    def row(ours, name, other):
        both = [p for p in report.problems if ours in report.best[p] and other.get(p) in report.best[p]]
        if not both:
            return
        p = report.compare(ours, other, both)
        better, worse = [q for q in both if p[q][1] < 0.05], [q for q in both if p[q][0] < 0.05]
        single = len(set(other.values())) == 1
        trials = f"{report.trials_to(runs, ours, next(iter(other.values())), both):.0f}" if single else ""
        print("| %s | %s | %.2f (%.2f to %.2f) | %s | %s of %d | %s |" % (
            ours, name, *report.ratio(ours, other, both), trials, len(better), len(both), ", ".join(worse) or "none"))

    for ours in (s for s in report.samplers if s not in theirs):
        for other in (s for s in report.samplers if s != ours):
            row(ours, other, {p: other for p in report.problems})
        if theirs:
            best = {p: min((t for t in theirs if t in of), key=lambda t: statistics.median(of[t]), default=None)
                    for p, of in report.best.items()}
            row(ours, "the best of Optuna's for each problem", best)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run", help="sweep, and write the best values")
    command.add_argument("--samplers", default="auto,tpe,cmaes", help="ours")
    command.add_argument("--optuna", default="", help="Optuna's: random, tpe, cmaes, gp (needs torch)")
    command.add_argument("--problems", default="all", help="all, crashes, or names")
    command.add_argument("--seeds", type=int, default=10)
    command.add_argument("--trials", type=int, default=100)
    command.add_argument("--workers", type=int, default=1, help="trials at a time")
    command.add_argument("--processes", type=int, default=2, help="sweeps at a time")
    command.add_argument("--sweep", default="sweep ask-tell", help="our program")
    command.add_argument("--out", required=True)
    command.set_defaults(run=run)
    command = commands.add_parser("report", help="medians, ratios of regrets, significance")
    command.add_argument("file")
    command.add_argument("--at", type=int, default=100, help="after so many trials")
    command.add_argument("--workers", type=int, default=1)
    command.set_defaults(run=report)
    args = parser.parse_args()
    args.run(args)
