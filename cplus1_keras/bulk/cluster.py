"""Parts of a job by actors of Ray Data, on as many machines as a Ray cluster has."""

from cplus1_keras.bulk.scoring import Worker


def run(job, batch_size, missing, address, workers=None):
    """Answers parts; what a node had under way that dies, others do again.

    A part is written whole or not at all, so that a part that is answered twice is there once.

    Args:
        job: A `jobs.Job`, whose SavedModel, inputs and output every node sees.
        batch_size: As for `scoring.score`.
        missing: Numbers of parts.
        address: As `ray.init` takes it.
        workers: Number of actors, or None.

    Yields:
        Dict of `part` and `rows` for each part.

    >>> list(run(None, None, [], "auto"))
    []
    """
    if not missing:
        return
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError("Many machines need Ray: pip install 'cplus1-keras[ray]'.") from error
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    number, cpus, gpus = plan(nodes, workers)
    parts = ray.data.from_items([{"part": number} for number in missing], override_num_blocks=len(missing))
    answers = parts.map(
        Worker,
        fn_constructor_args=(job, batch_size),
        concurrency=min(number, len(missing)),
        num_cpus=cpus,
        num_gpus=gpus,
        scheduling_strategy="SPREAD",
    )
    yield from answers.iter_rows()


def plan(nodes, workers=None):
    """How many actors there should be, and the CPUs and GPUs of each.

    Args:
        nodes: The resources of each node, as `ray.nodes()` tells them.
        workers: Number of actors, an int >= 1; None takes one for each GPU, or where there is none for each node.

    Returns:
        Triple of ints.

    Raises:
        ValueError: `workers` is none, or no node can run one.

    >>> plan([{"CPU": 8.0}, {"CPU": 16.0}, {}]), plan([{"CPU": 8.0}], 4)
    ((2, 8, 0), (4, 2, 0))
    >>> plan([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 4.0}])
    (8, 4, 1)
    """
    if workers is not None and workers < 1:
        raise ValueError(f"`workers` is a number of actors, at least 1. Received: workers={workers}")
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    able = [node for node in nodes if node.get("GPU", 0) >= bool(gpus) and node.get("CPU", 0) >= 1]
    if not able:
        raise ValueError(f"No node of the Ray cluster has a CPU{' beside its GPUs' * bool(gpus)}: {nodes}. Add one.")
    number = workers or gpus or len(able)
    on_each = -(-number // len(able))  # actors take all cores of the smallest node that has any
    return number, max(1, int(min(node["CPU"] for node in able) // on_each)), int(0 < number <= gpus)
