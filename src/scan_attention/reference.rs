//! The reference: the loops of the paper in f64, in the form of the specification.

use std::ops::Range;

use super::{
    Carry, Inputs, Layout, Options, OutputGradients, Problem, Scores, StepInputs, StepProblem, TILE,
};
use crate::Result;
use crate::backend::Cpu;
use crate::element::Float;
use crate::parameter::Parameter;
use crate::resets::Step;
use crate::tensor::View;

/// What a scan gives, exact up to f64 rounding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Exact {
    /// (B, H, L, Dv), whatever the layout of the call.
    pub o: Vec<f64>,
    /// (B, H, L).
    pub lse: Vec<f64>,
    /// The carry out: m and u (B, H), w (B, H, Dv); S in place of B where packed.
    pub carry: [Vec<f64>; 3],
    /// The saved m, u, w and scores; see [`Saved`](super::Saved).
    pub saved: [Vec<f64>; 4],
    /// The largest of the terms scale q k whose sums the scores are; 0 where they are given. A
    /// score, and m with it, may be far smaller.
    pub terms: f64,
}

/// Gradients, exact up to f64 rounding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ExactGradients {
    /// (B, Hv, L, Dv), whatever the layout of the call.
    pub dv: Vec<f64>,
    /// (B, H, L).
    pub ds: Vec<f64>,
    /// (H, Dk).
    pub dq: Vec<f64>,
    /// (B, Hk, L, Dk), whatever the layout of the call.
    pub dk: Vec<f64>,
    /// Of m0 and u0 (B, H), of w0 (B, H, Dv); S in place of B where packed.
    pub carry: [Vec<f64>; 3],
    /// The largest of the terms p_t |R_t · v_t| and p_t |Q_t| whose difference ds is, and the
    /// largest of those that dm0 is made of.
    pub terms: [f64; 2],
}

/// Evaluates the scan in f64, one step after the other.
///
/// # Errors
///
/// As [`forward`](super::forward), for inputs on the CPU.
pub fn forward<T: Float>(inputs: &Inputs<'_, Cpu, T>, options: &Options) -> Result<Exact> {
    let arrays = Arrays::read(inputs, options)?;
    let problem = &arrays.problem;
    let &Problem { batch, heads, steps, width, rows, .. } = problem;
    let [tiles, tile_values, _] = problem.saved_shapes().map(|shape| shape.iter().product());
    let mut exact = Exact {
        o: vec![0.0; batch * heads * steps * width],
        lse: vec![f64::NEG_INFINITY; batch * heads * steps],
        carry: [vec![0.0; rows * heads], vec![0.0; rows * heads], vec![0.0; rows * heads * width]],
        saved: [vec![0.0; tiles], vec![0.0; tiles], vec![0.0; tile_values], arrays.scores.clone()],
        terms: arrays.terms,
    };
    for (row, (batch, span)) in inputs.resets.rows(batch, steps)?.into_iter().enumerate() {
        for head in 0..heads {
            arrays.scan(Place { row, batch, head }, span.clone(), &mut exact);
        }
    }
    Ok(exact)
}

/// Evaluates the gradients in f64, one step after the other.
///
/// # Errors
///
/// As [`backward`](super::backward), for inputs on the CPU.
pub fn backward<T: Float>(
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
    given: &OutputGradients<'_, Cpu, T>,
) -> Result<ExactGradients> {
    let arrays = Arrays::read(inputs, options)?;
    let problem = &arrays.problem;
    problem.check_given(given)?;
    let given = Given {
        o: given.o.map(|o| heads_first(o, options.layout)).transpose()?,
        u: given.u.map(|u| u.to_f64()).transpose()?,
        w: given.w.map(|w| w.to_f64()).transpose()?,
    };
    let &Problem { batch, heads, steps, width, rows, value_heads, .. } = problem;
    let key_width = problem.key_width.unwrap_or(0);
    let mut exact = ExactGradients {
        dv: vec![0.0; batch * value_heads * steps * width],
        ds: vec![0.0; batch * heads * steps],
        dq: vec![0.0; heads * key_width],
        dk: vec![0.0; batch * value_heads * steps * key_width],
        carry: [vec![0.0; rows * heads], vec![0.0; rows * heads], vec![0.0; rows * heads * width]],
        terms: [0.0; 2],
    };
    for (row, (batch, span)) in inputs.resets.rows(batch, steps)?.into_iter().enumerate() {
        for head in 0..heads {
            arrays.scan_back(Place { row, batch, head }, span.clone(), &given, &mut exact);
        }
    }
    arrays.keys_back(&mut exact);
    Ok(exact)
}

