"""What stands between the cells of mindcv's networks, as cells of their own.

Each takes one tensor and gives one. Those that need something of the network get it when they are
made: cells and parameters keep mindcv's names, since none of these cells prefixes names
(``auto_prefix=False``). ``make`` finds them by the names that ``families.py`` uses.

Tokens are float32 (N, tokens, channels); where there is a class token it is the first. Images are
square, so their side is the root of the number of tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mindspore import Parameter, Tensor, nn, ops


class _Part(nn.Cell):
    def __init__(self) -> None:
        super().__init__(auto_prefix=False)


# Without parameters


class Pool(_Part):
    """Mean over the image."""

    def construct(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C)."""
        return x.mean((2, 3))


class Tokens(_Part):
    """Mean over the tokens."""

    def construct(self, x: Tensor) -> Tensor:
        """(N, tokens, C) to (N, C)."""
        return x.mean(1)


class Patches(_Part):
    """Mean over the tokens, the class token left out."""

    def construct(self, x: Tensor) -> Tensor:
        """(N, 1 + tokens, C) to (N, C)."""
        return x[:, 1:].mean(1)


class Token(_Part):
    """The class token."""

    def construct(self, x: Tensor) -> Tensor:
        """(N, 1 + tokens, C) to (N, C)."""
        return x[:, 0]


class Flatten(_Part):
    """Logits of a 1x1 convolution."""

    def construct(self, x: Tensor) -> Tensor:
        """(N, C, 1, 1) to (N, C)."""
        return x.reshape(x.shape[0], -1)


class Swish(_Part):
    """The activation of Ramachandran et al., arXiv:1710.05941."""

    def construct(self, x: Tensor) -> Tensor:
        """A tensor of any shape to one of the same."""
        return x * ops.sigmoid(x)


# With something of the network


class Add(_Part):
    """Add a parameter, such as a position embedding."""

    def __init__(self, parameter: Parameter) -> None:
        super().__init__()
        self.parameter = parameter

    def construct(self, x: Tensor) -> Tensor:
        """A tensor to one of the same shape."""
        return x + self.parameter


class PrependToken(_Part):
    """Put the class token before the tokens."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.cls_token = net.cls_token

    def construct(self, x: Tensor) -> Tensor:
        """(N, tokens, C) to (N, 1 + tokens, C)."""
        return ops.concat((_repeat(self.cls_token, x), x), 1)


class ClassAttention(_Part):
    """CaiT's last blocks, in which only the class token changes (arXiv:2103.17239)."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.cls_token = net.cls_token
        self.blocks = net.blocks_token_only
        self.norm = net.norm

    def construct(self, x: Tensor) -> Tensor:
        """(N, tokens, C) to (N, C)."""
        token = _repeat(self.cls_token, x)
        for block in self.blocks:
            token = block(x, token)
        return self.norm(token)[:, 0]


class CmtStage(_Part):
    """Patches and blocks of one of CMT's stages."""

    def __init__(self, net: nn.Cell, number: int) -> None:
        super().__init__()
        letter = "abcd"[number - 1]
        self.patch_embed = getattr(net, f"patch_embed_{letter}")
        self.blocks = getattr(net, f"blocks_{letter}")
        self.relative_pos = getattr(net, f"relative_pos_{letter}")

    def construct(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / 2, W / 2)."""
        x, (height, width) = self.patch_embed(x)
        for block in self.blocks:
            x = block(x, height, width, self.relative_pos)
        return _image(x, height, width)


class CoatStage(_Part):
    """Patches and serial blocks of one of CoaT's stages."""

    def __init__(self, net: nn.Cell, number: int) -> None:
        super().__init__()
        self.patch_embed = getattr(net, f"patch_embed{number}")
        self.cls_token = getattr(net, f"cls_token{number}")
        self.blocks = getattr(net, f"serial_blocks{number}")
        self.side = self.patch_embed.patches_resolution[0]
        self.from_tokens = number > 1

    def construct(self, x: Tensor) -> Tensor:
        """Stage 1: (N, 3, H, W), others (N, 1 + tokens, C), to (N, 1 + tokens', C')."""
        if self.from_tokens:
            x = _square(x[:, 1:])
        x = self.patch_embed(x)
        x = ops.concat((_repeat(self.cls_token, x), x), 1)
        for block in self.blocks:
            x = block(x, size=(self.side, self.side))
        return x


