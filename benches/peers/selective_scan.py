#!/usr/bin/env python3
"""Times the selective scan of PyTorch on the CPU against `warpwright bench selective-scan`.

Three ways of writing it in PyTorch, the last two in several forms of which the fastest is taken:

* a loop over time steps, all of a step's work in its turn, in preallocated tensors;
* the same with exponentials and products made for a chunk of steps at once ("blocked");
* a parallel scan of chunks, work-efficient (Blelloch) or by doubling (Hillis, Steele).

Everything of the size of the states is allocated before a PyTorch run is timed, there is no
autograd, and all results are compared with a loop in f64, those of warpwright too. All are
timed in turns, so that a change of the machine's load meets them all.

Then forward and backward together, as a training step runs: a parallel scan with autograd, whose
own backward pass is the scan in reverse over saved states, against warpwright's passes. Gradients
are compared with those of the loop in f64, at a batch of 1.

    cargo build --release -p warpwright-cli
    python3 benches/peers/selective_scan.py

It takes a Python that has PyTorch and NumPy, and is no part of CI.
"""

import peers
import torch

TOLERANCE = {"out": 2e-6}  # of f32: max |x - exact| / max |exact|
GRADIENTS = {"du": 1e-5, "ddelta": 1e-5, "dz": 1e-5, "dA": 5e-5, "dB": 1e-5, "dC": 1e-5, "dD": 5e-5,
             "ddelta_bias": 5e-5}


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
        self.dout = uniform(batch, channels, steps)

    def named(self):
        """Without the gradient of the output."""
        return {name: tensor for name, tensor in vars(self).items() if name != "dout"}


def loop(u, delta, A, B, C, D, z, bias):
    """The loop of the paper."""
    delta = torch.nn.functional.softplus(delta + bias[:, None])
    state = torch.zeros(*u.shape[:2], A.shape[1], dtype=u.dtype)
    y = []
    for t in range(u.shape[2]):
        step = delta[:, :, t, None]
        state = torch.exp(step * A) * state + step * B[:, :, :, t] * u[:, :, t, None]
        y.append((state * C[:, :, :, t]).sum(-1))
    return (torch.stack(y, -1) + D[:, None] * u) * torch.nn.functional.silu(z)


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


class Scan(torch.autograd.Function):
    """h_t = decay_t h_{t-1} + taken_t over the first axis, in chunks; backward the same, reversed."""

    @staticmethod
    def forward(ctx, decay, taken, form):
        state = taken.clone()
        Scan.in_chunks(decay, state, form)
        ctx.save_for_backward(decay, state)
        ctx.form = form
        return state

    @staticmethod
    def backward(ctx, dstate):
        decay, state = ctx.saved_tensors
        # g_t = dstate_t + decay_{t+1} g_{t+1}; the first decay in reverse meets no state.
        reverse = torch.cat([decay[:1], decay[1:].flip(0)])
        g = dstate.flip(0)
        Scan.in_chunks(reverse, g, ctx.form)
        g = g.flip(0)
        ddecay = torch.zeros_like(decay)
        torch.mul(g[1:], state[:-1], out=ddecay[1:])
        return ddecay, g, None

    @staticmethod
    def in_chunks(decay, state, form):
        for first in range(0, len(state), form.chunk):
            steps = slice(first, first + form.chunk)
            part = state[steps]
            if first > 0:
                part[0].addcmul_(decay[first], state[first - 1])
            form.scan(decay[steps].clone(), part)


class Trained:
    """Forward and backward; the scan in the form of one of the parallel scans."""

    def __init__(self, inputs, form):
        self.inputs, self.scan, self.chunk, self.name = inputs, form.scan, form.chunk, form.name

    def __call__(self):
        leaves = {name: tensor.detach().requires_grad_()
                  for name, tensor in self.inputs.named().items()}
        u, delta, A, B, C, D, z, bias = leaves.values()
        step = torch.nn.functional.softplus(delta + bias[:, None])
        taken = (step * u).permute(2, 0, 1).contiguous().unsqueeze(2)
        step = step.permute(2, 0, 1).contiguous().unsqueeze(2)
        decay = torch.exp(step * A.t().contiguous())
        state = Scan.apply(decay, taken * B.squeeze(1).permute(2, 0, 1).unsqueeze(3), self)
        y = C.squeeze(1).permute(2, 0, 1).contiguous().unsqueeze(2) @ state
        out = (y.squeeze(2).permute(1, 2, 0) + D[:, None] * u) * torch.nn.functional.silu(z)
        out.backward(self.inputs.dout)
        return {"out": out.detach(), **{f"d{name}": leaf.grad for name, leaf in leaves.items()}}