/// One head of one row.
#[derive(Clone, Copy)]
struct Place {
    /// The batch entry, or the packed sequence.
    row: usize,
    batch: usize,
    head: usize,
}

/// (m, u, w) between two steps.
#[derive(Clone, Debug)]
pub(super) struct Triple {
    pub m: f64,
    pub u: f64,
    pub w: Vec<f64>,
}

impl Triple {
    /// Takes a token in.
    fn take(&mut self, s: f64, v: &[f64]) {
        let m = if s.is_nan() || self.m.is_nan() { f64::NAN } else { s.max(self.m) };
        let (kept, weight) = (exp_of(self.m, m), exp_of(s, m));
        self.m = m;
        self.u = self.u * kept + weight;
        for (w, v) in self.w.iter_mut().zip(v) {
            *w = *w * kept + weight * v;
        }
    }
}

/// The inputs as f64, heads before steps.
struct Arrays {
    problem: Problem,
    scale: f64,
    /// (B, H, L).
    scores: Vec<f64>,
    /// The largest term of a score.
    terms: f64,
    /// (H, Dk) and (B, Hk, L, Dk), where there are keys.
    q: Vec<f64>,
    k: Vec<f64>,
    /// (B, Hv, L, Dv).
    v: Vec<f64>,
    carry: Option<[Vec<f64>; 3]>,
    /// (B, L).
    meanings: Vec<Step>,
    /// (B, L): whether the token is taken.
    taken: Vec<bool>,
}

/// Gradients of outputs as f64, heads before steps.
struct Given {
    o: Option<Vec<f64>>,
    u: Option<Vec<f64>>,
    w: Option<Vec<f64>>,
}

