from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from evergreen.features.registry import SEQUENCES  # noqa: E402 (torch may be missing)
from evergreen.models.network.graph import Network  # noqa: E402
from evergreen.models.network.layout import Layout  # noqa: E402
from evergreen.models.network.scoring import BLOCK_ROWS, scores  # noqa: E402
from evergreen.models.text import TOKENS  # noqa: E402

STEPS = [value for steps in SEQUENCES.values() for step in steps for value in step]
NAMES = ["pair_purchases", "country", *STEPS, *(f"description {place}" for place in range(TOKENS))]


@pytest.fixture
def matrix() -> np.ndarray:
    rng = np.random.default_rng(3)
    made = rng.normal(size=(200, len(NAMES))).astype(np.float32)
    made[:, 1] = rng.integers(-1, 4, 200)
    for column, name in enumerate(NAMES):
        if name in STEPS:
            made[:, column] = np.where(rng.random(200) < 0.3, -1, rng.random(200) * 6)
        if name.startswith("description"):
            made[:, column] = rng.integers(-1, 4096, 200)
    return made


@pytest.fixture
def network(matrix) -> Network:
    torch.manual_seed(4)
    layout = Layout.of(NAMES, matrix, embedding=4, width=16, depth=1, dropout=0.5)
    return Network(Layout.from_json(json.loads(json.dumps(layout.to_json())))).eval()


def test_each_column_goes_to_one_encoder(network):
    layout = network.layout
    taken = [*layout.numbers, *(one.column for one in layout.categories), *layout.text]
    taken += [column for sequence in layout.sequences for step in sequence.columns for column in step]
    assert sorted(taken) == list(range(len(NAMES)))
    assert [sequence.name for sequence in layout.sequences] == ["pair", "customer"]
    assert layout.categories[0].size == 5
    assert len(network.encoders) == 4


@pytest.mark.parametrize(
    "name", ["pair_purchases", "country", "pair_step_1_days", "customer_step_2_days", "description 0"]
)
def test_every_kind_of_column_moves_the_score(name, network, matrix):
    changed = matrix.copy()
    column = NAMES.index(name)
    changed[:, column] = np.where(changed[:, column] == 2, 1, 2)
    assert (scores(network, changed) != scores(network, matrix)).mean() > 0.5


def test_what_stands_in_a_step_that_is_none_does_not_count(network, matrix):
    changed = matrix.copy()
    none = changed[:, NAMES.index("pair_step_3_days")] < 0
    changed[none, NAMES.index("pair_step_3_units")] = 7
    np.testing.assert_array_equal(scores(network, changed), scores(network, matrix))


def test_no_step_no_text_and_codes_never_seen_give_a_score(network, matrix):
    matrix[:, 2:] = -1
    matrix[:, 1] = 77
    found = scores(network, matrix)
    assert np.isfinite(found).all()
    matrix[:, 1] = -1
    np.testing.assert_array_equal(scores(network, matrix), found)  # never seen is unknown


@pytest.mark.parametrize("rows", [1, 7, BLOCK_ROWS, BLOCK_ROWS + 1, 199])
def test_a_row_has_the_same_score_in_any_company(rows, network, matrix):
    np.testing.assert_array_equal(scores(network, matrix[:rows]), scores(network, matrix)[:rows])


def test_without_texts_and_sequences_the_table_alone_is_read(matrix):
    layout = Layout.of(NAMES[:2], matrix[:, :2], embedding=4, width=16, depth=1, dropout=0.5)
    assert (layout.text, layout.sequences) == ((), ())
    assert scores(Network(layout).eval(), matrix[:, :2]).shape == (200,)


def test_another_number_of_columns_is_refused(network, matrix):
    with pytest.raises(ValueError, match=r"reads 78 columns, the matrix has shape \(200, 5\)"):
        scores(network, matrix[:, :5])


def test_another_format_is_refused(network):
    with pytest.raises(ValueError, match=r"format is 'evergreen\.network/9'"):
        Layout.from_json(network.layout.to_json() | {"format": "evergreen.network/9"})
