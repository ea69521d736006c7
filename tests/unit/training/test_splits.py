from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evergreen.settings.training import TrainingSettings
from evergreen.training.splits import Split, split_customers

TRAINING = TrainingSettings()


@given(st.lists(st.text(max_size=8), min_size=1, max_size=30), st.randoms())
def test_a_customer_stands_on_one_side_wherever_its_rows_lie(customers, random):
    alone = {one: split_customers(np.array([one], object), TRAINING)[0] for one in customers}
    rows = customers * 3
    random.shuffle(rows)
    assert split_customers(np.array(rows, object), TRAINING).tolist() == [alone[one] for one in rows]


def test_the_shares_are_those_of_the_settings():
    customers = np.array([str(12_000 + number) for number in range(20_000)], object)
    split = split_customers(customers, TRAINING)
    for name, share in ((Split.TRAIN, 0.8), (Split.EARLY_STOPPING, 0.1), (Split.SELECTION, 0.1)):
        assert abs((split == name.value).mean() - share) < 0.01


def test_another_salt_is_an_independent_split():
    customers = np.array([str(number) for number in range(20_000)], object)
    held = split_customers(customers, TRAINING) != Split.TRAIN.value
    other = split_customers(customers, TrainingSettings(salt="other")) != Split.TRAIN.value
    assert abs((held & other).mean() - 0.04) < 0.01
