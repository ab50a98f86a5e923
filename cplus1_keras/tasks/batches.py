"""What tasks ask of `data.training`: which images, from where on, of which form."""


def order(experiment, first_step):
    """Which images `data.training` takes, and from where on."""
    sampling = {"sampling": experiment.sampling, "repeat_threshold": experiment.repeat_threshold}
    return {"seed": experiment.seed, "first_step": first_step, **sampling}


def image_format(model):
    """What `data` must make of an image for a model of images of one size."""
    return {"image_size": model.input_shape[1:3], "channels": model.input_shape[3]}
