"""`find_learning_rate`: trains at ever higher learning rates for a few steps and shows where the loss falls fastest."""

import html
import math
import warnings

import numpy as np

from kerax.callbacks import Callback


class LearningRateSearch:
    """The losses of a learning-rate range test.

    Attributes:
        rates: The learning rates tried, rising, `(steps,)`.
        losses: The loss of the batch at each, before its update, `(steps,)`.
        smoothed: The losses averaged over their neighbours on both sides, so that nothing is shifted, those above the
            losses of the start counted as these, so that the end does not drown the rest, `(steps,)`.
        suggestion: The rate at which `smoothed` falls most steeply over the logarithm of the rate; `None` if it
            nowhere falls.
        diverged: Whether the loss had become too high, or not finite, before `max_rate`.
    """

    def __init__(self, rates, losses, smoothed, diverged: bool):
        self.rates, self.losses, self.smoothed = map(np.asarray, (rates, losses, smoothed))
        self.diverged = diverged
        self.suggestion = _steepest(self.rates, self.smoothed)

    def plot(self, ax=None):
        """Draws loss over rate with matplotlib, into `ax` or a new figure, and returns the axes.

        Raises:
            ImportError: without matplotlib.
        """
        try:
            from matplotlib import pyplot
        except ImportError:
            raise ImportError("LearningRateSearch.plot needs matplotlib: pip install 'kerax[notebook]'") from None
        ax = pyplot.subplots()[1] if ax is None else ax
        ax.plot(self.rates, self.losses, color="0.75", linewidth=1, label="loss")
        ax.plot(self.rates, self.smoothed, label="smoothed")
        low, high = min(self.losses.min(), self.smoothed.min()), self.smoothed.max()
        room = 0.2 * (high - low) or 1.0
        ax.set_ylim(low - room, high + room)  # a loss that explodes at the end would flatten all before it
        if self.suggestion is not None:
            ax.axvline(self.suggestion, linestyle="--", color="gray", label=f"suggestion {self.suggestion:.2e}")
        ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
        ax.legend()
        return ax

    def _summary(self) -> str:
        found = "the loss nowhere falls" if self.suggestion is None else f"suggestion={self.suggestion:.3g}"
        end = "diverged" if self.diverged else "not diverged"
        return f"{found}, {len(self.rates)} rates from {self.rates[0]:.2g} to {self.rates[-1]:.2g}, {end} there"

    def __repr__(self):
        return f"<LearningRateSearch {self._summary()}>"

    def _repr_html_(self) -> str:
        width, height = 480, 200
        x = np.log(self.rates)
        x = (x - x[0]) / max(x[-1] - x[0], 1e-12) * width
        low, high = self.smoothed.min(), self.smoothed.max()

        def line(values, color):
            y = height - (np.clip(values, low, high) - low) / max(high - low, 1e-12) * height
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y))
            return f"<polyline points='{points}' fill='none' stroke='{color}'/>"

        # Without matplotlib, for a notebook shows this for the last line of a cell.
        drawn = line(self.losses, "#bbb") + line(self.smoothed, "#06c")
        if self.suggestion is not None:
            at = x[np.searchsorted(self.rates, self.suggestion)]
            drawn += f"<line x1='{at:.1f}' x2='{at:.1f}' y1='0' y2='{height}' stroke='#c00' stroke-dasharray='4'/>"
        return (
            f"<b>{html.escape(self._summary())}</b><br>loss from {low:.4g} to {high:.4g} over the logarithm of the rate"
            f"<br><svg width='{width}' height='{height}' style='border:1px solid #ccc'>{drawn}</svg>"
        )


