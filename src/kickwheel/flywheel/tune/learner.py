"""The model with its adapter while it learns: steps, losses, and the best weights so far."""

from collections.abc import Sequence
from typing import Any

from kickwheel.core.errors import DataError
from kickwheel.flywheel.tune.base import Base
from kickwheel.flywheel.tune.examples import Batch
from kickwheel.flywheel.tune.linear import hasten
from kickwheel.flywheel.tune.options import Options


class Learner:
    """The model with its adapter, and the optimizer of float32 copies of the adapter's weights."""

    def __init__(self, base: Base, options: Options, dtype: Any) -> None:
        import torch
        from peft import LoraConfig, get_peft_model

        self._torch = torch
        torch.manual_seed(options.seed)
        lm = base.model
        self.targets = _linear_names(lm)
        config = LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            target_modules=sorted(self.targets),
            layers_to_transform=_upper(lm.config, options.layers),
            task_type="CAUSAL_LM",
        )
        self.model = get_peft_model(lm, config)
        self._params = [p for p in self.model.parameters() if p.requires_grad]
        self.masters = [p.detach().float().clone() for p in self._params]
        for param, master in zip(self._params, self.masters, strict=True):
            param.data = master.to(dtype)
        self._first = [master.clone() for master in self.masters]
        self.best = [master.clone() for master in self.masters]
        hasten(self.model)
        self._lm, self._backbone, self._head = lm, lm.base_model, lm.get_output_embeddings()
        self._short: bool | None = None
        self._new_optimizer()

    def _new_optimizer(self) -> None:
        torch = self._torch
        for master in self.masters:
            master.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(
            self.masters, lr=0.0, weight_decay=0.0, betas=(0.9, 0.99), fused=True
        )

    def step(self, group: Batch, rate: float) -> float:
        """One step of the optimizer; returns the batch's loss."""
        torch = self._torch
        self.model.train()
        total, count = self._sum(group)
        (total / count).backward()
        for param, master in zip(self._params, self.masters, strict=True):
            master.grad = None if param.grad is None else param.grad.float()
            param.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters, 1.0)
        for part in self.optimizer.param_groups:
            part["lr"] = rate
        self.optimizer.step()
        self.push()
        return float(total.detach()) / count

    def push(self) -> None:
        """Gives the model the optimizer's weights."""
        with self._torch.no_grad():
            for param, master in zip(self._params, self.masters, strict=True):
                param.copy_(master)

    def reset(self) -> None:
        """As it was before the first step."""
        with self._torch.no_grad():
            for master, first in zip(self.masters, self._first, strict=True):
                master.copy_(first)
        self.push()
        self._new_optimizer()

    def keep_best(self) -> None:
        with self._torch.no_grad():
            for best, master in zip(self.best, self.masters, strict=True):
                best.copy_(master)

    def take_best(self) -> None:
        with self._torch.no_grad():
            for best, master in zip(self.best, self.masters, strict=True):
                master.copy_(best)
        self.push()

    def loss(self, groups: Sequence[Batch]) -> float:
        """Mean loss of the answers' tokens."""
        self.model.eval()
        total, count = 0.0, 0
        with self._torch.no_grad():
            for group in groups:
                part, tokens = self._sum(group)
                total, count = total + float(part), count + tokens
        return total / count

    def for_export(self, base_name: str) -> Any:
        """The PEFT model with its adapter in float32; not trained any more after this."""
        for param, master in zip(self._params, self.masters, strict=True):
            param.data = master.detach().clone()
        for config in self.model.peft_config.values():
            config.base_model_name_or_path = base_name
        return self.model

    def _sum(self, group: Batch) -> tuple[Any, int]:
        """Summed loss of the answers' tokens, and their number."""
        torch = self._torch
        targets = group.targets.reshape(-1)
        index = torch.nonzero(targets != -100).squeeze(1)
        if self._short is None:
            self._short = self._agrees(group)
        logits = self._logits(group, index) if self._short else self._whole(group, index)
        wanted = targets.index_select(0, index)
        loss = torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="sum")
        return loss, int(index.numel())

    def _logits(self, group: Batch, index: Any) -> Any:
        found = self._backbone(input_ids=group.ids, attention_mask=group.mask, use_cache=False)
        hidden = found.last_hidden_state[:, :-1]
        return self._head(hidden.reshape(-1, hidden.shape[-1]).index_select(0, index))

    def _whole(self, group: Batch, index: Any) -> Any:
        found = self._lm(input_ids=group.ids, attention_mask=group.mask, use_cache=False)
        logits = found.logits[:, :-1]
        return logits.reshape(-1, logits.shape[-1]).index_select(0, index)

    def _agrees(self, group: Batch) -> bool:
        # Some models scale or cap their logits between the head and the end: those take the long
        # way, with logits for each token of the prompt.
        torch = self._torch
        if self._head is None or self._backbone is self._lm:
            return False
        group = Batch(group.ids[:1], group.mask[:1], group.targets[:1], group.tokens)
        index = torch.nonzero(group.targets.reshape(-1) != -100).squeeze(1)
        with torch.no_grad():
            try:
                short = self._logits(group, index).float()
            except (AttributeError, TypeError, RuntimeError):
                return False
            whole = self._whole(group, index).float()
            return bool(torch.allclose(short, whole, atol=0.05, rtol=0.02))


def _linear_names(lm: Any) -> set[str]:
    import torch

    head = lm.get_output_embeddings()
    found = {
        name.rpartition(".")[2]
        for name, module in lm.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    if not found:
        raise DataError(f"a {lm.config.model_type} model has no linear layers to adapt")
    return found


def _upper(config: Any, layers: int | None) -> list[int] | None:
    total = int(config.num_hidden_layers)
    return None if layers is None or layers >= total else list(range(total - layers, total))
