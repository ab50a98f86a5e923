"""What the segmentation configs share: classifiers of pixels with centres, their losses, and the paper's networks."""

from cplus1_keras import backbones, losses, models
from cplus1_keras.configs.families import background_head


def pixel_head(num_classes, centers=None):
    """A linear classifier of pixels with a bias, as mmsegmentation's, and centres on its outputs."""
    return background_head(num_classes, centers, use_bias=True)


def pixel_loss(compactness=0.0, background=0.0, auxiliary=False, margin=1.0, class_reduction="mean"):
    """The C+1 loss on pixels; a weight of 0 leaves a term out, so that it and its centres cost nothing.

        L = L_separability + α L_compact + β L_background + 0.4 L_auxiliary

    α is `compactness`, β `background`; an `auxiliary` classifier learns from a cross-entropy of its own. The paper has
    no margin; 1 here. Reference: C+1 loss (2022), Eq 1.

    >>> [(weight, term.name) for weight, term in pixel_loss(0.1, auxiliary=True).terms()]
    [(1.0, 'background_cross_entropy'), (0.1, 'compactness'), (0.4, 'auxiliary')]
    """
    loss = losses.BackgroundCrossEntropyLoss()
    if compactness:
        loss = loss + compactness * losses.CompactnessLoss()
    if background:
        loss = loss + background * losses.BackgroundMarginLoss(margin, class_reduction=class_reduction)
    if auxiliary:
        own = losses.BackgroundCrossEntropyLoss().of("auxiliary_", name="auxiliary")
        loss = loss + models.AUXILIARY_WEIGHT * own
    return loss


def deeplab(num_classes, centers=None, depth=50, output_stride=8, weights=None):
    """DeepLabV3+ on a dilated ResNet with an auxiliary classifier, as mmsegmentation has it."""
    backbone = backbones.dilated_resnet(depth, output_stride, weights=weights)
    return models.deeplab_v3_plus(backbone, pixel_head(num_classes, centers), pixel_head(num_classes))


def hrnet(num_classes, centers=None, width=48, weights=None):
    """HRNetV2 with its own classifier; `weights` is a file that `save_weights` of such a backbone wrote, or None."""
    return models.hrnet_fcn(_hrnet(width, weights), pixel_head(num_classes, centers))


def ocrnet(num_classes, centers=None, width=48, weights=None):
    """OCRNet on HRNetV2; `weights` as in `hrnet`."""
    return models.ocrnet(_hrnet(width, weights), pixel_head(num_classes, centers), pixel_head(num_classes))


def small_deeplab(num_classes, centers=None):
    """DeepLabV3+ for a CPU: ResNet-18 with thin last stages at stride 16, 96 channels, no auxiliary classifier."""
    backbone = backbones.dilated_resnet(18, 16, widths=(64, 64, 96, 128))
    return models.deeplab_v3_plus(backbone, pixel_head(num_classes, centers), channels=96)


def _hrnet(width, weights):
    backbone = backbones.hrnet(width)
    if weights is not None:
        backbone.load_weights(weights)
    return backbone
