"""Data-parallel training: one process alone, or those that `torchrun` or `accelerate launch` started.

All processes draw the same global batch from the generator of the step. Each computes the loss of its own
rows, and the gradients are averaged, so that all take the same step: the weights equal those of one process
with the whole batch, within float error. Only the first process writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce
from torch import Tensor

from danqing.training.objective import Batch


class Processes:
    """One process of those that train together.

    device: where it computes; if it is a GPU, the GPU of the process's local rank.
    """

    def __init__(self, device: torch.device) -> None:
        self._state = PartialState(cpu=device.type != "cuda")
        several_gpus = self.several and device.type == "cuda"
        self.device = self._state.device if several_gpus else device

    @property
    def several(self) -> bool:
        """Whether there is more than one process."""
        return bool(self._state.num_processes > 1)

    @property
    def writes(self) -> bool:
        """Whether this process writes logs, sample sheets and checkpoints."""
        return bool(self._state.is_main_process)

    def rows_of(self, batch: Batch, size: int) -> Batch:
        """The share of one process in a global batch of `size` rows: every n-th row, for n processes.

        Tensors that do not have one row for each picture are kept whole. If the rows cannot be shared
        equally, every process gets the whole batch: a mean over unequal shares would be another one.
        """
        if not self.several or size % self._state.num_processes:
            return batch
        mine = slice(self._state.process_index, None, self._state.num_processes)
        return {
            name: value[mine] if value.ndim and len(value) == size else value for name, value in batch.items()
        }

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace the gradients of every process by their mean over all processes."""
        if not self.several:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        mean = reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
        for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def mean(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Average scalars over the processes."""
        if not self.several:
            return values
        stacked: Tensor = reduce(torch.stack([value.detach().float() for value in values.values()]), "mean")
        return dict(zip(values, stacked.unbind(), strict=True))

    def shared_folder(self, folder: Path) -> Path:
        """The folder path of the first process, sent to all; on the others `folder` may differ."""
        if not self.several:
            return folder
        [path] = broadcast_object_list([str(folder)])
        return Path(path)

    def wait(self) -> None:
        """Wait until all processes get here."""
        self._state.wait_for_everyone()
