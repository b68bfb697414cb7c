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

import argparse
import json
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import time

try:
    import numpy
    import torch
except ImportError as missing:
    sys.exit(f"{missing}: run this with a Python that has PyTorch and NumPy")

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of f32: max |x - exact| / max |exact|.
TOLERANCES = {"out": 2e-6, "dx": 5e-6, "dweight": 1e-5, "dbias": 1e-5}


def arguments():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", default="B=8,D=2048,L=2048,W=4", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="of both; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="at least 7; default: %(default)s")
    parser.add_argument(
        "--runs", type=int, default=3, help="of each in a round; default: %(default)s"
    )
    parser.add_argument(
        "--warpwright",
        type=pathlib.Path,
        default=target / "release" / "warpwright",
        help="the command; default: %(default)s",
    )
    args = parser.parse_args()
    if args.rounds < 7:
        parser.error("--rounds: the spread of fewer than 7 rounds says little")
    if args.runs < 1 or args.threads < 1:
        parser.error("--runs and --threads must be positive")
    if not args.warpwright.is_file():
        parser.error(
            f"{args.warpwright} is not there: "
            "build it with `cargo build --release -p warpwright-cli`, or name it by --warpwright"
        )
    try:
        sizes = {axis: int(length) for axis, length in (p.split("=") for p in args.shape.split(","))}
        args.sizes = [sizes.pop(axis) for axis in "BDLW"]
    except (KeyError, ValueError):
        parser.error("--shape: expected B=8,D=2048,L=2048,W=4")
    if sizes or min(args.sizes) < 1:
        parser.error("--shape: expected positive B, D, L and W and nothing else")
    return args


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


def seconds(run, runs):
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times


def check(name, found, exact):
    for tensor, tolerance in TOLERANCES.items():
        reference = exact[tensor]
        error = ((found[tensor].double() - reference).abs().max() / reference.abs().max()).item()
        print(f"{name}: {tensor} is off by {error:.1e}")
        if not error <= tolerance:
            sys.exit(f"{name}: {tensor} is wrong by {error:.1e}, allowed are {tolerance:.0e}")


class Warpwright:
    def __init__(self, args):
        self.command, self.shape, self.runs = args.warpwright, args.shape, args.runs
        self.environment = {**os.environ, "RAYON_NUM_THREADS": str(args.threads)}

    def call(self, *command):
        done = subprocess.run(
            [self.command, *command], env=self.environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            sys.exit(f"{self.command} {' '.join(map(str, command))}: {done.stderr.strip()}")
        return done.stdout

    def results(self, inputs):
        with tempfile.TemporaryDirectory() as folder:
            source, result = pathlib.Path(folder, "in"), pathlib.Path(folder, "out")
            write_safetensors(source, inputs.named(), {"activation": "silu"})
            self.call("run", "causal-conv1d", "--device", "cpu", "--input", source,
                      "--output", result)
            return {name: read_safetensors(result, name) for name in TOLERANCES}

    def median(self, kind):
        rows = json.loads(
            self.call("bench", "causal-conv1d", "--device", "cpu", "--dtype", "f32",
                      "--shape", self.shape, "--set", "activation=silu", "--pass", kind,
                      "--runs", str(self.runs), "--json")
        )
        return rows[0]["median_s"]


def write_safetensors(path, tensors, metadata):
    header, data = {"__metadata__": metadata}, []
    begin = 0
    for name, tensor in tensors.items():
        data.append(tensor.contiguous().numpy().tobytes())
        place = [begin, begin + len(data[-1])]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": place}
        begin = place[1]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def read_safetensors(path, name):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    place = json.loads(content[8 : 8 + length])[name]
    begin, end = (8 + length + offset for offset in place["data_offsets"])
    values = numpy.frombuffer(content[begin:end], dtype="<f4").reshape(place["shape"])
    return torch.from_numpy(values.copy())


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    print(f"causal convolution with SiLU, {args.shape}, f32; {args.threads} threads; "
          f"PyTorch {torch.__version__}")
    warpwright = Warpwright(args)
    # The results at a smaller batch, since f64 takes twice the memory.
    _, channels, steps, width = args.sizes
    small = Inputs(1, channels, steps, width)
    exact = both_passes(*(tensor.double() for tensor in small.named().values()))
    check("PyTorch", both_passes(*small.named().values()), exact)
    check("warpwright", warpwright.results(small), exact)

    inputs = Inputs(*args.sizes)

    def forward():
        with torch.inference_mode():
            convolution(inputs.x, inputs.weight, inputs.bias)

    def both():
        both_passes(*inputs.named().values())

    both()
    print(f"\nmedians of {args.runs} runs, in ms")
    print(f"round {'forward':>10} {'ww':>8} {'ratio':>6} {'both':>10} {'ww':>8} {'ratio':>6}")
    rounds = []
    for number in range(1, args.rounds + 1):
        torch_forward = statistics.median(seconds(forward, args.runs))
        ww_forward = warpwright.median("forward")
        torch_both = statistics.median(seconds(both, args.runs))
        ww_both = ww_forward + warpwright.median("backward")
        rounds.append((torch_forward, ww_forward, torch_both, ww_both))
        print(f"{number:>5} {torch_forward * 1e3:>10.1f} {ww_forward * 1e3:>8.1f} "
              f"{torch_forward / ww_forward:>6.2f} {torch_both * 1e3:>10.1f} "
              f"{ww_both * 1e3:>8.1f} {torch_both / ww_both:>6.2f}", flush=True)
    print()
    medians = [statistics.median(column) for column in zip(*rounds)]
    for what, at in (("forward", 0), ("forward and backward", 2)):
        ratios = [times[at] / times[at + 1] for times in rounds]
        print(f"{what}: PyTorch takes {medians[at] / medians[at + 1]:.2f} times as long as "
              f"warpwright (rounds: {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
