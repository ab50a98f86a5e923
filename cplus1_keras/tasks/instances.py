"""Objects' masks: those of detections and of the truth as run lengths, and COCO's figures by them."""

from cplus1_keras import metrics


class Instances:
    """COCO's and LVIS's figures by masks, as an accumulator of records."""

    def __init__(self, predictor, image_counts=None):
        most = predictor.spec.max_detections
        self.precision = metrics.AveragePrecision(predictor.class_names, most, image_counts=image_counts)

    def update(self, record):
        more = record.more
        self.precision.update(
            record.predictions,
            more["confidence"],
            more["object_labels"],
            more["areas"],
            masks=(more["masks"], more["object_masks"]),
            classes=more["object_classes"],
            unjudged=[*more["unjudged"]],
        )

    def result(self):
        return self.precision.result()


def runs(boxes):
    """Run lengths, in COCO's format, of the objects of an image, `Boxes` of one image with outlines."""
    size = boxes.sizes[0].tolist()
    return [{"size": size, "counts": outline.runs} for outline in boxes.outlines]
