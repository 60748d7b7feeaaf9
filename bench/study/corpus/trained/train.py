"""Train the planned networks, export them, and put them into a corpus."""

from __future__ import annotations

import io
import time
import warnings
import zlib
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..store import About, Corpus
from .plans import Plan
from .tasks import TASKS, Arrays, Task

BATCH, RATE = 64, 2e-3
HELD, RANGES = 96, 48


def train_all(corpus: Corpus, plans: Sequence[Plan], seed: int) -> None:
    """Train what is not there yet, each network from a seed of its own."""
    torch.set_num_threads(1)
    have = {about.name for about in corpus.all()}
    for plan in plans:
        name = f"{plan.name}_{seed}"
        if name in have:
            continue
        start, own = time.perf_counter(), zlib.crc32(name.encode())
        torch.manual_seed(own)
        random = np.random.default_rng(own)
        task, unseen = TASKS[plan.task](random), TASKS[plan.task](random)
        network = plan.build()
        loss = fit(network, task, plan.steps)
        held = {key: values[: HELD + RANGES] for key, values in unseen.inputs.items()}
        model = exported(network, plan, held)
        corpus.add(About(name, plan.family, "bench.study.corpus.trained", plan.kind, seed), model, held)
        print(f"{name}: loss {loss:.3f}, {time.perf_counter() - start:.0f} s", flush=True)


def fit(network: nn.Module, task: Task, steps: int) -> float:
    """Adam on batches drawn at random; the mean loss of the last tenth."""
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2 * RATE, total_steps=steps)
    inputs = [torch.from_numpy(values) for values in task.inputs.values()]
    targets = [torch.from_numpy(values) for values in task.targets]
    losses = []
    for _ in range(steps):
        chosen = torch.randint(len(inputs[0]), (BATCH,))
        found = network(*(values[chosen] for values in inputs))
        outputs = (found,) if isinstance(found, Tensor) else found
        loss = torch.stack([_loss(o, t[chosen]) for o, t in zip(outputs, targets, strict=True)]).sum()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses[-max(1, steps // 10) :]))


def exported(network: nn.Module, plan: Plan, held: Arrays) -> onnx.ModelProto:
    """The network as a file, its batch free."""
    network.eval()
    example = tuple(torch.from_numpy(values[:2]) for values in held.values())
    with torch.no_grad():
        found = network(*example)
    names = ["output"] if isinstance(found, Tensor) else [f"output{place}" for place in range(len(found))]
    kept = torch.onnx.TrainingMode.PRESERVE if plan.unfolded else torch.onnx.TrainingMode.EVAL
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is old, and traces sizes that are fixed here
        torch.onnx.export(
            network,
            example,
            file,
            input_names=list(held),
            output_names=names,
            dynamic_axes={name: {0: "N"} for name in (*held, *names)},
            opset_version=plan.opset,
            training=kept,
            do_constant_folding=not plan.unfolded,
            dynamo=False,
        )
    return onnx.load_from_string(file.getvalue())


def _loss(output: Tensor, target: Tensor) -> Tensor:
    """Class numbers by cross entropy along axis 1 or the last, values between 0 and 1 or any by squares."""
    if target.dtype != torch.int64:
        return functional.mse_loss(output, target) * 10
    scores = output if output.dim() == 2 or output.shape[1:-1] != target.shape[1:] else output.movedim(-1, 1)
    return functional.cross_entropy(scores, target, ignore_index=-100)
