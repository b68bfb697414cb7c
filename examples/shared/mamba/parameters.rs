//! What the block learns.

use fastrand::Rng;

use crate::shared::parameters::{parameters, random_matrix};

/// Sizes of the model.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Symbols that are read.
    pub symbols: usize,
    /// Symbols or classes that are scored.
    pub classes: usize,
    /// Numbers that stand for a symbol in front of the block and behind it.
    pub width: usize,
    /// Channels D inside of the block.
    pub channels: usize,
    /// States N of a channel.
    pub states: usize,
    /// Numbers that the step sizes of all channels are made from.
    pub rank: usize,
    /// Taps W of the convolution.
    pub taps: usize,
}

parameters! {
    /// The parameters of the model, or their gradients; matrices row by row.
    Parameters:
    /// (symbols, width)
    embedding,
    /// (width): the scale of the norm in front of the block
    scale_in,
    /// (width, D)
    to_x,
    /// (width, D)
    to_gate,
    /// (D, W)
    conv_weight,
    /// (D)
    conv_bias,
    /// (D, rank)
    to_low,
    /// (rank, D)
    low_to_delta,
    /// (D, N)
    to_b,
    /// (D, N)
    to_c,
    /// (D)
    delta_bias,
    /// (D, N): A = -exp(log_decay)
    log_decay,
    /// (D)
    skip,
    /// (D, width)
    from_y,
    /// (width): the scale of the norm behind the block
    scale_out,
    /// (width, classes)
    to_classes,
}

impl Parameters {
    /// As Mamba begins: A = -(1 .. N), step sizes from 0.001 to 0.1, all else small.
    pub fn random(sizes: Sizes, random: &mut Rng) -> Self {
        let Sizes { symbols, classes, width, channels, states, rank, taps } = sizes;
        let mut matrix = |inner, outer| random_matrix(inner, outer, random);
        let mut parameters = Self {
            embedding: matrix(symbols, width),
            scale_in: vec![1.0; width],
            to_x: matrix(width, channels),
            to_gate: matrix(width, channels),
            conv_weight: matrix(taps, channels),
            conv_bias: vec![0.0; channels],
            to_low: matrix(channels, rank),
            low_to_delta: matrix(rank, channels),
            to_b: matrix(channels, states),
            to_c: matrix(channels, states),
            delta_bias: Vec::new(),
            log_decay: (0..channels * states).map(|i| ((i % states + 1) as f32).ln()).collect(),
            skip: vec![1.0; channels],
            from_y: matrix(channels, width),
            scale_out: vec![1.0; width],
            to_classes: matrix(width, classes),
        };
        let smallest_step = || (random.f32() * (0.1f32 / 0.001).ln()).exp() * 0.001;
        // The inverse of softplus.
        let bias = |step: f32| step.exp_m1().ln();
        parameters.delta_bias =
            std::iter::repeat_with(smallest_step).map(bias).take(channels).collect();
        parameters
    }

    /// A, the decays of the states, (D, N).
    pub fn decays(&self) -> Vec<f32> {
        self.log_decay.iter().map(|log| -log.exp()).collect()
    }
}
