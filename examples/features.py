"""Makes features of many customers' purchases with pandas and ranks them with scikit-learn, all under joblib.

Run it with: goproc run examples/features.py --procs 8 [--customers 400] [--purchases 200] [--check]
"""

import argparse
import sys

try:
    import goproc.joblib  # noqa: F401, I001 (first: the workers import the modules below at the same time)
    import numpy as np
    import pandas as pd
    from joblib import Parallel, delayed, parallel_config
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV
except ImportError as missing:
    sys.exit(f"features.py needs pandas and scikit-learn: pip install pandas scikit-learn ({missing})")


def table(customers: int, purchases: int) -> pd.DataFrame:
    """Purchases at random, more in the evening for every third customer: those who will come back."""
    random = np.random.default_rng(7)
    customer = np.repeat(np.arange(customers), purchases)
    hour = random.integers(0, 24, len(customer))
    late = (customer % 3 == 0) & (random.random(len(customer)) < 0.5)
    hour[late] = 20 + hour[late] % 4
    amount = random.gamma(2.0, 15.0, len(customer)).round(2)
    return pd.DataFrame({"customer": customer, "hour": hour, "amount": amount})


def features(bought: pd.DataFrame, customer: int) -> dict[str, float]:
    """Return the row of one customer; the table is the same for all calls, and travels once."""
    mine = bought[bought.customer == customer]
    by_hour = mine.groupby("hour").amount.sum()
    return {
        "customer": customer,
        "count": len(mine),
        "mean": mine.amount.mean(),
        "spread": mine.amount.std(),
        "evening": by_hour[by_hour.index >= 20].sum() / mine.amount.sum(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Makes features with pandas and ranks them with scikit-learn."
    )
    parser.add_argument("--customers", type=int, default=400, help="how many")
    parser.add_argument("--purchases", type=int, default=200, help="of each")
    parser.add_argument("--check", action="store_true", help="compare with a sequential computation")
    args = parser.parse_args()

    bought = table(args.customers, args.purchases)
    with parallel_config("goproc", n_jobs=-1):
        rows = Parallel()(delayed(features)(bought, customer) for customer in range(args.customers))
        known = pd.DataFrame(rows).set_index("customer")
        search = GridSearchCV(
            RandomForestClassifier(20, random_state=0), {"max_depth": [2, 4]}, cv=3, n_jobs=-1
        )
        search.fit(known, known.index % 3 == 0)

    weights = pd.Series(search.best_estimator_.feature_importances_, known.columns)
    print(f"{len(bought)} purchases of {len(known)} customers, accuracy {search.best_score_:.2f}")
    for name, weight in weights.sort_values(ascending=False).items():
        print(f"{weight:5.2f} {name}")
    if args.check:
        if rows != [features(bought, customer) for customer in range(args.customers)]:
            sys.exit("check: FAILED")
        print("check: ok")


if __name__ == "__main__":
    main()
