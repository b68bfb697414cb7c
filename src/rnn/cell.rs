//! The cells: their gates and states.

use std::fmt;

/// What a step computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// One gate, which is the state.
    Elman(Activation),
    /// Long short-term memory, with a cell state c.
    Lstm,
    /// Gated recurrent unit, whose reset gate comes after the product, as in cuDNN and PyTorch.
    Gru,
    /// LSTM with exponential input gate, a normaliser n and a stabiliser m.
    Slstm,
}

/// What an Elman cell makes of its gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// The hyperbolic tangent.
    #[default]
    Tanh,
    /// max(x, 0).
    Relu,
}

impl Cell {
    /// Elman's cell with tanh.
    pub const ELMAN: Self = Self::Elman(Activation::Tanh);

    /// Elman's cell with max(x, 0).
    pub const RELU: Self = Self::Elman(Activation::Relu);

    /// All of them.
    pub const ALL: [Self; 5] = [Self::ELMAN, Self::RELU, Self::Lstm, Self::Gru, Self::Slstm];

    /// The name that case files and the command line use; activations come apart.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Elman(_) => "elman",
            Self::Lstm => "lstm",
            Self::Gru => "gru",
            Self::Slstm => "slstm",
        }
    }

    /// The gates that the input projection feeds, in the order of its axis Gw.
    pub const fn input_gates(self) -> &'static [&'static str] {
        match self {
            Self::Elman(_) => &["a"],
            Self::Lstm | Self::Slstm => &["i", "f", "z", "o"],
            Self::Gru => &["r", "z", "n"],
        }
    }

    /// The gates that have a recurrent matrix, in the order of its axis Gr.
    pub const fn recurrent_gates(self) -> &'static [&'static str] {
        match self {
            Self::Gru => &["g", "r", "z"],
            _ => self.input_gates(),
        }
    }

    /// The gates that have a bias, in the order of its axis Gb.
    pub const fn bias_gates(self) -> &'static [&'static str] {
        match self {
            Self::Gru => &["g", "r", "z", "n"],
            _ => self.input_gates(),
        }
    }

    /// What is kept of a step for the backward pass, in this order; where h is clipped or not.
    pub(super) const fn saved_gates(self, clips: bool) -> &'static [&'static str] {
        match self {
            Self::Elman(_) if clips => &["h"],
            Self::Elman(_) => &[],
            Self::Lstm => &["i", "f", "z", "o"],
            Self::Gru => &["r", "z", "q", "g"],
            // s = σ(-f̄).
            Self::Slstm => &["i", "f", "s", "z", "o"],
        }
    }

    /// The states, the one that meets the matrix first.
    pub const fn states(self) -> &'static [&'static str] {
        match self {
            Self::Elman(_) | Self::Gru => &["h"],
            Self::Lstm => &["h", "c"],
            Self::Slstm => &["h", "c", "n", "m"],
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elman(Activation::Relu) => f.write_str("elman (relu)"),
            _ => f.write_str(self.name()),
        }
    }
}
