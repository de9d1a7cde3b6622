"""A support vector machine reads handwritten digits, judged by ten folds; its parameters are arguments."""
import argparse

from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

parser = argparse.ArgumentParser()
parser.add_argument("--c", type=float, default=1.0)
parser.add_argument("--gamma", type=float, default=0.001)
parser.add_argument("--folds", type=int, default=10)
args = parser.parse_args()

x, y = load_digits(return_X_y=True)
scores = []
# The same folds in every trial: they are compared one by one.
for train, test in StratifiedKFold(args.folds, shuffle=True, random_state=0).split(x, y):
    scores.append(SVC(C=args.c, gamma=args.gamma).fit(x[train], y[train]).score(x[test], y[test]))
    print(f"step={len(scores)} fold_accuracy={scores[-1]:.4f} accuracy={sum(scores) / len(scores):.4f}", flush=True)
