#!/usr/bin/env python3
"""Times the selective scan of PyTorch on the CPU against `warpwright bench selective-scan`.

Three ways of writing it in PyTorch, the last two in several forms of which the fastest is taken:

* a loop over time steps, all of a step's work in its turn, in preallocated tensors;
* the same with exponentials and products made for a chunk of steps at once ("blocked");
* a parallel scan of chunks, work-efficient (Blelloch) or by doubling (Hillis, Steele).

Everything of the size of the states is allocated before a PyTorch run is timed, there is no
autograd, and all results are compared with a loop in f64, those of warpwright too. All are
timed in turns, so that a change of the machine's load meets them all.

    cargo build --release -p warpwright-cli
    python3 benches/peers/selective_scan.py

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
TOLERANCE = 2e-6  # of f32 outputs: max |x - exact| / max |exact|


def arguments():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", default="B=4,D=768,L=1024,N=16", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="of both; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="at least 7; default: %(default)s")
    parser.add_argument(
        "--runs", type=int, default=7, help="of each in a round; default: %(default)s"
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
        args.sizes = [sizes.pop(axis) for axis in "BDLN"]
    except (KeyError, ValueError):
        parser.error("--shape: expected B=4,D=768,L=1024,N=16")
    if sizes or min(args.sizes) < 1:
        parser.error("--shape: expected positive B, D, L and N and nothing else")
    return args


class Inputs:
    """Step sizes between 0.001 and 0.1, A = -(1..N), the rest uniform in [-1, 1)."""

    def __init__(self, batch, channels, steps, states):
        torch.manual_seed(0)
        uniform = lambda *shape: torch.rand(*shape) * 2 - 1  # noqa: E731
        self.u = uniform(batch, channels, steps)
        self.delta = uniform(batch, channels, steps) * 2.3
        self.A = -torch.arange(1, states + 1, dtype=torch.float32).repeat(channels, 1)
        self.B = uniform(batch, 1, states, steps)
        self.C = uniform(batch, 1, states, steps)
        self.D = uniform(channels)
        self.z = uniform(batch, channels, steps)
        self.delta_bias = torch.full((channels,), -4.6)

    def named(self):
        return vars(self)


def exact(inputs):
    """The loop of the paper, in f64."""
    u, delta, A, B, C, D, z, bias = (x.double() for x in inputs.named().values())
    delta = torch.nn.functional.softplus(delta + bias[:, None])
    state = torch.zeros(*u.shape[:2], A.shape[1], dtype=torch.float64)
    y = torch.empty_like(u)
    for t in range(u.shape[2]):
        step = delta[:, :, t, None]
        state = torch.exp(step * A) * state + step * B[:, :, :, t] * u[:, :, t, None]
        y[:, :, t] = (state * C[:, :, :, t]).sum(-1)
    return (y + D[:, None] * u) * torch.nn.functional.silu(z)


class PyTorch:
    """What all forms share: time first, then the batch, states, and channels fastest, so that
    every elementwise operation walks contiguous channels and every step is a slice."""

    def __init__(self, inputs, chunk):
        self.inputs, self.chunk = inputs, min(chunk, inputs.u.shape[2])
        batch, channels, steps = inputs.u.shape
        states = inputs.A.shape[1]
        self.decay = torch.empty(self.chunk, batch, states, channels)
        self.state = torch.empty(self.chunk, batch, states, channels)
        self.carry = torch.empty(batch, states, channels)
        self.y = torch.empty(steps, batch, 1, channels)

    def __call__(self):
        i = self.inputs
        delta = torch.nn.functional.softplus(i.delta + i.delta_bias[:, None])
        taken = (delta * i.u).permute(2, 0, 1).contiguous().unsqueeze(2)
        delta = delta.permute(2, 0, 1).contiguous().unsqueeze(2)
        A = i.A.t().contiguous()
        B = i.B.squeeze(1).permute(2, 0, 1).contiguous().unsqueeze(3)
        C = i.C.squeeze(1).permute(2, 0, 1).contiguous().unsqueeze(2)
        self.carry.zero_()
        for first in range(0, i.u.shape[2], self.chunk):
            steps = slice(first, min(first + self.chunk, i.u.shape[2]))
            decay = self.decay[: steps.stop - first]
            state = self.state[: steps.stop - first]
            torch.mul(delta[steps], A, out=decay).exp_()
            torch.mul(taken[steps], B[steps], out=state)
            state[0].addcmul_(decay[0], self.carry)
            self.scan(decay, state)
            self.carry.copy_(state[-1])
            torch.matmul(C[steps], state, out=self.y[steps])
        y = self.y.squeeze(2).permute(1, 2, 0)
        return torch.addcmul(y, i.D[:, None], i.u).mul_(torch.nn.functional.silu(i.z))


class Loop(PyTorch):
    name = "loop over time"

    def scan(self, decay, state):
        for t in range(1, len(state)):
            state[t].addcmul_(decay[t], state[t - 1])


class Blelloch(PyTorch):
    name = "work-efficient parallel scan"

    def scan(self, decay, state):
        steps = len(state)
        if steps < 2:
            return
        even, odd = slice(0, steps - 1, 2), slice(1, steps, 2)
        state[odd].addcmul_(decay[odd], state[even])
        decay[odd].mul_(decay[even])
        self.scan(decay[odd], state[odd])
        state[2::2].addcmul_(decay[2::2], state[1 : steps - 1 : 2])


class HillisSteele(PyTorch):
    name = "parallel scan by doubling"

    def __init__(self, inputs, chunk):
        super().__init__(inputs, chunk)
        self.spare = [torch.empty_like(self.decay), torch.empty_like(self.state)]

    def scan(self, decay, state):
        steps = len(state)
        old, new = (decay, state), [spare[:steps] for spare in self.spare]
        distance = 1
        while distance < steps:
            for before, after in zip(old, new):
                after[:distance].copy_(before[:distance])
            torch.addcmul(old[1][distance:], old[0][distance:], old[1][:-distance],
                          out=new[1][distance:])
            torch.mul(old[0][distance:], old[0][:-distance], out=new[0][distance:])
            old, new, distance = new, old, 2 * distance
        if old[1] is not state:
            state.copy_(old[1])


def seconds(run, runs):
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times


def check(name, out, reference):
    error = ((out.double() - reference).abs().max() / reference.abs().max()).item()
    if not error <= TOLERANCE:
        sys.exit(f"{name}: wrong by {error:.1e}, allowed are {TOLERANCE:.0e}")
    return error


def fastest(title, forms, reference):
    """The fastest of some forms, after a look at their results."""
    print(title)
    timed = []
    for form in forms:
        error = check(form.name, form(), reference)
        best = min(seconds(form, 3))
        print(f"  {form.name}, chunks of {form.chunk}: {best * 1e3:.1f} ms, error {error:.1e}")
        timed.append((best, form))
    return min(timed, key=lambda pair: pair[0])[1]


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

    def out(self, inputs):
        with tempfile.TemporaryDirectory() as folder:
            source, result = pathlib.Path(folder, "in"), pathlib.Path(folder, "out")
            write_safetensors(source, inputs.named(), {"delta_softplus": "true"})
            self.call("run", "selective-scan", "--device", "cpu", "--input", source,
                      "--output", result)
            return read_safetensors(result, "out")

    def median(self):
        rows = json.loads(
            self.call("bench", "selective-scan", "--pass", "forward",
                      "--device", "cpu", "--dtype", "f32",
                      "--shape", self.shape, "--runs", str(self.runs), "--json")
        )
        return rows[0]["median_s"]


def write_safetensors(path, tensors, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name, tensor in tensors.items():
        begin = len(data)
        data += tensor.contiguous().numpy().tobytes()
        place = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, len(data)]}
        header[name] = place
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path, name):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    place = json.loads(content[8 : 8 + length])[name]
    begin, end = (8 + length + offset for offset in place["data_offsets"])
    values = numpy.frombuffer(content[begin:end], dtype="<f4").reshape(place["shape"])
    return torch.from_numpy(values.copy())


@torch.inference_mode()
def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    print(f"selective scan, forward, {args.shape}, f32, z, D, bias, softplus; "
          f"{args.threads} threads; PyTorch {torch.__version__}")
    inputs = Inputs(*args.sizes)
    reference = exact(inputs)
    steps = args.sizes[2]
    loop = fastest("a loop over time steps:", [Loop(inputs, 1)], reference)
    blocked = [Loop(inputs, k) for k in (8, 16, 32, 64, 128)]
    blocked = fastest("a loop, its exponentials and products blocked:", blocked, reference)
    forms = [Blelloch(inputs, k) for k in sorted({8, 16, 32, 64, 256, steps})]
    forms += [HillisSteele(inputs, k) for k in (8, 16, 64)]
    parallel = fastest("a parallel scan:", forms, reference)
    warpwright = Warpwright(args)
    print(f"warpwright: error {check('warpwright', warpwright.out(inputs), reference):.1e}")

    peers = {"loop": loop, "blocked": blocked, "parallel": parallel}
    names = [*peers, "warpwright", *(f"{name}/ww" for name in peers)]
    print(f"\nmedians of {args.runs} runs, in ms")
    print("round", *(f"{name:>11}" for name in names))
    rounds = []
    for number in range(1, args.rounds + 1):
        times = [statistics.median(seconds(form, args.runs)) for form in peers.values()]
        times.append(warpwright.median())
        rounds.append(times)
        ratios = [time / times[-1] for time in times[:-1]]
        print(f"{number:>5}", *(f"{time * 1e3:>11.1f}" for time in times),
              *(f"{ratio:>11.2f}" for ratio in ratios), flush=True)

    print()
    medians = [statistics.median(column) for column in zip(*rounds)]
    for column, form in enumerate(peers.values()):
        ratios = [times[column] / times[-1] for times in rounds]
        print(f"PyTorch's {form.name}, chunks of {form.chunk}, takes "
              f"{medians[column] / medians[-1]:.2f} times as long as warpwright "
              f"(rounds: {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
