"""Batches by index, as a `PyDataset` has them, for tests of what reads them."""


class Indexed:
    """Looks like a `PyDataset` of these batches, and counts the ends of epochs."""

    def __init__(self, batches):
        super().__init__()
        self.batches, self.ends = batches, 0

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]

    def on_epoch_end(self):
        self.ends += 1
