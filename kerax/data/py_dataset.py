"""`PyDataset`: batches by index, made in parallel by threads or processes."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kerax.errors import check_integers


class PyDataset:
    """Base of data sets written in Python: `__getitem__(index)` gives a whole batch, `__len__` their number.

    `on_epoch_begin` and `on_epoch_end` may change the data set between epochs.

    Args:
        workers: Threads or processes that make batches. 1: one thread, ahead of the training; so does 0, whatever
            `use_multiprocessing` says.
        use_multiprocessing: Whether `workers` are processes. The data set must be picklable then; it is sent to each
            process at the start of each epoch.
        max_queue_size: Batches made ahead at most.

    Raises:
        ValueError: if `workers` is below 0, or `max_queue_size` below 1.
    """

    def __init__(self, workers=1, use_multiprocessing=False, max_queue_size=10):
        self.workers, self.use_multiprocessing, self.max_queue_size = workers, use_multiprocessing, max_queue_size
        check_integers(type(self).__name__, workers=(workers, 0), max_queue_size=(max_queue_size, 1))

    def __getitem__(self, index):
        raise NotImplementedError(f"{type(self).__name__} must implement `__getitem__(self, index)`.")

    def __len__(self):
        raise NotImplementedError(
            f"{type(self).__name__} must implement `__len__`, or set `num_batches = None` if it never ends."
        )

    @property
    def num_batches(self) -> int | None:
        """Number of batches of an epoch; `None` for a data set without end."""
        return len(self)

    def on_epoch_begin(self):
        """Before each epoch."""

    def on_epoch_end(self):
        """After each epoch."""


_dataset: Any = None  # in a worker process: its copy of the data set


# Once for each process, not with every index: a data set may be large.
def _adopt(dataset):
    global _dataset
    _dataset = dataset


def _item(index: int):
    return _dataset[index]


def batches_of(dataset, indices: Iterable[int]) -> Iterator:
    """The batches of these indices in order, made by the workers that a `PyDataset` asks for."""
    workers = getattr(dataset, "workers", 1)
    with_processes = workers > 0 and getattr(dataset, "use_multiprocessing", False)
    if workers <= 1 and not with_processes:
        yield from map(dataset.__getitem__, indices)
        return
    if with_processes:  # a forked copy of a process with JAX's threads may hang
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_adopt, initargs=(dataset,))
    else:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="kerax data")
    waiting: deque = deque()
    try:
        # In order, whichever is ready first: a run must see the same batches each time.
        for index in indices:
            waiting.append(pool.submit(_item if with_processes else dataset.__getitem__, index))
            if len(waiting) > dataset.max_queue_size:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Batches that nobody takes any more are not waited for.
        pool.shutdown(wait=False, cancel_futures=True)
