"""Writes a finished run as a SavedModel, ready to be served, and checks it.

    python -m export RUN
    python -m export RUN --output models/digits/1

RUN is a directory that train.py wrote. Without --output the SavedModel becomes RUN/saved_model/1, or 2, 3, ... if
there are earlier ones. Nothing is ever overwritten. Before it appears, its graph is searched for operations that a
server must not execute, and its answers are compared to Keras's own.

The SavedModel takes `images`, float32 (N, height, width, channels), raw pixels 0..255, and answers with `class_id`
(-1 = rejected), `class_name` ("unknown" then), `score`, `known` and `probabilities`. Its second signature gives
`features`. That of a segmentation model takes uint8 images of any size, up to the run's largest, and answers with
`class_id` and `score` of each pixel; its second signature, `palette`, with a picture of them.
"""

from absl import app, flags, logging

_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder to write; it must not exist yet. Default: RUN/saved_model/VERSION."
)


def main(arguments):
    """Exports the run that the command line names."""
    if len(arguments) != 2:
        raise app.UsageError("Name one run: python -m export RUN [--output DIR]")
    logging.set_verbosity(logging.WARNING)
    from cplus1_keras import serving  # after the flags are read, so that --help does not wait for TensorFlow

    run = arguments[1]
    path = _OUTPUT.value or serving.next_version(run)
    try:
        classifier = serving.load(run)
        classifier.export(path)
    except (OSError, ValueError) as error:
        raise SystemExit(f"Not exported. {error}") from error
    shape = ", ".join("any" if size is None else str(size) for size in classifier.image_shape)
    print(f"Wrote {path}: images (N, {shape}), pixels 0..255 -> {', '.join(classifier.class_names)} or unknown.")
    print(f"Look at it with: saved_model_cli show --dir {path} --all")


if __name__ == "__main__":
    app.run(main)
