"""A small neural network reads handwritten digits; its parameters are arguments."""
import argparse
import json
import os

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--learning-rate", type=float, default=1e-3)
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--alpha", type=float, default=1e-4)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--epochs", type=int, default=27)
args = parser.parse_args()

x, y = load_digits(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x / 16, y, test_size=0.3, random_state=0, stratify=y)
model = MLPClassifier([args.width], alpha=args.alpha, learning_rate_init=args.learning_rate,
                      batch_size=args.batch, random_state=0)
for epoch in range(1, args.epochs + 1):
    model.partial_fit(x_train, y_train, classes=np.unique(y))
    accuracy = model.score(x_valid, y_valid)
    with open(os.environ.get("SWEEP_METRICS", "/dev/stdout"), "a") as metrics:
        print(json.dumps({"epoch": epoch, "accuracy": accuracy, "loss": model.loss_}), file=metrics)
