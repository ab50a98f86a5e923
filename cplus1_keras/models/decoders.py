"""Decoders: from a backbone's maps to one map of features, (N, h, w, K), that a head classifies cell by cell."""

import keras
from keras import layers, ops

from cplus1_keras.backbones.convolutions import convolution, separable_convolution
from cplus1_keras.layers.resizing import ResizeLike
from cplus1_keras.numerics import at_least_float32


def deeplab_features(maps, rates, channels=512, low_level_channels=48, dropout=0.1):
    """The decoder of DeepLabV3+: context at several dilations, then the finest map's detail.

    On the last map, side by side: a 1x1 convolution, a separable 3x3 convolution for each rate (dilation, in cells) and
    the image's mean; a 3x3 convolution merges them. Resized to the first map, they are joined with
    `low_level_channels` of it and go through two separable convolutions: (N, h, w, channels) of the first map's size.

    Reference: L.-C. Chen et al., "Encoder-decoder with atrous separable convolution", ECCV 2018; widths as in the
    `DepthwiseSeparableASPPHead` of mmsegmentation.
    """
    fine, coarse = maps[0], maps[-1]
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="context_mean")(coarse)
    context = [
        ResizeLike(name="context_mean_resize")([convolution(mean, channels, 1, "context_mean"), coarse]),
        convolution(coarse, channels, 1, "context_1"),
        *(separable_convolution(coarse, channels, f"context_{rate}", rate) for rate in rates),
    ]
    x = convolution(layers.Concatenate(name="context")(context), channels, 3, "merged")
    detail = convolution(fine, low_level_channels, 1, "detail")
    x = layers.Concatenate(name="decoder")([ResizeLike(name="merged_resize")([x, fine]), detail])
    x = separable_convolution(x, channels, "decoder_1")
    x = separable_convolution(x, channels, "decoder_2")
    return layers.SpatialDropout2D(dropout, name="decoder_dropout")(x)


def fcn_features(x, channels, convolutions=2, kernel_size=3, concatenate=True, dropout=0.1, name="fcn"):
    """The decoder of a fully convolutional network: convolutions, which with `concatenate` one more joins with `x`.

    Reference: J. Long et al., "Fully convolutional networks for semantic segmentation", CVPR 2015; as in the `FCNHead`
    of mmsegmentation.
    """
    y = x
    for step in range(1, convolutions + 1):
        y = convolution(y, channels, kernel_size, f"{name}_{step}")
    if concatenate:
        y = layers.Concatenate(name=f"{name}_concat")([x, y])
        y = convolution(y, channels, kernel_size, f"{name}_joined")
    return layers.SpatialDropout2D(dropout, name=f"{name}_dropout")(y)


def join_maps(maps):
    """All maps, resized to the first and concatenated: the representation of HRNetV2."""
    resized = [ResizeLike(name=f"joined_{i}_resize")([x, maps[0]]) for i, x in enumerate(maps[1:], start=2)]
    return layers.Concatenate(name="joined")([maps[0], *resized])


def ocr_features(x, region_logits, channels=512, key_channels=256):
    """Object-contextual representations: each cell is joined with the mean features of the classes it resembles.

    A first classifier's logits (N, h, w, classes) say where each class is; their softmax over the cells weighs the mean
    of its features. Each cell then attends to these means, in `key_channels`, and is merged with what it found.

    Reference: Y. Yuan et al., "Object-contextual representations for semantic segmentation", ECCV 2020, Eq 8-11.
    """
    cells = convolution(x, channels, 3, "cells")
    regions = RegionMeans(name="regions")([cells, region_logits])
    query = convolution(convolution(cells, key_channels, 1, "query_1"), key_channels, 1, "query_2")
    key = convolution(convolution(regions, key_channels, 1, "key_1"), key_channels, 1, "key_2")
    value = convolution(regions, key_channels, 1, "value")
    found = convolution(RegionAttention(name="attention")([query, key, value]), channels, 1, "found")
    return convolution(layers.Concatenate(name="contextual")([found, cells]), channels, 1, "contextual")


@keras.saving.register_keras_serializable("cplus1_keras")
class RegionMeans(layers.Layer):
    """Mean features (N, C, 1, K) of each class, weighted by the softmax of its logits over the cells."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)  # half precision would round the logits before their softmax

    def call(self, inputs):
        features, logits = inputs
        weights = ops.softmax(at_least_float32(logits), axis=(1, 2))
        means = ops.einsum("nhwc,nhwk->nck", ops.cast(weights, features.dtype), features)
        return ops.expand_dims(means, 2)

    def compute_output_spec(self, inputs):
        features, logits = inputs
        return keras.KerasTensor((features.shape[0], logits.shape[-1], 1, features.shape[-1]), dtype=features.dtype)


@keras.saving.register_keras_serializable("cplus1_keras")
class RegionAttention(layers.Layer):
    """Each cell's mean of the regions' values, weighted by softmax(query · key / sqrt(K)) over the regions."""

    def call(self, inputs):
        query, key, value = inputs
        similarity = ops.einsum("nhwk,nck->nhwc", query, ops.squeeze(key, 2))
        weights = ops.softmax(at_least_float32(similarity) * key.shape[-1] ** -0.5, axis=-1)
        return ops.einsum("nhwc,nck->nhwk", ops.cast(weights, value.dtype), ops.squeeze(value, 2))

    def compute_output_spec(self, inputs):
        query, _, value = inputs
        return keras.KerasTensor((*query.shape[:-1], value.shape[-1]), dtype=value.dtype)
