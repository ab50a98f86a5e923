"""Images with a mask of the same size: protocols over mask values, sources, augmentation, batches."""
