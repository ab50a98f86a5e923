"""Results say where they come from."""

import json
import re

import pytest

from cplus1_keras.provenance import as_sentence, provenance, write_json


def test_provenance_is_json_and_names_versions():
    values = json.loads(json.dumps(provenance()))
    assert values["cpus"] >= 1
    assert values["packages"]["keras"].startswith("3.")
    assert values["commit"] is None or re.fullmatch(r"[0-9a-f]{12}(\+changes)?", values["commit"])


def test_json_is_written_whole_and_without_nan(tmp_path):
    path = tmp_path / "new" / "results.json"
    write_json(path, {"auroc": 0.5, "name": "Fürst"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"auroc": 0.5, "name": "Fürst"}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"auroc": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["auroc"] == 0.5
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_as_sentence():
    where = {"machine": "EPYC", "cpus": 2, "packages": {"keras": "3.15.1"}, "commit": "ab12", "date": "2026-11-20"}
    assert as_sentence(where) == "EPYC, 2 CPUs; keras 3.15.1; commit ab12, 2026-11-20."
