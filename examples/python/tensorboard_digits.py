"""A linear model reads handwritten digits, and writes what TensorBoard shows; its parameters are environment variables."""
import os

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
# The writer of PyTorch, torch.utils.tensorboard, in a package of its own.
from tensorboardX import SummaryWriter

x, y = load_digits(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x / 16, y, test_size=0.3, random_state=0, stratify=y)
model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=float(os.environ["rate"]),
                      alpha=float(os.environ["alpha"]), random_state=0)
# Without a sweep: a folder of the writer's own.
with SummaryWriter(os.environ.get("SWEEP_METRICS"), flush_secs=1) as writer:
    for epoch in range(1, 28):
        model.partial_fit(x_train, y_train, classes=np.unique(y))
        writer.add_scalar("accuracy/train", model.score(x_train, y_train), epoch)
        writer.add_scalar("accuracy/validation", model.score(x_valid, y_valid), epoch)
