"""What the comparisons share: the command line, the clock, files of tensors, warpwright's command."""

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


def arguments(description, shape, runs):
    """`shape` names the axes and their default lengths, as B=4,D=768."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", default=shape, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="of both; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="at least 7; default: %(default)s")
    parser.add_argument(
        "--runs", type=int, default=runs, help="of each in a round; default: %(default)s"
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
    axes = [axis for axis, _ in (part.split("=") for part in shape.split(","))]
    try:
        sizes = {axis: int(length) for axis, length in (p.split("=") for p in args.shape.split(","))}
        args.sizes = [sizes.pop(axis) for axis in axes]
    except (KeyError, ValueError):
        parser.error(f"--shape: expected {shape}")
    if sizes or min(args.sizes) < 1:
        parser.error(f"--shape: expected positive {', '.join(axes)} and nothing else")
    torch.set_num_threads(args.threads)
    return args


def seconds(run, runs):
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times


def error(found, exact):
    """max |found - exact| / max |exact|"""
    return ((found.double() - exact).abs().max() / exact.abs().max()).item()


def check(name, found, exact, tolerances):
    """Compares the tensors that have a tolerance; the worst error of all."""
    errors = {tensor: error(found[tensor], exact[tensor]) for tensor in tolerances}
    for tensor, tolerance in tolerances.items():
        if not errors[tensor] <= tolerance:
            sys.exit(f"{name}: {tensor} is wrong by {errors[tensor]:.1e}, "
                     f"allowed are {tolerance:.0e}")
    return max(errors.values())


class Warpwright:
    """The command `warpwright` on the CPU, for one operation."""

    def __init__(self, args, operation, options):
        self.command, self.shape, self.runs = args.warpwright, args.shape, args.runs
        self.operation, self.options = operation, options
        self.environment = {**os.environ, "RAYON_NUM_THREADS": str(args.threads)}

    def call(self, command, *rest):
        line = [self.command, command, self.operation, "--device", "cpu", *map(str, rest)]
        done = subprocess.run(line, env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, line))}: {done.stderr.strip()}")
        return done.stdout

    def results(self, tensors, names):
        """Runs the operation once, through files."""
        with tempfile.TemporaryDirectory() as folder:
            source, result = pathlib.Path(folder, "in"), pathlib.Path(folder, "out")
            write_safetensors(source, tensors, self.options)
            self.call("run", "--input", source, "--output", result)
            return {name: read_safetensors(result, name) for name in names}

    def median(self, kind, shape=None, **options):
        """Seconds of a pass into outputs made before, at the shape and with the options of all, or others."""
        options = {**self.options, **options}
        settings = [word for pair in options.items() for word in ("--set", "=".join(pair))]
        rows = json.loads(
            self.call("bench", "--pass", kind, "--dtype", "f32", "--shape", shape or self.shape,
                      *settings, "--runs", self.runs, "--json")
        )
        return rows[0]["median_s"]


def write_safetensors(path, tensors, metadata):
    header, data, begin = {"__metadata__": metadata}, [], 0
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


def compare(args, peers, warpwright):
    """Times all in turns. `peers`: name, how it is spoken of and what runs it; `warpwright`: gives
    its own seconds."""
    names = [*(name for name, _, _ in peers), "warpwright", *(f"{name}/ww" for name, _, _ in peers)]
    print(f"\nmedians of {args.runs} runs, in ms")
    print("round", *(f"{name:>11}" for name in names))
    rounds = []
    for number in range(1, args.rounds + 1):
        times = [statistics.median(seconds(run, args.runs)) for _, _, run in peers]
        times.append(warpwright())
        rounds.append(times)
        ratios = [time / times[-1] for time in times[:-1]]
        print(f"{number:>5}", *(f"{time * 1e3:>11.1f}" for time in times),
              *(f"{ratio:>11.2f}" for ratio in ratios), flush=True)
    medians = [statistics.median(column) for column in zip(*rounds)]
    for column, (_, spoken, _) in enumerate(peers):
        ratios = [times[column] / times[-1] for times in rounds]
        print(f"{spoken} takes {medians[column] / medians[-1]:.2f} times as long as warpwright "
              f"(rounds: {min(ratios):.2f} to {max(ratios):.2f})")
