#!/usr/bin/env python3
"""Times PyTorch's depthwise convolution on the CPU against `warpwright bench causal-conv1d`.

PyTorch's is conv1d(groups=D) over a padded row, cut to its length, then SiLU; its backward comes by
autograd. Forward is timed without autograd, forward and backward together with it, as a training step
runs. warpwright runs forward, then backward, each into outputs made before. All results are compared
with PyTorch's in f64. Both are timed in turns, so that a change of the machine's load meets both.

    cargo build --release -p warpwright-cli
    python3 benches/peers/causal_conv1d.py

It takes a Python that has PyTorch and NumPy, and is no part of CI.
"""

import peers
import torch

# Of f32: max |x - exact| / max |exact|.
TOLERANCES = {"out": 2e-6, "dx": 5e-6, "dweight": 1e-5, "dbias": 1e-5}


class Inputs:
    """Uniform in [-1, 1)."""

    def __init__(self, batch, channels, steps, width):
        torch.manual_seed(0)
        uniform = lambda *shape: torch.rand(*shape) * 2 - 1  # noqa: E731
        self.x = uniform(batch, channels, steps)
        self.weight = uniform(channels, width)
        self.bias = uniform(channels)
        self.dout = uniform(batch, channels, steps)

    def named(self):
        return vars(self)


def convolution(x, weight, bias):
    channels, width = weight.shape
    padded = torch.nn.functional.conv1d(
        x, weight.unsqueeze(1), bias, padding=width - 1, groups=channels
    )
    return torch.nn.functional.silu(padded[..., : x.shape[-1]])


def both_passes(x, weight, bias, dout):
    leaves = [tensor.detach().requires_grad_() for tensor in (x, weight, bias)]
    out = convolution(*leaves)
    out.backward(dout)
    return {"out": out.detach(), **{f"d{name}": leaf.grad for name, leaf in
                                    zip(("x", "weight", "bias"), leaves)}}


def main():
    args = peers.arguments(__doc__, "B=8,D=2048,L=2048,W=4", runs=3)
    print(f"causal convolution with SiLU, {args.shape}, f32; {args.threads} threads; "
          f"PyTorch {torch.__version__}")
    warpwright = peers.Warpwright(args, "causal-conv1d", {"activation": "silu"})
    # The results at a smaller batch, since f64 takes twice the memory.
    _, channels, steps, width = args.sizes
    small = Inputs(1, channels, steps, width)
    exact = both_passes(*(tensor.double() for tensor in small.named().values()))
    for name, found in (("PyTorch", both_passes(*small.named().values())),
                        ("warpwright", warpwright.results(small.named(), TOLERANCES))):
        print(f"{name}: worst error {peers.check(name, found, exact, TOLERANCES):.1e}")

    inputs = Inputs(*args.sizes)

    @torch.inference_mode()
    def forward():
        convolution(inputs.x, inputs.weight, inputs.bias)

    def both():
        both_passes(*inputs.named().values())

    both()
    forward_alone = lambda: warpwright.median("forward")  # noqa: E731
    peers.compare(args, [("forward", "PyTorch's forward pass", forward)], forward_alone)
    peers.compare(args, [("both", "PyTorch's forward and backward pass", both)],
                  lambda: forward_alone() + warpwright.median("backward"))


if __name__ == "__main__":
    main()
