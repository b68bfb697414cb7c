#!/usr/bin/env python3
"""Times PyTorch's LSTM on the CPU against `warpwright bench rnn --set cell=lstm`.

PyTorch's nn.LSTM multiplies its inputs by a matrix; warpwright is given the product. So warpwright's time
is that of PyTorch's own product, and backward of its two products, and of its own passes on (768, 1), the
matrix whole. The forward pass is timed as it is for inference, both passes as a training step runs them.
The results are compared with PyTorch's in f64. All are timed in turns, so that a change of the machine's
load meets all. At last the same states in heads of 64 are timed, with the product given, against one head.

    cargo build --release -p warpwright-cli
    python3 benches/peers/rnn.py

It takes a Python that has PyTorch and NumPy, and is no part of CI.
"""

import statistics

import peers
import torch

# Of f32: max |x - exact| / max |exact|.
TOLERANCES = {"h": 5e-6, "dR": 2e-5, "db": 2e-5}
HEAD = 64


class Layer:
    """An LSTM of as many inputs as states, time first, and its tensors as warpwright names them."""

    def __init__(self, batch, steps, width, dtype=torch.float32):
        torch.manual_seed(0)
        self.lstm = torch.nn.LSTM(width, width).to(dtype)
        self.x = torch.randn(steps, batch, width).to(dtype).requires_grad_()
        self.dh = torch.randn(steps, batch, width).to(dtype)
        self.weight, self.recurrent, self.bias, self.recurrent_bias = self.lstm.parameters()

    def project(self):
        return torch.nn.functional.linear(self.x, self.weight, self.bias)

    def named(self):
        steps, batch, width = self.x.shape
        wx = self.project().detach().transpose(0, 1).reshape(batch, steps, 4, 1, width)
        return {
            "wx": wx,
            "R": self.recurrent.detach().reshape(4, 1, width, width),
            "b": self.recurrent_bias.detach().reshape(4, 1, width),
            "dh": self.dh.transpose(0, 1).reshape(batch, steps, 1, width),
        }

    def both(self):
        for leaf in (self.x, *self.lstm.parameters()):
            leaf.grad = None
        h, _ = self.lstm(self.x)
        h.backward(self.dh)
        return h

    def results(self):
        """What both passes give, as warpwright names it."""
        steps, batch, width = self.x.shape
        h = self.both().detach()
        return {
            "h": h.transpose(0, 1).reshape(batch, steps, 1, width),
            "dR": self.recurrent.grad.reshape(4, 1, width, width),
            "db": self.recurrent_bias.grad.reshape(4, 1, width),
        }


def main():
    args = peers.arguments(__doc__, "B=16,T=256,N=1,D=768", runs=3)
    batch, steps, heads, width = args.sizes
    if heads != 1:
        raise SystemExit("--shape: PyTorch's LSTM has one head, N=1")
    print(f"LSTM, {args.shape}, f32; {args.threads} threads; PyTorch {torch.__version__}")
    warpwright = peers.Warpwright(args, "rnn", {"cell": "lstm"})
    small = Layer(2, 20, width)
    exact = Layer(2, 20, width, torch.float64)
    exact.lstm.load_state_dict({k: v.double() for k, v in small.lstm.state_dict().items()})
    exact.x, exact.dh = small.x.detach().double().requires_grad_(), small.dh.double()
    for name, found in (("PyTorch", small.results()),
                        ("warpwright", warpwright.results(small.named(), TOLERANCES))):
        print(f"{name}: worst error {peers.check(name, found, exact.results(), TOLERANCES):.1e}")

    layer = Layer(batch, steps, width)
    rows = torch.randn(steps * batch, 4 * width)
    inputs = layer.x.detach().reshape(steps * batch, width)
    weight = layer.weight.detach()

    @torch.inference_mode()
    def forward():
        layer.lstm(layer.x)

    @torch.inference_mode()
    def product():
        layer.project()

    @torch.inference_mode()
    def products_back():
        return rows @ weight, rows.T @ inputs, rows.sum(0)

    def median(run):
        return statistics.median(peers.seconds(run, args.runs))

    layer.both()
    products_back()
    peers.compare(args, [("forward", "PyTorch's forward pass", forward)],
                  lambda: median(product) + warpwright.median("forward"))
    peers.compare(args, [("both", "PyTorch's forward and backward pass", layer.both)],
                  lambda: median(product) + warpwright.median("forward", saved="io")
                  + warpwright.median("backward") + median(products_back))
    in_heads = f"B={batch},T={steps},N={width // HEAD},D={HEAD}"
    for kind in ("forward", "backward"):
        ratios = [warpwright.median(kind) / warpwright.median(kind, in_heads)
                  for _ in range(args.rounds)]
        print(f"{kind}: one head of {width} takes {statistics.median(ratios):.2f} times as long as "
              f"{width // HEAD} of {HEAD} (rounds: {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
