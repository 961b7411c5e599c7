"""Adam's step without its bookkeeping, for networks so small that the bookkeeping is the work.

`Adam.step` collects the same tensors anew at each step. Beside a head on 1,280 features, whose step takes 0.35 ms of
CPU time, that took 0.1 ms more.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


def bind_step(optimizer: torch.optim.Adam) -> Callable[[], None]:
    """The step of a fused Adam that has taken one, the same to the bit.

    Bound to the gradients and the state that are there now: good until one of these tensors is replaced by another.
    """
    (group,) = optimizer.param_groups
    parameters = [each.detach() for each in group["params"]]
    gradients = [each.grad for each in group["params"]]
    states = [optimizer.state[each] for each in group["params"]]
    means, squares, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
    beta1, beta2 = group["betas"]
    settings = {name: group[name] for name in ("lr", "weight_decay", "eps", "amsgrad", "maximize")}

    def step() -> None:
        torch._foreach_add_(steps, 1)  # pyright: ignore[reportPrivateImportUsage]
        # What torch.optim.Adam calls in the end; its public functional form costs half of what is saved here.
        torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
            parameters,
            gradients,
            means,
            squares,
            [],
            steps,
            beta1=beta1,
            beta2=beta2,
            **settings,
            grad_scale=None,
            found_inf=None,
        )

    return step
