"""Hidden states of a backbone, and a shallow backbone that is matched with the one it was cut from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foldstack.errors import InputError


def hidden_states(
    backbone: nn.Module,
    layers: int,
    input_ids: Tensor,
    attention_mask: Tensor,
    token_type_ids: Tensor | None = None,
) -> Tensor:
    """Return (b, layers, t, h): the last hidden states of a backbone.

    Args:
        backbone: a transformer of the library's form.
        layers: how many of the last ones.
        input_ids: (b, t) token ids.
        attention_mask: (b, t).
        token_type_ids: (b, t), if the backbone has token types.
    """
    options = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
    if backbone.config.model_type == "longformer":
        # The first token has global attention (Beltagy et al. 2020).
        options["global_attention_mask"] = torch.zeros_like(attention_mask)
        options["global_attention_mask"][:, 0] = 1
    if layers > 1:
        options["output_hidden_states"] = True
    out = backbone(input_ids=input_ids, attention_mask=attention_mask, **options)
    if layers == 1:
        return out[0].unsqueeze(1)
    # The last one is the backbone's output: after its final norm, if it has one.
    return torch.stack([*out.hidden_states[-layers:-1], out[0]], dim=1)


class HiddenMatch:
    """The distance of a shallow backbone's hidden states from those of the one it was cut from.

    1 − cosine of each token's vectors, as DistilBERT's code has it for the last layer (Sanh et al.
    2019), in each layer that is kept, as in patient distillation (Sun et al. 2019, whose squared
    distance of normalised vectors is twice that). Each layer is matched with the one that it was. The
    embeddings' output is not matched.

    teacher: the whole backbone, which is set to eval mode and frozen; it is no module of the network,
    so that no checkpoint or fitted model holds it. every: each n-th of its layers is in the shallow
    one. weight: factor on the distance.

    Raises InputError if the teacher gives no hidden states, or its last layer is not kept.
    """

    def __init__(self, teacher: nn.Module, every: int, weight: float, device: torch.device):
        self.teacher = teacher.to(device).eval().requires_grad_(False)
        self.every, self.weight = every, weight
        self.count = _count(self.teacher, device)
        if self.count % every:
            raise InputError(
                f"match_hidden requires that the last layer is kept, but keep_every {every} does not "
                f"divide the backbone's {self.count} layers: set another keep_every, or leave it out"
            )

    @property
    def layers(self) -> int:
        """Number of layers of the shallow backbone."""
        return self.count // self.every

    def distance(self, states: Tensor, inputs: dict[str, Tensor | None]) -> Tensor:
        """Return (b,) the weighted distance, the mean over each row's own tokens and all layers.

        Args:
            states: (b, layers, t, h) hidden states of the shallow backbone.
            inputs: what it has read, see `hidden_states`.
        """
        with torch.no_grad():
            wanted = hidden_states(self.teacher, self.count, **inputs)[
                :, self.every - 1 :: self.every
            ]
        apart = 1 - F.cosine_similarity(states.float(), wanted.float(), dim=-1)
        real = inputs["attention_mask"].unsqueeze(1).to(apart)
        by_layer = (apart * real).sum(dim=-1) / real.sum(dim=-1).clamp(min=1)
        return self.weight * by_layer.mean(dim=1)


@torch.no_grad()
def _count(backbone: nn.Module, device: torch.device) -> int:
    """Return the number of layers whose hidden states a backbone gives; InputError if it gives none."""
    ids = torch.zeros(1, 4, dtype=torch.long, device=device)
    out = backbone(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
    states = getattr(out, "hidden_states", None)
    if states is None:
        raise InputError(
            f"match_hidden reads the hidden states of each layer, but a backbone of type "
            f"'{backbone.config.model_type}' gives none: leave it out"
        )
    return len(states) - 1