class CoatFeatures(_Part):
    """A CoaT with parallel blocks up to its class tokens.

    Its stages share convolutions with one another, so it cannot be cut before.
    """

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        for name in ("norm2", "norm3", "norm4", "head"):
            setattr(net, name, nn.Identity())
        net.aggregate = _InsertAxis()  # mindcv removes the axis that its convolution leaves
        self.net = net

    def construct(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, C), the class tokens of three scales."""
        return self.net.forward_features(x)


class _InsertAxis(_Part):
    def construct(self, x: Tensor) -> Tensor:
        return x.expand_dims(1)


class CoatNorm(_Part):
    """Norms and weighted sum of the class tokens of three scales."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.norm2, self.norm3, self.norm4 = net.norm2, net.norm3, net.norm4
        self.aggregate = net.aggregate

    def construct(self, x: Tensor) -> Tensor:
        """(N, 3, C) to (N, C)."""
        tokens = (self.norm2(x[:, :1]), self.norm3(x[:, 1:2]), self.norm4(x[:, 2:]))
        return self.aggregate(ops.concat(tokens, 1)).squeeze(1)


class CrossvitFeatures(_Part):
    """CrossViT up to the class tokens of its two branches, which run side by side."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        net.norm = nn.CellList([nn.Identity() for _ in net.norm])
        net.head = nn.CellList([nn.Identity() for _ in net.head])
        self.net = net

    def construct(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, C1 + C2)."""
        return ops.concat(self.net.forward_features(x), 1)


class CrossvitNorm(_Part):
    """Norms of both branches' class tokens."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.norm = net.norm
        self.width = net.norm[0].gamma.shape[0]

    def construct(self, x: Tensor) -> Tensor:
        """(N, C1 + C2) to the same."""
        return ops.concat((self.norm[0](x[:, : self.width]), self.norm[1](x[:, self.width :])), 1)


class CrossvitHead(_Part):
    """Mean of both branches' logits."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.head = net.head
        self.width = net.norm[0].gamma.shape[0]

    def construct(self, x: Tensor) -> Tensor:
        """(N, C1 + C2) to (N, classes)."""
        return (self.head[0](x[:, : self.width]) + self.head[1](x[:, self.width :])) / 2


