"""One class held out as the anomaly: the split of EGBAD and MEG (paper A, Table 4), clean and leaky.

Train and test images of the source are pooled in that order. All other classes are normal, and RandomState(42) permutes
their images. The first 80% train; the clean test set holds the other 20%, then all anomalies (label 1). The released
EGBAD and MEG loaders draw a second permutation from the same generator for the test set. So about 80% of their normal
test images are training images; `test_leaky` has that composition. (Their pool holds the same 70,000 digits in another
order, so the counts agree and the membership does not.)
"""

import numpy as np

from dtri.data import saving, store


def prepare_holdout(source: store.Dataset, digit: int, seed: int = 42) -> saving.Arrays:
    """Splits train (normal images), test and test_leaky of `source`, with class `digit` as the anomaly.

    Indices are positions in the pool of the source's train and test images.
    """
    pooled = np.concatenate([source.labels("train"), source.labels("test")])
    anomalies = np.flatnonzero(pooled == digit)
    normals = np.flatnonzero(pooled != digit)
    if not len(anomalies) or not len(normals):
        known = ", ".join(map(str, np.unique(pooled)))
        raise ValueError(f"expected a digit of {source.meta['name']} (labels {known}), found {digit} ({source.folder})")
    n_train = len(normals) * 4 // 5
    random = np.random.RandomState(seed)
    first, second = normals[random.permutation(len(normals))], normals[random.permutation(len(normals))]
    indices = {
        "train": first[:n_train],
        "test": np.concatenate([first[n_train:], anomalies]),
        "test_leaky": np.concatenate([second[n_train:], anomalies]),
    }
    images = np.concatenate([source.images("train"), source.images("test")])
    leaked = np.isin(second[n_train:], first[:n_train]).mean()
    return saving.Arrays(
        splits={split: images[index] for split, index in indices.items()},
        indices={split: index.astype(np.int64) for split, index in indices.items()},
        labels={split: (pooled[indices[split]] == digit).astype(np.int64) for split in ("test", "test_leaky")},
        n_classes=None,
        description=f"{source.meta['name']} without {digit} for training; {digit} is the anomaly of the test sets",
        source={
            "module": "dtri.data.holdout",
            "of": source.meta["name"],
            "of_content": source.content,
            "digit": digit,
            "seed": seed,
            "leaked_fraction": round(float(leaked), 6),
        },
    )
