"""How large a scale must be so that the softmax of a cosine classifier can reach a wanted probability."""

import math


def simplex_bound(num_classes, probability=0.999995):
    """Least scale at which a sample in its class centre can have the given probability, the centres being a simplex.

        s >= (C - 1)/C ln((C - 1) p / (1 - p))

    Args:
        num_classes: C >= 2.
        probability: p, in (0, 1).

    Returns:
        The bound, a float.

    Raises:
        ValueError: If an argument lies outside its range.

    Reference: Open-set losses thesis (2023), Eq 3.11 and Table 5.2.

    >>> math.ceil(simplex_bound(10))
    13
    """
    if num_classes < 2 or not 0 < probability < 1:
        raise ValueError(
            "A bound needs `num_classes` >= 2 and `probability` in (0, 1). "
            f"Received: num_classes={num_classes}, probability={probability}"
        )
    return (num_classes - 1) / num_classes * math.log((num_classes - 1) * probability / (1 - probability))
