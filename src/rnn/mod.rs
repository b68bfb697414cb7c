//! Recurrent cells with head-wise recurrent matrices, after FlashRNN: Elman, LSTM, GRU, sLSTM.
//!
//! A recurrence that no scan can take apart: the matrix of a head meets its state at every step.
//! With W the input projection, made by the caller, and h', c', n', m' the states before a step,
//! every element (b, n, d) has the pre-activations
//!
//! ```text
//! k̄ = W_k + Σ_p R_k[n, d, p] h'[b, n, p] + b_k
//! ```
//!
//! and is, but for that product, by itself:
//!
//! ```text
//! elman   h = φ(ā)                                                     φ = tanh or relu
//! lstm    i = σ(ī), f = σ(f̄), z = tanh z̄, o = σ(ō)
//!         c = f c' + i z                  h = o tanh c
//! gru     g = R_g h' + b_g,  r = σ(r̄), z = σ(z̄), q = tanh(W_n + b_n + r g)
//!         h = z h' + (1 - z) q
//! slstm   z = tanh z̄, o = σ(ō),  l = log σ(f̄) + m'
//!         m = max(ī, l), i = e^{ī - m}, f = e^{l - m};  where n' = 0:  m = ī, i = 1, f = 0
//!         c = f c' + i z,  n = max(f n' + i, floor),  h = o c / n
//! ```
//!
//! Backward, from the last step to the first, ρ being what reaches a step's states from the next
//! one: with total = dh + ρ_h and the like, the gradients D of the pre-activations follow the
//! lines above; then
//!
//! ```text
//! dW_k = D(k̄),  ρ_h = Σ_k R_kᵀ D(k̄) + what h' itself enters,  dR_k = Σ_{b,t} D(k̄) h'ᵀ,  db_k = Σ_{b,t} D(k̄)
//! ```
//!
//! of sLSTM with m constant, which is exact for every loss in h, since (c e^{-s}, n e^{-s}, m + s)
//! is the same state for all s.
//!
//! | tensor | shape | elements | |
//! |---|---|---|---|
//! | `wx` | (B, T, Gw, N, D) | T | input projection |
//! | `R` | (Gr, N, D, D), last axes (out, in) | f32 or T | recurrent matrices |
//! | `b` | (Gb, N, D) | f32 or T | bias |
//! | `h0`, `c0`, `n0`, `m0` | (B, N, D) | f32 or T | states before the first step, zeros where absent |
//! | `lengths` | (B) | any integer | steps of each row |
//! | `h` | (B, T, N, D) | T | every step |
//! | `c`, `n`, `m` | (B, T, N, D) | f32 | the other states of every step |
//! | `last_h`, … | (B, N, D) | f32 | states after the last step |
//!
//! | cell | states | gates of `wx` | gates of `R` | gates of `b` |
//! |---|---|---|---|---|
//! | elman | h | a | a | a |
//! | lstm | h c | i f z o | i f z o | i f z o |
//! | gru | h | r z n | g r z | g r z n |
//! | slstm | h c n m | i f z o | i f z o | i f z o |
//!
//! The [reference](mod@reference) evaluates all of this in f64, forward and backward; backends follow.
//!
//! ```
//! use warpwright::Tensor;
//! use warpwright::rnn::{Cell, Inputs, Options, reference};
//!
//! // A unit that forgets half of what it was at every step, and adds the input.
//! let wx = Tensor::from_vec(vec![1.0f64, 0.0, 0.0], &[1, 3, 1, 1, 1])?;
//! let r = Tensor::from_vec(vec![0.5f64], &[1, 1, 1, 1])?;
//! let ran = reference::forward(&Inputs::new(&wx, &r), &Options::new(Cell::RELU))?;
//! assert_eq!(ran.states[0], [1.0, 0.5, 0.25]);
//! # Ok::<(), warpwright::Error>(())
//! ```
//!
//! Papers: K. Pöppel, M. Beck, S. Hochreiter, "FlashRNN: I/O-Aware Optimization of Traditional RNNs
//! on modern hardware", 2024, arXiv 2412.07752; M. Beck et al., "xLSTM: Extended Long Short-Term
//! Memory", 2024, arXiv 2405.04517.

mod cell;
mod check;
mod inputs;
mod options;
pub mod reference;
mod weights;

pub use cell::{Activation, Cell};
pub use check::Problem;
pub use inputs::{Initial, Inputs, LastGradients, OutputGradients};
pub use options::{Direction, Options};
pub use weights::{Order, Parameters, Weights};

/// The operation, as messages and the command name it.
pub const NAME: &str = "rnn";