impl Arrays {
    fn read<T: Float>(inputs: &Inputs<'_, Cpu, T>, options: &Options) -> Result<Self> {
        let problem = Problem::check(inputs, options)?;
        problem.check_values(inputs)?;
        let meanings = inputs.resets.meanings(problem.batch, problem.steps)?;
        let masked: Option<Vec<u8>> = inputs.mask.map(|mask| mask.to_vec()).transpose()?;
        let taken = meanings.iter().enumerate().map(|(i, meaning)| {
            *meaning != Step::Padding && masked.as_ref().is_none_or(|mask| mask[i] != 0)
        });
        let carry = |Carry { m, u, w }: &Carry<'_, Cpu>| -> Result<[Vec<f64>; 3]> {
            Ok([m.to_f64()?, u.to_f64()?, w.to_f64()?])
        };
        let mut arrays = Self {
            scale: options.scale(problem.key_width.unwrap_or(0)),
            taken: taken.collect(),
            meanings,
            v: heads_first(inputs.v, options.layout)?,
            carry: inputs.carry.as_ref().map(carry).transpose()?,
            scores: Vec::new(),
            terms: 0.0,
            q: Vec::new(),
            k: Vec::new(),
            problem,
        };
        match &inputs.scores {
            Scores::Given(s) => arrays.scores = s.to_f64()?,
            Scores::Keys { q, k } => arrays.read_keys(*q, heads_first(k, options.layout)?)?,
        }
        Ok(arrays)
    }

    /// s_t = scale q · k_t.
    fn read_keys(&mut self, q: Parameter<'_, Cpu>, k: Vec<f64>) -> Result<()> {
        (self.q, self.k) = (q.to_f64()?, k);
        let &Problem { batch, heads, steps, .. } = &self.problem;
        let width = self.problem.key_width.unwrap_or(0);
        for (i, head) in (0..batch * heads).map(|i| (i, i % heads)) {
            let query = &self.q[head * width..][..width];
            for t in 0..steps {
                let key = &self.k[self.shared(i / heads, head, t) * width..][..width];
                self.scores.push(self.scale * dot(query, key));
                let terms = query.iter().zip(key).map(|(q, k)| (self.scale * q * k).abs());
                self.terms = terms.fold(self.terms, f64::max);
            }
        }
        Ok(())
    }

    /// The line of the key, or of the value, that a head sees at a step.
    fn shared(&self, batch: usize, head: usize, t: usize) -> usize {
        let problem = &self.problem;
        (batch * problem.value_heads + head / problem.group()) * problem.steps + t
    }

    fn value(&self, place: Place, t: usize) -> &[f64] {
        &self.v[self.shared(place.batch, place.head, t) * self.problem.width..]
            [..self.problem.width]
    }

    /// The line of a step in tensors (B, H, L).
    fn line(&self, place: Place, t: usize) -> usize {
        (place.batch * self.problem.heads + place.head) * self.problem.steps + t
    }

    fn initial(&self, place: Place) -> Triple {
        let width = self.problem.width;
        let state = place.row * self.problem.heads + place.head;
        match &self.carry {
            None => Triple { m: f64::NEG_INFINITY, u: 0.0, w: vec![0.0; width] },
            Some([m, u, w]) => {
                Triple { m: m[state], u: u[state], w: w[state * width..][..width].to_vec() }
            }
        }
    }

    /// The step's meaning, and whether its token is taken.
    fn meaning(&self, place: Place, t: usize) -> (Step, bool) {
        let position = place.batch * self.problem.steps + t;
        (self.meanings[position], self.taken[position])
    }

    /// One step of the recurrence.
    fn advance(&self, place: Place, t: usize, state: &mut Triple) {
        let (meaning, taken) = self.meaning(place, t);
        if meaning == Step::Reset {
            *state = Triple { m: f64::NEG_INFINITY, u: 0.0, w: vec![0.0; self.problem.width] };
        }
        if taken {
            state.take(self.scores[self.line(place, t)], self.value(place, t));
        }
    }

    /// The recurrence of one head over the steps of one row.
    fn scan(&self, place: Place, span: Range<usize>, exact: &mut Exact) {
        let width = self.problem.width;
        let mut state = self.initial(place);
        for t in span {
            if t.is_multiple_of(TILE) {
                let line = place.batch * self.problem.heads + place.head;
                let tile = line * self.problem.tiles() + t / TILE;
                (exact.saved[0][tile], exact.saved[1][tile]) = (state.m, state.u);
                exact.saved[2][tile * width..][..width].copy_from_slice(&state.w);
            }
            self.advance(place, t, &mut state);
            let line = self.line(place, t);
            if self.meaning(place, t).0 != Step::Padding {
                exact.o[line * width..][..width].copy_from_slice(&mean(&state));
                exact.lse[line] = state.m + state.u.ln();
            }
        }
        let line = place.row * self.problem.heads + place.head;
        (exact.carry[0][line], exact.carry[1][line]) = (state.m, state.u);
        exact.carry[2][line * width..][..width].copy_from_slice(&state.w);
    }

    /// R and Q from the last step down.
    fn scan_back(
        &self,
        place: Place,
        span: Range<usize>,
        given: &Given,
        exact: &mut ExactGradients,
    ) {
        let width = self.problem.width;
        let initial = self.initial(place);
        let mut states = Vec::new();
        let mut state = initial.clone();
        for t in span.clone() {
            self.advance(place, t, &mut state);
            states.push(state.clone());
        }
        let line = place.row * self.problem.heads + place.head;
        let dw = given.w.as_ref().map(|dw| &dw[line * width..][..width]);
        let du = given.u.as_ref().map_or(0.0, |du| du[line]);
        // Beyond the last step R is u dw, and Q is -u du; r to there is 1.
        let mut r = 1.0;
        let mut big_r: Vec<f64> =
            (0..width).map(|d| state.u * dw.map_or(0.0, |dw| dw[d])).collect();
        let mut big_q = -state.u * du;
        for (i, t) in span.clone().enumerate().rev() {
            let (state, (meaning, taken)) = (&states[i], self.meaning(place, t));
            big_r.iter_mut().for_each(|x| *x *= r);
            big_q *= r;
            if let Some(d_o) = given.o.as_ref().filter(|_| meaning != Step::Padding) {
                let d_o = &d_o[self.line(place, t) * width..][..width];
                big_r.iter_mut().zip(d_o).for_each(|(x, d_o)| *x += d_o);
                big_q += dot(d_o, &mean(state));
            }
            if taken {
                let s = self.scores[self.line(place, t)];
                let p = if state.u == 0.0 { 0.0 } else { exp_of(s, state.m) / state.u };
                let value = self.value(place, t);
                let product = dot(&big_r, value);
                exact.ds[self.line(place, t)] = p * (product - big_q);
                exact.terms[0] = exact.terms[0].max(p * product.abs()).max(p * big_q.abs());
                let dv = &mut exact.dv[self.shared(place.batch, place.head, t) * width..][..width];
                dv.iter_mut().zip(&big_r).for_each(|(dv, r)| *dv += p * r);
            }
            let before = if i == 0 { &initial } else { &states[i - 1] };
            r = match meaning {
                Step::Reset => 0.0,
                _ if state.u == 0.0 => 0.0,
                _ => exp_of(before.m, state.m) * before.u / state.u,
            };
        }
        // R / u0 with r R_0 for R, written so that u0 = 0 does no harm.
        let to_carry = match states.first() {
            Some(_) if self.meaning(place, span.start).0 == Step::Reset => 0.0,
            Some(first) if first.u == 0.0 => 0.0,
            Some(first) => exp_of(initial.m, first.m) / first.u,
            None if initial.u == 0.0 => 0.0,
            None => 1.0 / initial.u,
        };
        let dw0: Vec<f64> = match (states.is_empty(), dw) {
            (true, Some(dw)) => dw.to_vec(),
            _ => big_r.iter().map(|x| x * to_carry).collect(),
        };
        let du0 = if states.is_empty() { du } else { -big_q * to_carry };
        let terms = (initial.u * du0, dot(&initial.w, &dw0));
        exact.carry[0][line] = terms.0 + terms.1;
        exact.carry[1][line] = du0;
        exact.terms[1] = exact.terms[1].max(terms.0.abs()).max(terms.1.abs());
        exact.carry[2][line * width..][..width].copy_from_slice(&dw0);
    }

    /// dq and dk from ds.
    fn keys_back(&self, exact: &mut ExactGradients) {
        let Some(width) = self.problem.key_width else { return };
        let &Problem { batch, heads, steps, .. } = &self.problem;
        for (batch, head) in (0..batch).flat_map(|batch| (0..heads).map(move |head| (batch, head)))
        {
            for t in 0..steps {
                let ds = self.scale * exact.ds[(batch * heads + head) * steps + t];
                let key = self.shared(batch, head, t) * width;
                for i in 0..width {
                    exact.dk[key + i] += ds * self.q[head * width + i];
                    exact.dq[head * width + i] += ds * self.k[key + i];
                }
            }
        }
    }
}

