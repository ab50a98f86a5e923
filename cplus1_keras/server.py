"""Writes what TF Serving needs to serve an exported run.

    python -m cplus1_keras.server RUN --output serve
    python -m cplus1_keras.server RUN --output serve --stable 1 --canary 2
    docker compose -f serve/compose.yaml up

RUN is a directory with exports, or the folder with their version numbers, such as runs/digits/saved_model. The version
`stable`, by default the newest, is what clients get by the label "stable"; a second one, `canary`, is served beside it
for those that ask for "canary". Without a label or number clients get the larger number of the two. Write the files
again to move a label or to go back: a running server reads them once a minute. In serve/ there will be

  models.config            the model, its versions and labels
  batching_parameters.txt  how requests are joined; sizes up to what the run takes at once
  monitoring.config        figures for Prometheus at /monitoring/prometheus/metrics
  compose.yaml             the server's container: REST at port 8501, gRPC at 8500
"""

import argparse
import json
import pathlib
import re
import sys

from absl import logging

from cplus1_keras import serving
from cplus1_keras.directory import unfinished
from cplus1_keras.serving.warmup import BATCH_SIZES

_CONFIG = """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{
      specific {{
{versions}
      }}
    }}
{labels}
  }}
}}
"""
_LABEL = '    version_labels {{\n      key: "{}"\n      value: {}\n    }}'
_BATCHING = """\
max_batch_size {{ value: {largest} }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 256 }}
num_batch_threads {{ value: 4 }}
{sizes}
"""
_MONITORING = """\
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""
_COMPOSE = """\
services:
  model-server:
    image: ${{SERVING_IMAGE:-tensorflow/serving:latest}}
    restart: unless-stopped
    ports:
      - "8500:8500"
      - "8501:8501"
    volumes:
      - {{type: bind, source: {models}, target: {target}, read_only: true}}
      - {{type: bind, source: {folder}, target: /config, read_only: true}}
    command:
      - --model_config_file=/config/models.config
      - --model_config_file_poll_wait_seconds=60
      - --allow_version_labels_for_unavailable_models=true
      - --enable_batching=true
      - --batching_parameters_file=/config/batching_parameters.txt
      - --monitoring_config_file=/config/monitoring.config
"""


def write_server(run, output, name="open_set", stable=None, canary=None):
    """Writes the four files; those of before are replaced, each at once.

    Args:
        run: Directory with exports in `saved_model/`, or the folder with the version numbers itself.
        output: Folder to write.
        name: What clients call the model: letters, digits, "-" and "_".
        stable: Version number for the label "stable"; None takes the newest.
        canary: Version number for the label "canary"; None has none.

    Returns:
        Dict from label to version number.

    Raises:
        FileNotFoundError: There is no such version.
        ValueError: A version must not be served, or the name is none.

    >>> write_server("runs/none", "serve")
    Traceback (most recent call last):
    FileNotFoundError: runs/none has no version. Export first: python -m cplus1_keras.export runs/none
    """
    models = pathlib.Path(run) / serving.SAVED_MODEL_FOLDER
    models = (models if models.is_dir() else pathlib.Path(run)).resolve()
    numbers = [int(path.parent.name) for path in models.glob("*/saved_model.pb") if path.parent.name.isdecimal()]
    if not numbers:
        raise FileNotFoundError(f"{run} has no version. Export first: python -m cplus1_keras.export {run}")
    if not re.fullmatch(r"[\w-]+", name, re.ASCII):
        raise ValueError(f'`name` is made of letters, digits, "-" and "_". Received: {name!r}')
    labels = {"stable": max(numbers) if stable is None else stable} | ({} if canary is None else {"canary": canary})
    missing = [number for number in labels.values() if number not in numbers]
    if missing:
        raise FileNotFoundError(f"{models} has no version {missing[0]}. There are: {sorted(numbers)}")
    for number in labels.values():
        serving.check(models / str(number))
    largest = serving.SavedModel(models / str(labels["stable"])).spec.batch_size
    for file, text in _texts(models, pathlib.Path(output).resolve(), name, labels, largest).items():
        with unfinished(pathlib.Path(output) / file) as hidden:
            hidden.write_text(text, encoding="utf-8")
            hidden.replace(pathlib.Path(output) / file)
    return labels


def _texts(models, folder, name, labels, largest):
    """The contents of the files by name."""
    sizes = [size for size in BATCH_SIZES if size <= largest]
    versions = "\n".join(f"        versions: {number}" for number in sorted(set(labels.values())))
    places = {"models": models, "target": f"/models/{name}", "folder": folder}
    return {
        "models.config": _CONFIG.format(
            name=name, versions=versions, labels="\n".join(_LABEL.format(*pair) for pair in labels.items())
        ),
        # TF Serving wants the last of the sizes to be the largest batch.
        "batching_parameters.txt": _BATCHING.format(
            largest=sizes[-1], sizes="\n".join(f"allowed_batch_sizes: {size}" for size in sizes)
        ),
        "monitoring.config": _MONITORING,
        # A text of JSON is one of YAML; a dollar sign would be a variable.
        "compose.yaml": _COMPOSE.format(
            **{key: json.dumps(str(path), ensure_ascii=False).replace("$", "$$") for key, path in places.items()}
        ),
    }


def main(arguments=None):
    """Write the files for the run that the command line names; also `cplus1-server`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="directory with exports, or the folder of the version numbers")
    parser.add_argument("--output", default="serve", help="folder to write")
    parser.add_argument("--name", default="open_set", help="what clients call the model")
    parser.add_argument("--stable", type=int, help='version for the label "stable" (default: the newest)')
    parser.add_argument("--canary", type=int, help='version for the label "canary" (default: none)')
    given = parser.parse_args(arguments)
    logging.set_verbosity(logging.WARNING)
    try:
        labels = write_server(given.run, given.output, given.name, given.stable, given.canary)
    except (OSError, ValueError) as error:
        sys.exit(f"Nothing is written. {error}")
    print(f"Wrote {given.output}: {', '.join(f'{label} is version {number}' for label, number in labels.items())}.")
    print(f"Serve it with: docker compose -f {given.output}/compose.yaml up")


if __name__ == "__main__":
    main()
