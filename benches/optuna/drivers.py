"""What runs a sweep: a program that speaks the protocol of `sweep ask-tell`, or Optuna."""
import json
import subprocess
import warnings


class Sweep:
    """A program that speaks the protocol of `sweep ask-tell`. The sampler is a name, or JSON with its settings; the pruner is a
    name, and `steps` those of a whole trial."""

    def __init__(self, command, sampler, space, seed, workers, pruner=None, steps=None):
        self.process = subprocess.Popen(command, shell=True, text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        sampler = json.loads(sampler) if sampler.startswith("{") else {sampler: {}}
        rungs = {"maxSteps": steps, "reductionFactor": 3}
        pruners = {"forecast": {"maxSteps": steps}, "median": {}, "percentile": {"percentile": 25}, "hyperband": rungs, "asha": rungs}
        self.call(op="init", study={
            "objectives": [{"metric": "value", "direction": "Minimize"}], "parameters": space, "sampler": sampler,
            "maxTrials": 10000, "parallelism": workers, "seed": seed} | ({"pruner": {pruner: pruners[pruner]}} if pruner else {}))

    def call(self, **message):
        self.process.stdin.write(json.dumps(message) + "\n")
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def ask(self, params=None):
        """A trial and its parameters: those that are given, or the sampler's."""
        answer = self.call(op="ask", **({"params": params} if params else {}))
        return answer["id"], answer["params"]

    def is_stopped(self, trial, step, value):
        return self.call(op="report", id=trial, step=step, value=value)["decision"] == "stop"

    def tell(self, trial, value):
        """What came of a trial; None has failed."""
        self.call(op="tell", id=trial, **({"state": "failed"} if value is None else {"value": value}))

    def prune(self, trial):
        self.call(op="tell", id=trial, state="pruned")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Optuna:
    """The same of Optuna, with its defaults."""

    def __init__(self, sampler, space, seed, pruner=None, steps=None):
        import optuna
        warnings.filterwarnings("ignore")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler,
                    "cmaes": optuna.samplers.CmaEsSampler, "gp": optuna.samplers.GPSampler}
        pruners = {
            None: optuna.pruners.NopPruner,
            "median": optuna.pruners.MedianPruner,
            "percentile": lambda: optuna.pruners.PercentilePruner(25.0),
            "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=steps, reduction_factor=3),
            "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        }
        # The name decides which bracket of Hyperband a trial gets.
        self.study = optuna.create_study(study_name=f"s{seed}", sampler=samplers[sampler](seed=seed), pruner=pruners[pruner]())
        self.states, self.space, self.trials = optuna.trial.TrialState, space, {}
        self.distributions = {p["name"]: self.distribution(optuna.distributions, p) for p in space}

    @staticmethod
    def distribution(of, parameter):
        if "categorical" in parameter:
            return of.CategoricalDistribution(parameter["categorical"]["values"])
        kind = of.FloatDistribution if "double" in parameter else of.IntDistribution
        numbers = parameter.get("double") or parameter["int"]
        return kind(numbers["min"], numbers["max"], log="scale" in numbers)

    def ask(self, params=None):
        if params:
            self.study.enqueue_trial(params)
        if not any("when" in p for p in self.space):  # Samplers that model all parameters want them beforehand.
            trial = self.study.ask(self.distributions)
        else:
            trial = self.study.ask()
            for p in self.space:
                when = p.get("when")
                if not when or trial.params.get(when[0]["parameter"]) in when[0]["in"]:
                    trial._suggest(p["name"], self.distributions[p["name"]])
        self.trials[trial.number] = trial
        return trial.number, dict(trial.params)

    def is_stopped(self, trial, step, value):
        self.trials[trial].report(value, step)
        return self.trials[trial].should_prune()

    def tell(self, trial, value):
        trial = self.trials.pop(trial)
        self.study.tell(trial, state=self.states.FAIL) if value is None else self.study.tell(trial, value)

    def prune(self, trial):
        self.study.tell(self.trials.pop(trial), state=self.states.PRUNED)

    def close(self):
        pass


def contestants(ours, program, optuna):
    """(label, command, what) of each entry `WHAT`, or `LABEL=WHAT@COMMAND`; the command is None for Optuna's."""
    found = []
    for entry in filter(None, ours.split(",")):
        label, _, rest = entry.rpartition("=")
        what, _, command = rest.partition("@")
        found.append((label or what, command or program, what))
    return found + [(f"optuna {what}", None, what) for what in filter(None, optuna.split(","))]
