#!/bin/sh
# What only a GPU tells, in under 25 minutes, with Keras on JAX: see gpu.py. Arguments are passed on.
#
#     python -m pip install keras 'jax[cuda12]' scipy scikit-learn matplotlib   # no TensorFlow
#     sh benchmarks/gpu.sh --cifar cifar10.npz --output results
set -eu
here=$(cd "$(dirname "$0")" && pwd)
KERAS_BACKEND=jax PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}" exec python "$here/gpu.py" "$@"