/// The token of a step, read by [`step`](super::step) of f64.
pub(super) struct Token {
    scores: Vec<f64>,
    v: Vec<f64>,
    problem: StepProblem,
}

impl Token {
    pub fn read<T: Float>(
        problem: &StepProblem,
        inputs: &StepInputs<'_, Cpu, T>,
        options: &Options,
    ) -> Result<Self> {
        let scores = match &inputs.scores {
            Scores::Given(s) => s.to_f64()?,
            Scores::Keys { q, k } => {
                let (q, k) = (q.to_f64()?, k.to_f64()?);
                let width = problem.key_width.unwrap_or(0);
                let scale = options.scale(width);
                let score = |i: usize| {
                    let (b, head) = (i / problem.heads, i % problem.heads);
                    let key = (b * problem.value_heads + head / problem.group()) * width;
                    scale * dot(&q[head * width..][..width], &k[key..][..width])
                };
                (0..problem.batch * problem.heads).map(score).collect()
            }
        };
        Ok(Self { scores, v: inputs.v.to_f64()?, problem: problem.clone() })
    }

    /// The state with the token of batch entry b and a head taken in, and o.
    pub fn take(&self, [b, head]: [usize; 2], m: f64, u: f64, w: &[f64]) -> (Triple, Vec<f64>) {
        let problem = &self.problem;
        let value = (b * problem.value_heads + head / problem.group()) * problem.width;
        let mut state = Triple { m, u, w: w.to_vec() };
        state.take(self.scores[b * problem.heads + head], &self.v[value..][..problem.width]);
        let o = mean(&state);
        (state, o)
    }
}

/// o of a state.
fn mean(state: &Triple) -> Vec<f64> {
    let o = |w: &f64| if state.u == 0.0 { 0.0 } else { w / state.u };
    state.w.iter().map(o).collect()
}

/// e^{s - m} for s <= m; e^{-∞ - (-∞)} counts as 0.
fn exp_of(s: f64, m: f64) -> f64 {
    if s == f64::NEG_INFINITY && !m.is_nan() { 0.0 } else { (s - m).exp() }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// The elements with heads before steps.
fn heads_first(view: &View<Cpu>, layout: Layout) -> Result<Vec<f64>> {
    match layout {
        Layout::Bhld => view.to_f64(),
        Layout::Blhd => view.transposed(1, 2)?.to_f64(),
    }
}
