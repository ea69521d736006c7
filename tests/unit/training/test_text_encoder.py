from __future__ import annotations

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from evergreen.errors import TrainingError  # noqa: E402 (torch may be missing)
from evergreen.jobs.text_encoder import main  # noqa: E402
from evergreen.lake.digest import digest_json  # noqa: E402
from evergreen.models.bundle import load_bundle, store_bundle  # noqa: E402
from evergreen.models.candidates.network import NetworkCandidate  # noqa: E402
from evergreen.models.network.encoder import FOLDER, TextEncoder, digest_of  # noqa: E402
from evergreen.models.network.graph import Network, Text  # noqa: E402
from evergreen.models.network.layout import Layout  # noqa: E402
from evergreen.models.text import BUCKETS, TOKENS, token_ids  # noqa: E402
from evergreen.promotion.recorded import Recorded  # noqa: E402
from evergreen.promotion.reproduction import make_spec  # noqa: E402
from evergreen.settings import Settings  # noqa: E402
from evergreen.settings.training import CandidateSettings  # noqa: E402
from evergreen.training.dataset import TrainingSet  # noqa: E402
from evergreen.training.spec import TrainSpec, make_specs  # noqa: E402
from evergreen.training.text_encoder import of_training_set, parts_vectors, positive_information  # noqa: E402
from evergreen.training.trained import SPEC, train_once, trained_folder  # noqa: E402
from evergreen.training.trainer import train  # noqa: E402

TEA = ("tea cup", "tea pot", "tea tray", "green teapot", "cup of tea")
GARDEN = ("garden spade", "garden gnome", "watering can", "garden can", "spade and gnome")
RAW = [("description", "text")]


