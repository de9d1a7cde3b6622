"""Boosted trees read handwritten digits; the parameters are environment variables.

XGBoost prints "[12]\tvalidation-mlogloss:0.31" after each round, which is read as it is: nothing here reports.
"""
import os

import xgboost as xgb
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

x, y = load_digits(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
xgb.train(
    {
        "objective": "multi:softprob",
        "num_class": 10,
        "eval_metric": "mlogloss",
        "eta": float(os.environ.get("eta", "0.3")),
        "max_depth": int(os.environ.get("max_depth", "6")),
        "subsample": float(os.environ.get("subsample", "1")),
        "nthread": 1,
    },
    xgb.DMatrix(x_train, y_train),
    num_boost_round=82,
    evals=[(xgb.DMatrix(x_valid, y_valid), "validation")],
)
