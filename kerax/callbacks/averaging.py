"""`SwapEMAWeights`: evaluates, and checkpoints, the moving average of the weights."""

from kerax.callbacks.callback import Callback


class SwapEMAWeights(Callback):
    """Puts the optimizer's moving average of the weights in their place for evaluation and prediction.

    Afterwards the weights are back, however the call ends. The optimizer must have `use_ema=True`. Before its first
    step there is no average, and the weights stay.

    Args:
        swap_on_epoch: Whether the average is in place from the end of each epoch to the start of the next as well, so
            that callbacks that come after this one, such as `ModelCheckpoint`, save it.

    Raises:
        ValueError: if the optimizer keeps no average.

    Deviations from Keras: the average stays in the optimizer too while it is in place, and the weights are kept aside,
    so that training that ends early ends with the average like any other, and a checkpoint of the whole state never
    holds the two the wrong way round; and after `predict` the weights are back.
    """

    def __init__(self, swap_on_epoch: bool = False):
        super().__init__()
        self.swap_on_epoch = swap_on_epoch
        self._kept: list[tuple] = []  # (variable, its value) while the average is in its place

    def _swap_in(self):
        optimizer = self.model.optimizer
        # Parts and inner optimizers may keep one where the outer does not.
        if not any(one.use_ema for one in (optimizer, *optimizer.nested())):
            raise ValueError(
                f"SwapEMAWeights: the optimizer must keep a moving average of the weights. Got {optimizer}; "
                "compile with `use_ema=True` in the optimizer."
            )
        # An evaluation between two epochs finds it in place already; before the first step there is none.
        if self._kept or int(optimizer._iterations.peek()) == 0:
            return
        averages = optimizer.averages()
        self._kept = [(variable, variable.value) for variable, _ in averages]
        for variable, mean in averages:
            variable.assign(mean.peek())

    def _swap_out(self):
        for variable, value in self._kept:
            variable.assign(value)
        self._kept = []

    def get_state(self):
        return {"weights": [value for _, value in self._kept]} if self._kept else {}

    def set_state(self, state):
        # The checkpoint holds the average in the weights' place; these are what comes back.
        variables = [variable for variable, _ in self.model.optimizer.averages()]
        self._kept = list(zip(variables, state["weights"], strict=True))

    def on_epoch_begin(self, epoch, logs=None):
        self._swap_out()

    def on_epoch_end(self, epoch, logs=None):
        if self.swap_on_epoch:
            self._swap_in()

    def on_test_begin(self, logs=None):
        self._swap_in()

    def on_test_end(self, logs=None):
        self._swap_out()

    on_predict_begin, on_predict_end = on_test_begin, on_test_end

    def on_train_end(self, logs=None):
        self._kept = []  # the optimizer has put the average in place for good

    def close(self):
        self._swap_out()