def exact_gradients(inputs):
    """By autograd through the loop, in f64."""
    leaves = {name: tensor.double().requires_grad_() for name, tensor in inputs.named().items()}
    out = loop(*leaves.values())
    out.backward(inputs.dout.double())
    return {"out": out.detach(), **{f"d{name}": leaf.grad for name, leaf in leaves.items()}}


def fastest(title, forms, exact, tolerances):
    """The fastest of some forms, after a look at their results."""
    print(title)
    timed = []
    for form in forms:
        found = form()
        found = found if isinstance(found, dict) else {"out": found}
        error = peers.check(form.name, found, exact, tolerances)
        best = min(peers.seconds(form, 3))
        print(f"  {form.name}, chunks of {form.chunk}: {best * 1e3:.1f} ms, error {error:.1e}")
        timed.append((best, form))
    return min(timed, key=lambda pair: pair[0])[1]


def spoken(form):
    return f"PyTorch's {form.name}, chunks of {form.chunk},"


@torch.inference_mode()
def compare_forward(args, warpwright):
    inputs = Inputs(*args.sizes)
    exact = {"out": loop(*(tensor.double() for tensor in inputs.named().values()))}
    serial = fastest("a loop over time steps:", [Loop(inputs, 1)], exact, TOLERANCE)
    blocked = [Loop(inputs, k) for k in (8, 16, 32, 64, 128)]
    blocked = fastest("a loop, its exponentials and products blocked:", blocked, exact, TOLERANCE)
    parallel = fastest("a parallel scan:", parallel_forms(inputs), exact, TOLERANCE)
    found = warpwright.results(inputs.named(), TOLERANCE)
    print(f"warpwright: error {peers.check('warpwright', found, exact, TOLERANCE):.1e}")
    forms = {"loop": serial, "blocked": blocked, "parallel": parallel}
    rows = [(name, spoken(form), form) for name, form in forms.items()]
    peers.compare(args, rows, lambda: warpwright.median("forward"))


def parallel_forms(inputs):
    steps = inputs.u.shape[2]
    forms = [Blelloch(inputs, k) for k in sorted({8, 16, 32, 64, 256, steps})]
    return forms + [HillisSteele(inputs, k) for k in (8, 16, 64)]


def compare_training(args, warpwright):
    batch, channels, steps, states = args.sizes
    small = Inputs(1, channels, steps, states)
    exact = exact_gradients(small)
    found = warpwright.results({**small.named(), "dout": small.dout}, GRADIENTS)
    print(f"warpwright: error {peers.check('warpwright', found, exact, GRADIENTS):.1e}")
    one = Trained(small, Blelloch(small, 16))
    print(f"PyTorch: error {peers.check('PyTorch', one(), exact, GRADIENTS):.1e}")
    inputs = Inputs(*args.sizes)
    print("a parallel scan with autograd, forward and backward:")
    forms = [Trained(inputs, form) for form in parallel_forms(inputs)]
    timed = []
    for form in forms:
        form()
        timed.append(min(peers.seconds(form, 1)))
        print(f"  {form.name}, chunks of {form.chunk}: {timed[-1] * 1e3:.1f} ms", flush=True)
    best = forms[timed.index(min(timed))]
    peers.compare(args, [("autograd", spoken(best), best)],
                  lambda: warpwright.median("forward+backward"))


def main():
    args = peers.arguments(__doc__, "B=4,D=768,L=1024,N=16", runs=7)
    print(f"selective scan, {args.shape}, f32, z, D, bias, softplus; "
          f"{args.threads} threads; PyTorch {torch.__version__}")
    warpwright = peers.Warpwright(args, "selective-scan", {"delta_softplus": "true"})
    compare_forward(args, warpwright)
    compare_training(args, warpwright)


if __name__ == "__main__":
    main()
