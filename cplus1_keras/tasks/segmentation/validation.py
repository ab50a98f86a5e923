"""The validation split judged while training goes on, as the test will be."""

import keras

from cplus1_keras.tasks.segmentation.judging import judge


class Validation(keras.callbacks.Callback):
    """Logs figures of a validation split at the end of each epoch.

    They are those of `judge`, over images of any size and one at a time, which `fit(validation_data=...)` cannot share
    among replicas: `val_logits_mean_iou`, and `val_logits_auroc_negative` where there is background, so that
    TensorBoard draws them beside those of training. Put it before TensorBoard's callback.

    Args:
        segmenter: A `serving.Predictor` on the model in training.
        images: Iterable of (images (N, H, W, channels), labels (N, H, W)), read anew each time.

    >>> watchers = [Validation(segmenter, pipeline.evaluation(splits.validation))]  # doctest: +SKIP
    >>> model.fit(batches, steps_per_epoch=100, epochs=20, callbacks=watchers)  # doctest: +SKIP
    """

    def __init__(self, segmenter, images):
        super().__init__()
        self.segmenter = segmenter
        self.images = images

    def on_epoch_end(self, epoch, logs=None):
        figures, _ = judge(self.segmenter, self.images)
        found = {"val_logits_mean_iou": figures["segmentation"]["miou"]}
        if "negative" in figures["open_set"]:
            found["val_logits_auroc_negative"] = figures["open_set"]["negative"]["auroc"]
        if logs is not None:
            logs.update({name: value for name, value in found.items() if value is not None})