def find_learning_rate(
    model,
    x=None,
    y=None,
    batch_size: int | None = None,
    min_rate: float = 1e-7,
    max_rate: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.05,
    divergence: float = 4.0,
    sample_weight=None,
    class_weight=None,
    shuffle: bool = True,
) -> LearningRateSearch:
    """Runs a learning-rate range test: a step at each of `steps` rates from `min_rate` to `max_rate`, evenly spaced in
    their logarithm.

    The model is as before afterwards, however the test ends: weights, optimizer, metrics, random state and the order of
    the next pass. Only what is used up of a generator stays so. A copy of the training state is held meanwhile.

    Args:
        model: A compiled model whose optimizer has a number as learning rate.
        x, y, batch_size, sample_weight, class_weight, shuffle: The data, as in `fit`.
        min_rate: First learning rate.
        max_rate: Last learning rate.
        steps: Number of batches, at least 2; the data is gone through again if it has fewer.
        smoothing: Weight of the newest loss in the moving average, above 0 and at most 1, which does not smooth.
        divergence: The test ends early once the moving average is this many times its lowest value (for a negative
            one: as much above it), or not finite.

    Returns: the rates and losses, with a suggestion and `plot`.

    Raises:
        ValueError: for a model that is not compiled, an optimizer that follows a schedule or keeps its rate to itself,
            arguments out of range, or a loss that is not finite from the start.

    Source: Smith 2017, https://arxiv.org/abs/1506.01186
    """
    if not 0 < min_rate < max_rate:
        raise ValueError(
            "find_learning_rate: needs 0 < `min_rate` < `max_rate`. "
            f"Got min_rate={min_rate!r} and max_rate={max_rate!r}."
        )
    if not isinstance(steps, int) or steps < 2:
        raise ValueError(f"find_learning_rate: `steps` must be an integer of at least 2. Got {steps!r}.")
    if not 0 < smoothing <= 1:
        raise ValueError(f"find_learning_rate: `smoothing` must be in (0, 1]. Got {smoothing!r}.")
    if not divergence > 1:
        raise ValueError(f"find_learning_rate: `divergence` must be above 1. Got {divergence!r}.")
    if not getattr(model, "compiled", False) or model.optimizer is None:
        raise ValueError(f"find_learning_rate: call `compile(optimizer, loss, ...)` on {model} first.")
    if getattr(model.optimizer, "_schedule", None) is not None:
        raise ValueError(
            f"find_learning_rate: the learning rate of {model.optimizer} follows a schedule and cannot be set. "
            "Compile with a number as `learning_rate`; the schedule may then start from the rate that is found."
        )
    # Evenly spaced in the logarithm: rates that work differ by factors, not by amounts.
    rates = np.geomspace(min_rate, max_rate, steps)
    test = _RangeTest(rates, smoothing, divergence)
    passes, history, stopping = model.kerax_passes, model.history, model.stop_training
    arguments = dict(batch_size=batch_size, sample_weight=sample_weight, class_weight=class_weight, shuffle=shuffle)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "fit: after epoch")  # that the loss is not finite: it may be, here
            # Pass after pass, until the callback has seen as many batches as it wants.
            model.fit(x, y, epochs=steps, verbose=0, callbacks=[test], **arguments)
    finally:
        # Also after an error or Ctrl-C: nobody wants the weights of a test that was ended.
        if test.state is not None:
            model.set_state_tree(test.state)
        model.kerax_passes, model.history, model.stop_training = passes, history, stopping
    if not test.losses:
        raise ValueError(
            f"find_learning_rate: the loss of the first batch is not finite, with a learning rate of {min_rate:g}. "
            "Look for NaN or infinity in the data and the weights."
        )
    losses = np.asarray(test.losses)
    return LearningRateSearch(test.tried, losses, _smooth(losses, smoothing), test.diverged)


class _RangeTest(Callback):
    """Sets the rate before each batch, and keeps the batch's loss until the loss is too high."""

    def __init__(self, rates: np.ndarray, smoothing: float, divergence: float):
        super().__init__()
        self.rates, self.smoothing, self.divergence = rates, smoothing, divergence
        self.state = None  # the model's, before the first step
        self.tried: list[float] = []
        self.losses: list[float] = []
        self.diverged = False
        self._total, self._best = 0.0, math.inf
        self._before = self._done = 0  # batches before this epoch, and with it

    def on_train_begin(self, logs=None):
        self.state = self.model.get_state_tree()
        try:
            self._set(self.rates[0])
        except AttributeError as error:
            raise ValueError(f"find_learning_rate: the learning rate cannot be set. {error}") from None

    def on_epoch_begin(self, epoch, logs=None):
        self._before = self._done

    def on_train_batch_end(self, batch, logs=None):
        self._done = self._before + batch + 1
        if "loss" not in logs:
            raise ValueError(f"find_learning_rate: `train_step` must report 'loss'. Got {list(logs)}.")
        loss = logs["loss"]
        if math.isfinite(loss):  # a read that waits for the device: the next rate depends on it
            self.losses.append(loss)
            self.tried.append(self._rate)
            # The moving average starts at 0: without the division its first values would be far too low.
            self._total = (1 - self.smoothing) * self._total + self.smoothing * loss
            average = self._total / (1 - (1 - self.smoothing) ** len(self.losses))
            self._best = min(self._best, average)
            # By the size of the best loss, not a multiple of it: losses may be negative.
            self.diverged = average > self._best + (self.divergence - 1) * abs(self._best)
        else:
            self.diverged = True
        if self.diverged or self._done >= len(self.rates):
            self.model.stop_training = True
        else:
            self.model.reset_metrics()  # so that the next loss is that of its batch alone
            self._set(self.rates[self._done])

    def _set(self, rate):
        self.model.optimizer.learning_rate = self._rate = rate


def _smooth(losses: np.ndarray, smoothing: float) -> np.ndarray:
    """Averages over as many losses as the moving average weighs, half of them on each side."""
    # The losses of the end are many times those of the start, and would reach back through the average.
    ceiling = losses[: max(1, len(losses) // 10)].max()
    # Twice the exponent: half the width on either side of each loss.
    places = np.arange(len(losses))
    weights = (1.0 - smoothing) ** (2 * np.abs(places[:, None] - places))
    return weights @ np.minimum(losses, ceiling) / weights.sum(1)


def _steepest(rates: np.ndarray, smoothed: np.ndarray) -> float | None:
    """The rate of the steepest descent before the lowest loss."""
    if len(rates) < 3:
        return None
    # After its lowest point the loss rises; a fall further on is noise of the divergence.
    slopes = np.gradient(smoothed, np.log(rates))[: int(np.argmin(smoothed)) + 1]
    steepest = int(np.argmin(slopes))
    return float(rates[steepest]) if slopes[steepest] < 0 else None
