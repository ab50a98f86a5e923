"""Files for TF Serving, read back by its own protocol buffers and by YAML."""

import keras
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
yaml = pytest.importorskip("yaml", reason="needs PyYAML")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from tensorflow_serving.config import model_server_config_pb2  # noqa: E402

from cplus1_keras import serving  # noqa: E402
from cplus1_keras.server import main, write_server  # noqa: E402

INT64, BOOL, TEXT = ".google.protobuf.Int64Value", "bool", "string"
FIELDS = {
    "Batching": {  # tensorflow_serving/servables/tensorflow/session_bundle_config.proto, BatchingParameters
        "max_batch_size": (1, INT64),
        "batch_timeout_micros": (2, INT64),
        "max_enqueued_batches": (3, INT64),
        "num_batch_threads": (4, INT64),
        "allowed_batch_sizes": (6, "int64"),
    },
    "Prometheus": {"enable": (1, BOOL), "path": (2, TEXT)},  # tensorflow_serving/config/monitoring_config.proto
    "Monitoring": {"prometheus_config": (1, ".Prometheus")},
}
"""Messages that tensorflow-serving-api does not ship, as TF Serving's own files declare them."""


@pytest.fixture(scope="module")
def messages():
    file = descriptor_pb2.FileDescriptorProto(name="serving.proto", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    kinds = {"int64": 3, BOOL: 8, TEXT: 9}
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for key, (number, kind) in fields.items():
            field = message.field.add(name=key, number=number, label=3 if kind == "int64" else 1)
            field.type = kinds.get(kind, 11)
            if kind not in kinds:
                field.type_name = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in FIELDS}


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """A run's directory with versions 2 and 10, whose path has what YAML and compose give a meaning."""
    run = tmp_path_factory.mktemp("serve") / "a $run: #1"
    model = small.build()
    serving.Predictor(model, small.rejecting(model)[0], small.NAMES).export(run / "saved_model" / "2")
    serving.retune(run / "saved_model" / "2", run / "saved_model" / "10", 0.5)
    return run


def test_the_files_are_what_the_server_reads(run, messages, tmp_path, capsys):
    main([str(run), "--output", str(tmp_path / "s"), "--name", "my-model", "--stable", "2", "--canary", "10"])
    assert "stable is version 2, canary is version 10" in capsys.readouterr().out
    texts = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "s").iterdir()}
    assert sorted(texts) == ["batching_parameters.txt", "compose.yaml", "models.config", "monitoring.config"]
    (config,) = text_format.Parse(
        texts["models.config"], model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == ("my-model", "/models/my-model", "tensorflow")
    assert list(config.model_version_policy.specific.versions) == [2, 10]
    assert dict(config.version_labels) == {"stable": 2, "canary": 10}
    batching = text_format.Parse(texts["batching_parameters.txt"], messages["Batching"]())
    assert list(batching.allowed_batch_sizes) == [1, 8, 64]
    assert batching.max_batch_size.value == batching.allowed_batch_sizes[-1]
    monitoring = text_format.Parse(texts["monitoring.config"], messages["Monitoring"]())
    assert (monitoring.prometheus_config.enable, monitoring.prometheus_config.path[:12]) == (True, "/monitoring/")
    server = yaml.safe_load(texts["compose.yaml"])["services"]["model-server"]
    models, config = server["volumes"]
    assert models["source"].replace("$$", "$") == str(run / "saved_model")
    assert "a $$run" in models["source"]
    assert (models["target"], config["target"], config["source"]) == (
        "/models/my-model",
        "/config",
        str(tmp_path / "s"),
    )
    flags = dict(flag.removeprefix("--").split("=") for flag in server["command"])
    named = {path.removeprefix("/config/") for path in flags.values() if path.startswith("/config/")}
    assert named | {"compose.yaml"} == set(texts)


def test_going_back_is_writing_the_label_again(run, tmp_path):
    assert write_server(run / "saved_model", tmp_path) == {"stable": 10}
    assert "canary" not in (tmp_path / "models.config").read_text(encoding="utf-8")
    assert write_server(run, tmp_path, stable=2) == {"stable": 2}
    assert "versions: 10" not in (tmp_path / "models.config").read_text(encoding="utf-8")


def test_batches_are_no_larger_than_the_model_takes_at_once(run, tmp_path, messages, monkeypatch):
    monkeypatch.setattr(serving.ImageSpec, "batch_size", 8)
    write_server(run, tmp_path)
    text = (tmp_path / "batching_parameters.txt").read_text(encoding="utf-8")
    batching = text_format.Parse(text, messages["Batching"]())
    assert list(batching.allowed_batch_sizes) == [1, 8]
    assert batching.max_batch_size.value == 8


def test_what_cannot_be_served_is_told(run, tmp_path):
    with pytest.raises(SystemExit, match=r"has no version 3\. There are: \[2, 10\]"):
        main([str(run), "--output", str(tmp_path / "s"), "--canary", "3"])
    with pytest.raises(SystemExit, match="Export first"):
        main([str(tmp_path), "--output", str(tmp_path / "s")])
    with pytest.raises(SystemExit, match="letters, digits"):
        main([str(run), "--output", str(tmp_path / "s"), "--name", 'a"b'])
    assert not (tmp_path / "s").exists()
