"""`python -m export.client ADDRESS FILES`; see `cplus1_keras/client.py`, which runs without Keras and TensorFlow."""

import pathlib
import runpy

if __name__ == "__main__":
    runpy.run_path(str(pathlib.Path(__file__).parents[1] / "cplus1_keras" / "client.py"), run_name="__main__")
