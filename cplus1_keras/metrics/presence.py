"""What `fit` follows of label sets: Keras's area under a curve, without entries that are not annotated."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("cplus1_keras")
class PresenceAUC(keras.metrics.AUC):
    """Area under the precision-recall curve of presence, averaged over the classes, from 200 probabilities.

    An estimate of mAP, which `metrics.MultiLabelScores` gives itself. A class that no image shows counts as 0. For
    labels `multi_hot` (batch, C) of 1, 0 and `IGNORE` and logits (batch, C).

    Args:
        num_classes: C.
        name, dtype: As for every Keras metric.

    >>> metric = PresenceAUC(2)
    >>> metric.update_state(np.array([[1, 0], [0, 1], [0, IGNORE]]), np.array([[2.0, -1], [-2, 3], [-3, 9]]))
    >>> round(float(metric.result()), 4)
    1.0
    """

    def __init__(self, num_classes, name="pr_auc", dtype=None):
        super().__init__(curve="PR", multi_label=True, num_labels=num_classes, from_logits=True, name=name, dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.convert_to_tensor(y_true)
        annotated = ops.cast((y_true == 0) | (y_true == 1), "float32")
        if sample_weight is not None:
            annotated *= ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
        super().update_state(ops.cast(y_true == 1, "float32"), y_pred, annotated)

    def get_config(self):
        return {"num_classes": self.num_labels, "name": self.name, "dtype": self.dtype}
