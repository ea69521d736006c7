"""Text encoders made here: of the products that the same customers buy, or of a network that was trained before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evergreen.errors import TrainingError
from evergreen.models.bundle import load_bundle
from evergreen.models.network.encoder import TextEncoder
from evergreen.models.text import BUCKETS, token_ids
from evergreen.training.dataset import TRAIN, StoredColumns, TrainingSet

DESCRIPTION = "description"
MOST_PRODUCTS = 8_000  # those with most buyers; the method squares their number
CONTEXT_POWER = 0.75  # Levy, Goldberg, Dagan 2015, "Improving distributional similarity", section 3.1
RIDGE = 0.1  # of the mean weight of a text with itself
SPREAD = 0.3  # of a product's numbers: about that of a mean of ids before training

Floats = npt.NDArray[np.float64]


def of_training_set(folder: Path, digest: str = "", *, dimension: int = 32, seed: int = 0) -> TextEncoder:
    """An encoder in which products with the same buyers are near each other, learnt without any label.

    Products become the leading vectors of their positive pointwise mutual information, counted over the training
    customers (Levy & Goldberg 2014, "Neural word embedding as implicit matrix factorization", section 5). The vectors
    of the parts of descriptions are then those whose means are nearest to the products' (ridge regression).

    Args:
        folder: a training set with descriptions.
        digest: which one it must be; empty for any.
        dimension: numbers of a vector.
        seed: of the factorisation.

    Raises:
        TrainingError: the set has no descriptions, or fewer products than `dimension`.
    """
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    training_set = TrainingSet.open(folder, digest, files=(TRAIN,))
    if DESCRIPTION not in dict(training_set.raw):
        raise TrainingError(f"training set {folder} has no {DESCRIPTION}: build a new one")
    counts, texts = _common_buyers(StoredColumns(training_set.file(TRAIN)))
    if len(texts) <= dimension:
        raise TrainingError(f"{len(texts)} products are bought, more than the dimension {dimension} are needed")
    with threadpool_limits(1):  # sums of threads come in any order: other bits
        left, strengths, _ = randomized_svd(positive_information(counts), dimension, random_state=seed)
        products = left * np.sqrt(strengths)
        vectors = parts_vectors(token_ids(texts), products * (SPREAD / products.std()))
    source = {"made_from": "common buyers", "training_set": training_set.digest, "products": len(texts), "seed": seed}
    return TextEncoder(vectors.astype(np.float32), source)


def of_bundle(folder: Path) -> TextEncoder:
    """The text encoder of a bundle's network as it was left by its training: a new one then starts warm.

    Raises:
        TrainingError: the bundle is no network, or one without texts.
        BundleError: it is missing or altered.
    """
    bundle = load_bundle(folder)
    network = getattr(bundle.candidate, "network", None)
    vectors = None if network is None else network.text_vectors()
    if vectors is None:
        raise TrainingError(
            f"bundle {folder} is of model {bundle.manifest['model']}, must be a network that reads texts"
        )
    return TextEncoder(vectors, {"made_from": "bundle", "bundle": bundle.digest})


def positive_information(counts: Floats) -> Floats:
    """Positive pointwise mutual information of how often things were seen together, float64[n, n].

    Args:
        counts: symmetric, float64[n, n], zeros on the diagonal.
    """
    rows = counts.sum(1)
    contexts = rows**CONTEXT_POWER
    expected = np.outer(rows, contexts / max(contexts.sum(), 1e-300))
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(counts / expected)
    found: Floats = np.maximum(np.nan_to_num(information, nan=0.0, neginf=0.0), 0.0)
    return found


def parts_vectors(ids: npt.NDArray[np.int32], products: Floats) -> Floats:
    """Vectors of the parts, float64[BUCKETS, n], whose means are nearest to the vectors of the texts made of them.

    Args:
        ids: int32[texts, TOKENS], -1 for none.
        products: float64[texts, n].
    """
    rows, places = np.nonzero(ids >= 0)
    shares = np.zeros((len(ids), BUCKETS))
    np.add.at(shares, (rows, ids[rows, places]), 1.0)
    shares /= np.maximum(shares.sum(1, keepdims=True), 1.0)
    gram = shares @ shares.T
    gram[np.diag_indices_from(gram)] += RIDGE * gram.diagonal().mean()
    found: Floats = shares.T @ np.linalg.solve(gram, products)
    return found


def _common_buyers(stored: StoredColumns) -> tuple[Floats, npt.NDArray[Any]]:
    """How many customers have both of two products at the newest date, and the products' descriptions."""
    from scipy.sparse import csr_matrix

    as_ofs = stored["as_of"]
    newest = as_ofs == as_ofs.max()
    pairs = pd.DataFrame({name: stored[name][newest] for name in ("customer_id", "product_id", DESCRIPTION)})
    pairs = pairs.dropna().drop_duplicates(["customer_id", "product_id"])
    buyers = pairs["product_id"].value_counts()
    known = sorted(buyers.index, key=lambda product: (-buyers[product], product))[:MOST_PRODUCTS]
    pairs = pairs[pairs["product_id"].isin(known)].sort_values(["product_id", "customer_id"])
    customers, _ = pd.factorize(pairs["customer_id"], sort=True)
    products, _ = pd.factorize(pairs["product_id"], sort=True)
    bought = csr_matrix((np.ones(len(pairs)), (customers, products)))
    counts = (bought.T @ bought).toarray()
    np.fill_diagonal(counts, 0.0)
    return counts, pairs.groupby("product_id", sort=True)[DESCRIPTION].first().to_numpy(object)
