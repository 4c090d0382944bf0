"""A small training run for test_train.py to kill: `python killed_run.py FOLDER`.

It saves a checkpoint at every line of its log.
"""

import sys
import time

import torch

from minidream.trainer.loop import Recipe, fit


class SmallStage(torch.nn.Module):
    """Fits a line; slowly, so that a kill finds it at work."""

    name = "small"
    recipe = Recipe(steps=200, batch=4, learning_rate=1e-2, warmup=10)

    def __init__(self, pause: float = 0.0):
        super().__init__()
        torch.manual_seed(0)
        self.line, self.pause = torch.nn.Linear(3, 2), pause
        self.frozen = torch.nn.Linear(2, 2).requires_grad_(False)

    def batch(self, seed, step, process):
        time.sleep(self.pause)
        return torch.randn(4, 3, generator=torch.Generator().manual_seed(1000 * seed + step))

    def forward(self, batch, generator):
        noise = torch.randn(4, 2, generator=generator)
        return {
            "total": (self.frozen(self.line(batch)) - batch[:, :2] + 0.1 * noise).square().mean()
        }


if __name__ == "__main__":
    torch.set_num_threads(1)
    stage = SmallStage(pause=0.01)
    fit(stage, sys.argv[1], save_seconds=0.0, progress=False)
    torch.save(stage.state_dict(), f"{sys.argv[1]}/final.pt")