class DpnStage(_Part):
    """One of DPN's stages, whose blocks hand on two tensors each: here they are joined."""

    def __init__(self, net: nn.Cell, number: int) -> None:
        super().__init__()
        names = list(net.features.name_cells())
        blocks = [net.features[i] for i, n in enumerate(names) if n.startswith(f"conv{number}_")]
        self.first = blocks[0]
        self.others = nn.CellList(blocks[1:], auto_prefix=False)

    def construct(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        pair = self.first((x,) if self.first.cat_input else x)
        for block in self.others:
            pair = block(pair)
        return ops.concat(pair, 1)


class EdgenextPosition(_Part):
    """EdgeNeXt's position encoding, which only some of its networks have."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.pos_embd = net.pos_embd

    def construct(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        if self.pos_embd is None:
            return x
        return x + self.pos_embd(x.shape[0], x.shape[2], x.shape[3])


class PitTokens(_Part):
    """From PiT's image to tokens with a class token before them."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.cls_token = net.cls_token

    def construct(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1 + H W, C)."""
        x = _tokens(x)
        return ops.concat((_repeat(self.cls_token, x), x), 1)


class PitStage(_Part):
    """One of PiT's transformers, and the pooling after it but for the last."""

    def __init__(self, net: nn.Cell, number: int) -> None:
        super().__init__()
        self.transformer = net.transformers[number]
        self.pool = net.pools[number] if number < len(net.pools) else None

    def construct(self, x: Tensor) -> Tensor:
        """(N, 1 + tokens, C) to (N, 1 + tokens', C')."""
        image, token = self.transformer(_square(x[:, 1:]), x[:, :1])
        if self.pool is not None:
            image, token = self.pool(image, token)
        return ops.concat((token, _tokens(image)), 1)


class Pvtv2Stage(_Part):
    """Patches, blocks and norm of one of PVTv2's stages."""

    def __init__(self, net: nn.Cell, number: int) -> None:
        super().__init__()
        self.patch_embed = net.patch_embed_list[number - 1]
        self.blocks = net.block_list[number - 1]
        self.norm = net.norm_list[number - 1]

    def construct(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        x, height, width = self.patch_embed(x)
        for block in self.blocks:
            x = block(x, height, width)
        return _image(self.norm(x), height, width)


class XcitEmbed(_Part):
    """XCiT's patches and positions."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.patch_embed = net.patch_embed
        self.pos_embeder = net.pos_embeder
        self.pos_drop = net.pos_drop

    def construct(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, tokens, C)."""
        x, (height, width) = self.patch_embed(x)
        return self.pos_drop(x + _tokens(self.pos_embeder(x.shape[0], height, width)))


class XcitBlock(_Part):
    """One of XCiT's blocks, which must be told the image's shape."""

    def __init__(self, net: nn.Cell, number: int) -> None:
        super().__init__()
        self.block = net.blocks[number]

    def construct(self, x: Tensor) -> Tensor:
        """(N, tokens, C) to the same."""
        side = _side(x)
        return self.block(x, side, side)


class XcitToken(_Part):
    """XCiT's class token after its attention blocks and norm."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.cls_token = net.cls_token
        self.blocks = net.cls_attn_blocks
        self.norm = net.norm

    def construct(self, x: Tensor) -> Tensor:
        """(N, tokens, C) to (N, C)."""
        side = _side(x)
        x = ops.concat((_repeat(self.cls_token, x), x), 1)
        for block in self.blocks:
            x = block(x, side, side)
        return self.norm(x)[:, 0]


class Rest(_Part):
    """What is left of a network when its other parts pass on what they get.

    For cells that need the outputs of more than one cell before them.

    Args:
        net: the network.
        others: names of its cells that belong to other stages or to the head.
    """

    def __init__(self, net: nn.Cell, others: Sequence[str]) -> None:
        super().__init__()
        for name in others:
            setattr(net, name, nn.Identity())
        self.net = net

    def construct(self, x: Tensor) -> Tensor:
        """What the last of these cells gives for what the first of them gets."""
        return self.net(x)


def make(name: str, net: nn.Cell) -> nn.Cell:
    """The part that ``families.py`` writes as ``@name``, for this network.

    Args:
        name: snake case; a number at its end is an argument.
        net: the network.
    """
    match = re.fullmatch(r"(.+?)(\d*)", name)
    assert match, name
    part = _PARTS[match[1]]
    if part in _BARE:
        return part()
    return part(net, int(match[2])) if match[2] else part(net)


LAST = ("@rest", "@coat_features", "@crossvit_features")
"""Parts that hold the network itself, so that all others must have been taken from it."""


def make_last(name: str, net: nn.Cell, others: Sequence[str]) -> nn.Cell:
    """The same for one of ``LAST``.

    Args:
        name: as in ``make``.
        net: the network.
        others: names of its cells that are in other parts.
    """
    return Rest(net, others) if name == "rest" else make(name, net)


def _repeat(token: Tensor, x: Tensor) -> Tensor:
    """A class token (1, 1, C) for each of the images in x: (N, 1, C)."""
    return ops.broadcast_to(token, (x.shape[0], -1, -1))


def _tokens(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, H W, C)."""
    return ops.transpose(x.reshape(x.shape[0], x.shape[1], -1), (0, 2, 1))


def _image(x: Tensor, height: int, width: int) -> Tensor:
    """(N, H W, C) to (N, C, H, W)."""
    return ops.transpose(x, (0, 2, 1)).reshape(x.shape[0], x.shape[2], height, width)


def _square(x: Tensor) -> Tensor:
    """(N, side side, C) to (N, C, side, side)."""
    side = _side(x)
    return _image(x, side, side)


def _side(x: Tensor) -> int:
    """Side of the image that tokens (N, side side, C) come from."""
    # Not math.isqrt: graph mode does not know it. The root of a square is exact.
    return int(x.shape[1] ** 0.5)


_BARE = (Pool, Tokens, Patches, Token, Flatten, Swish)
_PARTS: dict[str, type[nn.Cell]] = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", part.__name__).lower(): part
    for part in (
        *_BARE,
        PrependToken,
        ClassAttention,
        CmtStage,
        CoatStage,
        CoatFeatures,
        CoatNorm,
        CrossvitFeatures,
        CrossvitNorm,
        CrossvitHead,
        DpnStage,
        EdgenextPosition,
        PitTokens,
        PitStage,
        Pvtv2Stage,
        XcitEmbed,
        XcitBlock,
        XcitToken,
    )
}
