"""Boosted trees foresee how a disease goes on; the parameters are arguments.

With log_evaluation LightGBM prints "[10]\tvalid_0's rmse: 58.3", which is read as it is: nothing here reports.
"""
import argparse

import lightgbm as lgb
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--learning-rate", type=float, default=0.1)
parser.add_argument("--leaves", type=int, default=31)
parser.add_argument("--min-leaf", type=int, default=20)
parser.add_argument("--rounds", type=int, default=300)
args = parser.parse_args()

x, y = load_diabetes(return_X_y=True)
x_train, x_valid, y_train, y_valid = train_test_split(x, y, test_size=0.3, random_state=0)
train = lgb.Dataset(x_train, y_train)
lgb.train(
    {"objective": "regression", "metric": "rmse", "learning_rate": args.learning_rate, "num_leaves": args.leaves,
     "min_data_in_leaf": args.min_leaf, "num_threads": 1, "verbosity": -1},
    train,
    num_boost_round=args.rounds,
    valid_sets=[train.create_valid(x_valid, y_valid)],
    callbacks=[lgb.log_evaluation(period=10)],
)
