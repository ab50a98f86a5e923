"""A classifier by distances to means that train: a mixture of Gaussians with equal, round covariances."""

import keras
from keras import ops

from cplus1_keras.heads.base import Head
from cplus1_keras.numerics.distances import squared_distances


@keras.saving.register_keras_serializable("cplus1_keras")
class GaussianHead(Head):
    """Logits are log-densities of Gaussians, up to a constant: z_c = -½ ‖φ - μ_c‖².

    Gives `features` φ (..., K), `squared_distances` ‖φ - μ_c‖² and `logits` (..., C). Its weight `means` (C, K) trains.
    It provides the means as `centers` and the features as `embeddings`, so that `CompactnessLoss` is the likelihood.

    Args:
        num_classes: C, the number of known classes.

    Reference: Wan et al. (2018), L-GM, section 3.1, with identity covariances and equal priors.

    >>> outputs = heads.GaussianHead(3)(np.ones((2, 5), "float32"))
    >>> {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    {'features': (2, 5), 'squared_distances': (2, 3), 'logits': (2, 3)}
    """

    def build(self, input_shape):
        start = keras.initializers.VarianceScaling(1.0, "fan_out", "untruncated_normal")  # about unit length
        self.means = self.add_weight(name="means", shape=(self.num_classes, input_shape[-1]), initializer=start)

    def outputs(self, features):
        square = squared_distances(features, ops.convert_to_tensor(self.means))
        return {"features": features, "squared_distances": square, "logits": -0.5 * square}

    def provide(self, tensors):
        return {"centers": ops.convert_to_tensor(self.means), "embeddings": tensors["features"]}