def pairs(seed: int, rows_each: int = 6) -> pd.DataFrame:
    """Customers who like tea, and customers who like gardens; tea is bought again."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        [
            {"customer_id": f"c{customer}", "product_id": text.replace(" ", "-"), "description": text}
            for customer in range(60)
            for text in rng.choice(TEA if customer % 2 else GARDEN, rows_each // 2, replace=False)
        ]
    )
    again = np.where(frame["description"].isin(TEA), 0.7, 0.2)
    return frame.assign(
        as_of=pd.Timestamp("2011-05-01").date(),
        pair_purchases=rng.integers(1, 9, len(frame)).astype(np.float32),
        label=(rng.random(len(frame)) < again).astype(np.int8),
    )


@pytest.fixture
def training_set(tmp_path):
    """A training set of texts alone, in the form that the trainer reads."""
    from evergreen.files import file_sha256

    folder = tmp_path / "set"
    folder.mkdir()
    pairs(1).to_parquet(folder / "train.parquet", index=False)
    inner = pd.concat([pairs(2).assign(split="early_stopping"), pairs(3).assign(split="selection")])
    inner.to_parquet(folder / "inner.parquet", index=False)
    content = {
        "features": [{"name": "pair_purchases", "dtype": "float"}],
        "raw": [{"name": name, "kind": kind} for name, kind in RAW],
        "as_ofs": ["2011-05-01"],
        "holdout": "2011-06-09",
        "horizon_days": 28,
        "active_days": 365,
        "service": "buy_again",
    }
    manifest = {
        "digest": digest_json(content),
        "content": content,
        "files": {name: file_sha256(folder / name) for name in ("train.parquet", "inner.parquet")},
        "day": "2011-06-08",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def spec_of(training_set, encoder=None, **params) -> TrainSpec:
    small = {"epochs": 3, "batch_rows": 32, "width": 8, "learning_rate": 0.01}
    return TrainSpec(
        candidate="network",
        model="network",
        params=small | params,
        seed=1,
        training_set={
            "folder": training_set,
            "digest": json.loads((training_set / "manifest.json").read_text())["digest"],
        },
        model_name="m",
        text_encoder=None if encoder is None else {"folder": encoder, "digest": digest_of(encoder)},
    )


@pytest.fixture
def encoder(training_set, tmp_path):
    of_training_set(training_set, dimension=3).write(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_products_with_the_same_buyers_are_near_each_other(training_set, encoder):
    vectors = TextEncoder.read(encoder).vectors
    texts = np.array([*TEA, *GARDEN], object)
    ids = token_ids(texts)
    means = np.array([vectors[row[row >= 0]].mean(0) for row in ids])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    near = means @ means.T
    inside = [
        near[one, other] for one, other in product(range(10), range(10)) if one != other and one // 5 == other // 5
    ]
    across = [near[one, other] for one, other in product(range(10), range(10)) if one // 5 != other // 5]
    assert np.mean(inside) > np.mean(across) + 0.5
    np.testing.assert_array_equal(of_training_set(training_set, dimension=3).vectors, vectors)


def test_information_is_that_of_the_textbook_and_never_negative():
    counts = np.array([[0.0, 3.0, 1.0], [3.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    found = positive_information(counts)
    sums = counts.sum(1)
    expected = np.log(3.0 / (sums[0] * sums[1] ** 0.75 / (sums**0.75).sum()))
    assert found[0, 1] == pytest.approx(expected)
    assert found.min() == 0
    assert found[1, 2] == 0  # never seen together


def test_means_of_parts_come_near_to_the_products():
    rng = np.random.default_rng(0)
    ids = token_ids(np.array([*TEA, *GARDEN], object))
    products = rng.normal(size=(10, 4))
    vectors = parts_vectors(ids, products)
    assert vectors.shape == (BUCKETS, 4)
    means = np.array([vectors[row[row >= 0]].mean(0) for row in ids])
    assert np.corrcoef(means.ravel(), products.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_bundle_with_a_plugged_in_encoder_stands_alone(frozen, training_set, encoder, tmp_path):
    digest = digest_of(encoder)
    vectors = TextEncoder.read(encoder).vectors
    train(spec_of(training_set, encoder, text_frozen=frozen), tmp_path / "bundle")
    again = train(spec_of(training_set, encoder, text_frozen=frozen), tmp_path / "again")
    for file in encoder.iterdir():
        file.unlink()
    bundle = load_bundle(tmp_path / "bundle", again["bundle_digest"])
    assert bundle.manifest["text_encoder"] == digest == digest_of(tmp_path / "bundle" / FOLDER)
    assert 0.0 < bundle.predict(pairs(5)).mean() < 1.0
    assert np.array_equal(bundle.candidate.network.text_vectors(), vectors) == bool(frozen)


def test_without_an_encoder_nothing_says_so(training_set, tmp_path):
    """Control, and past bundles keep their digests."""
    spec = spec_of(training_set)
    train(spec, tmp_path / "bundle")
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert "text_encoder" not in manifest
    assert not any(name.startswith("text") for name in manifest["params"])
    assert not (tmp_path / "bundle" / FOLDER).exists()
    assert "text_width" not in json.loads((tmp_path / "bundle" / "network.json").read_text())


def test_a_version_is_made_again_from_its_bundle_alone(training_set, encoder, tmp_path):
    import shutil

    made = train(spec_of(training_set, encoder), tmp_path / "bundle")
    settings = Settings(home=tmp_path)
    stored = store_bundle(tmp_path / "bundle", tmp_path / "models")
    shutil.rmtree(encoder)
    spec = make_spec(settings, Recorded("1", {}, {}, load_bundle(stored), None, None), TrainingSet.open(training_set))
    assert spec.text_encoder.folder == stored / FOLDER
    assert train(spec, tmp_path / "again")["bundle_digest"] == made["bundle_digest"]
    (stored / FOLDER / "encoder.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"text encoder .* cannot be read"):
        train(spec, tmp_path / "again")


def test_another_encoder_is_another_spec_and_its_place_is_not(training_set, encoder, tmp_path):
    import shutil

    moved = shutil.copytree(encoder, tmp_path / "moved")
    other = tmp_path / "other"
    TextEncoder(np.zeros((BUCKETS, 3), np.float32), {}).write(other)
    digests = [spec_of(training_set, folder).digest for folder in (None, encoder, moved, other)]
    assert digests[1] == digests[2]
    assert len(set(digests)) == 3


def test_the_encoder_of_a_bundle_starts_another_network_warm(training_set, tmp_path, capsys):
    train(spec_of(training_set), tmp_path / "bundle")
    assert main(["--bundle", str(tmp_path / "bundle"), "--out", str(tmp_path / "warm")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["digest"] == digest_of(tmp_path / "warm")
    assert told["bundle"] == load_bundle(tmp_path / "bundle").digest
    learnt = load_bundle(tmp_path / "bundle").candidate.network.text_vectors()
    np.testing.assert_array_equal(TextEncoder.read(tmp_path / "warm").vectors, learnt)
    train(spec_of(training_set, tmp_path / "warm", text_frozen=1), tmp_path / "next")
    np.testing.assert_array_equal(load_bundle(tmp_path / "next").candidate.network.text_vectors(), learnt)


@pytest.mark.fault
def test_what_cannot_make_an_encoder_says_why(training_set, capsys, tmp_path):
    out = ["--out", str(tmp_path / "e")]
    assert main(["--training-set", str(training_set), "--dimension", "2000", *out]) == 1
    assert "--dimension is 2000, must be 1 to 1024" in capsys.readouterr().err
    assert main(["--training-set", str(training_set), "--dimension", "12", *out]) == 1
    assert "10 products are bought, more than the dimension 12" in capsys.readouterr().err
    train(spec_of(training_set).model_copy(update={"model": "logistic", "params": {}}), tmp_path / "bundle")
    assert main(["--bundle", str(tmp_path / "bundle"), *out]) == 1
    assert "is of model logistic, must be a network that reads texts" in capsys.readouterr().err


@pytest.mark.fault
def test_an_encoder_is_refused_where_it_is_of_no_use(training_set, encoder, tmp_path):
    spec = spec_of(training_set, encoder)
    with pytest.raises(TrainingError, match="model logistic reads no text: remove it"):
        train(spec.model_copy(update={"model": "logistic", "params": {}}), tmp_path / "bundle")
    with pytest.raises(TrainingError, match="text_frozen is 1 without a text encoder"):
        train(spec_of(training_set, text_frozen=1), tmp_path / "bundle")
    manifest = json.loads((training_set / "manifest.json").read_text())
    del manifest["content"]["raw"]
    (training_set / "manifest.json").write_text(json.dumps(manifest | {"digest": digest_json(manifest["content"])}))
    with pytest.raises(TrainingError, match="the training set has no description"):
        train(spec_of(training_set, encoder), tmp_path / "bundle")


def candidates(folder, model="network"):
    return {"one": CandidateSettings(model=model, text_encoder=folder)}


def test_settings_name_a_folder_and_specs_its_digest(encoder, tmp_path):
    settings = Settings(home=tmp_path)
    settings = settings.model_copy(
        update={"training": settings.training.model_copy(update={"candidates": candidates(encoder)})}
    )
    training_set = {"folder": str(tmp_path), "digest": "a" * 64, "day": "2011-06-08"}
    spec = make_specs(settings, training_set)[0]
    assert spec["text_encoder"] == {"folder": str(encoder), "digest": digest_of(encoder)}

    def run(folder, arguments):
        copied = json.loads((folder / SPEC).read_text())["text_encoder"]["folder"]
        assert copied == str(trained_folder(settings, spec) / FOLDER)  # what a container sees
        assert digest_of(folder / FOLDER) == digest_of(encoder)
        return {"code_digest": ""}

    with pytest.raises(TrainingError, match="the trainer's code is"):
        train_once(settings, spec, run)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("network", r"candidates\.one\.text_encoder: text encoder .*nowhere cannot be read"),
        ("logistic", r"candidates\.one\.text_encoder is set, but model logistic reads no text"),
    ],
)
def test_a_folder_that_is_none_is_named_by_its_setting(model, message, tmp_path):
    settings = Settings(home=tmp_path)
    wrong = settings.training.model_copy(update={"candidates": candidates(tmp_path / "nowhere", model)})
    with pytest.raises(TrainingError, match=message):
        make_specs(
            settings.model_copy(update={"training": wrong}),
            {"folder": str(tmp_path), "digest": "a" * 64, "day": "2011-06-08"},
        )


def test_vectors_go_through_a_map_to_the_width_of_the_others():
    layout = Layout(("d",), (), (), (0,), BUCKETS, (), 4, 8, 0, 0.0, text_width=6)
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout
    network = Network(layout)
    network.plug_in_text(torch.ones(BUCKETS, 6), frozen=True)
    text = next(encoder for encoder in network.encoders if isinstance(encoder, Text))
    assert text(torch.tensor([[5.0], [-1.0]])).shape == (2, 4)
    assert bool((text(torch.tensor([[-1.0]])) == 0).all())
    assert [name for name, one in network.named_parameters() if not one.requires_grad] == ["encoders.1.vectors.weight"]
    assert len(layout.text) < TOKENS
    assert NetworkCandidate.ranges["text_frozen"].quiet
