"""A linear model reads handwritten digits, and serves its metrics to Prometheus; its parameters are arguments."""
import argparse
import time

import numpy as np
from prometheus_client import Counter, Gauge, start_http_server
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float, default=1e-2)
parser.add_argument("--alpha", type=float, default=1e-4)
parser.add_argument("--port", type=int, default=8000)
args = parser.parse_args()

epochs = Counter("epoch", "Epochs that are done")
accuracy = Gauge("val_accuracy", "Accuracy on what was held back, after the last epoch")
start_http_server(args.port, addr="127.0.0.1")
x, y = load_digits(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x / 16, y, test_size=0.3, random_state=0, stratify=y)
model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=args.rate, alpha=args.alpha, random_state=0)
for epoch in range(1, 6):
    model.partial_fit(x_train, y_train, classes=np.unique(y))
    epochs.inc()
    accuracy.set(model.score(x_valid, y_valid))
    # The page is read once a second: an epoch that is over sooner, and the last one, would be missed.
    time.sleep(1.5)
